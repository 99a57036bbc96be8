#include "interp/circuits/edge_attribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "autograd/edges/edge_scores.h"
#include "autograd/transform/linearise.h"
#include "interp/circuits/edge_sweep.h"
#include "interp/circuits/pair_runs.h"
#include "interp/circuits/run_values.h"
#include "interp/data/asked.h"
#include "nn/families/sites.h"
#include "nn/model/batch.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// ---- runs at which the gradient is taken --------------------------------------------------------
// Copies of the base prompt and what is put into each; the gradient is their mean.
struct Points {
  std::int64_t count = 1;
  Interventions what;
};

// Of eap_ig_activations: `steps` points for each site in which something was written.
Points activation_points(const PairRuns& runs, const EdgeSpec& spec) {
  std::vector<double> weights;
  for (int k = 1; k <= spec.steps; ++k) weights.push_back(static_cast<double>(k) / spec.steps);
  Points points{std::ssize(runs.written) * spec.steps, {}};
  std::vector<Edit> edits;
  for (std::size_t g = 0; g < runs.written.size(); ++g) {
    const auto& [site, values] = runs.written[g];
    const Tensor own = on_the_way(values.base, values.other, weights);
    // The site's value in all points, of which its own are put in.
    Shape shape = own.shape();
    const std::int64_t rows = shape[0];
    shape[0] = rows * std::ssize(runs.written);
    const Tensor all = Tensor::zeros(shape, own.dtype());
    std::copy_n(
        own.view().data, own.bytes(),
        all.slice(0, static_cast<std::int64_t>(g) * rows, static_cast<std::int64_t>(g + 1) * rows)
            .view()
            .data);
    Where where;
    for (int k = 0; k < spec.steps; ++k)
      where.prompt.push_back(static_cast<std::int64_t>(g) * spec.steps + k);
    edits.push_back(replace(site, all, where, "the way between the runs"));
  }
  points.what = Interventions(std::move(edits));
  return points;
}

// ---- gradients ----------------------------------------------------------------------------------
class GradientScores {
 public:
  GradientScores(const nn::Model& model, const Pair& pair, const EdgeSpec& spec)
      : model_(model),
        pair_(pair),
        spec_(spec),
        edges_(edges_of(model, spec.edges)),
        grid_(edge_grid(edges_)),
        runs_(pair_runs(model, pair, edges_, spec.metric, spec.direction,
                        spec.method == EdgeMethod::eap_ig_activations)) {}

  EdgeScores run() {
    const std::int64_t tokens = std::ssize(pair_.clean), s = std::ssize(grid_.senders),
                       r = std::ssize(grid_.receivers);
    sums_.assign(static_cast<std::size_t>(tokens * s * r), 0);
    switch (spec_.method) {
      case EdgeMethod::eap:
        add({base_prompt(pair_, spec_.direction)}, {}, 1);
        break;
      case EdgeMethod::clean_corrupted:
        add({base_prompt(pair_, spec_.direction), other_prompt(pair_, spec_.direction)}, {}, 1);
        break;
      case EdgeMethod::eap_ig:
        integrate();
        break;
      case EdgeMethod::eap_ig_activations: {
        const Points points = activation_points(runs_, spec_);
        add(copies(points.count), points.what, 1);
        break;
      }
      case EdgeMethod::exact:
        break;
    }
    EdgeScores scores{spec_,
                      grid_,
                      Tensor::zeros({s, r}, DType::f64),
                      {},
                      runs_.clean(spec_.direction),
                      runs_.corrupt(spec_.direction)};
    auto* total = scores.scores.data<double>();
    for (std::size_t i = 0; i < sums_.size(); ++i)
      total[i % static_cast<std::size_t>(s * r)] += sums_[i];
    if (spec_.by_position) scores.by_position = Tensor::of({tokens, s, r}, sums_);
    return scores;
  }

 private:
  std::vector<nn::Tokens> copies(std::int64_t n) const {
    return std::vector<nn::Tokens>(static_cast<std::size_t>(n),
                                   base_prompt(pair_, spec_.direction));
  }

  // A few points at a time, so that what a pass holds is bounded.
  void integrate() {
    const std::vector<double> weights = path_weights(spec_.rule, spec_.steps);
    const auto most = std::max<std::size_t>(1, 1024 / pair_.clean.size());
    for (std::size_t begin = 0; begin < weights.size(); begin += most) {
      if (spec_.cancel != nullptr && *spec_.cancel) throw InterruptedError("interrupted");
      const std::size_t end = std::min(weights.size(), begin + most);
      const std::vector<double> some(weights.begin() + static_cast<std::ptrdiff_t>(begin),
                                     weights.begin() + static_cast<std::ptrdiff_t>(end));
      const Tensor embed = on_the_way(runs_.embed.base, runs_.embed.other, some);
      add(copies(std::ssize(some)), {replace(site::embed(), embed, {}, "the way between the runs")},
          static_cast<double>(some.size()) / static_cast<double>(weights.size()));
      if (spec_.progress) spec_.progress(static_cast<int>(end), spec_.steps);
    }
  }

  // Adds `share` of the scores from the mean gradient of these runs.
  void add(const std::vector<nn::Tokens>& prompts, const Interventions& what, double share) {
    const std::vector<Example> examples(prompts.size(), example_of(pair_));
    const Metric metric = metric_of(model_, examples, spec_.metric);
    const nn::BatchSize size = nn::batch_size(prompts);
    const nn::Model::How how = {"edge scores", spec_.metric.text,
                                std::string(name_of(spec_.method)),
                                spec_.norms_held ? "norms held" : "", key_of(edges_)};
    const auto graph = model_.derived(size, how, [&](const Graph& plain) {
      Graph edited = what.stages().empty() ? plain : intervene(plain, what);
      if (spec_.norms_held) edited = linearise(edited, {.norm = Policy::detach});
      return with_edge_scores(with_sum(with_metric(edited, metric), metric), edges_,
                              summed_name(metric), std::ssize(prompts));
    });
    Feeds feeds = model_.feeds(*graph, prompts);
    if (!what.stages().empty()) feeds = with_interventions(*graph, what, feeds);
    for (const auto& [name, value] : metric.feeds) feeds.insert_or_assign(name, value);
    feeds["edges.change"] = runs_.change;
    const nn::Run run = model_.run_graph(*graph, prompts, edge_score_fetch(edges_), feeds);
    const std::size_t s = grid_.senders.size(), r = grid_.receivers.size();
    each_edge_score(edges_, run.results,
                    [&](std::size_t pos, std::size_t u, std::size_t v, double x) {
                      sums_[(pos * s + u) * r + v] += share * x;
                    });
  }

  const nn::Model& model_;
  const Pair& pair_;
  const EdgeSpec& spec_;
  EdgeSet edges_;
  EdgeGrid grid_;
  PairRuns runs_;
  std::vector<double> sums_;  // [pos, senders, receivers]
};

}  // namespace

std::string_view name_of(EdgeMethod method) {
  switch (method) {
    case EdgeMethod::exact:
      return "exact";
    case EdgeMethod::eap:
      return "eap";
    case EdgeMethod::eap_ig:
      return "eap-ig";
    case EdgeMethod::clean_corrupted:
      return "clean-corrupted";
    case EdgeMethod::eap_ig_activations:
      return "eap-ig-activations";
  }
  return "";
}
std::vector<double> path_weights(PathRule rule, int steps) {
  if (steps < 1)
    throw Error(ErrorKind::usage, fmt::format("a path needs at least one step, not {}", steps));
  std::vector<double> weights;
  weights.reserve(static_cast<std::size_t>(steps));
  for (int k = 0; k < steps; ++k)
    weights.push_back((k + (rule == PathRule::midpoint ? 0.5 : 0.0)) / steps);
  return weights;
}
std::string_view name_of(PathRule rule) {
  return rule == PathRule::midpoint ? "midpoint" : "eap-ig";
}

double EdgeScores::at(std::string_view sender, std::string_view receiver) const {
  return scores.at<double>({static_cast<std::int64_t>(grid.sender(sender)),
                            static_cast<std::int64_t>(grid.receiver(receiver))});
}

ExactEdges exact_edges(const nn::Model& model, const Pair& pair, std::span<const EdgePlace> edges,
                       const EdgeSpec& spec) {
  check_pair(model, pair);
  const EdgeSet set = edges_of(model, spec.edges);
  const PairRuns runs = pair_runs(model, pair, set, spec.metric, spec.direction);
  const Metric metric = metric_of(model, {{example_of(pair)}}, spec.metric);
  const std::vector<nn::Tokens> prompts = {base_prompt(pair, spec.direction)};
  Graph graph = model.build(nn::batch_size(prompts));
  Feeds feeds = model.feeds(graph, prompts);
  if (spec.norms_held) {
    const Graph held = linearise(graph, {.norm = Policy::hold});
    const nn::Run recorded = model.run_graph(graph, prompts, fetch(held_sites(held)));
    feeds = with_held(held, recorded.results, feeds);
    graph = held;
  }
  graph = with_metric(graph, metric);
  for (const auto& [name, value] : metric.feeds) feeds.insert_or_assign(name, value);

  const SweepOptions options{.pool = &model.pool(),
                             .memory = spec.memory,
                             .cancel = spec.cancel,
                             .progress = spec.progress};
  const SweptEdges swept = sweep_edges(graph, feeds, model.parameters(), set, runs.change, edges,
                                       nn::per_prompt_name(metric), options);
  return {swept.change.to_vector<double>(),
          runs.clean(spec.direction),
          runs.corrupt(spec.direction),
          static_cast<int>(edges.size()),
          swept.passes,
          swept.without_effect,
          swept.explanation};
}

namespace {

EdgeScores exact_scores(const nn::Model& model, const Pair& pair, const EdgeSpec& spec) {
  const EdgeGrid grid = edge_grid(edges_of(model, spec.edges));
  const std::int64_t s = std::ssize(grid.senders), r = std::ssize(grid.receivers),
                     tokens = std::ssize(pair.clean);
  std::vector<EdgePlace> places;
  for (const StreamEdge& e : all_edges(grid).edges()) {
    if (!spec.by_position) places.push_back({e});
    for (std::int64_t pos = 0; pos < tokens && spec.by_position; ++pos) places.push_back({e, pos});
  }
  const ExactEdges exact = exact_edges(model, pair, places, spec);
  EdgeScores scores{spec,       grid,        Tensor::zeros({s, r}, DType::f64),
                    {},         exact.clean, exact.corrupt,
                    exact.runs, exact.passes};
  if (spec.by_position) scores.by_position = Tensor::zeros({tokens, s, r}, DType::f64);
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto& [edge, pos] = places[i];
    const auto at =
        static_cast<std::int64_t>(edge.sender) * r + static_cast<std::int64_t>(edge.receiver);
    scores.scores.data<double>()[at] += exact.change[i];
    if (pos >= 0) scores.by_position.data<double>()[pos * s * r + at] = exact.change[i];
  }
  return scores;
}

}  // namespace

EdgeScores edge_scores(const nn::Model& model, const Pair& pair, const EdgeSpec& spec) {
  check_pair(model, pair);
  if (spec.steps < 1)
    throw Error(ErrorKind::usage,
                fmt::format("a path needs at least one step, not {}", spec.steps));
  if (spec.method == EdgeMethod::exact) return exact_scores(model, pair, spec);
  spec.metric.require_gradient();
  return GradientScores(model, pair, spec).run();
}

std::vector<EdgeScores> edge_scores(const nn::Model& model, std::span<const Pair> pairs,
                                    const EdgeSpec& spec) {
  check_pairs(model, pairs);
  std::vector<EdgeScores> all;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    EdgeSpec part = spec;
    if (spec.progress) {
      part.progress = [&](int done, int total) {
        const auto n = static_cast<int>(pairs.size());
        spec.progress(static_cast<int>(p) * total + done, n * total);
      };
    }
    all.push_back(edge_scores(model, pairs[p], part));
    all.back().spec = spec;
  }
  return all;
}

EdgeScoreSummary summarise(std::span<const EdgeScores> scores) {
  std::vector<Tensor> values;
  std::vector<double> clean, corrupt;
  for (const EdgeScores& s : scores) {
    values.push_back(s.scores);
    clean.push_back(s.clean);
    corrupt.push_back(s.corrupt);
  }
  const Statistics over = statistics(values);
  return {scores.empty() ? EdgeGrid{} : scores[0].grid, over.mean, over.standard_error,
          statistic(clean), statistic(corrupt)};
}

std::vector<VerifiedEdge> verify_edges(const nn::Model& model, const Pair& pair,
                                       const EdgeScores& scores, int count) {
  const auto ranked = ranked_edges(scores.grid, scores.scores);
  std::vector<EdgePlace> places;
  for (std::size_t i = 0; i < ranked.size() && static_cast<int>(i) < count; ++i)
    places.push_back({ranked[i]});
  const ExactEdges exact = exact_edges(model, pair, places, scores.spec);
  std::vector<VerifiedEdge> verified;
  const auto values = scores.scores.to_vector<double>();
  for (std::size_t i = 0; i < places.size(); ++i) {
    const StreamEdge& e = places[i].edge;
    verified.push_back(
        {e, values[e.sender * scores.grid.receivers.size() + e.receiver], exact.change[i]});
  }
  return verified;
}

}  // namespace vitrine::interp

#include "interp/attribution.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "interp/data/asked.h"
#include "nn/model/batch.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

std::string score_name(std::string_view site) { return fmt::format("score({})", site); }
std::string other_name(std::string_view site) { return fmt::format("other({})", site); }

// What becomes of each axis of a site: kept, under a name, or summed.
struct Reduction {
  std::vector<std::string> kept;
  Dims summed;         // without the rows
  bool by_row = true;  // else the rows of each prompt are summed
};
Reduction reduction(const SiteEntry& site, bool per_feature, bool by_position) {
  bool parts = per_feature;  // heads or features: positions are summed unless asked for
  for (const Axis a : site.axes) parts |= a == Axis::head;
  Reduction r;
  for (std::size_t i = 0; i < site.axes.size(); ++i) {
    const Axis a = site.axes[i];
    if (a == Axis::row) {
      r.by_row = !parts || by_position;
      if (r.by_row) r.kept.emplace_back("pos");
    } else if (a == Axis::head) {
      r.kept.emplace_back("head");
    } else if (a == Axis::feature && per_feature) {
      r.kept.emplace_back("feature");
    } else {
      r.summed.push_back(static_cast<int>(i));
    }
  }
  return r;
}

bool matches_any(const SiteSet& set, std::string_view name) {
  std::string_view rest = set.patterns;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(','), rest.size());
    if (matches(rest.substr(0, end), name)) return true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return false;
}

// `then` where a is a number, 0 where it is -inf.
Value finite(const Value& a, const Value& then) {
  Builder& b = a.builder();
  return select(less(a, b.scalar(-1e30, a.dtype())), b.scalar(0, a.dtype()), then);
}

bool has_rows(const SiteEntry& site) { return !site.axes.empty() && site.axes[0] == Axis::row; }

// The sites that are scored, by name, comma-separated.
std::vector<std::string> scored_sites(const Graph& graph, const SiteSet& wanted) {
  std::vector<std::string> names;
  for (const std::string& name : select_sites(wanted, graph.site_names())) {
    if (has_rows(graph.site(name))) names.push_back(name);
  }
  return names;
}

// ---- names of one value -------------------------------------------------------------------------
// The node that computes a value; `views`: also of one whose entries are only seen elsewhere, or more
// than once.
NodeId behind(const Graph& graph, NodeId id, bool views = false) {
  for (;;) {
    const Node& n = graph.node(id);
    if (!passes_on(n) && !(views && n.op->kind == OpKind::rearrangement)) return id;
    id = n.inputs[0];
  }
}
NodeId same_value(const Graph& graph, std::string_view site) {
  return behind(graph, graph.site(site).node);
}

// For each site, whether one before it names the same value.
std::vector<bool> named_before(const Graph& graph, const std::vector<std::string>& names) {
  std::set<NodeId> seen;
  std::vector<bool> before;
  before.reserve(names.size());
  for (const std::string& name : names)
    before.push_back(!seen.insert(same_value(graph, name)).second);
  return before;
}

// ---- what differs between the runs --------------------------------------------------------------
// Many sites are views of one value: the end of a layer is the beginning of the next, and the
// inputs of all heads are copies of the stream. What differs is fetched and computed for the value
// alone, and looked at in the same way.
class Differences {
 public:
  // `graph` is the one that is scored, with its interior sites.
  Differences(const Graph& graph, const std::vector<std::string>& names) : graph_(graph) {
    for (const std::string& name : names) sites_.emplace(same_value(graph, name), name);
  }

  // other - base at a site.
  Value emit(Builder& b, const std::string& name) const {
    return replayed(b, graph_.site(name).node, site_behind(name));
  }

 private:
  // The site whose value a site is a view of: itself, if what is behind it is no site.
  const std::string& site_behind(const std::string& name) const {
    const auto whole = sites_.find(behind(graph_, graph_.site(name).node, true));
    return whole != sites_.end() ? whole->second : sites_.at(same_value(graph_, name));
  }
  Value replayed(Builder& b, NodeId id, const std::string& from) const {
    if (behind(graph_, id) == same_value(graph_, from)) return of_site(b, from);
    const Node& n = graph_.node(id);
    const Value x = replayed(b, n.inputs[0], from);
    return passes_on(n) ? x : b.emit(*n.op, {x}, n.attributes, n.line);
  }
  static Value of_site(Builder& b, const std::string& name) {
    const Value a = b.at(Site{name}), other = b.input(other_name(name), a.type());
    // Masked scores are -inf in both runs: there is nothing to put in.
    return name.ends_with("hook_attn_scores") ? finite(a, other - a) : other - a;
  }

  const Graph& graph_;
  std::map<NodeId, std::string> sites_;  // by value: the first site that names it
};

// The sites whose values in the other run a graph with scores reads.
std::vector<std::string> sites_of_other(const Graph& scored) {
  std::vector<std::string> names;
  for (const SiteEntry& site : scored.sites()) {
    if (scored.leaf(other_name(site.name)) != kNoNode) names.push_back(site.name);
  }
  return names;
}

// Everything that the graph with scores depends on, besides the size of the batch.
nn::Model::How made_how(const AttributionSpec& spec) {
  return {"scores",
          std::string(name_of(spec.method)),
          spec.sites.patterns,
          metric_name(spec.measure, spec.metric),
          spec.per_feature.patterns,
          spec.by_position ? "by position" : ""};
}

// Adds the scores to a graph with gradients: outputs score(SITE), [rows, ...] or [prompts, ...].
Graph with_scores(const Graph& with_gradients, const std::vector<std::string>& names,
                  const AttributionSpec& spec, const Differences& differences) {
  Builder b(with_gradients);
  const std::int64_t prompts = b.value(b.row_table().keys).dim(0);
  for (const std::string& name : names) {
    const SiteEntry& site = with_gradients.site(name);
    const Value a = b.at(Site{name}), gradient = b.output(grad_name(name));
    const Value change = spec.method == Method::attribution_patching ? differences.emit(b, name)
                         : name.ends_with("hook_attn_scores")        ? finite(a, a)
                                                                     : a;
    const Reduction r = reduction(site, matches_any(spec.per_feature, name), spec.by_position);
    const Value product = change * gradient;
    const Value of_rows = r.summed.empty() ? product : sum(product, r.summed);
    if (r.by_row || prompts == 1) {  // one prompt's rows lie side by side
      b.output(score_name(name), r.by_row ? of_rows : sum(of_rows, {0}, true));
      continue;
    }
    b.output(score_name(name), scatter_add_rows(of_rows, b.value(b.row_table().sequence), prompts));
  }
  return std::move(b).finish();
}

}  // namespace

std::string_view name_of(Method method) {
  return method == Method::grad_x_act ? "grad-x-act" : "attribution-patching";
}

std::string to_text(const SitePlace& place) {
  std::vector<std::string> parts;
  if (place.pos >= 0) parts.push_back(fmt::format("pos {}", place.pos));
  if (place.head >= 0) parts.push_back(fmt::format("head {}", place.head));
  if (place.feature >= 0) parts.push_back(fmt::format("feature {}", place.feature));
  return fmt::format("{}", fmt::join(parts, ", "));
}

// ---- attribution --------------------------------------------------------------------------------
namespace {

struct PairPrompts {
  std::vector<nn::Tokens> base, other;
};
PairPrompts prompts_of(std::span<const Pair> pairs, Direction direction) {
  PairPrompts s;
  for (const Pair& p : pairs) {
    s.base.push_back(base_prompt(p, direction));
    s.other.push_back(other_prompt(p, direction));
  }
  return s;
}

// So that the scored sites' values, those of the other run and gradients take about 1 GiB.
BatchLimits limits_of_scores(const nn::Model& model, std::span<const nn::Tokens> prompts,
                             const AttributionSpec& spec) {
  std::int64_t longest = 1;
  for (const nn::Tokens& p : prompts) longest = std::max(longest, std::ssize(p));
  const Graph one = model.build(nn::Model::Uniform{1, longest});
  std::int64_t bytes = 1;
  for (const std::string& name : scored_sites(one, spec.sites)) {
    const Type& type = one.site(name).type;
    bytes += 3 * numel(type.shape) * static_cast<std::int64_t>(size_of(type.dtype));
  }
  BatchLimits limits = limits_of_logits(model);
  limits.rows = std::min(limits.rows, (std::int64_t{1} << 30) / bytes * longest);
  return limits;
}

// The scores of one prompt: those of its rows, or of its sums.
Tensor scores_of(const Tensor& all, bool by_row, std::int64_t prompt, std::int64_t first,
                 std::int64_t rows) {
  if (by_row) return all.slice(0, first, first + rows).clone();
  return all.select(0, prompt).clone();
}

std::vector<Attribution> attribute_batch(const nn::Model& model, std::span<const Pair> pairs,
                                         const AttributionSpec& spec) {
  if (spec.metric) spec.metric->require_gradient();
  const bool denoise = spec.direction == Direction::denoise,
             patching = spec.method == Method::attribution_patching;
  const PairPrompts prompts = prompts_of(pairs, spec.direction);
  const Metric metric = metric_of(model, pairs, spec.measure, spec.metric);
  const std::string each = nn::per_prompt_name(metric);
  // Answers are fed, so that one graph serves all pairs of these lengths.
  const nn::BatchSize size = nn::batch_size(prompts.base);
  const auto with_measure =
      model.derived(size, {"summed metric", metric_name(spec.measure, spec.metric)},
                    [&](const Graph& g) { return with_sum(with_metric(g, metric), metric); });
  const std::vector<std::string> names = scored_sites(*with_measure, spec.sites);
  const auto scored = model.derived(size, made_how(spec), [&](const Graph&) {
    const Graph with_gradients = gradient(*with_measure, summed_name(metric),
                                          sites(fmt::format("{}", fmt::join(names, ","))));
    return with_scores(with_gradients, names, spec, Differences(with_gradients, names));
  });

  Feeds feeds = metric.feeds;
  std::vector<double> of_other(pairs.size(), 0);
  if (patching) {
    const std::vector<std::string> fetched = sites_of_other(*scored);
    const nn::Run run = model.run_graph(
        *with_measure, prompts.other,
        fetch(sites(fmt::format("{}", fmt::join(fetched, ","))), value(each)), metric.feeds);
    for (const std::string& name : fetched) feeds[other_name(name)] = run.results.raw(name);
    of_other = run.results.raw(each).to_vector<double>();
  }
  Fetch scores = fetch(value(each));
  for (const std::string& name : names) scores.wants.push_back(value(score_name(name)));
  const nn::Run run = model.run_graph(*scored, prompts.base, scores, feeds);
  const auto of_base = run.results.raw(each).to_vector<double>();

  std::vector<Attribution> results;
  for (std::size_t p = 0; p < pairs.size(); ++p)
    results.push_back(
        {spec, {}, denoise ? of_other[p] : of_base[p], denoise ? of_base[p] : of_other[p]});
  const std::vector<bool> again = named_before(*scored, names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Reduction r = reduction(scored->site(names[i]), matches_any(spec.per_feature, names[i]),
                                  spec.by_position);
    const Tensor all = run.results.raw(score_name(names[i])).to(DType::f64);
    std::int64_t first = 0;
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      const std::int64_t rows = std::ssize(prompts.base[p]);
      results[p].sites.push_back(
          {{names[i]},
           r.kept,
           scores_of(all, r.by_row, static_cast<std::int64_t>(p), first, rows),
           again[i]});
      first += rows;
    }
  }
  return results;
}

}  // namespace

std::vector<Attribution> attribute(const nn::Model& model, std::span<const Pair> pairs,
                                   const AttributionSpec& spec) {
  check_pairs(model, pairs);
  const std::vector<nn::Tokens> base = prompts_of(pairs, spec.direction).base;
  std::vector<Attribution> all;
  for (const auto& [begin, end] : batches(base, limits_of_scores(model, base, spec))) {
    for (Attribution& a : attribute_batch(model, pairs.subspan(begin, end - begin), spec))
      all.push_back(std::move(a));
  }
  return all;
}

Attribution attribute(const nn::Model& model, const Pair& pair, const AttributionSpec& spec) {
  return attribute(model, {&pair, 1}, spec)[0];
}

// ---- positions that line up ---------------------------------------------------------------------
namespace {

// Along its first axis the sums over each of these lists of positions.
Tensor summed_at(const Tensor& values, const std::vector<std::vector<std::int64_t>>& positions) {
  Shape shape = values.shape();
  const std::int64_t width = shape[0] > 0 ? values.numel() / shape[0] : 0;
  shape[0] = std::ssize(positions);
  const Tensor sums = Tensor::zeros(shape, DType::f64);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    double* to = sums.data<double>() + static_cast<std::int64_t>(i) * width;
    for (const std::int64_t p : positions[i]) {
      for (std::int64_t k = 0; k < width; ++k) to[k] += values.data<double>()[p * width + k];
    }
  }
  return sums;
}

}  // namespace

std::vector<Attribution> lined_up(std::vector<Attribution> attributions,
                                  std::span<const Example> examples,
                                  std::span<const Position> positions) {
  if (examples.size() != attributions.size()) {
    throw ShapeError(fmt::format("{} examples and {} attributions: there must be one for each",
                                 examples.size(), attributions.size()));
  }
  for (std::size_t i = 0; i < examples.size(); ++i) {
    Attribution& a = attributions[i];
    a.positions.clear();
    for (const Position& p : positions) a.positions.push_back(examples[i].all_at({&p, 1}));
    for (SiteScores& s : a.sites) {
      if (!s.axes.empty() && s.axes[0] == "pos") s.values = summed_at(s.values, a.positions);
    }
  }
  return attributions;
}

// ---- the strongest ------------------------------------------------------------------------------
namespace {

// Of the element with this number.
SitePlace place_at(const SiteScores& site, std::int64_t index) {
  SitePlace place;
  for (int a = site.values.rank() - 1; a >= 0; --a) {
    const std::string& axis = site.axes[static_cast<std::size_t>(a)];
    (axis == "pos"    ? place.pos
     : axis == "head" ? place.head
                      : place.feature) = index % site.values.dim(a);
    index /= site.values.dim(a);
  }
  return place;
}

// The positions of the prompt that a place stands for; none: all.
std::vector<std::int64_t> positions_at(const Attribution& attribution, const SitePlace& place) {
  if (place.pos < 0) return {};
  if (attribution.positions.empty()) return {place.pos};
  return attribution.positions.at(static_cast<std::size_t>(place.pos));
}

// Without its position.
Where where_of(const SitePlace& place) {
  Where where;
  if (place.head >= 0) where.head = {place.head};
  if (place.feature >= 0) where.feature = {place.feature};
  return where;
}

}  // namespace

std::vector<Scored> strongest(const Attribution& attribution, int count) {
  struct Entry {
    std::size_t site;
    std::int64_t index;
    double score;
  };
  std::vector<Entry> all;
  for (std::size_t s = 0; s < attribution.sites.size(); ++s) {
    if (attribution.sites[s].again) continue;
    const Tensor& values = attribution.sites[s].values;
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      if (values.data<double>()[i] != 0) all.push_back({s, i, values.data<double>()[i]});
    }
  }
  const auto kept = std::min(all.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                    [](const Entry& a, const Entry& b) {
                      if (std::abs(a.score) != std::abs(b.score))
                        return std::abs(a.score) > std::abs(b.score);
                      return std::pair(a.site, a.index) < std::pair(b.site, b.index);
                    });
  std::vector<Scored> nodes;
  for (std::size_t i = 0; i < kept; ++i) {
    const SiteScores& site = attribution.sites[all[i].site];
    nodes.push_back({site.site, place_at(site, all[i].index), all[i].score});
  }
  return nodes;
}

std::vector<Verified> verify_top(const nn::Model& model, const Pair& pair,
                                 const Attribution& attribution, int count) {
  const AttributionSpec& spec = attribution.spec;
  const bool denoise = spec.direction == Direction::denoise,
             patching = spec.method == Method::attribution_patching;
  const nn::Tokens &base = base_prompt(pair, spec.direction),
                   &other = other_prompt(pair, spec.direction);
  const std::vector<Scored> nodes = strongest(attribution, count);
  if (nodes.empty()) return {};
  std::vector<std::string> names;
  for (const Scored& n : nodes) {
    if (std::find(names.begin(), names.end(), n.site.name) == names.end())
      names.push_back(n.site.name);
  }
  nn::Run run;
  if (patching)
    run = model.run_batch({other}, fetch(sites(fmt::format("{}", fmt::join(names, ",")))));
  std::vector<Interventions> worlds;
  for (const Scored& n : nodes) {
    Where where = where_of(n.place);
    where.pos = positions_at(attribution, n.place);
    worlds.push_back({patching ? replace(n.site, run.results.raw(n.site.name), where,
                                         denoise ? "clean" : "corrupt")
                               : zero(n.site, where)});
  }
  const Metric metric = metric_of(model, {&pair, 1}, spec.measure, spec.metric);
  std::vector<Verified> verified;
  const auto exact_of = [&](std::span<const Interventions> some) {
    const Swept swept = model.sweep({base}, some, metric, {metric.name});
    const double before = swept.base(metric.name).item<double>();
    for (const double value : swept[metric.name].to_vector<double>()) {
      const double exact = patching ? value - before : before - value;
      verified.push_back(
          {nodes[verified.size()], std::isfinite(exact) ? std::optional(exact) : std::nullopt});
    }
  };
  if (patching) {
    exact_of(worlds);
    return verified;
  }
  try {
    exact_of(worlds);
  } catch (const NumericError&) {  // zeros in the place of a scale: which ones give no number?
    model.run_batch({base}, fetch(value("logits")));  // throws when it is the model itself
    for (const Interventions& world : worlds) {
      try {
        exact_of({&world, 1});
      } catch (const NumericError&) {
        verified.push_back({nodes[verified.size()], std::nullopt});
      }
    }
  }
  return verified;
}

// ---- over many pairs ----------------------------------------------------------------------------
namespace {

// Whether a prompt of so many tokens has the place.
bool has_place(const Attribution& attribution, const SitePlace& place, const nn::Tokens& prompt) {
  return !attribution.positions.empty() || place.pos < std::ssize(prompt);
}

// The exact effects of places on a batch of pairs, [places][pairs].
using Effects = std::vector<std::vector<std::optional<double>>>;

class Verifying {
 public:
  Verifying(const nn::Model& model, std::span<const Pair> pairs,
            std::span<const Attribution> attributions)
      : Verifying(model, pairs, attributions, attributions[0].spec) {}

  Effects measure(std::span<const ScoredOver> nodes) {
    if (patching_) {
      std::set<std::string> names;
      for (const ScoredOver& n : nodes) names.insert(n.site.name);
      other_ =
          model_.run_batch(prompts_.other, fetch(sites(fmt::format("{}", fmt::join(names, ",")))));
    }
    Effects effects(nodes.size(),
                    std::vector<std::optional<double>>(prompts_.base.size(), std::nullopt));
    std::vector<std::size_t> which;  // a place that no pair of this batch has is not run
    std::vector<Interventions> worlds;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      Edit edit = patching_
                      ? replace(nodes[i].site, other_.results.raw(nodes[i].site.name), {}, from_)
                      : zero(nodes[i].site);
      edit.where = wheres_of(nodes[i].place);
      if (edit.where.empty()) continue;
      which.push_back(i);
      worlds.push_back({std::move(edit)});
    }
    if (worlds.empty()) return effects;
    try {
      sweep(worlds, which, nodes, effects);
    } catch (const NumericError&) {
      if (patching_) throw;
      // Zeros in the place of a scale: which ones give no number?
      model_.run_batch(prompts_.base,
                       fetch(value("logits")));  // throws when it is the model itself
      for (std::size_t w = 0; w < worlds.size(); ++w) {
        try {
          sweep({&worlds[w], 1}, {&which[w], 1}, nodes, effects);
        } catch (const NumericError&) {
        }
      }
    }
    return effects;
  }

 private:
  Verifying(const nn::Model& model, std::span<const Pair> pairs,
            std::span<const Attribution> attributions, const AttributionSpec& spec)
      : model_(model),
        attributions_(attributions),
        prompts_(prompts_of(pairs, spec.direction)),
        metric_(metric_of(model, pairs, spec.measure, spec.metric)),
        patching_(spec.method == Method::attribution_patching),
        from_(spec.direction == Direction::denoise ? "clean" : "corrupt") {}

  // One for each list of positions that pairs have the place at; none where no pair has it.
  std::vector<Where> wheres_of(const SitePlace& place) const {
    std::map<std::vector<std::int64_t>, std::vector<std::int64_t>> pairs;  // by positions
    for (std::size_t p = 0; p < prompts_.base.size(); ++p) {
      if (has_place(attributions_[p], place, prompts_.base[p]))
        pairs[positions_at(attributions_[p], place)].push_back(static_cast<std::int64_t>(p));
    }
    std::vector<Where> wheres;
    for (const auto& [positions, having] : pairs) {
      Where& where = wheres.emplace_back(where_of(place));
      where.pos = positions;
      if (having.size() < prompts_.base.size()) where.prompt = having;
    }
    return wheres;
  }

  void sweep(std::span<const Interventions> worlds, std::span<const std::size_t> which,
             std::span<const ScoredOver> nodes, Effects& effects) const {
    const std::string each = nn::per_prompt_name(metric_);
    const Swept swept = model_.sweep(prompts_.base, worlds, metric_, {each});
    const auto before = swept.base(each).to_vector<double>(),
               after = swept[each].to_vector<double>();  // [worlds, pairs]
    for (std::size_t w = 0; w < worlds.size(); ++w) {
      for (std::size_t p = 0; p < before.size(); ++p) {
        if (!has_place(attributions_[p], nodes[which[w]].place, prompts_.base[p])) continue;
        const double change = after[w * before.size() + p] - before[p];
        if (std::isfinite(change)) effects[which[w]][p] = patching_ ? change : -change;
      }
    }
  }

  const nn::Model& model_;
  std::span<const Attribution> attributions_;
  PairPrompts prompts_;
  Metric metric_;
  bool patching_;
  const char* from_;
  nn::Run other_;
};

}  // namespace

std::vector<ScoredOver> strongest(std::span<const Attribution> attributions, int count) {
  std::vector<ScoredOver> all;
  if (attributions.empty()) return all;
  const std::size_t sites = attributions[0].sites.size();
  for (std::size_t s = 0; s < sites; ++s) {
    const SiteScores& first = attributions[0].sites[s];
    if (first.again) continue;
    // Positions come first: places of a longer prompt are those of a shorter one, and more.
    const SiteScores* largest = &first;
    for (const Attribution& a : attributions) {
      if (a.sites.size() != sites || !(a.sites[s].site == first.site) ||
          a.sites[s].axes != first.axes)
        throw ShapeError("attributions of several pairs go together when their sites are the same");
      if (a.sites[s].values.numel() > largest->values.numel()) largest = &a.sites[s];
    }
    std::vector<double> values, sizes;
    for (std::int64_t i = 0; i < largest->values.numel(); ++i) {
      values.clear();
      sizes.clear();
      for (const Attribution& a : attributions) {
        if (i >= a.sites[s].values.numel()) continue;
        values.push_back(a.sites[s].values.data<double>()[i]);
        sizes.push_back(std::abs(values.back()));
      }
      const Statistic size = statistic(sizes);
      if (size.mean > 0)
        all.push_back({first.site, place_at(*largest, i), statistic(values), size});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const ScoredOver& a, const ScoredOver& b) {
    return a.size.mean > b.size.mean;
  });
  if (std::ssize(all) > count) all.resize(static_cast<std::size_t>(std::max(count, 0)));
  return all;
}

std::vector<VerifiedOver> verify_top(const nn::Model& model, std::span<const Pair> pairs,
                                     std::span<const Attribution> attributions, int count) {
  if (pairs.size() != attributions.size()) {
    throw ShapeError(fmt::format("{} pairs and {} attributions: there must be one for each",
                                 pairs.size(), attributions.size()));
  }
  std::vector<VerifiedOver> verified;
  for (ScoredOver& node : strongest(attributions, count))
    verified.push_back({std::move(node), {}, {}});
  if (verified.empty()) return verified;
  std::vector<ScoredOver> nodes;
  nodes.reserve(verified.size());
  for (const VerifiedOver& v : verified) nodes.push_back(v.node);
  const AttributionSpec& spec = attributions[0].spec;
  const std::vector<nn::Tokens> base = prompts_of(pairs, spec.direction).base;
  for (const auto& [begin, end] : batches(base, limits_of_logits(model))) {
    const Effects effects = Verifying(model, pairs.subspan(begin, end - begin),
                                      attributions.subspan(begin, end - begin))
                                .measure(nodes);
    for (std::size_t i = 0; i < nodes.size(); ++i)
      verified[i].each.insert(verified[i].each.end(), effects[i].begin(), effects[i].end());
  }
  for (VerifiedOver& v : verified) {
    std::vector<double> known;
    for (const std::optional<double>& x : v.each) {
      if (x) known.push_back(*x);
    }
    v.exact = statistic(known);
  }
  return verified;
}

}  // namespace vitrine::interp

#include "interp/attribution.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops.h"
#include "nn/batch.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

std::string score_name(std::string_view site) { return fmt::format("score({})", site); }
std::string other_name(std::string_view site) { return fmt::format("other({})", site); }

// What becomes of each axis of a site: kept, under a name, or summed.
struct Reduction {
  std::vector<std::string> kept;
  Dims summed;
};
Reduction reduction(const SiteEntry& site, bool per_feature, bool by_position) {
  bool parts = per_feature;  // heads or features: positions are summed unless asked for
  for (const Axis a : site.axes) parts |= a == Axis::head;
  Reduction r;
  for (std::size_t i = 0; i < site.axes.size(); ++i) {
    const Axis a = site.axes[i];
    if (a == Axis::row && (!parts || by_position)) r.kept.emplace_back("pos");
    else if (a == Axis::head) r.kept.emplace_back("head");
    else if (a == Axis::feature && per_feature) r.kept.emplace_back("feature");
    else r.summed.push_back(static_cast<int>(i));
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

bool has_rows(const SiteEntry& site) {
  return std::find(site.axes.begin(), site.axes.end(), Axis::row) != site.axes.end();
}

// The sites that are scored, by name, comma-separated.
std::vector<std::string> scored_sites(const Graph& graph, const SiteSet& wanted) {
  std::vector<std::string> names;
  for (const std::string& name : select_sites(wanted, graph.site_names())) {
    if (has_rows(graph.site(name))) names.push_back(name);
  }
  return names;
}

// For each site, whether one before it names the same value.
std::vector<bool> named_before(const Graph& graph, const std::vector<std::string>& names) {
  std::vector<NodeId> seen;
  std::vector<bool> again;
  for (const std::string& name : names) {
    NodeId id = graph.site(name).node;
    while (graph.node(id).op->name == "site" || graph.node(id).op->name == "identity")
      id = graph.node(id).inputs[0];
    again.push_back(std::find(seen.begin(), seen.end(), id) != seen.end());
    seen.push_back(id);
  }
  return again;
}

// Adds the scores to a graph with gradients: outputs score(SITE).
Graph with_scores(const Graph& with_gradients, const std::vector<std::string>& names,
                  const AttributionSpec& spec) {
  Builder b(with_gradients);
  for (const std::string& name : names) {
    const SiteEntry& site = with_gradients.site(name);
    const Value a = b.at(Site{name}), gradient = b.output(grad_name(name));
    Value change = a;
    if (spec.method == Method::attribution_patching) {
      change = b.input(other_name(name), a.type()) - a;
      // Masked scores are -inf in both runs: there is nothing to put in.
      if (name.ends_with("hook_attn_scores")) {
        const Value zero = b.scalar(0, a.dtype());
        change = select(less(a, b.scalar(-1e30, a.dtype())), zero, change);
      }
    } else if (name.ends_with("hook_attn_scores")) {
      const Value zero = b.scalar(0, a.dtype());
      change = select(less(a, b.scalar(-1e30, a.dtype())), zero, a);
    }
    const Reduction r = reduction(site, matches_any(spec.per_feature, name), spec.by_position);
    const Value product = change * gradient;
    b.output(score_name(name), r.summed.empty() ? product : sum(product, r.summed));
  }
  return std::move(b).finish();
}

}  // namespace

std::string_view name_of(Method method) {
  return method == Method::grad_x_act ? "grad-x-act" : "attribution-patching";
}

std::string to_text(const Place& place) {
  std::vector<std::string> parts;
  if (place.pos >= 0) parts.push_back(fmt::format("pos {}", place.pos));
  if (place.head >= 0) parts.push_back(fmt::format("head {}", place.head));
  if (place.feature >= 0) parts.push_back(fmt::format("feature {}", place.feature));
  return fmt::format("{}", fmt::join(parts, ", "));
}

Attribution attribute(const nn::Model& model, const Pair& pair, const AttributionSpec& spec) {
  check_pair(model, pair);
  const bool denoise = spec.direction == Direction::denoise,
             patching = spec.method == Method::attribution_patching;
  const nn::Tokens &base = denoise ? pair.corrupt : pair.clean,
                   &other = denoise ? pair.clean : pair.corrupt;
  const Metric metric = metric_of(model, {&pair, 1}, spec.measure);
  const Graph graph = with_metric(model.build(nn::Model::Uniform{1, std::ssize(base)}), metric);
  const std::vector<std::string> names = scored_sites(graph, spec.sites);
  const SiteSet wanted = sites(fmt::format("{}", fmt::join(names, ",")));

  Attribution result{spec, {}, 0, 0};
  Feeds feeds = metric.feeds;
  double of_other = 0;
  if (patching) {
    const nn::Run run = model.run_graph(graph, {other}, fetch(wanted, value(metric)), metric.feeds);
    for (const std::string& name : names) feeds[other_name(name)] = run.results.raw(name);
    of_other = run.results.scalar(metric.name);
  }
  const Graph scored = with_scores(gradient(graph, metric.name, wanted), names, spec);
  Fetch scores = fetch(value(metric));
  for (const std::string& name : names) scores.wants.push_back(value(score_name(name)));
  const nn::Run run = model.run_graph(scored, {base}, scores, feeds);
  const double of_base = run.results.scalar(metric.name);
  result.clean = denoise ? of_other : of_base;
  result.corrupt = denoise ? of_base : of_other;
  const std::vector<bool> again = named_before(scored, names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    const SiteEntry& site = scored.site(name);
    SiteScores s{{name},
                 reduction(site, matches_any(spec.per_feature, name), spec.by_position).kept,
                 run.results.raw(score_name(name)).to(DType::f64),
                 again[i]};
    result.sites.push_back(std::move(s));
  }
  return result;
}

// ---- the strongest ------------------------------------------------------------------------------
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
    Scored node{site.site, {}, all[i].score};
    std::int64_t rest = all[i].index;
    for (int a = site.values.rank() - 1; a >= 0; --a) {
      const std::string& axis = site.axes[static_cast<std::size_t>(a)];
      (axis == "pos"    ? node.place.pos
       : axis == "head" ? node.place.head
                        : node.place.feature) = rest % site.values.dim(a);
      rest /= site.values.dim(a);
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::vector<Verified> verify_top(const nn::Model& model, const Pair& pair,
                                 const Attribution& attribution, int count) {
  const AttributionSpec& spec = attribution.spec;
  const bool denoise = spec.direction == Direction::denoise,
             patching = spec.method == Method::attribution_patching;
  const nn::Tokens &base = denoise ? pair.corrupt : pair.clean,
                   &other = denoise ? pair.clean : pair.corrupt;
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
    Where where;
    if (n.place.pos >= 0) where.pos = {n.place.pos};
    if (n.place.head >= 0) where.head = {n.place.head};
    if (n.place.feature >= 0) where.feature = {n.place.feature};
    worlds.push_back({patching ? replace(n.site, run.results.raw(n.site.name), where,
                                         denoise ? "clean" : "corrupt")
                               : zero(n.site, where)});
  }
  const Metric metric = metric_of(model, {&pair, 1}, spec.measure);
  const Swept swept = model.sweep({base}, worlds, metric, {metric.name});
  const auto values = swept[metric.name].to_vector<double>();
  const double before = swept.base(metric.name).item<double>();
  std::vector<Verified> verified;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    verified.push_back({nodes[i], patching ? values[i] - before : before - values[i]});
  return verified;
}

}  // namespace vitrine::interp

#include "interp/attribution.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "nn/model/batch.h"
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

// `then` where a is a number, 0 where it is -inf.
Value finite(const Value& a, const Value& then) {
  Builder& b = a.builder();
  return select(less(a, b.scalar(-1e30, a.dtype())), b.scalar(0, a.dtype()), then);
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
          std::string(name_of(spec.measure)),
          spec.per_feature.patterns,
          spec.by_position ? "by position" : ""};
}

// Adds the scores to a graph with gradients: outputs score(SITE).
Graph with_scores(const Graph& with_gradients, const std::vector<std::string>& names,
                  const AttributionSpec& spec, const Differences& differences) {
  Builder b(with_gradients);
  for (const std::string& name : names) {
    const SiteEntry& site = with_gradients.site(name);
    const Value a = b.at(Site{name}), gradient = b.output(grad_name(name));
    const Value change = spec.method == Method::attribution_patching ? differences.emit(b, name)
                         : name.ends_with("hook_attn_scores")        ? finite(a, a)
                                                                     : a;
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

std::string to_text(const SitePlace& place) {
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
  const nn::Tokens &base = base_prompt(pair, spec.direction),
                   &other = other_prompt(pair, spec.direction);
  const Metric metric = metric_of(model, {&pair, 1}, spec.measure);
  // Answers are fed, so that one graph serves all pairs of a length.
  const nn::BatchSize size = nn::batch_size({base});
  const auto with_measure = model.derived(size, {"metric", std::string(name_of(spec.measure))},
                                          [&](const Graph& g) { return with_metric(g, metric); });
  const std::vector<std::string> names = scored_sites(*with_measure, spec.sites);
  const auto scored = model.derived(size, made_how(spec), [&](const Graph&) {
    const Graph with_gradients =
        gradient(*with_measure, metric.name, sites(fmt::format("{}", fmt::join(names, ","))));
    return with_scores(with_gradients, names, spec, Differences(with_gradients, names));
  });

  Attribution result{spec, {}, 0, 0};
  Feeds feeds = metric.feeds;
  double of_other = 0;
  if (patching) {
    const std::vector<std::string> fetched = sites_of_other(*scored);
    const nn::Run run = model.run_graph(
        *with_measure, {other},
        fetch(sites(fmt::format("{}", fmt::join(fetched, ","))), value(metric)), metric.feeds);
    for (const std::string& name : fetched) feeds[other_name(name)] = run.results.raw(name);
    of_other = run.results.scalar(metric.name);
  }
  Fetch scores = fetch(value(metric));
  for (const std::string& name : names) scores.wants.push_back(value(score_name(name)));
  const nn::Run run = model.run_graph(*scored, {base}, scores, feeds);
  const double of_base = run.results.scalar(metric.name);
  result.clean = denoise ? of_other : of_base;
  result.corrupt = denoise ? of_base : of_other;
  const std::vector<bool> again = named_before(*scored, names);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    const SiteEntry& site = scored->site(name);
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
    Where where;
    if (n.place.pos >= 0) where.pos = {n.place.pos};
    if (n.place.head >= 0) where.head = {n.place.head};
    if (n.place.feature >= 0) where.feature = {n.place.feature};
    worlds.push_back({patching ? replace(n.site, run.results.raw(n.site.name), where,
                                         denoise ? "clean" : "corrupt")
                               : zero(n.site, where)});
  }
  const Metric metric = metric_of(model, {&pair, 1}, spec.measure);
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

}  // namespace vitrine::interp

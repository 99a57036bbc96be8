#include "apps/python/graphs.h"

#include <fmt/format.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>

#include "apps/options/site_names.h"
#include "apps/python/arrays.h"
#include "apps/python/interrupts.h"
#include "apps/python/metrics.h"
#include "apps/python/values.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/linearise.h"
#include "autograd/transform/recompute.h"
#include "autograd/transform/rewrite.h"
#include "tensor/error.h"

namespace vitrine::python {

using namespace nb::literals;

std::vector<std::string> list_of(const Patterns& patterns) {
  if (!patterns) return {};
  if (const auto* one = std::get_if<std::string>(&*patterns)) return {*one};
  return std::get<std::vector<std::string>>(*patterns);
}

namespace {

void add_patterns(std::vector<Want>& wants, const Patterns& patterns, Want::Kind kind) {
  for (const std::string& p : list_of(patterns)) wants.push_back({kind, p});
}
void add_sites(std::vector<Want>& wants, const Patterns& patterns, Want::Kind kind,
               const Graph& graph) {
  for (const std::string& p : list_of(patterns))
    wants.push_back({kind, app::full_patterns(p, graph.site_names())});
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  while (true) {
    const std::size_t comma = list.find(',', begin);
    parts.push_back(list.substr(begin, comma - begin));
    if (comma == list.npos) return parts;
    begin = comma + 1;
  }
}

}  // namespace

Fetch Wanted::fetch(const Graph& graph) const {
  std::vector<Want> wants;
  for (const std::string& list : list_of(sites)) {
    for (const std::string& name : split(list)) {
      const bool output = graph.find_site(name) == nullptr && graph.outputs().contains(name);
      if (output) wants.push_back({Want::Kind::output, name});
      else wants.push_back({Want::Kind::site, app::full_patterns(name, graph.site_names())});
    }
  }
  add_sites(wants, before, Want::Kind::before, graph);
  add_sites(wants, gradients, Want::Kind::grad_of_site, graph);
  add_patterns(wants, leaf_gradients, Want::Kind::grad_of_leaf);
  add_patterns(wants, outputs, Want::Kind::output);
  return {std::move(wants)};
}

Feeds to_feeds(const Graph& graph, const nb::dict& arrays) {
  Feeds feeds;
  for (const auto& [key, array] : arrays) {
    const std::string name = nb::cast<std::string>(key);
    Tensor tensor = to_tensor(array);
    // Lists and numbers have no type of their own; arrays do, and are held to it.
    const NodeId leaf = graph.leaf(name);
    if (leaf != kNoNode && !nb::ndarray_check(array))
      tensor = tensor.to(graph.node(leaf).type.dtype);
    feeds.emplace(name, std::move(tensor));
  }
  return feeds;
}

namespace {

Policy policy(const std::string& word) {
  for (const Policy p : {Policy::recompute, Policy::detach, Policy::hold}) {
    if (name_of(p) == word) return p;
  }
  throw Error(ErrorKind::usage,
              fmt::format("there is no policy '{}': they are recompute, detach and hold", word));
}

nb::list site_table(const Graph& graph) {
  nb::list all;
  for (const SiteEntry& site : graph.sites()) {
    nb::list axes;
    for (const Axis axis : site.axes) axes.append(std::string(name_of(axis)));
    nb::dict entry;
    entry["name"] = site.name;
    entry["axes"] = nb::tuple(axes);
    entry["shape"] = to_tuple(site.type.shape);
    entry["dtype"] = std::string(name_of(site.type.dtype));
    all.append(entry);
  }
  return all;
}

nb::list node_table(const Graph& graph) {
  nb::list all;
  for (const Node& node : graph.nodes()) {
    nb::dict entry;
    entry["id"] = node.id;
    entry["op"] = std::string(node.op->name);
    entry["inputs"] = node.inputs;
    entry["shape"] = to_tuple(node.type.shape);
    entry["dtype"] = std::string(name_of(node.type.dtype));
    entry["scope"] = node.scope;
    entry["file"] = std::string(node.line.file);
    entry["line"] = node.line.line;
    all.append(entry);
  }
  return all;
}

void add_graph(nb::module_& m) {
  nb::class_<Graph>(m, "Graph",
                    "A computation graph: immutable, in topological order. Transformations make "
                    "new graphs of it, and "
                    "compile makes a plan that runs.")
      .def_prop_ro("sites", &Graph::site_names,
                   "The names of its sites, in the order of the model.")
      .def("site_table", &site_table, "Its sites: [{name, axes, shape, dtype}].")
      .def("node_table", &node_table,
           "Its nodes, in the order in which they run: [{id, op, inputs, shape, dtype, scope, "
           "file, line}].")
      .def_prop_ro("outputs",
                   [](const Graph& g) {
                     std::vector<std::string> names;
                     for (const auto& [name, id] : g.outputs()) names.push_back(name);
                     return names;
                   })
      .def("__len__", [](const Graph& g) { return g.nodes().size(); })
      .def("__hash__", &Graph::hash)
      .def("__eq__",
           [](const Graph& g, const Graph& other) {
             return g.hash() == other.hash() && g.to_text() == other.to_text();
           },
           nb::is_operator(), nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("to_text", &Graph::to_text, "One line a node, sites by name.")
      .def("to_dot", &Graph::to_dot, "For Graphviz; sites are boxes.")
      .def("__str__", &Graph::to_text)
      .def("__repr__", [](const Graph& g) {
        return fmt::format("<vitrine.Graph: {} nodes, {} sites>", g.nodes().size(),
                           g.sites().size());
      });
}

std::string joined(const Patterns& patterns) {
  std::string all;
  for (const std::string& p : list_of(patterns)) all += (all.empty() ? "" : ",") + p;
  return all;
}

Graph gradient_of(const Graph& graph, nb::handle of, const Patterns& sites,
                  const Patterns& leaves) {
  if (!sites && !leaves)
    throw Error(ErrorKind::usage,
                "gradient: of what? give sites='blocks.*.hook_z' or leaves='*', or both");
  const std::string s = app::full_patterns(joined(sites), graph.site_names()), l = joined(leaves);
  MetricHandle* metric = nullptr;
  const Graph scored =
      nb::try_cast(of, metric) && metric != nullptr ? with_metric(graph, metric->live()) : graph;
  const std::string output = metric != nullptr ? metric->live().name : nb::cast<std::string>(of);
  if (sites && leaves) return gradient(scored, output, SiteSet{s}, LeafSet{l});
  return sites ? gradient(scored, output, SiteSet{s}) : gradient(scored, output, LeafSet{l});
}

Graph rewritten(const Graph& graph, const std::string& site, const nb::callable& function) {
  return rewrite(graph, Site{site}, [&](const Value& x) {
    const Lent lent(x.builder());
    return lent.taken(function(lent.of(x)), "the function given to rewrite");
  });
}

void add_transformations(nb::module_& m) {
  m.def("gradient", &gradient_of, "graph"_a, "of"_a, nb::kw_only(), "sites"_a = nb::none(),
        "leaves"_a = nb::none(),
        "The graph with the gradient of a scalar output, or of a metric, as outputs grad(NAME): d "
        "of / d site (of the value that "
        "flows on from it), d of / d leaf. Patterns as everywhere. What the output does not depend "
        "on gets exact zeros. Raises "
        "GraphError when the output is no scalar, SiteError for unknown names.");
  m.def("rewrite", &rewritten, "graph"_a, "site"_a, "function"_a,
        "The graph in which function(x) flows on from a site, x being the value that arrives. The "
        "function runs once, now, and emits "
        "nodes: what it writes is compiled and differentiated like the rest of the model. Raises "
        "SiteError, ShapeError when it "
        "changes the shape or dtype, and whatever the function raises.");
  m.def(
      "linearise",
      [](const Graph& g, const std::string& norm, const std::string& attention,
         const std::string& activation) {
        return linearise(g, {policy(norm), policy(attention), policy(activation)});
      },
      "graph"_a, nb::kw_only(), "norm"_a = "recompute", "attention"_a = "recompute",
      "activation"_a = "recompute",
      "Which nonlinearities a gradient treats as constant: 'recompute' (none), 'detach' (their "
      "value stays, no gradient flows through "
      "it) or 'hold' (the value of a recorded run). Make it before gradient.");
  m.def(
      "recompute",
      [](const Graph& g, const std::string& kept) { return recompute(g, SiteSet{kept}); },
      "graph"_a, "kept"_a,
      "Activation checkpointing (Chen et al. 2016): gradients compute the forward pass again from "
      "the kept sites; same bits, less memory.");
  m.def(
      "with_metric",
      [](const Graph& g, const MetricHandle& metric) { return with_metric(g, metric.live()); },
      "graph"_a, "metric"_a, "The graph with the metric as an output of its name.");
}

// ---- plans --------------------------------------------------------------------------------------
Results run_plan(const Plan& plan, const nb::dict& feeds, const nb::dict& parameters,
                 bool find_nan) {
  const Feeds fed = to_feeds(plan.graph(), feeds);
  const Parameters given = to_feeds(plan.graph(), parameters);
  return interruptibly([&](const std::atomic<bool>* cancel) {
    return plan.run(fed, given, {.find_nan = find_nan, .cancel = cancel});
  });
}

nb::dict stats_of(const Plan& plan) {
  const Plan::Stats& s = plan.stats();
  nb::dict d;
  d["nodes"] = s.nodes;
  d["steps"] = s.steps;
  d["dead"] = s.dead;
  d["duplicates"] = s.duplicates;
  d["fused"] = s.fused;
  d["in_place"] = s.in_place;
  d["flops"] = s.flops;
  d["arena_bytes"] = s.arena_bytes;
  d["result_bytes"] = s.result_bytes;
  d["parameter_bytes"] = s.parameter_bytes;
  return d;
}

void add_plans(nb::module_& m) {
  nb::class_<Plan>(
      m, "Plan",
      "A compiled graph, which runs any number of times, also from several threads at once.")
      .def("run", &run_plan, "feeds"_a = nb::dict(), "parameters"_a = nb::dict(),
           "find_nan"_a = true,
           "Runs it and gives the results. Arrays are read where they are; lists and numbers take "
           "the leaf's type. With `updates`, the "
           "arrays of these leaves are written, and must be writable. Raises GraphError for a leaf "
           "that is missing or of another type, "
           "NumericError, naming the op, where a result holds NaN.")
      .def_prop_ro("graph", &Plan::graph)
      .def_prop_ro("stats", &stats_of,
                   "{nodes, steps, dead, duplicates, fused, in_place, flops, arena_bytes, "
                   "result_bytes, parameter_bytes}")
      .def("explain", &Plan::explain,
           "Ops, bytes, FLOPs, what was removed and why; after a run also where the time went.")
      .def("__repr__", [](const Plan& p) {
        return fmt::format("<vitrine.Plan: {} steps, {} FLOPs>", p.stats().steps, p.stats().flops);
      });
  m.def(
      "compile",
      [](const Graph& graph, const Patterns& outputs, const Patterns& sites, const Patterns& before,
         const Patterns& gradients, const Patterns& leaf_gradients,
         const std::map<std::string, std::string>& updates) {
        const Wanted wanted{sites, before, gradients, leaf_gradients, outputs};
        return compile(graph, wanted.fetch(graph), Updates(updates.begin(), updates.end()));
      },
      "graph"_a, "outputs"_a = nb::none(), nb::kw_only(), "sites"_a = nb::none(),
      "before"_a = nb::none(), "gradients"_a = nb::none(), "leaf_gradients"_a = nb::none(),
      "updates"_a = std::map<std::string, std::string>(),
      "A plan that computes these outputs, sites (the values that flow on), values before edits, "
      "and gradients. updates={'w': 'w.next'} "
      "writes the output w.next into the array given for the leaf w after each run. Raises "
      "SiteError and GraphError for names that the "
      "graph does not have.");
  nb::class_<Results>(m, "Results",
                      "What a run gave, by name: results['blocks.2.attn.hook_pattern'] is a NumPy "
                      "array over the memory of "
                      "the run, in TransformerLens's shapes.")
      .def(
          "__getitem__",
          [](const Results& r, const std::string& name) { return to_numpy(r.view(name)); },
          "name"_a,
          "Raises GraphError for what was not fetched, ShapeError when the prompts of the batch "
          "differ in length (see sequence).")
      .def(
          "grad",
          [](const Results& r, const std::string& name) {
            return to_numpy(r.view(grad_name(name)));
          },
          "name"_a, "The gradient by a site or leaf.")
      .def(
          "before",
          [](const Results& r, const std::string& site) {
            return to_numpy(r.view(before_name(site)));
          },
          "site"_a, "The value that arrived at a site, before edits.")
      .def(
          "sequence",
          [](const Results& r, const std::string& name, int prompt) {
            return to_numpy(r.view(name, prompt));
          },
          "name"_a, "prompt"_a, "The part of one prompt alone: [1, its length, ...].")
      .def(
          "raw", [](const Results& r, const std::string& name) { return to_numpy(r.raw(name)); },
          "name"_a, "As the graph has it: packed rows.")
      .def(
          "axes",
          [](const Results& r, const std::string& name) {
            std::vector<std::string> words;
            for (const Axis axis : r.axes(name)) words.emplace_back(name_of(axis));
            return words;
          },
          "name"_a, "What the axes of raw(name) mean.")
      .def("__contains__",
           [](const Results& r, const std::string& name) { return r.contains(name); })
      .def("__len__", [](const Results& r) { return r.names().size(); })
      .def("__iter__", [](const Results& r) { return nb::iter(nb::cast(r.names())); })
      .def("keys", &Results::names)
      .def("items",
           [](const Results& r) {
             nb::list all;
             for (const std::string& name : r.names())
               all.append(nb::make_tuple(name, to_numpy(r.view(name))));
             return all;
           })
      .def_prop_ro("lengths", &Results::lengths, "Of the batch's prompts.")
      .def("__repr__", [](const Results& r) {
        return fmt::format("<vitrine.Results of {} values>", r.names().size());
      });
}

}  // namespace

void add_graphs(nb::module_& m) {
  add_graph(m);
  add_plans(m);
  add_transformations(m);
}

}  // namespace vitrine::python

// Sweeps and grids: many edited runs as one program.
#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "apps/options/site_names.h"
#include "apps/python/arrays.h"
#include "apps/python/edits.h"
#include "apps/python/graphs.h"
#include "apps/python/interrupts.h"
#include "apps/python/metrics.h"
#include "apps/python/models.h"
#include "apps/python/values.h"
#include "tensor/error.h"

namespace vitrine::python {

using namespace nb::literals;

namespace {

struct SweepHandle {
  std::vector<std::string> axes, sites;
  Tensor values;  // of the metric, along the axes
  double base = 0;
  std::string explanation;
};

std::vector<Interventions> to_worlds(nb::handle worlds, const Graph& graph,
                                     const std::vector<nn::Tokens>& prompts) {
  std::vector<Interventions> each;
  for (const nb::handle w : nb::cast<nb::iterable>(worlds))
    each.push_back(to_interventions(w, graph, prompts));
  return each;
}

MakeEdit edit_of(nb::handle run) {
  if (run.is_none()) return zeros();
  const nb::object results =
      nb::hasattr(run, "results") ? nb::object(run.attr("results")) : nb::borrow(run);
  return from(nb::cast<const Results&>(results), "a recorded run");
}

Axes grid_axes(std::vector<std::string> by) {
  for (std::string& w : by) {
    if (w == "prompt") w = "batch";
  }
  return to_axes(by);
}

SweepHandle swept_as(const Swept& swept, const Metric& metric, std::vector<std::string> axes,
                     std::vector<std::string> sites, const Tensor& values) {
  return {std::move(axes), std::move(sites), values, swept.base(metric.name).item<double>(),
          swept.explain()};
}

SweepHandle sweep_worlds(const ModelHandle& handle, nb::handle prompts, nb::handle worlds,
                         const MetricHandle& metric, std::int64_t memory) {
  const std::vector<nn::Tokens> tokens = to_prompts(handle.live(), prompts);
  nn::check_prompts(tokens, handle.live().config());
  const std::vector<Interventions> each =
      to_worlds(worlds, handle.live().build(nn::batch_size(tokens)), tokens);
  // Metrics of Python write their nodes when the sweep builds its graph: with the GIL, which they take.
  return interruptibly([&](const std::atomic<bool>* cancel) {
    const Swept swept = handle.running(cancel).sweep(tokens, each, metric.live(),
                                                     {metric.live().name}, {.memory = memory});
    return swept_as(swept, metric.live(), {"world"}, {}, swept[metric.live().name].to(DType::f64));
  });
}

SweepHandle sweep_grid(const ModelHandle& handle, nb::handle prompts, const std::string& sites,
                       const std::vector<std::string>& by, nb::handle run,
                       const MetricHandle& metric, std::int64_t memory) {
  const std::vector<nn::Tokens> tokens = to_prompts(handle.live(), prompts);
  nn::check_prompts(tokens, handle.live().config());
  const MakeEdit edit = edit_of(run);
  const Axes axes = grid_axes(by);
  return interruptibly([&](const std::atomic<bool>* cancel) {
    const nn::Model model = handle.running(cancel);
    const Graph graph = model.build(nn::batch_size(tokens));
    const Grid g = grid(graph, SiteSet{app::full_patterns(sites, graph.site_names())}, axes, edit);
    const Swept swept =
        model.sweep(tokens, g.worlds, metric.live(), {metric.live().name}, {.memory = memory});
    const GridValues labelled = label(g, swept[metric.live().name]);
    return swept_as(swept, metric.live(), labelled.axes, labelled.sites, labelled.values);
  });
}

// ---- of one's own graphs ------------------------------------------------------------------------
SweepHandle own_sweep(const Graph& graph, nb::handle worlds, const std::string& output,
                      const nb::dict& feeds, const nb::dict& parameters, std::int64_t memory) {
  const std::vector<Interventions> each = to_worlds(worlds, graph, {});
  const Feeds fed = to_feeds(graph, feeds);
  const Parameters given = to_feeds(graph, parameters);
  return interruptibly([&](const std::atomic<bool>* cancel) {
    ThreadPool pool;
    const Swept swept = sweep(graph, fed, given, each, {output},
                              {.pool = &pool, .memory = memory, .cancel = cancel});
    return SweepHandle{{"world"},
                       {},
                       swept[output].to(DType::f64),
                       swept.base(output).item<double>(),
                       swept.explain()};
  });
}

SweepHandle own_grid(const Graph& graph, const std::string& sites,
                     const std::vector<std::string>& by, nb::handle run, const std::string& output,
                     const nb::dict& feeds, const nb::dict& parameters, std::int64_t memory) {
  const Grid g = grid(graph, SiteSet{app::full_patterns(sites, graph.site_names())}, grid_axes(by),
                      edit_of(run));
  const Feeds fed = to_feeds(graph, feeds);
  const Parameters given = to_feeds(graph, parameters);
  return interruptibly([&](const std::atomic<bool>* cancel) {
    ThreadPool pool;
    const Swept swept = sweep(graph, fed, given, g.worlds, {output},
                              {.pool = &pool, .memory = memory, .cancel = cancel});
    const GridValues labelled = label(g, swept[output]);
    return SweepHandle{labelled.axes, labelled.sites, labelled.values,
                       swept.base(output).item<double>(), swept.explain()};
  });
}

}  // namespace

void add_sweeps(nb::module_& m, nb::class_<ModelHandle>& c) {
  nb::class_<SweepHandle>(m, "Sweep",
                          "The metric of many edited runs: values [along the axes], named.")
      .def_ro("axes", &SweepHandle::axes,
              "What the axes of values are: 'world'; or 'site' and then 'prompt', 'pos', 'head', "
              "'key', 'feature'.")
      .def_ro("sites", &SweepHandle::sites, "What the axis 'site' counts.")
      .def_prop_ro(
          "values", [](const SweepHandle& s) { return to_numpy(s.values); },
          "float64: the metric of each edited run.")
      .def_ro("base", &SweepHandle::base, "The metric of the run without edits.")
      .def(
          "explain", [](const SweepHandle& s) { return s.explanation; },
          "Passes avoided, FLOPs and bytes beside running each world alone.")
      .def("__repr__", [](const SweepHandle& s) {
        return fmt::format("<vitrine.Sweep {}, axes {}>", to_string(s.values.shape()),
                           fmt::join(s.axes, ", "));
      });
  constexpr std::int64_t kMemory = std::int64_t{1} << 30;
  m.def("sweep", &own_sweep, "graph"_a, "worlds"_a, "output"_a, nb::kw_only(),
        "feeds"_a = nb::dict(), "parameters"_a = nb::dict(), "memory"_a = kMemory,
        "A scalar output of a graph in one edited run for each of `worlds` (edits), compiled into "
        "one program: a Sweep [world]. feeds and "
        "parameters are those of the run without edits. Raises what intervene and a run raise, "
        "naming the world.");
  m.def("grid", &own_grid, "graph"_a, "sites"_a, "by"_a, "run"_a = nb::none(), nb::kw_only(),
        "output"_a, "feeds"_a = nb::dict(), "parameters"_a = nb::dict(), "memory"_a = kMemory,
        "The same for each of `sites` and each place along the axes `by` (prompt, pos, head, key, "
        "feature): a recorded run's values are put in "
        "there, or zeros where run is None.");
  c.def("sweep", &sweep_worlds, "prompts"_a, "worlds"_a, "metric"_a, nb::kw_only(),
        "memory"_a = kMemory)
      .def("grid", &sweep_grid, "prompts"_a, "sites"_a, "by"_a, "run"_a = nb::none(), nb::kw_only(),
           "metric"_a, "memory"_a = kMemory);
}

}  // namespace vitrine::python

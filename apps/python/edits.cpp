#include "apps/python/edits.h"

#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "apps/options/site_names.h"
#include "apps/python/arrays.h"
#include "apps/python/graphs.h"
#include "autograd/compile/plan.h"
#include "autograd/transform/intervention_json.h"
#include "autograd/transform/recorded.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::python {

using namespace nb::literals;

namespace {

using Index = std::optional<std::variant<std::int64_t, std::vector<std::int64_t>>>;

std::vector<std::int64_t> indices(const Index& index) {
  if (!index) return {};
  if (const auto* one = std::get_if<std::int64_t>(&*index)) return {*one};
  return std::get<std::vector<std::int64_t>>(*index);
}

Where where(const Index& prompt, const Index& pos, const Index& head, const Index& key,
            const Index& feature) {
  return {indices(prompt), indices(pos), indices(head), indices(key), indices(feature)};
}

// Defines a function whose last arguments are the places of an edit: prompt=, pos=, head=, key=, feature=.
template <class Make, class... Args>
void def_edit(nb::module_& m, const char* name, const char* doc, const Make& make,
              const Args&... args) {
  m.def(name, make, args..., nb::kw_only(), "prompt"_a = nb::none(), "pos"_a = nb::none(),
        "head"_a = nb::none(), "key"_a = nb::none(), "feature"_a = nb::none(), doc);
}

constexpr const char* kWhere =
    " prompt=, pos=, head=, key= and feature= are an index or a list of them: what of the site is "
    "edited; everything where none is given.";

Tensor kept(nb::handle array) {
  return to_tensor(array).clone();
}  // what Python changes later changes no edit

void add_given(nb::module_& m) {
  static const std::string replace_doc =
      std::string(
          "The value takes the place of the site's: of its shape, or anything that broadcasts to "
          "it. No gradient flows into it.") +
      kWhere;
  def_edit(
      m, "replace", replace_doc.c_str(),
      [](const std::string& site, nb::handle value, const std::string& name, const Index& prompt,
         const Index& pos, const Index& head, const Index& key, const Index& feature) {
        return replace(Site{site}, kept(value), where(prompt, pos, head, key, feature), name);
      },
      "site"_a, "value"_a, "name"_a = "a given value");
  static const std::string zero_doc = std::string("Zero ablation.") + kWhere;
  def_edit(
      m, "zero", zero_doc.c_str(),
      [](const std::string& site, const Index& prompt, const Index& pos, const Index& head,
         const Index& key,
         const Index& feature) { return zero(Site{site}, where(prompt, pos, head, key, feature)); },
      "site"_a);
  static const std::string add_doc = std::string("Steering: factor * direction is added.") + kWhere;
  def_edit(
      m, "add", add_doc.c_str(),
      [](const std::string& site, nb::handle direction, double factor, const std::string& name,
         const Index& prompt, const Index& pos, const Index& head, const Index& key,
         const Index& feature) {
        return add(Site{site}, kept(direction), factor, where(prompt, pos, head, key, feature),
                   name);
      },
      "site"_a, "direction"_a, "factor"_a = 1.0, "name"_a = "a direction");
  static const std::string project_doc =
      std::string("What is along the direction is taken away: x - (x . u) u, u of length 1.") +
      kWhere;
  def_edit(
      m, "project_out", project_doc.c_str(),
      [](const std::string& site, nb::handle direction, const std::string& name,
         const Index& prompt, const Index& pos, const Index& head, const Index& key,
         const Index& feature) {
        return project_out(Site{site}, kept(direction), where(prompt, pos, head, key, feature),
                           name);
      },
      "site"_a, "direction"_a, "name"_a = "a direction");
  static const std::string scale_doc = std::string("factor * x.") + kWhere;
  def_edit(
      m, "scale", scale_doc.c_str(),
      [](const std::string& site, double factor, const Index& prompt, const Index& pos,
         const Index& head, const Index& key, const Index& feature) {
        return scale(Site{site}, factor, where(prompt, pos, head, key, feature));
      },
      "site"_a, "factor"_a);
  static const std::string detach_doc =
      std::string("The value stays, no gradient flows through it.") + kWhere;
  def_edit(
      m, "detach", detach_doc.c_str(),
      [](const std::string& site, const Index& prompt, const Index& pos, const Index& head,
         const Index& key, const Index& feature) {
        return detach(Site{site}, where(prompt, pos, head, key, feature));
      },
      "site"_a);
}

// Edits by what a run recorded: `run` is Results, or has them as run.results.
const Results& results_of(nb::handle run) {
  Results* results = nullptr;
  if (nb::try_cast(run, results) && results != nullptr) return *results;
  if (nb::hasattr(run, "results")) return *nb::cast<Results*>(run.attr("results"));
  throw GraphError("what was recorded is a run, or its results");
}

// What a run has of a site that may be said as everywhere: "2.z".
std::string recorded_name(const std::string& site, const Results& run) {
  return run.contains(site) ? site : app::full_patterns(site, run.names());
}

void add_recorded(nb::module_& m) {
  static const std::string from_doc = std::string(
                                          "Activation patching: the value that a run recorded at "
                                          "the site, or at another one (source).") +
                                      kWhere;
  def_edit(
      m, "from_run", from_doc.c_str(),
      [](const std::string& site, nb::handle run, const std::optional<std::string>& source,
         const Index& prompt, const Index& pos, const Index& head, const Index& key,
         const Index& feature) {
        return replace(Site{site},
                       results_of(run)[recorded_name(source.value_or(site), results_of(run))],
                       where(prompt, pos, head, key, feature), "a recorded run");
      },
      "site"_a, "run"_a, "source"_a = nb::none());
  static const std::string mean_doc = std::string(
                                          "Mean ablation: the mean over all prompts and positions "
                                          "of a run in which the site was fetched.") +
                                      kWhere;
  def_edit(
      m, "mean", mean_doc.c_str(),
      [](const std::string& site, nb::handle run, bool by_position, const Index& prompt,
         const Index& pos, const Index& head, const Index& key, const Index& feature) {
        const Where place = where(prompt, pos, head, key, feature);
        return by_position ? mean_by_position(Site{site}, results_of(run), place)
                           : mean(Site{site}, results_of(run), place);
      },
      "site"_a, "run"_a, "by_position"_a = false);
  static const std::string resample_doc =
      std::string(
          "Resample ablation: each prompt takes the value of another one of the run, in a random "
          "cycle by `seed`.") +
      kWhere;
  def_edit(
      m, "resample", resample_doc.c_str(),
      [](const std::string& site, nb::handle run, std::uint64_t seed, const Index& prompt,
         const Index& pos, const Index& head, const Index& key, const Index& feature) {
        return resample(Site{site}, results_of(run), random::Key{seed},
                        where(prompt, pos, head, key, feature));
      },
      "site"_a, "run"_a, "seed"_a = 0);
  static const std::string hold_doc =
      std::string(
          "Frozen at its value in a run: what is changed before the site does not reach past it.") +
      kWhere;
  def_edit(
      m, "hold", hold_doc.c_str(),
      [](const std::string& site, nb::handle run, const Index& prompt, const Index& pos,
         const Index& head, const Index& key, const Index& feature) {
        return hold(Site{site}, results_of(run), where(prompt, pos, head, key, feature));
      },
      "site"_a, "run"_a);
}

}  // namespace

Interventions to_interventions(nb::handle edits) {
  if (edits.is_none()) return {};
  Interventions* given = nullptr;
  if (nb::try_cast(edits, given) && given != nullptr) return *given;
  Edit* one = nullptr;
  if (nb::try_cast(edits, one) && one != nullptr) return Interventions({*one});
  std::vector<Edit> list;
  for (const nb::handle e : nb::cast<nb::iterable>(edits)) list.push_back(nb::cast<Edit>(e));
  return Interventions(std::move(list));
}

namespace {

// The sites that are meant, in full, and the head that "2.4.z" says.
std::vector<std::pair<std::string, std::optional<int>>> sites_meant(const std::string& typed,
                                                                    const Graph& graph) {
  const std::vector<std::string> names = graph.site_names();
  if (graph.find_site(typed) != nullptr) return {{typed, std::nullopt}};
  std::vector<std::pair<std::string, std::optional<int>>> all;
  for (const app::SitePattern& p : app::site_patterns(typed, names)) {
    for (const std::string& name : select_sites({p.patterns}, names))
      all.emplace_back(name, p.head);
  }
  return all;
}

// The edit at positions that are counted from the beginning: for each prompt its own, where they differ.
void settle_positions(Edit& e, const std::vector<nn::Tokens>& prompts) {
  std::vector<Where> settled;
  for (const Where& w : e.where) {
    if (std::all_of(w.pos.begin(), w.pos.end(), [](std::int64_t p) { return p >= 0; })) {
      settled.push_back(w);
      continue;
    }
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      const auto number = static_cast<std::int64_t>(i);
      if (!w.prompt.empty() &&
          std::find(w.prompt.begin(), w.prompt.end(), number) == w.prompt.end())
        continue;
      Where of_prompt = w;
      of_prompt.prompt = {number};
      for (std::int64_t& p : of_prompt.pos) {
        if (p < 0) p += std::ssize(prompts[i]);
        if (p < 0)
          throw ContextError(
              fmt::format("{}: prompt {} has {} tokens", e.to_text(), i, prompts[i].size()));
      }
      settled.push_back(std::move(of_prompt));
    }
  }
  e.where = std::move(settled);
}

}  // namespace

Interventions to_interventions(nb::handle edits, const Graph& graph,
                               const std::vector<nn::Tokens>& prompts) {
  const Interventions typed = to_interventions(edits);
  Interventions settled;
  bool first = true;
  for (const std::vector<Edit>& stage : typed.stages()) {
    std::vector<Edit> made;
    for (const Edit& e : stage) {
      for (const auto& [site, head] : sites_meant(e.site.name, graph)) {
        Edit one = e;
        one.site = Site{site};
        if (head) {
          if (one.where.empty()) one.where.emplace_back();
          for (Where& w : one.where) {
            if (!w.head.empty())
              throw Error(ErrorKind::usage,
                          fmt::format("{} says its head itself; leave out head=", e.site.name));
            w.head = {*head};
          }
        }
        if (!prompts.empty()) settle_positions(one, prompts);
        made.push_back(std::move(one));
      }
    }
    const Interventions of_stage(std::move(made));
    settled = first ? of_stage : settled.then(of_stage);
    first = false;
  }
  return settled;
}

void add_edits(nb::module_& m) {
  nb::class_<Edit>(m, "Edit",
                   "One edit of a site: made by replace, zero, add, project_out, scale, detach, "
                   "from_run, mean, resample, hold.")
      .def_prop_ro("site", [](const Edit& e) { return e.site.name; })
      .def_prop_ro("action", [](const Edit& e) { return std::string(name_of(e.action)); })
      .def("__repr__", &Edit::to_text);
  nb::class_<Interventions>(
      m, "Interventions",
      "Edits that are made together; a.then(b) makes b act on what a has changed.")
      .def("__init__", [](Interventions* self,
                          nb::args edits) { new (self) Interventions(to_interventions(edits)); })
      .def(
          "then",
          [](const Interventions& a, nb::handle later) { return a.then(to_interventions(later)); },
          "later"_a)
      .def(
          "to_json", [](const Interventions& a) { return to_json(a); }, "Numbers keep their bits.")
      .def_static(
          "from_json", [](const std::string& text) { return interventions_from_json(text); },
          "text"_a, "Raises FileError, naming the place, for what is malformed.")
      .def("__repr__", &Interventions::to_text);
  add_given(m);
  add_recorded(m);
  m.def(
      "intervene",
      [](const Graph& g, nb::handle edits) { return intervene(g, to_interventions(edits, g, {})); },
      "graph"_a, "edits"_a,
      "Writes every edit into the graph. Its inputs (edit.N.where, ...) are fed by "
      "model.run_graph(..., edits=edits), or by edit_feeds. Raises SiteError, ShapeError, "
      "GraphError.");
  m.def(
      "edit_feeds",
      [](const Graph& g, nb::handle edits, const nb::dict& feeds) {
        return to_dict(with_interventions(g, to_interventions(edits, g, {}), to_feeds(g, feeds)));
      },
      "graph"_a, "edits"_a, "feeds"_a = nb::dict(),
      "{input: array}: the feeds of a graph that intervene made, with those of its edits. Raises "
      "GraphError for an index outside the "
      "batch and for two edits of one element.");
}

}  // namespace vitrine::python

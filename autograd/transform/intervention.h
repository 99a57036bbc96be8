// Interventions: activation patching, ablation and steering, as plain values, and the
// transformation that writes them into a graph.
//
//   Interventions what = {replace(site::resid_post(2), clean[site::resid_post(2)], {.pos = {4}}),
//                         zero(site::z(3), {.head = {6}})};
//   Graph edited = intervene(graph, what);
//   Results r = compile(edited, fetch(value("logits")))
//                   .run(with_interventions(edited, what, feeds), parameters);
//
// An edit is `select(mask, value, x)` over the value x that arrives at the site. Masks and values
// are feeds, so that one plan serves every position, head and value; no gradient flows into them. A
// replacement of everything keeps nothing of x: what only leads there is dead code and is not
// computed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "autograd/graph/builder.h"
#include "autograd/graph/feeds.h"

namespace vitrine {

// Elements of a site's value: the indices along its axes; an axis without indices is taken whole.
// `prompt` and `pos` are the sequence and the position of packed rows. At a pattern or its scores
// pos is the query (destination) and key the source position.
struct Where {
  std::vector<std::int64_t> prompt, pos, head, key, feature;
  friend bool operator==(const Where&, const Where&) = default;
};
struct WhereList {  // one list of a Where, and the word for it
  const char* word;
  std::vector<std::int64_t> Where::*indices;
};
inline constexpr WhereList kWhereLists[] = {{"prompt", &Where::prompt},
                                            {"pos", &Where::pos},
                                            {"head", &Where::head},
                                            {"key", &Where::key},
                                            {"feature", &Where::feature}};

struct Edit {
  enum class Action {
    replace,      // value
    zero,         // 0
    add,          // x + factor value: steering
    project_out,  // x - (x . u) u along the last axis, u = value / |value|
    scale,        // factor x
    detach        // x, but no gradient flows through it
  };
  Site site;
  Action action = Action::zero;
  std::vector<Where> where;  // their union; none: everywhere
  Tensor value;              // replace, add, project_out
  double factor = 1;         // add, scale
  std::string from;          // what people call the value: "clean"

  // Where the value of a replace comes from, for printing: what it does is the same. See
  // transform/recorded.h.
  enum class Origin { given, held, mean, mean_by_position, resampled };
  Origin origin = Origin::given;
  std::vector<std::int64_t> permutation;  // resampled: prompt i is given recorded prompt
                                          // permutation[i]

  std::string to_text() const;  // "blocks.2.hook_resid_post[pos 4] = clean"
};
std::string_view name_of(Edit::Action action);
bool has_value(Edit::Action action);   // replace, add, project_out
bool has_factor(Edit::Action action);  // add, scale
std::string_view name_of(Edit::Origin origin);

// The value of `replace` and `add` has the site's shape: packed rows, or unpacked as Results gives
// it when all prompts have one length, or anything that broadcasts to one of the two, such as a
// direction [feature] or one prompt's [1, position, feature] for all of them.
Edit replace(const Site& site, const Tensor& value, const Where& where = {},
             std::string_view from = "a given value");
Edit zero(const Site& site, const Where& where = {});
Edit add(const Site& site, const Tensor& direction, double factor = 1, const Where& where = {},
         std::string_view from = "a direction");
Edit project_out(const Site& site, const Tensor& direction, const Where& where = {},
                 std::string_view from = "a direction");
Edit scale(const Site& site, double factor, const Where& where = {});
Edit detach(const Site& site, const Where& where = {});

// Edits in stages: those of one stage are made together, those of the next after them.
class Interventions {
 public:
  Interventions() = default;
  Interventions(std::initializer_list<Edit> edits) : stages_{edits} {}
  explicit Interventions(std::vector<Edit> edits) : stages_{std::move(edits)} {}

  // Composes two interventions: `later` acts on what these have changed. This is the only way in
  // which edits may overlap, except for adds, whose order does not matter.
  Interventions then(const Interventions& later) const;

  const std::vector<std::vector<Edit>>& stages() const { return stages_; }
  std::string to_text() const;  // one line an edit

  // The same edits, whose inputs in a graph are NAME.N.where, ... instead of edit.N.where, ...: so
  // that they can be written into a graph before others.
  Interventions named(std::string name) const;
  const std::string& name() const { return name_; }

 private:
  std::vector<std::vector<Edit>> stages_;
  std::string name_ = "edit";
};

// Writes every edit into a graph. Edits add inputs: edit.N.where (boolean) and, where the action
// has one, edit.N.value and edit.N.factor, N counting through all stages: graphs of edits that
// differ in their numbers alone are equal. Edits of one stage that do the same to different
// elements of one site share the inputs of the first of them, whose value is a table with the shape
// of the site: a thousand edits of a site cost as much as one. Sites inside composites are
// expanded. Throws SiteError for a site that is not there, ShapeError for a value that does not
// fit, and GraphError for a selection along an axis that the site does not have, and for a graph
// that has edits of this name: all are made at once. Edits of another name act on what those that
// are there have changed.
Graph intervene(const Graph& graph, const Interventions& what);

// Edits with the same structure give the same graph: sites, actions and shapes, without numbers.
// Throws SiteError for a site that is not there.
std::vector<std::string> structure_of(const Graph& graph, const Interventions& what);

// The rows of the feeds are whole texts, or a part of a longer one whose other rows are computed in
// other runs (generation with a KV cache).
enum class Text { whole, part };

// Adds the inputs of the edits to `feeds`, which must have the row tables already. Throws
// GraphError for an index outside the batch, a selection of nothing, and two edits of one stage
// that change the same element (unless both add), and NumericError for a direction to be projected
// out, of an element that is selected, that has no length. In a part of a text, a position that is
// not among the rows is not an error: it is another run's.
Feeds with_interventions(const Graph& edited, const Interventions& what, const Feeds& feeds,
                         Text text = Text::whole);

// ---- the formula of one edit --------------------------------------------------------------------
// Emits the formula of an action, for values of the given type. x is what arrives (replace and zero
// do not read it), `value` broadcasts to it, `factor` multiplies (add, scale).
Value action_on(Builder& b, Edit::Action action, const Type& type, const Value& x,
                const Value& value, const Value& factor);

// The value of a replace, add or project_out in the site's dtype, contiguous: as it was given when
// that broadcasts to the packed shape, and otherwise packed into it. Throws ShapeError when it does
// not fit, GraphError when the action has no value, and NumericError for one direction that is to
// be projected out and has no length.
Tensor packed_value(const Graph& graph, const Edit& edit);

}  // namespace vitrine

// Index selection: the elements of a site's value that an edit changes, an axis at a time, and
// conflicts between the edits of one stage.
#pragma once

#include <map>
#include <string>

#include "autograd/transform/intervention.h"

namespace vitrine {

// The sequence and position of each packed row, read once for many edits.
class RowPlaces {
 public:
  RowPlaces() = default;  // there are none
  RowPlaces(std::vector<std::int64_t> sequence, std::vector<std::int64_t> position);

  std::int64_t sequences() const { return sequences_; }  // one more than the largest
  std::int64_t positions() const { return positions_; }
  // "prompt 0, pos 2"; "" where there are none.
  std::string text_of(std::int64_t row) const;

  // The rows of these sequences at these positions, increasing; an empty list takes all. Takes time
  // in proportion to the rows that have a position (or, without positions, a sequence) of the list.
  std::vector<std::int64_t> rows(const std::vector<std::int64_t>& sequences,
                                 const std::vector<std::int64_t>& positions) const;

 private:
  std::vector<std::int64_t> sequence_, position_;
  std::vector<std::int64_t> by_sequence_, by_position_;  // rows, in the order of each
  std::int64_t sequences_ = 0, positions_ = 0;
};
// Of the row table that `feeds` has for the graph. Throws GraphError when it is not there.
RowPlaces row_places(const Graph& graph, const Feeds& feeds);

// The indices of a selection along one axis: a Where is the product of those of all axes.
struct Along {
  bool all = true;
  std::vector<std::int64_t> indices;  // not all: increasing
};
using Selected = std::vector<Along>;  // of each axis

// What each Where of an edit selects at its site; an edit without any selects everything. Throws
// GraphError for an axis that the site does not have and an index outside the batch; in a part of a
// text, a position that is not among the rows is not an error.
std::vector<Selected> selected(const SiteEntry& site, const Edit& edit, const RowPlaces& rows,
                               Text text = Text::whole);

// Looks up the sites of edits. Those of a long list mostly follow others of the same site.
class SitesOf {
 public:
  explicit SitesOf(const Graph& graph) : graph_(graph) {}
  const SiteEntry& operator()(const Edit& e) {
    if (last_ == nullptr || last_->name != e.site.name) last_ = &graph_.site(e.site.name);
    return *last_;
  }

 private:
  const Graph& graph_;
  const SiteEntry* last_ = nullptr;
};

// For each element of the site's whole value, packed and row-major: 1 where the edit changes it.
// `feeds` has the row tables. Throws SiteError for a site that is not there, and what `selected`
// does; a selection of nothing is all 0.
std::vector<std::uint8_t> selection(const Graph& graph, const Edit& edit, const Feeds& feeds);

// Whether a Where of the edit selects along this axis.
bool selects_along(const Edit& edit, Axis axis);

// The site's shape with 1 for each axis along which no Where selects.
Shape selected_shape(const Edit& edit, const SiteEntry& site);

// Throws GraphError when `where`, of the edit, selects along an axis which the site does not have.
void check_axes(const Edit& edit, const Where& where, const SiteEntry& site);

// Calls f(index) for each selected element of `shape`, row-major. An axis of which everything is
// selected may have size 1.
template <class F>
void each_selected(const Selected& along, const Shape& shape, const F& f, int axis = 0,
                   std::int64_t before = 0) {
  if (axis == shape.size()) return f(before);
  const Along& on = along[static_cast<std::size_t>(axis)];
  const std::int64_t first = before * shape[axis];
  for (std::int64_t i = 0; i < shape[axis] && on.all; ++i)
    each_selected(along, shape, f, axis + 1, first + i);
  for (const std::int64_t i : on.indices) each_selected(along, shape, f, axis + 1, first + i);
}

// Conflict detection: which edit changes which element in one stage. For each site that has more
// than one edit, the first edit of each element, so that what is new is compared with one other and
// not with all before it.
class Owners {
 public:
  Owners(const Graph& graph, const std::vector<Edit>& stage);

  bool counts(const Edit& e) { return site_of(e) != nullptr; }

  // Throws GraphError when edit `number` of the stage, with what it selects, changes what another
  // has changed, unless both add. `rows` names the place.
  void claim(int number, const std::vector<Selected>& parts, const RowPlaces& rows);

 private:
  struct Site {
    Shape shape;             // 1 along axes that no edit of the site speaks of
    std::vector<int> owner;  // of each element: the number of its first edit; -1: none
  };
  bool adds(int number) const {
    return stage_[static_cast<std::size_t>(number)].action == Edit::Action::add;
  }
  Site* site_of(const Edit& e);  // null when the site has no other edit
  // The place of an element of `shape`: "prompt 0, pos 2, head 4"; "" for all of the site.
  std::string place_of(const Edit& e, const Shape& shape, std::int64_t element,
                       const RowPlaces& rows);

  const std::vector<Edit>& stage_;
  SitesOf entries_;
  std::map<const SiteEntry*, Site> sites_;
};

// Throws GraphError when two edits of one stage change the same element, unless both add, and what
// `selected` throws. Takes time in proportion to what is selected.
void check_overlaps(const Graph& graph, const Interventions& what, const RowPlaces& rows);

}  // namespace vitrine

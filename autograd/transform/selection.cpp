#include "autograd/transform/selection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "tensor/error.h"

namespace vitrine {

// ---- rows -------------------------------------------------------------------------------------
namespace {

// Row numbers in the order of their key.
std::vector<std::int64_t> ordered_by(const std::vector<std::int64_t>& key) {
  std::vector<std::int64_t> rows(key.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::stable_sort(rows.begin(), rows.end(), [&](std::int64_t a, std::int64_t b) {
    return key[static_cast<std::size_t>(a)] < key[static_cast<std::size_t>(b)];
  });
  return rows;
}

std::int64_t after_largest(const std::vector<std::int64_t>& v) {
  return v.empty() ? 0 : *std::max_element(v.begin(), v.end()) + 1;
}

std::vector<std::int64_t> sorted(std::vector<std::int64_t> v) {
  std::sort(v.begin(), v.end());
  v.erase(std::unique(v.begin(), v.end()), v.end());
  return v;
}

// Calls f(row) for each row whose key is k.
template <class F>
void each_with(std::int64_t k, const std::vector<std::int64_t>& key,
               const std::vector<std::int64_t>& rows_by_key, const F& f) {
  const auto less = [&](std::int64_t row, std::int64_t value) {
    return key[static_cast<std::size_t>(row)] < value;
  };
  for (auto it = std::lower_bound(rows_by_key.begin(), rows_by_key.end(), k, less);
       it != rows_by_key.end() && key[static_cast<std::size_t>(*it)] == k; ++it)
    f(*it);
}

}  // namespace

RowPlaces::RowPlaces(std::vector<std::int64_t> sequence, std::vector<std::int64_t> position)
    : sequence_(std::move(sequence)),
      position_(std::move(position)),
      by_sequence_(ordered_by(sequence_)),
      by_position_(ordered_by(position_)),
      sequences_(after_largest(sequence_)),
      positions_(after_largest(position_)) {}

std::vector<std::int64_t> RowPlaces::rows(const std::vector<std::int64_t>& sequences,
                                          const std::vector<std::int64_t>& positions) const {
  std::vector<std::int64_t> found;
  if (positions.empty()) {
    for (const std::int64_t s : sequences)
      each_with(s, sequence_, by_sequence_, [&](std::int64_t row) { found.push_back(row); });
  } else {
    const std::vector<std::int64_t> wanted = sorted(sequences);
    for (const std::int64_t p : positions) {
      each_with(p, position_, by_position_, [&](std::int64_t row) {
        if (wanted.empty() || std::binary_search(wanted.begin(), wanted.end(),
                                                 sequence_[static_cast<std::size_t>(row)]))
          found.push_back(row);
      });
    }
  }
  return sorted(std::move(found));
}

std::string RowPlaces::text_of(std::int64_t row) const {
  const auto at = static_cast<std::size_t>(row);
  if (at >= sequence_.size()) return "";
  return fmt::format("prompt {}, pos {}", sequence_[at], position_[at]);
}

RowPlaces row_places(const Graph& graph, const Feeds& feeds) {
  if (!graph.rows()) return {};
  const auto read = [&](NodeId id) {
    const std::string& name = std::get<LeafName>(graph.node(id).attributes).name;
    const auto it = feeds.find(name);
    if (it == feeds.end()) throw GraphError(fmt::format("the feeds lack the row table '{}'", name));
    return it->second.to_vector<std::int64_t>();
  };
  return {read(graph.rows()->sequence), read(graph.rows()->position)};
}

// ---- axes -------------------------------------------------------------------------------------
namespace {

using Indices = std::vector<std::int64_t> Where::*;

// The lists of a Where that speak of an axis: of a row axis, two.
struct Lists {
  Indices one = nullptr, other = nullptr;
};
Lists lists_of(Axis axis) {
  switch (axis) {
    case Axis::row:
      return {&Where::prompt, &Where::pos};
    case Axis::batch:
      return {&Where::prompt};
    case Axis::pos:
    case Axis::query:
      return {&Where::pos};
    case Axis::head:
      return {&Where::head};
    case Axis::key:
      return {&Where::key};
    case Axis::feature:
      return {&Where::feature};
    case Axis::other:
      return {};
  }
  return {};
}

bool speaks_of(const Where& w, Axis axis) {
  const Lists lists = lists_of(axis);
  return (lists.one != nullptr && !(w.*lists.one).empty()) ||
         (lists.other != nullptr && !(w.*lists.other).empty());
}

[[noreturn]] void refuse_index(const Edit& e, const char* word, std::int64_t i, std::int64_t size) {
  throw GraphError(fmt::format("{}: {} {} is outside 0 to {}", e.to_text(), word, i, size - 1));
}

void check_indices(const Edit& e, const Where& w, const SiteEntry& site, const RowPlaces& rows,
                   Text text) {
  for (int a = 0; a < site.type.shape.size(); ++a) {
    const Axis axis = site.axes[static_cast<std::size_t>(a)];
    for (const WhereList& l : kWhereLists) {
      const Lists lists = lists_of(axis);
      if (l.indices != lists.one && l.indices != lists.other) continue;
      std::int64_t size = site.type.shape[a];
      if (axis == Axis::row) {
        if (l.indices == &Where::prompt) size = rows.sequences();
        else size = text == Text::whole ? rows.positions() : INT64_MAX;
      }
      for (const std::int64_t i : w.*l.indices) {
        if (i < 0 || i >= size) refuse_index(e, l.word, i, size);
      }
    }
  }
}

}  // namespace

bool selects_along(const Edit& e, Axis axis) {
  return std::any_of(e.where.begin(), e.where.end(),
                     [&](const Where& w) { return speaks_of(w, axis); });
}

Shape selected_shape(const Edit& e, const SiteEntry& site) {
  Shape shape = site.type.shape;
  for (int a = 0; a < shape.size(); ++a) {
    if (!selects_along(e, site.axes[static_cast<std::size_t>(a)])) shape[a] = 1;
  }
  return shape;
}

void check_axes(const Edit& e, const Where& w, const SiteEntry& site) {
  const auto known = [&](const WhereList& l) {
    return std::any_of(site.axes.begin(), site.axes.end(), [&](Axis axis) {
      const Lists lists = lists_of(axis);
      return lists.one == l.indices || lists.other == l.indices;
    });
  };
  for (const WhereList& l : kWhereLists) {
    if ((w.*l.indices).empty() || known(l)) continue;
    std::vector<std::string_view> names;
    for (const Axis a : site.axes) names.push_back(name_of(a));
    throw GraphError(fmt::format("{}: the site has no axis for '{}'; its axes are [{}]",
                                 e.to_text(), l.word, fmt::join(names, ", ")));
  }
}

// ---- selections -------------------------------------------------------------------------------
namespace {

Selected along_site(const SiteEntry& site, const Edit& edit, const Where& where,
                    const RowPlaces& rows, Text text) {
  check_axes(edit, where, site);
  check_indices(edit, where, site, rows, text);
  Selected along(static_cast<std::size_t>(site.type.shape.size()));
  for (std::size_t a = 0; a < along.size(); ++a) {
    const Axis axis = site.axes[a];
    along[a].all = !speaks_of(where, axis);
    if (along[a].all) continue;
    along[a].indices =
        axis == Axis::row ? rows.rows(where.prompt, where.pos) : sorted(where.*lists_of(axis).one);
  }
  return along;
}

}  // namespace

std::vector<Selected> selected(const SiteEntry& site, const Edit& edit, const RowPlaces& rows,
                               Text text) {
  std::vector<Selected> parts;
  if (edit.where.empty()) {
    parts.push_back(along_site(site, edit, {}, rows, text));
    return parts;
  }
  parts.reserve(edit.where.size());
  for (const Where& w : edit.where) parts.push_back(along_site(site, edit, w, rows, text));
  return parts;
}

std::vector<std::uint8_t> selection(const Graph& graph, const Edit& edit, const Feeds& feeds) {
  const SiteEntry& site = graph.site(edit.site.name);
  const Shape& shape = site.type.shape;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(numel(shape)), 0);
  for (const Selected& along : selected(site, edit, row_places(graph, feeds))) {
    each_selected(along, shape, [&](std::int64_t i) { mask[static_cast<std::size_t>(i)] = 1; });
  }
  return mask;
}

// ---- overlaps ---------------------------------------------------------------------------------
Owners::Owners(const Graph& graph, const std::vector<Edit>& stage)
    : stage_(stage), entries_(graph) {
  std::map<const SiteEntry*, int> edits;
  for (const Edit& e : stage) ++edits[&entries_(e)];
  for (const auto& [entry, count] : edits)
    if (count > 1) sites_.try_emplace(entry);
  for (const Edit& e : stage) {
    Site* site = site_of(e);
    if (site == nullptr) continue;
    const Shape spoken = selected_shape(e, entries_(e));
    if (site->shape.size() != spoken.size()) site->shape = spoken;
    for (int a = 0; a < spoken.size(); ++a)
      if (spoken[a] != 1) site->shape[a] = spoken[a];
  }
}

Owners::Site* Owners::site_of(const Edit& e) {
  const auto at = sites_.find(&entries_(e));
  return at == sites_.end() ? nullptr : &at->second;
}

std::string Owners::place_of(const Edit& e, const Shape& shape, std::int64_t element,
                             const RowPlaces& rows) {
  std::vector<std::string> texts;
  for (int a = shape.size() - 1; a >= 0; --a) {
    const std::int64_t at = element % shape[a];
    element /= shape[a];
    if (shape[a] == 1 && entries_(e).type.shape[a] != 1) continue;  // no edit speaks of it
    const Axis axis = entries_(e).axes[static_cast<std::size_t>(a)];
    std::string text = axis == Axis::row ? rows.text_of(at) : "";
    if (text.empty()) text = fmt::format("{} {}", name_of(axis), at);
    texts.insert(texts.begin(), std::move(text));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

void Owners::claim(int number, const std::vector<Selected>& parts, const RowPlaces& rows) {
  const Edit& e = stage_[static_cast<std::size_t>(number)];
  Site* site = site_of(e);
  if (site == nullptr) return;
  auto& [shape, owner] = *site;
  if (owner.empty()) owner.assign(static_cast<std::size_t>(numel(shape)), -1);
  int first = number;  // the first edit that this one overlaps, and where
  std::int64_t shared = 0;
  for (const Selected& along : parts) {
    each_selected(along, shape, [&](std::int64_t i) {
      int& o = owner[static_cast<std::size_t>(i)];
      if (o < 0) o = number;
      if (o >= first || (adds(number) && adds(o))) return;
      first = o;
      shared = i;
    });
  }
  if (first == number) return;
  const std::string place = place_of(e, shape, shared, rows);
  throw GraphError(
      fmt::format("'{}' and '{}' change the same element; say which comes first with then(), or "
                  "give them other places: both change {}",
                  stage_[static_cast<std::size_t>(first)].to_text(), e.to_text(),
                  place.empty() ? "all of the site" : place));
}

void check_overlaps(const Graph& graph, const Interventions& what, const RowPlaces& rows) {
  for (const auto& stage : what.stages()) {
    Owners owners(graph, stage);
    SitesOf sites(graph);
    for (std::size_t i = 0; i < stage.size(); ++i) {
      if (owners.counts(stage[i]))
        owners.claim(static_cast<int>(i), selected(sites(stage[i]), stage[i], rows), rows);
    }
  }
}

}  // namespace vitrine

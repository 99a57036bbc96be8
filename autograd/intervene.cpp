// intervene and with_interventions: edits written into a graph, and what is fed to it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "autograd/intervention.h"
#include "autograd/ops.h"
#include "tensor/error.h"

namespace vitrine {

// ---- the transformation -----------------------------------------------------------------------
namespace {

std::string where_name(int n) { return fmt::format("edit.{}.where", n); }
std::string value_name(int n) { return fmt::format("edit.{}.value", n); }
std::string factor_name(int n) { return fmt::format("edit.{}.factor", n); }

bool has_factor(Edit::Action a) { return a == Edit::Action::add || a == Edit::Action::scale; }

// Nothing of what arrives is kept, so nothing that only leads there is computed.
bool replaces_all(const Edit& e) { return e.action == Edit::Action::replace && e.where.empty(); }

// Calls f(edit, number) in order.
template <class F>
void for_each_edit(const Interventions& what, const F& f) {
  int n = 0;
  for (const auto& stage : what.stages()) {
    for (const Edit& e : stage) f(e, n++);
  }
}

using Indices = std::vector<std::int64_t> Where::*;

// The lists of a Where that speak of an axis: of a row axis, two.
std::vector<Indices> lists_of(Axis axis) {
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

bool speaks_of(const Edit& e, Axis axis) {
  for (const Indices list : lists_of(axis)) {
    for (const Where& w : e.where) {
      if (!(w.*list).empty()) return true;
    }
  }
  return false;
}

// An axis that no selection speaks of has size 1 in the mask.
Shape mask_shape(const Edit& e, const Axes& axes, const Shape& shape) {
  Shape mask = shape;
  for (int a = 0; a < shape.size(); ++a) {
    if (!speaks_of(e, axes[static_cast<std::size_t>(a)])) mask[a] = 1;
  }
  return mask;
}

void check_axes(const Edit& e, const Axes& axes) {
  const auto known = [&](const WhereList& l) {
    return std::any_of(axes.begin(), axes.end(), [&](Axis axis) {
      const std::vector<Indices> lists = lists_of(axis);
      return std::find(lists.begin(), lists.end(), l.indices) != lists.end();
    });
  };
  for (const Where& w : e.where) {
    for (const WhereList& l : kWhereLists) {
      if ((w.*l.indices).empty() || known(l)) continue;
      std::vector<std::string_view> names;
      for (const Axis a : axes) names.push_back(name_of(a));
      throw GraphError(fmt::format("{}: the site has no axis for '{}'; its axes are [{}]",
                                   e.to_text(), l.word, fmt::join(names, ", ")));
    }
  }
}

// The packed type of the value feed: broadcastable ones keep their own shape.
Shape feed_shape(const Edit& e, const Shape& site) {
  const Shape& given = e.value.shape();
  if (given.size() <= site.size()) {
    bool fits = true;
    for (int i = 1; i <= given.size(); ++i) {
      const std::int64_t a = given[given.size() - i], b = site[site.size() - i];
      fits = fits && (a == b || a == 1);
    }
    if (fits) return given;
  }
  return site;  // unpacked: rearranged by with_interventions
}

// What is projected out is a direction. (One number may be added to every feature.)
void check_direction(const Edit& e, int rank) {
  if (e.action == Edit::Action::project_out && rank == 0)
    throw ShapeError(fmt::format("{}: the value must have the site's feature axis", e.to_text()));
}

Value edited(Builder& b, const Edit& e, int n, const Value& x, const Axes& axes) {
  check_axes(e, axes);
  if (replaces_all(e)) {
    return broadcast_to(b.input(value_name(n), {x.dtype(), feed_shape(e, x.shape())}), x.shape());
  }
  const Value where = b.input(where_name(n), {DType::boolean, mask_shape(e, axes, x.shape())});
  Value value;
  if (has_value(e.action)) {
    value = b.input(value_name(n), {x.dtype(), feed_shape(e, x.shape())});
    check_direction(e, value.rank());
  }
  Value factor;
  if (has_factor(e.action)) factor = b.input(factor_name(n), {x.dtype(), {}});
  const Value changed = action_on(b, e.action, x.type(), x, value, factor);
  return select(where, changed, x);
}

}  // namespace

Value action_on(Builder& b, Edit::Action action, const Type& type, const Value& x,
                const Value& value, const Value& factor) {
  switch (action) {
    case Edit::Action::replace:
      return broadcast_to(value, type.shape);
    case Edit::Action::zero:
      return broadcast_to(b.scalar(0, type.dtype), type.shape);
    case Edit::Action::add:
      return x + value * factor;
    case Edit::Action::project_out: {
      Shape whole = value.shape();
      whole[whole.size() - 1] = type.shape.back();  // one number stands for all features
      const Value u = broadcast_to(value, whole);
      const Value unit = u * rsqrt(sum(square(u), {u.rank() - 1}, true));
      return x - sum(x * unit, {x.rank() - 1}, true) * unit;
    }
    case Edit::Action::scale:
      return x * factor;
    case Edit::Action::detach:
      return detach(x);
  }
  return x;
}

Graph intervene(const Graph& graph, const Interventions& what) {
  for (const std::string& used : {where_name(0), value_name(0)}) {
    if (graph.leaf(used) == kNoNode) continue;  // a second one would silently be the first
    throw GraphError(fmt::format(
        "the graph has been edited already (it has the input '{}'); write all edits as one "
        "Interventions, in order with then()",
        used));
  }
  std::vector<std::string> names;
  for_each_edit(what, [&](const Edit& e, int) {
    graph.site(e.site.name);  // throws for what is not there
    names.push_back(e.site.name);
  });
  Builder b(expand_sites(graph, names));
  for_each_edit(what, [&](const Edit& e, int n) {
    const NodeId site = b.at(e.site).id();
    const Value x = b.value(b.node(site).inputs[0]);
    const Builder::Origin origin(b, b.node(site).scope, b.node(site).line);
    b.edit_site(e.site.name, edited(b, e, n, x, graph.site(e.site.name).axes));
  });
  return std::move(b).finish();
}

// ---- feeds ------------------------------------------------------------------------------------
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

namespace {

bool contains(const std::vector<std::int64_t>& list, std::int64_t i) {
  return list.empty() || std::find(list.begin(), list.end(), i) != list.end();
}

// Whether index i of an axis is selected.
bool selects(const Where& w, Axis axis, std::int64_t i, const RowPlaces& rows) {
  switch (axis) {
    case Axis::row:
      return contains(w.prompt, rows.sequence[static_cast<std::size_t>(i)]) &&
             contains(w.pos, rows.position[static_cast<std::size_t>(i)]);
    case Axis::batch:
      return contains(w.prompt, i);
    case Axis::pos:
    case Axis::query:
      return contains(w.pos, i);
    case Axis::head:
      return contains(w.head, i);
    case Axis::key:
      return contains(w.key, i);
    case Axis::feature:
      return contains(w.feature, i);
    case Axis::other:
      return true;
  }
  return true;
}

void check_indices(const Edit& e, const Where& w, const Axes& axes, const Shape& shape,
                   const RowPlaces& rows, Text text = Text::whole) {
  const auto check = [&](const char* word, const std::vector<std::int64_t>& indices,
                         std::int64_t size) {
    for (const std::int64_t i : indices) {
      if (i >= 0 && i < size) continue;
      throw GraphError(fmt::format("{}: {} {} is outside 0 to {}", e.to_text(), word, i, size - 1));
    }
  };
  const auto count = [](const std::vector<std::int64_t>& v) {
    return v.empty() ? 0 : *std::max_element(v.begin(), v.end()) + 1;
  };
  for (int a = 0; a < shape.size(); ++a) {
    switch (axes[static_cast<std::size_t>(a)]) {
      case Axis::row:
        check("prompt", w.prompt, count(rows.sequence));
        check("pos", w.pos, text == Text::whole ? count(rows.position) : INT64_MAX);
        break;
      case Axis::batch:
        check("prompt", w.prompt, shape[a]);
        break;
      case Axis::pos:
      case Axis::query:
        check("pos", w.pos, shape[a]);
        break;
      case Axis::head:
        check("head", w.head, shape[a]);
        break;
      case Axis::key:
        check("key", w.key, shape[a]);
        break;
      case Axis::feature:
        check("feature", w.feature, shape[a]);
        break;
      case Axis::other:
        break;
    }
  }
}

// What a Where selects along each axis of `shape`, the site's shape, or one with 1 along axes that
// are not spoken of.
std::vector<Along> along_axes(const Where& w, const Axes& axes, const Shape& shape,
                              const RowPlaces& rows) {
  std::vector<Along> along;
  for (int a = 0; a < shape.size(); ++a) {
    const Axis axis = axes[static_cast<std::size_t>(a)];
    const std::vector<Indices> lists = lists_of(axis);
    Along& on = along.emplace_back();
    on.all = std::all_of(lists.begin(), lists.end(),
                         [&](const Indices list) { return (w.*list).empty(); });
    for (std::int64_t i = 0; i < shape[a] && !on.all; ++i) {
      if (selects(w, axis, i, rows)) on.indices.push_back(i);
    }
  }
  return along;
}

// The same of each Where of an edit; an edit without any selects everything.
std::vector<std::vector<Along>> parts_of(const Edit& e, const Axes& axes, const Shape& shape,
                                         const RowPlaces& rows) {
  if (e.where.empty()) return {along_axes({}, axes, shape, rows)};
  std::vector<std::vector<Along>> parts;
  for (const Where& w : e.where) parts.push_back(along_axes(w, axes, shape, rows));
  return parts;
}

// Calls f(index) for each selected element of `shape`, row-major. An axis of which everything is
// selected may have size 1.
template <class F>
void each_selected(const std::vector<Along>& along, const Shape& shape, const F& f, int axis = 0,
                   std::int64_t before = 0) {
  if (axis == shape.size()) return f(before);
  const Along& on = along[static_cast<std::size_t>(axis)];
  const std::int64_t first = before * shape[axis];
  for (std::int64_t i = 0; i < shape[axis] && on.all; ++i)
    each_selected(along, shape, f, axis + 1, first + i);
  for (const std::int64_t i : on.indices) each_selected(along, shape, f, axis + 1, first + i);
}

// Sets what is selected to 1; whether that is anything.
bool mark(const std::vector<std::vector<Along>>& parts, const Shape& shape, std::uint8_t* mask) {
  bool any = false;
  for (const std::vector<Along>& along : parts) {
    each_selected(along, shape, [&](std::int64_t i) {
      mask[i] = 1;
      any = true;
    });
  }
  return any;
}

// Who changes which element in one stage: for each site that has more than one edit, the first edit
// of each element, so that what is new is compared with one other and not with all before it.
class Owners {
 public:
  Owners(const Graph& graph, const std::vector<Edit>& stage) : stage_(stage) {
    std::map<std::string_view, int> edits;
    for (const Edit& e : stage) ++edits[e.site.name];
    for (const Edit& e : stage) {
      if (edits[e.site.name] < 2) continue;
      const SiteEntry& site = graph.site(e.site.name);
      const auto [it, fresh] = sites_.try_emplace(e.site.name);
      Shape& shape = it->second.shape;  // 1 along axes that no edit of the site speaks of
      const Shape spoken = mask_shape(e, site.axes, site.type.shape);
      if (fresh) shape = spoken;
      for (int a = 0; a < shape.size(); ++a)
        if (spoken[a] != 1) shape[a] = spoken[a];
    }
  }

  bool counts(const Edit& e) const { return sites_.contains(e.site.name); }

  // Throws when edit `number` of the stage, with what it selects, changes what another has changed.
  void claim(int number, const std::vector<std::vector<Along>>& parts) {
    const Edit& e = stage_[static_cast<std::size_t>(number)];
    const auto at = sites_.find(e.site.name);
    if (at == sites_.end()) return;
    auto& [shape, owner] = at->second;
    if (owner.empty()) owner.assign(static_cast<std::size_t>(numel(shape)), -1);
    int first = number;  // the first edit that this one overlaps
    for (const std::vector<Along>& along : parts) {
      each_selected(along, shape, [&](std::int64_t i) {
        int& o = owner[static_cast<std::size_t>(i)];
        if (o < 0) o = number;
        else if (o != number && !(adds(number) && adds(o))) first = std::min(first, o);
      });
    }
    if (first == number) return;
    throw GraphError(
        fmt::format("'{}' and '{}' change the same element; say which comes first with then()",
                    stage_[static_cast<std::size_t>(first)].to_text(), e.to_text()));
  }

 private:
  struct Site {
    Shape shape;
    std::vector<int> owner;  // of each element: the number of its first edit; -1: none
  };
  bool adds(int number) const {
    return stage_[static_cast<std::size_t>(number)].action == Edit::Action::add;
  }
  const std::vector<Edit>& stage_;
  std::map<std::string, Site, std::less<>> sites_;
};

// Projecting out divides by the direction's length, which is computed in its own type.
void check_length(const Edit& e, const Tensor& direction) {
  const bool single = direction.dtype() == DType::f32;
  double squares = 0;
  for (const double x : direction.to_vector<double>())
    squares += single ? static_cast<double>(static_cast<float>(x * x)) : x * x;
  if (single) squares = static_cast<double>(static_cast<float>(squares));
  if (squares > 0 && std::isfinite(squares)) return;
  throw NumericError(fmt::format(
      "{}: the direction '{}' has no length that can be divided by: the squares of its {} numbers "
      "sum to {:g} in {}; give one that is not zero, of finite numbers of ordinary size",
      e.to_text(), e.from, direction.numel(), squares, name_of(direction.dtype())));
}

// The same of every direction that is projected out of a selected element. `shape`: the site's.
void check_lengths(const Edit& e, const Tensor& value, const Shape& shape,
                   const std::vector<std::vector<Along>>& parts) {
  if (e.action != Edit::Action::project_out || value.numel() == 0) return;
  const std::int64_t width = value.shape().back();
  if (value.numel() == width) return check_length(e, value.reshape({width}));
  Shape rows = shape;
  rows[rows.size() - 1] = 1;
  Shape whole = shape;
  whole[whole.size() - 1] = width;
  const Tensor all = value.broadcast_to(whole).contiguous().reshape({numel(whole) / width, width});
  std::vector<bool> checked(static_cast<std::size_t>(numel(rows)), false);
  for (std::vector<Along> along : parts) {
    along.back() = {};
    each_selected(along, rows, [&](std::int64_t r) {
      if (!checked[static_cast<std::size_t>(r)]) check_length(e, all.select(0, r));
      checked[static_cast<std::size_t>(r)] = true;
    });
  }
}

// Prompts and their length, when all have one: rows are then [prompts, length] side by side.
struct Uniform {
  std::int64_t prompts, length;
};
std::optional<Uniform> uniform_rows(const Graph& graph, std::int64_t rows) {
  if (!graph.rows()) return std::nullopt;
  const Shape& keys = graph.node(graph.rows()->keys).type.shape;  // [prompts, positions]
  if (keys[0] == 0 || rows != keys[0] * keys[1]) return std::nullopt;
  return Uniform{keys[0], keys[1]};
}

// A value as Results gives it ([batch, pos, ...], patterns [batch, head, query, key]; what has size
// 1 is repeated) as packed rows.
Tensor packed(const Graph& graph, const Edit& e, const Shape& wanted) {
  const SiteEntry& site = graph.site(e.site.name);
  const Axes& axes = site.axes;
  const Shape& rows = site.type.shape;
  const Tensor value = e.value.to(site.type.dtype);
  if (value.shape() == wanted) return value.contiguous();
  const bool by_row = !axes.empty() && axes[0] == Axis::row;
  if (by_row && value.rank() == rows.size() + 1) {
    const bool pattern = std::find(axes.begin(), axes.end(), Axis::key) != axes.end();
    const Tensor x = pattern && value.rank() == 4 ? value.permute({0, 2, 1, 3}) : value;
    const Uniform batch =
        uniform_rows(graph, rows[0]).value_or(Uniform{x.dim(0), x.dim(1)});  // without a row table
    Shape whole = rows;
    whole[0] = batch.length;
    whole.insert(0, batch.prompts);
    bool fits = batch.prompts * batch.length == rows[0];
    for (int a = 0; a < whole.size(); ++a)
      fits = fits && (x.shape()[a] == whole[a] || x.shape()[a] == 1);
    if (fits) return x.broadcast_to(whole).contiguous().reshape(rows);
  }
  throw ShapeError(fmt::format("{}: a value {} does not fit the site, which is {}{}", e.to_text(),
                               to_string(e.value.shape()), to_string(rows),
                               graph.rows() && by_row ? " (packed rows)" : ""));
}

}  // namespace

std::vector<std::uint8_t> selection(const Graph& graph, const Edit& edit, const Feeds& feeds) {
  const SiteEntry& site = graph.site(edit.site.name);
  const RowPlaces rows = row_places(graph, feeds);
  check_axes(edit, site.axes);
  for (const Where& w : edit.where) check_indices(edit, w, site.axes, site.type.shape, rows);
  const Shape& shape = site.type.shape;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(numel(shape)), 0);
  mark(parts_of(edit, site.axes, shape, rows), shape, mask.data());
  return mask;
}

void check_overlaps(const Graph& graph, const Interventions& what, const RowPlaces& rows) {
  for (const auto& stage : what.stages()) {
    Owners owners(graph, stage);
    for (std::size_t i = 0; i < stage.size(); ++i) {
      const Edit& e = stage[i];
      if (!owners.counts(e)) continue;
      std::vector<std::vector<Along>> parts;
      for (const Where& where : e.where.empty() ? std::vector<Where>{{}} : e.where)
        parts.push_back(selected_along(graph, e, where, rows));
      owners.claim(static_cast<int>(i), parts);
    }
  }
}

std::vector<Along> selected_along(const Graph& graph, const Edit& edit, const Where& where,
                                  const RowPlaces& rows) {
  const SiteEntry& site = graph.site(edit.site.name);
  check_axes(edit, site.axes);
  check_indices(edit, where, site.axes, site.type.shape, rows);
  return along_axes(where, site.axes, site.type.shape, rows);
}

Tensor packed_value(const Graph& graph, const Edit& edit) {
  if (!has_value(edit.action))
    throw GraphError(fmt::format("{}: '{}' has no value", edit.to_text(), name_of(edit.action)));
  const SiteEntry& site = graph.site(edit.site.name);
  const Tensor value = packed(graph, edit, feed_shape(edit, site.type.shape));
  check_direction(edit, value.rank());
  if (edit.action == Edit::Action::project_out && value.numel() == value.shape().back())
    check_length(edit, value.reshape({value.numel()}));
  return value;
}

Feeds with_interventions(const Graph& graph, const Interventions& what, const Feeds& feeds,
                         Text text) {
  Feeds out = feeds;
  const RowPlaces rows = row_places(graph, feeds);
  int n = 0;
  for (const auto& stage : what.stages()) {
    Owners owners(graph, stage);
    int number = 0;
    for (const Edit& e : stage) {
      const SiteEntry& site = graph.site(e.site.name);
      for (const Where& w : e.where) check_indices(e, w, site.axes, site.type.shape, rows, text);
      const std::vector<std::vector<Along>> parts = parts_of(e, site.axes, site.type.shape, rows);
      if (!replaces_all(e)) {
        const Shape& shape = graph.node(graph.leaf(where_name(n))).type.shape;
        Tensor chosen = Tensor::zeros(shape, DType::boolean);
        const bool any = mark(parts, shape, reinterpret_cast<std::uint8_t*>(chosen.view().data));
        if (text == Text::whole && !any)
          throw GraphError(fmt::format("{}: the selection is empty", e.to_text()));
        out.insert_or_assign(where_name(n), std::move(chosen));
      }
      owners.claim(number++, parts);
      if (has_value(e.action)) {
        const Tensor value = packed(graph, e, graph.node(graph.leaf(value_name(n))).type.shape);
        check_lengths(e, value, site.type.shape, parts);
        out[value_name(n)] = value;
      }
      if (has_factor(e.action)) out[factor_name(n)] = Tensor::full({}, site.type.dtype, e.factor);
      ++n;
    }
  }
  return out;
}

}  // namespace vitrine

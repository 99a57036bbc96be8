// intervene writes edits (patches, ablations) into a graph; with_interventions adds their feeds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/intervention.h"
#include "autograd/transform/selection.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// The inputs of edit `number` of Interventions of this name.
std::string where_name(const std::string& name, int n) {
  return fmt::format("{}.{}.where", name, n);
}
std::string value_name(const std::string& name, int n) {
  return fmt::format("{}.{}.value", name, n);
}
std::string factor_name(const std::string& name, int n) {
  return fmt::format("{}.{}.factor", name, n);
}

// Nothing of what arrives is kept, so nothing that only leads there is computed.
bool replaces_all(const Edit& e) { return e.action == Edit::Action::replace && e.where.empty(); }

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

// ---- groups -----------------------------------------------------------------------------------
// Edits of one stage that do the same to different elements of one site are written as one edit,
// whose value is a table with a number for each element of the site. A thousand edits then cost
// what one costs, and another thousand of the same site are served by the same plan.
struct Group {
  int number = 0;  // of its first edit: in the names of its inputs
  Edit::Action action = Edit::Action::zero;
  std::vector<const Edit*> edits;
  Shape mask;  // the site's shape with 1 for each axis along which none of them selects

  bool alone() const { return edits.size() == 1; }
  const Edit& first() const { return *edits.front(); }
};
struct Stage {
  std::vector<Group> groups;  // in the order of their first edits
  std::vector<int> group_of;  // of each edit
};

// Elements are projected out of the whole row that they are in, which must not change in between.
bool reads_others(const Edit& e, const SiteEntry& site) {
  return e.action == Edit::Action::project_out && !site.axes.empty() &&
         selects_along(e, site.axes.back());
}

bool joins(const Edit& e, const SiteEntry& site) {
  const bool real = site.type.dtype == DType::f32 || site.type.dtype == DType::f64;
  return real && !replaces_all(e) && !reads_others(e, site);
}

void add_to(Group& g, const Edit& e, const SiteEntry& site) {
  const Shape selected = selected_shape(e, site);
  if (g.edits.empty()) {
    g.action = e.action;
    g.mask = selected;
  } else if (e.action != g.action) {
    g.action = Edit::Action::replace;  // some by a value, some by 0
  }
  for (int a = 0; a < selected.size(); ++a)
    if (selected[a] != 1) g.mask[a] = selected[a];
  g.edits.push_back(&e);
}

// `number`: of the stage's first edit.
Stage grouped(const Graph& graph, const std::vector<Edit>& stage, int number) {
  Stage s;
  std::map<std::pair<const SiteEntry*, Edit::Action>, int> open;  // groups that others may join
  SitesOf sites(graph);
  for (const Edit& e : stage) {
    const SiteEntry& site = sites(e);  // throws for what is not there
    const auto action = e.action == Edit::Action::zero ? Edit::Action::replace : e.action;
    int group = static_cast<int>(s.groups.size());
    if (reads_others(e, site)) {
      std::erase_if(open, [&](const auto& g) { return g.first.first == &site; });
    } else if (joins(e, site)) {
      group = open.try_emplace({&site, action}, group).first->second;
    }
    if (group == std::ssize(s.groups)) s.groups.emplace_back().number = number;
    add_to(s.groups[static_cast<std::size_t>(group)], e, site);
    s.group_of.push_back(group);
    ++number;
  }
  return s;
}

// ---- the transformation -----------------------------------------------------------------------
// What flows on from x. The inputs of a group of several are tables: the value has the site's shape,
// the factor that of the mask.
Value edited(Builder& b, const std::string& name, const Group& g, const Value& x) {
  const bool one = g.alone();
  for (const Edit* e : g.edits) {
    if (has_value(e->action)) check_direction(*e, feed_shape(*e, x.shape()).size());
  }
  const auto value_input = [&] {
    return b.input(value_name(name, g.number),
                   {x.dtype(), one ? feed_shape(g.first(), x.shape()) : x.shape()});
  };
  if (replaces_all(g.first())) return broadcast_to(value_input(), x.shape());
  const Value where = b.input(where_name(name, g.number), {DType::boolean, g.mask});
  const bool adds_table = !one && g.action == Edit::Action::add;  // the factors are in the table
  Value value, factor;
  if (has_value(g.action)) value = value_input();
  if (has_factor(g.action) && !adds_table)
    factor = b.input(factor_name(name, g.number), {x.dtype(), one ? Shape{} : g.mask});
  return select(where, adds_table ? x + value : action_on(b, g.action, x.type(), x, value, factor),
                x);
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
  for (const std::string& used : {where_name(what.name(), 0), value_name(what.name(), 0)}) {
    if (graph.leaf(used) == kNoNode) continue;  // a second one would silently be the first
    throw GraphError(fmt::format(
        "the graph has been edited already (it has the input '{}'); write all edits as one "
        "Interventions, in order with then()",
        used));
  }
  std::vector<Stage> stages;
  std::vector<std::string> names;
  int number = 0;
  for (const auto& stage : what.stages()) {
    stages.push_back(grouped(graph, stage, number));
    for (const Group& g : stages.back().groups) names.push_back(g.first().site.name);
    number += static_cast<int>(stage.size());
  }
  Builder b(expand_sites(graph, names));
  for (const Stage& stage : stages) {
    for (const Group& g : stage.groups) {
      const Site& at = g.first().site;
      const SiteEntry& entry = graph.site(at.name);
      for (const Edit* e : g.edits) {
        for (const Where& w : e->where) check_axes(*e, w, entry);
      }
      const NodeId site = b.at(at).id();
      const Value x = b.value(b.node(site).inputs[0]);
      const Builder::Origin origin(b, b.node(site).scope, b.node(site).line);
      b.edit_site(at.name, edited(b, what.name(), g, x));
    }
  }
  return std::move(b).finish();
}

std::vector<std::string> structure_of(const Graph& graph, const Interventions& what) {
  std::vector<std::string> structure;
  int number = 0;
  for (const auto& stage : what.stages()) {
    for (const Group& g : grouped(graph, stage, number).groups) {
      const Shape value = g.alone() && g.first().value.defined()
                              ? feed_shape(g.first(), graph.site(g.first().site.name).type.shape)
                              : Shape{};
      structure.push_back(fmt::format("{}: {} {} of {}{}, {}", g.number, g.first().site.name,
                                      name_of(g.action), g.alone() ? "one" : "many",
                                      replaces_all(g.first()) ? ", all" : "",
                                      to_string(g.mask) + to_string(value)));
    }
    number += static_cast<int>(stage.size());
  }
  return structure;
}

// ---- values -----------------------------------------------------------------------------------
namespace {

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

// ---- feeds ------------------------------------------------------------------------------------
namespace {

using Selections = std::vector<Selected>;

// Strides of a shape that broadcasts to `whole`: 0 along what is repeated.
Dims strides_in(const Shape& shape, const Shape& whole) {
  Dims strides = whole;
  std::int64_t step = 1;
  for (int a = whole.size() - 1; a >= 0; --a) {
    const int from = a - (whole.size() - shape.size());
    const std::int64_t size = from < 0 ? 1 : shape[from];
    strides[a] = size == 1 ? 0 : step;
    step *= size;
  }
  return strides;
}

// Calls f(element of the site, of the mask, of the value) for each selected element.
struct Places {
  Shape site;
  Dims mask, value;  // strides
};
template <class F>
void each_place(const Selected& along, const Places& in, const F& f, int axis = 0,
                std::int64_t site = 0, std::int64_t mask = 0, std::int64_t value = 0) {
  if (axis == in.site.size()) return f(site, mask, value);
  const Along& on = along[static_cast<std::size_t>(axis)];
  const auto at = [&](std::int64_t i) {
    each_place(along, in, f, axis + 1, site * in.site[axis] + i, mask + i * in.mask[axis],
               value + i * in.value[axis]);
  };
  for (std::int64_t i = 0; i < in.site[axis] && on.all; ++i) at(i);
  for (const std::int64_t i : on.indices) at(i);
}

// Sets what is selected to 1; whether that is anything.
bool mark(const Selections& parts, const Shape& shape, std::uint8_t* mask) {
  bool any = false;
  for (const Selected& along : parts) {
    each_selected(along, shape, [&](std::int64_t i) {
      mask[i] = 1;
      any = true;
    });
  }
  return any;
}

// What is fed to one group.
class GroupFeeds {
 public:
  GroupFeeds(const Graph& graph, const Group& group)
      : graph_(graph), group_(group), site_(graph.site(group.first().site.name)) {}

  // Whether the edit selects anything.
  bool mark_selected(const Selections& parts) {
    if (replaces_all(group_.first())) return true;
    if (!mask_.defined()) mask_ = Tensor::zeros(group_.mask, DType::boolean);
    return mark(parts, group_.mask, reinterpret_cast<std::uint8_t*>(mask_.view().data));
  }

  void set(const Edit& e, const Selections& parts) {
    if (group_.alone()) {
      if (has_value(e.action)) value_ = packed_as(e, feed_shape(e, site_.type.shape));
      if (has_factor(e.action)) factor_ = Tensor::full({}, site_.type.dtype, e.factor);
      if (has_value(e.action)) check_lengths(e, value_, site_.type.shape, parts);
    } else if (site_.type.dtype == DType::f32) {
      write<float>(e, parts);
    } else {
      write<double>(e, parts);
    }
  }

  void put_into(Feeds& feeds, const std::string& name) && {
    const int n = group_.number;
    if (mask_.defined()) feeds.insert_or_assign(where_name(name, n), std::move(mask_));
    if (value_.defined()) feeds.insert_or_assign(value_name(name, n), std::move(value_));
    if (factor_.defined()) feeds.insert_or_assign(factor_name(name, n), std::move(factor_));
  }

 private:
  // Many edits take pieces of one value, which is then packed once.
  const Tensor& packed_as(const Edit& e, const Shape& wanted) {
    const bool same = packed_from_.defined() && e.value.shape() == packed_from_.shape() &&
                      e.value.strides() == packed_from_.strides() &&
                      e.value.dtype() == packed_from_.dtype() &&
                      e.value.view().data == packed_from_.view().data;
    if (!same) packed_ = packed(graph_, e, wanted);
    packed_from_ = e.value;
    return packed_;
  }

  // The numbers of one edit among many, into the table.
  template <class T>
  void write(const Edit& e, const Selections& parts) {
    const Shape& shape = site_.type.shape;
    Places places = {shape, strides_in(group_.mask, shape), strides_in({}, shape)};
    const auto each = [&](const auto& f) {
      for (const Selected& along : parts) each_place(along, places, f);
    };
    const T factor = static_cast<T>(e.factor);
    if (group_.action == Edit::Action::scale) {
      T* table = table_of<T>(factor_, group_.mask, 1);
      each([&](std::int64_t, std::int64_t at, std::int64_t) { table[at] = factor; });
    } else if (has_value(e.action)) {
      const Tensor& value = packed_as(e, feed_shape(e, shape));
      check_direction(e, value.rank());
      check_lengths(e, value, shape, parts);
      places.value = strides_in(value.shape(), shape);
      const T* v = value.data<T>();
      const bool adds = e.action == Edit::Action::add;
      // An element without an edit has a direction of some length: its row is computed too.
      T* table = table_of<T>(value_, shape, e.action == Edit::Action::project_out ? 1 : 0);
      each([&](std::int64_t at, std::int64_t, std::int64_t from) {
        if (adds) table[at] += v[from] * factor;
        else table[at] = v[from];
      });
    } else if (e.action == Edit::Action::zero && has_value(group_.action)) {
      table_of<T>(value_, shape, 0);  // elements are 0 until they are given a value
    }
  }

  template <class T>
  static T* table_of(Tensor& t, const Shape& shape, double filled) {
    if (!t.defined())
      t = Tensor::full(shape, std::is_same_v<T, float> ? DType::f32 : DType::f64, filled);
    return reinterpret_cast<T*>(t.view().data);
  }

  const Graph& graph_;
  const Group& group_;
  const SiteEntry& site_;
  Tensor mask_, value_, factor_;
  Tensor packed_from_, packed_;
};

void feed_stage(const Graph& graph, const std::string& name, const std::vector<Edit>& edits,
                int number, const RowPlaces& rows, Text text, Feeds& feeds) {
  const Stage stage = grouped(graph, edits, number);
  std::vector<GroupFeeds> fed;
  fed.reserve(stage.groups.size());
  for (const Group& g : stage.groups) fed.emplace_back(graph, g);
  Owners owners(graph, edits);
  SitesOf sites(graph);
  for (std::size_t i = 0; i < edits.size(); ++i) {
    const Edit& e = edits[i];
    GroupFeeds& group = fed[static_cast<std::size_t>(stage.group_of[i])];
    const Selections parts = selected(sites(e), e, rows, text);
    if (!group.mark_selected(parts) && text == Text::whole)
      throw GraphError(fmt::format("{}: the selection is empty", e.to_text()));
    owners.claim(static_cast<int>(i), parts, rows);
    group.set(e, parts);
  }
  for (GroupFeeds& group : fed) std::move(group).put_into(feeds, name);
}

}  // namespace

Feeds with_interventions(const Graph& graph, const Interventions& what, const Feeds& feeds,
                         Text text) {
  Feeds out = feeds;
  const RowPlaces rows = row_places(graph, feeds);
  int number = 0;
  for (const auto& stage : what.stages()) {
    feed_stage(graph, what.name(), stage, number, rows, text, out);
    number += static_cast<int>(stage.size());
  }
  return out;
}

}  // namespace vitrine

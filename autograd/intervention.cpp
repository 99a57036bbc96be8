#include "autograd/intervention.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "autograd/ops.h"
#include "tensor/error.h"

namespace vitrine {

// ---- values -----------------------------------------------------------------------------------
std::string_view name_of(Edit::Action action) {
  constexpr std::string_view kNames[] = {"replace",     "zero",  "add",
                                         "project_out", "scale", "detach"};
  return kNames[static_cast<int>(action)];
}

namespace {

Edit edit(const Site& site, Edit::Action action, const Where& where) {
  Edit e{.site = site, .action = action};
  if (!(where == Where{})) e.where = {where};
  return e;
}
Edit with_value(Edit e, const Tensor& value, std::string_view from) {
  e.value = value;
  e.from = from;
  return e;
}

// The indices along each kind of axis, with the word for them.
struct Named {
  const char* word;
  const std::vector<std::int64_t>& indices;
};
std::vector<Named> named(const Where& w) {
  return {{"prompt", w.prompt},
          {"pos", w.pos},
          {"head", w.head},
          {"key", w.key},
          {"feature", w.feature}};
}
std::string to_text(const Where& w) {
  std::vector<std::string> parts;
  for (const Named& n : named(w)) {
    if (!n.indices.empty())
      parts.push_back(fmt::format("{} {}", n.word, fmt::join(n.indices, ",")));
  }
  return fmt::format("[{}]", fmt::join(parts, "; "));
}

}  // namespace

Edit replace(const Site& site, const Tensor& value, const Where& where, std::string_view from) {
  return with_value(edit(site, Edit::Action::replace, where), value, from);
}
Edit zero(const Site& site, const Where& where) { return edit(site, Edit::Action::zero, where); }
Edit add(const Site& site, const Tensor& direction, double factor, const Where& where,
         std::string_view from) {
  Edit e = with_value(edit(site, Edit::Action::add, where), direction, from);
  e.factor = factor;
  return e;
}
Edit project_out(const Site& site, const Tensor& direction, const Where& where,
                 std::string_view from) {
  return with_value(edit(site, Edit::Action::project_out, where), direction, from);
}
Edit scale(const Site& site, double factor, const Where& where) {
  Edit e = edit(site, Edit::Action::scale, where);
  e.factor = factor;
  return e;
}
Edit detach(const Site& site, const Where& where) {
  return edit(site, Edit::Action::detach, where);
}

std::string Edit::to_text() const {
  std::string at = site.name;
  for (const Where& w : where) at += vitrine::to_text(w);
  switch (action) {
    case Action::replace:
      return fmt::format("{} = {}", at, from);
    case Action::zero:
      return fmt::format("{} = 0", at);
    case Action::add:
      return fmt::format("{} += {:g} x {}", at, factor, from);
    case Action::project_out:
      return fmt::format("{} without its part along {}", at, from);
    case Action::scale:
      return fmt::format("{} *= {:g}", at, factor);
    case Action::detach:
      return fmt::format("{} without gradient", at);
  }
  return at;
}

Interventions Interventions::then(const Interventions& later) const {
  Interventions both = *this;
  both.stages_.insert(both.stages_.end(), later.stages_.begin(), later.stages_.end());
  return both;
}
std::string Interventions::to_text() const {
  std::string text;
  for (std::size_t s = 0; s < stages_.size(); ++s) {
    for (const Edit& e : stages_[s])
      text += fmt::format("{}{}\n", s == 0 ? "" : "then ", e.to_text());
  }
  return text;
}
std::size_t Interventions::hash() const {
  std::string text = to_text();
  for (const auto& stage : stages_) {
    for (const Edit& e : stage) {
      if (e.value.defined()) text += to_string(e.value.shape());
    }
  }
  return std::hash<std::string>()(text);
}

// ---- the transformation -----------------------------------------------------------------------
namespace {

std::string where_name(int n) { return fmt::format("edit.{}.where", n); }
std::string value_name(int n) { return fmt::format("edit.{}.value", n); }

bool has_value(Edit::Action a) {
  return a == Edit::Action::replace || a == Edit::Action::add || a == Edit::Action::project_out;
}

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

// Which of a Where's lists speaks of an axis. A row axis is spoken of by two.
bool speaks_of(const Edit& e, Axis axis) {
  const auto any = [&](auto member) {
    return std::any_of(e.where.begin(), e.where.end(),
                       [&](const Where& w) { return !(w.*member).empty(); });
  };
  switch (axis) {
    case Axis::row:
      return any(&Where::prompt) || any(&Where::pos);
    case Axis::batch:
      return any(&Where::prompt);
    case Axis::pos:
    case Axis::query:
      return any(&Where::pos);
    case Axis::head:
      return any(&Where::head);
    case Axis::key:
      return any(&Where::key);
    case Axis::feature:
      return any(&Where::feature);
    case Axis::other:
      return false;
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
  const auto has = [&](std::initializer_list<Axis> kinds) {
    return std::any_of(axes.begin(), axes.end(), [&](Axis a) {
      return std::find(kinds.begin(), kinds.end(), a) != kinds.end();
    });
  };
  const std::pair<const char*, bool> known[] = {{"prompt", has({Axis::row, Axis::batch})},
                                                {"pos", has({Axis::row, Axis::pos, Axis::query})},
                                                {"head", has({Axis::head})},
                                                {"key", has({Axis::key})},
                                                {"feature", has({Axis::feature})}};
  for (const Where& w : e.where) {
    const auto lists = named(w);
    for (std::size_t i = 0; i < lists.size(); ++i) {
      if (lists[i].indices.empty() || known[i].second) continue;
      std::vector<std::string_view> names;
      for (const Axis a : axes) names.push_back(name_of(a));
      throw GraphError(fmt::format("{}: the site has no axis for '{}'; its axes are [{}]",
                                   e.to_text(), lists[i].word, fmt::join(names, ", ")));
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

Value edited(Builder& b, const Edit& e, int n, const Value& x, const Axes& axes) {
  check_axes(e, axes);
  if (replaces_all(e)) {
    return broadcast_to(b.input(value_name(n), {x.dtype(), feed_shape(e, x.shape())}), x.shape());
  }
  const Value where = b.input(where_name(n), {DType::boolean, mask_shape(e, axes, x.shape())});
  Value value;
  if (has_value(e.action)) {
    value = b.input(value_name(n), {x.dtype(), feed_shape(e, x.shape())});
    if (e.action != Edit::Action::replace && value.rank() == 0)
      throw ShapeError(fmt::format("{}: the value must have the site's feature axis", e.to_text()));
  }
  Value changed;
  switch (e.action) {
    case Edit::Action::replace:
      changed = broadcast_to(value, x.shape());
      break;
    case Edit::Action::zero:
      changed = broadcast_to(b.scalar(0, x.dtype()), x.shape());
      break;
    case Edit::Action::add:
      changed = x + value * e.factor;
      break;
    case Edit::Action::project_out: {
      const Value unit = value * rsqrt(sum(square(value), {value.rank() - 1}, true));
      changed = x - sum(x * unit, {x.rank() - 1}, true) * unit;
      break;
    }
    case Edit::Action::scale:
      changed = x * e.factor;
      break;
    case Edit::Action::detach:
      changed = detach(x);
      break;
  }
  return select(where, changed, x);
}

}  // namespace

Graph intervene(const Graph& graph, const Interventions& what) {
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
namespace {

struct Rows {
  std::vector<std::int64_t> sequence, position;  // of each packed row; empty: the model has none
};

Rows rows_of(const Graph& graph, const Feeds& feeds) {
  if (!graph.rows()) return {};
  const auto read = [&](NodeId id) {
    const std::string& name = std::get<LeafName>(graph.node(id).attributes).name;
    const auto it = feeds.find(name);
    if (it == feeds.end()) throw GraphError(fmt::format("the feeds lack the row table '{}'", name));
    return it->second.to_vector<std::int64_t>();
  };
  return {read(graph.rows()->sequence), read(graph.rows()->position)};
}

bool contains(const std::vector<std::int64_t>& list, std::int64_t i) {
  return list.empty() || std::find(list.begin(), list.end(), i) != list.end();
}

// Whether index i of an axis is selected.
bool selects(const Where& w, Axis axis, std::int64_t i, const Rows& rows) {
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
                   const Rows& rows, Text text) {
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

// The mask over `shape`, which is the site's shape with 1 along axes that are not spoken of.
std::vector<std::uint8_t> mask(const Edit& e, const Axes& axes, const Shape& shape,
                               const Rows& rows) {
  std::vector<std::uint8_t> out(static_cast<std::size_t>(numel(shape)), e.where.empty() ? 1 : 0);
  for (const Where& w : e.where) {
    std::vector<std::vector<bool>> along;  // by axis
    for (int a = 0; a < shape.size(); ++a) {
      const Axis axis = axes[static_cast<std::size_t>(a)];
      std::vector<bool> chosen(static_cast<std::size_t>(shape[a]), true);
      for (std::int64_t i = 0; i < shape[a] && speaks_of(e, axis); ++i)
        chosen[static_cast<std::size_t>(i)] = selects(w, axis, i, rows);
      along.push_back(std::move(chosen));
    }
    for (std::size_t at = 0; at < out.size(); ++at) {
      bool inside = true;
      auto rest = static_cast<std::int64_t>(at);
      for (int a = shape.size() - 1; a >= 0; --a) {
        inside =
            inside && along[static_cast<std::size_t>(a)][static_cast<std::size_t>(rest % shape[a])];
        rest /= shape[a];
      }
      if (inside) out[at] = 1;
    }
  }
  return out;
}

// A value as Results gives it ([batch, pos, ...], patterns [batch, head, query, key]) as packed
// rows.
Tensor packed(const Edit& e, const Axes& axes, const Type& type, const Shape& wanted) {
  const Tensor value = e.value.to(type.dtype);
  if (value.shape() == wanted) return value.contiguous();
  Tensor x = value;
  const bool pattern = std::find(axes.begin(), axes.end(), Axis::key) != axes.end();
  if (pattern && x.rank() == 4) x = x.permute({0, 2, 1, 3});
  if (x.rank() == wanted.size() + 1 && x.dim(0) * x.dim(1) == wanted[0]) {
    Shape rest = wanted;
    const Tensor flat = x.contiguous();
    bool same = true;
    for (int a = 1; a < wanted.size(); ++a) same = same && x.dim(a + 1) == wanted[a];
    if (same) return flat.reshape(rest);
  }
  throw ShapeError(fmt::format("{}: a value {} does not fit the site, which is {} (packed rows)",
                               e.to_text(), to_string(e.value.shape()), to_string(type.shape)));
}

}  // namespace

Feeds with_interventions(const Graph& graph, const Interventions& what, const Feeds& feeds,
                         Text text) {
  Feeds out = feeds;
  const Rows rows = rows_of(graph, feeds);
  // Element by element what this stage has changed, by site: 1 overwritten, 2 added to.
  std::map<std::string, std::vector<std::pair<const Edit*, std::vector<std::uint8_t>>>, std::less<>>
      changed;
  int n = 0;
  for (const auto& stage : what.stages()) {
    changed.clear();
    for (const Edit& e : stage) {
      const SiteEntry& site = graph.site(e.site.name);
      for (const Where& w : e.where) check_indices(e, w, site.axes, site.type.shape, rows, text);
      if (!replaces_all(e)) {
        const Node& input = graph.node(graph.leaf(where_name(n)));
        const std::vector<std::uint8_t> chosen = mask(e, site.axes, input.type.shape, rows);
        if (text == Text::whole && std::find(chosen.begin(), chosen.end(), 1) == chosen.end())
          throw GraphError(fmt::format("{}: the selection is empty", e.to_text()));
        Tensor fed = Tensor::empty(input.type.shape, DType::boolean);
        std::copy(chosen.begin(), chosen.end(), reinterpret_cast<std::uint8_t*>(fed.view().data));
        out[where_name(n)] = fed;
      }
      // Overlaps, over the whole site.
      const std::vector<std::uint8_t> whole = mask(e, site.axes, site.type.shape, rows);
      for (const auto& [other, taken] : changed[e.site.name]) {
        if (e.action == Edit::Action::add && other->action == Edit::Action::add) continue;
        for (std::size_t i = 0; i < whole.size(); ++i) {
          if (whole[i] == 0 || taken[i] == 0) continue;
          throw GraphError(fmt::format(
              "'{}' and '{}' change the same element; say which comes first with then()",
              other->to_text(), e.to_text()));
        }
      }
      changed[e.site.name].emplace_back(&e, whole);
      if (has_value(e.action)) {
        const Node& value = graph.node(graph.leaf(value_name(n)));
        out[value_name(n)] =
            packed(e, site.axes, {value.type.dtype, site.type.shape}, value.type.shape);
      }
      ++n;
    }
  }
  return out;
}

}  // namespace vitrine

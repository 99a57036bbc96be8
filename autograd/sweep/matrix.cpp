#include "autograd/sweep/matrix.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {

std::string base_name(NodeId id) { return fmt::format("sweep.base.{}", id); }

namespace {

Shape with_leading(std::initializer_list<std::int64_t> leading, const Shape& shape, int from) {
  Shape out;
  for (const std::int64_t d : leading) out.push_back(d);
  for (int a = from; a < shape.size(); ++a) out.push_back(shape[a]);
  return out;
}

bool counts_up_to(const std::vector<std::int32_t>& index, std::int64_t n) {
  if (static_cast<std::int64_t>(index.size()) != n) return false;
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] != static_cast<std::int32_t>(i)) return false;
  }
  return true;
}

}  // namespace

Shape packed_shape(const Shape& shape, int lead, std::int64_t n) {
  return lead == 2 ? with_leading({n, 1}, shape, 2) : with_leading({n}, shape, 1);
}

WorldMatrix::WorldMatrix(BaseRun& base, int worlds)
    : base_(base),
      g_(base.graph()),
      worlds_(static_cast<std::size_t>(worlds)),
      lifted_(by_id(g_.next_id())) {}

void WorldMatrix::add(NodeId id, const Lifted& more) {
  lifted_[by_id(id)].insert(lifted_[by_id(id)].end(), more.begin(), more.end());
}
void WorldMatrix::add_in_front(NodeId id, Piece piece) {
  lifted_[by_id(id)].insert(lifted_[by_id(id)].begin(), std::move(piece));
}

// ---- lists ------------------------------------------------------------------------------------
EntryListPtr WorldMatrix::list(int lead, std::vector<Entry> sorted) {
  std::size_t hash = static_cast<std::size_t>(lead);
  for (const Entry& e : sorted)
    hash = (hash ^ (static_cast<std::size_t>(e.world) * 0x9e3779b97f4a7c15ULL +
                    static_cast<std::size_t>(e.cell))) *
           0x100000001b3ULL;
  auto& known = lists_[hash];
  for (const EntryListPtr& l : known) {
    if (l->lead == lead && l->entries == sorted) return l;
  }
  auto fresh = std::make_shared<EntryList>();
  fresh->lead = lead;
  fresh->entries = std::move(sorted);
  fresh->begin.assign(worlds_ + 1, 0);
  for (const Entry& e : fresh->entries) ++fresh->begin[static_cast<std::size_t>(e.world) + 1];
  for (std::size_t w = 0; w < worlds_; ++w) fresh->begin[w + 1] += fresh->begin[w];
  known.push_back(fresh);
  return fresh;
}

EntryListPtr WorldMatrix::all_rows(const std::vector<std::int32_t>& worlds, std::int64_t rows) {
  std::vector<Entry> entries;
  for (const std::int32_t w : worlds) {
    for (std::int64_t r = 0; r < rows; ++r) entries.push_back({w, static_cast<std::int32_t>(r)});
  }
  return list(1, std::move(entries));
}

// ---- leaves of the program --------------------------------------------------------------------
Value WorldMatrix::base_value(NodeId id) {
  if (const auto it = base_values_.find(id); it != base_values_.end()) return it->second;
  const Node& n = g_.node(id);
  Value v;
  if (const NodeId from = base_.source(id); from != id) {
    v = base_value(from);
  } else if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) {
    v = n.op->kind == OpKind::input ? b_.input(leaf->name, n.type)
                                    : b_.parameter(leaf->name, n.type);
  } else if (base_.is_weight(id)) {  // views of weights, mostly: made again rather than copied
    std::vector<Value> in;
    for (const NodeId i : n.inputs) in.push_back(base_value(i));
    v = b_.emit(*n.op, in, without_sites(n.attributes), n.line);
  } else {
    v = b_.input(base_name(id), n.type);
    reads_.push_back(id);
  }
  return base_values_[id] = v;
}

Value WorldMatrix::feed(const std::string& name, const Tensor& value) {
  feeds_[name] = value;
  return b_.input(name, {value.dtype(), value.shape()});
}

Value WorldMatrix::integers(const std::vector<std::int32_t>& values, const Shape& shape) {
  Value& v = integers_[{values, std::vector<std::int64_t>(shape.begin(), shape.end())}];
  if (!v.defined()) {
    Tensor t = Tensor::empty(shape, DType::i32);
    std::copy(values.begin(), values.end(), t.data<std::int32_t>());
    v = feed(fmt::format("sweep.table.{}", integers_.size() - 1), t);
  }
  return v;
}

// ---- reading ----------------------------------------------------------------------------------
Value WorldMatrix::rows_of(NodeId id, const EntryListPtr& list) {
  const Lifted& pieces = lifted(id);
  if (pieces.size() == 1 && pieces[0].list == list) return pieces[0].value;
  return gathered(id, list->lead, list->entries);
}

Value WorldMatrix::gathered(NodeId id, int lead, std::span<const Entry> entries) {
  const Type& type = g_.node(id).type;
  const Lifted& pieces = lifted(id);
  const Cells cells = cells_of(type.shape);
  // Pieces that keep heads apart are read head by head, and so is everything beside them.
  int unit = lead;
  for (const Piece& p : pieces) unit = std::max(unit, p.list->lead);
  const std::int64_t per_entry = unit > lead ? cells.heads : 1;

  std::vector<Place> places;
  std::vector<bool> used(pieces.size() + 1, false);
  for (const Entry& e : entries) {
    for (std::int64_t h = 0; h < per_entry; ++h) {
      if (e.cell < 0) {  // an index of -1: zeros
        places.push_back({-1, 0});
        continue;
      }
      const std::int64_t cell = unit > lead ? e.cell * cells.heads + h : e.cell;
      Place place{static_cast<int>(pieces.size()), cell};
      for (std::size_t p = 0; p < pieces.size(); ++p) {
        const bool coarse = pieces[p].list->lead < unit;
        const std::int64_t found =
            pieces[p].list->find(e.world, coarse ? cell / cells.heads : cell);
        if (found < 0) continue;
        place = {static_cast<int>(p), coarse ? found * cells.heads + cell % cells.heads : found};
        break;
      }
      used[static_cast<std::size_t>(place.table)] = true;
      places.push_back(place);
    }
  }

  if (std::find(used.begin(), used.end(), true) == used.end())
    used.back() = true;  // all are zeros: of any table

  std::vector<Value> tables;
  std::vector<std::int64_t> offset(pieces.size() + 1, 0);
  std::int64_t total = 0;
  for (std::size_t t = 0; t <= pieces.size(); ++t) {
    if (!used[t]) continue;
    const bool is_base = t == pieces.size();
    const Value v = is_base ? base_value(id) : pieces[t].value;
    const bool flatten = unit == 2 && (is_base || pieces[t].list->lead == 1);
    const std::int64_t rows =
        type.shape.size() == 0 && is_base ? 1 : v.dim(0) * (flatten ? cells.heads : 1);
    tables.push_back(reshape(v, packed_shape(type.shape, unit, rows)));
    offset[t] = total;
    total += rows;
  }
  std::vector<std::int32_t> index;
  index.reserve(places.size());
  for (const Place& p : places)
    index.push_back(p.table < 0 ? -1
                                : static_cast<std::int32_t>(
                                      offset[static_cast<std::size_t>(p.table)] + p.index));
  const auto n = static_cast<std::int64_t>(entries.size());
  Value out;
  if (tables.size() == 1 && counts_up_to(index, total)) {
    out = tables[0];
  } else {
    const Value i = integers(index, {static_cast<std::int64_t>(index.size())});
    out = tables.size() == 1 ? gather_rows(tables[0], i) : gather_rows_from(tables, i);
  }
  return reshape(out, packed_shape(type.shape, lead, n));
}

// ---- ops on some entries ----------------------------------------------------------------------
Value WorldMatrix::packed(const Node& n, const InputParts& parts, const EntryListPtr& list) {
  const bool keyed = std::find(parts.begin(), parts.end(), InputPart::keyed) != parts.end();
  Keys keys;
  if (keyed) keys = keys_of(n, parts, list);
  std::vector<Value> in;
  std::size_t next_keyed = 0;
  const std::size_t tables = keyed ? n.inputs.size() - 3 : n.inputs.size();
  for (std::size_t i = 0; i < tables; ++i) {
    if (parts[i] == InputPart::same) {
      // An input with a head axis of one entry is read by row.
      const bool by_row = list->lead == 2 && cells_of(g_.node(n.inputs[i]).type.shape).heads !=
                                                 cells_of(n.type.shape).heads;
      if (by_row) {
        std::vector<Entry> rows;
        const std::int64_t heads = cells_of(n.type.shape).heads;
        for (const Entry& e : list->entries)
          rows.push_back({e.world, static_cast<std::int32_t>(e.cell / heads)});
        in.push_back(gathered(n.inputs[i], 1, rows));
      } else {
        in.push_back(rows_of(n.inputs[i], list));
      }
    } else if (parts[i] == InputPart::keyed) {
      in.push_back(keys.rows[next_keyed++]);
    } else {
      in.push_back(base_value(n.inputs[i]));
    }
  }
  if (keyed) in.insert(in.end(), {keys.sequence, keys.position, keys.keys});
  const auto entries = static_cast<std::int64_t>(list->entries.size());
  return b_.emit(*n.op, in, packed_attributes(without_sites(n.attributes), list->lead, entries),
                 n.line);
}

Value WorldMatrix::picked(const Node& n, const EntryListPtr& list,
                          const std::vector<std::int64_t>& from) {
  std::vector<Entry> entries;
  for (const Entry& e : list->entries)
    entries.push_back({e.world, static_cast<std::int32_t>(from[static_cast<std::size_t>(e.cell)])});
  return gathered(n.inputs[0], 1, entries);
}

// ---- ops on everything ------------------------------------------------------------------------
Value WorldMatrix::all_of(NodeId id, const std::vector<std::int32_t>& worlds) {
  const Shape& shape = g_.node(id).type.shape;
  const Value rows = rows_of(id, all_rows(worlds, cells_of(shape).rows));
  return reshape(rows, with_leading({static_cast<std::int64_t>(worlds.size())}, shape, 0));
}

Value WorldMatrix::stacked(const Node& n, const std::vector<std::int32_t>& worlds) {
  Value v = with_axis(n, worlds);
  if (!v.defined()) v = one_by_one(n, worlds);
  const auto count = static_cast<std::int64_t>(worlds.size());
  return reshape(v, packed_shape(n.type.shape, 1, count * cells_of(n.type.shape).rows));
}

// Tried on the shape rule and proved by the reach rule: entry w of the new axis must be a function
// of entry w of the inputs that have it. Undefined when the op cannot take another axis.
Value WorldMatrix::with_axis(const Node& n, const std::vector<std::int32_t>& worlds) {
  const auto count = static_cast<std::int64_t>(worlds.size());
  const Attributes attributes = with_axis_in_front(*n.op, without_sites(n.attributes), count);
  const Shape out = with_leading({count}, n.type.shape, 0);
  for (const bool all : {false, true}) {  // inputs of the base run as they are, or repeated, too
    std::vector<Type> types;
    std::vector<bool> has_axis;
    for (const NodeId i : n.inputs) {
      const Type& type = g_.node(i).type;
      has_axis.push_back(all || !lifted(i).empty());
      if (!has_axis.back()) {
        types.push_back(type);
        continue;
      }
      Shape shape{count};
      for (int a = type.shape.size(); a < n.type.shape.size() && !all; ++a) shape.push_back(1);
      for (const std::int64_t d : type.shape) shape.push_back(d);
      types.push_back({type.dtype, shape});
    }
    try {
      if (!(n.op->infer({types, attributes}).shape == out)) continue;
    } catch (const Error&) {
      continue;
    }
    const std::vector<Fact> no_facts(n.inputs.size());
    const auto parts = parts_of(*n.op, {types, {n.type.dtype, out}, attributes, no_facts, {}}, 1);
    bool apart = parts.has_value();
    for (std::size_t i = 0; i < n.inputs.size() && apart; ++i)
      apart = (*parts)[i] == (has_axis[i] ? InputPart::same : InputPart::whole);
    if (!apart) continue;
    std::vector<Value> in;
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      in.push_back(has_axis[i] ? reshape(all_of(n.inputs[i], worlds), types[i].shape)
                               : base_value(n.inputs[i]));
    }
    return b_.emit(*n.op, in, attributes, n.line);
  }
  return {};
}

Value WorldMatrix::one_by_one(const Node& n, const std::vector<std::int32_t>& worlds) {
  std::vector<Value> in;
  for (const NodeId i : n.inputs)
    in.push_back(lifted(i).empty() ? base_value(i) : all_of(i, worlds));
  std::vector<Value> parts;
  for (std::int64_t w = 0; w < static_cast<std::int64_t>(worlds.size()); ++w) {
    std::vector<Value> own;
    for (std::size_t i = 0; i < in.size(); ++i) {
      const Shape& shape = g_.node(n.inputs[i]).type.shape;
      own.push_back(lifted(n.inputs[i]).empty() ? in[i]
                                                : reshape(slice(in[i], 0, w, w + 1), shape));
    }
    const Value one = b_.emit(*n.op, own, without_sites(n.attributes), n.line);
    parts.push_back(reshape(one, with_leading({1}, n.type.shape, 0)));
  }
  return parts.size() == 1 ? parts[0] : concat(parts, 0);
}

// ---- the end ----------------------------------------------------------------------------------
void WorldMatrix::name_site(const Node& site) {
  const SiteLabel& label = std::get<SiteLabel>(site.attributes);
  Lifted& pieces = lifted_[by_id(site.id)];
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    Axes axes = label.axes;
    if (axes.empty()) axes = {Axis::other};
    for (int a = 0; a < pieces[i].list->lead; ++a) axes[static_cast<std::size_t>(a)] = Axis::other;
    const std::string name = i == 0 ? label.name : fmt::format("{}#{}", label.name, i + 1);
    if (i > 0 && g_.find_site(name) != nullptr) continue;  // the user's: this piece has no name
    pieces[i].value = b_.site(name, pieces[i].value, axes, site.line);
  }
}

LiftedProgram WorldMatrix::finish(const std::vector<std::string>& names,
                                  const std::vector<NodeId>& wanted) {
  LiftedProgram p;
  p.has_effect.assign(worlds_, false);
  for (std::size_t i = 0; i < names.size(); ++i) {
    LiftedOutput out{names[i], wanted[i], {}};
    for (const Piece& piece : lifted(wanted[i])) {
      if (piece.list->entries.empty()) continue;
      out.pieces.push_back({fmt::format("{}.{}", names[i], out.pieces.size()), piece.list});
      b_.output(out.pieces.back().output, piece.value);
      for (const Entry& e : piece.list->entries)
        p.has_effect[static_cast<std::size_t>(e.world)] = true;
    }
    p.outputs.push_back(std::move(out));
  }
  p.base = std::move(reads_);
  p.feeds = std::move(feeds_);
  p.graph = std::move(b_).finish();
  return p;
}

}  // namespace vitrine

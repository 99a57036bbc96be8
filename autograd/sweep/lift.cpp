#include "autograd/sweep/lift.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "autograd/compile/optimise.h"
#include "autograd/ops/ops.h"
#include "autograd/sweep/edits.h"
#include "autograd/sweep/matrix.h"
#include "tensor/error.h"

namespace vitrine {

std::int64_t EntryList::find(std::int32_t world, std::int64_t cell) const {
  const auto w = static_cast<std::size_t>(world);
  if (w + 1 >= begin.size()) return -1;
  const auto from = entries.begin() + begin[w], to = entries.begin() + begin[w + 1];
  const auto it = std::lower_bound(from, to, Entry{world, static_cast<std::int32_t>(cell)});
  return it != to && it->cell == cell ? it - entries.begin() : -1;
}

namespace {

// Which cells of a node each world changes.
struct Changed {
  std::vector<std::int32_t> worlds;  // increasing
  std::vector<Bits> cells;           // of each of them
};

// Three walks over the base graph:
//   forwards   mark_live: the nodes that an edit of any world can change (the forward slice)
//   backwards  mark_demand: the cells of these that the outputs depend on (the backward slice)
//   forwards   lift_node: for each world the changed cells that are also demanded, its cone, become entries of the
//              node's matrix; all other cells are read in the base run
class Lifting {
 public:
  Lifting(BaseRun& base, const Feeds& feeds, std::span<const Interventions> worlds, int first,
          const SweepOptions& options)
      : base_(base),
        g_(base.graph()),
        options_(options),
        known_([this](NodeId id) { return live_[by_id(id)] ? nullptr : &base_.integers(id); }),
        edits_(base, feeds, worlds, first, options),
        m_(base, static_cast<int>(worlds.size())),
        demand_(by_id(g_.next_id())),
        live_(by_id(g_.next_id()), false),
        worlds_(static_cast<std::int32_t>(worlds.size())) {
    facts_.resize(by_id(g_.next_id()));
    for (const Node& n : g_.nodes()) {
      if (n.op->fact == nullptr) continue;
      const Fact fact = n.op->fact(call(n).get());
      if (edits_.keep(n.id, fact)) facts_[by_id(n.id)] = fact;
    }
  }

  LiftedProgram run(const std::vector<std::string>& outputs) {
    mark_live();
    std::vector<NodeId> wanted;
    for (const std::string& name : outputs) wanted.push_back(g_.output(name));
    mark_demand(wanted);
    for (const Node& n : g_.nodes()) {
      if (!live_[by_id(n.id)] || demand_[by_id(n.id)].empty() || !demand_[by_id(n.id)].any())
        continue;
      lift_node(n);
    }
    return m_.finish(outputs, wanted);
  }

 private:
  // ---- what the rules say -------------------------------------------------------------------
  struct Call {  // a ReachCall and what it points to
    std::vector<Type> in;
    std::vector<Fact> facts;
    const Node& node;
    ReachCall get() const { return {in, node.type, node.attributes, facts, node.inputs}; }
  };
  Call call(const Node& n) const {
    Call c{{}, {}, n};
    for (const NodeId i : n.inputs) {
      c.in.push_back(g_.node(i).type);
      c.facts.push_back(facts_[by_id(i)]);
    }
    return c;
  }

  // Live: edited, or computed from a live node. The rest is the same in all worlds.
  void mark_live() {
    for (const Node& n : g_.nodes()) {
      live_[by_id(n.id)] =
          edits_.edits(n.id) ||
          std::any_of(n.inputs.begin(), n.inputs.end(), [&](NodeId i) { return live_[by_id(i)]; });
    }
  }

  // Adds to the demand of n's live inputs the cells that the cells `of` of n are computed from.
  void demand_inputs(const Node& n, const Bits& of) {
    const Call c = call(n);
    const auto parts = parts_of(*n.op, c.get(), 1);
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      if (!live_[by_id(n.inputs[i])]) continue;
      const Cells in = cells_of(c.in[i].shape);
      Bits& d = demand_[by_id(n.inputs[i])];
      if (d.empty()) d = Bits(in.count());
      if (!options_.by_demand) {
        d.set_all(in.count());
        continue;
      }
      const CellReach r = cell_reach(g_, n, i, c.get(), parts, known_);
      for (std::int64_t row = 0; row < in.rows; ++row) {
        for (std::int64_t h = 0; h < in.heads; ++h) {
          if (r.reaches_any(row, h, of)) d.set(row * in.heads + h);
        }
      }
    }
  }

  void mark_demand(const std::vector<NodeId>& wanted) {
    for (const NodeId id : wanted) {
      const std::int64_t count = cells_of(g_.node(id).type.shape).count();
      demand_[by_id(id)] = Bits(count);
      demand_[by_id(id)].set_all(count);
    }
    for (auto n = g_.nodes().rbegin(); n != g_.nodes().rend(); ++n) {
      Bits& d = demand_[by_id(n->id)];
      if (!live_[by_id(n->id)] || d.empty() || !d.any()) continue;
      if (edits_.mixes_cells(n->id)) d.set_all(cells_of(n->type.shape).count());
      demand_inputs(*n, d);
      if (const Expanded* e = base_.expanded_at(n->id)) demand_inputs(e->composite, d);
    }
  }

  // The cells of n that each world changes, through whichever input, as far as they are read.
  Changed changed(const Node& n, const Call& c, const WorldFilter& only) {
    const Cells cells = cells_of(n.type.shape);
    const auto parts = parts_of(*n.op, c.get(), 1);
    std::vector<Bits> reached;
    std::vector<std::int32_t> slot(static_cast<std::size_t>(worlds_), -1);  // by world, in reached
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      const Lifted& in = m_.lifted(n.inputs[i]);
      if (in.empty()) continue;
      const CellReach r = cell_reach(g_, n, i, c.get(), parts, known_);
      const Cells from = cells_of(c.in[i].shape);
      for (const Piece& piece : in) {
        for (const Entry& e : piece.list->entries) {
          if (!only.has(e.world)) continue;
          std::int32_t& s = slot[static_cast<std::size_t>(e.world)];
          if (s < 0) {
            s = static_cast<std::int32_t>(reached.size());
            reached.emplace_back(cells.count());
          }
          Bits& bits = reached[static_cast<std::size_t>(s)];
          if (piece.list->lead == 2) {
            r.spread(e.cell / from.heads, e.cell % from.heads, bits);
          } else {
            for (std::int64_t h = 0; h < from.heads; ++h) r.spread(e.cell, h, bits);
          }
        }
      }
    }
    const Bits& read = demand_[by_id(n.id)];
    Changed kept;
    for (std::int32_t w = 0; w < worlds_; ++w) {
      const std::int32_t s = slot[static_cast<std::size_t>(w)];
      if (s < 0) continue;
      Bits bits = std::move(reached[static_cast<std::size_t>(s)]);
      if (!bits.any()) continue;
      if (!options_.by_row) bits.set_all(cells.count());
      if (!read.empty()) bits &= read;
      if (!bits.any()) continue;
      kept.worlds.push_back(w);
      kept.cells.push_back(std::move(bits));
    }
    return kept;
  }

  // The worlds' cells as lists of rows, and of heads where few of a row's heads are changed.
  struct Lists {
    EntryListPtr rows, heads;
  };
  Lists lists(const Changed& c, const Cells& cells, bool heads_apart) {
    std::vector<Entry> rows, heads;
    for (std::size_t i = 0; i < c.worlds.size(); ++i) {
      const std::int32_t w = c.worlds[i];
      std::vector<std::int32_t> of_rows;
      std::int64_t count = 0;
      c.cells[i].for_each([&](std::int64_t cell) {
        const auto row = static_cast<std::int32_t>(cell / cells.heads);
        if (of_rows.empty() || of_rows.back() != row) of_rows.push_back(row);
        ++count;
      });
      const bool apart = heads_apart && options_.by_head && cells.heads > 1 &&
                         2 * count <= static_cast<std::int64_t>(of_rows.size()) * cells.heads;
      if (apart) {
        c.cells[i].for_each([&](std::int64_t cell) {
          heads.push_back({w, static_cast<std::int32_t>(cell)});
        });
      } else {
        for (const std::int32_t row : of_rows) rows.push_back({w, row});
      }
    }
    return {m_.list(1, std::move(rows)), m_.list(2, std::move(heads))};
  }

  // ---- one node ------------------------------------------------------------------------------
  void lift_node(const Node& n) {
    if (const Expanded* e = base_.expanded_at(n.id)) {  // whole where nothing inside is edited
      m_.set(n.id, m_.lifted(n.inputs[0]));             // of the worlds that edit inside
      m_.add(n.id, lifted(e->composite, edits_.outside(*e)));
    } else if (is_identity(n)) {
      m_.set(n.id, m_.lifted(n.inputs[0]));
    } else {
      const Expanded* inside = base_.expansion_of(n.id);
      m_.set(n.id, lifted(n, inside != nullptr ? edits_.inside(*inside) : WorldFilter{}));
    }
    if (edits_.edits(n.id)) edits_.apply(n, demand_[by_id(n.id)], m_);
    if (std::holds_alternative<SiteLabel>(n.attributes)) m_.name_site(n);
  }

  Lifted lifted(const Node& n, const WorldFilter& only) {
    const Call c = call(n);
    const Changed cells = changed(n, c, only);
    if (cells.worlds.empty()) return {};
    const Builder::Origin origin(m_.builder(), n.scope, n.line);
    Lifted out;
    if (const auto rows = picked_rows(g_, n, known_); !rows.empty() && only_first_lifted(n)) {
      const Lists l = lists(cells, cells_of(n.type.shape), false);
      out.push_back({l.rows, m_.picked(n, l.rows, rows)});
      return out;
    }
    const auto one = parts_of(*n.op, c.get(), 1), two = parts_of(*n.op, c.get(), 2);
    if (!one || whole_is_lifted(n, *one, cells) || tables_are_live(n, *one)) {
      const EntryListPtr all = m_.all_rows(cells.worlds, cells_of(n.type.shape).rows);
      out.push_back({all, m_.stacked(n, cells.worlds)});
      return out;
    }
    const bool heads_apart = two && !whole_is_lifted(n, *two, cells);
    const Lists l = lists(cells, cells_of(n.type.shape), heads_apart);
    if (!l.rows->entries.empty()) out.push_back({l.rows, m_.packed(n, *one, l.rows)});
    if (!l.heads->entries.empty()) out.push_back({l.heads, m_.packed(n, *two, l.heads)});
    return out;
  }

  // Row tables that edits can change cannot be rewritten for the worlds.
  bool tables_are_live(const Node& n, const InputParts& parts) const {
    if (std::find(parts.begin(), parts.end(), InputPart::keyed) == parts.end()) return false;
    const TableInputs t = table_inputs(n);
    return live_[by_id(t.sequence)] || live_[by_id(t.position)] || live_[by_id(t.keys)];
  }
  bool only_first_lifted(const Node& n) const {
    for (std::size_t i = 1; i < n.inputs.size(); ++i) {
      if (!m_.lifted(n.inputs[i]).empty()) return false;
    }
    return true;
  }
  bool whole_is_lifted(const Node& n, const InputParts& parts, const Changed& cells) const {
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      if (parts[i] != InputPart::whole) continue;
      for (const Piece& p : m_.lifted(n.inputs[i])) {
        for (const std::int32_t w : cells.worlds) {
          if (p.list->has(w)) return true;
        }
      }
    }
    return false;
  }

  BaseRun& base_;
  const Graph& g_;
  const SweepOptions& options_;
  KnownIntegers known_;
  SweepEdits edits_;
  WorldMatrix m_;
  std::vector<Bits> demand_;  // by id: the cells that the outputs read; empty: none
  std::vector<bool> live_;    // by id: an edit leads there
  std::vector<Fact> facts_;   // by id: what holds in all worlds
  std::int32_t worlds_;
};

}  // namespace

LiftedProgram lift(BaseRun& base, const Feeds& feeds, std::span<const Interventions> worlds,
                   int first, const std::vector<std::string>& outputs,
                   const SweepOptions& options) {
  return Lifting(base, feeds, worlds, first, options).run(outputs);
}

}  // namespace vitrine

// Batched evaluation of a sweep: for each node of the base graph one matrix packs the entries of
// all worlds that differ from the base run.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "autograd/sweep/lift.h"

namespace vitrine {

// A node's changed entries: value [entries, rest of the shape] for rows, [entries, 1, rest] for
// heads.
struct Piece {
  EntryListPtr list;
  Value value;
};
// An entry that is in two pieces takes the first; one that is in none has the base run's value.
using Lifted = std::vector<Piece>;

// [n, rest] of a node's rows, or [n, 1, rest] of its heads of rows.
Shape packed_shape(const Shape& shape, int lead, std::int64_t n);

class WorldMatrix {
 public:
  WorldMatrix(BaseRun& base, int worlds);
  Builder& builder() { return b_; }

  const Lifted& lifted(NodeId id) const { return lifted_[static_cast<std::size_t>(id)]; }
  void set(NodeId id, Lifted value) { lifted_[static_cast<std::size_t>(id)] = std::move(value); }
  void add(NodeId id, const Lifted& more);  // behind those that are there
  void add_in_front(NodeId id, Piece piece);

  // Equal lists are one list, so that they can be told to be equal by their pointers.
  EntryListPtr list(int lead, std::vector<Entry> sorted);
  EntryListPtr all_rows(const std::vector<std::int32_t>& worlds, std::int64_t rows);

  // A node's values at entries of `list`, which counts rows, or heads of rows.
  Value rows_of(NodeId id, const EntryListPtr& list);
  Value base_value(NodeId id);  // all of it, as in the base run
  Value feed(const std::string& name, const Tensor& value);
  Value integers(const std::vector<std::int32_t>& values, const Shape& shape);  // fed

  // Emits the node's op for the entries of `list` alone.
  Value packed(const Node& n, const InputParts& parts, const EntryListPtr& list);
  // A node that only picks rows of its first input: row r of it is row from[r] there.
  Value picked(const Node& n, const EntryListPtr& list, const std::vector<std::int64_t>& from);
  // Emits any op in full for each world: [worlds * rows, rest]; with a batch axis for the worlds in
  // front when the op can take one, world by world when not.
  Value stacked(const Node& n, const std::vector<std::int32_t>& worlds);

  void name_site(const Node& site);  // gives its matrices their site's name
  LiftedProgram finish(const std::vector<std::string>& names, const std::vector<NodeId>& wanted);

 private:
  struct Place {  // where an entry's value is: a table, and the index in it
    int table;
    std::int64_t index;
  };
  struct Keys {
    Value sequence, position, keys;
    std::vector<Value> rows;  // by keyed input
  };
  // Entries in any order; zeros for one whose cell is -1.
  Value gathered(NodeId id, int lead, std::span<const Entry> entries);
  Keys keys_of(const Node& n, const InputParts& parts, const EntryListPtr& list);
  EntryListPtr key_entries(const Node& n, const InputParts& parts, const EntryListPtr& list);
  Value with_axis(const Node& n, const std::vector<std::int32_t>& worlds);
  Value one_by_one(const Node& n, const std::vector<std::int32_t>& worlds);
  Value all_of(NodeId id, const std::vector<std::int32_t>& worlds);  // [worlds, shape]

  BaseRun& base_;
  const Graph& g_;
  Builder b_;
  std::size_t worlds_;
  std::vector<Lifted> lifted_;                              // by id
  std::map<std::size_t, std::vector<EntryListPtr>> lists_;  // by hash
  std::map<NodeId, Value> base_values_;
  std::map<std::pair<std::vector<std::int32_t>, std::vector<std::int64_t>>, Value> integers_;
  std::vector<NodeId> reads_;
  Feeds feeds_;
};

}  // namespace vitrine

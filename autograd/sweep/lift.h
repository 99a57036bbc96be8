// Lifting (batching, as vmap does): makes one program of the base graph and the edits of some
// worlds.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "autograd/sweep/base.h"
#include "autograd/sweep/cones.h"
#include "autograd/sweep/sweep.h"

namespace vitrine {

// One place of one world: a row, or, where heads are kept apart, one head of a row
// (row * heads + head).
struct Entry {
  std::int32_t world, cell;
  friend auto operator<=>(const Entry&, const Entry&) = default;
};

// The entries of a matrix, sorted.
struct EntryList {
  int lead;  // 1: cells are rows, 2: heads of rows
  std::vector<Entry> entries;
  std::vector<std::int32_t> begin;  // by world, and one more: its range of entries
  bool has(std::int32_t world) const {
    const auto w = static_cast<std::size_t>(world);
    return begin[w] != begin[w + 1];
  }
  std::int64_t find(std::int32_t world, std::int64_t cell) const;  // -1: it is not there
};
using EntryListPtr = std::shared_ptr<const EntryList>;

struct LiftedOutput {
  struct Piece {
    std::string output;  // of the program: [entries, rest of the shape]
    EntryListPtr list;
  };
  std::string name;  // of the base graph
  NodeId node;
  std::vector<Piece> pieces;  // where a world is in two, the first counts
};

std::string base_name(NodeId id);  // "sweep.base.12"

struct LiftedProgram {
  Graph graph;               // inputs base_name(ID) are values of the base run
  Feeds feeds;               // all other inputs that the base run does not have
  std::vector<NodeId> base;  // the nodes of the base run that it reads
  std::vector<LiftedOutput> outputs;
  std::vector<bool> has_effect;  // by world
};

// `worlds` beginning with number `first` of a larger list, for error messages.
LiftedProgram lift(BaseRun& base, const Feeds& feeds, std::span<const Interventions> worlds,
                   int first, const std::vector<std::string>& outputs, const SweepOptions& options);

}  // namespace vitrine

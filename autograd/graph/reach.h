// Reach (dependence analysis): which elements of an input an element of the output can depend on.
//
// A rule is a list of links for each input. An output element may depend on an input element only
// when every link holds between their coordinates; with no link, everything may depend on
// everything. The coordinate of an axis is its index, or, for the packed row axis, the sequence or
// the position that the row table gives that row. Examples:
//
//   softmax over keys       scores[r, h, c] -> out[r, h, c]   row same, head same (keys: all)
//   attention, keys         k[j, h, e]      -> z[r, h, e']    sequence same, position <=, head same
//   slice 2:5 of axis 0     x[i]            -> y[o]           i == o + 2
//
// The tables `sequence` and `position` give the coordinates of a query row; those of a key row j
// are the (s, c) with keys[s, c] == j. A declared rule is a claim: tests perturb every
// input element and compare. Causality and the cones of a sweep are read off these rules.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vitrine {

enum class Coordinate { index, sequence, position };

enum class Relation {
  same,       // in == out * step + offset
  placed,     // out == in * step + offset
  at_most,    // in <= out + offset
  at_least,   // in >= out + offset
  in_block,   // in / step == out           (an axis split into [out, step], or merged over)
  out_block,  // in == out / step
};

struct Link {
  int in_axis = 0;
  Coordinate in = Coordinate::index;
  int out_axis = 0;
  Coordinate out = Coordinate::index;
  Relation relation = Relation::same;
  std::int64_t step = 1;
  std::int64_t offset = 0;

  bool holds(std::int64_t in_coordinate, std::int64_t out_coordinate) const;
  friend bool operator==(const Link&, const Link&) = default;
};

struct InputReach {
  bool reaches = true;  // false: the output never depends on this input's values
  std::vector<Link> links;
};
using Reach = std::vector<InputReach>;  // one per input

Link same_axis(int in_axis, int out_axis);
std::string to_string(const Reach& reach);

// A statement about the values of a node (a sparsity pattern). `mask` makes it and the ops after it
// propagate it: entries whose key index is beyond query position + offset, or with a window
// `window` or more before the query position, are -inf (masked) or exactly 0 (zero). This is how
// causality is visible in the graph: the contraction over keys reads it.
struct Fact {
  enum class Kind { none, masked, zero } kind = Kind::none;
  int query_axis = 0, key_axis = 0;
  Coordinate query = Coordinate::index;
  std::int64_t offset = 0;
  std::int32_t table = -1;  // the node of the position table that the queries were placed by
  std::int64_t window = 0;  // 0: none
  friend bool operator==(const Fact&, const Fact&) = default;
};

}  // namespace vitrine

// What attention and its steps share: row tables, groups of heads, and reach by place.
#pragma once

#include <span>

#include "autograd/graph/parts.h"
#include "autograd/ops/common.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {

inline kernels::Tables tables(const EvalCall& c, std::size_t first) {
  return {c.in[first], c.in[first + 1], c.in[first + 2]};
}
inline RowValues row_values(std::span<const Value> in, std::size_t first) {
  return {in[first], in[first + 1], in[first + 2]};
}

inline void require_tables(const InferCall& c, std::size_t first, std::int64_t rows) {
  for (std::size_t i = first; i < first + 3; ++i) {
    require(c.in[i].dtype == DType::i32, "row tables must be i32, not {}", name_of(c.in[i].dtype));
  }
  for (std::size_t i = first; i < first + 2; ++i) {
    require(c.in[i].shape == Shape{rows},
            "the {} table must have one entry for each of the {} query rows, not {}",
            i == first ? "sequence" : "position", rows, to_string(c.in[i].shape));
  }
  require(c.in[first + 2].shape.size() == 2,
          "the keys table must be [sequences, key positions], not {}",
          to_string(c.in[first + 2].shape));
}
inline void require_heads(const Type& t, std::string_view name) {
  require_float(t, name);
  require(t.shape.size() == 3, "{} must be [rows, head, e], not {}", name, to_string(t.shape));
}

// ---- grouped heads: head h reads key head h / group -------------------------------------------
// How many of `heads` share each of `key_heads`, 0 where they do not divide into groups.
inline std::int64_t group_of(std::int64_t heads, std::int64_t key_heads) {
  if (heads == key_heads) return 1;
  return key_heads > 0 && heads % key_heads == 0 ? heads / key_heads : 0;
}
// From a key head to the heads of its group, and back; axis 1 of both.
inline Link from_key_head(std::int64_t group) {
  Link l = same_axis(1, 1);
  if (group != 1) l.relation = Relation::out_block, l.step = group;
  return l;
}
inline Link to_key_head(std::int64_t group) {
  Link l = same_axis(1, 1);
  if (group != 1) l.relation = Relation::in_block, l.step = group;
  return l;
}

// Inputs: q, k, sequence, position, keys -> [rows, head, key positions]
inline Type infer_scores(const InferCall& c) {
  const Type &q = c.in[0], &k = c.in[1];
  require_heads(q, "q");
  require_heads(k, "k");
  require_same_dtype(q, k);
  require(q.shape[2] == k.shape[2] && group_of(q.shape[1], k.shape[1]) > 0,
          "q {} and k {} must have the same width, and the same heads or whole groups of q's for "
          "each of k's",
          to_string(q.shape), to_string(k.shape));
  require_tables(c, 2, q.shape[0]);
  return {q.dtype, {q.shape[0], q.shape[1], c.in[4].shape[1]}};
}

// ---- reach: key rows are found through the tables: their coordinates are sequence, position ---
inline Link link(int in_axis, Coordinate in, int out_axis, Coordinate out,
                 Relation relation = Relation::same, std::int64_t offset = 0) {
  return {.in_axis = in_axis,
          .in = in,
          .out_axis = out_axis,
          .out = out,
          .relation = relation,
          .offset = offset};
}
inline Link same_sequence(int in_axis, int out_axis) {
  return link(in_axis, Coordinate::sequence, out_axis, Coordinate::sequence);
}
inline Reach with_tables(Reach reach) {
  for (int i = 0; i < 3; ++i) reach.push_back(reach_all());
  return reach;
}

// What a query sees of the keys, and what of the queries sees a key: places of key rows and queries.
inline void see(InputReach& keys, std::int64_t offset, std::int64_t window) {
  constexpr Coordinate kPlace = Coordinate::position;
  keys.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_most, offset));
  if (window > 0) keys.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_least, 1 - window));
}
inline void seen(InputReach& queries, std::int64_t offset, std::int64_t window) {
  constexpr Coordinate kPlace = Coordinate::position;
  queries.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_least, -offset));
  if (window > 0)
    queries.links.push_back(link(0, kPlace, 0, kPlace, Relation::at_most, window - 1));
}

// A query, or a head of one, at a time; keys and values are found through the tables.
template <int keyed>
std::optional<InputParts> parts_keyed(const ReachCall&, int lead) {
  if (lead > 2) return std::nullopt;
  InputParts parts = {InputPart::same};
  for (int i = 0; i < keyed; ++i) parts.push_back(InputPart::keyed);
  parts.insert(parts.end(), {InputPart::same, InputPart::same, InputPart::whole});
  return parts;
}

}  // namespace vitrine

// Cones (program slicing): the forward slice of an edit, which is what it can change, and the
// backward slice of a result, which is what it depends on.
//
// Both follow from the reach rules. Cones distinguish the cells of a node: the entries of its first
// axis (the rows of a batch) and, in values of three axes or more, of its second one (the heads).
// A relation says which cells of an op's output a cell of one of its inputs reaches; followed
// forwards it gives what an edit can change, followed backwards what a metric reads.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "autograd/graph/graph.h"
#include "autograd/graph/parts.h"

namespace vitrine {

struct Cells {
  std::int64_t rows = 1, heads = 1;
  std::int64_t count() const { return rows * heads; }
};
Cells cells_of(const Shape& shape);

// A set of small integers.
class Bits {
 public:
  Bits() = default;
  explicit Bits(std::int64_t size) : words_(static_cast<std::size_t>((size + 63) / 64), 0) {}
  void set(std::int64_t i) { words_[at(i)] |= bit(i); }
  bool test(std::int64_t i) const { return (words_[at(i)] & bit(i)) != 0; }
  void set_range(std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) set(i);
  }
  void set_all(std::int64_t size) { set_range(0, size); }
  bool any() const;
  bool empty() const { return words_.empty(); }  // no bit was ever set
  Bits& operator|=(const Bits& other);
  Bits& operator&=(const Bits& other);
  template <class F>
  void for_each(const F& f) const {  // in increasing order
    for (std::size_t w = 0; w < words_.size(); ++w) {
      for (std::uint64_t rest = words_[w]; rest != 0; rest &= rest - 1)
        f(static_cast<std::int64_t>(w) * 64 + __builtin_ctzll(rest));
    }
  }

 private:
  static std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i / 64); }
  static std::uint64_t bit(std::int64_t i) { return std::uint64_t{1} << (i % 64); }
  std::vector<std::uint64_t> words_;
};

// From the cells of one input of an op to the cells of its output: a relation of rows times one of
// heads.
class CellReach {
 public:
  struct Along {  // one of the two axes
    enum class Kind { none, same, all, listed } kind = Kind::all;
    std::vector<std::vector<std::int32_t>> to;  // listed: by input index
    std::int64_t in = 1, out = 1;
    template <class F>
    void for_each(std::int64_t i, const F& f) const {
      if (kind == Kind::same) f(i);
      else if (kind == Kind::all)
        for (std::int64_t o = 0; o < out; ++o) f(o);
      else if (kind == Kind::listed)
        for (const std::int32_t o : to[static_cast<std::size_t>(i)]) f(o);
    }
  };
  Along rows, heads;
  bool swapped = false;  // the op changes the two axes' places: `rows` says where heads go

  // Adds to `out` what cell (row, head) reaches.
  void spread(std::int64_t row, std::int64_t head, Bits& out) const;
  bool reaches_any(std::int64_t row, std::int64_t head, const Bits& out) const;
};

// The value of an integer node (a table, an index) in the run that the cones are drawn for; null
// when edits can change it.
using KnownIntegers = std::function<const std::vector<std::int64_t>*(NodeId)>;

// Row tables are always the last inputs of an op with keyed inputs.
struct TableInputs {
  NodeId sequence, position, keys;
};
TableInputs table_inputs(const Node& node);

// `parts`: of the node at lead 1, if it has any.
CellReach cell_reach(const Graph& graph, const Node& node, std::size_t input, const ReachCall& call,
                     const std::optional<InputParts>& parts, const KnownIntegers& known);

// For ops that only select rows of their first input (gather_rows by a known index, slices of the
// first axis): the input's row for each row of the output, -1 for none. Empty for all others.
std::vector<std::int64_t> picked_rows(const Graph& graph, const Node& node,
                                      const KnownIntegers& known);

}  // namespace vitrine

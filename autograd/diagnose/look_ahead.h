// Look-ahead (dependence analysis over token positions): how far beyond its own position each value
// can depend on tokens, followed through the graph by the reach rules. Not installed.
//
// A value depends on tokens by paths. Along one path an element depends on a token at position s
// only when s <= i_a + ahead_a for every axis a that the path has a bound for, i_a being the
// element's index on it. Scores q k^T have two: s <= query (through q) and s <= key (through k). A
// mask says key <= query + offset, which gives the second path s <= query + offset too; that bound
// is what softmax leaves when it sums over the keys. A path without a bound: any token.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autograd/diagnose/mask_reading.h"
#include "autograd/graph/graph.h"

namespace vitrine {

using AheadByAxis = std::map<int, std::int64_t>;          // one path; empty: any token
using TokenPaths = std::map<std::uint32_t, AheadByAxis>;  // by the set of its axes, as bits

// A mask that holds of a value: the fact, where it was stated, and how far ahead of its own token a
// query sees by it. `ahead` is not the offset where keys or queries are shifted, as behind a cache.
struct StatedMask {
  Fact fact;
  NodeId origin = kNoNode;  // the mask op, or the constant or input that was read
  std::int64_t ahead = 0;
  bool read = false;  // from numbers
  explicit operator bool() const { return fact.kind != Fact::Kind::none; }
};

// A place where a value takes from tokens at other positions than its own.
struct Mixing {
  enum class Limit {
    mask,     // a mask op, or the op's own rule
    read,     // a mask that was read from numbers
    unread,   // a mask that is data, and was not given
    lost,     // a mask that the contraction over keys could not be shown to keep
    unruled,  // an op without a reach rule, or rows chosen by data
    none      // nothing
  };
  Limit limit = Limit::none;
  NodeId node = kNoNode;    // the op that sums over positions
  int value_input = -1;     // its input that has them
  NodeId origin = kNoNode;  // what to name: mask, constant, input, or the node itself
  std::int64_t ahead = 0;   // of mask and read: how far ahead of its own token a query sees
};

// Something that was read of a mask's numbers at `node`.
struct ReadMask {
  NodeId node = kNoNode, origin = kNoNode;
  MaskReading reading;
};

struct LookAhead {
  std::vector<TokenPaths> paths;  // by id
  std::vector<Mixing> mixings;
  std::vector<ReadMask> read;
  std::vector<NodeId> candidates;  // values without tokens that may be masks
};

// The values of nodes that do not depend on tokens, where they are known; null: not known.
using KnownValues = std::function<const Tensor*(NodeId)>;

// `source`: the node that holds the tokens, along `axis`.
LookAhead look_ahead(const Graph& graph, NodeId source, int axis, const KnownValues& known);

// How far the value's tokens lie ahead of index i on `axis`, at most; null: there is no bound.
std::optional<std::int64_t> ahead_along(const TokenPaths& paths, int axis);
// The axis of a value along which its tokens lie: the one that bounds most paths, or -1.
int token_axis(const TokenPaths& paths);

// The input, parameter or op that made a value, behind views of it.
NodeId maker_of(const Graph& graph, NodeId value);
// What made a mask: the one leaf whose numbers it is a function of, each of one, or else the op.
NodeId maker_of_mask(const Graph& graph, NodeId mask);

}  // namespace vitrine

// Sets of edges of a residual stream, and the circuits that are made of them.
//
//   EdgeGrid grid = edge_grid(nn::stream_edges(m.config()));
//   EdgeMask circuit = pruned(grid, strongest_edges(grid, scores, 100));
//   circuit.count();
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/edges/edge_set.h"
#include "tensor/tensor.h"

namespace vitrine::interp {

// The edges that there are, by number: u a sender, v a receiver (autograd/edges/edge_set.h).
struct EdgeGrid {
  std::vector<std::string> senders, receivers;
  std::vector<std::size_t> reads;               // receiver v reads the senders below reads[v]
  std::vector<std::vector<std::size_t>> feeds;  // senders that are computed from receiver v

  bool valid(std::size_t u, std::size_t v) const { return u < reads[v]; }
  std::size_t count() const;  // of valid edges
  Tensor valid() const;       // boolean [senders, receivers]
  std::string name(std::size_t u, std::size_t v) const { return senders[u] + "->" + receivers[v]; }
  std::size_t sender(std::string_view name) const;    // throws Error (usage) with the nearest names
  std::size_t receiver(std::string_view name) const;  // likewise
  friend bool operator==(const EdgeGrid&, const EdgeGrid&) = default;
};
EdgeGrid edge_grid(const EdgeSet& edges);

struct StreamEdge {
  std::size_t sender, receiver;
  friend auto operator<=>(const StreamEdge&, const StreamEdge&) = default;
};

// One edge, at one position or at all.
struct EdgePlace {
  StreamEdge edge;
  std::int64_t pos = -1;
  friend bool operator==(const EdgePlace&, const EdgePlace&) = default;
};

// A set of edges.
class EdgeMask {
 public:
  EdgeMask() = default;
  explicit EdgeMask(const EdgeGrid& grid)
      : receivers_(grid.receivers.size()), on_(grid.senders.size() * receivers_, 0) {}

  bool has(std::size_t u, std::size_t v) const { return on_[u * receivers_ + v] != 0; }
  bool has(const StreamEdge& e) const { return has(e.sender, e.receiver); }
  void set(std::size_t u, std::size_t v, bool on = true) { on_[u * receivers_ + v] = on ? 1 : 0; }
  void set(const StreamEdge& e, bool on = true) { set(e.sender, e.receiver, on); }
  std::size_t count() const;
  std::vector<StreamEdge> edges() const;  // by sender, then by receiver
  Tensor tensor() const;                  // boolean [senders, receivers]
  friend bool operator==(const EdgeMask&, const EdgeMask&) = default;

 private:
  std::size_t receivers_ = 0;
  std::vector<std::uint8_t> on_;  // [senders, receivers]
};

EdgeMask all_edges(const EdgeGrid& grid);
EdgeMask without(const EdgeMask& a, const EdgeMask& b);  // edges of a that b does not have
EdgeMask common(const EdgeMask& a, const EdgeMask& b);
// Throws ShapeError unless it is [senders, receivers], and for an edge that there is not.
EdgeMask mask_of(const EdgeGrid& grid, const Tensor& tensor);

// ---- circuits from scores -----------------------------------------------------------------------
// scores: f64 [senders, receivers]; what is not a valid edge does not count.

// By what edges are ranked: by |score|, or by the score with its sign, largest first.
enum class EdgeRank { absolute, raising };
// All valid edges, the strongest first; of equal ones the first in the order of the grid.
std::vector<StreamEdge> ranked_edges(const EdgeGrid& grid, const Tensor& scores,
                                     EdgeRank rank = EdgeRank::absolute);
EdgeMask strongest_edges(const EdgeGrid& grid, const Tensor& scores, std::size_t n,
                         EdgeRank rank = EdgeRank::absolute);
// Grown from the logits: again and again the strongest edge into what is there already, so that
// every edge leads to the logits. (Hanna et al. 2024.)
EdgeMask grown_edges(const EdgeGrid& grid, const Tensor& scores, std::size_t n,
                     EdgeRank rank = EdgeRank::absolute);
// As many edges as fit on random paths from the first sender to a receiver that feeds nothing: what
// circuits are compared with. At most n.
EdgeMask random_edges(const EdgeGrid& grid, std::size_t n, std::mt19937_64& random);

// ---- nodes --------------------------------------------------------------------------------------
// The senders that a circuit keeps: those with an edge out of them in it and, but for the first
// one, the input, an edge into them. Edges that lead nowhere or come from nowhere go, until nothing
// changes; what they carried is the corrupt run's, so the metric stays.
std::vector<bool> kept_senders(const EdgeGrid& grid, const EdgeMask& circuit);
EdgeMask pruned(const EdgeGrid& grid, const EdgeMask& circuit);
// For each of `edges` the least n for which the first n of them, pruned, have it: what a threshold leaves, of all
// thresholds at once. 0 where it is in none.
std::vector<std::size_t> kept_from(const EdgeGrid& grid, const std::vector<StreamEdge>& edges);

// How much two circuits have in common.
struct EdgeOverlap {
  std::size_t first = 0, second = 0, both = 0;  // edges
  std::size_t nodes_first = 0, nodes_second = 0, nodes_both = 0;
  double jaccard() const;  // shared / all edges of the two; 1 for two empty ones
};
EdgeOverlap overlap(const EdgeGrid& grid, const EdgeMask& a, const EdgeMask& b);

}  // namespace vitrine::interp

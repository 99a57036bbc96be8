#include "interp/circuits/edge_mask.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <queue>

#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::interp {
namespace {

std::size_t named(const std::vector<std::string>& names, std::string_view name, const char* what) {
  const auto it = std::find(names.begin(), names.end(), name);
  if (it != names.end()) return static_cast<std::size_t>(it - names.begin());
  throw Error(ErrorKind::usage,
              fmt::format("there is no {} '{}'{}", what, name, did_you_mean(nearest(name, names))));
}

double strength(double score, EdgeRank rank) {
  return rank == EdgeRank::absolute ? std::abs(score) : score;
}

// Receivers that are computed into a sender.
std::vector<std::vector<std::size_t>> own_receivers(const EdgeGrid& grid) {
  std::vector<std::vector<std::size_t>> own(grid.senders.size());
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    for (const std::size_t u : grid.feeds[v]) own[u].push_back(v);
  }
  return own;
}

}  // namespace

std::size_t EdgeGrid::count() const {
  return std::accumulate(reads.begin(), reads.end(), std::size_t{0});
}
Tensor EdgeGrid::valid() const { return all_edges(*this).tensor(); }
std::size_t EdgeGrid::sender(std::string_view name) const { return named(senders, name, "sender"); }
std::size_t EdgeGrid::receiver(std::string_view name) const {
  return named(receivers, name, "receiver");
}

EdgeGrid edge_grid(const EdgeSet& edges) {
  return {edges.sender_names(), edges.receiver_names(), edges.reads(), edges.feeds()};
}

std::size_t EdgeMask::count() const {
  return static_cast<std::size_t>(std::count(on_.begin(), on_.end(), 1));
}

std::vector<StreamEdge> EdgeMask::edges() const {
  std::vector<StreamEdge> all;
  for (std::size_t i = 0; i < on_.size(); ++i) {
    if (on_[i] != 0) all.push_back({i / receivers_, i % receivers_});
  }
  return all;
}

Tensor EdgeMask::tensor() const {
  const auto r = static_cast<std::int64_t>(receivers_),
             s = r == 0 ? 0 : static_cast<std::int64_t>(on_.size()) / r;
  Tensor t = Tensor::empty({s, r}, DType::boolean);
  std::copy(on_.begin(), on_.end(), reinterpret_cast<std::uint8_t*>(t.view().data));
  return t;
}

EdgeMask all_edges(const EdgeGrid& grid) {
  EdgeMask mask(grid);
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    for (std::size_t u = 0; u < grid.reads[v]; ++u) mask.set(u, v);
  }
  return mask;
}

EdgeMask without(const EdgeMask& a, const EdgeMask& b) {
  EdgeMask rest = a;
  for (const StreamEdge& e : b.edges()) rest.set(e, false);
  return rest;
}
EdgeMask common(const EdgeMask& a, const EdgeMask& b) { return without(a, without(a, b)); }

EdgeMask mask_of(const EdgeGrid& grid, const Tensor& tensor) {
  const Shape expected{std::ssize(grid.senders), std::ssize(grid.receivers)};
  if (!(tensor.shape() == expected)) {
    throw ShapeError(fmt::format("a set of edges is {} here, [senders, receivers], not {}",
                                 to_string(expected), to_string(tensor.shape())));
  }
  EdgeMask mask(grid);
  const auto values = tensor.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0) continue;
    const std::size_t u = i / grid.receivers.size(), v = i % grid.receivers.size();
    if (!grid.valid(u, v)) {
      throw ShapeError(fmt::format("{} is no edge: '{}' does not come before '{}'", grid.name(u, v),
                                   grid.senders[u], grid.receivers[v]));
    }
    mask.set(u, v);
  }
  return mask;
}

// ---- from scores --------------------------------------------------------------------------------
std::vector<StreamEdge> ranked_edges(const EdgeGrid& grid, const Tensor& scores, EdgeRank rank) {
  const auto values = scores.to_vector<double>();
  std::vector<StreamEdge> edges = all_edges(grid).edges();
  const auto of = [&](const StreamEdge& e) {
    return strength(values[e.sender * grid.receivers.size() + e.receiver], rank);
  };
  std::stable_sort(edges.begin(), edges.end(),
                   [&](const StreamEdge& a, const StreamEdge& b) { return of(a) > of(b); });
  return edges;
}

EdgeMask strongest_edges(const EdgeGrid& grid, const Tensor& scores, std::size_t n, EdgeRank rank) {
  const std::vector<StreamEdge> edges = ranked_edges(grid, scores, rank);
  EdgeMask mask(grid);
  for (std::size_t i = 0; i < std::min(n, edges.size()); ++i) mask.set(edges[i]);
  return mask;
}

EdgeMask grown_edges(const EdgeGrid& grid, const Tensor& scores, std::size_t n, EdgeRank rank) {
  const auto values = scores.to_vector<double>();
  struct Candidate {
    double strength;
    StreamEdge edge;
    bool operator<(const Candidate& o) const {  // the largest first; of equal ones the first
      return strength != o.strength ? strength < o.strength : edge > o.edge;
    }
  };
  std::priority_queue<Candidate> open;
  const auto offer = [&](std::size_t v) {
    for (std::size_t u = 0; u < grid.reads[v]; ++u)
      open.push({strength(values[u * grid.receivers.size() + v], rank), {u, v}});
  };
  std::vector<bool> offered(grid.receivers.size(), false);
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    if (grid.feeds[v].empty()) offered[v] = true, offer(v);
  }
  const auto own = own_receivers(grid);
  EdgeMask mask(grid);
  for (std::size_t taken = 0; taken < n && !open.empty(); ++taken) {
    const StreamEdge edge = open.top().edge;
    open.pop();
    mask.set(edge);
    for (const std::size_t v : own[edge.sender]) {
      if (!offered[v]) offered[v] = true, offer(v);
    }
  }
  return mask;
}

EdgeMask random_edges(const EdgeGrid& grid, std::size_t n, std::mt19937_64& random) {
  const auto below = [&](std::size_t count) { return random() % count; };
  const auto own = own_receivers(grid);
  std::vector<std::size_t> ends;
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    if (grid.feeds[v].empty() && grid.reads[v] > 0) ends.push_back(v);
  }
  EdgeMask mask(grid);
  std::size_t count = 0;
  for (int failures = 0; count < n && failures < 1000 && !ends.empty();) {
    std::vector<StreamEdge> path;
    for (std::size_t v = ends[below(ends.size())];;) {
      const std::size_t u = below(grid.reads[v]);
      if (!mask.has(u, v)) path.push_back({u, v});
      std::vector<std::size_t> next;
      for (const std::size_t r : own[u]) {
        if (grid.reads[r] > 0) next.push_back(r);
      }
      if (next.empty()) break;
      v = next[below(next.size())];
    }
    if (path.empty() || count + path.size() > n) {
      ++failures;
      continue;
    }
    for (const StreamEdge& e : path) mask.set(e);
    count += path.size();
  }
  return mask;
}

// ---- nodes --------------------------------------------------------------------------------------
std::vector<bool> kept_senders(const EdgeGrid& grid, const EdgeMask& circuit) {
  const EdgeMask rest = pruned(grid, circuit);
  std::vector<bool> kept(grid.senders.size(), false);
  for (const StreamEdge& e : rest.edges()) kept[e.sender] = true;
  return kept;
}

EdgeMask pruned(const EdgeGrid& grid, const EdgeMask& circuit) {
  EdgeMask rest = circuit;
  const auto own = own_receivers(grid);
  for (;;) {
    const std::vector<StreamEdge> edges = rest.edges();
    std::vector<bool> sends(grid.senders.size(), false), hears(grid.receivers.size(), false);
    for (const StreamEdge& e : edges) sends[e.sender] = hears[e.receiver] = true;
    std::vector<bool> stays(grid.senders.size(), false);
    for (std::size_t u = 0; u < grid.senders.size(); ++u) {
      // What is computed from no receiver is an input of the model.
      stays[u] =
          sends[u] && (own[u].empty() || std::any_of(own[u].begin(), own[u].end(),
                                                     [&](std::size_t v) { return hears[v]; }));
    }
    for (const StreamEdge& e : edges) {
      const auto& feeds = grid.feeds[e.receiver];
      const bool leads_on = feeds.empty() || std::any_of(feeds.begin(), feeds.end(),
                                                         [&](std::size_t u) { return stays[u]; });
      if (!stays[e.sender] || !leads_on) rest.set(e, false);
    }
    if (rest.count() == edges.size()) return rest;
  }
}

double EdgeOverlap::jaccard() const {
  const std::size_t all = first + second - both;
  return all == 0 ? 1 : static_cast<double>(both) / static_cast<double>(all);
}

// An edge stays once it is taken, its sender is reached from an input, and its receiver leads to an end. Both are
// the least, over all ways, of the number of the last edge of a way.
std::vector<std::size_t> kept_from(const EdgeGrid& grid, const std::vector<StreamEdge>& edges) {
  constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();
  const std::size_t receivers = grid.receivers.size();
  std::vector<std::size_t> taken(grid.senders.size() * receivers, kNever);
  for (std::size_t i = 0; i < edges.size(); ++i)
    taken[edges[i].sender * receivers + edges[i].receiver] = i + 1;

  const auto own = own_receivers(grid);
  std::vector<std::size_t> reached(grid.senders.size(), kNever), leads(receivers, kNever);
  for (std::size_t u = 0; u < reached.size(); ++u) {
    if (own[u].empty()) reached[u] = 0;
    for (const std::size_t v : own[u]) {
      for (std::size_t w = 0; w < grid.reads[v]; ++w)
        reached[u] = std::min(reached[u], std::max(taken[w * receivers + v], reached[w]));
    }
  }
  for (std::size_t v = receivers; v-- > 0;) {
    if (grid.feeds[v].empty()) leads[v] = 0;
    for (const std::size_t u : grid.feeds[v]) {
      for (std::size_t next = v + 1; next < receivers; ++next)
        leads[v] = std::min(leads[v], std::max(taken[u * receivers + next], leads[next]));
    }
  }
  std::vector<std::size_t> from;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const std::size_t n = std::max({i + 1, reached[edges[i].sender], leads[edges[i].receiver]});
    from.push_back(n == kNever ? 0 : n);
  }
  return from;
}

EdgeOverlap overlap(const EdgeGrid& grid, const EdgeMask& a, const EdgeMask& b) {
  EdgeOverlap o{a.count(), b.count(), common(a, b).count()};
  const std::vector<bool> in_a = kept_senders(grid, a), in_b = kept_senders(grid, b);
  for (std::size_t u = 0; u < grid.senders.size(); ++u) {
    o.nodes_first += in_a[u] ? 1 : 0;
    o.nodes_second += in_b[u] ? 1 : 0;
    o.nodes_both += in_a[u] && in_b[u] ? 1 : 0;
  }
  return o;
}

}  // namespace vitrine::interp

#include "autograd/edges/edge_set.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

template <class Group>
std::vector<std::string> names_of(const std::vector<Group>& groups) {
  std::vector<std::string> names;
  for (const Group& g : groups) names.insert(names.end(), g.names.begin(), g.names.end());
  return names;
}
template <class Group>
std::size_t count_of(const std::vector<Group>& groups) {
  std::size_t count = 0;
  for (const Group& g : groups) count += g.names.size();
  return count;
}

}  // namespace

std::vector<std::string> EdgeSet::sender_names() const { return names_of(senders); }
std::vector<std::string> EdgeSet::receiver_names() const { return names_of(receivers); }
std::size_t EdgeSet::sender_count() const { return count_of(senders); }
std::size_t EdgeSet::receiver_count() const { return count_of(receivers); }

std::vector<std::size_t> EdgeSet::reads() const {
  std::vector<std::size_t> all;
  for (const EdgeReceivers& r : receivers) all.insert(all.end(), r.names.size(), r.reads);
  return all;
}

std::vector<std::vector<std::size_t>> EdgeSet::feeds() const {
  std::vector<std::vector<std::size_t>> all;
  for (const EdgeReceivers& r : receivers) all.insert(all.end(), r.feeds.begin(), r.feeds.end());
  return all;
}

namespace {

// Groups of senders are read whole.
void check_whole_groups(const EdgeSet& edges, const EdgeReceivers& r) {
  std::size_t begin = 0;
  for (const EdgeSenders& s : edges.senders) {
    const std::size_t end = begin + s.names.size();
    if (begin < r.reads && r.reads < end) {
      throw GraphError(fmt::format(
          "edges: '{}' reads '{}' but not '{}', which are one group of senders; make two groups of "
          "them",
          r.names[0], s.names[0], s.names[r.reads - begin]));
    }
    begin = end;
  }
}

}  // namespace

void check_edges(const Graph& graph, const EdgeSet& edges) {
  const std::size_t senders = edges.sender_count();
  for (const EdgeSenders& s : edges.senders) {
    if (s.names.empty()) throw GraphError("edges: a group of senders has no names");
    if (!s.emit) {
      throw GraphError(fmt::format(
          "edges: nothing emits what '{}' adds to the stream; give a function", s.names[0]));
    }
  }
  for (const EdgeReceivers& r : edges.receivers) {
    if (r.names.empty()) {
      throw GraphError(
          fmt::format("edges: the receivers that read at '{}' have no names", r.site.name));
    }
    const Shape& shape = graph.site(r.site.name).type.shape;
    const bool fits = r.names.size() == 1
                          ? shape.size() == 2 || (shape.size() == 3 && shape[1] == 1)
                          : shape.size() == 3 && shape[1] == std::ssize(r.names);
    if (!fits) {
      throw GraphError(fmt::format(
          "edges: {} receivers are to read at '{}', which is {}; one reads [rows, d], several read "
          "[rows, {}, d]",
          r.names.size(), r.site.name, to_string(shape), r.names.size()));
    }
    if (r.reads > senders) {
      throw GraphError(fmt::format("edges: '{}' is to read {} senders, but there are {}",
                                   r.names[0], r.reads, senders));
    }
    check_whole_groups(edges, r);
    if (r.feeds.size() != r.names.size()) {
      throw GraphError(
          fmt::format("edges: say of each of the {} receivers at '{}' which senders are computed "
                      "from it; there are {} such lists",
                      r.names.size(), r.site.name, r.feeds.size()));
    }
  }
}

EdgeSet with_parts(const EdgeSet& edges, const std::string& sender, const EdgeSenders& parts) {
  EdgeSet out;
  std::size_t at = 0, before = 0;  // of the sender
  bool found = false;
  for (const EdgeSenders& s : edges.senders) {
    const auto it = std::find(s.names.begin(), s.names.end(), sender);
    if (it == s.names.end()) {
      out.senders.push_back(s);
    } else if (s.names.size() > 1) {
      throw GraphError(fmt::format(
          "edges: '{}' is one of {} senders that are given together; only a sender by itself is "
          "replaced by parts",
          sender, s.names.size()));
    } else {
      out.senders.push_back(parts);
      at = before;
      found = true;
    }
    before += s.names.size();
  }
  if (!found)
    throw GraphError(fmt::format("edges: there is no sender '{}' to be replaced", sender));
  const std::size_t more = parts.names.size() - 1;
  for (EdgeReceivers r : edges.receivers) {
    if (r.reads > at) r.reads += more;
    for (std::vector<std::size_t>& feeds : r.feeds) {
      std::vector<std::size_t> moved;
      for (const std::size_t u : feeds) {
        if (u != at) moved.push_back(u > at ? u + more : u);
        for (std::size_t i = 0; i <= more && u == at; ++i) moved.push_back(at + i);
      }
      feeds = std::move(moved);
    }
    out.receivers.push_back(std::move(r));
  }
  return out;
}

SenderValues::SenderValues(Builder& b, const EdgeSet& edges)
    : b_(b), edges_(edges), groups_(edges.senders.size()) {}

const Value& SenderValues::group(std::size_t g) {
  Value& known = groups_[g];
  if (known.defined()) return known;
  const EdgeSenders& senders = edges_.senders[g];
  const auto count = std::ssize(senders.names);
  const Value out = senders.emit(b_);
  if (!out.defined()) {
    throw GraphError(
        fmt::format("edges: the function of sender '{}' gave no value", senders.names[0]));
  }
  const Shape& shape = out.shape();
  if (shape.size() == 3 && shape[1] == count) return known = out;
  if (shape.size() == 2 && count == 1) return known = reshape(out, {shape[0], 1, shape[1]});
  throw GraphError(fmt::format("edges: the function of sender '{}' gave {}; expected [rows, {}, d]",
                               senders.names[0], to_string(shape), count));
}

Value SenderValues::all() {
  std::vector<Value> parts;
  for (std::size_t g = 0; g < groups_.size(); ++g) parts.push_back(group(g));
  return parts.size() == 1 ? parts[0] : concat(parts, 1);
}

Graph with_senders(const Graph& graph, const EdgeSet& edges) {
  check_edges(graph, edges);
  Builder b(graph);
  SenderValues senders(b, edges);
  b.output("edges.senders", senders.all());
  return std::move(b).finish();
}

}  // namespace vitrine

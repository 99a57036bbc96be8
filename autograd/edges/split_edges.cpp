#include "autograd/edges/split_edges.h"

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// out_u(other) - out_u of all senders, as far as a receiver reads them.
class Changes {
 public:
  Changes(const EdgeSet& edges, SenderValues& senders, const Value& other, const Value& row)
      : edges_(edges), senders_(senders), other_(other), row_(row), groups_(edges.senders.size()) {}

  Value first(std::size_t count) {  // [rows, count, d]
    for (const auto& [n, value] : firsts_) {
      if (n == count) return value;
    }
    std::vector<Value> parts;
    std::size_t begin = 0;
    if (!firsts_.empty() && firsts_.back().first < count) {
      begin = firsts_.back().first;
      parts.push_back(firsts_.back().second);
    }
    for (std::size_t g = 0, at = 0; at < count; at += edges_.senders[g++].names.size()) {
      if (at >= begin) parts.push_back(group(g, at));
    }
    const Value all = parts.size() == 1 ? parts[0] : concat(parts, 1);
    firsts_.emplace_back(count, all);
    return all;
  }

 private:
  Value group(std::size_t g, std::size_t at) {
    Value& known = groups_[g];
    if (known.defined()) return known;
    const auto from = static_cast<std::int64_t>(at);
    const Value theirs = slice(other_, 1, from, from + std::ssize(edges_.senders[g].names));
    return known = gather_rows(theirs, row_) - senders_.group(g);
  }

  const EdgeSet& edges_;
  SenderValues& senders_;
  Value other_, row_;
  std::vector<Value> groups_;
  std::vector<std::pair<std::size_t, Value>> firsts_;  // by count, increasing
};

}  // namespace

Graph split_edges(const Graph& graph, const EdgeSet& edges, const SplitOptions& options) {
  check_edges(graph, edges);
  if (!graph.rows())
    throw GraphError("edges are split in graphs whose rows have a table of sequences");
  if (graph.leaf("edges.cut") != kNoNode)
    throw GraphError("the edges of this graph are split already (it has the input 'edges.cut')");

  std::vector<std::string> sites;
  for (const EdgeReceivers& r : edges.receivers) sites.push_back(r.site.name);
  Builder b(expand_sites(graph, sites));
  const Value sequence = b.value(b.row_table().sequence);
  const std::int64_t rows = sequence.dim(0), sequences = b.value(b.row_table().keys).dim(0);
  const auto s = static_cast<std::int64_t>(edges.sender_count()),
             r = static_cast<std::int64_t>(edges.receiver_count());

  SenderValues senders(b, edges);
  const Value& any = senders.group(0);
  const DType dtype = any.dtype();
  const Value other = b.input(
      "edges.other", {dtype, {options.other_rows > 0 ? options.other_rows : rows, s, any.dim(2)}});
  const Value row = b.input("edges.row", {DType::i32, {rows}});
  const Value cut = b.input("edges.cut", {dtype, {options.by_position ? rows : sequences, r, s}});

  Changes changes(edges, senders, other, row);
  std::int64_t first = 0;  // receiver of the group
  for (const EdgeReceivers& receivers : edges.receivers) {
    const std::int64_t count = std::ssize(receivers.names);
    const auto reads = static_cast<std::int64_t>(receivers.reads);
    if (reads > 0) {
      const NodeId site = b.at(receivers.site).id();
      const Value x = b.value(b.node(site).inputs[0]);
      const Builder::Origin origin(b, b.node(site).scope, b.node(site).line);
      Value mask = slice(slice(cut, 1, first, first + count), 2, 0, reads);
      if (!options.by_position) mask = gather_rows(mask, sequence);      // [rows, count, reads]
      const Value moved = matmul(mask, changes.first(receivers.reads));  // [rows, count, d]
      b.edit_site(receivers.site.name, x + reshape(moved, x.shape()));
    }
    first += count;
  }
  return std::move(b).finish();
}

}  // namespace vitrine

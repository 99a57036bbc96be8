// Edges of a residual stream: who adds to it, and who reads it.
//
// In a transformer every part reads the sum of what all earlier parts wrote, so the input of a
// reader v is a sum with one term for each earlier writer u. An *edge* u -> v is one such term: the
// output of u as v alone sees it. A model's edges are nn::stream_edges; a graph of one's own states
// its own.
//
//   EdgeSet edges;
//   edges.senders = {{{"embed"}, [](Builder& b) { return b.at(Site{"mine.embed"}); }},
//                    {{"a0", "a1"}, [](Builder& b) { return b.at(Site{"mine.written"}); }}};
//   edges.receivers = {{{"a0<q>", "a1<q>"}, Site{"mine.q_input"}, 1, {{1}, {2}}},
//                      {{"logits"}, Site{"mine.stream"}, 3, {{}}}};
//   Graph split = split_edges(graph, edges);
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autograd/graph/builder.h"

namespace vitrine {

// Parts of a graph that write to the stream.
struct EdgeSenders {
  std::vector<std::string> names;
  // Emits what each of them adds: [rows, names, d], or [rows, d] of one.
  std::function<Value(Builder&)> emit;
};

// Places at which the stream is read.
struct EdgeReceivers {
  std::vector<std::string> names;
  Site site;          // [rows, d], or [rows, names, d]: the stream as each of them sees it
  std::size_t reads;  // the stream is here the sum of the first `reads` senders
  // Of each receiver the senders that are computed from it, by number: of the query input of a head
  // this head. None: the end of the model.
  std::vector<std::vector<std::size_t>> feeds;
};

struct EdgeSet {
  std::vector<EdgeSenders> senders;      // in the order in which they are computed
  std::vector<EdgeReceivers> receivers;  // likewise

  std::vector<std::string> sender_names() const;
  std::vector<std::string> receiver_names() const;
  std::size_t sender_count() const;
  std::size_t receiver_count() const;
  std::vector<std::size_t> reads() const;               // of each receiver
  std::vector<std::vector<std::size_t>> feeds() const;  // of each receiver
};

// Throws GraphError, naming it, for a group without names, a receiver that reads more senders than
// there are or a part of a group, and a site that does not have the shape above or is not in the graph (SiteError).
void check_edges(const Graph& graph, const EdgeSet& edges);

// The same edges with one sender replaced by several that add up to it: a head by its values' parts,
// an MLP by the features and the error of a sparse autoencoder that is spliced in behind it. What
// read the sender reads all parts, and what it was computed from feeds all of them. Throws GraphError
// for a sender that is not there, or is one of a group.
EdgeSet with_parts(const EdgeSet& edges, const std::string& sender, const EdgeSenders& parts);

// The senders of one graph as values, each emitted once, when it is first asked for.
class SenderValues {
 public:
  SenderValues(Builder& b, const EdgeSet& edges);
  // The outputs of the senders of group g: [rows, names, d].
  const Value& group(std::size_t g);
  Value all();  // [rows, senders, d]

 private:
  Builder& b_;
  const EdgeSet& edges_;
  std::vector<Value> groups_;
};

// The output edges.senders [rows, senders, d]: what each sender adds to the stream in this run.
Graph with_senders(const Graph& graph, const EdgeSet& edges);

}  // namespace vitrine

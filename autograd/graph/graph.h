// Graph: the intermediate representation, an immutable and topologically ordered computation graph.
// A Builder makes it, transformations make new graphs of it, a Plan runs it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/op.h"

namespace vitrine {

using NodeId = std::int32_t;  // persists across transformations
inline constexpr NodeId kNoNode = -1;
inline std::size_t by_id(NodeId id) { return static_cast<std::size_t>(id); }  // of vectors

// The line of the model (or of a transformation) that emitted a node.
struct SourceLine {
  const char* file = "";
  int line = 0;
  SourceLine() = default;
  static SourceLine here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    SourceLine s;
    s.file = file;
    s.line = line;
    return s;
  }
};

struct Node {
  NodeId id = kNoNode;
  const OpDef* op = nullptr;
  Attributes attributes;
  std::vector<NodeId> inputs;
  Type type;
  std::string scope;  // "blocks.3.attn": where in the model
  SourceLine line;
};

bool is_identity(const Node& node);  // site, identity, detach: the value of its input
bool passes_on(const Node& node);    // site, identity: its gradient too

// An entry of the graph's site table. Most sites are nodes; those inside a composite become nodes
// when it is expanded.
struct SiteEntry {
  std::string name;
  Axes axes;
  Type type;
  NodeId node = kNoNode;    // the site's identity node, or the composite that hides it
  NodeId before = kNoNode;  // the value that arrives, before edits; kNoNode while interior
  bool interior() const { return before == kNoNode; }
};

// The row table of a ragged batch: graph inputs that say, for each packed row, its sequence and
// position, and for each sequence the key row at each position (-1: none). See "Rows" in
// autograd/README.md.
struct RowTable {
  NodeId sequence = kNoNode, position = kNoNode, keys = kNoNode;
};

class Graph {
 public:
  Graph() = default;

  std::span<const Node> nodes() const { return nodes_; }  // in topological order
  bool contains(NodeId id) const;
  const Node& node(NodeId id) const;  // throws GraphError when it is gone
  NodeId next_id() const { return static_cast<NodeId>(position_.size()); }

  const std::vector<SiteEntry>& sites() const { return sites_; }  // in the order of the model
  std::vector<std::string> site_names() const;
  const SiteEntry& site(std::string_view name) const;  // throws SiteError with the nearest names
  const SiteEntry* find_site(std::string_view name) const;

  const std::map<std::string, NodeId, std::less<>>& outputs() const { return outputs_; }
  NodeId output(std::string_view name) const;  // throws GraphError, listing the names
  NodeId leaf(std::string_view name) const;    // input or parameter; kNoNode when absent
  const std::optional<RowTable>& rows() const { return rows_; }
  // The model's weights by name ("blocks.0.attn.W_Q"), as its builder named them.
  const std::map<std::string, NodeId, std::less<>>& weights() const { return weights_; }

  std::size_t hash() const { return hash_; }  // of structure, shapes, attributes and sites

  std::string to_text() const;  // one line a node, sites by name
  std::string to_dot() const;   // Graphviz; sites are boxes

 private:
  friend class Builder;
  std::vector<Node> nodes_;
  std::vector<std::int32_t> position_;  // by id: index in nodes_, or -1
  std::vector<SiteEntry> sites_;
  std::map<std::string, std::size_t, std::less<>> site_index_;
  std::map<std::string, NodeId, std::less<>> leaves_;  // by name
  std::map<std::string, NodeId, std::less<>> outputs_;
  std::map<std::string, NodeId, std::less<>> weights_;
  std::optional<RowTable> rows_;
  std::size_t hash_ = 0;
};

// The graph verifier: re-runs every shape rule and checks order, ids, sites, outputs, and that the
// rows of all ops are complete. Throws GraphError naming the first fault. Runs after every
// transformation in builds with assertions, and in tests.
void verify(const Graph& graph);

// Whether the rows of `node` are rows of its input 0, chosen by a Range of axis 0 or by input 1, an
// index of one axis: slice, gather_rows.
bool selects_rows(const Graph& graph, const Node& node);

// The facts that are known of each node's value (zeros, -inf), by position in graph.nodes().
std::vector<Fact> facts(const Graph& graph);

}  // namespace vitrine

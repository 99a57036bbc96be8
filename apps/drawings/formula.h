// What a value of a graph is computed as, in the notation of papers: `gelu(mlp.pre)`, `ln2.normalized · ln2.w + ln2.b`.
// It is read off the graph: of a family that is added later, too.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/graph/graph.h"

namespace vitrine::app {

// The layer of a site, -1 of one outside of the blocks; and its name within a block without attn. and hook_: "q", "mlp.pre".
int layer_of_site(std::string_view name);
std::string short_site(std::string_view name);

struct Formula {
  std::string text;
  std::vector<std::string> sites;   // that it reads, by their full names
  std::vector<std::string> inputs;  // of the graph: "tokens"
  std::vector<std::string>
      hidden;  // sites inside the ops that it is made of: there when they are asked for
  std::vector<std::pair<std::string, Shape>> weights;
  std::vector<const OpDef*> ops;  // the outermost first; without those that only rearrange
};

class FormulaWriter {
 public:
  explicit FormulaWriter(const Graph& graph);  // which outlives it
  // Of what arrives at a site, down to the sites that it is made of. Throws SiteError, and GraphError for a site that
  // is hidden inside an op (expand_sites shows it).
  Formula of(std::string_view site) const;

 private:
  struct Text {
    std::string text;
    int binds;  // 1 a sum, 2 a product, 3 what needs no parentheses
  };
  struct Writing {
    int layer;
    Formula& formula;
  };
  Text write(NodeId id, Writing& to) const;
  Text write_op(const Node& node, Writing& to) const;
  std::string operand(const Node& node, std::size_t input, int binds, Writing& to) const;
  bool is_zero(NodeId id) const;
  std::string sum_name(const Node& node) const;

  const Graph& graph_;
  std::map<NodeId, std::string> sites_, weights_;
  std::map<NodeId, std::vector<std::string>> hidden_;
};

}  // namespace vitrine::app

// Why heads look where they look: weights of patterns that were asked for, and those that carry edges that were asked for.
#pragma once

#include <string>
#include <vector>

#include "apps/options/command_line.h"
#include "apps/terminal/output.h"
#include "apps/terminal/text.h"
#include "sae/graphs/edge_heads.h"
#include "sae/graphs/score_attribution.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

class ExplainedAttentionOptions {
 public:
  void add_to(CommandLine& line);
  // LAYER.HEAD:QUERY:KEY of each --explain-attention. Throws Error (usage) for a text that is none.
  std::vector<sae::AttentionPlace> places(const CommandLine& line) const;
  // SOURCE,TARGET of each --explain-edge, by their names. Throws the same.
  std::vector<std::pair<std::string, std::string>> edges(const CommandLine& line) const;
  int heads() const { return heads_; }

 private:
  std::vector<std::string> places_, edges_;
  int heads_ = 3;
};

struct ExplainedEdge {
  std::string source, target;
  sae::EdgeHeads carried;
};

struct ExplainedAttention {
  const nn::Model& model;
  const sae::AttributionGraph& graph;
  std::vector<ExplainedEdge> edges;
  std::vector<sae::ScoreAttribution>
      scores;            // those asked for, then those of the edges' strongest heads
  std::size_t top = 10;  // pairs and parts that a table shows

  std::string text(const Style& style) const;
  Json attention_json()
      const;  // [{layer, head, query, key, score, pattern, closure, magnitude, query_parts, key_parts, pairs}]
  Json edges_json()
      const;  // [{source, target, weight, direct, heads: [{layer, head, query, key, weight}]}]
  NamedTensors tensors() const;  // attention/LAYER.HEAD.QUERY.KEY: f64 [query parts, key parts]
};
// Throws what heads_on_edge and attribute_score throw.
ExplainedAttention explain_attention(const nn::Model& model, const sae::TranscoderSet& set,
                                     const sae::AttributionGraph& graph, const CommandLine& line,
                                     const ExplainedAttentionOptions& options);

}  // namespace vitrine::app

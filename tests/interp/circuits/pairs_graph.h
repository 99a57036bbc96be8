// A model and pairs of prompts as a graph of one's own: one batch of the clean prompts, whose output
// is the metric of each.
#pragma once

#include <string>
#include <vector>

#include "interp/circuits/graph_edges.h"
#include "interp/data/measure.h"
#include "nn/model/batch.h"
#include "nn/model/stream_edges.h"

namespace vitrine::interp::test_support {

struct PairsGraph {
  PairsGraph(const nn::Model& m, const std::vector<Pair>& pairs) {
    std::vector<nn::Tokens> clean, corrupt;
    std::vector<Example> examples;
    for (const Pair& p : pairs) {
      clean.push_back(p.clean);
      corrupt.push_back(p.corrupt);
      examples.push_back(example_of(p));
    }
    const Metric metric = metric_of(m, examples, parse_metric("logit_diff"));
    graph = with_metric(m.build(nn::batch_size(clean)), metric);
    output = nn::per_prompt_name(metric);
    edges = nn::stream_edges(m.config());
    feeds = m.feeds(graph, clean);
    other_feeds = m.feeds(graph, corrupt);
    for (const auto& [name, value] : metric.feeds) {
      feeds.insert_or_assign(name, value);
      other_feeds.insert_or_assign(name, value);
    }
  }
  GraphEdges runs(const nn::Model& m, const GraphEdgeOptions& options = {}) const {
    return {graph, edges, m.parameters(), feeds, output, options};
  }

  Graph graph;
  std::string output;
  EdgeSet edges;
  Feeds feeds, other_feeds;  // other_feeds: the corrupt prompts, the clean ones' answers
};

}  // namespace vitrine::interp::test_support

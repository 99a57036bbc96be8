// What a model's graph says of its sites and of ops: formulas, shapes, places, costs. Nothing is run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/terminal/output.h"
#include "autograd/graph/graph.h"

namespace vitrine::app {

// "nn/families/gpt2.cpp" of the path of a source file, wherever the sources lay when they were compiled.
std::string in_checkout(std::string_view file);

class ModelFacts {
 public:
  // `graph` is a model's, for a prompt of so many tokens.
  ModelFacts(Graph graph, std::int64_t length);

  const Graph& graph() const { return graph_; }
  // {shape, axes, formula, from: [SITE], inside: [SITE], weights: [{name, shape}], ops: [{name, doc}], file, line}:
  // what drawing_json (drawings/model_drawing.h) says of it, and where the model emits it.
  Json of_site(const std::string& name);
  // {count, flops, share, places: [{file, line, scope, count, type}], expanded, backward}: where the op stands in a
  // forward pass and what it costs there; how many there would be with all composites expanded, and how many a gradient
  // adds (0 of an op that no gradient needs). `share` is its part of the FLOPs of the pass.
  Json of_op(const OpDef& op);

 private:
  Graph graph_;
  std::int64_t length_;
  Json drawing_;  // null until a site is asked for
  std::optional<Graph> expanded_, backward_;
};

}  // namespace vitrine::app

// Dropout, as a graph transformation: where GPT-2 was trained with it.
//
//   Graph train = with_dropout(build_model(config, size), config, {.residual = 0.1});
//   feeds["dropout.key"] = Tensor::of<std::int64_t>({2}, {seed, step});
#pragma once

#include "autograd/graph/graph.h"
#include "nn/families/config.h"

namespace vitrine::nn {

// The share of the numbers that become 0, in [0, 1).
struct Dropout {
  double embedding = 0;  // of the sum of both embeddings (embd_pdrop)
  double attention = 0;  // of the pattern (attn_pdrop)
  double residual = 0;   // of what attention and MLP add to the stream (resid_pdrop)
  bool any() const { return embedding != 0 || attention != 0 || residual != 0; }
  friend bool operator==(const Dropout&, const Dropout&) = default;
};

// Inverted dropout (Srivastava et al. 2014; `dropout` in autograd/ops/ops.h) on the sites
// blocks.0.hook_resid_pre, blocks.*.attn.hook_pattern, blocks.*.hook_attn_out and
// blocks.*.hook_mlp_out, each with a stream of its own: their values are those that flow on. Where
// a rate is 0 nothing is added; where all are, the graph is the model's. Input: dropout.key i64[2],
// a seed and the number of the step. With `attention` every pattern is a node [rows, head, key
// positions], which costs time and memory. Before gradient(). Throws ShapeError for a rate that is
// not in [0, 1), SiteError when the graph lacks one of the sites.
Graph with_dropout(const Graph& model, const Config& config, const Dropout& rates);

}  // namespace vitrine::nn

// GPT-2 as a graph (Radford et al. 2019): the whole model is in model/gpt2.cpp, which reads from
// top to bottom.
#pragma once

#include "autograd/compile/plan.h"
#include "autograd/graph/graph.h"
#include "nn/model/config.h"

namespace vitrine::nn {

// How many packed rows a graph is built for. All prompts of a batch lie one after the other,
// without padding.
struct BatchSize {
  std::int64_t rows = 0;       // tokens of all prompts together
  std::int64_t sequences = 1;  // prompts
  std::int64_t positions = 0;  // tokens of the longest prompt; with a cache, its capacity
  bool cached = false;         // keys and values of earlier rows are kept between runs
  friend auto operator<=>(const BatchSize&, const BatchSize&) = default;
};

// Inputs, all i32: tokens [rows]; rows.sequence [rows], rows.position [rows], rows.keys [sequences,
// positions] (see autograd/README.md). Parameters: HuggingFace's names and shapes, without
// "transformer.". Output: logits [rows, vocabulary]. Every site of nn/model/sites.h exists. dtype
// is f32, or f64 for checks.
Graph build_gpt2(const Config& config, const BatchSize& size, DType dtype = DType::f32);

// The KV cache. With size.cached the model reads and extends cached keys and values: parameters
// cache.k.LAYER and cache.v.LAYER [positions, head, e], which cache_updates(config) writes after
// each run; the input rows.slot [rows] says where each row goes, and rows.keys which slots hold
// which positions.
Updates cache_updates(const Config& config);

}  // namespace vitrine::nn

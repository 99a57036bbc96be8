// A block of a transformer small enough for finite differences: what transformations of whole
// models are tested on.
#pragma once

#include <string>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"

namespace vitrine::test {

struct SmallTransformer {
  Graph graph;
  Feeds feeds;
  Parameters parameters;

  Results run(const Graph& transformed, const Fetch& wanted, const Feeds& fed) const {
    return compile(transformed, wanted).run(fed, parameters);
  }
  Results run(const Fetch& wanted) const { return run(graph, wanted, feeds); }
};

struct Named {
  bool norms = true, attention = true, activation = true;  // whether these have sites
};

// Two prompts of three tokens, d = 4, two heads, five neurons, in f64. The input "x" [6, 4] is the
// stream; sites resid_pre, ln1.*, q_input, k_input, v_input, attn.*, resid_mid, ln2.*,
// mlp.hook_pre, mlp.hook_post, mlp_out, resid_post; the output "total" is a weighted sum of "out",
// the LayerNormed stream (ln_f).
SmallTransformer small_transformer(const Named& named = {});

// The same two prompts through what later models have: RMSNorm, two heads for each key head, norms of
// queries and keys, rotary positions, a window of 2, softcaps, a gate, and no biases.
SmallTransformer small_modern_transformer();

}  // namespace vitrine::test

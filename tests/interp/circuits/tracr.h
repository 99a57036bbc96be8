// Transformers that tracr compiled from programs, as graphs of one's own: their circuits are known.
#pragma once

#include <string>
#include <vector>

#include "autograd/edges/edge_set.h"
#include "autograd/graph/feeds.h"
#include "tensor/files/safetensors.h"
#include "tests/support.h"

namespace vitrine::test {

inline const std::vector<std::string> kTracrPrograms = {"frac_prevs", "reverse", "hist", "sort",
                                                        "pair_balance"};

struct TracrModel {
  explicit TracrModel(const std::string& name);

  // The model for so many sequences of `length` tokens. Sites: embed and end [rows, d]; LAYER.q_in,
  // .k_in, .v_in and .head_out [rows, heads, d]; LAYER.mlp_in and .mlp_out [rows, d]. Inputs: tokens
  // i32 [rows], the row table, and weights f32 [rows, outputs]. Outputs:
  // - answers [sequences, length - 1, outputs]: of all positions but the first, which means nothing
  // - score [sequences]: the weighted sum of a sequence's outputs
  Graph graph(std::int64_t sequences, std::int64_t length) const;
  EdgeSet edges() const;
  // tokens [sequences, length]
  Feeds feeds(const Tensor& tokens, const Tensor& weights) const;
  // The weights of a score that says how well the outputs [sequences, length, outputs] are kept: a
  // number itself; of categories that of the answer less the mean of the others. 0 at position 0.
  Tensor weights(const Tensor& outputs) const;

  std::string name;
  std::int64_t layers = 0, heads = 0, d = 0, outputs = 0;
  bool causal = false, categorical = false;
  Parameters parameters;
  SafeTensors golden;
};

// Every tensor's first axis moved on by `by`, as numpy.roll does; and one after the other.
Tensor rolled(const Tensor& t, std::int64_t by);
Tensor stacked(const std::vector<Tensor>& parts);

}  // namespace vitrine::test

// Attention over many prompts: how much every head attends from some positions to others, which may
// be told by roles, so that prompts of different shapes line up.
//
//   std::vector<Example> data(1);                            // a file's, say
//   data[0] = {.prompt = m.tokens("The capital of Texas is"), .roles = {{"subject", {3, 4}}}};
//   auto each = attention_between(m, data, {.from = {parse_position("-1")},
//                                           .to = {parse_position("subject")}});
//   Statistics s = statistics(each);                         // [layer, head, from, to]
//   s.mean.at<double>({2, 3, 0, 0});                         // head 2.3, from the end to the subject
#pragma once

#include <span>
#include <vector>

#include "interp/data/data_set.h"
#include "nn/model/model.h"

namespace vitrine::interp {

struct AttentionSpec {
  std::vector<int> layers;                  // in this order; none: all
  std::vector<Position> from = {{-1, ""}};  // destinations (queries): the last token of each span
  std::vector<Position> to;  // sources (keys): the weights of all tokens of the span are summed
};
// The attention weights of each example, f64 [layer, head, from, to], between 0 and 1. Only these
// numbers leave a run: patterns are never held. The prompts of the examples are run, not the corrupt
// ones. Throws what nn::check_prompts and Example::span throw, and Error (usage) for a layer that
// is not there and for no positions to attend to.
std::vector<Tensor> attention_between(const nn::Model& model, std::span<const Example> examples,
                                      const AttentionSpec& spec);

}  // namespace vitrine::interp

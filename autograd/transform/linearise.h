// Linearisation: which nonlinearities a gradient treats as constant (stop-gradient, frozen
// LayerNorm scales and attention patterns). Direct logit attribution, attribution patching, path
// patching and attribution graphs differ in what they freeze, so it is stated here.
//
//   Graph g = gradient(linearise(model, {.norm = Policy::detach, .attention = Policy::detach}),
//                      metric, sites("blocks.*.hook_mlp_out"));
//
// `sg(v)` is v without its gradient, and v* the value of a recorded run, which is fed
// (transform/held.h).
//
//                recompute                 detach                      hold
//   LayerNorm    (x - mean x) / s * gain   s = sg(sqrt(var x + eps))   s = s*
//                + bias
//   attention    P v                       P = sg(softmax(scores))     P = P*
//   activation   f(x)                      sg(f(x))                    f(x*) + f'(x*) (x - x*)
//                                          + sg(f'(x)) (x - sg(x))
//
// - recompute: nothing changes.
// - detach: every value stays as it is, whatever is edited; only gradients change. The first
//   gradient of an activation is the slope f'(x) with and without it; the difference is that second
//   derivatives take the slope as a constant.
// - hold: the value of the recorded run takes the place of the computed one, also when something
//   before it is edited. Where everything is held, the logits are an affine function of the
//   residual stream: mean(x) and all products are linear. At x = x* all values are the recorded
//   ones.
#pragma once

#include "autograd/graph/builder.h"
#include "autograd/transform/held.h"

namespace vitrine {

enum class Policy { recompute, detach, hold };
std::string_view name_of(Policy policy);

struct Policies {
  Policy norm = Policy::recompute;        // the scales of norms, also in heads_in
  Policy attention = Policy::recompute;   // the patterns of attention
  Policy activation = Policy::recompute;  // relu, silu, gelu_tanh, ..., or your own
};

// Applies these policies to a graph, before gradient. LayerNorms and attention under a policy are
// expanded, and scales and patterns are known by their sites' names, *.hook_scale and
// *.hook_pattern: those of a graph that has been expanded or edited count too. An edit of such a
// site changes the value that the policy gives. Holding adds the inputs held(SITE): the scale's
// site, the pattern's, and the one that an activation reads, such as mlp.hook_pre.
//
// The kind of an op stands in its OpDef (graph/op.h). Ops of other kinds are left alone where they
// are linear in what carries a gradient: additions, shapes, selections, and products, each factor
// by itself (the product of two values of the stream stays one of second degree). Others stay where
// they say so (Nonlinear::kept): the steps of a norm or a pattern that is written out already, and
// losses.
//
// Throws GraphError for a graph that has gradients already, and for a hold of a value without a
// site to be recorded under. It also refuses ops that would silently stay nonlinear, if they lie
// between a leaf and an output or a site: under a policy for activations, any other nonlinear op
// (exp, maximum, max); under any policy, an op whose OpDef does not state its kind.
Graph linearise(const Graph& graph, const Policies& policies);

}  // namespace vitrine

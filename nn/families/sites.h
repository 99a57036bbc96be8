// The models' sites, typed: the names and shapes are TransformerLens's (b batch, p position, h head, q
// query, k key).
#pragma once

#include <string>

#include "autograd/graph/site.h"

namespace vitrine::site {

inline Site in_block(int layer, const char* name) {
  return {"blocks." + std::to_string(layer) + "." + name};
}

inline Site embed() { return {"hook_embed"}; }          // [b, p, d]
inline Site pos_embed() { return {"hook_pos_embed"}; }  // [b, p, d]

inline Site resid_pre(int layer) { return in_block(layer, "hook_resid_pre"); }    // [b, p, d]
inline Site resid_mid(int layer) { return in_block(layer, "hook_resid_mid"); }    // [b, p, d]
inline Site resid_post(int layer) { return in_block(layer, "hook_resid_post"); }  // [b, p, d]
inline Site attn_out(int layer) { return in_block(layer, "hook_attn_out"); }      // [b, p, d]
inline Site mlp_in(int layer) { return in_block(layer, "hook_mlp_in"); }          // [b, p, d]
inline Site mlp_out(int layer) { return in_block(layer, "hook_mlp_out"); }        // [b, p, d]

inline Site q_input(int layer) {
  return in_block(layer, "hook_q_input");
}  // [b, p, h, d], before LayerNorm
inline Site k_input(int layer) { return in_block(layer, "hook_k_input"); }  // [b, p, h, d]
inline Site v_input(int layer) { return in_block(layer, "hook_v_input"); }  // [b, p, h, d]

inline Site ln1_scale(int layer) { return in_block(layer, "ln1.hook_scale"); }  // [b, p, 1]
inline Site ln1_normalized(int layer) {
  return in_block(layer, "ln1.hook_normalized");
}  // [b, p, d], before the gain
inline Site ln2_scale(int layer) { return in_block(layer, "ln2.hook_scale"); }  // [b, p, 1]
inline Site ln2_normalized(int layer) {
  return in_block(layer, "ln2.hook_normalized");
}  // [b, p, d]

inline Site ln1_post_scale(int layer) {
  return in_block(layer, "ln1_post.hook_scale");
}  // [b, p, 1]: gemma
inline Site ln2_post_scale(int layer) {
  return in_block(layer, "ln2_post.hook_scale");
}  // [b, p, 1]: gemma

// Keys and values have g heads: h of most models, fewer where groups of query heads share them.
inline Site q(int layer) { return in_block(layer, "attn.hook_q"); }  // [b, p, h, e]
inline Site k(int layer) { return in_block(layer, "attn.hook_k"); }  // [b, p, h, e]
inline Site v(int layer) { return in_block(layer, "attn.hook_v"); }  // [b, p, h, e]
inline Site attn_scores(int layer) {
  return in_block(layer, "attn.hook_attn_scores");
}  // [b, h, q, k], masked: -inf
inline Site pattern(int layer) { return in_block(layer, "attn.hook_pattern"); }  // [b, h, q, k]
inline Site z(int layer) { return in_block(layer, "attn.hook_z"); }              // [b, p, h, e]
inline Site result(int layer) { return in_block(layer, "attn.hook_result"); }    // [b, p, h, d]

inline Site rot_q(int layer) { return in_block(layer, "attn.hook_rot_q"); }  // [b, p, h, e]: rotary
inline Site rot_k(int layer) { return in_block(layer, "attn.hook_rot_k"); }  // [b, p, g, e]: rotary

inline Site mlp_pre(int layer) { return in_block(layer, "mlp.hook_pre"); }  // [b, p, 4d]
inline Site mlp_pre_linear(int layer) {
  return in_block(layer, "mlp.hook_pre_linear");
}  // [b, p, m]: what the activation of hook_pre, the gate, multiplies
inline Site mlp_post(int layer) { return in_block(layer, "mlp.hook_post"); }  // [b, p, 4d]

inline Site final_scale() { return {"ln_final.hook_scale"}; }            // [b, p, 1]
inline Site final_normalized() { return {"ln_final.hook_normalized"}; }  // [b, p, d]
inline Site unembed_in() { return {"unembed.hook_in"}; }                 // [b, p, d]
inline Site unembed_out() { return {"unembed.hook_out"}; }  // [b, p, vocabulary]: the logits

}  // namespace vitrine::site

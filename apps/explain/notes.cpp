#include "apps/explain/notes.h"

#include <algorithm>
#include <cctype>

namespace vitrine::app {
namespace {

// clang-format off
constexpr SiteNote kSiteNotes[] = {
    {"hook_embed", "the embedding of each token, W_E[token]: what enters the residual stream", "batch, position, feature", "site::embed()", Topic::tokens},
    {"hook_pos_embed", "the vector of each position, W_pos[position], which is added to the embedding", "batch, position, feature", "site::pos_embed()", Topic::tokens},
    {"hook_resid_pre", "the residual stream before the block", "batch, position, feature", "site::resid_pre(2)", Topic::stream},
    {"hook_resid_mid", "the residual stream between attention and MLP", "batch, position, feature", "site::resid_mid(2)", Topic::stream},
    {"hook_resid_post", "the residual stream after the block, which the next one reads", "batch, position, feature", "site::resid_post(2)", Topic::stream},
    {"hook_attn_out", "what attention adds to the residual stream, all heads together", "batch, position, feature", "site::attn_out(2)", Topic::attention},
    {"hook_mlp_in", "the residual stream as the MLP's norm reads it", "batch, position, feature", "site::mlp_in(2)", Topic::stream},
    {"hook_mlp_out", "what the MLP adds to the residual stream", "batch, position, feature", "site::mlp_out(2)", Topic::stream},
    {"hook_q_input", "the residual stream as each head's query reads it, before the norm: a copy for every head", "batch, position, head, feature", "site::q_input(2)", Topic::circuits},
    {"hook_k_input", "the residual stream as each head's key reads it, before the norm: a copy for every head", "batch, position, head, feature", "site::k_input(2)", Topic::circuits},
    {"hook_v_input", "the residual stream as each head's value reads it, before the norm: a copy for every head", "batch, position, head, feature", "site::v_input(2)", Topic::circuits},
    {"ln1.hook_scale", "what the norm before attention divides by: √(var + eps), or √(mean x² + eps)", "batch, position, 1", "site::ln1_scale(2)", Topic::stream},
    {"ln1.hook_normalized", "the stream as attention reads it, divided by its scale, before the norm's gain", "batch, position, feature", "site::ln1_normalized(2)", Topic::stream},
    {"ln1.hook_out", "what attention reads: the normed stream, with the norm's gain (families that norm once for all readers)", "batch, position, feature", "", Topic::models},
    {"ln2.hook_scale", "what the norm before the MLP divides by", "batch, position, 1", "site::ln2_scale(2)", Topic::stream},
    {"ln2.hook_normalized", "the stream as the MLP reads it, divided by its scale, before the norm's gain", "batch, position, feature", "site::ln2_normalized(2)", Topic::stream},
    {"ln2.hook_out", "what the MLP reads: the normed stream, with the norm's gain (families that norm once for all readers)", "batch, position, feature", "", Topic::models},
    {"ln1_post.hook_scale", "what the norm behind attention divides by (Gemma)", "batch, position, 1", "site::ln1_post_scale(2)", Topic::models},
    {"ln1_post.hook_normalized", "attention's output divided by the scale of the norm behind it (Gemma)", "batch, position, feature", "", Topic::models},
    {"ln2_post.hook_scale", "what the norm behind the MLP divides by (Gemma)", "batch, position, 1", "site::ln2_post_scale(2)", Topic::models},
    {"ln2_post.hook_normalized", "the MLP's output divided by the scale of the norm behind it (Gemma)", "batch, position, feature", "", Topic::models},
    {"hook_attn_out_before_post_norm", "what all heads write together, before the norm behind attention (Gemma)", "batch, position, feature", "", Topic::models},
    {"hook_mlp_out_before_post_norm", "what the MLP writes, before the norm behind it (Gemma)", "batch, position, feature", "", Topic::models},
    {"attn.hook_q", "the query of each head: what the token looks for", "batch, position, head, feature", "site::q(2)", Topic::attention},
    {"attn.hook_k", "the key of each head: what the token offers to those that look", "batch, position, head, feature", "site::k(2)", Topic::attention},
    {"attn.hook_v", "the value of each head: what the token hands over where it is looked at", "batch, position, head, feature", "site::v(2)", Topic::attention},
    {"attn.q_norm.hook_scale", "what the norm of queries divides by, of each head (Qwen 3, Gemma 3)", "batch, position, head, 1", "", Topic::models},
    {"attn.q_norm.hook_normalized", "queries divided by their scale, before the norm's gain (Qwen 3, Gemma 3)", "batch, position, head, feature", "", Topic::models},
    {"attn.k_norm.hook_scale", "what the norm of keys divides by, of each head (Qwen 3, Gemma 3)", "batch, position, head, 1", "", Topic::models},
    {"attn.k_norm.hook_normalized", "keys divided by their scale, before the norm's gain (Qwen 3, Gemma 3)", "batch, position, head, feature", "", Topic::models},
    {"attn.hook_q_normed", "queries behind their norm, before they are turned (Qwen 3, Gemma 3)", "batch, position, head, feature", "", Topic::models},
    {"attn.hook_k_normed", "keys behind their norm, before they are turned (Qwen 3, Gemma 3)", "batch, position, head, feature", "", Topic::models},
    {"attn.hook_rot_q", "queries turned by the angles of their positions (rotary)", "batch, position, head, feature", "site::rot_q(2)", Topic::models},
    {"attn.hook_rot_k", "keys turned by the angles of their positions (rotary)", "batch, position, head, feature", "site::rot_k(2)", Topic::models},
    {"attn.hook_attn_scores", "how well each query fits each key, before softmax; -inf where the key is not seen", "batch, head, query, key", "site::attn_scores(2)", Topic::attention},
    {"attn.hook_pattern", "how much each query looks at each key; the keys of a query add up to 1", "batch, head, query, key", "site::pattern(2)", Topic::attention},
    {"attn.hook_z", "the values that a head looks at, weighted by its pattern: what the head read", "batch, position, head, feature", "site::z(2)", Topic::attention},
    {"attn.hook_result", "what each head by itself adds to the residual stream, z W_O", "batch, position, head, feature", "site::result(2)", Topic::attention},
    {"mlp.hook_pre", "the neurons before their activation function; in a gated MLP, the gate", "batch, position, feature", "site::mlp_pre(2)", Topic::stream},
    {"mlp.hook_pre_linear", "in a gated MLP, what the activated gate multiplies", "batch, position, feature", "site::mlp_pre_linear(2)", Topic::models},
    {"mlp.hook_post", "the neurons' activations", "batch, position, feature", "site::mlp_post(2)", Topic::stream},
    {"ln_final.hook_scale", "what the last norm divides by", "batch, position, 1", "site::final_scale()", Topic::lens},
    {"ln_final.hook_normalized", "the stream at the end, divided by its scale, before the norm's gain", "batch, position, feature", "site::final_normalized()", Topic::lens},
    {"unembed.hook_in", "what is compared with the vector of every token", "batch, position, feature", "site::unembed_in()", Topic::lens},
    {"unembed.hook_out", "the logits: a score of every token as the next one", "batch, position, feature", "site::unembed_out()", Topic::lens},
    {"unembed.hook_capped", "the logits, held within ± a cap by cap · tanh(logits / cap) (Gemma)", "batch, position, feature", "", Topic::models},
    {"hook_sae_acts_pre", "the features of a spliced SAE before their activation function", "batch, position, feature", "", Topic::features},
    {"hook_sae_acts_post", "the features of a spliced SAE: how active each is", "batch, position, feature", "", Topic::features},
    {"hook_sae_recons", "what a spliced SAE makes of its features: f W_dec + b_dec", "batch, position, feature", "", Topic::features},
    {"hook_sae_error", "what a spliced SAE leaves over, which flows on beside its reconstruction", "batch, position, feature", "", Topic::features},
};

constexpr VerbNote kVerbNotes[] = {
    {"predict", "nn/model/model.h", "Model.predict", Topic::models},
    {"generate", "nn/model/sampling.h", "Model.generate", Topic::models},
    {"tokenize", "nn/tokenizer/tokenizer.h", "Model.tokenize", Topic::tokens},
    {"tokenizer", "nn/tokenizer/train_tokenizer.h", "tokenizer", Topic::tokens},
    {"prompts", "interp/data/data_set.h", "Model.prompts", Topic::patching},
    {"cache", "nn/model/model.h", "Model.run", Topic::stream},
    {"attention", "interp/attention.h", "Model.attention", Topic::attention},
    {"lens", "interp/lens.h", "Model.lens", Topic::lens},
    {"decompose", "interp/decomposition.h", "Model.decompose", Topic::lens},
    {"patch", "interp/patching.h", "Model.patch", Topic::patching},
    {"ablate", "interp/ablation.h", "Model.ablate", Topic::patching},
    {"attribute", "interp/attribution.h", "Model.attribute", Topic::gradients},
    {"circuit", "interp/circuits/circuit_runs.h", "Model.circuit", Topic::circuits},
    {"heads", "interp/induction_heads.h", "Model.heads", Topic::training},
    {"neurons", "interp/neurons.h", "Model.neurons", Topic::stream},
    {"steer", "interp/steering.h", "Model.steer", Topic::patching},
    {"sae", "sae/sae.h", "Sae", Topic::features},
    {"sae train", "sae/trainer.h", "Model.train_sae", Topic::features},
    {"sae eval", "sae/evaluation.h", "Model.sae_eval", Topic::features},
    {"sae features", "sae/features/feature_contexts.h", "Model.sae_features", Topic::features},
    {"sae encode", "sae/sae.h", "Sae.encode", Topic::features},
    {"sae convert", "sae/folder.h", "Sae.save", Topic::features},
    {"influence", "sae/features/influence.h", "Model.influence", Topic::features},
    {"graph", "sae/graphs/attribution_graph.h", "Model.graph", Topic::circuits},
    {"serve", "nn/model/standing_edits.h", "", Topic::patching},
    {"train", "nn/training/trainer.h", "train", Topic::training},
    {"curves", "", "curves", Topic::training},
    {"evaluate", "nn/text/text_loss.h", "Model.evaluate", Topic::training},
    {"convert", "nn/model/checkpoint.h", "Model.save", Topic::models},
    {"info", "nn/model/model.h", "Model.info", Topic::models},
    {"explain", "autograd/ops/op_table.h", "Model.explain", Topic::graph},
    {"doctor", "autograd/diagnose/diagnosis.h", "Model.doctor", Topic::mask},
    {"tour", "", "Model.tour", Topic::lens},
};
// clang-format on

// "attn.hook_z" of "blocks.2.attn.hook_z"; what stands outside of the blocks stays.
std::string_view inside_block(std::string_view name) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!name.starts_with(kBlocks)) return name;
  const auto dot = name.find('.', kBlocks.size());
  return dot == name.npos ? name : name.substr(dot + 1);
}

}  // namespace

std::span<const SiteNote> site_notes() { return kSiteNotes; }

const SiteNote* find_site_note(std::string_view name) {
  std::string_view inside = inside_block(name);
  if (const auto sae = inside.find(".hook_sae_"); sae != inside.npos) inside.remove_prefix(sae + 1);
  for (const SiteNote& note : kSiteNotes) {
    if (note.inside == inside) return &note;
  }
  return nullptr;
}

std::span<const VerbNote> verb_notes() { return kVerbNotes; }

const VerbNote* find_verb_note(std::string_view verb) {
  for (const VerbNote& note : kVerbNotes) {
    if (note.verb == verb) return &note;
  }
  return nullptr;
}

}  // namespace vitrine::app

// Direct logit attribution of MLP neurons: ranks those at one position of a prompt by activation or
// by their direct effect on an answer; and the strongest dimensions of the residual stream there.
//
//   StrongNeurons s = strong_neurons(m, m.tokens("The capital of Texas is"),
//                                    {.answer = m.token(" Austin")});
//   s.neurons[0].effect;                         // its share of the logit of " Austin"
//   s.neurons[0].raised;                         // tokens that it raises whenever it fires
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "interp/data/asked.h"
#include "interp/data/data_set.h"
#include "interp/readout.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// What is looked at, and how much of it is kept.
struct NeuronSpec {
  int position = -1;         // of the prompt; -1: the last
  std::optional<int> layer;  // none: all of them, and the stream after the last
  // What effects are measured on: the logit of `answer`, or its difference from that of `wrong`.
  std::optional<int> answer, wrong;
  int neurons = 10, dimensions = 5;  // how many of the strongest
  int tokens = 5;                    // raised and lowered, of each neuron; 0: none
};

// A neuron of an MLP: row `index` of W_out is what it writes to the stream.
struct NeuronId {
  int layer = 0, index = 0;
};

// A neuron of a prompt, and what it writes.
struct Neuron {
  NeuronId id;
  double activation = 0;  // mlp.hook_post
  // Its direct share of the metric: activation * (W_out[index] . d), d being the direction of the
  // final stream that the metric reads, ln_final's scale of this run held. What later layers make
  // of the neuron is no part of it.
  std::optional<double> effect;
  std::vector<TokenValue> raised, lowered;  // by W_out[index], see to_logits (readout.h)
};

// A dimension of the residual stream at a position.
struct Dimension {
  int index = 0;
  double value = 0;              // of hook_resid_post
  std::optional<double> effect;  // value * d[index]
};

// What strong_neurons found at one position of a prompt. Effects and the metric are in logits.
struct StrongNeurons {
  int position = 0;
  int stream_layer = 0;  // the dimensions are those of this layer's hook_resid_post
  // The logit of the answer after this position, or the difference. The effects of all dimensions
  // of the last layer's stream add up to it, but for what the biases of ln_final and W_U give.
  std::optional<double> metric;
  std::vector<Neuron> neurons;        // by |effect| when there is one, else by |activation|
  std::vector<Dimension> dimensions;  // by |value|
};

// Throws ContextError for a position outside the prompt, Error (usage) for a layer that is not
// there, or a wrong answer without an answer; TokenError for ids outside the vocabulary, and what
// Model::run throws.
StrongNeurons strong_neurons(const nn::Model& model, const nn::Tokens& prompt,
                             const NeuronSpec& spec = {});

// The same for many prompts, each at its own position and with its own answer: one StrongNeurons
// each. Of `spec`, position, answer and wrong are those of `asked`. All prompts have an answer, or
// none: Error (usage) otherwise; and what check_asked throws.
std::vector<StrongNeurons> strong_neurons_each(const nn::Model& model, std::span<const Asked> asked,
                                               const NeuronSpec& spec = {});

// Over many prompts: means with standard errors.
struct MeanNeuron {
  NeuronId id;
  Statistic activation;             // mlp.hook_post
  std::optional<Statistic> effect;  // in logits
  std::vector<TokenValue> raised, lowered;
};
struct MeanDimension {
  int index = 0;
  Statistic value;
  std::optional<Statistic> effect;
};
struct NeuronsOver {
  int stream_layer = 0;
  std::optional<Statistic> metric;
  std::vector<MeanNeuron> neurons;        // by |mean effect|, else by |mean activation|
  std::vector<MeanDimension> dimensions;  // by |mean value|
};
NeuronsOver strong_neurons_over(const nn::Model& model, std::span<const Asked> asked,
                                const NeuronSpec& spec = {});
// Both at once, for groups of the prompts: the prompts are run once. Throws Error (usage), too, for
// a group without prompts or with one that is not there.
struct NeuronsByGroup {
  std::vector<StrongNeurons> each;  // of every prompt, without the tokens raised and lowered
  std::vector<NeuronsOver> groups;  // in their order
};
NeuronsByGroup strong_neurons_by_group(const nn::Model& model, std::span<const Asked> asked,
                                       std::span<const PromptGroup> groups,
                                       const NeuronSpec& spec = {});

// Throws Error (usage) for a neuron that the model does not have, saying how many there are.
void check_neuron(const nn::Model& model, const NeuronId& id);

// What neurons write: rows of W_out in the model's gauge, [ids, d_model], times the gain of the norm
// that follows where a family has one. Throws what check_neuron
// throws.
Tensor output_rows(const nn::Model& model, std::span<const NeuronId> ids);

// Of each neuron, the `count` tokens that its row of W_out raises and lowers most.
struct NeuronTokens {
  std::vector<TokenValue> raised, lowered;
};
std::vector<NeuronTokens> tokens_of(const nn::Model& model, std::span<const NeuronId> ids,
                                    int count);

}  // namespace vitrine::interp

// All verbs, with a line of help each, in the order of the questions that they answer.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

constexpr Verb kVerbs[] = {
    {"predict", "the most probable next tokens after a prompt", verb_predict},
    {"generate", "continue a prompt: greedy, or sampled", verb_generate},
    {"tokenize", "text to token ids, and back", verb_tokenize},
    {"tokenizer", "train a tokenizer on text", verb_tokenizer},
    {"prompts", "files of prompts and pairs, from templates or ready-made", verb_prompts},
    {"cache", "run a prompt and save activations of any sites", verb_cache},
    {"attention", "where each token looks: a head's pattern, top sources per token",
     verb_attention},
    {"lens", "what would the model say if it stopped after a layer?", verb_lens},
    {"decompose", "which heads, MLPs and neurons wrote a logit?", verb_decompose},
    {"patch", "which activations make the answer differ between two prompts?", verb_patch},
    {"ablate", "which parts does an answer need, alone and together?", verb_ablate},
    {"attribute", "which activations matter, by gradients; the strongest verified", verb_attribute},
    {"circuit", "which edges between parts do the work? found, pruned, judged exactly",
     verb_circuit},
    {"heads", "what every head does; which are induction heads, and what feeds them", verb_heads},
    {"neurons", "the strongest neurons on a prompt; what each responds to in a text", verb_neurons},
    {"steer", "continue a prompt with a direction added, beside the plain text", verb_steer},
    {"sae", "sparse autoencoders: train, evaluate, look at features", verb_sae},
    {"influence", "which SAE features cause which later ones, through the model", verb_influence},
    {"graph", "which features cause which, and the next token? an attribution graph", verb_graph},
    {"serve", "a live page: edit the prompt and the model, watch the logits move", verb_serve},
    {"train", "train a GPT-2 or a Llama from scratch; can go on at any time", verb_train},
    {"curves", "how training went: losses and the like over steps, of several runs", verb_curves},
    {"evaluate", "loss and perplexity of a text, per token and per byte", verb_evaluate},
    {"convert", "a HuggingFace folder from any model that can be read", verb_convert},
    {"info", "a model's configuration, parameters, sites, memory and FLOPs", verb_info},
    {"explain", "what is a site, an op, a term, a verb? with this prompt's numbers", verb_explain},
    {"doctor", "does this machine compute right, and as fast as it could? is a model sound?",
     verb_doctor},
    {"tour", "the whole story on one model, each step with its commands", verb_tour},
};

}  // namespace

std::span<const Verb> verbs() { return kVerbs; }

const Verb& find_verb(const std::string& name) {
  std::vector<std::string> names;
  for (const Verb& verb : verbs()) {
    if (name == verb.name) return verb;
    names.emplace_back(verb.name);
  }
  if (name.starts_with("-")) {
    throw Error(ErrorKind::usage,
                fmt::format("the verb comes first, not '{}': vitrine VERB [options]; "
                            "see 'vitrine --help'",
                            name));
  }
  throw Error(ErrorKind::usage, fmt::format("there is no verb '{}'{}; see 'vitrine --help'", name,
                                            did_you_mean(nearest(name, names, 1))));
}

}  // namespace vitrine::app

// The verbs of the program. Each is one function in NAME.cpp that reads its part of the
// command line, does the work and writes the result; it throws when it cannot.
#pragma once

#include <span>

#include "apps/options/command_line.h"

namespace vitrine::app {

struct Verb {
  const char* name;
  const char* summary;
  void (*run)(const Arguments&);
};
std::span<const Verb> verbs();      // in the order of the help
std::span<const Verb> sae_verbs();  // those of `vitrine sae WHAT`
// Throws Error (usage), with the nearest name, for a verb that there is not.
const Verb& find_verb(const std::string& name);

void verb_tokenize(const Arguments& arguments);
void verb_tokenizer(const Arguments& arguments);
void verb_predict(const Arguments& arguments);
void verb_generate(const Arguments& arguments);
void verb_prompts(const Arguments& arguments);
void verb_cache(const Arguments& arguments);
void verb_neurons(const Arguments& arguments);
void verb_patch(const Arguments& arguments);
void verb_ablate(const Arguments& arguments);
void verb_attention(const Arguments& arguments);
void verb_heads(const Arguments& arguments);
void verb_lens(const Arguments& arguments);
void verb_decompose(const Arguments& arguments);
void verb_attribute(const Arguments& arguments);
void verb_circuit(const Arguments& arguments);
void verb_steer(const Arguments& arguments);
void verb_train(const Arguments& arguments);
void verb_curves(const Arguments& arguments);
void verb_influence(const Arguments& arguments);
void verb_sae(const Arguments& arguments);
void verb_sae_train(const Arguments& arguments);
void verb_sae_eval(const Arguments& arguments);
void verb_sae_features(const Arguments& arguments);
void verb_sae_encode(const Arguments& arguments);
void verb_sae_convert(const Arguments& arguments);
void verb_convert(const Arguments& arguments);
void verb_evaluate(const Arguments& arguments);
void verb_serve(const Arguments& arguments);
void verb_info(const Arguments& arguments);
void verb_doctor(const Arguments& arguments);
void verb_graph(const Arguments& arguments);    // apps/graphs/graph.cpp
void verb_explain(const Arguments& arguments);  // apps/explain/explain.cpp
void verb_tour(const Arguments& arguments);     // apps/tour/tour.cpp

}  // namespace vitrine::app

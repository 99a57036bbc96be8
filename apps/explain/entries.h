// From a word to what it names: verbs, terms, ops and sites, each as the JSON of `vitrine explain`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/explain/glossary.h"
#include "apps/explain/model_facts.h"
#include "apps/options/options.h"
#include "apps/terminal/interrupt.h"
#include "nn/model/model.h"

namespace vitrine::app {

// The model, and the prompt whose numbers are asked for.
struct Explained {
  const nn::Model& model;
  ModelFacts facts;
  std::optional<nn::Tokens> prompt;
  CommandWords words;  // of the terms' commands
};
// The answer that commands ask about is what the model finds most probable after the prompt, the wrong one the second.
// Shapes and costs are those of the prompt, or of `length` tokens.
Explained explained(const nn::Model& model, const std::optional<nn::Tokens>& prompt,
                    std::int64_t length, const Interruptible& interruptible, bool quiet);

// {kind: "verb", name, summary, file, library, python, lesson, example, help}
Json verb_entry(std::string_view name, std::string_view summary);
// {kind: "term", name, names, summary, source, command, lesson}
Json term_entry(const Term& term, const CommandWords& words);
// {kind: "op", name, formula, is, linear_in, gradient, expands, file, lesson, in_model}: ModelFacts::of_op
Json op_entry(const OpDef& op, Explained& about);
// {kind: "site", name, typed, summary, axes, shape, layers, head, formula, from, inside, weights, ops, file, line, code,
// lesson, values}; what only a model that has it can say is null where this one has not.
Json site_entry(const std::string& inside, const std::vector<int>& layers, std::optional<int> head,
                Explained& about, const Interruptible& interruptible, bool quiet);

enum class EntryKind { any, verb, term, op, site };

// Everything that the word names; of the kind alone, if there is one. Throws Error (usage), with the nearest names, where
// that is nothing.
Json entries_of(const std::string& word, EntryKind kind, Explained& about,
                const Interruptible& interruptible, bool quiet);
// All that there is.
Json all_entries(EntryKind kind, Explained& about, const Interruptible& interruptible, bool quiet);

}  // namespace vitrine::app

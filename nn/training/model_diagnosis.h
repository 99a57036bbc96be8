// The diagnosis of a language model (autograd/diagnose/diagnosis.h), with prompts, loss and what
// its configuration says of it supplied.
//
//   Diagnosis d = nn::diagnose(m);
//   if (!d.ok()) throw std::runtime_error(to_string(d));
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/diagnose/diagnosis.h"
#include "nn/model/model.h"

namespace vitrine::nn {

struct ModelDiagnoseOptions {
  // What the model is run on. Empty: two prompts of drawn tokens, of unequal lengths, so that what
  // crosses from one prompt into another is seen, too.
  std::vector<Tokens> prompts;
  // Whether the weights are initial ones: then the loss must be near ln(vocabulary).
  bool untrained = false;
  std::uint64_t seed = 0;
};

// All checks, of the model with its gauge, transformations and standing edits. Throws what
// Model::run throws for prompts that do not fit, ContextError where none has two tokens.
Diagnosis diagnose(const Model& model, const ModelDiagnoseOptions& options = {});

// What is worth knowing before the first step, in far less time than one takes: causality from the
// graph alone and, of `fresh` weights, the loss of a few drawn tokens beside ln(vocabulary).
Diagnosis diagnose_before_training(const Model& model, bool fresh);

// Throws NumericError, with what was found, where and what to do, when a row sees a later token or
// not its own.
void require_causal(const Diagnosis& diagnosis);
// "causality proved of 2 ops that mix positions; the loss is ...": the findings, one after the
// other.
std::string in_one_line(const Diagnosis& diagnosis);

}  // namespace vitrine::nn

// Runs a model for a verb, with interruption and a progress bar.
#pragma once

#include "apps/terminal/interrupt.h"
#include "nn/model/model.h"

namespace vitrine::app {

// The fetched values for one prompt. Throws what nn::Model::run throws, and InterruptedError after
// Ctrl-C.
Results run_model(const nn::Model& model, const nn::Tokens& prompt, const Fetch& wanted,
                  const Interruptible& interruptible, bool quiet);

}  // namespace vitrine::app

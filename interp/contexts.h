// Max-activating dataset examples: the contexts in which each neuron of a model is most active,
// over a text of any length. A neuron whose contexts have nothing in common is called polysemantic
// (Elhage et al. 2022, "Toy Models of Superposition").
//
//   Contexts c = collect_contexts(m, "books.txt", {.contexts = 10});
//   std::span<const nn::Peak> strongest = c.peaks.of(c.row({.layer = 2, .index = 611}));
//
// All neurons of all layers are done in one pass over the file, and memory does not grow with it.
// Every line that is not blank is a text of its own; of a line a neuron has one context, the token
// at which its mlp.hook_post is largest. Lines are packed into batches without padding. A line
// longer than the model's context is cut into pieces of that length, each of which is read as if
// it were a line, so no token is left out.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include "interp/neurons.h"
#include "nn/model/model.h"
#include "nn/text/peaks.h"

namespace vitrine::interp {

// How many contexts are kept of each neuron, and how a text is read.
struct ContextsSpec {
  int contexts = 10;         // kept of each neuron, 1 to 10,000
  std::optional<int> bos;    // put before every piece; its own activations do not count
  bool special = false;      // the text of an added token becomes its one id
  std::int64_t rows = 1024;  // tokens that are run together, as far as lines fit

  // A file with all that is known so far, and the place in the text; written all or nothing, at
  // most every `save_every` seconds, at the end, and when cancelled. If it is there already the
  // pass goes on from it, to the same bits as without the interruption. "": none.
  std::filesystem::path checkpoint;
  double save_every = 30;

  const std::atomic<bool>* cancel = nullptr;  // InterruptedError when set
  std::function<void(std::int64_t bytes, std::int64_t total)> progress;  // of the file, read
};

// The max-activating examples of all neurons. A neuron's row is layer * d_mlp + index.
struct Contexts {
  Contexts(int layers, int per_layer, int contexts);
  std::int64_t row(const NeuronId& id) const {
    return static_cast<std::int64_t>(id.layer) * per_layer + id.index;
  }
  NeuronId id(std::int64_t row) const {
    return {static_cast<int>(row / per_layer), static_cast<int>(row % per_layer)};
  }
  std::int64_t neurons() const { return peaks.neurons(); }
  double mean(std::int64_t row) const;    // of the activation, over all tokens
  double active(std::int64_t row) const;  // the fraction of tokens with an activation above 0

  int layers, per_layer;
  nn::Peaks peaks;
  std::vector<double> sums;             // [neurons]: activations of all tokens
  std::vector<std::int64_t> positives;  // [neurons]: tokens with an activation above 0
  std::int64_t lines = 0, tokens = 0;   // read; the tokens without those put before pieces
  std::int64_t long_lines = 0;          // of the lines, those that were cut
  std::int64_t resumed = 0;             // of the lines, those that an earlier pass had read
};

// Collects the max-activating examples of all neurons over a file. `file` is text, whose bytes may
// be any, or .jsonl with {"text": ...} or {"tokens": [...]} a line (nn/text/documents.h). Throws
// FileError for a file that cannot be read, has no token in it, or is another one than that of the
// checkpoint, as for another model or spec; TokenError for ids outside the vocabulary and for text
// without a tokenizer; Error (usage) for a spec out of range; NumericError for activations that are
// NaN; SaveError for a checkpoint that cannot be written.
Contexts collect_contexts(const nn::Model& model, const std::filesystem::path& file,
                          const ContextsSpec& spec = {});

}  // namespace vitrine::interp

// Context windows: reads the text around peaks again from the file, of which the search kept only
// the places.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "nn/model/model.h"
#include "nn/text/peaks.h"

namespace vitrine::nn {

// Tokens of a line around a peak.
struct Window {
  Tokens tokens;
  int peak = 0;  // tokens[peak] is where the neuron was strongest
  int token() const { return tokens[static_cast<std::size_t>(peak)]; }
  bool from_start = false, to_end = false;  // of the line
};

// Up to `around` tokens on either side of each peak, in the order of the peaks. `special` as in
// ContextsSpec. Throws what collect_contexts throws for a file, and FileError for a peak that is
// not in it.
std::vector<Window> windows_around(const Model& model, const std::filesystem::path& file,
                                   bool special, std::span<const Peak> peaks, int around);

// Counts the different tokens at the peaks, and the different predictions there: a neuron with many
// of both responds to several things, or to something that is not a token.
struct Variety {
  int tokens = 0, predicted = 0;
};
Variety variety(std::span<const Peak> peaks, std::span<const Window> windows);

}  // namespace vitrine::nn

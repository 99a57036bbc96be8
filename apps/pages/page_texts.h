// The tokens around places of a text, as a page has them: what lies around several places is there once.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "apps/terminal/output.h"
#include "nn/text/context_windows.h"

namespace vitrine::app {

class PageTexts {
 public:
  // `windows` are those around `peaks`.
  PageTexts(std::span<const nn::Peak> peaks, std::span<const nn::Window> windows);
  std::int64_t text_of(const nn::Peak& peak) const;  // the index of the text that the peak is in
  Json json() const;                                 // [[line, first position, id, ...], ...]

 private:
  struct Text {
    std::int64_t line;
    std::int32_t first;
    nn::Tokens tokens;
    std::int32_t end() const { return first + static_cast<std::int32_t>(tokens.size()); }
  };
  std::vector<Text> texts_;  // by line, then position
};

}  // namespace vitrine::app

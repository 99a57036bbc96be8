// The regular expressions by which tokenizers split text: what HuggingFace gives to Oniguruma.
//
// Known are characters, classes ([^\r\n\p{L}\p{N}], nested ones too), \s \S \d \D \p{..} \P{..} with
// Unicode's general categories, . | (...) (?:...) (?i:...) (?=...) (?!...), and the quantifiers
// ? * + {m,n} and the possessive ?+ *+ ++ after a character or class. A group may only be optional:
// so matching takes at most one turn per character and quantifier, and no stack that grows with the
// text. Everything else is refused by name.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nn/splitting/character_set.h"

namespace vitrine::nn {

class RegularExpression {
 public:
  struct Match {
    std::size_t begin, end;
  };

  // Throws ConfigError, beginning with `where`, for what is malformed or not known, and for a
  // pattern that matches the empty text.
  RegularExpression(std::string_view pattern, std::string_view where);

  // The first match that begins at `begin` or later. Text may be any bytes; what is not UTF-8 counts
  // as U+FFFD. Throws TokenError where a contrived pattern would take time that grows faster than
  // the text.
  std::optional<Match> find(std::string_view text, std::size_t begin) const;

  // The end of the match that begins at `begin` < text.size(), or npos.
  std::size_t match_end(std::string_view text, std::size_t begin) const;

  const std::string& pattern() const { return pattern_; }

 private:
  friend class ExpressionCompiler;

  // A step of matching; `next` is what follows it, where it does not say otherwise.
  struct Node {
    enum Kind : std::uint8_t { accept, characters, choice, look_ahead };
    Kind kind = accept;
    bool possessive = false;  // characters: what was taken is never given back
    bool negative = false;    // look_ahead
    int set = 0;              // characters: index in sets_
    std::uint32_t least = 1, most = 1;
    int next = 0;
    std::vector<int> branches;  // choice: tried in order; look_ahead: one, which ends in `accept`
  };
  static constexpr std::uint32_t kAny = UINT32_MAX;

  std::size_t run(int node, std::string_view text, std::size_t position, std::size_t& left) const;
  std::size_t take(const CharacterSet& set, std::uint32_t most, std::string_view text,
                   std::size_t position, std::uint32_t& taken) const;

  std::string pattern_;
  bool by_hand_ = false;  // GPT-2's pattern, which pretokenize.h matches
  std::vector<Node> nodes_;
  std::vector<CharacterSet> sets_;
  int start_ = 0;
  // Which branches of the first choice can begin with each ASCII character, the last entry with any
  // other. All of them when there are more than 32.
  std::array<std::uint32_t, 129> begins_;
};

}  // namespace vitrine::nn

// What a tokenizer does to a text before its bytes or characters merge, and to tokens afterwards.
//
// A text goes through the normalizers, which change it; then the pre-tokenizers cut it into pieces,
// each step cutting the pieces of the one before. Tokens go through the decoders on the way back.
// These are the parts of HuggingFace's tokenizer.json, by their names there.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace vitrine::nn {

class RegularExpression;

// Texts that were made on the way; string_views into them live as long as it does.
using MadeTexts = std::deque<std::string>;

struct TextSteps {
  // A text that is looked for literally, or an expression; never empty.
  using Pattern = std::variant<std::string, std::shared_ptr<const RegularExpression>>;

  // ---- normalizers
  struct Prepend {
    std::string prepend;  // put before every text that is not empty
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Nfc {};
  using Normalizer = std::variant<Prepend, Replace, Nfc>;

  // ---- pre-tokenizers
  // What becomes of a match: a piece of its own, nothing, the end of the piece before, the beginning
  // of the next; or it and its neighbours are one piece.
  enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };
  struct Split {
    Pattern pattern;
    Behavior behavior = Behavior::isolated;
    bool invert = false;  // the matches are what lies between those of the pattern
  };
  struct Digits {
    bool individual_digits = false;  // each \p{N} alone, or runs of them
  };
  enum class PrependScheme { always, first, never };
  struct Metaspace {  // spaces become `replacement`, and one is put in front
    std::string replacement;
    PrependScheme prepend_scheme = PrependScheme::always;
    bool split = true;  // before every replacement
  };
  struct ByteLevel {  // the last step: pieces are bytes from here on
    bool add_prefix_space = false;
    bool use_regex = true;  // cut by GPT-2's pattern
  };
  using PreTokenizer = std::variant<Split, Digits, Metaspace, ByteLevel>;

  // ---- decoders, where pieces are characters
  struct ReplaceText {  // in each token
    std::string pattern, content;
  };
  struct ByteFallback {};  // "<0x0A>" is a byte
  struct Fuse {};          // what follows is done to the whole text
  struct Strip {           // of the whole text, at most so many of these at its beginning
    std::string content;
    std::size_t start = 0;
  };
  using Decoder = std::variant<ReplaceText, ByteFallback, Fuse, Strip, Metaspace>;

  std::vector<Normalizer> normalizers{};
  std::vector<PreTokenizer> pre_tokenizers{ByteLevel{}};  // GPT-2's
  std::vector<Decoder> decoders{};

  // Whether pieces are bytes rather than characters.
  bool byte_level() const;
  // Cut by GPT-2's pattern into pieces of bytes, and no more.
  bool is_gpt2() const;
  // Whether a text begins with a space, or what stands for one, that was not there.
  bool puts_space_first() const;
  // Whether the pieces joined are the text: nothing is changed, put in front or removed.
  bool keeps_text() const;

  // A part of a text between added tokens, normalised. A view of itself if that changes nothing.
  std::string_view normalize(std::string_view text, MadeTexts& made) const;

  // Calls `piece` for each piece of a normalised text in order. `at_start`: no part of the whole text
  // came before it.
  using Visit = std::function<void(std::string_view piece)>;
  void split(std::string_view text, bool at_start, MadeTexts& made, const Visit& piece) const;

  // What a token stands for in the middle of a text, and, where that differs, at the beginning of one.
  std::string decode_token(std::string_view token) const;
  std::string decode_first_token(std::string_view token) const;
  // What is done to the tokens joined.
  void decode_whole(std::string& text) const;
};

}  // namespace vitrine::nn

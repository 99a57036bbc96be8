// The tokenizer in a GGUF file's metadata, as the keys tokenizer.ggml.* state it.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace vitrine {
class Gguf;
}

namespace vitrine::nn {

// Tokenizer::from_gguf makes a tokenizer of it.
struct GgufTokenizer {
  std::string model{};                // "gpt2" (bytes, merges) or "llama" (characters, scores)
  std::string pre{};                  // of "gpt2": how text is cut
  std::vector<std::string> tokens{};  // as the file spells them
  // Of each: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte. All are normal where
  // there are none.
  std::vector<int> token_type{};
  std::vector<std::string> merges{};
  std::vector<float> scores{};
  std::optional<int> bos{}, eos{};
  std::optional<bool> add_bos{}, add_eos{}, add_space_prefix{};
};

// None when the file has no tokenizer (no tokenizer.ggml.model, or "no_vocab"). Throws FileError for
// a key of another type, or a text that is not UTF-8.
std::optional<GgufTokenizer> read_gguf_tokenizer(const Gguf& file);

}  // namespace vitrine::nn

// Any bytes are either refused with an Error or make a tokenizer that keeps its promises: whatever
// it can encode decodes to the same bytes, unless it changes texts, or has added tokens that spell
// other bytes or take white space.
//
// The first byte chooses what the rest is: a tokenizer.json; a vocab.json and a merges.txt with a
// zero byte between them; or a text for a fixed tokenizer with some merges and added tokens.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "nn/tokenizer/tokenizer.h"
#include "tensor/error.h"

namespace {

using vitrine::Error;
using vitrine::nn::Special;
using vitrine::nn::Tokenizer;

// Whether every text decodes to itself.
bool is_exact(const Tokenizer& tokenizer) {
  for (const auto& added : tokenizer.added_tokens()) {
    if (tokenizer.token_bytes(added.id) != added.content || added.lstrip || added.rstrip)
      return false;
  }
  return tokenizer.steps().byte_level() && tokenizer.steps().keeps_text();
}

void check_round_trip(const Tokenizer& tokenizer, std::string_view text) {
  for (const Special special : {Special::as_text, Special::as_tokens}) {
    try {
      const std::vector<int> ids = tokenizer.encode(text, special);
      if (is_exact(tokenizer) && tokenizer.decode(ids) != text) std::abort();
      if (tokenizer.str_tokens(ids).size() != ids.size()) std::abort();
    } catch (const Error&) {  // a byte without a token
    }
  }
  try {
    const std::string& bytes = tokenizer.token_bytes(tokenizer.to_single_token(text));
    if (is_exact(tokenizer) && bytes != text) std::abort();
  } catch (const Error&) {  // several tokens
  }
}

void check(const Tokenizer& tokenizer) {
  const std::string a_text = "aab ab's  <|endoftext|>\n\xf0\x9f\x98 12";
  check_round_trip(tokenizer, a_text);
  check_round_trip(tokenizer, "ab");
  check_round_trip(tokenizer, std::string(100, 'a') + "b");
  for (int id = -1; id <= tokenizer.vocabulary_size(); ++id) {
    try {
      const bool bytes = tokenizer.steps().byte_level();
      if (!tokenizer.find(tokenizer.token_bytes(id)) && bytes) std::abort();
      check_round_trip(tokenizer, tokenizer.token_bytes(id));
    } catch (const Error&) {  // an unused id
    }
  }
}

// All 256 bytes, some merges, and added tokens that overlap.
Tokenizer fixed_tokenizer() {
  vitrine::nn::Vocabulary vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.tokens.emplace_back(std::string(1, static_cast<char>(byte)));
  }
  const auto merge = [&](int left, int right) {
    const int merged = static_cast<int>(vocabulary.tokens.size());
    vocabulary.tokens.emplace_back(*vocabulary.tokens[left] + *vocabulary.tokens[right]);
    vocabulary.merges.push_back({left, right, merged});
    return merged;
  };
  const int aa = merge('a', 'a');
  merge(aa, aa);
  merge(' ', merge('a', 'b'));
  merge(0xF0, 0x9F);
  for (const char* content : {"<|endoftext|>", "<|", "ab ", "b <"}) {
    const int id = static_cast<int>(vocabulary.tokens.size());
    vocabulary.tokens.emplace_back(content);
    vocabulary.added.push_back({id, content, true, id % 2 == 0});
  }
  return Tokenizer(std::move(vocabulary), "fixed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // A copy of its own, so that AddressSanitizer sees reads beyond the end.
  const std::vector<char> copy(data + 1, data + size);
  const std::string_view text(copy.data(), copy.size());
  try {
    switch (data[0] % 3) {
      case 0:
        check(Tokenizer::parse_tokenizer_json(text, "fuzz"));
        break;
      case 1: {
        const std::size_t zero = text.find('\0');
        if (zero == text.npos) break;
        check(Tokenizer::parse(text.substr(0, zero), text.substr(zero + 1), "fuzz"));
        break;
      }
      default: {
        static const Tokenizer fixed = fixed_tokenizer();
        check_round_trip(fixed, text);
        if (fixed.decode(fixed.encode(text)) != text) std::abort();  // it knows every byte
        if (fixed.decode(fixed.encode(text, Special::as_tokens)) != text) std::abort();
      }
    }
  } catch (const Error&) {
  }
  return 0;
}

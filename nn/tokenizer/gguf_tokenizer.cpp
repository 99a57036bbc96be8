#include "nn/tokenizer/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string_view>

#include "tensor/error.h"
#include "tensor/files/gguf.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kKeys = "tokenizer.ggml.";

std::string key_of(std::string_view name) { return std::string(kKeys) + std::string(name); }

std::vector<std::string> texts(const Gguf& file, std::string_view name) {
  std::vector<std::string> found;
  if (!file.metadata().has(key_of(name))) return found;
  for (const std::string_view text : file.metadata().texts(key_of(name))) {
    if (replace_invalid_utf8(text) != text) {
      throw FileError(fmt::format("{}: {}: expected UTF-8, found {} as item {}", file.file(),
                                  key_of(name), quote(text), found.size()));
    }
    found.emplace_back(text);
  }
  return found;
}

std::optional<int> id(const Gguf& file, std::string_view name) {
  if (!file.metadata().has(key_of(name))) return std::nullopt;
  const std::int64_t value = file.metadata().integer(key_of(name));
  if (value < 0 || value > std::numeric_limits<int>::max()) {
    throw FileError(fmt::format("{}: {}: expected the id of a token, found {}", file.file(),
                                key_of(name), value));
  }
  return static_cast<int>(value);
}

std::optional<bool> flag(const Gguf& file, std::string_view name) {
  if (!file.metadata().has(key_of(name))) return std::nullopt;
  return file.metadata().boolean(key_of(name));
}

}  // namespace

std::optional<GgufTokenizer> read_gguf_tokenizer(const Gguf& file) {
  GgufTokenizer parts;
  parts.model = file.metadata().text(key_of("model"), "no_vocab");
  if (parts.model == "no_vocab" || parts.model == "none") return std::nullopt;
  parts.pre = file.metadata().text(key_of("pre"), "");
  parts.tokens = texts(file, "tokens");
  parts.merges = texts(file, "merges");
  if (file.metadata().has(key_of("token_type"))) {
    for (const std::int64_t type : file.metadata().integers(key_of("token_type")))
      parts.token_type.push_back(static_cast<int>(std::clamp<std::int64_t>(type, -1, 1000)));
  }
  if (file.metadata().has(key_of("scores"))) {
    for (const double score : file.metadata().reals(key_of("scores")))
      parts.scores.push_back(static_cast<float>(score));
  }
  parts.bos = id(file, "bos_token_id");
  parts.eos = id(file, "eos_token_id");
  parts.add_bos = flag(file, "add_bos_token");
  parts.add_eos = flag(file, "add_eos_token");
  parts.add_space_prefix = flag(file, "add_space_prefix");
  return parts;
}

}  // namespace vitrine::nn

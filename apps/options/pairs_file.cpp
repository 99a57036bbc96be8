#include "apps/options/pairs_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "apps/options/options.h"
#include "tensor/error.h"
#include "tensor/files/json_text.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

constexpr std::array<std::string_view, 8> kKeys = {"clean",        "corrupt",      "answer",
                                                   "wrong",        "clean_tokens", "corrupt_tokens",
                                                   "answer_token", "wrong_token"};
constexpr const char* kWanted =
    "one {\"clean\": \"...\", \"corrupt\": \"...\", \"answer\": \"...\", \"wrong\": \"...\"} a "
    "line, or clean_tokens, corrupt_tokens (lists of ids), answer_token and wrong_token (ids)";

std::string quote_json(const JsonValue& value) { return nn::quote(value.line()); }

// One line's object.
class PairReader {
 public:
  PairReader(const JsonValue& object, const nn::Model& model, const PromptOptions& options)
      : object_(object), model_(model), options_(options) {}

  interp::Pair pair() const {
    if (object_.fields() == nullptr)
      refuse(fmt::format("a pair must be a JSON object, but this is {}", quote_json(object_)));
    for (const auto& [key, value] : *object_.fields()) {
      if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
        refuse(fmt::format("the key {} is not known", nn::quote(key)));
    }
    return {prompt("clean", "clean_tokens"), prompt("corrupt", "corrupt_tokens"),
            token("answer", "answer_token"), token("wrong", "wrong_token")};
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw FileError(fmt::format("{}; expected {}", what, kWanted));
  }

  // Whether it is given as text, and not by ids.
  bool by_text(const char* text, const char* ids) const {
    const bool has_text = object_.find(text) != nullptr, has_ids = object_.find(ids) != nullptr;
    if (has_text && has_ids) refuse(fmt::format("there are both \"{}\" and \"{}\"", text, ids));
    if (!has_text && !has_ids) refuse(fmt::format("there is neither \"{}\" nor \"{}\"", text, ids));
    return has_text;
  }
  const std::string& text_of(const char* key) const {
    const JsonValue& value = *object_.find(key);
    if (value.text() == nullptr)
      refuse(fmt::format("\"{}\" must be a string, but is {}", key, quote_json(value)));
    if (model_.has_tokenizer()) return *value.text();
    throw TokenError(fmt::format(
        "\"{}\" is text, but {}; give ids: clean_tokens, corrupt_tokens, answer_token, wrong_token",
        key, model_.why_no_tokenizer()));
  }
  int id_of(const JsonValue& value, const char* key) const {
    const auto id = value.natural();
    if (!id || *id > INT32_MAX)
      refuse(fmt::format("\"{}\": {} is not a token id", key, quote_json(value)));
    return static_cast<int>(*id);
  }

  nn::Tokens prompt(const char* text, const char* ids) const {
    if (by_text(text, ids)) {
      const std::string& written = text_of(text);
      return options_.encode(model_, written);
    }
    const JsonValue& list = *object_.find(ids);
    if (list.list_items() == nullptr)
      refuse(fmt::format("\"{}\" must be a list of ids, but is {}", ids, quote_json(list)));
    nn::Tokens tokens;
    for (const JsonValue& id : *list.list_items()) tokens.push_back(id_of(id, ids));
    return options_.with_bos(std::move(tokens), model_.config().bos, tokenizer_of(model_));
  }
  int token(const char* text, const char* id) const {
    if (!by_text(text, id)) return id_of(*object_.find(id), id);
    const std::string& written = text_of(text);
    return model_.token(written);
  }

  const JsonValue& object_;
  const nn::Model& model_;
  const PromptOptions& options_;
};

}  // namespace

std::vector<PairOfFile> read_pairs(JsonLines& lines, const nn::Model& model,
                                   const PromptOptions& options) {
  std::vector<PairOfFile> pairs;
  while (lines.next()) {
    const JsonValue object = JsonValue::parse(lines.line(), lines.where());
    interp::Pair pair;
    try {
      pair = PairReader(object, model, options).pair();
      check_pair(model, pair);
      check_answers(pair);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{}: {}", lines.where(), error.what()));
    }
    pairs.push_back({std::move(pair), lines.number()});
  }
  if (pairs.empty())
    throw FileError(fmt::format("{}: there are no pairs; expected {}", lines.name(), kWanted));
  return pairs;
}

void check_answers(const interp::Pair& pair) {
  if (pair.answer != pair.wrong) return;
  throw TokenError(
      fmt::format("the answer and the wrong answer are the same token (id {}): there "
                  "is no difference between their logits to explain",
                  pair.answer));
}

}  // namespace vitrine::app

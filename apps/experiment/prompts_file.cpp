#include "apps/experiment/prompts_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>

#include "apps/experiment/roles.h"
#include "apps/options/options.h"
#include "tensor/error.h"
#include "tensor/files/json_text.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

constexpr std::array<std::string_view, 11> kKeys = {
    "prompt",       "clean",          "corrupt",      "answer",      "wrong", "prompt_tokens",
    "clean_tokens", "corrupt_tokens", "answer_token", "wrong_token", "roles"};
constexpr const char* kWantedPair =
    "one {\"clean\": \"...\", \"corrupt\": \"...\", \"answer\": \"...\", \"wrong\": \"...\"} a "
    "line, or clean_tokens, corrupt_tokens (lists of ids), answer_token and wrong_token (ids)";
constexpr const char* kWantedPrompt =
    "one {\"prompt\": \"...\", \"answer\": \"...\", \"wrong\": \"...\"} a line (answers are "
    "optional), or prompt_tokens (a list of ids), answer_token and wrong_token (ids)";

std::string quote_json(const JsonValue& value) { return nn::quote(value.line()); }

// How many letters must be put in, left out or changed to make one word of the other (Levenshtein
// 1966).
std::size_t letters_apart(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // of the letters of a so far, to each beginning of b
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// One line's object.
class ExampleReader {
 public:
  ExampleReader(const JsonValue& object, const nn::Model& model, const PromptOptions& options,
                const PromptsNeed& need)
      : object_(object), model_(model), options_(options), need_(need) {}

  interp::Example example() const {
    if (object_.fields() == nullptr) {
      refuse(fmt::format("a {} must be a JSON object, but this is {}",
                         need_.corrupt ? "pair" : "prompt", quote_json(object_)));
    }
    for (const auto& [key, value] : *object_.fields()) check_key(key);
    interp::Example e;
    const bool clean = by_either("clean", "clean_tokens");
    if (clean && by_either("prompt", "prompt_tokens"))
      refuse("there are both \"clean\" and \"prompt\"");
    const bool called_clean = clean || (need_.corrupt && !by_either("prompt", "prompt_tokens"));
    const char* text = called_clean ? "clean" : "prompt";
    const char* ids = called_clean ? "clean_tokens" : "prompt_tokens";
    e.prompt = prompt(text, ids);
    if (need_.corrupt || by_either("corrupt", "corrupt_tokens"))
      e.corrupt = prompt("corrupt", "corrupt_tokens");
    e.answers = answers("answer", "answer_token", need_.answer, e.prompt);
    e.wrongs = answers("wrong", "wrong_token", need_.wrong, e.prompt);
    check(e);
    if (const JsonValue* roles = object_.find("roles")) {
      const JsonValue* written = object_.find(text);
      const bool by_text = written != nullptr && written->text() != nullptr;
      e.roles = read_roles(*roles, model_, e.prompt, by_text ? *written->text() : "");
    }
    for (const auto& [key, value] : *object_.fields()) {
      if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) keep(e, key, value);
    }
    return e;
  }

 private:
  [[noreturn]] void refuse(const std::string& what, const std::string& advice = "") const {
    throw FileError(fmt::format("{}; expected {}{}", what,
                                need_.corrupt ? kWantedPair : kWantedPrompt, advice));
  }

  // A key that is nearly a known one is more likely a mistake than a name of one's own.
  void check_key(const std::string& key) const {
    if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) return;
    constexpr std::size_t kNear = 2;
    for (const std::string_view known : kKeys) {
      if (letters_apart(key, known) > kNear) continue;
      refuse(fmt::format("the key {} is not known", nn::quote(key)),
             fmt::format("; did you mean \"{}\"? A field of your own needs a name that is less "
                         "like it",
                         known));
    }
  }

  bool by_either(const char* text, const char* ids) const {
    return object_.find(text) != nullptr || object_.find(ids) != nullptr;
  }
  // Whether it is given as text, and not by ids.
  bool by_text(const char* text, const char* ids) const {
    const bool has_text = object_.find(text) != nullptr, has_ids = object_.find(ids) != nullptr;
    if (has_text && has_ids) refuse(fmt::format("there are both \"{}\" and \"{}\"", text, ids));
    if (!has_text && !has_ids) refuse(fmt::format("there is neither \"{}\" nor \"{}\"", text, ids));
    return has_text;
  }
  void require_tokens_of_text(const char* key) const {
    if (model_.has_tokenizer()) return;
    throw TokenError(fmt::format("\"{}\" is text, but {}; give ids: {}, answer_token, wrong_token",
                                 key, model_.why_no_tokenizer(),
                                 need_.corrupt ? "clean_tokens, corrupt_tokens" : "prompt_tokens"));
  }
  int id_of(const JsonValue& value, const char* key) const {
    const auto id = value.natural();
    if (!id || *id > INT32_MAX)
      refuse(fmt::format("\"{}\": {} is not a token id", key, quote_json(value)));
    return static_cast<int>(*id);
  }
  nn::Tokens ids_of(const JsonValue& list, const char* key) const {
    nn::Tokens tokens;
    for (const JsonValue& id : *list.list_items()) tokens.push_back(id_of(id, key));
    return tokens;
  }

  nn::Tokens prompt(const char* text, const char* ids) const {
    if (by_text(text, ids)) {
      const JsonValue& value = *object_.find(text);
      if (value.text() == nullptr)
        refuse(fmt::format("\"{}\" must be a string, but is {}", text, quote_json(value)));
      require_tokens_of_text(text);
      return options_.encode(model_, *value.text());
    }
    const JsonValue& list = *object_.find(ids);
    if (list.list_items() == nullptr)
      refuse(fmt::format("\"{}\" must be a list of ids, but is {}", ids, quote_json(list)));
    return options_.with_bos(ids_of(list, ids), model_.config().bos, tokenizer_of(model_));
  }

  // ---- answers
  std::vector<nn::Tokens> answers(const char* text, const char* ids, bool needed,
                                  const nn::Tokens& prompt) const {
    if (!needed && !by_either(text, ids)) return {};
    const bool texts = by_text(text, ids);
    const char* key = texts ? text : ids;
    const JsonValue& value = *object_.find(key);
    std::vector<nn::Tokens> all;
    if (const auto* list = value.list_items(); list != nullptr) {
      for (const JsonValue& item : *list)
        all.push_back(texts ? answer_of_text(item, key, prompt) : answer_of_ids(item, key));
      if (all.empty()) refuse(fmt::format("\"{}\" is an empty list", key));
    } else {
      all.push_back(texts ? answer_of_text(value, key, prompt) : nn::Tokens{id_of(value, key)});
    }
    return all;
  }
  nn::Tokens answer_of_ids(const JsonValue& value, const char* key) const {
    if (value.list_items() == nullptr) return {id_of(value, key)};
    nn::Tokens tokens = ids_of(value, key);
    if (tokens.empty()) refuse(fmt::format("\"{}\" holds an answer without tokens", key));
    return tokens;
  }
  nn::Tokens answer_of_text(const JsonValue& value, const char* key,
                            const nn::Tokens& prompt) const {
    if (value.text() == nullptr) {
      refuse(fmt::format("\"{}\" must be a string or a list of strings, but is {}", key,
                         quote_json(value)));
    }
    require_tokens_of_text(key);
    const std::string& text = *value.text();
    if (text.empty()) return {model_.token(text)};
    try {
      return {model_.token(text)};
    } catch (const TokenError& error) {
      // A forgotten space makes several tokens of one.
      if (is_one_token(text.front() == ' ' ? text.substr(1) : " " + text)) throw;
    }
    return continuation(text, prompt);
  }
  bool is_one_token(const std::string& text) const {
    try {
      return !text.empty() && model_.token(text) >= 0;
    } catch (const TokenError&) {
      return false;
    }
  }
  // The tokens with which a text goes on after the prompt.
  nn::Tokens continuation(const std::string& text, const nn::Tokens& prompt) const {
    const nn::Tokenizer& tokenizer = model_.tokenizer();
    nn::Tokens alone = tokenizer.encode(text);
    if (tokenizer.characters()) {  // which put a space before what they take for a beginning
      const nn::Tokens whole = tokenizer.encode(tokenizer.decode(prompt) + text);
      const auto first = static_cast<std::ptrdiff_t>(tokenizer.first().size());
      const nn::Tokens before(prompt.begin() + std::min(first, std::ssize(prompt)), prompt.end());
      if (whole.size() > before.size() && std::equal(before.begin(), before.end(), whole.begin()))
        alone.assign(whole.begin() + std::ssize(before), whole.end());
    }
    model_.check_embedded(alone);
    return alone;
  }

  void check(const interp::Example& e) const {
    nn::check_prompts({e.prompt}, model_.config());
    for (const auto* all : {&e.answers, &e.wrongs}) {
      for (const nn::Tokens& answer : *all) {
        for (const int id : answer) interp::check_answer(model_, id);
      }
    }
    if (!e.corrupt.empty() || need_.corrupt) interp::check_aligned(model_, e.prompt, e.corrupt);
    for (const nn::Tokens& answer : e.answers) {
      if (std::find(e.wrongs.begin(), e.wrongs.end(), answer) == e.wrongs.end()) continue;
      if (answer.size() == 1) check_answers({{}, {}, answer[0], answer[0]});
      throw TokenError("the answer and the wrong answer are the same tokens");
    }
  }

  // ---- fields of one's own
  void keep(interp::Example& e, const std::string& key, const JsonValue& value) const {
    if (value.text() != nullptr) {
      e.fields[key] = *value.text();
    } else if (value.is_number() || value.boolean() != nullptr) {
      e.fields[key] = value.line();
    } else if (value.list_items() != nullptr && !value.list_items()->empty()) {
      for (const JsonValue& item : *value.list_items()) e.tokens[key].push_back(token(key, item));
    } else {
      refuse(
          fmt::format("\"{}\" is {}; a field of your own is a text, a number, true or false, "
                      "or a list of single tokens",
                      key, quote_json(value)));
    }
  }
  int token(const std::string& key, const JsonValue& item) const {
    if (item.text() == nullptr) {
      const int id = id_of(item, key.c_str());
      interp::check_answer(model_, id);
      return id;
    }
    require_tokens_of_text(key.c_str());
    try {
      return model_.token(*item.text());
    } catch (const TokenError& error) {
      throw TokenError(fmt::format("\"{}\", a list of single tokens: {}", key, error.what()));
    }
  }

  const JsonValue& object_;
  const nn::Model& model_;
  const PromptOptions& options_;
  const PromptsNeed& need_;
};

}  // namespace

std::vector<interp::Example> read_prompts(JsonLines& lines, const nn::Model& model,
                                          const PromptOptions& options, const PromptsNeed& need) {
  std::vector<interp::Example> examples;
  while (lines.next()) {
    const JsonValue object = JsonValue::parse(lines.line(), lines.where());
    try {
      examples.push_back(ExampleReader(object, model, options, need).example());
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("{}: {}", lines.where(), error.what()));
    }
    examples.back().line = lines.number();
  }
  if (!examples.empty()) return examples;
  throw FileError(fmt::format("{}: there are no {}; expected {}", lines.name(),
                              need.corrupt ? "pairs" : "prompts",
                              need.corrupt ? kWantedPair : kWantedPrompt));
}

void check_answers(const interp::Pair& pair) {
  if (pair.answer != pair.wrong) return;
  throw TokenError(
      fmt::format("the answer and the wrong answer are the same token (id {}): there "
                  "is no difference between their logits to explain",
                  pair.answer));
}

}  // namespace vitrine::app

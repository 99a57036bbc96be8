// The files beside a vocabulary. HuggingFace's rules are followed where they are surprising:
// special_tokens_map.json and added_tokens.json are only read when tokenizer_config.json has no
// added_tokens_decoder, and GPT2Tokenizer has <|endoftext|> for its bos, eos and unk token unless
// the files say otherwise. Beside a tokenizer.json, add_bos_token and add_eos_token do nothing: its
// post_processor says what is put around a text.
#include "nn/tokenizer/tokenizer_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <utility>
#include <vector>

#include "nn/tokenizer/vocabulary_reader.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

// In the order in which those that are new get their ids.
constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

bool is_role(std::string_view key) {
  return std::find(std::begin(kRoles), std::end(kRoles), key) != std::end(kRoles);
}

bool is_marked_token(const JsonReader& value) {
  return value.is_object() && value.at("__type").is_text("AddedToken");
}

// Those of an added_tokens.json. Words rather than control tokens, unless another file says so.
std::vector<NamedToken> tokens_by_id(const JsonReader& added) {
  std::map<int, NamedToken> by_id;
  for (const JsonReader& field : added.fields()) {
    const std::string content(field.name());
    const int id = read_token_id(field, content);
    const auto [at, is_new] =
        by_id.emplace(id, NamedToken{{id, content, false, true}, added.file()});
    if (is_new) continue;
    throw FileError(fmt::format("{}: tokens {} and {} have the same id {}", added.file(),
                                quote(at->second.token.content), quote(content), id));
  }
  std::vector<NamedToken> tokens;
  for (auto& [id, token] : by_id) tokens.push_back(std::move(token));
  return tokens;
}

// Gathers the tokens of the files of one folder.
class ConfigReader {
 public:
  ConfigReader(const fs::path& folder, bool beside_json)
      : folder_(folder), beside_json_(beside_json), config_(read("tokenizer_config.json")) {
    check_settings();
    if (const JsonReader f = config_.at("add_prefix_space"); f.given()) result_.prefix_space = f;
    collect();
  }

  TokenizerConfig take() { return std::move(result_); }

 private:
  // An object; an empty one when there is no such file.
  JsonReader read(const char* name) const {
    std::error_code ignored;
    const std::string file = (folder_ / name).string();
    if (!fs::exists(folder_ / name, ignored)) return {JsonValue::object(), file, tokenizer_rules()};
    return JsonReader::object(read_text(file), file, tokenizer_rules());
  }

  void check_settings() const {
    if (const JsonReader f = config_.at("split_special_tokens"); f.flag_or(false)) {
      f.unsupported("false",
                    "true is not supported; without it, the texts of special tokens are plain "
                    "bytes, unless read with Special::as_tokens");
    }
    const JsonReader type = config_.at("tokenizer_class");
    if (beside_json_ || !type.given() || is_gpt2(type)) return;
    type.unsupported(
        "\"GPT2Tokenizer\"",
        "no other is supported beside vocab.json and merges.txt, which do not say how it splits "
        "text; in Python, tokenizer.save_pretrained(folder) writes a tokenizer.json, which does");
  }

  static bool is_gpt2(const JsonReader& type) {
    return type.is_text("GPT2Tokenizer") || type.is_text("GPT2TokenizerFast");
  }

  void collect() {
    const bool listed = !config_.at("added_tokens_decoder").absent();
    gather(config_, false);
    if (!listed) gather(read("special_tokens_map.json"), true);
    add_defaults();
    for (const auto& [role, token] : roles_) {
      if (token) special_.insert(token->token.content);
    }
    for (const auto& [name, token] : others_) special_.insert(token.token.content);
    for (const NamedToken& token : extra_) special_.insert(token.token.content);

    if (listed) {
      add_decoder(config_.at("added_tokens_decoder"));
    } else {
      for (NamedToken& named : tokens_by_id(read("added_tokens.json"))) {
        named.token.special = special_.contains(named.token.content);
        named.token.normalized = !named.token.special;
        add(std::move(named));
      }
    }
    for (const char* role : kRoles) {
      if (const auto token = roles_.find(role); token != roles_.end() && token->second)
        add(*token->second);
    }
    for (auto& [name, token] : others_) add(std::move(token));
    for (NamedToken& token : extra_) add(std::move(token));
    if (!beside_json_) read_ends();
  }

  void read_ends() {
    const auto wanted = [&](const char* setting, const char* role) {
      const auto token = roles_.find(role);
      return config_.at(setting).flag_or(false) && token != roles_.end() && token->second;
    };
    if (wanted("add_eos_token", "eos_token")) {
      config_.at("add_eos_token")
          .unsupported("false",
                       "putting a token after every text is not supported; set it to false and "
                       "give the token as text, with Special::as_tokens");
    }
    if (!wanted("add_bos_token", "bos_token")) return;
    result_.first = roles_.find("bos_token")->second->token.content;
    for (NamedToken& named : result_.tokens) {
      if (named.token.content == *result_.first) named.implied = false;
    }
  }

  // bos_token and the like, names of the model's own that end in _token, and lists of more tokens.
  // In special_tokens_map.json every object is a token, and special.
  void gather(const JsonReader& object, bool is_map) {
    for (const JsonReader& value : object.fields()) {
      const std::string key(value.name());
      if (is_role(key)) {
        roles_[key] = named(value);
      } else if (key.ends_with("_token") &&
                 (value.is_text() || is_marked_token(value) || (is_map && value.is_object()))) {
        if (auto token = named(value)) others_.insert_or_assign(key, std::move(*token));
      }
    }
    const JsonReader more = object.at(
        object.has("extra_special_tokens") ? "extra_special_tokens" : "additional_special_tokens");
    if (!more.given()) return;
    const bool by_name = more.is_object();
    if (!by_name && !more.is_list()) more.reject("a list of tokens");
    for (const JsonReader& value : by_name ? more.fields() : more.list()) {
      auto token = named(value, by_name || is_map);
      if (!token) continue;
      if (by_name) others_.insert_or_assign(std::string(value.name()), std::move(*token));
      else extra_.push_back(std::move(*token));
    }
  }

  // A token with a role is special, and so is every text. None for null and the empty text.
  static std::optional<NamedToken> named(const JsonReader& value, bool special = true) {
    if (!value.given() || value.is_text("")) return std::nullopt;
    if (value.is_text()) return NamedToken{{kNoId, value.text()}, value.place()};
    if (!value.is_object()) value.reject("a text, a token with \"content\", or null");
    NamedToken token{read_added_token(value), value.place()};
    if (special) {
      token.token.special = true;
      token.token.normalized = value.at("normalized").flag_or(false);
    }
    return token;
  }

  void add_defaults() {
    if (beside_json_ && !is_gpt2(config_.at("tokenizer_class"))) return;
    for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
      roles_.try_emplace(
          role, NamedToken{{kNoId, std::string(kEndOfText)},
                           fmt::format("{}: {}, which is not given", folder_.string(), role),
                           true});
    }
  }

  void add_decoder(const JsonReader& decoder) {
    std::map<int, NamedToken> by_id;
    for (const JsonReader& value : decoder.fields()) {
      const std::string_view key = value.name();
      int id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0)
        value.fail("the key must be a token id, a whole number from 0");
      AddedToken token = read_added_token(value);
      token.id = id;
      if (special_.contains(token.content)) {
        token.special = true;
        token.normalized = value.at("normalized").flag_or(false);
      }
      if (!by_id
               .emplace(id,
                        NamedToken{std::move(token),
                                   decoder.file() + ": " + json_path("added_tokens_decoder", key)})
               .second)
        value.fail("the id is there twice");
    }
    for (auto& [id, token] : by_id) add(std::move(token));
  }

  // The first to name a token says what it is.
  void add(NamedToken token) {
    if (known_.insert(token.token.content).second) result_.tokens.push_back(std::move(token));
  }

  const fs::path folder_;
  const bool beside_json_;
  const JsonReader config_;
  std::map<std::string, std::optional<NamedToken>, std::less<>> roles_;  // none: null
  std::map<std::string, NamedToken> others_;
  std::vector<NamedToken> extra_;
  std::unordered_set<std::string> special_, known_;
  TokenizerConfig result_;
};

}  // namespace

TokenizerConfig read_tokenizer_config(const fs::path& folder, bool beside_json) {
  return ConfigReader(folder, beside_json).take();
}

TokenizerConfig parse_added_tokens(std::string_view json, const std::string& file) {
  return {tokens_by_id(JsonReader::object(json, file, tokenizer_rules()))};
}

void TokenizerConfig::check_prefix_space(bool puts_space_first) const {
  if (!prefix_space || prefix_space->flag() == puts_space_first) return;
  prefix_space->unsupported(
      puts_space_first ? "true" : "false",
      puts_space_first
          ? "tokenizer.json puts a space before every text, and to leave it out is not supported"
          : "putting a space before every text where the tokenizer does not is not supported; set "
            "it "
            "to false and write the space in the text where it is wanted");
}

AddedToken read_added_token(const JsonReader& entry) {
  if (!entry.is_object() || !entry.at("content").is_text())
    entry.reject("an object with a text \"content\"");
  AddedToken token{kNoId, entry.at("content").text()};
  token.special = entry.at("special").flag_or(false);
  token.normalized = entry.at("normalized").flag_or(!token.special);
  entry.only(
      {"id", "__type", "content", "single_word", "lstrip", "rstrip", "normalized", "special"});
  token.lstrip = entry.at("lstrip").flag_or(false);
  token.rstrip = entry.at("rstrip").flag_or(false);
  if (const JsonReader flag = entry.at("single_word"); flag.flag_or(false)) {
    flag.unsupported("false", "true is not supported: an added token is found inside words too");
  }
  return token;
}

JsonRules tokenizer_rules() {
  return {.unknown_advice = "remove it if the tokenizer does not depend on it"};
}

}  // namespace vitrine::nn

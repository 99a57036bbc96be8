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

bool is_marked_token(const Json& value) {
  return value.is_object() && member(value, "__type") == "AddedToken";
}

// Those of an added_tokens.json. Words rather than control tokens, unless another file says so.
std::vector<NamedToken> tokens_by_id(const Json& added, const std::string& file) {
  std::map<int, NamedToken> by_id;
  for (const auto& [content, value] : added.get_ref<const Json::object_t&>()) {
    const int id = read_token_id(value, content, file);
    const auto [at, is_new] = by_id.emplace(id, NamedToken{{id, content, false, true}, file});
    if (is_new) continue;
    throw FileError(fmt::format("{}: tokens {} and {} have the same id {}", file,
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
      : folder_(folder),
        beside_json_(beside_json),
        config_file_((folder / "tokenizer_config.json").string()) {
    config_ = read("tokenizer_config.json");
    check_settings();
    collect();
  }

  TokenizerConfig take() { return std::move(result_); }

 private:
  // An object; an empty one when there is no such file.
  Json read(const char* name) const {
    std::error_code ignored;
    if (!fs::exists(folder_ / name, ignored)) return Json::object();
    const std::string file = (folder_ / name).string();
    Json json = parse_json(read_text(file), file);
    expect_object(json, file);
    return json;
  }

  void check_settings() const {
    if (flag(config_, "add_prefix_space", false, config_file_)) {
      throw ConfigError(fmt::format(
          "{}: add_prefix_space is true: putting a space before every text is not supported; set "
          "it to false and write the space in the text where it is wanted",
          config_file_));
    }
    if (flag(config_, "split_special_tokens", false, config_file_)) {
      throw ConfigError(
          fmt::format("{}: split_special_tokens is true, which is not supported; without it, the "
                      "texts of special tokens are plain bytes unless --special",
                      config_file_));
    }
    const Json& type = member(config_, "tokenizer_class");
    if (beside_json_ || type.is_null() || type == "GPT2Tokenizer" || type == "GPT2TokenizerFast")
      return;
    throw ConfigError(fmt::format(
        "{}: tokenizer_class {} is not supported beside vocab.json and merges.txt, which do not "
        "say how it splits text: only \"GPT2Tokenizer\" is; in Python, "
        "tokenizer.save_pretrained(folder) writes a tokenizer.json, which does",
        config_file_,
        type.is_string() ? quote(type.get_ref<const std::string&>()) : quote_json(type)));
  }

  void collect() {
    const bool listed = config_.contains("added_tokens_decoder");
    const Json map = listed ? Json::object() : read("special_tokens_map.json");
    const std::string map_file = (folder_ / "special_tokens_map.json").string();
    gather(config_, config_file_, false);
    gather(map, map_file, true);
    add_defaults();
    for (const auto& [role, token] : roles_) {
      if (token) special_.insert(token->token.content);
    }
    for (const auto& [name, token] : others_) special_.insert(token.token.content);
    for (const NamedToken& token : extra_) special_.insert(token.token.content);

    if (listed) {
      add_decoder(member(config_, "added_tokens_decoder"));
    } else if (const Json added = read("added_tokens.json"); !added.empty()) {
      const std::string file = (folder_ / "added_tokens.json").string();
      for (NamedToken& named : tokens_by_id(added, file)) {
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
      return flag(config_, setting, false, config_file_) && token != roles_.end() && token->second;
    };
    if (wanted("add_eos_token", "eos_token")) {
      throw ConfigError(
          fmt::format("{}: add_eos_token is true: putting a token after every text is not "
                      "supported; set it to false and give the token as text, with --special",
                      config_file_));
    }
    if (!wanted("add_bos_token", "bos_token")) return;
    result_.first = roles_.find("bos_token")->second->token.content;
    for (NamedToken& named : result_.tokens) {
      if (named.token.content == *result_.first) named.implied = false;
    }
  }

  // bos_token and the like, names of the model's own that end in _token, and lists of more tokens.
  // In special_tokens_map.json every object is a token, and special.
  void gather(const Json& object, const std::string& file, bool is_map) {
    for (const auto& [key, value] : object.get_ref<const Json::object_t&>()) {
      const std::string where = fmt::format("{}: {}", file, key);
      if (is_role(key)) {
        roles_[key] = named(value, where);
      } else if (key.ends_with("_token") &&
                 (value.is_string() || is_marked_token(value) || (is_map && value.is_object()))) {
        if (auto token = named(value, where)) others_.insert_or_assign(key, std::move(*token));
      }
    }
    const char* list = member(object, "extra_special_tokens").is_null()
                           ? "additional_special_tokens"
                           : "extra_special_tokens";
    const Json& more = member(object, list);
    const std::string where = fmt::format("{}: {}", file, list);
    if (more.is_null()) return;
    if (!more.is_array() && !more.is_object())
      throw FileError(fmt::format("{} must be a list of tokens", where));
    for (const auto& [key, value] : more.items()) {
      auto token = named(value, where, more.is_object() || is_map);
      if (!token) continue;
      if (more.is_object()) others_.insert_or_assign(key, std::move(*token));
      else extra_.push_back(std::move(*token));
    }
  }

  // A token with a role is special, and so is every text. None for null and the empty text.
  static std::optional<NamedToken> named(const Json& value, const std::string& where,
                                         bool special = true) {
    if (value.is_null() || value == "") return std::nullopt;
    if (value.is_string()) return NamedToken{{kNoId, value.get<std::string>()}, where};
    if (!value.is_object()) {
      throw FileError(fmt::format("{} is {}; it must be a text, a token with \"content\", or null",
                                  where, quote_json(value)));
    }
    NamedToken token{read_added_token(value, where), where};
    if (special) {
      token.token.special = true;
      token.token.normalized = flag(value, "normalized", false, where);
    }
    return token;
  }

  void add_defaults() {
    const Json& type = member(config_, "tokenizer_class");
    if (beside_json_ && type != "GPT2Tokenizer" && type != "GPT2TokenizerFast") return;
    for (const char* role : {"bos_token", "eos_token", "unk_token"}) {
      roles_.try_emplace(
          role, NamedToken{{kNoId, std::string(kEndOfText)},
                           fmt::format("{}: {}, which is not given", folder_.string(), role),
                           true});
    }
  }

  void add_decoder(const Json& decoder) {
    const std::string where = config_file_ + ": added_tokens_decoder";
    expect_object(decoder, where);
    std::map<int, NamedToken> by_id;
    for (const auto& [key, value] : decoder.get_ref<const Json::object_t&>()) {
      const std::string which = fmt::format("{}: {}", where, quote(key));
      int id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0) {
        throw FileError(
            fmt::format("{}: the key must be a token id, a whole number from 0", which));
      }
      AddedToken token = read_added_token(value, which);
      token.id = id;
      if (special_.contains(token.content)) {
        token.special = true;
        token.normalized = flag(value, "normalized", false, which);
      }
      if (!by_id.emplace(id, NamedToken{std::move(token), which}).second)
        throw FileError(fmt::format("{}: the id is there twice", which));
    }
    for (auto& [id, token] : by_id) add(std::move(token));
  }

  // The first to name a token says what it is.
  void add(NamedToken token) {
    if (known_.insert(token.token.content).second) result_.tokens.push_back(std::move(token));
  }

  const fs::path folder_;
  const bool beside_json_;
  const std::string config_file_;
  Json config_;
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
  const Json added = parse_json(json, file);
  expect_object(added, file);
  return {tokens_by_id(added, file)};
}

AddedToken read_added_token(const Json& entry, const std::string& where) {
  if (!entry.is_object() || !member(entry, "content").is_string())
    throw FileError(fmt::format("{} must be an object with a text \"content\"", where));
  AddedToken token{kNoId, entry["content"]};
  token.special = flag(entry, "special", false, where);
  token.normalized = flag(entry, "normalized", !token.special, where);
  expect_only(
      entry,
      {"id", "__type", "content", "single_word", "lstrip", "rstrip", "normalized", "special"},
      where);
  for (const char* key : {"lstrip", "rstrip", "single_word"}) {
    if (!flag(entry, key, false, where)) continue;
    throw ConfigError(fmt::format(
        "{}: \"{}\" is true, which is not supported: an added token is exactly its text, so "
        "that decoding gives the text back",
        where, key));
  }
  return token;
}

}  // namespace vitrine::nn

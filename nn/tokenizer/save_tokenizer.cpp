#include "nn/tokenizer/save_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <vector>

#include "nn/tokenizer/byte_spelling.h"
#include "nn/tokenizer/tokenizer_parts.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_value.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

// The items with commas between, each on a line of its own after `indent`.
std::string joined(const std::vector<std::string>& items, std::string_view indent) {
  std::string text;
  for (const std::string& item : items) {
    if (!text.empty()) text += ',';
    text += '\n';
    text += indent;
    text += item;
  }
  return text;
}

std::string in_json(const std::string& text) { return JsonValue(text).line(); }

// How the files spell each token: added tokens literally, all others byte by byte, or as they are
// where they are made of characters.
class Spellings {
 public:
  Spellings(const Tokenizer& tokenizer, const fs::path& folder) {
    for (int id = 0; id < tokenizer.vocabulary_size(); ++id) {
      const auto& token = tokenizer.tokens()[id];
      if (tokenizer.characters()) {
        const auto& spelling = tokenizer.characters()->spelling[id];
        spellings_.push_back(spelling);
        if (token && !spelling) not_in_vocabulary_.insert(id);
      } else {
        spellings_.push_back(token ? std::optional(spell_bytes(*token)) : std::nullopt);
      }
    }
    for (const AddedToken& added : tokenizer.added_tokens()) {
      spellings_[added.id] = added.content;
      if (tokenizer.characters()) continue;
      const bool literal = *tokenizer.tokens()[added.id] == added.content;
      const auto bytes = bytes_of_spelling(added.content);
      if (literal && bytes && *bytes != added.content) not_in_vocabulary_.insert(added.id);
    }
    // HuggingFace numbers tokens that the vocabulary does not have from its size on: it must end there.
    if (!tokenizer.characters() && !not_in_vocabulary_.empty()) {
      const int first = *std::min_element(not_in_vocabulary_.begin(), not_in_vocabulary_.end());
      for (const AddedToken& added : tokenizer.added_tokens())
        if (added.id >= first) not_in_vocabulary_.insert(added.id);
    }
    check(folder);
  }

  const std::string& of(int id) const { return *spellings_[id]; }

  // "spelling": id, of each token in order of id. Without added tokens that would be read as bytes
  // there: they are among the added tokens alone.
  std::vector<std::string> entries() const {
    std::vector<std::string> entries;
    for (std::size_t id = 0; id < spellings_.size(); ++id) {
      if (spellings_[id] && !not_in_vocabulary_.contains(static_cast<int>(id)))
        entries.push_back(fmt::format("{}: {}", in_json(*spellings_[id]), id));
    }
    return entries;
  }

 private:
  void check(const fs::path& folder) const {
    std::unordered_set<std::string_view> seen;
    for (const auto& spelling : spellings_) {
      if (!spelling) continue;
      if (replace_invalid_utf8(*spelling) != *spelling) {
        throw SaveError(fmt::format(
            "cannot write the tokenizer to '{}': its token {} is not UTF-8, which JSON cannot hold",
            folder.string(), quote(*spelling)));
      }
      if (seen.insert(*spelling).second) continue;
      throw SaveError(
          fmt::format("cannot write the tokenizer to '{}': two of its tokens are spelled {}, and "
                      "the files could not tell them apart",
                      folder.string(), quote(*spelling)));
    }
  }

  std::vector<std::optional<std::string>> spellings_;
  std::unordered_set<int> not_in_vocabulary_;
};

std::string merges_txt(const Tokenizer& tokenizer, const Spellings& spellings) {
  std::string text = "#version: 0.2\n";
  for (const Merge& merge : tokenizer.merges())
    text += spellings.of(merge.left) + " " + spellings.of(merge.right) + "\n";
  return text;
}

// What puts first() before a text; else the offsets of the text are all that it changes.
std::string post_processor(const Tokenizer& tokenizer, const Spellings& spellings) {
  if (tokenizer.first().empty()) {
    if (tokenizer.characters()) return "null";
    return R"({
    "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true
  })";
  }
  const auto piece = [](const char* kind, std::string_view id, int type) {
    return JsonValue::object({{kind, JsonValue::object({{"id", id}, {"type_id", type}})}});
  };
  JsonValue single, pair = JsonValue::list(), known = JsonValue::object();
  for (const int type : {0, 1}) {
    for (const int id : tokenizer.first()) {
      const std::string& token = spellings.of(id);
      pair.push_back(piece("SpecialToken", token, type));
      known[token] = JsonValue::object(
          {{"id", token}, {"ids", JsonValue::list({id})}, {"tokens", JsonValue::list({token})}});
    }
    pair.push_back(piece("Sequence", type == 0 ? "A" : "B", type));
    if (type == 0) single = pair;
  }
  return JsonValue::object({{"type", "TemplateProcessing"},
                            {"single", single},
                            {"pair", pair},
                            {"special_tokens", known}})
      .line();
}

// A value on one line, with a space after each colon and comma as Python writes it.
std::string spaced(const JsonValue& value) {
  std::string text;
  bool quoted = false, escaped = false;
  for (const char c : value.line()) {
    text += c;
    if (c == '"' && !escaped) quoted = !quoted;
    escaped = c == '\\' && !escaped;
    if (!quoted && (c == ':' || c == ',')) text += ' ';
  }
  return text;
}

// A part of the file as a block of its own.
std::string block(const JsonValue& part) {
  const std::string line = spaced(part);
  return part.is_null() ? line : fmt::format("{{\n    {}\n  }}", line.substr(1, line.size() - 2));
}

std::string added_token_json(const AddedToken& token) {
  return spaced(JsonValue::object({{"id", token.id},
                                   {"content", token.content},
                                   {"single_word", false},
                                   {"lstrip", token.lstrip},
                                   {"rstrip", token.rstrip},
                                   {"normalized", token.normalized},
                                   {"special", token.special}}));
}

// Merges are written as texts, not pairs: older versions of tokenizers read nothing else. But where
// a token has a space of its own in it, only a pair says which is which.
std::vector<std::string> merges_json(const Tokenizer& tokenizer, const Spellings& spellings) {
  std::vector<std::string> items;
  bool spaced = false;
  for (const Merge& merge : tokenizer.merges()) {
    spaced = spaced || spellings.of(merge.merged).find(' ') != std::string::npos;
  }
  for (const Merge& merge : tokenizer.merges()) {
    const std::string &left = spellings.of(merge.left), &right = spellings.of(merge.right);
    items.push_back(spaced ? JsonValue::list({left, right}).line() : in_json(left + " " + right));
  }
  return items;
}

std::string tokenizer_json(const Tokenizer& tokenizer, const Spellings& spellings) {
  std::vector<std::string> added;
  for (const AddedToken& token : tokenizer.added_tokens()) added.push_back(added_token_json(token));
  const auto& characters = tokenizer.characters();
  const JsonValue unknown = characters && characters->unknown
                                ? JsonValue(spellings.of(*characters->unknown))
                                : JsonValue();
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{}
  ],
  "normalizer": {},
  "pre_tokenizer": {},
  "post_processor": {},
  "decoder": {},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": {},
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": {},
    "byte_fallback": {},
    "ignore_merges": {},
    "vocab": {{{}
    }},
    "merges": [{}
    ]
  }}
}}
)",
                     joined(added, "    "), block(normalizer_json(tokenizer.steps())),
                     block(pre_tokenizer_json(tokenizer.steps())),
                     post_processor(tokenizer, spellings), block(decoder_json(tokenizer.steps())),
                     unknown.line(), characters && characters->fuse_unknown,
                     characters && characters->byte_fallback, tokenizer.ignore_merges(),
                     joined(spellings.entries(), "      "),
                     joined(merges_json(tokenizer, spellings), "      "));
}

// Whether vocab.json, merges.txt and added_tokens.json say all there is to say.
bool is_plain(const Tokenizer& tokenizer) {
  return tokenizer.steps().is_gpt2() && !tokenizer.ignore_merges() && tokenizer.first().empty() &&
         std::none_of(tokenizer.added_tokens().begin(), tokenizer.added_tokens().end(),
                      [](const AddedToken& added) { return added.lstrip || added.rstrip; });
}

}  // namespace

void save_tokenizer(const Tokenizer& tokenizer, const fs::path& folder) {
  const Spellings spellings(tokenizer, folder);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw SaveError(
        fmt::format("cannot make the folder '{}': {}", folder.string(), error.message()));
  }
  if (is_plain(tokenizer)) {
    std::vector<std::string> others;
    for (const AddedToken& added : tokenizer.added_tokens()) {
      if (added.content == kEndOfText) continue;
      others.push_back(fmt::format("{}: {}", in_json(added.content), added.id));
    }
    if (!others.empty()) {
      write_text(folder / "added_tokens.json", fmt::format("{{{}\n}}\n", joined(others, "  ")));
    }
    write_text(folder / "vocab.json", fmt::format("{{{}\n}}\n", joined(spellings.entries(), "  ")));
    write_text(folder / "merges.txt", merges_txt(tokenizer, spellings));
  }
  write_text(folder / "tokenizer.json", tokenizer_json(tokenizer, spellings));
}

}  // namespace vitrine::nn

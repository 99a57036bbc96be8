// Tokenizer files: what HuggingFace writes, read strictly.
//
// Supported is byte-level BPE as GPT-2 uses it. Whatever else a tokenizer.json can ask for and
// would give other ids is refused by name, never ignored. Two parts are read past on purpose:
// "truncation" and "padding" say how a training script cut its batches, and HuggingFace
// transformers overrides them on every call.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "nn/tokenizer/tokenizer.h"
#include "nn/tokenizer/tokenizer_config.h"
#include "nn/tokenizer/vocabulary_reader.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/strict_json.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

// ---- merges

// Splits "left right" at its one space. Throws FileError.
void add_merge_line(VocabularyReader& reader, std::string_view line, const std::string& where) {
  const std::size_t space = line.find(' ');
  if (space == line.npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != line.npos) {
    throw FileError(fmt::format("{}: a merge is two tokens with one space between, not {}", where,
                                quote(line)));
  }
  reader.add_merge(std::string(line.substr(0, space)), std::string(line.substr(space + 1)), where);
}

// merges.txt: one merge a line, in order of rank; lines that begin with #version are a heading.
void read_merges_txt(VocabularyReader& reader, std::string_view text, const std::string& file) {
  int number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.starts_with("#version")) continue;
    if (line.empty() && text.find_first_not_of("\r\n") == text.npos)
      return;  // blank lines at the end
    add_merge_line(reader, line, fmt::format("{}, line {}", file, number));
  }
}

// ---- tokenizer.json -----------------------------------------------------------------------------

// The name of a part: its "type", or what it is instead.
std::string type_of(const Json& part) {
  const Json& type = part.is_object() ? member(part, "type") : part;
  return type.is_string() ? quote(type.get_ref<const std::string&>())
                          : fmt::format("without a type ({})", type.type_name());
}

bool has_type(const Json& part, std::string_view type) {
  return part.is_object() && member(part, "type").is_string() && part["type"] == type;
}

// A member that is an object, or else an empty one.
const Json& member_object(const Json& object, const char* key) {
  static const Json kEmpty = Json::object();
  const Json& value = object.is_object() ? member(object, key) : kEmpty;
  return value.is_object() ? value : kEmpty;
}

// A sequence of one part is that part; an empty one, null.
const Json& without_sequence(const Json& part, const char* list_name) {
  if (!has_type(part, "Sequence")) return part;
  const Json& list = member(part, list_name);
  static const Json kNull;
  if (list.is_array() && list.empty()) return kNull;
  return list.is_array() && list.size() == 1 ? without_sequence(list[0], list_name) : part;
}

void check_normalizer(const Json& file, const std::string& name) {
  const Json& normalizer = without_sequence(member(file, "normalizer"), "normalizers");
  if (normalizer.is_null()) return;
  throw ConfigError(fmt::format(
      "{}: the normalizer {} would change the text before it is split, which is not supported; "
      "GPT-2's tokenizer has none (null)",
      name, type_of(normalizer)));
}

// The pattern that splits a text into words, as GPT-2's code and as tiktoken write it. The pieces
// are the same.
constexpr const char* kPatterns[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};

// A Split by GPT-2's pattern, which is what a ByteLevel with use_regex does itself.
void check_split(const Json& part, const std::string& where) {
  expect_only(part, {"type", "pattern", "behavior", "invert"}, where);
  const Json& pattern = member(part, "pattern");
  const Json& regex = pattern.is_object() ? member(pattern, "Regex") : pattern;
  if (std::none_of(std::begin(kPatterns), std::end(kPatterns),
                   [&](const char* known) { return regex == known; })) {
    throw ConfigError(fmt::format("{}: its pattern {} is not supported: only GPT-2's is, {}", where,
                                  quote_json(pattern), kPatterns[0]));
  }
  if (const Json& behavior = member(part, "behavior"); behavior != "Isolated") {
    throw ConfigError(fmt::format("{}: its behavior {} is not supported: only \"Isolated\" is",
                                  where, quote_json(behavior)));
  }
  if (flag(part, "invert", false, where))
    throw ConfigError(fmt::format("{}: its invert must be false", where));
}

void check_pre_tokenizer(const Json& file, const std::string& name) {
  const Json& whole = without_sequence(member(file, "pre_tokenizer"), "pretokenizers");
  const std::string where = name + ": pre_tokenizer";
  const Json& list = has_type(whole, "Sequence") ? member(whole, "pretokenizers") : whole;
  const bool split = list.is_array() && list.size() == 2 && has_type(list[0], "Split");
  const Json& part = split ? list[1] : whole;
  if (!has_type(part, "ByteLevel")) {
    throw ConfigError(
        fmt::format("{} {} is not supported: only \"ByteLevel\" is, which splits "
                    "text as GPT-2 does, or \"Split\" with GPT-2's pattern before it",
                    where, type_of(whole)));
  }
  if (split) check_split(list[0], fmt::format("{} \"Split\"", where));
  expect_only(part, {"type", "add_prefix_space", "trim_offsets", "use_regex"}, where);
  if (flag(part, "add_prefix_space", true, where)) {
    throw ConfigError(fmt::format(
        "{}: add_prefix_space must be there and false: putting a space before every text is not "
        "supported; write the space in the text where it is wanted",
        where));
  }
  if (flag(part, "use_regex", true, where) == split) {
    throw ConfigError(
        split ? fmt::format("{}: use_regex must be false after a \"Split\", or the text would be "
                            "split twice",
                            where)
              : fmt::format("{}: use_regex must be true: text that is not split into words is not "
                            "supported",
                            where));
  }
}

void check_decoder(const Json& file, const std::string& name) {
  const Json& part = without_sequence(member(file, "decoder"), "decoders");
  if (has_type(part, "ByteLevel")) return;
  throw ConfigError(
      fmt::format("{}: decoder {} is not supported: only \"ByteLevel\" is", name, type_of(part)));
}

// The ids that a template for a single text puts before it; the text must be the last of its parts.
// Throws ConfigError for tokens after it.
std::vector<int> tokens_of_template(const Json& part, const std::string& where) {
  const Json& single = member(part, "single");
  const Json& known = member(part, "special_tokens");
  if (!single.is_array() || single.empty()) throw FileError(where + ": single must be a list");
  std::vector<int> ids;
  for (const Json& piece : single) {
    const bool last = &piece == &single.back();
    if (piece.is_object() && last && member(member_object(piece, "Sequence"), "id") == "A")
      return ids;
    const Json& token = member(member_object(piece, "SpecialToken"), "id");
    if (last || !token.is_string()) break;
    const std::string& content = token.get_ref<const std::string&>();
    const Json& list = member(member_object(known, content.c_str()), "ids");
    if (!list.is_array()) {
      throw FileError(
          fmt::format("{}: special_tokens does not have the ids of {}", where, quote(content)));
    }
    for (const Json& id : list) ids.push_back(read_token_id(id, content, where));
  }
  throw ConfigError(fmt::format(
      "{}: its template for a single text is not supported: it may put tokens before the text, and "
      "nothing after it or twice; set post_processor to null, and put the tokens around the prompt "
      "yourself",
      where));
}

// What is put before every text. A post_processor that only moves offsets (ByteLevel) puts nothing.
std::vector<int> tokens_put_first(const Json& part, const std::string& name) {
  if (part.is_null() || has_type(part, "ByteLevel")) return {};
  const std::string where = fmt::format("{}: the post_processor {}", name, type_of(part));
  if (has_type(part, "Sequence") && member(part, "processors").is_array()) {
    std::vector<int> all;
    for (const Json& one : part["processors"]) {
      std::vector<int> ids = tokens_put_first(one, name);
      ids.insert(ids.end(), all.begin(), all.end());  // the last of them is the outermost
      all = std::move(ids);
    }
    return all;
  }
  if (has_type(part, "TemplateProcessing")) return tokens_of_template(part, where);
  throw ConfigError(fmt::format(
      "{} adds tokens to every text, which is not supported: set post_processor to null, and put "
      "the tokens before the prompt yourself",
      where));
}

void read_added_tokens(VocabularyReader& reader, const Json& list, const std::string& name) {
  if (list.is_null()) return;
  const std::string where = name + ": added_tokens";
  if (!list.is_array()) throw FileError(fmt::format("{} must be a list", where));
  for (const Json& entry : list) {
    if (!entry.is_object() || !member(entry, "content").is_string()) {
      throw FileError(fmt::format("{}: each must be an object with \"id\" and \"content\"", where));
    }
    const std::string& content = entry["content"].get_ref<const std::string&>();
    AddedToken token = read_added_token(entry, fmt::format("{}: {}", where, quote(content)));
    token.id = read_token_id(member(entry, "id"), content, where);
    reader.add_added_token(std::move(token), where);
  }
}

void read_model(VocabularyReader& reader, const Json& model, const std::string& name) {
  const std::string where = name + ": model";
  expect_object(model, where);
  // Old files have no type; then it is BPE if there are merges.
  const bool untyped = !model.contains("type") && model.contains("merges");
  if (!untyped && !has_type(model, "BPE")) {
    throw ConfigError(
        fmt::format("{} {} is not supported: only \"BPE\" is", where, type_of(model)));
  }
  expect_only(model,
              {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
               "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"},
              where);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const Json& value = member(model, key); !value.is_null() && value != "") {
      throw ConfigError(
          fmt::format("{}: \"{}\" is not supported and must be null or empty; "
                      "byte-level tokens carry their space themselves",
                      where, key));
    }
  }
  if (const Json& dropout = member(model, "dropout"); !dropout.is_null() && dropout != 0) {
    throw ConfigError(fmt::format(
        "{}: \"dropout\" would leave out merges at random and is not supported; set it to null",
        where));
  }
  reader.set_ignore_merges(flag(model, "ignore_merges", false, where));
  reader.read_tokens(member(model, "vocab"), name + ": model.vocab");

  // These say what becomes of characters that have no token: nothing, if every byte has one.
  const bool unknown_handled = !member(model, "unk_token").is_null() ||
                               flag(model, "byte_fallback", false, where) ||
                               flag(model, "fuse_unk", false, where);
  if (const int byte = reader.missing_byte(); unknown_handled && byte >= 0) {
    throw ConfigError(fmt::format(
        "{}: unk_token, byte_fallback and fuse_unk are not supported unless the vocabulary has all "
        "256 bytes (then they do nothing); it lacks byte 0x{:02X}",
        where, byte));
  }

  const Json& merges = member(model, "merges");
  if (!merges.is_array()) throw FileError(fmt::format("{}.merges must be a list", where));
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const std::string which = fmt::format("{}.merges[{}]", where, i);
    const Json& merge = merges[i];
    if (merge.is_string()) {
      add_merge_line(reader, merge.get_ref<const std::string&>(), which);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      reader.add_merge(merge[0], merge[1], which);
    } else {
      throw FileError(fmt::format(
          "{}: a merge must be a text \"left right\" or a pair [\"left\", \"right\"]", which));
    }
  }
}

std::string in_folder(std::string_view folder, const char* file) {
  return folder.empty() ? file : (std::filesystem::path(folder) / file).string();
}

Vocabulary read_tokenizer_json(std::string_view json, const std::string& name,
                               const TokenizerConfig& config) {
  const Json file = parse_json(json, name);
  expect_object(file, name);
  expect_only(file,
              {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
               "post_processor", "decoder", "model"},
              name);
  check_normalizer(file, name);
  check_pre_tokenizer(file, name);
  check_decoder(file, name);
  VocabularyReader reader;
  read_added_tokens(reader, member(file, "added_tokens"), name);
  reader.add_named_tokens(config.tokens);
  read_model(reader, member(file, "model"), name);
  reader.set_first(tokens_put_first(member(file, "post_processor"), name));
  return reader.take();
}

// `name` is the folder.
Vocabulary read_vocabulary_and_merges(const Json& vocab, std::string_view merges_txt,
                                      std::string_view name, const TokenizerConfig& config) {
  VocabularyReader reader;
  reader.add_named_tokens(config.tokens);
  reader.read_tokens(vocab, in_folder(name, "vocab.json"));
  if (config.first) reader.set_first(*config.first);
  read_merges_txt(reader, merges_txt, in_folder(name, "merges.txt"));
  return reader.take();
}

}  // namespace

Tokenizer Tokenizer::parse_tokenizer_json(std::string_view json, std::string_view name) {
  return {read_tokenizer_json(json, std::string(name), {}), name};
}

Tokenizer Tokenizer::parse(std::string_view vocab_json, std::string_view merges_txt,
                           std::string_view name, std::string_view added_tokens_json) {
  TokenizerConfig config;
  if (!added_tokens_json.empty())
    config = parse_added_tokens(added_tokens_json, in_folder(name, "added_tokens.json"));
  const std::string vocab_file = in_folder(name, "vocab.json");
  const Json vocab = parse_json(vocab_json, vocab_file);
  expect_object(vocab, vocab_file);
  if (vocab.contains(kEndOfText))
    config.tokens.push_back({{kNoId, std::string(kEndOfText)}, vocab_file});
  return {read_vocabulary_and_merges(vocab, merges_txt, name, config), name};
}

bool Tokenizer::exists(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  return fs::exists(folder / "tokenizer.json", ignored) ||
         fs::exists(folder / "vocab.json", ignored) || fs::exists(folder / "merges.txt", ignored);
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  const auto has = [&](const char* file) {
    std::error_code ignored;
    return std::filesystem::exists(folder / file, ignored);
  };
  const std::string where = folder.string();
  if (!has("")) {
    throw FileError(fmt::format(
        "{}: no such folder; a tokenizer is a folder with tokenizer.json, or with vocab.json and "
        "merges.txt",
        where));
  }
  if (has("tokenizer.json")) {
    const std::filesystem::path file = folder / "tokenizer.json";
    const TokenizerConfig config = read_tokenizer_config(folder, true);
    return {read_tokenizer_json(read_text(file), file.string(), config), file.string()};
  }
  if (has("vocab.json") != has("merges.txt")) {
    throw FileError(fmt::format(
        "{}: {} is missing, and {} alone does not make a tokenizer: copy the file from where the "
        "model came from (or its tokenizer.json, which holds both)",
        where, has("vocab.json") ? "merges.txt" : "vocab.json",
        has("vocab.json") ? "vocab.json" : "merges.txt"));
  }
  if (!has("vocab.json")) {
    throw FileError(fmt::format(
        "{}: there is no tokenizer here: neither tokenizer.json nor vocab.json with merges.txt; "
        "copy them from where the model came from, or work with token ids instead of text",
        where));
  }
  const TokenizerConfig config = read_tokenizer_config(folder, false);
  const std::string vocab_file = (folder / "vocab.json").string();
  const Json vocab = parse_json(read_text(vocab_file), vocab_file);
  return {read_vocabulary_and_merges(vocab, read_text(folder / "merges.txt"), where, config),
          where};
}

}  // namespace vitrine::nn

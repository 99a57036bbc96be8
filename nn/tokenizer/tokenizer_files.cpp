// Tokenizer files: what HuggingFace writes, read strictly.
//
// Supported is BPE over bytes, or over characters with a fallback to bytes. Whatever else a
// tokenizer.json can ask for and would give other ids is refused by name, never ignored. Two parts are read past on purpose:
// "truncation" and "padding" say how a training script cut its batches, and HuggingFace
// transformers overrides them on every call.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "nn/tokenizer/gguf_tokenizer.h"
#include "nn/tokenizer/tokenizer.h"
#include "nn/tokenizer/tokenizer_config.h"
#include "nn/tokenizer/tokenizer_parts.h"
#include "nn/tokenizer/vocabulary_reader.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/gguf.h"
#include "tensor/files/json_reader.h"
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

void read_added_tokens(VocabularyReader& reader, const JsonReader& list) {
  if (!list.given()) return;
  const std::string where = list.place();
  for (const JsonReader& entry : list.list()) {
    if (!entry.is_object() || !entry.at("content").is_text())
      entry.reject("an object with \"id\" and \"content\"");
    AddedToken token = read_added_token(entry);
    token.id = read_token_id(entry.at("id"), token.content);
    reader.add_added_token(std::move(token), where);
  }
}

void read_merges(VocabularyReader& reader, const JsonReader& merges) {
  const std::string where = merges.place();
  const std::vector<JsonReader> items = merges.list();
  for (std::size_t i = 0; i < items.size(); ++i) {
    const std::string which = fmt::format("{}[{}]", where, i);
    const JsonReader& merge = items[i];
    if (merge.is_text()) {
      add_merge_line(reader, merge.text(), which);
      continue;
    }
    const auto* pair = merge.value().list_items();
    if (pair == nullptr || pair->size() != 2 || (*pair)[0].text() == nullptr ||
        (*pair)[1].text() == nullptr)
      merge.reject("a merge: a text \"left right\" or a pair [\"left\", \"right\"]");
    reader.add_merge(*(*pair)[0].text(), *(*pair)[1].text(), which);
  }
}

// What becomes of characters that have no token.
void read_unknown(VocabularyReader& reader, const JsonReader& model) {
  const JsonReader unknown = model.at("unk_token");
  const bool byte_fallback = model.at("byte_fallback").flag_or(false);
  const bool fuse = model.at("fuse_unk").flag_or(false);
  if (reader.spells_bytes()) {
    // Nothing, if every byte has one.
    const int byte = reader.missing_byte();
    if (byte < 0 || !(unknown.given() || byte_fallback || fuse)) return;
    throw ConfigError(fmt::format(
        "{}: unk_token, byte_fallback and fuse_unk are not supported unless the vocabulary has all "
        "256 bytes (then they do nothing); it lacks byte 0x{:02X}",
        model.place(), byte));
  }
  std::optional<int> id;
  if (unknown.given()) {
    id = reader.id_of(unknown.text());
    if (!id) unknown.unsupported("a token of the vocabulary");
  }
  reader.set_unknown(byte_fallback, id, fuse);
}

void read_model(VocabularyReader& reader, const JsonReader& model) {
  model.expect_object();
  // Old files have no type; then it is BPE if there are merges.
  const bool untyped = model.at("type").absent() && !model.at("merges").absent();
  if (!untyped && !model.at("type").is_text("BPE"))
    model.at("type").unsupported("\"BPE\"", "no other model is supported");
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const JsonReader value = model.at(key); value.given() && !value.is_text("")) {
      value.unsupported("null or an empty text",
                        "it is not supported: tokens carry their space themselves");
    }
  }
  if (const JsonReader dropout = model.at("dropout");
      dropout.given() && dropout.value().number() != 0.0) {
    dropout.unsupported("null",
                        "it would leave out merges at random and is not supported; set it to null");
  }
  reader.set_ignore_merges(model.at("ignore_merges").flag_or(false));
  reader.read_tokens(model.at("vocab"));

  read_unknown(reader, model);
  read_merges(reader, model.at("merges"));
}

std::string in_folder(std::string_view folder, const char* file) {
  return folder.empty() ? file : (std::filesystem::path(folder) / file).string();
}

Vocabulary read_tokenizer_json(std::string_view json, const std::string& name,
                               const TokenizerConfig& config) {
  const auto file = JsonReader::object(json, name, tokenizer_rules());
  file.only({"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer",
             "post_processor", "decoder", "model"});
  TextSteps steps = read_text_steps(file);
  config.check_prefix_space(steps.puts_space_first());
  VocabularyReader reader(std::move(steps));
  read_added_tokens(reader, file.at("added_tokens"));
  reader.add_named_tokens(config.tokens);
  read_model(reader, file.at("model"));
  reader.set_first(read_tokens_put_first(file.at("post_processor")));
  return reader.take();
}

// `name` is the folder.
Vocabulary read_vocabulary_and_merges(const JsonReader& vocab, std::string_view merges_txt,
                                      std::string_view name, const TokenizerConfig& config) {
  config.check_prefix_space(false);
  VocabularyReader reader;
  reader.add_named_tokens(config.tokens);
  reader.read_tokens(vocab);
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
  const auto vocab = JsonReader::object(vocab_json, vocab_file, tokenizer_rules());
  if (!vocab.at(kEndOfText).absent())
    config.tokens.push_back({{kNoId, std::string(kEndOfText)}, vocab_file});
  return {read_vocabulary_and_merges(vocab, merges_txt, name, config), name};
}

bool Tokenizer::exists(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (is_gguf(folder)) return read_gguf_tokenizer(Gguf::open(folder)).has_value();
  return fs::exists(folder / "tokenizer.json", ignored) ||
         fs::exists(folder / "vocab.json", ignored) || fs::exists(folder / "merges.txt", ignored);
}

Tokenizer Tokenizer::load(const std::filesystem::path& folder) {
  if (is_gguf(folder)) {
    const auto parts = read_gguf_tokenizer(Gguf::open(folder));
    if (parts) return from_gguf(*parts, folder.string());
    throw FileError(
        fmt::format("{}: there is no tokenizer in this file: work with token ids instead of text",
                    folder.string()));
  }
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
  if (!has("vocab.json") && has("tokenizer.model")) {
    throw FileError(fmt::format(
        "{}: tokenizer.model alone is not read; in Python, "
        "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes a tokenizer.json "
        "beside it, which is",
        where));
  }
  if (!has("vocab.json")) {
    throw FileError(fmt::format(
        "{}: there is no tokenizer here: neither tokenizer.json nor vocab.json with merges.txt; "
        "copy them from where the model came from, or work with token ids instead of text",
        where));
  }
  const TokenizerConfig config = read_tokenizer_config(folder, false);
  const std::string vocab_file = (folder / "vocab.json").string();
  const auto vocab = JsonReader::object(read_text(vocab_file), vocab_file, tokenizer_rules());
  return {read_vocabulary_and_merges(vocab, read_text(folder / "merges.txt"), where, config),
          where};
}

}  // namespace vitrine::nn

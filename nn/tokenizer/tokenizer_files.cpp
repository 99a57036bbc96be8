// Tokenizer files: what HuggingFace writes, read strictly.
//
// Supported is byte-level BPE as GPT-2 uses it. Whatever else a tokenizer.json can ask for and
// would give other ids is refused by name, never ignored. Two parts are read past on purpose:
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

#include "nn/tokenizer/tokenizer.h"
#include "nn/tokenizer/tokenizer_config.h"
#include "nn/tokenizer/vocabulary_reader.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
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

// What says which kind a part is: its "type", or what stands in place of a part.
JsonReader type_of(const JsonReader& part) { return part.is_object() ? part.at("type") : part; }

bool has_type(const JsonReader& part, std::string_view type) {
  return part.is_object() && part.at("type").is_text(type);
}

// object.OUTER.field, if both are there and object and OUTER are objects.
std::optional<JsonReader> inside(const JsonReader& object, std::string_view outer,
                                 std::string_view field) {
  if (!object.is_object() || !object.at(outer).is_object()) return {};
  return object.at(outer).at(field);
}

// A sequence of one part is that part.
JsonReader without_sequence(const JsonReader& part, const char* list_name) {
  if (!has_type(part, "Sequence")) return part;
  const JsonReader list = part.at(list_name);
  return list.is_list() && list.size() == 1 ? without_sequence(list.list()[0], list_name) : part;
}

void check_normalizer(const JsonReader& file) {
  const JsonReader normalizer = without_sequence(file.at("normalizer"), "normalizers");
  if (!normalizer.given()) return;
  if (has_type(normalizer, "Sequence") && normalizer.at("normalizers").is_list() &&
      normalizer.at("normalizers").size() == 0)
    return;
  type_of(normalizer)
      .unsupported("no normalizer",
                   "it would change the text before it is split, which is not supported; GPT-2's "
                   "tokenizer has none (null)");
}

// The pattern that splits a text into words, as GPT-2's code and as tiktoken write it. The pieces
// are the same.
constexpr const char* kPatterns[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};

// A Split by GPT-2's pattern, which is what a ByteLevel with use_regex does itself.
void check_split(const JsonReader& part) {
  part.only({"type", "pattern", "behavior", "invert"});
  const JsonReader pattern = part.at("pattern");
  const JsonReader regex = pattern.is_object() ? pattern.at("Regex") : pattern;
  if (std::none_of(std::begin(kPatterns), std::end(kPatterns),
                   [&](const char* known) { return regex.is_text(known); })) {
    regex.unsupported(fmt::format("GPT-2's pattern, {}", kPatterns[0]), "no other is supported");
  }
  if (const JsonReader behavior = part.at("behavior"); !behavior.is_text("Isolated"))
    behavior.unsupported("\"Isolated\"", "no other is supported");
  if (const JsonReader invert = part.at("invert"); invert.flag_or(false))
    invert.unsupported("false");
}

void check_pre_tokenizer(const JsonReader& file) {
  const JsonReader whole = without_sequence(file.at("pre_tokenizer"), "pretokenizers");
  const JsonReader list = has_type(whole, "Sequence") ? whole.at("pretokenizers") : whole;
  const bool split = list.is_list() && list.size() == 2 && has_type(list.list()[0], "Split");
  const JsonReader part = split ? list.list()[1] : whole;
  if (!has_type(part, "ByteLevel")) {
    type_of(whole).unsupported("\"ByteLevel\"",
                               "only this is supported, which splits text as GPT-2 does, or "
                               "\"Split\" with GPT-2's pattern before it");
  }
  if (split) check_split(list.list()[0]);
  part.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (const JsonReader f = part.at("add_prefix_space"); f.flag_or(true)) {
    f.unsupported("false",
                  "it must be there and false: putting a space before every text is not "
                  "supported; write the space in the text where it is wanted");
  }
  const JsonReader regex = part.at("use_regex");
  if (regex.flag_or(true) == split) {
    regex.unsupported(split ? "false" : "true",
                      split ? "after a \"Split\", or the text would be split twice"
                            : "text that is not split into words is not supported");
  }
}

void check_decoder(const JsonReader& file) {
  const JsonReader part = without_sequence(file.at("decoder"), "decoders");
  if (!has_type(part, "ByteLevel"))
    type_of(part).unsupported("\"ByteLevel\"", "no other decoder is supported");
}

// The ids that a template for a single text puts before it; the text must be the last of its parts.
// Throws ConfigError for tokens after it.
std::vector<int> tokens_of_template(const JsonReader& part) {
  const JsonReader single = part.at("single"), known = part.at("special_tokens");
  if (!single.is_list() || single.size() == 0) single.reject("a list");
  std::vector<int> ids;
  const std::vector<JsonReader> pieces = single.list();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const bool last = i + 1 == pieces.size();
    const auto text = inside(pieces[i], "Sequence", "id");
    if (last && text && text->is_text("A")) return ids;
    const auto token = inside(pieces[i], "SpecialToken", "id");
    if (last || !token || !token->is_text()) break;
    const std::string& content = token->text();
    const auto list = inside(part, "special_tokens", content);
    if (!list || !list->is_object() || !list->at("ids").is_list()) {
      known.reject(fmt::format("an object with the ids of {}", quote(content)),
                   "the template puts this token before every text");
    }
    for (const JsonReader& id : list->at("ids").list()) ids.push_back(read_token_id(id, content));
  }
  single.unsupported("tokens before the text and nothing after it",
                     "another template for a single text is not supported: set post_processor to "
                     "null, and put the tokens around the prompt yourself");
}

// What is put before every text. A post_processor that only moves offsets (ByteLevel) puts nothing.
std::vector<int> tokens_put_first(const JsonReader& part) {
  if (!part.given() || has_type(part, "ByteLevel")) return {};
  if (has_type(part, "Sequence") && part.at("processors").is_list()) {
    std::vector<int> all;
    for (const JsonReader& one : part.at("processors").list()) {
      std::vector<int> ids = tokens_put_first(one);
      ids.insert(ids.end(), all.begin(), all.end());  // the last of them is the outermost
      all = std::move(ids);
    }
    return all;
  }
  if (has_type(part, "TemplateProcessing")) return tokens_of_template(part);
  type_of(part).unsupported(
      "\"ByteLevel\" or \"TemplateProcessing\"",
      "this post_processor adds tokens to every text, which is not supported: set post_processor "
      "to null, and put the tokens before the prompt yourself");
}

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

void read_model(VocabularyReader& reader, const JsonReader& model) {
  model.expect_object();
  // Old files have no type; then it is BPE if there are merges.
  const bool untyped = model.at("type").absent() && !model.at("merges").absent();
  if (!untyped && !has_type(model, "BPE"))
    model.at("type").unsupported("\"BPE\"", "no other model is supported");
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const JsonReader value = model.at(key); value.given() && !value.is_text("")) {
      value.unsupported("null or an empty text",
                        "it is not supported: byte-level tokens carry their space themselves");
    }
  }
  if (const JsonReader dropout = model.at("dropout");
      dropout.given() && dropout.value().number() != 0.0) {
    dropout.unsupported("null",
                        "it would leave out merges at random and is not supported; set it to null");
  }
  reader.set_ignore_merges(model.at("ignore_merges").flag_or(false));
  reader.read_tokens(model.at("vocab"));

  // These say what becomes of characters that have no token: nothing, if every byte has one.
  const bool unknown_handled = model.has("unk_token") || model.at("byte_fallback").flag_or(false) ||
                               model.at("fuse_unk").flag_or(false);
  if (const int byte = reader.missing_byte(); unknown_handled && byte >= 0) {
    throw ConfigError(fmt::format(
        "{}: unk_token, byte_fallback and fuse_unk are not supported unless the vocabulary has all "
        "256 bytes (then they do nothing); it lacks byte 0x{:02X}",
        model.place(), byte));
  }
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
  check_normalizer(file);
  check_pre_tokenizer(file);
  check_decoder(file);
  VocabularyReader reader;
  read_added_tokens(reader, file.at("added_tokens"));
  reader.add_named_tokens(config.tokens);
  read_model(reader, file.at("model"));
  reader.set_first(tokens_put_first(file.at("post_processor")));
  return reader.take();
}

// `name` is the folder.
Vocabulary read_vocabulary_and_merges(const JsonReader& vocab, std::string_view merges_txt,
                                      std::string_view name, const TokenizerConfig& config) {
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
  const auto vocab = JsonReader::object(read_text(vocab_file), vocab_file, tokenizer_rules());
  return {read_vocabulary_and_merges(vocab, read_text(folder / "merges.txt"), where, config),
          where};
}

}  // namespace vitrine::nn

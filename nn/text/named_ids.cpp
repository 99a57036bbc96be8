#include "nn/text/named_ids.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_value.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

// Stands before each name in the spelling of its token, so that no token is a part of another name.
constexpr std::string_view kBeforeName = "\xE2\x96\x81";  // U+2581

using Names = std::vector<std::optional<std::string>>;

void check_ids(std::size_t ids, int vocabulary, const std::string& where) {
  if (ids <= static_cast<std::size_t>(vocabulary)) return;
  throw FileError(fmt::format("{}: there are names for the ids 0 to {}, but the model has 0 to {}",
                              where, ids - 1, vocabulary - 1));
}

Names names_of_lines(std::string_view text) {
  Names names;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view name = text.substr(0, end);
    if (name.ends_with('\r')) name.remove_suffix(1);
    names.push_back(name.empty() ? std::nullopt : std::optional(std::string(name)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return names;
}

Names names_of_json(const std::string& text, const std::string& file, int vocabulary) {
  const JsonValue json = JsonValue::parse(text, file);
  if (json.fields() == nullptr) throw FileError(fmt::format("{}: expected {{\"name\": id}}", file));
  Names names;
  for (const JsonField& field : *json.fields()) {
    const auto id = field.value.natural();
    if (!id || *id >= static_cast<std::uint64_t>(vocabulary)) {
      throw FileError(fmt::format("{}: {} has the id {}; expected one of 0 to {}", file,
                                  quote(field.name), field.value.shown(), vocabulary - 1));
    }
    if (*id >= names.size()) names.resize(static_cast<std::size_t>(*id) + 1);
    auto& name = names[static_cast<std::size_t>(*id)];
    if (name) {
      throw FileError(
          fmt::format("{}: {} and {} have the id {}", file, quote(*name), quote(field.name), *id));
    }
    name = field.name;
  }
  return names;
}

}  // namespace

Tokenizer named_ids(const Names& names, std::string_view name) {
  Vocabulary vocabulary;
  CharacterModel characters;
  std::map<std::string, std::size_t> ids;
  for (std::size_t id = 0; id < names.size(); ++id) {
    vocabulary.tokens.push_back(names[id]);
    characters.spelling.push_back(names[id] ? std::optional(std::string(kBeforeName) + *names[id])
                                            : std::nullopt);
    if (!names[id]) continue;
    if (names[id]->empty() || names[id]->find_first_of(" \t\r\n") != std::string::npos) {
      throw FileError(
          fmt::format("{}: the name of id {}, {}, is empty or has white space in it: "
                      "names stand with spaces between them in prompts",
                      name, id, quote(*names[id])));
    }
    if (names[id]->starts_with(kBeforeName)) {
      throw FileError(
          fmt::format("{}: the name of id {} begins with {}, which stands for the space "
                      "before names",
                      name, id, kBeforeName));
    }
    const auto [known, fresh] = ids.emplace(*names[id], id);
    if (!fresh) {
      throw FileError(fmt::format("{}: the ids {} and {} have the same name, {}", name,
                                  known->second, id, quote(*names[id])));
    }
  }
  if (ids.empty()) throw FileError(fmt::format("{}: there are no names", name));
  vocabulary.ignore_merges = true;
  vocabulary.between = " ";
  vocabulary.steps.pre_tokenizers = {
      TextSteps::Split{.pattern = std::string(" "), .behavior = TextSteps::Behavior::removed},
      TextSteps::Metaspace{.replacement = std::string(kBeforeName), .split = false}};
  vocabulary.steps.decoders = {TextSteps::ReplaceText{std::string(kBeforeName), ""}};
  vocabulary.characters = std::move(characters);
  return Tokenizer(std::move(vocabulary), name);
}

Tokenizer read_named_ids(const std::filesystem::path& file, int vocabulary) {
  const std::string name = file.string(), text = read_text(file);
  const Names names =
      file.extension() == ".json" ? names_of_json(text, name, vocabulary) : names_of_lines(text);
  check_ids(names.size(), vocabulary, name);
  return named_ids(names, name);
}

}  // namespace vitrine::nn

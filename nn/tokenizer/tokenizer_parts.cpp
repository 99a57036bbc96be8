#include "nn/tokenizer/tokenizer_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "nn/splitting/regular_expression.h"
#include "nn/tokenizer/vocabulary_reader.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

using Steps = TextSteps;

// By their names in the files.
constexpr std::string_view kBehaviors[] = {"Isolated", "Removed", "MergedWithPrevious",
                                           "MergedWithNext", "Contiguous"};
constexpr std::string_view kSchemes[] = {"always", "first", "never"};

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

// The parts of a Sequence, those of Sequences in it too; a part that is none is alone; null is none.
void append_parts(std::vector<JsonReader>& parts, const JsonReader& part, const char* list_name) {
  if (!part.given()) return;
  if (!has_type(part, "Sequence")) {
    parts.push_back(part);
    return;
  }
  part.only({"type", list_name});
  for (const JsonReader& one : part.at(list_name).list()) append_parts(parts, one, list_name);
}

std::vector<JsonReader> parts_of(const JsonReader& part, const char* list_name) {
  std::vector<JsonReader> parts;
  append_parts(parts, part, list_name);
  return parts;
}

std::string not_empty(const JsonReader& text) {
  if (text.text().empty()) text.reject("a text that is not empty");
  return text.text();
}

Steps::Pattern read_pattern(const JsonReader& pattern) {
  pattern.expect_object();
  pattern.only({"String", "Regex"});
  if (pattern.size() != 1) pattern.reject("either \"String\" or \"Regex\"");
  if (pattern.has("String")) return not_empty(pattern.at("String"));
  const JsonReader regex = pattern.at("Regex");
  return std::make_shared<const RegularExpression>(not_empty(regex), regex.place());
}

void append_normalizer(std::vector<Steps::Normalizer>& to, const JsonReader& part) {
  if (has_type(part, "NFC")) {
    part.only({"type"});
    to.emplace_back(Steps::Nfc{});
  } else if (has_type(part, "Prepend")) {
    part.only({"type", "prepend"});
    to.emplace_back(Steps::Prepend{not_empty(part.at("prepend"))});
  } else if (has_type(part, "Replace")) {
    part.only({"type", "pattern", "content"});
    to.emplace_back(Steps::Replace{read_pattern(part.at("pattern")), part.at("content").text()});
  } else {
    type_of(part).unsupported(
        "\"NFC\", \"Prepend\", \"Replace\" or a \"Sequence\" of them",
        "it would change the text before it is split, and no other normalizer "
        "is supported");
  }
}

// Whether the first character of a normalised text may stem from another place than the first of the
// text.
bool moves_the_start(const Steps& steps) {
  return std::any_of(steps.normalizers.begin(), steps.normalizers.end(), [](const auto& step) {
    const auto* replace = std::get_if<Steps::Replace>(&step);
    if (replace == nullptr) return false;
    const auto* text = std::get_if<std::string>(&replace->pattern);
    return text == nullptr || replace->content.empty() ||
           read_character(*text, 0).length != text->size();
  });
}

// An old file says whether there is a prefix, rather than when.
Steps::Metaspace read_metaspace(const JsonReader& part) {
  part.only({"type", "replacement", "add_prefix_space", "prepend_scheme", "split", "str_rep"});
  Steps::Metaspace meta{not_empty(part.at("replacement"))};
  const JsonReader scheme = part.at("prepend_scheme");
  const bool prefix = part.at("add_prefix_space").flag_or(true);
  if (scheme.given()) meta.prepend_scheme = Steps::PrependScheme(scheme.one_of(kSchemes));
  if (!prefix) {
    if (scheme.given() && meta.prepend_scheme != Steps::PrependScheme::never)
      scheme.reject("\"never\"", "add_prefix_space is false");
    meta.prepend_scheme = Steps::PrependScheme::never;
  }
  meta.split = part.at("split").flag_or(true);
  return meta;
}

Steps::PreTokenizer read_pre_tokenizer(const JsonReader& part, bool is_last) {
  if (has_type(part, "Split")) {
    part.only({"type", "pattern", "behavior", "invert"});
    return Steps::Split{read_pattern(part.at("pattern")),
                        Steps::Behavior(part.at("behavior").one_of(kBehaviors)),
                        part.at("invert").flag_or(false)};
  }
  if (has_type(part, "Digits")) {
    part.only({"type", "individual_digits"});
    return Steps::Digits{part.at("individual_digits").flag()};
  }
  if (has_type(part, "Metaspace")) return read_metaspace(part);
  if (has_type(part, "ByteLevel")) {
    part.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    if (!is_last) {
      part.at("type").unsupported("\"ByteLevel\" to be the last",
                                  "splitting what has been cut into bytes is not supported");
    }
    return Steps::ByteLevel{part.at("add_prefix_space").flag(), part.at("use_regex").flag_or(true)};
  }
  type_of(part).unsupported(
      "\"ByteLevel\", \"Split\", \"Digits\", \"Metaspace\" or a \"Sequence\" of them",
      "no other pre_tokenizer is supported");
}

Steps::Decoder read_decoder(const JsonReader& part, bool is_first, bool fused) {
  const auto before_fuse = [&] {
    if (fused) type_of(part).unsupported("\"Strip\" or nothing", "after \"Fuse\"");
  };
  if (has_type(part, "Replace")) {
    part.only({"type", "pattern", "content"});
    before_fuse();
    const JsonReader pattern = part.at("pattern");
    pattern.expect_object();
    if (!pattern.has("String") || pattern.size() != 1)
      pattern.unsupported("an object with \"String\"", "a decoder replaces texts only");
    return Steps::ReplaceText{not_empty(pattern.at("String")), part.at("content").text()};
  }
  if (has_type(part, "ByteFallback")) {
    part.only({"type"});
    before_fuse();
    return Steps::ByteFallback{};
  }
  if (has_type(part, "Fuse")) {
    part.only({"type"});
    return Steps::Fuse{};
  }
  if (has_type(part, "Strip")) {
    part.only({"type", "content", "start", "stop"});
    if (!fused)
      part.at("type").unsupported("\"Fuse\" before it", "stripping each token is not supported");
    if (part.at("stop").whole(0) != 0)
      part.at("stop").unsupported("0", "only the beginning of a text is stripped");
    return Steps::Strip{not_empty(part.at("content")),
                        static_cast<std::size_t>(part.at("start").whole(0, 1000))};
  }
  if (has_type(part, "Metaspace")) {
    if (!is_first) part.at("type").unsupported("\"Metaspace\" to be the first");
    return read_metaspace(part);
  }
  type_of(part).unsupported(
      "\"Replace\", \"ByteFallback\", \"Fuse\", \"Strip\", \"Metaspace\" or a \"Sequence\" of them",
      "no other decoder is supported where text is not cut into bytes");
}

std::vector<Steps::Decoder> read_decoders(const JsonReader& decoder, bool byte_level) {
  const std::vector<JsonReader> parts = parts_of(decoder, "decoders");
  if (byte_level) {
    if (parts.size() == 1 && has_type(parts[0], "ByteLevel")) return {};
    type_of(parts.size() == 1 ? parts[0] : decoder)
        .unsupported("\"ByteLevel\"", "no other decoder is supported where text is cut into bytes");
  }
  if (parts.empty()) {
    decoder.unsupported("a decoder",
                        "without one HuggingFace puts a space between tokens, which is not "
                        "supported");
  }
  std::vector<Steps::Decoder> decoders;
  bool fused = false;
  for (const JsonReader& part : parts) {
    decoders.push_back(read_decoder(part, decoders.empty(), fused));
    fused = fused || std::holds_alternative<Steps::Fuse>(decoders.back());
  }
  return decoders;
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

// ---- writing

JsonValue typed(std::string_view type) { return JsonValue::object({{"type", type}}); }

// null, the one part, or a Sequence of several.
JsonValue sequence(const std::vector<JsonValue>& parts, std::string_view list_name) {
  if (parts.empty()) return {};
  if (parts.size() == 1) return parts[0];
  JsonValue list = JsonValue::list(), whole = typed("Sequence");
  for (const JsonValue& part : parts) list.push_back(part);
  whole[list_name] = list;
  return whole;
}

JsonValue json_of(const Steps::Pattern& pattern) {
  if (const auto* text = std::get_if<std::string>(&pattern))
    return JsonValue::object({{"String", *text}});
  return JsonValue::object({{"Regex", std::get<1>(pattern)->pattern()}});
}

JsonValue json_of(const Steps::Prepend& step) {
  return JsonValue::object({{"type", "Prepend"}, {"prepend", step.prepend}});
}
JsonValue json_of(const Steps::Replace& step) {
  return JsonValue::object(
      {{"type", "Replace"}, {"pattern", json_of(step.pattern)}, {"content", step.content}});
}
JsonValue json_of(const Steps::Nfc&) { return typed("NFC"); }
JsonValue json_of(const Steps::Split& step) {
  return JsonValue::object({{"type", "Split"},
                            {"pattern", json_of(step.pattern)},
                            {"behavior", kBehaviors[static_cast<int>(step.behavior)]},
                            {"invert", step.invert}});
}
JsonValue json_of(const Steps::Digits& step) {
  return JsonValue::object({{"type", "Digits"}, {"individual_digits", step.individual_digits}});
}
JsonValue json_of(const Steps::Metaspace& step) {
  return JsonValue::object({{"type", "Metaspace"},
                            {"replacement", step.replacement},
                            {"prepend_scheme", kSchemes[static_cast<int>(step.prepend_scheme)]},
                            {"split", step.split}});
}
JsonValue json_of(const Steps::ByteLevel& step) {
  return JsonValue::object({{"type", "ByteLevel"},
                            {"add_prefix_space", step.add_prefix_space},
                            {"trim_offsets", true},
                            {"use_regex", step.use_regex}});
}
JsonValue json_of(const Steps::ReplaceText& step) {
  return JsonValue::object({{"type", "Replace"},
                            {"pattern", JsonValue::object({{"String", step.pattern}})},
                            {"content", step.content}});
}
JsonValue json_of(const Steps::ByteFallback&) { return typed("ByteFallback"); }
JsonValue json_of(const Steps::Fuse&) { return typed("Fuse"); }
JsonValue json_of(const Steps::Strip& step) {
  return JsonValue::object({{"type", "Strip"},
                            {"content", step.content},
                            {"start", static_cast<std::int64_t>(step.start)},
                            {"stop", 0}});
}

template <class Step>
JsonValue json_of_all(const std::vector<Step>& steps, std::string_view list_name) {
  std::vector<JsonValue> parts;
  for (const Step& step : steps) {
    parts.push_back(std::visit([](const auto& one) { return json_of(one); }, step));
  }
  return sequence(parts, list_name);
}

}  // namespace

TextSteps read_text_steps(const JsonReader& file) {
  TextSteps steps;
  for (const JsonReader& part : parts_of(file.at("normalizer"), "normalizers"))
    append_normalizer(steps.normalizers, part);
  steps.pre_tokenizers.clear();
  const std::vector<JsonReader> parts = parts_of(file.at("pre_tokenizer"), "pretokenizers");
  for (std::size_t i = 0; i < parts.size(); ++i) {
    steps.pre_tokenizers.push_back(read_pre_tokenizer(parts[i], i + 1 == parts.size()));
    const auto* meta = std::get_if<Steps::Metaspace>(&steps.pre_tokenizers.back());
    if (meta && meta->prepend_scheme == Steps::PrependScheme::first && moves_the_start(steps)) {
      parts[i]
          .at("prepend_scheme")
          .unsupported("\"always\" or \"never\"",
                       "whether a text is the first is not certain after a normalizer that "
                       "replaces its beginning");
    }
  }
  steps.decoders = read_decoders(file.at("decoder"), steps.byte_level());
  return steps;
}

std::vector<int> read_tokens_put_first(const JsonReader& part) {
  if (!part.given() || has_type(part, "ByteLevel")) return {};
  if (has_type(part, "Sequence") && part.at("processors").is_list()) {
    std::vector<int> all;
    for (const JsonReader& one : part.at("processors").list()) {
      std::vector<int> ids = read_tokens_put_first(one);
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

JsonValue normalizer_json(const TextSteps& steps) {
  return json_of_all(steps.normalizers, "normalizers");
}

JsonValue pre_tokenizer_json(const TextSteps& steps) {
  return json_of_all(steps.pre_tokenizers, "pretokenizers");
}

JsonValue decoder_json(const TextSteps& steps) {
  if (steps.byte_level()) return json_of(Steps::ByteLevel{.add_prefix_space = true});
  return json_of_all(steps.decoders, "decoders");
}

}  // namespace vitrine::nn

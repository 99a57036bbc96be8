#include "tensor/files/json_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_set>

#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine {

JsonRules saved_state(std::string what) {
  return {.wrong = JsonFault::checkpoint,
          .unknown = JsonFault::checkpoint,
          .what = std::move(what),
          .advice = "the file is damaged: take a copy of it, or begin anew",
          .unknown_advice = "was the run begun by a later version?"};
}

struct JsonReader::Document {
  JsonValue root;
  std::string file;
  JsonRules rules;
  // What was asked for: fields that are there, objects all of whose fields were, and names that are
  // not there, by object.
  mutable std::unordered_set<const void*> asked{};
  mutable std::map<const JsonValue*, std::set<std::string, std::less<>>> missed{};
};

JsonReader::JsonReader(JsonValue value, std::string file, JsonRules rules) : parent_(nullptr) {
  if (rules.line > 0) file += fmt::format(", line {}", rules.line);
  document_ =
      std::make_shared<Document>(Document{std::move(value), std::move(file), std::move(rules)});
  value_ = &document_->root;
}

JsonReader::JsonReader(std::shared_ptr<const Document> document, const JsonValue* value,
                       const JsonValue* parent, std::string_view name)
    : document_(std::move(document)), value_(value), parent_(parent), name_(name) {}

JsonReader JsonReader::parse(std::string_view text, std::string file, JsonRules rules) {
  const std::string where = rules.line > 0 ? fmt::format("{}, line {}", file, rules.line) : file;
  return {JsonValue::parse(text, where), std::move(file), std::move(rules)};
}

JsonReader JsonReader::object(std::string_view text, std::string file, JsonRules rules) {
  JsonReader json = parse(text, std::move(file), std::move(rules));
  if (json.is_object()) return json;
  const bool state = json.document_->rules.wrong == JsonFault::checkpoint;
  const std::string& root = json.document_->rules.root;
  json.refuse(state ? JsonFault::checkpoint : JsonFault::file,
              json.expected("an object" + (root.empty() ? "" : ", " + root)), "");
}

// ---- where it stands ----------------------------------------------------------------------------
const std::string& JsonReader::file() const { return document_->file; }

std::string JsonReader::path() const {
  if (value_ != nullptr) return json_path(document_->root, value_);
  return json_path(json_path(document_->root, parent_), name_);
}

std::string JsonReader::place() const {
  const std::string path = this->path();
  return path.empty() ? file() : fmt::format("{}: {}", file(), path);
}

// ---- what is there ------------------------------------------------------------------------------
std::size_t JsonReader::size() const {
  if (is_list()) return value_->list_items()->size();
  return is_object() ? value_->fields()->size() : 0;
}

const JsonValue& JsonReader::value() const {
  static const JsonValue kNull;
  return value_ == nullptr ? kNull : *value_;
}

std::string JsonReader::found() const {
  return value_ == nullptr ? "no such field" : value_->shown();
}

// ---- going in -----------------------------------------------------------------------------------
const JsonReader& JsonReader::expect_object(std::string_view advice) const {
  if (!is_object()) reject("an object", advice);
  return *this;
}

JsonReader JsonReader::at(std::string_view field) const {
  expect_object();
  if (const JsonField* found = value_->find_field(field)) {
    document_->asked.insert(found);
    return {document_, &found->value, value_, found->name};
  }
  const auto [name, fresh] = document_->missed[value_].emplace(field);
  return {document_, nullptr, value_, *name};
}

std::vector<JsonReader> JsonReader::fields() const {
  expect_object();
  document_->asked.insert(value_->fields());
  std::vector<JsonReader> all;
  all.reserve(size());
  for (const JsonField& field : *value_->fields())
    all.push_back({document_, &field.value, value_, field.name});
  return all;
}

std::vector<JsonReader> JsonReader::list(std::int64_t size) const {
  if (!is_list() || (size >= 0 && std::ssize(*value_->list_items()) != size))
    reject(size < 0 ? "a list" : fmt::format("a list of {} items", size));
  std::vector<JsonReader> items;
  items.reserve(this->size());
  for (const JsonValue& item : *value_->list_items())
    items.push_back({document_, &item, nullptr, {}});
  return items;
}

// ---- fields that nobody knows -------------------------------------------------------------------
void JsonReader::only(std::initializer_list<std::string_view> known) const {
  expect_object();
  for (const JsonField& field : *value_->fields()) {
    if (std::find(known.begin(), known.end(), field.name) == known.end())
      refuse_unknown(field.name, std::vector<std::string>(known.begin(), known.end()));
  }
}

void JsonReader::done(std::initializer_list<std::string_view> also) const {
  expect_object();
  const auto& asked = document_->asked;
  if (asked.contains(value_->fields())) return;
  for (const JsonField& field : *value_->fields()) {
    if (asked.contains(&field) || std::find(also.begin(), also.end(), field.name) != also.end())
      continue;
    const auto& missed = document_->missed[value_];
    std::vector<std::string> known(missed.begin(), missed.end());
    known.insert(known.end(), also.begin(), also.end());
    for (const JsonField& other : *value_->fields()) {
      if (asked.contains(&other)) known.push_back(other.name);
    }
    std::sort(known.begin(), known.end());
    refuse_unknown(field.name, known);
  }
}

void JsonReader::refuse_unknown(const std::string& name, std::span<const std::string> known) const {
  constexpr std::size_t kFew = 8;
  std::string near = did_you_mean(nearest(name, known, 1));
  if (near.empty() && known.size() <= kFew && !known.empty()) {
    const std::vector<std::string_view> names(known.begin(), known.end());
    near = fmt::format("; there may be {} here", alternatives(names));
  }
  const JsonReader field(document_, value_->find(name), value_, name);
  field.refuse(document_->rules.unknown,
               fmt::format("this field is not known, so it cannot be honoured{}", near),
               document_->rules.unknown_advice);
}

// ---- values -------------------------------------------------------------------------------------
const std::string& JsonReader::text() const {
  if (!is_text()) reject("a text");
  return *value_->text();
}

bool JsonReader::flag() const {
  if (!is_flag()) reject("true or false");
  return *value_->boolean();
}

double JsonReader::number(double least, double most) const {
  const std::optional<double> number = value().number();
  if (number && std::isfinite(*number) && *number >= least && *number <= most) return *number;
  if (least == -kAny && most == kAny) reject("a number");
  if (least == -kAny) reject(fmt::format("a number, {:g} or less", most));
  reject(most == kAny ? fmt::format("a number, {:g} or more", least)
                      : fmt::format("a number from {:g} to {:g}", least, most));
}

std::int64_t JsonReader::whole(std::int64_t least, std::int64_t most) const {
  const std::optional<std::int64_t> number = value().whole();
  if (number && *number >= least && *number <= most) return *number;
  if (least == INT64_MIN && most == INT64_MAX) reject("a whole number");
  reject(most == INT64_MAX ? fmt::format("a whole number, {} or more", least)
                           : fmt::format("a whole number from {} to {}", least, most));
}

std::uint64_t JsonReader::natural() const {
  const std::optional<std::uint64_t> number = value().natural();
  if (!number) reject("a whole number, 0 or more");
  return *number;
}

std::vector<std::int64_t> JsonReader::wholes(std::int64_t least, std::int64_t most) const {
  std::vector<std::int64_t> numbers;
  if (!is_list()) reject("a list");
  numbers.reserve(size());
  for (const JsonValue& item : *value_->list_items())
    numbers.push_back(JsonReader(document_, &item, nullptr, {}).whole(least, most));
  return numbers;
}

std::vector<std::uint64_t> JsonReader::naturals() const {
  std::vector<std::uint64_t> numbers;
  if (!is_list()) reject("a list");
  numbers.reserve(size());
  for (const JsonValue& item : *value_->list_items())
    numbers.push_back(JsonReader(document_, &item, nullptr, {}).natural());
  return numbers;
}

std::size_t JsonReader::one_of(std::span<const std::string_view> words) const {
  const auto at = is_text() ? std::find(words.begin(), words.end(), *value_->text()) : words.end();
  if (at != words.end()) return static_cast<std::size_t>(at - words.begin());
  std::string near;
  if (is_text()) {
    const std::vector<std::string> names(words.begin(), words.end());
    near = did_you_mean(nearest(*value_->text(), names, 1));
  }
  refuse(document_->rules.wrong, expected(alternatives(words)) + near, "");
}

std::string JsonReader::text_or(std::string otherwise) const {
  return given() ? text() : otherwise;
}
bool JsonReader::flag_or(bool otherwise) const { return given() ? flag() : otherwise; }
double JsonReader::number_or(double otherwise, double least, double most) const {
  return given() ? number(least, most) : otherwise;
}
std::int64_t JsonReader::whole_or(std::int64_t otherwise, std::int64_t least,
                                  std::int64_t most) const {
  return given() ? whole(least, most) : otherwise;
}

// ---- refusing -----------------------------------------------------------------------------------
std::string JsonReader::expected(std::string_view what) const {
  return fmt::format("expected {}, found {}", what, found());
}

void JsonReader::reject(std::string_view what, std::string_view advice) const {
  refuse(document_->rules.wrong, expected(what), advice);
}

void JsonReader::unsupported(std::string_view what, std::string_view advice) const {
  refuse(JsonFault::config, expected(what), advice);
}

void JsonReader::fail(std::string_view mistake) const {
  refuse(document_->rules.wrong, std::string(mistake), "");
}

void JsonReader::refuse(JsonFault fault, const std::string& mistake,
                        std::string_view advice) const {
  const JsonRules& rules = document_->rules;
  std::string message = file() + ": ";
  if (!rules.what.empty()) message += rules.what + " cannot be read: ";
  if (const std::string path = this->path(); !path.empty()) message += path + ": ";
  message += mistake;
  if (!advice.empty()) message += fmt::format("; {}", advice);
  if (!rules.advice.empty()) message += fmt::format("; {}", rules.advice);
  switch (fault) {
    case JsonFault::file:
      throw FileError(message);
    case JsonFault::config:
      throw ConfigError(message);
    case JsonFault::checkpoint:
      throw CheckpointError(message);
  }
  throw FileError(message);
}

std::string alternatives(std::span<const std::string_view> words) {
  std::string all;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) all += i + 1 == words.size() ? " or " : ", ";
    all += words[i];
  }
  return all;
}

}  // namespace vitrine

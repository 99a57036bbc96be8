// JSON from a file, read field by field. A reader stands on one value and knows its place, so that
// every refusal says the file, the path inside it, what was expected and what was found:
//
//   config.json: rope_scaling.factor: expected a number, found "8"
//
//   const auto json = JsonReader::object(read_text(file), file.string());
//   const double eps = json.at("layer_norm_epsilon").number_or(1e-5, 0, 1);
//   for (const JsonReader& edit : json.at("edits").list()) names.push_back(edit.at("site").text());
//   json.done();   // refuses fields that nobody asked for
//
// Readers are cheap to copy, and keep what was parsed alive. One document is read by one thread: it
// notes which fields were asked for.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/files/json_value.h"

namespace vitrine {

// Which exception a mistake is: FileError, ConfigError or CheckpointError.
enum class JsonFault { file, config, checkpoint };

// What readers of one document say when they refuse something.
struct JsonRules {
  JsonFault wrong = JsonFault::file;      // a value is not what it must be
  JsonFault unknown = JsonFault::config;  // there is a field that is not known
  std::string root{};                     // what the file must hold: "a HuggingFace config.json"
  std::string what{};            // which of several things in the file: "the settings of the run"
  std::string advice{};          // the end of every message: "take a copy of it"
  std::string unknown_advice{};  // of those about fields that are not known
  std::int64_t line = 0;         // of a file that has one value a line, from 1
};

// Those of the saved state of a run, whose mistakes are CheckpointErrors.
JsonRules saved_state(std::string what);

class JsonReader {
 public:
  // Throws FileError if the text is not JSON, or has one key twice in an object.
  static JsonReader parse(std::string_view text, std::string file, JsonRules rules = {});
  // The same for a text that must hold an object. FileError too if it does not; CheckpointError for
  // the state of a run.
  static JsonReader object(std::string_view text, std::string file, JsonRules rules = {});
  // A value that is there already, "of" a file.
  JsonReader(JsonValue value, std::string file, JsonRules rules = {});

  // ---- where it stands
  std::string path() const;   // "" for the whole
  std::string place() const;  // "FILE: PATH"
  const std::string& file() const;
  std::string_view name() const { return name_; }  // of a field

  // ---- what is there
  bool absent() const { return value_ == nullptr; }
  bool given() const { return value_ != nullptr && !value_->is_null(); }
  bool is_null() const { return value_ != nullptr && value_->is_null(); }
  bool is_text() const { return value_ != nullptr && value_->text() != nullptr; }
  bool is_text(std::string_view text) const { return is_text() && *value_->text() == text; }
  bool is_flag() const { return value_ != nullptr && value_->boolean() != nullptr; }
  bool is_flag(bool flag) const { return is_flag() && *value_->boolean() == flag; }
  bool is_number() const { return value_ != nullptr && value_->is_number(); }
  bool is_list() const { return value_ != nullptr && value_->list_items() != nullptr; }
  bool is_object() const { return value_ != nullptr && value_->fields() != nullptr; }
  std::size_t size() const;        // of a list or an object; 0 for others
  const JsonValue& value() const;  // null where it is absent
  std::string found() const;       // for messages: null, "8", no such field

  // ---- going in; refused where this is no object
  JsonReader at(std::string_view field) const;  // which may be absent
  bool has(std::string_view field) const { return at(field).given(); }
  std::vector<JsonReader> fields() const;  // in the order of the file; counts as asking for all
  const JsonReader& expect_object(std::string_view advice = "") const;
  // The items of a list, which has `size` items if that is given.
  std::vector<JsonReader> list(std::int64_t size = -1) const;

  // ---- fields that nobody knows
  // Refuses those that are not among `known`, and names the nearest of them.
  void only(std::initializer_list<std::string_view> known) const;
  // Refuses those that nobody asked for by at() or has() and that are not among `also`: for the end
  // of a reading that asks for everything.
  void done(std::initializer_list<std::string_view> also = {}) const;

  // ---- values; refused where they are absent, null or of another type
  const std::string& text() const;
  bool flag() const;
  double number(double least = -kAny, double most = kAny) const;
  std::int64_t whole(std::int64_t least = INT64_MIN, std::int64_t most = INT64_MAX) const;
  std::uint64_t natural() const;  // to 2^64 - 1: a seed
  // Of a list of such numbers, without a reader for each.
  std::vector<std::int64_t> wholes(std::int64_t least = INT64_MIN,
                                   std::int64_t most = INT64_MAX) const;
  std::vector<std::uint64_t> naturals() const;
  std::size_t one_of(std::span<const std::string_view> words) const;  // which of them it is
  // One of some values that have names by name_of.
  template <class T, std::size_t n>
  T named(const T (&all)[n]) const {
    std::string_view names[n];
    for (std::size_t i = 0; i < n; ++i) names[i] = name_of(all[i]);
    return all[one_of(std::span<const std::string_view>(names, n))];
  }

  // ---- the same, where an absent value and null mean `otherwise`
  std::string text_or(std::string otherwise) const;
  bool flag_or(bool otherwise) const;
  double number_or(double otherwise, double least = -kAny, double most = kAny) const;
  std::int64_t whole_or(std::int64_t otherwise, std::int64_t least, std::int64_t most) const;

  // ---- refusing
  // "FILE: PATH: expected EXPECTED, found FOUND; ADVICE"
  [[noreturn]] void reject(std::string_view expected, std::string_view advice = "") const;
  // The same as a ConfigError: well formed, but asks for what is not there.
  [[noreturn]] void unsupported(std::string_view expected, std::string_view advice = "") const;
  // "FILE: PATH: MISTAKE", for what no single value is to blame for.
  [[noreturn]] void fail(std::string_view mistake) const;

  static constexpr double kAny = std::numeric_limits<double>::infinity();

 private:
  struct Document;
  JsonReader(std::shared_ptr<const Document> document, const JsonValue* value,
             const JsonValue* parent, std::string_view name);

  [[noreturn]] void refuse(JsonFault fault, const std::string& mistake,
                           std::string_view advice) const;
  [[noreturn]] void refuse_unknown(const std::string& name,
                                   std::span<const std::string> known) const;
  std::string expected(std::string_view what) const;

  std::shared_ptr<const Document> document_;
  const JsonValue* value_;   // null: it is absent
  const JsonValue* parent_;  // the object that it is, or could be, a field of
  std::string_view name_;    // lives in the document
};

// "a list of words": `a, b or c`.
std::string alternatives(std::span<const std::string_view> words);

}  // namespace vitrine

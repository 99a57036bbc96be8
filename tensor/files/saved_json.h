// JSON in the saved state of a run, read field by field: what is not as it was written is refused
// by the name of the field, with what was found and what is expected.
//
//   const SavedJson json(parse_json(text, where), where, "the settings of the run");
//   s.rows = json.at("rows").whole(1, kMost);
//   for (const SavedJson& t : json.at("sources").list()) ...
//
// Not installed, as strict_json.h.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/files/strict_json.h"

namespace vitrine::nn {

// All of these throw CheckpointError.
class SavedJson {
 public:
  // `what` cannot be read when something is wrong; `advice` ends the message. The value must be an
  // object.
  SavedJson(Json json, std::string where, std::string what,
            std::string advice = "; the file is damaged: take a copy of it, or begin anew");

  SavedJson at(std::string_view key) const;  // of an object
  bool has(std::string_view key) const;      // and is not null
  // Of an object: what is not among these fields is not known, and so cannot be honoured.
  void only(std::initializer_list<std::string_view> fields) const;
  // Of a list, which has `size` items if that is given.
  std::vector<SavedJson> list(std::int64_t size = -1) const;

  std::string text() const;
  bool flag() const;
  double number(double least = -kAny, double most = kAny) const;  // finite
  std::int64_t whole(std::int64_t least = INT64_MIN, std::int64_t most = INT64_MAX) const;
  std::uint64_t seed() const;
  // The place of the text in `names`.
  std::size_t one_of(std::span<const std::string_view> names) const;
  // An object, as text for a reader of its own.
  std::string object() const;

  static constexpr double kAny = std::numeric_limits<double>::infinity();

  // Says that the field cannot be what it is: "'k' in jobs[0].rules is null; EXPECTED".
  [[noreturn]] void reject(const std::string& expected) const;

 private:
  SavedJson(const SavedJson& parent, const Json* value, std::string inside, std::string name);
  [[noreturn]] void fail(const std::string& mistake) const;
  std::string path() const;

  std::shared_ptr<const Json> root_;
  const Json* value_;
  std::string where_, what_, advice_;
  std::string inside_, name_;  // inside_: the path of what has the field `name_`
};

}  // namespace vitrine::nn

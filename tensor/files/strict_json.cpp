#include "tensor/files/strict_json.h"

#include <fmt/format.h>

#include <algorithm>

#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {

void expect_object(const Json& value, const std::string& where) {
  if (!value.is_object()) {
    throw FileError(
        fmt::format("{} must be a JSON object, but is of type {}", where, value.type_name()));
  }
}

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

bool flag(const Json& object, const char* key, bool if_absent, const std::string& where) {
  const Json& value = member(object, key);
  if (value.is_null()) return if_absent;
  if (!value.is_boolean()) {
    throw FileError(
        fmt::format("{}: \"{}\" must be true or false, but is {}", where, key, quote_json(value)));
  }
  return value.get<bool>();
}

void expect_only(const Json& object, std::initializer_list<std::string_view> known,
                 const std::string& where) {
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw ConfigError(fmt::format(
          "{}: the setting {} is not known, so it cannot be honoured; remove it if the tokenizer "
          "does not depend on it",
          where, quote(key)));
    }
  }
}

std::string quote_json(const Json& value) { return quote(json_line(value)); }

}  // namespace vitrine::nn

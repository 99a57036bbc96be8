#include "nn/strict_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>
#include <vector>

#include "nn/utf8.h"
#include "tensor/error.h"

namespace vitrine::nn {

Json parse_json(std::string_view text, const std::string& file) {
  std::vector<std::unordered_set<std::string>> keys;  // of the objects open at this point
  const auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw FileError(fmt::format("{}: the key {} occurs twice in one object; keep one of them",
                                    file, quote(key)));
      }
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    std::string what = replace_invalid_utf8(error.what());
    if (const auto tag = what.find("] "); tag != what.npos) what.erase(0, tag + 2);
    throw FileError(fmt::format("{}: not valid JSON: {}; was the file cut short?", file, what));
  }
}

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

std::string quote_json(const Json& value) {
  return quote(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace vitrine::nn

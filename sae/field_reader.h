// The fields of an SAE's configuration: each is what it should be, or refused by its name.
//
// Not installed: it would force nlohmann-json on everyone who includes a header of the library.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "sae/sae.h"
#include "tensor/error.h"
#include "tensor/files/strict_json.h"

namespace vitrine::sae {

class FieldReader {
 public:
  FieldReader(const nn::Json& json, std::string file) : json_(json), file_(std::move(file)) {}

  [[noreturn]] void reject(const char* field, std::string_view what) const {
    throw ConfigError(fmt::format("{}: '{}' is {}; {}", file_, field,
                                  json_.contains(field) ? json_line(json_.at(field)) : "missing",
                                  what));
  }
  const nn::Json* find(const char* field) const {
    const auto it = json_.find(field);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  std::string text(const char* field, const std::string& otherwise = "") const {
    const nn::Json* v = find(field);
    if (v == nullptr) return otherwise;
    if (!v->is_string()) reject(field, "it must be a text");
    return v->get<std::string>();
  }
  bool boolean(const char* field, bool otherwise) const {
    const nn::Json* v = find(field);
    if (v == nullptr) return otherwise;
    if (!v->is_boolean()) reject(field, "it must be true or false");
    return v->get<bool>();
  }
  std::int64_t size(const char* field) const {
    const nn::Json* v = find(field);
    if (v == nullptr || !v->is_number_integer() || v->get<double>() < 1 || v->get<double>() > 1e9)
      reject(field, "it must be a positive whole number");
    return v->get<std::int64_t>();
  }
  template <class T, std::size_t N>
  T one_of(const char* field, const T (&all)[N], std::string_view otherwise) const {
    const std::string name = text(field, std::string(otherwise));
    std::vector<std::string> names;
    for (const T value : all) {
      names.emplace_back(name_of(value));
      if (names.back() == name) return value;
    }
    reject(field, fmt::format("supported are {}", fmt::join(names, ", ")));
  }
  // Refuses a field that is not known: it cannot be honoured.
  void expect_only(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, value] : json_.items()) {
      if (std::find(known.begin(), known.end(), key) != known.end()) continue;
      throw ConfigError(
          fmt::format("{}: the setting '{}' is not known, so it cannot be honoured; remove it if "
                      "what the SAE computes does not depend on it",
                      file_, key));
    }
  }
  const nn::Json& json() const { return json_; }
  const std::string& file() const { return file_; }

 private:
  const nn::Json& json_;
  std::string file_;
};

}  // namespace vitrine::sae

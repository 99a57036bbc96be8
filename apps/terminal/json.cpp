#include "apps/terminal/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace vitrine::app {

// ---- values -------------------------------------------------------------------------------------
Json::Json(bool x) : kind_(Kind::boolean) { as_.boolean = x; }
Json::Json(double x) : kind_(Kind::real) { as_.real = x; }
Json::Json(std::string text) : kind_(Kind::text) { as_.text = new std::string(std::move(text)); }

Json Json::whole(std::int64_t x) {
  Json json;
  json.kind_ = Kind::integer;
  json.as_.integer = x;
  return json;
}

Json Json::natural(std::uint64_t x) {
  Json json;
  json.kind_ = Kind::natural;
  json.as_.natural = x;
  return json;
}

Json Json::array() {
  Json json;
  json.as_.entries = new Entries();
  json.kind_ = Kind::array;
  return json;
}

Json Json::object() {
  Json json;
  json.as_.fields = new Fields();
  json.kind_ = Kind::object;
  return json;
}

Json::Json(std::initializer_list<Item> items) {
  const bool fields = std::all_of(items.begin(), items.end(), [](const Item& item) {
    const Json& pair = item.json_;
    return pair.is_array() && pair.size() == 2 && pair.as_.entries->front().kind_ == Kind::text;
  });
  *this = fields ? object() : array();
  for (const Item& item : items) {
    if (!fields) {
      push_back(std::move(item.json_));
      continue;
    }
    Entries& pair = *item.json_.as_.entries;
    (*this)[*pair[0].as_.text] = std::move(pair[1]);
  }
}

Json::Json(const Json& other) : as_(other.as_) {
  if (other.kind_ == Kind::text) as_.text = new std::string(*other.as_.text);
  if (other.kind_ == Kind::array) as_.entries = new Entries(*other.as_.entries);
  if (other.kind_ == Kind::object) as_.fields = new Fields(*other.as_.fields);
  kind_ = other.kind_;
}

Json::~Json() {
  if (kind_ == Kind::text) delete as_.text;
  if (kind_ == Kind::array) delete as_.entries;
  if (kind_ == Kind::object) delete as_.fields;
}

// ---- lists and objects --------------------------------------------------------------------------
std::size_t Json::size() const {
  if (is_object()) return as_.fields->size();
  return is_array() ? as_.entries->size() : 0;
}

void Json::push_back(Json entry) {
  if (kind_ == Kind::null) *this = array();
  as_.entries->push_back(std::move(entry));
}

void Json::reserve(std::size_t entries) {
  if (kind_ == Kind::null) *this = array();
  as_.entries->reserve(entries);
}

Json& Json::operator[](std::string_view field) {
  if (kind_ == Kind::null) *this = object();
  for (auto& [name, value] : *as_.fields)
    if (name == field) return value;
  return as_.fields->emplace_back(field, Json()).second;
}

Json& Json::operator[](std::size_t entry) { return (*as_.entries)[entry]; }

Json& Json::back() { return as_.entries->back(); }

void Json::update(const Json& object) {
  for (const auto& [name, value] : *object.as_.fields) (*this)[name] = value;
}

// ---- text ---------------------------------------------------------------------------------------
struct JsonWriter {
  using Library = nlohmann::ordered_json;

  static Library value(const Json& json) {
    switch (json.kind_) {
      case Json::Kind::null:
        return nullptr;
      case Json::Kind::boolean:
        return json.as_.boolean;
      case Json::Kind::integer:
        return json.as_.integer;
      case Json::Kind::natural:
        return json.as_.natural;
      case Json::Kind::real:
        return json.as_.real;
      case Json::Kind::text:
        return *json.as_.text;
      case Json::Kind::array:
      case Json::Kind::object:
        break;
    }
    return nullptr;
  }

  static std::string scalar(const Json& json) {
    return value(json).dump(-1, ' ', false, Library::error_handler_t::replace);
  }

  static void write(const Json& json, std::string& out) {
    if (json.is_array()) {
      out += '[';
      for (std::size_t i = 0; i < json.size(); ++i) {
        if (i > 0) out += ',';
        write((*json.as_.entries)[i], out);
      }
      out += ']';
    } else if (json.is_object()) {
      out += '{';
      for (std::size_t i = 0; i < json.size(); ++i) {
        const auto& [name, field] = (*json.as_.fields)[i];
        if (i > 0) out += ',';
        out += scalar(Json(name)) + ':';
        write(field, out);
      }
      out += '}';
    } else {
      out += scalar(json);
    }
  }

  static std::string not_finite(const Json& json, const std::string& path, double& value) {
    if (json.kind_ == Json::Kind::real && !std::isfinite(json.as_.real)) {
      value = json.as_.real;
      return path;
    }
    for (std::size_t i = 0; i < json.size(); ++i) {
      std::string found;
      if (json.is_object()) {
        const auto& [name, field] = (*json.as_.fields)[i];
        found = not_finite(field, path.empty() ? name : path + "." + name, value);
      } else {
        const Json& entry = (*json.as_.entries)[i];
        if (entry.is_object() || entry.is_array() || entry.kind_ == Json::Kind::real)
          found = not_finite(entry, fmt::format("{}[{}]", path, i), value);
      }
      if (!found.empty()) return found;
    }
    return "";
  }
};

std::string Json::to_line() const {
  std::string line;
  JsonWriter::write(*this, line);
  return line;
}

std::vector<std::pair<std::string, std::string>> Json::as_texts() const {
  std::vector<std::pair<std::string, std::string>> texts;
  if (!is_object()) return texts;
  for (const auto& [name, value] : *as_.fields)
    texts.emplace_back(name, value.kind_ == Kind::text ? *value.as_.text : value.to_line());
  return texts;
}

std::string Json::first_not_finite(double& value) const {
  return JsonWriter::not_finite(*this, "", value);
}

}  // namespace vitrine::app

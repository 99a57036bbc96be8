#include "tensor/files/json_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <type_traits>

#include "tensor/error.h"
#include "tensor/files/json_text.h"

namespace vitrine {
namespace {

using Json = nlohmann::json;

// A text in quotes, or a number: nlohmann knows how they are spelled.
template <class T>
std::string spelled(const T& scalar) {
  return Json(scalar).dump(-1, ' ', false, Json::error_handler_t::replace);
}

constexpr std::size_t kLarge = 16;  // fields; smaller objects are searched from the front

// Puts the steps from `at` to `wanted` behind `path`; false, and an unchanged path, if it is not
// there. Not deeper than kDeepestJson.
bool find_path(const JsonValue& at, const JsonValue* wanted, std::string& path) {
  if (&at == wanted) return true;
  const std::size_t length = path.size();
  if (const auto* items = at.list_items()) {
    for (std::size_t i = 0; i < items->size(); ++i) {
      path += fmt::format("[{}]", i);
      if (find_path((*items)[i], wanted, path)) return true;
      path.resize(length);
    }
  }
  if (const auto* fields = at.fields()) {
    for (const JsonField& field : *fields) {
      path = json_path(std::move(path), field.name);
      if (find_path(field.value, wanted, path)) return true;
      path.resize(length);
    }
  }
  return false;
}

bool is_plain(std::string_view name) {
  return !name.empty() && name.size() <= 80 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
}

}  // namespace

struct JsonValue::Object {
  Fields fields;
  std::vector<std::uint32_t> by_name;  // of a large one: its fields in order of their names
};

void JsonValue::Deleted::operator()(Object* object) const { delete object; }

JsonValue::JsonValue(double value) : value_(value) {}
JsonValue::JsonValue(std::string value) : value_(std::make_unique<std::string>(std::move(value))) {}
JsonValue::JsonValue(std::string_view value) : JsonValue(std::string(value)) {}
JsonValue::JsonValue(const char* value) : JsonValue(std::string(value)) {}
JsonValue::~JsonValue() = default;

JsonValue::JsonValue(const JsonValue& other) {
  std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_arithmetic_v<T>) value_.emplace<T>(value);
        else if constexpr (!std::is_same_v<T, std::monostate>)
          value_ = T(new typename T::element_type(*value));
      },
      other.value_);
}

JsonValue::JsonValue(std::initializer_list<Item> items) {
  const bool fields = std::all_of(items.begin(), items.end(), [](const Item& item) {
    const List* pair = item.value_.list_items();
    return pair != nullptr && pair->size() == 2 && pair->front().text() != nullptr;
  });
  if (!fields) {
    *this = list(items);
    return;
  }
  *this = object();
  for (const Item& item : items) {
    List& pair = item.value_.own_list();
    (*this)[*pair[0].text()] = std::move(pair[1]);
  }
}

JsonValue JsonValue::list(std::initializer_list<Item> items) {
  JsonValue value;
  List& own = value.own_list();
  own.reserve(items.size());
  for (const Item& item : items) own.push_back(std::move(item.value_));
  return value;
}
JsonValue JsonValue::object(std::initializer_list<JsonField> fields) {
  JsonValue value;
  value.own_object().fields = fields;
  return value;
}

JsonValue::List& JsonValue::own_list() {
  if (is_null()) value_ = std::make_unique<List>();
  return *std::get<std::unique_ptr<List>>(value_);
}
JsonValue::Object& JsonValue::own_object() {
  if (is_null()) value_ = std::unique_ptr<Object, Deleted>(new Object());
  return *std::get<std::unique_ptr<Object, Deleted>>(value_);
}

// ---- reading ------------------------------------------------------------------------------------
bool JsonValue::is_null() const { return std::holds_alternative<std::monostate>(value_); }
const bool* JsonValue::boolean() const { return std::get_if<bool>(&value_); }
const std::string* JsonValue::text() const {
  const auto* text = std::get_if<std::unique_ptr<std::string>>(&value_);
  return text == nullptr ? nullptr : text->get();
}
const JsonValue::List* JsonValue::list_items() const {
  const auto* list = std::get_if<std::unique_ptr<List>>(&value_);
  return list == nullptr ? nullptr : list->get();
}
const JsonValue::Fields* JsonValue::fields() const {
  const auto* object = std::get_if<std::unique_ptr<Object, Deleted>>(&value_);
  return object == nullptr ? nullptr : &(*object)->fields;
}

bool JsonValue::is_number() const { return number().has_value(); }

std::optional<double> JsonValue::number() const {
  if (const double* real = std::get_if<double>(&value_)) return *real;
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*whole);
  if (const auto* whole = std::get_if<std::uint64_t>(&value_)) return static_cast<double>(*whole);
  return {};
}

std::optional<std::int64_t> JsonValue::whole() const {
  if (const auto* whole = std::get_if<std::int64_t>(&value_)) return *whole;
  const auto* natural = std::get_if<std::uint64_t>(&value_);
  if (natural == nullptr || *natural > INT64_MAX) return {};
  return static_cast<std::int64_t>(*natural);
}

std::optional<std::uint64_t> JsonValue::natural() const {
  if (const auto* natural = std::get_if<std::uint64_t>(&value_)) return *natural;
  const auto* whole = std::get_if<std::int64_t>(&value_);
  if (whole == nullptr || *whole < 0) return {};
  return static_cast<std::uint64_t>(*whole);
}

const JsonField* JsonValue::find_field(std::string_view name) const {
  const Fields* all = fields();
  if (all == nullptr) return nullptr;
  const auto& by_name = std::get<std::unique_ptr<Object, Deleted>>(value_)->by_name;
  if (by_name.size() == all->size()) {
    const auto at =
        std::lower_bound(by_name.begin(), by_name.end(), name,
                         [&](std::uint32_t i, std::string_view n) { return (*all)[i].name < n; });
    return at != by_name.end() && (*all)[*at].name == name ? &(*all)[*at] : nullptr;
  }
  for (const JsonField& field : *all) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

const JsonValue* JsonValue::find(std::string_view name) const {
  const JsonField* field = find_field(name);
  return field == nullptr ? nullptr : &field->value;
}

std::string json_path(const JsonValue& root, const JsonValue* wanted) {
  std::string path;
  find_path(root, wanted, path);
  return path;
}

std::string json_path(std::string path, std::string_view field) {
  if (!is_plain(field)) return path + "[" + JsonValue(field).shown() + "]";
  if (!path.empty()) path += '.';
  path += field;
  return path;
}

// ---- parsing ------------------------------------------------------------------------------------

// Builds the value as the parser goes over the text. The names of the member functions are
// nlohmann's.
class JsonBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit JsonBuilder(const std::string& file) : file_(file) {}

  JsonValue take() { return std::move(root_); }

  bool null() override { return add({}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return true; }  // JSON has none
  bool start_object(std::size_t) override { return open(JsonValue::object()); }
  bool start_array(std::size_t) override { return open(JsonValue::list()); }
  bool end_array() override { return open_.pop_back(), true; }
  bool key(string_t& name) override {
    open_.back()->own_object().fields.push_back({std::move(name), {}});
    return true;
  }
  bool end_object() override {
    index(*open_.back());
    open_.pop_back();
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception& error) override {
    const std::string what = json_mistake(error);
    const bool cut = what.find("unexpected end of input") != what.npos;
    throw FileError(
        fmt::format("{}: not valid JSON: {}{}", file_, what, cut ? "; was it cut short?" : ""));
  }

 private:
  // Where the next value goes. What is open is always the last of its list or object, so the
  // addresses of open_ stay.
  JsonValue& place() {
    if (open_.empty()) return root_;
    if (open_.back()->list_items() != nullptr) return open_.back()->own_list().emplace_back();
    return open_.back()->own_object().fields.back().value;
  }
  bool add(JsonValue value) {
    place() = std::move(value);
    return true;
  }
  bool open(JsonValue value) {
    JsonValue& at = place();
    at = std::move(value);
    open_.push_back(&at);
    return true;
  }

  // Refuses a name that is there twice, and makes a large object quick to search.
  void index(JsonValue& object) const {
    const JsonValue::Fields& fields = *object.fields();
    if (fields.size() <= kLarge) {
      for (std::size_t i = 0; i < fields.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
          if (fields[i].name == fields[j].name) refuse_twice(object, fields[i].name);
        }
      }
      return;
    }
    std::vector<std::uint32_t> order(fields.size());
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [&](std::uint32_t a, std::uint32_t b) { return fields[a].name < fields[b].name; });
    for (std::size_t i = 1; i < order.size(); ++i) {
      const std::string& name = fields[order[i]].name;
      if (fields[order[i - 1]].name == name) refuse_twice(object, name);
    }
    object.own_object().by_name = std::move(order);
  }
  [[noreturn]] void refuse_twice(const JsonValue& object, const std::string& name) const {
    const std::string path = json_path(root_, &object);
    throw FileError(fmt::format("{}: {}the key {} occurs twice in one object; keep one of them",
                                file_, path.empty() ? "" : path + ": ", JsonValue(name).shown()));
  }

  const std::string& file_;
  JsonValue root_;
  std::vector<JsonValue*> open_;
};

JsonValue JsonValue::parse(std::string_view text, const std::string& file) {
  const PlainJson plain(text, file);
  JsonBuilder builder(file);
  Json::sax_parse(plain.text().begin(), plain.text().end(), &builder);
  return builder.take();
}

// ---- writing ------------------------------------------------------------------------------------
void JsonValue::push_back(JsonValue item) { own_list().push_back(std::move(item)); }
JsonValue& JsonValue::operator[](std::size_t item) { return own_list()[item]; }
JsonValue& JsonValue::back() { return own_list().back(); }

void JsonValue::update(const JsonValue& object) {
  for (const JsonField& field : *object.fields()) (*this)[field.name] = field.value;
}

JsonValue& JsonValue::operator[](std::string_view name) {
  Object& own = own_object();
  if (const JsonValue* found = find(name)) return const_cast<JsonValue&>(*found);
  own.by_name.clear();
  return own.fields.emplace_back(JsonField{std::string(name), {}}).value;
}

JsonValue JsonValue::sorted() const {
  JsonValue copy = *this;
  if (copy.list_items() != nullptr) {
    for (JsonValue& item : copy.own_list()) item = item.sorted();
  }
  if (copy.fields() != nullptr) {
    Object& own = copy.own_object();
    for (JsonField& field : own.fields) field.value = field.value.sorted();
    std::sort(own.fields.begin(), own.fields.end(),
              [](const JsonField& a, const JsonField& b) { return a.name < b.name; });
    own.by_name.clear();
  }
  return copy;
}

void JsonValue::write(std::string& out, int indent, int depth) const {
  const auto new_line = [&](int at) {
    if (indent > 0) out += "\n" + std::string(static_cast<std::size_t>(at * indent), ' ');
  };
  const auto items = [&](char begin, char end, const auto& all, const auto& one) {
    out += begin;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i > 0) out += ',';
      new_line(depth + 1);
      one(all[i]);
    }
    if (!all.empty()) new_line(depth);
    out += end;
  };
  std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::monostate>) {
          out += "null";
        } else if constexpr (std::is_same_v<T, std::unique_ptr<List>>) {
          items('[', ']', *value, [&](const JsonValue& v) { v.write(out, indent, depth + 1); });
        } else if constexpr (std::is_same_v<T, std::unique_ptr<Object, Deleted>>) {
          items('{', '}', value->fields, [&](const JsonField& field) {
            out += spelled(field.name) + (indent > 0 ? ": " : ":");
            field.value.write(out, indent, depth + 1);
          });
        } else if constexpr (std::is_same_v<T, std::unique_ptr<std::string>>) {
          out += spelled(*value);
        } else {
          out += spelled(value);
        }
      },
      value_);
}

std::string JsonValue::line() const {
  std::string out;
  write(out, 0, 0);
  return out;
}

std::string JsonValue::indented() const {
  std::string out;
  write(out, 2, 0);
  return out + "\n";
}

std::string JsonValue::shown() const {
  constexpr std::size_t kMost = 60;
  const auto counted = [](std::string_view what, std::size_t n, std::string_view of) {
    return n == 0 ? fmt::format("an empty {}", what)
                  : fmt::format("{} {} of {} {}{}", what == "object" ? "an" : "a", what, n, of,
                                n == 1 ? "" : "s");
  };
  if (const List* items = list_items()) return counted("list", items->size(), "item");
  if (const Fields* all = fields()) return counted("object", all->size(), "field");
  const std::string* whole = text();
  if (whole == nullptr) return line();
  std::size_t end = std::min(whole->size(), kMost);  // between two characters
  while (end > 0 && end < whole->size() &&
         (static_cast<unsigned char>((*whole)[end]) & 0xc0) == 0x80)
    --end;
  std::string quoted;
  // nlohmann escapes all control characters but the last.
  for (const char c : spelled(whole->substr(0, end) + (end < whole->size() ? "..." : ""))) {
    if (c == 0x7f) quoted += "\\u007f";
    else quoted += c;
  }
  return quoted;
}

}  // namespace vitrine

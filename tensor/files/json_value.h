// A JSON value in plain C++: what a text is parsed into, and what is written as one.
//
//   JsonValue json = {{"step", 3}, {"place", {1, 2}}, {"top", JsonValue::list()}};
//   json["top"].push_back({{"pos", 4}, {"weight", 0.25}});
//   json.line();   // {"step": 3, "place": [1, 2], "top": [{"pos": 4, "weight": 0.25}]}
//
// A list in braces whose items are all pairs of a text and a value is an object, any other a list.
// nlohmann-json parses and spells texts and numbers, in json_value.cpp: its header takes seconds to
// compile and stays out of this one. Who reads the files of others does it through json_reader.h,
// which knows places.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace vitrine {

struct JsonField;

class JsonValue {
 public:
  using List = std::vector<JsonValue>;
  using Fields = std::vector<JsonField>;
  class Item;

  JsonValue() = default;  // null
  JsonValue(std::nullptr_t) {}
  template <std::integral T>  // true and false among them
  JsonValue(T value) {
    if constexpr (std::same_as<T, bool>) value_.emplace<bool>(value);
    else if constexpr (std::signed_integral<T>) value_.emplace<std::int64_t>(value);
    else value_.emplace<std::uint64_t>(value);
  }
  JsonValue(double value);  // NaN and the infinities are written as null
  JsonValue(std::string value);
  JsonValue(std::string_view value);
  JsonValue(const char* value);
  template <class T>
  JsonValue(const std::optional<T>& value) : JsonValue(value ? JsonValue(*value) : JsonValue()) {}
  template <class T>
  JsonValue(const std::vector<T>& items) : JsonValue(list({})) {
    for (const T& item : items) push_back(item);
  }
  JsonValue(std::initializer_list<Item> items);
  static JsonValue list(std::initializer_list<Item> items = {});
  static JsonValue object(std::initializer_list<JsonField> fields = {});

  JsonValue(const JsonValue&);
  JsonValue(JsonValue&& other) noexcept { value_.swap(other.value_); }
  JsonValue& operator=(JsonValue other) noexcept {
    value_.swap(other.value_);
    return *this;
  }
  ~JsonValue();

  // Parses a text in which no object has the same key twice, nor anything lies deeper than
  // kDeepestJson (json_text.h). Throws FileError with the place of the mistake; `file` names it.
  // Python's NaN and Infinity become texts, so that a number is refused by its name.
  static JsonValue parse(std::string_view text, const std::string& file);

  // ---- reading: null pointers where the value is of another type
  bool is_null() const;
  const bool* boolean() const;
  const std::string* text() const;
  const List* list_items() const;
  const Fields* fields() const;  // in the order of the text
  bool is_number() const;
  std::optional<double> number() const;          // of any number
  std::optional<std::int64_t> whole() const;     // written without point or exponent, and that fits
  std::optional<std::uint64_t> natural() const;  // the same, 0 or more
  const JsonField* find_field(std::string_view name) const;  // of an object
  const JsonValue* find(std::string_view name) const;        // its value

  // ---- writing
  void push_back(JsonValue item);                // to a list, or to null, which becomes one
  JsonValue& operator[](std::string_view name);  // of an object, or of null, which becomes one
  JsonValue& operator[](std::size_t item);       // of a list
  JsonValue& back();                             // of a list
  void update(const JsonValue& object);  // its fields, in the place of those of the same name
  JsonValue sorted() const;              // the fields of all objects by name

  // On one line; what is not UTF-8, as file names may be, becomes U+FFFD. Fields come in the order
  // they were put in.
  std::string line() const;
  std::string indented() const;  // the same over many lines, for files; ends in a newline
  // Short, for a message: a long text is cut, a list or object is counted.
  std::string shown() const;

 private:
  friend class JsonBuilder;
  struct Object;
  struct Deleted {
    void operator()(Object* object) const;
  };
  // Of two words, whatever it is: results hold many numbers.
  using Alternatives = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double,
                                    std::unique_ptr<std::string>, std::unique_ptr<List>,
                                    std::unique_ptr<Object, Deleted>>;
  void write(std::string& out, int indent, int depth) const;
  List& own_list();      // null becomes one
  Object& own_object();  // the same

  Alternatives value_;
};

// An item of a list in braces, which is moved and not copied.
class JsonValue::Item {
 public:
  template <class T>
  // An Item is copied as one: it is none of these types. NOLINTNEXTLINE(bugprone-forwarding-reference-overload)
  requires std::constructible_from<JsonValue, T> Item(T&& value) : value_(std::forward<T>(value)) {}
  Item(std::initializer_list<Item> items) : value_(items) {}

 private:
  friend class JsonValue;
  mutable JsonValue value_;
};

struct JsonField {
  std::string name;
  JsonValue value;
};

// The way from `root` to a value in it: edits[3].where.pos[0], weights["h.0.attn"]; "" for the root
// itself. It is looked for, which takes as long as the tree is large: messages alone need it.
std::string json_path(const JsonValue& root, const JsonValue* wanted);

// A path and one more field.
std::string json_path(std::string path, std::string_view field);

}  // namespace vitrine

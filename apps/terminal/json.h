// JSON that the program writes: what a verb found, for programs.
//
//   Json json = {{"layer", 2}, {"heads", heads}, {"top", Json::array()}};
//   json["top"].push_back({{"pos", 4}, {"weight", 0.25}});
//
// A list whose entries are all pairs of a text and a value is an object, any other a list. Fields
// come out in the order in which they were put in.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vitrine::app {

class Json {
 public:
  class Item;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool x);
  Json(double x);
  template <std::integral T>
  Json(T x) : Json(from(x)) {}
  Json(std::string text);
  Json(std::string_view text) : Json(std::string(text)) {}
  Json(const char* text) : Json(std::string(text)) {}
  template <class T>
  Json(const std::vector<T>& list) : Json(array()) {
    reserve(list.size());
    for (const auto& x : list) push_back(Json(x));
  }
  Json(std::initializer_list<Item> items);
  static Json array();
  static Json object();

  Json(const Json& other);
  Json(Json&& other) noexcept { swap(other); }
  Json& operator=(Json other) noexcept {
    swap(other);
    return *this;
  }
  ~Json();

  bool is_object() const { return kind_ == Kind::object; }
  bool is_array() const { return kind_ == Kind::array; }
  std::size_t size() const;  // of fields or entries

  // Null becomes a list, or an object.
  void push_back(Json entry);
  void reserve(std::size_t entries);
  Json& operator[](std::string_view field);  // a new one is null
  Json& operator[](std::size_t entry);
  Json& back();
  void update(const Json& object);  // its fields, in the place of those of the same name

  std::string to_line() const;  // without the end of the line
  // The fields of an object as a file's metadata: texts as they are, everything else as JSON.
  std::vector<std::pair<std::string, std::string>> as_texts() const;
  // The place of the first number that is NaN or infinite, as "top[2].weight"; "" when there is
  // none. `value` is that number.
  std::string first_not_finite(double& value) const;

 private:
  enum class Kind : std::uint8_t { null, boolean, integer, natural, real, text, array, object };
  using Entries = std::vector<Json>;
  using Fields = std::vector<std::pair<std::string, Json>>;

  template <std::integral T>
  static Json from(T x) {
    if constexpr (std::signed_integral<T>) return whole(static_cast<std::int64_t>(x));
    else return natural(static_cast<std::uint64_t>(x));
  }
  static Json whole(std::int64_t x);
  static Json natural(std::uint64_t x);
  void swap(Json& other) noexcept {
    std::swap(kind_, other.kind_);
    std::swap(as_, other.as_);
  }
  friend struct JsonWriter;

  Kind kind_ = Kind::null;
  union {
    bool boolean;
    std::int64_t integer;
    std::uint64_t natural;
    double real;
    std::string* text;
    Entries* entries;
    Fields* fields;
  } as_ = {};
};

// An entry of a list in braces, which is moved and not copied.
class Json::Item {
 public:
  template <class T>
  requires std::constructible_from<Json, T> Item(T&& x) : json_(std::forward<T>(x)) {}
  Item(std::initializer_list<Item> items) : json_(items) {}

 private:
  friend class Json;
  mutable Json json_;
};

}  // namespace vitrine::app

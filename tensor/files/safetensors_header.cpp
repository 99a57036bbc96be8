#include "tensor/files/safetensors_header.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "tensor/error.h"
#include "tensor/files/json_text.h"
#include "tensor/layout.h"

namespace vitrine::safetensors {
namespace {

constexpr std::string_view kMetadata = "__metadata__";

// Receives the header token by token. A tree would lose repeated keys, and could be made very deep;
// here every value that is not expected at its place ends the parse, so nothing nests deeper than
// the format does.
class Reader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Reader(const std::string& file) : file_(file) {}

  Header take() { return std::move(header_); }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override {
    unexpected(fmt::format("the number {}", text));
  }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (entry_.shape.size() == kMaxRank)
        fail_entry(fmt::format("has more than {} axes", kMaxRank));
      entry_.shape.push_back(value);
    } else if (place_ == Place::offsets) {
      offsets_.push_back(value);
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::entry && key_ == "dtype") {
      entry_.dtype = value;
    } else if (place_ == Place::metadata) {
      header_.metadata.emplace(key_, value);
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::header;
    } else if (place_ == Place::header) {
      place_ = name_ == kMetadata ? Place::metadata : Place::entry;
      entry_ = HeaderEntry{.name = name_};
      offsets_.clear();
      fields_.clear();
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool key(string_t& key) override {
    key_ = key;
    if (place_ == Place::header) {
      name_ = key;
      if (!names_.insert(key).second)
        fail(fmt::format("the header has the key {} twice", printable(key)));
    } else if (place_ == Place::metadata) {
      if (!fields_.insert(key).second)
        fail(fmt::format("__metadata__ has the key {} twice", printable(key)));
    } else {
      if (!fields_.insert(key).second)
        fail_entry(fmt::format("has the key {} twice", printable(key)));
      if (key != "dtype" && key != "shape" && key != "data_offsets") {
        fail_entry(
            fmt::format("has the key {}; expected dtype, shape and data_offsets", printable(key)));
      }
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::entry) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        if (!fields_.contains(field)) fail_entry(fmt::format("has no {}", field));
      }
      header_.entries.push_back(std::move(entry_));
    }
    place_ = place_ == Place::header ? Place::outside : Place::header;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::entry && key_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::entry && key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      unexpected("an array");
    }
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets) {
      if (offsets_.size() != 2) {
        fail_entry(fmt::format("has {} data_offsets; expected 2, begin and end", offsets_.size()));
      }
      entry_.begin = offsets_[0];
      entry_.end = offsets_[1];
    }
    place_ = Place::entry;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    fail(fmt::format("the header is not valid JSON near byte {} of it: {}", position,
                     printable(json_mistake_alone(error))));
  }

 private:
  enum class Place { outside, header, entry, shape, offsets, metadata };

  [[noreturn]] void fail(const std::string& what) const {
    throw FileError(fmt::format("'{}' is not a valid safetensors file: {}", file_, what));
  }
  [[noreturn]] void fail_entry(const std::string& what) const {
    fail(fmt::format("tensor {} {}", printable(name_), what));
  }

  // A value of a wrong type.
  [[noreturn]] void unexpected(const std::string& got) const {
    switch (place_) {
      case Place::outside:
        fail(fmt::format("the header must be a JSON object, not {}", got));
      case Place::header:
        if (name_ == kMetadata)
          fail(fmt::format("__metadata__ must be an object of strings, not {}", got));
        fail_entry(
            fmt::format("must be an object with dtype, shape and data_offsets, not {}", got));
      case Place::entry:
        fail_entry(fmt::format("needs {} for {}, not {}",
                               key_ == "dtype" ? "a string" : "an array of whole numbers", key_,
                               got));
      case Place::shape:
        fail_entry(fmt::format("has {} in its shape; expected whole numbers, 0 or more", got));
      case Place::offsets:
        fail_entry(
            fmt::format("has {} in its data_offsets; expected whole numbers, 0 or more", got));
      case Place::metadata:
        break;
    }
    fail(fmt::format("__metadata__ must map strings to strings, but {} is {}", printable(key_),
                     got));
  }

  const std::string& file_;
  Header header_;
  Place place_ = Place::outside;
  std::string name_, key_;  // the last key of the header, and of any object
  HeaderEntry entry_;
  std::vector<std::uint64_t> offsets_;
  std::set<std::string, std::less<>> names_,
      fields_;  // keys so far: of the header, and of the object inside it
};

}  // namespace

Header parse_header(std::string_view json, const std::string& file) {
  // The JSON library takes a zero byte for the end and skips a byte order mark; the format allows
  // neither.
  if (json.empty() || json.front() != '{') {
    throw FileError(
        fmt::format("'{}' is not a valid safetensors file: its header must begin with '{{'", file));
  }
  if (const std::size_t zero = json.find('\0'); zero != std::string_view::npos) {
    throw FileError(fmt::format(
        "'{}' is not a valid safetensors file: its header has a zero at byte {}", file, zero));
  }
  Reader reader(file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

}  // namespace vitrine::safetensors

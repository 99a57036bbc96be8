#include "tensor/files/saved_json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace vitrine::nn {
namespace {

// What was found, for a message: long values are cut.
std::string shown(const Json& value) {
  constexpr std::size_t kMost = 60;
  if (value.is_object() || value.is_array())
    return fmt::format("{} of {} items", value.is_object() ? "an object" : "a list", value.size());
  std::string text = json_line(value);
  if (text.size() <= kMost) return text;
  text.resize(kMost);
  return json_line(text + "...");  // whole characters alone
}

}  // namespace

SavedJson::SavedJson(Json json, std::string where, std::string what, std::string advice)
    : root_(std::make_shared<const Json>(std::move(json))),
      value_(root_.get()),
      where_(std::move(where)),
      what_(std::move(what)),
      advice_(std::move(advice)) {
  if (!value_->is_object()) fail(fmt::format("it is {}; it must be an object", shown(*value_)));
}

SavedJson::SavedJson(const SavedJson& parent, const Json* value, std::string inside,
                     std::string name)
    : root_(parent.root_),
      value_(value),
      where_(parent.where_),
      what_(parent.what_),
      advice_(parent.advice_),
      inside_(std::move(inside)),
      name_(std::move(name)) {}

std::string SavedJson::path() const {
  if (inside_.empty() || name_.empty() || name_[0] == '[') return inside_ + name_;
  return inside_ + "." + name_;
}

void SavedJson::fail(const std::string& mistake) const {
  throw CheckpointError(
      fmt::format("{}: {} cannot be read: {}{}", where_, what_, mistake, advice_));
}

void SavedJson::reject(const std::string& expected) const {
  const bool item = !name_.empty() && name_[0] == '[';
  const std::string field =
      item ? fmt::format("'{}'", path())
           : fmt::format("'{}'{}", name_, inside_.empty() ? "" : " in " + inside_);
  fail(
      fmt::format("{} is {}; {}", field, value_ == nullptr ? "missing" : shown(*value_), expected));
}

SavedJson SavedJson::at(std::string_view key) const {
  if (value_ == nullptr || !value_->is_object()) reject("it must be an object");
  const auto found = value_->find(key);
  return {*this, found == value_->end() ? nullptr : &*found, path(), std::string(key)};
}

bool SavedJson::has(std::string_view key) const {
  if (value_ == nullptr || !value_->is_object()) reject("it must be an object");
  const auto found = value_->find(key);
  return found != value_->end() && !found->is_null();
}

void SavedJson::only(std::initializer_list<std::string_view> fields) const {
  if (value_ == nullptr || !value_->is_object()) reject("it must be an object");
  for (const auto& [name, value] : value_->items()) {
    if (std::find(fields.begin(), fields.end(), name) != fields.end()) continue;
    fail(fmt::format("'{}'{} is not known; was the run begun by a later version?", name,
                     path().empty() ? "" : " in " + path()));
  }
}

std::vector<SavedJson> SavedJson::list(std::int64_t size) const {
  if (value_ == nullptr || !value_->is_array() || (size >= 0 && std::ssize(*value_) != size)) {
    reject(size < 0 ? "it must be a list" : fmt::format("it must be a list of {} items", size));
  }
  std::vector<SavedJson> items;
  for (std::size_t i = 0; i < value_->size(); ++i)
    items.push_back({*this, &(*value_)[i], path(), fmt::format("[{}]", i)});
  return items;
}

std::string SavedJson::text() const {
  if (value_ == nullptr || !value_->is_string()) reject("it must be a text");
  return value_->get<std::string>();
}

bool SavedJson::flag() const {
  if (value_ == nullptr || !value_->is_boolean()) reject("it must be true or false");
  return value_->get<bool>();
}

double SavedJson::number(double least, double most) const {
  const double number =
      value_ != nullptr && value_->is_number() ? value_->get<double>() : std::nan("");
  if (std::isfinite(number) && number >= least && number <= most) return number;
  if (least == -kAny) reject("it must be a number");
  reject(most == kAny ? fmt::format("it must be a number, {:g} or more", least)
                      : fmt::format("it must be a number from {:g} to {:g}", least, most));
}

std::int64_t SavedJson::whole(std::int64_t least, std::int64_t most) const {
  const auto expected = [&] {
    if (least == INT64_MIN) return std::string("it must be a whole number");
    if (most == INT64_MAX) return fmt::format("it must be a whole number, {} or more", least);
    return fmt::format("it must be a whole number from {} to {}", least, most);
  };
  if (value_ == nullptr || !value_->is_number_integer()) reject(expected());
  if (value_->is_number_unsigned() && value_->get<std::uint64_t>() > INT64_MAX) reject(expected());
  const auto number = value_->get<std::int64_t>();
  if (number < least || number > most) reject(expected());
  return number;
}

std::uint64_t SavedJson::seed() const {
  if (value_ == nullptr || !value_->is_number_unsigned())
    reject("it must be a whole number, 0 or more");
  return value_->get<std::uint64_t>();
}

std::size_t SavedJson::one_of(std::span<const std::string_view> names) const {
  const std::string found = text();
  const auto at = std::find(names.begin(), names.end(), found);
  if (at == names.end()) {
    fail(fmt::format("it has the {} '{}'; there are {}", name_, found, fmt::join(names, ", ")));
  }
  return static_cast<std::size_t>(at - names.begin());
}

std::string SavedJson::object() const {
  if (value_ == nullptr || !value_->is_object()) reject("it must be an object");
  return json_line(*value_);
}

}  // namespace vitrine::nn

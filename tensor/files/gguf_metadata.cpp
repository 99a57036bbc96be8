#include "tensor/files/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/error.h"
#include "tensor/files/byte_reader.h"
#include "tensor/files/json_text.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine {
namespace {

constexpr std::uint64_t kLeastKey = 8 + 1 + 4 + 1;  // length, one letter, type, the shortest value
constexpr std::uint64_t kLongestKey = 65535;        // the format's limit
constexpr int kDeepestList = 8;

// Bytes of a value; 0 for those that say their length themselves.
std::uint64_t size_of_type(GgufType type) {
  switch (type) {
    case GgufType::uint8:
    case GgufType::int8:
    case GgufType::boolean:
      return 1;
    case GgufType::uint16:
    case GgufType::int16:
      return 2;
    case GgufType::uint32:
    case GgufType::int32:
    case GgufType::float32:
      return 4;
    case GgufType::uint64:
    case GgufType::int64:
    case GgufType::float64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      break;
  }
  return 0;
}

std::string_view name_of_type(GgufType type) {
  constexpr std::string_view kNames[] = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                         "int32",  "float32", "bool",   "string", "list",
                                         "uint64", "int64",   "float64"};
  return kNames[static_cast<std::size_t>(type)];
}

GgufType read_type(ByteReader& in, const std::string& key) {
  const auto number = in.number<std::uint32_t>("the type of a value");
  if (number > static_cast<std::uint32_t>(GgufType::float64)) {
    in.fail(fmt::format("the key {} has a value of type {}; the format has types 0 to {}",
                        printable(key), number, static_cast<int>(GgufType::float64)));
  }
  return static_cast<GgufType>(number);
}

// Passes over `count` values in a row. Lists of lists are passed over too; nobody reads them.
void skip_values(ByteReader& in, GgufType type, std::uint64_t count, const std::string& key,
                 int depth) {
  const std::uint64_t least = type == GgufType::string  ? 8
                              : type == GgufType::array ? 12
                                                        : size_of_type(type);
  if (count > in.left() / least) {
    in.fail(
        fmt::format("the key {} has a list of {} values of type {}, but only {} bytes follow; it "
                    "may be truncated: fetch it again",
                    printable(key), count, name_of_type(type), in.left()));
  }
  if (type == GgufType::boolean) {
    for (const std::byte b : in.take(count, "a list")) {
      if (b > std::byte{1})
        in.fail(fmt::format("the key {} has the byte {} for a bool; expected 0 or 1",
                            printable(key), std::to_integer<int>(b)));
    }
  } else if (size_of_type(type) > 0) {
    in.take(count * size_of_type(type), "a list");
  } else {
    for (std::uint64_t i = 0; i < count; ++i) {
      if (type == GgufType::string) {
        in.take(in.number<std::uint64_t>("the length of a text"), "a text");
        continue;
      }
      if (depth == kDeepestList)
        in.fail(fmt::format("the key {} has lists that are nested more than {} deep",
                            printable(key), kDeepestList));
      const GgufType inner = read_type(in, key);
      skip_values(in, inner, in.number<std::uint64_t>("the length of a list"), key, depth + 1);
    }
  }
}

template <class T>
T number_at(std::span<const std::byte> bytes, std::uint64_t i) {
  T out;
  std::memcpy(&out, bytes.data() + i * sizeof(T), sizeof(T));
  return out;
}

bool is_integer(GgufType t) {
  return size_of_type(t) > 0 && t != GgufType::boolean && t != GgufType::float32 &&
         t != GgufType::float64;
}
bool is_number(GgufType t) {
  return is_integer(t) || t == GgufType::float32 || t == GgufType::float64;
}

}  // namespace

GgufMetadata::Entry GgufMetadata::read_value(ByteReader& in, const std::string& key) {
  Entry entry{read_type(in, key), false, 1, {}};
  if (entry.type == GgufType::array) {
    entry.list = true;
    entry.type = read_type(in, key);
    entry.count = in.number<std::uint64_t>("the length of a list");
  }
  ByteReader start = in;
  skip_values(in, entry.type, entry.count, key, 0);
  entry.bytes = start.take(in.at() - start.at(), "a value");
  if (!entry.list && entry.type == GgufType::string) entry.bytes = entry.bytes.subspan(8);
  return entry;
}

void GgufMetadata::read(ByteReader& in, std::uint64_t count, const std::string& file,
                        std::shared_ptr<const void> owner) {
  file_ = file;
  owner_ = std::move(owner);
  if (count > in.left() / kLeastKey) {
    in.fail(
        fmt::format("its header claims {} keys of metadata, but only {} bytes follow; it may be "
                    "truncated: fetch it again",
                    count, in.left()));
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto length = in.number<std::uint64_t>("the length of a key");
    if (length == 0 || length > kLongestKey)
      in.fail(fmt::format("key {} of the metadata would have {} bytes; expected 1 to {}", i, length,
                          kLongestKey));
    const std::string key(in.text(length, "a key"));
    if (nn::replace_invalid_utf8(key) != key)
      in.fail(fmt::format("the key {} is not valid UTF-8", printable(key)));
    const Entry entry = read_value(in, key);
    if (!entries_.emplace(key, entry).second)
      in.fail(fmt::format("the key {} is there twice", printable(key)));
    keys_.push_back(key);
  }
}

std::string GgufMetadata::describe(std::string_view key) const {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return "nothing";
  const Entry& e = found->second;
  if (e.list) return fmt::format("a list of {} of type {}", e.count, name_of_type(e.type));
  if (e.type == GgufType::string)
    return fmt::format("string {}",
                       printable({reinterpret_cast<const char*>(e.bytes.data()), e.bytes.size()}));
  if (e.type == GgufType::boolean) return fmt::format("bool {}", e.bytes[0] == std::byte{1});
  if (e.type == GgufType::float32) return fmt::format("float32 {}", number_at<float>(e.bytes, 0));
  if (e.type == GgufType::float64) return fmt::format("float64 {}", number_at<double>(e.bytes, 0));
  if (e.type == GgufType::uint64)
    return fmt::format("uint64 {}", number_at<std::uint64_t>(e.bytes, 0));
  return fmt::format("{} {}", name_of_type(e.type), integer_at(e, 0, key));
}

void GgufMetadata::reject(std::string_view key, std::string_view expected) const {
  if (has(key)) {
    throw FileError(fmt::format("'{}': the key {} should be {}, and is {}", file_, printable(key),
                                expected, describe(key)));
  }
  std::vector<std::string> near = nearest(key, keys_);
  for (std::string& other : near) other = printable(other);
  throw FileError(fmt::format("'{}': there is no key {}{}; expected {}", file_, printable(key),
                              did_you_mean(near), expected));
}

const GgufMetadata::Entry& GgufMetadata::find(std::string_view key,
                                              std::string_view expected) const {
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.list) reject(key, expected);
  return found->second;
}
const GgufMetadata::Entry& GgufMetadata::find_list(std::string_view key,
                                                   std::string_view expected) const {
  const auto found = entries_.find(key);
  if (found == entries_.end() || !found->second.list) reject(key, expected);
  return found->second;
}

std::int64_t GgufMetadata::integer_at(const Entry& e, std::uint64_t i, std::string_view key) const {
  switch (e.type) {
    case GgufType::uint8:
      return number_at<std::uint8_t>(e.bytes, i);
    case GgufType::int8:
      return number_at<std::int8_t>(e.bytes, i);
    case GgufType::uint16:
      return number_at<std::uint16_t>(e.bytes, i);
    case GgufType::int16:
      return number_at<std::int16_t>(e.bytes, i);
    case GgufType::uint32:
      return number_at<std::uint32_t>(e.bytes, i);
    case GgufType::int32:
      return number_at<std::int32_t>(e.bytes, i);
    case GgufType::int64:
      return number_at<std::int64_t>(e.bytes, i);
    default:
      break;
  }
  const auto wide = number_at<std::uint64_t>(e.bytes, i);
  if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    reject(key, "an integer below 2^63");
  return static_cast<std::int64_t>(wide);
}

double GgufMetadata::real_at(const Entry& e, std::uint64_t i, std::string_view key) const {
  const double x = e.type == GgufType::float32   ? static_cast<double>(number_at<float>(e.bytes, i))
                   : e.type == GgufType::float64 ? number_at<double>(e.bytes, i)
                                                 : static_cast<double>(integer_at(e, i, key));
  if (!std::isfinite(x)) reject(key, "finite");
  return x;
}

bool GgufMetadata::is_list(std::string_view key) const {
  const auto found = entries_.find(key);
  return found != entries_.end() && found->second.list;
}

std::int64_t GgufMetadata::integer(std::string_view key) const {
  const Entry& e = find(key, "an integer");
  if (!is_integer(e.type)) reject(key, "an integer");
  return integer_at(e, 0, key);
}
double GgufMetadata::real(std::string_view key) const {
  const Entry& e = find(key, "a number");
  if (!is_number(e.type)) reject(key, "a number");
  return real_at(e, 0, key);
}
bool GgufMetadata::boolean(std::string_view key) const {
  const Entry& e = find(key, "a bool");
  if (e.type != GgufType::boolean) reject(key, "a bool");
  return e.bytes[0] == std::byte{1};
}
std::string_view GgufMetadata::text(std::string_view key) const {
  const Entry& e = find(key, "a string");
  if (e.type != GgufType::string) reject(key, "a string");
  return {reinterpret_cast<const char*>(e.bytes.data()), e.bytes.size()};
}

std::int64_t GgufMetadata::integer(std::string_view key, std::int64_t fallback) const {
  return has(key) ? integer(key) : fallback;
}
double GgufMetadata::real(std::string_view key, double fallback) const {
  return has(key) ? real(key) : fallback;
}
bool GgufMetadata::boolean(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}
std::string_view GgufMetadata::text(std::string_view key, std::string_view fallback) const {
  return has(key) ? text(key) : fallback;
}

std::vector<std::int64_t> GgufMetadata::integers(std::string_view key) const {
  const Entry& e = find_list(key, "a list of integers");
  if (!is_integer(e.type)) reject(key, "a list of integers");
  std::vector<std::int64_t> out;
  for (std::uint64_t i = 0; i < e.count; ++i) out.push_back(integer_at(e, i, key));
  return out;
}
std::vector<double> GgufMetadata::reals(std::string_view key) const {
  const Entry& e = find_list(key, "a list of numbers");
  if (!is_number(e.type)) reject(key, "a list of numbers");
  std::vector<double> out;
  for (std::uint64_t i = 0; i < e.count; ++i) out.push_back(real_at(e, i, key));
  return out;
}
std::vector<bool> GgufMetadata::booleans(std::string_view key) const {
  const Entry& e = find_list(key, "a list of bools");
  if (e.type != GgufType::boolean) reject(key, "a list of bools");
  std::vector<bool> out;
  for (const std::byte b : e.bytes) out.push_back(b == std::byte{1});
  return out;
}
std::vector<std::string_view> GgufMetadata::texts(std::string_view key) const {
  const Entry& e = find_list(key, "a list of strings");
  if (e.type != GgufType::string) reject(key, "a list of strings");
  std::vector<std::string_view> out;
  ByteReader in(e.bytes, file_, "GGUF file");
  for (std::uint64_t i = 0; i < e.count; ++i)
    out.push_back(in.text(in.number<std::uint64_t>("the length of a text"), "a text"));
  return out;
}

}  // namespace vitrine

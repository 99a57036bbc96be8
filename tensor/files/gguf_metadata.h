// The metadata of a GGUF file: keys with values of a dozen types, and lists of these.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

class ByteReader;

// The format's numbers for its types.
enum class GgufType : std::uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  uint64 = 10,
  int64 = 11,
  float64 = 12
};

// Getters throw FileError, naming the file and the key, what was expected and what was found: a key
// that is absent (unless a fallback is given), a value of another type, a number out of range.
// Texts are the file's own bytes, which need not be UTF-8; they live as long as the file is mapped.
class GgufMetadata {
 public:
  const std::vector<std::string>& keys() const { return keys_; }  // in the order of the file
  bool has(std::string_view key) const { return entries_.find(key) != entries_.end(); }
  bool is_list(std::string_view key) const;
  // "uint32 4", "string 'llama'", "a list of 384 strings": for messages and listings.
  std::string describe(std::string_view key) const;

  std::int64_t integer(std::string_view key) const;  // of any integer type
  double real(std::string_view key) const;           // any number, finite
  bool boolean(std::string_view key) const;
  std::string_view text(std::string_view key) const;
  std::int64_t integer(std::string_view key, std::int64_t fallback) const;
  double real(std::string_view key, double fallback) const;
  bool boolean(std::string_view key, bool fallback) const;
  std::string_view text(std::string_view key, std::string_view fallback) const;

  // Lists; none of these takes a single value for a list of one.
  std::vector<std::int64_t> integers(std::string_view key) const;
  std::vector<double> reals(std::string_view key) const;
  std::vector<bool> booleans(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;

 private:
  friend class Gguf;
  struct Entry {
    GgufType type;  // of a list: of its elements
    bool list;
    std::uint64_t count;
    std::span<const std::byte> bytes;  // of a list of texts, with their lengths
  };
  // Reads `count` keys and checks that their values lie in the file.
  void read(ByteReader& in, std::uint64_t count, const std::string& file,
            std::shared_ptr<const void> owner);
  static Entry read_value(ByteReader& in, const std::string& key);
  const Entry& find(std::string_view key, std::string_view expected) const;
  const Entry& find_list(std::string_view key, std::string_view expected) const;
  [[noreturn]] void reject(std::string_view key, std::string_view expected) const;
  std::int64_t integer_at(const Entry& entry, std::uint64_t i, std::string_view key) const;
  double real_at(const Entry& entry, std::uint64_t i, std::string_view key) const;

  std::string file_;
  std::shared_ptr<const void> owner_;
  std::vector<std::string> keys_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace vitrine

// Files as accidents and strangers make them: cut short, bytes changed, pieces lost, said twice or
// moved, numbers that are out of all proportion. The same seed gives the same file.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace vitrine::test {

enum class Format {
  bytes,  // anything
  text,   // JSON and the like: also numbers, words and brackets are changed
  safetensors,  // the header is text whose stated length may be kept right, so that what is behind it is read
};

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  // `file` with one to four changes.
  std::string operator()(std::string file, Format format);

 private:
  std::size_t below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random_() % n); }
  void change_bytes(std::string& file);
  void change_text(std::string& text);
  void change_safetensors(std::string& file);
  std::mt19937_64 random_;
};

}  // namespace vitrine::test

#include "tests/mutated/mutate.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <vector>

namespace vitrine::test {
namespace {

// What stands in a number's place.
constexpr std::array kNumbers = {"0",
                                 "-1",
                                 "1",
                                 "2",
                                 "3",
                                 "255",
                                 "65536",
                                 "2147483647",
                                 "2147483648",
                                 "4294967296",
                                 "1073741824",
                                 "-0.0",
                                 "1e308",
                                 "1e999",
                                 "1e-9",
                                 "NaN",
                                 "Infinity",
                                 "-Infinity",
                                 "null",
                                 "\"x\"",
                                 "[]",
                                 "{}",
                                 "[1, 2, 3]",
                                 "true",
                                 "0.5",
                                 "1e18",
                                 "9223372036854775807",
                                 "18446744073709551616"};

bool of_number(char c) {
  return std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '+' ||
         c == 'e';
}

struct Range {
  std::size_t begin, end;
};

// Numbers, and the words between quotes with their quotes.
std::vector<Range> pieces(const std::string& text) {
  std::vector<Range> found;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    if (text[i] == '"') {
      end = text.find('"', i + 1);
      if (end == std::string::npos) break;
      ++end;
    } else if (std::isdigit(static_cast<unsigned char>(text[i])) != 0 || text[i] == '-') {
      while (end < text.size() && of_number(text[end])) ++end;
    }
    if (end > i) found.push_back({i, end});
    i = std::max(end, i + 1);
  }
  return found;
}

}  // namespace

std::string Mutator::operator()(std::string file, Format format) {
  for (std::size_t n = 1 + below(4); n > 0; --n) {
    switch (format) {
      case Format::bytes:
        change_bytes(file);
        break;
      case Format::text:
        below(4) == 0 ? change_bytes(file) : change_text(file);
        break;
      case Format::safetensors:
        below(4) == 0 ? change_bytes(file) : change_safetensors(file);
        break;
    }
  }
  return file;
}

void Mutator::change_bytes(std::string& file) {
  if (file.empty()) return;
  const std::size_t at = below(file.size()),
                    length = 1 + below(std::min<std::size_t>(64, file.size() - at));
  switch (below(7)) {
    case 0:
      file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
      break;
    case 1:
      file[at] = static_cast<char>(below(256));
      break;
    case 2:
      file.resize(at);
      break;
    case 3:
      file.erase(at, length);
      break;
    case 4:
      file.insert(below(file.size()), file.substr(at, length));
      break;
    case 5:
      std::fill_n(file.begin() + static_cast<std::ptrdiff_t>(at), length,
                  "\0\xff\x7f\x80"[below(4)]);
      break;
    default:
      file.append(file.substr(at, length));
      break;
  }
}

void Mutator::change_text(std::string& text) {
  const std::vector<Range> found = pieces(text);
  if (found.empty()) return change_bytes(text);
  const Range a = found[below(found.size())], b = found[below(found.size())];
  const std::string other = text.substr(b.begin, b.end - b.begin);
  switch (below(4)) {
    case 0:
    case 1:
      text.replace(a.begin, a.end - a.begin, kNumbers[below(kNumbers.size())]);
      break;
    case 2:
      text.replace(a.begin, a.end - a.begin, other);
      break;
    default: {  // brackets, commas, and what lies between two pieces
      const std::size_t begin = std::min(a.begin, b.begin),
                        end = std::min(std::max(a.end, b.end), begin + 200);
      if (below(2) == 0) text.erase(begin, end - begin);
      else text.insert(begin, text.substr(begin, end - begin) + ", ");
    }
  }
}

void Mutator::change_safetensors(std::string& file) {
  std::uint64_t length = 0;
  if (file.size() < sizeof length) return change_bytes(file);
  std::memcpy(&length, file.data(), sizeof length);
  if (length > file.size() - sizeof length) return change_bytes(file);
  std::string header = file.substr(sizeof length, length);
  change_text(header);
  length = header.size();
  std::string with_length(sizeof length, '\0');
  std::memcpy(with_length.data(), &length, sizeof length);
  std::uint64_t before = 0;
  std::memcpy(&before, file.data(), sizeof before);
  file = with_length + header + file.substr(sizeof before + before);
}

}  // namespace vitrine::test

#include "nn/tokenizer/byte_spelling.h"

#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr int kCharacters = 256 + 68;

constexpr std::array<char32_t, 256> make_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 256;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    characters[byte] = prints ? byte : next++;
  }
  return characters;
}
constexpr auto kCharacterOfByte = make_characters();

constexpr std::array<int, kCharacters> make_bytes() {
  std::array<int, kCharacters> bytes{};
  for (int& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kCharacterOfByte[byte]] = byte;
  return bytes;
}
constexpr auto kByteOfCharacter = make_bytes();

}  // namespace

int byte_of_character(char32_t character) {
  return character < kCharacters ? kByteOfCharacter[character] : -1;
}

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  for (std::size_t i = 0; i < spelling.size();) {
    const Character c = read_character(spelling, i);
    const int byte = byte_of_character(c.code_point);
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    i += c.length;
  }
  return bytes;
}

std::string spell_bytes(std::string_view bytes) {
  std::string spelling;
  for (const char byte : bytes) {
    append_utf8(spelling, kCharacterOfByte[static_cast<unsigned char>(byte)]);
  }
  return spelling;
}

std::array<char, 256> bytes_in_order_of_spelling() {
  std::array<char, 256> bytes{};
  int count = 0;
  for (const int byte : kByteOfCharacter) {
    if (byte >= 0) bytes[count++] = static_cast<char>(byte);
  }
  return bytes;
}

}  // namespace vitrine::nn

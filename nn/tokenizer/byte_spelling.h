// GPT-2's byte-to-unicode mapping: its files spell each byte as one printable character, so that
// tokens can stand in JSON.
//
// The 188 bytes that print as Latin-1 stand for themselves, the other 68 are U+0100, U+0101, ... in
// order: "Ġ", U+0120, is the space (Radford et al. 2019, bytes_to_unicode of the released code).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace vitrine::nn {

// The byte that a character stands for, or -1.
int byte_of_character(char32_t character);

// The bytes of a whole spelling; none when a character of it stands for no byte.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

// Any bytes as a file spells them. Valid UTF-8.
std::string spell_bytes(std::string_view bytes);

// All bytes in the order of their characters: '!', '"', ... That of the ids in GPT-2's vocabulary.
std::array<char, 256> bytes_in_order_of_spelling();

}  // namespace vitrine::nn

#include "tensor/files/utf8.h"

#include <fmt/format.h>

namespace vitrine::nn {

Character read_character(std::string_view text, std::size_t position) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};

  // How many bytes follow, and which values the first of them may take: the narrower bounds keep
  // out over-long forms, surrogates and everything above U+10FFFF (Unicode standard, table 3-7).
  std::size_t following = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    following = 1;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    following = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    following = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {0xFFFD, 1, false};
  }

  // 110xxxxx carries 5 bits, 1110xxxx 4, 11110xxx 3; each byte that follows carries 6.
  char32_t code_point = lead & (0x3F >> following);
  for (std::size_t i = 1; i <= following; ++i) {
    if (position + i >= text.size() || byte(i) < low || byte(i) > high) return {0xFFFD, i, false};
    code_point = code_point << 6 | (byte(i) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {code_point, following + 1, true};
}

void append_utf8(std::string& out, char32_t c) {
  const auto push = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xC0 | c >> 6);
    push(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    push(0xE0 | c >> 12);
    push(0x80 | (c >> 6 & 0x3F));
    push(0x80 | (c & 0x3F));
  } else {
    push(0xF0 | c >> 18);
    push(0x80 | (c >> 12 & 0x3F));
    push(0x80 | (c >> 6 & 0x3F));
    push(0x80 | (c & 0x3F));
  }
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    const Character c = read_character(bytes, i);
    if (c.valid) {
      out.append(bytes.substr(i, c.length));
    } else {
      append_utf8(out, 0xFFFD);
    }
    i += c.length;
  }
  return out;
}

namespace {

// A character as people can see it: control characters and invalid bytes escaped.
void append_visible(std::string& out, const Character& c, std::string_view raw) {
  if (raw == "\n") {
    out += "\\n";
  } else if (raw == "\t") {
    out += "\\t";
  } else if (raw == "\r") {
    out += "\\r";
  } else if (!c.valid || c.code_point < 0x20 || (c.code_point >= 0x7F && c.code_point < 0xA0)) {
    for (const char byte : raw) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  } else {
    out += raw;
  }
}

}  // namespace

std::string visible(std::string_view bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes.size();) {
    const Character c = read_character(bytes, i);
    append_visible(out, c, bytes.substr(i, c.length));
    i += c.length;
  }
  return out;
}

std::string quote(std::string_view bytes) {
  constexpr std::size_t kLongest = 80;
  std::string out = "\"";
  std::size_t i = 0;
  while (i < bytes.size() && i < kLongest) {
    const Character c = read_character(bytes, i);
    const std::string_view raw = bytes.substr(i, c.length);
    if (raw == "\"" || raw == "\\") out += '\\';
    append_visible(out, c, raw);
    i += c.length;
  }
  out += '"';
  if (i < bytes.size()) out += fmt::format("... ({} bytes)", bytes.size());
  return out;
}

}  // namespace vitrine::nn

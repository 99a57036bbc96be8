#include "apps/terminal/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

// Marks that stand on the character before, and joiners.
bool takes_no_column(char32_t c) {
  return (c >= 0x300 && c <= 0x36F) || (c >= 0x200B && c <= 0x200F) || (c >= 0xFE00 && c <= 0xFE0F);
}

// The blocks that Unicode's East Asian Width (UAX 11) calls wide, and the emoji.
bool takes_two_columns(char32_t c) {
  return (c >= 0x1100 && c <= 0x115F) || (c >= 0x2E80 && c <= 0xA4CF && c != 0x303F) ||
         (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0xFE30 && c <= 0xFE6F) || (c >= 0xFF00 && c <= 0xFF60) ||
         (c >= 0xFFE0 && c <= 0xFFE6) || (c >= 0x1F300 && c <= 0x1F64F) ||
         (c >= 0x1F680 && c <= 0x1F6FF) || (c >= 0x1F900 && c <= 0x1F9FF) ||
         (c >= 0x20000 && c <= 0x3FFFD);
}

std::string spaces(int n) { return std::string(static_cast<std::size_t>(std::max(0, n)), ' '); }

}  // namespace

std::string Style::wrap(const char* code, std::string_view text) const {
  return colour && !text.empty() ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

std::string Style::heat(double fraction, std::string_view text) const {
  // Letters alone, then grounds from dull to full. Pale grounds would be the brightest of all on a
  // dark terminal; these stand out by their colour on dark and light ones.
  static constexpr const char* kRed[] = {"38;5;167", "38;5;16;48;5;174", "38;5;16;48;5;167",
                                         "38;5;231;48;5;160", "38;5;16;48;5;196"};
  static constexpr const char* kBlue[] = {"38;5;68", "38;5;16;48;5;110", "38;5;16;48;5;68",
                                          "38;5;231;48;5;27", "38;5;231;48;5;21"};
  constexpr double kNone = 0.02;  // less than this is no colour
  if (!(std::abs(fraction) >= kNone)) return std::string(text);
  const int step = std::min(4, static_cast<int>(std::abs(fraction) * 5));
  return wrap(fraction > 0 ? kRed[step] : kBlue[step], text);
}

int display_width(std::string_view text) {
  int width = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with("\x1b[")) {
      i = std::min(text.find('m', i), text.size() - 1) + 1;
      continue;
    }
    const nn::Character c = nn::read_character(text, i);
    width += takes_no_column(c.code_point) ? 0 : takes_two_columns(c.code_point) ? 2 : 1;
    i += c.length;
  }
  return width;
}

std::string shortened(std::string_view text, int columns) {
  if (display_width(text) <= columns) return std::string(text);
  std::string kept;
  bool coloured = false;
  for (std::size_t at = 0, width = 0; at < text.size();) {
    if (text.substr(at).starts_with("\x1b[")) {
      const std::size_t end = std::min(text.find('m', at), text.size() - 1) + 1;
      kept += text.substr(at, end - at);
      coloured = true;
      at = end;
      continue;
    }
    const std::size_t length = nn::read_character(text, at).length;
    width += static_cast<std::size_t>(display_width(text.substr(at, length)));
    if (static_cast<int>(width) > columns - 1) break;
    kept += text.substr(at, length);
    at += length;
  }
  return kept + "…" + (coloured ? "\x1b[0m" : "");
}

std::string with_option_names(std::string message) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kNames = {{
      {"Special::as_tokens", "--special"},
      {"say which comes first with then()",
       "say which comes later, --edit 'then ACTION SITE ...' after the other"},
  }};
  for (const auto& [name, option] : kNames) {
    for (std::size_t at = 0; (at = message.find(name, at)) != std::string::npos;)
      message.replace(at, name.size(), option);
  }
  return message;
}

std::string token_label(const nn::Tokenizer* tokenizer, int id) {
  if (tokenizer == nullptr) return fmt::format("{}", id);
  return tokenizer->has_token(id) ? nn::quote(tokenizer->token_bytes(id)) : tokenizer->shown(id);
}

std::vector<int> Table::widths(int most) const {
  constexpr int kShortest = 12;  // of a text
  std::vector<int> width;
  int total = 0;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    width.push_back(display_width(columns_[c].title));
    for (const auto& row : rows_) width[c] = std::max(width[c], display_width(row.at(c)));
    total += width[c] + (c > 0 ? 2 : 0);
  }
  while (most > 0 && total > most) {  // the widest text gives way, down to the next one
    std::size_t widest = columns_.size();
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const int least = std::max(kShortest, display_width(columns_[c].title));
      if (columns_[c].align == Align::left && width[c] > least &&
          (widest == columns_.size() || width[c] > width[widest]))
        widest = c;
    }
    if (widest == columns_.size()) break;
    --width[widest];
    --total;
  }
  return width;
}

std::string Table::block(const std::vector<std::size_t>& shown, const std::vector<int>& width,
                         const Style& style) const {
  const auto line = [&](const auto& cell_of) {
    std::string text;
    for (const std::size_t c : shown) {
      const std::string cell = shortened(cell_of(c), width[c]);
      const std::string pad = spaces(width[c] - display_width(cell));
      if (c != shown[0]) text += "  ";
      text += columns_[c].align == Align::left ? cell + pad : pad + cell;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text + "\n";
  };
  std::string text;
  if (std::any_of(columns_.begin(), columns_.end(), [](const auto& c) { return !c.title.empty(); }))
    text += line([&](std::size_t c) { return style.dim(columns_[c].title); });
  for (const auto& row : rows_) text += line([&](std::size_t c) { return row[c]; });
  return text;
}

std::string Table::text(const Style& style) const {
  const std::vector<int> width = widths(style.columns);
  std::string text;
  for (std::size_t c = 0; c < columns_.size();) {
    std::vector<std::size_t> shown = {0};
    int used = width[0];
    if (c == 0) c = 1;
    while (c < columns_.size()) {
      const bool alone = shown.size() == 1;  // a column that does not fit anywhere stands alone
      if (style.columns > 0 && !alone && used + 2 + width[c] > style.columns) break;
      used += 2 + width[c];
      shown.push_back(c++);
    }
    text += (text.empty() ? "" : "\n") + block(shown, width, style);
  }
  return text;
}

std::string bar(double fraction, int width) {
  static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * width * 8));
  std::string out;
  for (int i = 0; i < eighths / 8; ++i) out += "█";
  return out + kEighths[eighths % 8];
}

std::string percent(double fraction) {
  return fraction > 0 && fraction < 0.00005 ? "<0.01%" : fmt::format("{:.2f}%", 100 * fraction);
}

std::string byte_size(std::int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double amount = static_cast<double>(bytes);
  int unit = 0;
  for (; amount >= 1000 && unit < 4; ++unit) amount /= 1000;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

std::string duration(double seconds) {
  const auto s = static_cast<std::int64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02} min", s / 60, s % 60);
  return fmt::format("{}:{:02} h", s / 3600, s / 60 % 60);
}

std::string grouped(std::int64_t number) {
  const std::string digits = fmt::format("{}", number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool thousands = i > 0 && digits[i - 1] != '-' && (digits.size() - i) % 3 == 0;
    if (thousands) text += ',';
    text += digits[i];
  }
  return text;
}

}  // namespace vitrine::app

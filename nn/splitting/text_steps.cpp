#include "nn/splitting/text_steps.h"

#include <algorithm>
#include <optional>

#include "nn/splitting/normal_form.h"
#include "nn/splitting/pretokenize.h"
#include "nn/splitting/regular_expression.h"
#include "nn/splitting/unicode_tables.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

using Found = RegularExpression::Match;

std::optional<Found> find(const TextSteps::Pattern& pattern, std::string_view text,
                          std::size_t begin) {
  if (const auto* literal = std::get_if<std::string>(&pattern)) {
    const std::size_t at = text.find(*literal, begin);
    if (at == std::string_view::npos) return std::nullopt;
    return Found{at, at + literal->size()};
  }
  return std::get<1>(pattern)->find(text, begin);
}

std::string replaced(std::string_view text, const TextSteps::Pattern& pattern,
                     std::string_view content) {
  std::string out;
  std::size_t begin = 0;
  for (auto match = find(pattern, text, 0); match; match = find(pattern, text, begin)) {
    out += text.substr(begin, match->begin - begin);
    out += content;
    begin = match->end;
  }
  out += text.substr(begin);
  return out;
}

// Calls part(begin, end, is_match) for all matches and what lies between them.
template <class Part>
void for_each_part(std::string_view text, const TextSteps::Pattern& pattern, bool invert,
                   Part&& part) {
  std::size_t begin = 0;
  for (auto match = find(pattern, text, 0); match; match = find(pattern, text, begin)) {
    if (match->begin > begin) part(begin, match->begin, invert);
    part(match->begin, match->end, !invert);
    begin = match->end;
  }
  if (begin < text.size()) part(begin, text.size(), invert);
}

// The same for single characters that are numbers.
template <class Part>
void for_each_number(std::string_view text, Part&& part) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const Character c = read_character(text, i);
    if (c.valid && character_class(c.code_point) == CharacterClass::number) {
      if (i > begin) part(begin, i, false);
      part(i, i + c.length, true);
      begin = i + c.length;
    }
    i += c.length;
  }
  if (begin < text.size()) part(begin, text.size(), false);
}

struct Part {
  std::size_t begin, end;
  bool is_match;
};

// Parts that become one piece, joined: two matches in a row never do, but for `contiguous`.
std::vector<Part> merged(std::vector<Part> parts, TextSteps::Behavior behavior) {
  using enum TextSteps::Behavior;
  std::vector<Part> pieces;
  const bool backwards = behavior == merged_with_next;
  if (backwards) std::reverse(parts.begin(), parts.end());
  bool before = false;
  for (const Part& part : parts) {
    const bool joins = behavior == contiguous ? part.is_match == before : part.is_match && !before;
    before = part.is_match;
    if (!joins || pieces.empty()) {
      pieces.push_back(part);
    } else if (backwards) {
      pieces.back().begin = part.begin;
    } else {
      pieces.back().end = part.end;
    }
  }
  if (backwards) std::reverse(pieces.begin(), pieces.end());
  return pieces;
}

// Sends the pieces of one text through the steps from `step` on.
class Splitter {
 public:
  Splitter(const std::vector<TextSteps::PreTokenizer>& steps, MadeTexts& made,
           const TextSteps::Visit& piece)
      : steps_(steps), made_(made), piece_(piece) {}

  void go(std::size_t step, std::string_view text, bool at_start) {
    if (text.empty()) return;
    if (step == steps_.size()) return piece_(text);
    std::visit([&](const auto& one) { cut(one, step + 1, text, at_start); }, steps_[step]);
  }

 private:
  void cut(const TextSteps::Split& split, std::size_t next, std::string_view text, bool at_start) {
    Gather gather(*this, split.behavior, next, text, at_start);
    for_each_part(text, split.pattern, split.invert,
                  [&](std::size_t begin, std::size_t end, bool is_match) {
                    gather.add({begin, end, is_match});
                  });
  }

  void cut(const TextSteps::Digits& digits, std::size_t next, std::string_view text,
           bool at_start) {
    using enum TextSteps::Behavior;
    Gather gather(*this, digits.individual_digits ? isolated : contiguous, next, text, at_start);
    for_each_number(text, [&](std::size_t begin, std::size_t end, bool is_match) {
      gather.add({begin, end, is_match});
    });
  }

  void cut(const TextSteps::Metaspace& meta, std::size_t next, std::string_view text,
           bool at_start) {
    using enum TextSteps::PrependScheme;
    std::string changed = replaced(text, TextSteps::Pattern(" "), meta.replacement);
    const bool wanted = meta.prepend_scheme == always || (meta.prepend_scheme == first && at_start);
    if (wanted && !changed.starts_with(meta.replacement)) changed.insert(0, meta.replacement);
    const std::string_view whole = made_.emplace_back(std::move(changed));
    if (!meta.split) return go(next, whole, at_start);
    cut(TextSteps::Split{meta.replacement, TextSteps::Behavior::merged_with_next, false}, next,
        whole, at_start);
  }

  void cut(const TextSteps::ByteLevel& level, std::size_t next, std::string_view text,
           bool at_start) {
    if (level.add_prefix_space && text.front() != ' ') text = made_.emplace_back(" ").append(text);
    if (!level.use_regex) return go(next, text, at_start);
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = piece_end(text, begin);
      go(next, text.substr(begin, end - begin), at_start && begin == 0);
      begin = end;
    }
  }

  // Takes the parts of a text one after the other and hands on its pieces: at once where they are
  // parts, or at the end.
  class Gather {
   public:
    Gather(Splitter& to, TextSteps::Behavior behavior, std::size_t next, std::string_view text,
           bool at_start)
        : to_(to), behavior_(behavior), next_(next), text_(text), at_start_(at_start) {}

    void add(Part part) {
      using enum TextSteps::Behavior;
      if (behavior_ == isolated || (behavior_ == removed && !part.is_match)) return hand_on(part);
      if (behavior_ != removed) parts_.push_back(part);
      if (part.end != text_.size()) return;
      for (const Part& piece : merged(std::move(parts_), behavior_)) hand_on(piece);
      parts_.clear();
    }

   private:
    void hand_on(Part part) {
      to_.go(next_, text_.substr(part.begin, part.end - part.begin), at_start_ && part.begin == 0);
    }

    Splitter& to_;
    const TextSteps::Behavior behavior_;
    const std::size_t next_;
    const std::string_view text_;
    const bool at_start_;
    std::vector<Part> parts_;
  };

  const std::vector<TextSteps::PreTokenizer>& steps_;
  MadeTexts& made_;
  const TextSteps::Visit& piece_;
};

// The byte that "<0x0A>" spells, or -1.
int byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || !token.ends_with(">")) return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

}  // namespace

bool TextSteps::byte_level() const {
  return !pre_tokenizers.empty() && std::holds_alternative<ByteLevel>(pre_tokenizers.back());
}

bool TextSteps::is_gpt2() const {
  if (!normalizers.empty() || pre_tokenizers.size() != 1 || !byte_level()) return false;
  const auto& level = std::get<ByteLevel>(pre_tokenizers[0]);
  return !level.add_prefix_space && level.use_regex;
}

bool TextSteps::puts_space_first() const {
  const bool prepends = std::any_of(normalizers.begin(), normalizers.end(), [](const auto& step) {
    return std::holds_alternative<Prepend>(step);
  });
  return prepends ||
         std::any_of(pre_tokenizers.begin(), pre_tokenizers.end(), [](const auto& step) {
           if (const auto* level = std::get_if<ByteLevel>(&step)) return level->add_prefix_space;
           const auto* meta = std::get_if<Metaspace>(&step);
           return meta != nullptr && meta->prepend_scheme != PrependScheme::never;
         });
}

bool TextSteps::keeps_text() const {
  return normalizers.empty() && !puts_space_first() &&
         std::none_of(pre_tokenizers.begin(), pre_tokenizers.end(), [](const auto& step) {
           const auto* split = std::get_if<Split>(&step);
           return std::holds_alternative<Metaspace>(step) ||
                  (split != nullptr && split->behavior == Behavior::removed);
         });
}

std::string_view TextSteps::normalize(std::string_view text, MadeTexts& made) const {
  for (const Normalizer& step : normalizers) {
    if (text.empty()) break;
    std::visit(
        Overloaded{[&](const Prepend& one) { text = made.emplace_back(one.prepend).append(text); },
                   [&](const Replace& one) {
                     if (find(one.pattern, text, 0))
                       text = made.emplace_back(replaced(text, one.pattern, one.content));
                   },
                   [&](const Nfc&) {
                     if (!surely_normal_form_c(text)) text = made.emplace_back(normal_form_c(text));
                   }},
        step);
  }
  return text;
}

void TextSteps::split(std::string_view text, bool at_start, MadeTexts& made,
                      const Visit& piece) const {
  Splitter(pre_tokenizers, made, piece).go(0, text, at_start);
}

std::string TextSteps::decode_token(std::string_view token) const {
  std::string text(token);
  for (const Decoder& step : decoders) {
    if (const auto* one = std::get_if<ReplaceText>(&step))
      text = replaced(text, one->pattern, one->content);
    if (const auto* one = std::get_if<Metaspace>(&step))
      text = replaced(text, one->replacement, " ");
    if (const int byte = byte_of_token(text); byte >= 0 && std::get_if<ByteFallback>(&step))
      text.assign(1, static_cast<char>(byte));
  }
  return text;
}

// Metaspace drops all spaces of the first token.
std::string TextSteps::decode_first_token(std::string_view token) const {
  if (!decoders.empty()) {
    const auto* meta = std::get_if<Metaspace>(&decoders.front());
    if (meta != nullptr && meta->prepend_scheme != PrependScheme::never)
      return decode_token(replaced(token, meta->replacement, ""));
  }
  return decode_token(token);
}

void TextSteps::decode_whole(std::string& text) const {
  for (const Decoder& step : decoders) {
    const auto* strip = std::get_if<Strip>(&step);
    if (strip == nullptr) continue;
    std::size_t end = 0;
    for (std::size_t i = 0; i < strip->start; ++i) {
      if (!std::string_view(text).substr(end).starts_with(strip->content)) break;
      end += strip->content.size();
    }
    text.erase(0, end);
  }
}

}  // namespace vitrine::nn

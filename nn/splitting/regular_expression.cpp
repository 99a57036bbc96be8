#include "nn/splitting/regular_expression.h"

#include <fmt/format.h>

#include <algorithm>

#include "nn/splitting/expression_compiler.h"
#include "nn/splitting/pretokenize.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr std::size_t kNoMatch = std::string_view::npos;

// GPT-2's pattern, as its own code and as tiktoken write it. The matches are the same.
constexpr std::string_view kByHand[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"};

bool continues_a_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

RegularExpression::RegularExpression(std::string_view pattern, std::string_view where)
    : pattern_(pattern),
      by_hand_(std::find(std::begin(kByHand), std::end(kByHand), pattern) != std::end(kByHand)) {
  ExpressionCompiler(*this, where).compile();
}

std::optional<RegularExpression::Match> RegularExpression::find(std::string_view text,
                                                                std::size_t begin) const {
  while (begin < text.size()) {
    if (const std::size_t end = match_end(text, begin); end != kNoMatch) return Match{begin, end};
    begin += read_character(text, begin).length;
  }
  return std::nullopt;
}

std::size_t RegularExpression::match_end(std::string_view text, std::size_t begin) const {
  if (by_hand_) return piece_end(text, begin);
  // No pattern in use takes more than a few steps for each character.
  std::size_t left = 100'000 + 64 * (text.size() - begin);
  const Node& start = nodes_[start_];
  if (start.kind != Node::choice || start.branches.size() > 32)
    return run(start_, text, begin, left);
  // The branches in order, without those that cannot begin with this character.
  const std::size_t first = std::min<std::size_t>(static_cast<unsigned char>(text[begin]), 128);
  std::uint32_t possible = begins_[first];
  for (std::size_t i = 0; possible != 0; ++i, possible >>= 1) {
    if ((possible & 1) == 0) continue;
    const std::size_t end = run(start.branches[i], text, begin, left);
    if (end != kNoMatch) return end;
  }
  return kNoMatch;
}

// Takes characters of the set, at most so many; the position after them.
std::size_t RegularExpression::take(const CharacterSet& set, std::uint32_t most,
                                    std::string_view text, std::size_t position,
                                    std::uint32_t& taken) const {
  for (taken = 0; taken < most && position < text.size(); ++taken) {
    const auto byte = static_cast<unsigned char>(text[position]);
    if (byte < 0x80) {
      if (!set.contains(byte)) break;
      ++position;
    } else {
      const Character c = read_character(text, position);
      if (!set.contains(c.code_point)) break;
      position += c.length;
    }
  }
  return position;
}

// The end of what the steps from `node` on match at `position`. It calls itself at most once for
// each step of the pattern: loops over characters are loops. `left` counts down.
std::size_t RegularExpression::run(int node, std::string_view text, std::size_t position,
                                   std::size_t& left) const {
  if (left-- == 0) {
    throw TokenError(fmt::format(
        "the tokenizer's pattern {} takes too long on this text: it tries too many ways to match "
        "the same characters; a simpler pattern is needed",
        quote(pattern_)));
  }
  while (true) {
    const Node& step = nodes_[node];
    node = step.next;
    switch (step.kind) {
      case Node::accept:
        return position;
      case Node::look_ahead:
        if ((run(step.branches[0], text, position, left) != kNoMatch) == step.negative)
          return kNoMatch;
        break;
      case Node::choice:
        for (std::size_t i = 0; i + 1 < step.branches.size(); ++i) {
          const std::size_t end = run(step.branches[i], text, position, left);
          if (end != kNoMatch) return end;
        }
        node = step.branches.back();
        break;
      case Node::characters: {
        const CharacterSet& set = sets_[step.set];
        std::uint32_t taken = 0;
        const std::size_t least = take(set, step.least, text, position, taken);
        if (taken < step.least) return kNoMatch;
        std::size_t end = least;
        if (step.most > step.least)
          end = take(set, step.most == kAny ? kAny : step.most - step.least, text, least, taken);
        // As many as there are; then one fewer, as long as what follows does not match.
        while (end > least && !step.possessive) {
          const std::size_t rest = run(step.next, text, end, left);
          if (rest != kNoMatch) return rest;
          do {
            --end;
          } while (end > least && continues_a_character(text[end]));
        }
        position = end;
      }
    }
  }
}

}  // namespace vitrine::nn

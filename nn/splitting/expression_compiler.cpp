#include "nn/splitting/expression_compiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "nn/splitting/unicode_tables.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::nn {
namespace {

constexpr int kDeepest = 20;                   // groups and classes inside each other
constexpr std::uint32_t kMostCounted = 10000;  // {m,n}
constexpr std::size_t kLongestPattern = 10000;
constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ";

bool is_letter(char32_t c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char32_t lower(char32_t c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; }

}  // namespace

void ExpressionCompiler::refuse(std::string_view what, std::size_t length) const {
  const std::string_view found = text_.substr(at_, std::max<std::size_t>(length, 1));
  throw ConfigError(
      fmt::format("{}: expected characters, classes, groups and ? * + {{m,n}} that are "
                  "known here, found {} at {} ({}); it is not supported",
                  where_, quote(found), at_, what));
}

void ExpressionCompiler::malformed(std::string_view what) const {
  throw ConfigError(
      fmt::format("{}: not a regular expression: {} at {} of {}", where_, what, at_, quote(text_)));
}

bool ExpressionCompiler::skip(std::string_view expected) {
  if (!text_.substr(at_).starts_with(expected)) return false;
  at_ += expected.size();
  return true;
}

void ExpressionCompiler::compile() {
  text_ = out_.pattern_;
  if (text_.size() > kLongestPattern) malformed("it is longer than 10000 bytes");
  const Alternatives all = read_alternatives(false, 0);
  if (!at_end()) malformed("a ) too many");
  if (matches_nothing(all)) {
    throw ConfigError(
        fmt::format("{}: {} matches the empty text, which splits nothing; it is not "
                    "supported",
                    where_, quote(text_)));
  }
  out_.start_ = make(all, add({}));
  note_beginnings();
}

// ---- reading

ExpressionCompiler::Alternatives ExpressionCompiler::read_alternatives(bool ignore_case,
                                                                       int depth) {
  if (depth > kDeepest) malformed("too many groups inside each other");
  Alternatives all(1);
  while (!at_end() && peek() != ')') {
    if (skip("|")) {
      all.emplace_back();
    } else {
      all.back().push_back(read_item(ignore_case, depth));
    }
  }
  if (ignore_case) {
    for (const Sequence& one : all) check_ligatures(one);
  }
  return all;
}

ExpressionCompiler::Item ExpressionCompiler::read_item(bool ignore_case, int depth) {
  Item item;
  const char c = peek();
  if (c == '(') {
    item = read_group(ignore_case, depth);
  } else if (c == '[') {
    item.set = read_class(ignore_case, depth);
  } else if (c == '.') {
    ++at_;
    item.set.add('\n', '\n');
    item.set.negate();
  } else if (at_escaped_set()) {
    ++at_;
    read_escaped_set(item.set, ignore_case);
  } else if (c == '^' || c == '$' || c == '{') {
    refuse(c == '{' ? "a brace that counts nothing" : "an anchor", 1);
  } else if (c == '*' || c == '+' || c == '?') {
    malformed("a quantifier that follows nothing");
  } else {
    const char32_t one = c == '\\' ? read_character_after_backslash() : read_plain();
    add_character(item.set, one, ignore_case);
  }
  read_quantifier(item);
  return item;
}

ExpressionCompiler::Item ExpressionCompiler::read_group(bool ignore_case, int depth) {
  Item group;
  group.kind = Node::choice;
  if (skip("(?i:")) {
    ignore_case = true;
  } else if (skip("(?=") || skip("(?!")) {
    group.kind = Node::look_ahead;
    group.negative = text_[at_ - 1] == '!';
  } else if (!skip("(?:")) {
    if (peek(1) == '?') refuse("a group of this kind", 4);
    ++at_;
  }
  group.inside = read_alternatives(ignore_case, depth + 1);
  if (!skip(")")) malformed("a ( without its )");
  return group;
}

std::uint32_t ExpressionCompiler::read_number() {
  std::uint32_t number = 0;
  while (peek() >= '0' && peek() <= '9') {
    number = number * 10 + static_cast<std::uint32_t>(peek() - '0');
    if (number > kMostCounted) malformed("a count above 10000");
    ++at_;
  }
  return number;
}

// {m}, {m,}, {,n} or {m,n}. False if there is none of these.
bool ExpressionCompiler::read_counts(Item& item) {
  const std::size_t begin = at_;
  if (!skip("{")) return false;
  const std::size_t digits = at_;
  item.least = read_number();
  const bool least = at_ > digits;
  item.most = item.least;
  if (skip(",")) {
    const std::size_t more = at_;
    item.most = read_number();
    if (at_ == more) item.most = RegularExpression::kAny;
    if (!least && at_ == more) item.most = 0;  // {,}
  }
  if (!skip("}") || (!least && item.most == 0) || item.most < item.least) {
    at_ = begin;
    refuse("a brace that counts nothing", 1);
  }
  return true;
}

void ExpressionCompiler::read_quantifier(Item& item) {
  const std::size_t begin = at_;
  const bool counted = read_counts(item);
  if (!counted) {
    const char c = peek();
    if (c != '?' && c != '*' && c != '+') return;
    ++at_;
    item.least = c == '+' ? 1 : 0;
    item.most = c == '?' ? 1 : RegularExpression::kAny;
  }
  const bool group = item.kind != Node::characters;
  const std::size_t length = at_ - begin + 1;
  if (item.kind == Node::look_ahead || (group && item.most != 1)) {
    at_ = begin;
    refuse("a group that repeats", length - 1);
  }
  const char after = peek();
  if (after == '+' && !counted && !group) {
    item.possessive = true;
    ++at_;
  } else if (after == '?' || after == '+' || after == '*' || after == '{') {
    at_ = begin;
    refuse(after == '?' ? "a quantifier that takes as little as possible"
                        : "a quantifier of a quantifier",
           length);
  }
}

bool ExpressionCompiler::at_escaped_set() const {
  return peek() == '\\' && std::string_view("sSdDpP").find(peek(1)) != std::string_view::npos &&
         peek(1) != '\0';
}

void ExpressionCompiler::read_escaped_set(CharacterSet& set, bool ignore_case) {
  const char kind = peek();
  if (ignore_case) {
    --at_;
    refuse("inside (?i:...)", 2);
  }
  ++at_;
  if (kind == 's' || kind == 'S') return set.add_white_space(kind == 'S');
  if (kind == 'd' || kind == 'D') return set.add_categories(*categories_named("Nd"), kind == 'D');
  const std::size_t end = text_.find('}', at_);
  if (peek() != '{' || end == std::string_view::npos) malformed("\\p without {...}");
  std::string_view name = text_.substr(at_ + 1, end - at_ - 1);
  bool negated = kind == 'P';
  if (name.starts_with('^')) {
    negated = !negated;
    name.remove_prefix(1);
  }
  const auto categories = categories_named(name);
  if (!categories) {
    at_ -= 2;
    refuse("of these, only general categories such as L and Nd", end - at_ + 1);
  }
  set.add_categories(*categories, negated);
  at_ = end + 1;
}

// A character that is spelled with a backslash.
char32_t ExpressionCompiler::read_character_after_backslash() {
  const char c = peek(1);
  constexpr std::pair<char, char32_t> kNamed[] = {
      {'r', '\r'}, {'n', '\n'}, {'t', '\t'}, {'v', '\v'}, {'f', '\f'}};
  for (const auto& [name, code_point] : kNamed) {
    if (c != name) continue;
    at_ += 2;
    return code_point;
  }
  if (c == '\0') malformed("a backslash at the end");
  if (kPunctuation.find(c) == std::string_view::npos) refuse("this escape", 2);
  at_ += 2;
  return static_cast<char32_t>(c);
}

char32_t ExpressionCompiler::read_plain() {
  const Character c = read_character(text_, at_);
  if (!c.valid) malformed("bytes that are not UTF-8");
  at_ += c.length;
  return c.code_point;
}

// Case is ignored as Unicode folds it: the long s and the sign of the kelvin are an s and a k.
void ExpressionCompiler::add_character(CharacterSet& set, char32_t c, bool ignore_case) {
  set.add(c, c);
  if (!ignore_case) return;
  if (c >= 128 && category(c) <= Category::Me) {
    at_ -= 1;
    refuse("a letter beyond ASCII inside (?i:...)", 1);
  }
  if (!is_letter(c)) return;
  set.add(c ^ 0x20, c ^ 0x20);
  if (lower(c) == 's') set.add(0x17F, 0x17F);
  if (lower(c) == 'k') set.add(0x212A, 0x212A);
}

CharacterSet ExpressionCompiler::read_class(bool ignore_case, int depth) {
  if (ignore_case) refuse("a class inside (?i:...)", 1);
  if (depth > kDeepest) malformed("too many classes inside each other");
  ++at_;
  CharacterSet set;
  if (skip("^")) set.negate();
  if (peek() == ']') refuse("a class that begins with ]", 1);
  while (peek() != ']') {
    if (at_end()) malformed("a [ without its ]");
    if (peek() == '&' && peek(1) == '&') refuse("the intersection of classes", 2);
    if (peek() == '[') {
      if (peek(1) == ':') refuse("a POSIX class", 2);
      set.add(read_class(ignore_case, depth + 1));
      continue;
    }
    if (at_escaped_set()) {
      ++at_;
      read_escaped_set(set, ignore_case);
      if (peek() == '-' && peek(1) != ']') refuse("a range that begins with a class", 1);
      continue;
    }
    const char32_t first = peek() == '\\' ? read_character_after_backslash() : read_plain();
    char32_t last = first;
    if (peek() == '-' && peek(1) != ']') {
      ++at_;
      if (at_end() || peek() == '[' || at_escaped_set()) refuse("a range that ends in a class", 1);
      last = peek() == '\\' ? read_character_after_backslash() : read_plain();
      if (last < first) malformed("a range whose end is before its beginning");
    }
    set.add(first, last);
  }
  ++at_;
  return set;
}

// ---- checking and making steps

// Where case is ignored, two letters may also be one character: "ss" is the sharp s, "fi" a
// ligature.
void ExpressionCompiler::check_ligatures(const Sequence& sequence) const {
  const auto has = [](const Item& item, char32_t c) {
    if (item.kind != Node::characters) return true;  // a group: not looked into
    CharacterSet set = item.set;
    set.finish();
    return set.contains(c);
  };
  for (std::size_t i = 0; i < sequence.size(); ++i) {
    const bool repeats = sequence[i].most > 1;
    for (const std::string_view pair : {"ss", "st", "ff", "fi", "fl"}) {
      const bool twice = repeats && pair[0] == pair[1] && has(sequence[i], pair[0]);
      if (!twice && (i + 1 == sequence.size() || !has(sequence[i], pair[0]) ||
                     !has(sequence[i + 1], pair[1])))
        continue;
      throw ConfigError(fmt::format(
          "{}: \"{}\" inside (?i:...) is not supported: ignoring case, it is one character too",
          where_, pair));
    }
  }
}

bool ExpressionCompiler::matches_nothing(const Alternatives& all) {
  return std::any_of(all.begin(), all.end(), [](const Sequence& sequence) {
    return std::all_of(sequence.begin(), sequence.end(), [](const Item& item) {
      if (item.kind == Node::look_ahead || item.least == 0) return true;
      return item.kind == Node::choice && matches_nothing(item.inside);
    });
  });
}

int ExpressionCompiler::add(Node node) {
  out_.nodes_.push_back(std::move(node));
  return static_cast<int>(out_.nodes_.size()) - 1;
}

int ExpressionCompiler::make(const Alternatives& all, int next) {
  if (all.size() == 1) return make(all[0], next);
  Node choice{.kind = Node::choice};
  for (const Sequence& sequence : all) choice.branches.push_back(make(sequence, next));
  return add(std::move(choice));
}

int ExpressionCompiler::make(const Sequence& sequence, int next) {
  for (auto item = sequence.rbegin(); item != sequence.rend(); ++item) next = make(*item, next);
  return next;
}

int ExpressionCompiler::make(const Item& item, int next) {
  if (item.kind == Node::look_ahead) {
    return add({.kind = Node::look_ahead,
                .negative = item.negative,
                .next = next,
                .branches = {make(item.inside, add({}))}});
  }
  if (item.kind == Node::choice) {
    const int inside = make(item.inside, next);
    if (item.least == 1) return inside;
    return add({.kind = Node::choice, .branches = {inside, next}});
  }
  out_.sets_.push_back(item.set);
  out_.sets_.back().finish();
  return add({.kind = Node::characters,
              .possessive = item.possessive,
              .set = static_cast<int>(out_.sets_.size()) - 1,
              .least = item.least,
              .most = item.most,
              .next = next});
}

void ExpressionCompiler::note_beginnings() {
  out_.begins_.fill(UINT32_MAX);
  const Node& start = out_.nodes_[out_.start_];
  if (start.kind != Node::choice || start.branches.size() > 32) return;
  out_.begins_.fill(0);
  for (std::size_t i = 0; i < start.branches.size(); ++i) {
    std::vector<bool> first(out_.begins_.size());
    note_beginnings(start.branches[i], first);
    for (std::size_t c = 0; c < first.size(); ++c) {
      if (first[c]) out_.begins_[c] |= 1u << i;
    }
  }
}

// Marks the characters with which a match from `node` on may begin.
void ExpressionCompiler::note_beginnings(int node, std::vector<bool>& first) const {
  const Node& step = out_.nodes_[node];
  switch (step.kind) {
    case Node::accept:
    case Node::look_ahead:  // nothing is known
      return first.assign(first.size(), true);
    case Node::choice:
      for (const int branch : step.branches) note_beginnings(branch, first);
      return;
    case Node::characters: {
      const CharacterSet& set = out_.sets_[step.set];
      for (char32_t c = 0; c < 128; ++c) first[c] = first[c] || set.contains(c);
      first[128] = first[128] || set.contains_beyond_ascii();
      if (step.least == 0) note_beginnings(step.next, first);
    }
  }
}

}  // namespace vitrine::nn

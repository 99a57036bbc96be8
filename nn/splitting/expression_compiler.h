// Reads a pattern and makes the steps by which a RegularExpression matches.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nn/splitting/regular_expression.h"

namespace vitrine::nn {

class ExpressionCompiler {
 public:
  ExpressionCompiler(RegularExpression& out, std::string_view where) : out_(out), where_(where) {}
  void compile();

 private:
  using Node = RegularExpression::Node;

  // What was read: alternatives, each a sequence of items.
  struct Item;
  using Sequence = std::vector<Item>;
  using Alternatives = std::vector<Sequence>;
  struct Item {
    Node::Kind kind = Node::characters;  // choice: a group
    CharacterSet set{};
    std::uint32_t least = 1, most = 1;
    bool possessive = false, negative = false;
    Alternatives inside{};
  };

  // ---- reading
  Alternatives read_alternatives(bool ignore_case, int depth);
  Item read_item(bool ignore_case, int depth);
  Item read_group(bool ignore_case, int depth);
  void read_quantifier(Item& item);
  bool read_counts(Item& item);
  CharacterSet read_class(bool ignore_case, int depth);
  void read_escaped_set(CharacterSet& set, bool ignore_case);  // after the backslash: s, S, p{..}
  bool at_escaped_set() const;
  char32_t read_character_after_backslash();
  char32_t read_plain();
  void add_character(CharacterSet& set, char32_t c, bool ignore_case);
  std::uint32_t read_number();

  bool at_end() const { return at_ >= text_.size(); }
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool skip(std::string_view expected);
  [[noreturn]] void refuse(std::string_view what, std::size_t length) const;
  [[noreturn]] void malformed(std::string_view what) const;

  // ---- checking and making steps
  void check_ligatures(const Sequence& sequence) const;
  static bool matches_nothing(const Alternatives& all);
  int make(const Alternatives& all, int next);
  int make(const Sequence& sequence, int next);
  int make(const Item& item, int next);
  int add(Node node);
  void note_beginnings();
  void note_beginnings(int node, std::vector<bool>& first) const;

  RegularExpression& out_;
  std::string_view where_;
  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace vitrine::nn

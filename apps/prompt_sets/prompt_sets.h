// Sets of prompts, made from templates: what `vitrine prompts` writes.
//
// A recipe says what a prompt is made of. A choice among the templates and the values of their slots
// is a draft, which becomes a line of the file unless a check leaves it out.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/prompt_sets/slots.h"
#include "apps/prompt_sets/template.h"
#include "nn/model/model.h"
#include "tensor/files/json_value.h"

namespace vitrine::app {

// One way in which the corrupt partner differs from the clean prompt. Rules hold one after the
// other.
struct CorruptRule {
  enum class Kind {
    swap,    // swap=a,b: the values of two slots are exchanged
    other,   // other=state: another row's values
    random,  // random=state: random tokens, as many as the slot has
    put      // put=s2:a: the place with the role s2 has the value of the slot a
  };
  Kind kind = Kind::swap;
  std::vector<std::string> slots;  // of put: the role and the slot
};
// Throws Error (usage) for what is none of these.
CorruptRule parse_corrupt_rule(const std::string& text);

struct PromptRecipe {
  std::vector<PromptTemplate> templates;
  SlotChoices slots;
  std::vector<CorruptRule> corrupt;  // none: prompts without a partner
  // Slots and fields that a row of `other` has in common with the one it is put in the place of.
  std::vector<std::string> within;
  std::vector<std::vector<TemplatePiece>> answers, wrongs;
  std::vector<std::pair<std::string, std::vector<TemplatePiece>>> fields;
  std::vector<std::string> single;  // "answer", "wrong" or slots: one token each
  // Where answers are no templates: the right and the wrong ones.
  using Answers = std::pair<std::vector<std::string>, std::vector<std::string>>;
  std::function<Answers(const SlotValues&)> answers_of;

  // What a name of `within` is made of: the text of a field, or of a slot alone.
  std::vector<TemplatePiece> within_pieces(const std::string& name) const;
  // Throws Error (usage) for slots, roles and names that are not there, and for an `other` without
  // a partner.
  void check() const;
};

// One line of the file.
struct PromptLine {
  JsonValue json;
  nn::Tokens prompt, corrupt;  // as the model reads them
  std::vector<nn::Tokens> answers, wrongs;
  std::string kind;  // what it is counted by: the template's name
};

// Why drafts were left out.
class LeftOut {
 public:
  // `example` is what the first of them has.
  void add(const std::string& why, const std::string& example);
  std::int64_t total() const;
  std::string text() const;  // "2: the answer is not one token (" Little Rock"); ..."; "" for none

 private:
  struct Reason {
    std::int64_t count = 0;
    std::string example;
  };
  std::map<std::string, Reason> reasons_;
};

// Drafts that can be made into lines: by number, or one of them at random.
class PromptDrafts {
 public:
  virtual ~PromptDrafts() = default;
  virtual std::uint64_t count() const = 0;  // UINT64_MAX where there are more
  // How many kinds of drafts there are; draft i is of kind i % kinds().
  virtual std::uint64_t kinds() const = 0;
  // Nothing where a check leaves it out, which is counted.
  virtual std::optional<PromptLine> line(std::uint64_t draft, LeftOut& left_out) = 0;
};

// Tokens that are words of ASCII letters, with a space before them and without.
struct RandomWords {
  std::vector<std::string> spaced, bare;
};

// Drafts of a recipe. The model has a tokenizer. `seed` is of partners.
class TemplateDrafts : public PromptDrafts {
 public:
  TemplateDrafts(const PromptRecipe& recipe, const nn::Model& model, std::uint64_t seed);
  std::uint64_t count() const override;
  std::uint64_t kinds() const override { return recipe_.templates.size(); }
  std::optional<PromptLine> line(std::uint64_t draft, LeftOut& left_out) override;

 private:
  const PromptRecipe& recipe_;
  const nn::Model& model_;
  random::Key key_;
  std::set<std::string> seen_;  // the lines that there are
  RandomWords words_;
};

// Which of the drafts become lines.
struct PromptChoice {
  std::optional<std::int64_t> sample;  // so many at random; nullopt: all
  std::uint64_t seed = 0;
  enum class Known {
    any,
    right,  // the right answers together are more probable than the wrong ones; the most probable
            // token is right where there are no wrong ones
    top     // the most probable token is right
  };
  Known known = Known::any;
};
struct PromptCollection {
  std::vector<PromptLine> lines;
  LeftOut left_out;
  std::int64_t asked = 0, known = 0;  // of how many the model was asked, and knew
};
// Throws Error (input) where all drafts are left out, saying why, and Error (usage) where there are
// more than can be written one and all.
PromptCollection collect_prompts(PromptDrafts& drafts, const PromptChoice& choice,
                                 const nn::Model& model, const std::function<void()>& check = {});

}  // namespace vitrine::app

#include "apps/prompt_sets/prompt_sets.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "apps/prompt_sets/known_answers.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"
#include "tensor/nearest.h"

namespace vitrine::app {
namespace {

constexpr std::uint64_t kMostPrompts = 200'000;  // one and all

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

[[noreturn]] void refuse_recipe(const std::string& why) { throw Error(ErrorKind::usage, why); }

// Slots of a text that is no prompt: answers and fields.
void check_pieces(const PromptRecipe& recipe, const std::vector<TemplatePiece>& pieces,
                  const std::string& what, bool other, bool name) {
  for (const TemplatePiece& piece : pieces) {
    if (piece.slot.empty() || (name && piece.slot == "template")) continue;
    recipe.slots.require(piece.slot, what);
    if (piece.role)
      refuse_recipe(
          fmt::format("{}: roles are places of the template; leave out @{}", what, *piece.role));
    if (piece.other && !other)
      refuse_recipe(
          fmt::format("{}: {{{}:other}} is the value in the corrupt partner, but there "
                      "is none; give --corrupt",
                      what, piece.slot));
  }
}

void check_rule(const PromptRecipe& recipe, const CorruptRule& rule) {
  if (rule.kind != CorruptRule::Kind::put) {
    for (const std::string& slot : rule.slots) recipe.slots.require(slot, "--corrupt");
    return;
  }
  recipe.slots.require(rule.slots[1], "--corrupt put");
  for (const PromptTemplate& t : recipe.templates) {
    const auto roles = roles_of(t.pieces);
    if (std::find(roles.begin(), roles.end(), rule.slots[0]) != roles.end()) continue;
    refuse_recipe(
        fmt::format("--corrupt put={}:{}: the template{} has no place with the role {}; "
                    "mark it as {{SLOT@{}}}",
                    rule.slots[0], rule.slots[1], t.name.empty() ? "" : " " + t.name, rule.slots[0],
                    rule.slots[0]));
  }
}

// What rows have in common is said of `other`, and of slots in the same table.
void check_within(const PromptRecipe& recipe, const std::string& name) {
  const std::string what = "--within " + name;
  std::vector<std::string> others;
  for (const CorruptRule& rule : recipe.corrupt) {
    if (rule.kind == CorruptRule::Kind::other)
      others.insert(others.end(), rule.slots.begin(), rule.slots.end());
  }
  if (others.empty())
    refuse_recipe(what + ": a row has it in common with another; give --corrupt other=SLOT");
  const auto pieces = recipe.within_pieces(name);
  check_pieces(recipe, pieces, what, false, false);
  const bool beside = std::any_of(pieces.begin(), pieces.end(), [&](const TemplatePiece& p) {
    return std::any_of(others.begin(), others.end(), [&](const std::string& slot) {
      return !p.slot.empty() && recipe.slots.together(p.slot, slot);
    });
  });
  if (!beside)
    refuse_recipe(fmt::format(
        "{}: it does not stand in one table with {}, so that no row of other={} has it; "
        "give both as columns of a --table",
        what, others[0], others[0]));
}

// A slot that was listed stands somewhere: in a prompt, an answer, a field or a rule.
void check_all_used(const PromptRecipe& recipe) {
  std::set<std::string> used;
  const auto use = [&](const std::vector<TemplatePiece>& pieces) {
    for (const TemplatePiece& p : pieces) used.insert(p.slot);
  };
  for (const PromptTemplate& t : recipe.templates) use(t.pieces);
  for (const auto& pieces : recipe.answers) use(pieces);
  for (const auto& pieces : recipe.wrongs) use(pieces);
  for (const auto& [name, pieces] : recipe.fields) use(pieces);
  for (const CorruptRule& rule : recipe.corrupt) used.insert(rule.slots.begin(), rule.slots.end());
  for (const std::string& slot : recipe.slots.named()) {
    if (!used.contains(slot))
      refuse_recipe(fmt::format("--slot {}: no template, answer or field has {{{}}}", slot, slot));
  }
}

}  // namespace

// ---- what is asked for --------------------------------------------------------------------------
CorruptRule parse_corrupt_rule(const std::string& text) {
  using Kind = CorruptRule::Kind;
  const std::size_t equals = text.find('=');
  const std::string word = text.substr(0, equals);
  const std::string rest = equals == std::string::npos ? "" : text.substr(equals + 1);
  const auto rule = [&](Kind kind, char at, std::size_t least, std::size_t most) {
    const auto slots = split(rest, at);
    if (slots.size() < least || slots.size() > most ||
        !std::all_of(slots.begin(), slots.end(), [](const auto& s) { return is_name(s); }))
      refuse_recipe(fmt::format("--corrupt {}: expected {}", text,
                                kind == Kind::swap  ? "swap=A,B with two slots"
                                : kind == Kind::put ? "put=ROLE:SLOT"
                                                    : word + "=SLOT, or several: A,B"));
    return CorruptRule{kind, slots};
  };
  if (word == "swap") return rule(Kind::swap, ',', 2, 2);
  if (word == "other") return rule(Kind::other, ',', 1, 64);
  if (word == "random") return rule(Kind::random, ',', 1, 64);
  if (word == "put") return rule(Kind::put, ':', 2, 2);
  refuse_recipe(fmt::format(
      "--corrupt {}: expected swap=A,B, other=SLOT, random=SLOT or "
      "put=ROLE:SLOT{}",
      text,
      did_you_mean(nearest(word, std::vector<std::string>{"swap", "other", "random", "put"}))));
}

std::vector<TemplatePiece> PromptRecipe::within_pieces(const std::string& name) const {
  for (const auto& [field, pieces] : fields) {
    if (field == name) return pieces;
  }
  return parse_template("{" + name + "}", "--within " + name);
}

void PromptRecipe::check() const {
  if (templates.empty()) refuse_recipe("there is no template; give --template TEXT");
  std::set<std::string> names;
  for (const PromptTemplate& t : templates) {
    const std::string what = "--template" + (t.name.empty() ? "" : " " + t.name);
    if (templates.size() > 1 && t.name.empty())
      refuse_recipe("of several templates each has a name: --template 'ABBA=When {a} and ...'");
    if (!t.name.empty() && !names.insert(t.name).second)
      refuse_recipe(fmt::format("two templates are called {}", t.name));
    roles_of(t.pieces);
    for (const TemplatePiece& piece : t.pieces) {
      if (piece.slot.empty()) continue;
      slots.require(piece.slot, what);
      if (piece.other)
        refuse_recipe(
            fmt::format("{}: {{{}:other}} stands in answers and fields; the prompt of "
                        "the partner is made by --corrupt",
                        what, piece.slot));
    }
  }
  for (const CorruptRule& rule : corrupt) check_rule(*this, rule);
  for (const std::string& name : within) check_within(*this, name);
  const bool partner = !corrupt.empty();
  for (const auto& pieces : answers) check_pieces(*this, pieces, "--answer", partner, false);
  for (const auto& pieces : wrongs) check_pieces(*this, pieces, "--wrong", partner, false);
  for (const auto& [name, pieces] : fields)
    check_pieces(*this, pieces, "--field " + name, partner, true);
  for (const std::string& what : single) {
    if (what == "answer" && answers.empty() && !answers_of)
      refuse_recipe("--single answer: there is none; give --answer");
    if (what == "wrong" && wrongs.empty() && !answers_of)
      refuse_recipe("--single wrong: there is none; give --wrong");
    if (what != "answer" && what != "wrong") slots.require(what, "--single");
  }
  check_all_used(*this);
}

// ---- what was left out --------------------------------------------------------------------------
void LeftOut::add(const std::string& why, const std::string& example) {
  Reason& reason = reasons_[why];
  if (reason.count++ == 0) reason.example = example;
}

std::int64_t LeftOut::total() const {
  std::int64_t total = 0;
  for (const auto& [why, reason] : reasons_) total += reason.count;
  return total;
}

std::string LeftOut::text() const {
  std::string text;
  for (const auto& [why, reason] : reasons_) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", reason.count, why);
    if (!reason.example.empty()) text += fmt::format(" ({})", reason.example);
  }
  return text;
}

// ---- which drafts become lines ------------------------------------------------------------------
namespace {

// The numbers of drafts in the order in which they are tried: one after the other, or at random,
// kinds in turn.
class DraftOrder {
 public:
  DraftOrder(const PromptDrafts& drafts, const PromptChoice& choice)
      : count_(drafts.count()),
        kinds_(drafts.kinds()),
        random_(choice.sample.has_value()),
        key_(random::Key{choice.seed}.fold("prompts")) {
    constexpr std::uint64_t kShuffled = 1'000'000;
    const std::uint64_t each = count_ / kinds_;
    if (!random_ || each > kShuffled) return;
    for (std::uint64_t i = 0; i < each; ++i) shuffled_.push_back(i);
    random::shuffle(key_, shuffled_);
  }

  std::optional<std::uint64_t> next() {
    if (!random_) return drawn_ < count_ ? std::optional(drawn_++) : std::nullopt;
    const std::uint64_t turn = drawn_++;
    if (!shuffled_.empty()) {  // each round has every combination, in another kind
      const std::uint64_t at = turn % shuffled_.size(), round = turn / shuffled_.size();
      if (round >= kinds_) return std::nullopt;
      return shuffled_[static_cast<std::size_t>(at)] * kinds_ + (at + round) % kinds_;
    }
    const std::uint64_t kind = turn % kinds_;
    const std::uint64_t each =
        std::min<std::uint64_t>(count_ / kinds_, static_cast<std::uint64_t>(INT64_MAX));
    for (;;) {  // of so many that the same one hardly comes again
      const auto at = static_cast<std::uint64_t>(
          random::below(key_, draws_++, static_cast<std::int64_t>(each)));
      if (seen_.insert(at * kinds_ + kind).second) return at * kinds_ + kind;
    }
  }

 private:
  std::uint64_t count_, kinds_;
  bool random_;
  random::Key key_;
  std::vector<std::uint64_t> shuffled_;
  std::unordered_set<std::uint64_t> seen_;
  std::uint64_t drawn_ = 0, draws_ = 0;
};

}  // namespace

PromptCollection collect_prompts(PromptDrafts& drafts, const PromptChoice& choice,
                                 const nn::Model& model, const std::function<void()>& check) {
  const std::uint64_t count = drafts.count();
  if (!choice.sample && count > kMostPrompts) {
    refuse_recipe(fmt::format(
        "there are {} combinations, more than {}; take some of them by "
        "--sample N",
        count == UINT64_MAX ? "more than 10^19" : fmt::format("{}", count), kMostPrompts));
  }
  const auto wanted =
      choice.sample ? static_cast<std::size_t>(*choice.sample) : static_cast<std::size_t>(count);
  // A sample of what is nearly always left out comes to an end, too.
  const std::uint64_t most_tried = choice.sample ? 100 * wanted + 10'000 : count;
  constexpr std::size_t kAtOnce = 256;
  PromptCollection found;
  DraftOrder order(drafts, choice);
  std::uint64_t tried = 0;
  for (bool more = true; more && found.lines.size() < wanted;) {
    std::vector<PromptLine> lines;
    const std::size_t missing = wanted - found.lines.size();
    const bool asks = choice.known != PromptChoice::Known::any;
    while (lines.size() < (asks ? kAtOnce : missing)) {
      const auto draft = tried < most_tried ? order.next() : std::nullopt;
      more = draft.has_value();
      if (!more) break;
      ++tried;
      if (auto line = drafts.line(*draft, found.left_out)) lines.push_back(std::move(*line));
      if (check) check();
    }
    if (!asks) {
      std::move(lines.begin(), lines.end(), std::back_inserter(found.lines));
      continue;
    }
    const std::vector<bool> known =
        knows_answers(model, lines, choice.known == PromptChoice::Known::top);
    for (std::size_t i = 0; i < lines.size() && found.lines.size() < wanted; ++i) {
      ++found.asked;
      if (!known[i]) continue;
      ++found.known;
      found.lines.push_back(std::move(lines[i]));
    }
  }
  if (!found.lines.empty()) return found;
  const std::string why = found.left_out.text();
  throw Error(
      ErrorKind::input,
      fmt::format(
          "no prompt is left{}{}",
          found.asked > 0 ? fmt::format(": of {} the model answers none right", found.asked) : "",
          why.empty() ? "" : fmt::format("; left out {}", why)));
}

}  // namespace vitrine::app

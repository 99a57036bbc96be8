// From a choice of values to a line of the file: both prompts, their tokens, answers and roles.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/prompt_sets/prompt_sets.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

using Kind = CorruptRule::Kind;

// A draft that a check leaves out.
struct NotKept {
  std::string why, example;
};

// ---- a prompt and its tokens --------------------------------------------------------------------
struct TokenSpan {
  std::int64_t begin = 0, end = 0;
};

struct SpelledPrompt {
  FilledTemplate filled;
  nn::Tokens tokens;
  std::string bytes;                // of all tokens
  std::vector<std::size_t> begins;  // of each token in `bytes`, and the end of the last
  std::size_t text_at = 0;          // where the text begins in `bytes`
  bool apart = false;               // tokens are names with spaces between them

  // The tokens that have a byte of the place.
  TokenSpan span(const FilledTemplate::Place& place) const {
    const std::size_t from = place.begin + text_at, to = place.end + text_at;
    TokenSpan span{0, 0};
    for (std::size_t t = 0; t + 1 < begins.size(); ++t) {
      if (begins[t + 1] <= from) span.begin = static_cast<std::int64_t>(t) + 1;
      if (begins[t] < to) span.end = static_cast<std::int64_t>(t) + 1;
    }
    return span;
  }
  std::string_view bytes_of(const TokenSpan& span) const {
    const std::size_t from = begins[static_cast<std::size_t>(span.begin)];
    return std::string_view(bytes).substr(from, begins[static_cast<std::size_t>(span.end)] - from);
  }
  // What a prompts file says of the place: the text of its tokens where it occurs once, else their
  // positions.
  JsonValue role(const FilledTemplate::Place& place) const {
    const TokenSpan at = span(place);
    const std::string_view text = bytes_of(at);
    const std::string_view all = bytes;
    const bool whole = nn::replace_invalid_utf8(text) == text;
    if (whole && !apart && all.find(text) == all.rfind(text)) return std::string(text);
    if (at.end == at.begin + 1) return at.begin;
    return JsonValue::list({at.begin, at.end});
  }
};

SpelledPrompt spell(const nn::Model& model, FilledTemplate filled) {
  SpelledPrompt p;
  p.filled = std::move(filled);
  const std::string& text = p.filled.text;
  if (text.empty()) throw NotKept{"the prompt is empty", ""};
  p.tokens = model.encode_prompt(text);
  p.apart = !model.tokenizer().between().empty();
  for (const int id : p.tokens) {
    p.begins.push_back(p.bytes.size());
    p.bytes += (p.bytes.empty() ? "" : model.tokenizer().between()) + model.tokenizer().shown(id);
  }
  p.begins.push_back(p.bytes.size());
  // Tokens may stand before the text, and a space that the tokenizer puts there.
  if (!p.bytes.ends_with(text))
    throw NotKept{"the tokenizer changes the text, so that places in it cannot be found",
                  nn::quote(text)};
  p.text_at = p.bytes.size() - text.size();
  return p;
}

// ---- random tokens ------------------------------------------------------------------------------
RandomWords words_of(const nn::Model& model) {
  RandomWords words;
  const nn::Tokenizer& tokenizer = model.tokenizer();
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  for (int id = 0; id < std::min(tokenizer.vocabulary_size(), model.config().vocabulary); ++id) {
    if (!tokenizer.has_token(id)) continue;
    const std::string word = tokenizer.shown(id);
    const bool spaced = word.starts_with(' ');
    const std::string_view letters = std::string_view(word).substr(spaced ? 1 : 0);
    if (!letters.empty() && std::all_of(letters.begin(), letters.end(), is_letter))
      (spaced ? words.spaced : words.bare).push_back(word);
  }
  return words;
}

// As many random tokens as the slot has, as a text for the slot.
std::string random_value(const RandomWords& random, const SpelledPrompt& clean,
                         const std::vector<TemplatePiece>& pieces, const std::string& slot,
                         random::Key key) {
  for (const FilledTemplate::Place& place : clean.filled.places) {
    if (pieces[place.piece].slot != slot) continue;
    const TokenSpan span = clean.span(place);
    const bool spaced = clean.bytes_of(span).starts_with(' ');
    std::string value;
    for (std::int64_t t = span.begin; t < span.end; ++t) {
      const bool space = t == span.begin ? spaced : clean.bytes_of({t, t + 1}).starts_with(' ');
      const auto& words = space ? random.spaced : random.bare;
      if (words.empty()) throw NotKept{"the tokenizer has no words to put at random", ""};
      value += words[static_cast<std::size_t>(
          random::below(key, static_cast<std::uint64_t>(t), std::ssize(words)))];
    }
    // The space before a slot stands in the template.
    const bool own_space = clean.filled.text.substr(place.begin).starts_with(' ');
    return spaced && !own_space ? value.substr(1) : value;
  }
  throw Error(ErrorKind::usage,
              fmt::format("--corrupt random={0}: the template has no {{{0}}}", slot));
}

// ---- a line -------------------------------------------------------------------------------------
class LineMaker {
 public:
  LineMaker(const PromptRecipe& recipe, const nn::Model& model, const RandomWords& words,
            const PromptTemplate& shape, SlotValues values)
      : recipe_(recipe),
        model_(model),
        words_(words),
        shape_(shape),
        values_(std::move(values)),
        roles_(roles_of(shape.pieces)) {}

  PromptLine line(random::Key key) {
    clean_ = spell(model_, fill(shape_.pieces, [&](const auto& p) { return values_.at(p.slot); }));
    partner_ = values_;
    if (!recipe_.corrupt.empty()) make_partner(key);
    return written();
  }

 private:
  void make_partner(random::Key key) {
    std::map<std::string, std::string> put;  // role -> slot
    for (std::size_t r = 0; r < recipe_.corrupt.size(); ++r) {
      const CorruptRule& rule = recipe_.corrupt[r];
      const random::Key own = key.fold(r);
      if (rule.kind == Kind::swap) {
        std::swap(partner_.at(rule.slots[0]), partner_.at(rule.slots[1]));
      } else if (rule.kind == Kind::put) {
        put[rule.slots[0]] = rule.slots[1];
      } else if (rule.kind == Kind::other) {
        change_row(rule.slots, own);
      } else {
        for (std::size_t s = 0; s < rule.slots.size(); ++s) {
          partner_.at(rule.slots[s]) =
              random_value(words_, clean_, shape_.pieces, rule.slots[s], own.fold(s));
        }
      }
    }
    const auto value = [&](const TemplatePiece& piece) {
      const auto at = static_cast<std::size_t>(&piece - shape_.pieces.data());
      const auto other = put.find(roles_[at]);
      return partner_.at(other == put.end() ? piece.slot : other->second);
    };
    corrupt_ = spell(model_, fill(shape_.pieces, value));
    if (corrupt_.filled.text == clean_.filled.text)
      throw NotKept{"the corrupt prompt is the clean one", nn::quote(clean_.filled.text)};
    if (corrupt_.tokens.size() != clean_.tokens.size()) {
      throw NotKept{
          "clean and corrupt prompt have different numbers of tokens",
          fmt::format("{}: {}, {}: {}", nn::quote(clean_.filled.text), clean_.tokens.size(),
                      nn::quote(corrupt_.filled.text), corrupt_.tokens.size())};
    }
  }

  // Other values for these slots, which have in common what was asked for.
  void change_row(const std::vector<std::string>& slots, random::Key key) {
    const auto common = [&](const SlotValues& values) {
      std::vector<std::string> texts;
      for (const std::string& name : recipe_.within)
        texts.push_back(fill(recipe_.within_pieces(name), [&](const auto& p) {
                          return values.at(p.slot);
                        }).text);
      return texts;
    };
    const std::vector<std::string> wanted = common(partner_);
    const auto fits = [&](const SlotValues& values) { return common(values) == wanted; };
    if (recipe_.slots.change(slots, key, partner_,
                             wanted.empty() ? std::function<bool(const SlotValues&)>() : fits))
      return;
    if (wanted.empty()) throw NotKept{"there are no other values for the corrupt partner", ""};
    throw NotKept{fmt::format("no other row for the corrupt partner has the same {}",
                              fmt::join(recipe_.within, ", ")),
                  nn::quote(fmt::format("{}", fmt::join(wanted, ", ")))};
  }

  PromptLine written() const {
    PromptLine line{.prompt = clean_.tokens, .corrupt = corrupt_.tokens, .kind = shape_.name};
    const bool pair = !recipe_.corrupt.empty();
    line.json[pair ? "clean" : "prompt"] = clean_.filled.text;
    if (pair) line.json["corrupt"] = corrupt_.filled.text;
    const auto [answers, wrongs] = answer_texts();
    for (const std::string& answer : answers) {
      if (std::find(wrongs.begin(), wrongs.end(), answer) != wrongs.end())
        throw NotKept{"the right and the wrong answer are the same", nn::quote(answer)};
    }
    check_slots();
    line.answers = tokens_of(answers, "answer", line);
    line.wrongs = tokens_of(wrongs, "wrong", line);
    JsonValue roles = JsonValue::object();
    for (const FilledTemplate::Place& place : clean_.filled.places) {
      if (!roles_[place.piece].empty()) roles[roles_[place.piece]] = clean_.role(place);
    }
    roles["end"] = -1;
    line.json["roles"] = roles;
    for (const auto& [name, text] : shape_.fields) line.json[name] = text;
    for (const auto& [name, pieces] : recipe_.fields) line.json[name] = text_of(pieces);
    return line;
  }

  std::string text_of(const std::vector<TemplatePiece>& pieces) const {
    return fill(pieces,
                [&](const TemplatePiece& p) {
                  if (p.slot == "template" && !values_.contains(p.slot)) return shape_.name;
                  return (p.other ? partner_ : values_).at(p.slot);
                })
        .text;
  }
  PromptRecipe::Answers answer_texts() const {
    if (recipe_.answers_of) return recipe_.answers_of(values_);
    PromptRecipe::Answers found;
    for (const auto& pieces : recipe_.answers) found.first.push_back(text_of(pieces));
    for (const auto& pieces : recipe_.wrongs) found.second.push_back(text_of(pieces));
    return found;
  }

  bool single(const std::string& what) const {
    const auto& all = recipe_.single;
    return std::find(all.begin(), all.end(), what) != all.end();
  }
  // Throws NotKept for one that is not a single token where it should be.
  std::vector<nn::Tokens> tokens_of(const std::vector<std::string>& texts, const char* key,
                                    PromptLine& line) const {
    std::vector<nn::Tokens> found;
    for (const std::string& text : texts) {
      if (text.empty()) throw NotKept{"an answer is empty", ""};
      const auto one = single_token(text);
      if (!one && single(key)) {
        throw NotKept{fmt::format("the {} is not one token",
                                  key == std::string_view("wrong") ? "wrong answer" : key),
                      nn::quote(text)};
      }
      found.push_back(one ? nn::Tokens{*one} : model_.tokenizer().encode(text));
    }
    if (texts.size() == 1) line.json[key] = texts[0];
    if (texts.size() > 1) line.json[key] = texts;
    return found;
  }
  std::optional<int> single_token(const std::string& text) const {
    try {
      return model_.token(text);
    } catch (const TokenError&) {
      return std::nullopt;
    }
  }
  // Slots that should be one token are, in both prompts.
  void check_slots() const {
    for (const SpelledPrompt* prompt : {&clean_, &corrupt_}) {
      for (const FilledTemplate::Place& place : prompt->filled.places) {
        const std::string& slot = shape_.pieces[place.piece].slot;
        if (!single(slot)) continue;
        const TokenSpan span = prompt->span(place);
        const std::string value = prompt->filled.text.substr(place.begin, place.end - place.begin);
        const std::string_view text = prompt->bytes_of(span);
        if (span.end == span.begin + 1 && (text == value || text == " " + value)) continue;
        throw NotKept{fmt::format("the slot {} is not one token", slot), nn::quote(value)};
      }
    }
  }

  const PromptRecipe& recipe_;
  const nn::Model& model_;
  const RandomWords& words_;
  const PromptTemplate& shape_;
  SlotValues values_, partner_;
  std::vector<std::string> roles_;  // of the pieces
  SpelledPrompt clean_, corrupt_;
};

}  // namespace

TemplateDrafts::TemplateDrafts(const PromptRecipe& recipe, const nn::Model& model,
                               std::uint64_t seed)
    : recipe_(recipe), model_(model), key_(random::Key{seed}.fold("partners")) {
  recipe.check();
  const bool random = std::any_of(recipe.corrupt.begin(), recipe.corrupt.end(),
                                  [](const auto& rule) { return rule.kind == Kind::random; });
  if (random) words_ = words_of(model);
}

std::uint64_t TemplateDrafts::count() const {
  std::uint64_t count = 0;
  return __builtin_mul_overflow(recipe_.slots.combinations(), kinds(), &count) ? UINT64_MAX : count;
}

std::optional<PromptLine> TemplateDrafts::line(std::uint64_t draft, LeftOut& left_out) {
  const PromptTemplate& shape = recipe_.templates[static_cast<std::size_t>(draft % kinds())];
  LineMaker maker(recipe_, model_, words_, shape, recipe_.slots.combination(draft / kinds()));
  // A partner that does not fit is drawn once more.
  const bool drawn = std::any_of(recipe_.corrupt.begin(), recipe_.corrupt.end(), [](const auto& r) {
    return r.kind == Kind::other || r.kind == Kind::random;
  });
  const std::uint64_t attempts = drawn ? 20 : 1;
  for (std::uint64_t attempt = 0;; ++attempt) {
    try {
      PromptLine line = maker.line(key_.fold(draft).fold(attempt));
      if (seen_.insert(line.json.line()).second) return line;
      throw NotKept{"the same as another", ""};
    } catch (const NotKept& why) {
      if (attempt + 1 < attempts) continue;
      left_out.add(why.why, why.example);
      return std::nullopt;
    }
  }
}

}  // namespace vitrine::app

#include "apps/prompt_sets/ready_sets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "tensor/error.h"

namespace vitrine::app {
namespace {

// Places and capitals that are one word, under their most usual English names.
constexpr std::string_view kStates =
    "Alabama/Montgomery Alaska/Juneau Arizona/Phoenix California/Sacramento Colorado/Denver "
    "Connecticut/Hartford Delaware/Dover Florida/Tallahassee Georgia/Atlanta Hawaii/Honolulu "
    "Idaho/Boise Illinois/Springfield Indiana/Indianapolis Kansas/Topeka Kentucky/Frankfort "
    "Maine/Augusta Maryland/Annapolis Massachusetts/Boston Michigan/Lansing Mississippi/Jackson "
    "Montana/Helena Nebraska/Lincoln Ohio/Columbus Oregon/Salem Pennsylvania/Harrisburg "
    "Tennessee/Nashville Texas/Austin Vermont/Montpelier Virginia/Richmond Washington/Olympia "
    "Wisconsin/Madison Wyoming/Cheyenne";
constexpr std::string_view kCountries =
    "Afghanistan/Kabul Albania/Tirana Algeria/Algiers Armenia/Yerevan Australia/Canberra "
    "Austria/Vienna Bangladesh/Dhaka Belarus/Minsk Belgium/Brussels Brazil/Brasilia Bulgaria/Sofia "
    "Canada/Ottawa Chile/Santiago China/Beijing Croatia/Zagreb Cuba/Havana Denmark/Copenhagen "
    "Ecuador/Quito Egypt/Cairo England/London Estonia/Tallinn Fiji/Suva "
    "Finland/Helsinki France/Paris Germany/Berlin Ghana/Accra Greece/Athens "
    "Hungary/Budapest Iceland/Reykjavik Indonesia/Jakarta Iran/Tehran Iraq/Baghdad Ireland/Dublin "
    "Italy/Rome Jamaica/Kingston Japan/Tokyo Jordan/Amman Kenya/Nairobi Latvia/Riga Lebanon/Beirut "
    "Liberia/Monrovia Libya/Tripoli Lithuania/Vilnius Malta/Valletta Morocco/Rabat Nepal/Kathmandu "
    "Nigeria/Abuja Norway/Oslo Oman/Muscat Pakistan/Islamabad Peru/Lima Poland/Warsaw "
    "Portugal/Lisbon Qatar/Doha Romania/Bucharest Russia/Moscow Scotland/Edinburgh Senegal/Dakar "
    "Serbia/Belgrade Slovenia/Ljubljana Somalia/Mogadishu Spain/Madrid Sudan/Khartoum "
    "Sweden/Stockholm Syria/Damascus Taiwan/Taipei Thailand/Bangkok Tunisia/Tunis Turkey/Ankara "
    "Uganda/Kampala Ukraine/Kyiv Uruguay/Montevideo Venezuela/Caracas Vietnam/Hanoi Wales/Cardiff "
    "Zambia/Lusaka Zimbabwe/Harare";

constexpr std::string_view kNames =
    "John Mary Tom James Dan Sid Martin Amy Alice Anna Ben Bob Charles David Emma Edward Frank "
    "George Grace Harry Helen Henry Jack Jane Kate Laura Lucy Mark Michael Paul Peter Philip "
    "Rachel "
    "Richard Robert Rose Ruth Sam Sarah Simon Sophie Susan Thomas Tim Victor William Adam Andrew "
    "Anne Daniel Elizabeth Eric Kevin Linda Lisa Max Nancy Karen Brian Joe Jim Alex Oliver Matthew "
    "Anthony Jason Jessica Jennifer Scott Stephen Steve Jeff Chris Christine Margaret Patrick";
constexpr std::string_view kPlaces =
    "store park school garden office library market station hospital house shop";
constexpr std::string_view kObjects =
    "book drink ring ball gift letter cup coat hat map pen cake box bag";

// As in Wang et al. 2022, "Interpretability in the wild: a circuit for indirect object
// identification in GPT-2 small"; {0} and {1} are the two names, as templates.
struct Phrasing {
  const char* name;
  const char* text;
};
constexpr Phrasing kPhrasings[] = {
    {"went", "When {0} and {1} went to the {{place}}, {{b@s2}} gave a {{object}} to"},
    {"then", "Then, {0} and {1} went to the {{place}}. {{b@s2}} gave a {{object}} to"},
    {"after", "After {0} and {1} went to the {{place}}, {{b@s2}} gave a {{object}} to"},
    {"while", "While {0} and {1} were working at the {{place}}, {{b@s2}} gave a {{object}} to"},
};

constexpr std::string_view kNouns =
    "war conflict expedition project investigation process plan struggle campaign effort";

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> found;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    found.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return found;
}

bool is_token(const nn::Model& model, const std::string& text) {
  try {
    model.token(text);
    return true;
  } catch (const TokenError&) {
    return false;
  }
}

// The words that are one token with a space before them. Throws TokenError where there are too few.
SlotSource single_words(const nn::Model& model, std::vector<std::string> slots,
                        std::string_view list, std::string_view set, std::size_t least) {
  SlotSource source{.slots = std::move(slots), .different = false};
  source.different = source.slots.size() > 1;
  for (std::string& word : words(list)) {
    if (is_token(model, " " + word)) source.rows.push_back({std::move(word)});
  }
  if (source.rows.size() >= least) return source;
  throw TokenError(
      fmt::format("{} needs {} words that are one token each for {}, as \" {}\" "
                  "would be; this tokenizer has {}",
                  set, least, fmt::join(source.slots, ", "), words(list)[0], source.rows.size()));
}

// Drafts with the recipe that they are made by.
class OwnTemplateDrafts : public PromptDrafts {
 public:
  OwnTemplateDrafts(PromptRecipe recipe, const nn::Model& model, std::uint64_t seed)
      : recipe_(std::move(recipe)), drafts_(recipe_, model, seed) {}
  std::uint64_t count() const override { return drafts_.count(); }
  std::uint64_t kinds() const override { return drafts_.kinds(); }
  std::optional<PromptLine> line(std::uint64_t draft, LeftOut& left_out) override {
    return drafts_.line(draft, left_out);
  }

 private:
  PromptRecipe recipe_;
  TemplateDrafts drafts_;
};

std::vector<TemplatePiece> pieces_of(std::string_view text) {
  return parse_template(text, "a ready set");
}

// ---- The capital of Texas is -> Austin ----------------------------------------------------------
PromptRecipe capitals(const nn::Model& model) {
  PromptRecipe recipe;
  SlotSource table{.slots = {"place", "capital", "kind"}};
  const auto add = [&](std::string_view list, const char* kind) {
    for (const std::string& fact : words(list)) {
      const std::size_t slash = fact.find('/');
      const std::string place = fact.substr(0, slash), capital = fact.substr(slash + 1);
      if (is_token(model, " " + place) && is_token(model, " " + capital))
        table.rows.push_back({place, capital, kind});
    }
  };
  add(kStates, "state");
  add(kCountries, "country");
  if (table.rows.size() < 2) {
    throw TokenError(
        "capitals needs places and capitals that are one token each, as \" Texas\" and \" "
        "Austin\": this tokenizer has fewer than two such facts");
  }
  recipe.templates = {{"", pieces_of("The capital of {place@subject} is")}};
  recipe.slots.add(std::move(table), "capitals");
  recipe.corrupt = {{CorruptRule::Kind::other, {"place"}}};
  recipe.answers = {pieces_of(" {capital}")};
  recipe.wrongs = {pieces_of(" {capital:other}")};
  recipe.fields = {{"kind", pieces_of("{kind}")}};
  recipe.single = {"answer", "wrong", "place"};
  return recipe;
}

// ---- When Mary and John went to the shops, John gave a bag to -> Mary ---------------------------
PromptRecipe ioi(const nn::Model& model, bool abc) {
  PromptRecipe recipe;
  for (const Phrasing& p : kPhrasings) {
    for (const bool abba : {true, false}) {
      const std::string io = "{a@io}", s1 = "{b@s1}";
      std::string text = fmt::format(fmt::runtime(p.text), abba ? io : s1, abba ? s1 : io);
      const char* order = abba ? "ABBA" : "BABA";
      recipe.templates.push_back({fmt::format("{}-{}", p.name, order),
                                  pieces_of(text),
                                  {{"template", p.name}, {"order", order}}});
    }
  }
  recipe.slots.add(
      single_words(
          model, abc ? std::vector<std::string>{"a", "b", "c"} : std::vector<std::string>{"a", "b"},
          kNames, "ioi", abc ? 6 : 2),
      "ioi");
  recipe.slots.add(single_words(model, {"place"}, kPlaces, "ioi", 1), "ioi");
  recipe.slots.add(single_words(model, {"object"}, kObjects, "ioi", 1), "ioi");
  // The duplicated name is the other one: the answer is flipped. Or there are three other names.
  if (abc) recipe.corrupt = {{CorruptRule::Kind::other, {"a", "b", "c"}}};
  recipe.corrupt.push_back({CorruptRule::Kind::put, {"s2", abc ? "c" : "a"}});
  recipe.answers = {pieces_of(" {a}")};
  recipe.wrongs = {pieces_of(" {b}")};
  recipe.single = {"answer", "wrong", "a", "b"};
  return recipe;
}

// ---- The war lasted from the year 1732 to the year 17 -> 33, 34, ... ----------------------------
// Hanna et al. 2023, "How does GPT-2 compute greater-than?".
std::string two_digits(int number) { return fmt::format("{:02}", number); }

PromptRecipe greater_than(const nn::Model& model) {
  constexpr int kFirst = 2, kLast = 98;  // a smaller and a larger year are there
  std::vector<std::string> missing;
  for (int n = 0; n < 100; ++n) {
    if (!is_token(model, two_digits(n))) missing.push_back(two_digits(n));
  }
  if (!missing.empty()) {
    throw TokenError(fmt::format(
        "greater-than needs a token for each number of two digits, \"00\" to \"99\": this "
        "tokenizer has none for {} of them, such as \"{}\"",
        missing.size(), missing[0]));
  }
  PromptRecipe recipe;
  recipe.templates = {{"", pieces_of("The {noun} lasted from the year {century}{start} to the "
                                     "year {century@}")}};
  recipe.slots.add(single_words(model, {"noun"}, kNouns, "greater-than", 1), "greater-than");
  SlotSource centuries{.slots = {"century"}}, years{.slots = {"start"}};
  for (int c = 11; c <= 17; ++c) centuries.rows.push_back({two_digits(c)});
  for (int y = kFirst; y <= kLast; ++y) years.rows.push_back({two_digits(y)});
  recipe.slots.add(std::move(centuries), "greater-than");
  recipe.slots.add(std::move(years), "greater-than");
  recipe.slots.add({.slots = {"first"}, .rows = {{"01"}}}, "greater-than");
  recipe.corrupt = {{CorruptRule::Kind::put, {"start", "first"}}};  // any later year is right
  recipe.answers_of = [](const SlotValues& values) {
    PromptRecipe::Answers found;
    const int start = std::stoi(values.at("start"));
    for (int y = 0; y < 100; ++y) (y > start ? found.first : found.second).push_back(two_digits(y));
    return found;
  };
  recipe.fields = {{"century", pieces_of("{century}")}, {"noun", pieces_of("{noun}")}};
  recipe.single = {"answer", "wrong", "century", "start"};
  return recipe;
}

// ---- random tokens, and the same once more ------------------------------------------------------
class InductionDrafts : public PromptDrafts {
 public:
  InductionDrafts(const nn::Model& model, int length, std::uint64_t seed)
      : length_(length), key_(random::Key{seed}.fold("induction")) {
    for (int id = 0; id < model.config().vocabulary; ++id) {
      if (!model.has_tokenizer() || is_ordinary(model.tokenizer(), id)) ids_.push_back(id);
    }
    if (2 * length - 1 > model.config().context) {
      throw ContextError(
          fmt::format("--length {}: twice as many tokens, but one, are more than the "
                      "model's context of {}",
                      length, model.config().context));
    }
    if (std::ssize(ids_) <= length) {
      throw TokenError(
          fmt::format("--length {}: the prompt is of different tokens, but the model "
                      "has {}",
                      length, ids_.size()));
    }
  }
  std::uint64_t count() const override { return UINT64_MAX; }
  std::uint64_t kinds() const override { return 1; }

  std::optional<PromptLine> line(std::uint64_t draft, LeftOut&) override {
    // One more than the prompt needs: what follows in its place in the corrupt one.
    const random::Key key = key_.fold(draft);
    nn::Tokens drawn;
    for (std::uint64_t i = 0; std::ssize(drawn) <= length_; ++i) {
      const int id = ids_[static_cast<std::size_t>(random::below(key, i, std::ssize(ids_)))];
      if (std::find(drawn.begin(), drawn.end(), id) == drawn.end()) drawn.push_back(id);
    }
    const int wrong = drawn.back(), answer = drawn[drawn.size() - 2];
    drawn.pop_back();
    PromptLine line;
    line.prompt = drawn;
    line.prompt.insert(line.prompt.end(), drawn.begin(), drawn.end() - 1);
    line.corrupt = line.prompt;
    line.corrupt[drawn.size() - 1] = wrong;
    line.answers = {{answer}};
    line.wrongs = {{wrong}};
    line.json = {{"clean_tokens", line.prompt},
                 {"corrupt_tokens", line.corrupt},
                 {"answer_token", answer},
                 {"wrong_token", wrong},
                 {"roles", {{"first", length_ - 2}, {"next", length_ - 1}, {"end", -1}}}};
    return line;
  }

 private:
  static bool is_ordinary(const nn::Tokenizer& tokenizer, int id) {
    const auto& added = tokenizer.added_tokens();
    return tokenizer.has_token(id) &&
           std::none_of(added.begin(), added.end(), [&](const auto& t) { return t.id == id; });
  }

  int length_;
  random::Key key_;
  nn::Tokens ids_;  // those that are drawn
};

}  // namespace

const std::vector<std::string>& ready_sets() {
  static const std::vector<std::string> kSets = {"capitals", "ioi", "induction", "greater-than"};
  return kSets;
}

std::unique_ptr<PromptDrafts> ready_drafts(const ReadySet& set, const nn::Model& model) {
  if (set.name == "induction")
    return std::make_unique<InductionDrafts>(model, set.length, set.seed);
  PromptRecipe recipe = set.name == "capitals" ? capitals(model)
                        : set.name == "ioi"    ? ioi(model, set.abc)
                                               : greater_than(model);
  return std::make_unique<OwnTemplateDrafts>(std::move(recipe), model, set.seed);
}

}  // namespace vitrine::app

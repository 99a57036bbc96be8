// What the card of the default model promises, asked of the model that ships.
//
// questions.jsonl is what apps/recipe/evaluate.py asks (its --questions writes it): capitals in
// trained and held-out phrasings, both ways round, and gifts between pairs of names that are in no
// training text.
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "nn/text/text_loss.h"
#include "tensor/files/file.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

const Model& shipped() {
  static const Model model = load_gpt2();
  return model;
}

// Whether greedy decoding goes on with the whole of `answer`, and with no longer word.
bool says(const std::string& prompt, const std::string& answer) {
  const Tokenizer& t = shipped().tokenizer();
  const std::string word = " " + answer;
  const int enough = static_cast<int>(t.encode(word).size()) + 2;
  const std::string text =
      t.decode(generate(shipped(), t.encode(prompt), enough, {}, random::Key{0}));
  return text.starts_with(word) &&
         (text.size() == word.size() ||
          std::isalpha(static_cast<unsigned char>(text[word.size()])) == 0);
}

TEST(DefaultModel, KnowsCapitalsBothWaysRoundAndWhoGotTheGift) {
  struct Count {
    int right = 0, asked = 0;
  };
  std::map<std::string, Count> groups;
  std::istringstream lines(read_text(test::data() / "default-model/questions.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto question = nlohmann::json::parse(line);
    Count& count = groups[question["group"]];
    ++count.asked;
    if (says(question["prompt"], question["answer"])) ++count.right;
  }
  const std::map<std::string, double> least = {
      {"capitals forward, trained", 0.95},  {"capitals reverse, trained", 0.95},
      {"capitals forward, held out", 0.80}, {"capitals reverse, held out", 0.80},
      {"gifts, giver first", 0.90},         {"gifts, giver second", 0.90}};
  ASSERT_EQ(groups.size(), least.size());
  for (const auto& [group, share] : least) {
    const Count& count = groups[group];
    EXPECT_GE(count.asked, 100) << group;
    EXPECT_GE(count.right, share * count.asked)
        << group << ": " << count.right << " of " << count.asked;
  }
}

TEST(DefaultModel, ContinuesRandomTokensThatAreSaidAgain) {
  const Induction found = induction(shipped(), random::Key{1}, 16, 50);
  EXPECT_LE(found.second, found.first / 2);
  EXPECT_GT(found.score, 0.5) << "attention of the best induction head";
}

// The bound is what the 4-layer model of the same width, that this one took the place of, reaches.
TEST(DefaultModel, ReadsEnglishBetterThanTheModelBefore) {
  TextLossMeter meter(shipped());
  meter.add(shipped().tokenizer().encode(read_text(test::data() / "held-out.txt")));
  EXPECT_LT(meter.finish().bits_per_byte(), 2.026);
}

TEST(DefaultModel, IsSmall) {
  EXPECT_GE(shipped().config().layers, 6);
  EXPECT_LE(shipped().config().layers, 8);
  EXPECT_LE(shipped().config().parameter_count(), 7'800'000);
}

}  // namespace
}  // namespace vitrine::nn

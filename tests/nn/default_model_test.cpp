// What the model that ships with the project can do: its card says it, this holds it to that.
//
// data/default-model/questions.jsonl is what apps/recipe/evaluate.py asks: {group, prompt, answer} a
// line. The greedy continuation must begin with the whole answer.
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "nn/sampling.h"
#include "nn/text_loss.h"
#include "tensor/file.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

const Model& model() {
  static const Model m = load_gpt2();
  return m;
}

// Whether the model goes on with this name and with no longer word.
bool says(const std::string& prompt, const std::string& answer) {
  constexpr int kLongest = 12;  // tokens
  std::string text;
  generate(model(), model().tokens(prompt), kLongest, {}, random::Key{0}, [&](int id) {
    text += model().tokenizer().token_bytes(id);
    return text.size() <= answer.size();
  });
  return text.starts_with(answer) && (text.size() == answer.size() ||
                                      std::isalpha(static_cast<unsigned char>(text[answer.size()])) == 0);
}

TEST(DefaultModel, IsSmall) {
  EXPECT_GE(model().config().layers, 6);
  EXPECT_LE(model().config().layers, 8);
  EXPECT_LE(model().config().parameter_count(), 7'800'000);
  std::uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(VITRINE_DEFAULT_MODEL))
    bytes += file.file_size();
  EXPECT_LE(bytes, 16'000'000u);
}

TEST(DefaultModel, KnowsCapitalsAndWhoGotTheGift) {
  struct Count {
    int right = 0, asked = 0;
  };
  std::map<std::string, Count> groups;
  std::istringstream lines(read_text(test::data() / "default-model/questions.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const auto q = nlohmann::json::parse(line);
    Count& count = groups[q.at("group")];
    ++count.asked;
    if (says(q.at("prompt"), q.at("answer"))) ++count.right;
  }
  ASSERT_EQ(groups.size(), 6u);
  for (const auto& [group, count] : groups) {
    const double least = group.starts_with("gifts") ? 0.9 : group.ends_with("held out") ? 0.8 : 0.95;
    EXPECT_GE(count.asked, 40) << group;
    EXPECT_GE(count.right, least * count.asked) << group;
  }
}

TEST(DefaultModel, ContinuesRepeatedRandomTokens) {
  const Induction i = induction(model(), random::Key{5}, 16, 48);
  EXPECT_LE(i.second, i.first / 2);
  EXPECT_GT(i.score, 0.3);  // some head attends to what followed last time
}

// A text that neither model was trained on.
TEST(DefaultModel, ReadsEnglishBetterThanTheReferenceModel) {
  VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
  const std::string text = read_text(test::data() / "held-out.txt");
  const auto bits = [&](const Model& m) {
    TextLossMeter meter(m);
    meter.add(m.tokenizer().encode(text));
    return meter.finish().bits_per_byte();
  };
  EXPECT_LT(bits(model()), bits(load_gpt2((test::shared() / "reference/atlas-gpt2").string())));
}

}  // namespace
}  // namespace vitrine::nn

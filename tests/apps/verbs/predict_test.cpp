#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/apps/program.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json predict(const std::string& prompt) {
  return vitrine({"predict", "--prompt", prompt, "--format", "json"}).json();
}

TEST(Predict, TheDefaultModelKnowsItsFacts) {
  const auto best = [](const std::string& prompt) { return predict(prompt)["top"][0]; };
  EXPECT_EQ(best("The capital of Texas is")["token"], " Austin");
  EXPECT_EQ(best("The capital of California is")["token"], " Sacramento");
  EXPECT_EQ(best("The capital city of Japan is")["token"], " Tokyo");
  EXPECT_EQ(best("When Mary and John went to the store, John gave a book to")["token"], " Mary");
  EXPECT_GT(best("The capital of Texas is")["prob"].get<double>(), 0.95);
  EXPECT_EQ(best("Paris is the capital of")["token"], " France");
}

TEST(Predict, Json) {
  const json j = predict("The capital of Texas is");
  EXPECT_EQ(j["str_tokens"], json({"The", " capital", " of", " Texas", " is"}));
  EXPECT_EQ(j["tokens"].size(), 5u);
  ASSERT_EQ(j["top"].size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(j["top"][i].size(), 4u);
    EXPECT_TRUE(j["top"][i]["id"].is_number_integer());
    if (i > 0) {
      EXPECT_LE(j["top"][i]["logit"], j["top"][i - 1]["logit"]);
    }
  }
  // Logits and probabilities belong together: p = softmax(logit).
  const double difference = j["top"][0]["logit"].get<double>() - j["top"][1]["logit"].get<double>();
  const double odds = j["top"][0]["prob"].get<double>() / j["top"][1]["prob"].get<double>();
  EXPECT_NEAR(std::log(odds), difference, 1e-9);
}

TEST(Predict, TableBeginsWithTheAnswer) {
  const Outcome o = vitrine({"predict", "--prompt", "The capital of Texas is", "--top", "3"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_EQ(o.err, "");
  EXPECT_TRUE(o.out.starts_with("`The capital of Texas is` → ` Austin`\n")) << o.out;
  EXPECT_THAT(o.out, HasSubstr("\"The\" \" capital\" \" of\" \" Texas\" \" is\""));
  EXPECT_THAT(o.out, HasSubstr("\" Austin\""));
  EXPECT_THAT(o.out, ::testing::ContainsRegex("9[0-9]\\.[0-9][0-9]%  ███"));
  EXPECT_THAT(o.out, HasSubstr("   3  "));
  EXPECT_THAT(o.out, ::testing::Not(HasSubstr("   4  ")));
}

TEST(Predict, LongPromptsAreShownByTheirEnd) {
  std::string prompt;
  for (int i = 0; i < 40; ++i) prompt += " word é";
  const Outcome o = vitrine({"predict", "--prompt", prompt + " end"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_TRUE(o.out.starts_with("`…")) << o.out;
  EXPECT_LT(o.out.find('\n'), 120u);
  EXPECT_THAT(o.out, HasSubstr(" more) "));
}

TEST(Predict, ByIdsWithoutATokenizer) {
  // The logits are golden: those after the last token of the clean row.
  const auto golden = SafeTensors::open(tiny_model() / "golden/forward.safetensors");
  const auto ids = golden.at("tokens").select(0, 0).to_vector<int>();
  const auto logits = golden.at("logits").select(0, 0).select(0, -1 + golden.at("logits").dim(1));
  std::string list;
  for (const int id : ids) list += (list.empty() ? "" : ",") + std::to_string(id);
  const Outcome o = vitrine(
      {"predict", "--model", tiny_model(), "--tokens", list, "--format", "json", "--top", "97"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const json j = o.json();
  EXPECT_EQ(j["tokens"], json(ids));
  EXPECT_TRUE(j["str_tokens"].is_null());
  ASSERT_EQ(j["top"].size(), 97u);
  const auto row = logits.to_vector<double>();
  for (const json& entry : j["top"]) {
    EXPECT_TRUE(entry["token"].is_null());
    EXPECT_NEAR(entry["logit"].get<double>(), row.at(entry["id"].get<std::size_t>()), 2e-5 * 10);
  }
  const Outcome table = vitrine({"predict", "--model", tiny_model(), "--tokens", "1, 2,3"});
  EXPECT_TRUE(table.out.starts_with("`1 2 3` → `")) << table.out << table.err;
}

TEST(Predict, PrependBos) {
  const json plain = predict("The capital of Texas is");
  const json bos = vitrine({"predict", "--prompt", "The capital of Texas is", "--prepend-bos",
                            "--format", "json"})
                       .json();
  ASSERT_EQ(bos["tokens"].size(), plain["tokens"].size() + 1);
  EXPECT_EQ(bos["tokens"][0], 0);  // config.json's bos_token_id
  EXPECT_EQ(bos["str_tokens"][0], "<|endoftext|>");
  EXPECT_EQ(vitrine({"predict", "--prompt", "", "--prepend-bos"}).exit, 0);
}

TEST(Predict, TextThatLooksLikeAnOptionOrAList) {
  for (const std::string text : {"--help", "-x", "[a]", "{}", "%%", "'q'", "a,b", "--", "\"z\""}) {
    const Outcome o = vitrine({"predict", "--prompt", text, "--format", "json"});
    ASSERT_EQ(o.exit, 0) << text << o.err;
    std::string back;
    const json j = o.json();
    for (const auto& token : j["str_tokens"]) back += token.get<std::string>();
    EXPECT_EQ(back, text);
  }
}

}  // namespace
}  // namespace vitrine::test

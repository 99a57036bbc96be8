// What vitrine attention says; the numbers are TransformerLens's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Words kTexas = {"attention", "--prompt", "The capital of Texas is", "--layer", "1"};

TEST(Attention, TensorsEqualTheReference) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/forward.safetensors");
  const Tensor tokens = golden.at("tokens").select(0, 0);
  for (int layer = 0; layer < 3; ++layer) {
    const TemporaryFolder folder;
    const std::string file = folder / "pattern.safetensors";
    const Words words = {"attention",
                         "--model",
                         tiny_model().string(),
                         "--tokens",
                         list_of(tokens),
                         "--layer",
                         std::to_string(layer),
                         "--out",
                         file};
    const Outcome o = vitrine(words + Words{"--format", "json"});
    ASSERT_EQ(o.exit, 0) << o.err;
    const Tensor want =
        golden.at(fmt::format("site/blocks.{}.attn.hook_pattern", layer)).select(0, 0);
    expect_close(SafeTensors::open(file).at("pattern"), want, 2e-5, "pattern");
    const json j = o.json();
    EXPECT_TRUE(j["str_tokens"].is_null());
    EXPECT_EQ(j["heads"], json({0, 1, 2, 3}));
    EXPECT_EQ(j["file"], file);
    const auto last = static_cast<std::size_t>(tokens.numel() - 1);
    EXPECT_NEAR(j["pattern"][2][last][1].get<double>(), want.at<float>({2, tokens.numel() - 1, 1}),
                1e-5);
    // One head is the same, and the sources come in order.
    ASSERT_EQ(vitrine(words + Words{"--head", "2"}).exit, 0);
    const Tensor one = SafeTensors::open(file).at("pattern");
    EXPECT_EQ(to_string(one.shape()), fmt::format("[1, {}, {}]", tokens.numel(), tokens.numel()));
    EXPECT_EQ(
        max_abs_difference(one.select(0, 0).contiguous(), want.select(0, 2).contiguous()) < 2e-5,
        true);
    for (const json& query : j["top"][2]) {
      for (std::size_t i = 1; i < query.size(); ++i)
        EXPECT_LE(query[i]["weight"].get<double>(), query[i - 1]["weight"].get<double>());
    }
  }
}

TEST(Attention, TheStateIsLookedAt) {
  const json j = vitrine(kTexas + Words{"--head", "2", "--format", "json"}).json();
  EXPECT_EQ(j["heads"], json({2}));
  EXPECT_EQ(j["str_tokens"][3], " Texas");
  double sum = 0;
  for (const double w : j["pattern"][0][4]) sum += w;
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(j["top"][0][4][0]["pos"], 3);  // " is" looks at " Texas"
  EXPECT_EQ(j["top"][0][0].size(), 1u);    // the first token has itself alone
  EXPECT_EQ(j["pattern"][0][0][4], 0);
}

TEST(Attention, Tables) {
  const Outcome one = vitrine(kTexas + Words{"--head", "2"});
  EXPECT_EQ(one.exit, 0);
  EXPECT_EQ(one.err, "");
  EXPECT_THAT(one.out, AllOf(HasSubstr("layer 1, head 2"), HasSubstr("3 \" Texas\""),
                             HasSubstr("a column for each that it looks at"),
                             HasSubstr("what each token looks at most")));
  const Outcome all = vitrine(kTexas);
  EXPECT_THAT(all.out, AllOf(HasSubstr("layer 1, 4 heads"), HasSubstr("head 3"),
                             Not(HasSubstr("a column for each"))));
}

TEST(Attention, LongPromptsStayReadable) {
  std::string text = "The";
  for (int i = 0; i < 60; ++i) text += " capital of Texas";
  const Outcome o = vitrine({"attention", "--prompt", text, "--layer", "0", "--head", "1"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out,
              AllOf(HasSubstr("the last 40 of "), HasSubstr("those with the largest numbers")));
  EXPECT_LT(std::count(o.out.begin(), o.out.end(), '\n'), 100);
}

TEST(Attention, WeightsHaveNoSign) {
  const Outcome o = vitrine(kTexas + Words{"--head", "2"});
  EXPECT_THAT(o.out, HasSubstr(" 1.00"));
  EXPECT_THAT(o.out, Not(HasSubstr("+")));
}

// As many columns as there is room for: COLUMNS says so where there is no terminal.
TEST(Attention, AsWideAsColumnsSays) {
  std::string text = "The";
  for (int i = 0; i < 6; ++i) text += " capital of Texas";
  const Words command = {"attention", "--prompt", text, "--layer", "0", "--head", "1"};
  const auto widest = [&](const char* columns) {
    const Outcome o = vitrine(command, {.environment = {{"COLUMNS", columns}}});
    EXPECT_EQ(o.exit, 0) << o.err;
    std::string matrix = o.out.substr(0, o.out.find("what each token looks at most"));
    matrix.erase(0, matrix.find("\nfrom"));  // sentences have lines of their own length
    std::size_t most = 0, width = 0;
    for (const char c : matrix) {
      width = c == '\n' ? 0 : width + ((static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0);
      most = std::max(most, width);
    }
    return std::pair(most, matrix.find("those with the largest numbers") != std::string::npos);
  };
  EXPECT_FALSE(widest("").second);  // not set: 100, which is enough with blocks below each other
  EXPECT_LE(widest("").first, 100u);
  EXPECT_EQ(widest("nonsense"), widest(""));
  const auto [most, cut] = widest("400");
  EXPECT_FALSE(cut);
  EXPECT_GT(most, 150u);
  EXPECT_LE(widest("60").first, 60u);
  EXPECT_TRUE(widest("60").second);
}

TEST(Attention, Errors) {
  expect_failure(kTexas + Words{"--head", "4"}, 2, "--head 4: each layer has heads 0 to 3");
  expect_failure({"attention", "--prompt", "a", "--layer", "6"}, 2,
                 "--layer 6: this model has layers 0 to 5");
  expect_failure({"attention", "--prompt", "a"}, 2, "--layer");
  expect_failure({"attention", "--layer", "1"}, 2, "there is no prompt");
}

}  // namespace
}  // namespace vitrine::test

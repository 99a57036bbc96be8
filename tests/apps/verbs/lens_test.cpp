// What vitrine lens says; the numbers are TransformerLens's.
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

const Words kTexas = {"lens", "--prompt", "The capital of Texas is"};

TEST(Lens, TensorsEqualTheReference) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/decomposition.safetensors");
  const auto patching = SafeTensors::open(tiny_model() / "golden/patching.safetensors");
  for (const char* gauge : {"raw", "processed"}) {
    SCOPED_TRACE(gauge);
    const TemporaryFolder folder;
    const std::string file = folder / "lens.safetensors";
    const Outcome o = vitrine({"lens", "--model", tiny_model().string(), "--tokens",
                               list_of(patching.at("clean")), "--answer-token",
                               std::to_string(patching.at("answer").to_vector<int>()[0]), "--gauge",
                               gauge, "--out", file, "--format", "json"});
    ASSERT_EQ(o.exit, 0) << o.err;
    const json j = o.json();
    EXPECT_EQ(j["file"], file);
    EXPECT_EQ(j["meta"]["gauge"], gauge);
    EXPECT_TRUE(j["str_tokens"].is_null());
    EXPECT_TRUE(j["answer"]["token"].is_null());
    const auto saved = SafeTensors::open(file);
    for (const auto& [mine, theirs] :
         {std::pair<std::string, std::string>{"raw", "lens_no_ln"}, {"ln", "lens_ln"}}) {
      const Tensor x = saved.at(mine);
      ASSERT_EQ(x.numel(), 4);  // the embedding and three layers
      const Tensor want = golden.at(std::string(gauge) + "/" + theirs);
      EXPECT_LE(max_abs_difference(x.slice(0, 1, 4), want), 1e-4) << mine;
      EXPECT_NEAR(j[mine][3].get<double>(), want.at<float>({2}), 1e-4);
    }
  }
}

TEST(Lens, TheAnswerRises) {
  const json j = vitrine(kTexas + Words{"--answer", " Austin", "--format", "json"}).json();
  EXPECT_EQ(j["position"], 4);
  EXPECT_EQ(j["answer"]["token"], " Austin");
  EXPECT_TRUE(j["wrong"].is_null());
  ASSERT_EQ(j["stages"].size(), 7u);
  EXPECT_EQ(j["stages"][0], "embedding");
  EXPECT_TRUE(j["raw_change"][0].is_null());
  double sum = j["raw"][0];
  for (std::size_t s = 1; s < 7; ++s) sum += j["raw_change"][s].get<double>();
  EXPECT_NEAR(sum, j["raw"][6].get<double>(), 1e-9);  // raw changes add up
  EXPECT_GT(j["ln"][6].get<double>(), j["ln"][0].get<double>() + 10);
  EXPECT_EQ(j["top"][6][0]["token"], " Austin");
  EXPECT_EQ(j["top"][6].size(), 3u);
  EXPECT_NEAR(j["top"][6][0]["logit"].get<double>(), j["ln"][6].get<double>(), 1e-4);
}

TEST(Lens, WithoutAnAnswerThePredictionIsExplained) {
  const json j = vitrine(kTexas + Words{"--format", "json"}).json();
  EXPECT_EQ(j["answer"]["token"], " Austin");
}

TEST(Lens, ADifferenceOfTwoAnswers) {
  const auto ln = [&](const Words& answers) {
    return vitrine(kTexas + answers + Words{"--format", "json"})
        .json()["ln"]
        .get<std::vector<double>>();
  };
  const auto a = ln({"--answer", " Austin"}), b = ln({"--answer", " Sacramento"}),
             d = ln({"--answer", " Austin", "--wrong", " Sacramento"});
  for (std::size_t s = 0; s < d.size(); ++s) EXPECT_NEAR(d[s], a[s] - b[s], 1e-4);
}

TEST(Lens, AllPositions) {
  const json all =
      vitrine(kTexas + Words{"--answer", " Austin", "--pos", "all", "--format", "json"}).json();
  EXPECT_TRUE(all["position"].is_null());
  ASSERT_EQ(all["ln"].size(), 7u);
  ASSERT_EQ(all["ln"][0].size(), 5u);
  ASSERT_EQ(all["top"].size(), 5u);
  for (const char* p : {"2", "-3"}) {
    const json one =
        vitrine(kTexas + Words{"--answer", " Austin", "--pos", p, "--format", "json"}).json();
    EXPECT_EQ(one["position"], 2);
    for (std::size_t s = 0; s < 7; ++s)
      EXPECT_NEAR(one["ln"][s].get<double>(), all["ln"][s][2].get<double>(), 1e-5);
    EXPECT_EQ(one["top"][3][0]["id"], all["top"][2][3][0]["id"]);
  }
  const Outcome table = vitrine(kTexas + Words{"--pos", "all"});
  EXPECT_THAT(table.out, AllOf(HasSubstr("\" Texas\""), HasSubstr("most probable next token"),
                               HasSubstr("layer 5")));
}

TEST(Lens, TheTableSaysWhatAddsUp) {
  const Outcome o = vitrine(kTexas);
  EXPECT_EQ(o.exit, 0);
  EXPECT_EQ(o.err, "");
  EXPECT_THAT(o.out, AllOf(HasSubstr("`The capital of Texas is` → logit \" Austin\""),
                           HasSubstr("gauge: raw"), HasSubstr("whose changes add up"),
                           HasSubstr("embedding"), HasSubstr("\" Austin\" 99.")));
}

TEST(Lens, Errors) {
  const auto says = [](const Words& options, int exit, const char* what) {
    expect_failure(kTexas + options, exit, what);
  };
  says({"--answer", "Austin!"}, 3, "token");
  says({"--answer-token", "6000"}, 3, "the answer has id 6000; this model knows ids 0 to 5999");
  says({"--pos", "5"}, 3, "--pos 5: the prompt has 5 tokens, 0 to 4");
  says({"--pos", "-6"}, 3, "--pos -6: the prompt has 5 tokens");
  says({"--pos", "last"}, 2, "or all, not 'last'");
  says({"--answer", " Austin", "--wrong", " Austin"}, 3, "the same token");
  says({"--answer", " Austin", "--answer-token", "3"}, 2, "not both");
  says({"--gauge", "folded"}, 2, "there is no gauge 'folded'");
}

}  // namespace
}  // namespace vitrine::test

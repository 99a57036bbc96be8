// What vitrine attention says; the numbers are TransformerLens's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/states.h"
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

// ---- many prompts -------------------------------------------------------------------------------
// How much a head looks from one position to others, together, in a single run.
double weight_of(const json& single, std::size_t head, std::size_t from,
                 const std::vector<std::size_t>& to) {
  double sum = 0;
  for (const std::size_t k : to) sum += single["pattern"][head][from][k].get<double>();
  return sum;
}

TEST(AttentionOfPrompts, MeansAreThoseOfSingleRuns) {
  const TemporaryFolder folder;
  const Words many = {"attention", "--prompts", state_prompts(folder)};
  const json j = result_of(many + Words{"--to", "name,0,-2", "--group-by", "coast"});
  EXPECT_EQ(j["from"], "-1");
  EXPECT_EQ(j["to"], json({"name", "0", "-2"}));
  ASSERT_EQ(j["heads"].size(), 24u);  // 6 layers of 4
  EXPECT_EQ(j["heads"][7], "1.3");
  for (std::size_t layer = 0; layer < 6; ++layer) {
    std::vector<json> single;
    for (const StatePrompt& s : kStatePrompts)
      single.push_back(
          result_of({"attention", "--prompt", s.prompt(), "--layer", std::to_string(layer)}));
    for (std::size_t head = 0; head < 4; ++head) {
      const std::size_t at = 4 * layer + head;
      std::vector<double> name, first, before;
      for (std::size_t i = 0; i < 4; ++i) {
        const auto end = static_cast<std::size_t>(kStatePrompts[i].end);
        std::vector<std::size_t> tokens = {3};
        if (end == 5) tokens.push_back(4);  // New Mexico
        name.push_back(weight_of(single[i], head, end, tokens));
        first.push_back(weight_of(single[i], head, end, {0}));
        before.push_back(weight_of(single[i], head, end, {end - 1}));
        EXPECT_NEAR(j["prompts"][i]["to_name"][at].get<double>(), name.back(), 2e-6);
      }
      const json& all = j["all"];
      expect_mean(all["to_name"]["mean"][at], all["to_name"]["standard_error"][at], name, 2e-6);
      expect_mean(all["to_0"]["mean"][at], all["to_0"]["standard_error"][at], first, 2e-6);
      expect_mean(all["to_-2"]["mean"][at], all["to_-2"]["standard_error"][at], before, 2e-6);
      const json& none = j["groups"][2];  // Ohio and New Mexico
      EXPECT_EQ(none["name"], "none");
      expect_mean(none["to_name"]["mean"][at], none["to_name"]["standard_error"][at],
                  {name[2], name[3]}, 2e-6);
    }
  }
  // One layer, one head, from a role.
  const json one =
      result_of(many + Words{"--layer", "3", "--head", "2", "--from", "name", "--to", "of"});
  EXPECT_EQ(one["heads"], json({"3.2"}));
  std::vector<double> weights;
  for (const StatePrompt& s : kStatePrompts)
    weights.push_back(result_of({"attention", "--prompt", s.prompt(), "--layer",
                                 "3"})["pattern"][2][static_cast<std::size_t>(s.end) - 1][2]
                          .get<double>());
  expect_mean(one["all"]["to_of"]["mean"][0], one["all"]["to_of"]["standard_error"][0], weights,
              2e-6);
}

TEST(AttentionOfPrompts, TablesAndFiles) {
  const TemporaryFolder folder;
  const Words many = {"attention", "--prompts", state_prompts(folder), "--to", "name,0"};
  const Outcome o = vitrine(many + Words{"--each", "--top", "3"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("4 prompts: 3 of 5 tokens, 1 of 6\nattention from -1 to "
                                     "name,0, by the largest mean\n"),
                           HasSubstr("\nhead "), HasSubstr("to name"), HasSubstr("to 0"),
                           HasSubstr("and 21 more"), HasSubstr("The capital of New Mexico is")));
  const json j = result_of(many + Words{"--out", folder / "a.safetensors"});
  const auto saved = SafeTensors::open(folder / "a.safetensors");
  EXPECT_EQ(saved.at("to_name").shape(), (Shape{6, 4}));
  EXPECT_EQ(saved.at("to_0/each").shape(), (Shape{4, 6, 4}));
  EXPECT_NEAR(saved.at("to_name").at<float>({1, 3}), j["all"]["to_name"]["mean"][7].get<double>(),
              1e-6);
  ASSERT_EQ(vitrine(many + Words{"--layer", "2", "--out", folder / "a.csv"}).exit, 0);
  EXPECT_THAT(read_text(folder / "a.csv"),
              AllOf(HasSubstr("tensor,layer,head,prompt,value\nto_name,2,0,,"),
                    HasSubstr("\nto_0/each,2,3,1,")));
}

TEST(AttentionOfPrompts, Mistakes) {
  const TemporaryFolder folder;
  const Words many = {"attention", "--prompts", state_prompts(folder)};
  expect_failure(many, 2, "there is no --to");
  expect_failure(many + Words{"--to", "city"}, 3,
                 "line 1: there is no role \"city\"; this prompt has \"name\", \"of\"");
  expect_failure(many + Words{"--to", "5"}, 3, "line 1: there is no position 5");
  expect_failure(many + Words{"--to", "name,,0"}, 2, "--to: there is an empty position");
  expect_failure(many + Words{"--to", "name,0,name"}, 2, "--to: name is there twice");
  expect_failure(many + Words{"--to", "0", "--from", "3,4"}, 2, "--from is one position or role");
  expect_failure(many + Words{"--to", "0", "--layer", "6"}, 2, "this model has layers 0 to 5");
  expect_failure(many + Words{"--to", "0", "--head", "4"}, 2, "each layer has heads 0 to 3");
  expect_failure(kTexas + Words{"--to", "0"}, 2, "--to is about the prompts of a file");
  expect_failure(kTexas + Words{"--from", "-1"}, 2, "--from is about the prompts of a file");
  expect_failure(many + Words{"--to", "0", "--prompt", "a"}, 2, "not both: the file has prompts");
  expect_failure({"attention", "--prompt", "a"}, 2, "there is no layer; give --layer L");
}

}  // namespace
}  // namespace vitrine::test

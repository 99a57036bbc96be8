// vitrine explain, as a user calls it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

const std::string kTexas = "The capital of Texas is";

json entries(Words words, const Words& more = {}) {
  words.insert(words.begin(), "explain");
  words.insert(words.end(), more.begin(), more.end());
  words.insert(words.end(), {"--format", "json"});
  return vitrine(words).json()["entries"];
}

json only(const Words& words, const Words& more = {}) {
  const json found = entries(words, more);
  EXPECT_EQ(found.size(), 1u) << found.dump();
  return found.at(0);
}

TEST(Explain, ASiteByItsShortNames) {
  const json all = only({"z"});
  EXPECT_EQ(all["kind"], "site");
  EXPECT_EQ(all["name"], "blocks.L.attn.hook_z");
  EXPECT_EQ(all["formula"], "pattern v");
  EXPECT_EQ(all["axes"], json({"batch", "position", "head", "feature"}));
  EXPECT_EQ(all["shape"], json({1, 10, 4, 64}));
  EXPECT_EQ(all["layers"], json({0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(all["file"], "nn/families/gpt2.cpp");
  EXPECT_TRUE(all["values"].is_null());
  EXPECT_EQ(only({"2.z"})["layers"], json({2}));
  EXPECT_EQ(only({"2.3.z"})["head"], 3);
  EXPECT_EQ(only({"blocks.2.attn.hook_z"}), only({"2.z"}));
  EXPECT_EQ(only({"2.z"}, {"--length", "7"})["shape"], json({1, 7, 4, 64}));
}

// The numbers are those of the values that `cache` saves.
TEST(Explain, ASitesNumbersOnAPrompt) {
  const TemporaryFolder folder;
  const std::string file = folder / "z.safetensors";
  ASSERT_EQ(vitrine({"cache", "--prompt", kTexas, "--sites", "z", "--out", file}).exit, 0);
  const json site = only({"z"}, {"--prompt", kTexas});
  ASSERT_EQ(site["values"].size(), 6u);
  for (const json& row : site["values"]) {
    const std::string name = "blocks." + std::to_string(row["layer"].get<int>()) + ".attn.hook_z";
    const Tensor z = SafeTensors::open(file).at(name);  // [1, 5, 4, 64]
    double sum = 0, least = 1e9, largest = 0, lengths = 0;
    for (int p = 0; p < 5; ++p) {
      for (int h = 0; h < 4; ++h) {
        double squares = 0;
        for (int f = 0; f < 64; ++f) {
          const double x = z.at<float>({0, p, h, f});
          sum += x;
          squares += x * x;
          least = std::min(least, x);
          largest = std::max(largest, std::abs(x));
        }
        lengths += std::sqrt(squares);
      }
    }
    EXPECT_NEAR(row["mean"].get<double>(), sum / 1280, 1e-6);
    EXPECT_NEAR(row["least"].get<double>(), least, 1e-6);
    EXPECT_NEAR(row["length"].get<double>(), lengths / 20, 1e-5);
    const json& at = row["largest"];
    EXPECT_NEAR(std::abs(at["value"].get<double>()), largest, 1e-6);
    EXPECT_EQ(z.at<float>({0, at["position"], at["head"], at["feature"]}),
              at["value"].get<float>());
  }
}

TEST(Explain, OneHeadAndEachPosition) {
  const json head = only({"1.2.pattern"}, {"--prompt", kTexas})["values"][0];
  EXPECT_EQ(head["positions"].size(), 5u);
  // Rows of a pattern add up to 1: the mean over 5 keys is a fifth. The last token looks at Texas.
  for (const json& query : head["positions"]) EXPECT_NEAR(query["mean"].get<double>(), 0.2, 1e-6);
  EXPECT_EQ(head["positions"][4]["largest"]["key"], 3);
  EXPECT_EQ(head["positions"][4]["largest"]["head"], 2);
  const json scores = only({"1.attn_scores"}, {"--prompt", kTexas})["values"][0];
  EXPECT_EQ(scores["hidden"], 4 * 10);  // heads, keys behind their query
}

TEST(Explain, AnOpAndWhereItStands) {
  const json norm = only({"layer_norm"});
  EXPECT_EQ(norm["kind"], "op");
  EXPECT_THAT(norm["formula"].get<std::string>(), HasSubstr("sqrt(var + eps)"));
  EXPECT_EQ(norm["file"], "autograd/ops/rows.cpp");
  EXPECT_EQ(norm["in_model"]["count"], 13);  // two in each of 6 blocks, and the last
  std::int64_t count = 0;
  for (const json& place : norm["in_model"]["places"]) count += place["count"].get<int>();
  EXPECT_EQ(count, 13);
  EXPECT_GT(norm["in_model"]["share"], 0);
  EXPECT_LT(norm["in_model"]["share"], 0.02);
  EXPECT_EQ(only({"softmax"})["in_model"]["count"], 0);
  EXPECT_EQ(only({"softmax"})["in_model"]["expanded"], 6);
  EXPECT_EQ(only({"attention_grad"})["in_model"]["backward"], 6);
}

TEST(Explain, ATermWithTheCommandThatShowsIt) {
  const json lens = only({"logit", "lens"}, {"--prompt", "The capital of France is"});
  EXPECT_EQ(lens["kind"], "term");
  EXPECT_EQ(lens["command"], "vitrine lens --prompt 'The capital of France is' --answer ' Paris'");
  EXPECT_EQ(lens["source"], "nostalgebraist 2020");
  EXPECT_EQ(only({"EAP-IG"})["name"], "edge attribution patching");
}

TEST(Explain, AVerbWithItsHelp) {
  const json verb = only({"sae", "train"});
  EXPECT_EQ(verb["help"], vitrine({"sae", "train", "--help"}).out);
  EXPECT_EQ(verb["file"], "apps/verbs/sae/sae_train.cpp");
  EXPECT_THAT(verb["example"].get<std::string>(), ::testing::StartsWith("vitrine sae train"));
}

TEST(Explain, AWordThatIsSeveralThings) {
  std::set<std::string> kinds;
  for (const json& entry : entries({"attention"})) kinds.insert(entry["kind"]);
  EXPECT_EQ(kinds, (std::set<std::string>{"verb", "term", "op"}));
  EXPECT_EQ(only({"attention"}, {"--kind", "op"})["kind"], "op");
}

TEST(Explain, ForPeople) {
  const Outcome site = vitrine({"explain", "2.pattern", "--prompt", kTexas});
  EXPECT_THAT(site.out, HasSubstr("formula   softmax(attn_scores)"));
  EXPECT_THAT(site.out, HasSubstr("[batch 1, head 4, query 5, key 5]"));
  EXPECT_THAT(site.out, HasSubstr("query 4 \" is\""));
  const Outcome all = vitrine({"explain"});
  for (const char* part :
       {"\n  predict", "\n  logit lens", "\n  softmax", "\n  blocks.L.attn.hook_z"})
    EXPECT_THAT("\n" + all.out, HasSubstr(part));
}

TEST(Explain, OtherModels) {
  const std::string llama = (data() / "families/llama").string();
  EXPECT_EQ(only({"rot_q"}, {"--model", llama})["file"], "nn/families/parts.cpp");
  const json without = only({"rot_q"});
  EXPECT_TRUE(without["layers"].is_null());
  EXPECT_THAT(vitrine({"explain", "rot_q"}).out, HasSubstr("this model has no such site"));
  const json ids = only({"logit lens"}, {"--model", tiny_model(), "--tokens", "1,2,3"});
  EXPECT_THAT(ids["command"].get<std::string>(), HasSubstr("lens --tokens 1,2,3 --answer-token "));
  const json features =
      only({"sae_acts_post"}, {"--sae", "blocks.4.hook_mlp_out", "--prompt", kTexas});
  EXPECT_EQ(features["layers"], json({4}));
  EXPECT_GT(features["values"][0]["zeros"], 0.9);
}

TEST(Explain, SaysWhatIsWrong) {
  const Outcome word = vitrine({"explain", "logit lans"});
  EXPECT_EQ(word.exit, 2);
  EXPECT_EQ(word.out, "");
  EXPECT_THAT(word.err, HasSubstr("there is no verb, term, op or site 'logit lans'"));
  EXPECT_THAT(word.err, HasSubstr("logit lens"));
  EXPECT_THAT(vitrine({"explain", "9.z"}).err,
              HasSubstr("there is no site 'blocks.9.attn.hook_z'"));
  EXPECT_THAT(vitrine({"explain", "2.9.z"}).err, HasSubstr("has heads 0 to 3"));
  EXPECT_THAT(vitrine({"explain", "2.1.mlp_out"}).err, HasSubstr("has no heads"));
  EXPECT_THAT(vitrine({"explain", "z", "--prompt", kTexas, "--length", "3"}).err,
              HasSubstr("--length is for shapes without a prompt"));
  EXPECT_EQ(vitrine({"explain", "z", "--length", "257"}).exit, 3);
}

// What a term's command shows is there to be seen: it runs.
TEST(Explain, EveryCommandOfATermWorks) {
  std::set<std::string> commands;
  for (const json& term : entries({}, {"--kind", "term"})) {
    if (!term["command"].is_null()) commands.insert(term["command"]);
  }
  EXPECT_GT(commands.size(), 25u);
  for (const std::string& command : commands) {
    const TemporaryFolder folder;
    const Outcome o = shell(command, {.folder = folder.path()});
    EXPECT_EQ(o.exit, 0) << command << "\n" << o.err;
    EXPECT_NE(o.out, "") << command;
  }
}

}  // namespace
}  // namespace vitrine::test

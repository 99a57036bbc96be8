// What vitrine decompose says; the numbers are TransformerLens's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>

#include "tests/apps/program.h"
#include "tests/apps/states.h"
#include "tests/apps/words.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Words kTexas = {"decompose", "--prompt", "The capital of Texas is"};
const Words kDifference = kTexas + Words{"--answer", " Austin", "--wrong", " Sacramento"};

TEST(Decompose, ComponentsEqualTheReference) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/decomposition.safetensors");
  const auto patching = SafeTensors::open(tiny_model() / "golden/patching.safetensors");
  std::ifstream file(tiny_model() / "golden/components.json");
  const auto names = json::parse(file).get<std::vector<std::string>>();
  for (const char* gauge : {"raw", "processed"}) {
    SCOPED_TRACE(gauge);
    const json j = vitrine({"decompose", "--model", tiny_model().string(), "--tokens",
                            list_of(patching.at("clean")), "--answer-token",
                            std::to_string(patching.at("answer").to_vector<int>()[0]), "--gauge",
                            gauge, "--format", "json"})
                       .json();
    EXPECT_EQ(j["meta"]["gauge"], gauge);
    std::map<std::string, double> mine;
    double sum = 0;
    for (const json& c : j["components"]) {
      const std::string name = c["name"];
      mine[name.ends_with("attn_b_O") ? "bias" : name] += c["value"].get<double>();
      sum += c["value"].get<double>();
    }
    const auto want = golden.at(std::string(gauge) + "/component_logit").to_vector<double>();
    for (std::size_t i = 0; i < names.size(); ++i)
      EXPECT_NEAR(mine.at(names[i]), want[i], 1e-4) << names[i];
    EXPECT_NEAR(sum, j["sum"].get<double>(), 1e-9);
    EXPECT_NEAR(j["logit"].get<double>() - sum, j["residual"].get<double>(), 1e-9);
    EXPECT_TRUE(j["closes"].get<bool>());
  }
}

TEST(Decompose, LayersAndNeuronsArePartsOfTheWhole) {
  const json j = vitrine(kDifference + Words{"--top", "100000", "--format", "json"}).json();
  EXPECT_GT(j["logit"].get<double>(), 10);
  ASSERT_EQ(j["layers"].size(), 6u);
  std::vector<double> mlp(6), neurons(6);
  for (const json& c : j["components"]) {
    if (c["kind"] == "mlp") mlp[c["layer"].get<std::size_t>()] = c["value"];
  }
  ASSERT_EQ(j["neurons"].size(), 6u * 1024);
  double last = std::numeric_limits<double>::infinity();
  for (const json& n : j["neurons"]) {
    neurons[n["layer"].get<std::size_t>()] += n["value"].get<double>();
    EXPECT_LE(std::abs(n["value"].get<double>()), last);
    last = std::abs(n["value"].get<double>());
  }
  for (std::size_t l = 0; l < 6; ++l) {
    EXPECT_NEAR(j["layers"][l]["mlp"].get<double>(), mlp[l], 1e-9);
    EXPECT_NEAR(neurons[l] + j["layers"][l]["mlp_b_out"].get<double>(), mlp[l], 1e-4);
  }
  EXPECT_TRUE(j["stream"].is_null());
}

TEST(Decompose, TheTableClosesAndPrintsTheResidual) {
  const Outcome o = vitrine(kDifference + Words{"--gauge", "processed"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_EQ(o.err, "");
  EXPECT_THAT(o.out, AllOf(HasSubstr("logit \" Austin\" - \" Sacramento\": "),
                           HasSubstr("gauge: processed"), HasSubstr("scale is held at"),
                           HasSubstr("residual "), HasSubstr("(within 1e-5 of"),
                           HasSubstr("sum so far"), HasSubstr("neurons: parts of the MLPs")));
}

TEST(Decompose, NeuronsOfOneLayer) {
  const json j =
      vitrine(kDifference + Words{"--layer", "3", "--top", "4", "--format", "json"}).json();
  ASSERT_EQ(j["neurons"].size(), 4u);
  for (const json& n : j["neurons"]) EXPECT_EQ(n["layer"], 3);
  const Outcome o = vitrine(kDifference + Words{"--layer", "6"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("--layer 6: this model has layers 0 to 5"));
}

TEST(Decompose, TheStreamAsSharedMemory) {
  const json j = vitrine(kTexas + Words{"--stream", "--format", "json"}).json();
  const json& s = j["stream"];
  ASSERT_EQ(s["writers"].size(), 2u + 6 * 6);
  ASSERT_EQ(s["readers"].size(), 6u * 13);
  ASSERT_EQ(s["lengths"].size(), 7u);
  for (std::size_t r = 0; r < s["readers"].size(); ++r) {
    double sum = 0;
    for (const json& row : s["share"]) sum += row[r].is_null() ? 0 : row[r].get<double>();
    EXPECT_NEAR(sum, 1, 1e-4) << s["readers"][r];
  }
  EXPECT_THAT(vitrine(kTexas + Words{"--stream"}).out,
              AllOf(HasSubstr("read most by"), HasSubstr("of what it reads here")));
}

// Every axis has its own name: parts are components, the sums of layers are by layer.
TEST(Decompose, AxesOfManyPromptsHaveNames) {
  const TemporaryFolder folder;
  const Outcome o = vitrine({"decompose", "--prompts", state_prompts(folder), "--group-by", "coast",
                             "--out", folder / "d.csv"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const std::string csv = read_text(folder / "d.csv");
  EXPECT_TRUE(csv.starts_with("tensor,component,name,prompt,layer,value\n")) << csv.substr(0, 80);
  EXPECT_THAT(csv, HasSubstr("\nshare,2,L0H0,,,"));
  EXPECT_THAT(csv, HasSubstr("\nattention,,,,5,"));
  EXPECT_THAT(csv, HasSubstr("\nmlp/each,,,3,5,"));
  EXPECT_THAT(csv, HasSubstr("\ngroup/west/attention,,,,0,"));
}

}  // namespace
}  // namespace vitrine::test

// Transcoders of all layers by the program: training a cross-layer one, evaluation, features, folders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class TranscoderVerbs : public ::testing::Test {
 protected:
  TranscoderVerbs() {
    std::ofstream out(text_);
    for (int i = 0; i < 60; ++i) {
      out << "{\"tokens\": [";
      for (int t = 0; t < 20; ++t)
        out << (t > 0 ? "," : "") << (i * i + 7 * t * t + 3 * t * i) % 97;
      out << "]}\n";
    }
  }
  Words train(const std::string& out, const Words& more = {}) const {
    return Words{"sae",
                 "train",
                 "--model",
                 tiny_model().string(),
                 "--site",
                 "*.ln2.hook_normalized",
                 "--target",
                 "*.hook_mlp_out",
                 "--cross-layer",
                 "--data",
                 text_,
                 "--features",
                 "64",
                 "--k",
                 "6",
                 "--kind",
                 "batchtopk",
                 "--batch",
                 "128",
                 "--buffer",
                 "500",
                 "--rate",
                 "0.003",
                 "--quiet",
                 "--out",
                 folder_ / out} +
           more;
  }
  const TemporaryFolder folder_;
  const std::string text_ = folder_ / "text.jsonl";
};

TEST_F(TranscoderVerbs, TrainEvaluateGraphLookConvert) {
  const json trained = vitrine(train("clt", {"--vectors", "20000", "--format", "json"})).json();
  ASSERT_EQ(trained["saes"].size(), 1u);
  EXPECT_EQ(trained["saes"][0]["last"]["explained_variance_layers"].size(), 3u);
  const std::string clt = folder_ / "clt";
  const Words on_text = {"--model", tiny_model().string(), "--data", text_, "--format", "json"};
  const json e = vitrine(Words{"sae", "eval", "--transcoders", clt} + on_text).json();
  ASSERT_EQ(e["layers"].size(), 3u);
  for (const json& layer : e["layers"]) EXPECT_LT(layer["normalised_mse"].get<double>(), 0.9);
  EXPECT_EQ(vitrine(train("early", {"--vectors", "128"})).exit, 0);
  const json early =
      vitrine(Words{"sae", "eval", "--transcoders", folder_ / "early"} + on_text).json();
  EXPECT_LT(e["model"]["kl"].get<double>(), 0.9 * early["model"]["kl"].get<double>());

  // A graph of it closes, and its features are those that its folder says.
  const json g =
      vitrine({"graph", "--model", tiny_model().string(), "--transcoders", clt, "--tokens",
               "5,17,33,64,2", "--format", "json", "--verify", "2", "--random", "0"})
          .json();
  EXPECT_LT(g["closure"]["largest_error"].get<double>(),
            1e-4 * g["closure"]["largest_target"].get<double>());
  const json features =
      vitrine({"sae", "features", "--model", tiny_model().string(), "--transcoders", clt, "--layer",
               "1", "--tokens", "5,17,33,64,2", "--format", "json"})
          .json();
  EXPECT_EQ(features["site"], "blocks.1.ln2.hook_normalized");
  std::size_t of_layer = 0;
  for (const json& f : features["active"]) of_layer += f["activation"].get<double>() > 0 ? 1 : 0;
  EXPECT_GT(of_layer, 0u);

  // In f16, and the same to three places.
  const std::string half = folder_ / "half";
  const Outcome converted =
      vitrine({"sae", "convert", "--from", clt, "--store", "f16", "--out", half});
  EXPECT_THAT(
      converted.out,
      HasSubstr("cross-layer transcoders of 3 layers, jumprelu, 48 inputs, 64 features each"));
  const json h = vitrine(Words{"sae", "eval", "--transcoders", half} + on_text).json();
  for (std::size_t l = 0; l < 3; ++l)
    EXPECT_NEAR(h["layers"][l]["normalised_mse"].get<double>(),
                e["layers"][l]["normalised_mse"].get<double>(), 1e-3);
}

TEST_F(TranscoderVerbs, PerLayerOnesBecomeAFolderOfCircuitTracer) {
  Words words = train("plt", {"--vectors", "4000"});
  words.erase(std::find(words.begin(), words.end(), "--cross-layer"));
  ASSERT_EQ(vitrine(words).exit, 0);
  const std::string made = folder_ / "made";
  ASSERT_EQ(vitrine({"sae", "convert", "--from", folder_ / "plt", "--out", made}).exit, 0);
  const Words rest = {"--model", tiny_model().string(), "--data", text_, "--format", "json"};
  const json a = vitrine(Words{"sae", "eval", "--transcoders", folder_ / "plt"} + rest).json(),
             b = vitrine(Words{"sae", "eval", "--transcoders", made} + rest).json();
  EXPECT_EQ(a["layers"], b["layers"]);
  EXPECT_EQ(a["model"], b["model"]);
}

TEST_F(TranscoderVerbs, WhatIsWrongIsSaid) {
  const auto refused = [](const Words& words, const char* why) {
    const Outcome o = vitrine(words);
    EXPECT_NE(o.exit, 0);
    EXPECT_THAT(o.err, HasSubstr(why));
  };
  Words words = train("x");
  *std::find(words.begin(), words.end(), "*.hook_mlp_out") = "blocks.2.hook_mlp_out";
  refused(words, "--cross-layer: 3 activations are read and 1 given");
  words = train("x");
  *std::find(words.begin(), words.end(), "batchtopk") = "gated";
  refused(words, "a cross-layer transcoder is standard, topk, batchtopk or jumprelu, not");
  refused({"sae", "eval", "--data", text_}, "give --sae DIR or --transcoders DIR, one of the two");
  refused({"sae", "eval", "--transcoders", folder_ / "none", "--data", text_},
          "there are no transcoders");
  refused({"sae", "features", "--model", tiny_model().string(), "--transcoders",
           (data() / "transcoders/cross-layer").string(), "--layer", "3", "--tokens", "1"},
          "there is no layer 3");
}

}  // namespace
}  // namespace vitrine::test

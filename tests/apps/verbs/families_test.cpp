// Every verb on every family, as a user calls it; what has no meaning there says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class VerbsOfFamily : public testing::TestWithParam<const char*> {
 protected:
  static json run(Words words) {
    for (const char* more : {"--model", "", "--format", "json"}) words.emplace_back(more);
    words[words.size() - 3] = (data() / "families" / GetParam()).string();
    return vitrine(words).json();
  }
};
INSTANTIATE_TEST_SUITE_P(Families, VerbsOfFamily, testing::Values("llama", "neox", "gemma2"),
                         [](const auto& family) { return std::string(family.param); });

const char* const kIds = "1,2,3,4,5,6";
const Words kPair = {"--clean-tokens", kIds, "--corrupt-tokens", "1,2,9,4,5,6",
                     "--answer-token", "7",  "--wrong-token",    "8"};

Words with_pair(Words words, const Words& more = {}) {
  words.insert(words.end(), kPair.begin(), kPair.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_P(VerbsOfFamily, Run) {
  EXPECT_EQ(run({"predict", "--tokens", kIds})["top"].size(), 5u);
  EXPECT_EQ(run({"generate", "--tokens", kIds, "--max-tokens", "3"})["tokens"].size(), 3u);
  const json info = run({"info"});
  EXPECT_EQ(info["config"]["layers"], 3);
  EXPECT_EQ(info["config"].contains("rope_theta"), true);
  EXPECT_EQ(run({"attention", "--tokens", kIds, "--layer", "1"})["pattern"].size(), 4u);
}

TEST_P(VerbsOfFamily, Explain) {
  EXPECT_EQ(run({"lens", "--tokens", kIds, "--answer-token", "7"})["stages"].size(), 4u);
  const json parts = run({"decompose", "--tokens", kIds, "--answer-token", "7"});
  EXPECT_LT(std::abs(parts["residual"].get<double>()), 1e-4);
  EXPECT_FALSE(run({"neurons", "--tokens", kIds, "--layer", "1", "--answer-token", "7"}).empty());
  EXPECT_FALSE(run({"heads", "--explain", "1.2", "--tokens", kIds}).empty());
  EXPECT_EQ(run({"heads", "--sequences", "2"})["heads"].size(), 12u);
}

TEST_P(VerbsOfFamily, PatchAndAttribute) {
  for (const char* site : {"resid_pre", "attn_out", "mlp_out"})
    EXPECT_FALSE(run(with_pair({"patch"}, {"--site", site})).empty());
  for (const char* site : {"z", "k", "v"})
    EXPECT_FALSE(run(with_pair({"patch"}, {"--site", site, "--by", "head"})).empty());
  for (const char* method : {"grad-x-act", "attribution-patching", "ig"})
    EXPECT_FALSE(run(with_pair({"attribute"}, {"--method", method})).empty());
}

TEST_P(VerbsOfFamily, ACentringThatHasNoMeaningIsRefused) {
  const std::string folder = (data() / "families" / GetParam()).string();
  const Outcome o = vitrine(
      {"predict", "--tokens", kIds, "--model", folder, "--gauge", "center_writing_weights"});
  if (std::string(GetParam()) == "neox") {
    EXPECT_EQ(o.exit, 0) << o.err;
  } else {
    EXPECT_EQ(o.exit, 3) << o.err;
    EXPECT_THAT(o.err, HasSubstr("its norms do not subtract the mean"));
  }
  EXPECT_EQ(vitrine({"predict", "--tokens", kIds, "--model", folder, "--gauge", "processed"}).exit,
            0);
}

TEST_P(VerbsOfFamily, ASparseAutoencoderIsTrainedAndEvaluated) {
  const TemporaryFolder folder;
  const std::string text = (folder / "ids.jsonl").string(), out = (folder / "sae").string();
  std::string lines;
  for (int i = 0; i < 40; ++i) {
    lines += "{\"tokens\": [";
    for (int j = 0; j < 30; ++j) lines += (j ? ", " : "") + std::to_string((i * 7 + j * 13) % 97);
    lines += "]}\n";
  }
  write_text(text, lines);
  run({"sae", "train", "--site", "blocks.1.hook_resid_post", "--data", text, "--features", "64",
       "--k", "4", "--vectors", "640", "--batch", "64", "--out", out, "--quiet"});
  EXPECT_FALSE(run({"sae", "features", "--sae", out, "--tokens", kIds})["active"].empty());
}

TEST(TrainALlama, TheBitsDoNotDependOnStops) {
  const TemporaryFolder folder;
  const std::string text = (folder / "text.txt").string();
  std::string words;
  for (int i = 0; i < 400; ++i) words += i % 3 ? "the cat sat on the mat. " : "a dog ran off. ";
  write_text(text, words);
  const auto train = [&](const char* out, const Words& more) {
    Words w = {"train", "--preset", "llama-tiny", "--data", text,    "--batch-tokens",
               "64",    "--quiet",  "--format",   "json",   "--out", (folder / out).string()};
    w.insert(w.end(), more.begin(), more.end());
    return vitrine(w).json();
  };
  train("once", {"--steps", "8"});
  train("twice", {"--steps", "8", "--stop-after", "3"});
  EXPECT_EQ(vitrine({"train", "--resume", "--quiet", "--out", (folder / "twice").string()}).exit,
            0);
  EXPECT_EQ(read_text(folder / "once/model.safetensors"),
            read_text(folder / "twice/model.safetensors"));
  const json info =
      vitrine({"info", "--model", (folder / "once").string(), "--format", "json"}).json();
  EXPECT_EQ(info["config"]["model_type"], "llama");
  EXPECT_EQ(info["config"]["key_value_heads"], 2);
  // It learns on from where it is.
  const Outcome o =
      vitrine({"train", "--from", (folder / "once").string(), "--data", text, "--batch-tokens",
               "64", "--steps", "2", "--quiet", "--out", (folder / "on").string()});
  EXPECT_EQ(o.exit, 0) << o.err;
}

}  // namespace
}  // namespace vitrine::test

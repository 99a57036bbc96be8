// Saved activations are the reference's, under its names and in its shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string list_of(const Tensor& tokens) {
  std::string list;
  for (const int id : tokens.to_vector<int>())
    list += (list.empty() ? "" : ",") + std::to_string(id);
  return list;
}

// -inf in the same places. (Finite values are compared by expect_close.)
void expect_same_infinities(const Tensor& actual, const Tensor& golden, const std::string& name) {
  const auto a = actual.to_vector<double>(), g = golden.to_vector<double>();
  ASSERT_EQ(a.size(), g.size()) << name;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::isinf(a[i]), std::isinf(g[i])) << name << " element " << i;
    if (std::isinf(g[i])) {
      ASSERT_EQ(a[i], g[i]) << name << " element " << i;
    }
  }
}

// Every site of golden/forward.safetensors, both rows, each run on its own.
void compare_with_golden(const std::filesystem::path& model, const std::filesystem::path& folder) {
  const auto golden = SafeTensors::open(folder / "forward.safetensors");
  const Tensor tokens = golden.at("tokens");
  for (std::int64_t row = 0; row < tokens.dim(0); ++row) {
    const test::TemporaryFolder out;
    const std::string file = out / "cache.safetensors";
    const Tensor prompt = tokens.slice(0, row, row + 1);
    const Outcome o =
        vitrine({"cache", "--model", model, "--tokens", list_of(prompt), "--out", file});
    ASSERT_EQ(o.exit, 0) << o.err;
    EXPECT_EQ(o.err, "");
    const auto saved = SafeTensors::open(file);
    EXPECT_EQ(saved.at("tokens").dtype(), DType::i64);
    EXPECT_EQ(saved.at("tokens").to_vector<int>(), prompt.to_vector<int>());
    expect_close(saved.at("logits"), golden.at("logits").slice(0, row, row + 1), 2e-5, "logits");
    int sites = 0;
    for (const std::string& name : golden.names()) {
      if (!name.starts_with("site/")) continue;
      const Tensor expected = golden.at(name).slice(0, row, row + 1);
      const Tensor actual = saved.at(name.substr(5));
      expect_close(actual, expected, 2e-5, name);
      expect_same_infinities(actual, expected, name);
      ++sites;
    }
    EXPECT_GE(sites, 60);
  }
}

TEST(Cache, TinyModelEqualsTheReference) {
  compare_with_golden(tiny_model(), tiny_model() / "golden");
}

TEST(Cache, AtlasModelEqualsTheReference) {
  VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
  const auto atlas = shared() / "reference/atlas-gpt2";
  compare_with_golden(atlas, atlas / "golden");
  compare_with_golden(atlas, atlas / "golden-gift");
}

TEST(Cache, OnlyTheSitesThatWereAskedFor) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "patterns.safetensors";
  const Outcome o = vitrine({"cache", "--prompt", "The capital of Texas is", "--sites",
                             "*.hook_pattern,hook_embed", "--out", file, "--seed", "3"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto saved = SafeTensors::open(file);
  EXPECT_THAT(saved.names(), ::testing::UnorderedElementsAre(
                                 "tokens", "logits", "hook_embed", "blocks.0.attn.hook_pattern",
                                 "blocks.1.attn.hook_pattern", "blocks.2.attn.hook_pattern",
                                 "blocks.3.attn.hook_pattern", "blocks.4.attn.hook_pattern",
                                 "blocks.5.attn.hook_pattern"));
  EXPECT_EQ(to_string(saved.at("blocks.2.attn.hook_pattern").shape()), "[1, 4, 5, 5]");
  EXPECT_EQ(saved.metadata().at("model"), "default");
  EXPECT_THAT(saved.metadata().at("command"), HasSubstr("vitrine cache --prompt 'The capital"));
  EXPECT_EQ("vitrine " + saved.metadata().at("version") + "\n", vitrine({"--version"}).out);
  EXPECT_EQ(saved.metadata().at("seed"), "3");
  EXPECT_THAT(o.out, HasSubstr("blocks.2.attn.hook_pattern  [1, 4, 5, 5]  f32      400 B"));
  EXPECT_THAT(o.out, HasSubstr(file));
}

TEST(Cache, Json) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "z.safetensors";
  const json j = vitrine({"cache", "--model", tiny_model(), "--tokens", "1,2", "--sites",
                          "blocks.0.attn.hook_z", "--out", file, "--format", "json"})
                     .json();
  EXPECT_EQ(j["file"], file);
  EXPECT_EQ(j["meta"]["model"], tiny_model().string());
  ASSERT_EQ(j["tensors"].size(), 3u);
  EXPECT_EQ(j["tensors"][1], json({{"name", "blocks.0.attn.hook_z"},
                                   {"shape", {1, 2, 4, 12}},
                                   {"dtype", "f32"},
                                   {"bytes", 384}}));
}

TEST(Cache, UnknownSitesGetTheNearestNames) {
  const test::TemporaryFolder folder;
  const auto message = [&](const std::string& sites) {
    const Outcome o = vitrine({"cache", "--tokens", "1", "--sites", sites, "--out", folder / "x"});
    EXPECT_EQ(o.exit, 3) << sites;
    EXPECT_TRUE(folder.names().empty()) << sites;
    return o.err;
  };
  EXPECT_THAT(message("blocks.0.attn.hook_patern"),
              HasSubstr("did you mean blocks.0.attn.hook_pattern"));
  EXPECT_THAT(message("blocks.7.attn.hook_pattern"), HasSubstr("blocks.5.attn.hook_pattern"));
  EXPECT_THAT(message("*.hook_nothing"), HasSubstr("*.hook_nothing"));
  EXPECT_THAT(message("hook_embed,nonsense"), HasSubstr("nonsense"));
}

}  // namespace
}  // namespace vitrine::test

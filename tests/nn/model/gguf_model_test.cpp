// GGUF files as models: against HuggingFace with the dequantised weights; refusals.
#include "nn/model/gguf_model.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "autograd/sweep/grid.h"
#include "nn/families/sites.h"
#include "nn/model/find_model.h"
#include "nn/model/model.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

std::vector<Tokens> prompts_of(const Tensor& tokens) {
  std::vector<Tokens> rows;
  for (std::int64_t i = 0; i < tokens.dim(0); ++i)
    rows.push_back(tokens.select(0, i).to_vector<int>());
  return rows;
}

struct GgufCase {
  std::string name;
  bool shared;
};
std::ostream& operator<<(std::ostream& out, const GgufCase& c) { return out << c.name; }

class GgufModel : public testing::TestWithParam<GgufCase> {};
std::string name_of_gguf(const testing::TestParamInfo<GgufCase>& info) {
  std::string name = (info.param.shared ? "shared_" : "") + info.param.name;
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Files, GgufModel,
                         testing::Values(GgufCase{"llama.q4_0", false}, GgufCase{"llama.f32", true},
                                         GgufCase{"llama.f16", true}, GgufCase{"llama.bf16", true},
                                         GgufCase{"llama.q8_0", true}, GgufCase{"llama.q4_0", true},
                                         GgufCase{"llama.q4_1", true}, GgufCase{"llama.q5_0", true},
                                         GgufCase{"llama.q5_1", true},
                                         GgufCase{"llama3-rope.f32", true},
                                         GgufCase{"qwen2.q8_0", true},
                                         GgufCase{"llama-256.k-mix", true},
                                         GgufCase{"llama-256.q4_k_m", true}),
                         name_of_gguf);

TEST_P(GgufModel, LogitsAndTheStream) {
  if (GetParam().shared) VITRINE_NEEDS_SHARED("reference/gguf");
  const fs::path folder =
      GetParam().shared ? test::shared() / "reference/gguf" : test::data() / "gguf";
  const SafeTensors golden = SafeTensors::open(folder / (GetParam().name + ".golden.safetensors"));
  const Model model = load_model((folder / (GetParam().name + ".gguf")).string());
  const auto run =
      model.run(prompts_of(golden.at("tokens")), sites("blocks.*.hook_resid_pre"), value("logits"));
  test::expect_close(run["logits"], golden.at("logits"), 2e-5, "logits");
  if (GetParam().shared) {
    const Tensor resid = golden.at("resid_pre");
    for (int l = 0; l < model.config().layers; ++l)
      test::expect_close(run[site::resid_pre(l)], resid.select(0, l), 2e-5,
                         site::resid_pre(l).name);
  }
  // Rows of queries and keys stand in HuggingFace's order.
  for (const std::string& name : golden.names()) {
    if (!name.starts_with("hf/")) continue;
    const std::string own = name.substr(std::string_view("hf/model.").size());
    const Tensor got = model.parameters().at(own).to(DType::f32);
    EXPECT_EQ(max_abs_difference(got, golden.at(name)), 0) << name;
  }
}

TEST(GgufRefusals, OtherArchitecturesAndWhatWouldChangeNumbers) {
  const fs::path good = test::data() / "gguf/llama.q4_0.gguf";
  const std::string bytes = read_text(good);
  const test::TemporaryFolder folder;
  const auto with = [&](std::string from, std::string to) {
    std::string changed = bytes;
    const std::size_t at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    changed.replace(at, from.size(), to);
    write_text(folder / "changed.gguf", changed);
    return (folder / "changed.gguf").string();
  };
  // The first "llama" is the value of general.architecture.
  EXPECT_ERROR(ConfigError, "general.architecture: expected llama, qwen2 or qwen3, found 'bloom'",
               load_model(with("llama", "bloom")));
  EXPECT_ERROR(FileError, "llama.block_count",
               load_model(with("llama.block_count", "llama.block_c0unt")));
  EXPECT_ERROR(CheckpointError, "tensor 'layers.1.mlp.up_proj.weight' is missing",
               load_model(with("blk.1.ffn_up.weight", "blk.9.ffn_up.weight")));
  write_text(folder / "short.gguf", bytes.substr(0, bytes.size() - 100));
  EXPECT_ERROR(FileError, "short.gguf", load_model((folder / "short.gguf").string()));
}

// A real model, where apps/get_smollm2.sh has put it.
class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    VITRINE_NEEDS_SHARED("reference/smollm2");
    try {
      find_model("smollm2");
    } catch (const FileError&) {
      GTEST_SKIP() << "smollm2 is not in ~/.cache/vitrine: bash apps/get_smollm2.sh";
    }
    golden_.emplace(SafeTensors::open(test::shared() / "reference/smollm2/golden.safetensors"));
    model_.emplace(load_model("smollm2"));
  }
  const SafeTensors& golden() const { return *golden_; }
  const Model& model() const { return *model_; }
  Tokens prompt(int i) const {
    return golden().at(fmt::format("{}/tokens", i)).reshape({-1}).to_vector<int>();
  }

 private:
  std::optional<SafeTensors> golden_;
  std::optional<Model> model_;
};

TEST_F(SmolLm2, TwelvePrompts) {
  for (int i = 0; i < 12; ++i) {
    const Tokens tokens = prompt(i);
    const auto last = static_cast<std::int64_t>(tokens.size()) - 1;
    const auto run = model().run({tokens}, sites("*.hook_resid_*"),
                                 sites("blocks.9.attn.hook_pattern"), value("logits"));
    const Tensor logits = golden().at(fmt::format("{}/logits_last", i));
    EXPECT_LT(max_abs_difference(run.last_logits().reshape(logits.shape()), logits), 1e-3) << i;
    const Tensor resid = golden().at(fmt::format("{}/resid_last", i));  // [31, d]
    for (int l = 0; l <= 30; ++l) {
      const Tensor got = (l == 0 ? run[site::resid_pre(0)] : run[site::resid_post(l - 1)])
                             .select(0, 0)
                             .select(0, last);
      const Tensor want = resid.select(0, l);
      EXPECT_LT(max_abs_difference(got, want), 1e-5 * max_abs(want)) << i << " layer " << l;
    }
    const Tensor pattern = golden().at(fmt::format("{}/pattern_l9", i));
    EXPECT_LT(max_abs_difference(run[site::pattern(9)].reshape(pattern.shape()), pattern), 1e-4)
        << i;
  }
}

TEST_F(SmolLm2, Sweeps) {
  const auto answer = golden().at("patch/answer").to_vector<int>();
  const Metric metric = logit_diff(answer[0], answer[1]);
  const Tokens clean = prompt(0), corrupt = prompt(1);
  const nn::Run source = model().run({clean}, sites("*.hook_resid_pre"), sites("*.hook_z"));
  const auto sweep = [&](const char* pattern, Axis by) {
    return model()
        .sweep(Prompt(corrupt), sites(pattern), {by}, from(source.results), metric)
        .values;
  };
  const auto expect = [&](const Tensor& got, const char* name) {
    const auto want = golden().at(name).to_vector<double>();
    const auto have = got.to_vector<double>();
    const double before = golden().at("patch/metric_corrupt").item<double>();
    ASSERT_EQ(have.size(), want.size());
    for (std::size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(have[i], std::isnan(want[i]) ? before : want[i], 1e-3) << name << " " << i;
  };
  expect(sweep("blocks.*.hook_resid_pre", Axis::pos), "patch/resid_pre");
  expect(sweep("blocks.*.attn.hook_z", Axis::head), "patch/z");
}

}  // namespace
}  // namespace vitrine::nn

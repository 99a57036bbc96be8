// Folders whose weights are PyTorch's own files, against HuggingFace's logits.
#include <gtest/gtest.h>

#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

class TorchGolden : public testing::TestWithParam<const char*> {};

TEST_P(TorchGolden, WeightsAndLogits) {
  VITRINE_NEEDS_SHARED("reference/torch-bin");
  const fs::path from = test::shared() / "reference/torch-bin" / GetParam();
  const test::TemporaryFolder folder,
      twin;  // the one without the safetensors, the other with it alone
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (name == "golden.safetensors") continue;
    if (name != "model.safetensors") fs::copy_file(entry.path(), folder / name);
    if (name.find(".bin") == std::string::npos) fs::copy_file(entry.path(), twin / name);
  }
  const Model model = load_gpt2(folder.path().string()), same = load_gpt2(twin.path().string());
  ASSERT_EQ(model.parameters().size(), same.parameters().size());
  for (const auto& [name, t] : model.parameters())
    EXPECT_EQ(max_abs_difference(t, same.parameters().at(name)), 0) << name;

  const SafeTensors golden = SafeTensors::open(from / "golden.safetensors");
  std::vector<Tokens> prompts;
  for (std::int64_t i = 0; i < golden.at("tokens").dim(0); ++i)
    prompts.push_back(golden.at("tokens").select(0, i).to_vector<int>());
  test::expect_close(model.run(prompts).logits(), golden.at("logits"), 2e-5, "logits");
}

INSTANTIATE_TEST_SUITE_P(Folders, TorchGolden,
                         testing::Values("plain", "tied", "bf16", "views", "legacy", "sharded"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace vitrine::nn

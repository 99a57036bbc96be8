#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "nn/model/model.h"
#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

TEST(Convert, AGgufFileIsTheSameModelAsAFolder) {
  const TemporaryFolder folder;
  const std::string to = (folder / "out").string(),
                    from = (data() / "gguf/llama.q4_0.gguf").string();
  const json j = vitrine({"convert", "--model", from, "--to", to, "--format", "json"}).json();
  EXPECT_EQ(j["model_type"], "llama");
  EXPECT_EQ(j["dtype"], "f32");
  EXPECT_EQ(j["tokenizer"], false);
  const nn::Model a = nn::load_model(from), b = nn::load_model(to);
  EXPECT_EQ(j["parameters"], b.config().parameter_count());
  const nn::Tokens prompt = {1, 2, 3, 4, 5};
  EXPECT_EQ(max_abs_difference(a.run(prompt).logits(), b.run(prompt).logits()), 0);
}

TEST(Convert, KeepsTheTokenizerAndRounds) {
  const TemporaryFolder folder;
  const std::string to = (folder / "half").string();
  const Outcome o = vitrine({"convert", "--dtype", "f16", "--to", to});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("a model of type gpt2"));
  EXPECT_THAT(o.out, HasSubstr("and its tokenizer"));
  const json top =
      vitrine({"predict", "--model", to, "--prompt", "The capital of Texas is", "--format", "json"})
          .json()["top"];
  EXPECT_EQ(top[0]["token"], " Austin");
  EXPECT_LT(fs::file_size(fs::path(to) / "model.safetensors"), 20'000'000u);
}

TEST(Convert, OverwritesNothingThatIsNotItsOwn) {
  const TemporaryFolder folder;
  write_text(folder / "notes.txt", "mine");
  const Outcome o = vitrine({"convert", "--to", folder.path().string()});
  EXPECT_EQ(o.exit, 3) << o.err;
  EXPECT_EQ(read_text(folder / "notes.txt"), "mine");
  EXPECT_FALSE(fs::exists(folder / "config.json"));
}

}  // namespace
}  // namespace vitrine::test

#include "nn/find_model.h"

#include <cstdlib>

#include "tensor/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

using vitrine::test::TemporaryFolder;

// Sets environment variables for one test ("" unsets) and puts them back.
class Environment {
 public:
  void set(const char* name, const std::string& value) {
    const char* old = std::getenv(name);
    saved_.emplace_back(name, old == nullptr ? "" : old);
    apply(name, value);
  }
  ~Environment() {
    for (const auto& [name, value] : saved_) apply(name.c_str(), value);
  }

 private:
  static void apply(const char* name, const std::string& value) {
    if (value.empty()) ::unsetenv(name);
    else ::setenv(name, value.c_str(), 1);
  }
  std::vector<std::pair<std::string, std::string>> saved_;
};

TEST(FindModel, TheDefaultModelIsThere) {
  EXPECT_TRUE(std::filesystem::exists(find_model("") / "model.safetensors"));
}

TEST(FindModel, AFolder) {
  EXPECT_EQ(find_model((test::data() / "tiny-gpt2").string()), test::data() / "tiny-gpt2");
  const TemporaryFolder empty;
  EXPECT_ERROR(FileError, "there is no config.json in this folder",
               find_model(empty.path().string()));
  EXPECT_ERROR(FileError, "there is no such folder; give a HuggingFace GPT-2 folder, or gpt2",
               find_model("no/such"));
  write_text(empty / "file", "x");
  EXPECT_ERROR(FileError, "not a folder", find_model((empty / "file").string()));
}

TEST(FindModel, Gpt2FromTheVariable) {
  Environment env;
  const TemporaryFolder folder;
  env.set("VITRINE_GPT2", folder.path().string());
  EXPECT_ERROR(FileError, "VITRINE_GPT2 is '", find_model("gpt2"));
  write_text(folder / "config.json", "{}");
  EXPECT_EQ(find_model("gpt2"), folder.path());
}

TEST(FindModel, Gpt2FromHuggingFacesCache) {
  Environment env;
  const TemporaryFolder cache;
  env.set("VITRINE_GPT2", "");
  env.set("HF_HUB_CACHE", "");
  env.set("HF_HOME", cache.path().string());
  EXPECT_ERROR(
      FileError,
      "hf download openai-community/gpt2 config.json model.safetensors vocab.json merges.txt",
      find_model("gpt2"));
  const auto repository = cache.path() / "hub/models--openai-community--gpt2";
  std::filesystem::create_directories(repository / "snapshots/abc");
  std::filesystem::create_directories(repository / "snapshots/def");
  std::filesystem::create_directories(repository / "refs");
  write_text(repository / "snapshots/def/config.json", "{}");
  EXPECT_EQ(find_model("gpt2"), repository / "snapshots/def");
  write_text(repository / "snapshots/abc/config.json", "{}");
  write_text(repository / "refs/main", "abc\n");
  EXPECT_EQ(find_model("gpt2"), repository / "snapshots/abc");
  EXPECT_EQ(find_model("openai-community/gpt2"), repository / "snapshots/abc");
}

}  // namespace
}  // namespace vitrine::nn

#include "nn/model/find_model.h"

#include <cstdlib>

#include "nn/model/model.h"
#include "tensor/files/file.h"
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
  EXPECT_ERROR(FileError,
               "there is no such folder or file, and HuggingFace's cache has no model of "
               "that name; give a HuggingFace folder, a .gguf file, gpt2 or smollm2",
               find_model("no/such"));
  write_text(empty / "file", "x");
  EXPECT_ERROR(FileError, "not a model; give the folder", find_model((empty / "file").string()));
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

TEST(FindModel, AWholeDownloadComesBeforeABrokenOne) {
  Environment env;
  const TemporaryFolder cache;
  env.set("VITRINE_GPT2", "");
  env.set("HF_HUB_CACHE", cache.path().string());
  const auto make = [&](const char* repository, const char* revision) {
    const auto folder = cache.path() / repository / "snapshots" / revision;
    std::filesystem::create_directories(folder);
    std::filesystem::create_directories(cache.path() / repository / "refs");
    write_text(cache.path() / repository / "refs/main", revision);
    write_text(folder / "config.json", "{}");
    return folder;
  };
  const auto broken = make("models--gpt2", "aaa");
  EXPECT_EQ(find_model("gpt2"), broken);  // for what needs no weights
  EXPECT_ERROR(FileError, "aaa: this download is incomplete: model.safetensors is missing",
               require_whole_download(broken));
  EXPECT_ERROR(FileError, "this download is incomplete", load_gpt2("gpt2"));
  // A file that is not all there is a link to nothing.
  std::filesystem::create_symlink("../../blobs/none", broken / "model.safetensors");
  EXPECT_ERROR(FileError, "this download is incomplete", require_whole_download(broken));

  const auto whole = make("models--openai-community--gpt2", "bbb");
  write_text(whole / "model.safetensors", "");
  EXPECT_EQ(find_model("gpt2"), whole);
  const auto older = make("models--gpt2", "000");  // not the current one, but whole
  write_text(cache.path() / "models--gpt2/refs/main", "aaa");
  write_text(older / "model.safetensors", "");
  EXPECT_EQ(find_model("gpt2"), older);

  // Weights in parts, one of which is missing.
  write_text(broken / "model.safetensors.index.json",
             R"({"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}})");
  write_text(broken / "part-1.safetensors", "");
  EXPECT_EQ(find_model("gpt2"), older);
  EXPECT_ERROR(FileError, "incomplete: part-2.safetensors is missing",
               require_whole_download(broken));
  write_text(broken / "part-2.safetensors", "");
  EXPECT_EQ(find_model("gpt2"), broken);
  EXPECT_NO_THROW(require_whole_download(cache.path()));  // any other folder

  const auto torch = make("models--gpt2", "ccc");
  write_text(torch / "pytorch_model.bin.index.json", R"({"weight_map": {"a": "part-1.bin"}})");
  EXPECT_ERROR(FileError, "incomplete: part-1.bin is missing", require_whole_download(torch));
  write_text(torch / "part-1.bin", "");
  EXPECT_NO_THROW(require_whole_download(torch));
}

TEST(FindModel, AFileAndAFolderWithOneGgufFile) {
  const auto file = test::data() / "gguf/llama.q4_0.gguf";
  EXPECT_EQ(find_model(file.string()), file);
  EXPECT_EQ(find_model((test::data() / "gguf").string()), file);
  const TemporaryFolder two;
  write_text(two / "a.gguf", "x");
  write_text(two / "b.gguf", "x");
  EXPECT_ERROR(FileError, "there are 2 GGUF files in this folder; give one of them",
               find_model(two.path().string()));
}

TEST(FindModel, ANameInTheFolderOfTheVariable) {
  Environment env;
  env.set("VITRINE_MODELS", (test::data() / "families").string());
  EXPECT_EQ(find_model("neox"), test::data() / "families/neox");
  EXPECT_ERROR(FileError, "no model of that name", find_model("bloom"));
}

TEST(FindModel, ANameInHuggingFacesCache) {
  const TemporaryFolder cache;
  const auto snapshot = cache / "models--EleutherAI--pythia-70m/snapshots/abc";
  std::filesystem::create_directories(snapshot);
  write_text(snapshot / "config.json", "{}");
  write_text(snapshot / "pytorch_model.bin", "");
  Environment env;
  env.set("HF_HUB_CACHE", cache.path().string());
  EXPECT_EQ(find_model("EleutherAI/pythia-70m"), snapshot);
  EXPECT_ERROR(FileError, "no model of that name", find_model("EleutherAI/pythia-160m"));
}

TEST(FindModel, SmolLm2SaysHowToGetIt) {
  const TemporaryFolder cache;
  Environment env;
  env.set("XDG_CACHE_HOME", cache.path().string());
  EXPECT_ERROR(FileError, "bash apps/get_smollm2.sh", find_model("smollm2"));
  std::filesystem::create_directories(cache / "vitrine");
  const auto file = cache / "vitrine/SmolLM2-135M-Instruct.Q4_1.gguf";
  write_text(file, "x");
  EXPECT_EQ(find_model("smollm2"), file);
}

}  // namespace
}  // namespace vitrine::nn

// The program on files that accidents and strangers have changed: it says in its own words what is
// wrong and with which exit code, or gives a result that is one. VITRINE_MUTATED_FILES says how many
// files each verb gets.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cctype>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nn/tokenizer/save_tokenizer.h"
#include "nn/tokenizer/train_tokenizer.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tensor/files/utf8.h"
#include "tests/apps/program.h"
#include "tests/mutated/mutate.h"
#include "tests/nn/training/small_training.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// A verb, the good files that it reads, and the one of them that is changed.
struct Verb {
  std::string name;
  Format format;
  std::string file;
  std::function<void(const fs::path&)> make;
  std::function<Words(const std::string&)> command;
};
void PrintTo(const Verb& verb, std::ostream* out) { *out << verb.name; }

void run(const Words& command) {
  const Outcome o = vitrine(command);
  ASSERT_EQ(o.exit, 0) << o.err;
}

// ---- the good files -------------------------------------------------------------------------
void model(const fs::path& folder) {
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy_file(tiny_model() / name, folder / name);
}
void tokenizer(const fs::path& folder) { nn::save_tokenizer(nn::small_tokenizer(15), folder); }
void slow_tokenizer(const fs::path& folder) {
  tokenizer(folder);
  fs::remove(folder / "tokenizer.json");
}
void sae(const fs::path& folder) {
  for (const char* name : {"cfg.json", "sae_weights.safetensors"})
    fs::copy_file(data() / "sae" / "topk" / name, folder / name);
  const std::int64_t width =
      SafeTensors::open(folder / "sae_weights.safetensors").at("W_enc").dim(0);
  save_safetensors(folder / "x.safetensors", {{"x", Tensor::full({6, width}, DType::f32, 0.5)}});
}
void pairs(const fs::path& folder) {
  write_text(
      folder / "pairs.jsonl",
      R"({"clean_tokens": [1, 2, 3], "corrupt_tokens": [4, 2, 3], "answer_token": 5, "wrong_token": 6})"
      "\n");
}
void documents(const fs::path& folder) {
  write_text(folder / "ids.jsonl", "{\"tokens\": [1, 2, 3, 4]}\n{\"tokens\": [5, 6, 7]}\n");
}
void texts(const fs::path& folder) {
  tokenizer(folder);
  write_text(folder / "texts.jsonl", "{\"text\": \"the cat\"}\n{\"text\": \"a \\u00e9\"}\n");
}
void training_run(const fs::path& folder) {
  tokenizer(folder);
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "the cat sat on the mat, the rat sat on the cat; that is it. ";
  write_text(folder / "text.txt", text);
  run({"train",
       "--layers",
       "1",
       "--heads",
       "1",
       "--width",
       "8",
       "--context",
       "8",
       "--data",
       folder / "text.txt",
       "--tokenizer",
       folder,
       "--out",
       folder / "run",
       "--steps",
       "4",
       "--batch-tokens",
       "16",
       "--stop-after",
       "1",
       "--quiet"});
}
void sae_run(const fs::path& folder) {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    lines += "{\"tokens\": [";
    for (int t = 0; t < 20; ++t)
      lines += (t > 0 ? "," : "") + std::to_string((i * i + 7 * t * t + 3 * t * i) % 97);
    lines += "]}\n";
  }
  write_text(folder / "text.jsonl", lines);
  run({"sae",          "train",
       "--model",      tiny_model(),
       "--site",       "blocks.1.hook_mlp_out",
       "--data",       folder / "text.jsonl",
       "--features",   "16",
       "--k",          "2",
       "--batch",      "64",
       "--buffer",     "128",
       "--vectors",    "512",
       "--stop-after", "1",
       "--quiet",      "--out",
       folder / "run"});
}

std::vector<Verb> verbs() {
  const std::string tiny = tiny_model();
  std::vector<Verb> all;
  const auto predict = [](const std::string& f) {
    return Words{"predict", "--model", f, "--tokens", "1,2,3", "--format", "json"};
  };
  const auto lens = [](const std::string& f) {
    return Words{"lens", "--model", f, "--tokens", "1,2,3", "--format", "json"};
  };
  const auto tokenize = [](const std::string& f) {
    return Words{"tokenize", "--model", f, "--prompt", "the cat's  mat", "--format", "json"};
  };
  const auto encode = [](const std::string& f) {
    return Words{"sae",           "encode",
                 "--sae",         f,
                 "--activations", f + "/x.safetensors",
                 "--tensor",      "x",
                 "--out",         f + "/codes.safetensors",
                 "--format",      "json"};
  };
  all.push_back({"PredictConfig", Format::text, "config.json", model, predict});
  all.push_back({"PredictWeights", Format::safetensors, "model.safetensors", model, predict});
  all.push_back({"LensWeights", Format::safetensors, "model.safetensors", model, lens});
  all.push_back({"InfoConfig", Format::text, "config.json", model, [](const std::string& f) {
                   return Words{"info", "--model", f, "--format", "json"};
                 }});
  all.push_back({"TokenizeJson", Format::text, "tokenizer.json", tokenizer, tokenize});
  all.push_back({"TokenizeVocab", Format::text, "vocab.json", slow_tokenizer, tokenize});
  all.push_back({"TokenizeMerges", Format::text, "merges.txt", slow_tokenizer, tokenize});
  all.push_back({"TokenizeLines", Format::text, "texts.jsonl", texts, [](const std::string& f) {
                   return Words{"tokenize", "--model", f, "--jsonl", f + "/texts.jsonl"};
                 }});
  all.push_back({"EncodeConfig", Format::text, "cfg.json", sae, encode});
  all.push_back({"EncodeWeights", Format::safetensors, "sae_weights.safetensors", sae, encode});
  all.push_back({"EncodeActivations", Format::safetensors, "x.safetensors", sae, encode});
  all.push_back({"PatchPairs", Format::text, "pairs.jsonl", pairs, [=](const std::string& f) {
                   return Words{"patch",  "--model",   tiny,       "--pairs", f + "/pairs.jsonl",
                                "--site", "resid_pre", "--format", "json"};
                 }});
  all.push_back({"EvaluateIds", Format::text, "ids.jsonl", documents, [=](const std::string& f) {
                   return Words{"evaluate", "--model", tiny, f + "/ids.jsonl", "--format", "json"};
                 }});
  all.push_back({"Resume", Format::safetensors, "run/training.safetensors", training_run,
                 [](const std::string& f) {
                   return Words{"train", "--resume", "--out", f + "/run", "--quiet"};
                 }});
  all.push_back({"SaeResume", Format::safetensors, "run/training.safetensors", sae_run,
                 [](const std::string& f) {
                   return Words{"sae", "train", "--resume", "--out", f + "/run", "--quiet"};
                 }});
  return all;
}

int files_each() {
  const char* wanted = std::getenv("VITRINE_MUTATED_FILES");
  return wanted == nullptr ? 12 : std::atoi(wanted);
}

// The seed of the first: another start tries other files.
std::uint64_t first_seed() {
  const char* wanted = std::getenv("VITRINE_MUTATED_FROM");
  return wanted == nullptr ? 1'000'000 : std::strtoull(wanted, nullptr, 10);
}

bool says_not_a_number(const std::string& out) {
  for (const char* word : {"nan", "inf"}) {
    for (std::size_t at = out.find(word); at != std::string::npos; at = out.find(word, at + 1)) {
      const auto letter = [&](std::size_t i) {
        return i < out.size() && std::isalpha(static_cast<unsigned char>(out[i])) != 0;
      };
      if (!(at > 0 && letter(at - 1)) && !letter(at + 3)) return true;
    }
  }
  return false;
}

// 3: a file is wrong; 4: what is in it gives NaN or infinity; 2: it is right and does not fit the
// options.
void expect_sound(const Outcome& o) {
  if (o.exit == 0) {
    EXPECT_FALSE(says_not_a_number(o.out)) << o.out;
  } else {
    EXPECT_TRUE(o.exit >= 2 && o.exit <= 4) << "exit code " << o.exit;
    EXPECT_NE(o.err.find("vitrine"), std::string::npos);
  }
  for (const char* raw : {"exception", "filesystem error", "bad_alloc", "std::", "Sanitizer"})
    EXPECT_EQ(o.err.find(raw), std::string::npos);
  EXPECT_LT(o.err.size(), 6000u);
  EXPECT_EQ(nn::replace_invalid_utf8(o.err), o.err);
}

class MutatedProgram : public ::testing::TestWithParam<Verb> {};
INSTANTIATE_TEST_SUITE_P(Verbs, MutatedProgram, ::testing::ValuesIn(verbs()),
                         [](const auto& tested) { return tested.param.name; });

TEST_P(MutatedProgram, SaysWhatIsWrongOrGivesAResult) {
  const Verb& verb = GetParam();
  const TemporaryFolder good;
  verb.make(good.path());
  if (HasFatalFailure()) return;
  const std::string original = read_text(good / verb.file);
  {
    const TemporaryFolder folder;
    fs::copy(good.path(), folder.path(), fs::copy_options::recursive);
    run(verb.command(folder.path()));
    if (HasFatalFailure()) return;
  }
  int refused = 0;
  for (int i = 0; i < files_each(); ++i) {
    const TemporaryFolder folder;
    fs::copy(good.path(), folder.path(), fs::copy_options::recursive);
    const std::string changed =
        Mutator(static_cast<std::uint64_t>(i) + first_seed())(original, verb.format);
    write_text(folder / verb.file, changed);
    const auto begun = std::chrono::steady_clock::now();
    const Outcome o = vitrine(verb.command(folder.path()));
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
    refused += o.exit != 0 ? 1 : 0;
    expect_sound(o);
    EXPECT_LT(took.count(), 10);
    if (HasFailure()) {
      const fs::path kept =
          fs::temp_directory_path() / ("vitrine-mutated-" + verb.name + "-" + std::to_string(i));
      write_text(kept, changed);
      FAIL() << "the file is kept as " << kept << "\n" << o.err;
    }
  }
  EXPECT_GT(refused, 0);
  rusage children{};
  ::getrusage(RUSAGE_CHILDREN, &children);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(children.ru_maxrss, 300 << 10) << "kilobytes, by one of the runs";
#endif
}

}  // namespace
}  // namespace vitrine::test

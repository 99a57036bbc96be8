// Bad models and prompts: exit code 3 (4 for NaN), and a message that says what is wrong and where.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/apps/model_folder.h"
#include "tests/apps/program.h"

namespace vitrine::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The message of a run that must fail with this exit code and say nothing on stdout.
std::string failure(int exit, const std::vector<std::string>& arguments) {
  const Outcome o = vitrine(arguments);
  EXPECT_EQ(o.exit, exit) << o.out << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_TRUE(o.err.starts_with("vitrine: ")) << o.err;
  return o.err;
}
std::string failure_of(const ModelFolder& model, int exit = 3) {
  return failure(exit, {"predict", "--model", model.path(), "--tokens", "1,2,3"});
}

TEST(BadInput, TheUnspoiltFolderWorks) {
  const ModelFolder model;
  const Outcome o = vitrine({"predict", "--model", model.path(), "--tokens", "1,2,3"});
  EXPECT_EQ(o.exit, 0) << o.err;
}

// ---- folders and files --------------------------------------------------------------------------
TEST(BadInput, MissingModelFolder) {
  for (const char* verb : {"predict", "generate", "tokenize"}) {
    EXPECT_THAT(failure(3, {verb, "--model", "/no/such/folder", "--tokens", "1"}),
                AllOf(HasSubstr("/no/such/folder"), HasSubstr("there is no such folder")));
  }
  failure(3, {"cache", "--model", "/no/such/folder", "--tokens", "1", "--out", "x.safetensors"});
  failure(3, {"info", "--model", "/no/such/folder"});
  const test::TemporaryFolder empty;
  EXPECT_THAT(failure(3, {"info", "--model", empty.path()}), HasSubstr("config.json"));
}

TEST(BadInput, TheVariableForGpt2NamesNoModel) {
  const Outcome o =
      vitrine({"info", "--model", "gpt2"}, {.environment = {{"VITRINE_GPT2", "/no/such/folder"}}});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, AllOf(HasSubstr("VITRINE_GPT2"), HasSubstr("/no/such/folder")));
}

TEST(BadInput, MissingCheckpoint) {
  const ModelFolder model;
  std::filesystem::remove(model.file("model.safetensors"));
  EXPECT_THAT(failure_of(model), AllOf(HasSubstr(model.path()), HasSubstr("model.safetensors")));
}

TEST(BadInput, TruncatedCheckpoint) {
  const ModelFolder model;
  const std::string file = model.file("model.safetensors");
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 100);
  EXPECT_THAT(failure_of(model), HasSubstr(file));
  std::filesystem::resize_file(file, 4);  // not even the length of the header
  EXPECT_THAT(failure_of(model), HasSubstr(file));
  std::filesystem::resize_file(file, 0);
  EXPECT_THAT(failure_of(model), HasSubstr(file));
}

TEST(BadInput, CorruptCheckpoint) {
  const ModelFolder model;
  const std::string file = model.file("model.safetensors");
  std::string bytes = read_text(file);
  write_text(file, bytes + "extra");
  EXPECT_THAT(failure_of(model), HasSubstr(file));
  bytes[9] = '!';  // within the JSON header
  write_text(file, bytes);
  EXPECT_THAT(failure_of(model), HasSubstr(file));
  write_text(file, std::string(64, '\xff'));  // a header of 2^64 - 1 bytes
  EXPECT_THAT(failure_of(model), HasSubstr(file));
}

// What the system says is put into words, with the name of the file.
TEST(BadInput, LinksInACircle) {
  const test::TemporaryFolder folder;
  std::filesystem::create_symlink(folder / "loop", folder / "loop");
  const std::string said =
      "cannot read '" + (folder / "loop").string() + "': its links lead in a circle";
  const std::string message =
      failure(3, {"sae", "features", "--sae", folder / "loop", "--tokens", "1"});
  EXPECT_THAT(message, HasSubstr(said));
  EXPECT_THAT(message, ::testing::Not(HasSubstr("filesystem error")));
}

// ---- config.json --------------------------------------------------------------------------------
TEST(BadInput, ConfigIsNotJson) {
  const ModelFolder model;
  write_text(model.file("config.json"), "{\"n_layer\": ");
  EXPECT_THAT(failure_of(model), AllOf(HasSubstr("config.json"), HasSubstr("JSON")));
}

TEST(BadInput, ConfigFieldsThatAreNotSupported) {
  const auto message = [](const std::string& field, const nlohmann::json& value) {
    ModelFolder model;
    model.config[field] = value;
    model.save_config();
    const std::string text = failure_of(model);
    EXPECT_THAT(text, AllOf(HasSubstr("config.json"), HasSubstr(field + ": expected "),
                            HasSubstr(value.dump())));
    return text;
  };
  message("model_type", "bloom");
  message("activation_function", "mish");
  message("add_cross_attention", true);
  message("n_layer", "two");
  message("n_layer", 0);
  message("n_embd", 8.5);
  message("layer_norm_epsilon", "small");
  message("scale_attn_weights", 1);
  message("tie_word_embeddings", "yes");
}

TEST(BadInput, ConfigFieldsThatDoNotFitTogether) {
  ModelFolder model;
  model.config["n_head"] = 3;
  model.save_config();
  EXPECT_THAT(failure_of(model), HasSubstr("n_embd: expected a multiple of n_head (3), found 8"));
}

TEST(BadInput, ConfigFieldMissing) {
  ModelFolder model;
  model.config.erase("n_head");
  model.save_config();
  EXPECT_THAT(failure_of(model),
              AllOf(HasSubstr("n_head: expected"), HasSubstr("found no such field")));
}

// ---- tensors ------------------------------------------------------------------------------------
TEST(BadInput, MissingTensorsAreNamedAndCounted) {
  ModelFolder model;
  model.remove_tensor("h.0.attn.c_attn.weight");
  model.save_tensors();
  EXPECT_THAT(failure_of(model), HasSubstr("tensor 'h.0.attn.c_attn.weight' is missing"));
  model.remove_tensor("h.1.ln_2.bias");
  model.remove_tensor("ln_f.bias");
  model.save_tensors();
  EXPECT_THAT(failure_of(model),
              AllOf(HasSubstr("tensor 'h.0.attn.c_attn.weight' is missing"), HasSubstr("2 more")));
}

TEST(BadInput, WrongShapesAreNamedAndCounted) {
  ModelFolder model;
  model.tensor("wpe.weight") = Tensor::zeros({16, 4}, DType::f32);
  model.tensor("ln_f.weight") = Tensor::zeros({9}, DType::f32);
  model.save_tensors();
  EXPECT_THAT(failure_of(model), AllOf(HasSubstr("'wpe.weight'"), HasSubstr("[16, 4]"),
                                       HasSubstr("[16, 8]"), HasSubstr("1 more")));
}

TEST(BadInput, WrongDtype) {
  ModelFolder model;
  model.tensor("ln_f.weight") = Tensor::zeros({8}, DType::i64);
  model.save_tensors();
  EXPECT_THAT(failure_of(model), AllOf(HasSubstr("'ln_f.weight'"), HasSubstr("i64")));
}

TEST(BadInput, SuperfluousTensor) {
  ModelFolder model;
  model.tensors.emplace_back("h.2.ln_1.bias", Tensor::zeros({8}, DType::f32));
  model.save_tensors();
  EXPECT_THAT(failure_of(model), HasSubstr("'h.2.ln_1.bias'"));
}

TEST(BadInput, NanInTheWeights) {
  ModelFolder model;
  model.tensor("h.1.mlp.c_fc.weight").data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  model.save_tensors();
  EXPECT_THAT(failure_of(model, 4), AllOf(HasSubstr("NaN"), HasSubstr("h.1.mlp.c_fc.weight")));
  failure(4, {"generate", "--model", model.path(), "--tokens", "1"});
  const test::TemporaryFolder out;
  failure(4, {"cache", "--model", model.path(), "--tokens", "1", "--out", out / "x.safetensors"});
  EXPECT_TRUE(out.names().empty());
}

TEST(BadInput, NanThatArisesNamesTheOpAndTheSite) {
  ModelFolder model;
  Tensor& gain = model.tensor("h.1.ln_2.weight");
  for (int i = 0; i < 8; ++i) gain.data<float>()[i] = (i % 2 == 0 ? 1 : -1) * 3e38f;  // inf - inf
  Tensor& w = model.tensor("h.1.mlp.c_fc.weight");
  w = Tensor::full(w.shape(), DType::f32, 1e10);
  model.save_tensors();
  EXPECT_THAT(failure_of(model, 4),
              AllOf(HasSubstr("NaN"), HasSubstr("op '"), HasSubstr("blocks.1")));
}

// Numbers that are too large are an error of each verb, never a row of a table.
TEST(BadInput, OverflowIsNoResult) {
  const test::TemporaryFolder folder;
  write_text(folder / "ids.jsonl", "{\"tokens\": [1, 2, 3, 4, 5]}\n{\"tokens\": [5, 4, 3]}\n");
  using Words = std::vector<std::string>;
  const Words pair = {"--clean-tokens", "1,2", "--corrupt-tokens", "1,3",
                      "--answer-token", "4",   "--wrong-token",    "5"};
  const auto of_pair = [&](Words words) {
    words.insert(words.end(), pair.begin(), pair.end());
    return words;
  };
  const std::vector<Words> commands = {
      {"predict", "--tokens", "1,2,3"},
      {"generate", "--tokens", "1,2,3", "--max-tokens", "3"},
      {"generate", "--tokens", "1,2,3", "--max-tokens", "3", "--temperature", "1", "--top-k", "3"},
      {"lens", "--tokens", "1,2,3"},
      {"lens", "--tokens", "1,2,3", "--pos", "all", "--answer-token", "2"},
      {"decompose", "--tokens", "1,2,3"},
      {"decompose", "--tokens", "1,2,3", "--stream"},
      {"neurons", "--tokens", "1,2,3", "--answer-token", "2"},
      {"neurons", "--corpus", folder / "ids.jsonl"},
      {"steer", "--tokens", "1,2,3", "--toward-token", "3", "--max-tokens", "2"},
      {"evaluate", folder / "ids.jsonl"},
      {"heads"},
      of_pair({"patch", "--site", "z", "--metric", "prob"}),
      of_pair({"attribute"}),
      of_pair({"attribute", "--method", "grad-x-act"})};
  // A difference of two logits may be a number where others are not.
  const std::vector<Words> of_stream = {of_pair({"patch", "--site", "resid_pre"}),
                                        of_pair({"attribute", "--method", "ig"}),
                                        {"attention", "--layer", "1", "--tokens", "1,2,3"}};
  ModelFolder logits;  // the logits alone become infinite
  logits.tensor("ln_f.weight") = Tensor::full({8}, DType::f32, 1.5e38);
  logits.save_tensors();
  ModelFolder stream;  // the stream does, and LayerNorm makes NaN of that
  for (const char* name : {"h.0.mlp.c_fc.weight", "h.0.mlp.c_proj.weight"}) {
    Tensor& w = stream.tensor(name);
    w = Tensor::full(w.shape(), DType::f32, 1e30);
  }
  stream.save_tensors();
  for (const ModelFolder* model : {&logits, &stream}) {
    std::vector<Words> all = commands;
    if (model == &stream) all.insert(all.end(), of_stream.begin(), of_stream.end());
    for (Words words : all) {
      words.insert(words.end(), {"--model", model->path()});
      for (const char* format : {"table", "json"}) {
        Words command = words;
        command.insert(command.end(), {"--format", format});
        SCOPED_TRACE(
            fmt::format("{} {}", model == &logits ? "logits" : "stream", fmt::join(command, " ")));
        const std::string said = failure(4, command);
        EXPECT_THAT(said, ::testing::ContainsRegex("NaN|inf"));
        EXPECT_THAT(said, ::testing::Not(HasSubstr("a plan without updates")));
      }
    }
  }
}

// ---- prompts ------------------------------------------------------------------------------------
TEST(BadInput, TokenIdsOutOfRange) {
  EXPECT_THAT(failure(3, {"predict", "--tokens", "1,6000"}),
              AllOf(HasSubstr("token id 6000 at position 1"), HasSubstr("0 to 5999")));
  EXPECT_THAT(failure(3, {"predict", "--tokens", "-1"}), HasSubstr("token id -1 at position 0"));
  EXPECT_THAT(failure(3, {"predict", "--model", tiny_model(), "--tokens", "97"}),
              HasSubstr("0 to 96"));
}

TEST(BadInput, TextWithoutATokenizer) {
  for (const char* verb : {"predict", "generate"}) {
    EXPECT_THAT(failure(3, {verb, "--model", tiny_model(), "--prompt", "hello"}),
                AllOf(HasSubstr("no tokenizer"), HasSubstr("--tokens")));
  }
}

TEST(BadInput, PromptLongerThanTheContext) {
  std::string ids = "1";
  for (int i = 0; i < 32; ++i) ids += ",1";
  EXPECT_THAT(
      failure(3, {"predict", "--model", tiny_model(), "--tokens", ids}),
      AllOf(HasSubstr("33 tokens"), HasSubstr("context is 32"), HasSubstr("shorten it by 1")));
  failure(3, {"generate", "--model", tiny_model(), "--tokens", ids});
}

TEST(BadInput, EmptyPrompt) {
  EXPECT_THAT(failure(3, {"predict", "--prompt", ""}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(failure(3, {"predict", "--tokens", ""}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(failure(3, {"generate", "--prompt", ""}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(failure(3, {"predict", "--prompt", ""}), HasSubstr("(--prepend-bos adds one)"));
  EXPECT_EQ(vitrine({"predict", "--prompt", "", "--prepend-bos"}).exit, 0);
  EXPECT_THAT(failure(3, {"patch", "--clean", "a", "--corrupt", "", "--answer", " b", "--wrong",
                          " c", "--site", "z"}),
              HasSubstr("the corrupt prompt is empty"));
}

TEST(BadInput, NoBeginningOfText) {
  const ModelFolder model;
  EXPECT_THAT(failure(3, {"predict", "--model", model.path(), "--tokens", "1", "--prepend-bos"}),
              AllOf(HasSubstr("bos_token_id"), HasSubstr("<|endoftext|>")));
}

}  // namespace
}  // namespace vitrine::test

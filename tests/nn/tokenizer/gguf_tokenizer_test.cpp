// Tests nn/tokenizer/tokenizer_gguf.cpp and gguf_tokenizer.cpp: the ids are those of SentencePiece, and of the
// tokenizer.json with the same vocabulary.
#include "nn/tokenizer/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nn/tokenizer/save_tokenizer.h"
#include "nn/tokenizer/tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/utf8.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/files/gguf_writer.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json fixture_of(const std::string& name) {
  const fs::path folder = fs::path(VITRINE_TEST_DATA) / "tokenizer" / "families";
  return Json::parse(read_text(folder / (name + ".json")));
}

// What a converter makes of a byte-level tokenizer.json.
GgufTokenizer converted(const Json& tokenizer, const char* pre) {
  GgufTokenizer parts{.model = "gpt2", .pre = pre};
  const auto put = [&](std::size_t id, const std::string& token, int type) {
    if (parts.tokens.size() <= id) {
      parts.tokens.resize(id + 1);
      parts.token_type.resize(id + 1, 1);
    }
    parts.tokens[id] = token;
    parts.token_type[id] = type;
  };
  for (const auto& [token, id] : tokenizer["model"]["vocab"].items()) put(id, token, 1);
  for (const Json& added : tokenizer["added_tokens"])
    put(added["id"], added["content"], added["special"].get<bool>() ? 3 : 4);
  for (const Json& merge : tokenizer["model"]["merges"])
    parts.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  parts.bos = 0;
  return parts;
}

GgufTokenizer sentencepiece() {
  const Json gguf = fixture_of("sentencepiece")["gguf"];
  return {.model = gguf["model"],
          .tokens = gguf["tokens"],
          .token_type = gguf["token_type"],
          .scores = gguf["scores"],
          .bos = gguf["bos_token_id"],
          .eos = gguf["eos_token_id"]};
}

void expect_saved_alike(const Tokenizer& tokenizer, const Json& cases) {
  const test::TemporaryFolder folder;
  save_tokenizer(tokenizer, folder.path());
  const Tokenizer again = Tokenizer::load(folder.path());
  for (const Json& one : cases) {
    const std::string text = one["text"];
    for (const Special special : {Special::as_text, Special::as_tokens})
      EXPECT_EQ(again.encode_prompt(text, special), tokenizer.encode_prompt(text, special))
          << quote(text);
  }
}

TEST(GgufTokenizer, OfBytesGivesTheIdsOfTheTokenizerJson) {
  for (const auto& [family, pre] :
       {std::pair{"llama3", "llama-bpe"}, {"qwen2", "qwen2"}, {"smollm2", "smollm"}}) {
    const Json fixture = fixture_of(family);
    const Tokenizer tokenizer =
        Tokenizer::from_gguf(converted(fixture["tokenizer"], pre), "file.gguf");
    for (const Json& one : fixture["cases"]) {
      const std::string text = one["text"];
      EXPECT_EQ(tokenizer.encode_prompt(text, Special::as_tokens),
                one["ids"].get<std::vector<int>>())
          << family << quote(text);
    }
    expect_saved_alike(tokenizer, fixture["cases"]);
  }
}

TEST(GgufTokenizer, OfCharactersGivesTheIdsOfSentencePiece) {
  const Json cases = fixture_of("sentencepiece")["cases"];
  const Tokenizer tokenizer = Tokenizer::from_gguf(sentencepiece(), "file.gguf");
  for (const Json& one : cases) {
    const std::string text = one["text"];
    const auto ids = one["ids"].get<std::vector<int>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << quote(text);
    EXPECT_EQ(tokenizer.decode(ids), one["decoded"].get<std::string>());
  }
  EXPECT_THAT(tokenizer.first(), ElementsAre(1));  // unless the file says otherwise
  expect_saved_alike(tokenizer, cases);
}

TEST(GgufTokenizer, ControlTokensAreMatchedOnRequestAndUserDefinedOnesAlways) {
  const Tokenizer tokenizer = Tokenizer::from_gguf(sentencepiece(), "file.gguf");
  const int x = *tokenizer.find("<|x|>");
  EXPECT_EQ(tokenizer.encode("a<|x|>b")[2], x);
  EXPECT_EQ(tokenizer.encode("<s>", Special::as_tokens), std::vector<int>{1});
  EXPECT_GT(tokenizer.encode("<s>").size(), 2u);
}

TEST(GgufTokenizer, FlagsSayWhatIsPutInFront) {
  GgufTokenizer parts = sentencepiece();
  parts.add_bos = false;
  parts.add_space_prefix = false;
  const Tokenizer tokenizer = Tokenizer::from_gguf(parts, "file.gguf");
  EXPECT_TRUE(tokenizer.first().empty());
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(" a")), " a");
  EXPECT_EQ(tokenizer.encode("a").size(), 1u);
  const Json llama = fixture_of("llama3")["tokenizer"];
  EXPECT_THAT(Tokenizer::from_gguf(converted(llama, "llama-bpe"), "f").first(), ElementsAre(0));
  EXPECT_TRUE(Tokenizer::from_gguf(converted(llama, "gpt-2"), "f").first().empty());
}

TEST(GgufTokenizer, RefusesByNameWhatItCannotHonour) {
  const auto message = [](const std::function<void(GgufTokenizer&)>& change) {
    GgufTokenizer parts = sentencepiece();
    change(parts);
    return message_of<Error>([&] { (void)Tokenizer::from_gguf(parts, "file.gguf"); });
  };
  using P = GgufTokenizer;
  EXPECT_THAT(message([](P& p) { p.model = "bert"; }),
              HasSubstr("file.gguf: tokenizer.ggml.model: expected \"gpt2\" or \"llama\", found "
                        "\"bert\"; no other is supported"));
  for (const char* pre : {"", "default", "deepseek-llm"}) {
    EXPECT_THAT(message([&](P& p) { p.model = "gpt2", p.pre = pre; }),
                AllOf(HasSubstr("tokenizer.ggml.pre: expected one of \"gpt-2\", \"smollm\""),
                      HasSubstr(quote(pre))));
  }
  EXPECT_THAT(message([](P& p) { p.add_eos = true; }),
              HasSubstr("add_eos_token: expected false, found true"));
  EXPECT_THAT(message([](P& p) { p.tokens.clear(); }), HasSubstr("tokens: there are none"));
  EXPECT_THAT(message([](P& p) { p.token_type.pop_back(); }),
              HasSubstr("token_type: expected 420 of them, one for each token, found 419"));
  EXPECT_THAT(message([](P& p) { p.token_type[5] = 7; }), HasSubstr("from 1 to 6, found 7"));
  EXPECT_THAT(message([](P& p) { p.scores.pop_back(); }), HasSubstr("scores: expected 420"));
  EXPECT_THAT(message([](P& p) { p.scores[300] = std::numeric_limits<float>::quiet_NaN(); }),
              HasSubstr("scores: the score of token 300 is not finite"));
  EXPECT_THAT(message([](P& p) { p.scores[300] = p.scores[301]; }),
              HasSubstr("scores: expected different scores, found"));
  EXPECT_THAT(message([](P& p) { p.token_type[300] = 5; }),
              HasSubstr("token_type: expected no merge to make an unused token"));
  EXPECT_THAT(message([](P& p) { p.bos = 420; }),
              HasSubstr("bos_token_id: expected the id of a token, from 0 to 419, found 420"));
  EXPECT_THAT(message([](P& p) { p.bos.reset(), p.add_bos = true; }),
              HasSubstr("add_bos_token: it is true, but there is no bos_token_id"));
  EXPECT_THAT(message([](P& p) { p.tokens[300].assign(5000, 'a'); }),
              HasSubstr("token 300 has 5000 bytes"));

  const auto of_bytes = [](const std::function<void(GgufTokenizer&)>& change) {
    GgufTokenizer parts = converted(fixture_of("smollm2")["tokenizer"], "smollm");
    change(parts);
    return message_of<FileError>([&] { (void)Tokenizer::from_gguf(parts, "file.gguf"); });
  };
  EXPECT_THAT(of_bytes([](P& p) { p.merges[3] = "a"; }),
              HasSubstr("merges: merge 3 is two tokens with one space between, not \"a\""));
  EXPECT_THAT(of_bytes([](P& p) { p.merges[3] = "zz a"; }), HasSubstr("needs the token \"zz\""));
  EXPECT_THAT(of_bytes([](P& p) { p.merges[3] = p.merges[2]; }), HasSubstr("a second time"));
  EXPECT_THAT(of_bytes([](P& p) { p.tokens[300] = "a b"; }),
              HasSubstr("tokens: token 300, \"a b\", is not byte-level"));
}

// ---- files --------------------------------------------------------------------------------------

TEST(GgufTokenizer, EveryKeyOfTheMetadataIsRead) {
  const GgufTokenizer parts = sentencepiece();
  const auto file = [&](const std::string& model) {
    std::string types, scores;
    for (const int type : parts.token_type) types += test::raw<std::int32_t>(type);
    for (const float score : parts.scores) scores += test::raw(score);
    test::GgufWriter out;
    out.text("tokenizer.ggml.model", model)
        .texts("tokenizer.ggml.tokens", parts.tokens)
        .list("tokenizer.ggml.token_type", GgufType::int32, parts.token_type.size(), types)
        .list("tokenizer.ggml.scores", GgufType::float32, parts.scores.size(), scores)
        .integer("tokenizer.ggml.bos_token_id", 1)
        .integer("tokenizer.ggml.eos_token_id", 2)
        .key("tokenizer.ggml.add_bos_token", GgufType::boolean, std::string(1, '\0'))
        .key("tokenizer.ggml.add_eos_token", GgufType::boolean, std::string(1, '\0'))
        .key("tokenizer.ggml.add_space_prefix", GgufType::boolean, std::string(1, '\1'));
    return out.bytes();
  };
  const test::TemporaryFolder folder;
  write_text(folder / "a.gguf", file("llama"));
  EXPECT_TRUE(Tokenizer::exists(folder / "a.gguf"));
  const Tokenizer tokenizer = Tokenizer::load(folder / "a.gguf");
  EXPECT_TRUE(tokenizer.first().empty());
  const Json cases = fixture_of("sentencepiece")["cases"];
  for (const Json& one : cases) {
    const std::string text = one["text"];
    EXPECT_EQ(tokenizer.encode(text), one["ids"].get<std::vector<int>>()) << quote(text);
  }
  write_text(folder / "b.gguf", file("no_vocab"));
  EXPECT_FALSE(Tokenizer::exists(folder / "b.gguf"));
  write_text(folder / "c.gguf", file("unknown"));
  EXPECT_TRUE(Tokenizer::exists(folder / "c.gguf"));
  EXPECT_THAT(message_of<ConfigError>([&] { (void)Tokenizer::load(folder / "c.gguf"); }),
              HasSubstr("c.gguf: tokenizer.ggml.model: expected \"gpt2\" or \"llama\""));
  write_text(folder / "d.gguf", test::GgufWriter()
                                    .text("tokenizer.ggml.model", "llama")
                                    .texts("tokenizer.ggml.tokens", {"a", "\xff"})
                                    .bytes());
  EXPECT_THAT(message_of<FileError>([&] { (void)Tokenizer::load(folder / "d.gguf"); }),
              HasSubstr("tokenizer.ggml.tokens: expected UTF-8, found \"\\xff\" as item 1"));
}

TEST(GgufTokenizer, IsReadFromAFile) {
  const fs::path reference = fs::path(VITRINE_SHARED) / "reference" / "gguf";
  if (!fs::exists(reference)) GTEST_SKIP() << "put the GGUF files into " << reference;
  const Tokenizer tokenizer = Tokenizer::load(reference / "llama-256.q4_k_m.gguf");
  const Tokenizer as_json = Tokenizer::parse_tokenizer_json(
      read_text(reference / "llama-256.tokenizer.json"), "tokenizer.json");
  EXPECT_EQ(tokenizer.tokens(), as_json.tokens());
  const Json cases = Json::parse(read_text(reference / "llama-256.tokens.json"));
  for (const Json& one : cases) {
    EXPECT_EQ(tokenizer.encode(one["text"].get<std::string>(), Special::as_tokens),
              one["ids"].get<std::vector<int>>());
  }
  expect_saved_alike(tokenizer, cases);
  EXPECT_TRUE(Tokenizer::exists(reference / "llama-256.q4_k_m.gguf"));
  EXPECT_FALSE(Tokenizer::exists(reference / "llama.f32.gguf"));
  EXPECT_THAT(message_of<FileError>([&] { (void)Tokenizer::load(reference / "llama.f32.gguf"); }),
              HasSubstr("llama.f32.gguf: there is no tokenizer in this file"));
}

}  // namespace
}  // namespace vitrine::nn

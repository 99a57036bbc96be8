// Tokenizers and models as people have them: with special tokens, with a beginning-of-text token,
// smaller or larger than the model, or such that cannot be used.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/apps/model_folder.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A model of 11 ids with a slow tokenizer: the letters from "a" on.
struct LettersModel : ModelFolder {
  explicit LettersModel(int letters) {
    json vocab;
    for (int i = 0; i < letters; ++i) vocab[std::string(1, static_cast<char>('a' + i))] = i;
    write_text(file("vocab.json"), vocab.dump());
    write_text(file("merges.txt"), "#version: 0.2\n");
  }
  // Makes `id` the most probable token after any other: the logits become 0.1 times its embedding.
  void always_predicts(int id) {
    Tensor& gain = tensor("ln_f.weight");
    std::fill_n(gain.data<float>(), gain.numel(), 0.0f);
    std::fill_n(tensor("wte.weight").data<float>() + id * 8, 8, 5.0f);
    save_tensors();
  }
  void configure(const char* tokenizer_config) const {
    write_text(file("tokenizer_config.json"), tokenizer_config);
  }
  Words with(const std::string& verb, const Words& more) const {
    return Words{verb, "--model", path()} + more;
  }
  json answer(const std::string& verb, const Words& more) const {
    const Outcome o = vitrine(with(verb, more + Words{"--format", "json"}));
    EXPECT_EQ(o.exit, 0) << o.err;
    return o.json();
  }
  json ids(const Words& more) const { return answer("tokenize", more)["ids"]; }
};

// ---- special tokens -----------------------------------------------------------------------------

TEST(Tokenizers, SpecialTokensOfTheConfigurationSplitTheText) {
  const LettersModel m(6);
  m.configure(R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "abc", "eos_token": "f",
                  "unk_token": null, "pad_token": "<pad>"})");
  EXPECT_EQ(m.ids({"--special", "--prompt", "aabcf<pad>"}), json({0, 6, 5, 7}));
  EXPECT_EQ(m.ids({"--prompt", "aabcf"}), json({0, 0, 1, 2, 5}));
}

// ---- a token before every text ------------------------------------------------------------------

TEST(Tokenizers, ABeginningOfTextTokenBeginsPromptsOnce) {
  const LettersModel m(6);
  m.configure(R"({"add_bos_token": true, "bos_token": "f"})");
  EXPECT_EQ(m.ids({"--prompt", "ab"}), json({5, 0, 1}));
  EXPECT_EQ(m.ids({"--prompt", "ab", "--prepend-bos"}), json({5, 0, 1}));
  EXPECT_EQ(m.ids({"--prompt", ""}), json({5}));
  EXPECT_EQ(m.answer("predict", {"--prompt", "ab"})["tokens"], json({5, 0, 1}));
  EXPECT_EQ(m.answer("predict", {"--prompt", "ab", "--prepend-bos"})["tokens"], json({5, 0, 1}));
  EXPECT_EQ(m.answer("predict", {"--tokens", "0,1"})["tokens"], json({0, 1}));
  EXPECT_EQ(m.answer("predict", {"--tokens", "0,1", "--prepend-bos"})["tokens"], json({5, 0, 1}));
  const Outcome lines =
      vitrine(m.with("tokenize", {"--jsonl", "-"}), {.input = "{\"text\": \"a\"}"});
  EXPECT_EQ(lines.json()["ids"], json({5, 0})) << lines.err;
  // An answer is one token, and no prompt.
  const json lens = m.answer("lens", {"--prompt", "ab", "--answer", "c"});
  EXPECT_EQ(lens["tokens"], json({5, 0, 1}));
  EXPECT_EQ(lens["answer"]["id"], 2);
  const Words pair = {"--clean", "ab",      "--corrupt", "bb",     "--answer",
                      "c",       "--wrong", "d",         "--site", "resid_pre"};
  EXPECT_EQ(m.answer("patch", pair)["tokens"]["clean"], json({5, 0, 1}));
}

TEST(Tokenizers, DocumentsBeginAsPromptsDoAndLinesSayThatTheyDoNot) {
  const LettersModel m(6);
  const auto predicted = [&](const char* line) {
    write_text(m.file("texts.jsonl"), line);
    return m.answer("evaluate", {m.file("texts.jsonl")})["tokens"];
  };
  EXPECT_EQ(predicted("{\"text\": \"abc\"}"), 2);
  m.configure(R"({"add_bos_token": true, "bos_token": "f"})");
  EXPECT_EQ(predicted("{\"text\": \"abc\"}"), 3);
  EXPECT_EQ(predicted("{\"tokens\": [0, 1, 2]}"), 2);
  write_text(m.file("lines.txt"), "abcd\nbcda\n");
  const Words corpus = {"--corpus", m.file("lines.txt"), "--format", "json"};
  const Outcome bare = vitrine(m.with("neurons", corpus));
  EXPECT_EQ(bare.exit, 0) << bare.err;
  EXPECT_THAT(bare.err, HasSubstr("note: this tokenizer puts \"f\" before every prompt"));
  EXPECT_TRUE(bare.json()["bos"].is_null());
  const Outcome with_bos = vitrine(m.with("neurons", corpus + Words{"--prepend-bos"}));
  EXPECT_EQ(with_bos.json()["bos"], 5) << with_bos.err;
  EXPECT_THAT(with_bos.err, Not(HasSubstr("note")));
}

TEST(Tokenizers, ATokenAfterEveryTextIsRefused) {
  const LettersModel m(6);
  m.configure(R"({"add_eos_token": true, "eos_token": "f"})");
  expect_failure(m.with("predict", {"--prompt", "ab"}), 3,
                 "add_eos_token: expected false, found true");
  // In words of the program, wherever it says it.
  for (const char* verb : {"predict", "info"}) {
    const Outcome o =
        vitrine(m.with(verb, verb == std::string("info") ? Words{} : Words{"--prompt", "a"}));
    EXPECT_THAT(o.err, AllOf(HasSubstr("give the token as text, with --special"),
                             Not(HasSubstr("Special::"))))
        << verb;
  }
}

// ---- smaller than the model ---------------------------------------------------------------------

TEST(Tokenizers, IdsBeyondThemAreShownAsPlaceholders) {
  LettersModel m(6);  // <|endoftext|> is the seventh; the model has 11
  m.always_predicts(10);
  const json predict = m.answer("predict", {"--prompt", "ab", "--top", "11"});
  EXPECT_EQ(predict["top"][0]["id"], 10);
  EXPECT_EQ(predict["top"][0]["token"], "<id 10>");
  const json generate = m.answer("generate", {"--prompt", "ab", "--max-tokens", "3"});
  EXPECT_EQ(generate["tokens"], json({10, 10, 10}));
  EXPECT_EQ(generate["text"], "<id 10><id 10><id 10>");
  EXPECT_EQ(m.answer("predict", {"--tokens", "0,10"})["str_tokens"], json({"a", "<id 10>"}));
  for (const Words& words :
       {m.with("predict", {"--prompt", "ab"}), m.with("generate", {"--prompt", "ab"}),
        m.with("lens", {"--prompt", "ab"}), m.with("neurons", {"--tokens", "0,10"}),
        m.with("decompose", {"--prompt", "ab", "--answer-token", "10"}),
        m.with("attention", {"--tokens", "10,0", "--layer", "0"}),
        m.with("heads", {"--explain", "0.1"})}) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, 0) << words[0] << o.err;
    EXPECT_THAT(o.out, HasSubstr("<id 10>")) << words[0];
    EXPECT_THAT(o.out, Not(HasSubstr("\"<id 10>\""))) << words[0];  // quotes are for tokens
    const Outcome as_json = vitrine(words + Words{"--format", "json"});
    EXPECT_EQ(as_json.exit, 0) << words[0] << as_json.err;
    EXPECT_THAT(as_json.out, HasSubstr("<id 10>")) << words[0];
  }
  // What the user gives must be there.
  expect_failure(m.with("tokenize", {"--decode", "10"}), 3, "id 10 is outside the vocabulary");
  expect_failure(m.with("tokenize", {"--tokens", "10"}), 3, "id 10 is outside the vocabulary");
}

// ---- larger than the model ----------------------------------------------------------------------

TEST(Tokenizers, LargerOnesWorkUntilATokenHasNoEmbedding) {
  const LettersModel m(13);  // "l" and "m" have no embedding
  EXPECT_EQ(m.answer("predict", {"--prompt", "ak"})["tokens"], json({0, 10}));
  EXPECT_EQ(m.ids({"--prompt", "am"}), json({0, 12}));
  const char* said =
      "the token \"m\" (id 12) has no embedding: the tokenizer has 14 ids, the model 11 (0 to 10)";
  expect_failure(m.with("predict", {"--prompt", "am"}), 3, said);
  expect_failure(m.with("generate", {"--prompt", "am"}), 3, said);
  expect_failure(m.with("lens", {"--prompt", "a", "--answer", "m"}), 3, said);
  write_text(m.file("pairs.jsonl"),
             R"({"clean": "ab", "corrupt": "am", "answer": "a", "wrong": "b"})");
  expect_failure(m.with("patch", {"--pairs", m.file("pairs.jsonl"), "--site", "resid_pre"}), 3,
                 said);
  write_text(m.file("lines.txt"), "abc\n\nam\n");
  expect_failure(m.with("evaluate", {"--split", "line", m.file("lines.txt")}), 3,
                 std::string("lines.txt, line 3: ") + said);
  expect_failure(m.with("neurons", {"--corpus", m.file("lines.txt")}), 3,
                 std::string("lines.txt, line 3: ") + said);
  write_text(m.file("lines.txt"), "abc");
  EXPECT_EQ(m.answer("evaluate", {m.file("lines.txt")})["documents"], 1);
}

// ---- such that cannot be used -------------------------------------------------------------------

TEST(Tokenizers, OnesThatCannotBeUsedLeaveTheModelUsable) {
  const LettersModel m(6);
  write_text(m.file("tokenizer.json"), R"({"normalizer": {"type": "StripAccents"}})");
  const char* reason =
      "tokenizer.json: normalizer.type: expected \"NFC\", \"Prepend\", \"Replace\" or a "
      "\"Sequence\" of them, found \"StripAccents\"; it would change the text";
  const Outcome o = vitrine(m.with("predict", {"--tokens", "0,1", "--format", "json"}));
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.err, AllOf(HasSubstr("note: this model's tokenizer cannot be used: "),
                           HasSubstr(reason), HasSubstr("ids are shown instead of texts")));
  EXPECT_TRUE(o.json()["str_tokens"].is_null());
  EXPECT_TRUE(o.json()["top"][0]["token"].is_null());
  EXPECT_EQ(vitrine(m.with("predict", {"--tokens", "0,1", "--quiet"})).err, "");
  EXPECT_EQ(vitrine(m.with("generate", {"--tokens", "0,1"})).exit, 0);
  for (const Words& words :
       {m.with("predict", {"--prompt", "ab"}), m.with("generate", {"--prompt", "ab"}),
        m.with("tokenize", {"--prompt", "ab"}), m.with("lens", {"--tokens", "0", "--answer", "a"}),
        m.with("patch", {"--clean", "ab", "--corrupt", "bb", "--answer", "c", "--wrong", "d",
                         "--site", "resid_pre"}),
        m.with("steer", {"--tokens", "0", "--plus", "a", "--minus", "b", "--layer", "0"})}) {
    expect_failure(words, 3, reason);
  }
  write_text(m.file("lines.txt"), "abc\n");
  expect_failure(m.with("evaluate", {m.file("lines.txt")}), 3, reason);
  expect_failure(m.with("neurons", {"--corpus", m.file("lines.txt")}), 3, reason);
  const json info = m.answer("info", {"--length", "8"});
  EXPECT_THAT(info["tokenizer"]["unusable"].get<std::string>(), HasSubstr(reason));
  EXPECT_THAT(vitrine(m.with("info", {"--length", "8"})).out, HasSubstr("cannot be used"));
}

}  // namespace
}  // namespace vitrine::test

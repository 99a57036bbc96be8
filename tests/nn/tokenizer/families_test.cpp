// Tests tokenizers of the families that people have: ids are those of HuggingFace tokenizers, and what is
// saved gives them again (tests/data/tokenizer/families, written by make_family_fixtures.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nn/tokenizer/gguf_tokenizer.h"
#include "nn/tokenizer/save_tokenizer.h"
#include "nn/tokenizer/tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/utf8.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Json family(const std::string& name) {
  const fs::path folder = fs::path(VITRINE_TEST_DATA) / "tokenizer" / "families";
  return Json::parse(read_text(folder / (name + ".json")));
}

Tokenizer tokenizer_of(const Json& fixture) {
  return Tokenizer::parse_tokenizer_json(fixture["tokenizer"].dump(), "file");
}

void expect_cases(const Tokenizer& tokenizer, const Json& cases, const std::string& what) {
  ASSERT_GT(cases.size(), 15u);
  for (const Json& one : cases) {
    const auto text = one["text"].get<std::string>();
    const auto ids = one["ids"].get<std::vector<int>>();
    EXPECT_EQ(tokenizer.encode_prompt(text, Special::as_tokens), ids) << what << quote(text);
    // SmolLM2's golden has no `decoded`: no text is lost there.
    EXPECT_EQ(tokenizer.decode(ids), one.value("decoded", text)) << what << quote(text);
  }
}

class Family : public ::testing::TestWithParam<const char*> {};

TEST_P(Family, MatchesHuggingFace) {
  const Json fixture = family(GetParam());
  expect_cases(tokenizer_of(fixture), fixture["cases"], "");
}

TEST_P(Family, IsSavedAndReadAgain) {
  const Json fixture = family(GetParam());
  const Tokenizer tokenizer = tokenizer_of(fixture);
  const test::TemporaryFolder folder;
  save_tokenizer(tokenizer, folder.path());
  EXPECT_FALSE(fs::exists(folder / "vocab.json"));  // which could not say all of it
  const Tokenizer again = Tokenizer::load(folder.path());
  expect_cases(again, fixture["cases"], "saved: ");
  EXPECT_EQ(again.tokens(), tokenizer.tokens());
  const Json saved = Json::parse(read_text(folder / "tokenizer.json"));
  for (const char* part : {"normalizer", "pre_tokenizer", "decoder"}) {
    const auto kind = [&](const Json& file) {
      return file[part].is_null() ? Json() : file[part]["type"];
    };
    EXPECT_EQ(kind(saved), kind(fixture["tokenizer"])) << part;
  }
  for (const char* field : {"ignore_merges", "byte_fallback", "fuse_unk", "unk_token"})
    EXPECT_EQ(saved["model"][field], fixture["tokenizer"]["model"][field]) << field;
}

INSTANTIATE_TEST_SUITE_P(Families, Family,
                         ::testing::Values("llama3", "qwen2", "smollm2", "neox", "llama2",
                                           "mistral", "gemma"),
                         [](const auto& name) { return std::string(name.param); });

TEST(Families, SmolLm2MatchesItsGolden) {
  const fs::path folder = fs::path(VITRINE_SHARED) / "reference" / "smollm2";
  if (!fs::exists(folder / "tokens.json"))
    GTEST_SKIP() << "put tokenizer.json and tokens.json of SmolLM2 into " << folder;
  const std::string file = read_text(folder / "tokenizer.json");
  const Tokenizer tokenizer = Tokenizer::parse_tokenizer_json(file, "file");
  const Json cases = Json::parse(read_text(folder / "tokens.json"));
  EXPECT_EQ(cases.size(), 400u);
  expect_cases(tokenizer, cases, "");
}

// ---- what differs from GPT-2's ------------------------------------------------------------------

TEST(Families, LlamaPutsASpaceBeforeATextAndDecodesWithout) {
  const Tokenizer llama = tokenizer_of(family("llama2"));
  EXPECT_EQ(llama.decode(llama.encode("The capital")), "The capital");
  EXPECT_EQ(llama.decode(llama.encode(" The")), " The");
  EXPECT_THAT(llama.str_tokens("the cat"), ElementsAre(" the", " c", "at"));  // nothing is stripped
  // Any bytes can be encoded.
  EXPECT_EQ(llama.decode(llama.encode("a\xff\xc3z")), "a\xff\xc3z");
}

TEST(Families, ATokenOfCharactersIsNamedByWhatItStandsFor) {
  const Tokenizer llama = tokenizer_of(family("llama2"));
  const int the = llama.to_single_token(" the");
  EXPECT_EQ(llama.token_bytes(the), " the");
  EXPECT_THAT(llama.encode("the"), ElementsAre(the));
  EXPECT_EQ(llama.find(" the"), the);
  EXPECT_THAT(message_of<TokenError>([&] { (void)llama.to_single_token("the"); }),
              HasSubstr("did you mean \" the\", with a leading space?"));
  EXPECT_EQ(llama.find("\t"), 3 + '\t');  // the byte
  EXPECT_NE(llama.find("a"), 3 + 'a');    // the character, not the byte
}

TEST(Families, AddedTokensThatAreNotSpecialAreAlwaysFound) {
  const Tokenizer neox = tokenizer_of(family("neox"));
  const std::vector<int> ids = neox.encode("a        b");
  EXPECT_THAT(neox.str_tokens(ids), ElementsAre("a", "        ", "b"));
  EXPECT_EQ(neox.encode("<s>").size(), 3u);  // a special one is text here
  EXPECT_EQ(neox.encode("<s>", Special::as_tokens).size(), 1u);
}

TEST(Families, WhiteSpaceAroundATokenMayBelongToIt) {
  const Tokenizer mistral = tokenizer_of(family("mistral"));  // its <|x|> has lstrip and rstrip
  const std::vector<int> plain = mistral.encode("<|x|>", Special::as_tokens);
  ASSERT_EQ(plain.size(), 1u);
  EXPECT_EQ(mistral.encode("\u3000\n <|x|> \t", Special::as_tokens), plain);
  EXPECT_GT(mistral.encode("  <|x|>").size(), 3u);
}

TEST(Families, ACharacterWithoutATokenIsNamed) {
  Json fixture = family("llama2");
  fixture["tokenizer"]["model"]["byte_fallback"] = false;
  const Tokenizer known = tokenizer_of(fixture);
  EXPECT_EQ(known.encode("\u5317\u4eac\u5317").size(), 2u);  // "\u2581" and one unknown token
  fixture["tokenizer"]["model"]["fuse_unk"] = false;
  EXPECT_EQ(tokenizer_of(fixture).encode("\u5317\u4eac\u5317").size(), 4u);
  fixture["tokenizer"]["model"]["unk_token"] = nullptr;
  EXPECT_THAT(message_of<TokenError>([&] { (void)tokenizer_of(fixture).encode("a\u5317"); }),
              HasSubstr("\"\u5317\" of the text has no token in the vocabulary of file"));
}

TEST(Families, LongTextsWithoutSpacesTakeNoQuadraticTime) {
  const Tokenizer llama = tokenizer_of(family("llama2"));
  const std::string text(1'000'000, 'a');
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(llama.decode(llama.encode(text)), text);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

// ---- refusals -----------------------------------------------------------------------------------

TEST(Families, PartsThatAreNotKnownAreRefusedByName) {
  const auto expect_refused = [](const char* name, const char* path, const char* value,
                                 const char* expected) {
    Json fixture = family(name);
    fixture["tokenizer"][Json::json_pointer(path)] = Json::parse(value);
    EXPECT_THAT(message_of<Error>([&] { (void)tokenizer_of(fixture); }), HasSubstr(expected))
        << path << value;
  };
  expect_refused("llama2", "/normalizer/normalizers/0", R"({"type": "Lowercase"})",
                 "normalizer.normalizers[0].type: expected \"NFC\", \"Prepend\", \"Replace\" or a "
                 "\"Sequence\" of them, found \"Lowercase\"");
  expect_refused("llama2", "/normalizer/normalizers/1/pattern", R"({"Regex": "\\w"})",
                 "normalizer.normalizers[1].pattern.Regex: ");
  expect_refused("llama2", "/normalizer/normalizers/1/pattern", R"({"String": ""})",
                 "pattern.String: expected a text that is not empty");
  expect_refused(
      "llama2", "/pre_tokenizer", R"({"type": "Whitespace"})",
      "pre_tokenizer.type: expected \"ByteLevel\", \"Split\", \"Digits\", \"Metaspace\"");
  expect_refused("llama2", "/decoder", "null", "decoder: expected a decoder, found null");
  expect_refused("llama2", "/decoder", R"({"type": "ByteLevel"})",
                 "no other decoder is supported where text is not cut into bytes");
  expect_refused("llama2", "/decoder/decoders/3/stop", "1",
                 "decoders[3].stop: expected 0, found 1; only the beginning");
  expect_refused("llama2", "/decoder/decoders/2", R"({"type": "ByteFallback"})",
                 "decoders[3].type: expected \"Fuse\" before it, found \"Strip\"");
  expect_refused("llama2", "/decoder/decoders/3", R"({"type": "ByteFallback"})", "after \"Fuse\"");
  expect_refused("llama2", "/decoder/decoders/1", R"({"type": "Metaspace", "replacement": "_"})",
                 "expected \"Metaspace\" to be the first");
  expect_refused("llama2", "/model/unk_token", R"("nothing")",
                 "model.unk_token: expected a token of the vocabulary");
  expect_refused("llama3", "/pre_tokenizer/pretokenizers/0/behavior", R"("Joined")",
                 "pretokenizers[0].behavior");
  expect_refused("llama3", "/pre_tokenizer/pretokenizers/0", R"({"type": "ByteLevel",
                 "add_prefix_space": false})",
                 "expected \"ByteLevel\" to be the last");
  expect_refused("llama3", "/decoder", R"({"type": "Metaspace", "replacement": "_"})",
                 "decoder.type: expected \"ByteLevel\", found \"Metaspace\"");
  expect_refused("mistral", "/normalizer",
                 R"({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""})",
                 "prepend_scheme: expected \"always\" or \"never\", found \"first\"");
  expect_refused("mistral", "/pre_tokenizer/add_prefix_space", "false",
                 "prepend_scheme: expected \"never\", found \"first\"; add_prefix_space is false");
}

TEST(Families, APrefixSpaceInTheConfigurationMustBeTheTokenizers) {
  const test::TemporaryFolder folder;
  const auto load = [&](const char* name, const char* config) {
    write_text(folder / "tokenizer.json", family(name)["tokenizer"].dump());
    write_text(folder / "tokenizer_config.json", config);
    return Tokenizer::load(folder.path());
  };
  EXPECT_EQ(load("llama2", R"({"add_prefix_space": true})").encode("the").size(), 1u);
  EXPECT_EQ(load("llama2", R"({"add_prefix_space": null})").encode("the").size(), 1u);
  EXPECT_THAT(message_of<ConfigError>([&] { load("llama2", R"({"add_prefix_space": false})"); }),
              HasSubstr("add_prefix_space: expected true, found false; tokenizer.json puts"));
  EXPECT_THAT(message_of<ConfigError>([&] { load("gemma", R"({"add_prefix_space": true})"); }),
              HasSubstr("add_prefix_space: expected false, found true"));
}

}  // namespace
}  // namespace vitrine::nn

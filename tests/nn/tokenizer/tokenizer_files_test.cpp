// Tests nn/tokenizer/tokenizer_files.cpp: the two file formats agree, and what is malformed or would give
// other ids is refused with a reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "nn/tokenizer/save_tokenizer.h"
#include "nn/tokenizer/tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kModel = VITRINE_DEFAULT_MODEL;

// ---- malformed files ----------------------------------------------------------------------------

TEST(TokenizerFiles, RefuseAMalformedVocabulary) {
  const auto message = [](std::string_view vocab, std::string_view merges = "",
                          std::string_view added = "") {
    return message_of<FileError>([&] { (void)Tokenizer::parse(vocab, merges, "here", added); });
  };
  EXPECT_THAT(message(""),
              AllOf(HasSubstr("here/vocab.json: not valid JSON"), HasSubstr("was it cut short?")));
  EXPECT_THAT(message(R"({"a": 0, "b": )"), HasSubstr("line 1, column"));
  EXPECT_THAT(message("{\"\xff\": 0}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(message(R"({"a": 0} x)"), HasSubstr("not valid JSON"));
  EXPECT_THAT(message(R"({"a": 0, "a": 1})"),
              HasSubstr("here/vocab.json: the key \"a\" occurs twice"));
  EXPECT_THAT(message("[]"), HasSubstr("here/vocab.json: expected an object, found an empty list"));
  EXPECT_THAT(message("{}"), HasSubstr("the vocabulary is empty"));
  EXPECT_THAT(message(R"({"a": 0, "b": 0})"),
              HasSubstr("tokens \"a\" and \"b\" have the same id 0"));
  for (const char* id : {"-1", "1.5", "\"0\"", "null", "2147483648", "1e30"}) {
    EXPECT_THAT(message(std::string(R"({"a": )") + id + "}"),
                AllOf(HasSubstr("here/vocab.json: a: expected a whole number from 0 to 2147483647"),
                      HasSubstr("it is the id of token \"a\"")));
  }
  EXPECT_THAT(message(R"({"a": 2147483647})"),
              HasSubstr("the largest id is 2147483647, but there are only 1 tokens"));
  EXPECT_THAT(message(R"({"": 0})"), HasSubstr("token 0 is empty"));
  EXPECT_THAT(message(R"({"a b": 0})"),
              HasSubstr("token \"a b\" is not byte-level: its character \" \" stands for no byte"));
  EXPECT_THAT(message(R"({"北": 0})"), HasSubstr("must be an added token"));
  EXPECT_THAT(message(R"({"a": 0})", "", R"({"a": 1})"),
              HasSubstr("token \"a\" has the id 0 here, but 1 among the added tokens"));
  EXPECT_THAT(message(R"({"a": 0})", "", R"({"x y": 0})"), HasSubstr("have the same id 0"));
  EXPECT_THAT(message(R"({"a": 0})", "", R"([])"),
              HasSubstr("added_tokens.json: expected an object"));
  EXPECT_THAT(message(R"({"a": 0})", "", R"({"": 1})"), HasSubstr("token with id 1 is empty"));
}

TEST(TokenizerFiles, RefuseMalformedMerges) {
  const std::string vocab = R"({"a": 0, "b": 1, "ab": 2, "Ġ": 3, "<|endoftext|>": 4})";
  const auto message = [&](std::string_view merges) {
    return message_of<FileError>([&] { (void)Tokenizer::parse(vocab, merges, "here"); });
  };
  EXPECT_THAT(message("#version: 0.2\na c\n"),
              HasSubstr("here/merges.txt, line 2: the merge of \"a\" and \"c\" needs the token "
                        "\"c\", which the vocabulary does not have"));
  EXPECT_THAT(message("b a\n"), HasSubstr("needs the token \"ba\""));
  EXPECT_THAT(message("a b\na b\n"), HasSubstr("line 2: the merge of \"a\" and \"b\" is listed a "
                                               "second time"));
  for (const char* line : {"a", "a ", " b", "a  b", "a b ab", "\na b"}) {
    EXPECT_THAT(message(line), HasSubstr("a merge is two tokens with one space between, not"));
  }
}

// A tokenizer.json that is accepted, to be changed in one place at a time.
Json good_file() {
  return Json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 3, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})");
}

// A tokenizer.json that is accepted although some part is unusual: it gives the ids all the same.
TEST(TokenizerFiles, AcceptWhatChangesNothing) {
  const auto expect_good = [](const char* path, const char* value) {
    Json file = good_file();
    file[Json::json_pointer(path)] = Json::parse(value);
    EXPECT_THAT(Tokenizer::parse_tokenizer_json(file.dump(), "file").encode("aba"),
                ElementsAre(2, 0))
        << path << value;
  };
  expect_good("/normalizer", R"({"type": "Sequence", "normalizers": []})");
  expect_good("/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]})");
  expect_good("/decoder", R"({"type": "Sequence", "decoders": [{"type": "ByteLevel"}]})");
  expect_good("/post_processor", R"({"type": "ByteLevel", "trim_offsets": false})");
  expect_good("/post_processor", R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}]})");
  expect_good("/post_processor", R"({"type": "TemplateProcessing",
      "single": [{"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}})");
  expect_good("/truncation", R"({"max_length": 1})");
  expect_good("/model/continuing_subword_prefix", R"("")");
  expect_good("/model/dropout", "0.0");
  expect_good("/model/merges", R"([["a", "b"]])");
  Json old = good_file();
  old["model"].erase("type");
  EXPECT_EQ(Tokenizer::parse_tokenizer_json(old.dump(), "old").encode("ab").size(), 1u);
}

// GPT-2's tokenizer converted from tiktoken.
Json split_file() {
  Json file = Json::parse(read_text(kModel / "tokenizer.json"));
  file["pre_tokenizer"] = Json::parse(R"({"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": ""}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
       "use_regex": false}]})");
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
      R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  return file;
}

TEST(TokenizerFiles, ASplitByTheSamePatternGivesTheSameIds) {
  Json file = split_file();
  for (const char* pattern :
       {"", R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"}) {
    if (*pattern != 0) file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
    EXPECT_THAT(Tokenizer::parse_tokenizer_json(file.dump(), "file").encode("The capital don't  x"),
                ElementsAre(290, 271, 2363, 797, 221, 221, 88));
  }
}

TEST(TokenizerFiles, AnotherSplitIsRefusedByName) {
  const auto expect_refused = [](const char* path, const char* value, const char* expected) {
    Json file = split_file();
    file[Json::json_pointer(std::string("/pre_tokenizer/pretokenizers") + path)] =
        Json::parse(value);
    EXPECT_THAT(
        message_of<Error>([&] { (void)Tokenizer::parse_tokenizer_json(file.dump(), "file"); }),
        AllOf(HasSubstr("file: pre_tokenizer"), HasSubstr(expected)))
        << path << value;
  };
  expect_refused("/0/pattern/Regex", R"("\\w+")", "pretokenizers[0].pattern.Regex: expected");
  expect_refused("/0/pattern/Regex", R"("x*")", "matches the empty text");
  expect_refused("/0/pattern", R"({"String": ""})", "expected a text that is not empty");
  expect_refused("/0/pattern", R"({"String": "a", "Regex": "b"})",
                 "pattern: expected either \"String\" or \"Regex\"");
  expect_refused("/0/pattern", R"({"Glob": "a"})", "pattern.Glob: this field is not known");
  expect_refused("/0/behavior", R"("Gone")", "behavior: expected");
  expect_refused("/0/extra", "1", "pretokenizers[0].extra: this field is not known");
  expect_refused("/0/type", R"("Punctuation")", "pretokenizers[0].type: expected \"ByteLevel\"");
  expect_refused("/2", R"({"type": "Digits", "individual_digits": true})",
                 "expected \"ByteLevel\" to be the last");
}

TEST(TokenizerFiles, RefuseByNameWhatWouldChangeTheIds) {
  const auto expect_refused = [](const char* path, const char* value, const char* expected) {
    Json file = good_file();
    file[Json::json_pointer(path)] = Json::parse(value);
    const std::string message = message_of<ConfigError>(
        [&] { (void)Tokenizer::parse_tokenizer_json(file.dump(), "file"); });
    EXPECT_THAT(message, AllOf(HasSubstr("file"), HasSubstr(expected))) << path;
  };
  expect_refused("/normalizer", R"({"type": "Lowercase"})",
                 "normalizer.type: expected \"NFC\", \"Prepend\", \"Replace\" or a \"Sequence\" of "
                 "them, found \"Lowercase\"; it would change the text");
  expect_refused("/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "NFKC"}]})",
                 "\"NFKC\"");
  expect_refused("/normalizer",
                 R"({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]})",
                 "normalizers[1].type");
  expect_refused("/pre_tokenizer", R"({"type": "BertPreTokenizer"})",
                 "found \"BertPreTokenizer\"; no other pre_tokenizer is supported");
  expect_refused("/pre_tokenizer", "null", "no other decoder is supported where text is not cut");
  expect_refused("/pre_tokenizer/split", "1", "pre_tokenizer.split: this field is not known");
  expect_refused("/decoder", "null",
                 "decoder: expected \"ByteLevel\", found null; no other decoder is supported where "
                 "text is cut");
  expect_refused("/decoder", R"({"type": "WordPiece"})",
                 "decoder.type: expected \"ByteLevel\", found \"WordPiece\"");
  const char* adds = "adds tokens to every text";
  const char* after = "another template for a single text is not supported";
  expect_refused("/post_processor", R"({"type": "RobertaProcessing"})", adds);
  for (
      const char* single :
      {R"([{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<s>"}}])",
       R"([{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}, {"Sequence": {"id": "A"}}])",
       R"([{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "B"}}])",
       R"([{"SpecialToken": {"id": "<s>"}}])", R"(["A"])"}) {
    expect_refused("/post_processor",
                   (std::string(R"({"type": "TemplateProcessing", "single": )") + single +
                    R"(, "special_tokens": {"<s>": {"ids": [3]}}})")
                       .c_str(),
                   after);
  }
  expect_refused("/post_processor", R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel"}, {"type": "BertProcessing"}]})",
                 "\"BertProcessing\"");
  expect_refused("/model/type", R"("WordPiece")",
                 "model.type: expected \"BPE\", found \"WordPiece\"; no other model");
  expect_refused("/model/type", "3", "model.type: expected \"BPE\", found 3");
  expect_refused("/model/dropout", "0.1",
                 "model.dropout: expected null, found 0.1; it would leave out merges");
  expect_refused("/model/continuing_subword_prefix", R"("##")",
                 "model.continuing_subword_prefix: expected null or an empty text");
  expect_refused("/model/end_of_word_suffix", R"("</w>")",
                 "model.end_of_word_suffix: expected null or an empty text");
  for (const auto& [path, value] :
       std::map<std::string, std::string>{{"/model/unk_token", R"("<s>")"},
                                          {"/model/byte_fallback", "true"},
                                          {"/model/fuse_unk", "true"}}) {
    expect_refused(path.c_str(), value.c_str(), "it lacks byte 0x00");
  }
  expect_refused("/model/surprise", "1", "file: model.surprise: this field is not known");
  expect_refused("/surprise", "1", "file: surprise: this field is not known");
  expect_refused("/added_tokens/0/single_word", "true", "added_tokens[0].single_word");
}

TEST(TokenizerFiles, ATemplateMayPutTokensBeforeEveryText) {
  const auto first = [](const char* post_processor) {
    Json file = good_file();
    file["post_processor"] = Json::parse(post_processor);
    const Tokenizer tokenizer = Tokenizer::parse_tokenizer_json(file.dump(), "file");
    EXPECT_THAT(tokenizer.encode("ab"), ElementsAre(2));
    std::vector<int> ids = tokenizer.encode_prompt("ab");
    EXPECT_EQ(ids.back(), 2);
    ids.pop_back();
    EXPECT_EQ(ids, tokenizer.first());
    return ids;
  };
  EXPECT_THAT(first(R"({"type": "TemplateProcessing", "single":
      [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}})"),
              ElementsAre(3));
  // A token of several ids; and of a sequence the last comes first.
  EXPECT_THAT(first(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "x"}}, {"Sequence": {"id": "A"}}],
       "special_tokens": {"x": {"ids": [0, 1]}}},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
       "special_tokens": {"<s>": {"ids": [3]}}}]})"),
              ElementsAre(3, 0, 1));
  const auto message = [](const char* post_processor) {
    Json file = good_file();
    file["post_processor"] = Json::parse(post_processor);
    return message_of<FileError>(
        [&] { (void)Tokenizer::parse_tokenizer_json(file.dump(), "file"); });
  };
  EXPECT_THAT(
      message(R"({"type": "TemplateProcessing", "single":
      [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]})"),
      HasSubstr("post_processor.special_tokens: expected an object with the ids of \"<s>\""));
  EXPECT_THAT(message(R"({"type": "TemplateProcessing", "single":
      [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
      "special_tokens": {"<s>": {"ids": [4]}}})"),
              HasSubstr("the id 4 is put before every text, but id 4 is outside the vocabulary"));
  EXPECT_THAT(message(R"({"type": "TemplateProcessing"})"),
              HasSubstr("post_processor.single: expected a list"));
}

TEST(TokenizerFiles, UnknownTokenIsAcceptedWhenEveryByteHasAToken) {
  Json file = Json::parse(read_text(kModel / "tokenizer.json"));
  file["model"]["unk_token"] = "<|endoftext|>";
  file["model"]["byte_fallback"] = true;
  EXPECT_EQ(Tokenizer::parse_tokenizer_json(file.dump(), "file").encode("Texas\xff"),
            Tokenizer::load(kModel).encode("Texas\xff"));
}

TEST(TokenizerFiles, RefuseAMalformedTokenizerJson) {
  const auto message = [](const std::string& text) {
    return message_of<FileError>([&] { (void)Tokenizer::parse_tokenizer_json(text, "file"); });
  };
  const auto changed = [&](const char* path, const char* value) {
    Json file = good_file();
    file[Json::json_pointer(path)] = Json::parse(value);
    return message(file.dump());
  };
  const std::string good = good_file().dump();
  EXPECT_THAT(message(good.substr(0, good.size() - 1)), HasSubstr("file: not valid JSON"));
  EXPECT_THAT(message("[]"), HasSubstr("file: expected an object, found an empty list"));
  std::string twice = good;
  twice.insert(1, R"("model": {}, )");
  EXPECT_THAT(message(twice), HasSubstr("the key \"model\" occurs twice in one object"));
  EXPECT_THAT(changed("/model", "null"), HasSubstr("file: model: expected an object, found null"));
  EXPECT_THAT(changed("/model/vocab", "[]"),
              HasSubstr("file: model.vocab: expected an object, found an empty list"));
  EXPECT_THAT(changed("/model/merges", "{}"),
              HasSubstr("file: model.merges: expected a list, found an empty object"));
  EXPECT_THAT(changed("/model/merges/0", "1"),
              HasSubstr("model.merges[0]: expected a merge: a text"));
  EXPECT_THAT(changed("/model/merges/0", R"(["a"])"),
              HasSubstr("model.merges[0]: expected a merge: a text"));
  EXPECT_THAT(changed("/model/merges/0", R"("ab")"), HasSubstr("a merge is two tokens"));
  EXPECT_THAT(changed("/model/merges/0", R"(["a", "z"])"), HasSubstr("needs the token \"z\""));
  EXPECT_THAT(changed("/model/ignore_merges", "1"),
              HasSubstr("file: model.ignore_merges: expected true or false, found 1"));
  EXPECT_THAT(changed("/added_tokens", "{}"),
              HasSubstr("added_tokens: expected a list, found an empty object"));
  EXPECT_THAT(
      changed("/added_tokens/0", "1"),
      HasSubstr("added_tokens[0]: expected an object with \"id\" and \"content\", found 1"));
  EXPECT_THAT(changed("/added_tokens/0/id", "-3"),
              AllOf(HasSubstr("added_tokens[0].id: expected a whole number"),
                    HasSubstr("the id of token \"<s>\"")));
  EXPECT_THAT(changed("/added_tokens/0/id", "1"), HasSubstr("have the same id 1"));
  EXPECT_THAT(changed("/pre_tokenizer", R"({"type": "ByteLevel"})"),
              HasSubstr("pre_tokenizer.add_prefix_space: expected true or false, found no such"));
  EXPECT_THAT(changed("/added_tokens/1", R"({"id": 4, "content": "<s>"})"),
              HasSubstr("the added token \"<s>\" is listed twice"));
  EXPECT_THAT(changed("/added_tokens/0/content", R"("a")"),
              HasSubstr("token \"a\" has the id 0 here, but 3 among the added tokens"));
  // "é" is the byte 0xE9; "é北", which is not in bytes, is not merged from it.
  Json both = good_file();
  both["model"]["vocab"] = Json::parse(R"({"é": 0, "北": 1, "é北": 2})");
  both["model"]["merges"] = Json::parse(R"(["é 北"])");
  both["added_tokens"][0] = {{"id", 1}, {"content", "北"}};
  both["added_tokens"][1] = {{"id", 2}, {"content", "é北"}};
  EXPECT_THAT(message(both.dump()), HasSubstr("involves an added token, whose text is literal"));
}

// add_tokens(["é"]) gives the text "é" the id of the token that files spell so, the byte 0xE9.
TEST(TokenizerFiles, AnAddedTokenMayBeTheSpellingOfAnother) {
  Json file = Json::parse(read_text(kModel / "tokenizer.json"));
  file["added_tokens"][1] = {{"id", 166},       {"content", "é"},  {"single_word", false},
                             {"lstrip", false}, {"rstrip", false}, {"normalized", true},
                             {"special", false}};
  file["added_tokens"][2] = {{"id", 6000}, {"content", "éa"}};  // a new one
  const Tokenizer tokenizer = Tokenizer::parse_tokenizer_json(file.dump(), "file");
  EXPECT_THAT(tokenizer.encode("鐘", Special::as_tokens), ElementsAre(166, 239, 247));
  EXPECT_EQ(tokenizer.decode(std::vector{166, 239, 247}), "鐘");
  EXPECT_THAT(tokenizer.encode("é", Special::as_tokens), ElementsAre(166));
  EXPECT_THAT(tokenizer.encode("é"), ElementsAre(166));  // a word, not a special token
  EXPECT_EQ(tokenizer.find("\xE9"), 166);
  EXPECT_EQ(tokenizer.token_bytes(6000), "éa");
  const test::TemporaryFolder folder;
  save_tokenizer(tokenizer, folder.path());
  for (int round = 0; round < 2; ++round) {
    const Tokenizer again = Tokenizer::load(folder.path());
    EXPECT_EQ(again.tokens(), tokenizer.tokens());
    EXPECT_THAT(again.encode("é鐘éa", Special::as_tokens), ElementsAre(166, 166, 239, 247, 6000));
    fs::remove(folder / "tokenizer.json");
  }
}

TEST(Tokenizer, RefusesPartsThatDoNotFit) {
  const auto message = [](Vocabulary vocabulary) {
    return message_of<FileError>([&] { (void)Tokenizer(std::move(vocabulary), "parts"); });
  };
  EXPECT_THAT(message({.tokens = {"a", "b", "c"}, .merges = {{0, 1, 2}}}),
              HasSubstr("the merge of ids 0 and 1 does not make the token of id 2"));
  EXPECT_THAT(message({.tokens = {"a"}, .merges = {{0, 0, 1}}}), HasSubstr("does not make"));
  EXPECT_THAT(message({.tokens = {"a"}, .added = {{1, "b"}}}),
              HasSubstr("added token \"b\" does not have the id 1"));
}

// ---- folders ------------------------------------------------------------------------------------

class TokenizerFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / (std::string("tokenizer_") + info->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const char* name, std::string_view text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  std::string load_error() {
    return message_of<FileError>([&] { (void)Tokenizer::load(folder_); });
  }
  fs::path folder_;
};

TEST_F(TokenizerFolder, SaysWhatIsMissing) {
  EXPECT_FALSE(Tokenizer::exists(folder_));
  EXPECT_THAT(load_error(),
              AllOf(HasSubstr(folder_.string()),
                    HasSubstr("there is no tokenizer here: neither tokenizer.json nor "
                              "vocab.json with merges.txt")));
  write("vocab.json", R"({"a": 0})");
  EXPECT_TRUE(Tokenizer::exists(folder_));
  EXPECT_THAT(load_error(), HasSubstr("merges.txt is missing, and vocab.json alone"));
  fs::rename(folder_ / "vocab.json", folder_ / "merges.txt");
  EXPECT_THAT(load_error(), HasSubstr("vocab.json is missing, and merges.txt alone"));
  EXPECT_THAT(message_of<FileError>([&] { (void)Tokenizer::load(folder_ / "nowhere"); }),
              HasSubstr("nowhere: no such folder; a tokenizer is a folder with tokenizer.json"));
}

TEST_F(TokenizerFolder, ReadsVocabularyMergesAndAddedTokens) {
  write("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})");
  write("merges.txt", "#version: 0.2\na b\n");
  write("added_tokens.json", R"({"[a b]": 4})");
  const Tokenizer tokenizer = Tokenizer::load(folder_);
  EXPECT_EQ(tokenizer.vocabulary_size(), 5);
  EXPECT_EQ(tokenizer.end_of_text(), 3);
  EXPECT_THAT(tokenizer.encode("ab[a b]a<|endoftext|>", Special::as_tokens),
              ElementsAre(2, 4, 0, 3));
  EXPECT_EQ(tokenizer.find("[a b]"), 4);
  EXPECT_EQ(tokenizer.find("ba"), std::nullopt);
}

TEST_F(TokenizerFolder, PrefersTokenizerJson) {
  write("vocab.json", "broken");
  write("merges.txt", "broken");
  write("tokenizer.json", good_file().dump());
  EXPECT_THAT(Tokenizer::load(folder_).encode("ab"), ElementsAre(2));
  EXPECT_EQ(Tokenizer::load(folder_).end_of_text(), std::nullopt);
}

TEST_F(TokenizerFolder, RefusesAPrefixSpaceInTheConfiguration) {
  write("tokenizer.json", good_file().dump());
  write("tokenizer_config.json", R"({"add_prefix_space": false, "model_max_length": 1024})");
  EXPECT_EQ(Tokenizer::load(folder_).vocabulary_size(), 4);
  write("tokenizer_config.json", R"({"add_prefix_space": true})");
  EXPECT_THAT(message_of<ConfigError>([&] { (void)Tokenizer::load(folder_); }),
              HasSubstr("tokenizer_config.json: add_prefix_space: expected false, found true"));
}

}  // namespace
}  // namespace vitrine::nn

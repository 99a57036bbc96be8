#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::vector<json> json_lines(const std::string& text) {
  std::istringstream stream(text);
  std::vector<json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(json::parse(line));
  return lines;
}

std::string joined(const json& ids) {
  std::string list;
  for (const auto& id : ids) list += (list.empty() ? "" : ",") + id.dump();
  return list;
}

TEST(Tokenize, Json) {
  const Outcome o =
      vitrine({"tokenize", "--prompt", "The capital of Texas is", "--format", "json"});
  EXPECT_EQ(o.exit, 0) << o.err;
  const json j = o.json();
  EXPECT_EQ(j.size(), 2u);
  EXPECT_EQ(j["str_tokens"], json({"The", " capital", " of", " Texas", " is"}));
  EXPECT_EQ(j["ids"].size(), 5u);
}

TEST(Tokenize, TableShowsIdsAndBytes) {
  const Outcome o = vitrine({"tokenize", "--prompt", " is\n\xc3\xa9"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("\" is\""));
  EXPECT_THAT(o.out, HasSubstr("\"\\n\""));
  EXPECT_THAT(o.out, HasSubstr("267"));  // the id of " is"
}

TEST(Tokenize, PartsOfCharactersAreReplacedInJsonAndKeptByDecode) {
  const std::string text = "fox \U0001F98A!";
  const json j = vitrine({"tokenize", "--prompt", text, "--format", "json"}).json();
  EXPECT_THAT(j["str_tokens"].dump(), HasSubstr("\uFFFD"));
  const Outcome back = vitrine({"tokenize", "--decode", "--tokens", joined(j["ids"])});
  EXPECT_EQ(back.exit, 0) << back.err;
  EXPECT_EQ(back.out, text);
}

TEST(Tokenize, DecodeGivesTheExactBytes) {
  const std::string bytes = "a\xff\xfe\n\x80  z \r\n";
  const json j = vitrine({"tokenize", "--prompt", bytes, "--format", "json"}).json();
  EXPECT_EQ(vitrine({"tokenize", "--decode", "--tokens", joined(j["ids"])}).out, bytes);
  const json decoded =
      vitrine({"tokenize", "--decode", "--tokens", joined(j["ids"]), "--format", "json"}).json();
  EXPECT_EQ(decoded["text"], "a\uFFFD\uFFFD\n\uFFFD  z \r\n");
}

TEST(Tokenize, DecodeTakesIdsAsArguments) {
  const json ids =
      vitrine({"tokenize", "--prompt", "The capital of", "--format", "json"}).json()["ids"];
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(vitrine({"tokenize", "--decode", ids[0].dump(), ids[1].dump(), ids[2].dump()}).out,
            "The capital of");
  EXPECT_EQ(vitrine({"tokenize", "--decode", joined(ids)}).out, "The capital of");
}

TEST(Tokenize, AddedTokensArePlainBytesUnlessSpecial) {
  const auto ids = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"tokenize", "--prompt", "<|endoftext|>", "--format", "json"});
    return vitrine(more).json()["ids"];
  };
  EXPECT_GT(ids({}).size(), 1u);
  EXPECT_EQ(ids({"--special"}), json({0}));
  EXPECT_EQ(ids({"--special", "--prepend-bos"}), json({0, 0}));
}

TEST(Tokenize, EmptyTextHasNoTokens) {
  const json j = vitrine({"tokenize", "--prompt", "", "--format", "json"}).json();
  EXPECT_EQ(j["ids"], json::array());
  EXPECT_EQ(j["str_tokens"], json::array());
}

TEST(Tokenize, ReadsThePromptFromStdin) {
  const Outcome given = vitrine({"tokenize", "--prompt", "two\nlines"});
  EXPECT_EQ(vitrine({"tokenize", "--prompt", "-"}, {.input = "two\nlines\n"}).out, given.out);
  EXPECT_EQ(vitrine({"tokenize", "--prompt", "-"}, {.input = "two\nlines"}).out, given.out);
}

TEST(Tokenize, JsonLines) {
  const std::string input =
      "{\"text\": \"The capital\"}\r\n\n{\"text\": \"\", \"more\": 1}\n{\"text\":\" is\"}";
  const Outcome o = vitrine({"tokenize", "--jsonl", "-"}, {.input = input});
  EXPECT_EQ(o.exit, 0) << o.err;
  const auto lines = json_lines(o.out);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0]["str_tokens"], json({"The", " capital"}));
  EXPECT_EQ(lines[1]["ids"], json::array());
  EXPECT_EQ(lines[2]["ids"], json({267}));

  const test::TemporaryFolder folder;
  write_text(folder / "in.jsonl", input);
  const Outcome file =
      vitrine({"tokenize", "--jsonl", folder / "in.jsonl", "--out", folder / "out.jsonl"});
  EXPECT_EQ(file.exit, 0) << file.err;
  EXPECT_EQ(read_text(folder / "out.jsonl"), o.out);

  const Outcome back = vitrine({"tokenize", "--decode", "--jsonl", "-"}, {.input = o.out});
  EXPECT_EQ(back.out, "{\"text\":\"The capital\"}\n{\"text\":\"\"}\n{\"text\":\" is\"}\n")
      << back.err;
}

TEST(Tokenize, BadJsonLinesAreNamed) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "texts.jsonl";
  const auto message = [&](const std::string& line, std::vector<std::string> more = {}) {
    write_text(file, (more.empty() ? "{\"text\": \"fine\"}\n\n" : "{\"ids\": [1]}\n\n") + line);
    more.insert(more.begin(), {"tokenize", "--jsonl", file});
    const Outcome o = vitrine(more);
    EXPECT_EQ(o.exit, 3) << line;
    EXPECT_THAT(o.err, HasSubstr(file + ":3: ")) << line;
    return o.err;
  };
  EXPECT_THAT(message("{\"text\": \"a\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(message("{\"text\": \"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(message("{\"txt\": \"a\"}"), HasSubstr("there is no string \"text\""));
  EXPECT_THAT(message("{\"text\": 5}"), HasSubstr("there is no string \"text\""));
  EXPECT_THAT(message("[1]"), HasSubstr("expected one {\"text\": \"...\"} a line"));
  EXPECT_THAT(message("{\"ids\": 1}", {"--decode"}), HasSubstr("there is no list \"ids\""));
  EXPECT_THAT(message("{\"ids\": [1.5]}", {"--decode"}), HasSubstr("1.5 is not a token id"));
  EXPECT_THAT(message("{\"ids\": [-1]}", {"--decode"}), HasSubstr("-1 is not a token id"));
}

TEST(Tokenize, MissingInputFile) {
  const Outcome o = vitrine({"tokenize", "--jsonl", "/no/such/file.jsonl"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("/no/such/file.jsonl"));
}

TEST(Tokenize, AFolderWithOnlyTokenizerFilesWillDo) {
  const Outcome whole = vitrine({"tokenize", "--prompt", "The capital of Texas is"});
  for (const std::vector<std::string>& files :
       {std::vector<std::string>{"tokenizer.json"}, {"vocab.json", "merges.txt"}}) {
    const test::TemporaryFolder folder;
    for (const auto& f : files) std::filesystem::copy(default_model() / f, folder / f);
    const Outcome o =
        vitrine({"tokenize", "--model", folder.path(), "--prompt", "The capital of Texas is"});
    EXPECT_EQ(o.exit, 0) << o.err;
    EXPECT_EQ(o.out, whole.out);
    // Without config.json the tokenizer's <|endoftext|> begins the text.
    const Outcome bos = vitrine({"tokenize", "--model", folder.path(), "--prompt", "a",
                                 "--prepend-bos", "--format", "json"});
    EXPECT_EQ(bos.json()["ids"][0], 0) << bos.err;
  }
}

TEST(Tokenize, UnknownIds) {
  const Outcome o = vitrine({"tokenize", "--decode", "6000"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("6000"));
}

TEST(Tokenize, AModelWithoutTokenizer) {
  const Outcome o = vitrine({"tokenize", "--model", tiny_model(), "--prompt", "a"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("this model has no tokenizer"));
  EXPECT_THAT(o.err, HasSubstr("vocab.json and merges.txt"));
}

}  // namespace
}  // namespace vitrine::test

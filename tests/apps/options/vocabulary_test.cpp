// Names for the ids of a model without a tokenizer, and models whose tokenizer cannot be read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
#include "tests/apps/model_folder.h"
#include "tests/apps/program.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

std::string letters(const TemporaryFolder& folder) {
  write_text(folder / "letters.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n");
  return folder / "letters.txt";
}

TEST(VocabularyOption, NamesStandForIds) {
  const TemporaryFolder folder;
  const ModelFolder model;
  const std::vector<std::string> predict = {"predict", "--model", model.path(), "--format", "json"};
  auto by_ids = predict, by_names = predict;
  by_ids.insert(by_ids.end(), {"--tokens", "3,1,2"});
  by_names.insert(by_names.end(), {"--prompt", "d b c", "--vocabulary", letters(folder)});
  const nlohmann::json ids = vitrine(by_ids).json(), names = vitrine(by_names).json();
  EXPECT_EQ(names["tokens"], nlohmann::json({3, 1, 2}));
  EXPECT_EQ(names["str_tokens"], nlohmann::json({"d", "b", "c"}));
  ASSERT_EQ(ids["top"].size(), names["top"].size());
  for (std::size_t i = 0; i < ids["top"].size(); ++i) {
    EXPECT_EQ(names["top"][i]["id"], ids["top"][i]["id"]);
    EXPECT_EQ(names["top"][i]["logit"], ids["top"][i]["logit"]);
    EXPECT_EQ(names["top"][i]["token"],
              std::string(1, static_cast<char>('a' + ids["top"][i]["id"].get<int>())));
  }
}

TEST(VocabularyOption, AnswersAreNames) {
  const TemporaryFolder folder;
  const ModelFolder model;
  const Outcome o =
      vitrine({"patch", "--model", model.path(), "--vocabulary", letters(folder), "--clean", "a b",
               "--corrupt", "c b", "--answer", "d", "--wrong", "e", "--site", "resid_pre"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("logit \"d\" - logit \"e\""));
}

TEST(VocabularyOption, GeneratedNamesStandApart) {
  const TemporaryFolder folder;
  const ModelFolder model;
  Outcome o = vitrine({"generate", "--model", model.path(), "--vocabulary", letters(folder),
                       "--prompt", "d b", "--max-tokens", "3"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, ::testing::MatchesRegex("d b( [a-k])+\n"));
}

TEST(VocabularyOption, MistakesAreRefused) {
  const TemporaryFolder folder;
  const ModelFolder model;
  const auto refused = [&](std::vector<std::string> words, int exit, const char* why) {
    words.insert(words.begin(), {"predict", "--vocabulary", letters(folder)});
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, exit) << o.out;
    EXPECT_THAT(o.err, HasSubstr(why));
  };
  refused({"--prompt", "a"}, 2, "--vocabulary: this model has a tokenizer");
  refused({"--model", model.path(), "--prompt", "a zz"}, 3, "\"zz\" is no name in");
  write_text(folder / "twice.txt", "a\na\n");
  const Outcome o = vitrine(
      {"predict", "--model", model.path(), "--vocabulary", folder / "twice.txt", "--tokens", "1"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("twice.txt: the ids 0 and 1 have the same name"));
}

TEST(VocabularyOption, AModelWhoseTokenizerCannotBeReadRunsOnIds) {
  const ModelFolder model;
  write_text(model.file("tokenizer.json"), "{\"model\": {\"type\": \"WordPiece\"}");
  const Outcome ids = vitrine({"predict", "--model", model.path(), "--tokens", "3,1"});
  EXPECT_EQ(ids.exit, 0) << ids.err;
  EXPECT_THAT(ids.err, HasSubstr("this model's tokenizer cannot be used"));
  const Outcome text = vitrine({"predict", "--model", model.path(), "--prompt", "d b"});
  EXPECT_EQ(text.exit, 3);
  EXPECT_THAT(text.err, HasSubstr("tokenizer.json"));
  EXPECT_THAT(text.err, HasSubstr("give token ids instead of text: --tokens"));
  // Names stand in for it.
  const TemporaryFolder folder;
  const Outcome named = vitrine(
      {"predict", "--model", model.path(), "--prompt", "d b", "--vocabulary", letters(folder)});
  EXPECT_EQ(named.exit, 0) << named.err;
  EXPECT_EQ(named.err, "");
}

}  // namespace
}  // namespace vitrine::test

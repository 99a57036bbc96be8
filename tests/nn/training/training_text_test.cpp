// Tests nn/training/training_text.h: what is trained on and what is kept for validation, together
// everything.
#include "nn/training/training_text.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include <set>

#include "tensor/files/file.h"
#include "tests/nn/training/small_training.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A folder with texts, and one beside them for what is made of them.
struct Texts {
  test::TemporaryFolder folder;
  Tokenizer tokenizer = small_tokenizer(10);
  TrainingSettings settings;

  explicit Texts(double validation = 0.2, Split split = Split::whole_file) {
    settings.validation = validation;
    settings.split = split;
  }
  void add(const std::string& name, const std::string& text) {
    write_text(folder / name, text);
    settings.sources.push_back({(folder / name).string(), 1});
  }
  std::filesystem::path data() const { return folder / "run" / "data"; }
  void prepare() const { prepare_text(settings, tokenizer, data()); }
  TokenizedText training(std::size_t source = 0) const {
    return TokenizedText::open(data(), source_name(source));
  }
  TokenizedText validation() const { return TokenizedText::open(data(), kValidationName); }
  std::vector<std::string> texts(const TokenizedText& from) const {
    std::vector<std::string> all;
    for (std::int64_t i = 0; i < from.documents(); ++i)
      all.push_back(tokenizer.decode(from.document(i)));
    return all;
  }
};

std::string lines(int count, const std::string& word = "line") {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{} {}\n", word, i);
  return text;
}

TEST(TrainingText, KeepsWholeDocumentsForValidation) {
  Texts t(0.2, Split::line);
  t.add("a.txt", lines(400));
  t.prepare();
  const auto train = t.texts(t.training()), validation = t.texts(t.validation());
  EXPECT_EQ(train.size() + validation.size(), 400u);
  EXPECT_NEAR(static_cast<double>(validation.size()), 80, 30);
  std::set<std::string> all(train.begin(), train.end());
  all.insert(validation.begin(), validation.end());
  EXPECT_EQ(all.size(), 400u);
  for (int i = 0; i < 400; ++i) EXPECT_TRUE(all.contains(fmt::format("line {}", i)));

  t.prepare();
  EXPECT_EQ(t.texts(t.validation()), validation);
  t.settings.seed = 1;
  t.prepare();
  EXPECT_NE(t.texts(t.validation()), validation);
}

TEST(TrainingText, KeepsTheTailOfALongDocument) {
  std::string bytes;  // every byte, mostly no UTF-8
  for (int i = 0; i < 3000; ++i) bytes += static_cast<char>(i * i + i / 7);
  Texts t(0.25);
  t.add("a.bin", bytes);
  t.prepare();
  ASSERT_EQ(t.training().documents(), 1);
  ASSERT_EQ(t.validation().documents(), 1);
  const auto ids = t.tokenizer.encode(bytes);
  EXPECT_EQ(t.validation().tokens(), std::ssize(ids) / 4);
  std::vector<int> all = document(t.training(), 0);
  const auto tail = document(t.validation(), 0);
  all.insert(all.end(), tail.begin(), tail.end());
  EXPECT_EQ(all, ids);
  EXPECT_EQ(t.tokenizer.decode(all), bytes);
}

// One long line among 100 short ones is cut, the others are not.
TEST(TrainingText, CutsOnlyDocumentsThatAreLong) {
  Texts t(0.5, Split::line);
  const std::string longest(300, 'x');
  t.add("a.txt", lines(50) + longest + "\n" + lines(50, "more"));
  t.prepare();
  const auto train = t.texts(t.training()), validation = t.texts(t.validation());
  const auto cut = [](const std::vector<std::string>& texts) {
    std::string pieces;
    for (const std::string& text : texts) {
      if (text.starts_with("x")) pieces += text + ".";
    }
    return pieces;
  };
  EXPECT_EQ(cut(train) + cut(validation),
            longest.substr(0, 150) + "." + longest.substr(0, 150) + ".");
  EXPECT_EQ(train.size() + validation.size(), 102u);
}

TEST(TrainingText, KeepsNothingWithoutAShare) {
  Texts t(0, Split::line);
  t.add("a.txt", lines(50));
  t.add("b.txt", "one long document");
  t.prepare();
  EXPECT_EQ(t.training(0).documents(), 50);
  EXPECT_EQ(t.training(1).documents(), 1);
  EXPECT_EQ(t.validation().documents(), 0);
}

TEST(TrainingText, ReadsTokens) {
  Texts t(0);
  t.add("a.jsonl", "{\"tokens\": [0, 266, 5]}\n{\"text\": \"the\"}\n");
  t.prepare();
  EXPECT_EQ(document(t.training(), 0), (std::vector<int>{0, 266, 5}));
  EXPECT_EQ(t.texts(t.training())[1], "the");
  t.add("b.jsonl", "{\"tokens\": [1]}\n\n{\"tokens\": [266, 267]}\n");
  EXPECT_THAT(message_of<TokenError>([&] { t.prepare(); }),
              AllOf(HasSubstr("b.jsonl, line 3"), HasSubstr("no token 267; its ids are 0 to 266")));
}

TEST(TrainingText, WithoutATokenizerTakesIdsOfTheModel) {
  Texts t(0);
  t.settings.model.vocabulary = 300;
  t.add("a.jsonl", "{\"tokens\": [0, 299, 5]}\n");
  prepare_text(t.settings, std::nullopt, t.data());
  EXPECT_EQ(document(t.training(), 0), (std::vector<int>{0, 299, 5}));
  t.add("b.jsonl", "{\"tokens\": [1, 300]}\n");
  EXPECT_ERROR(TokenError, "b.jsonl, line 1: the model has no token 300; its ids are 0 to 299",
               prepare_text(t.settings, std::nullopt, t.data()));
  t.settings.sources.pop_back();
  t.add("c.jsonl", "{\"tokens\": [1]}\n{\"text\": \"the\"}\n");
  EXPECT_ERROR(FileError, "c.jsonl, line 2: this is text, and the model has no tokenizer",
               prepare_text(t.settings, std::nullopt, t.data()));
}

TEST(TrainingText, RefusesTextsThatAreNone) {
  Texts t;
  t.add("a.txt", "some text");
  t.prepare();
  t.settings.sources.push_back({(t.folder / "missing.txt").string(), 1});
  EXPECT_ERROR(FileError, "missing.txt", t.prepare());
  EXPECT_EQ(t.training().documents(), 1) << "what was there before must stay";
  t.settings.sources.pop_back();
  t.add("empty.txt", "");
  EXPECT_ERROR(FileError, "empty.txt: there is no text in it to train on", t.prepare());

  Texts blank(0.1, Split::blank_line);
  blank.add("blank.txt", "\n \n\t\n");
  EXPECT_ERROR(FileError, "blank.txt: there is no text in it", blank.prepare());
}

TEST(TrainingText, ReplacesWhatWasThere) {
  Texts t;
  t.add("a.txt", "first");
  t.add("b.txt", "second");
  t.prepare();
  t.settings.sources.pop_back();
  t.prepare();
  EXPECT_ERROR(FileError, source_name(1), t.training(1));
}

// What is not a text of a run is somebody's own.
TEST(TrainingText, RemovesNothingElse) {
  Texts t;
  t.add("a.txt", "first");
  t.prepare();
  write_text(t.data() / "source-0-00000.safetensors.tmp.12-0123abcd", "left by a kill");
  t.prepare();
  EXPECT_FALSE(std::filesystem::exists(t.data() / "source-0-00000.safetensors.tmp.12-0123abcd"));
  for (const char* name : {"notes.txt", "source-0.safetensors", "source-x-00000.safetensors",
                           "validation-00000.safetensors.mine"}) {
    write_text(t.data() / name, "mine");
    EXPECT_THAT(
        message_of<FileError>([&] { t.prepare(); }),
        AllOf(HasSubstr("run/data' holds"), HasSubstr(name), HasSubstr("move it elsewhere")));
    EXPECT_EQ(t.training().documents(), 1);
    std::filesystem::remove(t.data() / name);
  }
  std::filesystem::create_directories(t.data() / "source-1-00000.safetensors");
  EXPECT_ERROR(FileError, "holds 'source-1-00000.safetensors'", t.prepare());
  const test::TemporaryFolder elsewhere;
  std::filesystem::rename(t.data(), elsewhere / "data");
  std::filesystem::remove_all(elsewhere / "data/source-1-00000.safetensors");
  std::filesystem::create_directory_symlink(elsewhere / "data", t.data());
  EXPECT_ERROR(FileError, "is a symbolic link", t.prepare());
  EXPECT_EQ(t.training().documents(), 1);
}

TEST(TrainingText, NeedsAFolder) {
  Texts t;
  t.add("a.txt", "first");
  write_text(t.folder / "run", "a file");
  EXPECT_ERROR(SaveError, "run/data: the folder cannot be made", t.prepare());
}

TEST(TrainingText, SaysHowFarItIsAndStops) {
  Texts t(0.1, Split::line);
  t.add("a.txt", "one\ntwo\n");
  t.add("b.txt", "three\n");
  std::vector<std::pair<std::int64_t, std::int64_t>> seen;
  prepare_text(t.settings, t.tokenizer, t.data(), [&](std::int64_t done, std::int64_t total) {
    seen.emplace_back(done, total);
    return true;
  });
  EXPECT_EQ(seen, (decltype(seen){{4, 14}, {8, 14}, {14, 14}}));
  EXPECT_ERROR(InterruptedError, "interrupted",
               prepare_text(t.settings, t.tokenizer, t.data(),
                            [](std::int64_t done, std::int64_t) { return done < 8; }));
}

}  // namespace
}  // namespace vitrine::nn

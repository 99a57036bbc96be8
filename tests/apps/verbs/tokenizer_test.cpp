// vitrine tokenizer train: a tokenizer's files from text.
#include "nn/tokenizer/tokenizer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "nn/tokenizer/train_tokenizer.h"
#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// Enough for a few hundred tokens.
std::string some_text() {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += "The cat number " + std::to_string(i * 3701 % 10007) +
            " sat on the mat, and that's that.\n";
    if (i % 20 == 19) text += "\n";
  }
  return text;
}

class TokenizerTrain : public ::testing::Test {
 protected:
  std::string file(const std::string& name, std::string_view content) const {
    write_text(folder_ / name, content);
    return folder_ / name;
  }
  std::string out() const { return folder_ / "out"; }
  // Again and again into one folder.
  Outcome train(const std::vector<std::string>& data, std::vector<std::string> options = {}) const {
    std::vector<std::string> words = {"tokenizer", "train", "--out", out(), "--overwrite"};
    for (const std::string& value : data) words.insert(words.end(), {"--data", value});
    words.insert(words.end(), options.begin(), options.end());
    return vitrine(words);
  }
  Outcome train_300(const std::vector<std::string>& data) const {
    return train(data, {"--vocabulary", "300", "--format", "json"});
  }
  test::TemporaryFolder folder_;
};

TEST_F(TokenizerTrain, WritesATokenizer) {
  const std::string text = some_text();
  const Outcome o = train_300({file("a.txt", text)});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.err, "");
  const nn::Tokenizer tokenizer = nn::Tokenizer::load(out());
  EXPECT_EQ(tokenizer.vocabulary_size(), 300);
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_EQ(tokenizer.to_single_token(" that"), *tokenizer.find(" that"));
  nn::WordCounts counts;
  counts.add(text);
  EXPECT_EQ(tokenizer.tokens(), nn::train_tokenizer(counts, {.vocabulary = 300}).tokens);

  const json j = o.json();
  EXPECT_TRUE(j["meta"]["model"].is_null());
  EXPECT_EQ(j["folder"], out());
  EXPECT_EQ(j["vocabulary"], 300);
  EXPECT_EQ(j["merges"], 300 - 257);
  EXPECT_EQ(j["texts"], 1);
  EXPECT_EQ(j["bytes"], text.size());
  EXPECT_EQ(j["tokens"], tokenizer.encode(text).size());
  EXPECT_DOUBLE_EQ(j["bytes_per_token"], static_cast<double>(text.size()) /
                                             static_cast<double>(tokenizer.encode(text).size()));
  EXPECT_GT(j["seconds"], 0);
  ASSERT_EQ(j["files"].size(), 1u);
  EXPECT_EQ(j["files"][0]["weight"], 1);
  EXPECT_EQ(j["files"][0]["tokens"], j["tokens"]);

  const Outcome used =
      vitrine({"tokenize", "--model", out(), "--prompt", "The cat sat", "--format", "json"});
  EXPECT_EQ(used.json()["ids"], tokenizer.encode("The cat sat"));
}

TEST_F(TokenizerTrain, PrintsATable) {
  const Outcome o = train({file("a.txt", some_text()), file("b.txt", "that is that\n")},
                          {"--vocabulary", "290", "--split", "blank-line"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, AllOf(HasSubstr("bytes per token"), HasSubstr("a.txt"), HasSubstr("b.txt"),
                           HasSubstr("all"), HasSubstr("290 tokens"), HasSubstr(out())));
}

TEST_F(TokenizerTrain, SeveralFilesAndWeights) {
  const std::string a = file("a.txt", some_text()), b = file("b.txt", "zq zq zq zq zqzq\n");
  const auto rank_of_zq = [&] { return nn::Tokenizer::load(out()).find("zq").value_or(9999); };
  EXPECT_EQ(train_300({a, b}).exit, 0);
  const int plain = rank_of_zq();
  EXPECT_EQ(train_300({a + "," + b + ":100"}).exit, 0);
  const int heavy = rank_of_zq();
  const Outcome light = train_300({a, b + ":0.25"});
  EXPECT_EQ(light.exit, 0) << light.err;
  EXPECT_EQ(light.json()["files"][1]["weight"], 0.25);
  EXPECT_LT(heavy, plain);
  EXPECT_EQ(rank_of_zq(), 9999);  // 6 times a quarter is less than 2

  // A file that has such a name is that file.
  const std::string odd = file("c,d:2", "zq " + some_text());
  const Outcome named = train_300({odd});
  EXPECT_EQ(named.exit, 0) << named.err;
  EXPECT_EQ(named.json()["files"][0]["file"], odd);
}

TEST_F(TokenizerTrain, CutsTextWhereItIsTold) {
  const std::string a = file("a.txt", some_text());
  const auto texts = [&](const char* split) {
    return train({a}, {"--vocabulary", "280", "--split", split, "--format", "json"})
        .json()["texts"];
  };
  EXPECT_EQ(texts("none"), 1);
  EXPECT_EQ(texts("blank-line"), 3);
  EXPECT_EQ(texts("line"), 60);
}

TEST_F(TokenizerTrain, JsonLines) {
  const std::string a =
      file("a.jsonl", json({{"text", some_text()}}).dump() + "\n{\"tokens\": [1, 2]}\n");
  const Outcome o = train_300({a});
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.err, HasSubstr("a.jsonl: left out: 1 line has \"tokens\""));
  EXPECT_EQ(o.json()["files"][0]["skipped"], 1);
  EXPECT_EQ(o.json()["texts"], 1);
  EXPECT_EQ(train({a}, {"--vocabulary", "300", "--quiet"}).err, "");
  const std::vector<std::optional<std::string>> tokens = nn::Tokenizer::load(out()).tokens();
  EXPECT_EQ(train_300({file("a.txt", some_text())}).exit, 0);
  EXPECT_EQ(nn::Tokenizer::load(out()).tokens(), tokens);

  const Outcome ids = train_300({file("b.jsonl", "{\"tokens\": [1]}\n{\"tokens\": [2]}\n")});
  EXPECT_EQ(ids.exit, 3);
  EXPECT_THAT(ids.err, HasSubstr("there is no text in this file: 2 lines have \"tokens\""));
  const Outcome bad = train_300({file("c.jsonl", "{\"text\": \"a\"}\n{\"text\": 1}\n")});
  EXPECT_EQ(bad.exit, 3);
  EXPECT_THAT(bad.err, HasSubstr("c.jsonl, line 2: \"text\" is a number"));
  const Outcome bytes = train_300({file("d.jsonl", "{\"text\": \"\xff\"}\n")});
  EXPECT_EQ(bytes.exit, 3);
  EXPECT_THAT(bytes.err, AllOf(HasSubstr("d.jsonl, line 1"), HasSubstr("JSON must be UTF-8")));
}

TEST_F(TokenizerTrain, BytesThatAreNotUtf8AreKept) {
  std::string text;
  for (int i = 0; i < 50; ++i) text += "\xff\xfe\xf9 ";
  const Outcome o = train({file("a.bin", text)}, {"--vocabulary", "259"});
  EXPECT_EQ(o.exit, 0) << o.err;
  const nn::Tokenizer tokenizer = nn::Tokenizer::load(out());
  EXPECT_TRUE(tokenizer.find("\xff\xfe") || tokenizer.find("\xfe\xf9"));
}

TEST_F(TokenizerTrain, BadInputIsExplainedAndNothingWritten) {
  const auto fails = [&](const Outcome& o, const char* why) {
    EXPECT_EQ(o.exit, 3) << o.err;
    EXPECT_EQ(o.out, "");
    EXPECT_THAT(o.err, HasSubstr(why));
    EXPECT_FALSE(std::filesystem::exists(out()));
  };
  const std::string a = file("a.txt", some_text());
  fails(train_300({file("empty.txt", "")}), "empty.txt: there is no text in this file");
  fails(train_300({a, folder_ / "no.txt"}), "cannot open");
  fails(train_300({a + ",no.txt:2"}), "cannot open 'no.txt'");
  fails(train_300({folder_.path()}), "it is a folder");
  const Outcome large = train({a}, {"--vocabulary", "50000"});
  fails(large, "a vocabulary of 50000 tokens was asked for, but this text gives only");
  EXPECT_THAT(large.err, AllOf(HasSubstr("ask for at most"), HasSubstr("--vocabulary")));
}

TEST_F(TokenizerTrain, WrongCommandLines) {
  const std::string a = file("a.txt", some_text());
  const auto complaint = [](const std::vector<std::string>& words) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, 2) << o.err;
    return o.err;
  };
  EXPECT_THAT(complaint({"tokenizer"}), HasSubstr("say what to do: tokenizer train"));
  EXPECT_THAT(complaint({"tokenizer", "test"}), HasSubstr("there is no 'tokenizer test'"));
  EXPECT_THAT(complaint({"tokenizer", "train", "--data", a}), HasSubstr("give --out DIR"));
  EXPECT_THAT(complaint({"tokenizer", "train", "--out", out()}), HasSubstr("give --data FILE"));
  for (const char* size : {"256", "-1", "many", "300.5"}) {
    EXPECT_THAT(
        complaint({"tokenizer", "train", "--data", a, "--out", out(), "--vocabulary", size}),
        HasSubstr("whole number from 257"));
  }
  for (const char* weight : {":0", ":-2", ":nan", ":inf", ":1e9"}) {
    EXPECT_THAT(complaint({"tokenizer", "train", "--data", a + weight, "--out", out()}),
                HasSubstr("must be a number from 0.001 to 1000000"));
  }
  EXPECT_THAT(complaint({"tokenizer", "train", "--data", a + ",", "--out", out()}),
              HasSubstr("empty file name"));
  EXPECT_THAT(complaint({"tokenizer", "train", "--data", a, "--out", out(), "--split", "word"}),
              HasSubstr("--split"));
}

TEST_F(TokenizerTrain, AFileStandsWhereTheFolderShould) {
  const Outcome o = vitrine({"tokenizer", "train", "--data", file("a.txt", some_text()), "--out",
                             file("taken", "mine"), "--vocabulary", "300"});
  EXPECT_EQ(o.exit, 1);
  EXPECT_THAT(o.err, HasSubstr("it is a file; --out names a folder"));
  EXPECT_EQ(read_text(folder_ / "taken"), "mine");
}

// What people have put into a folder stays as it was, unless they say otherwise.
TEST_F(TokenizerTrain, AFolderThatIsInUseIsLeftAlone) {
  const std::string a = file("a.txt", some_text());
  std::filesystem::create_directories(out());
  const auto train_plain = [&] {
    return vitrine({"tokenizer", "train", "--data", a, "--vocabulary", "300", "--out", out()});
  };
  EXPECT_EQ(train_plain().exit, 0) << "an empty folder";
  const std::string mine = file("out/vocab.json", "{\"mine\": 0}");
  Outcome o = train_plain();
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, AllOf(HasSubstr("out' is not empty"), HasSubstr("--overwrite")));
  EXPECT_EQ(read_text(mine), "{\"mine\": 0}");
  file("out/notes.txt", "mine");
  EXPECT_EQ(train_300({a}).exit, 0);
  EXPECT_NE(read_text(mine), "{\"mine\": 0}");
  EXPECT_EQ(read_text(folder_ / "out/notes.txt"), "mine");
  // It would be read with the new files.
  for (const char* other :
       {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}) {
    const std::string before = read_text(mine), there = file(std::string("out/") + other, "{}");
    o = train({a}, {"--vocabulary", "290"});
    EXPECT_EQ(o.exit, 3);
    EXPECT_THAT(o.err, AllOf(HasSubstr(other), HasSubstr("is of something else")));
    EXPECT_EQ(read_text(mine), before);
    std::filesystem::remove(there);
  }
}

TEST_F(TokenizerTrain, CtrlCLeavesNothing) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer runs signal handlers between calls of the C library, and this "
                  "one returns after the text has come";
#endif
  // A pipe that says nothing until the program has been asked to stop.
  const std::string pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int writer = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(writer, 0);
  Running run({"tokenizer", "train", "--data", pipe, "--vocabulary", "300", "--out", out()});
  run.wait_until_it_sleeps();
  run.interrupt();
  const std::string text = some_text();
  EXPECT_EQ(::write(writer, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ::close(writer);
  const Outcome o = run.finish();
  EXPECT_EQ(o.exit, 130);
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(folder_.names(), UnorderedElementsAre("pipe"));
}

}  // namespace
}  // namespace vitrine::test

// Where results go, and in which colours.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kPredict = {"predict", "--prompt", "The capital of Texas is"};

std::vector<std::string> predict_with(std::vector<std::string> more) {
  more.insert(more.begin(), kPredict.begin(), kPredict.end());
  return more;
}

TEST(Output, ToAFile) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "result.txt";
  const Outcome o = vitrine(predict_with({"--out", file}));
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.out, "");
  EXPECT_EQ(read_text(file), vitrine(kPredict).out);
  EXPECT_EQ(folder.names().size(), 1u);  // no temporary file is left
  EXPECT_EQ(vitrine(predict_with({"--out", "-"})).out, vitrine(kPredict).out);
}

TEST(Output, AMissingFolderIsSaid) {
  const test::TemporaryFolder folder;
  for (const char* verb : {"predict", "generate", "tokenize", "cache"}) {
    const Outcome o = vitrine({verb, "--tokens", "1", "--out", folder / "none/file"});
    EXPECT_EQ(o.exit, 1) << verb;
    EXPECT_THAT(o.err, HasSubstr("there is no folder '" + (folder / "none").string() + "'"));
    EXPECT_EQ(o.out, "") << verb;
  }
  EXPECT_EQ(vitrine({"info", "--out", folder / "none/file"}).exit, 1);
}

TEST(Output, AFullDiskIsSaid) {
  for (const char* verb : {"predict", "generate", "tokenize", "cache"}) {
    const Outcome o = vitrine({verb, "--tokens", "1", "--out", "/dev/full"});
    EXPECT_EQ(o.exit, 1) << verb;
    EXPECT_THAT(o.err, HasSubstr("cannot write '/dev/full': No space left on device")) << verb;
  }
  const Outcome o = shell("vitrine info > /dev/full");
  EXPECT_EQ(o.exit, 1);
  EXPECT_THAT(o.err, HasSubstr("cannot write to standard output: No space left on device"));
}

// As programs end whose reader has gone: quietly, by SIGPIPE.
TEST(Output, AReaderThatGoesEndsItQuietly) {
  const test::TemporaryFolder folder;
  const std::string code = folder / "code", closed = folder / "closed";
  for (const char* words :
       {"info --sites", "--help", "predict --help", "predict --tokens 1 --top 1000",
        "generate --tokens 1 --max-tokens 3", "tokenize --prompt a",
        "lens --tokens 1,2 --answer-token 3", "sae --help", "cache --tokens 1 --out /dev/null"}) {
    const Outcome o =
        shell("{ while [ ! -e '" + closed + "' ]; do sleep 0.02; done; vitrine " +
              std::string(words) + "; echo \"exit $?\" > '" + code + "'; } | { exec <&-; : > '" +
              closed + "'; while [ ! -e '" + code + "' ]; do sleep 0.05; done; }");
    EXPECT_EQ(read_text(code), "exit 141\n") << words;
    EXPECT_EQ(o.err, "") << words;
    std::filesystem::remove(code);
    std::filesystem::remove(closed);
  }
}

TEST(Output, AFolderIsNoFile) {
  const test::TemporaryFolder folder;
  const Outcome o = vitrine(predict_with({"--out", folder.path()}));
  EXPECT_EQ(o.exit, 1);
  EXPECT_THAT(o.err, HasSubstr("it is a folder"));
}

TEST(Output, AFailedRunLeavesTheOldFile) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "old";
  write_text(file, "old");
  EXPECT_EQ(
      vitrine({"tokenize", "--jsonl", "-", "--out", file}, {.input = "{\"text\": \"a\"}\n{"}).exit,
      3);
  EXPECT_EQ(read_text(file), "old");
  EXPECT_EQ(folder.names().size(), 1u);
}

// What a name's extension says is what is written, or it is refused.
TEST(Output, TheExtensionSaysWhatIsWritten) {
  const test::TemporaryFolder folder;
  const auto run = [&](std::vector<std::string> words, const std::string& name) {
    words.insert(words.end(), {"--out", folder / name});
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, 0) << o.err;
    return read_text(folder / name);
  };
  const std::vector<std::string> patch = {
      "patch",     "--model",          tiny_model(), "--clean-tokens", "1,2", "--site",
      "resid_mid", "--corrupt-tokens", "1,3",        "--answer-token", "4",   "--wrong-token",
      "5"};
  const std::vector<std::vector<std::string>> commands = {
      kPredict,
      {"generate", "--tokens", "1", "--max-tokens", "2"},
      {"info"},
      {"info", "--sites"},
      {"lens", "--tokens", "1,2"},
      {"decompose", "--tokens", "1,2"},
      {"neurons", "--tokens", "1,2"},
      {"tokenize", "--prompt", "a"},
      {"steer", "--tokens", "1", "--toward-token", "5", "--max-tokens", "1"},
      patch};
  for (const auto& command : commands) {
    SCOPED_TRACE(command[0]);
    const std::string json = run(command, "x.json");
    EXPECT_TRUE(nlohmann::json::parse(json, nullptr, false).is_object()) << json;
    EXPECT_TRUE(nlohmann::json::parse(run(command, "x.jsonl"), nullptr, false).is_object());
    for (const char* name : {"x.txt", "x"})
      EXPECT_FALSE(nlohmann::json::parse(run(command, name), nullptr, false).is_object()) << name;
  }
  for (const std::string name : {"x.npy", "x.html", "x.JSON"}) {
    const std::string extension = name.substr(1);
    for (const auto& command : commands) {
      auto words = command;
      words.insert(words.end(), {"--out", folder / name});
      const Outcome o = vitrine(words);
      EXPECT_EQ(o.exit, 2) << command[0];
      EXPECT_THAT(o.err, HasSubstr(name + ": " + extension + " is not written here; give a .txt"));
    }
    EXPECT_FALSE(std::filesystem::exists(folder / name));
  }
  const auto refused = [&](std::vector<std::string> words, const std::string& why) {
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, 2) << o.err;
    EXPECT_THAT(o.err, HasSubstr(why));
  };
  refused(predict_with({"--out", folder / "x.safetensors"}), "there are no tensors to save here");
  refused(predict_with({"--out", folder / "x.json", "--format", "table"}),
          "that is JSON, and --format table is not");
  refused(
      {"cache", "--tokens", "1", "--out", folder / "x.json"},
      "what is saved here are tensors, whatever the file is called; give a .safetensors or .npz");
  for (const char* name : {"x.csv", "x.npz"})
    refused({"info", "--out", folder / name},
            std::string(name) == "x.csv"
                ? ".csv is not written here; give a .txt or .json file"
                : "there are no tensors to save here; give a .txt or .json file");
  EXPECT_EQ(run({"info", "--graph", "dot"}, "model.dot").substr(0, 7), "digraph");
  refused({"info", "--out", folder / "model.dot"}, ".dot is not written here");
  EXPECT_EQ(run({"tokenize", "--decode", "--tokens", "300"}, "x.bin"),
            vitrine({"tokenize", "--decode", "--tokens", "300"}).out);
}

TEST(Output, ColoursOnlyWhenWanted) {
  const std::string escape = "\x1b[";
  EXPECT_THAT(vitrine(kPredict).out, Not(HasSubstr(escape)));  // not a terminal
  EXPECT_THAT(vitrine(predict_with({"--color", "always"})).out, HasSubstr(escape));
  EXPECT_THAT(vitrine(predict_with({"--color", "never"})).out, Not(HasSubstr(escape)));
  EXPECT_THAT(vitrine(predict_with({"--color", "always", "--format", "json"})).out,
              Not(HasSubstr(escape)));
}

// script(1) gives the program a terminal.
TEST(Output, NoColorIsHonouredOnATerminal) {
  if (shell("script -qec true /dev/null").exit != 0) {
    GTEST_SKIP() << "needs script(1), and a system where it can make a terminal (/dev/pts)";
  }
  const std::string on_terminal = "script -qec \"vitrine predict --tokens 1\" /dev/null";
  EXPECT_THAT(shell(on_terminal, {.environment = {{"TERM", "xterm"}}}).out, HasSubstr("\x1b["));
  EXPECT_THAT(shell(on_terminal, {.environment = {{"TERM", "xterm"}, {"NO_COLOR", "1"}}}).out,
              Not(HasSubstr("\x1b[")));
  EXPECT_THAT(shell(on_terminal, {.environment = {{"TERM", "dumb"}}}).out, Not(HasSubstr("\x1b[")));
}

TEST(Output, MetaRecordsWhereAResultComesFrom) {
  const auto meta = vitrine(predict_with({"--format", "json", "--seed", "7"})).json()["meta"];
  EXPECT_EQ(meta["model"], "default");
  EXPECT_EQ(meta["command"],
            "vitrine predict --prompt 'The capital of Texas is' --format json --seed 7");
  EXPECT_EQ("vitrine " + meta["version"].get<std::string>() + "\n", vitrine({"--version"}).out);
  EXPECT_EQ(meta["seed"], 7);
}

TEST(Output, TheRecordedCommandGivesTheSameResult) {
  const Outcome o =
      vitrine({"predict", "--prompt", "it's $HOME `x` \\ \"q\"\n", "--format", "json"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(shell(o.json()["meta"]["command"]).out, o.out);
}

TEST(Output, TheNumberOfThreadsDoesNotChangeABit) {
  const auto with_threads = [&](const char* n) {
    return vitrine(predict_with({"--format", "json", "--threads", n})).json()["top"];
  };
  EXPECT_EQ(with_threads("1"), with_threads("3"));
}

}  // namespace
}  // namespace vitrine::test

// The program explains itself, and its examples work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

// The verbs as the program lists them: "  NAME   what it does".
std::vector<std::string> listed_verbs() {
  std::vector<std::string> verbs;
  bool in_list = false;
  for (const std::string& line : lines_of(vitrine({}).out)) {
    if (line.starts_with("Usage:")) in_list = true;
    if (line.starts_with("'vitrine")) in_list = false;
    if (in_list && line.starts_with("  ")) verbs.push_back(line.substr(2, line.find(' ', 2) - 2));
  }
  return verbs;
}

// The commands below "Example:" at the end of a help text.
std::vector<std::string> examples_in(const std::string& help) {
  const std::size_t at = help.rfind("\nExample:\n");
  std::vector<std::string> examples;
  if (at == std::string::npos) return examples;
  for (const std::string& line : lines_of(help.substr(at))) {
    if (line.starts_with("  vitrine ")) examples.push_back(line.substr(2));
  }
  return examples;
}

TEST(Help, ListsTheVerbs) {
  EXPECT_THAT(listed_verbs(), ::testing::IsSupersetOf({"tokenize", "predict", "generate", "cache",
                                                       "patch", "steer", "info", "doctor"}));
  EXPECT_EQ(vitrine({}).exit, 0);
  for (const char* spelling : {"--help", "-h", "help"}) {
    EXPECT_EQ(vitrine({spelling}).out, vitrine({}).out) << spelling;
  }
}

TEST(Help, Version) {
  const Outcome o = vitrine({"--version"});
  EXPECT_EQ(o.exit, 0);
  EXPECT_THAT(o.out, ::testing::MatchesRegex("vitrine [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

TEST(Help, EveryVerbExplainsItselfAndItsExampleWorks) {
  // Those of one verb are made in one folder, one after the other.
  std::vector<std::vector<std::string>> commands = {examples_in(vitrine({}).out)};
  ASSERT_FALSE(commands[0].empty());
  for (const std::string& verb : listed_verbs()) {
    const Outcome help = vitrine({verb, "--help"});
    EXPECT_EQ(help.exit, 0) << verb;
    EXPECT_EQ(help.err, "") << verb;
    for (const char* option : {"--format", "--out", "--threads", "--seed", "--color", "--quiet"}) {
      EXPECT_THAT(help.out, HasSubstr(option)) << verb;
    }
    // All verbs but these are about a model.
    EXPECT_EQ(help.out.find("--model") != std::string::npos,
              verb != "tokenizer" && verb != "train" && verb != "curves")
        << verb;
    EXPECT_EQ(vitrine({"help", verb}).out, help.out);
    const auto examples = examples_in(help.out);
    ASSERT_FALSE(examples.empty()) << verb << " has no example";
    EXPECT_THAT(examples.back(), StartsWith("vitrine " + verb));
    EXPECT_TRUE(help.out.ends_with(examples.back() + "\n")) << "the example comes last: " << verb;
    commands.push_back(examples);
  }
  for (const std::vector<std::string>& of_verb : commands) {
    const test::TemporaryFolder folder;
    for (const std::string& command : of_verb) {
      const Outcome o = shell(command, {.folder = folder.path()});
      EXPECT_EQ(o.exit, 0) << command << "\n" << o.err;
      EXPECT_NE(o.out, "") << command;
    }
  }
}

}  // namespace
}  // namespace vitrine::test

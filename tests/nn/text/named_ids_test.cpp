#include "nn/text/named_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

using ::testing::ElementsAre;
using Names = std::vector<std::optional<std::string>>;

TEST(NamedIds, NamesStandApart) {
  const Tokenizer t = named_ids({"<sort>", "a", "b", "ab", std::nullopt, "é"}, "letters");
  EXPECT_THAT(t.encode("<sort> b a ab é"), ElementsAre(0, 2, 1, 3, 5));
  EXPECT_THAT(t.encode(" b  a "), ElementsAre(2, 1));
  EXPECT_THAT(t.encode(""), ElementsAre());
  EXPECT_EQ(t.decode(std::vector{2, 1, 3}), "b a ab");
  EXPECT_EQ(t.shown_text(std::vector{2, 4}), "b <id 4>");
  EXPECT_THAT(t.str_tokens(std::vector{0, 5}), ElementsAre("<sort>", "é"));
  EXPECT_EQ(t.to_single_token("ab"), 3);
}

TEST(NamedIds, WhatIsNoNameIsRefused) {
  const Tokenizer t = named_ids({"a", "b"}, "letters");
  EXPECT_ERROR(TokenError, "\"ba\" is no name in letters", t.encode("a ba"));  // not b and a
  EXPECT_ERROR(TokenError, "\"c\" is no name in letters", t.encode("c"));
  EXPECT_THROW((void)t.to_single_token("a b"), TokenError);
}

TEST(NamedIds, NamesAreChecked) {
  const auto refuses = [](const Names& names, const char* why) {
    EXPECT_ERROR(FileError, why, named_ids(names, "letters"));
  };
  refuses({"a", "b", "a"}, "letters: the ids 0 and 2 have the same name, \"a\"");
  refuses({"a b"}, "letters: the name of id 0, \"a b\", is empty or has white space");
  refuses({"\xE2\x96\x81x"}, "the name of id 0 begins with");
  refuses({std::nullopt}, "letters: there are no names");
}

TEST(NamedIds, ComeFromLinesOrJson) {
  const test::TemporaryFolder folder;
  const auto read = [&](const char* name, const char* text) {
    write_text(folder / name, text);
    return read_named_ids(folder / name, 4);
  };
  for (const Tokenizer& t : {read("x.txt", "a\r\n\nc\n"), read("x.json", R"({"c": 2, "a": 0})")}) {
    EXPECT_THAT(t.encode("c a"), ElementsAre(2, 0));
    EXPECT_FALSE(t.has_token(1));
  }
  EXPECT_ERROR(FileError, "there are names for the ids 0 to 4, but the model has 0 to 3",
               read("x.txt", "a\nb\nc\nd\ne\n"));
  EXPECT_ERROR(FileError, "\"a\" has the id 4; expected one of 0 to 3",
               read("x.json", R"({"a": 4})"));
  EXPECT_ERROR(FileError, "\"a\" has the id \"x\"", read("x.json", R"({"a": "x"})"));
  EXPECT_ERROR(FileError, "\"a\" and \"b\" have the id 1", read("x.json", R"({"a": 1, "b": 1})"));
  EXPECT_ERROR(FileError, "expected {\"name\": id}", read("x.json", "[1]"));
}

}  // namespace
}  // namespace vitrine::nn

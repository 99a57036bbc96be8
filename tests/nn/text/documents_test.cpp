// Tests nn/text/documents.h: plain text is cut and never changed, JSONL is read strictly.
#include "nn/text/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Read {
  std::string text;
  std::vector<int> tokens;
  bool is_tokens;
  std::int64_t line, end;
};

class Documents : public ::testing::Test {
 protected:
  std::vector<Read> read(const std::string& name, std::string_view content,
                         Split split = Split::whole_file) const {
    write_text(folder_ / name, content);
    std::vector<Read> all;
    for_each_document(folder_ / name, split, [&](const Document& d) {
      all.push_back(
          {std::string(d.text), {d.tokens.begin(), d.tokens.end()}, d.is_tokens, d.line, d.end});
    });
    return all;
  }
  std::vector<std::string> texts(std::string_view content, Split split) const {
    std::vector<std::string> texts;
    for (const Read& document : read("a.txt", content, split)) texts.push_back(document.text);
    return texts;
  }
  std::string complaint(std::string_view jsonl) const {
    return message_of<FileError>([&] { (void)read("a.jsonl", jsonl); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(Documents, PlainTextIsOneDocumentOfAnyBytes) {
  const std::string bytes("a\r\n\n\xff\xfe\0 b\n\n", 11);
  EXPECT_THAT(texts(bytes, Split::whole_file), ElementsAre(bytes));
  EXPECT_THAT(texts("", Split::whole_file), IsEmpty());
  EXPECT_THAT(texts("{\"text\": 1}", Split::whole_file), ElementsAre("{\"text\": 1}"));
}

TEST_F(Documents, BlankLinesCut) {
  EXPECT_THAT(texts("one\ntwo\n\nthree", Split::blank_line), ElementsAre("one\ntwo", "three"));
  EXPECT_THAT(texts("\n\n \t\n  one \n\n\n\r\n\xff\r\ntwo\r\n \r\n", Split::blank_line),
              ElementsAre("  one ", "\xff\r\ntwo"));
  EXPECT_THAT(texts(" \n\n", Split::blank_line), IsEmpty());
  EXPECT_THAT(texts("", Split::blank_line), IsEmpty());
}

TEST_F(Documents, LinesCut) {
  EXPECT_THAT(texts("one\n\ntwo\r\n \n\xff three\n", Split::line),
              ElementsAre("one", "two", "\xff three"));
  EXPECT_THAT(texts("one", Split::line), ElementsAre("one"));
}

TEST_F(Documents, SayWhereTheyWere) {
  const auto documents = read("a.txt", "\none\ntwo\n\nthree", Split::blank_line);
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].line, 2);
  EXPECT_EQ(documents[0].end, 9);
  EXPECT_EQ(documents[1].line, 5);
  EXPECT_EQ(documents[1].end, 15);
  EXPECT_EQ(read("a.txt", "x\n\ny\n", Split::line)[1].line, 3);
}

TEST_F(Documents, JsonLines) {
  const auto documents =
      read("a.jsonl",
           "{\"text\": \"one\\n\\ud83d\\ude00 \\u0000\"}\r\n"
           "\n"
           "{\"meta\": {\"text\": 1, \"tokens\": \"x\"}, \"tokens\": [0, 7, 2147483647], \"n\": "
           "[[1.5, -2, null, true]]}\n"
           "{\"text\": \"\"}\n"
           "{\"tokens\": []}\n"
           "{\"id\": null, \"text\": \"  \"}");
  ASSERT_EQ(documents.size(), 3u);
  EXPECT_EQ(documents[0].text, std::string("one\n\xf0\x9f\x98\x80 \0", 10));
  EXPECT_FALSE(documents[0].is_tokens);
  EXPECT_THAT(documents[1].tokens, ElementsAre(0, 7, 2147483647));
  EXPECT_TRUE(documents[1].is_tokens);
  EXPECT_EQ(documents[1].line, 3);
  EXPECT_EQ(documents[2].text, "  ");
  EXPECT_EQ(documents[2].line, 6);
  EXPECT_EQ(documents[2].end,
            static_cast<std::int64_t>(std::filesystem::file_size(folder_ / "a.jsonl")));
  EXPECT_THAT(read("b.jsonl", ""), IsEmpty());
}

TEST_F(Documents, JsonLinesAreReadStrictly) {
  EXPECT_THAT(complaint("{\"text\": \"a\"}\n{\"text\": \"b\""),
              AllOf(HasSubstr("a.jsonl, line 2: not valid JSON at byte"),
                    HasSubstr("expected one {\"text\": \"...\"} or")));
  EXPECT_THAT(complaint("{\"text\": \"a\"} x"), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("plain words"), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("{\"text\": \"a\"}\n{\"text\": \"b\xff\"}"),
              AllOf(HasSubstr("line 2"), HasSubstr("JSON must be UTF-8"), HasSubstr("plain text"),
                    HasSubstr("any bytes")));
  for (const char* half : {"\\ud800", "\\ud800x", "\\udc00", "\\ud800\\ud800"}) {
    EXPECT_THAT(complaint("\n{\"text\": \"" + std::string(half) + "\"}"),
                AllOf(HasSubstr("line 2: not valid JSON"), HasSubstr("U+D")))
        << half;
  }
  EXPECT_THAT(complaint("{\"n\": 1e999, \"text\": \"\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(complaint("{\"body\": \"a\"}"),
              HasSubstr("line 1: there is neither \"text\" nor \"tokens\""));
  EXPECT_THAT(complaint("{\"text\": \"a\", \"tokens\": [1]}"),
              HasSubstr("there are both \"text\" and \"tokens\""));
  EXPECT_THAT(complaint("{\"text\": \"a\", \"text\": \"b\"}"), HasSubstr("\"text\" occurs twice"));
  EXPECT_THAT(complaint("[1, 2]"), HasSubstr("the line is a list, not an object"));
  EXPECT_THAT(complaint("\"a\""), HasSubstr("the line is a string, not an object"));
  EXPECT_THAT(complaint("{\"text\": null}"), HasSubstr("\"text\" is null, not a string"));
  EXPECT_THAT(complaint("{\"text\": 5}"), HasSubstr("\"text\" is a number, not a string"));
  EXPECT_THAT(complaint("{\"text\": [\"a\"]}"), HasSubstr("\"text\" is a list, not a string"));
  EXPECT_THAT(complaint("{\"tokens\": \"1 2\"}"),
              HasSubstr("\"tokens\" is a string, not a list of ids"));
  EXPECT_THAT(complaint("{\"tokens\": {}}"), HasSubstr("\"tokens\" is an object"));
  for (const char* id : {"-1", "1.5", "2147483648", "1e3", "99999999999999999999"}) {
    EXPECT_THAT(
        complaint("{\"tokens\": [1, " + std::string(id) + "]}"),
        AllOf(HasSubstr("\"tokens\" holds "), HasSubstr("a token id is a whole number from 0")))
        << id;
  }
  EXPECT_THAT(complaint("{\"tokens\": [[1]]}"), HasSubstr("\"tokens\" holds a list"));
  EXPECT_THAT(complaint("{\"tokens\": [\"a\"]}"), HasSubstr("\"tokens\" holds \"a\""));
}

TEST_F(Documents, MissingFiles) {
  EXPECT_ERROR(FileError, "cannot open",
               for_each_document(folder_ / "no.txt", Split::line, [](const Document&) {}));
  EXPECT_ERROR(FileError, "it is a folder",
               for_each_document(folder_.path(), Split::line, [](const Document&) {}));
}

TEST_F(Documents, WhatTheVisitorThrowsPassesThrough) {
  write_text(folder_ / "a.jsonl", "{\"text\": \"a\"}");
  EXPECT_ERROR(InterruptedError, "enough",
               for_each_document(folder_ / "a.jsonl", Split::line,
                                 [](const Document&) { throw InterruptedError("enough"); }));
}

}  // namespace
}  // namespace vitrine::nn

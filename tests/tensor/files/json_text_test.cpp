// JSON that strangers send: deep, Python's, cut short, not UTF-8.
#include "tensor/files/json_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string nested(std::size_t depth, char open, char close) {
  return std::string(depth, open) + std::string(depth, close);
}

TEST(JsonText, RefusesDeepNestingAtItsPlace) {
  EXPECT_NO_THROW(parse_json(nested(kDeepestJson, '[', ']'), "f"));
  EXPECT_ERROR(FileError, "f: line 1, column 201: lists and objects lie more than 200 deep",
               parse_json(nested(kDeepestJson + 1, '[', ']'), "f"));
  const std::string deep = "{\"a\": 1,\n \"b\": " + nested(100000, '[', ']') + "}";
  EXPECT_ERROR(FileError, "f: line 2, column", parse_json(deep, "f"));
  EXPECT_ERROR(FileError, "200 deep", parse_json(std::string(1000000, '['), "f"));
  // Brackets in strings are text, also behind an escaped quote.
  const std::string text = R"({"a": "\"[[[)" + std::string(1000, '{') + R"("})";
  EXPECT_EQ(parse_json(text, "f")["a"].get<std::string>().size(), 1004u);
}

TEST(JsonText, NumbersThatOnlyPythonWritesAreStrings) {
  const auto json =
      parse_json(R"({"a": NaN, "b": [Infinity,-Infinity], "c": "NaN, x", "d": -1})", "f");
  EXPECT_EQ(json["a"], "NaN");
  EXPECT_EQ(json["b"], nlohmann::json({"Infinity", "-Infinity"}));
  EXPECT_EQ(json["c"], "NaN, x");
  EXPECT_EQ(json["d"], -1);
  for (const char* text : {"NaNs", "-NaN", "[1NaN]", "[Infinity1]", "nan", "[+Infinity]"}) {
    EXPECT_ERROR(FileError, "f: not valid JSON", parse_json(text, "f"));
  }
}

TEST(JsonText, MistakesAreToldInPlainWords) {
  for (const char* text : {"", "{", "{\"a\": 1 \"b\": 2}", "[1, 2", "\"\xff\"", "\xff", "1e999"}) {
    const std::string message =
        test::message_of<FileError>([&] { static_cast<void>(parse_json(text, "f")); });
    EXPECT_THAT(message, HasSubstr("f: not valid JSON: "));
    EXPECT_THAT(message, Not(HasSubstr("json.exception")));
    EXPECT_NO_THROW(static_cast<void>(nlohmann::json(message).dump())) << "not UTF-8";
  }
  EXPECT_ERROR(FileError, "line 1, column 9", parse_json("{\"a\": 1 2}", "f"));
  EXPECT_ERROR(FileError, "was it cut short?", parse_json("[1, 2", "f"));
  EXPECT_ERROR(FileError, "zero byte at line 1, column 3",
               parse_json(std::string_view("{}\0x", 4), "f"));
  EXPECT_ERROR(FileError, "the key \"a\" occurs twice", parse_json(R"({"a": 1, "a": 2})", "f"));
}

TEST(JsonText, WritesWhatIsNotUtf8AsAReplacement) {
  EXPECT_EQ(json_line({{"file", "a\xff"}}), "{\"file\":\"a\uFFFD\"}");
}

}  // namespace
}  // namespace vitrine

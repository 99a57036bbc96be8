// JSON that strangers send: deep, Python's, cut short, not UTF-8.
#include "tensor/files/json_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tensor/files/json_value.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string nested(std::size_t depth, char open, char close) {
  return std::string(depth, open) + std::string(depth, close);
}

TEST(JsonText, RefusesDeepNestingAtItsPlace) {
  EXPECT_NO_THROW(JsonValue::parse(nested(kDeepestJson, '[', ']'), "f"));
  EXPECT_ERROR(FileError, "f: line 1, column 201: lists and objects lie more than 200 deep",
               JsonValue::parse(nested(kDeepestJson + 1, '[', ']'), "f"));
  const std::string deep = "{\"a\": 1,\n \"b\": " + nested(100000, '[', ']') + "}";
  EXPECT_ERROR(FileError, "f: line 2, column", JsonValue::parse(deep, "f"));
  EXPECT_ERROR(FileError, "200 deep", JsonValue::parse(std::string(1000000, '['), "f"));
  // Brackets in strings are text, also behind an escaped quote.
  const std::string text = R"({"a": "\"[[[)" + std::string(1000, '{') + R"("})";
  EXPECT_EQ(JsonValue::parse(text, "f").find("a")->text()->size(), 1004u);
}

TEST(JsonText, NumbersThatOnlyPythonWritesAreStrings) {
  const auto json =
      JsonValue::parse(R"({"a": NaN, "b": [Infinity,-Infinity], "c": "NaN, x", "d": -1})", "f");
  EXPECT_EQ(*json.find("a")->text(), "NaN");
  EXPECT_EQ(json.find("b")->line(), R"(["Infinity","-Infinity"])");
  EXPECT_EQ(*json.find("c")->text(), "NaN, x");
  EXPECT_EQ(json.find("d")->whole(), -1);
  for (const char* text : {"NaNs", "-NaN", "[1NaN]", "[Infinity1]", "nan", "[+Infinity]"}) {
    EXPECT_ERROR(FileError, "f: not valid JSON", JsonValue::parse(text, "f"));
  }
}

TEST(JsonText, MistakesAreToldInPlainWords) {
  for (const char* text : {"", "{", "{\"a\": 1 \"b\": 2}", "[1, 2", "\"\xff\"", "\xff", "1e999"}) {
    const std::string message =
        test::message_of<FileError>([&] { static_cast<void>(JsonValue::parse(text, "f")); });
    EXPECT_THAT(message, HasSubstr("f: not valid JSON: "));
    EXPECT_THAT(message, Not(HasSubstr("json.exception")));
    EXPECT_NO_THROW(static_cast<void>(nlohmann::json(message).dump())) << "not UTF-8";
  }
  EXPECT_ERROR(FileError, "line 1, column 9", JsonValue::parse("{\"a\": 1 2}", "f"));
  EXPECT_ERROR(FileError, "was it cut short?", JsonValue::parse("[1, 2", "f"));
  EXPECT_ERROR(FileError, "zero byte at line 1, column 3",
               JsonValue::parse(std::string_view("{}\0x", 4), "f"));
  EXPECT_ERROR(FileError, "the key \"a\" occurs twice",
               JsonValue::parse(R"({"a": 1, "a": 2})", "f"));
}

TEST(JsonText, WritesWhatIsNotUtf8AsAReplacement) {
  EXPECT_EQ(JsonValue({{"file", "a\xff"}}).line(), "{\"file\":\"a\uFFFD\"}");
}

}  // namespace
}  // namespace vitrine

// Every refusal of the reader says the file, the place in it, what was expected and what was found.
#include "tensor/files/json_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tensor/files/json_text.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

JsonReader read(std::string_view text, JsonRules rules = {}) {
  return JsonReader::parse(text, "f", std::move(rules));
}

template <class F>
std::string refusal(F f) {
  return test::message_of<FileError>([&] { static_cast<void>(f()); });
}

// ---- places -------------------------------------------------------------------------------------
TEST(JsonReader, SaysThePlaceWhatItExpectedAndWhatItFound) {
  const JsonReader json = read(R"({"rope_scaling": {"factor": "8"},
      "edits": [1, {"where": {"pos": [true]}}]})");
  EXPECT_EQ(refusal([&] { return json.at("rope_scaling").at("factor").number(); }),
            R"(f: rope_scaling.factor: expected a number, found "8")");
  const JsonReader edit = json.at("edits").list(2)[1];
  EXPECT_EQ(refusal([&] { return edit.at("where").at("pos").list()[0].whole(0); }),
            "f: edits[1].where.pos[0]: expected a whole number, 0 or more, found true");
  EXPECT_EQ(refusal([&] { return edit.at("site").text(); }),
            "f: edits[1].site: expected a text, found no such field");
  EXPECT_EQ(refusal([&] { return json.at("edits").at("x"); }),
            "f: edits: expected an object, found a list of 2 items");
  EXPECT_EQ(refusal([&] { return json.list(); }),
            "f: expected a list, found an object of 2 fields");
  EXPECT_EQ(edit.at("where").at("pos").place(), "f: edits[1].where.pos");
  EXPECT_EQ(json.place(), "f");
}

TEST(JsonReader, PlacesOfUnusualNamesAreInQuotes) {
  const JsonReader json = read(R"({"": 1, "a.b": {"c d": 2}, "x\n": 3, "e]": [4], "\u00e9": 5})");
  EXPECT_EQ(json.at("").path(), R"([""])");
  EXPECT_EQ(json.at("a.b").at("c d").path(), R"(["a.b"]["c d"])");
  EXPECT_EQ(json.at("x\n").path(), R"(["x\n"])");
  EXPECT_EQ(json.at("e]").list()[0].path(), R"(["e]"][0])");
  EXPECT_EQ(json.at("é").path(), "[\"é\"]");
  EXPECT_EQ(json.at("a.b").at("absent").path(), R"(["a.b"].absent)");
  EXPECT_EQ(json.at("").whole(), 1);
  const std::string long_name(1000, 'n');
  EXPECT_LT(json.at(long_name).path().size(), 100u);
}

TEST(JsonReader, NamesTheLineOfAFileOfLines) {
  const JsonRules rules = {.line = 7};
  EXPECT_EQ(refusal([&] { return read(R"({"a": null})", rules).at("a").flag(); }),
            "f, line 7: a: expected true or false, found null");
  EXPECT_THAT(refusal([&] { return read("{", rules); }), HasSubstr("f, line 7: not valid JSON"));
}

TEST(JsonReader, FindsAreShort) {
  EXPECT_EQ(read(R"("a")").found(), R"("a")");
  EXPECT_EQ(read("[]").found(), "an empty list");
  EXPECT_EQ(read("[1]").found(), "a list of 1 item");
  EXPECT_EQ(read("{}").found(), "an empty object");
  EXPECT_EQ(read(R"({"a": 1, "b": 2})").found(), "an object of 2 fields");
  EXPECT_EQ(read("8.0").found(), "8.0");
  EXPECT_EQ(read("-3").found(), "-3");
  EXPECT_EQ(read('"' + std::string(61, 'x') + '"').found(), '"' + std::string(60, 'x') + "...\"");
  // Not in the middle of a character of two bytes.
  EXPECT_EQ(read("\"x" + std::string(59, 'x') + "éé\"").found(),
            '"' + std::string(60, 'x') + "...\"");
  EXPECT_EQ(read("\"" + std::string(59, 'x') + "éé\"").found(),
            '"' + std::string(59, 'x') + "...\"");
}

// ---- values -------------------------------------------------------------------------------------
TEST(JsonReader, ReadsWhatIsThere) {
  const JsonReader json =
      read(R"({"t": "x", "f": true, "n": 1.5, "w": -3, "l": [1, 2], "o": {"a": 1}, "z": null})");
  EXPECT_EQ(json.at("t").text(), "x");
  EXPECT_TRUE(json.at("f").flag());
  EXPECT_EQ(json.at("n").number(), 1.5);
  EXPECT_EQ(json.at("w").whole(), -3);
  EXPECT_EQ(json.at("w").number(), -3);
  EXPECT_EQ(json.at("l").list().size(), 2u);
  EXPECT_EQ(json.at("o").fields()[0].name(), "a");
  EXPECT_TRUE(json.at("z").is_null());
  EXPECT_FALSE(json.has("z"));
  EXPECT_TRUE(json.has("t"));
}

TEST(JsonReader, AbsentAndNullTakeWhatIsGivenForThem) {
  const JsonReader json = read(R"({"z": null, "t": 3})");
  for (const char* field : {"z", "absent"}) {
    EXPECT_EQ(json.at(field).text_or("d"), "d");
    EXPECT_TRUE(json.at(field).flag_or(true));
    EXPECT_EQ(json.at(field).number_or(0.5), 0.5);
    EXPECT_EQ(json.at(field).whole_or(4, 0, 9), 4);
  }
  EXPECT_FALSE(json.at("z").absent());
  EXPECT_TRUE(json.at("absent").absent());
  // What is there must be right all the same.
  EXPECT_ERROR(FileError, "f: t: expected a text, found 3", json.at("t").text_or(""));
  EXPECT_ERROR(FileError, "f: t: expected true or false, found 3", json.at("t").flag_or(true));
  EXPECT_ERROR(FileError, "from 0 to 2, found 3", json.at("t").whole_or(0, 0, 2));
}

TEST(JsonReader, WholeNumbersAreWrittenAsSuchAndInTheirRange) {
  EXPECT_ERROR(FileError, "f: expected a whole number, found 8.0", read("8.0").whole());
  EXPECT_ERROR(FileError, "found 1e+300", read("1e300").whole());
  EXPECT_ERROR(FileError, "a whole number from 1 to 9, found 0", read("0").whole(1, 9));
  EXPECT_ERROR(FileError, "a whole number from 1 to 9, found 10", read("10").whole(1, 9));
  // Beyond 2^53, where a double would round; and beyond what fits.
  EXPECT_EQ(read("9007199254740993").whole(), 9007199254740993);
  EXPECT_EQ(read("9223372036854775807").whole(), INT64_MAX);
  EXPECT_EQ(read("-9223372036854775808").whole(), INT64_MIN);
  EXPECT_ERROR(FileError, "found 9223372036854775808", read("9223372036854775808").whole());
  EXPECT_ERROR(FileError, "expected a whole number, found", read("-9223372036854775809").whole());
  EXPECT_EQ(read("18446744073709551615").natural(), UINT64_MAX);
  EXPECT_ERROR(FileError, "a whole number, 0 or more, found",
               read("18446744073709551616").natural());
  EXPECT_ERROR(FileError, "a whole number, 0 or more, found -1", read("-1").natural());
  EXPECT_ERROR(FileError, "found \"1\"", read("\"1\"").natural());
  EXPECT_EQ(read("-0").whole(), 0);
}

TEST(JsonReader, NumbersAreFiniteAndInTheirRange) {
  EXPECT_EQ(read("8").number(0, 10), 8.0);
  EXPECT_EQ(read("18446744073709551615").number(), 18446744073709551615.0);
  EXPECT_ERROR(FileError, "a number from 0 to 1, found 1.5", read("1.5").number(0, 1));
  EXPECT_ERROR(FileError, "a number, 0 or more, found -1", read("-1").number(0));
  EXPECT_ERROR(FileError, "a number, 0 or less, found 1", read("1").number(-JsonReader::kAny, 0));
  // Python's words are texts by then, and refused as such by the name of the field.
  for (const char* word : {"NaN", "Infinity", "-Infinity"}) {
    const std::string text = std::string("{\"a\": ") + word + "}";
    EXPECT_EQ(refusal([&] { return read(text).at("a").number(); }),
              std::string("f: a: expected a number, found \"") + word + "\"");
  }
  EXPECT_ERROR(FileError, "f: not valid JSON", read("1e999"));
}

enum class Colour { red, green };
std::string_view name_of(Colour c) { return c == Colour::red ? "red" : "green"; }

TEST(JsonReader, WordsAreOneOfTheseAndTheNearestIsNamed) {
  constexpr Colour kAll[] = {Colour::red, Colour::green};
  EXPECT_EQ(read("\"green\"").named(kAll), Colour::green);
  EXPECT_ERROR(FileError, "f: expected red or green, found \"gren\" (did you mean green?)",
               read("\"gren\"").named(kAll));
  EXPECT_ERROR(FileError, "f: expected red or green, found 1", read("1").named(kAll));
}

// ---- fields that nobody knows -------------------------------------------------------------------
TEST(JsonReader, RefusesFieldsThatNobodyAskedFor) {
  const JsonReader json = read(R"({"factor": 8, "inner": {"facter": 1}, "note": 0})");
  const JsonReader inner = json.at("inner");
  EXPECT_TRUE(inner.at("factor").absent());
  EXPECT_ERROR(ConfigError,
               "f: inner.facter: this field is not known, so it cannot be honoured (did you mean "
               "factor?)",
               inner.done());
  EXPECT_ERROR(ConfigError, "f: factor: this field is not known", json.done());
  EXPECT_EQ(json.at("factor").whole(), 8);
  EXPECT_ERROR(ConfigError, "f: note: this field is not known", json.done());
  EXPECT_NO_THROW(json.done({"note"}));
  EXPECT_ERROR(ConfigError, "there may be factor or inner here", json.only({"factor", "inner"}));
  EXPECT_NO_THROW(json.only({"factor", "inner", "note"}));
  EXPECT_EQ(inner.fields().size(), 1u);  // asks for all
  EXPECT_NO_THROW(inner.done());
}

TEST(JsonReader, TheRulesSayWhichExceptionAndWhatToDo) {
  const JsonRules state = {.wrong = JsonFault::checkpoint,
                           .unknown = JsonFault::checkpoint,
                           .what = "the state",
                           .advice = "take a copy",
                           .unknown_advice = "is it of a later version?"};
  const JsonReader json = JsonReader::object(R"({"a": 1})", "f", state);
  EXPECT_ERROR(CheckpointError,
               "f: the state cannot be read: a: expected a text, found 1; take a copy",
               json.at("a").text());
  EXPECT_ERROR(CheckpointError,
               "cannot be honoured; there may be version here; is it of a later version?",
               json.only({"version"}));
  EXPECT_ERROR(CheckpointError, "expected an object, found an empty list",
               JsonReader::object("[]", "f", state));
  EXPECT_ERROR(CheckpointError, "f: the state cannot be read: it is old; take a copy",
               json.fail("it is old"));
  EXPECT_ERROR(ConfigError, "a: expected 2, found 1; save it anew; take a copy",
               json.at("a").unsupported("2", "save it anew"));
  const JsonRules config = {.wrong = JsonFault::config};
  EXPECT_ERROR(FileError, "f: expected an object, found 3", JsonReader::object("3", "f", config));
  EXPECT_ERROR(ConfigError, "expected a text",
               JsonReader::object("{}", "f", config).at("a").text());
}

// ---- texts --------------------------------------------------------------------------------------
TEST(JsonReader, RefusesOneKeyTwiceAtItsPlace) {
  EXPECT_EQ(refusal([] { return read(R"({"a": 1, "b": 2, "a": 3})"); }),
            R"(f: the key "a" occurs twice in one object; keep one of them)");
  EXPECT_THAT(refusal([] { return read(R"({"x": [0, {"y": {"a": 1, "a": 1}}]})"); }),
              HasSubstr(R"(f: x[1].y: the key "a" occurs twice)"));
  // The same name as another escape spells it, and the empty one.
  EXPECT_THAT(refusal([] { return read(R"({"a": 1, "\u0061": 2})"); }), HasSubstr("\"a\" occurs"));
  EXPECT_THAT(refusal([] { return read(R"({"": 1, "": 2})"); }), HasSubstr("\"\" occurs twice"));
  EXPECT_NO_THROW(read(R"([{"a": 1}, {"a": 2}])"));
  std::string many = "{";
  for (int i = 0; i < 1000; ++i) many += "\"k" + std::to_string(i) + "\": 1, ";
  EXPECT_THAT(refusal([&] { return read(many + "\"k500\": 2}"); }), HasSubstr("\"k500\" occurs"));
  const JsonReader json = read(many + "\"last\": 2}");
  EXPECT_EQ(json.at("k999").whole(), 1);
  EXPECT_EQ(json.at("last").whole(), 2);
  EXPECT_TRUE(json.at("k1000").absent());
  EXPECT_EQ(json.fields()[10].name(), "k10");  // in the order of the file
}

TEST(JsonReader, RefusesWhatIsTooDeepOrNoJsonInPlainWords) {
  const auto nested = [](std::size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  JsonReader json = read(nested(kDeepestJson));
  std::string path;
  while (json.size() == 1) {
    json = json.list()[0];
    path += "[0]";
  }
  EXPECT_EQ(json.path(), path);
  EXPECT_ERROR(FileError, "f: line 1, column 201: lists and objects lie more than 200 deep",
               read(nested(kDeepestJson + 1)));
  EXPECT_ERROR(FileError, "200 deep", read(std::string(1000000, '[')));
  for (const char* text : {"", "{", "{\"a\": 1 \"b\": 2}", "[1, 2", "\"\xff\"", "\xff", "nan",
                           "{\"a\": 01}", "[1] 2"}) {
    const std::string message = refusal([&] { return read(text); });
    EXPECT_THAT(message, HasSubstr("f: not valid JSON: "));
    EXPECT_THAT(message, Not(HasSubstr("json.exception")));
    EXPECT_NO_THROW(read(JsonValue(message).line())) << "not UTF-8";
  }
  EXPECT_ERROR(FileError, "was it cut short?", read("[1, 2"));
  EXPECT_ERROR(FileError, "zero byte at line 1, column 3", read(std::string_view("{}\0x", 4)));
}

TEST(JsonReader, OutlivesTheReaderThatItCameFrom) {
  const auto inner = [] { return read(R"({"a": {"b": [1, 2, 3]}})").at("a"); };
  const JsonReader json = inner();
  EXPECT_EQ(json.at("b").list(3)[2].whole(), 3);
  EXPECT_THAT(refusal([&] { return json.at("c").text(); }), HasSubstr("f: a.c: expected a text"));
}

// ---- writing ------------------------------------------------------------------------------------
TEST(JsonValue, WritesWhatItReads) {
  const char* line =
      R"({"b":[1,-2,3.5,1e-05,8.0,18446744073709551615],"a":{"x":null,"":true},"e":[],"o":{},"s":"\"\\\n\u0001é"})";
  const JsonValue value = JsonValue::parse(line, "f");
  EXPECT_EQ(value.line(), line);
  EXPECT_THAT(value.sorted().line(), testing::StartsWith(R"({"a":{"":true,"x":null},"b":[1,)"));
  EXPECT_EQ(JsonValue::parse(value.indented(), "f").line(), line);
  EXPECT_EQ(
      JsonValue::parse(R"({"a":[1,{"b":2}],"c":[],"d":{}})", "f").indented(),
      "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": [],\n  \"d\": {}\n}\n");
}

TEST(JsonValue, IsBuiltFromValues) {
  JsonValue value = JsonValue::object({{"n", 3}, {"t", "x"}, {"f", true}, {"r", 0.5}});
  value["l"] = std::vector<int>{1, 2};
  value["n"] = std::optional<int>();
  value["seed"] = UINT64_MAX;
  JsonValue list = JsonValue::list({1, "two"});
  list.push_back(std::vector<std::string>{"a"});
  value["m"] = list;
  EXPECT_EQ(value.line(), R"({"n":null,"t":"x","f":true,"r":0.5,"l":[1,2],)"
                          R"("seed":18446744073709551615,"m":[1,"two",["a"]]})");
  EXPECT_EQ(JsonValue("a\xff").line(), "\"a\uFFFD\"");
  EXPECT_EQ(JsonValue::object({{"file", "a\xff"}}).indented(), "{\n  \"file\": \"a\uFFFD\"\n}\n");
  EXPECT_EQ(JsonValue(std::nan("")).line(), "null");
}

}  // namespace
}  // namespace vitrine

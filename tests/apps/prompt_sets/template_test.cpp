#include "apps/prompt_sets/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/error.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::app {
namespace {

using ::testing::ElementsAre;

std::string filled(const char* text) {
  return fill(parse_template(text, "it"),
              [](const TemplatePiece& p) { return "<" + p.slot + (p.other ? ":other" : "") + ">"; })
      .text;
}

TEST(Template, SlotsAreFilled) {
  EXPECT_EQ(filled("{a} and {b@s2}, {c:other}"), "<a> and <b>, <c:other>");
  EXPECT_EQ(filled("{{a}} {a@}"), "{a} <a>");
  const auto pieces = parse_template("The {x} is", "it");
  const FilledTemplate f = fill(pieces, [](const auto&) { return std::string("cat"); });
  ASSERT_EQ(f.places.size(), 1u);
  EXPECT_EQ(f.text.substr(f.places[0].begin, f.places[0].end - f.places[0].begin), "cat");
}

TEST(Template, MayHaveAName) {
  EXPECT_EQ(parse_named_template("ABBA=a {x}", "it").name, "ABBA");
  EXPECT_EQ(parse_named_template("1 + 1 = {x}", "it").name, "");
}

TEST(Template, ASlotIsARole) {
  EXPECT_THAT(roles_of(parse_template("{a}{b}{b}{c@subject}{d@}", "it")),
              ElementsAre("a", "b1", "b2", "subject", ""));
  const auto refuses = [](const char* text, const char* why) {
    EXPECT_ERROR(Error, why, roles_of(parse_template(text, "it")));
  };
  refuses("{a} {b@a}", "two places of the template are the role a");
  refuses("{end}", "the role end, which means the last token");
  refuses("{a@all}", "the role all");
}

TEST(Template, MistakesAreShownInTheirPlace) {
  const auto refuses = [](const char* text, const char* why) {
    EXPECT_ERROR(Error, why, parse_template(text, "--template"));
  };
  refuses("a {b",
          "--template: this brace is never closed (a brace that is text is written {{)\n"
          "  a {b\n    ^");
  refuses("a} b", "this brace closes nothing");
  refuses("{}", "\"\" is not the name of a slot");
  refuses("{1a}", "\"1a\" is not the name of a slot");
  refuses("{a:last}", "after a colon stands other");
  refuses("{a@2}", "\"2\" is not the name of a role");
}

}  // namespace
}  // namespace vitrine::app

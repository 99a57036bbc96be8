// Expressions: what is read, what is refused and where the mark points.
#include "interp/data/metric_expression.h"

#include <gmock/gmock.h>

#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

using test::message_of;
using ::testing::HasSubstr;
using Kind = MetricNode::Kind;
using Of = MetricToken::Of;

TEST(MetricExpression, NamesAndExpressions) {
  for (const std::string_view name : metric_names()) {
    const MetricSpec named = parse_metric(name);
    EXPECT_EQ(named.name, name);
    EXPECT_EQ(named.text, name);
  }
  const MetricSpec own = parse_metric("logit(\" Austin\") - mean(logit(@cities)) / 2.5e0");
  EXPECT_EQ(own.name, "metric");
  ASSERT_EQ(own.root->kind, Kind::minus);
  EXPECT_EQ(own.root->parts[0]->token.name, " Austin");
  const MetricNode& quotient = *own.root->parts[1];
  ASSERT_EQ(quotient.kind, Kind::over);
  EXPECT_EQ(quotient.parts[0]->parts[0]->token.text(), "@cities");
  EXPECT_EQ(quotient.parts[1]->number, 2.5);
  EXPECT_TRUE(own.reads(Of::field));
  EXPECT_FALSE(own.reads(Of::answer));
  EXPECT_TRUE(parse_metric("kl + 1").contains(Kind::kl));
  EXPECT_TRUE(parse_metric("logit_diff").reads(Of::wrong));
  EXPECT_FALSE(parse_metric("prob").reads(Of::wrong));
}

TEST(MetricExpression, PrecedenceAndSigns) {
  const MetricSpec s = parse_metric("- 1 - 2 * loss - -3");  // ((-1) - (2 * loss)) - (-3)
  ASSERT_EQ(s.root->kind, Kind::minus);
  EXPECT_EQ(s.root->parts[1]->kind, Kind::negative);
  const MetricNode& left = *s.root->parts[0];
  ASSERT_EQ(left.kind, Kind::minus);
  EXPECT_EQ(left.parts[0]->kind, Kind::negative);
  EXPECT_EQ(left.parts[1]->kind, Kind::times);
  EXPECT_EQ(parse_metric("(1 - 2) * loss").root->kind, Kind::times);
}

TEST(MetricExpression, TextsOfTokens) {
  const auto token = [](std::string_view text) { return parse_metric(text).root->token; };
  EXPECT_EQ(token("logit('it\\'s \\\\ \\n\\t\"')").name, "it's \\ \n\t\"");
  EXPECT_EQ(token("rank( #123 )").id, 123);
  EXPECT_EQ(token("prob(wrong)").of, Of::wrong);
}

// Each mistake: the text, what is said, and the character that is marked.
TEST(MetricExpression, MistakesPointAtTheCharacter) {
  const struct {
    const char* text;
    const char* said;
    std::size_t column;
  } mistakes[] = {
      {"", "expected a number, a metric", 0},
      {"logit(\" a\"", "expected ')' after the token, not the end", 10},
      {"logit(\" a\" - 2", "expected ')' after the token, not \"-\"", 11},
      {"logit(\" a)", "the text that begins here has no end", 6},
      {"logit(\"\")", "expected a token's text, not an empty one", 6},
      {"logit(\"\\q\")", "after a backslash", 8},
      {"logit(Austin)", "expected a token: a text in quotes", 6},
      {"logit(#x)", "expected a token id after '#'", 7},
      {"logit(#99999999999)", "expected a token id after '#'", 7},
      {"logit(@)", "expected the name of a field after '@'", 7},
      {"mean(logit(@a) logit(@b))", "expected an operator (+ - * /), ',' or ')', not \"l\"", 15},
      {"loss 2", "expected an operator (+ - * /) or the end, not \"2\"", 5},
      {"loss +", "expected a number, a metric", 6},
      {"loss * * 2", "expected a number, a metric", 7},
      {"(loss", "expected an operator (+ - * /) or ')', not the end", 5},
      {"\" Austin\" - 1", "of a token there is logit(T)", 0},
      {"@cities", "of a token there is logit(T)", 0},
      {"lgit(answer)", "there is no function \"lgit\" (did you mean logit", 0},
      {"1 + logit_dif", "there is no metric \"logit_dif\" (did you mean logit_diff", 4},
      {"logit_diff(answer)", "logit_diff is no function; leave out the parentheses", 0},
      {"2 * mean", "expected '(' after mean", 8},
      {"answer", "answer is a token; write logit(answer)", 0},
      {"1 + 2", "expected something that is measured", 2},
      {"1e999 * loss", "expected a number", 0},
      {"logit(\" é\") ; loss", "not \";\"", 12},
  };
  for (const auto& m : mistakes) {
    const std::string said = message_of<Error>([&] { parse_metric(m.text); });
    EXPECT_THAT(said, HasSubstr(m.said)) << m.text;
    const std::size_t line = said.rfind('\n');
    ASSERT_NE(line, std::string::npos) << said;
    EXPECT_EQ(said.substr(line), "\n  " + std::string(m.column, ' ') + "^") << said;
    EXPECT_THAT(said, HasSubstr("\n  " + std::string(m.text) + "\n"));
  }
  const std::string deep(1000, '(');
  EXPECT_ERROR(Error, "too many parentheses", parse_metric(deep));
  EXPECT_ERROR(Error, "too many signs", parse_metric(std::string(1000, '-')));
}

TEST(MetricExpression, StepsHaveNoGradient) {
  EXPECT_NO_THROW(parse_metric("log_prob - kl").require_gradient());
  EXPECT_ERROR(Error, "rank has no gradient", parse_metric("rank").require_gradient());
  const std::string said =
      message_of<Error>([] { parse_metric("loss + accuracy").require_gradient(); });
  EXPECT_THAT(said, HasSubstr("accuracy has no gradient"));
  EXPECT_TRUE(said.ends_with("\n  loss + accuracy\n         ^")) << said;
}

}  // namespace
}  // namespace vitrine::interp

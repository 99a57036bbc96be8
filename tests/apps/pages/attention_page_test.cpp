// The page of `attention`.
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using AttentionPage = PageTest;

TEST_F(AttentionPage, ShowsTheHeadsAndWhereEachTokenLooks) {
  Page page =
      made_by({"attention", "--prompt", "The capital of Texas is", "--layer", "1", "--head", "2"});
  const auto json = vitrine({"attention", "--prompt", "The capital of Texas is", "--layer", "1",
                             "--head", "2", "--format", "json"})
                        .json();
  EXPECT_EQ(page.text("h1"), "Where each token looks");
  EXPECT_EQ(page.text("h2 + .controls ~ p, main > p[aria-live]").substr(0, 1), "4");
  EXPECT_TRUE(page.has("[data-head='1.2'][aria-pressed=true]"));
  EXPECT_NE(page.text(".command").find("--prompt 'The capital of Texas is'"), std::string::npos);

  // The strongest source of the token that is pointed at.
  const auto strongest = [&](int query) {
    const auto& top = json["top"][0][query][0];
    return json["str_tokens"][top["pos"].get<std::size_t>()].get<std::string>();
  };
  for (const int query : {1, 3}) {
    page.hover(".token[data-position='" + std::to_string(query) + "']");
    EXPECT_NE(page.text("p[aria-live] b").find(strongest(query)), std::string::npos) << query;
  }
  // A click keeps it when the pointer leaves; an arrow key goes on.
  page.click(".token[data-position='2']");
  page.hover("h1");
  EXPECT_EQ(page.text(".token.locked"), " of");
  page.press("ArrowRight");
  EXPECT_EQ(page.text(".token.locked"), " Texas");
  EXPECT_EQ(page.text("p[aria-live]").substr(0, 1), "3");
  // The other way round: who looks at it.
  page.click("[aria-label='A token is'] button:last-of-type");
  EXPECT_NE(page.text("p[aria-live]").find("is attended to by"), std::string::npos);
  // Another head, and a cell of its matrix.
  page.click("[data-head='0.0']");
  EXPECT_EQ(page.text("main > h2:nth-of-type(2)"), "Layer 0, head 0");
  page.hover(".heatmap canvas");
  page.eval("document.querySelector('.heatmap canvas').focus()");
  page.press("ArrowLeft");
  EXPECT_NE(page.tip().find("→"), std::string::npos);
  EXPECT_NE(page.tip().find("%"), std::string::npos);
  expect_sound(page);
}

TEST_F(AttentionPage, AnyPromptIsText) {
  Page page = made_by({"attention", "--prompt", kOddPrompt});
  const auto tokens = vitrine({"tokenize", "--prompt", kOddPrompt, "--format", "json"}).json();
  std::string texts;  // a character that is several tokens has none of its own
  for (const auto& text : tokens["str_tokens"]) texts += text.get<std::string>();
  EXPECT_EQ(
      page.eval("[...document.querySelectorAll('.token')].map((t) => t.textContent).join('')"),
      texts);
  EXPECT_EQ(page.count("main b b"), 0);
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

// The page of `graph`.
#include "tests/apps/pages/page_test.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using GraphPage = PageTest;

TEST_F(GraphPage, ShowsWhatANodeIsMadeOf) {
  Page page = made_by({"graph", "--model", tiny_model().string(), "--transcoders",
                       (data() / "transcoders/cross-layer").string(), "--tokens",
                       "5,17,33,64,2,88,9,17", "--top", "5"});
  EXPECT_EQ(page.text("h1"), "What causes the next token");
  EXPECT_NE(page.text("#counted").find("comes through errors"), std::string::npos);
  const int all = page.count("svg .node");
  EXPECT_GT(all, 20);
  EXPECT_GT(page.count("svg .link"), 20);
  // A click on the first logit: its edges, with the share of errors.
  page.click("svg .node[aria-label^='Logit']");
  EXPECT_EQ(page.text("#details h2").substr(0, 5), "Logit");
  EXPECT_NE(page.text("#details h3").find("of it errors"), std::string::npos);
  EXPECT_GT(page.count("#details tbody tr"), 2);
  // A row of its sources chooses that node.
  page.click("#details tbody tr");
  EXPECT_NE(page.text("#details h2").substr(0, 5), "Logit");
  // The slider leaves out what has less influence.
  page.eval(
      "(() => { const s = document.querySelector('input[type=range]'); s.value = 0.3; "
      "s.dispatchEvent(new Event('input')); })()");
  EXPECT_LT(page.count("svg .node"), all);
  EXPECT_EQ(page.trouble(), "");
}

}  // namespace
}  // namespace vitrine::test

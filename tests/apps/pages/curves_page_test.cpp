// The page of `curves`.
#include "tensor/files/file.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

class CurvesPage : public PageTest {
 protected:
  std::string log(const std::string& name, int steps, double factor) const {
    std::string text = R"({"step": 0, "command": "vitrine train", "seed": 3})"
                       "\n";
    for (int step = 10; step <= steps; step += 10) {
      text += fmt::format(R"({{"step": {0}, "loss": {1}, "rate": 0.001}})"
                          "\n",
                          step, factor / step);
      if (step % 50 == 0)
        text +=
            fmt::format(R"({{"step": {0}, "validation_loss": {1}, "induction": {{"score": 0.25}}}})"
                        "\n",
                        step, factor / step + 1);
    }
    std::filesystem::create_directory(folder / name);
    write_text(folder / name / "log.jsonl", text);
    return folder / name;
  }
};

TEST_F(CurvesPage, DrawsTheCurvesOfAllRuns) {
  // A name is text, whatever is in it.
  Page page = made_by({"curves", log("<b>one", 200, 1000), log("two", 400, 500)});
  EXPECT_EQ(page.count("[data-quantity]"), 4);  // loss, rate, validation_loss, induction.score
  EXPECT_EQ(page.count("[data-quantity=loss] polyline"), 2);
  EXPECT_EQ(page.eval("document.querySelector('[data-quantity=loss] "
                      "polyline').getAttribute('points').split(' ').length"),
            20);
  EXPECT_EQ(page.text("button.run"), "<b>one");
  EXPECT_EQ(page.count("main b"), 0);
  // The keys say what the curves are at a step: run two ends at step 400, where its loss is 1.25.
  page.eval("document.querySelector('[data-quantity=loss] svg').focus()");
  page.press("End");
  EXPECT_NE(page.tip().find("step 400"), std::string::npos) << page.tip();
  EXPECT_NE(page.tip().find("two: 1.25"), std::string::npos) << page.tip();
  EXPECT_NE(page.tip().find("<b>one: 5 (at 200)"), std::string::npos) << page.tip();
  page.press("ArrowLeft");
  EXPECT_NE(page.tip().find("two: 1.28"), std::string::npos) << page.tip();
  page.hover("[data-quantity=rate] svg");
  EXPECT_NE(page.tip().find("two: 0.001"), std::string::npos) << page.tip();
  // On a logarithmic scale 1000/x is straight: half way along log x is half way up.
  const std::string middle =
      "(() => { const p = document.querySelector('[data-quantity=loss] "
      "polyline').getAttribute('points').split(' ').map((q) => q.split(',').map(Number));"
      " const t = (p[4][0] - p[0][0]) / (p.at(-1)[0] - p[0][0]); return Math.abs(p[4][1] - p[0][1] "
      "- t * (p.at(-1)[1] - p[0][1])); })()";
  EXPECT_GT(page.eval(middle).get<double>(), 10);
  page.click("main label:nth-of-type(1) input");
  page.click("main label:nth-of-type(2) input");
  EXPECT_LT(page.eval(middle).get<double>(), 0.5);
  // A run that is hidden is gone from every drawing, and comes back.
  page.click("button.run[data-run='1']");
  EXPECT_EQ(page.count("[data-quantity=loss] polyline"), 1);
  page.click("button.run[data-run='1']");
  EXPECT_EQ(page.count("[data-quantity=loss] polyline"), 2);
  // The table has the best: of run one 5, at step 200.
  EXPECT_EQ(page.text("tbody tr td:nth-child(5)"), "5");
  EXPECT_EQ(page.text("tbody tr td:nth-child(6)"), "200");
  expect_sound(page);
}

TEST_F(CurvesPage, LongLogsAreThinnedButKeepTheirSpikes) {
  std::string text;
  for (int step = 1; step <= 30000; ++step)
    text += fmt::format(R"({{"step": {}, "loss": {}, "grad_norm": 1.5, "rate": 0.1}})"
                        "\n",
                        step, step == 12345 ? 99 : 3);
  write_text(folder / "long.jsonl", text);
  Page page = made_by({"curves", folder / "long.jsonl"});
  EXPECT_NE(page.text("main > p").find("1,000 points"), std::string::npos);
  EXPECT_LE(page.eval("document.querySelector('polyline').getAttribute('points').split(' ').length")
                .get<int>(),
            1000);
  EXPECT_EQ(
      page.eval("new Set(document.querySelector('[data-quantity=loss] "
                "polyline').getAttribute('points').split(' ').map((p) => p.split(',')[1])).size"),
      2)
      << "the spike";
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

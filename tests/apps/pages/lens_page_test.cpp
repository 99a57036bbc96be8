// The page of `lens`.
#include "tests/apps/pages/cells.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using LensPage = PageTest;
using Words = std::vector<std::string>;

const Words kLens = {"lens", "--prompt", "The capital of Texas is", "--answer", " Austin"};

nlohmann::json all_positions() {
  Words words = kLens;
  words.insert(words.end(), {"--pos", "all", "--top", "5", "--format", "json"});
  return vitrine(words).json();
}

std::string rounded(double x, const char* format = "%.3g") {
  char text[32];
  std::snprintf(text, sizeof(text), format, x);
  return text;
}

Words listed(Page& page) {
  return page.eval(
      "[...document.querySelectorAll('.detail .bars code')].map((e) => e.textContent)");
}

Words tokens_of(const nlohmann::json& stage) {
  Words words;
  for (const auto& token : stage) words.push_back(token["token"]);
  return words;
}

TEST_F(LensPage, ShowsWhatIsSaidAtEachLayerAndPosition) {
  Page page = made_by(kLens);  // of one position: the page has all
  const auto json = all_positions();
  EXPECT_EQ(page.text("h1"), "What the model would say at each layer");
  // The end of the prompt after the last layer comes first.
  EXPECT_EQ(page.text(".detail h2"), "Said after layer 5, at 4 is");
  EXPECT_EQ(listed(page), tokens_of(json["top"][4][6]));
  // Under the pointer, the tokens of a cell with their probabilities.
  const Cells cells{".heatmap canvas", 7, 5};
  cells.hover(page, 3, 1);
  const std::string tip = page.tip();
  EXPECT_NE(tip.find("after layer 2, at 1 capital"), std::string::npos) << tip;
  for (const auto& token : json["top"][1][3]) {
    std::string word = token["token"];
    word.erase(0, word.find_first_not_of(' '));
    EXPECT_NE(tip.find(word), std::string::npos) << tip;
    const double prob = token["prob"];
    if (prob < 0.001) continue;  // "<0.05%"
    EXPECT_NE(tip.find(rounded(100 * prob, "%.1f") + "%"), std::string::npos) << tip << prob;
  }
  EXPECT_NE(
      tip.find("Austin: " + rounded(json["ln"][3][1]) + ", raw " + rounded(json["raw"][3][1])),
      std::string::npos)
      << tip;
  // A click keeps it: the list, and the curve of that position with its changes.
  cells.click(page, 3, 1);
  EXPECT_EQ(listed(page), tokens_of(json["top"][1][3]));
  EXPECT_NE(page.text("h2 + figure").find("through the norm"), std::string::npos);
  EXPECT_EQ(page.count("svg circle"), 14);
  const auto row = [&](int stage) {
    return page.text("tbody tr:nth-of-type(" + std::to_string(stage + 1) + ")");
  };
  for (const int stage : {2, 6}) {
    const double change =
        json["raw"][stage][1].get<double>() - json["raw"][stage - 1][1].get<double>();
    EXPECT_NE(row(stage).find((change < 0 ? "−" : "+") + rounded(std::abs(change))),
              std::string::npos)
        << row(stage) << change;
  }
  page.hover("svg circle:last-of-type");
  EXPECT_NE(page.tip().find("layer 5, raw\n" + rounded(json["raw"][6][1])), std::string::npos)
      << page.tip();
  // By keyboard, and from the table.
  page.eval("document.querySelector('.heatmap canvas').focus()");
  page.press("ArrowRight");
  page.press("Enter");
  EXPECT_EQ(page.text(".detail h2"), "Said after layer 2, at 2 of");
  page.click("tbody tr:nth-of-type(1)");
  EXPECT_EQ(page.text(".detail h2"), "Said after the embedding, at 2 of");
  expect_sound(page);
}

TEST_F(LensPage, ColoursSayTheAnswersLogitToo) {
  Words words = kLens;
  words.insert(words.end(), {"--wrong", " Sacramento", "--pos", "all"});
  Page page = made_by(words);
  const auto pixel = [&] {
    return page.eval(
        "[...document.querySelector('.heatmap canvas').getContext('2d').getImageData(84 * 4 + 74, "
        "26 * 6 + 8, 1, 1).data]");
  };
  EXPECT_NE(page.text(".scale").find("100.0%"), std::string::npos);
  // Certain of its token is deep blue; by the answer's logit, which is far above 0, the cell is orange.
  const auto before = pixel();
  EXPECT_LT(before[0], before[2]);
  page.click("[aria-label=Colours] button:nth-of-type(2)");
  const auto after = pixel();
  EXPECT_GT(after[0], after[2]);
  EXPECT_NE(page.text(".scale").find("logit Austin less Sacramento"), std::string::npos)
      << page.text(".scale");
  EXPECT_EQ(page.text(".detail h2"), "Said after layer 5, at 4 is");
  expect_sound(page);
}

TEST_F(LensPage, AnyPromptIsText) {
  Page page = made_by({"lens", "--prompt", kOddPrompt});
  EXPECT_EQ(page.count("main b b"), 0);
  const auto json = vitrine({"tokenize", "--prompt", kOddPrompt, "--format", "json"}).json();
  const Words columns = page.eval(
      "[...document.querySelectorAll('.heatmap .columns span')].map((e) => e.textContent)");
  ASSERT_EQ(columns.size(), json["str_tokens"].size());
  for (std::size_t k = 0; k < columns.size(); ++k)
    EXPECT_EQ(columns[k], std::to_string(k) + " " + json["str_tokens"][k].get<std::string>());
  expect_sound(page);
  EXPECT_NE(vitrine({"lens", "--prompts", "nowhere.jsonl", "--html", file()}).exit, 0);
}

}  // namespace
}  // namespace vitrine::test

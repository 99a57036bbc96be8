// The page of `patch`.
#include <cmath>
#include <fstream>

#include "tests/apps/pages/cells.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using PatchPage = PageTest;
using Words = std::vector<std::string>;

const Words kTexas = {"--clean",   "The capital of Texas is",
                      "--corrupt", "The capital of California is",
                      "--answer",  " Austin",
                      "--wrong",   " Sacramento"};

Words patch(Words more) {
  Words words = {"patch"};
  words.insert(words.end(), kTexas.begin(), kTexas.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

nlohmann::json json_of(Words words) {
  words.insert(words.end(), {"--format", "json"});
  return vitrine(words).json();
}

// What a prompt is followed by, the most probable first.
Words said_after(const std::string& prompt) {
  Words said;
  const auto json = json_of({"predict", "--prompt", prompt, "--top", "5"});
  for (const auto& token : json["top"]) said.push_back(token["token"]);
  return said;
}

// The tokens of one of the three runs.
Words run(Page& page, int number) {
  return page.eval("[...document.querySelectorAll('.runs .panel')[" + std::to_string(number) +
                   "].querySelectorAll('code')].map((e) => e.textContent)");
}

TEST_F(PatchPage, ShowsTheSweepAndWhatEachRunSays) {
  Page page = made_by(patch({"--site", "resid_pre"}));
  const auto json = json_of(patch({"--site", "resid_pre"}));
  EXPECT_EQ(page.text("h1"), "What carries the answer");
  EXPECT_NE(page.text(".metric").find("clean 12.1, corrupt -13.5"), std::string::npos);
  EXPECT_NE(page.text(".scale").find("+25.6"), std::string::npos) << page.text(".scale");
  EXPECT_EQ(texts(page, ".tokens .peak"), (Words{" Texas", " California"}));

  // The value under the pointer.
  const Cells cells{".heatmap canvas", 6, 5};
  const double value = json["values"][2][3],
               change = value - json["metric"]["corrupt"].get<double>();
  cells.hover(page, 2, 3);
  EXPECT_NE(page.tip().find("layer 2, pos 3 Texas / California"), std::string::npos) << page.tip();
  EXPECT_NE(page.tip().find("logit_diff " + std::string("-12.5")), std::string::npos) << page.tip();
  EXPECT_NEAR(value, -12.47, 0.01);
  EXPECT_NEAR(change, 1.0, 0.01);
  EXPECT_NE(page.tip().find("change +1"), std::string::npos);

  // The strongest place is shown first: the subject's embedding alone makes the corrupt run say what the clean one says.
  const Words clean = said_after("The capital of Texas is"),
              corrupt = said_after("The capital of California is");
  EXPECT_EQ(run(page, 0), clean);
  EXPECT_EQ(run(page, 1), corrupt);
  EXPECT_EQ(run(page, 2), clean);
  // A click: an edit without effect says what the corrupt run says, one in the middle something of its own.
  cells.click(page, 4, 1);
  EXPECT_EQ(page.text(".detail h2"), "layer 4, pos 1 capital");
  EXPECT_EQ(run(page, 2), corrupt);
  EXPECT_NE(page.text(".runs .panel:last-of-type p").find("the same as the corrupt run"),
            std::string::npos);
  cells.click(page, 2, 4);
  EXPECT_EQ(run(page, 2)[0], " Austin");
  EXPECT_FALSE(page.has(".runs .panel:last-of-type p"));
  // By keyboard: one layer up.
  page.press("ArrowUp");
  EXPECT_NE(page.tip().find("layer 1, pos 4 is"), std::string::npos) << page.tip();
  page.press("Enter");
  EXPECT_EQ(page.text(".detail h2"), "layer 1, pos 4 is");
  EXPECT_EQ(run(page, 2)[0], " Sacramento");
  // A row of the table shows its cell.
  page.click("[aria-label='the strongest places'] tbody tr:nth-of-type(2)");
  EXPECT_EQ(page.text(".detail h2"), "layer 1, pos 3 Texas / California");
  expect_sound(page);
}

// What the page says of a patched run is what the run says whose metric the sweep has.
TEST_F(PatchPage, PatchedTokensGoWithTheMetric) {
  Page page =
      made_by(patch({"--site", "z", "--by", "head", "--metric", "prob", "--direction", "noise"}));
  const auto json =
      json_of(patch({"--site", "z", "--by", "head", "--metric", "prob", "--direction", "noise"}));
  const auto data = page.eval("JSON.parse(document.getElementById('data').textContent).predicted");
  ASSERT_EQ(data["cells"].size(), 24);
  int seen = 0;
  for (const auto& cell : data["cells"]) {
    ASSERT_EQ(cell.size(), 2) << cell;  // every head has an effect
    const int at = cell[0];
    const double prob = json["values"][at / 4][at % 4];
    for (const auto& token : cell[1]) {
      if (data["words"][std::to_string(token[0].get<int>())] != " Austin") continue;
      EXPECT_NEAR(token[1].get<double>(), prob, 1e-5 + 1e-4 * prob);
      ++seen;
    }
  }
  EXPECT_GT(seen, 5);
}

TEST_F(PatchPage, PickersHoldTheFirstAxes) {
  const Words words = patch({"--site", "z", "--by", "head,pos"});
  Page page = made_by(words);
  const auto json = json_of(words);
  ASSERT_EQ(json["axes"], nlohmann::json({"layer", "pos", "head"}));
  // It begins with the strongest place.
  const auto& strongest = json["strongest"][0];
  EXPECT_EQ(page.eval("document.querySelector('.controls select').value"),
            std::to_string(strongest["layer"].get<int>()));
  EXPECT_NE(page.text(".detail h2").find("head " + std::to_string(strongest["head"].get<int>())),
            std::string::npos);
  // Another layer.
  page.eval(
      "(() => { const s = document.querySelector('.controls select'); s.value = '3'; "
      "s.dispatchEvent(new Event('change')); })()");
  const Cells cells{".heatmap canvas", 5, 4};
  cells.click(page, 4, 2);
  EXPECT_EQ(page.text(".detail h2"), "layer 3, pos 4 is, head 2");
  const double change =
      json["values"][3][4][2].get<double>() - json["metric"]["corrupt"].get<double>();
  const std::string shown = page.text(".detail p");
  const auto at = shown.find("change ");
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(shown.find("−", at) != std::string::npos, change < 0) << shown;
  EXPECT_EQ(run(page, 2).size(), 5);
  expect_sound(page);
}

TEST_F(PatchPage, LongAxesAndManyCellsAreBoundedAndSaidSo) {
  Page page = made_by(patch({"--site", "post", "--by", "feature"}));
  EXPECT_NE(page.text("main").find("the 256 of 1,024 columns with the largest numbers"),
            std::string::npos);
  EXPECT_EQ(
      page.eval("JSON.parse(document.getElementById('data').textContent).predicted.cells.length"),
      4000);
  EXPECT_EQ(run(page, 2).size(), 5);
  // A neuron that is not among the strongest says so. Of layer 0 in the first column that has none:
  const Cells cells{".heatmap canvas", 6, 256};
  const auto cell = page.eval(R"((() => {
    const d = JSON.parse(document.getElementById('data').textContent), known = new Set(d.predicted.cells.map(([i]) => i));
    const columns = [...document.querySelectorAll('.heatmap .columns span')].map((e) => Number(e.textContent));
    for (let r = 0; r < 6; ++r) for (let c = 0; c < 40; ++c) if (!known.has(r * 1024 + columns[c])) return [r, c];
    return null;
  })())");
  ASSERT_TRUE(cell.is_array());
  cells.click(page, cell[0], cell[1]);
  EXPECT_NE(page.text(".runs .panel:last-of-type").find("4,000 strongest cells of 6,144"),
            std::string::npos);
  expect_sound(page);
}

TEST_F(PatchPage, ManyPairsAreMeansAndEachPair) {
  const std::string pairs = folder / "pairs.jsonl";
  std::ofstream(pairs)
      << R"({"clean": "The capital of Texas is", "corrupt": "The capital of Ohio is", "answer": " Austin", "wrong": " Columbus"}
{"clean": "The capital of Ohio is", "corrupt": "The capital of Texas is", "answer": " Columbus", "wrong": " Austin"}
{"clean": "The capital of Nepal is", "corrupt": "The capital of Ghana is", "answer": " Kathmandu", "wrong": " Accra"}
)";
  const Words words = {"patch", "--pairs", pairs, "--site", "z,resid_pre"};
  Page page = made_by(words);
  const auto json = json_of(words)["sites"];
  ASSERT_EQ(json[0]["site"], "z");
  const Cells heads{".heatmap canvas", 6, 4};
  heads.click(page, 1, 2);
  EXPECT_NE(page.tip().find("over 3 pairs"), std::string::npos);
  EXPECT_NE(page.tip().find("±"), std::string::npos);
  const auto rows = texts(page, "[aria-label='each pair'] tbody tr");
  ASSERT_EQ(rows.size(), 3);
  EXPECT_NE(rows[1].find("The capital of Ohio is"), std::string::npos);
  char value[32];
  std::snprintf(value, sizeof(value), "%.3g", json[0]["pairs"][1]["values"][1][2].get<double>());
  EXPECT_NE(rows[1].find(value), std::string::npos) << rows[1] << " has no " << value;
  // The other site.
  page.click("[aria-label=Site] button:last-of-type");
  const Cells stream{".heatmap canvas", 6, 5};
  stream.hover(page, 0, 0);
  EXPECT_NE(page.tip().find("layer 0, pos 0 The"), std::string::npos) << page.tip();
  expect_sound(page);
}

TEST_F(PatchPage, AnyPromptIsText) {
  const std::string other = "</script><b>'\"&amp; 🙂 漢字 is <!-- the city";
  Page page = made_by({"patch", "--clean", kOddPrompt, "--corrupt", other, "--answer", " Austin",
                       "--wrong", " Columbus", "--site", "resid_pre"});
  EXPECT_EQ(page.eval("[...document.querySelectorAll('.tokens')[0].querySelectorAll('.token')].map("
                      "(t) => t.textContent).join('')"),
            shown_tokens(kOddPrompt));
  EXPECT_EQ(page.count("main b b"), 0);
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

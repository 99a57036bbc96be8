// The page of `attribute`.
#include <algorithm>
#include <cmath>
#include <fstream>

#include "tests/apps/pages/cells.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using AttributePage = PageTest;
using Words = std::vector<std::string>;

Words attribute(Words more, const std::string& clean = "The capital of Texas is") {
  Words words = {"attribute", "--clean", clean,     "--corrupt",  "The capital of California is",
                 "--answer",  " Austin", "--wrong", " Sacramento"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

nlohmann::json json_of(Words words) {
  words.insert(words.end(), {"--format", "json"});
  return vitrine(words).json();
}

// As the page writes it: "+1.23", "−4.56".
std::string shown(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", std::abs(x));
  return (x < 0 ? "−" : "+") + std::string(text);
}

TEST_F(AttributePage, ShowsScoresBesideExactValues) {
  const Words words = attribute({"--verify", "12", "--top", "30"});
  Page page = made_by(words);
  const auto json = json_of(words);
  EXPECT_EQ(page.text("h1"), "What matters, by gradients");
  // The table has the nodes of the JSON; exact values where they were measured.
  const std::string table = "[aria-label='the strongest'] tbody ";
  ASSERT_EQ(page.count(table + "tr"), 30);
  std::vector<nlohmann::json> nodes = json["nodes"];
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) {
    return a["score"].template get<double>() > b["score"].template get<double>();
  });
  const std::string first = page.text(table + "tr:nth-of-type(1)");
  EXPECT_NE(first.find(nodes[0]["site"].get<std::string>()), std::string::npos) << first;
  EXPECT_NE(first.find(shown(nodes[0]["score"])), std::string::npos) << first;
  EXPECT_NE(first.find(shown(nodes[0]["exact"])), std::string::npos) << first;
  EXPECT_EQ(page.count(table + "td:last-of-type"), 30);
  int unmeasured = 0;
  for (const std::string& cell : texts(page, table + "td:last-of-type"))
    unmeasured += cell == "not measured" ? 1 : 0;
  EXPECT_EQ(unmeasured, 18);
  // It sorts by exact value, and once more the other way round.
  page.click("[aria-label='the strongest'] th:last-of-type button");
  double largest = -1e9;
  for (const auto& n : nodes)
    if (!n["exact"].is_null()) largest = std::max(largest, n["exact"].get<double>());
  EXPECT_NE(page.text(table + "tr:nth-of-type(1)").find(shown(largest)), std::string::npos);
  // A point for each that was measured; a press on one finds its row.
  EXPECT_EQ(page.count(".scatter circle"), 12);
  page.hover(".scatter circle:last-of-type");
  EXPECT_NE(page.tip().find("exact "), std::string::npos) << page.tip();
  page.click(".scatter circle:last-of-type");
  EXPECT_EQ(page.count(table + "tr.chosen"), 1);
  // The heatmap of a site: the score in a cell, with the exact value where there is one.
  page.click("[aria-label=Site] button:nth-of-type(2)");
  ASSERT_EQ(page.text("[aria-label=Site] [aria-pressed=true]"), "attn.hook_z");
  const Cells heads{".heatmap canvas", 6, 4};
  for (const auto& n : nodes) {
    if (n["site"] != "blocks.0.attn.hook_z" || n["head"] != 0) continue;
    heads.click(page, 0, 0);
    EXPECT_NE(page.text(".detail").find("attn.hook_z, layer 0, head 0: score " + shown(n["score"])),
              std::string::npos)
        << page.text(".detail");
    EXPECT_NE(page.text(".detail").find("exact " + shown(n["exact"])), std::string::npos)
        << page.text(".detail");
  }
  expect_sound(page);
}

TEST_F(AttributePage, OnePositionAtATimeAndLongAxes) {
  Page page = made_by(attribute({"--by-pos", "--sites", "z,mlp.hook_post"}));
  EXPECT_EQ(page.count("select"), 1);
  page.click("[aria-label=Site] button:last-of-type");
  EXPECT_NE(page.text("main").find("256 of 1,024 columns"), std::string::npos);
  expect_sound(page);
}

TEST_F(AttributePage, EdgesAreATableAndAScatter) {
  const Words words = attribute({"--method", "edges", "--verify", "8"});
  Page page = made_by(words);
  const auto json = json_of(words);
  EXPECT_EQ(page.count(".scatter circle"), 8);
  EXPECT_EQ(page.count("[aria-label='the strongest edges'] tbody tr"),
            static_cast<int>(json["edges"].size()));
  page.click("[aria-label='the strongest edges'] tbody tr:nth-of-type(1)");
  const auto& edge = json["edges"][0];
  EXPECT_EQ(page.text(".detail"), edge["from"].get<std::string>() + " → " +
                                      edge["to"].get<std::string>() + ": score " +
                                      shown(edge["score"]) + ", exact " + shown(edge["exact"]));
  expect_sound(page);
}

TEST_F(AttributePage, IntegratedGradientsAddUp) {
  const Words words = attribute({"--method", "ig"});
  Page page = made_by(words);
  const auto json = json_of(words);
  EXPECT_NE(page.text("main").find("The scores add up to 25.6"), std::string::npos);
  const Cells cells{".heatmap canvas", 1, 5};
  cells.click(page, 0, 3);
  EXPECT_EQ(page.text(".detail"), "pos 3 Texas / California: " + shown(json["values"][3]));
  expect_sound(page);
}

TEST_F(AttributePage, ManyPairsAreMeans) {
  const std::string pairs = folder / "pairs.jsonl";
  std::ofstream(pairs)
      << R"({"clean": "The capital of Texas is", "corrupt": "The capital of Ohio is", "answer": " Austin", "wrong": " Columbus"}
{"clean": "The capital of Nepal is", "corrupt": "The capital of Ghana is", "answer": " Kathmandu", "wrong": " Accra"}
)";
  const Words words = {"attribute", "--pairs", pairs, "--verify", "3"};
  Page page = made_by(words);
  const auto json = json_of(words);
  const auto& score = json["nodes"][0]["score"];
  char error[32];
  std::snprintf(error, sizeof(error), "± %.3g", score["standard_error"].get<double>());
  const std::string row = page.text("[aria-label='the strongest'] tbody tr.chosen");
  EXPECT_NE(row.find(shown(score["mean"])), std::string::npos) << row;
  EXPECT_NE(row.find(error), std::string::npos) << row;
  EXPECT_NE(page.text(".detail").find(error), std::string::npos) << page.text(".detail");
  EXPECT_EQ(page.count(".scatter circle"), 3);
  expect_sound(page);
}

TEST_F(AttributePage, PairsThatAreLinedUpHaveTheirRoles) {
  const std::string pairs = folder / "roles.jsonl";
  std::ofstream(pairs)
      << R"({"clean": "The capital of Texas is", "corrupt": "The capital of Ohio is", "answer": " Austin", "wrong": " Columbus", "roles": {"name": " Texas"}}
{"clean": "The capital of New Mexico is", "corrupt": "The capital of New York is", "answer": " Austin", "wrong": " Albany", "roles": {"name": " New Mexico"}}
)";
  const Words words = {"attribute", "--pairs", pairs, "--pos", "-1,name", "--sites", "0.resid_pre"};
  Page page = made_by(words);
  const auto json = json_of(words);
  const auto& node = json["nodes"][0];
  EXPECT_EQ(node["pos"], "name");
  const std::string row = page.text("[aria-label='the strongest'] tbody tr.chosen");
  EXPECT_NE(row.find("pos name"), std::string::npos) << row;
  const std::string detail = page.text(".detail");
  EXPECT_NE(detail.find("pos name"), std::string::npos) << detail;
  EXPECT_NE(detail.find(shown(node["score"]["mean"])), std::string::npos) << detail;
  EXPECT_NE(detail.find("exact"), std::string::npos) << detail;
  expect_sound(page);
}

TEST_F(AttributePage, AnyPromptIsText) {
  Page page = made_by({"attribute", "--clean", kOddPrompt, "--corrupt",
                       "</script><b>'\"&amp; 🙂 漢字 is <!-- the city", "--answer", " Austin",
                       "--wrong", " Columbus"});
  EXPECT_EQ(page.eval("[...document.querySelectorAll('.tokens')[0].querySelectorAll('.token')].map("
                      "(t) => t.textContent).join('')"),
            shown_tokens(kOddPrompt));
  EXPECT_EQ(page.count("main b b"), 0);
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

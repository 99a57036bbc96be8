// The page of `circuit`.
#include <fmt/format.h>

#include <fstream>

#include "tests/apps/pages/page_test.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

const Words kTexas = {"circuit",
                      "--clean",
                      "The capital of Texas is",
                      "--corrupt",
                      "The capital of California is",
                      "--answer",
                      " Austin",
                      "--wrong",
                      " Sacramento",
                      "--edges",
                      "40"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

class CircuitPage : public PageTest {
 protected:
  // Tab goes on from where the last press was: from the top.
  void click_title_and_expect_sound(Page& page) {
    page.click("h1");
    picture_from = "svg[role=group]";
    expect_sound(page);
  }
  static json json_of(const Words& words) {
    return vitrine(with(words, {"--format", "json"})).json();
  }
  // A press on a link of the drawing, in its middle.
  static void click_link(Page& page, const std::string& from, const std::string& to) {
    const json at = page.eval(fmt::format(
        "(() => {{ const p = document.querySelector(\".link[data-from='{}'][data-to='{}'] path\"); "
        "p.scrollIntoView({{block: 'center'}});"
        "const q = p.getPointAtLength(p.getTotalLength() / 2).matrixTransform(p.getScreenCTM()); "
        "return [q.x, q.y]; }})()",
        from, to));
    page.click(at[0], at[1]);
  }
  static void move_slider(Page& page, const std::string& key, int times) {
    page.eval("document.querySelector('input[type=range]').focus()");
    for (int i = 0; i < times; ++i) page.press(key);
    page.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
  }
};

std::string grouped_number(std::size_t n) {
  std::string text = std::to_string(n);
  for (int at = static_cast<int>(text.size()) - 3; at > 0; at -= 3)
    text.insert(static_cast<std::size_t>(at), ",");
  return text;
}

TEST_F(CircuitPage, ShowsTheEdgesAndWhatNodesAndEdgesAre) {
  Page page = made_by(with(kTexas, {"--worth"}));
  const json found = json_of(with(kTexas, {"--worth"}));
  EXPECT_EQ(page.text("#left-out b"), fmt::format("{} of {} edges shown;", found["edges"].size(),
                                                  grouped_number(found["of"])));
  EXPECT_NE(page.text("#left-out")
                .find(fmt::format(
                    "the other {} together carry",
                    grouped_number(found["of"].get<std::size_t>() - found["edges"].size()))),
            std::string::npos);
  EXPECT_EQ(page.text("#judged b"),
            fmt::format("{:.1f}%", 100 * found["circuit"]["faithfulness"].get<double>()));
  EXPECT_EQ(page.count("svg .node"), static_cast<int>(found["nodes"].size()) + 1)
      << "and the logits";
  EXPECT_EQ(page.count("svg .link"), static_cast<int>(found["edges"].size()));

  // A node: its edges, the strongest first.
  page.click("[data-node='a1.h2']");
  EXPECT_EQ(page.text("#details h3"), "a1.h2");
  json out;
  for (const json& edge : found["edges"]) {
    if (out.is_null() && edge["from"] == "a1.h2") out = edge;
  }
  EXPECT_EQ(page.text("#details [aria-label='edges out of it'] tbody td:nth-child(2)"), out["to"]);
  // An edge, pressed in the drawing: score and worth.
  click_link(page, "m5", "logits");
  EXPECT_EQ(page.text("#details h3"), "m5 → logits");
  const auto edge = std::find_if(found["edges"].begin(), found["edges"].end(), [](const json& e) {
    return e["from"] == "m5" && e["to"] == "logits";
  });
  EXPECT_EQ(page.text("#details dd:nth-of-type(3)"),
            fmt::format("+{:.3g}", edge->at("score").get<double>()));
  EXPECT_EQ(page.text("#details dd:nth-of-type(5)").substr(0, 5),
            fmt::format("+{:.3g}", edge->at("worth").get<double>()));
  EXPECT_EQ(page.text("tr.chosen td"), "m5") << "the table follows";
  // By keyboard: a row of the table, and arrow keys between nodes.
  page.eval("document.querySelector('[aria-label=\"the edges that are shown\"] tbody tr').focus()");
  page.press("Enter");
  EXPECT_EQ(page.text("#details h3"), found["edges"][0]["from"].get<std::string>() + " → " +
                                          found["edges"][0]["to"].get<std::string>());
  page.eval("document.querySelector(\"[data-node='input']\").focus()");
  page.press("ArrowUp");
  page.press("Enter");
  EXPECT_EQ(page.text("#details h3").substr(0, 4), "a0.h");
  click_title_and_expect_sound(page);
}

TEST_F(CircuitPage, TheSliderMovesAlongTheMeasuredCurve) {
  Page page = made_by(kTexas);
  const json curve = json_of(with(kTexas, {"--curve"}))["curves"][0];
  const double before =
      page.eval("+document.querySelector('#marker').getAttribute('cx')").get<double>();
  move_slider(page, "ArrowRight", 8);
  EXPECT_GT(page.eval("+document.querySelector('#marker').getAttribute('cx')").get<double>(),
            before);
  EXPECT_EQ(page.text("[aria-label=Show] [aria-pressed=true]"), "the strongest edges");
  // To the sizes that were measured: the edges that are left after pruning, and how faithful they are.
  for (const std::size_t k : {4U, 6U, 9U}) {
    const int size = curve["asked"][k];
    page.eval(
        fmt::format("[...document.querySelectorAll('.told .controls button')].find((b) => "
                    "b.textContent === ({}).toLocaleString('en')).click()",
                    size));
    page.wait_for(
        fmt::format("document.querySelector('output').textContent.startsWith('the {} strongest')",
                    grouped_number(static_cast<std::size_t>(size))));
    EXPECT_EQ(page.text("#left-out b"),
              fmt::format("{} of 1,108 edges shown;", grouped_number(curve["edges"][k])));
    EXPECT_EQ(page.text("#judged b"),
              fmt::format("{:.1f}%", 100 * curve["faithfulness"][k].get<double>()));
    EXPECT_EQ(page.count("svg .link"), curve["edges"][k]);
  }
  // At the end of the slider nothing is left out.
  EXPECT_NE(page.text("#left-out").find("the other 0."), std::string::npos);
  move_slider(page, "Home", 1);
  EXPECT_EQ(page.text("#left-out b"), "0 of 1,108 edges shown;");
  EXPECT_EQ(page.trouble(), "");
}

TEST_F(CircuitPage, TwoCircuitsLieOverEachOther) {
  const std::string other = folder / "other.json";
  Words exact = kTexas;
  exact.back() = "60";
  ASSERT_EQ(vitrine(with(exact, {"--by", "edges", "--direction", "noise", "--out", other})).exit,
            0);
  Page page = made_by(with(kTexas, {"--compare", other}));
  const json found = json_of(with(kTexas, {"--compare", other}));
  const json& compared = found["compared"][0];
  const int here = static_cast<int>(found["edges"].size()), both = compared["shared"],
            there = compared["edges"];
  ASSERT_GT(both, 0);
  ASSERT_GT(there, both);
  EXPECT_EQ(page.count("svg .link"), here + there - both);
  EXPECT_NE(page.text(".legend").find(fmt::format("in both: {}", both)), std::string::npos);
  EXPECT_NE(page.text(".legend").find(fmt::format("only in this circuit: {}", here - both)),
            std::string::npos);
  EXPECT_NE(page.text(".legend").find(fmt::format("only in other.json: {}", there - both)),
            std::string::npos);
  // Three lines, of three colours and three dashes.
  const auto kinds = [&](const char* of) {
    return page.eval(
        fmt::format("new Set([...document.querySelectorAll('svg .link path:first-child')].map((p) "
                    "=> p.getAttribute('{}') ?? '')).size",
                    of));
  };
  EXPECT_EQ(kinds("stroke"), here > both ? 3 : 2);
  EXPECT_EQ(kinds("stroke-dasharray"), here > both ? 3 : 2);
  page.click("[data-group=there]");
  EXPECT_EQ(page.count("svg .link"), here);
  page.click("[data-group=there]");
  // A file that does not share an edge says so.
  EXPECT_NE(page.text("[aria-label='other circuits'] tbody td:first-child").find("other.json"),
            std::string::npos);
  click_title_and_expect_sound(page);
}

TEST_F(CircuitPage, GroupsAreATable) {
  const std::string pairs = folder / "pairs.jsonl";
  std::ofstream(pairs)
      << R"({"clean": "The capital of Texas is", "corrupt": "The capital of California is", "answer": " Austin", "wrong": " Sacramento", "kind": "</td><b>one"}
{"clean": "The capital of Florida is", "corrupt": "The capital of Texas is", "answer": " Tallahassee", "wrong": " Austin", "kind": "two"}
)";
  const Words words = {"circuit", "--pairs", pairs,      "--group-by", "kind",
                       "--edges", "60",      "--random", "2"};
  Page page = made_by(words);
  const json groups = json_of(words)["groups"];
  EXPECT_EQ(page.count("[aria-label='the circuit in each kind'] tbody tr"), 2);
  for (int row = 1; row <= 2; ++row) {
    const std::string cell = fmt::format(
        "[aria-label='the circuit in each kind'] tbody tr:nth-child({}) td:nth-child(", row);
    EXPECT_EQ(page.text(cell + "1)"), groups[static_cast<std::size_t>(row - 1)]["name"]);
    EXPECT_EQ(
        page.text(cell + "5)"),
        fmt::format("{:.1f}%",
                    100 * groups[static_cast<std::size_t>(row - 1)]["faithfulness"].get<double>()));
  }
  page.click("summary");
  page.wait_for("document.querySelector('[aria-label=pairs] tbody td')");
  EXPECT_EQ(page.text("[aria-label=pairs] tbody td"), "The capital of Texas is");
  click_title_and_expect_sound(page);
}

TEST_F(CircuitPage, ACircuitWithoutScoresHasNoSlider) {
  const Words acdc = {kTexas.begin(), kTexas.end() - 2};
  Page page = made_by(with(acdc, {"--by", "acdc", "--threshold", "1.5"}));
  EXPECT_FALSE(page.has("input[type=range]"));
  EXPECT_GT(page.count("svg .link"), 0);
  EXPECT_NE(page.text("#left-out").find("carry the corrupt run"), std::string::npos);
  click_title_and_expect_sound(page);
}

TEST_F(CircuitPage, OfSharedKeysAndOfAnyPrompt) {
  // Key heads that two heads share: an edge into one goes on to both.
  Page shared = made_by({"circuit", "--model", (data() / "families/llama").string(),
                         "--clean-tokens", "5,9,11,3", "--corrupt-tokens", "5,8,11,3",
                         "--answer-token", "4", "--wrong-token", "7", "--edges", "120"});
  EXPECT_GT(shared.count("svg .link"), 0);
  EXPECT_EQ(shared.trouble(), "");
  Page page = made_by({"circuit", "--clean", kOddPrompt, "--corrupt",
                       "</script><b>'\"&amp; 🙂 漢字 is <!-- the city", "--answer", " of",
                       "--wrong", " in", "--edges", "60"});
  const json tokens = vitrine({"tokenize", "--prompt", kOddPrompt, "--format", "json"}).json();
  std::string texts;  // a character that is several tokens has none of its own
  for (const json& text : tokens["str_tokens"]) texts += text.get<std::string>();
  EXPECT_EQ(
      page.eval(
          "[...document.querySelectorAll('.tokens .token')].map((t) => t.textContent).join('')"),
      texts);
  click_title_and_expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

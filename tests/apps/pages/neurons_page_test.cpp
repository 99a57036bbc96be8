// The pages of `neurons`: on a prompt, and over a text.
#include <set>

#include "tensor/files/file.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using NeuronsPage = PageTest;

json as_json(std::vector<std::string> words) {
  words.insert(words.end(), {"--format", "json"});
  return vitrine(words).json();
}

TEST_F(NeuronsPage, OnAPromptShowsTheStrongestAndWhatTheyWrite) {
  const std::vector<std::string> words = {"neurons",    "--prompt", "The capital of Texas is",
                                          "--answer",   " Austin",  "--wrong",
                                          " Sacramento"};
  Page page = made_by(words);
  const json data = as_json(words);
  EXPECT_EQ(page.count("tbody tr"), static_cast<int>(data["neurons"].size()));
  EXPECT_EQ(page.text("main > p .token"), " Austin");
  for (const int i : {0, 3}) {
    const json& n = data["neurons"][static_cast<std::size_t>(i)];
    page.click("tbody tr:nth-child(" + std::to_string(i + 1) + ")");
    EXPECT_EQ(page.text("section h2"),
              "Layer " + n["layer"].dump() + ", neuron " + n["neuron"].dump());
    EXPECT_EQ(page.eval("document.querySelector('section .bars > span').textContent"),
              n["raised"][0]["token"]);
  }
  // By activation, the largest first.
  page.click("thead th:nth-child(3) button");
  const json& most = *std::max_element(
      data["neurons"].begin(), data["neurons"].end(),
      [](const json& a, const json& b) { return a["activation"] < b["activation"]; });
  EXPECT_EQ(page.text("tbody tr td:nth-child(2)"), most["neuron"].dump());
  expect_sound(page);
}

TEST_F(NeuronsPage, AnyPromptIsText) {
  Page page = made_by({"neurons", "--prompt", kOddPrompt});
  EXPECT_EQ(page.count("main b b"), 0);
  EXPECT_NE(
      page.eval("document.querySelector('.tokens').textContent").get<std::string>().find("script"),
      std::string::npos);
  expect_sound(page);
}

TEST_F(NeuronsPage, OverATextShowsContextsSideBySide) {
  std::string text;
  for (const char* place : {"Texas", "France", "Ohio", "Japan", "Utah", "Italy"})
    text += "The capital of " + std::string(place) + " is " + kOddPrompt +
            "\nThen Mary and John went to the shop in " + place + ".\n";
  write_text(folder / "text.txt", text);
  const std::vector<std::string> words = {
      "neurons", "--corpus", folder / "text.txt", "--layer", "2", "--sort", "mixed"};
  Page page = made_by(words);
  const json all = as_json(words)["neurons"];
  EXPECT_EQ(page.count("tbody tr"), 100);
  const auto neuron = [&](const std::string& name) -> const json& {  // "2.17"
    return all[static_cast<std::size_t>(std::stoi(name.substr(2)))];
  };
  const auto tokens_at_peaks = [](const json& n) {
    std::set<std::string> tokens;
    for (const json& c : n["contexts"])
      tokens.insert(c["tokens"][c["peak"].get<std::size_t>()].dump());
    return tokens.size();
  };
  // The one with the most different tokens at its peaks comes first.
  const std::string first = page.text("tbody tr td");
  EXPECT_EQ(page.eval("document.querySelector('.side .panel').dataset.neuron"), first);
  EXPECT_NE(page.text(".panel p b").find(std::to_string(tokens_at_peaks(neuron(first)))),
            std::string::npos);
  for (const json& n : all) EXPECT_LE(tokens_at_peaks(n), tokens_at_peaks(neuron(first)));
  EXPECT_EQ(page.count(".panel .context"), static_cast<int>(neuron(first)["contexts"].size()));
  EXPECT_EQ(page.eval("document.querySelector('.context .token.peak').textContent"),
            neuron(first)["contexts"][0]["str_tokens"]
                         [neuron(first)["contexts"][0]["peak"].get<std::size_t>()]);
  // It is kept, two others are put beside it; the last one changes with the choice.
  page.click(".panel button");
  page.click("tbody tr:nth-child(2)");
  EXPECT_EQ(page.count(".panel"), 2);
  page.click(".panel:nth-child(2) button");
  page.click("tbody tr:nth-child(3)");
  EXPECT_EQ(page.count(".panel"), 3);
  page.click("tbody tr:nth-child(4)");
  EXPECT_EQ(page.count(".panel"), 3);
  EXPECT_EQ(page.eval("document.querySelector('.panel:nth-child(3)').dataset.neuron"),
            page.text("tbody tr:nth-child(4) td"));
  EXPECT_EQ(page.eval("document.querySelector('.panel').dataset.neuron"), first);
  page.click(".panel button");  // let go
  EXPECT_EQ(page.count(".panel"), 2);
  expect_sound(page);
  // One that is asked for comes first.
  Page one = made_by({"neurons", "--corpus", folder / "text.txt", "--layer", "2", "--neuron", "7"});
  EXPECT_EQ(one.text(".panel h2"), "Layer 2, neuron 7");
}

}  // namespace
}  // namespace vitrine::test

// The page of `decompose`.
#include <map>

#include "tests/apps/pages/cells.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using DecomposePage = PageTest;
using Words = std::vector<std::string>;

const Words kQuestion = {"decompose",  "--prompt", "The capital of Texas is",
                         "--answer",   " Austin",  "--wrong",
                         " Sacramento"};

nlohmann::json json_of(Words words) {
  words.insert(words.end(), {"--format", "json"});
  return vitrine(words).json();
}

// A number as the page writes it with its sign; "−1.5", "1,500" are read back.
double number_in(std::string text) {
  for (std::size_t at; (at = text.find("−")) != std::string::npos;)
    text.replace(at, std::string("−").size(), "-");
  return std::stod(text);
}

// The bars: names and values.
std::vector<std::pair<std::string, double>> bars(Page& page) {
  const auto read =
      page.eval("[...document.querySelector('.tree .bars').children].map((e) => e.textContent)");
  std::vector<std::pair<std::string, double>> all;
  for (std::size_t i = 0; i < read.size(); i += 3)
    all.emplace_back(read[i], number_in(read[i + 2]));
  return all;
}

double value_of(Page& page, const std::string& name) {
  for (const auto& [one, value] : bars(page))
    if (one == name) return value;
  ADD_FAILURE() << "there is no bar " << name;
  return 0;
}

void press(Page& page, const std::string& name) {
  page.eval("[...document.querySelectorAll('.tree button')].find((b) => b.textContent === '" +
            name + "').id = 'wanted'");
  page.click("#wanted");
}

TEST_F(DecomposePage, OpensLayersAndMlpsAndClosesToTheLogit) {
  Page page = made_by(kQuestion);
  const auto json = json_of(kQuestion);
  EXPECT_EQ(page.text("h1"), "Which parts wrote the logit");
  EXPECT_NE(page.text(".sum").find("12.07486, logit 12.07486: they agree"), std::string::npos)
      << page.text(".sum");
  std::map<std::string, double> layers;
  double logit = 0;
  for (const auto& c : json["components"]) {
    if (!c["layer"].is_null())
      layers["layer " + std::to_string(c["layer"].get<int>())] += c["value"].get<double>();
    logit += c["value"].get<double>();
  }
  ASSERT_EQ(layers.size(), 6);
  for (const auto& [name, value] : layers)
    EXPECT_NEAR(value_of(page, name), value, 0.005 * std::abs(value));
  EXPECT_NEAR(value_of(page, "sum"), logit, 0.05);

  // A layer opens into heads, bias and MLP, which add up to it.
  const auto before = bars(page).size();
  press(page, "layer 5");
  EXPECT_EQ(bars(page).size(), before + 6);
  for (const auto& c : json["components"]) {
    if (c["layer"] != 5) continue;
    const double value = c["value"];
    EXPECT_NEAR(value_of(page, c["name"]), value, 0.005 * std::abs(value));
  }
  EXPECT_EQ(page.eval("document.activeElement.textContent"), "layer 5") << "the focus stays";
  // The MLP opens into its strongest neurons, all others, and its bias, which add up to it.
  press(page, "5_mlp_out");
  EXPECT_EQ(bars(page).size(), before + 6 + 12);
  const double mlp = value_of(page, "5_mlp_out"), bias = value_of(page, "5_mlp_b_out"),
               others = value_of(page, "the other 1,014 neurons");
  EXPECT_NEAR(bias, json["layers"][5]["mlp_b_out"].get<double>(), 0.001);
  double sum = bias + others, largest = 0;
  for (const auto& [name, value] : bars(page)) {
    if (name.find("L5N") != 0) continue;
    sum += value;
    largest = std::max(largest, std::abs(value));
  }
  EXPECT_NEAR(sum, mlp, 0.02);
  const auto neurons = json_of([] {
    Words w = kQuestion;
    w.insert(w.end(), {"--layer", "5", "--top", "1"});
    return w;
  }())["neurons"];
  EXPECT_NEAR(largest, std::abs(neurons[0]["value"].get<double>()), 0.001);

  page.hover(".tree .bar:nth-of-type(2)");
  EXPECT_NE(page.tip().find("of 12.1"), std::string::npos) << page.tip();
  // By keyboard: closed again.
  page.eval("document.querySelector('#wanted, .tree button[aria-expanded=true]').focus()");
  press(page, "layer 5");
  EXPECT_EQ(bars(page).size(), before);
  // By size, the largest first.
  page.click("[aria-label=Ordered] button:last-of-type");
  EXPECT_EQ(bars(page)[0].first, "layer 1");
  page.click("[aria-label='Drawn as'] button:last-of-type");
  EXPECT_EQ(bars(page)[0].first, "layer 1");
  expect_sound(page);
}

TEST_F(DecomposePage, ShowsWritersAndReadersOfTheStream) {
  Words words = kQuestion;
  words.push_back("--stream");
  Page page = made_by(words);
  const auto stream = json_of(words)["stream"];
  const Cells cells{".stream .heatmap canvas", static_cast<int>(stream["writers"].size()),
                    static_cast<int>(stream["readers"].size())};
  cells.click(page, 0, 1);  // the embedding, read by the second reader
  const std::string said = page.text(".stream p[aria-live]");
  char share[32];
  std::snprintf(share, sizeof(share), "%.1f%%", 100 * stream["share"][0][1].get<double>());
  EXPECT_NE(said.find(share), std::string::npos) << said;
  EXPECT_NE(said.find(stream["readers"][1].get<std::string>()), std::string::npos) << said;
  EXPECT_NE(said.find("written by embed"), std::string::npos) << said;
  EXPECT_EQ(page.count(".stream svg circle"), 7);
  expect_sound(page);
}

TEST_F(DecomposePage, AnyPromptIsText) {
  Page page = made_by({"decompose", "--prompt", kOddPrompt, "--answer", " the"});
  EXPECT_EQ(
      page.eval("[...document.querySelectorAll('.token')].map((t) => t.textContent).join('')"),
      shown_tokens(kOddPrompt));
  EXPECT_EQ(page.count("main b b"), 0);
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

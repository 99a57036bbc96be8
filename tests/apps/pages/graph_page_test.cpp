// The page of `graph`.
#include "tensor/files/file.h"
#include "tests/apps/pages/page_test.h"
#include "tests/apps/words.h"
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

// Makes, names and edits supernodes as a person would, and saves the graph with them.
TEST_F(GraphPage, SupernodesAreMadeAndSaved) {
  const Words made = {"graph",
                      "--model",
                      tiny_model().string(),
                      "--transcoders",
                      (data() / "transcoders/cross-layer").string(),
                      "--tokens",
                      "5,17,33,64,2,88,9,17",
                      "--top",
                      "5",
                      "--supernode",
                      "early=0_7_7,0_17_7"};
  Page page = made_by(made);
  // What download() was given, in the place of a file.
  page.eval("globalThis.saved = null; download = (name, text) => { saved = {name, text}; }");
  const int drawn = page.count("svg .node");
  EXPECT_EQ(page.count("svg .node[aria-label='Supernode early']"), 1);
  EXPECT_EQ(page.count("svg .node[data-node='0_7_7']"), 0);
  EXPECT_NE(page.text("#supernodes").find("with attention held"), std::string::npos);
  // Another one: two nodes are picked and get a name.
  page.click("#pick");
  page.click("svg .node[data-node='2_59_7']");
  page.click("svg .node[data-node='1_57_7']");
  EXPECT_NE(page.text("#picked").find("Feature 57 of layer 1"), std::string::npos);
  page.eval(
      "(() => { const i = document.getElementById('supernode-name'); i.value = 'early'; "
      "i.dispatchEvent(new Event('input')); })()");
  page.click("#make");
  EXPECT_NE(page.text("#supernodes [role=alert]").find("already"), std::string::npos);
  page.eval(
      "(() => { const i = document.getElementById('supernode-name'); i.value = '<late>'; "
      "i.dispatchEvent(new Event('input')); })()");
  page.click("#make");
  EXPECT_EQ(page.count("svg .node"), drawn - 1);
  // Its edges are the sums of its nodes' edges.
  page.click("svg .node[aria-label='Supernode <late>']");
  EXPECT_EQ(page.text("#details h2"), "Supernode <late>");
  EXPECT_NE(page.text("#details").find("Supernode early"), std::string::npos);
  page.click("#save");
  const std::string file = folder / "saved.json";
  write_text(file, page.eval("saved.text").get<std::string>());
  const nlohmann::json saved = nlohmann::json::parse(read_text(file));
  EXPECT_EQ(
      saved["qParams"]["supernodes"],
      nlohmann::json::parse(R"([["early", "0_7_7", "0_17_7"], ["<late>", "2_59_7", "1_57_7"]])"));
  // What was saved is what the program writes, and it reads it.
  Words words = made;
  for (const char* word : {"--format", "json", "--supernode", "<late>=2_59_7,1_57_7"})
    words.push_back(word);
  const nlohmann::json written = vitrine(words).json();
  for (const char* field : {"metadata", "qParams", "nodes", "links", "counts", "logits"})
    EXPECT_EQ(saved[field], written[field]) << field;
  const nlohmann::json read = vitrine({"graph", "--read", file, "--format", "json"}).json();
  EXPECT_EQ(read["nodes"], written["nodes"]);
  EXPECT_EQ(read["merged"], written["merged"]);
  // Nodes are taken out, and a supernode without nodes is none.
  page.click("#supernodes .supernode:last-of-type .token button");
  page.click("#supernodes .supernode:last-of-type .token button");
  EXPECT_EQ(page.count("#supernodes .supernode"), 1);
  EXPECT_EQ(page.count("svg .node"), drawn);
  EXPECT_EQ(page.trouble(), "");
  Page again = made_by({"graph", "--read", file});
  EXPECT_EQ(again.count("#supernodes .supernode"), 2);
  EXPECT_EQ(again.trouble(), "");
  expect_sound(again);
}

// Where a feature is strongest in a text stands beside its node.
TEST_F(GraphPage, ContextsOfFeaturesStandBesideThem) {
  const std::string file = folder / "features.json";
  write_text(file, R"({"site": "blocks.2.ln2.hook_normalized", "features": [
    {"feature": 59, "contexts": [{"line": 3, "pos": 6, "activation": 2.5, "tokens": [5, 17, 33],
                                  "str_tokens": ["a", " <b>", " c"], "peak": 1}]},
    {"feature": 58, "contexts": []}]})");
  const Words words = {"graph",
                       "--model",
                       tiny_model().string(),
                       "--transcoders",
                       (data() / "transcoders/cross-layer").string(),
                       "--tokens",
                       "5,17,33,64,2,88,9,17",
                       "--top",
                       "5",
                       "--features",
                       file};
  Page page = made_by(words);
  page.click("svg .node[data-node='2_59_7']");
  EXPECT_NE(page.text("#contexts").find("<b>"), std::string::npos);
  EXPECT_NE(page.text("#contexts").find("line 3, token 6"), std::string::npos);
  page.click("svg .node[data-node='1_57_7']");
  EXPECT_EQ(page.count("#contexts"), 0);
  EXPECT_EQ(page.trouble(), "");
  EXPECT_EQ(vitrine(words).exit, 2);  // without a page
  write_text(file, R"({"site": "hook_embed", "features": []})");
  const Outcome wrong = vitrine(words + Words{"--html", folder / "x.html"});
  EXPECT_EQ(wrong.exit, 3);
  EXPECT_NE(wrong.err.find("site of a layer"), std::string::npos) << wrong.err;
}

TEST_F(GraphPage, ScoresOfAttentionAreShownAsPairs) {
  Page page = made_by({"graph", "--model", tiny_model().string(), "--transcoders",
                       (data() / "transcoders/cross-layer").string(), "--tokens",
                       "5,17,33,64,2,88,9,17", "--top", "5", "--explain-edge", "E_64_3,2_59_7",
                       "--explain-attention", "1.2:7:4", "--heads", "2"});
  EXPECT_NE(page.text("#attention h3").find("Token 3 64"), std::string::npos);
  EXPECT_NE(page.text("#score").find("Head 1.2 from 7 17 to 4 2 has the score"), std::string::npos);
  const std::string before = page.text("#score p");
  // The first head of the edge is explained, too: a click on its row shows it.
  page.click("#attention tbody tr");
  EXPECT_NE(page.text("#score p"), before);
  // A part that is a node of the graph is chosen there.
  page.eval(
      "[...document.querySelectorAll('#score tbody tr')].find((row) => "
      "row.textContent.startsWith('token')).click()");
  EXPECT_EQ(page.text("#details h2").substr(0, 5), "Token");
  EXPECT_EQ(page.trouble(), "");
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

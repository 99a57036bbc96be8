// The pages of `sae features`.
#include <algorithm>
#include <sstream>

#include "tensor/files/file.h"
#include "tests/apps/pages/page_test.h"

namespace vitrine::test {
namespace {

using nlohmann::json;

class FeaturesPage : public PageTest {
 protected:
  // Lines of the text that came with the SAEs, and one that is markup.
  std::string corpus(int count) const {
    std::istringstream all(read_text(default_model() / "sae" / "sentences.txt"));
    std::string text = kOddPrompt + "\n", line;
    for (int i = 0; i < count && std::getline(all, line); ++i) text += line + "\n";
    write_text(folder / "text.txt", text);
    return folder / "text.txt";
  }
  static std::vector<std::string> of_sae(std::vector<std::string> more) {
    more.insert(more.begin(), {"sae", "features", "--sae", "blocks.4.hook_mlp_out"});
    return more;
  }
  static json as_json(std::vector<std::string> words) {
    words.insert(words.end(), {"--format", "json"});
    return vitrine(words).json();
  }
  // The feature that is shown, once it is.
  static void wait_for_feature(Page& page, std::int64_t feature, const std::string& name = "") {
    page.wait_for("document.querySelector('.detail h2')?.textContent === 'Feature " +
                  std::to_string(feature) + name + "'");
  }
  static double shown_number(Page& page, const std::string& selector) {
    return std::stod(page.text(selector));
  }
};

TEST_F(FeaturesPage, ShowsWhatEachFeatureIsActiveAtAndWrites) {
  const auto words =
      of_sae({"--corpus", corpus(60), "--steer", "The capital of Texas is", "--previews", "3"});
  Page page = made_by(words);
  const json all = as_json(of_sae({"--corpus", corpus(60)}))["features"];
  const json& first = all[0];
  wait_for_feature(page, first["feature"]);
  EXPECT_EQ(page.text("tr.chosen td"), first["feature"].dump());

  // Contexts: as many, as strong, the peak marked, in the text's own tokens.
  EXPECT_EQ(page.eval("document.querySelector('.contexts').children.length"),
            static_cast<int>(first["contexts"].size()));
  const json& context = first["contexts"][0];
  EXPECT_NEAR(shown_number(page, ".context .number"), context["activation"].get<double>(),
              0.05 * context["activation"].get<double>());
  EXPECT_EQ(page.eval("document.querySelector('.context .token.peak').textContent"),
            context["str_tokens"][context["peak"].get<std::size_t>()]);
  std::string text;
  for (const auto& token : context["str_tokens"]) text += token.get<std::string>();
  EXPECT_EQ(
      page.eval("[...document.querySelectorAll('.context:first-child .tokens')][0].textContent"),
      text);
  page.hover(".context .token.peak");
  EXPECT_NE(page.tip().find(page.text(".context .number")), std::string::npos) << page.tip();
  // The tokens it raises most, by as much.
  EXPECT_EQ(page.text(".detail .bars [role=list] , .detail .bars > span"),
            first["raised"][0]["token"].get<std::string>());
  EXPECT_NEAR(std::stod(page.text(".detail .bars .number").substr(1)),
              first["raised"][0]["value"].get<double>(), 0.006);
  // The histogram says how many tokens it stands for; its bars add up to them.
  const auto fired = static_cast<std::int64_t>(
      std::llround(first["density"].get<double>() *
                   as_json(of_sae({"--corpus", corpus(60)}))["tokens"].get<double>()));
  EXPECT_NE(page.eval("document.querySelector('.detail svg').textContent")
                .get<std::string>()
                .find("at " + std::to_string(fired) + " tokens"),
            std::string::npos);
  page.hover(".detail svg rect[fill=transparent]");
  EXPECT_NE(page.tip().find("tokens"), std::string::npos);

  // Colours go with the theme.
  const std::string ground =
      "getComputedStyle(document.querySelector('.context .token.peak')).backgroundColor";
  const json light = page.eval(ground);
  page.click("header [aria-label='light or dark']");
  EXPECT_NE(page.eval(ground), light);
  page.click("header [aria-label='light or dark']");
  EXPECT_EQ(page.eval(ground), light);
  // Steering: a row for the plain run and for each strength, of the features that have one.
  EXPECT_EQ(page.count(".steered tr"), 5);
  const json plain =
      vitrine({"predict", "--prompt", "The capital of Texas is", "--format", "json"}).json();
  EXPECT_EQ(page.eval("document.querySelector('.steered .token').textContent"),
            plain["top"][0]["token"]);
  page.click(".long tbody tr:nth-child(6)");
  wait_for_feature(page, all[4]["feature"]);
  EXPECT_FALSE(page.has(".steered"));
  // The nearest features lead on.
  const std::string near = page.text("[aria-label='nearest features'] button");
  page.click("[aria-label='nearest features'] button");
  wait_for_feature(page, std::stoll(near));
  expect_sound(page, 3'000'000);
}

TEST_F(FeaturesPage, SearchesAndSorts) {
  Page page = made_by(of_sae({"--corpus", corpus(60)}));
  const json all = as_json(of_sae({"--corpus", corpus(60)}))["features"];
  wait_for_feature(page, all[0]["feature"]);
  const auto search = [&](const std::string& text, const std::string& kind) {
    page.eval("document.querySelector('select').value = '" + kind +
              "', document.querySelector('select').dispatchEvent(new Event('change'))");
    page.eval("document.querySelector('input').focus(), document.querySelector('input').select()");
    page.type(text);
    page.wait_for("document.querySelector('[aria-live]').textContent.endsWith('“" + text + "”')");
    return std::stoi(page.text("section p[aria-live]"));
  };
  // As many as the JSON has.
  int raising = 0, active = 0;
  for (const json& f : all) {
    const auto is_in = [&](const json& tokens) {
      return std::any_of(tokens.begin(), tokens.end(), [](const json& t) {
        return t["token"].get<std::string>().find("Austin") != std::string::npos;
      });
    };
    raising += is_in(f["raised"]);
    active += std::any_of(f["contexts"].begin(), f["contexts"].end(), [](const json& c) {
      return c["str_tokens"][c["peak"].get<std::size_t>()].get<std::string>().find("capital") !=
             std::string::npos;
    });
  }
  // Of those that never fired here, some raise it, too.
  EXPECT_GE(search("austin", "raises"), raising);
  EXPECT_GE(search("capital", "active at"), active);
  EXPECT_GT(active, 0);
  EXPECT_LT(search("capital", "active at"), static_cast<int>(all.size()));
  EXPECT_EQ(search("279", "anything"), 1);
  EXPECT_EQ(page.text("tbody tr td"), "279");
  EXPECT_EQ(search("no such token", "anything"), 0);
  page.eval(
      "document.querySelector('input').value = '', "
      "document.querySelector('input').dispatchEvent(new Event('input'))");
  page.wait_for(
      "document.querySelector('section p[aria-live]').textContent.startsWith('2,048 of')");
  // The densest first, then the least dense.
  page.click("thead th:nth-child(2) button");
  const json& densest = *std::max_element(all.begin(), all.end(), [](const json& a, const json& b) {
    return a["density"] < b["density"];
  });
  EXPECT_EQ(page.text(".long tbody tr:nth-child(2) td"), densest["feature"].dump());
  page.click("thead th:nth-child(2) button");
  EXPECT_EQ(page.text(".long tbody tr:nth-child(2) td:nth-child(2)"), "0%");
  // Arrow keys choose.
  page.eval("document.querySelector('.long').focus()");
  page.press("Home");
  page.press("ArrowDown");
  const std::string third = page.text(".long tbody tr:nth-child(3) td");
  wait_for_feature(page, std::stoll(third));
}

TEST_F(FeaturesPage, HasTheNamesThatItIsGiven) {
  write_text(folder / "names.json", R"({"279": "state <b>capitals", "3": "another"})");
  Page page = made_by(of_sae({"--feature", "3,279,4", "--names", folder / "names.json"}));
  wait_for_feature(page, 3, " “another”");
  EXPECT_EQ(page.count("tbody tr"), 3);
  EXPECT_EQ(page.text("tbody tr:nth-child(2) td:nth-child(3)"), "state <b>capitals");
  page.eval("document.querySelector('input').focus()");
  page.type("CAPITALS");
  page.wait_for("document.querySelectorAll('tbody tr').length === 1");
  page.click("tbody tr");
  wait_for_feature(page, 279, " “state <b>capitals”");
  write_text(folder / "names.json", R"({"2048": "there is none"})");
  const Outcome o =
      vitrine(of_sae({"--feature", "3", "--html", file(), "--names", folder / "names.json"}));
  EXPECT_EQ(o.exit, 3);
  EXPECT_NE(o.err.find("2048"), std::string::npos) << o.err;
}

// Of the SAE and the text that came with the default model.
TEST_F(FeaturesPage, IsSmall) {
  Page page = made_by(of_sae({"--corpus", default_model() / "sae" / "sentences.txt"}));
  EXPECT_LE(std::filesystem::file_size(file()), 3'000'000U);
  EXPECT_LT(page.first_paint(), 1000);
  EXPECT_EQ(page.trouble(), "");
}

// A list of 24,576 features, and a file for each block of them beside the page.
TEST_F(FeaturesPage, ManyFeaturesScrollSmoothly) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "{\"tokens\": [" + std::to_string(i) + ", 3, 1, 4, " + std::to_string(i + 40) +
            ", 5, 9, 2, 6]}\n";
  write_text(folder / "text.jsonl", text);
  const std::string model = tiny_model(), sae = folder / "sae",
                    out = folder.path().string() + "/page/";
  const Outcome trained = vitrine({"sae",        "train",
                                   "--model",    model,
                                   "--site",     "blocks.1.hook_mlp_out",
                                   "--data",     folder / "text.jsonl",
                                   "--features", "24576",
                                   "--k",        "32",
                                   "--batch",    "64",
                                   "--buffer",   "128",
                                   "--vectors",  "128",
                                   "--quiet",    "--out",
                                   sae});
  ASSERT_EQ(trained.exit, 0) << trained.err;
  const std::vector<std::string> words = {"sae",    "features", "--model",  model,
                                          "--sae",  sae,        "--corpus", folder / "text.jsonl",
                                          "--html", out,        "--quiet"};
  const Outcome made = vitrine(words);
  ASSERT_EQ(made.exit, 0) << made.err;
  Page page = browser->open(std::filesystem::path(out) / "index.html");
  page.wait_for("document.querySelector('.detail h2')");
  EXPECT_LT(page.first_paint(), 1000);
  EXPECT_EQ(page.text("section p[aria-live]"), "24,576 of 24,576 features");
  EXPECT_EQ(page.count("head script[src]"), 2) << "a block and the words, no more";
  const json times = page.eval(R"((async () => {
    const box = document.querySelector('.long'), times = [], frame = () => new Promise(requestAnimationFrame);
    await frame();
    for (let k = 0; k < 150; ++k) {
      const begin = await frame();
      box.scrollTop += k < 100 ? 90 : 14000;  // as a wheel does, then as who drags the bar
      times.push(await frame() - begin);
    }
    return times.sort((a, b) => a - b);
  })())");
  const double median = times[75], late = times[142], worst = times[149];
  RecordProperty("frames", fmt::format("median {:.1f} ms, 95 % {:.1f} ms, worst {:.1f} ms", median,
                                       late, worst));
  fmt::print(
      "frames while scrolling: median {:.1f} ms, 95 % {:.1f} ms, worst {:.1f} ms; first paint "
      "{:.0f} ms\n",
      median, late, worst, page.first_paint());
  EXPECT_LT(median, 40);
  EXPECT_LT(late, 100);
  EXPECT_LT(page.count(".long tbody tr"), 120);
  EXPECT_GT(page.eval("document.querySelector('.long').scrollTop").get<double>(), 600'000);
  // A row far down is one to choose from: its block is read now.
  page.eval("document.querySelector('.long').focus()");
  page.press("End");
  wait_for_feature(page, std::stoll(page.text("tr.chosen td")));
  EXPECT_EQ(page.text(".long tbody tr:nth-last-child(2) td"), page.text("tr.chosen td"));
  // Nothing but its own files was asked for.
  std::istringstream trouble(page.trouble());
  for (std::string line; std::getline(trouble, line);)
    EXPECT_TRUE(line.starts_with("a request: file://" + out + "vitrine-")) << line;
}

TEST_F(FeaturesPage, AFolderOfOtherThingsIsLeftAlone) {
  std::filesystem::create_directory(folder / "mine");
  write_text(folder / "mine" / "notes.txt", "mine");
  const auto words = of_sae({"--feature", "3,4", "--html", (folder / "mine").string() + "/"});
  const Outcome o = vitrine(words);
  EXPECT_EQ(o.exit, 3);
  EXPECT_NE(o.err.find("notes.txt"), std::string::npos) << o.err;
  EXPECT_EQ(vitrine(of_sae({"--prompt", "a", "--steer", "b"})).exit, 2);
  // An empty one is filled, and a page may be made again.
  std::filesystem::remove(folder / "mine" / "notes.txt");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(vitrine(words).exit, 0);
  Page page = browser->open(folder / "mine" / "index.html");
  page.wait_for("document.querySelector('.detail h2')?.textContent === 'Feature 3'");
  EXPECT_EQ(page.count("tbody tr .name"), 2);
}

TEST_F(FeaturesPage, OfAPromptShowsWhatIsActiveAtEachToken) {
  const auto words = of_sae({"--prompt", kOddPrompt});
  Page page = made_by(words);
  const json data = as_json(words);
  const auto at = [&](int position) {
    std::vector<json> here;
    for (const json& a : data["active"])
      if (a["position"] == position) here.push_back(a);
    return here;
  };
  for (const int position : {2, 5}) {
    page.hover(".token[data-position='" + std::to_string(position) + "']");
    EXPECT_NE(
        page.text("main > h2").find(": " + std::to_string(at(position).size()) + " active feature"),
        std::string::npos);
    EXPECT_EQ(page.text("tbody td"), at(position)[0]["feature"].dump());
  }
  page.click(".token[data-position='5']");
  page.hover("h1");
  page.click("tbody tr");
  const json strongest = at(5)[0];
  EXPECT_EQ(page.text("section h2"), "Feature " + strongest["feature"].dump());
  EXPECT_EQ(page.eval("document.querySelector('section .bars > span').textContent"),
            strongest["raised"][0]["token"]);
  EXPECT_EQ(page.count("section p > b"),
            static_cast<int>(std::count_if(
                data["active"].begin(), data["active"].end(),
                [&](const json& a) { return a["feature"] == strongest["feature"]; })));
  page.press("Tab");
  EXPECT_EQ(page.count("main b b"), 0);
  expect_sound(page);
}

}  // namespace
}  // namespace vitrine::test

// The page of `info`.
#include <fmt/format.h>

#include <set>

#include "tests/apps/pages/page_test.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using nlohmann::json;

class InfoPage : public PageTest {
 protected:
  // Tab goes on from where the last press was: from the top.
  void click_title_and_expect_sound(Page& page) {
    page.click("h1");
    expect_sound(page);
  }
  Page page_of(const std::string& model) {
    return model == default_model() ? made_by({"info"}) : made_by({"info", "--model", model});
  }
  static std::string formula(Page& page, const std::string& site) {
    page.click(fmt::format("[data-node='{}']", site));
    return page.text("#formula");
  }
  // Every site of a layer that `info --sites` lists is in the drawing, and no other.
  static void expect_all_sites(Page& page, const std::string& model, int layer) {
    const json names =
        vitrine({"info", "--model", model, "--sites", "--format", "json"}).json()["sites"];
    std::set<std::string> listed, drawn;
    for (const json& name : names) {
      std::string text = name;
      const std::string own = fmt::format("blocks.{}.", layer);
      if (text.starts_with("blocks.") && !text.starts_with(own)) continue;
      if (text.starts_with(own)) text = "blocks.L." + text.substr(own.size());
      listed.insert(text);
    }
    for (const json& id :
         page.eval("[...document.querySelectorAll('.node')].map((n) => n.dataset.node)")) {
      const std::string text = id;
      if (text != "above" && text != "below" && !text.starts_with("input ")) drawn.insert(text);
    }
    EXPECT_EQ(drawn, listed) << model;
  }
};

TEST_F(InfoPage, EverySiteSaysWhatItIsAndHowToGetIt) {
  Page page = page_of(default_model().string());
  const json info =
      vitrine({"info", "--model", default_model().string(), "--format", "json"}).json();
  expect_all_sites(page, default_model().string(), 0);
  page.click("[data-node='blocks.L.attn.hook_pattern']");
  EXPECT_EQ(page.text("#details h3"), "blocks.0.attn.hook_pattern");
  EXPECT_EQ(page.text("#details dd"), "batch 1 × head 4 × query 10 × key 10");
  EXPECT_EQ(page.text("#formula"), "pattern = softmax(attn_scores)");
  EXPECT_NE(page.text("#details pre").find("sites(\"blocks.0.attn.hook_pattern\")"),
            std::string::npos);
  // The command does what it says, in any layer.
  page.eval("(() => { const s = document.querySelector('select'); s.focus(); })()");
  page.press("ArrowDown");
  page.press("ArrowDown");
  page.wait_for("document.querySelector('#details h3').innerText === 'blocks.2.attn.hook_pattern'");
  const std::string command = page.text("#command");
  EXPECT_NE(command.find("--sites blocks.2.attn.hook_pattern"), std::string::npos);
  const Outcome cached = shell(command + " --format json", {.folder = folder.path()});
  EXPECT_EQ(cached.exit, 0) << cached.err;
  const json tensors = cached.json()["tensors"];
  const auto site = std::find_if(tensors.begin(), tensors.end(), [](const json& t) {
    return t["name"] == "blocks.2.attn.hook_pattern";
  });
  EXPECT_NE(site, tensors.end());
  // Along the drawing by keyboard, and to a site that this one is made of.
  page.eval("document.querySelector(\"[data-node='blocks.L.attn.hook_pattern']\").focus()");
  page.press("ArrowUp");
  page.press("Enter");
  EXPECT_EQ(page.text("#details h3"), "blocks.2.attn.hook_z");
  page.click("#details .controls button");
  EXPECT_EQ(page.text("#details h3"), "blocks.2.attn.hook_pattern");
  // The block above.
  page.click("[data-node=above]");
  EXPECT_EQ(page.text("#details h3"), "blocks.3.attn.hook_pattern");
  EXPECT_EQ(page.eval("document.querySelector('select').selectedIndex"), 3);
  expect_all_sites(page, default_model().string(), 3);
  click_title_and_expect_sound(page);
}

TEST_F(InfoPage, PartsAddUpToTheWhole) {
  Page page = page_of(default_model().string());
  const json info =
      vitrine({"info", "--model", default_model().string(), "--format", "json"}).json();
  const json sums = page.eval(R"((() => {
    const data = JSON.parse(document.getElementById("data").textContent), sum = (field) => data.parts.reduce((s, p) => s + p[field], 0);
    return {parameters: sum("parameters"), bytes: sum("bytes"), flops: sum("flops")};
  })())");
  EXPECT_EQ(sums["parameters"], info["parameters"]["count"]);
  EXPECT_EQ(sums["bytes"], info["parameters"]["bytes"]);
  // A plan may add a step of a few to what the graph says.
  const double flops = info["forward"]["flops"];
  EXPECT_NEAR(sums["flops"].get<double>(), flops, 1e-5 * flops);
  EXPECT_NE(page.text("[aria-label=Parameters]").find("embedding"), std::string::npos);
}

// What is drawn is read off each family's graph.
TEST_F(InfoPage, FamiliesAreDrawnAsTheyAre) {
  const std::string families = (data() / "families").string() + "/";
  Page tiny = page_of(tiny_model().string());
  expect_all_sites(tiny, tiny_model().string(), 0);
  EXPECT_EQ(formula(tiny, "hook_embed"), "embed = W_E[tokens]");
  EXPECT_EQ(formula(tiny, "blocks.L.hook_resid_pre"), "resid_pre = embed + pos_embed");
  EXPECT_EQ(formula(tiny, "blocks.L.ln1.hook_scale"),
            "ln1.scale = √(mean_feature((resid_pre − mean_feature(resid_pre))²) + 1e-05)");
  EXPECT_EQ(formula(tiny, "blocks.L.attn.hook_q"),
            "q = (ln1.normalized · ln1.w + ln1.b) W_Q + b_Q");
  EXPECT_EQ(formula(tiny, "blocks.L.attn.hook_result"), "result = z W_O");
  EXPECT_EQ(formula(tiny, "blocks.L.hook_attn_out"), "attn_out = Σ_head result + b_O");
  EXPECT_EQ(formula(tiny, "blocks.L.mlp.hook_post"), "mlp.post = gelu(mlp.pre)");
  click_title_and_expect_sound(tiny);

  Page llama = page_of(families + "llama");
  expect_all_sites(llama, families + "llama", 0);
  EXPECT_EQ(formula(llama, "blocks.L.attn.hook_k"), "k = ln1.out W_K")
      << "no bias, where there is none";
  EXPECT_EQ(formula(llama, "blocks.L.attn.hook_rot_k"), "rot_k = rotary(k, position)");
  EXPECT_EQ(formula(llama, "blocks.L.mlp.hook_post"), "mlp.post = silu(mlp.pre) · mlp.pre_linear");
  EXPECT_EQ(llama.trouble(), "");

  // Attention and MLP of a block both read what enters it.
  Page neox = page_of(families + "neox");
  expect_all_sites(neox, families + "neox", 0);
  EXPECT_EQ(formula(neox, "blocks.L.hook_resid_post"),
            "resid_post = resid_pre + attn_out + mlp_out");
  EXPECT_EQ(formula(neox, "blocks.L.hook_mlp_in"), "mlp_in = resid_pre");
  click_title_and_expect_sound(neox);

  Page gemma = page_of(families + "gemma2");
  expect_all_sites(gemma, families + "gemma2", 0);
  EXPECT_EQ(formula(gemma, "hook_embed"), "embed = 6.928 · W_E[tokens]");
  EXPECT_NE(formula(gemma, "blocks.L.attn.hook_attn_scores").find("the last 5 keys"),
            std::string::npos);
  EXPECT_EQ(formula(gemma, "blocks.L.hook_attn_out"),
            "attn_out = ln1_post.normalized · ln1_post.w");
  EXPECT_EQ(formula(gemma, "unembed.hook_capped"), "unembed.capped = 4 · tanh(unembed.out / 4)");
  // The next layer has no window.
  gemma.click("[data-node=above]");
  EXPECT_EQ(formula(gemma, "blocks.L.attn.hook_attn_scores").find("keys"), std::string::npos);
  click_title_and_expect_sound(gemma);
}

}  // namespace
}  // namespace vitrine::test

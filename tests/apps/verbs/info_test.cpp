#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/model_folder.h"
#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::vector<std::int64_t> as_list(const Shape& shape) { return {shape.begin(), shape.end()}; }

TEST(Info, Json) {
  const json j = vitrine({"info", "--format", "json"}).json();
  EXPECT_EQ(j["config"]["layers"], 6);
  EXPECT_EQ(j["config"]["d_model"], 256);
  EXPECT_EQ(j["config"]["d_head"], 64);
  EXPECT_EQ(j["config"]["context"], 256);
  EXPECT_EQ(j["tokenizer"]["tokens"], 6000);
  EXPECT_EQ(j["forward"]["tokens"], 10);
  EXPECT_NE(j["machine"]["simd_target"], "");

  // The parts add up: matrices stay f16, as the file has them, vectors are widened to f32.
  std::int64_t count = 0, bytes = 0;
  for (const json& tensor : j["parameters"]["tensors"]) {
    std::int64_t n = 1;
    for (const json& size : tensor["shape"]) n *= size.get<std::int64_t>();
    count += n;
    bytes += n * (tensor["shape"].size() > 1 ? 2 : 4);
  }
  EXPECT_EQ(j["parameters"]["count"], count);
  EXPECT_EQ(j["parameters"]["bytes"], bytes);
  EXPECT_EQ(j["forward"]["parameter_bytes"], bytes);
}

TEST(Info, FlopsAreThoseOfTheMatrixProducts) {
  // 2 n per weight of each matrix product: 12 d^2 a layer and d * vocabulary for the logits. What
  // else there is (attention, LayerNorm, GELU) is small beside them.
  const double d = 256, layers = 6, vocabulary = 6000, tokens = 10;
  const double products = 2 * tokens * (12 * d * d * layers + d * vocabulary);
  const json j = vitrine({"info", "--format", "json"}).json();
  EXPECT_GE(j["forward"]["flops"].get<double>(), products);
  EXPECT_LE(j["forward"]["flops"].get<double>(), 1.05 * products);
}

TEST(Info, ShapesAreThoseThatCacheWrites) {
  const json j =
      vitrine({"info", "--model", tiny_model(), "--length", "7", "--format", "json"}).json();
  const test::TemporaryFolder folder;
  const std::string file = folder / "all.safetensors";
  ASSERT_EQ(
      vitrine({"cache", "--model", tiny_model(), "--tokens", "1,2,3,4,5,6,7", "--out", file}).exit,
      0);
  const auto saved = SafeTensors::open(file);
  EXPECT_EQ(j["sites"].size() + 2, saved.names().size());  // tokens and logits
  for (const json& site : j["sites"]) {
    EXPECT_EQ(site["shape"], json(as_list(saved.at(site["name"].get<std::string>()).shape())))
        << site["name"];
  }
  EXPECT_TRUE(j["tokenizer"].is_null());
}

TEST(Info, SiteNamesOneALine) {
  const json j = vitrine({"info", "--format", "json"}).json();
  std::string expected;
  for (const json& site : j["sites"]) expected += site["name"].get<std::string>() + "\n";
  EXPECT_EQ(vitrine({"info", "--sites"}).out, expected);
  EXPECT_THAT(expected, HasSubstr("blocks.3.attn.hook_pattern\n"));
}

TEST(Info, TableGroupsTheBlocks) {
  const Outcome o = vitrine({"info"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("6,340,608 (12.7 MB in memory)"));
  EXPECT_THAT(o.out, ::testing::ContainsRegex("blocks.L.attn.hook_pattern +\\[1, 4, 10, 10\\]"));
  EXPECT_THAT(o.out, ::testing::Not(HasSubstr("blocks.0.")));
  EXPECT_THAT(o.out, ::testing::ContainsRegex("products +own kernels, [A-Z]"));
}

TEST(Info, Graph) {
  const Outcome text = vitrine({"info", "--graph", "text", "--model", tiny_model()});
  EXPECT_EQ(text.exit, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("blocks.2.hook_resid_post"));
  const Outcome dot = vitrine({"info", "--graph", "dot", "--model", tiny_model()});
  EXPECT_TRUE(dot.out.starts_with("digraph ")) << dot.err;
  EXPECT_TRUE(dot.out.ends_with("}\n"));
  EXPECT_THAT(dot.out, HasSubstr("blocks.2.hook_resid_post"));
}

TEST(Info, AContextShorterThanTheDefaultLength) {
  const ModelFolder model(1, 3);
  const json j = vitrine({"info", "--model", model.path(), "--format", "json"}).json();
  EXPECT_EQ(j["forward"]["tokens"], 3);
  const Outcome o = vitrine({"info", "--model", model.path()});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("a forward pass of 3 tokens"));
  EXPECT_EQ(vitrine({"info", "--model", model.path(), "--length", "4"}).exit, 3);
}

TEST(Info, SitesAsJson) {
  const json j = vitrine({"info", "--sites", "--format", "json"}).json();
  EXPECT_EQ(j["sites"][0], "hook_embed");
  EXPECT_EQ(j["meta"]["model"], "default");
  EXPECT_EQ(vitrine({"info", "--graph", "dot", "--format", "json"}).exit, 2);
  const Outcome page = vitrine({"info", "--sites", "--html", "never.html"});
  EXPECT_EQ(page.exit, 2);
  EXPECT_THAT(page.err, HasSubstr("--html is a page of everything"));
}

TEST(Info, LengthBeyondTheContext) {
  const Outcome o = vitrine({"info", "--length", "257"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr("context is 256"));
}

}  // namespace
}  // namespace vitrine::test

#include "tensor/nearest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vitrine {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> sites() {
  std::vector<std::string> names{"hook_embed", "hook_pos_embed"};
  for (int layer = 0; layer < 12; ++layer) {
    for (const char* hook : {"hook_resid_pre", "ln1.hook_scale", "ln1.hook_normalized",
                             "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_attn_scores",
                             "attn.hook_pattern", "attn.hook_z", "hook_attn_out", "hook_resid_mid",
                             "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", "hook_resid_post"}) {
      names.push_back("blocks." + std::to_string(layer) + "." + hook);
    }
  }
  names.push_back("ln_final.hook_normalized");
  return names;
}

std::string best(std::string_view wanted) {
  const std::vector<std::string> names = sites();
  const std::vector<std::string> near = nearest(wanted, names);
  return near.empty() ? "" : near.front();
}

TEST(Nearest, FindsSitesBehindTheUsualMistakes) {
  EXPECT_EQ(best("blocks.5.attn.hook_patern"), "blocks.5.attn.hook_pattern");  // a letter
  EXPECT_EQ(best("blocks.5.attn.pattern"), "blocks.5.attn.hook_pattern");      // without hook
  EXPECT_EQ(best("blocks.5.hook_pattern"), "blocks.5.attn.hook_pattern");      // without the module
  EXPECT_EQ(best("block.5.attn.hook_pattern"), "blocks.5.attn.hook_pattern");
  EXPECT_EQ(best("BLOCKS.5.ATTN.HOOK_PATTERN"), "blocks.5.attn.hook_pattern");
  EXPECT_EQ(best("blocks/5/attn/hook_pattern"), "blocks.5.attn.hook_pattern");
  EXPECT_EQ(best("blocks.5.resid_pre"), "blocks.5.hook_resid_pre");
  EXPECT_EQ(best("blocks.5.hook_resid"), "blocks.5.hook_resid_pre");
  EXPECT_EQ(best("blocks.5.mlp_out"), "blocks.5.hook_mlp_out");
  EXPECT_EQ(best("pattern"), "blocks.0.attn.hook_pattern");  // one word of many
  EXPECT_EQ(best("ln_final.hook_normalised"), "ln_final.hook_normalized");
  EXPECT_EQ(best("embed"), "hook_embed");
}

TEST(Nearest, PrefersCloseNumbers) {
  const std::vector<std::string> names = sites();
  EXPECT_THAT(nearest("blocks.12.hook_resid_pre", names),
              ElementsAre("blocks.11.hook_resid_pre", "blocks.10.hook_resid_pre",
                          "blocks.9.hook_resid_pre"));
  EXPECT_THAT(nearest("blocks.99999999999999999999.hook_resid_pre", names, 1), Not(IsEmpty()));
}

TEST(Nearest, TiesKeepTheOrderAndCountIsAtMost) {
  const std::vector<std::string> names{"weight_b", "weight_a", "weight_c", "weight_d"};
  EXPECT_THAT(nearest("weight_x", names), ElementsAre("weight_b", "weight_a", "weight_c"));
  EXPECT_THAT(nearest("weight_x", names, 1), ElementsAre("weight_b"));
  EXPECT_THAT(nearest("weight_c", names, 2), ElementsAre("weight_c", "weight_b"));
  EXPECT_THAT(nearest("weight_x", names, 0), IsEmpty());
  EXPECT_THAT(nearest("weight_x", names, -1), IsEmpty());
}

TEST(Nearest, SaysNothingWhenNothingIsNear) {
  EXPECT_THAT(nearest("tokenizer.json", sites()), IsEmpty());
  EXPECT_THAT(nearest("", sites()), IsEmpty());
  EXPECT_THAT(nearest("weight", std::vector<std::string>{}), IsEmpty());
  EXPECT_THAT(nearest(std::string(100000, 'a'), sites()), IsEmpty()) << "long names take no time";
}

TEST(Nearest, MakesASentence) {
  EXPECT_EQ(did_you_mean(std::vector<std::string>{}), "");
  EXPECT_EQ(did_you_mean(std::vector<std::string>{"a"}), " (did you mean a?)");
  EXPECT_EQ(did_you_mean(std::vector<std::string>{"a", "b"}), " (did you mean a or b?)");
  EXPECT_EQ(did_you_mean(std::vector<std::string>{"a", "b", "c"}), " (did you mean a, b or c?)");
}

}  // namespace
}  // namespace vitrine

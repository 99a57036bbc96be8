// Sites by one rule, as a user types them: neurons and SAE features in patch, single heads, sweeps
// that are narrowed, and tables by role.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Words kPatch = capitals("patch");
const Words kSae = {"--sae", "blocks.4.hook_mlp_out"};

json run(const Words& words) {
  const Outcome o = vitrine(words + Words{"--format", "json"});
  EXPECT_EQ(o.exit, 0) << o.err;
  return o.exit == 0 ? o.json() : json();
}

TEST(PatchSites, ANarrowedSweepHasTheWholeOnesNumbers) {
  const json whole = run(kPatch + Words{"--site", "z", "--by", "head,pos"});
  EXPECT_FALSE(whole.contains("labels"));
  const json j = run(kPatch + Words{"--site", "z", "--by", "head,pos", "--layer", "2,5", "--head",
                                    "3,0", "--pos", "3,-1", "--top", "2"});
  EXPECT_EQ(j["layers"], json({2, 5}));
  EXPECT_EQ(j["labels"], json::parse(R"([["2","5"],["3","-1"],["3","0"]])"));
  EXPECT_EQ(j["shape"], json({2, 2, 2}));
  EXPECT_EQ(j["narrowed"], json({{"head", {3, 0}}, {"pos", {3, -1}}}));
  EXPECT_EQ(j["runs"], 8);
  for (int l = 0; l < 2; ++l) {
    for (int p = 0; p < 2; ++p) {
      for (int h = 0; h < 2; ++h)
        EXPECT_NEAR(j["values"][l][p][h].get<double>(),
                    whole["values"][l == 0 ? 2 : 5][p == 0 ? 3 : 4][h == 0 ? 3 : 0].get<double>(),
                    1e-5);
    }
  }
  const json first = j["strongest"][0];  // numbers as they were asked for
  EXPECT_TRUE(first["head"] == 3 || first["head"] == 0);
  EXPECT_TRUE(first["pos"] == 3 || first["pos"] == -1);
  EXPECT_EQ(run(kPatch + Words{"--site", "2.3.z", "--by", "head,pos"})["labels"],
            json({{"2"}, nullptr, {"3"}}));

  const Outcome table = vitrine(kPatch + Words{"--site", "z", "--by", "head,pos", "--head", "3",
                                               "--pos", "3,-1", "--layer", "4,5"});
  EXPECT_THAT(table.out,
              AllOf(HasSubstr("narrowed to head 3; pos 3, -1\n"), HasSubstr("\" Texas\""),
                    Not(HasSubstr("\" capital\"")), Not(HasSubstr("layer 0"))));
}

TEST(PatchSites, GlobsAndFullNamesMeanTheSame) {
  const json all = run(kPatch + Words{"--site", "z", "--layer", "1"});
  for (const char* name : {"1.z", "blocks.1.attn.hook_z", "blocks.1.*_z"}) {
    const json j = run(kPatch + Words{"--site", name});
    EXPECT_EQ(j["site"], "z") << name;
    EXPECT_EQ(j["layers"], json({1})) << name;
    EXPECT_EQ(j["values"], all["values"]) << name;
  }
  EXPECT_EQ(run(kPatch + Words{"--site", "*mlp_out"})["layers"], json({0, 1, 2, 3, 4, 5}));
  expect_failure(kPatch + Words{"--site", "blocks.*.attn.hook_*"}, 2,
                 "'blocks.*.attn.hook_*' means several sites: attn.hook_");
  expect_failure(kPatch + Words{"--site", "hook_emb*"}, 2,
                 "means hook_embed, which is in no layer");
  expect_failure(kPatch + Words{"--site", "blocks.*.attn.hook_zz*"}, 3, "hook_zz*");
}

TEST(PatchSites, NeuronsAndFeatures) {
  const json neurons = run(kPatch + Words{"--site", "5.post"});
  EXPECT_EQ(neurons["by"], "feature");
  EXPECT_EQ(neurons["axes"], json({"layer", "feature"}));
  EXPECT_EQ(neurons["shape"], json({1, 1024}));
  const int strongest = neurons["strongest"][0]["feature"];
  const json one = run(kPatch + Words{"--site", "mlp.hook_post", "--layer", "5", "--feature",
                                      std::to_string(strongest)});
  EXPECT_NEAR(one["values"][0][0].get<double>(), neurons["values"][0][strongest].get<double>(),
              1e-4);
  EXPECT_EQ(one["strongest"][0]["feature"], strongest);

  const json features = run(kPatch + kSae + Words{"--site", "sae_acts_post"});
  EXPECT_EQ(features["site"], "mlp_out.hook_sae_acts_post");
  EXPECT_EQ(features["layers"], json({4}));
  EXPECT_EQ(features["shape"], json({1, 2048}));
  EXPECT_GT(features["without_effect"], 1500);
  // The same by an edit: the feature of the base run, the corrupt one, taken away.
  const json zero = run(kPatch + kSae +
                        Words{"--site", "4.mlp_out.hook_sae_acts_post", "--by", "feature",
                              "--action", "zero", "--direction", "noise", "--top", "1"});
  const json top = zero["strongest"][0];
  const std::string edit =
      "zero 4.hook_sae_acts_post feature=" + std::to_string(top["feature"].get<int>());
  const json edited = run(Words{"lens", "--prompt", "The capital of Texas is", "--answer",
                                " Austin", "--wrong", " Sacramento"} +
                          kSae + Words{"--edit", edit});
  EXPECT_NEAR(edited["ln"].back().get<double>(), top["metric"].get<double>(), 1e-4);

  const json error = run(kPatch + kSae + Words{"--site", "sae_error", "--pos", "3,4"});
  EXPECT_EQ(error["axes"], json({"layer", "pos"}));
  EXPECT_EQ(error["shape"], json({1, 2}));
  const Words two = {"--sae", "blocks.1.hook_mlp_out", "--sae", "blocks.4.hook_mlp_out"};
  EXPECT_EQ(run(kPatch + two + Words{"--site", "sae_acts_post", "--feature", "1,2"})["layers"],
            json({1, 4}));
}

// ---- many pairs ---------------------------------------------------------------------------------
std::string by_role(const TemporaryFolder& folder) {
  const std::string file = folder / "capitals.jsonl";
  const auto line = [](const char* clean, const char* corrupt, const char* answer,
                       const char* wrong, const json& subject) {
    return json{{"clean", clean},
                {"corrupt", corrupt},
                {"answer", answer},
                {"wrong", wrong},
                {"roles", {{"subject", subject}, {"end", -1}}}}
               .dump() +
           "\n";
  };
  write_text(file, line("The capital of Texas is", "The capital of California is", " Austin",
                        " Sacramento", " Texas") +
                       line("The capital of New Mexico is", "The capital of New York is", " Austin",
                            " Albany", " New Mexico"));
  return file;
}

TEST(PatchSites, TablesByRole) {
  const TemporaryFolder folder;
  const Words patch = {"patch", "--pairs",     by_role(folder), "--site", "resid_pre",
                       "--pos", "subject,end", "--layer",       "0,5"};
  const json j = run(patch);
  EXPECT_EQ(j["labels"], json::parse(R"([["0","5"],["subject","end"]])"));
  EXPECT_EQ(j["shape"], json({2, 2}));
  EXPECT_EQ(j["count"], json({{2, 2}, {2, 2}}));
  // All that differs before the first layer is the subject.
  for (int i = 0; i < 2; ++i) {
    const json pair = j["pairs"][i];
    EXPECT_NEAR(pair["values"][0][0].get<double>(), pair["metric"]["clean"].get<double>(), 1e-4);
    EXPECT_NEAR(pair["values"][0][1].get<double>(), pair["metric"]["corrupt"].get<double>(), 1e-4);
  }
  EXPECT_EQ(j["strongest"][0]["layer"], 0);
  EXPECT_EQ(j["strongest"][0]["pos"], "subject");
  const Outcome table = vitrine(patch + Words{"--each"});
  EXPECT_EQ(table.exit, 0) << table.err;
  EXPECT_THAT(table.out, AllOf(HasSubstr("narrowed to pos subject, end\n"), HasSubstr("subject"),
                               HasSubstr("\" New Mexico\" / \" New York\""), HasSubstr("\" is\"")));
  const std::string csv = folder / "sweep.csv";
  ASSERT_EQ(vitrine(patch + Words{"--out", csv}).exit, 0);
  EXPECT_THAT(read_text(csv), HasSubstr("sweep,5,end,"));
  const std::string tensors = folder / "sweep.safetensors";
  ASSERT_EQ(vitrine(patch + Words{"--out", tensors}).exit, 0);
  EXPECT_EQ(SafeTensors::open(tensors).metadata().at("labels"), R"([["0","5"],["subject","end"]])");
  // Edits know the roles, too: without what the subject's token carries, nothing is left to patch.
  const json edited = run(patch + Words{"--edit", "zero 0.hook_resid_pre pos=subject"});
  EXPECT_NE(edited["metric"]["clean"], j["metric"]["clean"]);
}

TEST(PatchSites, WhatDoesNotGoTogetherIsSaid) {
  const TemporaryFolder folder;
  expect_failure(kPatch + Words{"--site", "2.z", "--layer", "1"}, 2,
                 "--site 2.z says its layer itself; leave out --layer");
  expect_failure(kPatch + Words{"--site", "2.1.z", "--head", "1"}, 2,
                 "--site 2.1.z says its head itself; leave out --head");
  expect_failure(kPatch + Words{"--site", "z", "--head", "4"}, 2, "z has no head 4");
  expect_failure(kPatch + Words{"--site", "2.1.mlp_out"}, 2, "mlp_out has no heads");
  expect_failure(kPatch + Words{"--site", "z", "--head", "-1"}, 2, "--head");
  expect_failure(kPatch + Words{"--site", "post", "--feature", "1024"}, 2,
                 "post has no feature 1024; there are 0 to 1023");
  expect_failure(kPatch + Words{"--site", "z", "--pos", "subject"}, 2,
                 "--pos is a position of the prompts, such as 3 or -1, not 'subject'");
  expect_failure(kPatch + Words{"--site", "resid_pre", "--pos", "5"}, 3, "there is no position 5");
  expect_failure(kPatch + Words{"--site", "resid_pre", "--src", "1"}, 2, "no source positions");
  expect_failure(kPatch + Words{"--site", "z", "--layer", "6"}, 2, "there is no layer 6 to sweep");
  expect_failure(kPatch + Words{"--site", "*.hook_z*", "--layer", "1,7"}, 2,
                 "--layer 7: --site *.hook_z* means layers 0, 1, 2, 3, 4, 5");
  for (const char* name : {"sae_acts_post", "4.mlp_out.hook_sae_error"})
    expect_failure(kPatch + Words{"--site", name}, 2, "is an SAE's; give one with --sae DIR");
  expect_failure(kPatch + kSae + Words{"--site", "2.sae_acts_post"}, 3, "sae_acts_post");
  expect_failure({"patch", "--pairs", by_role(folder), "--site", "resid_pre", "--pos", "object"}, 3,
                 "line 1: there is no role \"object\"");
}

// ---- other verbs --------------------------------------------------------------------------------
TEST(PatchSites, OneHeadInOtherVerbs) {
  const TemporaryFolder folder;
  const Words cache = {"cache", "--prompt", "The capital of Texas is", "--sites"};
  const std::string file = folder / "z.safetensors";
  ASSERT_EQ(vitrine(cache + Words{"2.z,2.3.zz", "--out", file}).exit, 3);
  ASSERT_EQ(vitrine(cache + Words{"2.z,2.3.z,2.1.pattern", "--out", file}).exit, 0);
  const auto saved = SafeTensors::open(file);
  const Tensor z = saved.at("blocks.2.attn.hook_z"), head = saved.at("blocks.2.3.attn.hook_z");
  EXPECT_EQ(to_string(head.shape()), "[1, 5, 64]");
  EXPECT_EQ(max_abs_difference(head, z.select(2, 3)), 0);
  const Tensor pattern = saved.at("blocks.2.1.attn.hook_pattern");  // [1, query, key]
  ASSERT_EQ(to_string(pattern.shape()), "[1, 5, 5]");
  for (std::int64_t q = 0; q < 5; ++q) {
    float sum = 0;
    for (std::int64_t k = 0; k < 5; ++k) sum += pattern.at<float>({0, q, k});
    EXPECT_NEAR(sum, 1, 1e-5);
    if (q < 4) {
      EXPECT_EQ(pattern.at<float>({0, q, q + 1}), 0);
    }
  }
  expect_failure(cache + Words{"2.4.z", "--out", file}, 2, "has no head 4; there are 0 to 3");
  expect_failure(cache + Words{"2.1.mlp_out", "--out", file}, 2, "has no heads");

  expect_failure(capitals("attribute") + Words{"--sites", "z,2.1.z"}, 2,
                 "'2.1.z' is one head of a site, and whole sites are meant here: give 2.z");
  expect_failure(capitals("attribute") + Words{"--method", "ig", "--site", "2.1.z"}, 2,
                 "--site 2.1.z is one head of a site, and a whole site is meant here: give 2.z");
}

// A head's direction is that part of the site's, added to it alone.
TEST(PatchSites, SteeringOneHead) {
  const TemporaryFolder folder;
  const Words steer = {"steer",
                       "--prompt",
                       "The capital of Texas is",
                       "--plus",
                       "The capital of California is",
                       "--minus",
                       "The capital of Texas is",
                       "--scale",
                       "2",
                       "--max-tokens",
                       "1"};
  const json one = run(steer + Words{"--site", "4.1.z"}),
             whole = run(steer + Words{"--site", "4.z"});
  EXPECT_EQ(one["site"], "blocks.4.attn.hook_z");
  EXPECT_EQ(one["head"], 1);
  EXPECT_FALSE(whole.contains("head"));
  double squares = 0;
  for (int h = 0; h < 4; ++h) {
    const json part = run(steer + Words{"--site", "4." + std::to_string(h) + ".z"});
    squares += std::pow(part["norms"]["direction"].get<double>(), 2);
  }
  EXPECT_NEAR(std::sqrt(squares), whole["norms"]["direction"].get<double>(), 1e-4);
  EXPECT_LT(one["norms"]["site"]["mean"], whole["norms"]["site"]["mean"]);
  // The same as the whole direction with zeros for the other heads.
  const auto z_after = [&](const char* prompt) {
    const std::string file = folder / "z.safetensors";
    EXPECT_EQ(vitrine({"cache", "--prompt", prompt, "--sites", "4.z", "--out", file}).exit, 0);
    return SafeTensors::open(file).at("blocks.4.attn.hook_z").clone();
  };
  const Tensor plus = z_after("The capital of California is"),
               minus = z_after("The capital of Texas is");  // [1, 5, 4, 64]
  Tensor direction = Tensor::zeros({4, 64}, DType::f32);
  for (std::int64_t e = 0; e < 64; ++e)
    direction.data<float>()[64 + e] = plus.at<float>({0, 4, 1, e}) - minus.at<float>({0, 4, 1, e});
  const std::string padded = folder / "direction.safetensors";
  save_safetensors(padded, {{"d", direction}});
  const json same = run(Words{"steer", "--prompt", "The capital of Texas is", "--direction", padded,
                              "--scale", "2", "--max-tokens", "1", "--site", "4.z"});
  for (int i = 0; i < 5; ++i)
    EXPECT_NEAR(one["steered"][0]["top"][i]["logit"].get<double>(),
                same["steered"][0]["top"][i]["logit"].get<double>(), 1e-4);
  EXPECT_THAT(vitrine(steer + Words{"--site", "4.1.z"}).out,
              HasSubstr("steering head 1 of blocks.4.attn.hook_z"));
  expect_failure(steer + Words{"--site", "4.4.z"}, 3, "has no head 4; there are 0 to 3");
  expect_failure(steer + Words{"--site", "4.1.resid_post"}, 3, "has no heads");
}

}  // namespace
}  // namespace vitrine::test

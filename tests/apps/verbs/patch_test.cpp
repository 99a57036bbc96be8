// What vitrine patch says about two prompts; the numbers are TransformerLens's.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Words kCapitals = capitals("patch");

TEST(Patch, TensorsEqualTheReference) {
  const auto golden = SafeTensors::open(tiny_model() / "golden/patching.safetensors");
  const auto compare = [&](const Words& options, const std::string& name) {
    SCOPED_TRACE(name);
    const TemporaryFolder folder;
    const std::string file = folder / "sweep.safetensors";
    const Outcome o = vitrine(golden_pair("patch") + options + Words{"--out", file, "--seed", "3"});
    ASSERT_EQ(o.exit, 0) << o.err;
    EXPECT_EQ(o.err, "");
    EXPECT_THAT(o.out, HasSubstr("written to " + file));
    const auto saved = SafeTensors::open(file);
    EXPECT_THAT(saved.names(),
                ::testing::UnorderedElementsAre("sweep", "metric/clean", "metric/corrupt"));
    for (const auto& [mine, theirs] : {std::pair<std::string, std::string>{"sweep", name},
                                       {"metric/clean", "metric/clean"},
                                       {"metric/corrupt", "metric/corrupt"}}) {
      EXPECT_EQ(saved.at(mine).dtype(), DType::f32);
      ASSERT_EQ(to_string(saved.at(mine).shape()), to_string(golden.at(theirs).shape()));
      EXPECT_LE(max_abs_difference(saved.at(mine), golden.at(theirs)), 1e-4) << mine;
    }
    EXPECT_EQ(saved.metadata().at("model"), tiny_model().string());
    EXPECT_THAT(saved.metadata().at("command"), HasSubstr("vitrine patch --model "));
    EXPECT_EQ(saved.metadata().at("seed"), "3");
    EXPECT_EQ(saved.metadata().at("direction"), "denoise");
  };
  compare({"--site", "resid_pre"}, "sweep/resid_pre");
  compare({"--site", "attn.hook_z", "--by", "head,pos"}, "sweep/attn_head_out_by_pos");
  compare({"--site", "z"}, "sweep/attn_head_out_all_pos");
  compare({"--site", "pattern", "--by", "head,dest"}, "sweep/attn_head_pattern_by_pos");
}

TEST(Patch, TheCapitalTravelsFromTheStateToTheEnd) {
  const json j =
      vitrine(kCapitals + Words{"--site", "blocks.*.hook_resid_pre", "--format", "json"}).json();
  EXPECT_EQ(j["site"], "resid_pre");
  EXPECT_EQ(j["by"], "pos");
  EXPECT_EQ(j["action"], "patch");
  EXPECT_EQ(j["direction"], "denoise");
  EXPECT_EQ(j["axes"], json({"layer", "pos"}));
  EXPECT_EQ(j["shape"], json({6, 5}));
  EXPECT_EQ(j["meta"]["model"], "default");
  EXPECT_TRUE(j["file"].is_null());
  EXPECT_EQ(j["str_tokens"]["clean"], json({"The", " capital", " of", " Texas", " is"}));
  EXPECT_EQ(j["str_tokens"]["corrupt"][3], " California");
  EXPECT_EQ(j["str_tokens"]["answer"], " Austin");
  EXPECT_EQ(j["tokens"]["corrupt"].size(), 5u);
  const double clean = j["metric"]["clean"], corrupt = j["metric"]["corrupt"];
  EXPECT_GT(clean, 5);
  EXPECT_LT(corrupt, -5);
  ASSERT_EQ(j["values"].size(), 6u);
  ASSERT_EQ(j["values"][0].size(), 5u);
  // All that differs before the first layer is the state's name, so putting it in gives the clean
  // run; before the last layer, what matters is at the end.
  EXPECT_NEAR(j["values"][0][3], clean, 1e-4);
  EXPECT_EQ(j["values"][0][4], corrupt);
  EXPECT_GT(j["values"][5][4], clean / 2);
  EXPECT_LT(j["values"][5][3], corrupt / 2);
  EXPECT_EQ(j["runs"], 30);
  EXPECT_EQ(j["without_effect"], 19);
  ASSERT_EQ(j["strongest"].size(), 5u);
  const json first = j["strongest"][0];
  EXPECT_EQ(first["layer"], 0);
  EXPECT_EQ(first["pos"], 3);
  EXPECT_EQ(first["metric"], j["values"][0][3]);
  EXPECT_NEAR(first["change"], clean - corrupt, 1e-4);
  EXPECT_NEAR(first["fraction"], 1, 1e-5);
}

TEST(Patch, NoiseStartsFromTheCleanRun) {
  const json j = vitrine(kCapitals + Words{"--site", "resid_pre", "--direction", "noise", "--top",
                                           "2", "--format", "json"})
                     .json();
  EXPECT_EQ(j["direction"], "noise");
  EXPECT_NEAR(j["values"][0][3], j["metric"]["corrupt"], 1e-4);
  EXPECT_EQ(j["values"][0][0], j["metric"]["clean"]);
  ASSERT_EQ(j["strongest"].size(), 2u);
  EXPECT_LT(j["strongest"][0]["change"], 0);  // by size, not by sign
  EXPECT_NEAR(j["strongest"][0]["fraction"], 1, 1e-5);
}

TEST(Patch, OtherMetrics) {
  const auto sweep = [](const char* metric) {
    return vitrine(kCapitals + Words{"--site", "resid_pre", "--metric", metric, "--format", "json"})
        .json();
  };
  EXPECT_EQ(sweep("logit_diff")["metric"]["name"], "logit_diff");
  const json prob = sweep("prob"), log_prob = sweep("log_prob"), kl = sweep("kl");
  EXPECT_EQ(kl["metric"]["name"], "kl");
  EXPECT_GT(prob["metric"]["clean"], 0.5);
  EXPECT_LT(prob["metric"]["corrupt"], 0.1);
  EXPECT_NEAR(std::exp(log_prob["values"][0][3].get<double>()), prob["values"][0][3], 1e-5);
  // With the state's name put in, the run predicts as the clean one does; without, not at all.
  EXPECT_NEAR(kl["metric"]["clean"], 0, 1e-5);
  EXPECT_GT(kl["metric"]["corrupt"], 1);
  EXPECT_NEAR(kl["values"][0][3], 0, 1e-4);
  EXPECT_NEAR(kl["strongest"][0]["fraction"], 1, 1e-4);
  const auto heading = [](const char* metric) {
    return vitrine(kCapitals + Words{"--site", "resid_pre", "--metric", metric}).out;
  };
  EXPECT_THAT(heading("prob"), HasSubstr("metric: probability of \" Austin\", clean "));
  EXPECT_THAT(heading("log_prob"), HasSubstr("metric: log probability of \" Austin\" (nats), "));
  EXPECT_THAT(heading("kl"),
              HasSubstr("metric: KL(clean || edited) (nats), clean 0.000, corrupt "));
  EXPECT_THAT(vitrine(kCapitals + Words{"--site", "resid_pre", "--metric", "lossy"}).err,
              HasSubstr("--metric: there is no metric \"lossy\" (did you mean loss"));
}

TEST(Patch, MetricsOfOnesOwn) {
  const auto sweep = [](const Words& options) {
    const Outcome o =
        vitrine(Words{"patch", "--clean", "The capital of Texas is", "--corrupt",
                      "The capital of California is", "--site", "resid_pre", "--format", "json"} +
                options);
    EXPECT_EQ(o.exit, 0) << o.err;
    return o.json();
  };
  const json usual = sweep({"--answer", " Austin", "--wrong", " Sacramento"}),
             own = sweep({"--metric", "logit(\" Austin\") - logit(\" Sacramento\")"});
  EXPECT_EQ(own["values"], usual["values"]);
  EXPECT_EQ(own["metric"]["name"], "logit(\" Austin\") - logit(\" Sacramento\")");
  EXPECT_TRUE(own["tokens"]["answer"].is_null());
  EXPECT_EQ(sweep({"--answer", " Austin", "--metric", "rank"})["metric"]["clean"], 0);
  EXPECT_GT(sweep({"--metric", "loss"})["metric"]["corrupt"], 0.5);
  // As fractions of the way from the corrupt run to the clean one.
  const json fractions = sweep({"--answer", " Austin", "--wrong", " Sacramento", "--normalise"});
  const double clean = usual["metric"]["clean"], corrupt = usual["metric"]["corrupt"];
  EXPECT_EQ(fractions["metric"]["clean"], 1);
  EXPECT_EQ(fractions["metric"]["corrupt"], 0);
  EXPECT_EQ(fractions["metric"]["normalised"], json({{"clean", clean}, {"corrupt", corrupt}}));
  for (int layer = 0; layer < 6; ++layer) {
    for (int pos = 0; pos < 5; ++pos) {
      EXPECT_NEAR(fractions["values"][layer][pos].get<double>(),
                  (usual["values"][layer][pos].get<double>() - corrupt) / (clean - corrupt), 1e-12);
    }
  }
  const Words same = {"patch", "--clean-tokens", "1,2",  "--corrupt-tokens", "1,2", "--site",
                      "z",     "--metric",       "loss", "--normalise"};
  EXPECT_EQ(vitrine(same).exit, 4);
  EXPECT_THAT(vitrine(same).err, HasSubstr("there is nothing between them to be a fraction of"));
  EXPECT_THAT(vitrine(Words{"patch", "--clean", "a", "--corrupt", "b", "--site", "z"}).err,
              HasSubstr("give --answer TOKEN"));
}

TEST(Patch, Zero) {
  const json j =
      vitrine(kCapitals + Words{"--site", "mlp_out", "--action", "zero", "--format", "json"})
          .json();
  EXPECT_EQ(j["action"], "zero");
  EXPECT_EQ(j["without_effect"], 4);  // of the last layer the metric reads the last position alone
  EXPECT_EQ(j["values"][5][3], j["metric"]["corrupt"]);
  EXPECT_NE(j["values"][0][0], j["metric"]["corrupt"]);  // also where both prompts are the same
}

TEST(Patch, TheMeanOfBothPrompts) {
  const Words mean = kCapitals + Words{"--site", "mlp_out", "--action", "mean"};
  const json j = vitrine(mean + Words{"--format", "json"}).json();
  EXPECT_EQ(j["action"], "mean");
  EXPECT_NE(j["values"][0][0], j["metric"]["corrupt"]);
  EXPECT_THAT(vitrine(mean).out,
              HasSubstr("the base run is corrupt; the mean over all positions of both prompts is "
                        "put in.\n"));
}

TEST(Patch, ExplainSaysHowTheRunsWereMade) {
  const Words sweep = kCapitals + Words{"--site", "resid_pre"};
  const std::string said = "sweep: 30 edited runs by 1 pass and ";
  EXPECT_THAT(vitrine(sweep).out, Not(HasSubstr(said)));
  EXPECT_THAT(vitrine(sweep + Words{"--explain"}).out, HasSubstr("\n\n" + said));
  EXPECT_TRUE(vitrine(sweep + Words{"--format", "json"}).json()["explanation"].is_null());
  EXPECT_THAT(vitrine(sweep + Words{"--explain", "--format", "json"}).json()["explanation"],
              HasSubstr(said));
}

TEST(Patch, TheTableSaysWhatWasDone) {
  const Outcome o = vitrine(kCapitals + Words{"--site", "resid_pre"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.err, "");
  EXPECT_TRUE(
      o.out.starts_with("resid_pre by pos, denoise: the base run is corrupt; clean "
                        "activations are put in.\n"
                        "metric: logit \" Austin\" - logit \" Sacramento\", clean "))
      << o.out;
  EXPECT_THAT(o.out, HasSubstr("30 edited runs: 11 from 1 forward pass, 19 not run, since they "
                               "change nothing that the metric depends on\n"));
  EXPECT_THAT(o.out, HasSubstr("\npos         0           1      2              3       4\n"
                               "clean   \"The\"  \" capital\"  \" of\"       \" Texas\"   \" is\"\n"
                               "corrupt                           \" California\"\n"
                               "layer 0     ·           ·      ·         +"));
  EXPECT_THAT(o.out, HasSubstr("    0    3  \" Texas\" / \" California\""));
  EXPECT_THAT(o.out, HasSubstr("1.000\n"));
  const Outcome zero =
      vitrine(kCapitals + Words{"--site", "z", "--action", "zero", "--direction", "noise"});
  EXPECT_THAT(zero.out, HasSubstr("z by head, noise: the base run is clean; its activations are "
                                  "set to zero."));
  EXPECT_THAT(zero.out, HasSubstr("\nhead "));
}

TEST(Patch, FurtherAxesAreReducedInTheTable) {
  const Outcome z = vitrine(kCapitals + Words{"--site", "z", "--by", "head,pos"});
  EXPECT_THAT(z.out, HasSubstr("; each cell has the largest over head\npos "));
  const Outcome o = vitrine(kCapitals + Words{"--site", "pattern", "--by", "head,dest,src"});
  EXPECT_THAT(o.out, HasSubstr("600 edited runs"));
  EXPECT_THAT(o.out, HasSubstr("; each cell has the largest over dest and src\nhead "));
  EXPECT_THAT(o.out, HasSubstr("layer  head  dest  token"));
  EXPECT_LT(o.out.size(), 2500u);
}

TEST(Patch, PromptsThatAreTheSame) {
  const Words same = {"patch", "--clean-tokens", "1,2",      "--corrupt-tokens",
                      "1,2",   "--answer-token", "3",        "--wrong-token",
                      "4",     "--site",         "resid_mid"};
  EXPECT_THAT(vitrine(same).out, HasSubstr("No edit changes the metric.\n"));
  EXPECT_EQ(vitrine(same + Words{"--format", "json"}).json()["strongest"], json::array());
  const json zero = vitrine(same + Words{"--action", "zero", "--format", "json"}).json();
  EXPECT_TRUE(zero["strongest"][0]["fraction"].is_null());  // there is no way to go
}

TEST(Patch, OtherFilesGetTheResultItself) {
  const TemporaryFolder folder;
  const Words sweep = kCapitals + Words{"--site", "z"};
  const std::string text = folder / "z.txt", file = folder / "z.json",
                    st = folder / "z.safetensors";
  EXPECT_EQ(vitrine(sweep + Words{"--out", text}).out, "");
  EXPECT_EQ(read_text(text), vitrine(sweep).out);
  EXPECT_EQ(vitrine(sweep + Words{"--out", file, "--format", "json"}).out, "");
  EXPECT_EQ(json::parse(read_text(file))["shape"], json({6, 4}));
  EXPECT_EQ(vitrine(sweep + Words{"--out", st, "--format", "json"}).json()["file"], st);
  EXPECT_EQ(vitrine(sweep + Words{"--out", folder / "none/z.safetensors"}).exit, 1);
  EXPECT_EQ(folder.names().size(), 3u);
}

TEST(Patch, ColoursOnlyWhenWanted) {
  const Words sweep = kCapitals + Words{"--site", "resid_pre"};
  EXPECT_THAT(vitrine(sweep).out, Not(HasSubstr("\x1b[")));  // not a terminal
  EXPECT_THAT(vitrine(sweep + Words{"--color", "always"}).out,
              AllOf(HasSubstr("\x1b[38;5;16;48;5;196m"), HasSubstr(" red ")));
  EXPECT_THAT(vitrine(sweep + Words{"--direction", "noise", "--color", "always"}).out,
              HasSubstr("\x1b[38;5;231;48;5;21m"));
  EXPECT_EQ(vitrine(sweep + Words{"--color", "never"}).out, vitrine(sweep).out);
  if (shell("script -qec true /dev/null").exit != 0) {
    GTEST_SKIP() << "needs script(1), and a system where it can make a terminal (/dev/pts)";
  }
  const std::string on_terminal =
      "script -qec \"vitrine patch --clean-tokens 1,2 --corrupt-tokens 1,3 --answer-token 4 "
      "--wrong-token 5 --site resid_pre\" /dev/null";
  EXPECT_THAT(shell(on_terminal, {.environment = {{"TERM", "xterm"}}}).out, HasSubstr("48;5;"));
  EXPECT_THAT(shell(on_terminal, {.environment = {{"TERM", "xterm"}, {"NO_COLOR", "1"}}}).out,
              Not(HasSubstr("\x1b[")));
}

// ---- mistakes -----------------------------------------------------------------------------------
void expect_error(const Words& arguments, int exit, const std::string& message) {
  const Outcome o = vitrine(arguments);
  EXPECT_EQ(o.exit, exit) << message;
  EXPECT_EQ(o.out, "");
  EXPECT_THAT(o.err, HasSubstr(message));
}

TEST(Patch, WhatIsMissingIsNamed) {
  const Words site = {"--site", "z"}, answers = {"--answer-token", "1", "--wrong-token", "2"},
              prompts = {"--clean", "a", "--corrupt", "b"};
  const Words patch = {"patch"};
  expect_error(patch + answers + prompts, 2, "--site is required");
  expect_error(patch + site + prompts, 2,
               "give --answer TOKEN (its leading space counts: ' Austin') "
               "or --answer-token ID");
  expect_error(patch + site + prompts + Words{"--answer-token", "1"}, 2, "give --wrong TOKEN");
  expect_error(patch + site + answers, 2,
               "there is no clean prompt; give --clean TEXT, --clean - (stdin) or --clean-tokens");
  expect_error(patch + site + answers + Words{"--clean", "a"}, 2, "there is no corrupt prompt");
}

TEST(Patch, WhatDoesNotGoTogetherIsSaid) {
  const Words all = kCapitals + Words{"--site", "z"};
  expect_error(all + Words{"--clean-tokens", "1"}, 2, "give --clean or --clean-tokens, not both");
  expect_error(all + Words{"--wrong-token", "1"}, 2, "give --wrong or --wrong-token, not both");
  expect_error({"patch", "--site", "z", "--clean", "-", "--corrupt", "-", "--answer-token", "1",
                "--wrong-token", "2"},
               2, "only one of --clean and --corrupt can come from stdin");
  expect_error(all + Words{"--by", "heads"}, 2, "a sweep goes by pos or head or head,pos or");
  expect_error(all + Words{"--by", "head,dest"}, 2,
               "z cannot be swept by head,dest; it can by head or by pos or by head,pos");
  expect_error(kCapitals + Words{"--site", "resid"}, 2,
               "there is no sweep over 'resid'; there are");
  expect_error(all + Words{"--action", "median"}, 2, "{patch,zero,mean,resample}");
  expect_error(all + Words{"--action", "resample"}, 2,
               "--action resample takes values from other pairs; give several with --pairs FILE");
  expect_error(all + Words{"--pairs", "x.jsonl"}, 2,
               "give --pairs, or one pair by --clean, --corrupt, --answer and --wrong");
  expect_error(all + Words{"--direction", "up"}, 2, "{denoise,noise}");
}

TEST(Patch, PromptsMustLineUp) {
  expect_error(
      {"patch", "--clean", "The capital of Texas is", "--corrupt", "The capital of New Mexico is",
       "--answer", " Austin", "--wrong", " Sacramento", "--site", "z"},
      3,
      "the clean prompt has 5 tokens, the corrupt one 6; patching needs prompts that line "
      "up, token by token:\n"
      "  clean   \"The\" \" capital\" \" of\" \" Texas\" \" is\"     -\n"
      "  corrupt \"The\" \" capital\" \" of\" \" New\"   \" Mexico\" \" is\"\n");
}

TEST(Patch, AnswersAreOneToken) {
  const auto with_answer = [](const Words& answer) {
    return Words{"patch", "--clean", "a", "--corrupt", "b", "--wrong-token", "3", "--site", "z"} +
           answer;
  };
  expect_error(with_answer({"--answer", "Austin"}), 3, "did you mean \" Austin\", with a leading");
  expect_error(with_answer({"--answer", " Austinite"}), 3, "not one");
  expect_error(with_answer({"--answer-token", "3"}), 3, "are the same token (id 3)");
  expect_error(with_answer({"--answer-token", "6000"}), 3, "6000 is outside 0 to 5999");
}

TEST(Patch, WithoutATokenizerThereAreIds) {
  expect_error({"patch", "--model", tiny_model(), "--clean-tokens", "1,2", "--corrupt-tokens",
                "1,3", "--answer", " Austin", "--wrong-token", "4", "--site", "z"},
               3,
               "this model has no tokenizer (tokenizer.json, or vocab.json and merges.txt); give");
  const Words by_ids = {"patch",   "--model",          tiny_model(), "--clean-tokens",
                        "1,2",     "--corrupt-tokens", "1,3",        "--answer-token",
                        "5",       "--wrong-token",    "4",          "--site",
                        "attn_out"};
  EXPECT_THAT(vitrine(by_ids).out, HasSubstr("metric: logit 5 - logit 4, clean "));
  EXPECT_TRUE(vitrine(by_ids + Words{"--format", "json"}).json()["str_tokens"].is_null());
}

// The same site under all of its names; with a layer, that layer alone.
TEST(Patch, ASiteHasSeveralSpellings) {
  const json all = vitrine(kCapitals + Words{"--site", "z", "--format", "json"}).json();
  EXPECT_EQ(all["layers"], json({0, 1, 2, 3, 4, 5}));
  for (const char* name : {"attn.hook_z", "hook_z", "blocks.*.attn.hook_z", "blocks.*.z"}) {
    const json j = vitrine(kCapitals + Words{"--site", name, "--format", "json"}).json();
    EXPECT_EQ(j["values"], all["values"]) << name;
  }
  for (const char* name : {"1.z", "blocks.1.attn.hook_z", "1.hook_z"}) {
    const Outcome o = vitrine(kCapitals + Words{"--site", name, "--format", "json"});
    ASSERT_EQ(o.exit, 0) << name << o.err;
    const json j = o.json();
    EXPECT_EQ(j["site"], "z");
    EXPECT_EQ(j["layers"], json({1}));
    EXPECT_EQ(j["shape"], json({1, 4}));
    for (int h = 0; h < 4; ++h)
      EXPECT_NEAR(j["values"][0][h].get<double>(), all["values"][1][h].get<double>(), 1e-4);
    EXPECT_EQ(j["strongest"][0]["layer"], 1);
  }
  const Outcome table = vitrine(kCapitals + Words{"--site", "1.z"});
  EXPECT_THAT(table.out, AllOf(HasSubstr("\nlayer 1 "), Not(HasSubstr("layer 0"))));
  expect_error(kCapitals + Words{"--site", "6.z"}, 2,
               "there is no layer 6 to sweep z in; this model has layers 0 to 5");
  expect_error(kCapitals + Words{"--site", "blocks.1.attn.hook_zz"}, 2, "no sweep over 'zz'");
}

TEST(Patch, OnePromptMayComeFromStdinAndBothTakeABos) {
  const Outcome o = vitrine(
      {"patch", "--clean", "-", "--corrupt", "The capital of California is", "--answer", " Austin",
       "--wrong", " Sacramento", "--site", "resid_pre", "--prepend-bos", "--format", "json"},
      {.input = "The capital of Texas is\n"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const json j = o.json();
  EXPECT_EQ(j["str_tokens"]["clean"],
            json({"<|endoftext|>", "The", " capital", " of", " Texas", " is"}));
  EXPECT_EQ(j["str_tokens"]["corrupt"][0], "<|endoftext|>");
}

// Zeroing values before and after their biases moved elsewhere is not the same edit; patching is.
TEST(Patch, AblationsDependOnTheGaugeAndSaySo) {
  const Words golden = golden_pair("patch");
  const auto values = [&](const Words& options) {
    const json j = vitrine(golden + options + Words{"--format", "json"}).json();
    std::vector<double> all;
    for (const json& layer : j["values"]) {
      for (const json& x : layer) all.push_back(x);
    }
    return all;
  };
  const auto largest = [&](const Words& options) {
    const auto raw = values(options), processed = values(options + Words{"--gauge", "processed"});
    double most = 0;
    for (std::size_t i = 0; i < raw.size(); ++i)
      most = std::max(most, std::abs(raw[i] - processed[i]));
    return most;
  };
  EXPECT_GT(largest({"--site", "v", "--action", "zero"}), 0.01);
  EXPECT_LT(largest({"--site", "resid_pre"}), 1e-3);
  EXPECT_THAT(vitrine(golden + Words{"--site", "v", "--action", "zero"}).out,
              HasSubstr("gauge: raw\n"));
  EXPECT_THAT(vitrine(golden + Words{"--site", "v", "--gauge", "processed"}).out,
              HasSubstr("gauge: processed\n"));
  EXPECT_THAT(vitrine(golden + Words{"--site", "v"}).out, Not(HasSubstr("gauge:")));
}

}  // namespace
}  // namespace vitrine::test

// What vitrine steer writes, beside what vitrine generate does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tensor/files/file.h"
#include "tensor/files/npy.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/apps/states.h"
#include "tests/apps/words.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Words kTexas = {"steer",
                      "--prompt",
                      "The capital of Texas is",
                      "--plus",
                      "The capital of California is",
                      "--minus",
                      "The capital of Texas is",
                      "--max-tokens",
                      "8"};
const Words kJson = {"--format", "json"};

// By ids, for the model without a tokenizer.
Words tiny(const Words& more) {
  return Words{"steer",        "--model", tiny_model().string(), "--tokens", "1,2,3",
               "--max-tokens", "6"} +
         more;
}
const Words kByIds = {"--plus-tokens", "14,15", "--minus-tokens", "92"};

json steer(const Words& words) {
  const Outcome o = vitrine(words + kJson);
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.err, "");
  return o.json();
}

TEST(Steer, TheContract) {
  const json j = steer(kTexas + Words{"--scale", "0.5", "--scale", "1,-1", "--seed", "4"});
  Words keys;
  for (const auto& [key, entry] : j.items()) keys.push_back(key);
  EXPECT_THAT(keys, ::testing::UnorderedElementsAre("meta", "site", "direction", "normalize",
                                                    "norms", "prompt_tokens", "plain", "steered"));
  EXPECT_EQ(j["meta"]["model"], "default");
  EXPECT_EQ(j["meta"]["seed"], 4);
  EXPECT_THAT(j["meta"]["command"].get<std::string>(), HasSubstr("vitrine steer --prompt "));
  EXPECT_TRUE(j["meta"].contains("version"));
  EXPECT_EQ(j["site"], "blocks.2.hook_resid_post");
  EXPECT_EQ(j["normalize"], false);
  const json d = j["direction"];
  EXPECT_EQ(d["source"], "prompts");
  EXPECT_EQ(d["positions"], "last");
  EXPECT_EQ(d["minus"], j["prompt_tokens"]);
  EXPECT_EQ(d["plus"].size(), 5u);
  for (const char* other : {"file", "tensor", "token"}) EXPECT_TRUE(d[other].is_null()) << other;

  const double norm = j["norms"]["direction"];
  const json there = j["norms"]["site"];
  EXPECT_LE(there["least"], there["mean"]);
  EXPECT_LE(there["mean"], there["most"]);
  EXPECT_LE(there["last"], there["most"]);
  ASSERT_EQ(j["steered"].size(), 3u);
  const Words scales = {"0.5", "1", "-1"};
  for (std::size_t i = 0; i < 3; ++i) {
    const json s = j["steered"][i];
    EXPECT_EQ(s["scale"], std::stod(scales[i]));
    EXPECT_NEAR(s["norm"], std::abs(std::stod(scales[i])) * norm, 1e-9);
  }
  for (const json& text : {j["plain"], j["steered"][0], j["steered"][1], j["steered"][2]}) {
    EXPECT_FALSE(text["tokens"].empty());
    EXPECT_TRUE(text["text"].is_string());
    EXPECT_TRUE(text["stopped"] == "end of text" || text["stopped"] == "length");
    ASSERT_EQ(text["top"].size(), 5u);
    EXPECT_EQ(text["top"][0]["id"], text["tokens"][0]);  // greedy
    EXPECT_EQ(text["text"].get<std::string>().find(text["top"][0]["token"].get<std::string>()), 0u);
    EXPECT_GE(text["top"][0]["prob"], text["top"][1]["prob"]);
    EXPECT_TRUE(text["top"][0].contains("logit"));
  }
}

TEST(Steer, TheDirectionChangesTheText) {
  const json j = steer(kTexas + Words{"--scale", "1"});
  EXPECT_THAT(j["plain"]["text"].get<std::string>(), HasSubstr(" Austin"));
  EXPECT_THAT(j["steered"][0]["text"].get<std::string>(), HasSubstr(" Sacramento"));
}

TEST(Steer, PlainIsWhatGenerateWritesAndNoStrengthIsPlain) {
  const auto compare = [](const Words& options, const Words& direction) {
    const json j = steer(Words{"steer"} + options + direction + Words{"--scale", "0"});
    const json plain = vitrine(Words{"generate"} + options + kJson).json();
    EXPECT_EQ(j["plain"]["tokens"], plain["tokens"]);
    EXPECT_EQ(j["plain"]["text"], plain["text"]);
    EXPECT_EQ(j["plain"]["stopped"], plain["stopped"]);
    EXPECT_EQ(j["prompt_tokens"], plain["prompt_tokens"]);
    json steered = j["steered"][0];
    EXPECT_EQ(steered["scale"], 0);
    EXPECT_EQ(steered["norm"], 0);
    steered.erase("scale");
    steered.erase("norm");
    EXPECT_EQ(steered, j["plain"]);  // also the logits of the first token
  };
  const Words text = {"--prompt", "The capital of France is", "--max-tokens", "30"};
  const Words ids = {"--model", tiny_model().string(), "--tokens", "1,2,3"};
  compare(text, {"--toward", " Paris"});
  compare(text + Words{"--top-k", "50", "--seed", "9", "--prepend-bos"}, {"--toward", " Paris"});
  compare(ids, kByIds);
  compare(ids + Words{"--temperature", "1.5", "--seed", "3"}, kByIds);
}

TEST(Steer, NormalizedScalesAreInUnitsOfWhatIsThere) {
  const json j = steer(kTexas + Words{"--normalize", "--scale", "0.5,2"});
  EXPECT_EQ(j["normalize"], true);
  const double mean = j["norms"]["site"]["mean"], direction = j["norms"]["direction"];
  EXPECT_NEAR(j["steered"][0]["norm"], mean / 2, 1e-9 * mean);
  EXPECT_NEAR(j["steered"][1]["norm"], mean * 2, 1e-9 * mean);
  // The same as the scale that gives this length.
  const json same =
      steer(kTexas + Words{"--scale", std::to_string(0.5 * mean / direction), "--top", "1"});
  EXPECT_EQ(same["steered"][0]["tokens"], j["steered"][0]["tokens"]);
  EXPECT_NEAR(same["steered"][0]["top"][0]["logit"], j["steered"][0]["top"][0]["logit"], 1e-3);
  EXPECT_EQ(same["steered"][0]["top"].size(), 1u);
}

TEST(Steer, SitesByTheirShortNames) {
  const auto site = [](const Words& words) { return steer(tiny(kByIds + words))["site"]; };
  EXPECT_EQ(site({}), "blocks.1.hook_resid_post");  // of layers 0, 1, 2
  EXPECT_EQ(site({"--layer", "2"}), "blocks.2.hook_resid_post");
  EXPECT_EQ(site({"--site", "mlp_out", "--layer", "0"}), "blocks.0.hook_mlp_out");
  EXPECT_EQ(site({"--site", "hook_mlp_out"}), "blocks.1.hook_mlp_out");
  EXPECT_EQ(site({"--site", "z"}), "blocks.1.attn.hook_z");
  EXPECT_EQ(site({"--site", "blocks.*.attn.hook_z"}), "blocks.1.attn.hook_z");
  EXPECT_EQ(site({"--site", "post"}), "blocks.1.mlp.hook_post");
  EXPECT_EQ(site({"--site", "blocks.2.hook_resid_mid"}), "blocks.2.hook_resid_mid");
  EXPECT_EQ(site({"--site", "hook_embed"}), "hook_embed");
}

TEST(Steer, DirectionsFromFilesAndTokens) {
  const TemporaryFolder folder;
  const auto unembedding =
      SafeTensors::open(tiny_model() / "model.safetensors").at("transformer.wte.weight");
  save_npy(folder / "d.npy", unembedding.select(0, 7).clone());
  save_safetensors(folder / "d.safetensors", {{"zero", Tensor::zeros({48}, DType::f32)},
                                              {"seven", unembedding.select(0, 7).clone()}});
  const json token = steer(tiny({"--toward-token", "7", "--scale", "3"}));
  EXPECT_EQ(token["direction"]["source"], "token");
  EXPECT_EQ(token["direction"]["token"], 7);
  EXPECT_NE(token["steered"][0]["tokens"], token["plain"]["tokens"]);
  const json npy = steer(tiny({"--direction", folder / "d.npy", "--scale", "3"}));
  const json st =
      steer(tiny({"--direction", folder / "d.safetensors", "--tensor", "seven", "--scale", "3"}));
  EXPECT_EQ(npy["direction"]["source"], "file");
  EXPECT_EQ(npy["direction"]["file"], std::string(folder / "d.npy"));
  EXPECT_EQ(st["direction"]["tensor"], "seven");
  for (const json& j : {npy, st}) {
    EXPECT_EQ(j["steered"], token["steered"]);
    EXPECT_EQ(j["norms"], token["norms"]);
  }
  const Outcome zero = vitrine(tiny({"--direction", folder / "d.safetensors", "--tensor", "zero"}));
  EXPECT_EQ(zero.exit, 3);
  EXPECT_THAT(zero.err, HasSubstr("is zero everywhere: the file holds nothing else"));
  const Outcome narrow = vitrine({"steer", "--tokens", "1", "--direction", folder / "d.npy"});
  EXPECT_EQ(narrow.exit, 3);
  EXPECT_THAT(narrow.err,
              HasSubstr("d.npy is [48], but a direction at blocks.2.hook_resid_post has "
                        "256 numbers"));
}

TEST(Steer, TheMeanOverPositionsIsAnotherDirection) {
  const json last = steer(tiny(kByIds)), mean = steer(tiny(kByIds + Words{"--positions", "mean"}));
  EXPECT_EQ(mean["direction"]["positions"], "mean");
  EXPECT_NE(last["norms"]["direction"], mean["norms"]["direction"]);
  EXPECT_EQ(last["norms"]["site"], mean["norms"]["site"]);
}

TEST(Steer, TheTableShowsTextsSideBySide) {
  const Outcome o = vitrine(kTexas + Words{"--scale", "0.5", "--scale", "1"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.err, "");
  EXPECT_TRUE(o.out.starts_with(
      "steering blocks.2.hook_resid_post at every token of prompt and text; scale 1 is the "
      "direction as it is\n"
      "direction: \"The capital of California is\" - \"The capital of Texas is\", last position\n"
      "norms: the direction "))
      << o.out;
  EXPECT_THAT(o.out, HasSubstr("\nplain\nThe capital of Texas is Austin.\n"));
  EXPECT_THAT(o.out, HasSubstr("\n\nscale 0.5  adds "));
  EXPECT_THAT(o.out, HasSubstr(" of the mean norm\nThe capital of Texas is Sacramento.\n"));
  EXPECT_THAT(o.out, HasSubstr("\n\nnext token  1 "));
  EXPECT_THAT(o.out, HasSubstr("\nplain       \" Austin\" "));
  EXPECT_THAT(o.out, HasSubstr("\nscale 1     \" Sacramento\" "));
  const Outcome colour = vitrine(kTexas + Words{"--color", "always"});
  EXPECT_THAT(colour.out, HasSubstr("\x1b[2mThe capital of Texas is\x1b[0m Austin."));
  const TemporaryFolder folder;
  EXPECT_EQ(vitrine(kTexas + Words{"--scale", "0.5,1", "--out", folder / "text"}).out, "");
  EXPECT_EQ(read_text(folder / "text"), o.out);
  const Outcome ids = vitrine(tiny(kByIds));
  EXPECT_THAT(ids.out, HasSubstr("direction: [14 15] - [92], last position\n"));
  EXPECT_THAT(ids.out, HasSubstr("\nplain\n1 2 3 "));
}

void expect_error(const Words& words, int exit, const std::string& message) {
  const Outcome o = vitrine(words);
  EXPECT_EQ(o.exit, exit) << message;
  EXPECT_EQ(o.out, "") << message;
  EXPECT_THAT(o.err, HasSubstr(message));
}

TEST(Steer, MistakesAreExplained) {
  const Words prompt = {"steer", "--prompt", "It was"};
  const Words paris = prompt + Words{"--toward", " Paris"};
  expect_error(prompt, 2, "there is no direction; give --plus TEXT and --minus TEXT");
  expect_error({"steer", "--toward", " Paris"}, 2, "there is no prompt; give --prompt TEXT");
  expect_error(prompt + Words{"--plus", "good"}, 2,
               "--plus without --minus: the direction is the difference of two prompts; give "
               "--minus too");
  expect_error(prompt + Words{"--minus-tokens", "5"}, 2, "--minus without --plus");
  expect_error(paris + Words{"--plus", "good"}, 2, "give one direction");
  expect_error(paris + Words{"--toward-token", "3"}, 2, "give --toward or --toward-token");
  expect_error(paris + Words{"--positions", "mean"}, 2, "--positions is about the prompts");
  expect_error(paris + Words{"--tensor", "d"}, 2, "give --direction FILE too");
  expect_error(paris + Words{"--scale", "inf"}, 2,
               "--scale: 'inf' is not a number from -1e+09 to 1e+09");
  expect_error(paris + Words{"--scale", "much"}, 2, "--scale");
  expect_error(paris + Words{"--temperature", "-1"}, 2,
               "--temperature: '-1' is not a number from 0 to 1e+06");
  expect_error(paris + Words{"--layer", "6"}, 2, "--layer 6: this model has layers 0 to 5");
  expect_error(paris + Words{"--layer", "1", "--site", "blocks.1.hook_resid_post"}, 2,
               "says itself where it is; leave out --layer");
  expect_error({"steer", "--prompt", "-", "--plus", "-", "--minus", "bad"}, 2,
               "only one of the prompts can come from stdin");

  expect_error(paris + Words{"--site", "resid_pots"}, 3,
               "there is no site 'resid_pots' in a layer (did you mean hook_resid_post or "
               "hook_resid_pre?)");
  expect_error(paris + Words{"--site", "blocks.1.hook_resid_pots"}, 3,
               "did you mean blocks.1.hook_resid_post");
  expect_error(paris + Words{"--site", "pattern"}, 3,
               "blocks.2.attn.hook_pattern has the axes [row, head, key]");
  expect_error(paris + Words{"--site", "pre"}, 3,
               "the unembedding vector of token 2508 is [256], but a direction at "
               "blocks.2.mlp.hook_pre has 1024 numbers");
  expect_error(prompt + Words{"--toward", "Austin"}, 3, "Austin");  // more than one token
  expect_error(prompt + Words{"--direction", "none.npy"}, 3, "none.npy");
  expect_error(prompt + Words{"--plus", "good", "--minus", ""}, 3, "the minus prompt is empty");
  expect_error(prompt + Words{"--plus", "a b", "--minus", "c b", "--site", "hook_embed"}, 3,
               "is zero everywhere: both prompts have the same activation there");
  expect_error(tiny({"--plus", "good", "--minus-tokens", "3"}), 3,
               "give ids: --plus-tokens and --minus-tokens, or --toward-token");
  expect_error(tiny({"--toward-token", "97"}), 3, "there is no token 97");
  expect_error(
      Words{"steer", "--model", tiny_model().string(), "--tokens", "1", "--max-tokens", "60"} +
          kByIds,
      3, "this model's context is 32");
}

// ---- many prompts -------------------------------------------------------------------------------
const Words kToCalifornia = {"--plus", "The capital of California is", "--minus",
                             "The capital of Texas is"};

TEST(SteeredPrompts, MeansAreThoseOfSingleRuns) {
  const TemporaryFolder folder;
  const Words many =
      Words{"steer", "--prompts", state_prompts(folder), "--scale", "0.5,2"} + kToCalifornia;
  const json diff = result_of(many + Words{"--group-by", "coast"}),
             prob = result_of(many + Words{"--metric", "prob"}),
             expression =
                 result_of(many + Words{"--metric", "logit(answer) - logit(\" Sacramento\")"});
  EXPECT_EQ(diff["metric"], "logit_diff");
  EXPECT_EQ(prob["metric"], "prob");
  EXPECT_EQ(diff["scales"], json({0, 0.5, 2}));
  const double length = diff["norms"]["direction"];
  EXPECT_EQ(diff["norms_added"], json({0.0, 0.5 * length, 2 * length}));
  double sum_of_norms = 0;
  std::vector<double> diffs[3], probs[3], changes[3];
  for (std::size_t i = 0; i < 4; ++i) {
    const StatePrompt& s = kStatePrompts[i];
    const json one = result_of(Words{"steer", "--prompt", s.prompt(), "--scale", "0.5,2", "--top",
                                     "6000", "--max-tokens", "1"} +
                               kToCalifornia);
    sum_of_norms += one["norms"]["site"]["mean"].get<double>() * (s.end + 1);
    for (std::size_t k = 0; k < 3; ++k) {
      std::map<std::string, json> by_token;
      for (const json& t : (k == 0 ? one["plain"] : one["steered"][k - 1])["top"])
        by_token.emplace(t["token"], t);
      const auto logit = [&](const std::string& t) {
        return by_token.at(t)["logit"].get<double>();
      };
      diffs[k].push_back(logit(s.answer()) - logit(s.wrong()));
      changes[k].push_back(diffs[k].back() - diffs[0].back());
      probs[k].push_back(by_token.at(s.answer())["prob"].get<double>());
      EXPECT_NEAR(diff["prompts"][i]["value"][k].get<double>(), diffs[k].back(), 1e-4);
      EXPECT_NEAR(expression["prompts"][i]["value"][k].get<double>(),
                  logit(s.answer()) - logit(" Sacramento"), 1e-4);
    }
  }
  EXPECT_NEAR(diff["norms"]["site"]["mean"].get<double>(), sum_of_norms / 21, 1e-4);
  for (std::size_t k = 0; k < 3; ++k) {
    const auto expect = [&](const json& mean, const std::vector<double>& values) {
      expect_mean(mean["mean"][k], mean["standard_error"][k], values, 1e-4);
    };
    expect(diff["all"]["value"], diffs[k]);
    expect(diff["all"]["change"], changes[k]);
    expect(prob["all"]["value"], probs[k]);
    expect(diff["groups"][2]["value"], {diffs[k][2], diffs[k][3]});
  }
  EXPECT_LT(diff["prompts"][0]["change"][2], -5);  // away from Austin, to Sacramento
}

TEST(SteeredPrompts, KlIsFromThePlainRunAndNormalizedScalesAreOfAllTokens) {
  const TemporaryFolder folder;
  const Words many = Words{"steer", "--prompts", state_prompts(folder, false)} + kToCalifornia;
  const json kl = result_of(many + Words{"--metric", "kl", "--normalize", "--scale", "1,-1"});
  EXPECT_NEAR(kl["all"]["value"]["mean"][0].get<double>(), 0, 1e-6);
  EXPECT_GT(kl["all"]["value"]["mean"][1], 0.1);
  const double there = kl["norms"]["site"]["mean"], length = kl["norms"]["direction"];
  EXPECT_NEAR(kl["norms_added"][2].get<double>(), there, 1e-6 * there);
  const json same = result_of(many + Words{"--metric", "kl", "--scale",
                                           fmt::format("{},{}", there / length, -there / length)});
  for (const std::size_t k : {1u, 2u})
    EXPECT_NEAR(kl["all"]["value"]["mean"][k].get<double>(),
                same["all"]["value"]["mean"][k].get<double>(), 1e-4);
}

TEST(SteeredPrompts, AtPositionsOnly) {
  const TemporaryFolder folder;
  const std::string file = state_prompts(folder);
  const Words many =
      Words{"steer", "--prompts", file, "--scale", "2", "--site", "1.resid_post"} + kToCalifornia;
  const json all = result_of(many), j = result_of(many + Words{"--pos", "name,-1"});
  EXPECT_EQ(all["pos"], nullptr);
  EXPECT_EQ(j["pos"], json({"name", -1}));
  const json edited = result_of(
      {"evaluate", "--prompts", file, "--edit",
       "add 1.resid_post plus='The capital of California is' minus='The capital of Texas is' "
       "factor=2 pos=name,-1"});
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(j["prompts"][i]["value"][1].get<double>(),
                edited["prompts"][i]["logit_diff"].get<double>(), 1e-4);
    EXPECT_EQ(j["prompts"][i]["value"][0], all["prompts"][i]["value"][0]);
  }
  EXPECT_GT(std::abs(j["all"]["value"]["mean"][1].get<double>() -
                     all["all"]["value"]["mean"][1].get<double>()),
            1e-3);
  EXPECT_THAT(vitrine(many + Words{"--pos", "name"}).out,
              HasSubstr("steering blocks.1.hook_resid_post at pos name; scale 1 is"));
  EXPECT_THAT(vitrine(Words{"steer", "--prompt", "a", "--pos", "-1"} + kToCalifornia).err,
              HasSubstr("--pos is about the prompts of a file"));
}

TEST(SteeredPrompts, TablesFilesAndMistakes) {
  const TemporaryFolder folder;
  const Words many = Words{"steer", "--prompts", state_prompts(folder)} + kToCalifornia;
  const Outcome o = vitrine(many + Words{"--scale", "0.5,1", "--each"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_TRUE(o.out.starts_with("steering blocks.2.hook_resid_post at every token; scale 1 is"))
      << o.out;
  EXPECT_THAT(o.out, AllOf(HasSubstr("over all tokens of the prompts"), HasSubstr("logit_diff"),
                           HasSubstr("change from plain"), HasSubstr("\nplain "),
                           HasSubstr("\n0.5 "), HasSubstr("The capital of New Mexico is")));
  ASSERT_EQ(vitrine(many + Words{"--scale", "0.5,1", "--out", folder / "s.csv"}).exit, 0);
  EXPECT_THAT(read_text(folder / "s.csv"),
              HasSubstr("tensor,scale,name,prompt,value\nvalue,0,plain,"));
  ASSERT_EQ(vitrine(many + Words{"--out", folder / "s.safetensors"}).exit, 0);
  EXPECT_EQ(SafeTensors::open(folder / "s.safetensors").at("change/each").shape(), (Shape{4, 2}));

  for (const Words& words : {Words{"--top", "3"}, Words{"--max-tokens", "3"},
                             Words{"--temperature", "1"}, Words{"--top-k", "4"}}) {
    expect_failure(many + words, 2, words[0] + " does not go with --prompts: no text is continued");
  }
  expect_failure(many + Words{"--prompt", "a"}, 2, "give --prompts or --prompt, not both");
  expect_failure(kTexas + Words{"--metric", "prob"}, 2, "--metric is about the prompts of a file");
  expect_failure(kTexas + Words{"--out", "x.npz"}, 2, "texts are no tensors");
  expect_failure(many + Words{"--metric", "logit(answer"}, 2, "--metric");
  expect_failure(Words{"steer", "--prompts", state_prompts(folder, false)} + kToCalifornia, 3,
                 "states.jsonl:1: there is neither \"answer\"");
  expect_failure({"steer", "--prompts", "-", "--plus", "-", "--minus", "a"}, 2,
                 "only one of the prompts can come from stdin");
}

}  // namespace
}  // namespace vitrine::test

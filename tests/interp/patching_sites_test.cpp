// Sweeps over neurons, SAE features and roles against one edited run after the other; narrowed
// sweeps against the whole ones.
#include <gmock/gmock.h>

#include <cmath>

#include "autograd/transform/recorded.h"
#include "interp/patching.h"
#include "nn/families/sites.h"
#include "sae/folder.h"
#include "sae/sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::interp {
namespace {

using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Labels = std::vector<std::vector<std::string>>;

const nn::Model& tiny() {
  static const nn::Model model = nn::load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}
// The default model with the SAE of its layer 4 spliced in.
const nn::Model& with_sae() {
  static const nn::Model model = [] {
    nn::Model m = nn::load_model(VITRINE_DEFAULT_MODEL);
    const auto sae = std::make_shared<const sae::Sae>(
        sae::load(std::filesystem::path(VITRINE_DEFAULT_MODEL) / "sae" / "blocks.4.hook_mlp_out"));
    const Codec codec = sae::codec(*sae, "sae0");
    m.transform(
        [codec](const Graph& g) {
          return splice(g, site::mlp_out(4), codec, ErrorTerm::keep).graph;
        },
        sae::with_parameters({}, *sae, "sae0"));
    return m;
  }();
  return model;
}

// Three pairs of different lengths; "subject" is one token, two, and one.
std::vector<Example> ragged() {
  std::vector<Example> examples = {
      example_of({{3, 14, 15, 92}, {3, 14, 16, 92}, 7, 8}),
      example_of({{5, 14, 15, 92, 65, 35}, {5, 20, 21, 92, 65, 35}, 9, 7}),
      example_of({{1, 2, 3, 4, 9}, {1, 7, 3, 4, 9}, 1, 2})};
  const Span subjects[] = {{2, 3}, {1, 3}, {1, 2}};
  for (std::size_t i = 0; i < examples.size(); ++i) {
    examples[i].roles["subject"] = subjects[i];
    examples[i].line = static_cast<int>(i) + 1;
  }
  return examples;
}

// The metric of one run of the corrupt prompt with the clean one's values at a place.
double patched(const nn::Model& model, const Example& e, const Site& site, const Where& where) {
  const Tensor clean = model.run(nn::Prompt(e.prompt), site).results.raw(site.name);
  const Metric metric = nn::logit_diff(e.answers[0][0], e.wrongs[0][0]);
  return model.run_edited({e.corrupt}, {replace(site, clean, where)}, fetch(value(metric)), &metric)
      .results.scalar(metric.name);
}

// ---- neurons ------------------------------------------------------------------------------------
TEST(PatchSites, NeuronsEqualOneRunAfterTheOther) {
  const Example e = ragged()[0];
  const PatchSweep all = patch_examples(tiny(), {{e}}, {.site = "post", .by = By::feature})[0];
  EXPECT_THAT(all.axes, ElementsAre("layer", "feature"));
  ASSERT_EQ(all.values.dim(0), 3);
  const std::int64_t neurons = all.values.dim(1);
  EXPECT_EQ(all.runs, 3 * neurons);
  for (const std::int64_t layer : {0, 2}) {
    for (std::int64_t n = 0; n < neurons; n += 29) {
      EXPECT_NEAR(all.values.at<double>({layer, n}),
                  patched(tiny(), e, site::mlp_post(static_cast<int>(layer)), {.feature = {n}}),
                  1e-4);
    }
  }
  const PatchSweep by_pos =
      patch_examples(tiny(), {{e}}, {.site = "pre", .by = By::feature_pos, .layers = {1}})[0];
  EXPECT_THAT(by_pos.axes, ElementsAre("layer", "pos", "feature"));
  for (std::int64_t pos = 0; pos < 4; ++pos) {
    for (std::int64_t n = 3; n < neurons; n += 41) {
      EXPECT_NEAR(by_pos.values.at<double>({0, pos, n}),
                  patched(tiny(), e, site::mlp_pre(1), {.pos = {pos}, .feature = {n}}), 1e-4);
    }
  }
  // Before the token that differs nothing differs: those places are not even made.
  EXPECT_GE(by_pos.without_effect, 2 * neurons);
  const PatchSweep together =
      patch_examples(tiny(), {{e}}, {.site = "post", .by = By::pos, .layers = {2}})[0];
  EXPECT_NEAR(together.values.at<double>({0, 3}),
              patched(tiny(), e, site::mlp_post(2), {.pos = {3}}), 1e-4);
}

TEST(PatchSites, NeuronsTakeZerosMeansAndOtherPairs) {
  const Example e = ragged()[1];
  const Site post = site::mlp_post(1);
  const Metric metric = nn::logit_diff(e.answers[0][0], e.wrongs[0][0]);
  const auto run = [&](const Edit& edit) {
    return tiny()
        .run_edited({e.corrupt}, {edit}, fetch(value(metric)), &metric)
        .results.scalar(metric.name);
  };
  SweepSpec spec{.site = "post", .by = By::feature, .layers = {1}};
  spec.features = {5, 0};
  spec.replacement = Replacement::zero;
  const PatchSweep zeros = patch_examples(tiny(), {{e}}, spec)[0];
  EXPECT_NEAR(zeros.values.at<double>({0, 0}), run(zero(post, {.feature = {5}})), 1e-4);
  EXPECT_NEAR(zeros.values.at<double>({0, 1}), run(zero(post, {.feature = {0}})), 1e-4);
  spec.replacement = Replacement::mean;
  const PatchSweep means = patch_examples(tiny(), {{e}}, spec)[0];
  const nn::Run both = tiny().run({e.corrupt, e.prompt}, post);
  EXPECT_NEAR(means.values.at<double>({0, 0}), run(mean(post, both.results, {.feature = {5}})),
              1e-4);
}

// ---- SAEs ---------------------------------------------------------------------------------------
const Example kStates = [] {
  return example_of({{290, 271, 266, 1615, 267}, {290, 271, 266, 1210, 267}, 300, 400});
}();

TEST(PatchSites, FeaturesOfAnSaeEqualOneRunAfterTheOther) {
  const Site acts{"blocks.4.hook_mlp_out.hook_sae_acts_post"};
  SweepSpec spec{.site = "mlp_out.hook_sae_acts_post", .by = By::feature};
  const PatchSweep all = patch_examples(with_sae(), {{kStates}}, spec)[0];
  EXPECT_EQ(all.layers, std::vector<int>{4});
  ASSERT_EQ(all.values.shape(), Shape({1, 2048}));
  EXPECT_EQ(all.runs, 2048);
  // A feature that is 0 in both runs has no effect, exactly, and is not run.
  const nn::Run runs = with_sae().run({kStates.prompt, kStates.corrupt}, acts);
  const Tensor values = runs.results.raw(acts.name);  // [10, 2048]
  int differ = 0, checked = 0;
  for (std::int64_t j = 0; j < 2048; ++j) {
    bool same = true;
    for (std::int64_t row = 0; row < 5; ++row)
      same = same && values.at<float>({row, j}) == values.at<float>({row + 5, j});
    if (same) {
      EXPECT_EQ(all.values.at<double>({0, j}), all.corrupt) << j;
      continue;
    }
    ++differ;
    if (checked++ < 12) {
      EXPECT_NEAR(all.values.at<double>({0, j}),
                  patched(with_sae(), kStates, acts, {.feature = {j}}), 1e-4);
    }
  }
  EXPECT_GT(differ, 12);
  EXPECT_EQ(all.without_effect, 2048 - differ);
  // Nothing is left out without comparing, and the numbers are the same.
  spec.by_difference = false;
  spec.features = {0, 1, 2, 3};
  const PatchSweep every = patch_examples(with_sae(), {{kStates}}, spec)[0];
  for (std::int64_t j = 0; j < 4; ++j)
    EXPECT_NEAR(every.values.at<double>({0, j}), all.values.at<double>({0, j}), 1e-5);
}

TEST(PatchSites, ErrorAndReconstructionOfAnSae) {
  for (const char* name : {"hook_sae_error", "hook_sae_recons"}) {
    const std::string in_layer = std::string("mlp_out.") + name;
    const PatchSweep sweep = patch_examples(with_sae(), {{kStates}}, {.site = in_layer})[0];
    EXPECT_THAT(sweep.axes, ElementsAre("layer", "pos"));
    EXPECT_NEAR(sweep.values.at<double>({0, 3}),
                patched(with_sae(), kStates, Site{"blocks.4.hook_" + in_layer}, {.pos = {3}}),
                1e-4);
  }
}

// ---- narrowing ----------------------------------------------------------------------------------
TEST(PatchSites, NarrowedSweepsHaveTheWholeOnesNumbers) {
  const Example e = ragged()[1];
  SweepSpec spec{.site = "z", .by = By::head_pos};
  const PatchSweep whole = patch_examples(tiny(), {{e}}, spec)[0];
  EXPECT_EQ(whole.labels, (Labels{{"0", "1", "2"}, {}, {}}));
  spec.layers = {2, 0};
  spec.heads = {3, 1};
  spec.positions = {{4, ""}, {-1, ""}};
  const PatchSweep narrow = patch_examples(tiny(), {{e}}, spec)[0];
  EXPECT_EQ(narrow.labels, (Labels{{"2", "0"}, {"4", "-1"}, {"3", "1"}}));
  ASSERT_EQ(narrow.values.shape(), Shape({2, 2, 2}));
  EXPECT_EQ(narrow.runs, 8);
  const std::int64_t positions[] = {4, 5};
  for (std::int64_t l = 0; l < 2; ++l) {
    for (std::int64_t p = 0; p < 2; ++p) {
      for (std::int64_t h = 0; h < 2; ++h) {
        EXPECT_NEAR(narrow.values.at<double>({l, p, h}),
                    whole.values.at<double>({2 - 2 * l, positions[p], 3 - 2 * h}), 1e-6);
      }
    }
  }
  // Of a pattern: destinations and sources.
  spec = {.site = "pattern", .by = By::head_dest_src};
  const PatchSweep entries = patch_examples(tiny(), {{e}}, spec)[0];
  spec.heads = {2};
  spec.positions = {{-2, ""}};
  spec.sources = {{2, ""}, {1, ""}};
  const PatchSweep some = patch_examples(tiny(), {{e}}, spec)[0];
  ASSERT_EQ(some.values.shape(), Shape({3, 1, 1, 2}));
  for (std::int64_t l = 0; l < 3; ++l) {
    for (std::int64_t s = 0; s < 2; ++s)
      EXPECT_NEAR(some.values.at<double>({l, 0, 0, s}), entries.values.at<double>({l, 2, 4, 2 - s}),
                  1e-6);
  }
}

// What is no axis of the result narrows what each run changes.
TEST(PatchSites, OtherAxesAreNarrowedWithinEachRun) {
  const Example e = ragged()[1];
  SweepSpec spec{.site = "z", .by = By::head, .layers = {1}};
  spec.positions = {{-1, ""}, {-1, "subject"}};
  const PatchSweep by_head = patch_examples(tiny(), {{e}}, spec)[0];
  EXPECT_EQ(by_head.labels, (Labels{{"1"}, {}}));
  for (std::int64_t h = 0; h < 4; ++h)
    EXPECT_NEAR(by_head.values.at<double>({0, h}),
                patched(tiny(), e, site::z(1), {.pos = {1, 2, 5}, .head = {h}}), 1e-4);
  spec = {.site = "z", .by = By::pos, .layers = {1}};
  spec.heads = {0, 2};
  const PatchSweep by_pos = patch_examples(tiny(), {{e}}, spec)[0];
  for (std::int64_t p = 0; p < 6; ++p)
    EXPECT_NEAR(by_pos.values.at<double>({0, p}),
                patched(tiny(), e, site::z(1), {.pos = {p}, .head = {0, 2}}), 1e-4);
  spec = {.site = "post", .by = By::feature, .layers = {2}};
  spec.positions = {parse_position("subject")};
  spec.features = {7};
  EXPECT_NEAR(patch_examples(tiny(), {{e}}, spec)[0].values.at<double>({0, 0}),
              patched(tiny(), e, site::mlp_post(2), {.pos = {1, 2}, .feature = {7}}), 1e-4);
}

// Pairs of different lengths line up by role: the tokens of one are patched together.
TEST(PatchSites, RolesOfRaggedPairsLineUp) {
  const std::vector<Example> pairs = ragged();
  SweepSpec spec{.site = "resid_mid"};
  spec.positions = {parse_position("subject"), parse_position("-1")};
  const std::vector<PatchSweep> sweeps = patch_examples(tiny(), pairs, spec);
  const SweepSummary sum = summarise(sweeps);
  EXPECT_EQ(sum.labels, (Labels{{"0", "1", "2"}, {"subject", "-1"}}));
  ASSERT_EQ(sum.mean.shape(), Shape({3, 2}));
  for (std::int64_t l = 0; l < 3; ++l) {
    for (std::int64_t p = 0; p < 2; ++p) {
      double mean = 0;
      for (std::size_t i = 0; i < pairs.size(); ++i) {
        const Span at = pairs[i].span(spec.positions[static_cast<std::size_t>(p)]);
        Where where;
        for (std::int64_t t = at.begin; t < at.end; ++t) where.pos.push_back(t);
        const double naive = patched(tiny(), pairs[i], site::resid_mid(static_cast<int>(l)), where);
        EXPECT_NEAR(sweeps[i].values.at<double>({l, p}), naive, 1e-4);
        mean += (naive - sweeps[i].corrupt) / 3;
      }
      EXPECT_NEAR(sum.mean.at<double>({l, p}), mean, 1e-4);
      EXPECT_EQ(sum.count.at<double>({l, p}), 3);
    }
  }
  // Neurons and roles, of many pairs at once.
  spec = {.site = "post", .by = By::feature_pos, .layers = {1}};
  spec.features = {11, 4};
  spec.positions = {parse_position("subject")};
  const std::vector<PatchSweep> neurons = patch_examples(tiny(), pairs, spec);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Span at = pairs[i].roles.at("subject");
    Where where{.feature = {4}};
    for (std::int64_t t = at.begin; t < at.end; ++t) where.pos.push_back(t);
    EXPECT_NEAR(neurons[i].values.at<double>({0, 0, 1}),
                patched(tiny(), pairs[i], site::mlp_post(1), where), 1e-4);
  }
}

// ---- what is refused ----------------------------------------------------------------------------
TEST(PatchSites, MistakesAreExplained) {
  const std::vector<Example> pairs = ragged();
  const auto refused = [&](const SweepSpec& spec) {
    return message_of<Error>([&] { patch_examples(tiny(), pairs, spec); });
  };
  EXPECT_THAT(refused({.site = "mlp_out.hook_sae_acts_post", .by = By::feature}),
              ::testing::AllOf(HasSubstr("no layer has the site mlp_out.hook_sae_acts_post"),
                               HasSubstr("did you mean blocks.0."),
                               HasSubstr("the layer into which it is spliced")));
  EXPECT_THAT(message_of<SiteError>([] {
                patch_examples(with_sae(), {{kStates}},
                               {.site = "mlp_out.hook_sae_error", .layers = {4, 3}});
              }),
              HasSubstr("layer 3 does not have the site mlp_out.hook_sae_error"));
  EXPECT_THAT(refused({.site = "pre_linear", .by = By::feature}),
              HasSubstr("did you mean blocks.0.mlp.hook_pre"));
  EXPECT_THAT(refused({.site = "post", .by = By::head}),
              HasSubstr("post cannot be swept by head; it can by feature or by pos or by "
                        "feature,pos"));
  EXPECT_THAT(refused({.site = "resid_pre", .heads = {0}}),
              HasSubstr("resid_pre has no heads that a sweep could be narrowed to"));
  EXPECT_THAT(refused({.site = "resid_pre", .features = {0}}), HasSubstr("has no features that"));
  EXPECT_THAT(refused({.site = "z", .by = By::head, .heads = {1, 4}}),
              HasSubstr("z has no head 4; there are 0 to 3"));
  EXPECT_THAT(refused({.site = "z", .by = By::head, .heads = {1, 1}}),
              HasSubstr("head 1 is listed twice"));
  EXPECT_THAT(refused({.positions = {{2, ""}, {2, ""}}}), HasSubstr("position 2 is listed twice"));
  EXPECT_THAT(refused({.sources = {{2, ""}}}), HasSubstr("resid_pre has no source positions"));
  EXPECT_THAT(refused({.positions = {{4, ""}}}), HasSubstr("line 1: there is no position 4"));
  EXPECT_THAT(refused({.positions = {{-1, "object"}}}),
              HasSubstr("line 1: there is no role \"object\"; this prompt has \"subject\""));
  EXPECT_EQ(ways_to_sweep("mlp_out.hook_sae_acts_pre"),
            (std::vector<By>{By::feature, By::pos, By::feature_pos}));
  EXPECT_EQ(ways_to_sweep("mlp_out.hook_sae_error"), (std::vector<By>{By::pos}));
}

}  // namespace
}  // namespace vitrine::interp

// Edits that stand on a model, against the same edits given with each run.
#include "nn/model/standing_edits.h"

#include <gmock/gmock.h>

#include "autograd/ops/ops.h"
#include "autograd/transform/splice.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "tensor/error.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

void expect_close(const Tensor& actual, const Tensor& wanted, double tolerance) {
  test::expect_close(actual, wanted, tolerance, "the edited run");
}

Model tiny() { return load_model((test::data() / "tiny-gpt2").string()); }

const std::vector<Tokens> kRagged = {{1, 2, 3, 4, 5}, {7, 8}, {9, 3, 2}};

std::vector<StandingEdit> three_edits() {
  return {{.edit = zero(site::z(0), {.head = {0}})},
          {.edit = scale(site::mlp_out(1), 0.5), .positions = last_position},
          {.edit = zero(site::z(0), {.head = {1}}), .positions = [](const Tokens& prompt) {
             return prompt.size() > 2 ? std::vector<std::int64_t>{1} : std::vector<std::int64_t>{};
           }}};
}

// What they come to for the ragged prompts.
Interventions by_hand() {
  Edit last = scale(site::mlp_out(1), 0.5), second = zero(site::z(0));
  last.where = {
      {.prompt = {0}, .pos = {4}}, {.prompt = {1}, .pos = {1}}, {.prompt = {2}, .pos = {2}}};
  second.where = {{.prompt = {0}, .pos = {1}, .head = {1}},
                  {.prompt = {2}, .pos = {1}, .head = {1}}};
  return {zero(site::z(0), {.head = {0}}), last, second};
}

TEST(StandingEdits, EveryRunIsEditedAtThePlacesOfEachPrompt) {
  const Model plain = tiny();
  Model edited = tiny();
  edited.stand(three_edits());
  const auto wanted = plain.run_edited(kRagged, by_hand(), fetch(value("logits")));
  expect_close(edited.run(kRagged).results.raw("logits"), wanted.results.raw("logits"), 0);
  const auto alone = plain.run_edited(
      {kRagged[1]}, {zero(site::z(0), {.head = {0}}), scale(site::mlp_out(1), 0.5, {.pos = {1}})},
      fetch(value("logits")));
  // Another selection of the same structure is fed to the same graph.
  Model one = tiny();
  one.stand({three_edits()[0], three_edits()[1]});
  expect_close(one.run(kRagged[1]).results.raw("logits"), alone.results.raw("logits"), 0);
  edited.stand({});
  expect_close(edited.run(kRagged).results.raw("logits"), plain.run(kRagged).results.raw("logits"),
               0);
}

// Keys that differ from prompt to prompt, with positions and without.
TEST(StandingEdits, KeysMayDifferFromPromptToPrompt) {
  const auto second = [](const Tokens& prompt) {
    return prompt.size() > 2 ? std::vector<std::int64_t>{std::ssize(prompt) - 2}
                             : std::vector<std::int64_t>{};
  };
  const Model plain = tiny();
  for (const bool last : {false, true}) {
    StandingEdit edit{.edit = zero(site::pattern(1), {.head = {0, 2}}), .keys = second};
    if (last) edit.positions = last_position;
    Model edited = tiny();
    edited.stand({edit});
    Edit by_hand = zero(site::pattern(1));
    by_hand.where = {{.prompt = {0}, .head = {0, 2}, .key = {3}},
                     {.prompt = {2}, .head = {0, 2}, .key = {1}}};
    if (last) {
      by_hand.where[0].pos = {4};
      by_hand.where[1].pos = {2};
    }
    expect_close(edited.run(kRagged).results.raw("logits"),
                 plain.run_edited(kRagged, {by_hand}, fetch(value("logits"))).results.raw("logits"),
                 0);
  }
  Model twice = tiny();
  EXPECT_ERROR(GraphError, "keys are told twice",
               twice.stand({{.edit = zero(site::pattern(1), {.key = {0}}), .keys = second}}));
}

TEST(StandingEdits, OtherEditsActOnWhatTheyLeave) {
  const Model plain = tiny();
  Model edited = tiny();
  edited.stand(three_edits());
  const Interventions more = {scale(site::z(0), 2, {.pos = {0}}), zero(site::attn_out(1))};
  const auto wanted = plain.run_edited(kRagged, by_hand().then(more), fetch(value("logits")));
  expect_close(edited.run_edited(kRagged, more, fetch(value("logits"))).results.raw("logits"),
               wanted.results.raw("logits"), 1e-6);
}

TEST(StandingEdits, SweepsBeginFromTheEditedRun) {
  const Model plain = tiny();
  Model edited = tiny();
  edited.stand(three_edits());
  std::vector<Interventions> worlds;
  for (int l = 0; l < plain.config().layers; ++l) {
    for (int h = 0; h < plain.config().heads; ++h)
      worlds.push_back({scale(site::z(l), 3, {.head = {h}})});
    worlds.push_back({zero(site::mlp_out(l), {.prompt = {0}, .pos = {2}})});
  }
  const Metric metric = logit_diff(3, 5);
  const std::string each = per_prompt_name(metric);
  const Swept swept = edited.sweep(kRagged, worlds, metric, {each});
  for (std::size_t w = 0; w < worlds.size(); ++w) {
    const auto wanted =
        plain.run_edited(kRagged, by_hand().then(worlds[w]), fetch(value(each)), &metric);
    expect_close(swept[each].select(0, static_cast<std::int64_t>(w)), wanted[each], 2e-5);
  }
}

TEST(StandingEdits, TextIsGeneratedUnderThem) {
  const Model plain = tiny();
  Model edited = tiny();
  edited.stand({three_edits()[0], three_edits()[1]});
  const Tokens prompt = kRagged[0];
  const Interventions what = {zero(site::z(0), {.head = {0}}),
                              scale(site::mlp_out(1), 0.5, {.pos = {4}})};
  EXPECT_EQ(generate(edited, prompt, 6, {}, {}), generate(plain, prompt, 6, {}, {}, {}, what));
  expect_close(next_logits(edited, prompt), next_logits(plain, prompt, what), 0);
  // Before edits of its own.
  const Interventions more = {scale(site::mlp_out(0), 2)};
  EXPECT_EQ(generate(edited, prompt, 6, {}, {}, {}, more),
            generate(plain, prompt, 6, {}, {}, {}, what.then(more)));
}

TEST(StandingEdits, ValuesMayDifferFromPromptToPrompt) {
  const Model plain = tiny();
  Model edited = tiny();
  const Site at = site::resid_pre(1);
  // Each prompt is given its own values, backwards in the batch of rows.
  const auto reversed = [&](const std::vector<Tokens>& prompts) {
    const Tensor rows = plain.run(prompts, at).results.raw(at.name).contiguous();
    Tensor out = Tensor::empty(rows.shape(), rows.dtype());
    for (std::int64_t r = 0; r < rows.dim(0); ++r)
      std::copy_n(rows.select(0, rows.dim(0) - 1 - r).view().data, rows.select(0, 0).bytes(),
                  out.select(0, r).view().data);
    return out;
  };
  edited.stand({{.edit = replace(at, Tensor::zeros({1}, DType::f32)), .value = reversed}});
  const auto wanted =
      plain.run_edited(kRagged, {replace(at, reversed(kRagged))}, fetch(value("logits")));
  expect_close(edited.run(kRagged).results.raw("logits"), wanted.results.raw("logits"), 0);
  EXPECT_THROW(generate(edited, kRagged[0], 3, {}, {}), ShapeError);
}

TEST(StandingEdits, ASplicedModelHasTheSitesOfItsFeatures) {
  Model spliced = tiny();
  const Site at = site::mlp_out(0);
  const std::int64_t d = spliced.config().d_model;
  const Codec halves = {.pre = {},
                        .encode = [](const Value& x) { return x * 0.5; },
                        .decode =
                            [](const Value& f) {
                              return f * f.builder().parameter("codec.two", {DType::f32, {1}});
                            }};
  spliced.transform([&](const Graph& g) { return splice(g, at, halves, ErrorTerm::keep).graph; },
                    {{"codec.two", Tensor::full({1}, DType::f32, 2)}});
  const Model plain = tiny();
  expect_close(spliced.run(kRagged).results.raw("logits"), plain.run(kRagged).results.raw("logits"),
               1e-5);
  spliced.stand({{.edit = zero(Site{at.name + ".hook_sae_acts_post"}, {.feature = {1}})}});
  const auto wanted =
      plain.run_edited(kRagged, {zero(at, {.feature = {1}})}, fetch(value("logits")));
  expect_close(spliced.run(kRagged).results.raw("logits"), wanted.results.raw("logits"), 1e-5);
  EXPECT_GT(d, 1);
}

TEST(StandingEdits, WhatCannotStandIsRefused) {
  Model m = tiny();
  EXPECT_THAT([&] { m.stand({{.edit = zero(site::z(0), {.pos = {1}})}}); },
              testing::ThrowsMessage<GraphError>(testing::HasSubstr("a function of the prompt")));
  EXPECT_THROW(m.stand({{.edit = zero(Site{"blocks.9.hook_mlp_out"})}}), SiteError);
  EXPECT_TRUE(m.standing().empty());
  m.stand({{.edit = zero(site::mlp_out(0)),
            .positions = [](const Tokens&) { return std::vector<std::int64_t>{}; },
            .where = "pos none"}});
  EXPECT_THAT([&] { m.run(kRagged); },
              testing::ThrowsMessage<GraphError>(testing::HasSubstr(
                  "blocks.0.hook_mlp_out[pos none] = 0: no prompt has such a position")));
}

TEST(StandingEdits, TheySayWhereTheyAre) {
  const StandingEdit e{.edit = zero(site::z(3), {.head = {0, 2}}), .where = "pos -1"};
  EXPECT_EQ(e.to_text(), "blocks.3.attn.hook_z[pos -1, head 0,2] = 0");
}

}  // namespace
}  // namespace vitrine::nn

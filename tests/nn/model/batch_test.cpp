#include "nn/model/batch.h"

#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

TEST(Batch, PacksPromptsOneAfterTheOther) {
  const std::vector<Tokens> prompts = {{5, 6, 7}, {8}};
  const Feeds feeds = batch_feeds(prompts);
  EXPECT_EQ(batch_size(prompts), (BatchSize{4, 2, 3}));
  EXPECT_EQ(feeds.at("tokens").to_vector<int>(), (Tokens{5, 6, 7, 8}));
  EXPECT_EQ(feeds.at("rows.sequence").to_vector<int>(), (Tokens{0, 0, 0, 1}));
  EXPECT_EQ(feeds.at("rows.position").to_vector<int>(), (Tokens{0, 1, 2, 0}));
  EXPECT_EQ(feeds.at("rows.keys").to_vector<int>(), (Tokens{0, 1, 2, 3, -1, -1}));
  EXPECT_EQ(feeds.at("rows.last").to_vector<int>(), (Tokens{2, 3}));
  EXPECT_EQ(feeds.at("next.row").to_vector<int>(), (Tokens{0, 1}));
  EXPECT_EQ(feeds.at("next.token").to_vector<int>(), (Tokens{6, 7}));
  EXPECT_EQ(next_tokens(prompts), 2);
}

// Prompts of different lengths in one batch give the numbers that they give alone.
class Ragged : public ::testing::TestWithParam<const char*> {};

TEST_P(Ragged, GivesTheNumbersOfEachPromptAlone) {
  const Model model =
      load_gpt2(GetParam() == std::string("tiny") ? (test::data() / "tiny-gpt2").string() : "");
  const int v = model.config().vocabulary, longest = model.config().context;
  std::vector<Tokens> prompts;
  const random::Key key{7};
  for (const int length : {3, 1, longest, 8, 2}) {
    Tokens t;
    for (int i = 0; i < length; ++i) {
      t.push_back(static_cast<int>(
          random::below(key.fold(prompts.size()), static_cast<std::uint64_t>(i), v)));
    }
    prompts.push_back(t);
  }
  const auto together = model.run(prompts, sites("*"), value("logits"));
  const Loss all = loss(model, prompts);
  std::int64_t at = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto alone = model.run(prompts[i], sites("*"), value("logits"));
    for (const std::string& name : alone.results.names()) {
      test::expect_close(together.results.sequence(name, static_cast<int>(i)), alone[name], 1e-5,
                         name);
    }
    if (prompts[i].size() < 2) continue;
    const Tensor per_token = loss(model, {prompts[i]}).per_token;
    test::expect_close(all.per_token.slice(0, at, at + per_token.numel()).contiguous(), per_token,
                       1e-5, "loss");
    at += per_token.numel();
  }
  EXPECT_ERROR(ShapeError, "different lengths (3, 1,", together.logits());
}

TEST_P(Ragged, GradientsAreThoseOfEachPromptAlone) {
  const Model model =
      load_gpt2(GetParam() == std::string("tiny") ? (test::data() / "tiny-gpt2").string() : "");
  const std::vector<Tokens> prompts = {{1, 2, 3, 4}, {5, 6}, {7, 8, 9}};
  const auto run = [&](const std::vector<Tokens>& p) {
    const Graph g =
        gradient(model.build(batch_size(p)), logit_diff(3, 4), sites("*hook_z,*hook_pattern"));
    return model.run_graph(g, p, fetch(grad(sites("*hook_z,*hook_pattern"))));
  };
  const auto together = run(prompts);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto alone = run({prompts[i]});
    for (const std::string& name : alone.results.names()) {
      Tensor part = together.results.sequence(name, static_cast<int>(i));
      std::vector<double> scaled = part.to_vector<double>();  // the metric is the mean over prompts
      for (double& x : scaled) x *= static_cast<double>(prompts.size());
      const Tensor want = alone[name];
      test::expect_close(Tensor::of(part.shape(), scaled), want.to(DType::f64), 1e-5, name);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Ragged, ::testing::Values("tiny", "default"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST(Batch, RejectsWhatTheModelCannotRun) {
  const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  EXPECT_ERROR(ContextError,
               "the prompt has 33 tokens, but this model's context is 32; shorten it by 1",
               model.run(Tokens(33, 1)));
  EXPECT_ERROR(ContextError, "the prompt is empty", model.run(Tokens{}));
  EXPECT_ERROR(ContextError, "prompt 1 is empty", model.run(std::vector<Tokens>{{1}, {}}));
  EXPECT_ERROR(ContextError, "there is no prompt", model.run(std::vector<Tokens>{}));
  EXPECT_ERROR(TokenError, "the prompt has token id 97 at position 1; this model knows ids 0 to 96",
               model.run(Tokens{1, 97}));
  EXPECT_ERROR(TokenError, "token id -1 at position 0", model.run(Tokens{-1}));
  EXPECT_ERROR(ContextError, "at least two tokens", loss(model, {{1}}));
}

}  // namespace
}  // namespace vitrine::nn

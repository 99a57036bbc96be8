// Text that is generated under interventions: keys and values that are kept give what computing
// everything again gives.
#include <gmock/gmock.h>

#include "nn/families/sites.h"
#include "nn/model/sampling.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

const Model& tiny() {  // 3 layers, d 48, 4 heads, 97 ids, context 32
  static const Model model = load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}
const Tokens kPrompt = {3, 14, 15, 92, 65};

// Numbers that look random, and are the same every time.
Tensor noise(const Shape& shape, double size, int salt = 0) {
  std::vector<float> x;
  for (int i = 0; i < numel(shape); ++i)
    x.push_back(static_cast<float>(size * std::sin(1.7 * (i + 1) * (salt + 1) + salt)));
  return Tensor::of(shape, x);
}

// Those edits of which a position is in a text of this length, with these positions.
Interventions within(const Interventions& what, std::int64_t length) {
  Interventions kept;
  for (const auto& stage : what.stages()) {
    std::vector<Edit> edits;
    for (Edit e : stage) {
      std::vector<Where> where;
      for (Where w : e.where) {
        const bool by_position = !w.pos.empty();
        std::erase_if(w.pos, [&](std::int64_t p) { return p >= length; });
        if (!by_position || !w.pos.empty()) where.push_back(w);
      }
      if (!e.where.empty() && where.empty()) continue;
      e.where = where;
      edits.push_back(e);
    }
    kept = kept.then(Interventions(edits));
  }
  return kept;
}

// f32 [vocabulary] after the text, without a cache.
Tensor recomputed(const Model& model, const Tokens& text, const Interventions& what) {
  const Tensor logits =
      model
          .run_edited({text}, within(what, static_cast<std::int64_t>(text.size())),
                      fetch(value("logits")))
          .logits()
          .select(0, 0);
  return logits.select(0, logits.dim(0) - 1).contiguous();
}
Tokens naive(const Model& model, const Tokens& prompt, int count, const Sampling& sampling,
             random::Key key, const Interventions& what) {
  Tokens text = prompt, fresh;
  for (int i = 0; i < count; ++i) {
    const Tensor logits = recomputed(model, text, what);
    const auto row = logits.to_vector<float>();
    fresh.push_back(choose(row, sampling, random::uniform(key, static_cast<std::uint64_t>(i))));
    text.push_back(fresh.back());
  }
  return fresh;
}

TEST(GenerateEdited, EqualsRecomputing) {
  const std::vector<std::pair<const char*, Interventions>> cases = {
      {"a direction everywhere", {add(site::resid_post(1), noise({48}, 4), 1.5)}},
      {"before the first block", {add(site::resid_pre(0), noise({48}, 1))}},
      {"a prompt position", {add(site::resid_post(0), noise({48}, 9), 1, {.pos = {2}})}},
      {"the last of the prompt and two generated ones",
       {add(site::resid_mid(2), noise({48}, 9), -1, {.pos = {4, 6, 9}})}},
      {"a generated position only", {zero(site::mlp_out(1), {.pos = {7}})}},
      {"one head", {add(site::z(1), noise({12}, 4), 1, {.head = {2}})}},
      {"all heads", {add(site::z(0), noise({4, 12}, 4, 1))}},
      {"keys", {add(site::k(1), noise({4, 12}, 2, 2), 1, {.pos = {0, 5}})}},
      {"values", {scale(site::v(0), -2, {.head = {1, 3}})}},
      {"copies of the stream", {add(site::q_input(2), noise({48}, 3), 1, {.head = {0}})}},
      {"patterns", {scale(site::pattern(1), 0.3, {.pos = {3, 6, 7}, .head = {1}})}},
      {"a source position of patterns", {zero(site::pattern(0), {.key = {2}})}},
      {"scores", {add(site::attn_scores(2), Tensor::of<float>({1}, {1.5f}), 1, {.key = {0, 1}})}},
      {"normalised", {project_out(site::ln1_normalized(1), noise({48}, 1))}},
      {"neurons", {zero(site::mlp_post(2), {.feature = {1, 2, 3, 50, 150}})}},
      {"replaced", {replace(site::attn_out(1), noise({48}, 1))}},
      {"replaced at one position", {replace(site::resid_post(2), noise({1, 48}, 5), {.pos = {8}})}},
      {"logits", {add(site::unembed_out(), noise({97}, 3))}},
      {"several directions",
       {add(site::resid_post(0), noise({48}, 2)), add(site::resid_post(0), noise({48}, 3, 1), -0.5),
        add(site::mlp_out(2), noise({48}, 2, 2), 1, {.pos = {6}})}},
      {"one after the other", Interventions{project_out(site::resid_post(1), noise({48}, 1))}.then(
                                  {add(site::resid_post(1), noise({48}, 1), 7)})}};
  const Tokens plain = generate(tiny(), kPrompt, 12, {}, {});
  int differ = 0;
  for (const auto& [name, what] : cases) {
    SCOPED_TRACE(name);
    const Tokens greedy = generate(tiny(), kPrompt, 12, {}, {}, {}, what);
    EXPECT_EQ(greedy, naive(tiny(), kPrompt, 12, {}, {}, what));
    const Sampling warm{.temperature = 1.3, .top_k = 40, .top_p = 0.95};
    EXPECT_EQ(generate(tiny(), kPrompt, 12, warm, random::Key{5}, {}, what),
              naive(tiny(), kPrompt, 12, warm, random::Key{5}, what));
    if (greedy != plain) ++differ;
  }
  // An edit that changed nothing would prove nothing.
  EXPECT_GE(differ, static_cast<int>(cases.size()) * 2 / 3);
}

TEST(GenerateEdited, NoStrengthIsThePlainText) {
  const Sampling warm{.temperature = 1};
  for (const Site& at : {site::resid_post(1), site::embed(), site::z(2), site::mlp_post(0)}) {
    const Shape width = at == site::z(2)          ? Shape{4, 12}
                        : at == site::mlp_post(0) ? Shape{192}
                                                  : Shape{48};
    const Interventions none = {add(at, noise(width, 10), 0)};
    EXPECT_EQ(max_abs_difference(next_logits(tiny(), kPrompt, none), next_logits(tiny(), kPrompt)),
              0)
        << at.name;
    EXPECT_EQ(generate(tiny(), kPrompt, 20, {}, {}, {}, none),
              generate(tiny(), kPrompt, 20, {}, {}));
    EXPECT_EQ(generate(tiny(), kPrompt, 20, warm, random::Key{2}, {}, none),
              generate(tiny(), kPrompt, 20, warm, random::Key{2}));
  }
}

// The last new token is not read, so it needs no place: as in HuggingFace.
TEST(GenerateEdited, TheContextCanBeFilled) {
  const Interventions what = {add(site::resid_post(1), noise({48}, 3))};
  for (const int given : {1, 26, 31, 32}) {
    Tokens prompt;
    for (int i = 0; i < given; ++i) prompt.push_back((7 * i + 3) % 97);
    const int most = 32 - given + 1;
    EXPECT_EQ(most_new_tokens(tiny().config(), given), most);
    for (const Interventions& edits : {Interventions{}, what}) {
      const Tokens fresh = generate(tiny(), prompt, most, {}, {}, {}, edits);
      EXPECT_EQ(std::ssize(fresh), most);
      EXPECT_EQ(fresh, naive(tiny(), prompt, most, {}, {}, edits)) << given;
      EXPECT_ERROR(ContextError, "ask for at most " + std::to_string(most),
                   generate(tiny(), prompt, most + 1, {}, {}, {}, edits));
    }
  }
}

// The first token changes only with what is edited before it, and an edit at the position of
// token i only what comes after that.
TEST(GenerateEdited, APositionHasNoEffectBeforeIt) {
  const Tokens plain = generate(tiny(), kPrompt, 10, {}, {});
  const Tokens edited = generate(tiny(), kPrompt, 10, {}, {}, {},
                                 {replace(site::resid_post(2), noise({48}, 50), {.pos = {8}})});
  EXPECT_TRUE(std::equal(plain.begin(), plain.begin() + 4, edited.begin()));  // positions 5 to 8
  EXPECT_NE(plain[4], edited[4]);
}

TEST(GenerateEdited, NextLogitsAreThoseOfTheWholePass) {
  const Interventions what = {add(site::resid_post(1), noise({48}, 4), 1, {.pos = {1}})};
  test::expect_close(next_logits(tiny(), kPrompt), recomputed(tiny(), kPrompt, {}), 1e-5, "plain");
  test::expect_close(next_logits(tiny(), kPrompt, what), recomputed(tiny(), kPrompt, what), 1e-5,
                     "edited");
  EXPECT_GT(max_abs_difference(next_logits(tiny(), kPrompt, what), next_logits(tiny(), kPrompt)),
            1e-2);
}

TEST(GenerateEdited, MistakesAreFoundBeforeTheFirstToken) {
  const auto run = [](const Interventions& what) {
    generate(
        tiny(), kPrompt, 4, {}, {},
        [](int) -> bool { throw std::logic_error("a token came before the error"); }, what);
  };
  EXPECT_ERROR(SiteError, "did you mean", run({zero({"blocks.1.hook_resid_pots"})}));
  // 5 tokens and 4 new ones: the last one, at position 8, is not run any more.
  EXPECT_ERROR(GraphError, "blocks.1.hook_resid_post[pos 8] = 0: pos 8 is outside 0 to 7",
               run({zero(site::resid_post(1), {.pos = {8}})}));
  EXPECT_ERROR(GraphError, "pos -1 is outside", run({zero(site::resid_post(1), {.pos = {-1}})}));
  EXPECT_ERROR(GraphError, "head 4 is outside 0 to 3", run({zero(site::z(1), {.head = {4}})}));
  EXPECT_ERROR(GraphError, "change the same element",
               run({zero(site::resid_post(1), {.pos = {6}}), scale(site::resid_post(1), 2)}));
  EXPECT_ERROR(ShapeError,
               "it needs the same value at every position, [1, 48] or what broadcasts to it",
               run({replace(site::resid_post(1), noise({5, 48}, 1), {.pos = {1}})}));
  EXPECT_ERROR(ShapeError, "a value [47] does not fit a text that grows",
               run({add(site::resid_post(1), noise({47}, 1))}));
}

}  // namespace
}  // namespace vitrine::nn

// What explains a model, on the families beyond GPT-2: parts add up, the end of a lens is the model,
// a sweep is a loop.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "interp/composition.h"
#include "interp/copying.h"
#include "interp/decomposition.h"
#include "interp/head_explained.h"
#include "interp/head_scores.h"
#include "interp/lens.h"
#include "interp/neurons.h"
#include "interp/patching.h"
#include "interp/stream.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/weights.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

const nn::Tokens kPrompt = {1, 2, 3, 4, 5, 6};
const nn::Tokens kOther = {1, 2, 9, 4, 5, 6};

class Family : public testing::TestWithParam<const char*> {
 protected:
  static nn::Model model(const char* gauge = "raw") {
    return nn::load_model((test::data() / "families" / GetParam()).string(),
                          {.gauge = nn::parse_gauge(gauge)});
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Family, testing::Values("llama", "neox", "gemma2"),
                         [](const auto& family) { return std::string(family.param); });

TEST_P(Family, DecompositionCloses) {
  for (const char* gauge : {"raw", "processed"}) {
    const nn::Model m = model(gauge);
    for (const std::optional<int> wrong : {std::optional<int>(), std::optional<int>(8)}) {
      const Decomposition d = decompose(m, kPrompt, {.answer = 7, .wrong = wrong});
      EXPECT_TRUE(d.closes()) << gauge << ": " << d.total() << " " << d.logit;
      EXPECT_GT(d.magnitude(), 0.1);
      // A layer's neurons and bias are its MLP.
      for (int l = 0; l < m.config().layers; ++l) {
        double sum = d.mlp_biases.at<double>({l});
        for (const double x : d.neurons.select(0, l).to_vector<double>()) sum += x;
        for (const Part& p : d.parts) {
          if (p.kind != Part::Kind::mlp || p.layer != l) continue;
          EXPECT_NEAR(sum, p.value, 1e-5);
        }
      }
      for (const Part& p : d.parts) EXPECT_NE(p.kind, Part::Kind::pos_embed);
    }
  }
}

TEST_P(Family, TheLensEndsInTheModel) {
  const nn::Model m = model();
  const Lens lens = logit_lens(m, kPrompt, 7, 8);
  const Tensor logits = m.run(kPrompt).logits();
  for (std::int64_t p = 0; p < std::ssize(kPrompt); ++p) {
    const double want = logits.at<float>({0, p, 7}) - logits.at<float>({0, p, 8});
    EXPECT_NEAR(lens.ln.at<double>({m.config().layers, p}), want, 2e-5);
  }
}

TEST_P(Family, NeuronsAddUpToTheEffectOfTheirLayer) {
  const nn::Model m = model();
  const auto layers = m.config().layers;
  const StrongNeurons found =
      strong_neurons(m, kPrompt, {.layer = layers - 1, .answer = 7, .neurons = m.config().d_mlp});
  // The metric is linear in the last layer's MLP where the final norm's scale is held: its neurons'
  // effects are the decomposition's shares, unless a soft cap bends the logit.
  if (m.config().logit_cap > 0) return;
  const Decomposition d = decompose(m, kPrompt, {.answer = 7});
  int compared = 0;
  for (const Neuron& n : found.neurons) {
    ASSERT_TRUE(n.effect.has_value());
    EXPECT_NEAR(*n.effect, d.neurons.at<double>({layers - 1, n.id.index}), 1e-5);
    ++compared;
  }
  EXPECT_EQ(compared, m.config().d_mlp);
}

TEST_P(Family, WritersMakeUpWhatIsRead) {
  const StreamUse use = stream_use(model(), kPrompt, {});
  const auto readers = std::ssize(use.readers);
  for (std::int64_t r = 0; r < readers; ++r) {
    double sum = 0;
    for (std::int64_t w = 0; w < std::ssize(use.writers); ++w) {
      if (use.valid.at<bool>({w, r})) sum += use.share.at<double>({w, r});
    }
    EXPECT_NEAR(sum, 1, 1e-4) << use.readers[static_cast<std::size_t>(r)];
  }
}

TEST_P(Family, PatchingByHeadIsALoopOfRuns) {
  const nn::Model m = model();
  const Metric metric = nn::logit_diff(7, 8);
  const nn::Run clean = m.run(kPrompt, sites("*"));
  for (const char* site : {"z", "k", "v", "q"}) {
    const PatchSweep swept =
        patch_sweep(m, Pair{kPrompt, kOther, 7, 8}, {.site = site, .by = By::head});
    const bool shared = std::string(site) == "k" || std::string(site) == "v";
    const int heads = shared ? m.config().key_heads() : m.config().heads;
    ASSERT_EQ(swept.values.shape(), (Shape{m.config().layers, heads}));
    for (int l = 0; l < m.config().layers; ++l) {
      for (int h = 0; h < heads; ++h) {
        const Site where{fmt::format("blocks.{}.attn.hook_{}", l, site)};
        const Edit edit = replace(where, clean.results.raw(where.name), {.head = {h}}, "clean");
        const nn::Run run = m.run_edited({kOther}, {edit}, fetch(value(metric)), &metric);
        EXPECT_NEAR(swept.values.at<double>({l, h}), run.results.scalar(metric.name), 2e-5)
            << where.name << " " << h;
      }
    }
  }
}

TEST_P(Family, HeadsAreExplainedFromTheirOwnWeights) {
  const nn::Model m = model();
  const HeadFromWeights w = explain_weights(m, {1, 3}, 2, 3);
  EXPECT_EQ(w.qk.size(), 2u);
  const HeadOnPrompt p = explain_on_prompt(m, kPrompt, {1, 3}, {}, 3, 2);
  EXPECT_GT(p.length, 0);
  EXPECT_EQ(p.sources.size(), 2u);
  const Composition c = composition(m);
  EXPECT_GT(c.k.at<double>({0, 0, 1, 0}), 0);
  EXPECT_LE(c.k.at<double>({0, 0, 1, 0}), 1 + 1e-6);
  const auto prompts = repeated_tokens(m.config(), random::Key{1}, 2, 8);
  const HeadEffects swaps = value_swaps(m, prompts, random::Key{2});
  EXPECT_EQ(swaps.mean.shape(), (Shape{m.config().layers, m.config().heads}));
  EXPECT_TRUE(all_finite(swaps.mean));
}

}  // namespace
}  // namespace vitrine::interp

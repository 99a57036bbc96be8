// Gauges: the same function of other weights. The weights are TransformerLens's.
#include "nn/model/reweight.h"

#include <gmock/gmock.h>

#include <cmath>

#include "autograd/compile/fold.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "nn/model/weights.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

using ::testing::HasSubstr;

const char* const kGauges[] = {
    "fold_ln",           "center_writing_weights",         "center_unembed",
    "fold_value_biases", "fold_ln,center_writing_weights", "fold_value_biases,center_unembed",
    "processed"};

std::string tiny() { return (test::data() / "tiny-gpt2").string(); }
Model tiny_in(const std::string& gauge) {
  return load_gpt2(tiny(), {.dtype = DType::f64, .gauge = parse_gauge(gauge)});
}

// Logits of position p, less their mean over the vocabulary.
Tensor log_probabilities(const Tensor& logits) {
  Builder b;
  const Value x = b.input("x", {logits.dtype(), logits.shape()});
  b.output("y", log_softmax(x));
  return compile(std::move(b).finish(), fetch(value("y"))).run({{"x", logits}}, {}).raw("y");
}

TEST(Reweight, LeavesTheFunctionAsItIs) {
  const std::vector<Tokens> prompts = {{1, 5, 9, 3, 7}, {2, 2, 90, 4, 11}};
  const Model raw = tiny_in("raw");
  const Tensor logits = raw.run(prompts).logits();
  for (const char* gauge : kGauges) {
    SCOPED_TRACE(gauge);
    const Model m = tiny_in(gauge);
    EXPECT_EQ(name_of(m.gauge()), name_of(parse_gauge(gauge)));
    const auto run = m.run(prompts, value("logits"), sites("*.hook_pattern"));
    const bool same_logits = !m.gauge().center_unembed;
    if (same_logits) test::expect_close(run.logits(), logits, 1e-11, "logits");
    test::expect_close(log_probabilities(run.logits()), log_probabilities(logits), 1e-11, "log p");
    const auto plain = raw.run(prompts, sites("*.hook_pattern"));
    for (int l = 0; l < 3; ++l)
      test::expect_close(run[site::pattern(l)], plain[site::pattern(l)], 1e-11, "pattern");
  }
}

TEST(Reweight, EveryGaugeChangesSomething) {
  const Parameters raw = weights(tiny_in("raw"));
  for (const char* gauge : kGauges) {
    int changed = 0;
    for (const auto& [name, w] : weights(tiny_in(gauge)))
      changed += max_abs_difference(w, raw.at(name)) > 1e-6 ? 1 : 0;
    EXPECT_GT(changed, 0) << gauge;
  }
}

TEST(Reweight, WritesHaveMeanZeroAndValuesNoBias) {
  const Model m = tiny_in("processed");
  const auto mean_of_rows = [](const Tensor& w) {
    double worst = 0;
    const auto d = static_cast<std::size_t>(w.dim(-1));
    const auto x = w.to_vector<double>();
    for (std::size_t i = 0; i < x.size(); i += d) {
      double sum = 0;
      for (std::size_t k = 0; k < d; ++k) sum += x[i + k];
      worst = std::max(worst, std::abs(sum));
    }
    return worst;
  };
  for (const auto& [name, w] : weights(m, "embed.W_E,pos_embed.W_pos,*.W_O,*.b_O,*.W_out,*.b_out"))
    EXPECT_LT(mean_of_rows(w), 1e-10) << name;
  for (const auto& [name, w] : weights(m, "*.b_V")) EXPECT_EQ(max_abs(w), 0) << name;
  for (const auto& [name, w] : weights(m, "*.ln1.b,*.ln2.b,ln_final.b"))
    EXPECT_EQ(max_abs(w), 0) << name;
}

class ReweightGolden : public testing::TestWithParam<std::string> {};

TEST_P(ReweightGolden, WeightsAreTransformerLenss) {
  const bool small = GetParam() == "tiny-gpt2";
  if (!small) VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
  const auto folder = small ? test::data() / "tiny-gpt2" : test::shared() / "reference/atlas-gpt2";
  const Model m = load_gpt2(folder.string(), {.gauge = Gauge::processed()});
  const Parameters mine = weights(m);
  const auto golden = SafeTensors::open(folder / "golden/decomposition.safetensors");
  int compared = 0;
  for (const std::string& name : golden.names()) {
    constexpr std::string_view kPrefix = "processed/param/";
    if (!name.starts_with(kPrefix)) continue;
    const std::string weight = name.substr(kPrefix.size());
    ASSERT_TRUE(mine.contains(weight)) << weight;
    test::expect_close(mine.at(weight), golden.at(name), 1e-5, weight);
    ++compared;
  }
  EXPECT_GE(compared, small ? 40 : 30);
  const Tensor logits = m.run(SafeTensors::open(folder / "golden/patching.safetensors")
                                  .at("clean")
                                  .select(0, 0)
                                  .to_vector<int>())
                            .logits();
  test::expect_close(logits.select(0, 0).select(0, logits.dim(1) - 1),
                     golden.at("processed/logits"), 2e-5, "logits");
}
INSTANTIATE_TEST_SUITE_P(Models, ReweightGolden, testing::Values("tiny-gpt2", "atlas-gpt2"),
                         [](const auto& tested) { return tested.param.substr(0, 4); });

// The processed weights are nodes: gradients reach the original parameters, and are the same.
TEST(Reweight, OriginalsStillReceiveGradients) {
  const Model raw = tiny_in("raw");
  const std::vector<Tokens> prompts = {{1, 5, 9, 3, 7}};
  const Graph graph = raw.build(Model::Uniform{1, 5});
  const Metric metric = logit_diff(3, 8);
  const Graph processed = reweight(graph, raw.config(), Gauge::processed());
  const auto gradients = [&](const Graph& g) {
    return raw.run_graph(gradient(g, metric, leaves("h.*,ln_f.*,wte.*,wpe.*")), prompts,
                         fetch(grad(leaves("h.*,ln_f.*,wte.*,wpe.*"))));
  };
  const auto a = gradients(graph), b = gradients(processed);
  for (const char* name : {"h.0.attn.c_attn.weight", "h.1.ln_1.weight", "h.1.mlp.c_proj.weight",
                           "ln_f.bias", "wte.weight", "wpe.weight", "h.2.attn.c_proj.bias"}) {
    const Tensor x = a.results.grad(name), y = b.results.grad(name);
    EXPECT_GT(max_abs(x), 0) << name;
    EXPECT_LE(max_abs_difference(x, y), 1e-9 * std::max(1.0, max_abs(x))) << name;
  }
}

TEST(Reweight, GeneratesTheSameText) {
  const Model raw = load_gpt2(), processed = load_gpt2("", {.gauge = Gauge::processed()});
  const Tokens prompt = raw.tokens("The capital of Texas is");
  EXPECT_EQ(generate(raw, prompt, 12, {}, {}), generate(processed, prompt, 12, {}, {}));
}

TEST(Reweight, Names) {
  EXPECT_EQ(name_of(parse_gauge("raw")), "raw");
  EXPECT_EQ(name_of(parse_gauge("fold_value_biases,fold_ln")), "fold_ln,fold_value_biases");
  EXPECT_EQ(name_of(parse_gauge("fold_ln,center_writing_weights,center_unembed,fold_value_biases")),
            "processed");
  for (const char* wrong : {"", "fold", "fold_ln,", "raw,fold_ln"}) {
    try {
      parse_gauge(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::usage);
      EXPECT_THAT(e.what(), HasSubstr("there is no gauge '"));
      EXPECT_THAT(e.what(), HasSubstr("center_unembed"));
      if (std::string_view(wrong).starts_with("raw")) {
        EXPECT_THAT(e.what(), HasSubstr("'raw' stands alone"));
      }
    }
  }
}

TEST(Fold, NeedsAnOutputOfThatName) {
  const Model m = tiny_in("raw");
  const Graph g = m.build(Model::Uniform{1, 5});
  EXPECT_THROW(fold(g, {"nothing"}), GraphError);
  EXPECT_THROW(folded_values(g, {"logits"}, m.parameters()), GraphError);  // depends on the prompt
}

TEST(Weights, UnknownNames) {
  try {
    weights(tiny_in("raw"), "blocks.0.attn.W_X");
    ADD_FAILURE();
  } catch (const GraphError& e) {
    EXPECT_THAT(e.what(), HasSubstr("blocks.0.attn.W_"));
  }
}

TEST(Weights, AreReadOffAnExpandedGraphToo) {
  const Model m = tiny_in("processed");
  Builder b(expand_sites(m.build(Model::Uniform{1, 5}), {site::result(1).name}));
  b.output("w_o", weights_of(b, m.config()).layers[1].w_o);
  const Tensor got = compile(std::move(b).finish(), fetch(value("w_o")))
                         .run({}, m.parameters(), {.pool = &m.pool()})
                         .raw("w_o");
  const Tensor want = weights(m, "blocks.1.attn.W_O").at("blocks.1.attn.W_O");
  EXPECT_EQ(max_abs_difference(got, want.reshape(got.shape())), 0);
}

TEST(Weights, AGraphWithoutNamesIsRefused) {
  Builder b;
  b.output("y", b.input("x", {DType::f32, {3}}));
  EXPECT_THROW(weights_of(b, Config{}), GraphError);
}

}  // namespace
}  // namespace vitrine::nn

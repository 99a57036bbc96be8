// Sets of transcoders in the place of MLPs, beside the same done one layer at a time by edits.
#include "sae/set_evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "autograd/compile/plan.h"
#include "autograd/transform/intervention.h"
#include "nn/families/sites.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

const nn::Tokens kPrompt = {5, 17, 33, 64, 2, 88, 9, 17};

struct Case {
  nn::Model model = nn::load_model((data() / "tiny-gpt2").string());
  sae::TranscoderSet set = sae::load_transcoders(data() / "transcoders/cross-layer");
};

// A run of the prompt with these edits.
Results edited(const nn::Model& m, const std::vector<Edit>& edits, const Fetch& wanted) {
  const Interventions what(edits);
  const Graph graph = intervene(m.build(nn::Model::Uniform{1, 8}), what);
  const Plan plan = compile(graph, wanted);
  const Feeds feeds = with_interventions(graph, what, m.feeds(graph, {kPrompt}));
  return plan.run(plan.taken(feeds), m.parameters(), {.pool = &m.pool()});
}

// y of layer `to` for the rows of what each layer reads, in f64.
std::vector<double> output(const sae::TranscoderSet& set, std::size_t to,
                           const std::vector<Tensor>& features) {
  const std::int64_t rows = features[0].dim(0), d = set.width();
  std::vector<double> y;
  for (std::int64_t n = 0; n < rows; ++n) {
    for (std::int64_t c = 0; c < d; ++c) {
      double sum = set.layers[to].b_dec.data<float>()[c];
      for (std::size_t from = 0; from <= to; ++from) {
        const Tensor& f = features[from];
        for (std::int64_t j = 0; j < f.dim(1); ++j)
          sum += static_cast<double>(f.data<float>()[n * f.dim(1) + j]) *
                 set.layers[from].w_dec[to - from].data<float>()[j * d + c];
      }
      y.push_back(sum);
    }
  }
  return y;
}

// [rows, d]: what the MLP of a layer reads, with gain and bias, in a run.
Tensor read_by(const nn::Model& m, const Tensor& normalised, int layer) {
  const Parameters weights = m.parameters();
  const Tensor gain = weights.at("h." + std::to_string(layer) + ".ln_2.weight"),
               bias = weights.at("h." + std::to_string(layer) + ".ln_2.bias");
  const Tensor x =
      normalised.contiguous().reshape({normalised.numel() / gain.dim(0), gain.dim(0)}).clone();
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] = x.data<float>()[i] * gain.data<float>()[i % gain.dim(0)] +
                         bias.data<float>()[i % gain.dim(0)];
  return x;
}

TEST(ReplacementModel, IsWhatEditsOfOneLayerAfterTheOtherGive) {
  const Case c;
  const Graph graph = c.model.build(nn::Model::Uniform{1, 8});
  Feeds feeds = c.model.feeds(graph, {kPrompt});
  feeds["sae.rows"] = Tensor::full({8, 1}, DType::boolean, 1);
  const Plan plan = compile(sae::replacement_model(c.model, graph, c.set), fetch(value("logits")));
  const Tensor logits =
      plan.run(plan.taken(feeds), sae::with_transcoders(c.model.parameters(), c.set),
               {.pool = &c.model.pool()})
          .raw("logits");

  std::vector<Edit> edits;
  std::vector<Tensor> features;
  for (int l = 0; l < 3; ++l) {
    const Results run = edited(c.model, edits, fetch(sites(site::ln2_normalized(l).name)));
    const Tensor h = sae::pre_activations(c.set, static_cast<std::size_t>(l),
                                          read_by(c.model, run[site::ln2_normalized(l).name], l),
                                          c.model.pool());
    features.push_back(sae::activations(c.set, static_cast<std::size_t>(l), h));
    const std::vector<double> y = output(c.set, static_cast<std::size_t>(l), features);
    for (std::int64_t p = 0; p < 8; ++p) {
      const std::vector<float> row(y.begin() + p * 48, y.begin() + (p + 1) * 48);
      edits.push_back(replace(site::mlp_out(l), Tensor::of<float>({48}, row), {.pos = {p}}));
    }
  }
  const Results run = edited(c.model, edits, fetch(value("logits")));
  expect_close(logits, run.raw("logits").reshape(logits.shape()), 2e-5, "logits");
}

TEST(SetEvaluation, RowsThatDoNotCountKeepTheirMlps) {
  const Case c;
  const Graph graph = c.model.build(nn::Model::Uniform{1, 8});
  Feeds feeds = c.model.feeds(graph, {kPrompt});
  feeds["sae.rows"] = Tensor::zeros({8, 1}, DType::boolean);
  const Plan plan = compile(sae::replacement_model(c.model, graph, c.set), fetch(value("logits")));
  const Tensor logits =
      plan.run(plan.taken(feeds), sae::with_transcoders(c.model.parameters(), c.set),
               {.pool = &c.model.pool()})
          .raw("logits");
  const nn::Run run = c.model.run_batch({kPrompt}, fetch(value("logits")));
  expect_close(logits, run.results.raw("logits").reshape(logits.shape()), 1e-6, "logits");
}

TEST(SetEvaluation, MeasuresEachLayerOnWhatTheModelGives) {
  const Case c;
  const TemporaryFolder folder;
  std::ofstream(folder / "text.jsonl") << R"({"tokens": [5, 17, 33, 64, 2, 88, 9, 17]})"
                                       << "\n";
  const sae::SetEvaluation e = sae::evaluate(c.model, c.set, {.files = {folder / "text.jsonl"}});
  EXPECT_EQ(e.rows, 8);
  const nn::Run run =
      c.model.run_batch({kPrompt}, fetch(sites("*.ln2.hook_normalized,*.hook_mlp_out")));
  std::vector<Tensor> features;
  for (int l = 0; l < 3; ++l) {
    const auto at = static_cast<std::size_t>(l);
    const Tensor h = sae::pre_activations(
        c.set, at, read_by(c.model, run[site::ln2_normalized(l)], l), c.model.pool());
    features.push_back(sae::activations(c.set, at, h));
    const std::vector<double> y = output(c.set, at, features),
                              target = run[site::mlp_out(l)].to_vector<double>();
    double error = 0, variance = 0, active = 0;
    for (std::size_t d = 0; d < 48; ++d) {
      double mean = 0;
      for (std::size_t n = 0; n < 8; ++n) mean += target[n * 48 + d] / 8;
      for (std::size_t n = 0; n < 8; ++n) {
        error += std::pow(target[n * 48 + d] - y[n * 48 + d], 2);
        variance += std::pow(target[n * 48 + d] - mean, 2);
      }
    }
    for (const float f : features.back().to_vector<float>()) active += f > 0 ? 1 : 0;
    EXPECT_NEAR(e.layers[at].mse, error / 8, 1e-4 * error / 8);
    EXPECT_NEAR(e.layers[at].normalised_mse, error / variance, 1e-4 * error / variance);
    EXPECT_NEAR(e.layers[at].l0, active / 8, 1e-9);
  }
  ASSERT_TRUE(e.replacement);
  EXPECT_EQ(e.replacement->predictions, 7);
  EXPECT_GT(e.replacement->kl, 0);
  EXPECT_NE(e.replacement->ce_replaced, e.replacement->ce_clean);
}

TEST(SetEvaluation, TranscodersOfAnotherModelAreRefused) {
  Case c;
  c.set.layers.pop_back();
  EXPECT_ERROR(ShapeError, "transcoders of 2 layers of width 48, and the model has 3 of width 48",
               sae::evaluate(c.model, c.set, {.files = {"nothing"}}));
}

}  // namespace
}  // namespace vitrine::test

// The model against HuggingFace and TransformerLens: every site, logits, losses, parameter
// gradients, metric gradients.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

constexpr double kValueTolerance = 2e-5;     // times max(1, max|golden|)
constexpr double kGradientTolerance = 1e-3;  // times max|golden|

struct Case {
  std::string name;
  std::filesystem::path model, golden;
  bool shared;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

std::vector<Case> cases() {
  const auto tiny = test::data() / "tiny-gpt2", atlas = test::shared() / "reference/atlas-gpt2";
  return {{"tiny", tiny, tiny / "golden", false},
          {"atlas", atlas, atlas / "golden", true},
          {"atlas_gift", atlas, atlas / "golden-gift", true}};
}

class Gpt2Golden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (GetParam().shared) VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
    model_.emplace(load_gpt2(GetParam().model.string()));
  }
  SafeTensors golden(const char* name) const {
    return SafeTensors::open(GetParam().golden / (name + std::string(".safetensors")));
  }
  static std::vector<Tokens> prompts(const Tensor& tokens) {
    std::vector<Tokens> rows;
    for (std::int64_t i = 0; i < tokens.dim(0); ++i)
      rows.push_back(tokens.select(0, i).to_vector<int>());
    return rows;
  }
  const Model& model() const { return *model_; }

 private:
  std::optional<Model> model_;
};

TEST_P(Gpt2Golden, EverySiteAndTheLogits) {
  const SafeTensors want = golden("forward");
  const auto run = model().run(prompts(want.at("tokens")), sites("*"), value("logits"));
  test::expect_close(run["logits"], want.at("logits"), kValueTolerance, "logits");
  int compared = 0;
  for (const std::string& name : want.names()) {
    if (!name.starts_with("site/")) continue;
    test::expect_close(run[name.substr(5)], want.at(name), kValueTolerance, name);
    ++compared;
  }
  EXPECT_GE(compared, 19 * model().config().layers);
}

TEST_P(Gpt2Golden,
       OneSiteAtATimeIsTheSame) {  // only what hides the site is expanded, so other code runs
  const SafeTensors want = golden("forward");
  const auto rows = prompts(want.at("tokens"));
  for (const Site& s : {site::pattern(1), site::result(0), site::ln1_scale(1), site::z(2),
                        site::final_normalized()}) {
    test::expect_close(model().run(rows, s)[s], want.at("site/" + s.name), kValueTolerance, s.name);
  }
  test::expect_close(model().run(rows).logits(), want.at("logits"), kValueTolerance, "logits");
}

TEST_P(Gpt2Golden, Losses) {
  const SafeTensors want = golden("forward");
  const Loss got = loss(model(), prompts(want.at("tokens")));
  EXPECT_NEAR(got.mean, want.at("loss").item<double>(), kValueTolerance * std::max(1.0, got.mean));
  test::expect_close(got.per_token.reshape(want.at("loss_per_token").shape()),
                     want.at("loss_per_token"), kValueTolerance, "loss_per_token");
}

TEST_P(Gpt2Golden, ParameterGradients) {
  const SafeTensors want = golden("gradients");
  const auto rows = prompts(want.at("tokens"));
  const Graph graph =
      gradient(model().build(batch_size(rows)), next_token_loss(next_tokens(rows)), leaves("*"));
  const auto run = model().run_graph(graph, rows, fetch(grad(leaves("*")), value("loss")));
  EXPECT_NEAR(run.results.scalar("loss"), want.at("loss").item<double>(),
              2e-5 * std::max(1.0, want.at("loss").item<double>()));
  int tensors = 0, norms = 0;
  for (const std::string& name : want.names()) {
    if (name.starts_with("param/")) {
      test::expect_relative(run.results.grad(name.substr(6)), want.at(name), kGradientTolerance,
                            name);
      ++tensors;
    } else if (name.starts_with("param_norm/")) {
      double squares = 0;
      for (const double x : run.results.grad(name.substr(11)).to_vector<double>()) squares += x * x;
      const double norm = want.at(name).item<double>();
      EXPECT_NEAR(std::sqrt(squares), norm, kGradientTolerance * norm) << name;
      ++norms;
    }
  }
  EXPECT_EQ(norms, static_cast<int>(parameter_shapes(model().config()).size()));
  EXPECT_GE(tensors, 8 * model().config().layers);
}

TEST_P(Gpt2Golden, MetricGradientsAtEverySite) {
  const SafeTensors want = golden("gradients"), patching = golden("patching");
  const auto answer = patching.at("answer").to_vector<int>();
  const std::vector<Tokens> clean = {prompts(want.at("tokens"))[0]};
  const Metric metric = logit_diff(answer[0], answer[1]);
  const Graph graph = gradient(model().build(batch_size(clean)), metric, sites("*"));
  const auto run = model().run_graph(graph, clean, fetch(grad(sites("*")), value(metric)));
  EXPECT_NEAR(run.results.scalar("logit_diff"), want.at("metric").item<double>(), 5e-4);
  int compared = 0;
  for (const std::string& name : want.names()) {
    if (!name.starts_with("site/")) continue;
    test::expect_relative(run.results.grad(Site{name.substr(5)}), want.at(name), kGradientTolerance,
                          name);
    ++compared;
  }
  EXPECT_GE(compared, 19 * model().config().layers);
}

// Sites that the goldens lack: the inputs of each head and of the MLP.
TEST_P(Gpt2Golden, InputsOfHeadsAndMlp) {
  const SafeTensors want = golden("forward");
  const auto rows = prompts(want.at("tokens"));
  const Config& c = model().config();
  const auto run = model().run(rows, sites("*.hook_*_input,*.hook_mlp_in"));
  for (int layer = 0; layer < c.layers; ++layer) {
    const Tensor stream = want.at("site/" + site::resid_pre(layer).name);
    Shape copies = stream.shape();
    copies.insert(2, c.heads);  // [batch, position, head, d]
    for (const Site& s : {site::q_input(layer), site::k_input(layer), site::v_input(layer)}) {
      test::expect_close(run[s], stream.unsqueeze(2).broadcast_to(copies), kValueTolerance, s.name);
    }
    test::expect_close(run[site::mlp_in(layer)], want.at("site/" + site::resid_mid(layer).name),
                       kValueTolerance, "mlp_in");
  }
}

// d metric / d resid_pre = what flows around the block plus what flows through each head's q, k, v
// copies.
TEST_P(Gpt2Golden, GradientsOfHeadInputsAddUp) {
  const SafeTensors want = golden("gradients"), patching = golden("patching");
  const auto answer = patching.at("answer").to_vector<int>();
  const std::vector<Tokens> clean = {prompts(want.at("tokens"))[0]};
  const Graph graph = gradient(model().build(batch_size(clean)), logit_diff(answer[0], answer[1]),
                               sites("*.hook_*_input,*.hook_resid_*"));
  const auto run =
      model().run_graph(graph, clean, fetch(grad(sites("*.hook_*_input,*.hook_resid_*"))));
  for (int layer = 0; layer < model().config().layers; ++layer) {
    const Tensor whole = run.results.grad(site::resid_pre(layer)),
                 around = run.results.grad(site::resid_mid(layer));
    std::vector<double> sum = around.to_vector<double>();
    const auto d = static_cast<std::size_t>(model().config().d_model);
    for (const Site& s : {site::q_input(layer), site::k_input(layer), site::v_input(layer)}) {
      const auto part = run.results.grad(s).to_vector<double>();  // [1, position, head, d]
      const std::size_t heads = static_cast<std::size_t>(model().config().heads);
      for (std::size_t i = 0; i < part.size(); ++i) sum[i / (heads * d) * d + i % d] += part[i];
    }
    test::expect_relative(Tensor::of(whole.shape(), std::vector<double>(sum)).to(DType::f32), whole,
                          1e-4, site::resid_pre(layer).name);
  }
}

INSTANTIATE_TEST_SUITE_P(Reference, Gpt2Golden, testing::ValuesIn(cases()),
                         [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace vitrine::nn

// The families beyond GPT-2 against HuggingFace: every site, logits, losses, gradients, sweeps, and
// text that grows with a KV cache.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "autograd/transform/gradient.h"
#include "nn/families/architecture.h"
#include "nn/families/sites.h"
#include "nn/model/checkpoint.h"
#include "nn/model/model.h"
#include "nn/model/reweight.h"
#include "nn/model/sampling.h"
#include "tensor/error.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::nn {
namespace {

constexpr double kValueTolerance = 2e-5;     // times max(1, max|golden|)
constexpr double kGradientTolerance = 1e-3;  // times max|golden|

struct FamilyCase {
  std::string name;
  bool shared;
};
std::ostream& operator<<(std::ostream& out, const FamilyCase& c) { return out << c.name; }

// Three of them lie in the repository, with fewer golden values.
std::vector<FamilyCase> family_cases() {
  std::vector<FamilyCase> cases;
  for (const char* name : {"llama", "neox", "gemma2"}) cases.push_back({name, false});
  for (const char* name :
       {"llama", "llama3-rope", "mistral", "qwen2", "qwen3", "neox", "gemma2", "gemma3-text"})
    cases.push_back({name, true});
  return cases;
}

class FamilyGolden : public testing::TestWithParam<FamilyCase> {
 protected:
  void SetUp() override {
    const FamilyCase& c = GetParam();
    if (c.shared) VITRINE_NEEDS_SHARED("reference/families");
    const auto root = c.shared ? test::shared() / "reference/families" : test::data() / "families";
    folder_ = root / c.name;
    golden_.emplace(SafeTensors::open(folder_ / "golden.safetensors"));
    model_.emplace(load_model(folder_.string()));
  }
  const SafeTensors& golden() const { return *golden_; }
  const Model& model() const { return *model_; }
  const std::filesystem::path& folder() const { return folder_; }
  std::vector<Tokens> prompts() const {
    const Tensor tokens = golden().at("tokens");
    return {tokens.select(0, 0).to_vector<int>(), tokens.select(0, 1).to_vector<int>()};
  }
  Metric metric() const {
    const auto answer = golden().at("answer").to_vector<int>();
    return logit_diff(answer[0], answer[1]);
  }

 private:
  std::filesystem::path folder_;
  std::optional<SafeTensors> golden_;
  std::optional<Model> model_;
};

std::string name_of_case(const testing::TestParamInfo<FamilyCase>& info) {
  std::string name = (info.param.shared ? "shared_" : "") + info.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Families, FamilyGolden, testing::ValuesIn(family_cases()), name_of_case);

TEST_P(FamilyGolden, EverySiteAndTheLogits) {
  const auto run = model().run(prompts(), sites("*"), value("logits"));
  test::expect_close(run["logits"], golden().at("logits"), kValueTolerance, "logits");
  int compared = 0;
  for (const std::string& name : golden().names()) {
    if (!name.starts_with("site/")) continue;
    test::expect_close(run[name.substr(5)], golden().at(name), kValueTolerance, name);
    ++compared;
  }
  EXPECT_GE(compared, GetParam().shared ? 44 : 3);
}

TEST_P(FamilyGolden, OneSiteAtATimeIsTheSame) {
  const Tensor logits = model().run(prompts()).logits();
  test::expect_close(logits, golden().at("logits"), kValueTolerance, "logits");
  for (const Site& s : {site::pattern(1), site::z(2), site::result(0), site::q_input(1)}) {
    const auto run = model().run(prompts(), s, value("logits"));
    if (golden().contains("site/" + s.name))
      test::expect_close(run[s], golden().at("site/" + s.name), kValueTolerance, s.name);
    test::expect_close(run["logits"], logits, 1e-5, s.name);
  }
}

TEST_P(FamilyGolden, Losses) {
  const Loss got = loss(model(), prompts());
  EXPECT_NEAR(got.mean, golden().at("loss").item<double>(), 2e-5 * std::max(1.0, got.mean));
  test::expect_close(got.per_token.reshape(golden().at("loss_per_token").shape()),
                     golden().at("loss_per_token"), kValueTolerance, "loss_per_token");
}

TEST_P(FamilyGolden, ParameterGradients) {
  const auto rows = prompts();
  const Graph graph =
      gradient(model().build(batch_size(rows)), next_token_loss(next_tokens(rows)), leaves("*"));
  const auto run = model().run_graph(graph, rows, fetch(grad(leaves("*")), value("loss")));
  const Architecture& a = architecture(model().config());
  // HuggingFace's names, but for neox's embed_out.weight, which is lm_head.weight there.
  const auto own = [&](std::string name) {
    if (name == "lm_head.weight") return std::string(a.unembedding);
    return name.starts_with(a.prefix) ? name.substr(a.prefix.size()) : name;
  };
  int norms = 0;
  for (const std::string& name : golden().names()) {
    if (name.starts_with("param/")) {
      test::expect_relative(run.results.grad(own(name.substr(6))), golden().at(name),
                            kGradientTolerance, name);
    } else if (name.starts_with("param_norm/")) {
      double squares = 0;
      for (const double x : run.results.grad(own(name.substr(11))).to_vector<double>())
        squares += x * x;
      const double norm = golden().at(name).item<double>();
      EXPECT_NEAR(std::sqrt(squares), norm, kGradientTolerance * norm) << name;
      ++norms;
    }
  }
  EXPECT_EQ(norms, static_cast<int>(parameter_shapes(model().config()).size()));
}

TEST_P(FamilyGolden, MetricGradientsAtSites) {
  const std::vector<Tokens> clean = {prompts()[0]};
  const Graph graph = gradient(model().build(batch_size(clean)), metric(), sites("*"));
  const auto run = model().run_graph(graph, clean, fetch(grad(sites("*")), value(metric())));
  EXPECT_NEAR(run.results.scalar("logit_diff"), golden().at("metric").item<double>(), 1e-4);
  int compared = 0;
  for (const std::string& name : golden().names()) {
    if (!name.starts_with("grad/")) continue;
    test::expect_relative(run.results.grad(Site{name.substr(5)}), golden().at(name),
                          kGradientTolerance, name);
    ++compared;
  }
  EXPECT_GE(compared, GetParam().shared ? 20 : 2);
}

TEST_P(FamilyGolden, Sweeps) {
  const auto both = prompts();
  const nn::Run clean = model().run({both[0]}, sites("*"));
  const auto layers = model().config().layers;
  const auto positions = static_cast<std::int64_t>(both[0].size());
  const auto sweep = [&](const char* pattern, const std::vector<Axis>& by) {
    return model().sweep(Prompt(both[1]), sites(pattern), by, from(clean.results), metric());
  };
  for (const char* name : {"resid_pre", "attn_out", "mlp_out"}) {
    const auto got = sweep(fmt::format("blocks.*.hook_{}", name).c_str(), {Axis::pos});
    test::expect_close(got.values.reshape({layers, positions}),
                       golden().at(fmt::format("sweep/{}", name)), kValueTolerance, name);
  }
  const auto heads = sweep("blocks.*.attn.hook_z", {Axis::head});
  test::expect_close(heads.values.reshape({layers, model().config().heads}), golden().at("sweep/z"),
                     kValueTolerance, "z");
}

TEST_P(FamilyGolden, TextThatGrows) {
  const Tokens prompt = prompts()[0];
  const auto want = golden().at("greedy/tokens").to_vector<int>();
  const auto margin = golden().at("greedy/margin").to_vector<double>();
  const Tokens got =
      generate(model(), prompt, static_cast<int>(want.size()), {.temperature = 0}, random::Key{1});
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (margin[i] < 1e-3) break;
    EXPECT_EQ(got[i], want[i]) << "token " << i;
    if (got[i] != want[i]) break;
  }
  // The cache gives what the whole text gives.
  Tokens text = prompt;
  text.insert(text.end(), got.begin(), got.end());
  const Tensor whole = model().run({text}).last_logits();
  test::expect_close(next_logits(model(), text).reshape(whole.shape()), whole, 1e-5, "cached");
}

TEST_P(FamilyGolden, EveryGaugeLeavesTheFunctionAsItIs) {
  const Tensor raw = model().run(prompts()).logits();
  for (const char* words :
       {"processed", "fold_ln", "fold_value_biases", "center_unembed", "center_writing_weights"}) {
    const Gauge gauge = parse_gauge(words);
    std::optional<Model> other;
    try {
      other.emplace(load_model(folder().string(), {.gauge = gauge}));
    } catch (const ConfigError& refused) {
      EXPECT_NE(std::string(refused.what()).find(words), std::string::npos);
      const bool centring = gauge.center_writing_weights && !architecture(model().config()).centred;
      EXPECT_TRUE(centring || (gauge.center_unembed && model().config().logit_cap > 0)) << words;
      continue;
    }
    Tensor logits = other->run(prompts()).logits();
    if (other->gauge().center_unembed) {  // all logits of a position moved by the same number
      const std::int64_t v = model().config().vocabulary;
      const auto a = raw.to_vector<double>(), b = logits.to_vector<double>();
      std::vector<double> moved(b);
      for (std::size_t i = 0; i < b.size(); ++i)
        moved[i] = b[i] - b[i / static_cast<std::size_t>(v) * static_cast<std::size_t>(v)] +
                   a[i / static_cast<std::size_t>(v) * static_cast<std::size_t>(v)];
      logits = Tensor::of(raw.shape(), moved).to(DType::f32);
    }
    test::expect_close(logits, raw, 5e-5, words);
  }
}

TEST_P(FamilyGolden, SavesWhatItLoaded) {
  const test::TemporaryFolder copy;
  save_checkpoint(copy.path(), model().config(), model().parameters());
  const Model again = load_model(copy.path().string());
  EXPECT_EQ(again.config(), model().config());
  test::expect_close(again.run(prompts()).logits(), model().run(prompts()).logits(), 0, "logits");
}

}  // namespace
}  // namespace vitrine::nn

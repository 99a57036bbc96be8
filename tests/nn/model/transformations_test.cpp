// linearise, splice and recorded edits on a whole GPT-2: the default model, in f64.
#include <gtest/gtest.h>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/linearise.h"
#include "autograd/transform/recorded.h"
#include "autograd/transform/splice.h"
#include "nn/families/sites.h"
#include "nn/model/metrics.h"
#include "nn/model/model.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

const Model& model() {
  static const Model m = load_gpt2("", {.dtype = DType::f64});
  return m;
}
std::vector<Tokens> prompts() {  // two prompts, of one length
  return {model().tokens("The capital of Texas is"),
          model().tokens("The capital of California is")};
}
Graph built() {
  return model().build({.batch = 2, .tokens = static_cast<std::int64_t>(prompts()[0].size())});
}
Metric metric() { return logit_diff(model().token(" Austin"), model().token(" Sacramento")); }
Results run(const Graph& g, const Fetch& wanted, const Feeds& feeds) {
  return compile(g, wanted).run(feeds, model().parameters());
}

TEST(Transformations, DetachedAndHeldLogitsAreTheModels) {
  const Graph g = built();
  const Feeds feeds = batch_feeds(prompts());
  const Tensor logits = run(g, fetch(value("logits")), feeds)["logits"];
  const Graph detached = linearise(g, {Policy::detach, Policy::detach, Policy::detach});
  test::expect_close(run(detached, fetch(value("logits")), feeds)["logits"], logits, 1e-11,
                     "detached");
  const Graph held = linearise(g, {Policy::hold, Policy::hold, Policy::hold});
  const Results recorded = run(g, fetch(held_sites(held)), feeds);
  test::expect_close(run(held, fetch(value("logits")), with_held(held, recorded, feeds))["logits"],
                     logits, 1e-11, "held");
}

// With everything held the logit difference is affine in the embeddings, so that it is its gradient
// times them and what is left without them: a decomposition that closes.
TEST(Transformations, HeldAttributionCloses) {
  const Graph held =
      with_metric(linearise(built(), {Policy::hold, Policy::hold, Policy::hold}), metric());
  const Feeds feeds = batch_feeds(prompts());
  const Results recorded = run(built(), fetch(held_sites(held)), feeds);
  Feeds fed = with_held(held, recorded, feeds);
  const Graph g = gradient(held, metric().name, sites("blocks.0.hook_resid_pre"));
  const Site stream = site::resid_pre(0);
  const Results r = run(g, fetch(value(metric()), stream, grad(stream)), fed);
  const std::vector<double> x = r[stream].to_vector<double>(),
                            dx = r.grad(stream).to_vector<double>();
  double share = 0;
  for (std::size_t i = 0; i < x.size(); ++i) share += x[i] * dx[i];
  const Interventions nothing = {zero(stream)};
  const Graph empty = intervene(held, nothing);
  const double rest = run(empty, fetch(value(metric())), with_interventions(empty, nothing, fed))
                          .scalar(metric().name);
  EXPECT_NEAR(share + rest, r.scalar(metric().name), 1e-9);
  EXPECT_GT(std::abs(share), 0.1);
}

// What goes back through the copies of the stream is what goes back through the LayerNorm.
TEST(Transformations, GradientsOfCopiesAddUp) {
  const Graph g = linearise(built(), {.norm = Policy::detach});
  const Site pre = site::resid_pre(1), mid = site::resid_mid(1);
  const Site copies[] = {site::q_input(1), site::k_input(1), site::v_input(1)};
  const std::string names = fmt::format("{},{},{},{},{}", pre.name, mid.name, copies[0].name,
                                        copies[1].name, copies[2].name);
  const Results r =
      run(gradient(g, metric(), sites(names)), fetch(grad(sites(names))), batch_feeds(prompts()));
  std::vector<double> sum = r.grad(mid).to_vector<double>();
  const auto d = static_cast<std::size_t>(model().config().d_model),
             heads = static_cast<std::size_t>(model().config().heads);
  for (const Site& s : copies) {
    const std::vector<double> part = r.grad(s).to_vector<double>();
    for (std::size_t i = 0; i < part.size(); ++i) sum[i / (heads * d) * d + i % d] += part[i];
  }
  test::expect_close(Tensor::of<double>(r.grad(pre).shape(), sum), r.grad(pre), 1e-11, "resid_pre");
}

TEST(Transformations, SplicedLogitsAreTheModels) {
  const Type neurons{DType::f64, {model().config().d_model, 64}};
  Codec codec;
  codec.pre = [&](const Value& x) { return matmul(x, x.builder().input("encoder", neurons)); };
  codec.encode = [](const Value& h) { return relu(h); };
  codec.decode = [&](const Value& f) {
    return matmul(f, transpose(f.builder().input("encoder", neurons)));
  };
  const Spliced s = splice(built(), site::mlp_out(1), codec, ErrorTerm::keep);
  EXPECT_EQ(s.acts.name, "blocks.1.hook_mlp_out.hook_sae_acts_post");
  Feeds feeds = batch_feeds(prompts());
  const Tensor logits = run(built(), fetch(value("logits")), feeds)["logits"];
  feeds["encoder"] = Tensor::full(neurons.shape, DType::f64, 0.02);
  const Results r = run(s.graph, fetch(value("logits"), s.acts), feeds);
  test::expect_close(r["logits"], logits, 1e-11, "spliced");
  EXPECT_EQ(r[s.acts].shape(), Shape({2, logits.dim(1), 64}));
}

// Each prompt is given the other's stream after the last block, and so the other's answer.
TEST(Transformations, ResamplingTwoPromptsExchangesThem) {
  const Site last = site::resid_post(model().config().layers - 1);
  const nn::Run clean = model().run(prompts(), last, value("logits"));
  const nn::Run swapped = model().run_edited(
      prompts(), {resample(last, clean.results, random::Key{1})}, fetch(value("logits")));
  for (const int i : {0, 1}) {
    test::expect_close(swapped.logits().select(0, i), clean.logits().select(0, 1 - i), 1e-12,
                       fmt::format("prompt {}", i));
  }
}

}  // namespace
}  // namespace vitrine::nn

// Transformations one after the other: edits, gradients, rewrites and splices in either order.
#include <gmock/gmock.h>

#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "autograd/transform/rewrite.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/small_transformer.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using test::small_transformer;
using test::SmallTransformer;
using ::testing::DoubleNear;
using ::testing::Pointwise;

const Site kPre{"resid_pre"}, kMid{"resid_mid"}, kPost{"resid_post"}, kMlp{"mlp_out"},
    kNeurons{"mlp.hook_post"}, kPattern{"attn.hook_pattern"}, kQ{"q_input"};

std::vector<double> run(const SmallTransformer& m, const Graph& g, const Interventions& what,
                        const std::string& name) {
  const Fetch wanted = g.find_site(name) != nullptr ? fetch(Site{name}) : fetch(value(name));
  return m.run(g, wanted, with_interventions(g, what, m.feeds)).raw(name).to_vector<double>();
}
Tensor numbers(const std::string& name, const Shape& shape) {
  return test::normal(name, shape).value;
}

// The gradient of the edited function, by central differences of the edited site's value.
TEST(Composition, InterveneThenGradient) {
  const SmallTransformer m = small_transformer();
  const Interventions what = Interventions{
      replace(kPattern, Tensor::full({3}, DType::f64, 0.3), {.prompt = {0}, .head = {1}}),
      scale(kNeurons, 0.5, {.feature = {0, 3}}),
      zero(kQ, {.pos = {2},
                .head = {0}})}.then({add(kMlp, numbers("direction", {4}), 2, {.pos = {1}})});
  const Graph edited = intervene(m.graph, what);
  const std::vector<double> got =
      run(m, gradient(edited, "total", sites("resid_pre")), what, grad_name("resid_pre"));
  const std::vector<double> x = m.feeds.at("x").to_vector<double>();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto total = [&](double step) {
      std::vector<double> moved = x;
      moved[i] += step;
      Feeds feeds = with_interventions(edited, what, m.feeds);
      feeds["x"] = Tensor::of<double>({6, 4}, moved);
      return m.run(edited, fetch(value("total")), feeds).scalar("total");
    };
    EXPECT_NEAR(got[i], (total(1e-5) - total(-1e-5)) / 2e-5, 1e-7);
  }
}

// The nodes of a gradient read the sites that they were made from. Edited afterwards, they give the
// gradient of the edited model: everything after the edit and everything before.
TEST(Composition, GradientThenIntervene) {
  const SmallTransformer m = small_transformer();
  // A site downstream of which and upstream of which gradients are asked for.
  const Interventions what = {replace(kPost, numbers("other", {6, 4}), {.pos = {1}})};
  const Graph before = intervene(gradient(m.graph, "total", sites("resid_post")), what),
              after = gradient(intervene(m.graph, what), "total", sites("resid_post"));
  EXPECT_THAT(run(m, before, what, grad_name("resid_post")),
              Pointwise(DoubleNear(1e-13), run(m, after, what, grad_name("resid_post"))));
  // Upstream it is another question: a gradient made first does not know of the edit, so it is that
  // of the unedited computation at the edited values; made after, nothing flows through what was
  // replaced.
  const Graph upstream = intervene(gradient(m.graph, "total", sites("mlp_out")), what),
              cut = gradient(intervene(m.graph, what), "total", sites("mlp_out"));
  const std::vector<double> through = run(m, upstream, what, grad_name("mlp_out")),
                            stopped = run(m, cut, what, grad_name("mlp_out"));
  const std::vector<double> at_post = run(m, after, what, grad_name("resid_post"));
  for (std::size_t i = 0; i < through.size(); ++i) {
    const bool replaced = i / 4 % 3 == 1;
    EXPECT_NEAR(through[i], at_post[i], 1e-13);
    EXPECT_NEAR(stopped[i], replaced ? 0 : at_post[i], 1e-13);
  }
}

// Gradients are values: an edit of their site's value downstream of the metric changes nothing.
TEST(Composition, EditsThatDoNotReachTheMetricHaveNoEffect) {
  const SmallTransformer m = small_transformer();
  Builder b(m.graph);
  b.output("early", b.at(kMid));  // a metric of the stream before the MLP
  const Graph g = std::move(b).finish();
  const std::vector<double> plain = run(m, g, {}, "early");
  const Interventions late = {zero(kMlp), scale(kPost, 3), zero(kNeurons)};
  EXPECT_EQ(run(m, intervene(g, late), late, "early"), plain);
  // Rows: causal attention does not let a later position change an earlier one.
  const Interventions last = {zero(kPre, {.pos = {2}})};
  const std::vector<double> changed = run(m, intervene(g, last), last, "early");
  for (std::size_t i = 0; i < plain.size(); ++i) {
    if (i / 4 % 3 == 2) EXPECT_NE(changed[i], plain[i]);
    else EXPECT_EQ(changed[i], plain[i]);
  }
}

// Disjoint edits commute, bit by bit: of one site, of several, together or one after the other.
TEST(Composition, DisjointInterventionsCommute) {
  const SmallTransformer m = small_transformer();
  const std::vector<Edit> edits = {scale(kMid, 0.25, {.pos = {0}}),
                                   zero(kMid, {.pos = {1}}),
                                   replace(kMid, numbers("mid", {4}), {.pos = {2}}),
                                   scale(kPattern, 0.5, {.head = {0}}),
                                   add(kPost, numbers("post", {4}), 0.3),
                                   project_out(kMlp, numbers("mlp", {4}))};
  const auto out = [&](const Interventions& what) {
    return run(m, intervene(m.graph, what), what, "out");
  };
  const std::vector<double> together = out(Interventions(edits));
  EXPECT_NE(together, run(m, m.graph, {}, "out"));
  EXPECT_EQ(out(Interventions(std::vector<Edit>(edits.rbegin(), edits.rend()))), together);
  Interventions staged;
  for (const std::size_t i : {3, 0, 5, 2, 4, 1}) staged = staged.then({edits[i]});
  EXPECT_EQ(out(staged), together);
  // Edits are numbered as they are made, so those of two calls would be taken for each other.
  EXPECT_ERROR(GraphError, "the graph has been edited already (it has the input 'edit.0.where')",
               intervene(intervene(m.graph, {edits[0]}), {edits[1]}));
  EXPECT_EQ(out(Interventions({edits[0], edits[1]})
                    .then({edits[2], edits[3]})
                    .then({edits[4], edits[5]})),
            together);
}

// A rewrite and an edit of different sites commute too.
TEST(Composition, RewritesAndEditsOfOtherSites) {
  const SmallTransformer m = small_transformer();
  const Interventions what = {zero(kPattern, {.head = {1}})};
  const auto squash = [](const Value& x) { return tanh(x); };
  EXPECT_EQ(run(m, rewrite(intervene(m.graph, what), kMid, squash), what, "out"),
            run(m, intervene(rewrite(m.graph, kMid, squash), what), what, "out"));
}

}  // namespace
}  // namespace vitrine

// Dropout on GPT-2: where it is, what it leaves alone, and its gradient.
#include "nn/training/dropout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/compile/optimise.h"
#include "autograd/transform/gradient.h"
#include "nn/families/sites.h"
#include "nn/model/metrics.h"
#include "nn/model/model.h"
#include "tensor/random.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

const Model& model() {  // two layers or so, in f64
  static const Model m = load_gpt2((test::data() / "tiny-gpt2").string(), {.dtype = DType::f64});
  return m;
}
const std::vector<Tokens> kPrompts = {{1, 2, 3, 4, 5}, {7, 6}};

Graph built() { return build_model(model().config(), batch_size(kPrompts), DType::f64); }
Graph dropped(const Dropout& rates) { return with_dropout(built(), model().config(), rates); }
Feeds feeds(std::int64_t seed, std::int64_t step) {
  Feeds f = batch_feeds(kPrompts);
  f["dropout.key"] = Tensor::of<std::int64_t>({2}, {seed, step});
  return f;
}
Metric loss() { return training_loss(next_tokens(kPrompts)); }

int count_dropouts(const Graph& g) {
  return static_cast<int>(std::count_if(g.nodes().begin(), g.nodes().end(),
                                        [](const Node& n) { return n.op->name == "dropout"; }));
}

TEST(WithDropout, RateZeroLeavesTheGraphAsItIs) {
  EXPECT_TRUE(same_program(dropped({}), built()));
  EXPECT_FALSE(Dropout{}.any());
}

TEST(WithDropout, EachSiteHasAStreamOfItsOwn) {
  const Graph g = dropped({.embedding = 0.1, .attention = 0.2, .residual = 0.3});
  verify(g);
  std::map<std::int64_t, double> rates;
  for (const Node& n : g.nodes()) {
    if (const auto* r = std::get_if<DropoutRule>(&n.attributes)) {
      EXPECT_TRUE(rates.emplace(r->stream, r->rate).second) << r->stream;
    }
  }
  const int layers = model().config().layers;
  EXPECT_EQ(rates.size(), static_cast<std::size_t>(1 + 3 * layers));
  for (const auto& [stream, rate] : rates)
    EXPECT_EQ(rate, stream == 0 ? 0.1 : stream % 3 == 1 ? 0.2 : 0.3) << stream;
  EXPECT_EQ(count_dropouts(dropped({.residual = 0.5})), 2 * layers);
  EXPECT_EQ(count_dropouts(dropped({.embedding = 0.5})), 1);
}

TEST(WithDropout, RefusesRatesThatAreNone) {
  EXPECT_ERROR(ShapeError, "the rate must be at least 0 and less than 1, not 1",
               dropped({.attention = 1}));
  EXPECT_ERROR(ShapeError, "not -0.5", dropped({.residual = -0.5}));
}

// What dropout does to a value is linear, so its mean over keys is the value that was.
TEST(WithDropout, TheMeanOverKeysIsTheModel) {
  struct Case {
    Dropout rates;
    Site site;  // in the first layer: nothing before it was dropped
  };
  const Case cases[] = {{{.embedding = 0.3}, site::resid_pre(0)},
                        {{.attention = 0.3}, site::z(0)},
                        {{.residual = 0.3}, site::resid_mid(0)}};
  constexpr int kKeys = 3000;
  for (const Case& c : cases) {
    const Plan whole = compile(built(), fetch(c.site));
    const auto want = whole.run(whole.taken(feeds(0, 0)), model().parameters()).raw(c.site.name);
    const Plan plan = compile(dropped(c.rates), fetch(c.site));
    const std::vector<double> x = want.to_vector<double>();
    std::vector<double> sum(x.size()), squares(x.size());
    for (int step = 0; step < kKeys; ++step) {
      const auto y =
          plan.run(feeds(11, step), model().parameters()).raw(c.site.name).to_vector<double>();
      for (std::size_t i = 0; i < y.size(); ++i) {
        sum[i] += y[i];
        squares[i] += (y[i] - x[i]) * (y[i] - x[i]);
      }
    }
    double spread = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {  // five standard errors, as measured
      spread += squares[i];
      EXPECT_NEAR(sum[i] / kKeys, x[i], 5 * std::sqrt(squares[i]) / kKeys + 1e-12)
          << c.site.name << " " << i;
    }
    EXPECT_GT(spread, 0) << c.site.name;
  }
}

TEST(WithDropout, TheSameKeyGivesTheSameLossAndAnotherAnother) {
  const Graph g =
      with_metric(dropped({.embedding = 0.1, .attention = 0.1, .residual = 0.1}), loss());
  const Plan plan = compile(g, fetch(value("loss")));
  const auto at = [&](std::int64_t seed, std::int64_t step) {
    return plan.run(feeds(seed, step), model().parameters()).scalar("loss");
  };
  EXPECT_EQ(at(1, 1), at(1, 1));
  EXPECT_NE(at(1, 1), at(1, 2));
  EXPECT_NE(at(1, 1), at(2, 1));
}

// Along random directions of each parameter.
TEST(WithDropout, GradientsAreThoseOfTheMaskThatWasDrawn) {
  const Graph g =
      gradient(dropped({.embedding = 0.2, .attention = 0.3, .residual = 0.2}), loss(), leaves("*"));
  const Plan plan = compile(g, fetch(value("loss"), grad(leaves("*"))));
  const Plan alone = compile(g, fetch(value("loss")));
  const Feeds fed = feeds(5, 9);
  const Results r = plan.run(fed, model().parameters());
  for (const auto& [name, w] : model().parameters()) {
    const random::Key key = random::Key{3}.fold(name);
    const std::vector<double> dw = r.grad(name).to_vector<double>();
    double expected = 0;
    Tensor above = w.clone(), below = w.clone();
    constexpr double kStep = 1e-5;
    for (std::size_t i = 0; i < dw.size(); ++i) {
      const double direction = random::normal(key, i);
      expected += direction * dw[i];
      above.data<double>()[i] += kStep * direction;
      below.data<double>()[i] -= kStep * direction;
    }
    Parameters moved = model().parameters();
    moved[name] = above;
    const double up = alone.run(fed, moved).scalar("loss");
    moved[name] = below;
    const double down = alone.run(fed, moved).scalar("loss");
    EXPECT_NEAR((up - down) / (2 * kStep), expected, 1e-6 * std::max(1.0, std::abs(expected)))
        << name;
  }
}

TEST(WithDropout, TheBitsDoNotDependOnThreads) {
  const Graph g =
      gradient(with_dropout(build_model(model().config(), batch_size(kPrompts)), model().config(),
                            {.embedding = 0.1, .attention = 0.1, .residual = 0.1}),
               loss(), leaves("*"));
  const Plan plan = compile(g, fetch(value("loss"), grad(leaves("*"))));
  Parameters weights;
  for (const auto& [name, w] : model().parameters()) weights[name] = w.to(DType::f32);
  ThreadPool one(1), two(2);
  const Results a = plan.run(feeds(5, 9), weights, {.pool = &one}),
                b = plan.run(feeds(5, 9), weights, {.pool = &two});
  for (const std::string& name : a.names())
    EXPECT_EQ(max_abs_difference(a.raw(name), b.raw(name)), 0) << name;
}

// Causality can still be read off the expanded attention: dropped zeros are zeros.
TEST(WithDropout, ThePatternIsKnownToBeCausal) {
  const Graph g = dropped({.attention = 0.1});
  const std::vector<Fact> known = facts(g);
  int dropouts = 0;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (g.nodes()[i].op->name != "dropout") continue;
    ++dropouts;
    EXPECT_EQ(known[i].kind, Fact::Kind::zero);
  }
  EXPECT_EQ(dropouts, model().config().layers);
}

}  // namespace
}  // namespace vitrine::nn

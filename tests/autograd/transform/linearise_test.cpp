// Policies for nonlinearities: values that stay, gradients with parts frozen, and linearity.
#include "autograd/transform/linearise.h"

#include <gmock/gmock.h>

#include <cmath>

#include "autograd/transform/gradient.h"
#include "autograd/transform/recorded.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/small_transformer.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using test::small_modern_transformer;
using test::small_transformer;
using test::SmallTransformer;
using ::testing::DoubleNear;
using ::testing::Pointwise;

constexpr Policy kRecompute = Policy::recompute, kDetach = Policy::detach, kHold = Policy::hold;
constexpr Policies kAllHeld{kHold, kHold, kHold}, kAllDetached{kDetach, kDetach, kDetach};

// What LayerNorm, plain attention and GELU have to keep, RMSNorm, grouped heads and gates do too.
class LineariseBoth : public ::testing::TestWithParam<SmallTransformer (*)()> {};
INSTANTIATE_TEST_SUITE_P(Models, LineariseBoth,
                         ::testing::Values([] { return small_transformer(); },
                                           [] { return small_modern_transformer(); }),
                         [](const auto& tested) { return tested.index == 0 ? "gpt2" : "modern"; });

std::vector<double> output(const SmallTransformer& m, const Graph& g, const Feeds& feeds,
                           std::string_view name = "out") {
  return m.run(g, fetch(value(name)), feeds).raw(name).to_vector<double>();
}
Feeds with_x(const Feeds& feeds, const std::vector<double>& x) {
  Feeds out = feeds;
  out["x"] = Tensor::of<double>({6, 4}, x);
  return out;
}
std::vector<double> x_of(const SmallTransformer& m) { return m.feeds.at("x").to_vector<double>(); }
std::vector<double> shifted(std::vector<double> x, std::uint64_t seed, double by = 0.5) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += by * random::normal(random::Key{seed}, i);
  return x;
}
std::vector<double> gradient_of(const SmallTransformer& m, const Graph& g, const Feeds& feeds,
                                const std::string& site) {
  return m.run(gradient(g, "total", sites(site)), fetch(grad(sites(site))), feeds)
      .raw(grad_name(site))
      .to_vector<double>();
}

// d total / dx by central differences.
std::vector<double> differences(const SmallTransformer& m, const Graph& g, const Feeds& feeds) {
  constexpr double kStep = 1e-5;
  const Plan plan = compile(g, fetch(value("total")));
  const auto total = [&](const std::vector<double>& x) {
    return plan.run(with_x(feeds, x), m.parameters).scalar("total");
  };
  std::vector<double> slopes;
  for (std::size_t i = 0; i < 24; ++i) {
    std::vector<double> up = x_of(m), down = up;
    up[i] += kStep;
    down[i] -= kStep;
    slopes.push_back((total(up) - total(down)) / (2 * kStep));
  }
  return slopes;
}

TEST_P(LineariseBoth, DetachingChangesNoValue) {
  const SmallTransformer m = GetParam()();
  const Results plain = m.run(fetch(sites("*"), value("out")));
  for (const Policies p : {Policies{kDetach, kRecompute, kRecompute},
                           {kRecompute, kDetach, kRecompute},
                           {kRecompute, kRecompute, kDetach},
                           kAllDetached}) {
    const Results same = m.run(linearise(m.graph, p), fetch(sites("*"), value("out")), m.feeds);
    for (const std::string& name : plain.names()) {
      EXPECT_THAT(same.raw(name).to_vector<double>(),
                  Pointwise(DoubleNear(1e-13), plain.raw(name).to_vector<double>()))
          << name;
    }
  }
}

// The yardstick of what is frozen are edits, which hold a site at its recorded value.
TEST_P(LineariseBoth, DetachedGradientsAreThoseOfTheFrozenFunction) {
  const SmallTransformer m = GetParam()();
  const Results recorded = m.run(fetch(sites("*")));
  const std::vector<double> plain = gradient_of(m, m.graph, m.feeds, "resid_pre");
  const auto check = [&](const Policies& p, const Interventions& frozen) {
    const Graph edited = intervene(m.graph, frozen);
    const std::vector<double> want =
        differences(m, edited, with_interventions(edited, frozen, m.feeds));
    const std::vector<double> got = gradient_of(m, linearise(m.graph, p), m.feeds, "resid_pre");
    EXPECT_THAT(got, Pointwise(DoubleNear(1e-6), want));
    double most = 0;
    for (std::size_t i = 0; i < got.size(); ++i) most = std::max(most, std::abs(got[i] - plain[i]));
    EXPECT_GT(most, 1e-2);  // it matters
  };
  std::vector<Edit> scales;
  for (const SiteEntry& s : m.graph.sites()) {
    if (s.name.ends_with(".hook_scale")) scales.push_back(hold(Site{s.name}, recorded));
  }
  EXPECT_GE(scales.size(), 3U);
  std::vector<Edit> both = scales;
  both.push_back(hold(Site{"attn.hook_pattern"}, recorded));
  check({.norm = kDetach}, Interventions(scales));
  check({.attention = kDetach}, {both.back()});
  check({.norm = kDetach, .attention = kDetach}, Interventions(both));
  // Of an activation the first gradient is the same slope.
  EXPECT_THAT(gradient_of(m, linearise(m.graph, {.activation = kDetach}), m.feeds, "resid_pre"),
              Pointwise(DoubleNear(1e-12), plain));
}

TEST_P(LineariseBoth, HeldGraphsHaveTheGradientOfWhatTheyCompute) {
  const SmallTransformer m = GetParam()();
  for (const Policies p : {Policies{kHold, kRecompute, kRecompute},
                           {kRecompute, kHold, kDetach},
                           {kRecompute, kRecompute, kHold},
                           kAllHeld}) {
    const Graph g = linearise(m.graph, p);
    const Feeds other = with_x(m.feeds, shifted(x_of(m), 3));
    const Results recorded = m.run(m.graph, fetch(held_sites(g)), other);  // another run's values
    const Feeds feeds = with_held(g, recorded, m.feeds);
    EXPECT_THAT(gradient_of(m, g, feeds, "resid_pre"),
                Pointwise(DoubleNear(1e-6), differences(m, g, feeds)));
  }
}

TEST_P(LineariseBoth, HoldingTheOwnRunChangesNoValueAndDetachingHasItsGradient) {
  const SmallTransformer m = GetParam()();
  const Graph held = linearise(m.graph, kAllHeld), detached = linearise(m.graph, kAllDetached);
  const Feeds feeds = with_held(held, m.run(fetch(held_sites(held))), m.feeds);
  EXPECT_THAT(output(m, held, feeds), Pointwise(DoubleNear(1e-13), output(m, m.graph, m.feeds)));
  EXPECT_THAT(gradient_of(m, held, feeds, "resid_pre"),
              Pointwise(DoubleNear(1e-12), gradient_of(m, detached, m.feeds, "resid_pre")));
}

TEST(Linearise, WhereEverythingIsHeldTheModelIsAffine) {
  const SmallTransformer m = small_transformer();
  const Graph g = linearise(m.graph, kAllHeld);
  const Feeds feeds = with_held(g, m.run(fetch(held_sites(g))), m.feeds);
  const std::vector<double> zero(24, 0), a = shifted(zero, 1, 5), b = shifted(zero, 2, 5);
  std::vector<double> both = a;
  for (std::size_t i = 0; i < both.size(); ++i) both[i] += b[i];
  const auto f = [&](const std::vector<double>& x) { return output(m, g, with_x(feeds, x)); };
  const std::vector<double> fa = f(a), fb = f(b), f0 = f(zero), fab = f(both);
  for (std::size_t i = 0; i < fa.size(); ++i) EXPECT_NEAR(fa[i] + fb[i] - f0[i], fab[i], 1e-11);
  const auto plain = [&](const std::vector<double>& x) {
    return output(m, m.graph, with_x(m.feeds, x));
  };
  EXPECT_GT(std::abs(plain(a)[0] + plain(b)[0] - plain(zero)[0] - plain(both)[0]), 1e-2);
}

TEST(Linearise, HeldActivationsAreTangents) {
  const SmallTransformer m = small_transformer();
  const Graph g = linearise(m.graph, {.activation = kHold});
  const Results recorded = m.run(fetch(held_sites(g)));
  EXPECT_EQ(recorded.names(), std::vector<std::string>{"mlp.hook_pre"});
  const Feeds feeds = with_held(g, recorded, with_x(m.feeds, shifted(x_of(m), 4)));
  const Results now = m.run(g, fetch(sites("mlp.*")), feeds);
  const auto gelu = [](double x) {
    return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1)) * (x + 0.044715 * x * x * x)));
  };
  const std::vector<double> pre = now.raw("mlp.hook_pre").to_vector<double>(),
                            post = now.raw("mlp.hook_post").to_vector<double>(),
                            at = recorded.raw("mlp.hook_pre").to_vector<double>();
  for (std::size_t i = 0; i < pre.size(); ++i) {
    const double slope = (gelu(at[i] + 1e-5) - gelu(at[i] - 1e-5)) / 2e-5;
    EXPECT_NEAR(post[i], gelu(at[i]) + slope * (pre[i] - at[i]), 1e-8);
    EXPECT_GT(std::abs(pre[i] - at[i]), 1e-6);
  }
}

// The stream reaches q, k and v through the copies that heads_in shows, so what flows back through
// all of them is what flows back through the LayerNorm before.
TEST_P(LineariseBoth, CopiesOfTheStreamFollowTheSamePolicy) {
  const SmallTransformer m = GetParam()();
  for (const Policy norm : {kRecompute, kDetach, kHold}) {
    SCOPED_TRACE(name_of(norm));
    const Graph g = linearise(m.graph, {.norm = norm});
    const Feeds feeds =
        norm == kHold ? with_held(g, m.run(fetch(held_sites(g))), m.feeds) : m.feeds;
    const std::vector<double> whole = gradient_of(m, g, feeds, "resid_pre");
    std::vector<double> parts = gradient_of(m, g, feeds, "resid_mid");
    for (const char* copies : {"q_input", "k_input", "v_input"}) {
      const std::vector<double> g_copies = gradient_of(m, g, feeds, copies);  // [6, head, 4]
      const std::size_t row = g_copies.size() / 6;
      for (std::size_t i = 0; i < g_copies.size(); ++i) parts[i / row * 4 + i % 4] += g_copies[i];
    }
    EXPECT_THAT(parts, Pointwise(DoubleNear(1e-12), whole));
  }
}

// A copy that is edited is normalised as the policy says, in value too.
TEST(Linearise, EditedCopies) {
  const SmallTransformer m = small_transformer();
  const Interventions twice = {scale(Site{"q_input"}, 2, {.head = {1}})};
  const auto edited_output = [&](const Graph& linear, const Feeds& feeds) {
    const Graph g = intervene(linear, twice);
    return output(m, g, with_interventions(g, twice, feeds));
  };
  const Graph detached = linearise(m.graph, {.norm = kDetach}),
              held = linearise(m.graph, {.norm = kHold});
  const std::vector<double> plain = edited_output(m.graph, m.feeds);
  EXPECT_THAT(edited_output(detached, m.feeds), Pointwise(DoubleNear(1e-13), plain));
  // A scale of its own undoes the doubling, but for eps; a held one does not.
  EXPECT_THAT(plain, Pointwise(DoubleNear(1e-2), output(m, m.graph, m.feeds)));
  const Feeds feeds = with_held(held, m.run(fetch(held_sites(held))), m.feeds);
  EXPECT_GT(std::abs(edited_output(held, feeds)[9] - plain[9]), 1e-3);
}

// LayerNorms and attention without names can be detached all the same.
TEST(Linearise, NamesAreOnlyNeededToHold) {
  const SmallTransformer named = small_transformer(),
                         bare = small_transformer({false, false, false});
  EXPECT_THAT(gradient_of(bare, linearise(bare.graph, kAllDetached), bare.feeds, "resid_pre"),
              Pointwise(DoubleNear(1e-12), gradient_of(named, linearise(named.graph, kAllDetached),
                                                       named.feeds, "resid_pre")));
  EXPECT_ERROR(GraphError, "cannot be held: it has no sites to record",
               linearise(bare.graph, {.norm = kHold}));
  EXPECT_ERROR(GraphError, "the attention", linearise(bare.graph, {.attention = kHold}));
  EXPECT_ERROR(GraphError, "the gelu_tanh", linearise(bare.graph, {.activation = kHold}));
}

// Edits of a scale or a pattern are made to what the policy gives, whichever is written first.
TEST(Linearise, EditsAreMadeToWhatIsHeld) {
  const SmallTransformer m = small_transformer();
  const Site pattern{"attn.hook_pattern"};
  const Interventions what = {scale(pattern, 0.5, {.head = {1}})};
  const Policies p{.norm = kHold, .attention = kHold};
  const Graph first = linearise(intervene(m.graph, what), p),
              last = intervene(linearise(m.graph, p), what);
  const Results recorded = m.run(fetch(held_sites(first)));
  const Feeds moved = with_x(m.feeds, shifted(x_of(m), 5));
  const auto pattern_of = [&](const Graph& g) {
    return m.run(g, fetch(pattern), with_interventions(g, what, with_held(g, recorded, moved)))
        .raw(pattern.name)
        .to_vector<double>();
  };
  std::vector<double> want = recorded.raw(pattern.name).to_vector<double>();
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (i / 3 % 2 == 1) want[i] /= 2;
  }
  EXPECT_EQ(pattern_of(first), want);
  EXPECT_EQ(pattern_of(last), want);
  EXPECT_THAT(
      output(m, first, with_interventions(first, what, with_held(first, recorded, moved))),
      Pointwise(DoubleNear(1e-13),
                output(m, last, with_interventions(last, what, with_held(last, recorded, moved)))));
}

TEST(Linearise, SecondDerivativesOfDetachedActivationsVanish) {
  Builder b;
  const Value x = b.input("x", {DType::f64, {3}});
  b.output("y", sum(gelu_tanh(x)));
  const Graph g = std::move(b).finish();
  const auto second = [](const Graph& model) {
    Builder again(gradient(model, "y", leaves("x")));
    again.output("slopes", sum(square(again.output(grad_name("x")))));
    const Graph twice = gradient(std::move(again).finish(), "slopes", leaves("x"));
    return compile(twice, fetch(grad(leaves("x"))))
        .run({{"x", Tensor::of<double>({3}, {-1, 0.5, 2})}}, {})
        .raw(grad_name("x"))
        .to_vector<double>();
  };
  EXPECT_EQ(second(linearise(g, {.activation = kDetach})), std::vector<double>(3, 0));
  EXPECT_GT(std::abs(second(g)[1]), 0.1);
}

TEST(Linearise, NonlinearitiesThatItDoesNotKnowAreRefused) {
  const auto of = [](const auto& f) {
    Builder b;
    const Value x = b.site("x", b.input("in", {DType::f64, {3}}), {Axis::feature});
    b.output("y", f(x));
    return std::move(b).finish();
  };
  const Graph unknown[] = {of([](const Value& x) { return erf(x); }),
                           of([](const Value& x) { return x * exp(x); }),
                           of([](const Value& x) { return maximum(x, 0.5 * x); })};
  const char* names[] = {"'erf'", "'exp'", "'maximum'"};
  for (int i = 0; i < 3; ++i) {
    EXPECT_ERROR(GraphError, names[i], linearise(unknown[i], {.activation = kDetach}));
    EXPECT_ERROR(GraphError, names[i], linearise(unknown[i], {.activation = kHold}));
    EXPECT_NO_THROW(linearise(unknown[i], {.norm = kDetach}));
  }
  EXPECT_NO_THROW(linearise(of([](const Value& x) { return relu(-x); }), kAllDetached));
}

TEST(Linearise, MistakesAreExplained) {
  const SmallTransformer m = small_transformer();
  EXPECT_ERROR(GraphError, "linearise comes before gradient",
               linearise(gradient(m.graph, "total", sites("resid_pre")), kAllDetached));
  const Graph g = linearise(m.graph, {.attention = kHold});
  EXPECT_ERROR(GraphError,
               "the graph holds 'attn.hook_pattern', but the recorded run did not fetch it",
               with_held(g, m.run(fetch(sites("resid_pre"))), m.feeds));
  EXPECT_ERROR(GraphError, "holds no recorded values", held_sites(m.graph));
  Builder b;
  b.output("y", b.input(held_name("s"), {DType::f64, {2}}));
  const Graph other = std::move(b).finish();
  Builder c;
  c.output("y", c.site("s", c.input("x", {DType::f64, {3}}), {Axis::feature}));
  const Results three = compile(std::move(c).finish(), fetch(Site{"s"}))
                            .run({{"x", Tensor::zeros({3}, DType::f64)}}, {});
  EXPECT_ERROR(ShapeError, "'s' was recorded as [3], and is held as [2]",
               with_held(other, three, {}));
}

}  // namespace
}  // namespace vitrine

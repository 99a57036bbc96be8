// Codecs spliced into a site: values kept, features edited, and what each error policy sends back.
#include "autograd/transform/splice.h"

#include <gmock/gmock.h>

#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "autograd/transform/linearise.h"
#include "tests/autograd/ops/samples.h"
#include "tests/autograd/small_transformer.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using test::small_transformer;
using test::SmallTransformer;
using ::testing::DoubleNear;
using ::testing::Pointwise;

constexpr std::int64_t kRows = 6, kWidth = 4, kFeatures = 7;
const Site kMid{"resid_mid"};

// A random ReLU codec with its weights: f = relu((x - b_dec) W_enc + b_enc), f W_dec + b_dec.
struct Spliceable {
  SmallTransformer m = small_transformer();
  Codec codec;
  std::vector<double> decoder;  // [features, d]

  explicit Spliceable(bool with_pre = true) {
    const auto weight = [&](const std::string& name, const Shape& shape) {
      m.parameters[name] = test::normal(name, shape).value;
      return [name, shape](const Value& x) {
        return x.builder().parameter(name, {DType::f64, shape});
      };
    };
    const auto w_enc = weight("W_enc", {kWidth, kFeatures}), b_enc = weight("b_enc", {kFeatures});
    const auto w_dec = weight("W_dec", {kFeatures, kWidth}), b_dec = weight("b_dec", {kWidth});
    decoder = m.parameters.at("W_dec").to_vector<double>();
    const auto pre = [=](const Value& x) { return linear(x - b_dec(x), w_enc(x), b_enc(x)); };
    if (with_pre) {
      codec.pre = pre;
      codec.encode = [](const Value& h) { return relu(h); };
    } else {
      codec.encode = [=](const Value& x) { return relu(pre(x)); };
    }
    codec.decode = [=](const Value& f) { return linear(f, w_dec(f), b_dec(f)); };
  }
  Spliced splice(ErrorTerm error) const { return vitrine::splice(m.graph, kMid, codec, error); }
  Results run(const Graph& g, const Feeds& feeds) const {
    return m.run(g, fetch(sites("*"), value("out")), feeds);
  }
  Results run(const Graph& g) const { return run(g, m.feeds); }
};
std::vector<double> raw(const Results& r, const std::string& name) {
  return r.raw(name).to_vector<double>();
}
std::vector<double> minus(std::vector<double> a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

TEST(Splice, KeepingAndDetachingTheErrorChangeNoValue) {
  for (const bool with_pre : {true, false}) {
    const Spliceable s(with_pre);
    const Results plain = s.run(s.m.graph);
    for (const ErrorTerm error : {ErrorTerm::keep, ErrorTerm::detach}) {
      const Spliced spliced = s.splice(error);
      const Results r = s.run(spliced.graph);
      for (const std::string& name : plain.names())
        EXPECT_THAT(raw(r, name), Pointwise(DoubleNear(1e-12), raw(plain, name))) << name;
      EXPECT_EQ(spliced.pre.has_value(), with_pre);
      // The parts are what their names say.
      EXPECT_EQ(minus(raw(plain, "resid_mid"), raw(r, spliced.recons.name)),
                raw(r, spliced.error->name));
      for (const double f : raw(r, spliced.acts.name)) EXPECT_GE(f, 0);
    }
  }
}

TEST(Splice, SitesAreNamedAsInSaeLens) {
  const Spliced s = Spliceable().splice(ErrorTerm::keep);
  EXPECT_EQ(s.pre->name, "resid_mid.hook_sae_acts_pre");
  EXPECT_EQ(s.acts.name, "resid_mid.hook_sae_acts_post");
  EXPECT_EQ(s.recons.name, "resid_mid.hook_sae_recons");
  EXPECT_EQ(s.error->name, "resid_mid.hook_sae_error");
  EXPECT_EQ(s.graph.site(s.acts.name).axes, (Axes{Axis::row, Axis::feature}));
  EXPECT_EQ(s.graph.site(s.acts.name).type.shape, Shape({kRows, kFeatures}));
  EXPECT_FALSE(Spliceable(false).splice(ErrorTerm::keep).pre.has_value());
}

TEST(Splice, DroppedErrorsLeaveTheReconstruction) {
  const Spliceable s;
  const Spliced spliced = s.splice(ErrorTerm::drop);
  const Results r = s.run(spliced.graph);
  EXPECT_EQ(raw(r, "resid_mid"), raw(r, spliced.recons.name));
  EXPECT_FALSE(spliced.error.has_value());
  EXPECT_EQ(spliced.graph.find_site("resid_mid.hook_sae_error"), nullptr);
  EXPECT_NE(raw(r, "out"), raw(s.run(s.m.graph), "out"));
}

// Also by way of the pre-activations: the error is that of the features before any edit.
TEST(Splice, ZeroingAFeatureTakesAwayItsDecoderRow) {
  const Spliceable s;
  const std::int64_t feature = 2;
  for (const ErrorTerm error : {ErrorTerm::keep, ErrorTerm::detach, ErrorTerm::drop}) {
    const Spliced spliced = s.splice(error);
    const Results before = s.run(spliced.graph);
    const std::vector<double> acts = raw(before, spliced.acts.name);
    for (const Site& site : {spliced.acts, *spliced.pre}) {
      const Interventions what = {zero(site, {.feature = {feature}})};
      const Graph g = intervene(spliced.graph, what);
      const Results after = s.run(g, with_interventions(g, what, s.m.feeds));
      std::vector<double> want = raw(before, "resid_mid");
      double taken = 0;
      for (std::size_t row = 0; row < kRows; ++row) {
        for (std::size_t d = 0; d < kWidth; ++d) {
          const double part = acts[row * kFeatures + feature] * s.decoder[feature * kWidth + d];
          want[row * kWidth + d] -= part;
          taken += std::abs(part);
        }
      }
      EXPECT_THAT(raw(after, "resid_mid"), Pointwise(DoubleNear(1e-12), want));
      EXPECT_GT(taken, 0.1);
      if (spliced.error) {
        EXPECT_EQ(raw(after, spliced.error->name), raw(before, spliced.error->name));
      }
    }
  }
}

TEST(Splice, HeldErrorsAreThoseOfTheRecordedRun) {
  const Spliceable s;
  const Spliced keep = s.splice(ErrorTerm::keep), hold = s.splice(ErrorTerm::hold);
  const Results recorded = s.run(keep.graph);
  EXPECT_THAT(raw(s.run(hold.graph, with_held(hold.graph, recorded, s.m.feeds)), "out"),
              Pointwise(DoubleNear(1e-12), raw(recorded, "out")));
  // Of another prompt: its own reconstruction, the recorded error.
  Feeds other = s.m.feeds;
  other["x"] = test::normal("other", {kRows, kWidth}).value;
  const Results r = s.run(hold.graph, with_held(hold.graph, recorded, other));
  EXPECT_EQ(raw(r, hold.error->name), raw(recorded, keep.error->name));
  EXPECT_EQ(raw(r, hold.recons.name), raw(s.run(keep.graph, other), keep.recons.name));
  EXPECT_THAT(minus(raw(r, "resid_mid"), raw(r, hold.recons.name)),
              Pointwise(DoubleNear(1e-12), raw(recorded, keep.error->name)));
}

// keep: dx' = dx; otherwise dx flows through the features alone, J = d decode(encode(x)) / dx.
TEST(Splice, GradientsFollowTheErrorPolicy) {
  const Spliceable s;
  const auto gradients = [&](const Graph& g, const Feeds& feeds) {
    return s.m.run(gradient(g, "total", sites("*")), fetch(grad(sites("*"))), feeds);
  };
  const auto at = [&](const Results& r, const Site& site) { return raw(r, grad_name(site.name)); };
  const Spliced keep = s.splice(ErrorTerm::keep), detached = s.splice(ErrorTerm::detach),
                hold = s.splice(ErrorTerm::hold), drop = s.splice(ErrorTerm::drop);
  const Results recorded = s.run(keep.graph);
  const Results plain = gradients(s.m.graph, s.m.feeds), kept = gradients(keep.graph, s.m.feeds);
  for (const char* name : {"resid_pre", "result", "resid_mid", "resid_post"})
    EXPECT_THAT(at(kept, Site{name}), Pointwise(DoubleNear(1e-12), at(plain, Site{name}))) << name;

  const std::vector<double> through = at(gradients(detached.graph, s.m.feeds), Site{"resid_pre"});
  EXPECT_GT(std::abs(through[0] - at(plain, Site{"resid_pre"})[0]), 1e-3);
  EXPECT_THAT(
      at(gradients(hold.graph, with_held(hold.graph, recorded, s.m.feeds)), Site{"resid_pre"}),
      Pointwise(DoubleNear(1e-12), through));
  // The features are sent the same whatever becomes of the error: the decoder row's share.
  const Results r = gradients(detached.graph, s.m.feeds);
  const std::vector<double> stream = at(r, kMid), features = at(r, detached.acts);
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t f = 0; f < kFeatures; ++f) {
      double share = 0;
      for (std::size_t d = 0; d < kWidth; ++d)
        share += stream[row * kWidth + d] * s.decoder[f * kWidth + d];
      EXPECT_NEAR(features[row * kFeatures + f], share, 1e-12);
    }
  }
  EXPECT_THAT(at(kept, keep.acts), Pointwise(DoubleNear(1e-12), features));
  EXPECT_EQ(at(kept, *keep.error), at(kept, kMid));
  // Dropped: central differences of what it computes.
  const std::vector<double> dropped = at(gradients(drop.graph, s.m.feeds), Site{"resid_pre"});
  const Plan plan = compile(drop.graph, fetch(value("total")));
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    const auto total = [&](double step) {
      std::vector<double> x = s.m.feeds.at("x").to_vector<double>();
      x[i] += step;
      Feeds feeds = s.m.feeds;
      feeds["x"] = Tensor::of<double>({kRows, kWidth}, x);
      return plan.run(feeds, s.m.parameters).scalar("total");
    };
    EXPECT_NEAR(dropped[i], (total(1e-5) - total(-1e-5)) / 2e-5, 1e-7);
  }
}

// Unedited, the codec runs once: the error's nodes are the features'.
TEST(Splice, CostsOneCodecUntilItIsEdited) {
  const Spliceable s;
  const Spliced spliced = s.splice(ErrorTerm::keep);
  const int plain = compile(s.m.graph, fetch(value("out"))).stats().steps;
  const int with_error = compile(spliced.graph, fetch(value("out"))).stats().steps;
  const int dropped = compile(s.splice(ErrorTerm::drop).graph, fetch(value("out"))).stats().steps;
  EXPECT_GT(dropped, plain);
  EXPECT_EQ(with_error, dropped + 2);  // the difference and the sum
}

TEST(Splice, HeadsMayBeJoined) {
  const Spliceable s;
  Codec joined;
  joined.encode = [](const Value& z) { return relu(reshape(z, {z.dim(0), z.dim(1) * z.dim(2)})); };
  joined.decode = [](const Value& f) { return reshape(f, {f.dim(0), 2, kWidth}); };
  const Spliced spliced =
      splice(s.m.graph, Site{"result"}, joined, ErrorTerm::keep);  // an interior site
  EXPECT_EQ(spliced.graph.site(spliced.acts.name).axes, (Axes{Axis::row, Axis::feature}));
  EXPECT_THAT(raw(s.run(spliced.graph), "out"),
              Pointwise(DoubleNear(1e-12), raw(s.run(s.m.graph), "out")));
}

// Edits of the site itself: those made before are encoded, those made after change what flows on.
TEST(Splice, KeepsTheOrderOfEdits) {
  const Spliceable s;
  const Interventions twice = {scale(kMid, 2)};
  const Spliced last = splice(intervene(s.m.graph, twice), kMid, s.codec, ErrorTerm::drop);
  const Spliced first = s.splice(ErrorTerm::drop);
  const Graph after = intervene(first.graph, twice);
  const Results plain = s.run(first.graph);
  std::vector<double> doubled = raw(plain, "resid_mid");
  for (double& x : doubled) x *= 2;
  EXPECT_EQ(raw(s.run(after, with_interventions(after, twice, s.m.feeds)), "resid_mid"), doubled);
  const Results encoded = s.run(last.graph, with_interventions(last.graph, twice, s.m.feeds));
  EXPECT_NE(raw(encoded, first.acts.name), raw(plain, first.acts.name));
  EXPECT_EQ(raw(encoded, "resid_mid"), raw(encoded, first.recons.name));
}

TEST(Splice, FeaturesCanBeLinearised) {
  const Spliceable s;
  const Spliced spliced = s.splice(ErrorTerm::detach);
  const Graph g = linearise(spliced.graph, {.activation = Policy::hold});
  const Feeds feeds = with_held(g, s.run(spliced.graph), s.m.feeds);
  EXPECT_THAT(raw(s.run(g, feeds), "out"),
              Pointwise(DoubleNear(1e-12), raw(s.run(s.m.graph), "out")));
}

TEST(Splice, MistakesAreExplained) {
  const Spliceable s;
  const Graph& g = s.m.graph;
  EXPECT_ERROR(SiteError, "there is no site 'mid'",
               splice(g, Site{"mid"}, s.codec, ErrorTerm::keep));
  EXPECT_ERROR(GraphError, "splicing 'resid_mid': the codec has no encode",
               splice(g, kMid, {}, ErrorTerm::keep));
  Codec bad = s.codec;
  bad.decode = [](const Value& f) { return f; };
  EXPECT_ERROR(ShapeError,
               "splicing 'resid_mid': decode gives f64[6, 7], but the value is f64[6, 4]",
               splice(g, kMid, bad, ErrorTerm::drop));
  bad = s.codec;
  bad.encode = [](const Value& h) { return sum(h, {0}, true); };
  EXPECT_ERROR(ShapeError, "splicing 'resid_mid': features f64[1, 7] of a value f64[6, 4]",
               splice(g, kMid, bad, ErrorTerm::drop));
  bad.encode = [](const Value&) { return Value(); };
  EXPECT_ERROR(GraphError, "encode gave no value", splice(g, kMid, bad, ErrorTerm::drop));
  EXPECT_ERROR(GraphError, "site 'resid_mid.hook_sae_acts_pre' is named twice",
               splice(s.splice(ErrorTerm::keep).graph, kMid, s.codec, ErrorTerm::keep));
}

}  // namespace
}  // namespace vitrine

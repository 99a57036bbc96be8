// What an SAE computes, beside loops, and spliced into a graph.
#include "sae/sae.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "tensor/error.h"
#include "tensor/random.h"
#include "tests/sae/small_sae.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

using sae::Normalisation;
using sae::SaeArchitecture;

// f and x' of one sample, by the formulas of sae.h.
struct Naive {
  std::vector<double> f, y;
};
// r = x - b_dec; again and again the feature with the largest r . w takes its part away.
Naive naive_pursuit(const sae::Sae& s, std::vector<double> r, double mean, double scale) {
  const sae::SaeConfig& c = s.config;
  const std::vector<double> w = s.weights.at("W_dec").to_vector<double>(),
                            b = s.weights.at("b_dec").to_vector<double>();
  const auto width = static_cast<std::size_t>(c.d_in), features = static_cast<std::size_t>(c.d_sae);
  for (std::size_t i = 0; i < width; ++i) r[i] -= c.apply_b_dec_to_input ? b[i] : 0;
  Naive out{std::vector<double>(features, 0), std::vector<double>(width, 0)};
  for (std::int64_t step = 0; step < c.pursuit.max_iterations.value_or(c.d_in); ++step) {
    std::size_t best = 0;
    double most = 0;
    for (std::size_t j = 0; j < features; ++j) {
      double dot = 0;
      for (std::size_t i = 0; i < width; ++i) dot += r[i] * w[j * width + i];
      if (dot > most) {
        most = dot;
        best = j;
      }
    }
    if (most == 0) break;
    const bool again = out.f[best] > 0;
    out.f[best] += most;
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) {
      r[i] -= most * w[best * width + i];
      squares += r[i] * r[i];
    }
    if ((again && c.pursuit.stop_on_duplicate_support) ||
        std::sqrt(squares) < c.pursuit.residual_threshold)
      break;
  }
  for (std::size_t i = 0; i < width; ++i) {
    for (std::size_t j = 0; j < features; ++j) out.y[i] += out.f[j] * w[j * width + i];
    out.y[i] = (out.y[i] + (c.apply_b_dec_to_input ? b[i] : 0)) * scale + mean;
  }
  return out;
}

Naive naive(const sae::Sae& s, std::vector<double> x) {
  const sae::SaeConfig& c = s.config;
  const auto w = [&](const char* name, std::int64_t i, std::int64_t j = -1) -> double {
    const Tensor& t = s.weights.at(name);
    return t.data<float>()[j < 0 ? i : i * t.dim(1) + j];
  };
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  double mean = 0, scale = 1;
  if (c.normalise == Normalisation::layer_norm) {
    for (const double v : x) mean += v / static_cast<double>(c.d_in);
    double sum = 0;
    for (const double v : x) sum += (v - mean) * (v - mean);
    scale = std::sqrt(sum / static_cast<double>(c.d_in - 1));
    for (double& v : x) v = (v - mean) / (scale + 1e-5);
  } else if (c.normalise == Normalisation::constant_norm_rescale) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    scale = std::sqrt(sum / static_cast<double>(c.d_in));
    for (double& v : x) v /= scale;
  }
  if (c.architecture == SaeArchitecture::matching_pursuit) return naive_pursuit(s, x, mean, scale);
  std::vector<double> h, norm;
  for (std::int64_t j = 0; j < c.d_sae; ++j) {
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < c.d_in; ++i) {
      const double bias = c.apply_b_dec_to_input && !c.transcoder ? w("b_dec", i) : 0;
      sum += (x[at(i)] - bias) * w("W_enc", i, j);
    }
    for (std::int64_t i = 0; i < c.d_out; ++i) squares += w("W_dec", j, i) * w("W_dec", j, i);
    h.push_back(sum);
    norm.push_back(std::sqrt(squares));
  }
  Naive out;
  for (std::int64_t j = 0; j < c.d_sae; ++j) {
    if (c.architecture == SaeArchitecture::gated) {
      const double gate = h[at(j)] + w("b_gate", j),
                   size = h[at(j)] * std::exp(w("r_mag", j)) + w("b_mag", j);
      out.f.push_back(gate > 0 ? std::max(0.0, size) : 0);
      continue;
    }
    const double pre = h[at(j)] + w("b_enc", j);
    bool on = pre > 0;
    if (c.architecture == SaeArchitecture::jumprelu) on = on && pre > w("threshold", j);
    if (c.architecture == SaeArchitecture::topk) {
      const auto score = [&](std::int64_t m) {
        return (h[at(m)] + w("b_enc", m)) * (c.rescale_by_decoder_norm ? norm[at(m)] : 1);
      };
      int better = 0;
      for (std::int64_t m = 0; m < c.d_sae; ++m) better += score(m) > score(j) ? 1 : 0;
      on = on && better < c.k;
    }
    out.f.push_back(!on ? 0 : pre * (c.rescale_by_decoder_norm ? norm[at(j)] : 1));
  }
  for (std::int64_t i = 0; i < c.d_out; ++i) {
    double sum = w("b_dec", i);
    for (std::int64_t j = 0; j < c.d_sae; ++j)
      sum += out.f[at(j)] / (c.rescale_by_decoder_norm ? norm[at(j)] : 1) * w("W_dec", j, i);
    if (c.skip) {
      for (std::int64_t m = 0; m < c.d_in; ++m) sum += x[at(m)] * w("W_skip", i, m);
    }
    out.y.push_back(c.transcoder ? sum : sum * scale + mean);
  }
  return out;
}

struct Kind {
  std::string name;
  sae::SaeConfig config;
};
class EverySae : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(
    Kinds, EverySae,
    ::testing::Values(
        Kind{"standard", {}}, Kind{"topk", {.architecture = SaeArchitecture::topk, .k = 3}},
        Kind{"topk_rescaled",
             {.architecture = SaeArchitecture::topk, .k = 3, .rescale_by_decoder_norm = true}},
        Kind{"jumprelu", {.architecture = SaeArchitecture::jumprelu}},
        Kind{"gated", {.architecture = SaeArchitecture::gated}},
        Kind{"matching_pursuit", {.architecture = SaeArchitecture::matching_pursuit}},
        Kind{"matching_pursuit_few",
             {.architecture = SaeArchitecture::matching_pursuit,
              .apply_b_dec_to_input = false,
              .normalise = Normalisation::layer_norm,
              .pursuit = {.residual_threshold = 0.4, .max_iterations = 9}}},
        Kind{"matching_pursuit_again",
             {.architecture = SaeArchitecture::matching_pursuit,
              .pursuit = {.residual_threshold = 0,
                          .max_iterations = 30,
                          .stop_on_duplicate_support = false}}},
        Kind{"without_b_dec", {.apply_b_dec_to_input = false}},
        Kind{"layer_norm", {.normalise = Normalisation::layer_norm}},
        Kind{"constant_norm", {.normalise = Normalisation::constant_norm_rescale}},
        Kind{"transcoder", {.transcoder = true}},
        Kind{"skip_transcoder", {.transcoder = true, .skip = true}}),
    [](const auto& tested) { return tested.param.name; });

TEST_P(EverySae, ComputesWhatItsFormulasSay) {
  const sae::Sae s = small_sae(GetParam().config);
  const Tensor x = draw("x", {7, s.config.d_in});
  const auto found = sae::Encoder(s).encode(x);
  for (std::int64_t i = 0; i < 7; ++i) {
    const Naive want = naive(s, x.select(0, i).to_vector<double>());
    const auto f = found.features.select(0, i).to_vector<double>(),
               y = found.reconstruction.select(0, i).to_vector<double>();
    for (std::size_t j = 0; j < f.size(); ++j) EXPECT_NEAR(f[j], want.f[j], 2e-5) << i << ", " << j;
    for (std::size_t j = 0; j < y.size(); ++j) EXPECT_NEAR(y[j], want.y[j], 2e-5) << i << ", " << j;
  }
}

// A graph with one site, spliced.
struct Model {
  Graph graph;
  Feeds feeds;
};
Model one_site(std::int64_t width, const Shape& shape) {
  Builder b;
  const Value x = b.input("x", {DType::f32, shape});
  const Value mine = b.site("mine", x * 2.0, {Axis::batch, Axis::feature});
  b.output("y", mine * mine);
  return {std::move(b).finish(), {{"x", draw("x", {shape[0], width}).reshape(shape)}}};
}

TEST_P(EverySae, SplicedWithItsErrorChangesNothing) {
  const sae::Sae s = small_sae(GetParam().config);
  if (s.config.transcoder) {
    EXPECT_THROW(sae::codec(s, "sae"), ConfigError);
    return;
  }
  const Model m = one_site(s.config.d_in, {5, s.config.d_in});
  const Spliced g = splice(m.graph, Site{"mine"}, sae::codec(s, "sae"), ErrorTerm::keep);
  const Results plain = compile(m.graph, fetch(value("y"))).run(m.feeds, {});
  const Results r = compile(g.graph, fetch(value("y"), g.acts, g.recons))
                        .run(m.feeds, sae::with_parameters({}, s, "sae"));
  expect_close(r["y"], plain["y"], 1e-5, "y");
  const auto alone =
      sae::Encoder(s).encode(compile(m.graph, fetch(Site{"mine"})).run(m.feeds, {})["mine"]);
  expect_close(r[g.acts], alone.features, 1e-6, "features");
  expect_close(r[g.recons], alone.reconstruction, 1e-6, "reconstruction");
}

TEST(Sae, JoinsTheHeadsOfASite) {
  sae::Sae s = small_sae({});
  s.config.join_heads = true;
  Builder b;
  const Value x = b.input("x", {DType::f32, {5, 3, 4}});
  b.output("y", b.site("z", x, {Axis::batch, Axis::head, Axis::feature}));
  const Spliced g = splice(std::move(b).finish(), Site{"z"}, sae::codec(s, "sae"), ErrorTerm::drop);
  const Tensor given = draw("x", {5, 12});
  const Results r = compile(g.graph, fetch(value("y"), g.acts))
                        .run({{"x", given.reshape({5, 3, 4})}}, sae::with_parameters({}, s, "sae"));
  const auto alone = sae::Encoder(s).encode(given);
  EXPECT_EQ(r["y"].shape(), (Shape{5, 3, 4}));
  expect_close(r["y"].reshape({5, 12}), alone.reconstruction, 1e-6, "y");
  expect_close(r[g.acts], alone.features, 1e-6, "features");
}

// Without being told, as SAELens leaves it for all sites but hook_z.
TEST(Sae, JoinsTheHeadsOfASiteThatAreItsWidthTogether) {
  const sae::Sae s = small_sae({});
  Builder b;
  const Value x = b.input("x", {DType::f32, {5, 3, 4}});
  b.output("y", b.site("q", x, {Axis::row, Axis::head, Axis::other}));
  const Graph graph = std::move(b).finish();
  const Tensor given = draw("x", {5, 12});
  for (const ErrorTerm error : {ErrorTerm::drop, ErrorTerm::keep}) {
    const Spliced g = splice(graph, Site{"q"}, sae::codec(s, "sae"), error);
    const Results r =
        compile(g.graph, fetch(value("y"), g.acts))
            .run({{"x", given.reshape({5, 3, 4})}}, sae::with_parameters({}, s, "sae"));
    const auto alone = sae::Encoder(s).encode(given);
    expect_close(r["y"].reshape({5, 12}), error == ErrorTerm::keep ? given : alone.reconstruction,
                 1e-5, "y");
    expect_close(r[g.acts], alone.features, 1e-6, "features");
  }
  expect_close(sae::Encoder(s).encode(given.reshape({5, 3, 4})).features,
               sae::Encoder(s).encode(given).features, 0, "of a tensor");
  // The rows are not heads.
  Builder rows;
  const Value y = rows.input("x", {DType::f32, {3, 4}});
  EXPECT_THROW(sae::what_is_read(s.config, "sae", y), ShapeError);
}

TEST(Sae, OfOneHeadReadsAndWritesThatHead) {
  for (const std::int64_t head : {0, 1, 2}) {
    sae::SaeConfig config{.d_in = 4};
    config.head = head;
    const sae::Sae s = small_sae(config);
    Builder b;
    const Value x = b.input("x", {DType::f32, {5, 3, 4}});
    b.output("y", b.site("z", x, {Axis::row, Axis::head, Axis::other}));
    const Spliced g =
        splice(std::move(b).finish(), Site{"z"}, sae::codec(s, "sae"), ErrorTerm::drop);
    const Tensor given = draw("x", {5, 3, 4});
    const Results r = compile(g.graph, fetch(value("y"), g.acts))
                          .run({{"x", given}}, sae::with_parameters({}, s, "sae"));
    const auto alone = sae::Encoder(s).encode(given.select(1, head).contiguous());
    expect_close(r[g.acts], alone.features, 1e-6, "features");
    for (std::int64_t h = 0; h < 3; ++h) {
      expect_close(r["y"].select(1, h).contiguous(),
                   h == head ? alone.reconstruction : given.select(1, h).contiguous(), 1e-6, "y");
    }
    // Which rows of a tensor are meant is not known.
    EXPECT_THROW(sae::Encoder(s).encode(given), ShapeError);
  }
  sae::SaeConfig config{.d_in = 4};
  config.head = 3;
  const sae::Sae s = small_sae(config);
  Builder b;
  const Value x = b.input("x", {DType::f32, {5, 3, 4}});
  EXPECT_THAT(message_of<ShapeError>([&] { sae::what_is_read(s.config, "sae", x); }),
              ::testing::HasSubstr("reads head 3 of values [.., head, 4], not [5, 3, 4]"));
}

// A decoder row of 0 has no direction and no norm to rank by; what else there is stays finite, as
// do gradients.
TEST(Sae, ADecoderRowOfZerosGivesNothing) {
  sae::Sae s =
      small_sae({.architecture = SaeArchitecture::topk, .k = 20, .rescale_by_decoder_norm = true});
  std::fill_n(s.weights["W_dec"].data<float>() + 4 * 12, 12, 0.0F);
  const Tensor x = draw("x", {7, 12});
  const auto found = sae::Encoder(s).encode(x);
  EXPECT_TRUE(all_finite(found.reconstruction));
  for (int i = 0; i < 7; ++i) EXPECT_EQ(found.features.at<float>({i, 4}), 0);
  Builder b;
  sae::Nodes nodes(s.config, "sae");
  const Value y = nodes.decode(nodes.features(nodes.pre(b.input("x", {DType::f32, {7, 12}}))));
  b.output("y", sum(y * y));
  const LeafSet weights = leaves("sae.W_dec,sae.W_enc");
  const Graph g = gradient(std::move(b).finish(), "y", weights);
  const Results r =
      compile(g, fetch(grad(weights))).run({{"x", x}}, sae::with_parameters({}, s, "sae"));
  EXPECT_TRUE(all_finite(r.grad("sae.W_dec")));
  EXPECT_TRUE(all_finite(r.grad("sae.W_enc")));
}

TEST(Sae, ARowOfZerosIsNotDividedByItsNorm) {
  for (const Normalisation n : {Normalisation::constant_norm_rescale, Normalisation::layer_norm}) {
    const auto found =
        sae::Encoder(small_sae({.normalise = n})).encode(Tensor::zeros({2, 12}, DType::f32));
    EXPECT_TRUE(all_finite(found.features) && all_finite(found.reconstruction));
  }
}

TEST(Sae, AnotherWidthIsNamed) {
  sae::Sae s = small_sae({});
  s.config.hook_name = "blocks.1.hook_mlp_out";
  s.name = "somewhere";
  const std::string said = message_of<ShapeError>([&] {
    sae::Encoder(s).encode(Tensor::zeros({2, 5}, DType::f32));
  });
  EXPECT_NE(
      said.find("somewhere: this SAE reads activations of width 12 (of blocks.1.hook_mlp_out), "
                "but these are [2, 5]"),
      std::string::npos)
      << said;
  const Model m = one_site(5, {2, 5});
  const std::string spliced = message_of<ShapeError>(
      [&] { splice(m.graph, Site{"mine"}, sae::codec(s, "sae"), ErrorTerm::keep); });
  EXPECT_NE(spliced.find("width 12 (it was trained at blocks.1.hook_mlp_out), not [2, 5]"),
            std::string::npos)
      << spliced;
}

TEST(Sae, ActivationsThatAreNotNumbersAreNamed) {
  const sae::Sae s = small_sae({});
  const Tensor x = Tensor::zeros({3, 12}, DType::f32);
  x.data<float>()[2 * 12 + 5] = std::nanf("");
  EXPECT_EQ(message_of<NumericError>([&] { sae::Encoder(s).encode(x); }),
            "row 2 of the activations has nan at place 5");
}

}  // namespace
}  // namespace vitrine::test

// Composite ops against their expansions: value, gradient, and the sites inside.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/ops/op_table.h"
#include "autograd/transform/gradient.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

// Every instance of `op` replaced by its expansion.
Graph expanded(const Graph& graph, std::string_view op) {
  Builder b(graph);
  for (const Node& n : graph.nodes()) {
    if (n.op->name == op) b.expand(n.id);
  }
  Graph g = std::move(b).finish();
  verify(g);
  return g;
}

void expect_close(const Tensor& a, const Tensor& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.shape(), b.shape()) << what;
  ASSERT_EQ(a.dtype(), b.dtype()) << what;
  EXPECT_LE(max_abs_difference(a, b), tolerance * std::max(1.0, max_abs(a))) << what;
}

void check_expansion(const Sample& sample, DType dtype, double value_tolerance,
                     double gradient_tolerance) {
  const Case c = make_case(sample, dtype);
  ASSERT_GE(count_ops(c.graph, sample.op), 1);
  const Graph whole = with_metric_of(c.graph, "y", dtype), parts = expanded(whole, sample.op);
  EXPECT_EQ(count_ops(parts, sample.op), 0);
  // Apart, because gradient() itself expands what has no gradient of its own.
  const auto y = [&](const Graph& g) {
    return compile(g, fetch(value("y"))).run(c.feeds, c.parameters).raw("y");
  };
  expect_close(y(whole), y(parts), value_tolerance, "y");
  const auto gradients = [&](const Graph& g) {
    return compile(gradient(g, "metric", leaves("*")), fetch(grad(leaves("*"))))
        .run(c.feeds, c.parameters);
  };
  const Results a = gradients(whole), b = gradients(parts);
  for (const Leaf& leaf : sample.leaves) {
    if (leaf.value.dtype() != DType::f64) continue;
    expect_close(a.grad(leaf.name), b.grad(leaf.name), gradient_tolerance, grad_name(leaf.name));
  }
}

class Expansion : public ::testing::TestWithParam<std::string> {};

TEST_P(Expansion, EqualsTheComposite) {
  for_each_sample(GetParam(),
                  [](const Sample& s) { check_expansion(s, DType::f64, 1e-12, 1e-10); });
}
TEST_P(Expansion, EqualsTheCompositeInF32) {
  for_each_sample(GetParam(), [](const Sample& s) { check_expansion(s, DType::f32, 1e-5, 1e-5); });
}

// Samples are differentiated, which a clip of NaN forbids.
TEST(ExpansionOfAdamW, LeavesTheStateAsItIsWhenClipIsNaN) {
  Builder b;
  const Value state = b.parameter("state", {DType::f64, {3, 4}}),
              g = b.input("g", {DType::f64, {4}}), clip = b.input("clip", {DType::f64, {}}),
              settings = b.input("settings", {DType::f64, {3}});
  b.output("y", adamw(state, g, clip, settings, {0.8, 0.9, 1e-3, 0.1}));
  const Graph whole = std::move(b).finish(), parts = expanded(whole, "adamw");
  EXPECT_EQ(count_ops(parts, "adamw"), 0);
  const Tensor before = positive("state", {3, 4}).value;
  for (const double bad :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const Feeds feeds = {
        {"g", Tensor::full({4}, DType::f64, bad)},
        {"clip", Tensor::full({}, DType::f64, std::numeric_limits<double>::quiet_NaN())},
        {"settings", Tensor::of<double>({3}, {0.1, 0.2, 0.19})}};
    for (const Graph& graph : {whole, parts}) {
      const Tensor y = compile(graph, fetch(value("y"))).run(feeds, {{"state", before}}).raw("y");
      EXPECT_EQ(max_abs_difference(y, before), 0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, Expansion, ::testing::ValuesIn(composite_names()),
                         [](const auto& tested) { return tested.param; });

// ---- the sites inside ---------------------------------------------------------------------------
using In = std::vector<Value>;
constexpr double kEps = 1e-5;

// What flows on from a site becomes f(what arrives).
Graph edited(const Graph& graph, const std::string& site,
             const std::function<Value(Builder&, const Value&)>& f) {
  Builder b(graph);
  const Value flows_on = b.at(Site{site});  // expands what hides it
  b.edit_site(site, f(b, b.value(b.node(flows_on.id()).inputs.at(0))));
  Graph g = std::move(b).finish();
  verify(g);
  return g;
}
Tensor fetched(const Graph& g, const Case& c, const std::string& site) {
  return compile(g, fetch(Site{site})).run(c.feeds, c.parameters).raw(site);
}
Tensor run(const Graph& g, const Case& c, const Feeds& more = {}) {
  Feeds feeds = c.feeds;
  for (const auto& [name, value] : more) feeds[name] = value;
  return compile(g, fetch(value("y"))).run(feeds, c.parameters).raw("y");
}
double at(const Tensor& t, const Dims& index) { return t.at<double>(index); }
// 1 at one element of zeros.
Tensor one_at(const Shape& shape, const Dims& index, double value = 1) {
  Tensor t = Tensor::zeros(shape, DType::f64);
  std::int64_t offset = 0;
  for (int a = 0; a < index.size(); ++a) offset = offset * shape[a] + index[a];
  t.data<double>()[offset] = value;
  return t;
}

// Two LayerNorms, one after the other.
Case two_norms() {
  return make_case({"layer_norm",
                    "two",
                    {normal("x", {3, 4}), normal("gain", {4}), normal("bias", {4})},
                    [](Builder&, const In& in) {
                      const Value h = layer_norm(in[0], in[1], in[2], kEps, "ln1");
                      return layer_norm(tanh(h), in[1], in[2], kEps, "ln2");
                    }});
}
// Attention of two sequences, twice.
Case two_attentions() {
  return make_case({"attention",
                    "two",
                    {normal("q", {5, 2, 2}), normal("k", {5, 2, 2}), normal("v", {5, 2, 2}),
                     ints("sequence", {5}, {0, 0, 0, 1, 1}), ints("position", {5}, {0, 1, 2, 0, 1}),
                     ints("keys", {2, 3}, {0, 1, 2, 3, 4, -1})},
                    [](Builder&, const In& in) {
                      const RowValues rows{in[3], in[4], in[5]};
                      const Value z = attention(in[0], in[1], in[2], rows, 0.7, "first");
                      return attention(z, in[1], in[2], rows, 0.7, "second");
                    }});
}
// A LayerNorm, the projection of three heads, and their outputs: x [3, 4] -> [3, 3, 2] -> [3, 5].
Case heads(bool with_out) {
  return make_case(
      {"heads_in",
       "model",
       {normal("x", {3, 4}), normal("gain", {4}), normal("norm_bias", {4}), normal("w", {4, 6}),
        normal("bias", {6}), normal("w_out", {6, 5}), normal("bias_out", {5})},
       [with_out](Builder&, const In& in) {
         const Value normed = layer_norm(in[0], in[1], in[2], kEps, "ln1");
         const Value z = heads_in({normed, in[0], in[1], in[2], kEps}, in[3], in[4], 3, "q_input");
         return with_out ? heads_out(z, in[5], in[6], "result") : z;
       }});
}

TEST(InteriorSites, FetchingExpandsThatInstanceOnly) {
  const Case norms = two_norms(), attentions = two_attentions();
  EXPECT_EQ(count_ops(norms.graph, "layer_norm"), 2);
  for (const std::string site : {"ln1.hook_scale", "ln2.hook_normalized"}) {
    const Graph g = compile(norms.graph, fetch(Site{site})).graph();
    EXPECT_EQ(count_ops(g, "layer_norm"), 1) << site;
    EXPECT_FALSE(g.site(site).interior());
  }
  const Graph g = compile(attentions.graph, fetch(Site{"second.hook_pattern"}, value("y"))).graph();
  EXPECT_EQ(count_ops(g, "attention"), 1);
  EXPECT_EQ(count_ops(g, "attention_mix"), 1);
  EXPECT_TRUE(g.site("first.hook_pattern").interior());
  EXPECT_FALSE(g.site("second.hook_attn_scores").interior());
  EXPECT_EQ(count_ops(compile(attentions.graph, fetch(value("y"))).graph(), "attention"), 2);
}

TEST(InteriorSites, OfLayerNormHoldItsScaleAndItsNormalisedInput) {
  const Case c = two_norms();
  const Tensor x = c.feeds.at("x"), scale = fetched(c.graph, c, "ln1.hook_scale"),
               normalized = fetched(c.graph, c, "ln1.hook_normalized");
  ASSERT_EQ(scale.shape(), (Shape{3, 1}));
  ASSERT_EQ(normalized.shape(), (Shape{3, 4}));
  for (std::int64_t r = 0; r < 3; ++r) {
    double mean = 0, variance = 0;
    for (std::int64_t i = 0; i < 4; ++i) mean += at(x, {r, i}) / 4;
    for (std::int64_t i = 0; i < 4; ++i)
      variance += (at(x, {r, i}) - mean) * (at(x, {r, i}) - mean) / 4;
    EXPECT_NEAR(at(scale, {r, 0}), std::sqrt(variance + kEps), 1e-14);
    for (std::int64_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(at(normalized, {r, i}), (at(x, {r, i}) - mean) / std::sqrt(variance + kEps),
                  1e-13);
    }
  }
}

TEST(InteriorSites, TwiceTheScaleHalvesWhatLayerNormAddsToItsBias) {
  const Case c = two_norms();
  const Graph g =
      edited(c.graph, "ln2.hook_scale", [](Builder&, const Value& s) { return s * 2.0; });
  EXPECT_EQ(count_ops(g, "layer_norm"), 1);
  const Tensor before = run(c.graph, c), after = run(g, c), bias = c.feeds.at("bias");
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(at(after, {r, i}), (at(before, {r, i}) - at(bias, {i})) / 2 + at(bias, {i}),
                  1e-12);
    }
  }
}

TEST(InteriorSites, OfAttentionHoldScoresAndPattern) {
  const Case c = two_attentions();
  const Tensor scores = fetched(c.graph, c, "first.hook_attn_scores"),
               pattern = fetched(c.graph, c, "first.hook_pattern");
  const std::vector<int> length = {1, 2, 3, 1, 2}, first = {0, 0, 0, 3, 3};
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t h = 0; h < 2; ++h) {
      double total = 0;
      for (std::int64_t key = 0; key < 3; ++key) {
        const bool seen = key < length[static_cast<std::size_t>(r)];
        EXPECT_EQ(std::isinf(at(scores, {r, h, key})), !seen);
        EXPECT_EQ(at(pattern, {r, h, key}) > 0, seen);
        total += at(pattern, {r, h, key});
        if (!seen) continue;
        double dot = 0;
        for (std::int64_t e = 0; e < 2; ++e) {
          dot += at(c.feeds.at("q"), {r, h, e}) *
                 at(c.feeds.at("k"), {first[static_cast<std::size_t>(r)] + key, h, e});
        }
        EXPECT_NEAR(at(scores, {r, h, key}), 0.7 * dot, 1e-14);
      }
      EXPECT_NEAR(total, 1, 1e-14);
    }
  }
}

TEST(InteriorSites, APatternThatLooksAtOneKeyCopiesItsValue) {
  const Case c = two_attentions();
  Tensor second_key = Tensor::zeros({5, 2, 3}, DType::f64);
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t h = 0; h < 2; ++h) second_key.data<double>()[(r * 2 + h) * 3 + 1] = 1;
  }
  const Graph g = edited(c.graph, "second.hook_pattern",
                         [](Builder& b, const Value& p) { return b.input("p", p.type()); });
  EXPECT_EQ(count_ops(g, "attention"), 1);
  const Tensor z = run(g, c, {{"p", second_key}});
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t h = 0; h < 2; ++h) {
      for (std::int64_t e = 0; e < 2; ++e) {
        EXPECT_EQ(at(z, {r, h, e}), at(c.feeds.at("v"), {r < 3 ? 1 : 4, h, e}));
      }
    }
  }
}

TEST(InteriorSites, MinusInfinityInTheScoresHidesAKey) {
  const Case c = two_attentions();
  const Graph g = edited(c.graph, "second.hook_attn_scores", [](Builder& b, const Value& s) {
    return select(b.input("hide", {DType::boolean, s.shape()}),
                  b.scalar(-std::numeric_limits<double>::infinity(), s.dtype()), s);
  });
  Tensor hide = Tensor::zeros({5, 2, 3}, DType::boolean);
  for (int i = 0; i < 30; i += 3) hide.data<bool>()[i] = true;  // key position 0, for everybody
  const Tensor z = run(g, c, {{"hide", hide}}), v = c.feeds.at("v");
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t e = 0; e < 2; ++e) {
      EXPECT_EQ(at(z, {0, h, e}), 0);                 // sees nothing any more
      EXPECT_EQ(at(z, {1, h, e}), at(v, {1, h, e}));  // sees itself alone
      EXPECT_EQ(at(z, {4, h, e}), at(v, {4, h, e}));
    }
  }
}

TEST(InteriorSites, OneHeadsInputChangesThatHeadAlone) {
  const Case c = heads(false);
  const Tensor copies = fetched(c.graph, c, "q_input");
  ASSERT_EQ(copies.shape(), (Shape{3, 3, 4}));
  const Graph g = edited(c.graph, "q_input",
                         [](Builder& b, const Value& x) { return x + b.input("delta", x.type()); });
  EXPECT_EQ(count_ops(g, "heads_in"), 0);
  const Tensor still = run(g, c, {{"delta", Tensor::zeros({3, 3, 4}, DType::f64)}});
  EXPECT_LE(max_abs_difference(still, run(c.graph, c)), 1e-13);

  const Tensor moved =
      run(g, c, {{"delta", one_at({3, 3, 4}, {1, 2, 0}, 0.5)}});  // row 1, head 2, feature 0
  Case other = heads(false);  // what the head reads when everybody's x is moved
  other.feeds["x"] = other.feeds["x"].clone();
  other.feeds["x"].data<double>()[4] += 0.5;
  const Tensor expected = run(other.graph, other);
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t h = 0; h < 3; ++h) {
      for (std::int64_t e = 0; e < 2; ++e) {
        if (r == 1 && h == 2) {
          EXPECT_NEAR(at(moved, {r, h, e}), at(expected, {r, h, e}), 1e-12);
          EXPECT_GT(std::abs(at(moved, {r, h, e}) - at(still, {r, h, e})), 1e-3);
        } else {
          EXPECT_EQ(at(moved, {r, h, e}), at(still, {r, h, e}));
        }
      }
    }
  }
  for (std::int64_t h = 0; h < 3; ++h) {
    for (std::int64_t i = 0; i < 4; ++i)
      EXPECT_EQ(at(copies, {1, h, i}), at(c.feeds.at("x"), {1, i}));
  }
}

// The LayerNorm that the heads share can still be edited beside the heads' own inputs.
TEST(InteriorSites, EditsOfTheSharedNormAndOfOneHeadsInputBothCount) {
  const Case c = heads(false);
  const auto halve = [](Builder&, const Value& n) { return n * 0.5; };
  const auto move = [](Builder& b, const Value& x) { return x + b.input("delta", x.type()); };
  const Feeds delta = {{"delta", one_at({3, 3, 4}, {1, 2, 0}, 0.5)}},
              none = {{"delta", Tensor::zeros({3, 3, 4}, DType::f64)}};
  const Graph one = edited(c.graph, "q_input", move),
              both = edited(one, "ln1.hook_normalized", halve);
  const Tensor plain = run(one, c, none), halved = run(both, c, none), moved = run(one, c, delta),
               all = run(both, c, delta);
  EXPECT_GT(max_abs_difference(halved, plain), 1e-2);
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t h = 0; h < 3; ++h) {
      for (std::int64_t e = 0; e < 2; ++e) {  // the two changes add up
        EXPECT_NEAR(at(all, {r, h, e}) - at(halved, {r, h, e}),
                    at(moved, {r, h, e}) - at(plain, {r, h, e}), 1e-12);
      }
    }
  }
}

TEST(InteriorSites, WhatOneHeadAddsIsAddedToItsRow) {
  const Case c = heads(true);
  const Tensor y = run(c.graph, c), result = fetched(c.graph, c, "result"),
               bias = c.feeds.at("bias_out");
  const Graph g = edited(c.graph, "result",
                         [](Builder& b, const Value& x) { return x + b.input("delta", x.type()); });
  EXPECT_EQ(count_ops(g, "heads_in"), 1);  // the other composite stays whole
  const Tensor moved = run(g, c, {{"delta", one_at({3, 3, 5}, {2, 1, 3}, 0.25)}});
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t i = 0; i < 5; ++i) {
      double total = at(bias, {i});
      for (std::int64_t h = 0; h < 3; ++h) total += at(result, {r, h, i});
      EXPECT_NEAR(at(y, {r, i}), total, 1e-13);
      EXPECT_NEAR(at(moved, {r, i}) - at(y, {r, i}), r == 2 && i == 3 ? 0.25 : 0, 1e-13);
    }
  }
}

// d metric / d site, by nudging what flows on from it.
TEST(InteriorSites, HaveGradients) {
  const std::pair<Case, std::vector<std::string>> models[] = {
      {two_norms(), {"ln1.hook_scale", "ln1.hook_normalized", "ln2.hook_scale"}},
      {two_attentions(), {"first.hook_attn_scores", "first.hook_pattern", "second.hook_pattern"}},
      {heads(true), {"q_input", "result", "ln1.hook_normalized"}}};
  for (const auto& [c, sites_inside] : models) {
    const Graph with_metric = with_metric_of(c.graph, "y", DType::f64);
    for (const std::string& site : sites_inside) {
      const Tensor found =
          compile(gradient(with_metric, "metric", sites(site)), fetch(grad(Site{site})))
              .run(c.feeds, c.parameters)
              .raw(grad_name(site));
      EXPECT_GT(max_abs(found), 1e-3) << site;
      const Graph g = edited(with_metric, site, [](Builder& b, const Value& x) {
        return x + b.input("nudge", x.type());
      });
      const Plan plan = compile(g, fetch(value("metric")));
      const auto metric = [&](std::int64_t i, double step) {
        Feeds feeds = c.feeds;
        feeds["nudge"] = Tensor::zeros(found.shape(), DType::f64);
        feeds["nudge"].data<double>()[i] = step;
        return plan.run(feeds, c.parameters).scalar("metric");
      };
      const std::vector<double> gradient = found.to_vector<double>();
      for (std::int64_t i = 0; i < found.numel(); ++i) {
        EXPECT_NEAR(gradient[static_cast<std::size_t>(i)],
                    (metric(i, 1e-5) - metric(i, -1e-5)) / 2e-5,
                    1e-8 * std::max(1.0, max_abs(found)))
            << site << i;
      }
    }
  }
}

}  // namespace
}  // namespace vitrine::test

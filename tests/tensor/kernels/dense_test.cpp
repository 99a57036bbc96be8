// Attention by blocks against attention row by row, and the losses against plain loops.
#include "tensor/kernels/dense.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "tensor/kernels/place.h"
#include "tensor/random.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/kernels/kernel_check.h"

namespace vitrine {
namespace {

Tensor normal(const Shape& shape, DType dtype, std::uint64_t key) {
  Tensor t = Tensor::empty(shape, dtype);
  ThreadPool pool(1);
  random::fill_normal(pool, random::Key{key}, t);
  return t;
}

// Two ragged sequences of 70 and 45 rows, the second one's keys in another order; where `shared`,
// its first 20 keys are rows of the first sequence.
struct RaggedTables {
  Tensor sequence, position, keys;
  kernels::Tables tables() const { return {sequence.view(), position.view(), keys.view()}; }
};
RaggedTables ragged_tables(bool shared) {
  std::vector<std::int32_t> sequence, position, keys(2 * 70, -1);
  for (int s = 0, row = 0; s < 2; ++s) {
    for (int p = 0; p < (s == 0 ? 70 : 45); ++p, ++row) {
      sequence.push_back(s);
      position.push_back(p);
      keys[static_cast<std::size_t>(s * 70 + p)] = s == 0             ? row
                                                   : shared && p < 20 ? 3 * p
                                                                      : 70 + (p * 7) % 45;
    }
  }
  return {Tensor::of({115}, sequence), Tensor::of({115}, position), Tensor::of({2, 70}, keys)};
}

// What a row does not see does not reach it, infinities and NaN included: 0 * inf is no 0.
TEST(DenseAttention, WhatIsNotFiniteStaysBehindTheMask) {
  const RaggedTables rows = ragged_tables(false);
  const kernels::Tables t = rows.tables();
  ThreadPool one(1);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {kInfinity, -kInfinity, std::nan("")}) {
    const Tensor q = normal({115, 3, 8}, DType::f64, 1), k = normal({115, 3, 8}, DType::f64, 2),
                 v = normal({115, 3, 8}, DType::f64, 3), dz = normal({115, 3, 8}, DType::f64, 4);
    const Tensor clean = Tensor::empty({115, 3, 8}, DType::f64), spoilt = clean.clone();
    const Tensor clean_grad = Tensor::empty({3, 115, 3, 8}, DType::f64),
                 spoilt_grad = clean_grad.clone();
    kernels::attention_dense(one, q.view(), k.view(), v.view(), t, {0.3, 0}, clean.view());
    kernels::attention_grad(one, q.view(), k.view(), v.view(), dz.view(), t, {0.3, 0},
                            clean_grad.view());
    // Head 1 of the last row of the first sequence, which rows before it do not see.
    for (const Tensor& x : {k, v})
      x.select(0, 69).select(0, 1).slice(0, 2, 3).data<double>()[0] = bad;
    kernels::attention_dense(one, q.view(), k.view(), v.view(), t, {0.3, 0}, spoilt.view());
    EXPECT_LE(max_abs_difference(clean.slice(0, 0, 69), spoilt.slice(0, 0, 69)), 1e-14);
    EXPECT_LE(max_abs_difference(clean.slice(0, 70, 115), spoilt.slice(0, 70, 115)), 1e-14);
    kernels::attention_grad(one, q.view(), k.view(), v.view(), dz.view(), t, {0.3, 0},
                            spoilt_grad.view());
    EXPECT_LE(max_abs_difference(clean_grad.select(0, 0).slice(0, 0, 69),
                                 spoilt_grad.select(0, 0).slice(0, 0, 69)),
              1e-14);  // dq of the rows before
    EXPECT_LE(max_abs_difference(clean_grad.slice(1, 70, 115), spoilt_grad.slice(1, 70, 115)),
              1e-14);
  }
}

TEST(Attention, TablesAreChecked) {
  ThreadPool one(1);
  const Tensor x = normal({115, 3, 8}, DType::f32, 1), out = Tensor::empty({115, 3, 8}, DType::f32),
               pattern = Tensor::zeros({115, 3, 70}, DType::f32),
               grads = Tensor::empty({3, 115, 3, 8}, DType::f32);
  const auto calls = [&](const RaggedTables& rows, const std::string& message) {
    const kernels::Tables t = rows.tables();
    EXPECT_ERROR(GraphError, message,
                 kernels::attention(one, x.view(), x.view(), x.view(), t, {1, 0}, out.view()));
    EXPECT_ERROR(
        GraphError, message,
        kernels::attention_dense(one, x.view(), x.view(), x.view(), t, {1, 0}, out.view()));
    EXPECT_ERROR(GraphError, message,
                 kernels::attention_scores(one, x.view(), x.view(), t, 1, pattern.view()));
    EXPECT_ERROR(GraphError, message,
                 kernels::attention_outer(one, x.view(), x.view(), t, pattern.view()));
    EXPECT_ERROR(GraphError, message,
                 kernels::attention_mix(one, pattern.view(), x.view(), t, out.view()));
    EXPECT_ERROR(GraphError, message,
                 kernels::attention_mix_transposed(one, pattern.view(), x.view(), t, out.view()));
    EXPECT_ERROR(GraphError, message,
                 kernels::attention_grad(one, x.view(), x.view(), x.view(), x.view(), t, {1, 0},
                                         grads.view()));
  };
  for (const int wrong : {-1, 2, 1 << 30}) {
    RaggedTables rows = ragged_tables(false);
    rows.sequence.data<std::int32_t>()[7] = wrong;
    calls(rows, "row 7 belongs to sequence");
  }
  for (const int wrong : {-2, 115, 1 << 30}) {
    RaggedTables rows = ragged_tables(false);
    rows.keys.data<std::int32_t>()[71] = wrong;
    calls(rows, "position 1 of sequence 1 is in key row");
  }
}

const std::vector<kernels::AttendRule>& attend_rules() {
  static const std::vector<kernels::AttendRule> rules = {
      {0.3, 0},      {0.3, -1},      {0.3, 3},         {0.3, 0, 1},   {0.3, 0, 17},
      {0.3, -1, 30}, {0.3, 2, 1000}, {0.3, 0, 0, 0.5}, {0.3, 0, 9, 2}};
  return rules;
}
std::string said(const kernels::AttendRule& r, std::int64_t heads) {
  return fmt::format("{} heads, offset {}, window {}, softcap {}", heads, r.offset, r.window,
                     r.softcap);
}

TEST(DenseAttention, EqualsRowByRow) {
  const RaggedTables rows = ragged_tables(false);
  const kernels::Tables t = rows.tables();
  ThreadPool one(1), three(3);
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::int64_t heads : {3, 6}) {
      const Tensor q = normal({115, heads, 8}, dtype, 1), k = normal({115, 3, 8}, dtype, 2),
                   v = normal({115, 3, 5}, dtype, 3);
      ASSERT_TRUE(kernels::attention_is_dense(q.view(), t));
      for (const kernels::AttendRule& rule : attend_rules()) {
        SCOPED_TRACE(said(rule, heads));
        const Tensor plain = Tensor::empty({115, heads, 5}, dtype), dense = plain.clone(),
                     again = plain.clone();
        kernels::attention(one, q.view(), k.view(), v.view(), t, rule, plain.view());
        kernels::attention_dense(one, q.view(), k.view(), v.view(), t, rule, dense.view());
        kernels::attention_dense(three, q.view(), k.view(), v.view(), t, rule, again.view());
        EXPECT_LE(max_abs_difference(plain, dense), dtype == DType::f32 ? 2e-6 : 1e-14);
        EXPECT_EQ(max_abs_difference(dense, again), 0);
      }
    }
  }
}

// The gradients by the products that the formula names, row by row: [group + 2, 115, 3, 8].
Tensor grads_in_steps(ThreadPool& pool, const kernels::Tables& t, const Tensor& q, const Tensor& k,
                      const Tensor& v, const Tensor& dz, const kernels::AttendRule& rule) {
  const DType dtype = q.dtype();
  const std::int64_t heads = q.dim(1), group = heads / 3;
  const auto pattern_like = [&] { return Tensor::empty({115, heads, 70}, dtype); };
  const Tensor scores = pattern_like(), pattern = pattern_like(), slope = pattern_like(),
               outer = pattern_like(), dscores = pattern_like(),
               steps = Tensor::empty({group + 2, 115, 3, 8}, dtype);
  const Tensor dq = steps.slice(0, 0, group).reshape(q.shape()), dk = steps.select(0, group),
               dv = steps.select(0, group + 1);
  const auto times = [&](const Tensor& x, const Tensor& y) {
    kernels::binary(pool, kernels::Binary::mul, x.view(), y.view(), x.view());
  };
  const auto full = [&](const Tensor& like, double value) {
    return Tensor::full(like.shape(), dtype, value);
  };
  kernels::attention_scores(pool, q.view(), k.view(), t, rule.scale, scores.view());
  if (rule.softcap != 0) {  // slope = 1 - tanh(score / cap)^2
    kernels::copy(pool, scores.view(), slope.view());
    times(slope, full(slope, 1 / rule.softcap));
    kernels::unary(pool, kernels::Unary::tanh, slope.view(), slope.view());
    times(slope, slope);
    kernels::binary(pool, kernels::Binary::sub, full(slope, 1).view(), slope.view(), slope.view());
    kernels::softcap(pool, rule.softcap, scores.view(), scores.view());
  }
  kernels::mask_keys(pool, scores.view(), t.position,
                     {0, 2, rule.offset, -std::numeric_limits<double>::infinity(), rule.window},
                     scores.view());
  kernels::softmax(pool, scores.view(), pattern.view());
  kernels::attention_outer(pool, dz.view(), v.view(), t, outer.view());
  kernels::softmax_grad(pool, pattern.view(), outer.view(), dscores.view());
  if (rule.softcap != 0) times(dscores, slope);
  kernels::attention_mix(pool, dscores.view(), k.view(), t, dq.view());
  kernels::attention_mix_transposed(pool, dscores.view(), q.view(), t, dk.view());
  for (const Tensor& x : {dq, dk}) times(x, full(x, rule.scale));
  kernels::attention_mix_transposed(pool, pattern.view(), dz.view(), t, dv.view());
  return steps;
}

// And the same bits for three threads.
TEST(DenseAttention, GradientEqualsItsSteps) {
  ThreadPool one(1), three(3);
  for (const bool shared : {false, true}) {
    const RaggedTables rows = ragged_tables(shared);
    const kernels::Tables t = rows.tables();
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const std::int64_t heads : {3, 6}) {
        const Tensor q = normal({115, heads, 8}, dtype, 1), k = normal({115, 3, 8}, dtype, 2),
                     v = normal({115, 3, 8}, dtype, 3), dz = normal({115, heads, 8}, dtype, 4);
        for (const kernels::AttendRule& rule : attend_rules()) {
          SCOPED_TRACE(fmt::format("{}, {}, shared {}", name_of(dtype), said(rule, heads), shared));
          const Tensor steps = grads_in_steps(one, t, q, k, v, dz, rule), all = steps.clone(),
                       again = steps.clone();
          kernels::attention_grad(one, q.view(), k.view(), v.view(), dz.view(), t, rule,
                                  all.view());
          kernels::attention_grad(three, q.view(), k.view(), v.view(), dz.view(), t, rule,
                                  again.view());
          EXPECT_LE(max_abs_difference(steps, all), dtype == DType::f32 ? 2e-5 : 1e-13);
          EXPECT_EQ(max_abs_difference(all, again), 0);
        }
      }
    }
  }
}

TEST(LinearCrossEntropy, EqualsPlainLoops) {
  const std::int64_t n = 300, d = 6, vocabulary = 1 << 16;  // chunks of 256 rows
  const Tensor x = normal({n, d}, DType::f32, 1), w = normal({vocabulary, d}, DType::f32, 2),
               g = normal({n}, DType::f32, 3);
  std::vector<std::int32_t> target;
  for (std::int64_t i = 0; i < n; ++i)
    target.push_back(static_cast<std::int32_t>(i * 1001 % vocabulary));
  const Tensor t = Tensor::of({n}, target), loss = Tensor::empty({n}, DType::f32),
               alone = Tensor::empty({n}, DType::f32), dx = Tensor::empty({n, d}, DType::f32),
               dw = Tensor::empty({vocabulary, d}, DType::f32);
  const View gv = g.view(), dxv = dx.view(), dwv = dw.view();
  ThreadPool pool(2);
  kernels::linear_cross_entropy(pool, {x.view(), w.view(), t.view(), alone.view()});
  kernels::linear_cross_entropy(pool, {x.view(), w.view(), t.view(), loss.view(), &gv, &dxv, &dwv});
  std::vector<double> dw_target(static_cast<std::size_t>(d), 0.0);
  for (std::int64_t i = 0; i < n; ++i) {
    std::vector<double> logit(static_cast<std::size_t>(vocabulary));
    double total = 0;
    for (std::int64_t j = 0; j < vocabulary; ++j) {
      double dot = 0;
      for (std::int64_t c = 0; c < d; ++c)
        dot += static_cast<double>(x.data<float>()[i * d + c]) * w.data<float>()[j * d + c];
      logit[static_cast<std::size_t>(j)] = dot;
      total += std::exp(dot);
    }
    const auto at = static_cast<std::size_t>(target[static_cast<std::size_t>(i)]);
    EXPECT_NEAR(loss.data<float>()[i], std::log(total) - logit[at], 2e-5);
    EXPECT_NEAR(alone.data<float>()[i], std::log(total) - logit[at], 2e-5);
    for (std::int64_t c = 0; c < d; ++c) {
      double want = -w.data<float>()[static_cast<std::int64_t>(at) * d + c];
      for (std::int64_t j = 0; j < vocabulary; ++j)
        want += std::exp(logit[static_cast<std::size_t>(j)]) / total * w.data<float>()[j * d + c];
      EXPECT_NEAR(dx.data<float>()[i * d + c], g.data<float>()[i] * want, 2e-5);
      dw_target[static_cast<std::size_t>(c)] += g.data<float>()[i] *
                                                (std::exp(logit[0]) / total - (at == 0)) *
                                                x.data<float>()[i * d + c];
    }
  }
  for (std::int64_t c = 0; c < d; ++c)
    EXPECT_NEAR(dw.data<float>()[c], dw_target[static_cast<std::size_t>(c)], 2e-5);
}

}  // namespace
}  // namespace vitrine

#include <cmath>
#include <limits>

#include "kernel_check.h"

namespace vitrine {
namespace {

using kernels::Tables;
using test::expect_close;
using test::on_all_pools;
using test::random_indices;
using test::random_tensor;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr DType kFloats[] = {DType::f32, DType::f64};
using Values = std::vector<double>;

// Tables of a ragged batch whose second sequence borrows the first one's early keys, with holes.
struct Sample {
  std::int64_t rows, key_rows, sequences, context;
  Tensor sequence, position, keys;

  Tables tables() const { return {sequence.view(), position.view(), keys.view()}; }
  std::int64_t key(std::int64_t row, std::int64_t c) const {
    const auto s = sequence.at<std::int32_t>({row});
    return keys.at<std::int32_t>({s, c});
  }
};

Sample sample(std::int64_t rows, std::int64_t key_rows, std::int64_t sequences,
              std::int64_t context) {
  Sample s{rows, key_rows, sequences, context, {}, {}, {}};
  s.sequence = random_indices({rows}, DType::i32, 1, 0, sequences);
  s.position = random_indices({rows}, DType::i32, 2, 0, context);
  s.keys = random_indices({sequences, context}, DType::i32, 3, -1, key_rows);
  return s;
}

struct Sizes {
  std::int64_t rows, key_rows, sequences, context, heads, e, f;
};
const std::vector<Sizes>& sample_sizes() {
  static const std::vector<Sizes> sizes{{5, 9, 2, 4, 1, 3, 3},      {7, 30, 3, 11, 2, 64, 64},
                                        {40, 90, 4, 70, 3, 17, 33}, {100, 50, 2, 50, 12, 8, 8},
                                        {0, 3, 1, 2, 2, 4, 4},      {3, 4, 1, 0, 2, 4, 4}};
  return sizes;
}

// Heads as they lie in a joint [rows, 3 * head * e] projection, or with the last axis not
// contiguous.
std::vector<Tensor> head_layouts(std::int64_t rows, std::int64_t heads, std::int64_t e, DType dtype,
                                 std::uint64_t seed) {
  return {random_tensor({rows, heads, e}, dtype, seed),
          random_tensor({rows, 3 * heads * e}, dtype, seed + 1)
              .slice(1, heads * e, 2 * heads * e)
              .reshape({rows, heads, e}),
          random_tensor({e, heads, rows}, dtype, seed + 2).permute({2, 1, 0})};
}

double value(const Tensor& x, const Dims& index) {
  return x.dtype() == DType::f32 ? static_cast<double>(x.at<float>(index)) : x.at<double>(index);
}

double dot(const Tensor& q, const Tensor& k, std::int64_t row, std::int64_t key,
           std::int64_t head) {
  double sum = 0;
  for (std::int64_t i = 0; i < q.dim(2); ++i)
    sum += value(q, {row, head, i}) * value(k, {key, head, i});
  return sum;
}

Values scores_twin(const Tensor& q, const Tensor& k, const Sample& s, double scale, double hole) {
  Values out;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    for (std::int64_t h = 0; h < q.dim(1); ++h) {
      for (std::int64_t c = 0; c < s.context; ++c) {
        out.push_back(s.key(r, c) < 0 ? hole : scale * dot(q, k, r, s.key(r, c), h));
      }
    }
  }
  return out;
}

TEST(KernelsAttention, ScoresAndOuter) {
  for (const DType dtype : kFloats) {
    for (const Sizes& z : sample_sizes()) {
      const Sample s = sample(z.rows, z.key_rows, z.sequences, z.context);
      for (const Tensor& q : head_layouts(z.rows, z.heads, z.e, dtype, 11)) {
        for (const Tensor& k : head_layouts(z.key_rows, z.heads, z.e, dtype, 21)) {
          const auto run = [&](auto f) {
            return on_all_pools([&](ThreadPool& pool) {
              Tensor out = Tensor::full({z.rows, z.heads, z.context}, dtype, 9);
              f(pool, out.view());
              return out;
            });
          };
          const double bound = (dtype == DType::f32 ? 3e-7 : 1e-15) * static_cast<double>(z.e) * 4;
          expect_close(run([&](ThreadPool& pool, const View& out) {
                         kernels::attention_scores(pool, q.view(), k.view(), s.tables(), 0.25, out);
                       }),
                       scores_twin(q, k, s, 0.25, -kInf), 0, bound, "scores");
          expect_close(run([&](ThreadPool& pool, const View& out) {
                         kernels::attention_outer(pool, q.view(), k.view(), s.tables(), out);
                       }),
                       scores_twin(q, k, s, 1, 0), 0, bound, "outer");
        }
      }
    }
  }
}

TEST(KernelsAttention, MixAndItsTranspose) {
  for (const DType dtype : kFloats) {
    for (const Sizes& z : sample_sizes()) {
      const Sample s = sample(z.rows, z.key_rows, z.sequences, z.context);
      const Tensor dense = random_tensor({z.context, z.heads, z.rows}, dtype, 31);
      for (const Tensor& p : {dense.permute({2, 1, 0}), dense.permute({2, 1, 0}).clone()}) {
        for (const Tensor& v : head_layouts(z.key_rows, z.heads, z.f, dtype, 41)) {
          const Tensor out = on_all_pools([&](ThreadPool& pool) {
            Tensor result = Tensor::full({z.rows, z.heads, z.f}, dtype, 9);
            kernels::attention_mix(pool, p.view(), v.view(), s.tables(), result.view());
            return result;
          });
          Values want;
          for (std::int64_t r = 0; r < z.rows; ++r) {
            for (std::int64_t h = 0; h < z.heads; ++h) {
              for (std::int64_t i = 0; i < z.f; ++i) {
                double sum = 0;
                for (std::int64_t c = 0; c < z.context; ++c) {
                  if (s.key(r, c) >= 0) sum += value(p, {r, h, c}) * value(v, {s.key(r, c), h, i});
                }
                want.push_back(sum);
              }
            }
          }
          expect_close(out, want, 0, dtype == DType::f32 ? 1e-4 : 1e-12, "mix");
        }
        for (const Tensor& x : head_layouts(z.rows, z.heads, z.f, dtype, 51)) {
          const Tensor out = on_all_pools([&](ThreadPool& pool) {
            Tensor result = Tensor::full({z.key_rows, z.heads, z.f}, dtype, 9);
            kernels::attention_mix_transposed(pool, p.view(), x.view(), s.tables(), result.view());
            return result;
          });
          Values want(static_cast<std::size_t>(z.key_rows * z.heads * z.f), 0.0);
          for (std::int64_t r = 0; r < z.rows; ++r) {
            for (std::int64_t c = 0; c < z.context; ++c) {
              const std::int64_t j = s.key(r, c);
              for (std::int64_t h = 0; j >= 0 && h < z.heads; ++h) {
                for (std::int64_t i = 0; i < z.f; ++i) {
                  want[static_cast<std::size_t>((j * z.heads + h) * z.f + i)] +=
                      value(p, {r, h, c}) * value(x, {r, h, i});
                }
              }
            }
          }
          expect_close(out, want, 0, dtype == DType::f32 ? 3e-4 : 1e-12, "mix_transposed");
        }
      }
    }
  }
}

// What row r, head h sees, mixed: one key position after the other.
void attend_twin(const Tensor& q, const Tensor& k, const Tensor& v, const Sample& s,
                 const kernels::AttendRule& rule, std::int64_t r, std::int64_t h, Values& want) {
  const std::int64_t position = s.position.at<std::int32_t>({r}), f = v.dim(2),
                     key_head = h / (q.dim(1) / k.dim(1));
  Values weight(static_cast<std::size_t>(s.context), -kInf), sum(static_cast<std::size_t>(f), 0.0);
  double max = -kInf, total = 0;
  for (std::int64_t c = 0; c < s.context; ++c) {
    if (s.key(r, c) < 0 || c > position + rule.offset) continue;
    if (rule.window != 0 && position - c >= rule.window) continue;
    double score = 0;
    for (std::int64_t i = 0; i < q.dim(2); ++i)
      score += value(q, {r, h, i}) * value(k, {s.key(r, c), key_head, i});
    score *= rule.scale;
    if (rule.softcap != 0) score = rule.softcap * std::tanh(score / rule.softcap);
    weight[static_cast<std::size_t>(c)] = score;
    max = std::max(max, score);
  }
  for (double& w : weight) w = max == -kInf ? 0 : std::exp(w - max), total += w;
  for (std::int64_t c = 0; c < s.context; ++c) {
    const double w = weight[static_cast<std::size_t>(c)];
    for (std::int64_t i = 0; w != 0 && i < f; ++i)
      sum[static_cast<std::size_t>(i)] += w / total * value(v, {s.key(r, c), key_head, i});
  }
  want.insert(want.end(), sum.begin(), sum.end());
}

TEST(KernelsAttention, FusedEqualsItsParts) {
  const kernels::AttendRule rules[] = {{0.5, -2},     {0.5, 0},         {0.5, 1},
                                       {0.5, 1000},   {0.5, 0, 1},      {0.5, 2, 3},
                                       {0.5, -1, 20}, {0.5, 0, 0, 0.7}, {0.5, 0, 6, 3}};
  for (const DType dtype : kFloats) {
    for (const Sizes& z : sample_sizes()) {
      const Sample s = sample(z.rows, z.key_rows, z.sequences, z.context);
      for (const std::int64_t group : {1, 3}) {
        const auto qs = head_layouts(z.rows, z.heads * group, z.e, dtype, 61),
                   ks = head_layouts(z.key_rows, z.heads, z.e, dtype, 71),
                   vs = head_layouts(z.key_rows, z.heads, z.f, dtype, 81);
        for (std::size_t i = 0; i < std::size(rules) * qs.size(); ++i) {
          const kernels::AttendRule& rule = rules[i / qs.size()];
          const Tensor &q = qs[i % qs.size()], &k = ks[i % qs.size()], &v = vs[i % qs.size()];
          const Tensor out = on_all_pools([&](ThreadPool& pool) {
            Tensor result = Tensor::full({z.rows, z.heads * group, z.f}, dtype, 9);
            kernels::attention(pool, q.view(), k.view(), v.view(), s.tables(), rule, result.view());
            return result;
          });
          Values want;
          for (std::int64_t r = 0; r < z.rows; ++r) {
            for (std::int64_t h = 0; h < z.heads * group; ++h)
              attend_twin(q, k, v, s, rule, r, h, want);
          }
          expect_close(out, want, 0, dtype == DType::f32 ? 3e-5 : 1e-12, "attention");
        }
      }
    }
  }
}

// f32 cosines and sines are those of f32 angles, as transformers computes them, to 1e-6 where angles
// are small; far out the angle itself has to be better than f32.
TEST(KernelsRotary, TurnsPairsByTheirAngles) {
  const Values inverse = {1, 0.31, 0.043, 1e-3, 1e-5};
  for (const DType dtype : kFloats) {
    for (const Tensor& x : head_layouts(7, 3, 13, dtype, 5)) {
      const Tensor position = Tensor::of<std::int32_t>({7}, {0, 1, 5, 2, 131071, 13, 1});
      const Tensor out = on_all_pools([&](ThreadPool& pool) {
        Tensor result = Tensor::full({7, 3, 13}, dtype, 9);
        kernels::rotary(pool, x.view(), position.view(), inverse, 1.25, result.view());
        return result;
      });
      Values want;
      for (std::int64_t r = 0; r < 7; ++r) {
        for (std::int64_t h = 0; h < 3; ++h) {
          for (std::int64_t i = 0; i < 13; ++i) {
            if (i >= 10) {
              want.push_back(value(x, {r, h, i}));
              continue;
            }
            const auto at = static_cast<double>(position.at<std::int32_t>({r}));
            const double angle = at * inverse[static_cast<std::size_t>(i % 5)];
            const double a = value(x, {r, h, i % 5}), b = value(x, {r, h, 5 + i % 5});
            want.push_back(1.25 * (i < 5 ? a * std::cos(angle) - b * std::sin(angle)
                                         : b * std::cos(angle) + a * std::sin(angle)));
          }
        }
      }
      expect_close(out, want, 0, dtype == DType::f32 ? 1e-6 : 1e-15, "rotary");
      if (out.shape() != x.shape() || !x.is_contiguous()) continue;
      ThreadPool pool(2);
      const Tensor in_place = x.clone();
      kernels::rotary(pool, in_place.view(), position.view(), inverse, 1.25, in_place.view());
      EXPECT_EQ(max_abs_difference(in_place, out), 0);
    }
  }
}

TEST(KernelsAttention, WhatIsMaskedCannotLeak) {
  ThreadPool pool(2);
  // Row 0 sees key 0 only; keys 1 and 2 hold NaN and infinity.
  const Tensor q = Tensor::full({1, 1, 2}, DType::f32, 1);
  const Tensor k = Tensor::of<float>({3, 1, 2}, {1, 1, NAN, NAN, INFINITY, INFINITY});
  const Tensor sequence = Tensor::zeros({1}, DType::i32), position = Tensor::zeros({1}, DType::i32);
  const Tensor keys = Tensor::of<std::int32_t>({1, 3}, {0, 1, 2});
  const Tables t{sequence.view(), position.view(), keys.view()};
  Tensor out = Tensor::empty({1, 1, 2}, DType::f32);
  kernels::attention(pool, q.view(), k.view(), k.view(), t, {1, 0}, out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{1, 1}));
  // The same when the pattern is given: a weight of exactly 0 is no contribution.
  kernels::attention_mix(pool, Tensor::of<float>({1, 1, 3}, {1, 0, 0}).view(), k.view(), t,
                         out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{1, 1}));
  // Nothing visible: zeros.
  kernels::attention(pool, q.view(), k.view(), k.view(), t, {1, -1}, out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace vitrine

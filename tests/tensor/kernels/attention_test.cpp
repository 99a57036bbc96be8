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

TEST(KernelsAttention, FusedEqualsItsParts) {
  for (const DType dtype : kFloats) {
    for (const Sizes& z : sample_sizes()) {
      const Sample s = sample(z.rows, z.key_rows, z.sequences, z.context);
      for (const std::int64_t offset : {-2, 0, 1, 1000}) {
        const auto qs = head_layouts(z.rows, z.heads, z.e, dtype, 61),
                   ks = head_layouts(z.key_rows, z.heads, z.e, dtype, 71),
                   vs = head_layouts(z.key_rows, z.heads, z.f, dtype, 81);
        for (std::size_t layout = 0; layout < qs.size(); ++layout) {
          const Tensor &q = qs[layout], &k = ks[layout], &v = vs[layout];
          const Tensor out = on_all_pools([&](ThreadPool& pool) {
            Tensor result = Tensor::full({z.rows, z.heads, z.f}, dtype, 9);
            kernels::attention(pool, q.view(), k.view(), v.view(), s.tables(), 0.5, offset,
                               result.view());
            return result;
          });
          Values want;
          for (std::int64_t r = 0; r < z.rows; ++r) {
            const std::int64_t last = s.position.at<std::int32_t>({r}) + offset;
            for (std::int64_t h = 0; h < z.heads; ++h) {
              Values weight(static_cast<std::size_t>(z.context), -kInf),
                  sum(static_cast<std::size_t>(z.f), 0.0);
              double max = -kInf, total = 0;
              for (std::int64_t c = 0; c < z.context && c <= last; ++c) {
                if (s.key(r, c) < 0) continue;
                weight[static_cast<std::size_t>(c)] = 0.5 * dot(q, k, r, s.key(r, c), h);
                max = std::max(max, weight[static_cast<std::size_t>(c)]);
              }
              for (double& w : weight) w = max == -kInf ? 0 : std::exp(w - max), total += w;
              for (std::int64_t c = 0; c < z.context; ++c) {
                if (weight[static_cast<std::size_t>(c)] == 0) continue;
                for (std::int64_t i = 0; i < z.f; ++i) {
                  sum[static_cast<std::size_t>(i)] +=
                      weight[static_cast<std::size_t>(c)] / total * value(v, {s.key(r, c), h, i});
                }
              }
              want.insert(want.end(), sum.begin(), sum.end());
            }
          }
          expect_close(out, want, 0, dtype == DType::f32 ? 3e-5 : 1e-12, "attention");
        }
      }
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
  kernels::attention(pool, q.view(), k.view(), k.view(), t, 1, 0, out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{1, 1}));
  // The same when the pattern is given: a weight of exactly 0 is no contribution.
  kernels::attention_mix(pool, Tensor::of<float>({1, 1, 3}, {1, 0, 0}).view(), k.view(), t,
                         out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{1, 1}));
  // Nothing visible: zeros.
  kernels::attention(pool, q.view(), k.view(), k.view(), t, 1, -1, out.view());
  EXPECT_EQ(out.to_vector<float>(), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace vitrine

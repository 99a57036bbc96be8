#include <cmath>
#include <functional>
#include <limits>

#include "kernel_check.h"

namespace vitrine {
namespace {

using test::describe;
using test::expect_close;
using test::in_layouts;
using test::on_all_pools;
using test::random_tensor;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kEps = 1e-5;
constexpr DType kFloats[] = {DType::f32, DType::f64};
using Row = std::vector<double>;

const std::vector<Shape>& row_shapes() {
  static const std::vector<Shape> shapes{{1},     {7},        {0, 5},     {3, 0},   {5, 1},
                                         {4, 33}, {2, 3, 64}, {300, 100}, {3, 1500}};
  return shapes;
}

// f applied to each row of the inputs, which have the same shape.
Row by_rows(const std::vector<Tensor>& inputs,
            const std::function<Row(const std::vector<Row>&)>& f) {
  const std::int64_t d = inputs[0].shape().back();
  std::vector<Row> flat;
  for (const Tensor& x : inputs) flat.push_back(x.to_vector<double>());
  Row out;
  for (std::size_t at = 0; at < flat[0].size(); at += static_cast<std::size_t>(d)) {
    std::vector<Row> rows;
    for (const Row& x : flat) {
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(at);
      rows.emplace_back(begin, begin + d);
    }
    const Row result = f(rows);
    out.insert(out.end(), result.begin(), result.end());
  }
  return out;
}

template <class F>
Tensor run(const Tensor& like, const F& f) {
  return on_all_pools([&](ThreadPool& pool) {
    Tensor out = Tensor::full(like.shape(), like.dtype(), 99);
    f(pool, out.view());
    return out;
  });
}

Row softmax_twin(const Row& x) {
  double max = -kInf, sum = 0;
  for (const double v : x) max = std::max(max, v);
  Row out;
  for (const double v : x) sum += std::exp(v - max), out.push_back(std::exp(v - max));
  for (double& v : out) v = max == -kInf ? 0 : v / sum;
  return out;
}

Row log_softmax_twin(const Row& x) {
  double max = -kInf, sum = 0;
  for (const double v : x) max = std::max(max, v);
  for (const double v : x) sum += std::exp(v - max);
  Row out;
  for (const double v : x) out.push_back(max == -kInf ? -kInf : v - max - std::log(sum));
  return out;
}

TEST(KernelsSoftmax, MatchesTheTwin) {
  for (const DType dtype : kFloats) {
    const bool single = dtype == DType::f32;
    for (const Shape& shape : row_shapes()) {
      for (const Tensor& x : in_layouts(shape, dtype, 71)) {
        const Tensor y = run(
            x, [&](ThreadPool& pool, const View& out) { kernels::softmax(pool, x.view(), out); });
        expect_close(y, by_rows({x}, [](const auto& rows) { return softmax_twin(rows[0]); }),
                     single ? 5e-7 : 1e-14, 0, "softmax " + describe(x));
        const Tensor l = run(x, [&](ThreadPool& pool, const View& out) {
          kernels::log_softmax(pool, x.view(), out);
        });
        expect_close(l, by_rows({x}, [](const auto& rows) { return log_softmax_twin(rows[0]); }),
                     single ? 3e-7 : 1e-14, single ? 5e-7 : 1e-14, "log_softmax " + describe(x));
      }
    }
  }
}

TEST(KernelsSoftmax, MaskedRows) {
  ThreadPool pool(2);
  for (const DType dtype : kFloats) {
    for (const std::int64_t d : {3, 16, 40}) {
      Tensor x = Tensor::full({5, d}, dtype, -kInf);
      const auto set = [&](std::int64_t row, std::int64_t column, double value) {
        kernels::fill(pool, value, x.select(0, row).slice(0, column, column + 1).view());
      };
      set(1, 2, 5);     // one entry: exactly 1
      set(2, 0, 1e30);  // overflow without the shift
      set(2, 1, 1e30);
      set(3, d - 1, NAN);
      set(4, 0, kInf);  // inf - inf
      Tensor y = Tensor::empty(x.shape(), dtype), l = y.clone();
      kernels::softmax(pool, x.view(), y.view());
      kernels::log_softmax(pool, x.view(), l.view());
      const Row p = y.to_vector<double>(), log_p = l.to_vector<double>();
      const auto at = [&](const Row& v, std::int64_t row, std::int64_t c) {
        return v[static_cast<std::size_t>(row * d + c)];
      };
      for (std::int64_t c = 0; c < d; ++c) {
        EXPECT_EQ(at(p, 0, c), 0);
        EXPECT_EQ(at(log_p, 0, c), -kInf);
        EXPECT_EQ(at(p, 1, c), c == 2 ? 1 : 0);
        EXPECT_EQ(at(log_p, 1, c), c == 2 ? 0 : -kInf);
        EXPECT_EQ(at(p, 2, c), c < 2 ? 0.5 : 0);
        EXPECT_TRUE(std::isnan(at(p, 3, c))) << c;
        EXPECT_TRUE(std::isnan(at(log_p, 3, c))) << c;
      }
      EXPECT_TRUE(std::isnan(at(p, 4, 0)));
    }
  }
}

TEST(KernelsSoftmax, Gradient) {
  for (const DType dtype : kFloats) {
    for (const Shape& shape : row_shapes()) {
      for (const Tensor& y : in_layouts(shape, dtype, 81)) {
        for (const Tensor& dy : in_layouts(shape, dtype, 91)) {
          const Tensor dx = run(y, [&](ThreadPool& pool, const View& out) {
            kernels::softmax_grad(pool, y.view(), dy.view(), out);
          });
          const Row want = by_rows({y, dy}, [](const auto& rows) {
            double dot = 0;
            for (std::size_t i = 0; i < rows[0].size(); ++i) dot += rows[0][i] * rows[1][i];
            Row out;
            for (std::size_t i = 0; i < rows[0].size(); ++i)
              out.push_back(rows[0][i] * (rows[1][i] - dot));
            return out;
          });
          // |dot| reaches about 4 sqrt(d): rounding it to f32 is what the absolute term covers.
          expect_close(dx, want, dtype == DType::f32 ? 3e-7 : 1e-13,
                       dtype == DType::f32 ? 4e-5 : 1e-11, describe(y) + " with " + describe(dy));
        }
      }
    }
  }
}

struct Normalised {
  Row n;
  double inverse_std;
};

Normalised normalise(const Row& x) {
  double mean = 0, var = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  for (const double v : x) var += (v - mean) * (v - mean) / static_cast<double>(x.size());
  const double inverse = 1 / std::sqrt(var + kEps);
  Normalised out{{}, inverse};
  for (const double v : x) out.n.push_back((v - mean) * inverse);
  return out;
}

TEST(KernelsLayerNorm, ForwardAndGradients) {
  for (const DType dtype : kFloats) {
    const bool single = dtype == DType::f32;
    for (const Shape& shape : row_shapes()) {
      const std::int64_t d = shape.back();
      const Tensor gain = random_tensor({2 * d}, dtype, 1).slice(0, 0, 2 * d, 2),
                   bias = random_tensor({d}, dtype, 2);
      const Row g = gain.to_vector<double>(), b = bias.to_vector<double>();
      for (const Tensor& x : in_layouts(shape, dtype, 101)) {
        const Tensor y = run(x, [&](ThreadPool& pool, const View& out) {
          kernels::layer_norm(pool, x.view(), gain.view(), bias.view(), kEps, out);
        });
        expect_close(y,
                     by_rows({x},
                             [&](const auto& rows) {
                               Row n = normalise(rows[0]).n;
                               for (std::size_t i = 0; i < n.size(); ++i) n[i] = n[i] * g[i] + b[i];
                               return n;
                             }),
                     single ? 1e-6 : 1e-11, single ? 1e-6 : 1e-11, "layer_norm " + describe(x));

        for (const Tensor& dy : in_layouts(shape, dtype, 111)) {
          const Tensor dx = run(x, [&](ThreadPool& pool, const View& out) {
            kernels::layer_norm_grad(pool, x.view(), gain.view(), dy.view(), kEps, out);
          });
          expect_close(
              dx,
              by_rows({x, dy},
                      [&](const auto& rows) {
                        const Normalised x_hat = normalise(rows[0]);
                        const auto n = static_cast<double>(x_hat.n.size());
                        double mean_g = 0, mean_gn = 0;
                        for (std::size_t i = 0; i < x_hat.n.size(); ++i) {
                          mean_g += g[i] * rows[1][i] / n;
                          mean_gn += g[i] * rows[1][i] * x_hat.n[i] / n;
                        }
                        Row out;
                        for (std::size_t i = 0; i < x_hat.n.size(); ++i) {
                          out.push_back((g[i] * rows[1][i] - mean_g - x_hat.n[i] * mean_gn) *
                                        x_hat.inverse_std);
                        }
                        return out;
                      }),
              single ? 1e-6 : 1e-10, single ? 1e-6 : 1e-10, "layer_norm_grad " + describe(x));

          const Tensor dgain = run(bias, [&](ThreadPool& pool, const View& out) {
            kernels::layer_norm_gain_grad(pool, x.view(), dy.view(), kEps, out);
          });
          Row sums(static_cast<std::size_t>(d), 0.0);
          if (d > 0) {
            by_rows({x, dy}, [&](const auto& rows) {
              const Row n = normalise(rows[0]).n;
              for (std::size_t i = 0; i < n.size(); ++i) sums[i] += n[i] * rows[1][i];
              return Row{};
            });
          }
          expect_close(dgain, sums, single ? 1e-7 : 1e-11, 1e-9,
                       "layer_norm_gain_grad " + describe(x));
        }
      }
    }
  }
}

Normalised by_rms(const Row& x) {
  double squares = 0;
  for (const double v : x) squares += v * v / static_cast<double>(x.size());
  Normalised out{{}, 1 / std::sqrt(squares + kEps)};
  for (const double v : x) out.n.push_back(v * out.inverse_std);
  return out;
}

TEST(KernelsRmsNorm, ForwardAndGradients) {
  for (const DType dtype : kFloats) {
    const bool single = dtype == DType::f32;
    for (const Shape& shape : row_shapes()) {
      const std::int64_t d = shape.back();
      const Tensor gain = random_tensor({2 * d}, dtype, 1).slice(0, 0, 2 * d, 2);
      const Row g = gain.to_vector<double>();
      for (const Tensor& x : in_layouts(shape, dtype, 101)) {
        const Tensor y = run(x, [&](ThreadPool& pool, const View& out) {
          kernels::rms_norm(pool, x.view(), gain.view(), kEps, out);
        });
        const Row want = by_rows({x}, [&](const auto& rows) {
          Row n = by_rms(rows[0]).n;
          for (std::size_t i = 0; i < n.size(); ++i) n[i] *= g[i];
          return n;
        });
        expect_close(y, want, single ? 1e-6 : 1e-13, 1e-30, describe(x));
        for (const Tensor& dy : in_layouts(shape, dtype, 111)) {
          const Tensor dx = run(x, [&](ThreadPool& pool, const View& out) {
            kernels::rms_norm_grad(pool, x.view(), gain.view(), dy.view(), kEps, out);
          });
          const Row want_dx = by_rows({x, dy}, [&](const auto& rows) {
            const Normalised x_hat = by_rms(rows[0]);
            double mean_gn = 0;
            for (std::size_t i = 0; i < g.size(); ++i)
              mean_gn += g[i] * rows[1][i] * x_hat.n[i] / static_cast<double>(g.size());
            Row out;
            for (std::size_t i = 0; i < g.size(); ++i)
              out.push_back((g[i] * rows[1][i] - x_hat.n[i] * mean_gn) * x_hat.inverse_std);
            return out;
          });
          expect_close(dx, want_dx, single ? 1e-6 : 1e-10, single ? 1e-6 : 1e-10, describe(x));
          const Tensor dgain = run(gain, [&](ThreadPool& pool, const View& out) {
            kernels::rms_norm_gain_grad(pool, x.view(), dy.view(), kEps, out);
          });
          Row sums(static_cast<std::size_t>(d), 0.0);
          if (d > 0) {
            by_rows({x, dy}, [&](const auto& rows) {
              const Row n = by_rms(rows[0]).n;
              for (std::size_t i = 0; i < n.size(); ++i) sums[i] += n[i] * rows[1][i];
              return Row{};
            });
          }
          expect_close(dgain, sums, single ? 1e-7 : 1e-11, 1e-9, describe(x));
        }
      }
    }
  }
}

TEST(KernelsLayerNorm, AMeanFarFromZeroDoesNotCancel) {
  ThreadPool pool(1);
  const std::int64_t d = 768;
  const Tensor x = random_tensor({4, d}, DType::f32, 7, 4095, 4097);
  Tensor y = Tensor::empty(x.shape(), DType::f32);
  kernels::layer_norm(pool, x.view(), Tensor::full({d}, DType::f32, 1).view(),
                      Tensor::zeros({d}, DType::f32).view(), kEps, y.view());
  expect_close(y, by_rows({x}, [](const auto& rows) { return normalise(rows[0]).n; }), 1e-6, 1e-6,
               "offset 4096");
}

TEST(KernelsArgmax, FirstOfTheLargest) {
  for (const DType dtype : kFloats) {
    for (const Tensor& x : in_layouts({70, 501}, dtype, 121)) {
      const Tensor at = on_all_pools([&](ThreadPool& pool) {
        Tensor out = Tensor::empty({70, 1}, DType::i64);
        kernels::argmax(pool, x.view(), out.view());
        return out;
      });
      const auto got = at.to_vector<std::int64_t>();
      const Row values = x.to_vector<double>();
      for (std::size_t r = 0; r < 70; ++r) {
        const auto row = values.begin() + static_cast<std::ptrdiff_t>(r * 501);
        ASSERT_EQ(got[r], std::max_element(row, row + 501) - row) << describe(x);
      }
    }
  }
  ThreadPool pool(1);
  Tensor out = Tensor::empty({4, 1}, DType::i64);
  kernels::argmax(
      pool,
      Tensor::of<float>({4, 3}, {1, 2, 2, 0, NAN, 9, -INFINITY, -INFINITY, -INFINITY, -1, -3, -1})
          .view(),
      out.view());
  EXPECT_EQ(out.to_vector<std::int64_t>(), (std::vector<std::int64_t>{1, 1, 0, 0}));
}

}  // namespace
}  // namespace vitrine

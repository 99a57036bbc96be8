#include "tensor/gemm/gemm.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "tests/tensor/kernels/kernel_check.h"

namespace vitrine {
namespace {

using test::expect_close;
using test::on_all_pools;
using test::random_tensor;

constexpr DType kFloats[] = {DType::f32, DType::f64};

// A matrix in many layouts: rows, transposed, a window, and those without a unit stride
// (every second column, every second column of the transpose) or broadcast along either axis.
std::vector<Tensor> matrices(std::int64_t rows, std::int64_t columns, DType dtype,
                             std::uint64_t seed) {
  return {
      random_tensor({rows, columns}, dtype, seed),
      random_tensor({columns, rows}, dtype, seed + 1).permute({1, 0}),
      random_tensor({rows + 2, columns + 5}, dtype, seed + 2)
          .slice(0, 1, rows + 1)
          .slice(1, 2, columns + 2),
      random_tensor({rows, 2 * columns}, dtype, seed + 3).slice(1, 0, 2 * columns, 2),
      random_tensor({columns, 2 * rows}, dtype, seed + 4).slice(1, 0, 2 * rows, 2).permute({1, 0}),
      random_tensor({1, columns}, dtype, seed + 5).broadcast_to({rows, columns}),
      random_tensor({rows, 1}, dtype, seed + 6).broadcast_to({rows, columns})};
}

void check(const Tensor& a, const Tensor& b) {
  const int rank = a.rank();
  Shape shape = a.shape();
  shape[rank - 1] = b.shape()[rank - 1];
  const auto product = [&](GemmProvider provider) {
    return on_all_pools([&](ThreadPool& pool) {
      Tensor result = Tensor::full(shape, a.dtype(), NAN);
      matmul(pool, a.view(), b.view(), result.view(), provider);
      return result;
    });
  };
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  const std::int64_t m = shape[rank - 2], n = shape[rank - 1], k = a.shape()[rank - 1];
  std::vector<double> want(static_cast<std::size_t>(numel(shape)), 0.0);
  const std::int64_t batches = m * n == 0 ? 0 : numel(shape) / (m * n);
  for (std::int64_t batch = 0; batch < batches; ++batch) {
    for (std::int64_t i = 0; i < m; ++i) {
      double* row = want.data() + (batch * m + i) * n;
      for (std::int64_t t = 0; t < k; ++t) {
        const double factor = x[static_cast<std::size_t>((batch * m + i) * k + t)];
        const double* from = y.data() + (batch * k + t) * n;
        for (std::int64_t j = 0; j < n; ++j) row[j] += factor * from[j];
      }
    }
  }
  // Sums of k products of size up to 4. Equal products all round the same way, random ones to
  // either side.
  const bool equal = a.strides()[rank - 1] == 0 && b.strides()[rank - 2] == 0;
  const double size = 4 * static_cast<double>(k) + 1, drift = equal ? static_cast<double>(k) : 1;
  for (const GemmProvider provider : {GemmProvider::own, GemmProvider::openblas}) {
    expect_close(
        product(provider), want, 0, (a.dtype() == DType::f32 ? 1.2e-7 : 4e-16) * size * drift,
        std::string(name_of(provider)) + ": " + to_string(a.shape()) + to_string(a.strides()) +
            " times " + to_string(b.shape()) + to_string(b.strides()));
  }
}

TEST(Gemm, EveryPairOfLayouts) {
  const Dims sizes[] = {{1, 1, 1},    {1, 7, 5},    {5, 1, 7},     {3, 4, 5},
                        {8, 8, 8},    {16, 50, 33}, {1, 70, 1},    {33, 65, 17},
                        {40, 3, 130}, {2, 1, 2},    {17, 400, 65}, {33, 34, 1}};
  for (const DType dtype : kFloats) {
    for (const Dims& mnk : sizes) {
      for (const Tensor& a : matrices(mnk[0], mnk[2], dtype, 1)) {
        for (const Tensor& b : matrices(mnk[2], mnk[1], dtype, 11)) check(a, b);
      }
    }
  }
}

TEST(Gemm, LargerThanATile) {
  for (const DType dtype : kFloats) {
    check(random_tensor({300, 200}, dtype, 1), random_tensor({200, 1100}, dtype, 2));
    check(random_tensor({200, 700}, dtype, 1).permute({1, 0}),
          random_tensor({300, 200}, dtype, 2).permute({1, 0}));
    check(random_tensor({1, 300}, dtype, 1), random_tensor({300, 5001}, dtype, 2));
    check(random_tensor({1, 300}, dtype, 1), random_tensor({5001, 300}, dtype, 2).permute({1, 0}));
    check(random_tensor({31, 300}, dtype, 1), random_tensor({300, 1001}, dtype, 2));
    check(random_tensor({15, 300}, dtype, 1), random_tensor({1001, 300}, dtype, 2).permute({1, 0}));
    check(random_tensor({3001, 70}, dtype, 1), random_tensor({70, 1}, dtype, 2));
  }
}

TEST(Gemm, Batches) {
  for (const DType dtype : kFloats) {
    const Tensor a = random_tensor({3, 2, 5, 7}, dtype, 1),
                 b = random_tensor({3, 2, 7, 4}, dtype, 2);
    check(a, b);
    check(random_tensor({2, 3, 5, 7}, dtype, 3).permute({1, 0, 2, 3}), b);
    // Shared weights: one product of all rows when the rows continue, one per batch when they do
    // not.
    const Tensor w = random_tensor({7, 4}, dtype, 4);
    check(a, w.broadcast_to({3, 2, 7, 4}));
    check(random_tensor({3, 2, 10, 7}, dtype, 5).slice(2, 0, 10, 2), w.broadcast_to({3, 2, 7, 4}));
    check(random_tensor({3, 2, 1, 7}, dtype, 6), w.broadcast_to({3, 2, 7, 4}));
    check(random_tensor({3, 2, 5, 7}, dtype, 6),
          random_tensor({7, 1}, dtype, 7).broadcast_to({3, 2, 7, 1}));
    check(random_tensor({3, 1, 5, 7}, dtype, 8).broadcast_to({3, 2, 5, 7}), b);
    check(random_tensor({5, 7}, dtype, 9).broadcast_to({3, 2, 5, 7}), b);
    // Broadcast batches of matrices that must be copied.
    check(random_tensor({5, 14}, dtype, 9).slice(1, 0, 14, 2).broadcast_to({3, 2, 5, 7}), b);
    check(random_tensor({40, 50, 30}, dtype, 1), random_tensor({40, 30, 20}, dtype, 2));
    check(random_tensor({8, 64, 100}, dtype, 1),
          random_tensor({8, 70, 100}, dtype, 2).permute({0, 2, 1}));
  }
}

TEST(Gemm, EmptySizes) {
  ThreadPool pool(2);
  for (const DType dtype : kFloats) {
    Tensor out = Tensor::full({3, 4}, dtype, NAN);
    matmul(pool, Tensor::zeros({3, 0}, dtype).view(), Tensor::zeros({0, 4}, dtype).view(),
           out.view());
    EXPECT_EQ(out.to_vector<double>(), std::vector<double>(12, 0.0));
    check(Tensor::zeros({0, 5}, dtype), Tensor::zeros({5, 4}, dtype));
    check(Tensor::zeros({3, 5}, dtype), Tensor::zeros({5, 0}, dtype));
    check(Tensor::zeros({0, 3, 5}, dtype), Tensor::zeros({0, 5, 2}, dtype));
  }
}

TEST(Gemm, NanAndInfinityReachTheirRowAndColumn) {
  ThreadPool pool(1);
  for (const std::int64_t n : {1, 3, 40}) {
    for (const std::int64_t m : {1, 3, 40}) {
      Tensor a = random_tensor({m, 20}, DType::f32, 1);
      a.data<float>()[3] = NAN;
      Tensor out = Tensor::empty({m, n}, DType::f32);
      matmul(pool, a.view(), random_tensor({20, n}, DType::f32, 2).view(), out.view());
      for (std::int64_t i = 0; i < m; ++i) EXPECT_EQ(std::isnan(out.at<float>({i, n - 1})), i == 0);
    }
  }
}

// A row of a large product has the same bits whatever the other rows and columns are.
TEST(Gemm, BitsOfAnElementDependOnItsRowAndColumnAlone) {
  ThreadPool two(2), five(5);
  for (const DType dtype : kFloats) {
    const Tensor a = random_tensor({337, 900}, dtype, 1), b = random_tensor({900, 411}, dtype, 2);
    const Tensor whole = Tensor::empty({337, 411}, dtype);
    matmul(five, a.view(), b.view(), whole.view());
    for (const auto& [row, rows, column, columns] :
         {std::array<std::int64_t, 4>{0, 117, 0, 411}, {9, 201, 40, 48}, {200, 137, 399, 12}}) {
      const Tensor part = Tensor::empty({rows, columns}, dtype);
      matmul(two, a.slice(0, row, row + rows).view(), b.slice(1, column, column + columns).view(),
             part.view());
      EXPECT_EQ(max_abs_difference(
                    part, whole.slice(0, row, row + rows).slice(1, column, column + columns)),
                0);
    }
  }
}

TEST(Gemm, LongSumsAndTallProducts) {  // more than one slab of packed rows
  check(random_tensor({20, 70'000}, DType::f32, 1), random_tensor({70'000, 3}, DType::f32, 2));
  check(random_tensor({8'200, 30}, DType::f32, 1), random_tensor({30, 20}, DType::f32, 2));
  check(random_tensor({700, 6'500}, DType::f32, 1), random_tensor({6'500, 5}, DType::f32, 2));
}

TEST(Gemm, AddsToWhatIsThere) {
  for (const DType dtype : kFloats) {
    for (const auto& [m, n, k] :
         {std::array<std::int64_t, 3>{1, 5, 7}, {3, 1, 4}, {70, 210, 500}, {16, 50, 0}}) {
      const Tensor a = random_tensor({m, k}, dtype, 1), b = random_tensor({k, n}, dtype, 2),
                   start = random_tensor({m, n}, dtype, 3);
      const Tensor product = Tensor::empty({m, n}, dtype);
      const Tensor sum = on_all_pools([&](ThreadPool& pool) {
        Tensor out = start.clone();
        matmul(pool, a.view(), b.view(), product.view());
        matmul_add(pool, a.view(), b.view(), out.view());
        return out;
      });
      std::vector<double> want = start.to_vector<double>();
      const auto p = product.to_vector<double>();
      for (std::size_t i = 0; i < want.size(); ++i) want[i] += p[i];
      expect_close(sum, want, 0, dtype == DType::f32 ? 1e-4 : 1e-12, to_string(sum.shape()));
    }
  }
}

// affine gives the bits of its steps, one after the other.
TEST(Gemm, AffineIsProductThenBiasThenFunction) {
  for (const DType dtype : kFloats) {
    for (const auto& [m, n, k] : {std::array<std::int64_t, 3>{1, 33, 7},
                                  {5, 200, 60},
                                  {70, 1, 4},
                                  {70, 210, 500},
                                  {16, 50, 0}}) {
      const Tensor x = random_tensor({m, k}, dtype, 1), w = random_tensor({k, n}, dtype, 2),
                   bias = random_tensor({2 * n}, dtype, 3).slice(0, 0, 2 * n, 2);
      for (const bool gelu : {false, true}) {
        const Tensor out = on_all_pools([&](ThreadPool& pool) {
          Tensor result = Tensor::full({m, n}, dtype, NAN);
          affine(pool, x.view(), w.view(), bias.view(), result.view(),
                 gelu ? std::optional(kernels::Unary::gelu_tanh) : std::nullopt);
          return result;
        });
        ThreadPool pool(1);
        const Tensor want = Tensor::empty({m, n}, dtype);
        matmul(pool, x.view(), w.view(), want.view());
        kernels::binary(pool, kernels::Binary::add, want.view(), bias.broadcast_to({m, n}).view(),
                        want.view());
        if (gelu) kernels::unary(pool, kernels::Unary::gelu_tanh, want.view(), want.view());
        // One column is summed as a row is, in another order.
        EXPECT_LE(max_abs_difference(out, want), n == 1 ? 1e-6 : 0) << m << ' ' << n << ' ' << k;
      }
    }
  }
}

}  // namespace
}  // namespace vitrine

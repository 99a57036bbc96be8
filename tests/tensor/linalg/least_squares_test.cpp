// The x that comes nearest: against normal equations, and where many do.
#include "tensor/linalg/least_squares.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "tensor/error.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/linalg/matrices.h"

namespace vitrine {
namespace {

using test::distance;
using test::random_matrix;
using test::times;
using test::transposed;

// Solves a x = b for a positive definite a by elimination.
Tensor solved(const Tensor& a, const Tensor& b) {
  const Tensor l = a.clone(), x = b.clone();
  const std::int64_t n = a.dim(0), c = b.dim(1);
  double *m = l.data<double>(), *y = x.data<double>();
  for (std::int64_t p = 0; p < n; ++p) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (i == p) continue;
      const double factor = m[i * n + p] / m[p * n + p];
      for (std::int64_t j = 0; j < n; ++j) m[i * n + j] -= factor * m[p * n + j];
      for (std::int64_t j = 0; j < c; ++j) y[i * c + j] -= factor * y[p * c + j];
    }
  }
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < c; ++j) y[i * c + j] /= m[i * n + i];
  return x;
}

TEST(LeastSquares, SolvesTheNormalEquations) {
  for (const auto& [m, n, c] :
       {std::array<std::int64_t, 3>{30, 5, 3}, {8, 8, 2}, {100, 20, 1}, {1, 1, 1}, {7, 1, 4}}) {
    const Tensor a = random_matrix(m, n, 1), b = random_matrix(m, c, 2);
    const LeastSquares s = least_squares(a, b);
    const Tensor want = solved(times(transposed(a), a), times(transposed(a), b));
    EXPECT_EQ(s.rank, n);
    ASSERT_EQ(s.x.shape(), (Shape{n, c}));
    EXPECT_LE(distance(s.x, want), 1e-9) << m << ' ' << n;
    const Tensor fit = times(a, s.x);
    for (std::int64_t j = 0; j < c; ++j) {
      double sum = 0;
      for (std::int64_t i = 0; i < m; ++i)
        sum += std::pow(fit.at<double>({i, j}) - b.at<double>({i, j}), 2);
      EXPECT_NEAR(s.distance.at<double>({j}), std::sqrt(sum), 1e-12);
    }
  }
}

TEST(LeastSquares, ALineThroughPoints) {  // y = 1 + 2 t through (0, 1), (1, 3), (2, 5)
  const Tensor a = Tensor::of({3, 2}, {1.0, 0.0, 1.0, 1.0, 1.0, 2.0});
  const LeastSquares s = least_squares(a, Tensor::of({3}, {1.0, 3.0, 5.0}));
  ASSERT_EQ(s.x.shape(), (Shape{2}));
  EXPECT_NEAR(s.x.at<double>({0}), 1, 1e-14);
  EXPECT_NEAR(s.x.at<double>({1}), 2, 1e-14);
  EXPECT_NEAR(s.distance.item<double>(), 0, 1e-14);
}

TEST(LeastSquares, TheShortestWhereManyDo) {
  const LeastSquares wide = least_squares(Tensor::of({1, 2}, {3.0, 4.0}), Tensor::of({1}, {25.0}));
  EXPECT_EQ(wide.rank, 1);
  EXPECT_NEAR(wide.x.at<double>({0}), 3, 1e-14);
  EXPECT_NEAR(wide.x.at<double>({1}), 4, 1e-14);
  // Two columns that are the same share the weight.
  const Tensor column = random_matrix(9, 1, 1), a = column.broadcast_to({9, 2}).contiguous();
  const LeastSquares twin = least_squares(a, column);
  EXPECT_EQ(twin.rank, 1);
  EXPECT_NEAR(twin.x.at<double>({0, 0}), 0.5, 1e-13);
  EXPECT_NEAR(twin.x.at<double>({1, 0}), 0.5, 1e-13);
}

TEST(LeastSquares, ZerosAndNothing) {
  const LeastSquares zero =
      least_squares(Tensor::zeros({4, 2}, DType::f64), random_matrix(4, 1, 1));
  EXPECT_EQ(zero.rank, 0);
  EXPECT_EQ(zero.x.to_vector<double>(), (std::vector<double>{0, 0}));
  EXPECT_EQ(
      least_squares(Tensor::zeros({0, 3}, DType::f64), Tensor::zeros({0, 2}, DType::f64)).x.shape(),
      (Shape{3, 2}));
  const LeastSquares none =
      least_squares(Tensor::zeros({3, 0}, DType::f64), Tensor::of({3}, {1.0, 2.0, 2.0}));
  EXPECT_EQ(none.x.numel(), 0);
  EXPECT_NEAR(none.distance.item<double>(), 3, 1e-15);
}

TEST(LeastSquares, TypesSizesAndBits) {
  const Tensor a = random_matrix(20, 4, 1), b = random_matrix(20, 2, 2);
  const Tensor x = least_squares(a, b).x;
  EXPECT_EQ(x.to_vector<double>(), least_squares(a, b).x.to_vector<double>());
  EXPECT_LE(distance(least_squares(a.to(DType::f32), b.to(DType::f32)).x, x), 1e-5);
  const Tensor large = a.clone();
  for (std::int64_t i = 0; i < a.numel(); ++i) large.data<double>()[i] *= 0x1p900;
  const Tensor small = least_squares(large, b).x.clone();
  for (std::int64_t i = 0; i < x.numel(); ++i) small.data<double>()[i] *= 0x1p900;
  EXPECT_EQ(small.to_vector<double>(), x.to_vector<double>());
}

TEST(LeastSquares, Errors) {
  EXPECT_ERROR(ShapeError, "not [3, 2] and [4, 1]",
               least_squares(random_matrix(3, 2, 1), random_matrix(4, 1, 1)));
  EXPECT_ERROR(ShapeError, "takes a matrix",
               least_squares(Tensor::zeros({3}, DType::f64), Tensor::zeros({3}, DType::f64)));
  const Tensor b = random_matrix(3, 1, 2);
  b.data<double>()[1] = NAN;
  EXPECT_ERROR(NumericError, "the right side [3, 1] holds nan",
               least_squares(random_matrix(3, 2, 1), b));
  EXPECT_ERROR(NumericError, "the matrix [3, 1] holds nan",
               least_squares(b, random_matrix(3, 2, 1)));
}

}  // namespace
}  // namespace vitrine

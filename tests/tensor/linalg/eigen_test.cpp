// V diag(values) V^T gives the matrix back.
#include "tensor/linalg/eigen.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tensor/error.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/linalg/matrices.h"

namespace vitrine {
namespace {

using test::distance;
using test::random_matrix;
using test::times;
using test::transposed;

Tensor symmetric(std::int64_t n, std::uint64_t seed) {
  const Tensor x = random_matrix(n, n, seed), out = x.clone();
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j)
      out.data<double>()[i * n + j] = x.at<double>({i, j}) + x.at<double>({j, i});
  }
  return out;
}

void expect_decomposes(const Tensor& a, double size = 1) {
  const Eigen e = symmetric_eigen(a);
  const Tensor back = times(times(e.vectors, test::diagonal(e.values)), transposed(e.vectors));
  EXPECT_LE(distance(back, a.to(DType::f64)), 1e-12 * size) << to_string(a.shape());
  EXPECT_LE(distance(times(transposed(e.vectors), e.vectors), test::identity(a.dim(0))), 1e-12);
  for (std::int64_t j = 0; j < a.dim(0); ++j) {
    if (j > 0) {
      EXPECT_LE(e.values.at<double>({j}), e.values.at<double>({j - 1}));
    }
    double largest = 0;
    for (const double x : e.vectors.select(1, j).to_vector<double>())
      if (std::abs(x) > std::abs(largest)) largest = x;
    EXPECT_GT(largest, 0) << "the sign of vector " << j;
  }
}

TEST(SymmetricEigen, RandomMatrices) {
  for (const std::int64_t n : {0, 1, 2, 7, 40, 130}) expect_decomposes(symmetric(n, 1), 100);
}

TEST(SymmetricEigen, KnownValues) {
  const Eigen e = symmetric_eigen(Tensor::of({2, 2}, {2.0, 1.0, 1.0, 2.0}));
  EXPECT_NEAR(e.values.at<double>({0}), 3, 1e-15);
  EXPECT_NEAR(e.values.at<double>({1}), 1, 1e-15);
  EXPECT_NEAR(e.vectors.at<double>({0, 0}), std::sqrt(0.5), 1e-15);
  EXPECT_NEAR(e.vectors.at<double>({1, 0}), std::sqrt(0.5), 1e-15);
  EXPECT_EQ(symmetric_eigen(Tensor::of({1, 1}, {-4.0})).values.item<double>(), -4);
}

TEST(SymmetricEigen, RepeatedValuesAndLowRank) {
  expect_decomposes(test::identity(9));
  expect_decomposes(Tensor::zeros({4, 4}, DType::f64));
  const Tensor x = random_matrix(12, 3, 2), a = times(x, transposed(x));
  expect_decomposes(a, 10);
  const Eigen e = symmetric_eigen(a);
  EXPECT_GT(e.values.at<double>({2}), 0.1);
  EXPECT_NEAR(e.values.at<double>({3}), 0, 1e-12);
  EXPECT_NEAR(e.values.at<double>({11}), 0, 1e-12);
}

TEST(SymmetricEigen, TypesAndSizes) {
  expect_decomposes(symmetric(9, 3).to(DType::f32), 10);
  const Tensor huge = symmetric(5, 4);
  for (std::int64_t i = 0; i < huge.numel(); ++i) huge.data<double>()[i] *= 1e300;
  expect_decomposes(huge, 1e301);
}

TEST(SymmetricEigen, SameBitsAgain) {
  const Tensor a = symmetric(77, 5);
  const Eigen x = symmetric_eigen(a), y = symmetric_eigen(a);
  EXPECT_EQ(x.values.to_vector<double>(), y.values.to_vector<double>());
  EXPECT_EQ(x.vectors.to_vector<double>(), y.vectors.to_vector<double>());
}

TEST(SymmetricEigen, Errors) {
  EXPECT_ERROR(ShapeError, "takes a square matrix, not [3, 4]",
               symmetric_eigen(random_matrix(3, 4, 1)));
  EXPECT_ERROR(ShapeError, "takes a matrix", symmetric_eigen(Tensor::zeros({3}, DType::f64)));
  EXPECT_ERROR(NumericError, "not symmetric: entry (0, 1)",
               symmetric_eigen(random_matrix(3, 3, 1)));
  Tensor a = symmetric(3, 1);
  a.data<double>()[4] = NAN;
  EXPECT_ERROR(NumericError, "holds nan", symmetric_eigen(a));
}

}  // namespace
}  // namespace vitrine

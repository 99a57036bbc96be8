// The decomposition gives the matrix back, from vectors that are orthonormal.
#include "tensor/linalg/svd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine {
namespace {

Tensor random_matrix(std::int64_t m, std::int64_t n, std::uint64_t seed) {
  const Tensor t = Tensor::empty({m, n}, DType::f64);
  for (std::int64_t i = 0; i < m * n; ++i)
    t.data<double>()[i] = random::normal(random::Key{seed}, static_cast<std::uint64_t>(i));
  return t;
}

// x^T y, plainly.
Tensor gram(const Tensor& x, const Tensor& y) {
  const Tensor out = Tensor::zeros({x.dim(1), y.dim(1)}, DType::f64);
  for (std::int64_t i = 0; i < x.dim(1); ++i) {
    for (std::int64_t j = 0; j < y.dim(1); ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < x.dim(0); ++k)
        sum += x.at<double>({k, i}) * y.at<double>({k, j});
      out.data<double>()[i * y.dim(1) + j] = sum;
    }
  }
  return out;
}

Tensor identity(std::int64_t n) {
  const Tensor t = Tensor::zeros({n, n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) t.data<double>()[i * n + i] = 1;
  return t;
}

// left diag(values) right^T.
Tensor rebuilt(const Svd& s) {
  const Tensor scaled = s.left.transpose(0, 1).clone();  // [e, m]
  for (std::int64_t j = 0; j < scaled.dim(0); ++j) {
    for (std::int64_t i = 0; i < scaled.dim(1); ++i)
      scaled.data<double>()[j * scaled.dim(1) + i] *= s.values.at<double>({j});
  }
  return gram(scaled, s.right.transpose(0, 1));
}

void expect_decomposes(const Tensor& a, const Tensor& b) {
  const Svd s = svd_of_product(a, b);
  const Tensor product = gram(a.transpose(0, 1), b.transpose(0, 1));
  EXPECT_LE(max_abs_difference(rebuilt(s), product), 1e-12 * std::max(1.0, max_abs(product)));
  EXPECT_LE(max_abs_difference(gram(s.left, s.left), identity(a.dim(1))), 1e-12);
  EXPECT_LE(max_abs_difference(gram(s.right, s.right), identity(a.dim(1))), 1e-12);
  for (std::int64_t j = 0; j < a.dim(1); ++j) {
    EXPECT_GE(s.values.at<double>({j}), 0);
    if (j > 0) {
      EXPECT_LE(s.values.at<double>({j}), s.values.at<double>({j - 1}));
    }
    double largest = 0;
    for (const double x : s.left.select(1, j).to_vector<double>())
      if (std::abs(x) > std::abs(largest)) largest = x;
    EXPECT_GT(largest, 0) << "the sign of left vector " << j;
  }
}

TEST(Svd, RandomFactors) {
  expect_decomposes(random_matrix(40, 8, 1), random_matrix(40, 8, 2));
  expect_decomposes(random_matrix(64, 64, 3), random_matrix(100, 64, 4));
  expect_decomposes(random_matrix(3, 1, 5), random_matrix(7, 1, 6));
}

TEST(Svd, KnownValues) {
  // diag(3, -2) by hand: values 3 and 2, the second right vector turned round.
  const Svd s = svd(Tensor::of({2, 2}, {3.0, 0.0, 0.0, -2.0}));
  EXPECT_EQ(s.values.to_vector<double>(), (std::vector<double>{3, 2}));
  EXPECT_EQ(s.left.at<double>({1, 1}), 1);
  EXPECT_EQ(s.right.at<double>({1, 1}), -1);
  // [[1, 1], [0, 1]]: the golden ratio and its inverse.
  const Svd shear = svd(Tensor::of({2, 2}, {1.0, 1.0, 0.0, 1.0}));
  EXPECT_NEAR(shear.values.at<double>({0}), (1 + std::sqrt(5.0)) / 2, 1e-14);
  EXPECT_NEAR(shear.values.at<double>({1}), (std::sqrt(5.0) - 1) / 2, 1e-14);
}

TEST(Svd, DependentColumnsAndZeros) {
  Tensor a = random_matrix(12, 4, 7);
  for (std::int64_t i = 0; i < 12; ++i) a.data<double>()[i * 4 + 2] = a.at<double>({i, 0});
  expect_decomposes(a, random_matrix(9, 4, 8));
  const Svd s = svd_of_product(a, random_matrix(9, 4, 8));
  EXPECT_GT(s.values.at<double>({2}), 1e-3);
  EXPECT_LE(s.values.at<double>({3}), 1e-12);
  expect_decomposes(Tensor::full({6, 3}, DType::f64, 1), Tensor::full({5, 3}, DType::f64, 0.5));
  expect_decomposes(Tensor::zeros({4, 2}, DType::f64), random_matrix(4, 2, 9));
}

TEST(Svd, Errors) {
  EXPECT_THROW(svd_of_product(random_matrix(4, 5, 1), random_matrix(5, 5, 1)), ShapeError);
  EXPECT_THROW(svd_of_product(random_matrix(6, 5, 1), random_matrix(6, 4, 1)), ShapeError);
  Tensor nan = random_matrix(4, 2, 1);
  nan.data<double>()[3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(svd(nan), NumericError);
}

}  // namespace
}  // namespace vitrine

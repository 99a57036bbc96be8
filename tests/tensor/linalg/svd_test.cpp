// The decomposition gives the matrix back, from vectors that are orthonormal.
#include "tensor/linalg/svd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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

// U diag(values) V^T of any shape.
void expect_svd(const Tensor& a, double size = 1) {
  const Svd s = svd(a);
  const std::int64_t e = std::min(a.dim(0), a.dim(1));
  ASSERT_EQ(s.left.shape(), (Shape{a.dim(0), e}));
  ASSERT_EQ(s.values.shape(), (Shape{e}));
  ASSERT_EQ(s.right.shape(), (Shape{a.dim(1), e}));
  if (a.numel() == 0) return;
  EXPECT_LE(max_abs_difference(rebuilt(s), a.to(DType::f64)), 1e-12 * size) << to_string(a.shape());
  EXPECT_LE(max_abs_difference(gram(s.left, s.left), identity(e)), 1e-12);
  EXPECT_LE(max_abs_difference(gram(s.right, s.right), identity(e)), 1e-12);
}

TEST(Svd, EveryShape) {
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                             {5, 1},
                             {1, 5},
                             {30, 7},
                             {7, 30},
                             {90, 90},
                             {0, 0},
                             {0, 4},
                             {4, 0}})
    expect_svd(random_matrix(m, n, 1), 10);
  EXPECT_EQ(svd(Tensor::of({1, 1}, {-2.0})).values.item<double>(), 2);
  EXPECT_EQ(svd_of_product(Tensor::zeros({3, 0}, DType::f64), Tensor::zeros({5, 0}, DType::f64))
                .right.shape(),
            (Shape{5, 0}));
}

TEST(Svd, TypesLayoutsAndSizes) {
  expect_svd(random_matrix(9, 5, 1).to(DType::f32), 10);
  expect_svd(random_matrix(9, 10, 2).slice(1, 0, 10, 2), 10);
  for (const double size : {1e-300, 1e300}) {  // whose squares are 0 and infinite
    const Tensor a = random_matrix(6, 4, 4);
    for (std::int64_t i = 0; i < a.numel(); ++i) a.data<double>()[i] *= size;
    expect_svd(a, 10 * size);
  }
}

TEST(Svd, ValuesWithinRoundingOfZeroAreZero) {
  Tensor a = random_matrix(12, 4, 7);
  for (std::int64_t i = 0; i < 12; ++i) a.data<double>()[i * 4 + 2] = a.at<double>({i, 0});
  EXPECT_EQ(svd(a).values.at<double>({3}), 0);
  const Svd s = svd(Tensor::of({2, 2}, {1.0, 0.0, 0.0, 1e-13}));  // small, but not rounding
  EXPECT_NEAR(s.values.at<double>({1}), 1e-13, 1e-28);
}

TEST(Svd, SameBitsAgain) {
  const Tensor a = random_matrix(90, 61, 1), b = random_matrix(70, 61, 2);
  const Svd x = svd_of_product(a, b), y = svd_of_product(a, b);
  EXPECT_EQ(x.left.to_vector<double>(), y.left.to_vector<double>());
  EXPECT_EQ(x.values.to_vector<double>(), y.values.to_vector<double>());
  EXPECT_EQ(x.right.to_vector<double>(), y.right.to_vector<double>());
}

TEST(Svd, Errors) {
  EXPECT_THROW(svd(Tensor::zeros({3}, DType::f64)), ShapeError);
  EXPECT_THROW(svd_of_product(random_matrix(4, 5, 1), random_matrix(5, 5, 1)), ShapeError);
  EXPECT_THROW(svd_of_product(random_matrix(6, 5, 1), random_matrix(6, 4, 1)), ShapeError);
  Tensor nan = random_matrix(4, 2, 1);
  nan.data<double>()[3] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(svd(nan), NumericError);
}

}  // namespace
}  // namespace vitrine

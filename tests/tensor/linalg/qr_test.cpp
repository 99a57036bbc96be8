// Q R gives the matrix back, Q is orthonormal, R a triangle.
#include "tensor/linalg/qr.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tensor/error.h"
#include "tensor/linalg/lapack.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/linalg/matrices.h"

namespace vitrine {
namespace {

using test::distance;
using test::random_matrix;
using test::times;
using test::transposed;

void expect_decomposes(const Tensor& a, double size = 1) {
  const Qr f = qr(a);
  const std::int64_t k = std::min(a.dim(0), a.dim(1));
  ASSERT_EQ(f.q.shape(), (Shape{a.dim(0), k}));
  ASSERT_EQ(f.r.shape(), (Shape{k, a.dim(1)}));
  EXPECT_LE(distance(times(f.q, f.r), a.to(DType::f64)), 1e-12 * size) << to_string(a.shape());
  EXPECT_LE(distance(times(transposed(f.q), f.q), test::identity(k)), 1e-12)
      << to_string(a.shape());
  for (std::int64_t i = 0; i < k; ++i) {
    EXPECT_GE(f.r.at<double>({i, i}), 0);
    for (std::int64_t j = 0; j < i; ++j) EXPECT_EQ(f.r.at<double>({i, j}), 0);
  }
}

TEST(Qr, EveryShape) {
  for (const auto& [m, n] : {std::pair<std::int64_t, std::int64_t>{1, 1},
                             {7, 1},
                             {1, 7},
                             {8, 8},
                             {40, 9},
                             {9, 40},
                             {130, 129},
                             {0, 0},
                             {0, 3},
                             {3, 0}})
    expect_decomposes(random_matrix(m, n, 1));
}

TEST(Qr, KnownValues) {
  const Qr f = qr(Tensor::of({2, 2}, {3.0, 1.0, 4.0, 2.0}));  // columns (3, 4) and (1, 2)
  EXPECT_NEAR(f.r.at<double>({0, 0}), 5, 1e-15);
  EXPECT_NEAR(f.r.at<double>({0, 1}), 11.0 / 5, 1e-15);
  EXPECT_NEAR(f.r.at<double>({1, 1}), 2.0 / 5, 1e-15);
  EXPECT_NEAR(f.q.at<double>({0, 0}), 0.6, 1e-15);
  EXPECT_NEAR(f.q.at<double>({0, 1}), -0.8, 1e-15);
}

TEST(Qr, DependentColumnsAndZeros) {
  Tensor a = random_matrix(12, 4, 7);
  for (std::int64_t i = 0; i < 12; ++i) a.data<double>()[i * 4 + 2] = a.at<double>({i, 0});
  expect_decomposes(a);
  expect_decomposes(Tensor::zeros({5, 3}, DType::f64));
  expect_decomposes(Tensor::full({6, 6}, DType::f64, 2), 2);
}

TEST(Qr, OtherTypesLayoutsAndSizes) {
  expect_decomposes(random_matrix(9, 5, 1).to(DType::f32));
  expect_decomposes(transposed(random_matrix(9, 5, 2)));
  expect_decomposes(random_matrix(9, 10, 3).slice(1, 0, 10, 2));
  for (const double size : {1e-300, 1e300}) {  // whose squares are 0 and infinite
    const Tensor a = random_matrix(6, 4, 4);
    for (std::int64_t i = 0; i < a.numel(); ++i) a.data<double>()[i] *= size;
    expect_decomposes(a, size);
  }
}

TEST(Qr, SameBitsAgain) {
  const Tensor a = random_matrix(90, 61, 1);
  const Qr x = qr(a), y = qr(a);
  EXPECT_EQ(x.q.to_vector<double>(), y.q.to_vector<double>());
  EXPECT_EQ(x.r.to_vector<double>(), y.r.to_vector<double>());
}

TEST(Qr, Errors) {
  EXPECT_ERROR(ShapeError, "[2, 3, 4]; a decomposition takes a matrix",
               qr(Tensor::zeros({2, 3, 4}, DType::f64)));
  Tensor a = random_matrix(4, 2, 1);
  a.data<double>()[3] = INFINITY;
  EXPECT_ERROR(NumericError, "qr: the matrix [4, 2] holds inf", qr(a));
}

// What LAPACK gives is checked; these are the checks.
TEST(Lapack, WrongResultsAreErrors) {
  const Tensor a = random_matrix(30, 20, 1), b = a.clone(), q = qr(a).q;
  const double size = lapack::norm(a);
  EXPECT_NO_THROW(lapack::check_difference(a, b, size, "A"));
  b.data<double>()[77] += 1e-14;  // rounding
  EXPECT_NO_THROW(lapack::check_difference(a, b, size, "A"));
  b.data<double>()[77] += 1e-9;
  EXPECT_ERROR(NumericError, "A: OpenBLAS's result is wrong",
               lapack::check_difference(a, b, size, "A"));
  b.data<double>()[77] = NAN;
  EXPECT_ERROR(NumericError, "off by nan", lapack::check_difference(a, b, size, "A"));
  EXPECT_NO_THROW(lapack::check_orthonormal(q, "Q"));
  q.data<double>()[5] += 1e-9;
  EXPECT_ERROR(NumericError, "Q: OpenBLAS's result is wrong", lapack::check_orthonormal(q, "Q"));
  EXPECT_NO_THROW(lapack::check_info(0, "svd"));
  EXPECT_ERROR(NumericError, "svd: LAPACK gave up with code 3", lapack::check_info(3, "svd"));
  EXPECT_ERROR(NumericError, "with code -4", lapack::check_info(0xfffffffc, "svd"));  // 32 bits
}

}  // namespace
}  // namespace vitrine

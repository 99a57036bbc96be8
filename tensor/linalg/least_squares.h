// Linear least squares: the x that minimises |A x - b| (LAPACK's dgelsd), for linear probes and
// regressions.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

struct LeastSquares {
  Tensor x;           // f64 [n, c], or [n]: minimises |a x - b|, the shortest where many do
  Tensor distance;    // f64 [c], or []: |a x - b| of each column of b
  std::int64_t rank;  // of a: how many singular values exceed max(m, n) u times the largest
};

// a [m, n], b [m, c] or [m], u = 2^-52. Through the singular values of a, so columns that depend on
// each other do no harm. Computes in f64 whatever the types; the same bits on every run. Throws
// ShapeError for other shapes, NumericError for NaN or infinity, and when what OpenBLAS gives is no
// minimum: a^T (a x - b) must be 0 to within rounding.
LeastSquares least_squares(const Tensor& a, const Tensor& b);

}  // namespace vitrine

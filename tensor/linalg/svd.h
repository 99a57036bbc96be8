// The singular value decomposition of a matrix, and of a product of two tall ones, A B^T, from its
// factors: of an [m, n] matrix of rank e only e x e numbers are ever decomposed.
//
//   Svd s = svd_of_product(w_v, w_o_transposed);   // W_V W_O, both factors [d, e]
//   s.values;                                      // [e], the largest first
//   s.left.select(1, 0), s.right.select(1, 0);     // the first pair of singular vectors
//
// A = Q1 R1 and B = Q2 R2, so A B^T = Q1 (R1 R2^T) Q2^T. The small matrix is decomposed by divide
// and conquer (LAPACK's dgesdd; Gu & Eisenstat 1995), which finds each value to within rounding of
// the largest one.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

struct Svd {
  Tensor left;    // f64 [m, e]: orthonormal columns
  Tensor values;  // f64 [e]: not negative, the largest first
  Tensor right;   // f64 [n, e]: orthonormal columns
};

// a [m, e], b [n, e] with m, n >= e -> a b^T = left diag(values) right^T. Signs are fixed: of each
// left vector the entry that is largest in size (the first on a tie) is positive. Values that
// rounding cannot tell from 0 (e u times the largest, u = 2^-52) are 0. Computes in f64 whatever
// the types; the same bits on every run. Throws ShapeError for other shapes, NumericError for NaN
// or infinity, and when what OpenBLAS gives does not multiply out to the matrix.
Svd svd_of_product(const Tensor& a, const Tensor& b);

// a [m, n], any shape: e = min(m, n).
Svd svd(const Tensor& a);

}  // namespace vitrine

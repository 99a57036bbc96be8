// The singular value decomposition of a product of two tall matrices, A B^T, from its factors: of
// an [m, n] matrix of rank e only e x e numbers are ever decomposed.
//
//   Svd s = svd_of_product(w_v, w_o_transposed);   // W_V W_O, both factors [d, e]
//   s.values;                                      // [e], the largest first
//   s.left.select(1, 0), s.right.select(1, 0);     // the first pair of singular vectors
//
// A = Q1 R1 and B = Q2 R2 (Householder), so A B^T = Q1 (R1 R2^T) Q2^T. The small matrix is
// decomposed by one-sided Jacobi rotations (Hestenes 1958; Demmel & Veselic 1992), which find small
// singular values as precisely as large ones.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

struct Svd {
  Tensor left;    // f64 [m, e]: orthonormal columns
  Tensor values;  // f64 [e]: not negative, the largest first
  Tensor right;   // f64 [n, e]: orthonormal columns
};

// a [m, e], b [n, e] with m, n >= e -> a b^T = left diag(values) right^T. Signs are fixed: of each
// left vector the entry that is largest in size (the first on a tie) is positive. Throws ShapeError
// for other shapes and NumericError for NaN or infinity.
Svd svd_of_product(const Tensor& a, const Tensor& b);

// a [m, n] with m >= n: the product of a and the identity.
Svd svd(const Tensor& a);

}  // namespace vitrine

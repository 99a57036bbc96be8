// QR factorisation, A = Q R: orthonormal columns times an upper triangle, by Householder
// reflections (LAPACK's dgeqrf; Golub & Van Loan 2013, "Matrix Computations", section 5.2).
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

struct Qr {
  Tensor q;  // f64 [m, k]: orthonormal columns, also where columns of A depend on each other
  Tensor r;  // f64 [k, n]: zero below the diagonal, which is not negative
};

// a [m, n], k = min(m, n). Computes in f64 whatever a's type; the same bits on every run. Throws
// ShapeError for what is no matrix, NumericError for NaN or infinity, and when what OpenBLAS gives
// does not multiply out to a.
Qr qr(const Tensor& a);

}  // namespace vitrine

// Eigenvalues and eigenvectors of a symmetric matrix, by divide and conquer (LAPACK's dsyevd;
// Cuppen 1981): the spectrum of a covariance, the directions in which activations vary most.
#pragma once

#include "tensor/tensor.h"

namespace vitrine {

struct Eigen {
  Tensor values;   // f64 [n], the largest first (a covariance's are not negative)
  Tensor vectors;  // f64 [n, n]: column j belongs to value j; the columns are orthonormal
};

// a [n, n] -> a = vectors diag(values) vectors^T. Signs are fixed: of each vector the entry that is
// largest in size (the first on a tie) is positive. Computes in f64 whatever a's type; the same
// bits on every run. Throws ShapeError for what is not square, NumericError for NaN or infinity,
// for a matrix that is not symmetric (off by more than n u times its largest entry, u the rounding
// of a's type), and when what OpenBLAS gives does not multiply out to a.
Eigen symmetric_eigen(const Tensor& a);

}  // namespace vitrine

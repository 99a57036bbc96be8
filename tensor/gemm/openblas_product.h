// One matrix product (BLAS sgemm, dgemm) by OpenBLAS.
#pragma once

#include "tensor/gemm/product.h"

namespace vitrine {

// Whether OpenBLAS is worth calling for [m, k] times [k, n], and its integers can hold these sizes.
bool openblas_serves(std::int64_t m, std::int64_t n, std::int64_t k);

// out [m, n] = a [m, k] b [k, n], whose rows are ldo elements apart; no size is 0.
//
// Tiles of out are cut by its shape alone, and each is a call that OpenBLAS computes on the thread
// it is made on. So the number of threads does not show in the bits, as far as OpenBLAS repeats
// itself; it does not promise that, and an element's bits do depend on the other rows and columns.
template <class T>
void openblas_product(ThreadPool& pool, const Matrix<T>& a, const Matrix<T>& b, std::int64_t m,
                      std::int64_t n, std::int64_t k, T* out, std::int64_t ldo,
                      const Finish<T>& finish);

}  // namespace vitrine

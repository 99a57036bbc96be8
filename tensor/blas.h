// OpenBLAS, loaded at run time. It is not linked because it picks its kernels in an ELF
// constructor, from what it knows of CPUs: an old release takes a recent one for a Prescott and
// runs five times slower. OPENBLAS_CORETYPE corrects that, but only if it is set before the library
// is loaded.
#pragma once

#include <string>

namespace vitrine {

// The C interface of BLAS (netlib.org/blas, cblas.h), 32-bit sizes.
struct Blas {
  enum Order { kRowMajor = 101 };
  enum Transpose { kNo = 111, kYes = 112 };

  // C [m, n] = alpha op(A) [m, k] op(B) [k, n] + beta C
  void (*sgemm)(Order, Transpose a, Transpose b, int m, int n, int k, float alpha, const float*,
                int lda, const float*, int ldb, float beta, float*, int ldc);
  void (*dgemm)(Order, Transpose a, Transpose b, int m, int n, int k, double alpha, const double*,
                int lda, const double*, int ldb, double beta, double*, int ldc);
  // y = alpha op(A) x + beta y, A [m, n]
  void (*sgemv)(Order, Transpose, int m, int n, float alpha, const float* a, int lda,
                const float* x, int incx, float beta, float* y, int incy);
  void (*dgemv)(Order, Transpose, int m, int n, double alpha, const double* a, int lda,
                const double* x, int incx, double beta, double* y, int incy);

  std::string version;  // "0.3.21"
  std::string core;     // "SkylakeX": the kernels in use
  std::string file;     // what was loaded: its path, links followed
  int threads;          // that one call uses: 1, unless the library ignores what it is told
};

// Loads the library on the first call; every call of it runs on the calling thread alone. Throws
// Error naming what was tried when there is no usable library.
const Blas& blas();
std::string blas_description();  // "OpenBLAS 0.3.21 SkylakeX"

}  // namespace vitrine

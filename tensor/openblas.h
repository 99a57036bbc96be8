// OpenBLAS, as far as Vitrine calls it: for factorisations (`linalg/`) and as a second way to
// multiply matrices (`gemm/openblas_product.h`).
//
// Its functions are called by their Fortran names: matrices are stored by columns, every argument
// is a pointer, and text arguments have their lengths behind all others.
#pragma once

#include <cstdint>
#include <string>

// How this OpenBLAS spells its names is found when the build is configured: cmake/openblas.cmake.
#define VITRINE_OPENBLAS_JOIN2(a, b, c) a##b##c
#define VITRINE_OPENBLAS_JOIN(a, b, c) VITRINE_OPENBLAS_JOIN2(a, b, c)
#define VITRINE_FORTRAN(name) \
  VITRINE_OPENBLAS_JOIN(VITRINE_OPENBLAS_PREFIX, name##_, VITRINE_OPENBLAS_SUFFIX)

namespace vitrine::openblas {

// An integer argument. Where OpenBLAS was built for 32 bits it reads the lower half of it, which is
// the same number on a little-endian machine, if it is not larger than kMostInt.
using Int = std::int64_t;
inline constexpr Int kMostInt = INT32_MAX;
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

// While one exists, OpenBLAS computes on the thread that calls it alone: sums then have one order.
// The number of threads is a global of OpenBLAS; the last one to go sets it to what it was.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
};

// How many threads it would use now.
int threads();
// Its release, and the CPU whose kernels it uses: "OpenBLAS 0.3.21, kernels for Prescott".
std::string description();

}  // namespace vitrine::openblas

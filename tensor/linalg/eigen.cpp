#include "tensor/linalg/eigen.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tensor/error.h"
#include "tensor/linalg/lapack.h"

extern "C" {
using vitrine::openblas::Int;
void VITRINE_FORTRAN(dsyevd)(const char* job, const char* triangle, const Int* n, double* a,
                             const Int* lda, double* w, double* work, const Int* lwork, Int* iwork,
                             const Int* liwork, Int* info, std::size_t job_length,
                             std::size_t triangle_length);
}

namespace vitrine {
namespace {

using lapack::Columns;

double rounding_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 0x1p-10;
    case DType::bf16:
      return 0x1p-7;
    case DType::f32:
      return std::numeric_limits<float>::epsilon();
    default:
      return std::numeric_limits<double>::epsilon();
  }
}

// Both triangles say the same; their mean is what is decomposed.
void check_symmetric(const Columns& a, DType dtype) {
  const double off = static_cast<double>(a.rows) * rounding_of(dtype) * max_abs(a.data);
  for (std::int64_t j = 0; j < a.count; ++j) {
    for (std::int64_t i = 0; i < j; ++i) {
      const double x = a.at(i, j), y = a.at(j, i);
      if (std::abs(x - y) > off) {
        throw NumericError(fmt::format(
            "symmetric_eigen: the matrix is not symmetric: entry ({}, {}) is {}, but ({}, {}) is "
            "{}; svd takes any matrix",
            i, j, x, j, i, y));
      }
      a.at(i, j) = a.at(j, i) = (x + y) / 2;
    }
  }
}

// a becomes its eigenvectors; values in ascending order.
void decompose(const Columns& a, double* values) {
  const Int n = a.rows, lda = a.leading(), ask = -1;
  Int info = 0, counters_asked = 0;
  double length = 0;
  const openblas::OneThread one;
  VITRINE_FORTRAN(dsyevd)
  ("V", "L", &n, a.column(0), &lda, values, &length, &ask, &counters_asked, &ask, &info, 1, 1);
  const lapack::Workspace work(length);
  std::vector<Int> counters(static_cast<std::size_t>(counters_asked));
  VITRINE_FORTRAN(dsyevd)
  ("V", "L", &n, a.column(0), &lda, values, work.data(), work.length(), counters.data(),
   &counters_asked, &info, 1, 1);
  lapack::check_info(info, "symmetric_eigen");
}

// A V = V diag(values), and V orthonormal.
void check_eigen(const Columns& a, const Columns& v, const double* values) {
  lapack::check_difference(lapack::product(a.matrix(), v.matrix()), v.scaled(values).matrix(),
                           lapack::norm(a.data), "symmetric_eigen: A V = V diag(values)");
  lapack::check_orthonormal(v.matrix(), "symmetric_eigen: V^T V = I");
}

}  // namespace

Eigen symmetric_eigen(const Tensor& a) {
  lapack::check_matrix(a, "symmetric_eigen", "the matrix");
  if (a.dim(0) != a.dim(1)) {
    throw ShapeError(fmt::format("symmetric_eigen takes a square matrix, not {}; svd takes any",
                                 to_string(a.shape())));
  }
  const std::int64_t n = a.dim(0);
  Eigen out{Tensor::zeros({n}, DType::f64), Tensor::zeros({n, n}, DType::f64)};
  if (n == 0) return out;

  const Columns given = Columns::of(a);
  const int exponent = lapack::normalise(given);
  check_symmetric(given, a.dtype());
  const Columns vectors = given.clone();
  const Tensor ascending = Tensor::zeros({n}, DType::f64);
  decompose(vectors, ascending.data<double>());
  check_eigen(given, vectors, ascending.data<double>());

  for (std::int64_t j = 0; j < n; ++j) {
    const double* from = vectors.column(n - 1 - j);
    const double sign = lapack::largest_entry(from, n) < 0 ? -1 : 1;
    out.values.data<double>()[j] = ascending.data<double>()[n - 1 - j];
    for (std::int64_t i = 0; i < n; ++i) out.vectors.data<double>()[i * n + j] = sign * from[i];
  }
  lapack::undo_normalise(out.values, exponent, "symmetric_eigen");
  return out;
}

}  // namespace vitrine

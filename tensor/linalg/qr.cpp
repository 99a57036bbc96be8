#include "tensor/linalg/qr.h"

#include <algorithm>

#include "tensor/linalg/lapack.h"

extern "C" {
using vitrine::openblas::Int;
void VITRINE_FORTRAN(dgeqrf)(const Int* m, const Int* n, double* a, const Int* lda, double* tau,
                             double* work, const Int* lwork, Int* info);
void VITRINE_FORTRAN(dorgqr)(const Int* m, const Int* n, const Int* k, double* a, const Int* lda,
                             const double* tau, double* work, const Int* lwork, Int* info);
}

namespace vitrine {
namespace {

using lapack::Columns;
using lapack::Workspace;

constexpr Int kAsk = -1;  // in place of a length: how long should the workspace be?

// a [m, n] becomes R, above the diagonal, and the reflections below it; their factors to tau [k].
void reflect(const Columns& a, double* tau) {
  const Int m = a.rows, n = a.count, lda = a.leading();
  Int info = 0;
  double length = 0;
  VITRINE_FORTRAN(dgeqrf)(&m, &n, a.column(0), &lda, tau, &length, &kAsk, &info);
  const Workspace work(length);
  VITRINE_FORTRAN(dgeqrf)(&m, &n, a.column(0), &lda, tau, work.data(), work.length(), &info);
  lapack::check_info(info, "qr");
}

// The reflections multiplied out: a's first k columns become Q.
void multiply_out(const Columns& a, const Int k, const double* tau) {
  const Int m = a.rows, lda = a.leading();
  Int info = 0;
  double length = 0;
  VITRINE_FORTRAN(dorgqr)(&m, &k, &k, a.column(0), &lda, tau, &length, &kAsk, &info);
  const Workspace work(length);
  VITRINE_FORTRAN(dorgqr)(&m, &k, &k, a.column(0), &lda, tau, work.data(), work.length(), &info);
  lapack::check_info(info, "qr");
}

}  // namespace

Qr qr(const Tensor& a) {
  lapack::check_matrix(a, "qr", "the matrix");
  const Columns given = Columns::of(a);
  const std::int64_t m = given.rows, n = given.count, k = std::min(m, n);
  Columns q(m, k), r(k, n);
  if (k == 0) return {q.by_rows(), r.by_rows()};

  const int exponent = lapack::normalise(given);
  const Columns work = given.clone();
  const Tensor tau = Tensor::zeros({k}, DType::f64);
  {
    const openblas::OneThread one;
    reflect(work, tau.data<double>());
    for (std::int64_t j = 0; j < n; ++j)
      std::copy_n(work.column(j), std::min(j + 1, k), r.column(j));
    multiply_out(work, k, tau.data<double>());
  }
  for (std::int64_t j = 0; j < k; ++j) {
    const bool turn = r.at(j, j) < 0;
    for (std::int64_t i = 0; i < m; ++i) q.at(i, j) = turn ? -work.at(i, j) : work.at(i, j);
    if (!turn) continue;
    for (std::int64_t i = j; i < n; ++i) r.at(j, i) = -r.at(j, i);
  }
  lapack::check_orthonormal(q.matrix(), "qr: Q^T Q = I");
  lapack::check_difference(lapack::product(q.matrix(), r.matrix()), given.matrix(),
                           lapack::norm(given.data), "qr: A = Q R");
  Qr out{q.by_rows(), r.by_rows()};
  lapack::undo_normalise(out.r, exponent, "qr");
  return out;
}

}  // namespace vitrine

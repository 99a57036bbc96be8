#include "tensor/linalg/svd.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "tensor/error.h"
#include "tensor/linalg/lapack.h"
#include "tensor/linalg/qr.h"

extern "C" {
using vitrine::openblas::Int;
void VITRINE_FORTRAN(dgesdd)(const char* job, const Int* m, const Int* n, double* a, const Int* lda,
                             double* s, double* u, const Int* ldu, double* vt, const Int* ldvt,
                             double* work, const Int* lwork, Int* iwork, Int* info,
                             std::size_t job_length);
}

namespace vitrine {
namespace {

using lapack::Columns;

// a = u diag(values) vt; a is overwritten.
void decompose(const Columns& a, const Columns& u, double* values, const Columns& vt) {
  const Int m = a.rows, n = a.count, lda = a.leading(), ldu = u.leading(), ldvt = vt.leading();
  const Int ask = -1;
  std::vector<Int> counters(static_cast<std::size_t>(8 * std::min(m, n)));
  Int info = 0;
  double length = 0;
  const openblas::OneThread one;
  VITRINE_FORTRAN(dgesdd)
  ("S", &m, &n, a.column(0), &lda, values, u.column(0), &ldu, vt.column(0), &ldvt, &length, &ask,
   counters.data(), &info, 1);
  const lapack::Workspace work(length);
  VITRINE_FORTRAN(dgesdd)
  ("S", &m, &n, a.column(0), &lda, values, u.column(0), &ldu, vt.column(0), &ldvt, work.data(),
   work.length(), counters.data(), &info, 1);
  lapack::check_info(info, "svd");
}

// A = U S V^T, and both sides orthonormal.
void check_svd(const Columns& a, const Columns& u, const Tensor& values, const Columns& vt) {
  const Columns scaled = u.scaled(values.data<double>());
  lapack::check_difference(lapack::product(scaled.matrix(), vt.matrix()), a.matrix(),
                           lapack::norm(a.data), "svd: A = U S V^T");
  lapack::check_orthonormal(u.matrix(), "svd: U^T U = I");
  lapack::check_orthonormal(vt.data, "svd: V^T V = I");
}

// Of each left vector the largest entry is positive.
void fix_signs(const Svd& s) {
  const std::int64_t m = s.left.dim(0), n = s.right.dim(0), e = s.values.dim(0);
  double *left = s.left.data<double>(), *right = s.right.data<double>();
  const Columns columns = Columns::of(s.left);
  for (std::int64_t j = 0; j < e; ++j) {
    if (lapack::largest_entry(columns.column(j), m) >= 0) continue;
    for (std::int64_t i = 0; i < m; ++i) left[i * e + j] = -left[i * e + j];
    for (std::int64_t i = 0; i < n; ++i) right[i * e + j] = -right[i * e + j];
  }
}

// a is a matrix of finite numbers; signs are what they are.
Svd unsigned_svd(const Tensor& a) {
  const Columns given = Columns::of(a);
  const std::int64_t m = given.rows, n = given.count, e = std::min(m, n);
  Columns u(m, e), vt(e, n);
  const Tensor values = Tensor::zeros({e}, DType::f64);
  double* s = values.data<double>();
  if (e > 0) {
    const int exponent = lapack::normalise(given);
    decompose(given.clone(), u, s, vt);
    check_svd(given, u, values, vt);
    const double none = static_cast<double>(e) * std::numeric_limits<double>::epsilon() * s[0];
    for (std::int64_t j = 0; j < e; ++j) s[j] = s[j] <= none ? 0 : s[j];
    lapack::undo_normalise(values, exponent, "svd");
  }
  return {u.by_rows(), values, vt.data};  // vt by columns is v by rows
}

}  // namespace

Svd svd_of_product(const Tensor& a, const Tensor& b) {
  if (a.rank() != 2 || b.rank() != 2 || a.dim(1) != b.dim(1) || a.dim(0) < a.dim(1) ||
      b.dim(0) < b.dim(1)) {
    throw ShapeError(
        fmt::format("svd of a product takes two tall factors [m, e] and [n, e], not {} and {}; "
                    "transpose a factor that is wide",
                    to_string(a.shape()), to_string(b.shape())));
  }
  lapack::check_matrix(a, "svd", "the first factor");
  lapack::check_matrix(b, "svd", "the second factor");
  const Qr qa = qr(a), qb = qr(b);
  const Tensor small = lapack::product(qa.r, qb.r.transpose(0, 1));  // [e, e]
  lapack::check_matrix(small, "svd", "the product of the factors");
  const Svd inner = unsigned_svd(small);
  const Svd out{lapack::product(qa.q, inner.left), inner.values,
                lapack::product(qb.q, inner.right)};
  fix_signs(out);
  return out;
}

Svd svd(const Tensor& a) {
  lapack::check_matrix(a, "svd", "the matrix");
  const Svd out = unsigned_svd(a);
  fix_signs(out);
  return out;
}

}  // namespace vitrine

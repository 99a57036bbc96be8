#include "tensor/linalg/least_squares.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tensor/error.h"
#include "tensor/linalg/lapack.h"

extern "C" {
using vitrine::openblas::Int;
void VITRINE_FORTRAN(dgelsd)(const Int* m, const Int* n, const Int* nrhs, double* a, const Int* lda,
                             double* b, const Int* ldb, double* s, const double* rcond, Int* rank,
                             double* work, const Int* lwork, Int* iwork, Int* info);
}

namespace vitrine {
namespace {

using lapack::Columns;

// a is overwritten; b [max(m, n), c] becomes x in its first n rows. The rank of a.
std::int64_t solve(const Columns& a, const Columns& b) {
  const Int m = a.rows, n = a.count, c = b.count, lda = a.leading(), ldb = b.leading(), ask = -1;
  const double least = static_cast<double>(std::max(m, n)) * std::numeric_limits<double>::epsilon();
  const Tensor values = Tensor::zeros({std::min(m, n)}, DType::f64);
  Int info = 0, rank = 0, counters_asked = 0;
  double length = 0;
  const openblas::OneThread one;
  VITRINE_FORTRAN(dgelsd)
  (&m, &n, &c, a.column(0), &lda, b.column(0), &ldb, values.data<double>(), &least, &rank, &length,
   &ask, &counters_asked, &info);
  const lapack::Workspace work(length);
  std::vector<Int> counters(static_cast<std::size_t>(std::max<Int>(1, counters_asked)));
  VITRINE_FORTRAN(dgelsd)
  (&m, &n, &c, a.column(0), &lda, b.column(0), &ldb, values.data<double>(), &least, &rank,
   work.data(), work.length(), counters.data(), &info);
  lapack::check_info(info, "least_squares");
  return rank;
}

Tensor minus(const Tensor& a, const Tensor& b) {
  const auto y = b.to_vector<double>();
  const Tensor out = a.clone();
  for (std::size_t i = 0; i < y.size(); ++i) out.data<double>()[i] -= y[i];
  return out;
}

Columns as_columns(const Tensor& b) { return Columns::of(b.rank() == 1 ? b.unsqueeze(1) : b); }

}  // namespace

LeastSquares least_squares(const Tensor& a, const Tensor& b) {
  lapack::check_matrix(a, "least_squares", "the matrix");
  if ((b.rank() != 1 && b.rank() != 2) || b.dim(0) != a.dim(0)) {
    throw ShapeError(fmt::format(
        "least_squares takes a matrix [m, n] and right sides [m, c] or [m], not {} and {}",
        to_string(a.shape()), to_string(b.shape())));
  }
  const Columns given = Columns::of(a), wanted = as_columns(b);
  lapack::check_matrix(wanted.matrix(), "least_squares", "the right side");
  const std::int64_t m = given.rows, n = given.count, c = wanted.count;
  const int a_exponent = lapack::normalise(given), b_exponent = lapack::normalise(wanted);

  Columns x(n, c);
  LeastSquares out{{}, {}, 0};
  if (!given.empty() && c > 0) {
    const Columns both(std::max(m, n), c);
    for (std::int64_t j = 0; j < c; ++j) std::copy_n(wanted.column(j), m, both.column(j));
    out.rank = solve(given.clone(), both);
    for (std::int64_t j = 0; j < c; ++j) std::copy_n(both.column(j), n, x.column(j));
  }
  const Tensor off = minus(lapack::product(given.matrix(), x.matrix()), wanted.matrix());  // [m, c]
  const Tensor slope = lapack::product(given.data, off);                                   // [n, c]
  const double size = lapack::norm(given.data);
  lapack::check_difference(slope, Tensor::zeros(slope.shape(), DType::f64),
                           static_cast<double>(std::max<std::int64_t>(1, m)) * size *
                               (size * lapack::norm(x.data) + lapack::norm(wanted.data)),
                           "least_squares: A^T (A x - b) = 0");

  out.distance = Tensor::zeros({c}, DType::f64);
  for (std::int64_t j = 0; j < c; ++j)
    out.distance.data<double>()[j] = lapack::norm(off.select(1, j));
  lapack::undo_normalise(out.distance, b_exponent, "least_squares");
  out.x = x.by_rows();
  lapack::undo_normalise(out.x, b_exponent - a_exponent, "least_squares");
  if (b.rank() == 1) {
    out.x = out.x.select(1, 0).contiguous();
    out.distance = out.distance.select(0, 0);
  }
  return out;
}

}  // namespace vitrine

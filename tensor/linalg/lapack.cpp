#include "tensor/linalg/lapack.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/error.h"
#include "tensor/gemm/gemm.h"

namespace vitrine::lapack {
namespace {

Tensor copied(const Tensor& t) {  // f64, contiguous, nobody else's
  const Tensor x = t.dtype() == DType::f64 ? t : t.to(DType::f64);
  return x.shares_storage_with(t) || !x.is_contiguous() ? x.clone() : x;
}

void check_norm(double off, double allowed, std::string_view what) {
  if (off <= allowed) return;  // not so when off is NaN
  throw NumericError(fmt::format(
      "{}: OpenBLAS's result is wrong: it is off by {:.1e}, and rounding explains {:.1e}; "
      "please use another release than this one ({})",
      what, off, allowed, openblas::description()));
}

}  // namespace

Columns::Columns(std::int64_t height, std::int64_t columns)
    : rows(height), count(columns), data(Tensor::zeros({columns, height}, DType::f64)) {}

Columns Columns::of(const Tensor& t) {
  if (std::max(t.dim(0), t.dim(1)) > openblas::kMostInt) {
    throw ShapeError(fmt::format("a matrix {} is too large to be factorised: LAPACK counts to {}",
                                 to_string(t.shape()), openblas::kMostInt));
  }
  Columns c(0, 0);
  c.rows = t.dim(0);
  c.count = t.dim(1);
  c.data = copied(t.transpose(0, 1));
  return c;
}

Columns Columns::clone() const {
  Columns c = *this;
  c.data = data.clone();
  return c;
}

Columns Columns::scaled(const double* by) const {
  const Columns c = clone();
  for (std::int64_t j = 0; j < count; ++j)
    for (std::int64_t i = 0; i < rows; ++i) c.at(i, j) *= by[j];
  return c;
}

void check_matrix(const Tensor& t, std::string_view function, std::string_view name) {
  if (t.rank() != 2) {
    throw ShapeError(fmt::format("{}: {} has the shape {}; a decomposition takes a matrix",
                                 function, name, to_string(t.shape())));
  }
  for (const double x : t.to_vector<double>()) {
    if (!std::isfinite(x)) {
      throw NumericError(fmt::format("{}: {} {} holds {}; a decomposition needs finite numbers",
                                     function, name, to_string(t.shape()), x));
    }
  }
}

int normalise(const Columns& a) {
  int exponent = 0;
  std::frexp(a.empty() ? 0.0 : max_abs(a.data), &exponent);
  double* x = a.data.data<double>();
  for (std::int64_t i = 0; i < a.data.numel(); ++i) x[i] = std::ldexp(x[i], -exponent);
  return exponent;
}

void undo_normalise(const Tensor& x, int exponent, std::string_view function) {
  double* to = x.data<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    to[i] = std::ldexp(to[i], exponent);
    if (std::isfinite(to[i])) continue;
    throw NumericError(
        fmt::format("{}: a result is larger than f64 can hold; scale the matrix", function));
  }
}

double norm(const Tensor& a) {
  double sum = 0;
  for (const double x : a.to_vector<double>()) sum += x * x;
  return std::sqrt(sum);
}

Tensor product(const Tensor& a, const Tensor& b) {
  ThreadPool here(1);
  const Tensor out = Tensor::empty({a.dim(0), b.dim(1)}, DType::f64);
  matmul(here, a.view(), b.view(), out.view(), GemmProvider::own);
  return out;
}

void check_difference(const Tensor& a, const Tensor& b, double size, std::string_view what) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += (x[i] - y[i]) * (x[i] - y[i]);
  const auto longest = static_cast<double>(std::max(a.dim(0), a.dim(1)));
  check_norm(std::sqrt(sum), kSlack * longest * std::numeric_limits<double>::epsilon() * size,
             what);
}

void check_orthonormal(const Tensor& x, std::string_view what) {
  const Tensor gram = product(x.transpose(0, 1), x);
  const std::int64_t n = gram.dim(0);
  double* g = gram.data<double>();
  for (std::int64_t i = 0; i < n; ++i) g[i * n + i] -= 1;
  const auto rows = static_cast<double>(x.dim(0));  // not fewer than columns
  check_norm(norm(gram), kSlack * rows * std::numeric_limits<double>::epsilon() * std::sqrt(n),
             what);
}

void check_info(Int info, std::string_view function) {
  if (static_cast<std::int32_t>(info) == 0) return;
  throw NumericError(fmt::format("{}: LAPACK gave up with code {}; its iteration did not converge",
                                 function, static_cast<std::int32_t>(info)));
}

double largest_entry(const double* x, std::int64_t n) {
  return *std::max_element(x, x + n, [](double a, double b) { return std::abs(a) < std::abs(b); });
}

Workspace::Workspace(double asked)
    : length_(std::max<Int>(1, static_cast<Int>(asked))),
      memory_(Tensor::empty({length_}, DType::f64)) {
  if (length_ > openblas::kMostInt) {
    throw ShapeError(fmt::format(
        "a matrix is too large to be factorised: LAPACK would need {} numbers to work in",
        length_));
  }
}

}  // namespace vitrine::lapack

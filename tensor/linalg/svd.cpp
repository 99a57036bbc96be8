#include "tensor/linalg/svd.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

// A dense matrix whose columns lie together: what follows works on columns.
struct Columns {
  std::int64_t rows = 0, count = 0;
  std::vector<double> data;

  Columns(std::int64_t rows, std::int64_t count)
      : rows(rows), count(count), data(static_cast<std::size_t>(rows * count)) {}
  double* column(std::int64_t j) { return data.data() + j * rows; }
  const double* column(std::int64_t j) const { return data.data() + j * rows; }
  double& at(std::int64_t i, std::int64_t j) { return column(j)[i]; }
  double at(std::int64_t i, std::int64_t j) const { return column(j)[i]; }
};

Columns columns_of(const Tensor& t) {
  Columns c(t.dim(0), t.dim(1));
  c.data = t.transpose(0, 1).to_vector<double>();
  return c;
}

double dot(const double* a, const double* b, std::int64_t n) {
  return std::inner_product(a, a + n, b, 0.0);
}

// ---- A = Q R ------------------------------------------------------------------------------------
// Householder: H_j = 1 - 2 v v^T / (v.v) makes column j zero below row j. Q is orthonormal even
// where columns of A depend on each other.
struct Qr {
  Columns q;  // [m, e]
  Columns r;  // [e, e], zero below the diagonal
};

// x -= 2 (v.x) / (v.v) v, for the rows from `first` on.
void reflect(const double* v, double vv, double* x, std::int64_t first, std::int64_t rows) {
  if (vv == 0) return;
  const double factor = 2 * dot(v + first, x + first, rows - first) / vv;
  for (std::int64_t i = first; i < rows; ++i) x[i] -= factor * v[i];
}

Qr qr(Columns a) {
  const std::int64_t m = a.rows, e = a.count;
  Columns v(m, e);  // the vectors of the reflections, zero above row j
  std::vector<double> vv(static_cast<std::size_t>(e), 0);
  for (std::int64_t j = 0; j < e; ++j) {
    double* vj = v.column(j);
    std::copy(a.column(j) + j, a.column(j) + m, vj + j);
    const double length = std::sqrt(dot(vj + j, vj + j, m - j));
    vj[j] += vj[j] < 0 ? -length : length;  // away from zero: nothing cancels
    vv[static_cast<std::size_t>(j)] = dot(vj + j, vj + j, m - j);
    for (std::int64_t k = j; k < e; ++k)
      reflect(vj, vv[static_cast<std::size_t>(j)], a.column(k), j, m);
  }
  Qr result{Columns(m, e), Columns(e, e)};
  for (std::int64_t j = 0; j < e; ++j) {
    std::copy(a.column(j), a.column(j) + j + 1, result.r.column(j));
    double* qj = result.q.column(j);
    qj[j] = 1;  // Q = H_0 H_1 ... times the first e columns of the identity
    for (std::int64_t k = e - 1; k >= 0; --k)
      reflect(v.column(k), vv[static_cast<std::size_t>(k)], qj, k, m);
  }
  return result;
}

// a b^T of e x e matrices, or q times a small one: [m, e] x [e, n].
Columns times(const Columns& a, const Columns& b) {
  Columns c(a.rows, b.count);
  for (std::int64_t j = 0; j < b.count; ++j) {
    for (std::int64_t k = 0; k < a.count; ++k) {
      for (std::int64_t i = 0; i < a.rows; ++i) c.at(i, j) += a.at(i, k) * b.at(k, j);
    }
  }
  return c;
}
Columns transposed(const Columns& a) {
  Columns t(a.count, a.rows);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.count; ++j) t.at(j, i) = a.at(i, j);
  }
  return t;
}

// ---- one-sided Jacobi
// ----------------------------------------------------------------------------- Rotates pairs of
// columns of `u` until all are orthogonal, and those of `v` along: u stays the matrix times v.
void rotate(double* x, double* y, double c, double s, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const double xi = x[i], yi = y[i];
    x[i] = c * xi - s * yi;
    y[i] = s * xi + c * yi;
  }
}

void orthogonalise(Columns& u, Columns& v) {
  constexpr double kSmall = 1e-15;
  constexpr int kMostSweeps = 60;  // it converges quadratically: ten are many
  // Columns this short are rounding errors of the others; their angles mean nothing.
  const double nothing = 1e-32 * dot(u.data.data(), u.data.data(), std::ssize(u.data));
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool rotated = false;
    for (std::int64_t p = 0; p < u.count; ++p) {
      for (std::int64_t q = p + 1; q < u.count; ++q) {
        double *x = u.column(p), *y = u.column(q);
        const double xx = dot(x, x, u.rows), yy = dot(y, y, u.rows), xy = dot(x, y, u.rows);
        if (std::abs(xy) <= kSmall * std::sqrt(xx * yy) || std::abs(xy) <= nothing) continue;
        // The angle with tan 2t = 2 x.y / (y.y - x.x), the smaller of the two.
        const double zeta = (yy - xx) / (2 * xy);
        const double t = (zeta < 0 ? -1 : 1) / (std::abs(zeta) + std::hypot(1, zeta));
        const double c = 1 / std::hypot(1, t), s = c * t;
        rotate(x, y, c, s, u.rows);
        rotate(v.column(p), v.column(q), c, s, v.rows);
        rotated = true;
      }
    }
    if (!rotated) return;
  }
}

// Where a singular value is 0 the left vector is any that is orthogonal to the others.
void complete(Columns& u, std::int64_t j) {
  double* x = u.column(j);
  for (std::int64_t axis = 0; axis < u.rows; ++axis) {
    std::fill(x, x + u.rows, 0);
    x[axis] = 1;
    for (int twice = 0; twice < 2; ++twice) {
      for (std::int64_t k = 0; k < j; ++k) {
        const double along = dot(u.column(k), x, u.rows);
        for (std::int64_t i = 0; i < u.rows; ++i) x[i] -= along * u.column(k)[i];
      }
    }
    const double length = std::sqrt(dot(x, x, u.rows));
    if (length < 0.5 / std::sqrt(static_cast<double>(u.rows))) continue;  // nearly spanned already
    for (std::int64_t i = 0; i < u.rows; ++i) x[i] /= length;
    return;
  }
}

Tensor as_tensor(const Columns& c) {
  return Tensor::of({c.count, c.rows}, c.data).transpose(0, 1).contiguous();
}

void check(const Tensor& t, const char* name) {
  for (const double x : t.to_vector<double>()) {
    if (!std::isfinite(x)) {
      throw NumericError(fmt::format("svd: {} {} holds {}; a decomposition needs finite numbers",
                                     name, to_string(t.shape()), x));
    }
  }
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
  check(a, "the first factor");
  check(b, "the second factor");
  const std::int64_t e = a.dim(1);
  const Qr qa = qr(columns_of(a)), qb = qr(columns_of(b));
  Columns u = times(qa.r, transposed(qb.r)), v(e, e);  // [e, e]
  for (std::int64_t i = 0; i < e; ++i) v.at(i, i) = 1;
  orthogonalise(u, v);

  std::vector<double> length(static_cast<std::size_t>(e));
  std::vector<std::int64_t> order(length.size());
  std::iota(order.begin(), order.end(), 0);
  for (const std::int64_t j : order)
    length[static_cast<std::size_t>(j)] = std::sqrt(dot(u.column(j), u.column(j), e));
  const auto value = [&](std::int64_t j) { return length[static_cast<std::size_t>(j)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t i, std::int64_t j) { return value(i) > value(j); });

  const double none = e == 0 ? 0 : value(order[0]) * 1e-15;
  Columns sorted_u(e, e), sorted_v(e, e);
  std::vector<double> values;
  for (std::int64_t j = 0; j < e; ++j) {
    const std::int64_t from = order[static_cast<std::size_t>(j)];
    const bool zero = value(from) <= none;
    values.push_back(zero ? 0 : value(from));
    for (std::int64_t i = 0; i < e; ++i) {
      sorted_u.at(i, j) = zero ? 0 : u.at(i, from) / value(from);
      sorted_v.at(i, j) = v.at(i, from);
    }
    if (zero) complete(sorted_u, j);
  }

  Columns left = times(qa.q, sorted_u), right = times(qb.q, sorted_v);
  for (std::int64_t j = 0; j < e; ++j) {
    double *l = left.column(j), *r = right.column(j);
    const double* largest = std::max_element(
        l, l + left.rows, [](double x, double y) { return std::abs(x) < std::abs(y); });
    if (*largest >= 0) continue;
    for (std::int64_t i = 0; i < left.rows; ++i) l[i] = -l[i];
    for (std::int64_t i = 0; i < right.rows; ++i) r[i] = -r[i];
  }
  return {as_tensor(left), Tensor::of({e}, values), as_tensor(right)};
}

Svd svd(const Tensor& a) {
  const std::int64_t n = a.rank() == 2 ? a.dim(1) : 0;
  Tensor identity = Tensor::zeros({n, n}, DType::f64);
  for (std::int64_t i = 0; i < n; ++i) identity.data<double>()[i * n + i] = 1;
  return svd_of_product(a, identity);
}

}  // namespace vitrine

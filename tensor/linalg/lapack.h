// What the factorisations share: matrices as LAPACK has them, and the checks of what it gives back.
//
// LAPACK is OpenBLAS's. Some of its releases compute wrongly on CPUs they do not know, so nothing
// it returns is believed: each factorisation is multiplied out by our own loops and must give the
// matrix back. What does not is a NumericError.
#pragma once

#include <cstdint>
#include <string_view>

#include "tensor/openblas.h"
#include "tensor/tensor.h"

namespace vitrine::lapack {

using openblas::Int;

// A matrix in f64 whose columns lie together: a row of the tensor `data` [count, rows] is a column.
struct Columns {
  Columns(std::int64_t rows, std::int64_t count);  // zeros
  // Copies t [rows, count]. Throws ShapeError when it is larger than LAPACK's integers allow.
  static Columns of(const Tensor& t);
  Columns clone() const;
  Columns scaled(const double* by) const;  // a copy, column j times by[j]

  double* column(std::int64_t j) const { return data.data<double>() + j * rows; }
  double& at(std::int64_t i, std::int64_t j) const { return column(j)[i]; }
  Int leading() const { return rows > 0 ? rows : 1; }     // from one column to the next
  Tensor matrix() const { return data.transpose(0, 1); }  // [rows, count]
  Tensor by_rows() const { return data.transpose(0, 1).contiguous(); }  // the same, copied
  bool empty() const { return rows == 0 || count == 0; }

  std::int64_t rows, count;
  Tensor data;
};

// Throws ShapeError unless t is a matrix, NumericError when it holds NaN or infinity. `function`
// and `name` say who asks for what: "svd", "the first factor".
void check_matrix(const Tensor& t, std::string_view function, std::string_view name);

// Multiplies by the power of two that brings the largest entry into [0.5, 1), which rounds nothing,
// and returns the exponent that undoes it: no square under- or overflows on the way.
int normalise(const Columns& a);
// x 2^exponent, in place. Throws NumericError when f64 has no such number.
void undo_normalise(const Tensor& x, int exponent, std::string_view function);

// Frobenius norm.
double norm(const Tensor& a);
// a b of f64 matrices, by our own loops.
Tensor product(const Tensor& a, const Tensor& b);

// Throws NumericError unless the factorisation of an m x n matrix of norm `size` is off by no more
// than kSlack max(m, n) u size, in the Frobenius norm, with u = 2^-52. Correct ones are off by some
// u size; wrong ones by something like size itself.
inline constexpr double kSlack = 32;
void check_difference(const Tensor& a, const Tensor& b, double size, std::string_view what);
// The same for x^T x - I.
void check_orthonormal(const Tensor& x, std::string_view what);
// LAPACK's own word: not 0 when an iteration did not converge.
void check_info(Int info, std::string_view function);

// The largest entry in size, the first on a tie.
double largest_entry(const double* x, std::int64_t n);

// Where LAPACK works.
class Workspace {
 public:
  explicit Workspace(double asked);  // the length that LAPACK asked for
  double* data() const { return memory_.data<double>(); }
  const Int* length() const { return &length_; }

 private:
  Int length_;
  Tensor memory_;
};

}  // namespace vitrine::lapack

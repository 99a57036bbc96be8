// Reductions over any axes. The view is permuted to [kept..., reduced...]; partial results of fixed
// pieces are combined in order, in f64, so neither the threads nor their number shows in the
// result.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

constexpr std::int64_t kPiece = 16384;  // elements of one output summed by one task
constexpr std::int64_t kRows = 256;     // rows and
constexpr std::int64_t kColumns = 512;  // columns of one task that adds rows

double neutral(Reduce op) {
  return op == Reduce::sum ? 0.0 : -std::numeric_limits<double>::infinity();
}

double combine(Reduce op, double a, double b) {
  if (op == Reduce::sum) return a + b;
  return a != a || a > b ? a : b;  // a NaN on either side stays
}

// x with its axes reordered, split into those that stay and those that go. Axes of size 1 are left
// out.
struct Split {
  std::vector<int> kept, reduced;
  std::int64_t outputs = 1, terms = 1;
};

Split split(const View& x, const Dims& axes) {
  Split s;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const bool is_reduced = std::find(axes.begin(), axes.end(), axis) != axes.end();
    (is_reduced ? s.terms : s.outputs) *= x.shape[axis];
    if (x.shape[axis] != 1) (is_reduced ? s.reduced : s.kept).push_back(axis);
  }
  return s;
}

View permuted(const View& x, const std::vector<int>& order) {
  View out{x.data, x.dtype, {}, {}};
  for (const int axis : order) {
    out.shape.push_back(x.shape[axis]);
    out.strides.push_back(x.strides[axis]);
  }
  return out;
}

// Each output is reduced from consecutive terms, in pieces of kPiece.
template <class T>
void reduce_terms(ThreadPool& pool, Reduce op, const View& x, const Split& s, const View& out) {
  std::vector<int> order = s.kept;
  order.insert(order.end(), s.reduced.begin(), s.reduced.end());
  const StridedReader<T> in(permuted(x, order));
  const auto& simd = simd::rows<T>();
  const std::int64_t pieces = (s.terms + kPiece - 1) / kPiece;
  std::vector<double> partial(static_cast<std::size_t>(pieces > 1 ? s.outputs * pieces : 0));
  const std::int64_t grain = std::max<std::int64_t>(1, kPiece / s.terms);
  pool.parallel_for(s.outputs * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t output = task / pieces, first = task % pieces * kPiece;
      const std::int64_t start = output * s.terms;
      double acc = neutral(op);
      in.visit(start + first, start + std::min(first + kPiece, s.terms),
               [&](const T* p, std::int64_t count) {
                 acc = combine(op, acc,
                               op == Reduce::sum ? simd.sum(p, count)
                                                 : static_cast<double>(simd.max(p, count)));
               });
      if (pieces == 1) {
        out.as<T>()[output] = static_cast<T>(acc);
      } else {
        partial[static_cast<std::size_t>(task)] = acc;
      }
    }
  });
  if (pieces == 1) return;
  for (std::int64_t output = 0; output < s.outputs; ++output) {
    double acc = neutral(op);
    for (std::int64_t i = 0; i < pieces; ++i) {
      acc = combine(op, acc, partial[static_cast<std::size_t>(output * pieces + i)]);
    }
    out.as<T>()[output] = static_cast<T>(acc);
  }
}

// The kept axes end in `width` contiguous columns: whole rows are added (or maximised) into f64
// accumulators.
template <class T>
void reduce_rows(ThreadPool& pool, Reduce op, const View& x, const Split& s, int inner_axes,
                 std::int64_t width, const View& out) {
  // [outer kept axes..., reduced axes..., columns]
  const auto inner = s.kept.end() - inner_axes;
  std::vector<int> order(s.kept.begin(), inner);
  order.insert(order.end(), s.reduced.begin(), s.reduced.end());
  order.insert(order.end(), inner, s.kept.end());
  const StridedReader<T> in(permuted(x, order));
  const auto& simd = simd::rows<T>();

  const std::int64_t outer = s.outputs / width;
  const std::int64_t blocks = (width + kColumns - 1) / kColumns,
                     pieces = (s.terms + kRows - 1) / kRows;
  std::vector<double> partial(static_cast<std::size_t>(pieces > 1 ? outer * pieces * width : 0));
  const std::int64_t work = std::min(s.terms, kRows) * std::min(width, kColumns);
  const std::int64_t grain = std::max<std::int64_t>(1, kPiece / work);
  pool.parallel_for(outer * pieces * blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    T buffer[kColumns];
    double acc[kColumns];
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t block = task % blocks, piece = task / blocks % pieces;
      const std::int64_t o = task / blocks / pieces;
      const std::int64_t column = block * kColumns, count = std::min(kColumns, width - column);
      std::fill_n(acc, count, neutral(op));
      const std::int64_t last = std::min((piece + 1) * kRows, s.terms);
      for (std::int64_t term = piece * kRows; term < last; ++term) {
        const T* row = in.read((o * s.terms + term) * width + column, count, buffer);
        (op == Reduce::sum ? simd.add_to : simd.max_to)(row, acc, count);
      }
      if (pieces == 1) {
        std::transform(acc, acc + count, out.as<T>() + o * width + column,
                       [](double sum) { return static_cast<T>(sum); });
      } else {
        std::copy_n(acc, count, partial.data() + (o * pieces + piece) * width + column);
      }
    }
  });
  if (pieces == 1) return;
  pool.parallel_for(s.outputs, kPiece, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const double* first = partial.data() + i / width * pieces * width + i % width;
      double acc = neutral(op);
      for (std::int64_t piece = 0; piece < pieces; ++piece) {
        acc = combine(op, acc, first[piece * width]);
      }
      out.as<T>()[i] = static_cast<T>(acc);
    }
  });
}

template <class T>
void reduce_as(ThreadPool& pool, Reduce op, const View& x, const Dims& axes, const View& out) {
  const Split s = split(x, axes);
  if (s.outputs == 0) return;
  if (s.terms == 0) return fill(pool, neutral(op), out);
  const bool rows_are_contiguous = !s.kept.empty() && x.strides[s.kept.back()] == 1;
  const bool terms_are_contiguous = !s.reduced.empty() && x.strides[s.reduced.back()] == 1;
  if (s.reduced.empty() || !rows_are_contiguous || terms_are_contiguous) {
    return reduce_terms<T>(pool, op, x, s, out);
  }
  // As many trailing kept axes as are contiguous together.
  int inner_axes = 1;
  std::int64_t width = x.shape[s.kept.back()];
  for (auto i = static_cast<int>(s.kept.size()) - 2;
       i >= 0 && x.strides[s.kept[static_cast<std::size_t>(i)]] == width; --i, ++inner_axes) {
    width *= x.shape[s.kept[static_cast<std::size_t>(i)]];
  }
  reduce_rows<T>(pool, op, x, s, inner_axes, width, out);
}

}  // namespace

void reduce(ThreadPool& pool, Reduce op, const View& x, const Dims& axes, const View& out) {
  if (x.dtype == DType::f32) {
    reduce_as<float>(pool, op, x, axes, out);
  } else {
    reduce_as<double>(pool, op, x, axes, out);
  }
}

}  // namespace vitrine::kernels

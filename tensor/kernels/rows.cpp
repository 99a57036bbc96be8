// Kernels along the last axis: softmax, LayerNorm and their gradients, argmax. Parallel over rows.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

constexpr std::int64_t kChunk = 8192;  // elements a thread takes at a time

// The rows of x [..., d] and how many of them make a task.
struct RowSplit {
  explicit RowSplit(const View& x)
      : d(x.rank() == 0 ? 1 : x.shape.back()),
        rows(d == 0 ? 0 : x.numel() / d),
        grain(std::max<std::int64_t>(1, kChunk / std::max<std::int64_t>(1, d))) {}
  std::int64_t d, rows, grain;
};

// Calls f(row, pointers...) for each row, where pointers are the contiguous rows of `inputs`.
template <class T, int kInputs, class F>
void for_rows(ThreadPool& pool, const RowSplit& split, const StridedReader<T> (&inputs)[kInputs],
              const F& f) {
  pool.parallel_for(split.rows, split.grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> buffer(static_cast<std::size_t>(kInputs * split.d));
    const T* row[kInputs];
    for (std::int64_t r = begin; r < end; ++r) {
      for (int i = 0; i < kInputs; ++i) {
        row[i] = inputs[i].read(r * split.d, split.d, buffer.data() + i * split.d);
      }
      f(r, row);
    }
  });
}

// f for the element type of `view`.
template <class F>
void dispatch_rows(const View& view, const F& f) {
  if (view.dtype == DType::f32) return f(float());
  return f(double());
}

// A [d] parameter as a contiguous vector.
template <class T>
class Parameter {
 public:
  explicit Parameter(const View& view) : copy_(static_cast<std::size_t>(view.numel())) {
    data_ = StridedReader<T>(view).read(0, view.numel(), copy_.data());
  }
  const T* data() const { return data_; }

 private:
  std::vector<T> copy_;
  const T* data_;
};

}  // namespace

void argmax(ThreadPool& pool, const View& x, const View& out) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const StridedReader<T> inputs[] = {StridedReader<T>(x)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      const T top = simd.max(row[0], split.d);
      std::int64_t at = 0;  // the first NaN if there is one, as in NumPy
      while (at + 1 < split.d && !(row[0][at] == top || (top != top && row[0][at] != row[0][at])))
        ++at;
      out.as<std::int64_t>()[r] = at;
    });
  });
}

void softmax(ThreadPool& pool, const View& x, const View& out) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const StridedReader<T> inputs[] = {StridedReader<T>(x)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.softmax(row[0], out.as<T>() + r * split.d, split.d);
    });
  });
}

void log_softmax(ThreadPool& pool, const View& x, const View& out) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const StridedReader<T> inputs[] = {StridedReader<T>(x)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.log_softmax(row[0], out.as<T>() + r * split.d, split.d);
    });
  });
}

void softmax_grad(ThreadPool& pool, const View& y, const View& dy, const View& dx) {
  dispatch_rows(y, [&]<class T>(T) {
    const RowSplit split(y);
    const auto& simd = simd::rows<T>();
    const StridedReader<T> inputs[] = {StridedReader<T>(y), StridedReader<T>(dy)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.softmax_grad(row[0], row[1], dx.as<T>() + r * split.d, split.d);
    });
  });
}

void layer_norm(ThreadPool& pool, const View& x, const View& gain, const View& bias, double eps,
                const View& out) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const Parameter<T> g(gain), b(bias);
    const StridedReader<T> inputs[] = {StridedReader<T>(x)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.layer_norm(row[0], g.data(), b.data(), eps, out.as<T>() + r * split.d, split.d);
    });
  });
}

void layer_norm_grad(ThreadPool& pool, const View& x, const View& gain, const View& dy, double eps,
                     const View& dx) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const Parameter<T> g(gain);
    const StridedReader<T> inputs[] = {StridedReader<T>(x), StridedReader<T>(dy)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.layer_norm_grad(row[0], g.data(), row[1], eps, dx.as<T>() + r * split.d, split.d);
    });
  });
}

namespace {

// dgain [d] of a norm, whose `of_row` adds a row's share to f64 accumulators.
template <class T, class F>
void gain_grad_as(ThreadPool& pool, const View& x, const View& dy, const View& dgain,
                  const F& of_row) {
  const RowSplit split(x);
  const StridedReader<T> x_in(x), dy_in(dy);
  // One f64 accumulator of d columns for every 64 rows, added up in order.
  constexpr std::int64_t kRows = 64;
  const std::int64_t pieces = (split.rows + kRows - 1) / kRows;
  std::vector<double> partial(static_cast<std::size_t>(pieces * split.d), 0.0);
  pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> x_buffer(static_cast<std::size_t>(split.d)), dy_buffer(x_buffer);
    for (std::int64_t r = begin * kRows; r < std::min(end * kRows, split.rows); ++r) {
      of_row(x_in.read(r * split.d, split.d, x_buffer.data()),
             dy_in.read(r * split.d, split.d, dy_buffer.data()),
             partial.data() + r / kRows * split.d, split.d);
    }
  });
  for (std::int64_t i = 0; i < split.d; ++i) {
    double sum = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      sum += partial[static_cast<std::size_t>(piece * split.d + i)];
    }
    dgain.as<T>()[i] = static_cast<T>(sum);
  }
}

}  // namespace

void layer_norm_gain_grad(ThreadPool& pool, const View& x, const View& dy, double eps,
                          const View& dgain) {
  dispatch_rows(x, [&]<class T>(T) {
    const auto& simd = simd::rows<T>();
    gain_grad_as<T>(pool, x, dy, dgain, [&](const T* row, const T* g, double* acc, auto d) {
      simd.layer_norm_gain_grad(row, g, eps, acc, d);
    });
  });
}

void rms_norm(ThreadPool& pool, const View& x, const View& gain, double eps, const View& out) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const Parameter<T> g(gain);
    const StridedReader<T> inputs[] = {StridedReader<T>(x)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.rms_norm(row[0], g.data(), eps, out.as<T>() + r * split.d, split.d);
    });
  });
}

void rms_norm_grad(ThreadPool& pool, const View& x, const View& gain, const View& dy, double eps,
                   const View& dx) {
  dispatch_rows(x, [&]<class T>(T) {
    const RowSplit split(x);
    const auto& simd = simd::rows<T>();
    const Parameter<T> g(gain);
    const StridedReader<T> inputs[] = {StridedReader<T>(x), StridedReader<T>(dy)};
    for_rows(pool, split, inputs, [&](std::int64_t r, const T* const* row) {
      simd.rms_norm_grad(row[0], g.data(), row[1], eps, dx.as<T>() + r * split.d, split.d);
    });
  });
}

void rms_norm_gain_grad(ThreadPool& pool, const View& x, const View& dy, double eps,
                        const View& dgain) {
  dispatch_rows(x, [&]<class T>(T) {
    const auto& simd = simd::rows<T>();
    gain_grad_as<T>(pool, x, dy, dgain, [&](const T* row, const T* g, double* acc, auto d) {
      simd.rms_norm_gain_grad(row, g, eps, acc, d);
    });
  });
}

}  // namespace vitrine::kernels

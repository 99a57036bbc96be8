#include "tensor/kernels/pursuit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tensor/error.h"
#include "tensor/gemm/gemm.h"
#include "tensor/gemm/matrix_views.h"
#include "tensor/simd/simd.h"
#include "tensor/tensor.h"

namespace vitrine::kernels {
namespace {

// x itself where it is contiguous, or a copy that is.
View as_contiguous(ThreadPool& pool, const View& x, Tensor& own) {
  if (x.is_contiguous()) return x;
  own = Tensor::empty(x.shape, x.dtype);
  copy(pool, x, own.view());
  return own.view();
}

// ---- the pursuit --------------------------------------------------------------------------------
// Samples whose products with all features are held at a time.
std::int64_t pursued_together(std::int64_t n, std::int64_t features) {
  constexpr std::int64_t kElements = 4 << 20;  // 16 MB of f32
  return std::min(n, std::max<std::int64_t>(16, kElements / std::max<std::int64_t>(1, features)));
}

// The place of the largest of n numbers above 0, of equal ones the first; -1: there is none.
template <class T>
std::int64_t largest_above_0(const T* h, std::int64_t n) {
  constexpr std::int64_t kLanes = 16;
  T lane[kLanes] = {};
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lane[k] = lane[k] < h[j + k] ? h[j + k] : lane[k];
  }
  T most{0};
  for (const T of_lane : lane) most = std::max(most, of_lane);
  for (; j < n; ++j) most = most < h[j] ? h[j] : most;
  if (!(most > 0)) return -1;
  return std::find(h, h + n, most) - h;
}

// A chunk of samples. Those that are not finished lie at the front: `sample` says which they are.
template <class T>
class Pursuit {
 public:
  Pursuit(ThreadPool& pool, const View& x, const View& w, const PursuitLimits& limits,
          const View& out, std::byte* scratch)
      : pool_(pool), w_(w), limits_(limits), out_(out), sample_(size(x.shape[0])) {
    const std::int64_t m = x.shape[0], d = x.shape[1], features = w.shape[0];
    residual_ = matrix(scratch, m, d);
    products_ = matrix(scratch + m * d * static_cast<std::int64_t>(sizeof(T)), m, features);
    copy(pool, x, residual_);
    std::iota(sample_.begin(), sample_.end(), std::int64_t{0});
  }

  void run() {
    std::fill_n(out_.as<std::int32_t>(), out_.numel(), std::int32_t{-1});
    for (std::int64_t step = 0; step < out_.shape[1] && !sample_.empty(); ++step) {
      const auto active = static_cast<std::int64_t>(sample_.size());
      const View r = rows_of(residual_, 0, active), h = rows_of(products_, 0, active);
      matmul(pool_, r, transposed_matrix(w_), h);
      std::vector<char> done(sample_.size());
      pool_.parallel_for(active, 4, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t i = first; i < last; ++i) done[size(i)] = take(i, step) ? 0 : 1;
      });
      drop(done);
    }
  }

 private:
  static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
  static View matrix(std::byte* data, std::int64_t rows, std::int64_t columns) {
    return {data, dtype_of<T>, {rows, columns}, contiguous_strides({rows, columns})};
  }

  // One more feature of a sample; whether there are to be more.
  bool take(std::int64_t i, std::int64_t step) {
    const std::int64_t d = residual_.shape[1], features = w_.shape[0];
    const std::int64_t found = largest_above_0(products_.as<const T>() + i * features, features);
    if (found < 0) return false;
    T* r = residual_.as<T>() + i * d;
    const auto feature = static_cast<std::int32_t>(found);
    const auto& simd = simd::attention<T>();
    T code{0};
    simd.scores(r, w_.as<const T>(), d, &feature, 1, d, T{1}, &code);
    if (!(code > 0)) return false;
    const T minus = -code;
    simd.mix_more(&minus, w_.as<const T>(), d, &feature, 1, d, r);
    std::int32_t* picks = out_.as<std::int32_t>() + sample_[size(i)] * out_.shape[1];
    picks[step] = feature;
    if (limits_.stop_at_repeat && std::find(picks, picks + step, feature) != picks + step)
      return false;
    if (!(limits_.threshold > 0)) return true;
    double squares = 0;
    for (std::int64_t c = 0; c < d; ++c) squares += static_cast<double>(r[c]) * r[c];
    return !(std::sqrt(squares) < limits_.threshold);
  }

  void drop(const std::vector<char>& done) {
    const std::int64_t d = residual_.shape[1];
    std::size_t kept = 0;
    for (std::size_t i = 0; i < sample_.size(); ++i) {
      if (done[i] != 0) continue;
      if (kept != i)
        std::copy_n(residual_.as<T>() + static_cast<std::int64_t>(i) * d, d,
                    residual_.as<T>() + static_cast<std::int64_t>(kept) * d);
      sample_[kept++] = sample_[i];
    }
    sample_.resize(kept);
  }

  ThreadPool& pool_;
  const View& w_;
  const PursuitLimits& limits_;
  const View out_;
  std::vector<std::int64_t> sample_;
  View residual_, products_;
};

template <class T>
void matching_pursuit_as(ThreadPool& pool, const View& x, const View& w_given,
                         const PursuitLimits& limits, const View& out, std::byte* scratch) {
  const std::int64_t n = x.shape[0], chunk = pursued_together(n, w_given.shape[0]);
  Tensor own, copied;
  if (scratch == nullptr) {
    own = Tensor::empty({chunk * (x.shape[1] + w_given.shape[0])}, x.dtype);
    scratch = own.view().data;
  }
  const View w = as_contiguous(pool, w_given, copied);
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const std::int64_t rows = std::min(chunk, n - begin);
    Pursuit<T>(pool, rows_of(x, begin, rows), w, limits, rows_of(out, begin, rows), scratch).run();
  }
}

// ---- triangular systems -------------------------------------------------------------------------
template <class T>
void solve_unit_lower_as(ThreadPool& pool, const View& l, const View& b, bool transposed,
                         const View& out) {
  const std::int64_t n = out.shape[0], m = out.shape[1];
  pool.parallel_for(n, 16, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const T* matrix = l.as<const T>() + i * m * m;
      T* y = out.as<T>() + i * m;
      std::copy_n(b.as<const T>() + i * m, m, y);
      if (transposed) {
        for (std::int64_t t = m; t-- > 0;) {
          for (std::int64_t s = 0; s < t; ++s) y[s] -= matrix[t * m + s] * y[t];
        }
      } else {
        for (std::int64_t t = 0; t < m; ++t) {
          T sum{0};
          for (std::int64_t s = 0; s < t; ++s) sum += matrix[t * m + s] * y[s];
          y[t] -= sum;
        }
      }
    }
  });
}

// ---- tables and matrices ------------------------------------------------------------------------
// Calls f(place, feature) for the entries of row i of a table.
template <class F>
void for_each_entry(const std::int32_t* index, std::int64_t i, std::int64_t capacity,
                    std::int64_t features, const F& f) {
  for (std::int64_t c = 0; c < capacity && index[c] >= 0; ++c) {
    if (index[c] >= features) {
      throw GraphError(fmt::format("feature {} of sample {} is out of range; expected 0 to {}",
                                   index[c], i, features - 1));
    }
    f(c, index[c]);
  }
}

}  // namespace

std::int64_t matching_pursuit_scratch(std::int64_t n, std::int64_t d, std::int64_t features,
                                      DType dtype) {
  return pursued_together(n, features) * (d + features) * size_of(dtype);
}
void matching_pursuit(ThreadPool& pool, const View& x, const View& w, const PursuitLimits& limits,
                      const View& out, std::byte* scratch) {
  if (x.dtype == DType::f32) matching_pursuit_as<float>(pool, x, w, limits, out, scratch);
  else matching_pursuit_as<double>(pool, x, w, limits, out, scratch);
}

void solve_unit_lower(ThreadPool& pool, const View& l_given, const View& b_given, bool transposed,
                      const View& out) {
  Tensor own_l, own_b;
  const View l = as_contiguous(pool, l_given, own_l), b = as_contiguous(pool, b_given, own_b);
  if (out.dtype == DType::f32) solve_unit_lower_as<float>(pool, l, b, transposed, out);
  else solve_unit_lower_as<double>(pool, l, b, transposed, out);
}

void sparse_to_dense(ThreadPool& pool, const View& z_given, const View& index_given,
                     const View& out) {
  Tensor own_z, own_index;
  const View z = as_contiguous(pool, z_given, own_z), index = as_contiguous(pool, index_given, own_index);
  const std::int64_t capacity = index.shape[1], features = out.shape[1];
  const auto run = [&]<class T>(T) {
    for (std::int64_t i = 0; i < out.shape[0]; ++i) {
      T* row = out.as<T>() + i * features;
      std::fill_n(row, features, T{0});
      for_each_entry(
          index.as<const std::int32_t>() + i * capacity, i, capacity, features,
          [&](std::int64_t c, std::int32_t j) { row[j] += z.as<const T>()[i * capacity + c]; });
    }
  };
  if (out.dtype == DType::f32) run(float{});
  else run(double{});
}

void sparse_pick(ThreadPool& pool, const View& y_given, const View& index_given, const View& out) {
  Tensor own_y, own_index;
  const View y = as_contiguous(pool, y_given, own_y), index = as_contiguous(pool, index_given, own_index);
  const std::int64_t capacity = index.shape[1], features = y.shape[1];
  const auto run = [&]<class T>(T) {
    std::fill_n(out.as<T>(), out.numel(), T{0});
    for (std::int64_t i = 0; i < out.shape[0]; ++i) {
      for_each_entry(index.as<const std::int32_t>() + i * capacity, i, capacity, features,
                     [&](std::int64_t c, std::int32_t j) {
                       out.as<T>()[i * capacity + c] = y.as<const T>()[i * features + j];
                     });
    }
  };
  if (out.dtype == DType::f32) run(float{});
  else run(double{});
}

}  // namespace vitrine::kernels

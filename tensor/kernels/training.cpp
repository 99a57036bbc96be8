#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tensor/error.h"
#include "tensor/gemm/gemm.h"
#include "tensor/gemm/matrix_views.h"
#include "tensor/kernels/dense.h"
#include "tensor/kernels/place.h"
#include "tensor/random.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

std::vector<std::int64_t> indices(const View& index, std::int64_t size, std::string_view what) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < index.numel(); ++i) {
    const std::int64_t at = i * index.strides[0];
    out.push_back(index.dtype == DType::i32 ? index.as<std::int32_t>()[at]
                                            : index.as<std::int64_t>()[at]);
    if (out.back() < 0 || out.back() >= size) {
      throw GraphError(
          fmt::format("{}: entry {} is {}, outside 0 to {}", what, i, out.back(), size - 1));
    }
  }
  return out;
}

// One row of logits: returns the loss; with `gradient`, the row becomes dlogits = g (softmax -
// onehot).
template <class T>
double row_loss(T* row, std::int64_t n, std::int64_t target, double g, bool gradient) {
  const auto& simd = simd::rows<T>();
  const double answer = row[target];
  const double best = simd.max(row, n);
  if (!gradient) {
    simd.log_softmax(row, row, n);
    return -static_cast<double>(row[target]);
  }
  simd.softmax(row, row, n);
  const double loss =
      best - answer -
      std::log(static_cast<double>(simd.max(row, n)));  // the largest is 1 / sum exp(x - best)
  simd.scale(row, static_cast<T>(g), n);
  row[target] -= static_cast<T>(g);
  return loss;
}

// So many rows of logits at a time: 64 MB of f32.
std::int64_t chunk_rows(std::int64_t n, std::int64_t vocabulary) {
  constexpr std::int64_t kElements = 16 << 20;
  const std::int64_t most = kElements / std::max<std::int64_t>(1, vocabulary);
  return std::min(n, std::max<std::int64_t>(16, most));
}

template <class T>
void linear_cross_entropy_as(ThreadPool& pool, const LinearCrossEntropyCall& c) {
  const std::int64_t n = c.x.shape[0], vocabulary = c.w.shape[0];
  const auto target = indices(c.target, vocabulary, "linear_cross_entropy: targets");
  const std::int64_t chunk = chunk_rows(n, vocabulary);
  Tensor own;
  if (c.scratch == nullptr) own = Tensor::empty({chunk, vocabulary}, c.x.dtype);
  const View buffer{c.scratch == nullptr ? own.view().data : c.scratch,
                    c.x.dtype,
                    {chunk, vocabulary},
                    contiguous_strides({chunk, vocabulary})};
  if (c.dw != nullptr) fill(pool, 0, *c.dw);
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const std::int64_t rows = std::min(chunk, n - begin);
    const View x = rows_of(c.x, begin, rows), logits = rows_of(buffer, 0, rows);
    matmul(pool, x, transposed_matrix(c.w), logits);
    pool.parallel_for(rows, 4, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t i = first; i < last; ++i) {
        const double g =
            c.dloss == nullptr ? 0 : c.dloss->as<T>()[(begin + i) * c.dloss->strides[0]];
        c.loss.as<T>()[begin + i] = static_cast<T>(
            row_loss(logits.as<T>() + i * vocabulary, vocabulary,
                     target[static_cast<std::size_t>(begin + i)], g, c.dw != nullptr));
      }
    });
    if (c.dw == nullptr) continue;
    matmul(pool, logits, c.w, rows_of(*c.dx, begin, rows));
    matmul_add(pool, transposed_matrix(logits), x, *c.dw);
  }
}

constexpr std::int64_t kGrain = 65536;

template <class T>
void adamw_as(ThreadPool& pool, const View& state, const View& gradient, double clip,
              const double* settings, const AdamRule& r, const View& out) {
  const std::int64_t n = state.shape[1];
  const T *w = state.as<T>(), *m = w + n, *v = m + n, *g = gradient.as<T>();
  T *w2 = out.as<T>(), *m2 = w2 + n, *v2 = m2 + n;
  const simd::AdamWStep step{.gradient_scale = clip,
                             .beta1 = r.beta1,
                             .beta2 = r.beta2,
                             .keep = 1 - settings[0] * r.decay,
                             .step = settings[0] / settings[1],
                             .root = 1 / std::sqrt(settings[2]),
                             .eps = r.eps};
  const auto& simd = simd::training<T>();
  pool.parallel_for(n, kGrain, [&](std::int64_t i, std::int64_t end) {
    simd.adamw(step, w + i, m + i, v + i, g + i, w2 + i, m2 + i, v2 + i, end - i);
  });
}

template <class T>
double sum_squares_as(ThreadPool& pool, const View& x) {
  const std::int64_t n = x.numel();
  std::vector<double> parts(static_cast<std::size_t>((n + kGrain - 1) / kGrain), 0.0);
  const T* data = x.as<T>();
  const auto& simd = simd::training<T>();
  pool.parallel_for(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    parts[static_cast<std::size_t>(begin / kGrain)] = simd.sum_squares(data + begin, end - begin);
  });
  double sum = 0;
  for (const double p : parts) sum += p;
  return sum;
}

template <class T>
void dropout_as(ThreadPool& pool, const View& x, const simd::DropStep& step, const View& out) {
  static_assert(kGrain % kReadBlock == 0 && kReadBlock % 4 == 0);  // whole Philox blocks
  const StridedReader<T> in(x);
  const auto& simd = simd::training<T>();
  pool.parallel_for(out.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
    T buffer[kReadBlock];
    for (std::int64_t at = begin; at < end; at += kReadBlock) {
      const std::int64_t count = std::min(kReadBlock, end - at);
      simd.dropout(step, static_cast<std::uint64_t>(at) / 4, in.read(at, count, buffer),
                   out.as<T>() + at, count);
    }
  });
}

// A contiguous stand-in for an input with other strides.
struct Contiguous {
  Tensor copy;
  View view;
  Contiguous(ThreadPool& pool, const View& x) : view(x) {
    if (x.is_contiguous()) return;
    copy = Tensor::empty(x.shape, x.dtype);
    view = copy.view();
    kernels::copy(pool, x, view);
  }
};

}  // namespace

void linear_cross_entropy(ThreadPool& pool, const LinearCrossEntropyCall& c) {
  if (c.x.dtype == DType::f32) linear_cross_entropy_as<float>(pool, c);
  else linear_cross_entropy_as<double>(pool, c);
}

std::int64_t linear_cross_entropy_scratch(std::int64_t n, std::int64_t vocabulary, DType dtype) {
  return chunk_rows(n, vocabulary) * vocabulary * size_of(dtype);
}

void sum_squares(ThreadPool& pool, const View& x, const View& out) {
  const Contiguous in(pool, x);
  if (x.dtype == DType::f32)
    *out.as<float>() = static_cast<float>(sum_squares_as<float>(pool, in.view));
  else *out.as<double>() = sum_squares_as<double>(pool, in.view);
}

void adamw(ThreadPool& pool, const View& state, const View& gradient, const View& clip,
           const View& settings, const AdamRule& rule, const View& out) {
  const double factor = clip.dtype == DType::f32 ? *clip.as<float>() : *clip.as<double>();
  if (std::isnan(factor)) {  // nothing to do
    if (state.data != out.data) copy(pool, state, out);
    return;
  }
  const Contiguous s(pool, state), g(pool, gradient), f(pool, settings);
  if (state.dtype == DType::f32)
    adamw_as<float>(pool, s.view, g.view, factor, f.view.as<double>(), rule, out);
  else adamw_as<double>(pool, s.view, g.view, factor, f.view.as<double>(), rule, out);
}

void dropout(ThreadPool& pool, const View& x, const View& key, const DropRule& rule,
             const View& out) {
  const auto part = [&](int i) {
    return static_cast<std::uint64_t>(key.as<std::int64_t>()[i * key.strides[0]]);
  };
  const random::Key stream =
      random::Key{part(0)}.fold(part(1)).fold(static_cast<std::uint64_t>(rule.stream));
  const double below = std::min(std::round(rule.rate * 0x1p32), 0x1p32 - 1);
  const simd::DropStep step{.key = stream.value,
                            .below = static_cast<std::uint32_t>(below),
                            .scale = 1 / (1 - rule.rate)};
  if (x.dtype == DType::f32) dropout_as<float>(pool, x, step, out);
  else dropout_as<double>(pool, x, step, out);
}

void write_rows(ThreadPool& pool, const View& table, const View& x, const View& index,
                const View& out) {
  if (table.data != out.data) copy(pool, table, out);
  const auto rows = indices(index, table.shape[0], "write_rows: index");
  for (std::size_t i = 0; i < rows.size(); ++i) {
    copy_into(pool, rows_of(x, static_cast<std::int64_t>(i), 1), rows_of(out, rows[i], 1));
  }
}

}  // namespace vitrine::kernels

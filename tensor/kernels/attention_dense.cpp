// Attention for long sequences: blocks of query rows against all keys of their sequence, each block
// a few small matrix products (Dao et al. 2022 tile the same way). The pattern of one block lives
// in a scratch buffer and is never stored. One task is one head of one sequence; within it the
// order of all sums is fixed.
#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "tensor/gemm/product.h"
#include "tensor/kernels/dense.h"
#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

constexpr std::int64_t kBlock = 64;  // query rows at a time: 64 x 1024 keys are 256 kB

// A sequence as the tables tell it: its query rows, and the key rows at its positions (holes left
// out).
struct Sequence {
  std::vector<std::int32_t> queries;         // in packed order
  std::vector<std::int64_t> first, visible;  // per query: it sees keys [first, visible)
  std::vector<std::int32_t> keys;
};

std::vector<std::int32_t> table(const View& view) {
  std::vector<std::int32_t> copy(static_cast<std::size_t>(view.numel()));
  const std::int32_t* data = StridedReader<std::int32_t>(view).read(0, view.numel(), copy.data());
  return data == copy.data() ? std::move(copy)
                             : std::vector<std::int32_t>(data, data + view.numel());
}

std::vector<Sequence> sequences_of(const Tables& t, const AttendRule& rule, std::int64_t key_rows) {
  check_tables(t, key_rows);
  const auto sequence = table(t.sequence), position = table(t.position), keys = table(t.keys);
  const std::int64_t context = t.keys.shape[1];
  std::vector<Sequence> out(static_cast<std::size_t>(t.keys.shape[0]));
  std::vector<std::vector<std::int64_t>> before(out.size());  // keys at positions below c
  for (std::size_t s = 0; s < out.size(); ++s) {
    before[s].push_back(0);
    for (std::int64_t c = 0; c < context; ++c) {
      const std::int32_t row =
          keys[s * static_cast<std::size_t>(context) + static_cast<std::size_t>(c)];
      if (row >= 0) out[s].keys.push_back(row);
      before[s].push_back(static_cast<std::int64_t>(out[s].keys.size()));
    }
  }
  for (std::size_t r = 0; r < sequence.size(); ++r) {
    const auto s = static_cast<std::size_t>(sequence[r]);
    out[s].queries.push_back(static_cast<std::int32_t>(r));
    const auto end = std::clamp<std::int64_t>(position[r] + rule.offset + 1, 0, context);
    const auto begin =
        std::clamp<std::int64_t>(rule.window == 0 ? 0 : position[r] - rule.window + 1, 0, end);
    out[s].first.push_back(before[s][static_cast<std::size_t>(begin)]);
    out[s].visible.push_back(before[s][static_cast<std::size_t>(end)]);
  }
  return out;
}

// Rows of one head as a matrix [n, e]: read in place when they follow each other, copied together
// otherwise.
template <class T>
class Block {
 public:
  Block(const View& x, std::int64_t head, const std::vector<std::int32_t>& rows)
      : width_(x.shape[2]) {
    const T* base = x.as<const T>() + head * x.strides[1];
    bool consecutive = x.strides[2] == 1 || width_ <= 1;
    for (std::size_t i = 1; i < rows.size() && consecutive; ++i)
      consecutive = rows[i] == rows[0] + static_cast<std::int32_t>(i);
    if (consecutive && !rows.empty()) {
      data_ = base + rows[0] * x.strides[0];
      stride_ = std::max(x.strides[0], width_);
      return;
    }
    copy_.resize(rows.size() * static_cast<std::size_t>(width_));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const T* from = base + rows[i] * x.strides[0];
      for (std::int64_t j = 0; j < width_; ++j)
        copy_[i * static_cast<std::size_t>(width_) + static_cast<std::size_t>(j)] =
            from[j * x.strides[2]];
    }
    data_ = copy_.data();
    stride_ = width_;
  }
  const T* row(std::int64_t i) const { return data_ + i * stride_; }
  Matrix<T> from(std::int64_t i) const { return {row(i), stride_, 1}; }  // its rows from row i on
  std::int64_t width() const { return width_; }

  // Whether none of its first `rows` rows holds an infinity or NaN: their exponent bits are all set.
  bool finite(std::size_t rows) const {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr Bits exponent = std::bit_cast<Bits>(std::numeric_limits<T>::infinity());
    Bits any = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      const T* from = row(static_cast<std::int64_t>(i));
      for (std::int64_t j = 0; j < width_; ++j)
        any |= Bits((std::bit_cast<Bits>(from[j]) & exponent) == exponent);
    }
    return any == 0;
  }

 private:
  std::int64_t width_, stride_ = 0;
  const T* data_ = nullptr;
  std::vector<T> copy_;
};

// What a task works in.
template <class T>
struct Buffers {
  std::vector<T> pattern, dpattern, slope, rows, dkeys, dvalues;
  std::int64_t nanoseconds = 0;  // in products
};

// c [m, n] = a b, or c += a b, on this thread.
template <class T>
void product(Buffers<T>& buffers, std::int64_t m, std::int64_t n, std::int64_t k,
             const Matrix<T>& a, const Matrix<T>& b, bool add, T* c, std::int64_t ldc) {
  using Clock = std::chrono::steady_clock;
  if (m == 0 || n == 0 || k == 0) return;
  const Clock::time_point begin = Clock::now();
  Product<T>(a, b, m, n, k, c, ldc, {.add = add}).run_here();
  buffers.nanoseconds += std::chrono::nanoseconds(Clock::now() - begin).count();
}

// Runs f(task, buffers) for all tasks.
template <class T, class F>
void for_tasks(ThreadPool& pool, std::int64_t tasks, const F& f) {
  std::atomic<std::int64_t> nanoseconds = 0;
  pool.parallel_for(tasks, 1, [&](std::int64_t first, std::int64_t last) {
    thread_local Buffers<T> buffers;
    buffers.nanoseconds = 0;
    for (std::int64_t task = first; task < last; ++task) f(task, buffers);
    nanoseconds += buffers.nanoseconds;
  });
  add_matmul_nanoseconds(nanoseconds / pool.threads());
}

// Some query rows [begin, begin + rows) of a sequence, and the keys [low, end) that they see.
struct QueryBlock {
  std::int64_t begin, rows, low, end;
  std::int64_t keys() const { return end - low; }
};

// pattern [rows, keys] of a block: softmax over what each row sees, exact zeros elsewhere. With a
// softcap, `slope` becomes its derivative at the scores, if asked for.
template <class T>
void pattern_of(const Sequence& s, const Block<T>& q, const Block<T>& k, const QueryBlock& block,
                const AttendRule& rule, bool with_slope, Buffers<T>& buffers) {
  std::vector<T>& pattern = buffers.pattern;
  const std::int64_t keys = block.keys();
  pattern.resize(static_cast<std::size_t>(block.rows * keys));
  product<T>(buffers, block.rows, keys, q.width(), q.from(block.begin),
             k.from(block.low).transposed(), false, pattern.data(), keys);
  const auto& simd = simd::rows<T>();
  const auto cap = static_cast<T>(rule.softcap);
  if (with_slope) buffers.slope.assign(pattern.size(), T(0));
  for (std::int64_t i = 0; i < block.rows; ++i) {
    T* row = pattern.data() + i * keys;
    const auto query = static_cast<std::size_t>(block.begin + i);
    const std::int64_t first = s.first[query] - block.low, end = s.visible[query] - block.low;
    const std::int64_t sees = end - first;
    simd.scale(row + first, static_cast<T>(rule.scale), sees);
    if (rule.softcap != 0) simd::elementwise<T>().softcap(row + first, cap, row + first, sees);
    for (std::int64_t j = first; with_slope && j < end; ++j)
      buffers.slope[static_cast<std::size_t>(i * keys + j)] = 1 - (row[j] / cap) * (row[j] / cap);
    simd.softmax(row + first, row + first, sees);
    std::fill(row, row + first, T(0));
    std::fill(row + end, row + keys, T(0));
  }
}

// Calls f(block) for blocks of query rows. A block multiplies the zeros of keys that a row does not
// see with whatever is there, which is no zero where it is not finite: then (`together` false) each
// row is a block of its own, with no other keys than those that it sees.
template <class F>
void for_blocks(const Sequence& s, bool together, const F& f) {
  const auto n = static_cast<std::int64_t>(s.queries.size());
  const std::int64_t block = together ? kBlock : 1;
  for (std::int64_t begin = 0; begin < n; begin += block) {
    const std::int64_t rows = std::min(block, n - begin);
    const auto first = s.first.begin() + begin, visible = s.visible.begin() + begin;
    f(QueryBlock{begin, rows, *std::min_element(first, first + rows),
                 *std::max_element(visible, visible + rows)});
  }
}

// [rows, head, e] contiguous: where row `row` of a head begins.
template <class T>
T* head_row(T* base, std::int64_t heads, std::int64_t width, std::int64_t row, std::int64_t head) {
  return base + (row * heads + head) * width;
}

template <class T>
void dense_as(ThreadPool& pool, const View& q, const View& k, const View& v, const Tables& t,
              const AttendRule& rule, const View& out) {
  const std::vector<Sequence> sequences = sequences_of(t, rule, k.shape[0]);
  const std::int64_t heads = q.shape[1], width = v.shape[2];
  const std::int64_t group = heads == 0 ? 1 : heads / k.shape[1];
  const auto n = static_cast<std::int64_t>(sequences.size());
  for_tasks<T>(pool, n * heads, [&](std::int64_t task, Buffers<T>& buffers) {
    const Sequence& s = sequences[static_cast<std::size_t>(task / heads)];
    const std::int64_t head = task % heads;
    const Block<T> queries(q, head, s.queries), keys(k, head / group, s.keys),
        values(v, head / group, s.keys);
    std::vector<T>& z = buffers.rows;
    for_blocks(s, values.finite(s.keys.size()), [&](const QueryBlock& block) {
      pattern_of(s, queries, keys, block, rule, false, buffers);
      z.assign(static_cast<std::size_t>(block.rows * width), T(0));
      product<T>(buffers, block.rows, width, block.keys(),
                 {buffers.pattern.data(), block.keys(), 1}, values.from(block.low), false, z.data(),
                 width);
      for (std::int64_t i = 0; i < block.rows; ++i) {
        std::copy_n(z.data() + i * width, width,
                    head_row(out.as<T>(), heads, width,
                             s.queries[static_cast<std::size_t>(block.begin + i)], head));
      }
    });
  });
}

// ---- the gradient -----------------------------------------------------------------------------
// Whether no key row belongs to two sequences: then sequences write to different rows.
bool disjoint(const std::vector<Sequence>& sequences, std::int64_t key_rows) {
  std::vector<bool> taken(static_cast<std::size_t>(key_rows), false);
  for (const Sequence& s : sequences) {
    for (const std::int32_t row : s.keys) {
      if (taken[static_cast<std::size_t>(row)]) return false;
      taken[static_cast<std::size_t>(row)] = true;
    }
  }
  return true;
}

template <class T>
struct GradCall {
  const View &q, &k, &v, &dz;
  const AttendRule& rule;
  T *dq, *dk, *dv;  // dq [rows, head, e]; dk, dv [rows, key head, e], zeros to begin with
  std::int64_t heads() const { return q.shape[1]; }
  std::int64_t key_heads() const { return k.shape[1]; }
  std::int64_t group() const { return heads() / key_heads(); }
};

// One sequence, one head: the pattern is made again, a block of query rows at a time, so nothing
// larger than [block, keys] exists.
template <class T>
void grad_of(const GradCall<T>& c, const Sequence& s, std::int64_t head, Buffers<T>& buffers) {
  const std::int64_t e = c.q.shape[2], key_head = head / c.group();
  const auto count = static_cast<std::int64_t>(s.keys.size());
  if (count == 0) return;
  const Block<T> queries(c.q, head, s.queries), keys(c.k, key_head, s.keys),
      values(c.v, key_head, s.keys), grads(c.dz, head, s.queries);
  buffers.dkeys.assign(static_cast<std::size_t>(count * e), T(0));
  buffers.dvalues.assign(static_cast<std::size_t>(count * e), T(0));
  const auto& simd = simd::rows<T>();
  const bool capped = c.rule.softcap != 0;
  const bool together = queries.finite(s.queries.size()) && grads.finite(s.queries.size()) &&
                        keys.finite(s.keys.size()) && values.finite(s.keys.size());
  for_blocks(s, together, [&](const QueryBlock& block) {
    const std::int64_t rows = block.rows, n = block.keys();
    if (n == 0) return;
    pattern_of(s, queries, keys, block, c.rule, capped, buffers);
    buffers.dpattern.resize(static_cast<std::size_t>(rows * n));
    buffers.rows.resize(static_cast<std::size_t>(rows * e));
    T *p = buffers.pattern.data(), *ds = buffers.dpattern.data();
    const Matrix<T> pattern{p, n, 1}, dscores{ds, n, 1}, dz = grads.from(block.begin);
    // dv += P^T dz, dP = dz v^T
    product<T>(buffers, n, e, rows, pattern.transposed(), dz, true,
               buffers.dvalues.data() + block.low * e, e);
    product<T>(buffers, rows, n, e, dz, values.from(block.low).transposed(), false, ds, n);
    for (std::int64_t i = 0; i < rows; ++i) {
      T* row = ds + i * n;
      simd.softmax_grad(p + i * n, row, row, n);
      if (capped) {
        const T* slope = buffers.slope.data() + i * n;
        for (std::int64_t j = 0; j < n; ++j) row[j] *= slope[j];
      }
      simd.scale(row, static_cast<T>(c.rule.scale), n);
    }
    // dk += dS^T q, dq = dS k
    product<T>(buffers, n, e, rows, dscores.transposed(), queries.from(block.begin), true,
               buffers.dkeys.data() + block.low * e, e);
    product<T>(buffers, rows, e, n, dscores, keys.from(block.low), false, buffers.rows.data(), e);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::copy_n(
          buffers.rows.data() + i * e, e,
          head_row(c.dq, c.heads(), e, s.queries[static_cast<std::size_t>(block.begin + i)], head));
    }
  });
  for (std::int64_t j = 0; j < count; ++j) {
    const std::int32_t row = s.keys[static_cast<std::size_t>(j)];
    simd.add(buffers.dkeys.data() + j * e, head_row(c.dk, c.key_heads(), e, row, key_head), e);
    simd.add(buffers.dvalues.data() + j * e, head_row(c.dv, c.key_heads(), e, row, key_head), e);
  }
}

template <class T>
void grad_as(ThreadPool& pool, const View& q, const View& k, const View& v, const View& dz,
             const Tables& t, const AttendRule& rule, const View& out) {
  const std::vector<Sequence> sequences = sequences_of(t, rule, k.shape[0]);
  fill(pool, 0, out);  // rows that nobody looks at
  T *dq = out.as<T>(), *dk = dq + q.numel(), *dv = dk + k.numel();
  const GradCall<T> call{q, k, v, dz, rule, dq, dk, dv};
  // A task owns one key head, and its group of heads in turn: of one sequence, or of all in turn
  // where they share key rows.
  const auto n = static_cast<std::int64_t>(sequences.size());
  const std::int64_t parts = disjoint(sequences, k.shape[0]) ? n : 1, heads = call.key_heads();
  for_tasks<T>(pool, parts * heads, [&](std::int64_t task, Buffers<T>& buffers) {
    const std::int64_t part = task / heads, key_head = task % heads;
    for (std::int64_t s = part; s < (parts == n ? part + 1 : n); ++s) {
      for (std::int64_t h = 0; h < call.group(); ++h)
        grad_of(call, sequences[static_cast<std::size_t>(s)], key_head * call.group() + h, buffers);
    }
  });
}

}  // namespace

bool attention_is_dense(const View& q, const Tables& t) {
  return t.keys.shape[0] > 0 && q.shape[0] >= 32 * t.keys.shape[0] && t.keys.shape[1] >= 32;
}

void attention_dense(ThreadPool& pool, const View& q, const View& k, const View& v, const Tables& t,
                     const AttendRule& rule, const View& out) {
  if (q.dtype == DType::f32) dense_as<float>(pool, q, k, v, t, rule, out);
  else dense_as<double>(pool, q, k, v, t, rule, out);
}

void attention_grad(ThreadPool& pool, const View& q, const View& k, const View& v, const View& dz,
                    const Tables& t, const AttendRule& rule, const View& out) {
  if (out.numel() == 0) return;
  if (q.dtype == DType::f32) grad_as<float>(pool, q, k, v, dz, t, rule, out);
  else grad_as<double>(pool, q, k, v, dz, t, rule, out);
}

}  // namespace vitrine::kernels

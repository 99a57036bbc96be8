// Attention over row tables: each query row finds its key rows by (sequence, position), so ragged
// batches, a key-value cache and many edited copies of one prompt are the same case. Work is cut
// over (row, head).
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <variant>
#include <vector>

#include "tensor/error.h"
#include "tensor/kernels/kernels.h"
#include "tensor/simd/simd.h"
#include "tensor/strided_reader.h"

namespace vitrine::kernels {
namespace {

// Some i32 table as one contiguous array.
class IndexTable {
 public:
  explicit IndexTable(const View& view) : copy_(static_cast<std::size_t>(view.numel())) {
    data_ = StridedReader<std::int32_t>(view).read(0, view.numel(), copy_.data());
  }
  const std::int32_t* data() const { return data_; }

 private:
  std::vector<std::int32_t> copy_;
  const std::int32_t* data_;
};

// [rows, head, e] with the last axis contiguous; otherwise a contiguous copy.
class HeadRows {
 public:
  HeadRows(ThreadPool& pool, const View& view) : view_(view) {
    if (view.shape[2] <= 1 || view.strides[2] == 1) return;
    copy_ = Tensor::empty(view.shape, view.dtype);
    view_ = copy_.view();
    copy(pool, view, view_);
  }
  template <class T>
  const T* at(std::int64_t row, std::int64_t head) const {
    return view_.as<const T>() + row * view_.strides[0] + head * view_.strides[1];
  }
  std::int64_t stride() const { return view_.strides[0]; }
  std::int64_t width() const { return view_.shape[2]; }

 private:
  Tensor copy_;
  View view_;
};

// The keys that one query row sees: position c of its sequence and the key row that holds it, holes
// left out.
struct Visible {
  std::vector<std::int32_t> position, row;
  std::int64_t count() const { return static_cast<std::int64_t>(row.size()); }
};

class KeyTable {
 public:
  explicit KeyTable(const Tables& t)
      : sequence_(t.sequence), position_(t.position), keys_(t.keys), context_(t.keys.shape[1]) {}

  std::int64_t context() const { return context_; }

  void all(std::int64_t query, Visible& out) const { list(query, 0, context_, out); }
  void seen(std::int64_t query, const AttendRule& rule, Visible& out) const {
    const std::int64_t position = position_.data()[query];
    const auto end = std::clamp<std::int64_t>(position + rule.offset + 1, 0, context_);
    const std::int64_t first = rule.window == 0 ? 0 : position - rule.window + 1;
    list(query, std::clamp<std::int64_t>(first, 0, end), end, out);
  }

 private:
  void list(std::int64_t query, std::int64_t begin, std::int64_t end, Visible& out) const {
    out.position.clear();
    out.row.clear();
    const std::int32_t* keys = keys_.data() + sequence_.data()[query] * context_;
    for (std::int64_t c = begin; c < end; ++c) {
      if (keys[c] < 0) continue;
      out.position.push_back(static_cast<std::int32_t>(c));
      out.row.push_back(keys[c]);
    }
  }

  IndexTable sequence_, position_, keys_;
  std::int64_t context_;
};

// How many of `heads` share one of the heads of `keys`.
std::int64_t group_of(std::int64_t heads, const View& keys) {
  return keys.shape[1] == 0 ? 1 : heads / keys.shape[1];
}

// Calls f(row, head, visible, scratch) for every (row, head), in parallel; `see` lists what a row
// sees. Scratch is whatever f reuses from call to call.
template <class Scratch, class See, class F>
void for_row_heads(ThreadPool& pool, std::int64_t rows, std::int64_t heads, std::int64_t work,
                   const See& see, const F& f) {
  constexpr std::int64_t kWork = 65536;  // multiply-adds a thread takes at a time
  const std::int64_t grain = std::max<std::int64_t>(1, kWork / std::max<std::int64_t>(1, work));
  pool.parallel_for(rows * heads, grain, [&](std::int64_t begin, std::int64_t end) {
    Visible visible;
    Scratch scratch;
    for (std::int64_t at = begin; at < end; ++at) {
      const std::int64_t row = at / heads, head = at % heads;
      if (at == begin || head == 0) see(row, visible);
      f(row, head, visible, scratch);
    }
  });
}

template <class T>
void scores_as(ThreadPool& pool, const View& q, const View& k, const Tables& t, double scale,
               T hole, const View& out) {
  const KeyTable table(t);
  const HeadRows queries(pool, q), keys(pool, k);
  const auto& simd = simd::attention<T>();
  const std::int64_t heads = q.shape[1], e = queries.width(), context = table.context();
  const std::int64_t group = group_of(heads, k);
  for_row_heads<std::monostate>(
      pool, q.shape[0], heads, context * e,
      [&](std::int64_t row, Visible& v) { table.all(row, v); },
      [&](std::int64_t row, std::int64_t head, const Visible& v, std::monostate) {
        T* to = out.as<T>() + (row * heads + head) * context;
        // Written to the front, then moved to their positions from the back: position[i] >= i.
        simd.scores(queries.at<T>(row, head), keys.at<T>(0, head / group), keys.stride(),
                    v.row.data(), v.count(), e, static_cast<T>(scale), to);
        std::int64_t c = context - 1;
        for (std::int64_t i = v.count() - 1; i >= 0; --i) {
          const std::int64_t position = v.position[static_cast<std::size_t>(i)];
          for (; c > position; --c) to[c] = hole;
          to[c--] = to[i];
        }
        for (; c >= 0; --c) to[c] = hole;
      });
}

// The weights of a row that are not zero, with their key rows.
template <class T>
struct Weights {
  std::vector<T> p;
  std::vector<std::int32_t> row;

  void gather(const T* from, const Visible& v, std::int64_t low = 0,
              std::int64_t high = std::numeric_limits<std::int64_t>::max()) {
    p.clear();
    row.clear();
    for (std::size_t i = 0; i < v.row.size(); ++i) {
      const T weight = from[v.position[i]];
      if (weight == 0 || v.row[i] < low || v.row[i] >= high) continue;
      p.push_back(weight);
      row.push_back(v.row[i]);
    }
  }
  std::int64_t count() const { return static_cast<std::int64_t>(p.size()); }
};

template <class T>
void mix_as(ThreadPool& pool, const View& p, const View& v, const Tables& t, const View& out) {
  const KeyTable table(t);
  const HeadRows weights(pool, p), values(pool, v);
  const auto& simd = simd::attention<T>();
  const std::int64_t heads = p.shape[1], width = values.width(), group = group_of(heads, v);
  for_row_heads<Weights<T>>(
      pool, p.shape[0], heads, table.context() * width,
      [&](std::int64_t row, Visible& seen) { table.all(row, seen); },
      [&](std::int64_t row, std::int64_t head, const Visible& seen, Weights<T>& w) {
        w.gather(weights.at<T>(row, head), seen);
        simd.mix(w.p.data(), values.at<T>(0, head / group), values.stride(), w.row.data(),
                 w.count(), width, out.as<T>() + (row * heads + head) * width);
      });
}

template <class T>
void mix_transposed_as(ThreadPool& pool, const View& p, const View& x, const Tables& t,
                       const View& out) {
  const KeyTable table(t);
  const HeadRows weights(pool, p), queries(pool, x);
  const auto& simd = simd::attention<T>();
  const std::int64_t rows = p.shape[0], width = queries.width();
  const std::int64_t key_rows = out.shape[0], heads = out.shape[1];
  const std::int64_t group = group_of(p.shape[1], out);
  // A task owns one key head of a range of key rows and goes through the query rows, and the heads
  // of the group, in order, so every sum has one order.
  if (heads == 0) return;
  const std::int64_t ranges = heads >= 8 ? 1 : std::min<std::int64_t>(8 / heads, key_rows);
  pool.parallel_for(heads * ranges, 1, [&](std::int64_t begin, std::int64_t end) {
    Visible seen;
    Weights<T> w;
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t head = task / ranges, range = task % ranges;
      const std::int64_t low = key_rows * range / ranges, high = key_rows * (range + 1) / ranges;
      T* base = out.as<T>() + head * width;
      for (std::int64_t j = low; j < high; ++j) std::fill_n(base + j * heads * width, width, T(0));
      for (std::int64_t row = 0; row < rows; ++row) {
        table.all(row, seen);
        for (std::int64_t h = head * group; h < (head + 1) * group; ++h) {
          w.gather(weights.at<T>(row, h), seen, low, high);
          simd.spread(w.p.data(), queries.at<T>(row, h), w.row.data(), w.count(), width, base,
                      heads * width);
        }
      }
    }
  });
}

template <class T>
void attention_as(ThreadPool& pool, const View& q, const View& k, const View& v, const Tables& t,
                  const AttendRule& rule, const View& out) {
  const KeyTable table(t);
  const HeadRows queries(pool, q), keys(pool, k), values(pool, v);
  const auto& simd = simd::attention<T>();
  const auto& rows = simd::rows<T>();
  const std::int64_t heads = q.shape[1], e = queries.width(), width = values.width();
  const std::int64_t group = group_of(heads, k);
  const auto cap = simd::elementwise<T>().softcap;
  for_row_heads<std::vector<T>>(
      pool, q.shape[0], heads, table.context() * (e + width) / 2,
      [&](std::int64_t row, Visible& seen) { table.seen(row, rule, seen); },
      [&](std::int64_t row, std::int64_t head, const Visible& seen, std::vector<T>& pattern) {
        pattern.resize(seen.row.size());
        simd.scores(queries.at<T>(row, head), keys.at<T>(0, head / group), keys.stride(),
                    seen.row.data(), seen.count(), e, static_cast<T>(rule.scale), pattern.data());
        if (rule.softcap != 0)
          cap(pattern.data(), static_cast<T>(rule.softcap), pattern.data(), seen.count());
        rows.softmax(pattern.data(), pattern.data(), seen.count());
        simd.mix(pattern.data(), values.at<T>(0, head / group), values.stride(), seen.row.data(),
                 seen.count(), width, out.as<T>() + (row * heads + head) * width);
      });
}

template <class F>
void dispatch_compute(DType dtype, const F& f) {
  if (dtype == DType::f32) return f(float());
  return f(double());
}

}  // namespace

void check_tables(const Tables& t, std::int64_t key_rows) {
  const IndexTable sequence(t.sequence), keys(t.keys);
  const std::int64_t sequences = t.keys.shape[0], context = t.keys.shape[1];
  for (std::int64_t r = 0; r < t.sequence.numel(); ++r) {
    const std::int32_t s = sequence.data()[r];
    if (s >= 0 && s < sequences) continue;
    throw GraphError(fmt::format(
        "the row table says that row {} belongs to sequence {}; there are sequences 0 to {}", r, s,
        sequences - 1));
  }
  for (std::int64_t i = 0; i < t.keys.numel(); ++i) {
    const std::int32_t row = keys.data()[i];
    if (row >= -1 && row < key_rows) continue;
    throw GraphError(
        fmt::format("the row table says that position {} of sequence {} is in key row {}; there "
                    "are rows 0 to {}, and -1 for none",
                    i % context, i / context, row, key_rows - 1));
  }
}

void attention_scores(ThreadPool& pool, const View& q, const View& k, const Tables& t, double scale,
                      const View& out) {
  check_tables(t, k.shape[0]);
  dispatch_compute(q.dtype, [&]<class T>(T) {
    scores_as<T>(pool, q, k, t, scale, -std::numeric_limits<T>::infinity(), out);
  });
}

void attention_outer(ThreadPool& pool, const View& q, const View& k, const Tables& t,
                     const View& out) {
  check_tables(t, k.shape[0]);
  dispatch_compute(q.dtype, [&]<class T>(T) { scores_as<T>(pool, q, k, t, 1.0, T(0), out); });
}

void attention_mix(ThreadPool& pool, const View& p, const View& v, const Tables& t,
                   const View& out) {
  check_tables(t, v.shape[0]);
  dispatch_compute(p.dtype, [&]<class T>(T) { mix_as<T>(pool, p, v, t, out); });
}

void attention_mix_transposed(ThreadPool& pool, const View& p, const View& x, const Tables& t,
                              const View& out) {
  check_tables(t, out.shape[0]);
  dispatch_compute(p.dtype, [&]<class T>(T) { mix_transposed_as<T>(pool, p, x, t, out); });
}

void attention(ThreadPool& pool, const View& q, const View& k, const View& v, const Tables& t,
               const AttendRule& rule, const View& out) {
  check_tables(t, k.shape[0]);
  dispatch_compute(q.dtype, [&]<class T>(T) { attention_as<T>(pool, q, k, v, t, rule, out); });
}

}  // namespace vitrine::kernels

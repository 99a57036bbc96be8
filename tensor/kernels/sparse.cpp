#include "tensor/kernels/sparse.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

#include "tensor/error.h"
#include "tensor/gemm/gemm.h"
#include "tensor/gemm/matrix_views.h"
#include "tensor/simd/simd.h"
#include "tensor/tensor.h"

namespace vitrine::kernels {
namespace {

// A stand-in whose rows lie element by element, for an input with other strides.
struct Rowwise {
  Tensor copy;
  View view;
  Rowwise(ThreadPool& pool, const View& x) : view(x) {
    if (x.strides.back() == 1 || x.shape.back() <= 1) return;
    copy = Tensor::empty(x.shape, x.dtype);
    view = copy.view();
    kernels::copy(pool, x, view);
  }
  template <class T>
  const T* row(std::int64_t i) const {
    return view.as<const T>() + i * view.strides[0];
  }
};

// ---- which are active ---------------------------------------------------------------------------
// Collects the `most` strongest entries of a row, block by block; of equal ones the first. They
// stay in the order of the row.
template <class T>
class Strongest {
 public:
  explicit Strongest(std::int64_t most)
      : most_(most),
        limit_(most + std::max<std::int64_t>(most, 64)),
        scores_(static_cast<std::size_t>(limit_ + kBlock + simd::Sparse<T>::kPadding)),
        index_(scores_.size()),
        ranked_(scores_.size()) {}

  // All entries of a row.
  void find(const T* h, const T* scale, const T* bar, std::int64_t n) {
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    if (most_ == 0) {
      count_ = 0;
      return;
    }
    const T guess = guess_least(h, scale, bar, n);
    scan(h, scale, bar, n, guess);
    if (count_ < most_ && guess > -kInfinity) scan(h, scale, bar, n, -kInfinity);
  }
  std::int64_t count() const { return count_; }
  const T* scores() const { return scores_.data(); }
  const std::int32_t* indices() const { return index_.data(); }

 private:
  static constexpr std::int64_t kBlock = 512;

  // A score that probably a few more than `most` are above, from an eighth of the row: so few
  // entries have to be looked at twice.
  T guess_least(const T* h, const T* scale, const T* bar, std::int64_t n) {
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    constexpr std::int64_t kShare = 8, kFew = 64;
    if (most_ < kFew || n < kShare * kBlock) return -kInfinity;
    const std::int64_t rank = most_ / kShare * 7 / 5 + 8, room = std::ssize(scores_);
    std::int64_t sampled = 0;
    for (std::int64_t i = 0; i + kBlock <= n; i += kBlock) {
      if (sampled + kBlock / kShare + simd::Sparse<T>::kPadding > room) break;
      sampled += simd::sparse<T>().above(h + i, scale + i, bar + i, -kInfinity, 0, kBlock / kShare,
                                         scores_.data() + sampled, index_.data() + sampled);
    }
    if (sampled <= rank) return -kInfinity;
    std::nth_element(scores_.begin(), scores_.begin() + rank, scores_.begin() + sampled,
                     std::greater<T>());
    return scores_[static_cast<std::size_t>(rank)];
  }

  // Collects entries above `least`, which rises whenever there are too many.
  void scan(const T* h, const T* scale, const T* bar, std::int64_t n, T least) {
    const auto& simd = simd::sparse<T>();
    count_ = 0;
    least_ = least;
    for (std::int64_t i = 0; i < n; i += kBlock) {
      count_ +=
          simd.above(h + i, scale + i, bar + i, least_, static_cast<std::int32_t>(i),
                     std::min(kBlock, n - i), scores_.data() + count_, index_.data() + count_);
      if (count_ > limit_) keep_strongest();
    }
    if (count_ > most_) keep_strongest();
  }

  void keep_strongest() {
    std::copy_n(scores_.begin(), count_, ranked_.begin());
    std::nth_element(ranked_.begin(), ranked_.begin() + most_ - 1, ranked_.begin() + count_,
                     std::greater<T>());
    // Later entries with the weakest score of these lose to it: they have higher indices.
    least_ = ranked_[static_cast<std::size_t>(most_ - 1)];
    std::int64_t equal = most_ - std::count_if(ranked_.begin(), ranked_.begin() + most_,
                                               [&](T x) { return x > least_; });
    std::int64_t kept = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      const T score = scores_[static_cast<std::size_t>(i)];
      if (!(score > least_) && !(score == least_ && equal-- > 0)) continue;
      scores_[static_cast<std::size_t>(kept)] = score;
      index_[static_cast<std::size_t>(kept++)] = index_[static_cast<std::size_t>(i)];
    }
    count_ = kept;
  }

  std::int64_t most_, limit_, count_ = 0;
  std::vector<T> scores_;
  std::vector<std::int32_t> index_;
  std::vector<T> ranked_;
  T least_ = 0;
};

template <class T>
std::vector<T> values_of(const View& x) {
  std::vector<T> out;
  for (std::int64_t i = 0; i < x.numel(); ++i) out.push_back(x.as<const T>()[i * x.strides[0]]);
  return out;
}

// What is found in the rows that it is given, chunk by chunk.
template <class T>
class Selection {
 public:
  Selection(std::int64_t rows, const ActiveCall& c)
      : c_(c), rows_(rows), scale_(values_of<T>(c.scale)), bar_(values_of<T>(c.bar)) {
    const auto features = static_cast<std::int64_t>(scale_.size());
    const auto whole = [](double x) {
      return x < 1e15 ? static_cast<std::int64_t>(x) : std::numeric_limits<std::int64_t>::max();
    };
    most_ = std::min(c.rule.capacity, features);
    if (c.rule.most >= 0 && !c.rule.whole_batch) most_ = std::min(most_, whole(c.rule.most));
    if (c.rule.most >= 0 && c.rule.whole_batch) {
      budget_ = whole(c.rule.most * static_cast<double>(rows));
      scores_.resize(static_cast<std::size_t>(rows * c.rule.capacity));
    }
    if (c.rule.dead_capacity == 0) return;
    // For the dead, the others' bar is too high.
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    for (const std::uint8_t dead : values_of<std::uint8_t>(c.dead)) {
      dead_bar_.push_back(dead != 0 ? -kInfinity : kInfinity);
      dead_count_ += dead != 0 ? 1 : 0;
    }
  }

  // h: rows [begin, begin + rows) of the batch.
  void add(ThreadPool& pool, const View& h, std::int64_t begin) {
    const auto features = static_cast<std::int64_t>(scale_.size());
    pool.parallel_for(h.shape[0], 4, [&](std::int64_t first, std::int64_t last) {
      Strongest<T> active(most_), dead(std::min(c_.rule.dead_capacity, dead_count_));
      for (std::int64_t i = first; i < last; ++i) {
        const T* row = h.as<const T>() + i * h.strides[0];
        std::int32_t* out = out_row(begin + i);
        active.find(row, scale_.data(), bar_.data(), features);
        write(active, out, c_.rule.capacity);
        if (budget_ >= 0) {
          std::copy_n(active.scores(), active.count(),
                      scores_.begin() + (begin + i) * c_.rule.capacity);
        }
        if (c_.rule.dead_capacity == 0) continue;
        if (dead_count_ > 0) dead.find(row, scale_.data(), dead_bar_.data(), features);
        write(dead, out + c_.rule.capacity, c_.rule.dead_capacity);
      }
    });
  }

  // Once all rows have been added.
  void finish(ThreadPool& pool) {
    if (budget_ < 0) return;
    struct Entry {
      T score;
      std::int64_t place;  // row * capacity + column
    };
    std::vector<Entry> all;
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t k = 0; k < c_.rule.capacity && out_row(i)[k] >= 0; ++k) {
        const std::int64_t place = i * c_.rule.capacity + k;
        all.push_back({scores_[static_cast<std::size_t>(place)], place});
      }
    }
    if (static_cast<std::int64_t>(all.size()) <= budget_) return;
    const auto stronger_entry = [](const Entry& a, const Entry& b) {
      return a.score != b.score ? a.score > b.score : a.place < b.place;
    };
    std::nth_element(all.begin(), all.begin() + budget_, all.end(), stronger_entry);
    const Entry first_out = all[static_cast<std::size_t>(budget_)];
    pool.parallel_for(rows_, 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        std::int32_t* row = out_row(i);
        std::int64_t kept = 0;
        for (std::int64_t k = 0; k < c_.rule.capacity && row[k] >= 0; ++k) {
          const std::int64_t place = i * c_.rule.capacity + k;
          if (stronger_entry({scores_[static_cast<std::size_t>(place)], place}, first_out))
            row[kept++] = row[k];
        }
        std::fill(row + kept, row + c_.rule.capacity, -1);
      }
    });
  }

 private:
  std::int32_t* out_row(std::int64_t i) const {
    return c_.out.as<std::int32_t>() + i * (c_.rule.capacity + c_.rule.dead_capacity);
  }
  static void write(const Strongest<T>& found, std::int32_t* out, std::int64_t capacity) {
    std::copy_n(found.indices(), found.count(), out);
    std::fill(out + found.count(), out + capacity, -1);
  }

  const ActiveCall& c_;
  std::int64_t rows_, most_ = 0, budget_ = -1;
  std::int64_t dead_count_ = 0;
  std::vector<T> scale_, bar_, dead_bar_, scores_;
};

std::int64_t chunk_rows(std::int64_t n, std::int64_t features) {
  constexpr std::int64_t kElements = 16 << 20;  // 64 MB of f32
  return std::min(n, std::max<std::int64_t>(16, kElements / std::max<std::int64_t>(1, features)));
}

template <class T>
void linear_active_as(ThreadPool& pool, const View& x, const View& w, const View& bias,
                      const ActiveCall& c, std::byte* scratch) {
  const std::int64_t n = x.shape[0], features = w.shape[0], chunk = chunk_rows(n, features);
  Tensor own;
  if (scratch == nullptr) own = Tensor::empty({chunk, features}, x.dtype);
  const View h{scratch == nullptr ? own.view().data : scratch,
               x.dtype,
               {chunk, features},
               contiguous_strides({chunk, features})};
  Selection<T> selection(n, c);
  for (std::int64_t begin = 0; begin < n; begin += chunk) {
    const View part = rows_of(h, 0, std::min(chunk, n - begin));
    affine(pool, rows_of(x, begin, part.shape[0]), transposed_matrix(w), bias, part);
    selection.add(pool, part, begin);
  }
  selection.finish(pool);
}

// ---- products with what is active -------------------------------------------------------------
// How many entries of each row are in use; throws for a feature that does not exist.
std::vector<std::int64_t> used(const Rowwise& index, std::int64_t features) {
  const std::int64_t n = index.view.shape[0], capacity = index.view.shape[1];
  std::vector<std::int64_t> count(static_cast<std::size_t>(n), 0);
  for (std::int64_t i = 0; i < n; ++i) {
    const auto* row = index.row<std::int32_t>(i);
    std::int64_t k = 0;
    for (; k < capacity && row[k] >= 0; ++k) {
      if (row[k] < features) continue;
      throw GraphError(fmt::format("feature {} of sample {} is out of range; expected 0 to {}",
                                   row[k], i, features - 1));
    }
    count[static_cast<std::size_t>(i)] = k;
  }
  return count;
}

std::int64_t sum_of(const std::vector<std::int64_t>& x) {
  std::int64_t sum = 0;
  for (const std::int64_t v : x) sum += v;
  return sum;
}

// Samples that one thread takes at a time, and features that are read together: both sides fit into
// the second-level cache. Where features are read less than twice by so many samples, nothing is
// gained by it.
constexpr std::int64_t kSamples = 128;
constexpr std::int64_t kCached = 512 * 1024;  // bytes
std::int64_t features_together(const std::vector<std::int64_t>& count, const View& w) {
  const std::int64_t features = std::max<std::int64_t>(1, w.shape[0]);
  const std::int64_t samples = std::max<std::int64_t>(1, static_cast<std::int64_t>(count.size()));
  if (sum_of(count) * std::min(kSamples, samples) / samples < 2 * features / 3) return features;
  return std::clamp<std::int64_t>(
      kCached / std::max<std::int64_t>(1, w.shape[1] * size_of(w.dtype)), 16, features);
}

// Calls f(sample, first entry, entries) for all entries of samples [begin, end), those of a group
// of features after those of the group before.
template <class F>
void by_groups(const Rowwise& index, const std::vector<std::int64_t>& count, std::int64_t begin,
               std::int64_t end, std::int64_t features, std::int64_t together, const F& f) {
  std::vector<std::int64_t> at(static_cast<std::size_t>(end - begin), 0);
  for (std::int64_t group = 0; group < features; group += together) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto* row = index.row<std::int32_t>(i);
      std::int64_t& from = at[static_cast<std::size_t>(i - begin)];
      std::int64_t to = from;
      if (together >= features) to = count[static_cast<std::size_t>(i)];
      else
        while (to < count[static_cast<std::size_t>(i)] && row[to] < group + together) ++to;
      if (to > from) f(i, from, to - from);
      from = to;
    }
  }
}

template <class T>
void sparse_linear_as(ThreadPool& pool, const View& x_given, const View& w_given,
                      const View& index_given, const View& out) {
  const Rowwise x(pool, x_given), w(pool, w_given), index(pool, index_given);
  const std::int64_t n = out.shape[0], capacity = out.shape[1], features = w_given.shape[0],
                     d = x_given.shape[1];
  const auto count = used(index, features);
  const std::int64_t together = features_together(count, w.view);
  const auto& simd = simd::attention<T>();
  pool.parallel_for((n + kSamples - 1) / kSamples, 1, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * kSamples, end = std::min(n, last * kSamples);
    for (std::int64_t i = begin; i < end; ++i)
      std::fill(out.as<T>() + i * capacity + count[static_cast<std::size_t>(i)],
                out.as<T>() + (i + 1) * capacity, T{0});
    by_groups(index, count, begin, end, features, together,
              [&](std::int64_t i, std::int64_t from, std::int64_t entries) {
                simd.scores(x.row<T>(i), w.row<T>(0), w.view.strides[0],
                            index.row<std::int32_t>(i) + from, entries, d, T{1},
                            out.as<T>() + i * capacity + from);
              });
  });
}

template <class T>
void sparse_mix_as(ThreadPool& pool, const View& z_given, const View& w_given,
                   const View& index_given, const View& out) {
  const Rowwise z(pool, z_given), w(pool, w_given), index(pool, index_given);
  const std::int64_t n = out.shape[0], features = w_given.shape[0], d = out.shape[1];
  const auto count = used(index, features);
  const std::int64_t together = features_together(count, w.view);
  const auto& simd = simd::attention<T>();
  pool.parallel_for((n + kSamples - 1) / kSamples, 1, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * kSamples, end = std::min(n, last * kSamples);
    std::fill(out.as<T>() + begin * d, out.as<T>() + end * d, T{0});
    by_groups(index, count, begin, end, features, together,
              [&](std::int64_t i, std::int64_t from, std::int64_t entries) {
                simd.mix_more(z.row<T>(i) + from, w.row<T>(0), w.view.strides[0],
                              index.row<std::int32_t>(i) + from, entries, d, out.as<T>() + i * d);
              });
  });
}

// Entries are sorted by feature, samples in order; then each feature is a mix of samples.
template <class T>
void sparse_outer_as(ThreadPool& pool, const View& z_given, const View& x_given,
                     const View& index_given, const View& out) {
  const Rowwise z(pool, z_given), x(pool, x_given), index(pool, index_given);
  const std::int64_t n = index_given.shape[0], features = out.shape[0], d = out.shape[1];
  const auto count = used(index, features);
  std::vector<std::int64_t> begin(static_cast<std::size_t>(features) + 1, 0);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < count[static_cast<std::size_t>(i)]; ++k)
      ++begin[static_cast<std::size_t>(index.row<std::int32_t>(i)[k]) + 1];
  }
  for (std::size_t j = 1; j < begin.size(); ++j) begin[j] += begin[j - 1];
  std::vector<T> weight(static_cast<std::size_t>(begin.back()));
  std::vector<std::int32_t> sample(weight.size());
  std::vector<std::int64_t> at(begin.begin(), begin.end() - 1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = 0; k < count[static_cast<std::size_t>(i)]; ++k) {
      const auto to =
          static_cast<std::size_t>(at[static_cast<std::size_t>(index.row<std::int32_t>(i)[k])]++);
      weight[to] = z.row<T>(i)[k];
      sample[to] = static_cast<std::int32_t>(i);
    }
  }
  const auto& simd = simd::attention<T>();
  // A group of features goes over the samples a block at a time, for the same reason as above.
  const std::int64_t per_feature =
      features == 0 ? 0 : static_cast<std::int64_t>(weight.size()) / features;
  const std::int64_t block =
      std::max<std::int64_t>(16, kCached / std::max<std::int64_t>(1, d * size_of(out.dtype)));
  const std::int64_t together = per_feature * block >= 2 * n ? block : n;
  constexpr std::int64_t kFeatures = 64;
  pool.parallel_for(
      (features + kFeatures - 1) / kFeatures, 1, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t group = first * kFeatures; group < last * kFeatures; group += kFeatures) {
          const std::int64_t end = std::min(features, group + kFeatures);
          std::fill(out.as<T>() + group * d, out.as<T>() + end * d, T{0});
          std::vector<std::int64_t> from(begin.begin() + group, begin.begin() + end);
          for (std::int64_t samples = 0; samples < n; samples += together) {
            for (std::int64_t j = group; j < end; ++j) {
              std::int64_t& i = from[static_cast<std::size_t>(j - group)];
              const std::int64_t all = begin[static_cast<std::size_t>(j) + 1];
              std::int64_t to = i;
              if (together >= n) to = all;
              else
                while (to < all && sample[static_cast<std::size_t>(to)] < samples + together) ++to;
              if (to > i) {
                simd.mix_more(weight.data() + i, x.row<T>(0), x.view.strides[0], sample.data() + i,
                              to - i, d, out.as<T>() + j * d);
              }
              i = to;
            }
          }
        }
      });
}

}  // namespace

void active_features(ThreadPool& pool, const View& h, const ActiveCall& c) {
  const Rowwise rows(pool, h);
  const auto run = [&]<class T>(T) {
    Selection<T> selection(h.shape[0], c);
    selection.add(pool, rows.view, 0);
    selection.finish(pool);
  };
  if (h.dtype == DType::f32) run(float{});
  else run(double{});
}

void top_mask(ThreadPool& pool, const View& x, std::int64_t k, const View& out) {
  const std::int64_t width = x.shape.empty() ? 1 : x.shape.back();
  if (out.numel() == 0) return;
  Tensor own;
  View in = x;
  if (!x.is_contiguous()) {
    own = Tensor::empty(x.shape, x.dtype);
    in = own.view();
    copy(pool, x, in);
  }
  const auto run = [&]<class T>(T) {
    const std::vector<T> scale(static_cast<std::size_t>(width), T{1}),
        bar(static_cast<std::size_t>(width), -std::numeric_limits<T>::infinity());
    pool.parallel_for(in.numel() / width, 4, [&](std::int64_t first, std::int64_t last) {
      Strongest<T> strongest(std::min(k, width));
      for (std::int64_t i = first; i < last; ++i) {
        auto* row = out.as<std::uint8_t>() + i * width;
        std::fill_n(row, width, std::uint8_t{0});
        strongest.find(in.as<const T>() + i * width, scale.data(), bar.data(), width);
        for (std::int64_t f = 0; f < strongest.count(); ++f) row[strongest.indices()[f]] = 1;
      }
    });
  };
  if (x.dtype == DType::f32) run(float{});
  else run(double{});
}

std::int64_t linear_active_scratch(std::int64_t n, std::int64_t features, DType dtype) {
  return chunk_rows(n, features) * features * size_of(dtype);
}
void linear_active(ThreadPool& pool, const View& x, const View& w, const View& bias,
                   const ActiveCall& c, std::byte* scratch) {
  if (x.dtype == DType::f32) linear_active_as<float>(pool, x, w, bias, c, scratch);
  else linear_active_as<double>(pool, x, w, bias, c, scratch);
}

void sparse_linear(ThreadPool& pool, const View& x, const View& w, const View& index,
                   const View& out) {
  if (x.dtype == DType::f32) sparse_linear_as<float>(pool, x, w, index, out);
  else sparse_linear_as<double>(pool, x, w, index, out);
}
void sparse_mix(ThreadPool& pool, const View& z, const View& w, const View& index,
                const View& out) {
  if (z.dtype == DType::f32) sparse_mix_as<float>(pool, z, w, index, out);
  else sparse_mix_as<double>(pool, z, w, index, out);
}
void sparse_outer(ThreadPool& pool, const View& z, const View& x, const View& index,
                  const View& out) {
  if (z.dtype == DType::f32) sparse_outer_as<float>(pool, z, x, index, out);
  else sparse_outer_as<double>(pool, z, x, index, out);
}

}  // namespace vitrine::kernels

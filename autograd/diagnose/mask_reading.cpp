#include "autograd/diagnose/mask_reading.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace vitrine {
namespace {

// Softmax underflows to 0 a hundred below the largest score; masks in use are -1e4 and lower, while
// biases by distance stay above this.
constexpr double kLow = -5000;

bool hidden(double x, HidesKey rule) {
  switch (rule) {
    case HidesKey::when_low:
      return x <= kLow;
    case HidesKey::when_high:
      return x >= -kLow;
    case HidesKey::when_false:
    case HidesKey::when_zero:
      return x == 0;
    case HidesKey::when_true:
      return x != 0;
  }
  return false;
}

// The keys that queries see in one head of one batch entry, [queries, keys].
struct Seen {
  std::int64_t queries, keys;
  std::vector<char> at;
  bool operator()(std::int64_t q, std::int64_t k) const {
    return at[static_cast<std::size_t>(q * keys + k)] != 0;
  }
  bool any(std::int64_t q) const {
    const auto row = at.begin() + q * keys;
    return std::any_of(row, row + keys, [](char c) { return c != 0; });
  }
};

void add(MaskReading& r, const Seen& seen, std::int64_t shift, bool first) {
  std::vector<bool> seen_key(static_cast<std::size_t>(seen.keys), false);
  std::int64_t behind = 0, ahead = -seen.queries;
  for (std::int64_t q = 0; q < seen.queries; ++q) {
    for (std::int64_t k = 0; k < seen.keys; ++k) {
      if (!seen(q, k)) continue;
      seen_key[static_cast<std::size_t>(k)] = true;
      behind = std::max(behind, q - k);
      ahead = std::max(ahead, k - q);
    }
  }
  r.ahead = first ? ahead : std::max(r.ahead, ahead);
  r.window = std::max(r.window, behind + 1);
  std::int64_t self_hidden = 0, empty = 0, empty_seen = 0;
  for (std::int64_t q = 0; q < seen.queries; ++q) {
    const std::int64_t own = q + shift;
    // A token that nobody sees is padding.
    const bool is_seen = own >= 0 && own < seen.keys && seen_key[static_cast<std::size_t>(own)];
    if (is_seen && !seen(q, own)) {
      if (r.first_self_hidden < 0) r.first_self_hidden = q;
      ++self_hidden;
    }
    if (!seen.any(q)) {
      if (r.first_empty < 0) r.first_empty = q;
      ++empty;
      if (is_seen) ++empty_seen;
    }
  }
  r.self_hidden = std::max(r.self_hidden, self_hidden);
  r.empty = std::max(r.empty, empty);
  r.empty_seen = std::max(r.empty_seen, empty_seen);
}

}  // namespace

MaskReading read_mask(const Tensor& mask, int rank, int query_axis, int key_axis, HidesKey rule,
                      std::int64_t shift) {
  MaskReading r;
  const int in_front = rank - mask.rank();
  const int q = query_axis - in_front, k = key_axis - in_front;
  if (q < 0 || k < 0 || mask.dim(q) <= 1 || mask.dim(k) <= 1) return r;  // of keys or queries alone
  Dims order;
  for (int a = 0; a < mask.rank(); ++a)
    if (a != q && a != k) order.push_back(a);
  order.push_back(q);
  order.push_back(k);
  const std::int64_t queries = mask.dim(q), keys = mask.dim(k);
  const std::vector<double> values = mask.permute(order).to_vector<double>();
  const std::int64_t slices = std::ssize(values) / (queries * keys);
  for (std::int64_t s = 0; s < slices; ++s) {
    Seen seen{queries, keys, std::vector<char>(static_cast<std::size_t>(queries * keys))};
    for (std::int64_t i = 0; i < queries * keys; ++i) {
      const double x = values[static_cast<std::size_t>(s * queries * keys + i)];
      const bool hides = hidden(x, rule);
      seen.at[static_cast<std::size_t>(i)] = hides ? 0 : 1;
      r.hides_any = r.hides_any || hides;
      r.finite = r.finite || (hides && std::isfinite(x) && rule != HidesKey::when_false &&
                              rule != HidesKey::when_true);
    }
    add(r, seen, shift, s == 0);
  }
  if (r.window >= queries) r.window = 0;
  return r;
}

}  // namespace vitrine

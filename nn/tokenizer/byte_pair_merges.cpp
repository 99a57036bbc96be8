#include "nn/tokenizer/byte_pair_merges.h"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>
#include <utility>

namespace vitrine::nn {
namespace {

// Up to this many tokens, scanning for the best pair beats keeping a heap.
constexpr std::size_t kShort = 64;

}  // namespace

MergeTable::MergeTable(std::vector<Merge> merges) : merges_(std::move(merges)) {
  slots_.assign(std::bit_ceil(2 * merges_.size() + 2), Slot{});
  shift_ = 64 - std::countr_zero(slots_.size());
  for (std::size_t i = 0; i < merges_.size(); ++i) {
    const std::uint64_t pair = pair_of(merges_[i].left, merges_[i].right);
    std::size_t slot = home_of(pair);
    while (slots_[slot].pair != kEmpty) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = {pair, static_cast<std::int32_t>(i)};
  }
}

std::int32_t MergeTable::rank(int left, int right) const {
  const std::uint64_t pair = pair_of(left, right);
  std::size_t slot = home_of(pair);
  while (slots_[slot].pair != pair && slots_[slot].pair != kEmpty) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slots_[slot].rank;  // kNoMerge in an empty slot
}

void MergeTable::apply(std::span<const int> tokens, std::vector<int>& out) const {
  if (tokens.size() <= kShort) {
    apply_to_short(tokens, out);
  } else {
    apply_to_long(tokens, out);
  }
}

void MergeTable::apply_to_short(std::span<const int> tokens, std::vector<int>& out) const {
  std::array<int, kShort> ids;
  std::array<std::int32_t, kShort> ranks;  // of the pair that begins here; the last begins none
  std::size_t n = tokens.size();
  if (n == 0) return;
  std::copy(tokens.begin(), tokens.end(), ids.begin());
  for (std::size_t i = 0; i + 1 < n; ++i) ranks[i] = rank(ids[i], ids[i + 1]);
  while (n > 1) {
    const auto best =
        std::min_element(ranks.begin(), ranks.begin() + (n - 1));  // leftmost of equals
    if (*best == kNoMerge) break;
    const std::size_t i = best - ranks.begin();
    ids[i] = merges_[*best].merged;
    std::copy(ids.begin() + i + 2, ids.begin() + n, ids.begin() + i + 1);
    std::copy(ranks.begin() + i + 1, ranks.begin() + (n - 1), ranks.begin() + i);
    --n;
    if (i > 0) ranks[i - 1] = rank(ids[i - 1], ids[i]);
    if (i + 1 < n) ranks[i] = rank(ids[i], ids[i + 1]);
  }
  out.insert(out.end(), ids.begin(), ids.begin() + n);
}

void MergeTable::apply_to_long(std::span<const int> tokens, std::vector<int>& out) const {
  // The tokens as a list linked by index: a merge keeps the left one and unlinks the right one.
  struct Link {
    int id;  // kGone once unlinked
    std::size_t previous;
    std::size_t next;
  };
  constexpr int kGone = -1;
  const std::size_t end = tokens.size();
  std::vector<Link> links(end);
  for (std::size_t i = 0; i < end; ++i) links[i] = {tokens[i], i == 0 ? end : i - 1, i + 1};

  // Pairs waiting to merge, best first. A pair whose tokens have merged elsewhere in the meantime
  // stays in the heap and is recognised when it comes up.
  struct WaitingPair {
    std::int32_t rank;
    std::size_t position;
    bool operator>(const WaitingPair& other) const {
      return std::pair(rank, position) > std::pair(other.rank, other.position);
    }
  };
  std::vector<WaitingPair> first;
  for (std::size_t i = 0; i + 1 < end; ++i) {
    if (const auto r = rank(tokens[i], tokens[i + 1]); r != kNoMerge) first.push_back({r, i});
  }
  std::priority_queue<WaitingPair, std::vector<WaitingPair>, std::greater<>> heap({},
                                                                                  std::move(first));
  const auto offer = [&](std::size_t left) {
    const std::size_t right = links[left].next;
    if (right == end) return;
    if (const auto r = rank(links[left].id, links[right].id); r != kNoMerge) heap.push({r, left});
  };

  while (!heap.empty()) {
    const WaitingPair best = heap.top();
    heap.pop();
    const Merge& merge = merges_[best.rank];
    Link& left = links[best.position];
    if (left.id != merge.left || left.next == end) continue;
    Link& right = links[left.next];
    if (right.id != merge.right) continue;

    left.id = merge.merged;
    right.id = kGone;
    left.next = right.next;
    if (left.next != end) links[left.next].previous = best.position;
    offer(best.position);
    if (left.previous != end) offer(left.previous);
  }
  for (std::size_t i = 0; i != end; i = links[i].next) out.push_back(links[i].id);
}

}  // namespace vitrine::nn

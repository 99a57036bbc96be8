// Byte-pair encoding: which neighbouring tokens merge, and the loop that merges them.
//
// A piece of text begins as one token per byte. Again and again the neighbouring pair that comes
// first in the list of merges (the one learnt first; the leftmost where it occurs twice) becomes
// one token, until no pair is in the list (Sennrich et al. 2016; on bytes, Radford et al. 2019).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vitrine::nn {

// "left right" of merges.txt, by id, and the id of the token that their bytes joined make.
struct Merge {
  int left;
  int right;
  int merged;
};

class MergeTable {
 public:
  MergeTable() = default;
  // The place of a merge in the list is its rank. Ids must not be negative; no pair occurs twice.
  explicit MergeTable(std::vector<Merge> merges);

  // Merges `tokens` as far as they go and appends the result to `out`. Takes O(n log n) time for a
  // piece of n bytes, so that a megabyte of one letter does not take forever.
  void apply(std::span<const int> tokens, std::vector<int>& out) const;

  const std::vector<Merge>& merges() const { return merges_; }

 private:
  static constexpr std::int32_t kNoMerge = INT32_MAX;  // ranks after every merge

  // A flat hash table with linear probing, at most half full.
  struct Slot {
    std::uint64_t pair = kEmpty;  // left id above, right id below
    std::int32_t rank = kNoMerge;
  };
  static constexpr std::uint64_t kEmpty = UINT64_MAX;
  static std::uint64_t pair_of(int left, int right) {
    return std::uint64_t(std::uint32_t(left)) << 32 | std::uint32_t(right);
  }
  std::size_t home_of(std::uint64_t pair) const { return pair * 0x9E3779B97F4A7C15u >> shift_; }
  std::int32_t rank(int left, int right) const;

  void apply_to_short(std::span<const int> tokens, std::vector<int>& out) const;
  void apply_to_long(std::span<const int> tokens, std::vector<int>& out) const;

  std::vector<Merge> merges_;               // by rank
  std::vector<Slot> slots_ = {Slot{}, {}};  // 2^k of them
  int shift_ = 63;                          // 64 - k: the hash is the top k bits of a product
};

}  // namespace vitrine::nn

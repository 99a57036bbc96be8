#include "tensor/layout.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <vector>

#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

// The buffer positions of all elements in row-major order: what a layout means.
std::vector<std::int64_t> positions(const Layout& layout) {
  std::vector<std::int64_t> out{layout.offset};
  for (int axis = 0; axis < layout.shape.size(); ++axis) {
    std::vector<std::int64_t> next;
    for (const std::int64_t base : out) {
      for (std::int64_t i = 0; i < layout.shape[axis]; ++i)
        next.push_back(base + i * layout.strides[axis]);
    }
    out = next;
  }
  return out;
}

constexpr std::int64_t kHuge = std::int64_t{1} << 62;

TEST(Dims, HoldsUpToEightValues) {
  Dims dims{1, 2, 3};
  EXPECT_EQ(dims.size(), 3);
  EXPECT_EQ(dims.back(), 3);
  dims.insert(0, 9);
  dims.insert(4, 8);
  EXPECT_EQ(dims, (Dims{9, 1, 2, 3, 8}));
  dims.insert(2, 7);
  EXPECT_EQ(dims, (Dims{9, 1, 7, 2, 3, 8}));
  dims.erase(0);
  dims.erase(4);
  EXPECT_EQ(dims, (Dims{1, 7, 2, 3}));
  EXPECT_EQ(to_string(dims), "[1, 7, 2, 3]");
  EXPECT_EQ(to_string(Dims{}), "[]");
  EXPECT_EQ(Dims::filled(3, 5), (Dims{5, 5, 5}));
  EXPECT_FALSE((Dims{1, 2} == Dims{1, 2, 3}));
  EXPECT_FALSE((Dims{1, 2} == Dims{1, 3}));
}

TEST(Dims, RefusesANinthValue) {
  EXPECT_ERROR(ShapeError, "at most 8", (Dims{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  Dims full{1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_ERROR(ShapeError, "at most 8 axes", full.push_back(9));
  EXPECT_ERROR(ShapeError, "at most 8 axes", full.insert(0, 9));
  EXPECT_EQ(full.size(), 8);
  EXPECT_ERROR(ShapeError, "at most 8 axes", Dims::filled(9, 1));
  EXPECT_ERROR(ShapeError, "cannot erase position 8", full.erase(8));
  Dims one{1};
  EXPECT_ERROR(ShapeError, "cannot insert at position 2", one.insert(2, 0));
}

TEST(Layout, CountsElements) {
  EXPECT_EQ(numel({}), 1);
  EXPECT_EQ(numel({2, 3, 4}), 24);
  EXPECT_EQ(numel({2, 0, 4}), 0);
  EXPECT_EQ(numel({kHuge, kHuge, 0}), 0);
  EXPECT_ERROR(ShapeError, "[4611686018427387904, 2]", numel({kHuge, 2}));
}

TEST(Layout, ContiguousStridesAreRowMajor) {
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Strides{12, 4, 1}));
  EXPECT_EQ(contiguous_strides({}), Strides{});
  EXPECT_EQ(contiguous_strides({2, 0, 4}), (Strides{4, 4, 1}));
  EXPECT_ERROR(ShapeError, "negative size", contiguous_strides({2, -1}));
  EXPECT_ERROR(ShapeError, "more elements than", contiguous_strides({kHuge, kHuge, 0}));
}

TEST(Layout, KnowsContiguity) {
  EXPECT_TRUE(Layout::contiguous({2, 3}).is_contiguous());
  EXPECT_TRUE(Layout::contiguous({}).is_contiguous());
  EXPECT_TRUE((Layout{{2, 1, 3}, {3, 77, 1}, 5}).is_contiguous()) << "axes of size 1 do not matter";
  EXPECT_TRUE((Layout{{2, 0, 3}, {1, 1, 1}, 0}).is_contiguous()) << "nothing has no gaps";
  EXPECT_FALSE((Layout{{2, 3}, {1, 2}, 0}).is_contiguous());
  EXPECT_FALSE((Layout{{2, 3}, {4, 1}, 0}).is_contiguous());
  EXPECT_FALSE((Layout{{2, 3}, {0, 1}, 0}).is_contiguous());
}

TEST(Layout, NormalisesAxes) {
  EXPECT_EQ(normalise_axis(-1, 3), 2);
  EXPECT_EQ(normalise_axis(-3, 3), 0);
  EXPECT_EQ(normalise_axis(2, 3), 2);
  EXPECT_ERROR(ShapeError, "axis 3 is out of range: a tensor of rank 3 has axes -3 to 2",
               normalise_axis(3, 3));
  EXPECT_ERROR(ShapeError, "axis -4", normalise_axis(-4, 3));
  EXPECT_ERROR(ShapeError, "scalar", normalise_axis(0, 0));
}

TEST(Layout, BroadcastsShapesLikeNumPy) {
  EXPECT_EQ(broadcast_shapes({2, 3}, {3}), (Shape{2, 3}));
  EXPECT_EQ(broadcast_shapes({3}, {2, 3}), (Shape{2, 3}));
  EXPECT_EQ(broadcast_shapes({2, 1, 4}, {3, 1}), (Shape{2, 3, 4}));
  EXPECT_EQ(broadcast_shapes({}, {5}), (Shape{5}));
  EXPECT_EQ(broadcast_shapes({}, {}), Shape{});
  EXPECT_EQ(broadcast_shapes({0}, {1}), (Shape{0}));
  EXPECT_EQ(broadcast_shapes({0}, {2}), std::nullopt);
  EXPECT_EQ(broadcast_shapes({2, 3}, {2}), std::nullopt);
}

TEST(Layout, BroadcastRepeatsElements) {
  const Layout row{{1, 3}, {3, 1}, 10};
  EXPECT_EQ(positions(broadcast_to(row, {2, 3})),
            (std::vector<std::int64_t>{10, 11, 12, 10, 11, 12}));
  EXPECT_EQ(positions(broadcast_to(row, {2, 1, 3})),
            (std::vector<std::int64_t>{10, 11, 12, 10, 11, 12}));
  EXPECT_EQ(positions(broadcast_to(Layout::contiguous({}), {3})),
            (std::vector<std::int64_t>{0, 0, 0}));
  EXPECT_EQ(broadcast_to(row, {0, 3}).shape, (Shape{0, 3}));
  EXPECT_ERROR(ShapeError, "cannot broadcast shape [1, 3] to [2, 4]", broadcast_to(row, {2, 4}));
  EXPECT_ERROR(ShapeError, "cannot broadcast", broadcast_to(row, {3}));
  EXPECT_ERROR(ShapeError, "negative size", broadcast_to(row, {-2, 3}));
  EXPECT_ERROR(ShapeError, "more elements than", broadcast_to(row, {kHuge, 3}));
}

TEST(Layout, PermutesAxes) {
  const Layout in = Layout::contiguous({2, 3, 4});
  const Layout out = permute(in, {2, 0, 1});
  EXPECT_EQ(out.shape, (Shape{4, 2, 3}));
  EXPECT_EQ(out.strides, (Strides{1, 12, 4}));
  EXPECT_EQ(permute(in, {-1, 0, -2}).strides, out.strides);
  EXPECT_ERROR(ShapeError, "exactly once", permute(in, {0, 1}));
  EXPECT_ERROR(ShapeError, "exactly once", permute(in, {0, 1, 1}));
  EXPECT_ERROR(ShapeError, "exactly once", permute(in, {0, 1, -2}));
  EXPECT_ERROR(ShapeError, "exactly once", permute(in, {0, 1, 3}));
}

TEST(Layout, SlicesWithSteps) {
  const Layout in = Layout::contiguous({2, 5});
  EXPECT_EQ(positions(slice(in, 1, 1, 5, 2)), (std::vector<std::int64_t>{1, 3, 6, 8}));
  EXPECT_EQ(positions(slice(in, -1, 0, 5, 2)), (std::vector<std::int64_t>{0, 2, 4, 5, 7, 9}));
  EXPECT_EQ(positions(slice(in, 0, 1, 2)), (std::vector<std::int64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(slice(in, 1, 5, 5).shape, (Shape{2, 0}));
  EXPECT_EQ(slice(in, 1, 5, 5).offset, 0) << "stays inside the buffer";
  const Layout one = slice(in, 1, 1, 5, std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(positions(one), (std::vector<std::int64_t>{1, 6}));
  EXPECT_ERROR(ShapeError, "0 <= start <= stop <= 5", slice(in, 1, 0, 6));
  EXPECT_ERROR(ShapeError, "0 <= start <= stop <= 5", slice(in, 1, 3, 2));
  EXPECT_ERROR(ShapeError, "0 <= start <= stop <= 5", slice(in, 1, -1, 2));
  EXPECT_ERROR(ShapeError, "step 0", slice(in, 1, 0, 2, 0));
  EXPECT_ERROR(ShapeError, "axis 2 is out of range", slice(in, 2, 0, 1));
}

TEST(Layout, ReshapesContiguous) {
  EXPECT_EQ(reshape(Layout::contiguous({2, 6}), {3, 4})->strides, (Strides{4, 1}));
  EXPECT_EQ(reshape(Layout::contiguous({1, 1}), {})->shape, Shape{});
  EXPECT_EQ(reshape(Layout::contiguous({}), {1, 1, 1})->shape, (Shape{1, 1, 1}));
  EXPECT_ERROR(ShapeError, "cannot reshape [2, 6] (12 elements) to [5] (5 elements)",
               reshape(Layout::contiguous({2, 6}), {5}));
  EXPECT_ERROR(ShapeError, "negative", reshape(Layout::contiguous({2, 6}), {-3, -4}));
}

TEST(Layout, ReshapesEmpty) {
  EXPECT_EQ(reshape(Layout::contiguous({0, 3}), {7, 0, 2})->shape, (Shape{7, 0, 2}));
  const Layout strided = permute(Layout::contiguous({4, 0, 3}), {2, 0, 1});
  EXPECT_EQ(reshape(strided, {0})->shape, (Shape{0}));
  EXPECT_ERROR(ShapeError, "cannot reshape [0, 3]", reshape(Layout::contiguous({0, 3}), {1}));
}

TEST(Layout, ReshapesNonContiguousWhereThatNeedsNoCopy) {
  const Layout columns = slice(Layout::contiguous({4, 6}), 1, 0, 3);     // rows of 3 with gaps of 3
  EXPECT_EQ(reshape(columns, {2, 2, 3})->strides, (Strides{12, 6, 1}));  // splits an axis
  EXPECT_EQ(reshape(columns, {2, 1, 2, 3, 1})->shape, (Shape{2, 1, 2, 3, 1}));
  EXPECT_FALSE(reshape(columns, {12}).has_value());  // cannot close the gaps
  EXPECT_FALSE(reshape(columns, {2, 6}).has_value());

  const Layout transposed =
      permute(Layout::contiguous({2, 3, 4}), {2, 0, 1});  // [4, 2, 3], strides 1 12 4
  EXPECT_EQ(reshape(transposed, {4, 6})->strides,
            (Strides{1, 4}));  // 12 = 3 * 4: those two still follow
  EXPECT_EQ(reshape(transposed, {2, 2, 6})->strides, (Strides{2, 1, 4}));
  EXPECT_FALSE(reshape(transposed, {8, 3}).has_value());
  EXPECT_FALSE(reshape(transposed, {24}).has_value());

  const Layout repeated = broadcast_to(Layout::contiguous({1, 3}), {4, 3});
  EXPECT_EQ(reshape(repeated, {2, 2, 3})->strides, (Strides{0, 0, 1}));
  EXPECT_FALSE(reshape(repeated, {12}).has_value());
}

// Every reshape of every permuted and sliced layout either keeps the order of positions or says
// that it cannot; and it only says so when no strides would do (checked for flattening: positions
// that are not evenly spaced).
TEST(Layout, ReshapeKeepsTheOrderOfElements) {
  const std::vector<Shape> targets{
      {24},      {2, 12},   {12, 2},      {3, 8},       {8, 3},  {4, 6},  {6, 4},
      {2, 3, 4}, {4, 3, 2}, {2, 2, 2, 3}, {3, 2, 2, 2}, {1, 24}, {24, 1}, {1, 2, 1, 3, 1, 4, 1}};
  const std::vector<Dims> orders{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  int views = 0, copies = 0;
  for (const Shape& base : {Shape{2, 3, 4}, Shape{2, 3, 8}, Shape{2, 6, 4}, Shape{4, 3, 4}}) {
    for (const Dims& order : orders) {
      Layout in = Layout::contiguous(base);
      if (base[2] == 8) in = slice(in, 2, 1, 8, 2);
      if (base[1] == 6) in = slice(in, 1, 3, 6);
      if (base[0] == 4) in = slice(in, 0, 0, 4, 2);
      in = permute(in, order);
      for (const Shape& target : targets) {
        const std::optional<Layout> out = reshape(in, target);
        const std::vector<std::int64_t> at = positions(in);
        if (out) {
          ++views;
          EXPECT_EQ(out->shape, target);
          EXPECT_EQ(positions(*out), at);
        } else {
          ++copies;
        }
        if (target.size() == 1) {
          bool even = true;
          for (std::size_t i = 2; i < at.size(); ++i)
            even = even && at[i] - at[i - 1] == at[1] - at[0];
          EXPECT_EQ(out.has_value(), even);
        }
      }
    }
  }
  EXPECT_GT(views, 50);
  EXPECT_GT(copies, 100);
}

}  // namespace
}  // namespace vitrine

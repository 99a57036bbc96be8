// Shapes and strides: which element of a buffer is element (i, j, ...) of a tensor. Pure index
// arithmetic, no storage.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

namespace vitrine {

inline constexpr int kMaxRank = 8;

// Up to kMaxRank integers, stored inline: a shape, strides (in elements), or a list of axes.
class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<std::int64_t> values)
      : Dims(std::span(values.begin(), values.size())) {}
  explicit Dims(std::span<const std::int64_t> values);  // throws ShapeError beyond kMaxRank
  static Dims filled(int rank, std::int64_t value);

  int size() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  std::int64_t operator[](int i) const { return values_[static_cast<std::size_t>(i)]; }
  std::int64_t& operator[](int i) { return values_[static_cast<std::size_t>(i)]; }
  std::int64_t back() const { return values_[static_cast<std::size_t>(rank_ - 1)]; }
  const std::int64_t* begin() const { return values_.data(); }
  const std::int64_t* end() const { return values_.data() + rank_; }
  void push_back(std::int64_t value);  // throws ShapeError beyond kMaxRank
  void insert(int at, std::int64_t value);
  void erase(int at);

  friend bool operator==(const Dims& a, const Dims& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  int rank_ = 0;
  std::array<std::int64_t, kMaxRank> values_{};
};

using Shape = Dims;
using Strides = Dims;

std::int64_t numel(const Shape& shape);          // 1 for a scalar, 0 when an axis is empty
std::string to_string(const Dims& dims);         // "[2, 3]"
Strides contiguous_strides(const Shape& shape);  // row-major

// Brings a negative axis (-1 is the last) into [0, rank). Throws ShapeError when it is out of
// range.
int normalise_axis(int axis, int rank);

// The common shape of a and b under NumPy broadcasting, or nothing when they do not fit.
std::optional<Shape> broadcast_shapes(const Shape& a, const Shape& b);

// Where a tensor's elements lie in its buffer: element (i, j, ...) is at offset + i*strides[0] +
// j*strides[1] + ...
struct Layout {
  Shape shape;
  Strides strides;
  std::int64_t offset = 0;  // in elements

  static Layout contiguous(const Shape& shape) { return {shape, contiguous_strides(shape), 0}; }
  bool is_contiguous() const;  // row-major without gaps (axes of size 1 do not matter)
};

// Views: none of them moves an element. All throw ShapeError on arguments that do not fit.
Layout permute(const Layout& in, const Dims& axes);  // out axis i is in axis axes[i]
Layout slice(const Layout& in, int axis, std::int64_t start, std::int64_t stop,
             std::int64_t step = 1);
Layout broadcast_to(const Layout& in, const Shape& shape);  // stride 0 along expanded axes
std::optional<Layout> reshape(const Layout& in,
                              const Shape& shape);  // nothing when a copy would be needed

}  // namespace vitrine

#include "tensor/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tensor/error.h"

namespace vitrine {
namespace {

std::int64_t checked_product(std::int64_t a, std::int64_t b, const Shape& shape) {
  std::int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) {
    throw ShapeError(fmt::format("shape {} has more elements than a 64-bit integer can count",
                                 to_string(shape)));
  }
  return product;
}

void check_sizes(const Shape& shape) {
  for (const std::int64_t size : shape) {
    if (size < 0) {
      throw ShapeError(
          fmt::format("shape {} has a negative size; sizes must be 0 or more", to_string(shape)));
    }
  }
}

void check_room(int rank) {
  if (rank >= kMaxRank) {
    throw ShapeError(
        fmt::format("a tensor can have at most {} axes, and one more was asked for", kMaxRank));
  }
}

}  // namespace

Dims::Dims(std::span<const std::int64_t> values) {
  if (values.size() > static_cast<std::size_t>(kMaxRank)) {
    throw ShapeError(fmt::format("{} axes [{}] are too many: a tensor can have at most {}",
                                 values.size(), fmt::join(values, ", "), kMaxRank));
  }
  rank_ = static_cast<int>(values.size());
  std::copy(values.begin(), values.end(), values_.begin());
}

Dims Dims::filled(int rank, std::int64_t value) {
  Dims dims;
  for (int i = 0; i < rank; ++i) dims.push_back(value);
  return dims;
}

void Dims::push_back(std::int64_t value) {
  check_room(rank_);
  values_[static_cast<std::size_t>(rank_++)] = value;
}

void Dims::insert(int at, std::int64_t value) {
  check_room(rank_);
  if (at < 0 || at > rank_) {
    throw ShapeError(fmt::format("cannot insert at position {} of {}: expected 0 to {}", at,
                                 to_string(*this), rank_));
  }
  std::copy_backward(values_.begin() + at, values_.begin() + rank_, values_.begin() + rank_ + 1);
  values_[static_cast<std::size_t>(at)] = value;
  ++rank_;
}

void Dims::erase(int at) {
  if (at < 0 || at >= rank_) {
    throw ShapeError(
        fmt::format("cannot erase position {} of {}, which has {}", at, to_string(*this), rank_));
  }
  std::copy(values_.begin() + at + 1, values_.begin() + rank_, values_.begin() + at);
  --rank_;
}

std::int64_t numel(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    if (size == 0) return 0;  // whatever the other sizes are
  }
  for (const std::int64_t size : shape) count = checked_product(count, size, shape);
  return count;
}

std::string to_string(const Dims& dims) {
  return fmt::format("[{}]", fmt::join(dims.begin(), dims.end(), ", "));
}

Strides contiguous_strides(const Shape& shape) {
  check_sizes(shape);
  Strides strides = Dims::filled(shape.size(), 1);
  std::int64_t step = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides[i] = step;
    step = checked_product(step, std::max<std::int64_t>(shape[i], 1), shape);
  }
  return strides;
}

int normalise_axis(int axis, int rank) {
  if (axis < -rank || axis >= rank) {
    if (rank == 0)
      throw ShapeError(fmt::format("axis {} was asked of a scalar, which has no axes", axis));
    throw ShapeError(fmt::format("axis {} is out of range: a tensor of rank {} has axes {} to {}",
                                 axis, rank, -rank, rank - 1));
  }
  return axis < 0 ? axis + rank : axis;
}

std::optional<Shape> broadcast_shapes(const Shape& a, const Shape& b) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  const int lead = longer.size() - shorter.size();  // axes align at the right
  Shape out = longer;
  for (int i = 0; i < shorter.size(); ++i) {
    std::int64_t& size = out[lead + i];
    if (size == 1) {
      size = shorter[i];
    } else if (shorter[i] != 1 && shorter[i] != size) {
      return std::nullopt;
    }
  }
  return out;
}

bool Layout::is_contiguous() const {
  std::int64_t expected = 1;
  bool gap = false;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] == 0) return true;  // no element, no gap
    if (shape[i] == 1) continue;
    gap = gap || strides[i] != expected;
    expected *= shape[i];
  }
  return !gap;
}

Layout permute(const Layout& in, const Dims& axes) {
  const int rank = in.shape.size();
  bool valid = axes.size() == rank;
  std::array<bool, kMaxRank> seen{};
  Layout out = in;
  for (int i = 0; valid && i < rank; ++i) {
    const std::int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
    valid = axis >= 0 && axis < rank && !seen[static_cast<std::size_t>(axis)];
    if (!valid) break;
    seen[static_cast<std::size_t>(axis)] = true;
    out.shape[i] = in.shape[static_cast<int>(axis)];
    out.strides[i] = in.strides[static_cast<int>(axis)];
  }
  if (!valid) {
    throw ShapeError(fmt::format(
        "cannot permute shape {} by axes {}: each of its {} axes must be named exactly once",
        to_string(in.shape), to_string(axes), rank));
  }
  return out;
}

Layout slice(const Layout& in, int axis, std::int64_t start, std::int64_t stop, std::int64_t step) {
  const int at = normalise_axis(axis, in.shape.size());
  const std::int64_t size = in.shape[at];
  if (step < 1) {
    throw ShapeError(
        fmt::format("cannot slice axis {} of shape {} with step {}: steps must be 1 or more", at,
                    to_string(in.shape), step));
  }
  if (start < 0 || stop < start || stop > size) {
    throw ShapeError(fmt::format(
        "cannot slice axis {} of shape {} from {} to {}: expected 0 <= start <= stop <= {}", at,
        to_string(in.shape), start, stop, size));
  }
  Layout out = in;
  out.shape[at] = stop == start ? 0 : (stop - start - 1) / step + 1;
  if (out.shape[at] == 0) return out;  // the offset stays inside the buffer
  out.offset += start * in.strides[at];
  if (out.shape[at] > 1)
    out.strides[at] *= step;  // a stride that is never taken need not grow (nor overflow)
  return out;
}

Layout broadcast_to(const Layout& in, const Shape& shape) {
  check_sizes(shape);
  const int lead = shape.size() - in.shape.size();
  bool fits = lead >= 0;
  for (int i = 0; fits && i < in.shape.size(); ++i) {
    fits = in.shape[i] == 1 || in.shape[i] == shape[lead + i];
  }
  if (!fits) {
    throw ShapeError(
        fmt::format("cannot broadcast shape {} to {}: aligned at the right, each size must be 1 or "
                    "already the one asked for",
                    to_string(in.shape), to_string(shape)));
  }
  numel(shape);  // throws when it overflows
  Layout out{shape, Dims::filled(shape.size(), 0), in.offset};
  for (int i = 0; i < in.shape.size(); ++i) {
    const bool expanded = in.shape[i] == 1 && shape[lead + i] != 1;
    out.strides[lead + i] = expanded ? 0 : in.strides[i];
  }
  return out;
}

std::optional<Layout> reshape(const Layout& in, const Shape& shape) {
  check_sizes(shape);
  if (numel(in.shape) != numel(shape)) {
    throw ShapeError(fmt::format("cannot reshape {} ({} elements) to {} ({} elements)",
                                 to_string(in.shape), numel(in.shape), to_string(shape),
                                 numel(shape)));
  }
  Layout out{shape, contiguous_strides(shape), in.offset};
  if (in.is_contiguous()) return out;

  // Axes of size 1 are never walked: leave them out. The rest of `in` and of `shape` is cut into
  // groups of equal product, from the left; a group can be relabelled when its input axes follow
  // each other without gaps.
  Dims from_size, from_stride;
  for (int i = 0; i < in.shape.size(); ++i) {
    if (in.shape[i] == 1) continue;
    from_size.push_back(in.shape[i]);
    from_stride.push_back(in.strides[i]);
  }
  int from = 0, to = 0;
  while (from < from_size.size()) {
    int from_end = from + 1, to_end = to + 1;
    std::int64_t from_count = from_size[from], to_count = shape[to];
    while (from_count != to_count) {
      if (from_count < to_count) {
        from_count *= from_size[from_end++];
      } else {
        to_count *= shape[to_end++];
      }
    }
    for (int i = from; i + 1 < from_end; ++i) {
      if (from_stride[i] != from_stride[i + 1] * from_size[i + 1]) return std::nullopt;
    }
    std::int64_t stride = from_stride[from_end - 1];
    for (int i = to_end - 1; i >= to; --i) {
      out.strides[i] = stride;
      stride *= shape[i];
    }
    from = from_end;
    to = to_end;
  }
  for (int i = to; i < shape.size(); ++i) out.strides[i] = 1;  // trailing axes of size 1
  return out;
}

}  // namespace vitrine

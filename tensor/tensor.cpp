#include "tensor/tensor.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/blocks.h"
#include "tensor/convert.h"
#include "tensor/error.h"
#include "tensor/memory.h"

namespace vitrine {
namespace {

[[noreturn]] void throw_undefined(std::string_view what) {
  throw ShapeError(fmt::format(
      "{} was asked of an undefined tensor; make it with empty, zeros, of or wrap first", what));
}

std::int64_t checked_bytes(const Shape& shape, DType dtype) {
  const Block block = block_of(dtype);
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(numel(shape) / block.elements, block.bytes, &bytes)) {
    throw ShapeError(fmt::format("a tensor {}{} has more bytes than a 64-bit integer can count",
                                 name_of(dtype), to_string(shape)));
  }
  return bytes;
}

std::shared_ptr<void> allocate(std::int64_t bytes, const Shape& shape, DType dtype) {
  Memory memory = allocate_memory(bytes);
  if (memory == nullptr) {
    throw Error(
        ErrorKind::runtime,
        fmt::format("out of memory: a tensor {}{} needs {} bytes; use a smaller batch or model",
                    name_of(dtype), to_string(shape), bytes));
  }
  return memory;
}

// Replaces the one -1 of a requested shape by the size that makes the counts equal.
Shape complete(const Shape& wanted, const Shape& from) {
  int open = -1;
  std::int64_t known = 1;
  for (int i = 0; i < wanted.size(); ++i) {
    if (wanted[i] != -1) {
      if (__builtin_mul_overflow(known, wanted[i], &known)) known = -1;
    } else if (open >= 0) {
      throw ShapeError(
          fmt::format("cannot reshape to {}: at most one size may be -1", to_string(wanted)));
    } else {
      open = i;
    }
  }
  if (open < 0) return wanted;
  if (known <= 0 || numel(from) % known != 0) {
    throw ShapeError(
        fmt::format("cannot reshape {} ({} elements) to {}: no size in place of -1 fits",
                    to_string(from), numel(from), to_string(wanted)));
  }
  Shape shape = wanted;
  shape[open] = numel(from) / known;
  return shape;
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype) {
  Tensor out;
  out.layout_ = Layout::contiguous(shape);  // throws on negative and on uncountable sizes
  check_blocks(out.layout_, dtype);
  out.dtype_ = dtype;
  out.storage_ = allocate(checked_bytes(shape, dtype), shape, dtype);
  out.data_ = static_cast<std::byte*>(out.storage_.get());
  return out;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype) {
  Tensor out = empty(shape, dtype);
  std::memset(out.data_, 0,
              static_cast<std::size_t>(out.bytes()));  // zero is all bits 0 in every dtype
  return out;
}

Tensor Tensor::full(const Shape& shape, DType dtype, double value) {
  Tensor out = empty(shape, dtype);
  dispatch(dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    std::fill_n(reinterpret_cast<T*>(out.data_), out.numel(), convert<T>(value));
  });
  return out;
}

template <class T>
Tensor Tensor::of(const Shape& shape, const std::vector<T>& values) {
  const Layout layout = Layout::contiguous(shape);
  const std::int64_t count = vitrine::numel(shape);
  if (count != static_cast<std::int64_t>(values.size())) {
    throw ShapeError(fmt::format("{} values were given for a tensor {}{}, which has {}",
                                 values.size(), name_of(dtype_of<T>),
                                 vitrine::to_string(layout.shape), count));
  }
  Tensor out = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(out.data_));
  return out;
}

Tensor Tensor::wrap(std::shared_ptr<const void> owner, const std::byte* data, const Shape& shape,
                    DType dtype) {
  Tensor out;
  out.layout_ = Layout::contiguous(shape);
  check_blocks(out.layout_, dtype);
  out.dtype_ = dtype;
  const std::int64_t bytes = checked_bytes(shape, dtype);
  if (data == nullptr) {
    if (bytes != 0) {
      throw ShapeError(fmt::format("a tensor {}{} cannot lie at a null pointer", name_of(dtype),
                                   vitrine::to_string(shape)));
    }
    return empty(shape, dtype);
  }
  const std::int64_t alignment = is_blocked(dtype) ? 1 : size_of(dtype);
  if (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(alignment) != 0) {
    throw ShapeError(fmt::format(
        "memory for a tensor {}{} must be aligned to {} bytes; copy it into Tensor::empty instead",
        name_of(dtype), vitrine::to_string(shape), alignment));
  }
  out.data_ = const_cast<std::byte*>(data);
  // Shares the owner's count but points at this tensor, so that two tensors of one file do not
  // count as one storage.
  out.storage_ = std::shared_ptr<void>(std::const_pointer_cast<void>(std::move(owner)), out.data_);
  return out;
}

std::int64_t Tensor::dim(int axis) const { return layout_.shape[normalise_axis(axis, rank())]; }

template <class T>
T* Tensor::data() const {
  if (!defined()) throw_undefined("data");
  if (dtype_ != dtype_of<T>) {
    throw ShapeError(
        fmt::format("this tensor holds {} but was read as {}; convert it with to() first",
                    name_of(dtype_), name_of(dtype_of<T>)));
  }
  return reinterpret_cast<T*>(data_) + layout_.offset;
}

template <class T>
T Tensor::at(const Dims& index) const {
  const T* first = data<T>();
  bool inside = index.size() == rank();
  std::int64_t position = 0;
  for (int i = 0; inside && i < rank(); ++i) {
    inside = index[i] >= 0 && index[i] < layout_.shape[i];
    if (inside) position += index[i] * layout_.strides[i];
  }
  if (!inside) {
    throw ShapeError(fmt::format("index {} is out of range for shape {}", vitrine::to_string(index),
                                 vitrine::to_string(layout_.shape)));
  }
  return first[position];
}

template <class T>
T Tensor::item() const {
  if (!defined()) throw_undefined("item");
  if (numel() != 1) {
    throw ShapeError(fmt::format("item() needs a tensor of one element, and this one is {}{}",
                                 name_of(dtype_), vitrine::to_string(layout_.shape)));
  }
  return dispatch(dtype_, [&](auto type) {
    using From = typename decltype(type)::type;
    return convert<T>(*data<From>());
  });
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  const Tensor copy = to(dtype_of<T>).contiguous();
  const T* first = copy.data<T>();
  return std::vector<T>(first, first + copy.numel());
}

View Tensor::view() const {
  if (!defined()) throw_undefined("view");
  return {data_ + bytes_of(dtype_, layout_.offset), dtype_, layout_.shape, layout_.strides};
}

Tensor Tensor::as_read_only() const {
  Tensor out = *this;
  out.read_only_ = true;
  return out;
}

Tensor Tensor::with_layout(const Layout& layout) const {
  if (!defined()) throw_undefined("a view");
  check_blocks(layout, dtype_);
  Tensor out = *this;
  out.layout_ = layout;
  return out;
}

Tensor Tensor::reshape(const Shape& shape) const {
  const Shape wanted = complete(shape, layout_.shape);
  const std::optional<Layout> layout = vitrine::reshape(layout_, wanted);
  if (layout) return with_layout(*layout);
  return clone().with_layout(Layout::contiguous(wanted));
}

Tensor Tensor::permute(const Dims& axes) const {
  return with_layout(vitrine::permute(layout_, axes));
}

Tensor Tensor::transpose(int a, int b) const {
  a = normalise_axis(a, rank());
  b = normalise_axis(b, rank());
  Layout layout = layout_;
  std::swap(layout.shape[a], layout.shape[b]);
  std::swap(layout.strides[a], layout.strides[b]);
  return with_layout(layout);
}

Tensor Tensor::slice(int axis, std::int64_t start, std::int64_t stop, std::int64_t step) const {
  return with_layout(vitrine::slice(layout_, axis, start, stop, step));
}

Tensor Tensor::select(int axis, std::int64_t index) const {
  const int at = normalise_axis(axis, rank());
  if (index < 0 || index >= layout_.shape[at]) {
    throw ShapeError(
        fmt::format("cannot select {} on axis {} of shape {}: expected 0 <= index < {}", index, at,
                    vitrine::to_string(layout_.shape), layout_.shape[at]));
  }
  Layout layout = layout_;
  layout.offset += index * layout.strides[at];
  layout.shape.erase(at);
  layout.strides.erase(at);
  return with_layout(layout);
}

Tensor Tensor::broadcast_to(const Shape& shape) const {
  return with_layout(vitrine::broadcast_to(layout_, shape));
}

Tensor Tensor::unsqueeze(int axis) const {
  const int at = normalise_axis(axis, rank() + 1);
  Layout layout = layout_;
  layout.shape.insert(at, 1);
  layout.strides.insert(at, at < rank() ? layout_.shape[at] * layout_.strides[at] : 1);
  return with_layout(layout);
}

Tensor Tensor::contiguous() const {
  if (!defined()) throw_undefined("contiguous");
  return is_contiguous() ? *this : clone();
}

Tensor Tensor::clone() const {
  if (!defined()) throw_undefined("clone");
  Tensor out = empty(layout_.shape, dtype_);
  convert(view(), out.view());
  return out;
}

Tensor Tensor::to(DType dtype) const {
  if (!defined()) throw_undefined("to");
  if (dtype == dtype_) return *this;
  Tensor out = empty(layout_.shape, dtype);
  convert(view(), out.view());
  return out;
}

double max_abs_difference(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape())) {
    throw ShapeError(fmt::format("cannot compare shapes {} and {}: they must be equal",
                                 to_string(a.shape()), to_string(b.shape())));
  }
  const Tensor left = a.to(DType::f64).contiguous();
  const Tensor right = b.to(DType::f64).contiguous();
  const double* x = left.data<double>();
  const double* y = right.data<double>();
  double largest = 0;
  for (std::int64_t i = 0; i < left.numel(); ++i) {
    if (std::isnan(x[i]) || std::isnan(y[i])) return std::numeric_limits<double>::infinity();
    if (x[i] != y[i])
      largest = std::max(largest, std::abs(x[i] - y[i]));  // equal infinities would give NaN
  }
  return largest;
}

double max_abs(const Tensor& a) {
  const Tensor values = a.to(DType::f64).contiguous();
  const double* x = values.data<double>();
  double largest = 0;
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    if (std::isfinite(x[i])) largest = std::max(largest, std::abs(x[i]));
  }
  return largest;
}

bool has_nan(const Tensor& a) {
  if (!is_float(a.dtype())) return false;
  const Tensor values = is_blocked(a.dtype()) ? a.to(DType::f32) : a.contiguous();
  return dispatch(values.dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T* x = values.data<T>();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      if (std::isnan(convert<double>(x[i]))) return true;
    }
    return false;
  });
}

bool all_finite(const Tensor& a) {
  if (!is_float(a.dtype())) return true;
  const Tensor values = a.contiguous();
  if (is_blocked(a.dtype()))
    return blocks_are_finite(a.dtype(), values.view().data, values.numel());
  if (values.dtype() ==
      DType::f32) {  // weights, of which there are many: their exponents' bits, without a branch
    const float* x = values.data<float>();
    std::uint32_t any = 0;
    for (std::int64_t i = 0; i < values.numel(); ++i)
      any |= (std::bit_cast<std::uint32_t>(x[i]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
    return any == 0;
  }
  return dispatch(values.dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    const T* x = values.data<T>();
    for (std::int64_t i = 0; i < values.numel(); ++i) {
      if (!std::isfinite(convert<double>(x[i]))) return false;
    }
    return true;
  });
}

#define VITRINE_INSTANTIATE(T)                                        \
  template Tensor Tensor::of<T>(const Shape&, const std::vector<T>&); \
  template T* Tensor::data<T>() const;                                \
  template T Tensor::at<T>(const Dims&) const;                        \
  template T Tensor::item<T>() const;                                 \
  template std::vector<T> Tensor::to_vector<T>() const;
VITRINE_INSTANTIATE(float)
VITRINE_INSTANTIATE(double)
VITRINE_INSTANTIATE(Half)
VITRINE_INSTANTIATE(BFloat16)
VITRINE_INSTANTIATE(std::int32_t)
VITRINE_INSTANTIATE(std::int64_t)
VITRINE_INSTANTIATE(bool)
#undef VITRINE_INSTANTIATE

}  // namespace vitrine

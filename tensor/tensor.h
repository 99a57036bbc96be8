// Tensor: shared storage seen through a layout. View: the same without ownership, which is what
// kernels take.
//
//   Tensor x = Tensor::of({2, 3}, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f});
//   Tensor t = x.permute({1, 0});                  // [3, 2], the same six floats
//   t.at<float>({2, 1});                           // 6
//   t.is_contiguous();                             // false; t.contiguous() copies
//
// A tensor of a blocked type (q4_k, ...) holds whole blocks along one axis, whose stride is 1: the
// last one when it is made. Its views move whole blocks: what would cut one throws ShapeError.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/layout.h"

namespace vitrine {

// A non-owning window on elements. `data` already includes the layout's offset.
struct View {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  Strides strides;  // in elements

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }  // unchecked: kernels dispatch on dtype first
  int rank() const { return shape.size(); }
  std::int64_t numel() const { return vitrine::numel(shape); }
  bool is_contiguous() const { return Layout{shape, strides, 0}.is_contiguous(); }
};

class Tensor {
 public:
  Tensor() = default;  // undefined: defined() is false

  // Fresh storage, 64-byte aligned.
  static Tensor empty(const Shape& shape, DType dtype);
  static Tensor zeros(const Shape& shape, DType dtype);
  static Tensor full(const Shape& shape, DType dtype, double value);
  template <class T>
  static Tensor of(const Shape& shape,
                   const std::vector<T>& values);  // throws ShapeError on a count that differs
  template <class T>
  static Tensor of(const Shape& shape,
                   std::initializer_list<T> values) {  // so that {1.f, 2.f} deduces T
    return of<T>(shape, std::vector<T>(values));
  }
  template <class T>
  static Tensor scalar(T value) {
    return of<T>({}, std::vector<T>{value});
  }
  // Memory owned by somebody else: `owner` keeps it alive. It is aligned to the size of an element;
  // blocks need no alignment.
  static Tensor wrap(std::shared_ptr<const void> owner, const std::byte* data, const Shape& shape,
                     DType dtype);
  // The same elements, marked as read-only memory (a mapped file). Views of it are marked too,
  // copies are not. A plan refuses to update such a tensor.
  Tensor as_read_only() const;
  bool is_read_only() const { return read_only_; }

  bool defined() const { return data_ != nullptr || storage_ != nullptr; }
  const Shape& shape() const { return layout_.shape; }
  const Strides& strides() const { return layout_.strides; }
  int rank() const { return layout_.shape.size(); }
  std::int64_t dim(int axis) const;  // negative axes count from the end
  std::int64_t numel() const { return vitrine::numel(layout_.shape); }
  std::int64_t bytes() const { return bytes_of(dtype_, numel()); }
  DType dtype() const { return dtype_; }
  bool is_contiguous() const { return layout_.is_contiguous(); }
  bool shares_storage_with(const Tensor& other) const { return storage_ == other.storage_; }

  // Pointer to element 0. Throws ShapeError when T is not the dtype. Beyond element 0, mind the
  // strides. What is_read_only() may be read through it, not written.
  template <class T>
  T* data() const;
  template <class T>
  T at(const Dims& index) const;  // throws ShapeError out of range
  template <class T>
  T item() const;  // the one element of a tensor with numel() == 1; converts
  template <class T>
  std::vector<T> to_vector() const;  // row-major copy, converted to T
  View view() const;

  // Views over the same storage.
  Tensor reshape(
      const Shape& shape) const;  // one axis may be -1; copies only when strides force it
  Tensor permute(const Dims& axes) const;
  Tensor transpose(int a, int b) const;
  Tensor slice(int axis, std::int64_t start, std::int64_t stop, std::int64_t step = 1) const;
  Tensor select(int axis, std::int64_t index) const;  // drops the axis
  Tensor broadcast_to(const Shape& shape) const;
  Tensor unsqueeze(int axis) const;
  Tensor with_layout(
      const Layout& layout) const;  // the same storage through another layout, offset absolute

  // Copies.
  Tensor contiguous() const;     // itself when it already is
  Tensor clone() const;          // always fresh and contiguous
  Tensor to(DType dtype) const;  // itself when nothing changes; nothing becomes a blocked type

  // "f32[2, 3] [[1, 2, 3], [4, 5, 6]]", long axes shortened with an ellipsis.
  std::string to_string() const;

 private:
  std::shared_ptr<void> storage_;
  std::byte* data_ = nullptr;  // start of the storage; layout_.offset is relative to it
  DType dtype_ = DType::f32;
  bool read_only_ = false;
  Layout layout_;
};

// max |a - b| over equal shapes, computed in f64; equal infinities differ by 0, NaN on either side
// gives infinity.
double max_abs_difference(const Tensor& a, const Tensor& b);
double max_abs(const Tensor& a);  // infinities are left out; 0 when empty
bool has_nan(const Tensor& a);
bool all_finite(const Tensor& a);  // no NaN, no infinity

}  // namespace vitrine

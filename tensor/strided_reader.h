// Reads a tensor of any strides as the flat, row-major sequence of its elements, in contiguous
// pieces: kernels then only know contiguous spans. Pieces that lie contiguous in memory are not
// copied.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

// Elements that a kernel handles at a time: small enough for the first-level cache, large enough to
// hide the calls.
inline constexpr std::int64_t kReadBlock = 1024;

template <class T>
class StridedReader {
 public:
  explicit StridedReader(const View& view) : data_(view.as<const T>()) {
    // Axes of size 1 say nothing; neighbours whose strides continue each other are one axis.
    for (int axis = 0; axis < view.rank(); ++axis) {
      const std::int64_t size = view.shape[axis], stride = view.strides[axis];
      if (size == 1) continue;
      const int last = shape_.size() - 1;
      if (last >= 0 && strides_[last] == stride * size) {
        shape_[last] *= size;
        strides_[last] = stride;
      } else {
        shape_.push_back(size);
        strides_.push_back(stride);
      }
    }
    if (shape_.empty()) {
      shape_.push_back(1);
      strides_.push_back(1);
    }
  }

  // Elements [begin, begin + count) of the sequence: a pointer into the tensor when they are
  // contiguous there, otherwise `buffer` (room for `count`) after filling it.
  const T* read(std::int64_t begin, std::int64_t count, T* buffer) const {
    if (shape_.size() == 1 && strides_[0] == 1) return data_ + begin;
    const std::int64_t inner = shape_.back(), stride = strides_.back();
    std::int64_t at = inner == 0 ? 0 : begin % inner;
    Dims index;
    const T* row = locate(inner == 0 ? 0 : begin / inner, &index);
    if (stride == 1 && at + count <= inner) return row + at;
    for (std::int64_t done = 0; done < count;) {
      const std::int64_t run = std::min(inner - at, count - done);
      const T* from = row + at * stride;
      T* to = buffer + done;
      if (stride == 1) {
        std::copy_n(from, run, to);
      } else if (stride == 0) {
        std::fill_n(to, run, *from);
      } else {
        for (std::int64_t i = 0; i < run; ++i) to[i] = from[i * stride];
      }
      done += run;
      at = 0;
      row = next(row, &index);
    }
    return buffer;
  }

  // Calls f(pointer, count) on consecutive pieces of [begin, end), each at most kReadBlock long
  // unless it is contiguous.
  template <class F>
  void visit(std::int64_t begin, std::int64_t end, const F& f) const {
    const std::int64_t inner = shape_.back();
    T buffer[kReadBlock];
    while (begin < end) {
      std::int64_t count = std::min(kReadBlock, end - begin);
      if (strides_.back() == 1) {  // to the end of the contiguous run, unless that is short
        const std::int64_t run = std::min(inner - begin % inner, end - begin);
        if (2 * run > kReadBlock) count = run;
      }
      f(read(begin, count, buffer), count);
      begin += count;
    }
  }

 private:
  // The start of inner row `row`, and its index along the outer axes.
  const T* locate(std::int64_t row, Dims* index) const {
    *index = Dims::filled(shape_.size() - 1, 0);
    const T* at = data_;
    for (int axis = shape_.size() - 2; axis >= 0; --axis) {
      (*index)[axis] = row % shape_[axis];
      row /= shape_[axis];
      at += (*index)[axis] * strides_[axis];
    }
    return at;
  }
  const T* next(const T* row, Dims* index) const {
    for (int axis = shape_.size() - 2; axis >= 0; --axis) {
      row += strides_[axis];
      if (++(*index)[axis] < shape_[axis]) return row;
      row -= strides_[axis] * shape_[axis];
      (*index)[axis] = 0;
    }
    return row;
  }

  const T* data_;
  Shape shape_;
  Strides strides_;
};

}  // namespace vitrine

// Submatrix and transpose views: parts of a matrix without a copy.
#pragma once

#include <cstdint>

#include "tensor/tensor.h"

namespace vitrine {

// Rows [begin, begin + count) of [rows, ...].
inline View rows_of(const View& x, std::int64_t begin, std::int64_t count) {
  View part = x;
  part.data += bytes_of(x.dtype, begin * x.strides[0]);
  part.shape[0] = count;
  return part;
}

// [m, n] as [n, m]
inline View transposed_matrix(const View& x) {
  return {x.data, x.dtype, {x.shape[1], x.shape[0]}, {x.strides[1], x.strides[0]}};
}

}  // namespace vitrine

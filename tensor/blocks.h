// GGUF's block-quantised types: neighbours along one axis share a scale d, and perhaps a minimum m,
// and each is a small integer q. An element is d * q (+ m) (the K types: d * scale * q - dmin * min,
// scale and min of a part of the block). Types and layouts are llama.cpp's, ggml-common.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/tensor.h"

namespace vitrine {

// to[0 .. n) = the elements stored at `from`, which needs no alignment. Takes f16, bf16, f32 and the
// blocked types, there n is a multiple of the block; throws ShapeError for others. Every step but
// the last addition is exact in f32, so no order of computation gives other bits.
void widen(DType dtype, const std::byte* from, float* to, std::int64_t n);

// Whether every scale and minimum of the n elements (whole blocks) is finite, and so each of them.
bool blocks_are_finite(DType dtype, const std::byte* from, std::int64_t n);

// The axis along which the blocks of a view lie: stride 1, and whole blocks long. -1 when each axis
// has at most one element.
int block_axis(const Layout& layout, DType dtype);

// Throws ShapeError when the layout cuts a block of a blocked type: one axis has stride 1 and whole
// blocks, all other strides and the offset are whole blocks too. Axes of one element do not count.
void check_blocks(const Layout& layout, DType dtype);

// convert() of convert.h, where one of the two is blocked.
void convert_blocks(const View& from, const View& to);

}  // namespace vitrine

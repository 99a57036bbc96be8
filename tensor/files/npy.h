// NumPy's .npy files (format versions 1 to 3), and archives of them, .npz, so that results open
// anywhere.
#pragma once

#include <filesystem>

#include "tensor/files/safetensors.h"
#include "tensor/tensor.h"

namespace vitrine {

// Reads little-endian f4, f8, f2, i4, i8 and bool, in C or Fortran order. Throws FileError on
// anything else.
Tensor load_npy(const std::filesystem::path& file);

// Writes version 1.0, C order, atomically. bf16 has no NumPy name and is written as f32. Throws
// SaveError.
void save_npy(const std::filesystem::path& file, const Tensor& tensor);

// Writes what numpy.savez writes: a zip archive with NAME.npy for each tensor, stored as they are,
// atomically. Throws SaveError, too, for a name that is there twice, and for more than 4 GB, for
// which there are safetensors.
void save_npz(const std::filesystem::path& file, const NamedTensors& tensors);

}  // namespace vitrine

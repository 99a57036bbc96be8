// The GEMM backend: Vitrine's own loops, or OpenBLAS.
//
// The environment variable VITRINE_GEMM chooses it, `own` or `openblas`. Own loops are the default:
// they are what `simd/` has kernels for, and their bits depend on no number of threads. OpenBLAS is
// what they are tested against, and the way out on a CPU for which nobody tuned them.
#pragma once

#include <string_view>

namespace vitrine {

enum class GemmProvider { own, openblas };
std::string_view name_of(GemmProvider provider);  // as in VITRINE_GEMM

// Reads VITRINE_GEMM when first called; returns the same from then on. Throws an Error of the kind
// `usage`, which names both, for anything else.
GemmProvider gemm_provider();
// A value of VITRINE_GEMM; "" is the default.
GemmProvider parse_gemm_provider(std::string_view value);

}  // namespace vitrine

# vitrine_highway_targets(TARGET): which CPU targets Highway does not compile TARGET's loops for.
#
# SSSE3: CPUs with it and without SSE4.1 are those of 2006 to 2008; they get the baseline. AVX3_DL, AVX3_ZEN4, AVX3_SPR and
# AVX10_2: what they add to AVX3 (AVX-512) are integers, bytes, half floats; loops over f32 and f64 come out the same.
# SVE of all lengths: our loops hold vectors in arrays, which its vectors without a size do not allow; those CPUs run NEON.
function(vitrine_highway_targets target)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES hwy::hwy)
  set(disabled "")
  foreach(name HWY_SSSE3 HWY_AVX3_DL HWY_AVX3_ZEN4 HWY_AVX3_SPR HWY_AVX10_2 HWY_SVE HWY_SVE2 HWY_SVE_256 HWY_SVE2_128)
    check_cxx_source_compiles("
      #include <hwy/detect_targets.h>
      #ifndef ${name}
      #error
      #endif
      int main() {}" VITRINE_KNOWS_${name})  # not every release knows all
    if(VITRINE_KNOWS_${name})
      list(APPEND disabled ${name})
    endif()
  endforeach()
  list(JOIN disabled "|" disabled)
  target_compile_definitions(${target} PRIVATE "HWY_DISABLED_TARGETS=(${disabled})")
endfunction()

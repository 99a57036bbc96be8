# Finds OpenBLAS with LAPACK and gives the target vitrine::openblas: for the build, and, installed beside
# vitrineConfig.cmake, for those who link the package. Debian's libopenblas-dev and libopenblas64-dev are found by
# themselves; for one that lies elsewhere (the wheel scipy-openblas32, say) name its folder in CMAKE_PREFIX_PATH.
if(NOT TARGET vitrine::openblas)
  find_package(PkgConfig QUIET)
  if(PKG_CONFIG_FOUND AND NOT CMAKE_CROSSCOMPILING)
    pkg_search_module(VITRINE_OPENBLAS_PC QUIET openblas openblas64 scipy-openblas)
  endif()
  find_library(VITRINE_OPENBLAS_LIBRARY NAMES openblas openblas64 scipy_openblas scipy_openblas64_ NAMES_PER_DIR
               HINTS ${VITRINE_OPENBLAS_PC_LIBRARY_DIRS} ${VITRINE_OPENBLAS_PC_LIBDIR})
  mark_as_advanced(VITRINE_OPENBLAS_LIBRARY)
  if(VITRINE_OPENBLAS_LIBRARY)
    add_library(vitrine::openblas UNKNOWN IMPORTED)
    set_target_properties(vitrine::openblas PROPERTIES IMPORTED_LOCATION ${VITRINE_OPENBLAS_LIBRARY}
                                                       INTERFACE_LINK_LIBRARIES Threads::Threads)
  endif()
endif()

# vitrine_openblas_names(TARGET): how this OpenBLAS spells its functions, as definitions for those who call it
# (tensor/openblas.h). dgesdd is dgesdd_ in most, scipy_dgesdd_ in the wheels, dgesdd_64_ where integers have 64 bits.
function(vitrine_openblas_names target)
  include(CheckCXXSourceCompiles)
  set(CMAKE_REQUIRED_LIBRARIES vitrine::openblas)
  foreach(prefix "" scipy_)
    foreach(suffix "" 64_)
      check_cxx_source_compiles("
        extern \"C\" void ${prefix}sgemm_${suffix}();
        extern \"C\" void ${prefix}dgesdd_${suffix}();
        extern \"C\" char* ${prefix}openblas_get_config${suffix}();
        int main() {
          ${prefix}sgemm_${suffix}();
          ${prefix}dgesdd_${suffix}();
          return *${prefix}openblas_get_config${suffix}();
        }" VITRINE_OPENBLAS_NAMES_${prefix}x${suffix})
      if(VITRINE_OPENBLAS_NAMES_${prefix}x${suffix})
        target_compile_definitions(${target} PRIVATE VITRINE_OPENBLAS_PREFIX=${prefix}
                                                     VITRINE_OPENBLAS_SUFFIX=${suffix})
        return()
      endif()
    endforeach()
  endforeach()
  message(FATAL_ERROR "${VITRINE_OPENBLAS_LIBRARY} lacks sgemm, dgesdd or openblas_get_config: an OpenBLAS that was "
                      "built with LAPACK is needed (Debian and Ubuntu: libopenblas-dev)")
endfunction()

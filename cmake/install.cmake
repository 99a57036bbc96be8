# What `cmake --install` adds to the program and the default model (see apps/CMakeLists.txt): libraries, headers, and a
# package for find_package(vitrine). Only public headers are installed, as include/vitrine/tensor/tensor.h and so on.
include(CMakePackageConfigHelpers)

install(TARGETS vitrine_tensor vitrine_autograd vitrine_nn vitrine_interp vitrine_sae
        EXPORT vitrineTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
vitrine_install_headers(${CMAKE_INSTALL_INCLUDEDIR})
set(VITRINE_MODEL_DIR ${CMAKE_INSTALL_DATADIR}/vitrine/model)
# The texts that the program and the headers speak of, in their folders, so that links between them work.
install(FILES LICENSE README.md CHANGELOG.md HACKING.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY apps/pages/screenshots DESTINATION ${CMAKE_INSTALL_DOCDIR}/apps/pages)
foreach(folder tensor autograd nn interp sae apps apps/model apps/model/sae apps/model/transcoders apps/python apps/recipe bench tests)
  install(FILES ${folder}/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR}/${folder})
endforeach()

# Lessons are read beside their programs.
install(DIRECTORY apps/lessons DESTINATION ${CMAKE_INSTALL_DOCDIR}/apps PATTERN CMakeLists.txt EXCLUDE)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/vitrine)
install(EXPORT vitrineTargets NAMESPACE vitrine:: DESTINATION ${package})
configure_package_config_file(cmake/vitrineConfig.cmake.in ${PROJECT_BINARY_DIR}/vitrineConfig.cmake
                              INSTALL_DESTINATION ${package} PATH_VARS VITRINE_MODEL_DIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/vitrineConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vitrineConfig.cmake ${PROJECT_BINARY_DIR}/vitrineConfigVersion.cmake
              cmake/openblas.cmake
        DESTINATION ${package})

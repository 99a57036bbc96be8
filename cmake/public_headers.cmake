# The headers as users include them. Here a file says "tensor/tensor.h", as it lies in the sources; users say
# "vitrine/tensor/tensor.h", so that a tensor/tensor.h of their own is not in the way. The public headers are copied to
# include/vitrine in the build folder with their includes changed to match, again whenever one changes. That tree is
# what is installed, and what add_subdirectory and FetchContent give.
set(VITRINE_INCLUDE ${PROJECT_BINARY_DIR}/include)
set_property(GLOBAL PROPERTY VITRINE_PUBLIC_HEADERS "")
set_property(GLOBAL PROPERTY VITRINE_INTERNAL_HEADERS "")

# vitrine_public_headers(TARGET FILES...): copies them, before anything is compiled that links TARGET.
function(vitrine_public_headers target)
  set(script ${PROJECT_SOURCE_DIR}/cmake/public_header.cmake)
  set(copies)
  foreach(file ${ARGN})
    file(RELATIVE_PATH header ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    set(copy ${VITRINE_INCLUDE}/vitrine/${header})
    add_custom_command(OUTPUT ${copy} DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${script} VERBATIM
                       COMMAND ${CMAKE_COMMAND} -D FROM=${CMAKE_CURRENT_SOURCE_DIR}/${file} -D TO=${copy} -P ${script}
                       COMMENT "vitrine/${header}")
    list(APPEND copies ${copy})
    set_property(GLOBAL APPEND PROPERTY VITRINE_PUBLIC_HEADERS ${header})
  endforeach()
  add_custom_target(${target}_public_headers DEPENDS ${copies})
  add_dependencies(${target} ${target}_public_headers)
  target_include_directories(${target} INTERFACE $<BUILD_INTERFACE:${VITRINE_INCLUDE}>
                                                 $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

# Writes vitrine/vitrine.h, which includes all public headers of the libraries so far. Whoever links one of them may
# include it, so it is on each to see that all are there.
function(vitrine_umbrella_header)
  get_property(headers GLOBAL PROPERTY VITRINE_PUBLIC_HEADERS)
  set(text "// All of Vitrine's public headers.\n#pragma once\n\n")
  foreach(header ${headers})
    string(APPEND text "#include \"vitrine/${header}\"\n")
  endforeach()
  file(CONFIGURE OUTPUT ${VITRINE_INCLUDE}/vitrine/vitrine.h CONTENT "${text}" @ONLY)
  foreach(library tensor autograd nn interp sae)
    foreach(other tensor autograd nn interp sae)
      add_dependencies(vitrine_${library} vitrine_${other}_public_headers)
    endforeach()
  endforeach()
endfunction()

# vitrine_install_headers(DESTINATION): the tree as it is, without what an earlier build has left in it.
function(vitrine_install_headers destination)
  get_property(headers GLOBAL PROPERTY VITRINE_PUBLIC_HEADERS)
  foreach(header vitrine.h ${headers})
    get_filename_component(folder ${header} DIRECTORY)
    install(FILES ${VITRINE_INCLUDE}/vitrine/${header} DESTINATION ${destination}/vitrine/${folder})
  endforeach()
endfunction()

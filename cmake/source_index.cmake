# vitrine_source_index(TARGET): where ops, verbs and lessons stand in the sources, as a source of TARGET
# (apps/explain/source_index.h). It is written again when one of these files changes, comes or goes.
function(vitrine_source_index target)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/source_index.cpp)
  set(script ${PROJECT_SOURCE_DIR}/cmake/write_source_index.cmake)
  set(patterns_ops autograd/ops/*.cpp)
  set(patterns_verbs apps/verbs/*.cpp apps/verbs/sae/*.cpp apps/graphs/*.cpp apps/tour/*.cpp apps/explain/*.cpp)
  set(patterns_lessons apps/lessons/[0-9][0-9]_*.md)
  set(paths "")
  foreach(kind ops verbs lessons)
    list(TRANSFORM patterns_${kind} PREPEND ${PROJECT_SOURCE_DIR}/)
    file(GLOB ${kind} RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${patterns_${kind}})
    foreach(file ${${kind}})
      list(APPEND paths ${PROJECT_SOURCE_DIR}/${file})
    endforeach()
    list(JOIN ${kind} "," ${kind})
  endforeach()
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -DOUT=${out}.new -DOPS=${ops} -DVERBS=${verbs}
            -DLESSONS=${lessons} -P ${script}
    COMMAND ${CMAKE_COMMAND} -E copy_if_different ${out}.new ${out}
    DEPENDS ${paths} ${script} VERBATIM COMMENT "Where ops, verbs and lessons stand")
  target_sources(${target} PRIVATE ${out})
endfunction()

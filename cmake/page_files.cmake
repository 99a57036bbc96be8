# vitrine_page_files(TARGET FOLDER FILE...): the texts of files in FOLDER as a source of TARGET, in the order given
# (apps/pages/page_files.h).
function(vitrine_page_files target folder)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/page_files.cpp)
  set(root ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  list(TRANSFORM ARGN PREPEND ${root}/ OUTPUT_VARIABLE paths)
  list(JOIN ARGN "," files)
  set(script ${PROJECT_SOURCE_DIR}/cmake/write_page_files.cmake)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DFOLDER=${root} -DFILES=${files} -P ${script}
    DEPENDS ${paths} ${script} VERBATIM COMMENT "Pages")
  target_sources(${target} PRIVATE ${out})
endfunction()

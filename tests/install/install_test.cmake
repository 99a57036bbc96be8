# Installs the build into a fresh folder, moves that folder (a package must not remember where it was made), then
# configures, builds and runs the consumer against it, and runs the installed program.
function(run what)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${what} failed (${code}): ${command}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
run("installing" ${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/staging)
file(RENAME ${WORK}/staging ${WORK}/prefix)

# The public headers lie where no project's own are, and the umbrella is one of them.
file(GLOB folders RELATIVE ${WORK}/prefix/${INCLUDEDIR} ${WORK}/prefix/${INCLUDEDIR}/*)
if(NOT folders STREQUAL vitrine)
  message(FATAL_ERROR "installed in ${INCLUDEDIR}: '${folders}', not 'vitrine' alone")
endif()

run("configuring the consumer" ${CMAKE_COMMAND} -S ${CONSUMER} -B ${WORK}/consumer -G ${GENERATOR}
    -D CMAKE_PREFIX_PATH=${WORK}/prefix -D CMAKE_CXX_COMPILER=${CXX} "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}")
run("building the consumer" ${CMAKE_COMMAND} --build ${WORK}/consumer --parallel 2)
run("running the consumer" ${WORK}/consumer/consumer)
message("${output}")

file(GLOB_RECURSE model_files RELATIVE ${MODEL} ${MODEL}/*)
foreach(file IN LISTS model_files)
  run("comparing the installed model" ${CMAKE_COMMAND} -E compare_files
      ${MODEL}/${file} ${WORK}/prefix/${DATADIR}/vitrine/model/${file})
endforeach()

# The documents are there, and every link from one to another leads to it.
set(followed 0)
foreach(file LICENSE README.md CHANGELOG.md HACKING.md tensor/README.md autograd/README.md nn/README.md interp/README.md
        sae/README.md apps/README.md apps/model/README.md bench/README.md)
  run("comparing an installed document" ${CMAKE_COMMAND} -E compare_files
      ${SOURCE}/${file} ${WORK}/prefix/${DOCDIR}/${file})
  file(READ ${SOURCE}/${file} text)
  string(REPLACE "](" "<(" text "${text}")  # brackets and semicolons mean something in a list
  string(REGEX REPLACE "[][;]" "" text "${text}")
  string(REGEX MATCHALL "<\\([^):]*\\.md" links "${text}")
  get_filename_component(folder ${file} DIRECTORY)
  foreach(link IN LISTS links)
    string(SUBSTRING ${link} 2 -1 target)
    if(NOT EXISTS ${WORK}/prefix/${DOCDIR}/${folder}/${target})
      message(FATAL_ERROR "${file} points at ${target}, which is not installed")
    endif()
    math(EXPR followed "${followed} + 1")
  endforeach()
endforeach()
if(followed LESS 10)
  message(FATAL_ERROR "only ${followed} links between documents were found")
endif()

set(program ${WORK}/prefix/${BINDIR}/vitrine)
run("running the installed program" ${program} predict --prompt "The capital of Texas is")
if(NOT output MATCHES "Austin")
  message(FATAL_ERROR "${program} does not predict Austin:\n${output}")
endif()

# Writes OUT, a C++ source: which file of the sources defines each op (OPS, files with commas between) and each verb
# (VERBS), and which lessons there are (LESSONS), as apps/explain/source_index.h declares them. ROOT: of the checkout.
function(c_rows out files pattern name)
  set(rows "")
  string(REPLACE "," ";" files "${files}")
  foreach(file ${files})
    file(READ ${ROOT}/${file} text)
    string(REGEX MATCHALL "${pattern}" found "${text}")
    foreach(match ${found})
      string(REGEX REPLACE "${name}" "\\1" match "${match}")
      string(APPEND rows "    {\"${match}\", \"${file}\"},\n")
    endforeach()
  endforeach()
  set(${out} "${rows}" PARENT_SCOPE)
endfunction()

# extern constinit const OpDef kExp = unary_op("exp", ...; extern constinit const OpDef kSum = {.name = "sum", ...
c_rows(ops "${OPS}" "OpDef k[A-Za-z0-9]+ =[^\"]*\"[a-z_0-9]+\"" "^.*\"(.*)\"$")
c_rows(verbs "${VERBS}" "\nvoid verb_[a-z_]+\\(const Arguments" "^\nvoid verb_(.*)\\(const Arguments$")

set(lessons "")
string(REPLACE "," ";" LESSONS "${LESSONS}")
foreach(file ${LESSONS})
  file(STRINGS ${ROOT}/${file} title LIMIT_COUNT 1 REGEX "^# ")
  string(REGEX REPLACE "^# *" "" title "${title}")
  string(REGEX REPLACE "([\"\\\\])" "\\\\\\1" title "${title}")
  string(REGEX REPLACE "^.*/0*([0-9]+)_[^/]*$" "\\1" number "${file}")
  string(APPEND lessons "    {${number}, \"${file}\", \"${title}\"},\n")
endforeach()

file(WRITE ${OUT} "// Written by cmake/write_source_index.cmake.
#include \"apps/explain/source_index.h\"

#include <vector>

namespace vitrine::app {

std::span<const Defined> ops_in_sources() {
  static const std::vector<Defined> rows = {
${ops}  };
  return rows;
}

std::span<const Defined> verbs_in_sources() {
  static const std::vector<Defined> rows = {
${verbs}  };
  return rows;
}

std::span<const LessonFile> lessons_in_sources() {
  static const std::vector<LessonFile> rows = {
${lessons}  };
  return rows;
}

}  // namespace vitrine::app
")

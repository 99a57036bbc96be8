// Where things stand in the sources: read from them while the program is built (cmake/write_source_index.cmake), so that
// an op, a verb or a lesson that is added has its file named without another line.
#pragma once

#include <span>
#include <string_view>

namespace vitrine::app {

struct Defined {
  std::string_view name;  // of an op; of a verb with _ for the space of "sae train"
  std::string_view file;  // from the root of the checkout: "autograd/ops/rows.cpp"
};
std::span<const Defined> ops_in_sources();    // where the row of each op is
std::span<const Defined> verbs_in_sources();  // where each verb is

// A lesson of apps/lessons: its text, beside which the program of the same name lies.
struct LessonFile {
  int number = 0;
  std::string_view file;   // "apps/lessons/03_attention.md"
  std::string_view title;  // its first heading
};
std::span<const LessonFile> lessons_in_sources();

}  // namespace vitrine::app

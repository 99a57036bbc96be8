#include "apps/explain/topics.h"

#include <algorithm>
#include <utility>

namespace vitrine::app {
namespace {

constexpr std::pair<std::string_view, Topic> kOpFiles[] = {
    {"leaf", Topic::graph},
    {"elementwise", Topic::graph},
    {"shape", Topic::graph},
    {"reduce", Topic::graph},
    {"products", Topic::graph},
    {"gather", Topic::tokens},
    {"heads", Topic::attention},
    {"attention", Topic::attention},
    {"attention_steps", Topic::attention},
    {"rows", Topic::stream},
    {"softcap", Topic::models},
    {"rotary", Topic::models},
    {"training", Topic::training},
    {"sparse", Topic::features},
    {"pursuit", Topic::features},
    {"mask", Topic::mask},
};

// "rows" of "autograd/ops/rows.cpp".
std::string_view stem(std::string_view file) {
  file.remove_prefix(std::min(file.size(), file.rfind('/') + 1));
  return file.substr(0, file.find('.'));
}

const auto* find_file(std::string_view file) {
  const auto* at = std::find_if(std::begin(kOpFiles), std::end(kOpFiles),
                                [&](const auto& row) { return row.first == stem(file); });
  return at == std::end(kOpFiles) ? nullptr : at;
}

}  // namespace

const LessonFile* lesson_on(Topic topic) {
  for (const LessonFile& lesson : lessons_in_sources()) {
    if (lesson.number == static_cast<int>(topic)) return &lesson;
  }
  return nullptr;
}

Topic topic_of_op_file(std::string_view file) {
  const auto* row = find_file(file);
  return row == nullptr ? Topic::graph : row->second;
}
bool knows_op_file(std::string_view file) { return find_file(file) != nullptr; }

}  // namespace vitrine::app

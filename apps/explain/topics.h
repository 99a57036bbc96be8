// What the lessons teach, and which of them teaches what: the one place where ops, sites, terms and verbs meet lessons.
#pragma once

#include <string_view>

#include "apps/explain/source_index.h"

namespace vitrine::app {

// In the order of the lessons: the number of each is that of its lesson in apps/lessons.
enum class Topic {
  graph = 1,  // tensors, the graph, gradients
  tokens,     // tokens, embeddings
  attention,
  stream,     // the residual stream, norms, MLPs
  models,     // GPT-2 and Llama, whole
  training,   // from random weights to induction
  lens,       // the logit lens, decompositions of a logit
  patching,   // edits, patching, ablation
  gradients,  // attribution
  features,   // superposition, sparse autoencoders
  circuits,   // circuits, attribution graphs
  mask        // finding what is wrong: a mask that is off by one
};
inline constexpr int kTopics = 12;

// The lesson that teaches it; null while there is none.
const LessonFile* lesson_on(Topic topic);

// What the ops of a file of autograd/ops/ are about, and whether that was said of this file.
Topic topic_of_op_file(std::string_view file);
bool knows_op_file(std::string_view file);

}  // namespace vitrine::app

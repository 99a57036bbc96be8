// Files of prompt pairs: one JSON object a line, read strictly.
//
//   {"clean": "The capital of Texas is", "corrupt": "The capital of Ohio is",
//    "answer": " Austin", "wrong": " Columbus"}
//   {"clean_tokens": [1, 2], "corrupt_tokens": [1, 3], "answer_token": 4, "wrong_token": 5}
#pragma once

#include <vector>

#include "apps/options/json_lines.h"
#include "interp/patching.h"
#include "nn/model/model.h"

namespace vitrine::app {

class PromptOptions;

struct PairOfFile {
  interp::Pair pair;
  int line = 0;  // of the file, from 1
};

// The pairs of the lines that are left. `options` say how text becomes tokens (--prepend-bos,
// --special). Throws Error (input), naming file and line, for what is not such an object (a key
// that is unknown, absent or there in both ways, a value of another type) and for prompts and
// answers that the tokenizer, interp::check_pair or check_answers refuses; FileError when there is
// no pair.
std::vector<PairOfFile> read_pairs(JsonLines& lines, const nn::Model& model,
                                   const PromptOptions& options);

// Throws TokenError when both answers are the same token: nothing lies between them.
void check_answers(const interp::Pair& pair);

}  // namespace vitrine::app

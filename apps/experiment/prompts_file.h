// Files of prompts, or of pairs of prompts: one JSON object a line, read strictly.
//
//   {"prompt": "The capital of Texas is", "answer": " Austin", "wrong": [" Dallas", " Houston"],
//    "roles": {"subject": " Texas", "end": -1}, "order": "city last"}
//   {"clean": "The capital of Texas is", "corrupt": "The capital of Ohio is",
//    "answer": " Austin", "wrong": " Columbus"}
//   {"clean_tokens": [1, 2], "corrupt_tokens": [1, 3], "answer_token": 4, "wrong_token": 5}
//
// "prompt" and "clean" are two words for one thing. An answer is a text of one or more tokens, or
// the list of several right (or wrong) ones; by ids it is 4, or [4, 5] for two of them, or
// [[4, 5]] for one of two tokens. A role names positions: by a text that occurs once in the prompt
// and begins and ends where tokens do, by a number (from the end: -1), or by [begin, end). Of a
// pair it is the text of the clean prompt. Any other key is kept: a text, a number, true and false
// to group by, a list of single tokens to be named in metrics as @key.
#pragma once

#include <vector>

#include "apps/options/json_lines.h"
#include "interp/data/data_set.h"
#include "interp/patching.h"
#include "nn/model/model.h"

namespace vitrine::app {

class PromptOptions;

// What each line must have besides its prompt.
struct PromptsNeed {
  bool corrupt = false, answer = false, wrong = false;
};

// The examples of the lines that are left. `options` say how text becomes tokens (--prepend-bos,
// --special). Throws Error (input), naming file and line, for what is not such an object (a key
// that is nearly one of the known ones, absent or there in both ways, a value of another type), for
// prompts and answers that the tokenizer or the model refuses, prompts of a pair that differ in
// length, a token that is both right and wrong, roles that are not in the prompt; FileError when
// there is no line.
std::vector<interp::Example> read_prompts(JsonLines& lines, const nn::Model& model,
                                          const PromptOptions& options,
                                          const PromptsNeed& need = {});

// Throws TokenError when both answers are the same token: nothing lies between them.
void check_answers(const interp::Pair& pair);

}  // namespace vitrine::app

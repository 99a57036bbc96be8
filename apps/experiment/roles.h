// Roles of a prompts file: names for positions of a prompt, {"subject": " Texas", "end": -1}.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "interp/data/data_set.h"
#include "nn/model/model.h"
#include "tensor/files/json_value.h"

namespace vitrine::app {

// The positions of each role in the prompt; `text` is the prompt as it was written, "" for ids. A
// role is a text that occurs once in the prompt and begins and ends where tokens do, a position
// (negative ones count from the end), or [begin, end) of two positions. Throws Error (input) for
// any other; for a text that is not there, there more than once, or cuts a token in two; for
// positions outside the prompt; and for a name that means something else where a position is asked
// for (a number, a range such as 1-3, "all").
std::map<std::string, interp::Span, std::less<>> read_roles(const JsonValue& roles,
                                                            const nn::Model& model,
                                                            const nn::Tokens& prompt,
                                                            std::string_view text);

}  // namespace vitrine::app

// Standing edits: interventions that hold in every run of a model, so that whatever explains or
// measures it does so with, say, four heads ablated.
//
//   Model m = load_model();
//   m.stand({{.edit = zero(site::z(3), {.head = {0, 2}})},
//            {.edit = scale(site::mlp_out(1), 0.5), .positions = last_position}});
//   m.run("The capital of Texas is");              // and m.sweep, generate, interp::..., all of it
//
// Prompts have their own lengths, so a place along them is a function of the prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autograd/transform/intervention.h"
#include "nn/model/batch.h"

namespace vitrine::nn {

struct StandingEdit {
  // Its Where may select heads, keys and features; prompts and positions are told below.
  Edit edit;
  // The positions of a prompt that are edited; none: all of them, also of text that is generated.
  std::function<std::vector<std::int64_t>(const Tokens& prompt)> positions = {};
  // The same of keys, which are positions that are attended to; none: those of the edit's Where.
  std::function<std::vector<std::int64_t>(const Tokens& prompt)> keys = {};
  // The value of a replace or an add that differs from prompt to prompt, as packed rows [rows, ...];
  // none: the edit's own.
  std::function<Tensor(const std::vector<Tokens>& prompts)> value = {};
  // Throws for a prompt that the edit does not fit: a key that it does not have, say.
  std::function<void(const Tokens& prompt)> check = {};
  int stage = 0;  // edits of a later stage act on what those of the earlier ones left

  std::string to_text() const;  // "blocks.3.attn.hook_z[head 0,2] = 0"
  std::string where = {};       // what people call the positions and keys: "pos -1, key subject"
};

// The position of the last token: the `positions` of an edit there.
std::vector<std::int64_t> last_position(const Tokens& prompt);

// The edits for these prompts, under the name "standing". Throws what `positions` and `value` throw.
Interventions standing_in(const std::vector<StandingEdit>& edits,
                          const std::vector<Tokens>& prompts);
// Edits of the same structure, without prompts: for building the graph.
Interventions standing_shape(const std::vector<StandingEdit>& edits, const Graph& graph);

// Throws GraphError for an edit whose Where selects prompts or positions.
void check_standing(const std::vector<StandingEdit>& edits);

}  // namespace vitrine::nn

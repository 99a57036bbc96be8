// The checks of a diagnosis, and what they share: the graph, where its tokens are, and the leaves
// that were given. Not installed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/diagnose/diagnosis.h"
#include "autograd/diagnose/look_ahead.h"

namespace vitrine {

// A graph under examination.
struct Examined {
  const Graph& graph;
  const DiagnoseSpec& spec;
  const Feeds& feeds;
  const Parameters& parameters;
  bool runs = false;        // all leaves of the output and the loss are given
  NodeId source = kNoNode;  // what holds the tokens, along `axis`
  int axis = 0;
  std::string output, loss;  // "": none

  RunOptions options() const { return {.pool = spec.pool}; }
};

// A finding at a node of the model.
Finding finding_at(const Graph& graph, NodeId node, Finding finding);
// "decoder.cpp:41 in blocks.0.attn, op mask".
std::string place_of(const Graph& graph, NodeId node);

// Which nodes `node` is computed from, itself included; by id.
std::vector<bool> ancestors_of(const Graph& graph, NodeId node);
// The first leaf that `node` needs and that is not given; "" when none is missing.
std::string missing_leaf(const Graph& graph, NodeId node, const Feeds& feeds,
                         const Parameters& parameters);

// The scalar that gradients are taken of: the loss, or else a weighted sum of the output.
Graph with_scalar(const Examined& e, std::string& name);

using FindingList = std::vector<Finding>;
void check_causality(const Examined& e, FindingList& findings);
void check_tied_weights(const Examined& e, FindingList& findings);
bool check_nan(const Examined& e, FindingList& findings);  // whether the numbers can be used
void check_units(const Examined& e, FindingList& findings);
void check_loss(const Examined& e, FindingList& findings);
void check_gradients(const Examined& e, FindingList& findings);

// ---- gradients between rows -------------------------------------------------------------------
// What gradients say of the op of a mixing, or of the whole model.
struct RowGradients {
  bool later = false;                // some row reads a later token, or one of another prompt
  bool own = true;                   // every row that was looked at reads its own token
  bool any = false;                  // some gradient is not 0
  std::int64_t row = -1, read = -1;  // of `later`: which row reads which
  std::int64_t rows = 0;             // looked at
};
// d op / d values, one row of the op's output at a time. None where there is nothing to ask: no
// float values, no tokens on an axis.
std::optional<RowGradients> mixing_gradients(const Examined& e, const LookAhead& look,
                                             const Mixing& mixing);
// d output / d embeddings. None where no gradient reaches the embeddings.
std::optional<RowGradients> output_gradients(const Examined& e, const LookAhead& look);

// The same graph with f64 for f32: every op is inferred again. Stored weights stay as they are.
Graph in_double(const Graph& graph);

}  // namespace vitrine

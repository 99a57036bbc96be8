// Diagnosis: is this model wired as it should be? Of anybody's graph, before it is trained or
// trusted.
//
//   Diagnosis d = diagnose(graph);                        // what the graph alone proves
//   if (!d.ok()) fmt::print("{}", to_string(d));          // "decoder.cpp:41 in blocks.0: mask ..."
//   d = diagnose(graph, feeds, parameters, {.loss = "loss", .untrained = true});   // and a run
//
// The checks, by the name that Finding::check has:
//   causality           no row of the output depends on a later token. Proved from the reach rules
//                       (graph/reach.h) and, in a run, confirmed by gradients: d output[row] / d
//                       embedding[later row] is exactly 0. A mask that sees later tokens, or that
//                       hides the token itself, is named at the line of the model that made it
//   attends_to_nothing  rows to which a mask leaves no key
//   nan                 NaN or infinities in a run or in its gradients, and the op that made them
//   dead_units          neurons whose slope is 0 over the whole batch
//   exploding_units     values that are huge, or grow by a large factor from layer to layer
//   loss                the loss beside ln(vocabulary), which an untrained model has
//   tied_weights        whether the unembedding is the embedding
//   gradient_check      gradients against finite differences, for a sample of the parameters
// A check that has no meaning for a graph, or lacks what it needs, gives no finding or a note.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/feeds.h"
#include "autograd/graph/graph.h"
#include "tensor/thread_pool.h"

namespace vitrine {

struct Finding {
  enum class Severity {
    ok,      // checked and right
    note,    // worth knowing: right in some models
    problem  // wrong
  };
  Severity severity = Severity::ok;
  std::string check;   // "causality"
  std::string what;    // "sees the next token: a query sees keys up to its own position + 1"
  std::string where;   // "decoder.cpp:41 in blocks.0.attn, op mask"; "" when it is all of the model
  std::string remedy;  // what to do; "" when ok
  std::string how;     // "reach", "gradient", "reach and gradient", "values": how it was found
  // The parts of `where`: the node of the model. No file: none.
  std::string file;
  int line = 0;
  std::string scope, op, site;
};
std::string_view name_of(Finding::Severity severity);  // "ok", "note", "problem"

struct DiagnoseSpec {
  // The input (or site) that holds the tokens or their embeddings. "": the input "tokens", or else
  // the only input that it can be. `axis` is the one along which tokens follow each other; -1: the
  // first, or the second where a batch comes first.
  std::string tokens;
  int axis = -1;
  // The output with a row for each token. "": "logits", or else the first output that has such an
  // axis.
  std::string output;
  std::string loss;    // a scalar output: the mean loss in nats. "": "loss", where there is one
  bool causal = true;  // false: later tokens may be seen (an encoder)
  // Whether the weights are initial ones, as far as is known: then the loss must be near
  // ln(vocabulary). `vocabulary` 0: the last axis of the output.
  bool untrained = false;
  std::int64_t vocabulary = 0;
  std::optional<bool> tied;  // whether embedding and unembedding are meant to be one
  int rows = 6;              // output rows whose gradients are looked at
  // The gradient check: parameters of the sample, and entries of each; 0: not done.
  int checked_parameters = 6, checked_entries = 2;
  // Magnitudes above this are a problem; a growth of the root mean square by more than this factor
  // from one layer's site to the next one's is a note.
  double huge = 1e6, growth = 100;
  std::uint64_t seed = 0;      // of what is drawn: rows' weights, entries
  ThreadPool* pool = nullptr;  // null: on this thread alone
};

struct Diagnosis {
  std::vector<Finding> findings;

  bool ok() const;  // no problems
  std::vector<Finding> of(std::string_view check) const;
  std::vector<Finding> problems() const;
};
// A line for each finding, and its remedy.
std::string to_string(const Finding& finding);
std::string to_string(const Diagnosis& diagnosis);

// What the graph alone says: causality, with constant masks read, and tied weights. Throws
// GraphError when it is not clear which input holds the tokens, or spec names what is not there.
Diagnosis diagnose(const Graph& graph, const DiagnoseSpec& spec = {});
// The same, with masks that are fed read from `feeds`, and all checks that need a run. Where a leaf
// is missing the numeric checks are left out, and a note says which.
Diagnosis diagnose(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                   const DiagnoseSpec& spec = {});
// The check `loss` alone, by one forward run. Throws GraphError without a loss and its vocabulary.
Finding loss_finding(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                     const DiagnoseSpec& spec);

}  // namespace vitrine

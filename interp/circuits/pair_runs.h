// The two runs of a pair of prompts, and what each part of the model wrote in them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autograd/edges/edge_set.h"
#include "interp/data/measure.h"
#include "interp/patching.h"
#include "nn/model/stream_edges.h"

namespace vitrine::interp {

// Those that are given, or else the model's own.
EdgeSet edges_of(const nn::Model& model, const std::shared_ptr<const EdgeSet>& given);

std::string key_of(const EdgeSet& edges);  // tells sets with other senders apart

// What the senders of a pair gave in the base run and in the other one. d is the width of the stream.
struct PairRuns {
  struct Both {
    Tensor base, other;  // packed rows
  };
  Both senders;   // [rows, senders, d]
  Tensor change;  // other - base
  Both embed;     // hook_embed
  // Where asked for: what the input, the heads of each layer (z) and each MLP gave, in this order.
  std::vector<std::pair<Site, Both>> written;
  double base_metric = 0, other_metric = 0;

  double clean(Direction d) const { return d == Direction::denoise ? other_metric : base_metric; }
  double corrupt(Direction d) const { return d == Direction::denoise ? base_metric : other_metric; }
};
// Runs both prompts, as one batch. With `written`, what is behind PairRuns::written too.
PairRuns pair_runs(const nn::Model& model, const Pair& pair, const EdgeSet& edges,
                   const MetricSpec& metric, Direction direction, bool written = false);

}  // namespace vitrine::interp

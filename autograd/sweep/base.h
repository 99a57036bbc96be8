// The base run of a sweep: the unedited graph, with the composites expanded that hide edited sites,
// and its activations, evaluated lazily.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/sweep/sweep.h"

namespace vitrine {

// Worlds that edit nothing inside a composite run it whole: its fused kernel is faster, and its
// reach rule says more than those of its parts.
struct Expanded {
  Node composite;     // as it was; its id is now an identity of `last`
  NodeId begin, end;  // its parts: the ids in [begin, end)
};

class BaseRun {
 public:
  BaseRun(const Graph& graph, const std::vector<std::string>& edited_sites, const Feeds& feeds,
          const Parameters& parameters, const SweepOptions& options);

  const Graph& graph() const { return graph_; }
  const std::vector<Expanded>& expanded() const { return expanded_; }
  const Expanded* expanded_at(NodeId id) const;   // the composite that had this id
  const Expanded* expansion_of(NodeId id) const;  // the composite that this node is a part of

  NodeId source(NodeId id) const;  // the node whose value this is, past sites and identities

  // Makes sure that these are known, in one run.
  void want(const std::vector<NodeId>& nodes);
  const Tensor& value(NodeId id);  // runs when it is not known
  const std::vector<std::int64_t>& integers(NodeId id);

  // Whether the value is a function of parameters and constants alone.
  bool is_weight(NodeId id) const { return weight_[static_cast<std::size_t>(id)]; }
  double seconds() const { return seconds_; }
  int passes() const { return passes_; }
  const Plan::Stats& stats() const { return stats_; }  // of the first run

 private:
  Graph graph_;
  std::vector<Expanded> expanded_;
  std::vector<bool> weight_;
  const Feeds& feeds_;
  const Parameters& parameters_;
  const SweepOptions& options_;
  std::map<NodeId, Tensor> values_;
  std::map<NodeId, std::vector<std::int64_t>> integers_;
  double seconds_ = 0;
  Plan::Stats stats_;
  int passes_ = 0;
};

}  // namespace vitrine

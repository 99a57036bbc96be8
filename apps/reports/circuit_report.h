// Reports of circuits and of edge scores, for people, for programs and as tensors.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/options/result_files.h"
#include "apps/terminal/output.h"
#include "interp/circuits/circuit_runs.h"
#include "interp/circuits/edge_attribution.h"
#include "interp/data/data_set.h"
#include "nn/model/model.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

// The score of every edge, of one pair or the means over many.
struct EdgeScoresReport {
  const nn::Model& model;
  const std::vector<interp::Example>& examples;
  const std::vector<interp::EdgeScores>& each;        // of every pair
  const std::vector<interp::VerifiedEdge>& verified;  // of the strongest, of one pair
  int top = 20;
  std::vector<interp::PromptGroup> groups = {};  // none without a field
  std::string field = {};                        // what the pairs are grouped by

  std::string text(const Style& style, int columns = 0) const;
  // {method, rule, steps, direction, metric: {name, clean, corrupt}, edges: [{from, to, score,
  // exact}], count, runs, passes, group_by, groups: [{name, pairs, metric, edges}]}; of many pairs
  // numbers are {mean, standard_error, count}
  Json json() const;
  // edge/score, edge/valid [sender, receiver], edge/standard_error of many pairs,
  // edge/by_position [pos, sender, receiver]; metric/clean, metric/corrupt; group/NAME/edge/score,
  // ...
  NamedTensors tensors() const;
  AxisNames axis_names() const;

 private:
  std::vector<interp::EdgeScores> of_group(const interp::PromptGroup& group) const;
  std::string edges_table(const std::vector<interp::EdgeScores>& some, const Style& style) const;
  Json edges_json(const std::vector<interp::EdgeScores>& some) const;
};

// A circuit by itself, judged exactly.
struct CircuitReport {
  const nn::Model& model;
  const std::vector<interp::Example>& examples;
  std::string by;               // how it was found: "eap-ig", or "a file"
  std::string scored_by;        // the method of the scores; "" where there are none
  interp::Direction direction;  // of the scores
  std::string metric;
  const interp::CircuitRuns& runs;
  interp::EdgeMask circuit;  // pruned
  Tensor scores;             // f64 [senders, receivers]; NaN where there is none
  std::size_t asked = 0;     // edges before pruning
  interp::Faithfulness judged;
  std::vector<double> worth;                // of circuit.edges(); empty: not measured
  std::vector<std::vector<double>> random;  // metric of random circuits of the same size, by pair
  std::vector<std::pair<std::string, interp::CircuitCurve>> curves;
  std::vector<std::pair<std::string, interp::CircuitCurve>>
      page_curves;  // there without --curve, too
  struct Compared {
    std::string file;
    interp::EdgeOverlap overlap;
    interp::Faithfulness judged;  // of the other one, on these pairs
    interp::EdgeMask circuit;     // pruned
    Tensor scores;                // as those above
  };
  std::vector<Compared> compared;
  std::vector<interp::PromptGroup> groups;  // of the pairs; none: not grouped
  std::string field;                        // what they are grouped by
  int top = 30;

  // Whether every edge has a score that says how strong it is: not what ACDC measured on its way.
  bool ranks_edges() const { return !scored_by.empty() && scored_by != "acdc"; }
  std::string text(const Style& style) const;
  // {by, scored_by, direction, metric: {name, clean, corrupt}, edges: [{from, to, score, worth}],
  // nodes: [NAME], senders: [all there are], of: valid edges, asked, circuit: {metric, faithfulness}, complement: {metric,
  // faithfulness}, pairs: [{line, clean, corrupt, circuit, complement}], random: {count, mean,
  // deviation, values}, curves: [{rank, fractions, asked, edges, faithfulness, cpr, cmd}], compared:
  // [{file, edges, shared, jaccard, nodes, shared_nodes, faithfulness, completeness}], group_by,
  // groups: [{name, pairs, clean, corrupt, faithfulness, completeness, random: {mean, deviation},
  // compared: [{file, faithfulness, completeness}]}]}
  Json json() const;
  // mask, score [sender, receiver]; metric/circuit, metric/complement, faithfulness,
  // complement_faithfulness, metric/clean, metric/corrupt; random/faithfulness [circuit]; of groups
  // group/NAME/faithfulness, complement_faithfulness, random/faithfulness, faithfulness/FILE
  NamedTensors tensors() const;
  AxisNames axis_names() const;
  // Of `curves` and of those of the page.
  static Json curves_json(const std::vector<std::pair<std::string, interp::CircuitCurve>>& curves);

 private:
  // The way that a metric goes from the corrupt to the clean run, of some pairs' means; NaN where
  // there is none.
  double way_of(const std::vector<double>& metric, const interp::PromptGroup& group) const;
  std::vector<double> random_of(const interp::PromptGroup& group) const;  // of each random circuit
  std::string groups_text(const Style& style) const;
  std::string edges_text(const Style& style) const;
  Json compared_json() const;
  Json groups_json() const;
};

}  // namespace vitrine::app

// The effect of every edge of the residual stream on a metric: estimated by gradients, or exactly.
//
//   EdgeScores s = edge_scores(m, pair, {.method = EdgeMethod::eap_ig});
//   s.at("a0.h7", "m0");                  // the change of the metric, estimated
//   EdgeScores e = edge_scores(m, pair, {.method = EdgeMethod::exact});
//
// Every score is the metric after, less that of the base run, or an estimate of it, for one edge
// u -> v that carries out_u of the other run: with noise (base: the clean run) a helpful edge is
// negative, with denoise (base: the corrupt run) positive. With D_u = out_u(other) - out_u(base)
// and g_v(x) = dm / d in_v in the run x:
//
//   exact               m(edge cut) - m(base): one edited run an edge, all of them as one sweep
//   eap                 D_u . g_v(base)                            (Syed et al. 2023)
//   eap_ig              D_u . mean of g_v over runs whose token embeddings lie on the way from the
//                       other run to the base run                  (EAP-IG; Hanna et al. 2024)
//                       midpoint: at (k + 1/2) / steps; left: at k / steps, as EAP-IG 2.0 has it,
//                       which counts the other run and not the base run
//   clean_corrupted     D_u . (g_v(base) + g_v(other)) / 2
//   eap_ig_activations  D_u . mean of g_v over runs in which the outputs of one group (the input,
//                       the heads of a layer, an MLP) are set to k / steps of the way from the
//                       other run's to the base run's, k = 1 ... steps, and over the groups
//
// Scores of eap_ig do not add up to the difference of the runs: a path through n edges is counted n
// times. Exactness, then EAP-IG, then EAP is the order of trust; verify_edges measures the
// strongest of any of them again.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "interp/circuits/edge_mask.h"
#include "interp/patching.h"

namespace vitrine::interp {

enum class EdgeMethod { exact, eap, eap_ig, clean_corrupted, eap_ig_activations };
std::string_view name_of(EdgeMethod method);  // "eap-ig"
enum class PathRule { midpoint, left };
std::string_view name_of(PathRule rule);  // "midpoint", "eap-ig": as EAP-IG 2.0
// How much of the way to the base run each point has gone. Throws Error (usage) below one step.
std::vector<double> path_weights(PathRule rule, int steps);

// Which edges are scored, how, and on which metric.
struct EdgeSpec {
  EdgeMethod method = EdgeMethod::eap_ig;
  PathRule rule = PathRule::midpoint;  // of eap_ig
  int steps = 5;                       // of eap_ig and eap_ig_activations
  // The edges that are scored; none: nn::stream_edges of the model. Of a model with SAEs spliced in,
  // those with features as senders, say (with_parts, autograd/edges/edge_set.h).
  std::shared_ptr<const EdgeSet> edges{};
  bool by_position = false;  // a score for each position, besides their sum
  // The scales of all norms stay the base run's (of a path, each run's own): what an edge does
  // through the size of the stream is left out. Path patching with frozen LayerNorm.
  bool norms_held = false;
  Direction direction = Direction::denoise;
  MetricSpec metric = parse_metric("logit_diff");
  std::int64_t memory = std::int64_t{1} << 30;        // bytes of intermediate values at a time
  const std::atomic<bool>* cancel = nullptr;          // InterruptedError when set
  std::function<void(int done, int total)> progress;  // of exact: edited runs; else points
};

// The score of every edge: how much the metric of the base run changes, in its units, when the edge alone
// carries the other run; to first order, or exactly.
struct EdgeScores {
  EdgeSpec spec;
  EdgeGrid grid;
  Tensor scores;                  // f64 [senders, receivers]; 0 where there is no edge
  Tensor by_position;             // f64 [pos, senders, receivers], where asked for
  double clean = 0, corrupt = 0;  // the metric of the unedited runs
  int runs = 0, passes = 0;       // of exact: edited runs; forward passes that gave them
  double base() const { return spec.direction == Direction::denoise ? corrupt : clean; }
  double at(std::string_view sender, std::string_view receiver) const;
};

// Scores every edge. Exact scores by position take a run for each edge and position. Throws what
// check_pair throws; Error (usage) for a metric without a gradient where one is needed, and for
// steps below 1.
EdgeScores edge_scores(const nn::Model& model, const Pair& pair, const EdgeSpec& spec = {});
// Of each pair; they may differ in length.
std::vector<EdgeScores> edge_scores(const nn::Model& model, std::span<const Pair> pairs,
                                    const EdgeSpec& spec = {});
// The mean over pairs, with standard errors [senders, receivers].
struct EdgeScoreSummary {
  EdgeGrid grid;
  Tensor mean, standard_error;
  Statistic clean, corrupt;
};
EdgeScoreSummary summarise(std::span<const EdgeScores> scores);

// ---- exactly --------------------------------------------------------------------------------------
// The exact change of the metric for each of these edges, of one pair. They are one sweep
// (autograd/sweep/sweep.h): only what an edge can change is computed.
struct ExactEdges {
  std::vector<double> change;
  double clean = 0, corrupt = 0;
  int runs = 0, passes = 0, without_effect = 0;
  std::string explanation;  // of the last sweep
};
ExactEdges exact_edges(const nn::Model& model, const Pair& pair, std::span<const EdgePlace> edges,
                       const EdgeSpec& spec = {});

struct VerifiedEdge {
  StreamEdge edge;
  double score, exact;
};
// The `count` edges with the largest |score|, measured exactly in the same direction.
std::vector<VerifiedEdge> verify_edges(const nn::Model& model, const Pair& pair,
                                       const EdgeScores& scores, int count);

}  // namespace vitrine::interp

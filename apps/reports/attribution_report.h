// Reports of gradient attribution, for people, for programs and as tensors.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/options/result_files.h"
#include "apps/terminal/heatmap.h"
#include "apps/terminal/output.h"
#include "interp/attribution.h"
#include "interp/integrated_gradients.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

struct AttributionReport {
  const nn::Model& model;
  const interp::Example& pair;
  const interp::Attribution& attribution;
  const std::vector<interp::Verified>&
      verified;  // of the strongest; the others have no exact value
  int top = 20;

  std::string text(const Style& style, int columns) const;
  Json json() const;
  // node/SITE, the layers of a site stacked: node/hook_resid_pre [layer, pos], node/attn.hook_z
  // [layer, head], node/mlp.hook_post [layer, neuron]; metric/clean, metric/corrupt.
  NamedTensors tensors() const;
  AxisNames axis_names() const;
};

// Of many pairs: means with standard errors. Positions are counted from the first token; those that
// only some pairs have are the mean over these. Or they are those that the pairs were lined up by.
struct PairsAttributionReport {
  const nn::Model& model;
  const std::vector<interp::Example>& examples;
  const std::vector<interp::Attribution>& each;
  const std::vector<interp::VerifiedOver>& verified;
  int top = 20;
  bool lines = false;                            // in the text: also a line for each pair
  std::vector<interp::PromptGroup> groups = {};  // none without a field
  std::string field = {};                        // what the pairs are grouped by
  std::vector<interp::Position> positions = {};  // that they were lined up by (interp::lined_up)

  std::string text(const Style& style, int columns) const;
  // {..., pos, nodes: [{site, ..., score, size, exact}], sites, group_by, groups: [{name, pairs, metric:
  // {clean, corrupt}, nodes}], pairs}: the strongest of each group, exact where they were measured
  Json json() const;
  // node/SITE as for one pair, of means, with node/SITE/standard_error and node/SITE/count;
  // metric/clean, metric/corrupt; group/NAME/node/SITE, ...
  NamedTensors tensors() const;
  AxisNames axis_names() const;

 private:
  // The exact change over a group's pairs; none for a place that was not measured.
  std::optional<interp::Statistic> exact(const interp::ScoredOver& node,
                                         const interp::PromptGroup& group) const;
  std::string nodes_table(const interp::PromptGroup& group, const Style& style) const;
  Json nodes_json(const interp::PromptGroup& group) const;
  std::string alignment()
      const;  // how positions of pairs of different lengths line up; "" of equal
  std::string position_text(std::int64_t place) const;
};

// ---- what both are made of ----------------------------------------------------------------------
// "blocks.3.attn.hook_z" is layer 3 of "attn.hook_z"; other sites have no layer.
struct InLayer {
  int layer = -1;
  std::string name;
};
InLayer in_layer(std::string_view site);

// Scores of the same site in every layer.
struct StackedScores {
  std::string name;
  std::vector<std::string> axes;  // "layer" first, where there are layers
  std::vector<int> layers;        // along it
  Tensor values;
};
std::vector<StackedScores> stacked(const interp::Attribution& a);

struct IntegratedReport {
  const nn::Model& model;
  const interp::Example& pair;
  const interp::IntegratedSpec& spec;
  const interp::Integrated& integrated;

  std::string text(const Style& style, int columns) const;
  Json json() const;
  NamedTensors tensors() const;  // ig/SITE, ig/target [2], metric/clean, metric/corrupt
  AxisNames axis_names() const;
};

}  // namespace vitrine::app

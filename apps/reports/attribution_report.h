// Reports of gradient attribution, for people, for programs and as tensors.
#pragma once

#include <string>
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

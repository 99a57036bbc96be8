// Reports of attention heads, for people, for programs and as tensors: the study of all of them on
// random tokens said twice, and one of them explained.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/terminal/output.h"
#include "interp/composition.h"
#include "interp/head_explained.h"
#include "interp/induction_heads.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {

struct HeadsReport {
  const nn::Model& model;
  const std::vector<nn::Tokens>& prompts;
  const interp::InductionStudy& study;
  const interp::CopyRanks& in_context;
  const interp::CopyRanks& of_weights;
  const interp::Composition& composition;
  const interp::CompositionBaseline& baseline;
  const std::vector<interp::PathEffect>& paths;
  // Of the duplicate-token heads of layer 0: positions one further, where there are such heads.
  const std::vector<interp::Head>& moved_heads;
  const std::optional<interp::MovedPositions>& moved;
  int top = 5;  // earlier heads listed for each induction head

  std::string text(const Style& style) const;
  Json json() const;
  // previous, duplicate, induction [layer, head], composition_{q,k,v} [layer, head, layer, head],
  // copying/swap, ablation/change and their standard errors.
  NamedTensors tensors() const;
};
// "induction", "previous-token", "duplicate-token": what a head is called; "" for none of them.
std::string called(const interp::InductionStudy& study, const interp::Head& head);

struct HeadExplanation {
  const nn::Model& model;
  const interp::HeadFromWeights& weights;
  const nn::Tokens* prompt = nullptr;  // with on_prompt
  const interp::HeadOnPrompt* on_prompt = nullptr;

  std::string text(const Style& style) const;
  Json json() const;
};

}  // namespace vitrine::app

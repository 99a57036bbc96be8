#include "nn/training/model_diagnosis.h"

#include <algorithm>

#include "autograd/transform/gradient.h"
#include "nn/model/metrics.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::nn {
namespace {

constexpr std::int64_t kDrawn[] = {12, 7};  // tokens of the drawn prompts

std::vector<Tokens> drawn_prompts(const Config& config, std::uint64_t seed) {
  std::vector<Tokens> prompts;
  const random::Key key = random::Key{seed}.fold("diagnose");
  for (const std::int64_t length : kDrawn) {
    Tokens& tokens = prompts.emplace_back();
    for (std::int64_t i = 0; i < std::min<std::int64_t>(length, config.context); ++i) {
      const auto at = static_cast<std::uint64_t>(length * 1000 + i);
      tokens.push_back(static_cast<int>(random::below(key, at, config.vocabulary)));
    }
  }
  return prompts;
}

DiagnoseSpec spec_of(const Model& model, bool untrained, std::uint64_t seed) {
  DiagnoseSpec spec{.tokens = "tokens", .output = "logits", .loss = "loss"};
  spec.untrained = untrained;
  spec.vocabulary = model.config().vocabulary;
  // Gauges rewrite embedding and unembedding apart, and edits what lies between.
  if (model.gauge().is_raw()) spec.tied = model.config().tied;
  spec.seed = seed;
  spec.pool = &model.pool();
  return spec;
}

// The model for these prompts, with its loss.
Graph with_loss(const Model& model, const std::vector<Tokens>& prompts) {
  const std::int64_t predicted = next_tokens(prompts);
  if (predicted == 0)
    throw ContextError("a diagnosis needs a prompt of at least two tokens, to have a loss");
  return with_metric(model.build(batch_size(prompts)), next_token_loss(predicted));
}

}  // namespace

Diagnosis diagnose(const Model& model, const ModelDiagnoseOptions& options) {
  const std::vector<Tokens> prompts =
      options.prompts.empty() ? drawn_prompts(model.config(), options.seed) : options.prompts;
  check_prompts(prompts, model.config());
  const Graph graph = with_loss(model, prompts);
  return diagnose(graph, model.feeds(graph, prompts), model.parameters(),
                  spec_of(model, options.untrained, options.seed));
}

Diagnosis diagnose_before_training(const Model& model, bool fresh) {
  const std::vector<Tokens> prompts = drawn_prompts(model.config(), 0);
  const DiagnoseSpec spec = spec_of(model, fresh, 0);
  if (!fresh || next_tokens(prompts) == 0) {
    DiagnoseSpec still = spec;
    still.loss.clear();
    return diagnose(model.build(batch_size(prompts)), still);
  }
  const Graph graph = with_loss(model, prompts);
  Diagnosis d = diagnose(graph, spec);
  d.findings.push_back(loss_finding(graph, model.feeds(graph, prompts), model.parameters(), spec));
  return d;
}

void require_causal(const Diagnosis& diagnosis) {
  for (const Finding& f : diagnosis.problems()) {
    if (f.check == "causality")
      throw NumericError("the model is not causal, so that training would teach it nothing: " +
                         to_string(f));
  }
}

std::string in_one_line(const Diagnosis& diagnosis) {
  std::string text;
  for (const Finding& f : diagnosis.findings) {
    if (f.check == "tied_weights" && f.severity == Finding::Severity::ok) continue;
    if (!text.empty()) text += "; ";
    text += f.what;
    if (f.severity != Finding::Severity::ok && !f.remedy.empty()) text += " (" + f.remedy + ")";
  }
  return text;
}

}  // namespace vitrine::nn

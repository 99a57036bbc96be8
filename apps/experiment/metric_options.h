// What is measured: --metric, the name of a metric or an expression.
#pragma once

#include <string>
#include <vector>

#include "apps/experiment/prompts_file.h"
#include "apps/options/options.h"
#include "interp/data/metric_expression.h"

namespace vitrine::app {

class MetricOptions {
 public:
  MetricOptions() = default;
  MetricOptions(const MetricOptions&) = delete;
  MetricOptions& operator=(const MetricOptions&) = delete;

  // `usual`: what is measured without it, for the help. `several`: whether it may be given again.
  void add_to(CommandLine& line, const std::string& usual = "logit_diff", bool several = false);
  bool given() const { return option_->count() > 0; }
  // After parsing: throws Error (usage) for what is no metric, pointing at the character.
  void require();
  // For verbs that run nothing but the clean prompts. Throws Error (usage) for kl where nothing is
  // edited: it is 0 there. `edited`: whether --edit or --edits were given.
  void refuse_kl(bool edited) const;
  // Those that were given, in their order.
  const std::vector<interp::MetricSpec>& specs() const { return specs_; }
  // The one that was given, or else the one of this name.
  interp::MetricSpec spec(const std::string& usual = "logit_diff") const;

 private:
  std::string text_;
  std::vector<std::string> texts_;
  std::vector<interp::MetricSpec> specs_;
  bool several_ = false;
  const Option* option_ = nullptr;
};

// What the lines of a file must have for these metrics.
PromptsNeed needs_of(const std::vector<interp::MetricSpec>& specs);

}  // namespace vitrine::app

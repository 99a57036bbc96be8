#include "apps/experiment/metric_options.h"

#include <algorithm>

#include "tensor/error.h"

namespace vitrine::app {

void MetricOptions::add_to(CommandLine& line, const std::string& usual, bool several) {
  several_ = several;
  const std::string doc =
      "what is measured after the prompt: logit_diff, logit[answer] - logit[wrong];\n"
      "logit, prob, log_prob (nats), rank (0: most probable) of the answer; accuracy, 1\n"
      "where the answer is the most probable token; kl, KL(clean || this run) (nats); loss\n"
      "of the prompt's tokens; or an expression over these and logit(T), prob(T),\n"
      "log_prob(T), rank(T) of a token T, which is \" Austin\", #ID, answer, wrong or @FIELD\n"
      "(a list in the file), with mean, sum, max, min, exp, log, abs, + - * / ():\n"
      "'logit(\" Austin\") - mean(logit(@cities))'" +
      std::string(several ? "; may be given several times\n" : "\n") + "(default: " + usual + ")";
  option_ = several ? line.option("--metric", texts_, "NAME|EXPRESSION", doc)
                    : line.option("--metric", text_, "NAME|EXPRESSION", doc);
}

void MetricOptions::require() {
  if (!given()) return;
  if (!several_) texts_ = {text_};
  for (const std::string& text : texts_) {
    try {
      specs_.push_back(interp::parse_metric(text));
    } catch (const Error& error) {
      throw Error(error.kind(), std::string("--") + error.what());  // "metric: ..."
    }
  }
}

void MetricOptions::refuse_kl(bool edited) const {
  if (edited) return;
  for (const interp::MetricSpec& s : specs_) {
    if (!s.contains(interp::MetricNode::Kind::kl)) continue;
    throw Error(ErrorKind::usage,
                "--metric: kl says how far an edited run is from the clean one, and nothing is "
                "edited here (--edit): it would be 0" +
                    interp::pointed_at(s.text, s.root->at));
  }
}

interp::MetricSpec MetricOptions::spec(const std::string& usual) const {
  return specs_.empty() ? interp::parse_metric(usual) : specs_[0];
}

PromptsNeed needs_of(const std::vector<interp::MetricSpec>& specs) {
  PromptsNeed need;
  for (const interp::MetricSpec& s : specs) {
    need.answer = need.answer || s.reads(interp::MetricToken::Of::answer);
    need.wrong = need.wrong || s.reads(interp::MetricToken::Of::wrong);
  }
  return need;
}

}  // namespace vitrine::app

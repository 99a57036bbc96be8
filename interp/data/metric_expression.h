// Metrics of one's own: expressions over what a model says after a prompt.
//
//   MetricSpec own = parse_metric("logit(\" Austin\") - mean(logit(@cities))");
//   MetricSpec usual = parse_metric("logit_diff");         // mean(logit(answer)) - mean(logit(wrong))
//   Metric metric = metric_of(model, examples, own);       // interp/data/measure.h
//
// An expression is made of
//   logit(T), prob(T), log_prob(T), rank(T)   of a token T after the last one of the prompt: a text
//                                             " Austin", an id #123, answer, wrong (of the
//                                             example), or @name, a list of tokens of the example
//   logit_diff, logit, prob, log_prob, rank, accuracy, kl, loss   the metrics with a name
//   mean, sum, max, min   of several values (of @name, of several answers), or of values a, b, ...
//   + - * / ( ) numbers, exp, log, abs
//
// Of several right answers `logit` is the mean, `prob` the sum, `log_prob` the logarithm of that,
// `rank` the best, and `accuracy` is 1 where the most probable token is one of them.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::interp {

// What a function of an expression is applied to.
struct MetricToken {
  enum class Of { text, id, answer, wrong, field } of = Of::answer;
  std::string name;  // the text, or the field's name
  int id = 0;
  std::size_t at = 0;        // the byte of the expression where it stands
  std::string text() const;  // as it is written: " Austin", #123, answer, @cities
};

// A part of an expression: a number, a quantity of a prompt or token, or an operation on parts.
struct MetricNode {
  enum class Kind {
    number,
    // of a token
    logit,
    prob,
    log_prob,
    rank,
    // of the prompt
    accuracy,
    loss,
    kl,
    // of one part
    negative,
    exp,
    log,
    abs,
    // of two
    plus,
    minus,
    times,
    over,
    // of several values
    mean,
    sum,
    max,
    min,
    log_sum  // log(sum(exp(x)))
  } kind = Kind::number;
  std::size_t at = 0;  // the byte of the text where it stands
  double number = 0;
  MetricToken token;
  std::vector<std::shared_ptr<const MetricNode>> parts;
};

// A metric as it is written, and its parts.
struct MetricSpec {
  std::string text;  // as it was written
  std::string name;  // of the metric's output: the text, if it is a metric's name; else "metric"
  std::shared_ptr<const MetricNode> root;

  bool reads(MetricToken::Of of) const;     // whether any part is about such tokens
  bool contains(MetricNode::Kind k) const;  // whether there is a part of this kind
  // Throws Error (usage), pointing at it, for a part that is a step and so has no gradient: rank
  // and accuracy.
  void require_gradient() const;
};

// Throws Error (usage) for what is no expression: it shows the text with a mark under the
// character, and says what was expected there.
MetricSpec parse_metric(std::string_view text);
// The metrics that have a name, in the order in which people ask for them.
std::vector<std::string_view> metric_names();

// Two lines, the text and a mark under the byte `at`, for a message.
std::string pointed_at(std::string_view text, std::size_t at);

}  // namespace vitrine::interp

// What a model says after many prompts, measured: metrics of examples as graphs, and their values
// over a data set, many prompts to a plan.
//
//   // data: a std::vector<Example>
//   const MetricSpec specs[] = {parse_metric("logit_diff"), parse_metric("rank")};
//   Measurement m = measure(model, data, specs);
//   m.values[0];                                           // the logit difference of each example
//   statistic(m.values[0]).mean;
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "autograd/transform/intervention.h"
#include "interp/data/data_set.h"
#include "interp/data/metric_expression.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// The metric as a graph, for runs of these examples' prompts, clean or corrupt. Token ids are
// feeds, so that examples of the same lengths share a plan. The examples' lists may differ in
// length: they are filled up in a table, and what fills is not counted. KL is measured from the
// run of the clean prompts, which is made for it: of `clean`, the model without its edits, say, or
// else of this one.
//
// Throws, naming the line of the example: Error (input) where an example lacks what the metric
// reads (an answer, a wrong answer, a field); TokenError for a text that is not one token and for
// an id that the model does not have; ContextError for the loss of a prompt of one token; Error
// (usage), pointing at it, for several values of a prompt that nothing takes together.
//
// An answer of several tokens has log_prob and prob: the sum of its tokens' log probabilities. It
// must be the only one, and the run must read it behind the prompt: prompts_to_run.
Metric metric_of(const nn::Model& model, std::span<const Example> examples, const MetricSpec& spec,
                 const nn::Model* clean = nullptr);

// Throws TokenError for an id that the model does not have.
void check_answer(const nn::Model& model, int id);

// Whether the metric reads answers of several tokens.
bool reads_long_answers(std::span<const Example> examples, const MetricSpec& spec);
// What is to be run for the metric: the prompts, with their answers behind them where those are of
// several tokens; `corrupt`: the corrupt prompts. All but the answer's last token.
std::vector<nn::Tokens> prompts_to_run(std::span<const Example> examples, const MetricSpec& spec,
                                       bool corrupt = false);

struct MeasureOptions {
  const nn::Model* clean = nullptr;                   // from whose runs KL is measured
  Interventions what;                                 // edits of every run
  std::int64_t memory = std::int64_t{1} << 28;        // bytes of logits at a time
  const std::atomic<bool>* cancel = nullptr;          // InterruptedError when set
  std::function<void(int done, int total)> progress;  // prompts
};
struct Measurement {
  std::vector<std::vector<double>> values;  // of each metric, of each example
  // After each prompt: the most probable token (of equal ones the lowest id), its probability.
  std::vector<int> top;
  std::vector<double> top_probability;
};
// Runs the examples' prompts, as many to a plan as there is memory for, and measures all metrics of
// the same runs. Throws what metric_of throws, and NumericError for a metric that is not a number.
Measurement measure(const nn::Model& model, std::span<const Example> examples,
                    std::span<const MetricSpec> specs, const MeasureOptions& options = {});

}  // namespace vitrine::interp

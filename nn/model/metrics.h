// Metrics: scalars of a run (logit difference, probability, KL divergence, loss) that can be
// fetched, differentiated and swept.
//
//   Metric d = nn::logit_diff({austin, paris}, {sacramento, rome});  // one answer for each prompt
//   nn::Run r = m.run_edited(prompts, edits, fetch(value(d), value(per_prompt_name(d))), &d);
//   r.results.scalar("logit_diff");                                  // the mean over the prompts
//   r["logit_diff_per_prompt"];                                      // [prompts]
//
// A metric NAME adds the output NAME, the mean over the prompts, and NAME_per_prompt [prompts]. All
// but training_loss read the logits as they flow on from unembed.hook_out, edits included. Answers
// are feeds, so that one plan serves them all; Metric::feeds holds them, and a run needs them
// beside batch_feeds. A wrong answer is noticed when the metric is emitted: TokenError for an id
// outside the vocabulary, ShapeError for a number of answers that is neither 1 nor that of the
// prompts.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "autograd/transform/gradient.h"
#include "nn/model/batch.h"

namespace vitrine::nn {

// Token ids: one for all prompts, or one for each.
struct Answers {
  Answers(int id) : ids{id} {}                              // NOLINT(google-explicit-constructor)
  Answers(std::vector<int> each) : ids(std::move(each)) {}  // NOLINT(google-explicit-constructor)
  Answers(std::initializer_list<int> each) : ids(each) {}
  std::vector<int> ids;
};

// ---- after the last token of each prompt ------------------------------------------------------
// logit[answer] - logit[wrong]. With two ids they are part of the graph, and nothing needs to be
// fed; with Answers they are the feeds logit_diff.answer and logit_diff.wrong.
Metric logit_diff(int answer, int wrong);
Metric logit_diff(const Answers& answers, const Answers& wrongs);
Metric logit(const Answers& answers);            // "logit"
Metric probability(const Answers& answers);      // "prob"
Metric log_probability(const Answers& answers);  // "log_prob", in nats
// "rank": how many tokens are more probable than the answer, of equal ones those of lower ids; 0 for
// the most probable one. "accuracy": 1 where the answer is the most probable token, else 0. They
// are steps, so that no gradient says anything of them: theirs is 0 everywhere.
Metric rank(const Answers& answers);
Metric accuracy(const Answers& answers);
// KL(clean || edited) in nats, "kl": how far the prediction is from that of `clean`, logits
// [prompts, vocabulary] as Run::last_logits gives them, or [vocabulary] for all prompts.
Metric kl_to(const Tensor& clean);

// ---- over several tokens ----------------------------------------------------------------------
// The log probability of answers of several tokens, "log_prob", in nats: the sum over each answer's
// tokens. The run reads prompts and answers together, as with_answers gives them, or with more
// tokens after these; `prompts` are without the answers. One answer serves all prompts; one prompt
// serves a batch of its copies. Where a prompt was run without its answer the value is NaN. Throws
// ContextError for an empty prompt or answer.
Metric log_probability(const std::vector<Tokens>& prompts, const std::vector<Tokens>& answers);
// Concatenates each prompt and its answer without the answer's last token, which predicts nothing
// that is asked for.
std::vector<Tokens> with_answers(const std::vector<Tokens>& prompts,
                                 const std::vector<Tokens>& answers);

// Cross-entropy of predicting each token from those before it, "prompt_loss", in nats: the mean
// over each prompt's tokens, and over the prompts. Prompts must have at least two tokens; the mean
// of one without is NaN. Inputs: next.row, next.token of batch_feeds.
Metric prompt_loss();

// The mean over the tokens of all prompts, "loss": longer prompts count for more. n is
// next_tokens(prompts). Adds the output loss_per_token [n].
Metric next_token_loss(std::int64_t n);
// The same number for training: the logits are made a chunk at a time and never stored, so edits
// and gradients of unembed.hook_out have no part in it.
Metric training_loss(std::int64_t n);

// ---- your own ---------------------------------------------------------------------------------
// A metric from its values [prompts], which `each` emits.
Metric per_prompt(std::string name, std::function<Value(Builder&)> each, Feeds feeds = {});
std::string per_prompt_name(const Metric& metric);  // of the output that has them
// The logits after the last token of each prompt [prompts, vocabulary]. Input: rows.last.
Value last_logits(Builder& b);
// The values [prompts] of the metrics above, from logits [prompts, vocabulary] and ids [prompts].
Value rank_of(const Value& logits, const Value& ids);
Value is_top(const Value& logits, const Value& ids);  // of accuracy
Value divergence(const Value& clean, const Value& logits);
Value loss_of_each_prompt(Builder& b);  // of prompt_loss
// The row of each position [prompts, n] of the prompts; -1 where the prompt has no such position.
Value rows_at(Builder& b, const Value& position);
// What log_probability of several tokens emits, [prompts], and its feeds.
struct AnswerLogProbability {
  std::function<Value(Builder&)> each;
  Feeds feeds;
};
AnswerLogProbability answer_log_probability(const std::vector<Tokens>& prompts,
                                            const std::vector<Tokens>& answers);

}  // namespace vitrine::nn

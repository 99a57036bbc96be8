// Questions about many prompts at once, and the batches in which they are run: prompts of any
// lengths lie in one batch without padding, as many together as memory allows.
//
//   std::vector<Asked> asked = {{.prompt = m.tokens("The capital of Texas is"),
//                                .answer = m.token(" Austin")},
//                               {.prompt = m.tokens("Paris is the capital of"),
//                                .answer = m.token(" France")}};
//   Metric logits = answer_logit(asked);        // of each prompt, its own answer's
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "autograd/transform/intervention.h"
#include "interp/data/data_set.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// A prompt, a position of it, and the tokens that could come next there.
struct Asked {
  nn::Tokens prompt;
  std::int64_t position = -1;  // negative: from the end
  std::optional<int> answer;
  std::optional<int> wrong;  // then logit[answer] - logit[wrong] is meant
};

// Throws what nn::check_prompts throws; ContextError for a position that the prompt does not have;
// TokenError for an answer outside the vocabulary; and Error (usage) for a wrong answer without an
// answer, or, where `answers` are needed, for a prompt without one. All name the prompt where there
// are several.
void check_asked(const nn::Model& model, std::span<const Asked> asked, bool answers);
// Throws TokenError, naming what the token is for, unless the model knows it.
void check_token(const nn::Model& model, int id, std::string_view what);
// Throws ContextError unless the prompt has the position; `whose` names the prompt.
void check_position(const nn::Tokens& prompt, std::int64_t position,
                    std::string_view whose = "the prompt");
std::int64_t row_asked(const Asked& asked);  // the position, counted from the first token
// The prompts up to their positions: what comes later cannot change what is there.
std::vector<nn::Tokens> up_to_positions(std::span<const Asked> asked);

// The prompts to run: those up to the positions, or, where edits that stand on the model are told by
// positions of the whole prompt (nn/model/standing_edits.h), the whole ones; and the feed rows.last
// with which a run reads the positions' rows.
std::vector<nn::Tokens> prompts_to_run(const nn::Model& model, std::span<const Asked> asked);
Feeds rows_asked(const nn::Model& model, std::span<const Asked> asked);
// The logits after the positions, [prompts, vocabulary], of one batch.
Tensor logits_asked(const nn::Model& model, std::span<const Asked> asked);

// Per prompt logit[answer], or logit[answer] - logit[wrong] where there is a wrong answer, after
// the last token; "answer_logit". Answers are feeds: one plan serves all.
Metric answer_logit(std::span<const Asked> asked);
// The same answers as feeds NAME.answer and NAME.wrong, i32 [prompts]: -1 where there is none, of
// which gather_rows makes zeros.
Feeds answer_feeds(const std::string& name, std::span<const Asked> asked);
// logits [n, vocabulary] at answer and wrong i32 [n], as answer_feeds has them: [n].
Value logits_of(const Value& logits, const Value& answer, const Value& wrong);

// ---- batches ------------------------------------------------------------------------------------
// What one batch may hold; a prompt that is larger is run alone.
struct BatchLimits {
  std::int64_t rows = 4096;                      // tokens
  std::int64_t entries = std::int64_t{1} << 20;  // of one head's attention: rows x the longest
  std::int64_t prompts = std::numeric_limits<std::int64_t>::max();
};
// So that the logits of one row of each prompt take no more than 128 MiB.
BatchLimits limits_of_logits(const nn::Model& model);
// Consecutive prompts that are run together: [begin, end) of each batch.
std::vector<std::pair<std::size_t, std::size_t>> batches(std::span<const nn::Tokens> prompts,
                                                         const BatchLimits& limits = {});
// What an edit of a batch of these examples selects that has only their positions of each selection:
// one Where for every list of positions. Throws ContextError for a position that an example does not
// have.
std::vector<Where> at_positions(std::span<const Where> selected, std::span<const Example> batch,
                                std::span<const Position> positions);
std::vector<nn::Tokens> part_of(std::span<const nn::Tokens> prompts, std::size_t begin,
                                std::size_t end);

// Resampling: for each prompt another one of as many tokens, its follower in a random order of these,
// taken as a circle. Throws Error (input), which `alone` says, for a prompt that is the only one of
// its length.
std::vector<std::size_t> followers(
    std::span<const nn::Tokens> prompts, std::uint64_t seed,
    const std::function<std::string(std::size_t prompt, std::size_t length)>& alone);

// The output NAME.sum: a metric summed over its prompts, whose gradient is that of each prompt's own
// value. The metric must be in the graph.
std::string summed_name(const Metric& metric);
Graph with_sum(const Graph& graph, const Metric& metric);

}  // namespace vitrine::interp

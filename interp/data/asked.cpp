#include "interp/data/asked.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "autograd/ops/ops.h"
#include "nn/model/metrics.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::interp {
namespace {

Tensor ids_of(std::span<const Asked> asked, std::optional<int> Asked::*which, int none) {
  std::vector<std::int32_t> ids;
  for (const Asked& a : asked) ids.push_back((a.*which).value_or(none));
  return Tensor::of({std::ssize(ids)}, ids);
}

}  // namespace

void check_token(const nn::Model& model, int id, std::string_view what) {
  if (id >= 0 && id < model.config().vocabulary) return;
  throw TokenError(fmt::format("{} has id {}; this model knows ids 0 to {}", what, id,
                               model.config().vocabulary - 1));
}

void check_position(const nn::Tokens& prompt, std::int64_t position, std::string_view whose) {
  if (position >= 0 && position < std::ssize(prompt)) return;
  throw ContextError(fmt::format("there is no position {}: {} has {} tokens, 0 to {}", position,
                                 whose, prompt.size(), std::ssize(prompt) - 1));
}

void check_asked(const nn::Model& model, std::span<const Asked> asked, bool answers) {
  std::vector<nn::Tokens> prompts;
  for (const Asked& a : asked) prompts.push_back(a.prompt);
  nn::check_prompts(prompts, model.config());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const Asked& a = asked[i];
    const bool one = asked.size() == 1;
    const std::string of = one ? "" : fmt::format(" of prompt {}", i);
    if (a.answer) check_token(model, *a.answer, "the answer" + of);
    if (a.wrong) check_token(model, *a.wrong, "the wrong answer" + of);
    if (a.wrong && !a.answer) {
      throw Error(ErrorKind::usage,
                  fmt::format("there is a wrong answer{} without an answer: effects are on the "
                              "logit of the answer, or on its difference from that of the wrong "
                              "one; give the answer too",
                              of));
    }
    if (answers && !a.answer) {
      throw Error(
          ErrorKind::usage,
          fmt::format("there is no answer{}: this asks about the logit of a token; give one", of));
    }
    const auto length = std::ssize(a.prompt);
    if (a.position >= length || a.position < -length)
      check_position(a.prompt, a.position, one ? "the prompt" : fmt::format("prompt {}", i));
  }
}

std::int64_t row_asked(const Asked& asked) {
  return asked.position < 0 ? asked.position + std::ssize(asked.prompt) : asked.position;
}

std::vector<nn::Tokens> up_to_positions(std::span<const Asked> asked) {
  std::vector<nn::Tokens> prompts;
  for (const Asked& a : asked)
    prompts.emplace_back(a.prompt.begin(), a.prompt.begin() + row_asked(a) + 1);
  return prompts;
}

namespace {

bool edits_places(const nn::Model& model) {
  return std::any_of(model.standing().begin(), model.standing().end(),
                     [](const nn::StandingEdit& e) { return e.positions || e.keys || e.value; });
}

}  // namespace

std::vector<nn::Tokens> prompts_to_run(const nn::Model& model, std::span<const Asked> asked) {
  if (!edits_places(model)) return up_to_positions(asked);
  std::vector<nn::Tokens> prompts;
  for (const Asked& a : asked) prompts.push_back(a.prompt);
  return prompts;
}

Feeds rows_asked(const nn::Model& model, std::span<const Asked> asked) {
  std::vector<std::int32_t> rows;
  std::int64_t first = 0;
  const bool whole = edits_places(model);
  for (const Asked& a : asked) {
    const std::int64_t row = row_asked(a);
    rows.push_back(static_cast<std::int32_t>(first + row));
    first += whole ? std::ssize(a.prompt) : row + 1;
  }
  return {{"rows.last", Tensor::of({std::ssize(rows)}, rows)}};
}

Tensor logits_asked(const nn::Model& model, std::span<const Asked> asked) {
  const std::vector<nn::Tokens> prompts = prompts_to_run(model, asked);
  Builder b(model.build(nn::batch_size(prompts)));
  b.output("asked.logits", nn::last_logits(b));
  return model
      .run_graph(std::move(b).finish(), prompts, fetch(value("asked.logits")),
                 rows_asked(model, asked))
      .results.raw("asked.logits");
}

Feeds answer_feeds(const std::string& name, std::span<const Asked> asked) {
  return {{name + ".answer", ids_of(asked, &Asked::answer, -1)},
          {name + ".wrong", ids_of(asked, &Asked::wrong, -1)}};
}

Value logits_of(const Value& logits, const Value& answer, const Value& wrong) {
  // Where there is no wrong answer a token is picked all the same, and not selected.
  Builder& b = logits.builder();
  const Shape shape{logits.dim(0)};
  const Value none = b.constant(Tensor::zeros({}, DType::i32));
  const Value without = less(wrong, none);
  const Value of_wrong = pick(logits, select(without, broadcast_to(none, shape), wrong));
  const Value zero = broadcast_to(b.scalar(0, logits.dtype()), shape);
  return pick(logits, answer) - select(without, zero, of_wrong);
}

Metric answer_logit(std::span<const Asked> asked) {
  return nn::per_prompt(
      "answer_logit",
      [n = std::ssize(asked)](Builder& b) {
        return logits_of(nn::last_logits(b), b.input("answer_logit.answer", {DType::i32, {n}}),
                         b.input("answer_logit.wrong", {DType::i32, {n}}));
      },
      answer_feeds("answer_logit", asked));
}

// ---- batches ------------------------------------------------------------------------------------
BatchLimits limits_of_logits(const nn::Model& model) {
  constexpr std::int64_t kLogits = std::int64_t{1} << 25;
  return {.prompts = std::max<std::int64_t>(1, kLogits / model.config().vocabulary)};
}

std::vector<std::pair<std::size_t, std::size_t>> batches(std::span<const nn::Tokens> prompts,
                                                         const BatchLimits& limits) {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  std::int64_t rows = 0, longest = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto length = std::ssize(prompts[i]);
    rows += length;
    longest = std::max(longest, length);
    const bool fits = !found.empty() && rows <= limits.rows && rows * longest <= limits.entries &&
                      static_cast<std::int64_t>(i - found.back().first) < limits.prompts;
    if (fits) {
      found.back().second = i + 1;
    } else {
      found.emplace_back(i, i + 1);
      rows = longest = length;
    }
  }
  return found;
}

std::vector<Where> at_positions(std::span<const Where> selected, std::span<const Example> batch,
                                std::span<const Position> positions) {
  std::map<std::vector<std::int64_t>, std::vector<std::int64_t>> prompts;  // that have these
  for (std::size_t i = 0; i < batch.size(); ++i)
    prompts[batch[i].all_at(positions)].push_back(static_cast<std::int64_t>(i));
  const Where everything[] = {{}};
  std::vector<Where> wheres;
  for (const Where& w : selected.empty() ? std::span<const Where>(everything) : selected) {
    for (const auto& [at, having] : prompts) {
      wheres.push_back(w);
      wheres.back().prompt = having;
      wheres.back().pos = at;
    }
  }
  return wheres;
}

std::vector<nn::Tokens> part_of(std::span<const nn::Tokens> prompts, std::size_t begin,
                                std::size_t end) {
  const auto part = prompts.subspan(begin, end - begin);
  return {part.begin(), part.end()};
}

std::vector<std::size_t> followers(
    std::span<const nn::Tokens> prompts, std::uint64_t seed,
    const std::function<std::string(std::size_t prompt, std::size_t length)>& alone) {
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < prompts.size(); ++i) by_length[prompts[i].size()].push_back(i);
  std::vector<std::size_t> follower(prompts.size());
  for (auto& [length, group] : by_length) {
    if (group.size() < 2) throw Error(ErrorKind::input, alone(group[0], length));
    const random::Key key = random::Key{seed}.fold(fmt::format("resample {}", length));
    for (std::size_t i = group.size() - 1; i > 0; --i)
      std::swap(group[i], group[static_cast<std::size_t>(
                              random::below(key, i, static_cast<std::uint64_t>(i + 1)))]);
    for (std::size_t i = 0; i < group.size(); ++i)
      follower[group[i]] = group[(i + 1) % group.size()];
  }
  return follower;
}

std::string summed_name(const Metric& metric) { return metric.name + ".sum"; }
Graph with_sum(const Graph& graph, const Metric& metric) {
  Builder b(graph);
  b.output(summed_name(metric), sum(b.output(nn::per_prompt_name(metric))));
  return std::move(b).finish();
}

}  // namespace vitrine::interp

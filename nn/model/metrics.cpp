#include "nn/model/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "nn/families/sites.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

std::int64_t prompts_of(Builder& b) { return b.value(b.row_table().keys).dim(0); }

void check_token(std::string_view metric, std::string_view what, int id, std::int64_t vocabulary) {
  if (id >= 0 && id < vocabulary) return;
  throw TokenError(fmt::format("{}: {} token id {}; this model knows ids 0 to {}", metric, what, id,
                               vocabulary - 1));
}
void check_count(std::string_view metric, const char* what, std::int64_t count,
                 std::int64_t prompts) {
  if (count == 1 || count == prompts) return;
  throw ShapeError(fmt::format("{}: {} {} for {} prompts; give one for each, or one for all",
                               metric, count, what, prompts));
}

Tensor as_feed(const Answers& answers) {
  return Tensor::of({static_cast<std::int64_t>(answers.ids.size())},
                    std::vector<std::int32_t>(answers.ids.begin(), answers.ids.end()));
}

// Each prompt's answer, checked against logits [prompts, vocabulary]: [prompts].
Value ids_of(const Value& logits, const std::string& metric, const Answers& answers,
             const char* role = "answer", const char* what = "the answer") {
  const std::int64_t prompts = logits.dim(0), count = static_cast<std::int64_t>(answers.ids.size());
  check_count(metric, "answers", count, prompts);
  for (std::size_t i = 0; i < answers.ids.size(); ++i) {
    const std::string of = count == 1 ? "" : fmt::format(" of prompt {}", i);
    check_token(metric, fmt::format("{}{} is", what, of), answers.ids[i], logits.dim(1));
  }
  const Value index =
      logits.builder().input(fmt::format("{}.{}", metric, role), {DType::i32, {count}});
  return broadcast_to(index, {prompts});
}

// logits [prompts, vocabulary] at each prompt's answer: [prompts].
Value at_answer(const Value& logits, const std::string& metric, const Answers& answers,
                const char* role = "answer", const char* what = "the answer") {
  return pick(logits, ids_of(logits, metric, answers, role, what));
}

// A metric of one answer for each prompt.
Metric of_answers(const std::string& name, const Answers& answers,
                  Value (*each)(const Value& logits, const std::string& name, const Answers&)) {
  return per_prompt(name, [=](Builder& b) { return each(last_logits(b), name, answers); },
                    {{name + ".answer", as_feed(answers)}});
}

// Answers of several tokens as tables [answers, longest], filled up with 0 that are not counted:
// which token is predicted, and from which position.
struct AnswerTables {
  std::int64_t count = 0, longest = 0;
  std::vector<std::int32_t> token, position;
  std::vector<bool> counted;
};

std::size_t pairs(const std::vector<Tokens>& prompts, const std::vector<Tokens>& answers) {
  check_count("log_prob", "answers", static_cast<std::int64_t>(answers.size()),
              static_cast<std::int64_t>(prompts.size()));
  for (const auto& [all, what] : {std::pair(&prompts, "prompt"), std::pair(&answers, "answer")}) {
    for (std::size_t i = 0; i < all->size(); ++i) {
      if ((*all)[i].empty())
        throw ContextError(
            fmt::format("log_prob: {} {} is empty; it needs at least one token", what, i));
    }
  }
  return prompts.size();
}
const Tokens& answer_of(const std::vector<Tokens>& answers, std::size_t prompt) {
  return answers.size() == 1 ? answers[0] : answers[prompt];
}

AnswerTables tables(const std::vector<Tokens>& prompts, const std::vector<Tokens>& answers) {
  AnswerTables t;
  const std::size_t count = pairs(prompts, answers);
  std::size_t longest = 0;
  for (const Tokens& a : answers) longest = std::max(longest, a.size());
  for (std::size_t i = 0; i < count; ++i) {
    const Tokens& answer = answer_of(answers, i);
    for (std::size_t k = 0; k < longest; ++k) {
      const bool counted = k < answer.size();
      t.token.push_back(counted ? answer[k] : 0);
      t.position.push_back(counted ? static_cast<std::int32_t>(prompts[i].size() + k) - 1 : 0);
      t.counted.push_back(counted);
    }
  }
  t.count = static_cast<std::int64_t>(count);
  t.longest = static_cast<std::int64_t>(longest);
  return t;
}

}  // namespace

// ---- your own ---------------------------------------------------------------------------------
std::string per_prompt_name(const Metric& metric) { return metric.name + "_per_prompt"; }

Metric per_prompt(std::string name, std::function<Value(Builder&)> each, Feeds feeds) {
  Metric metric{std::move(name), {}, std::move(feeds)};
  metric.emit = [name = metric.name, output = per_prompt_name(metric),
                 each = std::move(each)](Builder& b) {
    const Value values = each(b);
    if (!(values.shape() == Shape{prompts_of(b)})) {
      throw ShapeError(fmt::format("{}: a metric has one value for each of the {} prompts, not {}",
                                   name, prompts_of(b), to_string(values.shape())));
    }
    b.output(output, values);
    return mean(values);
  };
  return metric;
}

Value last_logits(Builder& b) {
  const Value last = b.input("rows.last", {DType::i32, {prompts_of(b)}});
  return gather_rows(b.output("logits"), last);
}

Value rows_at(Builder& b, const Value& position) {
  const Value keys = b.value(b.row_table().keys);  // [prompts, positions]
  const std::int64_t prompts = keys.dim(0), n = position.dim(1), positions = keys.dim(1);
  const Value each = reshape(cast(keys, DType::f64), {prompts, 1, positions});
  return cast(pick(broadcast_to(each, {prompts, n, positions}), position), DType::i32);
}

Value rank_of(const Value& logits, const Value& ids) {
  Builder& b = logits.builder();
  const std::int64_t prompts = logits.dim(0), vocabulary = logits.dim(1);
  std::vector<std::int32_t> every(static_cast<std::size_t>(vocabulary));
  std::iota(every.begin(), every.end(), 0);
  const Value own = reshape(pick(logits, ids), {prompts, 1}),
              lower = less(b.constant(Tensor::of({1, vocabulary}, every)),
                           reshape(cast(ids, DType::i32), {prompts, 1}));
  const Value before = logical_or(less(own, logits), logical_and(equal(own, logits), lower));
  return sum(cast(before, logits.dtype()), {1});
}

Value is_top(const Value& logits, const Value& ids) {
  return cast(equal(cast(argmax(logits), DType::i32), cast(ids, DType::i32)), logits.dtype());
}

Value divergence(const Value& clean, const Value& logits) {
  const Value clean_log = log_softmax(clean);
  const Value p = exp(clean_log);  // [prompts or 1, vocabulary]
  // What has no probability counts for nothing, also when its logarithm is -inf.
  const Value zero = logits.builder().scalar(0, logits.dtype());
  return sum(select(less(zero, p), p * (clean_log - log_softmax(logits)), zero), {1});
}

// ---- after the last token of each prompt ------------------------------------------------------
Metric logit_diff(int answer, int wrong) {
  return per_prompt("logit_diff", [=](Builder& b) {
    const Value logits = last_logits(b);
    check_token("logit_diff", "the answer is", answer, logits.dim(1));
    check_token("logit_diff", "the wrong answer is", wrong, logits.dim(1));
    const Value each =
        slice(logits, 1, answer, answer + 1) - slice(logits, 1, wrong, wrong + 1);  // [prompts, 1]
    return reshape(each, {logits.dim(0)});
  });
}

Metric logit_diff(const Answers& answers, const Answers& wrongs) {
  return per_prompt(
      "logit_diff",
      [=](Builder& b) {
        const Value logits = last_logits(b);
        return at_answer(logits, "logit_diff", answers) -
               at_answer(logits, "logit_diff", wrongs, "wrong", "the wrong answer");
      },
      {{"logit_diff.answer", as_feed(answers)}, {"logit_diff.wrong", as_feed(wrongs)}});
}

Metric logit(const Answers& answers) {
  return of_answers("logit", answers,
                    [](const Value& logits, const std::string& name, const Answers& a) {
                      return at_answer(logits, name, a);
                    });
}
Metric log_probability(const Answers& answers) {
  return of_answers("log_prob", answers,
                    [](const Value& logits, const std::string& name, const Answers& a) {
                      return at_answer(log_softmax(logits), name, a);
                    });
}
Metric probability(const Answers& answers) {
  return of_answers("prob", answers,
                    [](const Value& logits, const std::string& name, const Answers& a) {
                      return exp(at_answer(log_softmax(logits), name, a));
                    });
}

Metric rank(const Answers& answers) {
  return of_answers("rank", answers,
                    [](const Value& logits, const std::string& name, const Answers& a) {
                      return rank_of(logits, ids_of(logits, name, a));
                    });
}
Metric accuracy(const Answers& answers) {
  return of_answers("accuracy", answers,
                    [](const Value& logits, const std::string& name, const Answers& a) {
                      return is_top(logits, ids_of(logits, name, a));
                    });
}

Metric kl_to(const Tensor& clean) {
  const Tensor rows = clean.rank() == 1 ? clean.unsqueeze(0) : clean;
  return per_prompt(
      "kl",
      [type = Type{rows.dtype(), rows.shape()}](Builder& b) {
        const Value logits = last_logits(b);
        if (type.shape.size() != 2 || type.shape[1] != logits.dim(1)) {
          throw ShapeError(fmt::format("kl: the clean logits must be [prompts, {}], not {}",
                                       logits.dim(1), to_string(type.shape)));
        }
        check_count("kl", "rows of clean logits", type.shape[0], logits.dim(0));
        return divergence(cast(b.input("kl.clean", type), logits.dtype()), logits);
      },
      {{"kl.clean", rows}});
}

// ---- over several tokens ----------------------------------------------------------------------
std::vector<Tokens> with_answers(const std::vector<Tokens>& prompts,
                                 const std::vector<Tokens>& answers) {
  std::vector<Tokens> all = prompts;
  for (std::size_t i = 0; i < pairs(prompts, answers); ++i) {
    const Tokens& answer = answer_of(answers, i);
    all[i].insert(all[i].end(), answer.begin(), answer.end() - 1);
  }
  return all;
}

Metric log_probability(const std::vector<Tokens>& prompts, const std::vector<Tokens>& answers) {
  AnswerLogProbability values = answer_log_probability(prompts, answers);
  return per_prompt("log_prob", std::move(values.each), std::move(values.feeds));
}

AnswerLogProbability answer_log_probability(const std::vector<Tokens>& prompts,
                                            const std::vector<Tokens>& answers) {
  const AnswerTables t = tables(prompts, answers);
  const Shape shape{t.count, t.longest};
  return {
      [=](Builder& b) {
        const Value logits = b.output("logits");
        const std::int64_t count = prompts_of(b), positions = b.value(b.row_table().keys).dim(1);
        check_count("log_prob", "answers", t.count, count);
        for (std::size_t i = 0; i < answers.size(); ++i) {
          for (const int id : answers[i])
            check_token("log_prob", fmt::format("answer {} has", i), id, logits.dim(1));
        }
        const std::int32_t last = *std::max_element(t.position.begin(), t.position.end());
        if (last >= positions) {
          throw ContextError(fmt::format(
              "log_prob: an answer is predicted up to position {}, but the prompts that are run "
              "have at most {} tokens; run prompts and answers together: with_answers(prompts, "
              "answers)",
              last, positions));
        }
        const auto table = [&](const char* name, DType dtype) {
          return broadcast_to(b.input(name, {dtype, shape}), {count, t.longest});
        };
        const Value token = table("log_prob.token", DType::i32),
                    position = table("log_prob.position", DType::i32),
                    counts = table("log_prob.counted", DType::boolean);
        const Value row = rows_at(b, position);  // [prompts, longest]
        const Shape flat{count * t.longest};
        const Value each =
            neg(cross_entropy(gather_rows(logits, reshape(row, flat)), reshape(token, flat)));
        const auto scope = b.scope("log_prob, where a prompt was run without its answer");
        const Value nan = b.scalar(std::numeric_limits<double>::quiet_NaN(), logits.dtype()),
                    none = b.constant(Tensor::zeros({}, DType::i32));
        const Value known = select(less(row, none), nan, reshape(each, row.shape()));
        return sum(select(counts, known, b.scalar(0, logits.dtype())), {1});
      },
      {{"log_prob.token", Tensor::of(shape, t.token)},
       {"log_prob.position", Tensor::of(shape, t.position)},
       {"log_prob.counted", Tensor::of(shape, t.counted)}}};
}

Value loss_of_each_prompt(Builder& b) {
  const Value sequence = b.value(b.row_table().sequence);  // [rows]
  const std::int64_t prompts = prompts_of(b), n = sequence.dim(0) - prompts;
  if (n <= 0)
    throw ContextError(
        "prompt_loss: there is no next token to predict; give prompts of at least "
        "two tokens");
  const Value row = b.input("next.row", {DType::i32, {n}}),
              token = b.input("next.token", {DType::i32, {n}});
  const Value per_token = cross_entropy(gather_rows(b.output("logits"), row), token);  // [n]
  const Value prompt = gather_rows(sequence, row);                                     // [n]
  const Value ones = broadcast_to(b.scalar(1, per_token.dtype()), {n});
  return scatter_add_rows(per_token, prompt, prompts) / scatter_add_rows(ones, prompt, prompts);
}

Metric prompt_loss() { return per_prompt("prompt_loss", loss_of_each_prompt); }

Metric next_token_loss(std::int64_t n) {
  return {"loss", [n](Builder& b) {
            const Value row = b.input("next.row", {DType::i32, {n}}),
                        token = b.input("next.token", {DType::i32, {n}});
            const Value per_token =
                cross_entropy(gather_rows(b.output("logits"), row), token);  // [n]
            b.output("loss_per_token", per_token);
            return mean(per_token);
          }};
}

namespace {

// Past the nodes that only name or pass on a value.
const Node& passed_on(Builder& b, NodeId id) {
  const Node* n = &b.node(id);
  while (passes_on(*n)) n = &b.node(n->inputs[0]);
  return *n;
}

// W_U [v, d], where the logits are nothing but its product with what goes into the unembedding. In some gauges a bias
// is added, and edits may come between: then the logits themselves must be read.
std::optional<Value> plain_unembedding(Builder& b) {
  const Node& logits = passed_on(b, b.output("logits").id());
  if (logits.op != &kMatmul) return {};
  if (passed_on(b, logits.inputs[0]).id != passed_on(b, b.at(site::unembed_in()).id()).id)
    return {};
  const Node& w = passed_on(b, logits.inputs[1]);  // [d, v]
  if (w.type.shape.size() != 2) return {};
  if (w.op == &kPermute) return b.value(w.inputs[0]);  // the leaf itself, as it is tied
  return permute(b.value(w.id), {1, 0});
}

}  // namespace

Metric training_loss(std::int64_t n) {
  return {"loss", [n](Builder& b) {
            const Value row = b.input("next.row", {DType::i32, {n}}),
                        token = b.input("next.token", {DType::i32, {n}});
            const std::optional<Value> w_u = plain_unembedding(b);  // [v, d]
            const Value each =
                w_u ? linear_cross_entropy(gather_rows(b.at(site::unembed_in()), row), *w_u, token)
                    : cross_entropy(gather_rows(b.output("logits"), row), token);
            b.output("loss_per_token", each);
            return mean(each);
          }};
}

}  // namespace vitrine::nn

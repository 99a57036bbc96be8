#include "interp/head_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "autograd/ops/ops.h"
#include "interp/data/asked.h"
#include "nn/families/sites.h"
#include "tensor/error.h"

namespace vitrine::interp {

// ---- heads --------------------------------------------------------------------------------------
std::string to_string(const Head& head) { return fmt::format("{}.{}", head.layer, head.head); }

std::vector<Head> all_heads(const nn::Config& config) {
  std::vector<Head> all;
  for (int l = 0; l < config.layers; ++l) {
    for (int h = 0; h < config.heads; ++h) all.push_back({l, h});
  }
  return all;
}

Head parse_head(std::string_view text, const nn::Config& config) {
  Head h;
  const char *end = text.data() + text.size(), *at = text.data();
  auto [dot, error] = std::from_chars(at, end, h.layer);
  bool whole = error == std::errc() && dot != end && *dot == '.';
  if (whole) {
    const auto [stop, second] = std::from_chars(dot + 1, end, h.head);
    whole = second == std::errc() && stop == end;
  }
  if (!whole) {
    throw Error(ErrorKind::usage,
                fmt::format("'{}' is not a head; write LAYER.HEAD, such as 1.0", text));
  }
  if (h.layer < 0 || h.layer >= config.layers || h.head < 0 || h.head >= config.heads) {
    throw Error(ErrorKind::usage,
                fmt::format("there is no head {}: this model has layers 0 to {} with heads 0 to {}",
                            text, config.layers - 1, config.heads - 1));
  }
  return h;
}

// ---- the prompts --------------------------------------------------------------------------------
std::vector<nn::Tokens> repeated_tokens(const nn::Config& config, random::Key key, int sequences,
                                        int half) {
  if (sequences < 1 || half < 2) {
    throw Error(ErrorKind::usage,
                fmt::format("random tokens said twice: {} sequences of twice {} tokens; there must "
                            "be at least 1 of twice 2",
                            sequences, half));
  }
  half = std::min(half, config.context / 2);
  std::vector<int> ids;
  for (int id = 0; id < config.vocabulary; ++id)
    if (id != config.bos && id != config.eos) ids.push_back(id);
  if (half < 2 || ids.size() < 2) {
    throw Error(ErrorKind::input,
                fmt::format("random tokens said twice need a context of 4 tokens and a vocabulary "
                            "of 2; this model has {} and {}",
                            config.context, ids.size()));
  }
  std::vector<nn::Tokens> prompts;
  std::uint64_t draw = 0;
  for (int s = 0; s < sequences; ++s) {
    nn::Tokens tokens;
    for (int i = 0; i < half; ++i) {
      const auto at = random::below(key, draw++, std::ssize(ids));
      tokens.push_back(ids[static_cast<std::size_t>(at)]);
    }
    tokens.insert(tokens.end(), tokens.begin(), tokens.begin() + half);
    prompts.push_back(std::move(tokens));
  }
  return prompts;
}

void check_repeated(const std::vector<nn::Tokens>& prompts) {
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const nn::Tokens& p = prompts[i];
    const std::size_t half = p.size() / 2;
    if (half < 2 || p.size() % 2 != 0 ||
        !std::equal(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(half),
                    p.begin() + static_cast<std::ptrdiff_t>(half))) {
      throw Error(
          ErrorKind::input,
          fmt::format("prompt {} of {} tokens does not say the same 2 or more tokens twice, "
                      "which head scores need; repeated_tokens() makes such prompts",
                      i, p.size()));
    }
    if (p.size() != prompts[0].size()) {
      throw Error(ErrorKind::input,
                  fmt::format("prompt {} has {} tokens and prompt 0 has {}; head scores need "
                              "prompts of one length",
                              i, p.size(), prompts[0].size()));
    }
  }
}

// ---- the scores ---------------------------------------------------------------------------------
namespace {

// Each score is a sum of entries of the patterns, each with its weight: [3, rows, key].
Tensor weights_of_entries(const std::vector<nn::Tokens>& prompts) {
  const auto count = std::ssize(prompts);
  const std::int64_t length = std::ssize(prompts[0]), half = length / 2, rows = count * length;
  const Tensor weights = Tensor::zeros({3, rows, length}, DType::f64);
  const auto add = [&](int score, std::int64_t prompt, std::int64_t q, std::int64_t k, double x) {
    weights.data<double>()[(score * rows + prompt * length + q) * length + k] += x;
  };
  const double each_query = 1 / static_cast<double>(count * (length - 1)),
               each_second = 1 / static_cast<double>(count * half);
  for (std::int64_t p = 0; p < count; ++p) {
    const nn::Tokens& tokens = prompts[static_cast<std::size_t>(p)];
    for (std::int64_t q = 1; q < length; ++q) {
      add(0, p, q, q - 1, each_query);
      if (q < half) continue;
      for (std::int64_t k = 0; k < q; ++k) {
        if (tokens[static_cast<std::size_t>(k)] == tokens[static_cast<std::size_t>(q)])
          add(1, p, q, k, each_second);
      }
      add(2, p, q, q - half + 1, each_second);
    }
  }
  return weights;
}

}  // namespace

Metric head_score_metric(const nn::Config& config, const std::vector<nn::Tokens>& prompts) {
  check_repeated(prompts);
  const Tensor weights = weights_of_entries(prompts);
  const auto emit = [layers = config.layers, shape = weights.shape()](Builder& b) {
    const Value weight = b.input("head_scores.weights", {DType::f64, shape});  // [3, rows, key]
    std::vector<Value> scores;
    for (int l = 0; l < layers; ++l) {
      const Value pattern = b.at(site::pattern(l));  // [rows, head, key]
      const Value typed = cast(weight, pattern.dtype());
      for (int s = 0; s < 3; ++s) {
        const Value one = reshape(slice(typed, 0, s, s + 1), {shape[1], 1, shape[2]});
        scores.push_back(reshape(sum(pattern * one, {0, 2}), {1, pattern.dim(1)}));
      }
    }
    const std::int64_t heads = scores[0].dim(1);
    const Value all = reshape(concat(scores, 0), {layers, 3, heads});
    b.output(kHeadScores, all);
    return mean(slice(all, 1, 2, 3));
  };
  return {"induction", emit, {{"head_scores.weights", weights}}};
}

HeadScores head_scores(const nn::Model& model, const std::vector<nn::Tokens>& prompts) {
  const Metric metric = head_score_metric(model.config(), prompts);
  nn::check_prompts(prompts, model.config());
  const Graph graph = with_metric(model.build(nn::batch_size(prompts)), metric);
  const Tensor all =
      model.run_graph(graph, prompts, fetch(value(kHeadScores)), metric.feeds)[kHeadScores].to(
          DType::f64);
  return {all.select(1, 0).contiguous(), all.select(1, 1).contiguous(),
          all.select(1, 2).contiguous()};
}

// ---- on prompts of any kind ---------------------------------------------------------------------
namespace {

std::string own_name(const char* what, int layer) {
  return fmt::format("head_scores.{}.{}", what, layer);
}

// The queries whose token was there before, and their weights of keys: w[0] of the duplicates, w[1]
// of the tokens after them, each divided by the number of the prompt's queries that have some.
struct RepeatedTokens {
  std::vector<std::int32_t> row, prompt;
  std::vector<double> weights;            // [2, queries, keys]
  std::vector<std::array<int, 2>> count;  // of each prompt's queries, with duplicates, with tokens
                                          // after them
};
RepeatedTokens repeated_in(const std::vector<nn::Tokens>& prompts, std::int64_t keys) {
  RepeatedTokens found;
  std::array<std::vector<std::vector<std::size_t>>, 2> looked_at;  // [kind][query]
  std::int32_t first = 0;
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const nn::Tokens& tokens = prompts[p];
    found.count.push_back({0, 0});
    for (std::size_t q = 0; q < tokens.size(); ++q) {
      std::array<std::vector<std::size_t>, 2> at;
      for (std::size_t k = 0; k < q; ++k) {
        if (tokens[k] != tokens[q]) continue;
        at[0].push_back(k);
        if (k + 1 < q) at[1].push_back(k + 1);
      }
      if (at[0].empty()) continue;
      found.row.push_back(first + static_cast<std::int32_t>(q));
      found.prompt.push_back(static_cast<std::int32_t>(p));
      for (std::size_t kind = 0; kind < 2; ++kind) {
        found.count[p][kind] += at[kind].empty() ? 0 : 1;
        looked_at[kind].push_back(std::move(at[kind]));
      }
    }
    first += static_cast<std::int32_t>(tokens.size());
  }
  for (std::size_t kind = 0; kind < 2; ++kind) {
    for (std::size_t i = 0; i < found.row.size(); ++i) {
      const auto begin = found.weights.size();
      found.weights.resize(begin + static_cast<std::size_t>(keys), 0.0);
      const int count = found.count[static_cast<std::size_t>(found.prompt[i])][kind];
      for (const std::size_t k : looked_at[kind][i]) found.weights[begin + k] = 1.0 / count;
    }
  }
  return found;
}

// Emits [prompts, head] for each layer: "previous", and "repeated" [2, prompts, head] where some
// token is there again.
class OwnScores {
 public:
  OwnScores(const nn::Model& model, const std::vector<nn::Tokens>& prompts)
      : n_(std::ssize(prompts)), size_(nn::batch_size(prompts)) {
    found_ = repeated_in(prompts, size_.positions);
    const auto again = std::ssize(found_.row);
    Builder b(model.build(size_));
    const auto ids = [&](const char* name, std::int64_t n) {
      return b.input(name, {DType::i32, {n}});
    };
    const std::int64_t rest = size_.rows - n_;
    Value later, later_prompt, before, row, prompt, weights;
    if (rest > 0) {
      later = ids("head_scores.later", rest);
      later_prompt = ids("head_scores.later_prompt", rest);
      before = ids("head_scores.before", rest);
    }
    if (again > 0) {
      row = ids("head_scores.row", again);
      prompt = ids("head_scores.prompt", again);
      weights = b.input("head_scores.keys", {DType::f64, {2, again, size_.positions}});
    }
    for (int l = 0; l < model.config().layers; ++l) {
      const Value pattern = b.at(site::pattern(l));  // [rows, head, keys]
      const std::int64_t heads = pattern.dim(1);
      if (rest > 0) {
        const Value key = broadcast_to(reshape(before, {rest, 1}), {rest, heads});
        const Value one = pick(gather_rows(pattern, later), key);  // [later rows, head]
        add(b, own_name("previous", l), scatter_add_rows(one, later_prompt, n_));
      }
      if (again == 0) continue;
      const Value there = gather_rows(pattern, row);  // [queries, head, keys]
      std::vector<Value> kinds;
      for (int kind = 0; kind < 2; ++kind) {
        const Value w = reshape(slice(cast(weights, pattern.dtype()), 0, kind, kind + 1),
                                {again, 1, size_.positions});
        const Value sums = scatter_add_rows(sum(there * w, {2}), prompt, n_);
        kinds.push_back(reshape(sums, {1, n_, heads}));
      }
      add(b, own_name("repeated", l), concat(kinds, 0));
    }
    graph_ = std::move(b).finish();
    feed(prompts);
  }

  // Onto `each`, one HeadScores for every prompt.
  void run(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
           std::vector<HeadScores>& each) const {
    const nn::Config& c = model.config();
    const double none = std::numeric_limits<double>::quiet_NaN();
    const std::size_t first = each.size();
    for (std::int64_t p = 0; p < n_; ++p) {
      HeadScores s;
      for (Tensor* t : {&s.previous, &s.duplicate, &s.induction})
        *t = Tensor::full({c.layers, c.heads}, DType::f64, none);
      each.push_back(std::move(s));
    }
    if (wanted_.wants.empty()) return;
    const nn::Run run = model.run_graph(graph_, prompts, wanted_, feeds_);
    const auto copy = [&](const std::string& name, std::int64_t kind, std::int64_t p,
                          const Tensor& to, int layer, double by) {
      if (!run.results.contains(name)) return;
      const Tensor all = run.results.raw(name);
      const Tensor of = (kind < 0 ? all : all.select(0, kind)).select(0, p);
      const auto x = of.to_vector<double>();
      for (std::size_t h = 0; h < x.size(); ++h)
        to.data<double>()[layer * c.heads + static_cast<std::int64_t>(h)] = x[h] * by;
    };
    for (std::int64_t p = 0; p < n_; ++p) {
      const auto at = static_cast<std::size_t>(p);
      const HeadScores& s = each[first + at];
      const auto queries = std::ssize(prompts[at]) - 1;
      for (int l = 0; l < c.layers; ++l) {
        if (queries > 0)
          copy(own_name("previous", l), -1, p, s.previous, l, 1.0 / static_cast<double>(queries));
        if (found_.count[at][0] > 0) copy(own_name("repeated", l), 0, p, s.duplicate, l, 1);
        if (found_.count[at][1] > 0) copy(own_name("repeated", l), 1, p, s.induction, l, 1);
      }
    }
  }

 private:
  void add(Builder& b, const std::string& name, const Value& x) {
    b.output(name, x);
    wanted_.wants.push_back(value(name));
  }
  void feed(const std::vector<nn::Tokens>& prompts) {
    std::vector<std::int32_t> later, later_prompt, before;
    std::int32_t row = 0;
    for (std::size_t p = 0; p < prompts.size(); ++p) {
      for (std::size_t q = 0; q < prompts[p].size(); ++q, ++row) {
        if (q == 0) continue;
        later.push_back(row);
        later_prompt.push_back(static_cast<std::int32_t>(p));
        before.push_back(static_cast<std::int32_t>(q) - 1);
      }
    }
    const auto again = std::ssize(found_.row);
    if (row > n_) {
      feeds_ = {{"head_scores.later", Tensor::of({size_.rows - n_}, later)},
                {"head_scores.later_prompt", Tensor::of({size_.rows - n_}, later_prompt)},
                {"head_scores.before", Tensor::of({size_.rows - n_}, before)}};
    }
    if (again == 0) return;
    feeds_["head_scores.row"] = Tensor::of({again}, found_.row);
    feeds_["head_scores.prompt"] = Tensor::of({again}, found_.prompt);
    feeds_["head_scores.keys"] = Tensor::of({2, again, size_.positions}, found_.weights);
  }

  std::int64_t n_;
  nn::BatchSize size_;
  RepeatedTokens found_;
  Graph graph_;
  Fetch wanted_;
  Feeds feeds_;
};

}  // namespace

HeadScoresOver head_scores_on(const nn::Model& model, std::span<const nn::Tokens> prompts) {
  nn::check_prompts({prompts.begin(), prompts.end()}, model.config());
  HeadScoresOver over;
  for (const auto& [begin, end] : batches(prompts)) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    OwnScores(model, some).run(model, some, over.each);
  }
  std::vector<Tensor> previous, duplicate, induction;
  for (const HeadScores& s : over.each) {
    previous.push_back(s.previous);
    duplicate.push_back(s.duplicate);
    induction.push_back(s.induction);
  }
  over.previous = statistics(previous);
  over.duplicate = statistics(duplicate);
  over.induction = statistics(induction);
  return over;
}

}  // namespace vitrine::interp

#include "interp/head_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "autograd/ops/ops.h"
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

}  // namespace vitrine::interp

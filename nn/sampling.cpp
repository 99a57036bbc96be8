#include "nn/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tensor/error.h"

namespace vitrine::nn {
namespace {

// Token ids by descending logit, ties by id; only the first `count` are in order.
std::vector<int> ranking(std::span<const float> logits, std::size_t count) {
  std::vector<int> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  count = std::min(count, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(count), ids.end(),
                    [&](int a, int b) {
                      const float x = logits[static_cast<std::size_t>(a)],
                                  y = logits[static_cast<std::size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  ids.resize(count);
  return ids;
}

}  // namespace

void check_sampling(const Sampling& s) {
  const auto fail = [](const std::string& message) { throw Error(ErrorKind::usage, message); };
  if (!(s.temperature >= 0) || std::isinf(s.temperature)) {
    fail(fmt::format("the temperature must be 0 (greedy) or more, not {}", s.temperature));
  }
  if (s.top_k < 0) fail(fmt::format("top-k must be 0 (all tokens) or more, not {}", s.top_k));
  if (!(s.top_p > 0 && s.top_p <= 1))
    fail(fmt::format("top-p must be above 0 and at most 1, not {}", s.top_p));
}

int choose(std::span<const float> logits, const Sampling& s, double draw) {
  check_sampling(s);
  if (s.temperature == 0) return ranking(logits, 1)[0];
  const bool all = s.top_k == 0 && s.top_p == 1;
  std::vector<int> ids =
      ranking(logits, s.top_k == 0 ? logits.size() : static_cast<std::size_t>(s.top_k));
  const double best = logits[static_cast<std::size_t>(ids[0])];
  std::vector<double> weight;
  for (const int id : ids)
    weight.push_back(std::exp((logits[static_cast<std::size_t>(id)] - best) / s.temperature));
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (!all && s.top_p < 1) {
    double reached = 0;
    std::size_t keep = 0;
    while (keep < weight.size() && reached < s.top_p * total) reached += weight[keep++];
    weight.resize(keep);
    total = reached;
  }
  double at = draw * total;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    at -= weight[i];
    if (at < 0) return ids[i];
  }
  return ids[weight.size() - 1];
}

std::vector<Candidate> top_tokens(std::span<const float> logits, int k) {
  const float best = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x) - best);
  std::vector<Candidate> top;
  for (const int id : ranking(logits, static_cast<std::size_t>(std::max(0, k)))) {
    const double x = logits[static_cast<std::size_t>(id)];
    top.push_back({id, x, std::exp(x - best) / total});
  }
  return top;
}

Tokens generate(const Model& model, const Tokens& prompt, int count, const Sampling& sampling,
                random::Key key, const std::function<bool(int id)>& on_token) {
  check_sampling(sampling);
  check_prompts({prompt}, model.config());
  const auto wanted = static_cast<std::int64_t>(prompt.size()) + count;
  if (wanted > model.config().context) {
    throw ContextError(fmt::format(
        "a prompt of {} tokens and {} new ones make {}, but this model's context is {}; ask for at "
        "most {}",
        prompt.size(), count, wanted, model.config().context,
        model.config().context - static_cast<std::int64_t>(prompt.size())));
  }
  Tokens text = prompt, fresh;
  for (int i = 0; i < count; ++i) {
    const Tensor logits =
        model.run(Prompt(text)).logits().to(DType::f32);  // [1, position, vocabulary]
    const Tensor last = logits.select(0, 0).select(0, logits.dim(1) - 1).contiguous();
    const std::span<const float> row(last.data<float>(), static_cast<std::size_t>(last.numel()));
    const int id = choose(row, sampling, random::uniform(key, static_cast<std::uint64_t>(i)));
    text.push_back(id);
    fresh.push_back(id);
    if (on_token && !on_token(id)) break;
    if (model.config().eos && *model.config().eos == id) break;
  }
  return fresh;
}

}  // namespace vitrine::nn

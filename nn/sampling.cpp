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

// A text that grows: keys and values of earlier tokens are kept, so each run sees only the new
// ones.
class CachedRun {
 public:
  CachedRun(const Model& model, std::int64_t capacity)
      : model_(model), capacity_(capacity), bound_(model.parameters()) {
    const Config& c = model.config();
    for (const auto& [cache, next] : cache_updates(c)) {
      const DType dtype = bound_.at("wte.weight").dtype();
      bound_[cache] = Tensor::zeros({capacity, c.heads, c.d_head()}, dtype);
    }
  }

  // f32 [vocabulary]: what follows the text so far and `fresh` tokens after it.
  Tensor next_logits(const Tokens& fresh) {
    const auto rows = static_cast<std::int64_t>(fresh.size());
    if (rows != planned_rows_) {
      const Graph graph = model_.build(BatchSize{rows, 1, capacity_, true});
      plan_ = compile(graph, fetch(value("logits")), cache_updates(model_.config()));
      planned_rows_ = rows;
    }
    std::vector<std::int32_t> position(fresh.size()), keys(static_cast<std::size_t>(capacity_), -1);
    std::iota(position.begin(), position.end(), static_cast<std::int32_t>(length_));
    length_ += rows;
    std::iota(keys.begin(), keys.begin() + length_, 0);
    const Tensor at = Tensor::of({rows}, position);
    const Feeds feeds = {{"tokens", Tensor::of({rows}, fresh)},
                         {"rows.sequence", Tensor::zeros({rows}, DType::i32)},
                         {"rows.position", at},
                         {"rows.slot", at},
                         {"rows.keys", Tensor::of({1, capacity_}, keys)}};
    const Results r = plan_.run(feeds, bound_, {.pool = &model_.pool()});
    return r.raw("logits").select(0, rows - 1).to(DType::f32).contiguous();
  }

 private:
  const Model& model_;
  std::int64_t capacity_, length_ = 0, planned_rows_ = 0;
  Parameters bound_;  // the weights, and the caches
  Plan plan_;
};

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
  const std::int64_t wanted = static_cast<std::int64_t>(prompt.size()) + count;
  if (wanted > model.config().context) {
    throw ContextError(fmt::format(
        "a prompt of {} tokens and {} new ones make {}, but this model's context is {}; ask for at "
        "most {}",
        prompt.size(), count, wanted, model.config().context,
        model.config().context - static_cast<std::int64_t>(prompt.size())));
  }
  CachedRun run(model, wanted);
  Tokens fresh, next = prompt;
  for (int i = 0; i < count; ++i) {
    const Tensor last = run.next_logits(next);
    const std::span<const float> row(last.data<float>(), static_cast<std::size_t>(last.numel()));
    const int id = choose(row, sampling, random::uniform(key, static_cast<std::uint64_t>(i)));
    fresh.push_back(id);
    if (on_token && !on_token(id)) break;
    if (model.config().eos && *model.config().eos == id) break;
    next = {id};
  }
  return fresh;
}

}  // namespace vitrine::nn

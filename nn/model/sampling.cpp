#include "nn/model/sampling.h"

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

// Throws NumericError for logits that give no probabilities.
void check_finite(std::span<const float> logits) {
  const auto bad =
      std::find_if_not(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
  if (bad == logits.end()) return;
  throw NumericError(fmt::format(
      "the logit of token {} is {}, so there are no probabilities: numbers of the model "
      "have become too large; its weights, or what is added to it, must be smaller",
      bad - logits.begin(),
      std::isnan(*bad) ? "NaN"
      : *bad > 0       ? "inf"
                       : "-inf"));
}

// A value for a text that grows must be the same at every position: [1, ...] or without the axis.
void check_value(const Edit& e, const SiteEntry& site) {
  if (!e.value.defined()) return;
  const Shape &given = e.value.shape(), &whole = site.type.shape;
  bool fits = given.size() <= whole.size();
  for (int i = 1; fits && i <= given.size(); ++i) {
    const std::int64_t size = given[given.size() - i], axis = whole.size() - i;
    fits = size == 1 || (axis > 0 && size == whole[static_cast<int>(axis)]);
  }
  if (fits) return;
  Shape each = whole;
  each[0] = 1;
  throw ShapeError(fmt::format(
      "{}: a value {} does not fit a text that grows; it needs the same value at every position, "
      "{} "
      "or what broadcasts to it (for one position's value, select that position with .pos)",
      e.to_text(), to_string(given), to_string(each)));
}

// A text that grows: keys and values of earlier tokens are kept, so each run sees only the new
// ones.
class CachedRun {
 public:
  CachedRun(const Model& model, const Tokens& prompt, std::int64_t capacity,
            const Interventions& what)
      : model_(model),
        standing_(standing_in(model.standing(), {prompt})),
        what_(what),
        capacity_(capacity),
        bound_(model.parameters()) {
    const Config& c = model.config();
    for (const auto& [cache, next] : cache_updates(c)) {
      bound_[cache] = Tensor::zeros({capacity, c.key_heads(), c.d_head()}, model.dtype());
    }
  }

  // Whether the edits fit the text when it is `rows` long; throws what generate does.
  void check_edits(std::int64_t rows) const {
    if (what_.stages().empty() && standing_.stages().empty()) return;
    const Graph graph = graph_of(rows);
    for (const Interventions* edits : {&standing_, &what_}) {
      for (const auto& stage : edits->stages()) {
        for (const Edit& e : stage) check_value(e, graph.site(e.site.name));
      }
    }
    edited_feeds(graph, Tokens(static_cast<std::size_t>(rows)), 0, Text::whole);
  }

  // f32 [vocabulary]: what follows the text so far and `fresh` tokens after it.
  Tensor next_logits(const Tokens& fresh) {
    const auto rows = static_cast<std::int64_t>(fresh.size());
    if (rows != planned_rows_) {
      graph_ = graph_of(rows);
      plan_ = compile(graph_, fetch(value("logits")), cache_updates(model_.config()));
      planned_rows_ = rows;
    }
    const Feeds fed = edited_feeds(graph_, fresh, length_, Text::part);
    length_ += rows;
    text_.insert(text_.end(), fresh.begin(), fresh.end());
    // This plan has moved on when NaN is seen; one of the whole text can say where it arises.
    const Results r = plan_.run(fed, bound_, {.pool = &model_.pool(), .find_nan = false});
    const Tensor logits = r.raw("logits").select(0, rows - 1).to(DType::f32).contiguous();
    if (has_nan(logits)) model_.run_edited({text_}, what_, fetch(value("logits")));
    check_finite({logits.data<float>(), static_cast<std::size_t>(logits.numel())});
    return logits;
  }

 private:
  Graph graph_of(std::int64_t rows) const {
    const Graph graph = model_.build(BatchSize{rows, 1, capacity_, true});
    return what_.stages().empty() ? graph : intervene(graph, what_);
  }

  Feeds edited_feeds(const Graph& graph, const Tokens& fresh, std::int64_t before,
                     Text text) const {
    const Feeds standing = with_interventions(graph, standing_, feeds(fresh, before), text);
    return with_interventions(graph, what_, standing, text);
  }

  // For `fresh` tokens after `before` others.
  Feeds feeds(const Tokens& fresh, std::int64_t before) const {
    const auto rows = static_cast<std::int64_t>(fresh.size());
    std::vector<std::int32_t> position(fresh.size()), keys(static_cast<std::size_t>(capacity_), -1);
    std::iota(position.begin(), position.end(), static_cast<std::int32_t>(before));
    std::iota(keys.begin(), keys.begin() + before + rows, 0);
    const Tensor at = Tensor::of({rows}, position);
    return {{"tokens", Tensor::of({rows}, fresh)},
            {"rows.sequence", Tensor::zeros({rows}, DType::i32)},
            {"rows.position", at},
            {"rows.slot", at},
            {"rows.keys", Tensor::of({1, capacity_}, keys)}};
  }

  const Model& model_;
  const Interventions standing_;  // the model's own
  const Interventions& what_;
  std::int64_t capacity_, length_ = 0, planned_rows_ = 0;
  Tokens text_;       // so far
  Parameters bound_;  // the weights, and the caches
  Graph graph_;
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
  check_finite(logits);
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
  check_finite(logits);
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

std::int64_t most_new_tokens(const Config& config, std::int64_t prompt) {
  return std::max<std::int64_t>(0, config.context - prompt + 1);
}

Tokens generate(const Model& model, const Tokens& prompt, int count, const Sampling& sampling,
                random::Key key, const std::function<bool(int id)>& on_token,
                const Interventions& what) {
  check_sampling(sampling);
  check_prompts({prompt}, model.config());
  // Nothing is read after the last new token, so it takes no place in the context.
  const std::int64_t given = std::ssize(prompt), read = given + std::max(0, count - 1);
  if (count > most_new_tokens(model.config(), given)) {
    throw ContextError(fmt::format(
        "a prompt of {} tokens and {} new ones take {} places (the last new one takes none), but "
        "this "
        "model's context is {}; ask for at most {}",
        given, count, read, model.config().context, most_new_tokens(model.config(), given)));
  }
  CachedRun run(model, prompt, read, what);
  if (count > 0) run.check_edits(read);
  Tokens fresh, next = prompt;
  for (int i = 0; i < count; ++i) {
    const Tensor last = run.next_logits(next);
    const std::span<const float> row(last.data<float>(), static_cast<std::size_t>(last.numel()));
    const int id = choose(row, sampling, random::uniform(key, static_cast<std::uint64_t>(i)));
    fresh.push_back(id);
    if (on_token && !on_token(id)) break;
    if (model.config().ends_text(id)) break;
    next = {id};
  }
  return fresh;
}

Tensor next_logits(const Model& model, const Tokens& prompt, const Interventions& what) {
  check_prompts({prompt}, model.config());
  const auto rows = static_cast<std::int64_t>(prompt.size());
  CachedRun run(model, prompt, rows, what);
  run.check_edits(rows);
  return run.next_logits(prompt);
}

}  // namespace vitrine::nn

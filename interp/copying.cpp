#include "interp/copying.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "autograd/ops/ops.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// ---- ranks in what a head writes ----------------------------------------------------------------
// Of v [sources, e], the values of one head: the rank of tokens [sources] in v W_O, read through
// the final norm's gain and the unembedding. Ties count half, so that a head that writes
// nothing is in the middle. [sources]
Value rank_of_own(const Value& v, const Value& w_o, const nn::WeightValues& w,
                  const Value& tokens) {
  Builder& b = v.builder();
  const Value x = matmul(v, w_o);  // [sources, d]
  const Value logits = matmul(nn::unscaled(x, w.ln_final), transpose(w.w_u));
  const Value own = reshape(pick(logits, tokens), {logits.dim(0), 1});
  const auto count = [&](const Value& which) { return sum(cast(which, DType::f32), {1}); };
  return count(less(own, logits)) +
         (count(equal(own, logits)) - b.scalar(1, DType::f32)) * b.scalar(0.5, DType::f32);
}

// The ranks of every head, [layer * head, sources]; `value_of` gives a layer's values [sources,
// g * e] without what they share.
Value ranks(const nn::Config& config, const Value& tokens,
            const std::function<Value(int layer, const nn::LayerWeights&)>& value_of,
            const nn::WeightValues& w) {
  const std::int64_t e = config.d_head();
  std::vector<Value> all;
  for (int l = 0; l < config.layers; ++l) {
    const nn::LayerWeights& weights = w.layers[static_cast<std::size_t>(l)];
    const Value v = value_of(l, weights);
    for (int h = 0; h < config.heads; ++h) {
      const auto own = [&](const Value& x, int axis, int head) {
        return slice(x, axis, head * e, (head + 1) * e);
      };
      const Value rank =
          rank_of_own(own(v, 1, config.key_head(h)), own(weights.w_o, 0, h), w, tokens);
      all.push_back(reshape(rank, {1, rank.dim(0)}));
    }
  }
  return concat(all, 0);
}

CopyRanks summary(const nn::Config& config, const Tensor& ranks, int count) {
  const Shape shape{config.layers, config.heads};
  const std::int64_t sources = ranks.dim(1);
  CopyRanks c{Tensor::zeros(shape, DType::f64), Tensor::zeros(shape, DType::f64), count,
              static_cast<int>(sources), static_cast<double>(count) / config.vocabulary};
  const auto each = ranks.to_vector<double>();
  for (std::size_t i = 0; i < each.size(); ++i) {
    const std::size_t head = i / static_cast<std::size_t>(sources);
    if (each[i] < count) c.top.data<double>()[head] += 1.0 / static_cast<double>(sources);
    c.rank.data<double>()[head] +=
        each[i] / (std::max(1, config.vocabulary - 1) * static_cast<double>(sources));
  }
  return c;
}

Tensor as_indices(const std::vector<std::int32_t>& x) { return Tensor::of({std::ssize(x)}, x); }

void check_counts(int count, int sources) {
  if (count >= 1 && sources >= 1) return;
  throw Error(ErrorKind::usage,
              fmt::format("copying: {} most raised tokens of {} sources; both must be 1 or more",
                          count, sources));
}

}  // namespace

CopyRanks copying_in_context(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                             random::Key key, int count, int sources) {
  check_counts(count, sources);
  check_repeated(prompts);
  const nn::Config& config = model.config();
  nn::check_prompts(prompts, config);
  const std::int64_t length = std::ssize(prompts[0]), half = length / 2;
  std::vector<std::int32_t> rows, tokens;
  for (int i = 0; i < sources; ++i) {
    const auto draw = static_cast<std::uint64_t>(i);
    const auto p = random::below(key.fold("prompt"), draw, std::ssize(prompts));
    const auto q = 1 + random::below(key.fold("position"), draw, half - 1);
    rows.push_back(static_cast<std::int32_t>(p * length + q));
    tokens.push_back(prompts[static_cast<std::size_t>(p)][static_cast<std::size_t>(q)]);
  }
  Builder b(model.build(nn::batch_size(prompts)));
  const nn::WeightValues w = nn::weights_of(b, config);
  const Type indices{DType::i32, {sources}};
  const Value row = b.input("copying.row", indices), token = b.input("copying.token", indices);
  b.output("copying.ranks", ranks(
                                config, token,
                                [&](int l, const nn::LayerWeights&) {
                                  const Value v = b.at(site::v(l));  // [rows, head, e]
                                  return reshape(gather_rows(v - mean(v, {0}, true), row),
                                                 {sources, v.dim(1) * v.dim(2)});
                                },
                                w));
  const nn::Run run =
      model.run_graph(std::move(b).finish(), prompts, fetch(value("copying.ranks")),
                      {{"copying.row", as_indices(rows)}, {"copying.token", as_indices(tokens)}});
  return summary(config, run.results.raw("copying.ranks"), count);
}

CopyRanks copying_of_weights(const nn::Model& model, random::Key key, int count, int sources) {
  check_counts(count, sources);
  const nn::Config& config = model.config();
  std::vector<std::int32_t> tokens;
  tokens.reserve(static_cast<std::size_t>(sources));
  for (int i = 0; i < sources; ++i)
    tokens.push_back(static_cast<std::int32_t>(
        random::below(key, static_cast<std::uint64_t>(i), config.vocabulary)));
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::WeightValues w = nn::weights_of(b, config);
  const Value token = b.input("copying.token", {DType::i32, {sources}});
  const Value embedded = gather_rows(w.w_e, token);  // [sources, d]
  b.output("copying.ranks", ranks(
                                config, token,
                                [&](int, const nn::LayerWeights& layer) {
                                  const Value v =
                                      matmul(nn::normed(embedded, layer.ln1), layer.w_v);
                                  return v - mean(v, {0}, true);
                                },
                                w));
  const Plan plan = model.plans().get(std::move(b).finish(), fetch(value("copying.ranks")));
  const Results r = plan.run({{"copying.token", as_indices(tokens)}}, model.parameters(),
                             {.pool = &model.pool()});
  return summary(config, r.raw("copying.ranks"), count);
}

// ---- values of other tokens ---------------------------------------------------------------------
HeadEffects over_prompts(const Tensor& values) {
  const std::int64_t layers = values.dim(0), heads = values.dim(1), n = values.dim(2);
  HeadEffects e{Tensor::zeros({layers, heads}, DType::f64),
                Tensor::zeros({layers, heads}, DType::f64)};
  const auto each = values.to_vector<double>();
  for (std::int64_t h = 0; h < layers * heads; ++h) {
    const double* x = each.data() + h * n;
    const double mean = std::accumulate(x, x + n, 0.0) / static_cast<double>(n);
    double squares = 0;
    for (std::int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
    e.mean.data<double>()[h] = mean;
    e.standard_error.data<double>()[h] =
        n > 1 ? std::sqrt(squares / static_cast<double>((n - 1) * n)) : std::nan("");
  }
  return e;
}

namespace {

// For each prompt, which position's value stands at each of the first half: one cycle through all
// but the first (Sattolo 1986), so none keeps its own.
std::vector<std::vector<std::int64_t>> cycles(random::Key key, std::int64_t prompts,
                                              std::int64_t half) {
  std::vector<std::vector<std::int64_t>> all;
  std::uint64_t draw = 0;
  for (std::int64_t p = 0; p < prompts; ++p) {
    std::vector<std::int64_t> from(static_cast<std::size_t>(half));
    std::iota(from.begin(), from.end(), 0);
    for (std::int64_t i = half - 1; i > 1; --i) {
      const std::int64_t j = 1 + random::below(key, draw++, i - 1);
      std::swap(from[static_cast<std::size_t>(i)], from[static_cast<std::size_t>(j)]);
    }
    all.push_back(std::move(from));
  }
  return all;
}

// The values of every layer with their rows moved, packed [rows, head, e].
std::vector<Tensor> moved_values(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                                 const std::vector<std::int32_t>& row_from) {
  Builder b(model.build(nn::batch_size(prompts)));
  const Value from = b.input("copying.from", {DType::i32, {std::ssize(row_from)}});
  Fetch wanted;
  for (int l = 0; l < model.config().layers; ++l) {
    const std::string name = fmt::format("copying.value.{}", l);
    b.output(name, gather_rows(b.at(site::v(l)), from));
    wanted.wants.push_back(value(name));
  }
  const nn::Run run = model.run_graph(std::move(b).finish(), prompts, wanted,
                                      {{"copying.from", as_indices(row_from)}});
  std::vector<Tensor> values;
  for (const Want& want : wanted.wants) values.push_back(run.results.raw(want.pattern));
  return values;
}

}  // namespace

HeadEffects value_swaps(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                        random::Key key, const SweepOptions& options) {
  check_repeated(prompts);
  const nn::Config& config = model.config();
  nn::check_prompts(prompts, config);
  const std::int64_t count = std::ssize(prompts), length = std::ssize(prompts[0]),
                     half = length / 2;
  if (half < 3) {
    throw Error(ErrorKind::input,
                fmt::format("values are exchanged between the tokens after the first; the halves "
                            "have {} tokens, give prompts with 3 or more",
                            half));
  }
  const auto from = cycles(key, count, half);
  std::vector<std::int32_t> row_from, row, put, own;
  for (std::int64_t p = 0; p < count; ++p) {
    const nn::Tokens& tokens = prompts[static_cast<std::size_t>(p)];
    const auto& cycle = from[static_cast<std::size_t>(p)];
    for (std::int64_t q = 0; q < length; ++q) {
      const std::int64_t source = q < half ? cycle[static_cast<std::size_t>(q)] : q;
      row_from.push_back(static_cast<std::int32_t>(p * length + source));
      if (q < half || q + 1 == length) continue;
      const auto after = static_cast<std::size_t>(q - half + 1);  // what an induction head copies
      row.push_back(static_cast<std::int32_t>(p * length + q));
      own.push_back(tokens[after]);
      put.push_back(tokens[static_cast<std::size_t>(cycle[after])]);
    }
  }
  const Metric metric = nn::per_prompt(
      "copying",
      [count, queries = half - 1](Builder& b) {
        const Type type{DType::i32, {count * queries}};
        const Value logits =
            gather_rows(b.output("logits"), b.input("copying.row", type));  // [n, vocabulary]
        const Value follows =
            pick(logits, b.input("copying.put", type)) - pick(logits, b.input("copying.own", type));
        return mean(reshape(follows, {count, queries}), {1});
      },
      {{"copying.row", as_indices(row)},
       {"copying.put", as_indices(put)},
       {"copying.own", as_indices(own)}});

  const std::vector<Tensor> moved = moved_values(model, prompts, row_from);
  // Where query heads share values, one head's alone are moved in what it makes of them: z of a
  // layer whose values are all moved. Its pattern does not depend on them.
  const bool shared = config.key_heads() != config.heads;
  std::vector<Interventions> worlds;
  for (int l = 0; l < config.layers; ++l) {
    const Site site = shared ? site::z(l) : site::v(l);
    Edit edit =
        replace(site::v(l), moved[static_cast<std::size_t>(l)], {}, "values of other positions");
    if (shared) {
      const nn::Run all = model.run_edited(prompts, {edit}, fetch(site));
      edit = replace(site, all.results.raw(site.name), {}, "values of other positions");
    }
    for (int h = 0; h < config.heads; ++h) {
      edit.where = {Where{.head = {h}}};
      worlds.push_back({edit});
    }
  }
  const std::string each = nn::per_prompt_name(metric);
  const Swept swept = model.sweep(prompts, worlds, metric, {each}, options);
  auto change = swept[each].to_vector<double>();  // [worlds, prompts]
  const auto base = swept.base(each).to_vector<double>();
  for (std::size_t i = 0; i < change.size(); ++i) change[i] -= base[i % base.size()];
  return over_prompts(Tensor::of({config.layers, config.heads, count}, change));
}

}  // namespace vitrine::interp

#include "interp/lens.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// The stream after the embedding and after every layer.
std::vector<Site> stages(const nn::Config& config) {
  std::vector<Site> sites = {site::resid_pre(0)};
  for (int l = 0; l < config.layers; ++l) sites.push_back(site::resid_post(l));
  return sites;
}

// Logits [n, vocabulary] of any rows of the stream [n, d], as the end of the model makes them.
Results read_rows(const nn::Model& model, const Tensor& stream) {
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::WeightValues w = nn::weights_of(b, model.config());
  const Value x = b.input("stream", {stream.dtype(), stream.shape()});
  b.output("lens.logits", nn::capped(nn::unembedded(w, nn::normed(x, w.ln_final)), model.config()));
  const Plan plan = model.plans().get(std::move(b).finish(), fetch(value("lens.logits")));
  return plan.run({{"stream", stream}}, model.parameters(), {.pool = &model.pool()});
}

std::vector<LensToken> most_probable(const Tensor& logits, int count) {
  const auto x = logits.to_vector<double>();
  const double most = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double v : x) sum += std::exp(v - most);
  std::vector<LensToken> tokens;
  for (const TokenValue& t : highest(logits, count))
    tokens.push_back({t.id, t.value, std::exp(t.value - most) / sum});
  return tokens;
}

}  // namespace

// ---- the logit lens -----------------------------------------------------------------------------
namespace {

// Emits both readings of some prompts' streams, [1 + layers, rows].
class LensOutputs {
 public:
  LensOutputs(const nn::Model& model, const std::vector<nn::Tokens>& prompts, LensRows rows)
      : config_(model.config()),
        b_(model.build(nn::batch_size(prompts))),
        w_(nn::weights_of(b_, config_)),
        n_(std::ssize(prompts)) {
    if (rows == LensRows::asked) last_ = b_.input("rows.last", {DType::i32, {n_}});
    const Reading answer = reading("lens.answer"), wrong = reading("lens.wrong");
    const Value direction = answer.direction - wrong.direction;
    const bool apart = config_.logit_cap > 0;  // a soft cap bends each logit by itself
    const Value bias = w_.b_u.defined() ? answer.bias - wrong.bias : Value();
    std::vector<Value> raw, ln;
    for (const Site& s : stages(config_)) {
      const Value x = last_.defined() ? gather_rows(b_.at(s), last_) : b_.at(s);  // [rows, d]
      const Value y = nn::normed(x, w_.ln_final);
      add(raw, along(x, direction, {}));
      if (apart) add(ln, logit(y, answer) - logit(y, wrong));
      else add(ln, along(y, direction, bias));
    }
    b_.output("lens.raw", concat(raw, 0));
    b_.output("lens.ln", concat(ln, 0));
  }
  Graph finish() && { return std::move(b_).finish(); }

 private:
  struct Reading {
    Value direction, bias;  // of each row: [rows, d], [rows]; zeros where there is no such answer
  };
  Reading reading(const char* name) {
    const Value ids = b_.input(name, {DType::i32, {n_}});
    return {of_rows(gather_rows(w_.w_u, ids)),
            w_.b_u.defined() ? of_rows(gather_rows(w_.b_u, ids)) : Value()};
  }
  Value of_rows(const Value& of_prompts) {
    return last_.defined() ? of_prompts
                           : gather_rows(of_prompts, b_.value(b_.row_table().sequence));
  }
  static Value along(const Value& x, const Value& direction, const Value& bias) {
    const Value one = sum(x * direction, {1});
    return bias.defined() ? one + bias : one;
  }
  Value logit(const Value& x, const Reading& of) const {
    return nn::capped(along(x, of.direction, of.bias), config_);
  }
  static void add(std::vector<Value>& rows, const Value& x) {
    rows.push_back(reshape(x, {1, x.dim(0)}));
  }

  const nn::Config& config_;
  Builder b_;
  nn::WeightValues w_;
  std::int64_t n_;
  Value last_;
};

// Columns [begin, end) of a matrix.
Tensor columns(const Tensor& x, std::int64_t begin, std::int64_t end) {
  const Tensor part = Tensor::empty({x.dim(0), end - begin}, DType::f64);
  for (std::int64_t i = 0; i < x.dim(0); ++i)
    std::copy_n(x.data<double>() + i * x.dim(1) + begin, end - begin,
                part.data<double>() + i * (end - begin));
  return part;
}

}  // namespace

std::vector<Lens> logit_lens(const nn::Model& model, std::span<const Asked> asked, LensRows rows) {
  check_asked(model, asked, true);
  std::vector<nn::Tokens> prompts;
  if (rows == LensRows::asked) prompts = prompts_to_run(model, asked);
  else
    for (const Asked& a : asked) prompts.push_back(a.prompt);
  std::vector<Lens> lenses;
  for (const auto& [begin, end] : batches(prompts)) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    const auto now = asked.subspan(begin, end - begin);
    Feeds feeds = answer_feeds("lens", now);
    if (rows == LensRows::asked) feeds.merge(rows_asked(model, now));
    const nn::Run run = model.run_graph(LensOutputs(model, some, rows).finish(), some,
                                        fetch(value("lens.raw"), value("lens.ln")), feeds);
    const Tensor raw = run.results.raw("lens.raw").to(DType::f64).contiguous(),
                 ln = run.results.raw("lens.ln").to(DType::f64).contiguous();
    std::int64_t first = 0;
    for (const nn::Tokens& prompt : some) {
      const std::int64_t n = rows == LensRows::asked ? 1 : std::ssize(prompt);
      lenses.push_back({columns(raw, first, first + n), columns(ln, first, first + n)});
      first += n;
    }
  }
  return lenses;
}

Lens logit_lens(const nn::Model& model, const nn::Tokens& prompt, int answer,
                std::optional<int> wrong) {
  const Asked one{.prompt = prompt, .answer = answer, .wrong = wrong};
  return logit_lens(model, {&one, 1})[0];
}

// ---- its tokens ---------------------------------------------------------------------------------
namespace {

// The streams of some rows of a batch after every stage: [rows, 1 + layers, d].
Tensor streams_at(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
                  const std::vector<std::int32_t>& rows) {
  const std::int64_t n = std::ssize(rows), d = model.config().d_model;
  Builder b(model.build(nn::batch_size(prompts)));
  const Value at = b.input("lens.row", {DType::i32, {n}});
  std::vector<Value> parts;
  for (const Site& s : stages(model.config()))
    parts.push_back(reshape(gather_rows(b.at(s), at), {n, 1, d}));
  b.output("lens.stream", concat(parts, 1));
  return model
      .run_graph(std::move(b).finish(), prompts, fetch(value("lens.stream")),
                 {{"lens.row", Tensor::of({n}, rows)}})
      .results.raw("lens.stream")
      .contiguous();
}

// The most probable tokens of every row of the stream [n, d].
std::vector<std::vector<LensToken>> read_tokens(const nn::Model& model, const Tensor& stream,
                                                int count) {
  // As many rows at a time as logits of 64 MiB have.
  constexpr std::int64_t kLogits = std::int64_t{1} << 24;
  const std::int64_t n = stream.dim(0),
                     step = std::clamp<std::int64_t>(kLogits / model.config().vocabulary, 1, n);
  std::vector<std::vector<LensToken>> tokens(static_cast<std::size_t>(n));
  for (std::int64_t first = 0; first < n; first += step) {
    const std::int64_t end = std::min(n, first + step);
    const Tensor logits =
        read_rows(model, stream.slice(0, first, end).contiguous()).raw("lens.logits");
    model.pool().parallel_for(end - first, 1, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i)
        tokens[static_cast<std::size_t>(first + i)] = most_probable(logits.select(0, i), count);
    });
  }
  return tokens;
}

}  // namespace

std::vector<std::vector<LensTokens>> lens_tokens(
    const nn::Model& model, std::span<const nn::Tokens> prompts,
    std::span<const std::vector<std::int64_t>> positions, int count) {
  if (prompts.size() != positions.size()) {
    throw ShapeError(fmt::format("{} prompts and {} lists of positions: there must be one for each",
                                 prompts.size(), positions.size()));
  }
  nn::check_prompts({prompts.begin(), prompts.end()}, model.config());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    for (const std::int64_t p : positions[i])
      check_position(prompts[i], p,
                     prompts.size() == 1 ? "the prompt" : fmt::format("prompt {}", i));
  }
  const std::int64_t layers = 1 + model.config().layers;
  std::vector<std::vector<LensTokens>> all(prompts.size());
  for (const auto& [begin, end] : batches(prompts)) {
    std::vector<nn::Tokens> some;
    std::vector<std::int32_t> rows;
    std::int64_t first = 0;
    for (std::size_t i = begin; i < end; ++i) {
      for (const std::int64_t p : positions[i])
        rows.push_back(static_cast<std::int32_t>(first + p));
      first += std::ssize(prompts[i]);
      some.push_back(prompts[i]);
    }
    if (rows.empty()) continue;
    const Tensor stream = streams_at(model, some, rows);
    const auto tokens =
        read_tokens(model, stream.reshape({std::ssize(rows) * layers, stream.dim(2)}), count);
    auto next = tokens.begin();
    for (std::size_t i = begin; i < end; ++i) {
      for (std::size_t p = 0; p < positions[i].size(); ++p, next += layers)
        all[i].emplace_back(next, next + layers);
    }
  }
  return all;
}

std::vector<LensTokens> lens_tokens(const nn::Model& model, const nn::Tokens& prompt,
                                    const std::vector<std::int64_t>& positions, int count) {
  return lens_tokens(model, {&prompt, 1}, {&positions, 1}, count)[0];
}

}  // namespace vitrine::interp

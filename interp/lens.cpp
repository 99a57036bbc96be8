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

void check_token(const nn::Model& model, int id, std::string_view what) {
  if (id >= 0 && id < model.config().vocabulary) return;
  throw TokenError(fmt::format("{} has id {}; this model knows ids 0 to {}", what, id,
                               model.config().vocabulary - 1));
}

void check_position(const nn::Tokens& prompt, std::int64_t position) {
  if (position >= 0 && position < std::ssize(prompt)) return;
  throw ContextError(fmt::format("there is no position {}: the prompt has {} tokens, 0 to {}",
                                 position, prompt.size(), std::ssize(prompt) - 1));
}

Lens logit_lens(const nn::Model& model, const nn::Tokens& prompt, int answer,
                std::optional<int> wrong) {
  nn::check_prompts({prompt}, model.config());
  check_token(model, answer, "the answer");
  if (wrong) check_token(model, *wrong, "the wrong answer");
  const std::int64_t positions = std::ssize(prompt);

  Builder b(model.build(nn::Model::Uniform{1, positions}));
  const nn::WeightValues w = nn::weights_of(b, model.config());
  const Value u = transpose(row_of_answer(w.w_u, answer, wrong));  // [d, 1]
  // [rows, 1]: where a soft cap follows, each logit is capped by itself.
  const auto logit = [&](const Value& x) {
    const auto of = [&](int id) {
      Value one = matmul(x, transpose(row_of_answer(w.w_u, id, {})));
      if (w.b_u.defined()) one = one + row_of_answer(w.b_u, id, {});
      return nn::capped(one, model.config());
    };
    if (model.config().logit_cap > 0) return wrong ? of(answer) - of(*wrong) : of(answer);
    const Value one = matmul(x, u);
    return w.b_u.defined() ? one + row_of_answer(w.b_u, answer, wrong) : one;
  };
  std::vector<Value> raw, ln;
  for (const Site& s : stages(model.config())) {
    const Value x = b.at(s);  // [rows, d]
    raw.push_back(transpose(matmul(x, u)));
    ln.push_back(transpose(logit(nn::normed(x, w.ln_final))));  // [1, rows]
  }
  b.output("lens.raw", concat(raw, 0));  // [1 + layers, rows]
  b.output("lens.ln", concat(ln, 0));
  const nn::Run run =
      model.run_graph(std::move(b).finish(), {prompt}, fetch(value("lens.raw"), value("lens.ln")));
  return {run.results.raw("lens.raw").to(DType::f64), run.results.raw("lens.ln").to(DType::f64)};
}

std::vector<LensTokens> lens_tokens(const nn::Model& model, const nn::Tokens& prompt,
                                    const std::vector<std::int64_t>& positions, int count) {
  for (const std::int64_t p : positions) check_position(prompt, p);
  std::string names;
  const std::vector<Site> read = stages(model.config());
  for (const Site& s : read) names += (names.empty() ? "" : ",") + s.name;
  const nn::Run run = model.run_batch({prompt}, fetch(sites(names)));

  // One position at a time: the logits of all would be [position, 1 + layers, vocabulary].
  std::vector<LensTokens> tokens;
  const std::int64_t n = std::ssize(read), d = model.config().d_model;
  for (const std::int64_t p : positions) {
    const Tensor first = run.results.raw(read[0].name);
    const Tensor stream = Tensor::empty({n, d}, first.dtype());
    for (std::int64_t s = 0; s < n; ++s) {
      const Tensor row = run.results.raw(read[static_cast<std::size_t>(s)].name).select(0, p);
      std::copy_n(row.view().data, row.bytes(), stream.select(0, s).view().data);
    }
    const Tensor logits = read_rows(model, stream).raw("lens.logits");
    LensTokens& here = tokens.emplace_back();
    for (std::int64_t s = 0; s < n; ++s) here.push_back(most_probable(logits.select(0, s), count));
  }
  return tokens;
}

}  // namespace vitrine::interp

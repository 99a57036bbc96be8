#include "interp/readout.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/ops.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// By `sign` times the value, the largest first, then by id.
std::vector<TokenValue> first(const Tensor& values, int count, double sign) {
  const auto x = values.to_vector<double>();
  const auto kept = std::min(x.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::vector<TokenValue> tokens;
  if (kept == 0) return tokens;
  // Few of many: hardly any is better than the worst that is kept.
  const auto better = [&](const TokenValue& a, const TokenValue& b) {
    return a.value != b.value ? sign * a.value > sign * b.value : a.id < b.id;
  };
  constexpr std::size_t kFew = 64;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const TokenValue one{static_cast<int>(i), x[i]};
    if (kept > kFew) {
      tokens.push_back(one);
    } else if (tokens.size() < kept || better(one, tokens.back())) {
      if (tokens.size() == kept) tokens.pop_back();
      tokens.insert(std::upper_bound(tokens.begin(), tokens.end(), one, better), one);
    }
  }
  if (kept > kFew) {
    std::partial_sort(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept),
                      tokens.end(), better);
    tokens.resize(kept);
  }
  return tokens;
}

}  // namespace

Tensor to_logits(const nn::Model& model, const Tensor& vectors) {
  const std::int64_t d = model.config().d_model;
  if (vectors.rank() != 2 || vectors.dim(1) != d) {
    throw ShapeError(fmt::format("vectors of the residual stream are [n, {}], not {}", d,
                                 to_string(vectors.shape())));
  }
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::WeightValues w = nn::weights_of(b, model.config());
  const Value x = b.input("vectors", {w.w_u.dtype(), vectors.shape()});
  const Value logits = matmul(nn::unscaled(x, w.ln_final), transpose(w.w_u));
  b.output("readout", logits - mean(logits, {1}, true));
  const Plan plan = model.plans().get(std::move(b).finish(), fetch(value("readout")));
  const Results r = plan.run({{"vectors", vectors.to(w.w_u.dtype())}}, model.parameters(),
                             {.pool = &model.pool()});
  return r.raw("readout").to(DType::f32);
}

std::vector<TokenValue> highest(const Tensor& values, int count) { return first(values, count, 1); }
std::vector<TokenValue> lowest(const Tensor& values, int count) { return first(values, count, -1); }

}  // namespace vitrine::interp

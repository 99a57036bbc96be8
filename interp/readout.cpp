#include "interp/readout.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "autograd/ops/ops.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// By `sign` times the value, the largest first.
std::vector<TokenValue> first(const Tensor& values, int count, double sign) {
  const auto x = values.to_vector<double>();
  std::vector<int> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = std::min(order.size(), static_cast<std::size_t>(std::max(count, 0)));
  const auto at = [&](int id) { return sign * x[static_cast<std::size_t>(id)]; };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](int a, int b) { return at(a) != at(b) ? at(a) > at(b) : a < b; });
  std::vector<TokenValue> tokens;
  for (std::size_t i = 0; i < kept; ++i)
    tokens.push_back({order[i], x[static_cast<std::size_t>(order[i])]});
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

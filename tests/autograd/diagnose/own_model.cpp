#include "tests/autograd/diagnose/own_model.h"

#include <fmt/format.h>

#include "tensor/random.h"

namespace vitrine::test {

OwnModel own_model(const MaskScores& mask, bool residual) {
  OwnModel m;
  Builder b;
  ThreadPool pool(1);
  const auto weight = [&](const std::string& name, const Shape& shape) {
    const Tensor t = Tensor::empty(shape, DType::f32);
    random::fill_normal(pool, random::Key{5}.fold(name), t, 0, 0.5);
    m.parameters[name] = t;
    return b.parameter(name, {DType::f32, shape});
  };
  const Value tokens = b.input("tokens", {DType::i32, {kOwnTokens}});
  const Value targets = b.input("targets", {DType::i32, {kOwnTokens}});
  Value x = gather_rows(weight("embed", {kOwnVocabulary, kOwnWidth}), tokens);
  x = x + weight("places", {kOwnTokens, kOwnWidth});
  for (int layer = 0; layer < 2; ++layer) {
    const auto scope = b.scope(fmt::format("layer{}", layer));
    const auto w = [&](const char* part) {
      return weight(fmt::format("{}.{}", part, layer), {kOwnWidth, kOwnWidth});
    };
    const Value q = matmul(x, w("q")), k = matmul(x, w("k")), v = matmul(x, w("v"));
    const Value scores = mask(b, matmul(q, transpose(k)) * 0.5, layer);
    const Value z = matmul(softmax(scores), v);
    const Value out = b.site(fmt::format("layer{}.z", layer), z, {Axis::pos, Axis::feature});
    x = residual ? x + out : out;
    x = x + matmul(relu(matmul(x, w("in"))), w("out"));
  }
  const Value logits = matmul(x, weight("unembed", {kOwnWidth, kOwnVocabulary}));
  b.output("logits", logits);
  b.output("loss", mean(cross_entropy(logits, targets)));
  m.graph = std::move(b).finish();
  m.feeds = {{"tokens", Tensor::of<std::int32_t>({kOwnTokens}, {3, 1, 4, 1, 5, 9})},
             {"targets", Tensor::of<std::int32_t>({kOwnTokens}, {1, 4, 1, 5, 9, 2})}};
  return m;
}

Tensor mask_numbers(const std::function<bool(std::int64_t, std::int64_t)>& visible, float hidden) {
  std::vector<float> x;
  for (std::int64_t q = 0; q < kOwnTokens; ++q)
    for (std::int64_t k = 0; k < kOwnTokens; ++k) x.push_back(visible(q, k) ? 0 : hidden);
  return Tensor::of<float>({kOwnTokens, kOwnTokens}, x);
}

}  // namespace vitrine::test

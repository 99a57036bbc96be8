#include "tests/autograd/small_transformer.h"

#include "tensor/random.h"

namespace vitrine::test {
namespace {

Tensor normal_numbers(const std::string& name, const Shape& shape) {
  const Tensor t = Tensor::empty(shape, DType::f64);
  ThreadPool pool(1);
  random::fill_normal(pool, random::Key{11}.fold(name), t);
  return t;
}

}  // namespace

SmallTransformer small_transformer(const Named& named) {
  constexpr std::int64_t kRows = 6, kWidth = 4, kHeads = 2, kNeurons = 5;
  constexpr double kEps = 1e-5;
  SmallTransformer m;
  Builder b;
  const auto weight = [&](const std::string& name, const Shape& shape) {
    m.parameters[name] = normal_numbers(name, shape);
    return b.parameter(name, {DType::f64, shape});
  };
  const RowValues rows{b.input("sequence", {DType::i32, {kRows}}),
                       b.input("position", {DType::i32, {kRows}}),
                       b.input("keys", {DType::i32, {2, 3}})};
  b.rows(rows.sequence, rows.position, rows.keys);
  const Axes stream = {Axis::row, Axis::feature};
  const auto norm_prefix = [&](const char* prefix) { return named.norms ? prefix : ""; };

  Value x = b.site("resid_pre", b.input("x", {DType::f64, {kRows, kWidth}}), stream);
  const Value gain = weight("ln1.w", {kWidth}), bias = weight("ln1.b", {kWidth});
  const NormedInput normed{layer_norm(x, gain, bias, kEps, norm_prefix("ln1")), x, gain, bias,
                           kEps};
  const auto project = [&](const std::string& part) {
    return heads_in(normed, weight("w_" + part, {kWidth, kWidth}), weight("b_" + part, {kWidth}),
                    kHeads, part + "_input");
  };
  const Value q = project("q"), k = project("k"), v = project("v");
  const Value z = attention(q, k, v, rows, 0.7, named.attention ? "attn" : "");
  x = x + heads_out(z, weight("w_o", {kWidth, kWidth}), weight("b_o", {kWidth}), "result");
  x = b.site("resid_mid", x, stream);

  const Value normed2 =
      layer_norm(x, weight("ln2.w", {kWidth}), weight("ln2.b", {kWidth}), kEps, norm_prefix("ln2"));
  Value pre = linear(normed2, weight("w_in", {kWidth, kNeurons}), weight("b_in", {kNeurons}));
  if (named.activation) pre = b.site("mlp.hook_pre", pre, stream);
  Value post = gelu_tanh(pre);
  if (named.activation) post = b.site("mlp.hook_post", post, stream);
  const Value out = linear(post, weight("w_out", {kNeurons, kWidth}), weight("b_out", {kWidth}));
  x = b.site("resid_post", x + b.site("mlp_out", out, stream), stream);

  const Value final = layer_norm(x, weight("ln_f.w", {kWidth}), weight("ln_f.b", {kWidth}), kEps,
                                 norm_prefix("ln_f"));
  b.output("out", final);
  b.output("total", sum(final * b.constant(normal_numbers("metric", {kRows, kWidth}))));
  m.graph = std::move(b).finish();
  m.feeds = {{"sequence", Tensor::of<std::int32_t>({kRows}, {0, 0, 0, 1, 1, 1})},
             {"position", Tensor::of<std::int32_t>({kRows}, {0, 1, 2, 0, 1, 2})},
             {"keys", Tensor::of<std::int32_t>({2, 3}, {0, 1, 2, 3, 4, 5})},
             {"x", normal_numbers("x", {kRows, kWidth})}};
  return m;
}

SmallTransformer small_modern_transformer() {
  constexpr std::int64_t kRows = 6, kWidth = 4, kNeurons = 5, kHead = 2;
  constexpr int kHeads = 4, kKeyHeads = 2;
  constexpr double kEps = 0.1;
  SmallTransformer m;
  Builder b;
  const auto weight = [&](const std::string& name, const Shape& shape) {
    m.parameters[name] = normal_numbers(name, shape);
    return b.parameter(name, {DType::f64, shape});
  };
  const RowValues rows{b.input("sequence", {DType::i32, {kRows}}),
                       b.input("position", {DType::i32, {kRows}}),
                       b.input("keys", {DType::i32, {2, 3}})};
  b.rows(rows.sequence, rows.position, rows.keys);
  const Axes stream = {Axis::row, Axis::feature}, heads = {Axis::row, Axis::head, Axis::feature};

  Value x = b.site("resid_pre", b.input("x", {DType::f64, {kRows, kWidth}}), stream);
  const Value gain = weight("ln1.w", {kWidth});
  const NormedInput normed{
      rms_norm(x, gain, kEps, "ln1"), x, gain, Value(), kEps, Value(), false, NormKind::rms_norm};
  const auto project = [&](const std::string& part, int n) {
    const Value y =
        heads_in(normed, weight("w_" + part, {kWidth, n * kHead}), Value(), n, part + "_input");
    return b.site(part, y, heads);
  };
  const auto placed = [&](const std::string& part, int n) {
    const Value y = rms_norm(project(part, n), weight(part + "_norm.w", {kHead}), kEps,
                             "attn." + part + "_norm");
    return b.site("rot_" + part, rotary(y, rows.position, RotaryRule{.inverse = {0.7}}), heads);
  };
  const Value q = placed("q", kHeads), k = placed("k", kKeyHeads), v = project("v", kKeyHeads);
  Value z = attention(q, k, v, rows, {.scale = 0.7, .window = 2, .softcap = 1.5}, "attn");
  z = b.site("z", z, heads);
  x = x + heads_out(z, weight("w_o", {kHeads * kHead, kWidth}), Value(), "result");
  x = b.site("resid_mid", x, stream);

  const Value normed2 = rms_norm(x, weight("ln2.w", {kWidth}), kEps, "ln2");
  const Value pre =
      b.site("mlp.hook_pre", matmul(normed2, weight("w_gate", {kWidth, kNeurons})), stream);
  const Value up = matmul(normed2, weight("w_in", {kWidth, kNeurons}));
  const Value post = b.site("mlp.hook_post", silu(pre) * up, stream);
  const Value out = matmul(post, weight("w_out", {kNeurons, kWidth}));
  x = b.site("resid_post", x + b.site("mlp_out", out, stream), stream);

  const Value final = softcap(rms_norm(x, weight("ln_f.w", {kWidth}), kEps, "ln_f"), 2);
  b.output("out", final);
  b.output("total", sum(final * b.constant(normal_numbers("metric", {kRows, kWidth}))));
  m.graph = std::move(b).finish();
  m.feeds = {{"sequence", Tensor::of<std::int32_t>({kRows}, {0, 0, 0, 1, 1, 1})},
             {"position", Tensor::of<std::int32_t>({kRows}, {0, 1, 2, 0, 1, 2})},
             {"keys", Tensor::of<std::int32_t>({2, 3}, {0, 1, 2, 3, 4, 5})},
             {"x", normal_numbers("x", {kRows, kWidth})}};
  return m;
}

}  // namespace vitrine::test

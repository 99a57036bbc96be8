#include "interp/head_explained.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/ops/ops.h"
#include "interp/lens.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/linalg/svd.h"

namespace vitrine::interp {
namespace {

// A head's own columns of a projection of all heads, [d, h * e] or [h * e].
Value own(const Value& w, int axis, int head, std::int64_t e) {
  return slice(w, axis, head * e, (head + 1) * e);
}
// Every token's embedding, normed without gain and bias: [v, d].
Value normed_embeddings(Builder& b, const nn::WeightValues& w) {
  nn::NormWeights plain = w.layers[0].ln1;
  const Shape& d = plain.gain.shape();
  plain.gain = b.constant(Tensor::full(d, w.w_e.dtype(), 1));
  plain.bias = b.constant(Tensor::full(d, w.w_e.dtype(), 0));
  return nn::normed(w.w_e, plain);
}
// Values of tokens [v, n], less their mean: what is above the average token.
Value above_average(const Value& x) { return x - mean(x, {0}, true); }

double length_of(const Tensor& x) {
  double sum = 0;
  for (const double v : x.to_vector<double>()) sum += v * v;
  return std::sqrt(sum);
}

std::vector<TokenValue> scaled(std::vector<TokenValue> tokens, double factor) {
  for (TokenValue& t : tokens) t.value *= factor;
  return tokens;
}

// ---- from the weights ---------------------------------------------------------------------------
struct Factors {
  Tensor q, k, v, o;  // [d, e] each: W_Q, W_K, W_V folded, W_O transposed
};
Factors factors(const nn::Model& model, const Head& head) {
  const nn::Config& c = model.config();
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::LayerWeights w = nn::weights_of(b, c).layers[static_cast<std::size_t>(head.layer)];
  const std::int64_t e = c.d_head();
  const int kv = c.key_head(head.head);
  b.output("head.q",
           nn::folded(w.ln1, own(w.w_q, 1, head.head, e)) * c.attention_scale(head.layer));
  b.output("head.k", nn::folded(w.ln1, own(w.w_k, 1, kv, e)));
  b.output("head.v", nn::folded(w.ln1, own(w.w_v, 1, kv, e)));
  b.output("head.o", transpose(own(w.w_o, 0, head.head, e)));
  const Results r = model.plans()
                        .get(std::move(b).finish(), fetch(value("head.q"), value("head.k"),
                                                          value("head.v"), value("head.o")))
                        .run({}, model.parameters(), {.pool = &model.pool()});
  return {r.raw("head.q"), r.raw("head.k"), r.raw("head.v"), r.raw("head.o")};
}

// How far each token's embedding lies along directions [d, n]: [n, v].
Tensor along(const nn::Model& model, const Tensor& directions) {
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::WeightValues w = nn::weights_of(b, model.config());
  const Value x = b.input("directions", {w.w_e.dtype(), directions.shape()});
  const Value tokens = normed_embeddings(b, w);
  b.output("along", transpose(above_average(matmul(tokens, x))));
  return model.plans()
      .get(std::move(b).finish(), fetch(value("along")))
      .run({{"directions", directions.to(w.w_e.dtype())}}, model.parameters(),
           {.pool = &model.pool()})
      .raw("along");
}

std::vector<HeadDirection> directions_of(const nn::Model& model, const Svd& svd, int directions,
                                         int count, bool writes) {
  const auto n = std::min<std::int64_t>(directions, svd.values.numel());
  const auto first = [&](const Tensor& side) { return side.slice(1, 0, n).contiguous(); };
  const Tensor in = along(model, first(svd.left)),
               out = writes ? to_logits(model, first(svd.right).transpose(0, 1).contiguous())
                            : along(model, first(svd.right));  // [n, v]
  const double whole = std::pow(length_of(svd.values), 2);
  std::vector<HeadDirection> found;
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = svd.values.at<double>({i});
    found.push_back({value, whole == 0 ? 0 : value * value / whole, highest(in.select(0, i), count),
                     lowest(in.select(0, i), count), highest(out.select(0, i), count),
                     lowest(out.select(0, i), count)});
  }
  return found;
}

}  // namespace

HeadFromWeights explain_weights(const nn::Model& model, const Head& head, int directions,
                                int count) {
  const Factors f = factors(model, head);
  return {head, directions_of(model, svd_of_product(f.q, f.k), directions, count, false),
          directions_of(model, svd_of_product(f.v, f.o), directions, count, true)};
}

// ---- on a prompt --------------------------------------------------------------------------------
HeadOnPrompt explain_on_prompt(const nn::Model& model, const nn::Tokens& prompt, const Head& head,
                               std::optional<std::int64_t> position, int count, int sources) {
  nn::check_prompts({prompt}, model.config());
  const std::int64_t row = position.value_or(std::ssize(prompt) - 1);
  check_position(prompt, row);
  const nn::Config& c = model.config();
  const std::int64_t e = c.d_head(), rows = std::ssize(prompt);
  const int kv = c.key_head(head.head);

  Builder b(model.build(nn::Model::Uniform{1, rows}));
  const nn::WeightValues w = nn::weights_of(b, c);
  const nn::LayerWeights& l = w.layers[static_cast<std::size_t>(head.layer)];
  const Value at = b.input("head.row", {DType::i32, {1}});
  const auto of_head = [&](const Value& x, int h) {  // [rows, head, n] -> [rows, n]
    return reshape(slice(x, 1, h, h + 1), {x.dim(0), x.dim(2)});
  };
  const Value pattern =
      gather_rows(of_head(b.at(site::pattern(head.layer)), head.head), at);  // [1, keys]
  const Value v = of_head(b.at(site::v(head.layer)), kv);                    // [rows, e]
  b.output("head.pattern", pattern);
  b.output("head.parts", matmul(reshape(pattern, {rows, 1}) * v, own(l.w_o, 0, head.head, e)));
  b.output("head.scale", gather_rows(b.at(site::final_scale()), at));

  // k of a token alone: LN1(embedding) W_K + b_K.
  const Value q = gather_rows(of_head(b.at(site::q(head.layer)), head.head), at);  // [1, e]
  const Value k =
      matmul(nn::normed(w.w_e, l.ln1), own(l.w_k, 1, kv, e)) + own(l.b_k, 0, kv, e);  // [v, e]
  b.output("head.scores",
           above_average(matmul(k, transpose(q))) * c.attention_scale(head.layer));  // [v, 1]
  const nn::Run run = model.run_graph(
      std::move(b).finish(), {prompt},
      fetch(value("head.pattern"), value("head.parts"), value("head.scale"), value("head.scores")),
      {{"head.row", Tensor::of({1}, std::vector<std::int32_t>{static_cast<std::int32_t>(row)})}});
  const auto of = [&](const char* name) { return run.results.raw(name); };

  HeadOnPrompt found{head, row, {}, {}, {}, 0, {}, {}};
  const Tensor scores = of("head.scores").reshape({c.vocabulary});
  found.looks_for = highest(scores, count);
  found.avoids = lowest(scores, count);
  const Tensor parts = of("head.parts");  // [keys, d]
  const double scale = of("head.scale").item<double>();
  std::vector<double> whole(static_cast<std::size_t>(c.d_model), 0.0);
  const auto x = parts.to_vector<double>();
  for (std::size_t i = 0; i < x.size(); ++i) whole[i % whole.size()] += x[i];
  const auto weights = of("head.pattern").to_vector<double>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(row + 1));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t i, std::int64_t j) {
    return weights[static_cast<std::size_t>(i)] > weights[static_cast<std::size_t>(j)];
  });
  order.resize(std::min(order.size(), static_cast<std::size_t>(std::max(sources, 0))));

  // All of it, then what comes from each source, read together: [1 + sources, d].
  std::vector<double> read = whole;
  for (const std::int64_t s : order) {
    const auto part = x.begin() + s * c.d_model;
    read.insert(read.end(), part, part + c.d_model);
  }
  const Tensor vectors = Tensor::of({1 + std::ssize(order), c.d_model}, read);
  const Tensor logits = to_logits(model, vectors);
  found.length = length_of(vectors.select(0, 0));
  found.raised = scaled(highest(logits.select(0, 0), count), 1 / scale);
  found.lowered = scaled(lowest(logits.select(0, 0), count), 1 / scale);
  for (std::int64_t i = 0; i < std::ssize(order); ++i) {
    const std::int64_t s = order[static_cast<std::size_t>(i)];
    found.sources.push_back({s, weights[static_cast<std::size_t>(s)],
                             length_of(vectors.select(0, i + 1)),
                             scaled(highest(logits.select(0, i + 1), count), 1 / scale)});
  }
  return found;
}

}  // namespace vitrine::interp

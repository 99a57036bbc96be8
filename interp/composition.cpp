#include "interp/composition.h"

#include <array>
#include <cmath>

#include "autograd/ops/ops.h"
#include "nn/model/weights.h"

namespace vitrine::interp {
namespace {

Value gram(const Value& a) { return matmul(transpose(a), a); }  // [h, d, e] -> A^T A [h, e, e]

// The heads of one layer (W_O [h e, d] goes in transposed): a low-rank matrix A B^T of each, [d, h
// e] each factor, and what their norms need: A^T A and B^T B, [h, e, e].
struct Products {
  Value a, b, gram_a, gram_b;
};
Products products(const Value& a, const Value& b, std::int64_t heads) {
  return {a, b, gram(nn::by_head(a, heads)), gram(nn::by_head(b, heads))};
}

// |A B^T|_F of every head, [h]: tr(A^T A B^T B).
Value norms(const Value& gram_a, const Value& gram_b) {
  return sqrt(maximum(sum(gram_a * gram_b, {1, 2}), gram_a.builder().scalar(0, gram_a.dtype())));
}

// x / y, and 0 where y is 0: a head without weights composes with nothing.
Value ratio(const Value& x, const Value& y) {
  Builder& b = x.builder();
  const Value zero = b.scalar(0, x.dtype()), one = b.scalar(1, x.dtype());
  const Value some = less(zero, y);
  return select(some, x / select(some, y, one), zero);
}

// All heads of two layers, [earlier head, later head]: |V O^T B C^T| / (|V O^T| |B C^T|), with O^T
// the earlier W_O.
Value compose(const Products& early, const Products& late, std::int64_t heads) {
  const std::int64_t e = early.a.dim(1) / heads;
  const Value middle =  // O^T B of every pair of heads, [h, h, e, e]
      permute(reshape(matmul(transpose(early.b), late.a), {heads, e, heads, e}), {0, 2, 1, 3});
  const Value left = reshape(early.gram_a, {heads, 1, e, e}),
              right = reshape(late.gram_b, {1, heads, e, e});
  const Value squared = sum(matmul(left, middle) * matmul(middle, right), {2, 3});
  const Value whole = sqrt(maximum(squared, middle.builder().scalar(0, squared.dtype())));
  return ratio(whole, reshape(norms(early.gram_a, early.gram_b), {heads, 1}) *
                          reshape(norms(late.gram_a, late.gram_b), {1, heads}));
}

}  // namespace

Composition composition(const nn::Model& model) {
  const std::int64_t layers = model.config().layers, heads = model.config().heads;
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::WeightValues w = nn::weights_of(b, model.config());
  std::vector<Products> ov;                   // W_V W_O of each layer
  std::vector<std::array<Products, 3>> read;  // W_Q W_K^T, W_K W_Q^T, W_V W_O
  const std::int64_t shared = model.config().key_heads();
  for (const nn::LayerWeights& l : w.layers) {
    const Value w_k = nn::for_query_heads(l.w_k, shared, heads),
                w_v = nn::for_query_heads(l.w_v, shared, heads);
    ov.push_back(products(w_v, transpose(l.w_o), heads));
    const Products qk = products(l.w_q, w_k, heads);
    read.push_back({qk, Products{qk.b, qk.a, qk.gram_b, qk.gram_a}, ov.back()});
  }
  const Value none = broadcast_to(b.scalar(0, w.w_e.dtype()), {heads, heads});
  const char* names[3] = {"composition_q", "composition_k", "composition_v"};
  std::array<std::vector<Value>, 3> blocks;  // [early, late] of [head, head]
  for (std::size_t early = 0; early < ov.size(); ++early) {
    for (std::size_t late = 0; late < ov.size(); ++late) {
      for (std::size_t i = 0; i < 3; ++i) {
        const Value pair = early < late ? compose(ov[early], read[late][i], heads) : none;
        blocks[i].push_back(reshape(pair, {1, heads, heads}));
      }
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    const Value grid = reshape(concat(blocks[i], 0), {layers, layers, heads, heads});
    b.output(names[i], permute(grid, {0, 2, 1, 3}));
  }
  const Plan plan = model.plans().get(std::move(b).finish(),
                                      fetch(value(names[0]), value(names[1]), value(names[2])));
  const Results r = plan.run({}, model.parameters(), {.pool = &model.pool()});
  const auto of = [&](const char* name) { return r.raw(name).to(DType::f64); };
  return {of(names[0]), of(names[1]), of(names[2])};
}

CompositionBaseline composition_baseline(const nn::Model& model, random::Key key) {
  constexpr std::int64_t kHeads = 8;  // earlier and later: 64 pairs
  const std::int64_t d = model.config().d_model, e = model.config().d_head();
  const Type type{DType::f32, {d, kHeads * e}};
  Builder b;
  Feeds feeds;
  const auto drawn = [&](const char* name) {
    const Tensor t = Tensor::empty(type.shape, type.dtype);
    random::fill_normal(model.pool(), key.fold(name), t);
    feeds.insert_or_assign(name, t);
    return b.input(name, type);
  };
  const auto drawn_pair = [&](const char* a, const char* c) {
    return products(drawn(a), drawn(c), kHeads);
  };
  b.output("baseline",
           compose(drawn_pair("early.v", "early.o"), drawn_pair("late.q", "late.k"), kHeads));
  const Results r = compile(std::move(b).finish(), fetch(value("baseline")))
                        .run(feeds, {}, {.pool = &model.pool()});
  CompositionBaseline baseline;
  const auto values = r.raw("baseline").to_vector<double>();
  baseline.pairs = static_cast<int>(values.size());
  for (const double x : values) baseline.mean += x / static_cast<double>(values.size());
  for (const double x : values) {
    const double off = x - baseline.mean;
    baseline.deviation += off * off / static_cast<double>(values.size() - 1);
  }
  baseline.deviation = std::sqrt(baseline.deviation);
  return baseline;
}

}  // namespace vitrine::interp

#include "sae/graphs/backward.h"

#include <fmt/format.h>

#include <string>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"

namespace vitrine::sae {
namespace {

// Writes the program: gradients of K targets at T positions are [K, T, d]. Recorded tensors are inputs.
class Backward {
 public:
  Backward(const LinearModel& model, std::int64_t targets, std::int64_t positions,
           std::int64_t width)
      : model_(model), k_(targets), t_(positions), d_(width) {}

  Graph build(std::size_t layer) {
    const bool logits = layer == model_.blocks.size();
    const auto& norm = logits ? model_.final : model_.blocks[layer].ln2;
    const std::string name = logits ? "final" : fmt::format("{}.ln2", layer);
    const Value direction = b_.input("direction", {DType::f32, {k_, d_}});
    constant_ = sum(direction * given(name + ".bias", norm.bias), {-1});
    // At the rows of the targets alone; then spread over the positions.
    const Value at_row = centred(direction * given(name + ".gain", norm.gain), norm.centred) /
                         b_.input("scale", {DType::f32, {k_, 1}});
    Value g = reshape(scatter_add_rows(at_row, b_.input("row", {DType::i32, {k_}}), k_ * t_),
                      {k_, t_, d_});
    if (logits) g = through_mlp(layer - 1, g);
    for (std::size_t m = logits ? layer - 1 : layer;; --m) {
      g = through_attention(m, g);
      if (m == 0) break;
      g = through_mlp(m - 1, g);
    }
    b_.output("tokens", sum(g * given("token", model_.token), {-1}));
    if (model_.position.defined())
      b_.output("positions", sum(g * given("position", model_.position), {-1}));
    b_.output("constant", constant_);
    return std::move(b_).finish();
  }

  const Feeds& feeds() const { return feeds_; }

 private:
  Value given(const std::string& name, const Tensor& value) {
    feeds_.insert_or_assign(name, value);
    return b_.input(name, {value.dtype(), value.shape()});
  }
  static Value centred(const Value& x, bool wanted) { return wanted ? x - mean(x, {-1}, true) : x; }

  // From the gradient of what a norm gives to that of what it reads, its scale held; its bias is a constant of the targets.
  Value through_norm(const std::string& name, const LinearBlock::Norm& norm, const Value& g) {
    constant_ = constant_ + sum(g * given(name + ".bias", norm.bias), {-2, -1});
    return centred(g * given(name + ".gain", norm.gain), norm.centred) /
           given(name + ".scale", norm.scale);
  }

  // g is of the stream behind block m: reads off it what the MLP's parts give, and goes on to the stream before the MLP.
  Value through_mlp(std::size_t m, const Value& g) {
    const LinearBlock& block = model_.blocks[m];
    const std::string name = fmt::format("{}", m);
    b_.output(name + ".sources",
              matmul(given(name + ".sources", block.sources), permute(g, {1, 2, 0})));
    b_.output(name + ".errors", sum(g * given(name + ".error", block.error), {-1}));
    constant_ = constant_ + sum(g * given(name + ".constant", block.constant), {-2, -1});
    if (!block.w_skip.defined()) return g;
    return g +
           through_norm(name + ".ln2", block.ln2, matmul(g, given(name + ".w_skip", block.w_skip)));
  }

  // g is of the stream behind attention m.
  Value through_attention(std::size_t m, const Value& g) {
    const LinearBlock& block = model_.blocks[m];
    const std::string name = fmt::format("{}", m);
    const std::int64_t h = model_.heads, groups = model_.groups, e = block.w_o.dim(0) / h;
    constant_ = constant_ + sum(g * given(name + ".b_o", block.b_o), {-2, -1});
    const Value z = reshape(matmul(g, transpose(given(name + ".w_o", block.w_o))), {k_, t_, h, e});
    // [K, h, key, e] = pattern^T [h, key, query] x [K, h, query, e]
    const Value pattern = permute(given(name + ".pattern", block.pattern), {0, 2, 1});
    Value v = matmul(pattern, permute(z, {0, 2, 1, 3}));
    if (groups != h) v = sum(reshape(v, {k_, groups, h / groups, t_, e}), {2});
    v = reshape(permute(v, {0, 2, 1, 3}), {k_, t_, groups * e});
    constant_ = constant_ + sum(v * given(name + ".b_v", block.b_v), {-2, -1});
    return g + through_norm(name + ".ln1", block.ln1,
                            matmul(v, transpose(given(name + ".w_v", block.w_v))));
  }

  const LinearModel& model_;
  std::int64_t k_, t_, d_;
  Builder b_;
  Feeds feeds_;
  Value constant_;
};

Tensor at_positions(const Tensor& scale, const std::vector<std::int64_t>& positions) {
  const Tensor rows = Tensor::empty({std::ssize(positions), 1}, DType::f32);
  for (std::size_t i = 0; i < positions.size(); ++i)
    rows.data<float>()[i] = scale.data<float>()[positions[i]];
  return rows;
}

}  // namespace

Gradients gradients_of(const LinearModel& model, const Targets& targets, const nn::Model& runs_on) {
  const std::int64_t k = targets.directions.dim(0), t = model.token.dim(0), d = model.token.dim(1);
  Backward backward(model, k, t, d);
  const Graph graph = backward.build(targets.layer);
  Fetch wanted;
  for (const auto& [name, node] : graph.outputs()) wanted.wants.push_back(value(name));
  const Plan plan = runs_on.plans().get(graph, wanted);
  Feeds feeds = backward.feeds();
  const auto& norm =
      targets.layer == model.blocks.size() ? model.final : model.blocks[targets.layer].ln2;
  const Tensor row = Tensor::empty({k}, DType::i32);
  for (std::int64_t i = 0; i < k; ++i)
    row.data<std::int32_t>()[i] =
        static_cast<std::int32_t>(i * t + targets.positions[static_cast<std::size_t>(i)]);
  feeds.insert_or_assign("direction", targets.directions);
  feeds.insert_or_assign("scale", at_positions(norm.scale, targets.positions));
  feeds.insert_or_assign("row", row);
  const Results r = plan.run(feeds, {}, {.pool = &runs_on.pool()});
  Gradients found{.of_tokens = r["tokens"],
                  .of_positions = r.contains("positions") ? r["positions"] : Tensor(),
                  .constant = r["constant"]};
  if (targets.layer == 0) return found;
  found.first_block = targets.layer - 1;
  for (std::size_t m = targets.layer; m-- > 0;) {
    found.of_sources.push_back(r[fmt::format("{}.sources", m)]);
    found.of_errors.push_back(r[fmt::format("{}.errors", m)]);
  }
  return found;
}

}  // namespace vitrine::sae

#include "sae/loss.h"

#include <fmt/format.h>

#include <cmath>

#include "autograd/ops/ops.h"
#include "sae/sae.h"

namespace vitrine::sae {

TrainedShapes trained_shapes(const SaeTrainingRules& r) {
  const std::int64_t d = r.d_in, features = r.d_sae, out = r.out_width();
  TrainedShapes shapes = {{"W_enc", {features, d}}};
  if (r.kind == Kind::gated) {
    for (const char* name : {"b_gate", "b_mag", "r_mag"}) shapes.push_back({name, {features}});
  } else {
    shapes.push_back({"b_enc", {features}});
  }
  if (r.kind == Kind::jumprelu) shapes.push_back({"threshold", {features}});
  shapes.push_back({"W_dec", {features, out}});
  shapes.push_back({"b_dec", {out}});
  if (r.skip) shapes.push_back({"W_skip", {out, d}});
  return shapes;
}

bool may_overflow(const SaeTrainingRules& rules, const FeatureView& view) {
  return view.capacity > 0 && view.capacity < rules.d_sae && rules.kind != Kind::topk;
}

namespace {

// What the losses do with features, densely or by a table.
class Places {
 public:
  Places() = default;
  explicit Places(const Value& index) : index_(index) {}

  Value linear(const Value& x, const Value& w) const {  // x w^T, w [features, d]
    return index_.defined() ? sparse_linear(x, w, index_) : matmul(x, transpose(w));
  }
  Value linear(const Value& x, const Value& w, const Value& bias) const {  // x w^T + bias
    return index_.defined() ? sparse_linear(x, w, index_) + of(bias)
                            : vitrine::linear(x, transpose(w), bias);
  }
  // The sum of z weight over all places. Densely, samples are added up first: one look at z.
  Value weighted_sum(const Value& z, const Value& weight) const {
    return index_.defined() ? sum(z * of(weight)) : sum(sum(z, {0}) * weight);
  }
  Value mix(const Value& z, const Value& w) const {  // z w
    return index_.defined() ? sparse_mix(z, w, index_) : matmul(z, w);
  }
  Value of(const Value& vector) const {  // [features] to the places
    return index_.defined() ? gather_rows(vector, index_) : vector;
  }
  // z, without the features from `width` on; by a table, as all kinds whose features compete.
  Value before(const Value& z, std::int64_t width) const {
    Builder& b = z.builder();
    const Value number = cast(index_, DType::f32),
                limit = b.scalar(static_cast<double>(width), DType::f32);
    return select(less(number, limit), z, b.scalar(0, z.dtype()));
  }

 private:
  Value index_;
};

class Emission {
 public:
  Emission(Builder& b, const SaeTrainingRules& r, const FeatureView& view, std::int64_t rows,
           std::int64_t batch)
      : b_(b), r_(r), view_(view), batch_(static_cast<double>(batch)) {
    for (const auto& [name, shape] : trained_shapes(r))
      weights_[name] = b.parameter(name, {DType::f32, shape});
    x_ = b.input("x", {DType::f32, {rows, r.d_in}});
    target_ = r.transcoder ? b.input("y", {DType::f32, {rows, r.out_width()}}) : x_;
    zero_ = b.scalar(0, DType::f32);
    normalise();
    centred_ = r.apply_b_dec_to_input && !r.transcoder ? x_ - w("b_dec") : x_;
    if (r.rescale_by_decoder_norm || r.kind == Kind::standard || r.kind == Kind::jumprelu ||
        r.kind == Kind::gated)
      norms_ = safe_sqrt(sum(square(w("W_dec")), {1}));
  }

  SaeLoss run() {
    switch (r_.kind) {
      case Kind::standard:
        standard();
        break;
      case Kind::topk:
      case Kind::batchtopk:
      case Kind::matryoshka:
        strongest();
        break;
      case Kind::jumprelu:
        jumprelu();
        break;
      case Kind::gated:
        gated();
        break;
    }
    return std::move(out_);
  }

 private:
  const Value& w(const char* name) const { return weights_.at(name); }
  Value number(double x) { return b_.scalar(x, DType::f32); }

  void normalise() {
    const auto width = static_cast<double>(r_.d_in);
    if (r_.normalise == Normalisation::layer_norm) {
      mean_ = mean(x_, {1}, true);
      x_ = x_ - mean_;
      scale_ = safe_sqrt(sum(square(x_), {1}, true) / (width - 1));
      x_ = x_ / (scale_ + 1e-5);
    } else if (r_.normalise == Normalisation::constant_norm_rescale) {
      scale_ = safe_sqrt(sum(square(x_), {1}, true)) / std::sqrt(width);
      x_ = x_ / scale_;
    }
  }
  // Of a reconstruction, or of the part of one that is without the mean.
  Value denormalised(const Value& y, bool with_mean) const {
    if (!scale_.defined()) return y;
    return with_mean && mean_.defined() ? y * scale_ + mean_ : y * scale_;
  }

  // The table of features whose score h scale is above bar, and what is looked at through it.
  void find(const Value& bias, const Value& scale, const Value& bar, double most) {
    if (view_.capacity == 0) return;
    const Value dead = b_.input("dead", {DType::boolean, {r_.d_sae}});
    const ActiveFeatures rule{.most = most,
                              .whole_batch = r_.whole_batch(),
                              .capacity = view_.capacity,
                              .dead_capacity = has_aux() ? r_.d_in / 2 : 0};
    // Which features are active is not differentiated.
    const Value table = linear_active(detach(centred_), detach(w("W_enc")), detach(bias),
                                      {detach(scale), detach(bar), dead}, rule);
    out_.index = slice(table, 1, 0, rule.capacity);
    places_ = Places(out_.index);
    if (has_aux())
      dead_places_ = Places(slice(table, 1, rule.capacity, rule.capacity + rule.dead_capacity));
  }
  bool has_aux() const { return r_.competes() && r_.aux > 0 && r_.d_in >= 2; }
  Value all(double x) { return broadcast_to(number(x), {r_.d_sae}); }

  // sum over places, mean over samples
  Value mean_over_samples(const Value& x) { return sum(x) / batch_; }

  void add(const char* name, const Value& loss) { add(std::string(name), loss); }
  void add(const std::string& name, const Value& loss) {
    out_.parts[name] = loss;
    out_.total = out_.total.defined() ? out_.total + loss : loss;
  }

  Value decoded(const Value& z) {
    Value y = places_.mix(z, w("W_dec")) + w("b_dec");
    if (r_.skip) y = y + matmul(x_, transpose(w("W_skip")));
    return denormalised(y, true);
  }
  // |e|^2 summed over the outputs; for a transcoder as a share of the variance.
  Value squared_error(const Value& e) {
    if (!r_.transcoder) return mean_over_samples(square(e));
    return sum(square(e)) * b_.input("y.weight", {DType::f32, {}});
  }
  void reconstruct(const Value& z) {
    out_.features = z;
    out_.active = less(zero_, z);
    out_.reconstruction = decoded(z);
    add("mse_loss", squared_error(out_.reconstruction - target_));
  }
  Value coefficient() { return b_.input("sparsity", {DType::f32, {}}); }

  void standard() {
    find(w("b_enc"), all(1), all(0), -1);
    const Value z = relu(places_.linear(centred_, w("W_enc"), w("b_enc")));
    reconstruct(z);
    const Value all_of = r_.norm_weighted ? places_.weighted_sum(z, norms_) : sum(z);
    add("l1_loss", coefficient() * (all_of / batch_));
  }

  void strongest() {
    const Value scale = r_.rescale_by_decoder_norm ? norms_ : all(1);
    find(w("b_enc"), scale, all(0), r_.k);
    // With codes z = relu(h n) and decoder rows divided by n, n cancels: z / n = relu(h).
    const Value z = relu(places_.linear(centred_, w("W_enc"), w("b_enc")));
    reconstruct(z);
    for (const std::int64_t width : r_.widths) {
      if (r_.kind != Kind::matryoshka || width >= r_.d_sae) continue;
      const Value e = decoded(places_.before(z, width)) - target_;
      add(fmt::format("inner_mse_loss_{}", width), squared_error(e));
    }
    if (r_.rescale_by_decoder_norm) out_.features = z * places_.of(norms_);
    if (has_aux()) auxiliary();
  }

  // What the dead features would add, asked to make up for the error (Gao et al. 2024, A.2).
  void auxiliary() {
    const Value dead = b_.input("dead", {DType::boolean, {r_.d_sae}});
    const Value error = detach(target_ - out_.reconstruction);
    const Value a = dead_places_.linear(centred_, w("W_enc"), w("b_enc"));
    const Value guess = denormalised(dead_places_.mix(a, w("W_dec")), false);
    const std::int64_t half = r_.d_in / 2;
    const Value share = minimum(sum(cast(dead, DType::f32)) / static_cast<double>(half), number(1));
    add("auxiliary_reconstruction_loss", r_.aux * share * squared_error(guess - error));
  }

  // y, whose value is that of `value` and whose gradient goes to `to`, times `slope`: a
  // straight-through estimator.
  static Value with_slope(const Value& value, const Value& slope, const Value& to) {
    return value + detach(slope) * (to - detach(to));
  }

  void jumprelu() {
    find(w("b_enc"), all(1), w("threshold") - r_.bandwidth / 2, -1);
    const Value h = places_.linear(centred_, w("W_enc"), w("b_enc")),
                theta = places_.of(w("threshold"));
    const Value on = less(theta, h);
    // The kernel of the estimator: 1 within half a bandwidth of the threshold.
    const Value near = cast(less(abs(h - theta), number(r_.bandwidth / 2)), DType::f32);
    const Value z = with_slope(select(on, h, zero_), neg(theta) / r_.bandwidth * near, theta);
    reconstruct(z);
    out_.active = on;
    Value penalty;
    if (r_.penalty == Penalty::step) {
      penalty = with_slope(cast(on, DType::f32), near * (-1 / r_.bandwidth), theta);
    } else {
      penalty = tanh(r_.tanh_scale * z * places_.of(norms_));
    }
    add("l0_loss", coefficient() * mean_over_samples(penalty));
  }

  void gated() {
    find(w("b_gate"), all(1), all(0), -1);
    const Value h = places_.linear(centred_, w("W_enc"));
    const Value gate = h + places_.of(w("b_gate")),
                size = h * exp(places_.of(w("r_mag"))) + places_.of(w("b_mag"));
    reconstruct(select(less(zero_, gate), relu(size), zero_));
    const Value open = relu(gate);
    add("l1_loss", coefficient() * (places_.weighted_sum(open, norms_) / batch_));
    add("auxiliary_reconstruction_loss", squared_error(decoded(open) - target_));
  }

  Builder& b_;
  const SaeTrainingRules& r_;
  FeatureView view_;
  double batch_;
  std::map<std::string, Value, std::less<>> weights_;
  Value x_, target_, centred_, norms_, zero_, mean_, scale_;
  Places places_, dead_places_;
  SaeLoss out_;
};

}  // namespace

SaeLoss emit_loss(Builder& b, const SaeTrainingRules& rules, const FeatureView& view,
                  std::int64_t rows, std::int64_t batch) {
  return Emission(b, rules, view, rows, batch).run();
}

}  // namespace vitrine::sae

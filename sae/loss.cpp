#include "sae/loss.h"

#include <fmt/format.h>

#include <cmath>

#include "autograd/ops/ops.h"
#include "sae/sae.h"

namespace vitrine::sae {

std::string weight_name(const SaeTrainingRules& r, std::int64_t dictionary,
                        std::string_view weight) {
  return r.layers == 0 ? std::string(weight) : fmt::format("{}.{}", dictionary, weight);
}

namespace {

// Of one dictionary; the decoder rows of one of a cross-layer transcoder write to several outputs, side by side.
TrainedShapes shapes_of(const SaeTrainingRules& r, std::int64_t outputs) {
  const std::int64_t d = r.d_in, features = r.d_sae, out = r.out_width();
  if (r.kind == Kind::matching_pursuit) return {{"W_dec", {features, out}}, {"b_dec", {out}}};
  TrainedShapes shapes = {{"W_enc", {features, d}}};
  if (r.kind == Kind::gated) {
    for (const char* name : {"b_gate", "b_mag", "r_mag"}) shapes.push_back({name, {features}});
  } else {
    shapes.push_back({"b_enc", {features}});
  }
  if (r.kind == Kind::jumprelu) shapes.push_back({"threshold", {features}});
  shapes.push_back({"W_dec", {features, outputs * out}});
  shapes.push_back({"b_dec", {out}});
  if (r.skip) shapes.push_back({"W_skip", {out, d}});
  return shapes;
}

}  // namespace

TrainedShapes trained_shapes(const SaeTrainingRules& r) {
  TrainedShapes shapes;
  for (std::int64_t i = 0; i < r.dictionaries(); ++i) {
    for (auto& [name, shape] : shapes_of(r, r.dictionaries() - i))
      shapes.emplace_back(weight_name(r, i, name), shape);
  }
  return shapes;
}

bool may_overflow(const SaeTrainingRules& rules, const FeatureView& view) {
  return view.capacity > 0 && view.capacity < rules.d_sae && rules.kind != Kind::topk;
}

namespace {

bool has_aux(const SaeTrainingRules& r) { return r.competes() && r.aux > 0 && r.d_in >= 2; }

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

// A scalar that is part of the loss, with its name; undefined where there is none.
struct Part {
  const char* name = "";
  Value value;
};

// One dictionary: its encoder, and the decoder rows of its features.
class Dictionary {
 public:
  Dictionary(Builder& b, const SaeTrainingRules& r, const FeatureView& view, double batch,
             std::int64_t number, const Value& x)
      : b_(&b),
        r_(&r),
        view_(view),
        batch_(batch),
        number_(number),
        x_(x),
        zero_(b.scalar(0, DType::f32)) {
    for (const auto& [name, shape] : shapes_of(r, r.dictionaries() - number))
      weights_[name] = b.parameter(weight_name(r, number, name), {DType::f32, shape});
    normalise();
    centred_ = r.apply_b_dec_to_input && !r.transcoder ? x_ - w("b_dec") : x_;
    if (r.rescale_by_decoder_norm || r.kind == Kind::standard || r.kind == Kind::jumprelu ||
        r.kind == Kind::gated)
      norms_ = safe_sqrt(sum(square(w("W_dec")), {1}));
  }

  const Value& w(const char* name) const { return weights_.at(name); }
  const Places& places() const { return places_; }

  struct Encoded {
    FeatureCodes codes;
    Value z;       // what the decoder reads: the codes, or these without the decoder norms
    Part penalty;  // of many features
    Value open;    // gated: the gate's own size
  };
  Encoded encode() {
    switch (r_->kind) {
      case Kind::standard:
        return standard();
      case Kind::jumprelu:
        return jumprelu();
      case Kind::gated:
        return gated();
      case Kind::matching_pursuit:
        return pursuit();
      default:
        return strongest();
    }
  }

  // What these features write, [n, outputs d_out], without the bias.
  Value written(const Value& z) const { return places_.mix(z, w("W_dec")); }
  // The reconstruction, of a dictionary that has an output of its own.
  Value decoded(const Value& z) const {
    Value y = written(z);
    // Tied weights: b_dec is given back where it was taken away.
    if (r_->kind != Kind::matching_pursuit || r_->apply_b_dec_to_input) y = y + w("b_dec");
    if (r_->skip) y = y + matmul(x_, transpose(w("W_skip")));
    return denormalised(y, true);
  }
  // What the dead features would write, [n, outputs d_out]: their pre-activations, not cut off at 0.
  Value written_by_dead() const {
    return dead_places_.mix(dead_places_.linear(centred_, w("W_enc"), w("b_enc")), w("W_dec"));
  }
  // Boolean [d_sae]: the features that are dead.
  Value dead() const {
    const Value all = b_->input("dead", {DType::boolean, {r_->all_features()}});
    return r_->layers == 0 ? all : slice(all, 0, number_ * r_->d_sae, (number_ + 1) * r_->d_sae);
  }
  // Of a reconstruction, or of the part of one that is without the mean.
  Value denormalised(const Value& y, bool with_mean) const {
    if (!scale_.defined()) return y;
    return with_mean && mean_.defined() ? y * scale_ + mean_ : y * scale_;
  }

 private:
  Value number(double x) const { return b_->scalar(x, DType::f32); }
  Value all(double x) const { return broadcast_to(number(x), {r_->d_sae}); }
  Value coefficient() const { return b_->input("sparsity", {DType::f32, {}}); }

  void normalise() {
    const auto width = static_cast<double>(r_->d_in);
    if (r_->normalise == Normalisation::layer_norm) {
      mean_ = mean(x_, {1}, true);
      x_ = x_ - mean_;
      scale_ = safe_sqrt(sum(square(x_), {1}, true) / (width - 1));
      x_ = x_ / (scale_ + 1e-5);
    } else if (r_->normalise == Normalisation::constant_norm_rescale) {
      scale_ = safe_sqrt(sum(square(x_), {1}, true)) / std::sqrt(width);
      x_ = x_ / scale_;
    }
  }

  // The table of features whose score h scale is above bar, and what is looked at through it.
  void find(const Value& bias, const Value& scale, const Value& bar, double most) {
    if (view_.capacity == 0) return;
    const bool aux = has_aux(*r_);
    const ActiveFeatures rule{.most = most,
                              .whole_batch = r_->whole_batch(),
                              .capacity = view_.capacity,
                              .dead_capacity = aux ? r_->d_in / 2 : 0};
    // Which features are active is not differentiated.
    const Value table = linear_active(detach(centred_), detach(w("W_enc")), detach(bias),
                                      {detach(scale), detach(bar), dead()}, rule);
    index_ = slice(table, 1, 0, rule.capacity);
    places_ = Places(index_);
    if (aux)
      dead_places_ = Places(slice(table, 1, rule.capacity, rule.capacity + rule.dead_capacity));
  }

  Encoded encoded(const Value& z, const Value& on) const {
    return {.codes = {on, z, index_}, .z = z};
  }

  Encoded standard() {
    find(w("b_enc"), all(1), all(0), -1);
    const Value z = relu(places_.linear(centred_, w("W_enc"), w("b_enc")));
    Encoded e = encoded(z, less(zero_, z));
    const Value all_of = r_->norm_weighted ? places_.weighted_sum(z, norms_) : sum(z);
    e.penalty = {"l1_loss", coefficient() * (all_of / batch_)};
    return e;
  }

  Encoded strongest() {
    const Value scale = r_->rescale_by_decoder_norm ? norms_ : all(1);
    find(w("b_enc"), scale, all(0), r_->k);
    // With codes z = relu(h n) and decoder rows divided by n, n cancels: z / n = relu(h).
    const Value z = relu(places_.linear(centred_, w("W_enc"), w("b_enc")));
    Encoded e = encoded(z, less(zero_, z));
    if (r_->rescale_by_decoder_norm) e.codes.features = z * places_.of(norms_);
    return e;
  }

  // y, whose value is that of `value` and whose gradient goes to `to`, times `slope`: a
  // straight-through estimator.
  static Value with_slope(const Value& value, const Value& slope, const Value& to) {
    return value + detach(slope) * (to - detach(to));
  }

  Encoded jumprelu() {
    find(w("b_enc"), all(1), w("threshold") - r_->bandwidth / 2, -1);
    const Value h = places_.linear(centred_, w("W_enc"), w("b_enc")),
                theta = places_.of(w("threshold"));
    const Value on = less(theta, h);
    // The kernel of the estimator: 1 within half a bandwidth of the threshold.
    const Value near = cast(less(abs(h - theta), number(r_->bandwidth / 2)), DType::f32);
    const Value z = with_slope(select(on, h, zero_), neg(theta) / r_->bandwidth * near, theta);
    Encoded e = encoded(z, on);
    Value penalty;
    if (r_->penalty == Penalty::step) {
      penalty = with_slope(cast(on, DType::f32), near * (-1 / r_->bandwidth), theta);
    } else {
      penalty = tanh(r_->tanh_scale * z * places_.of(norms_));
    }
    e.penalty = {"l0_loss", coefficient() * (sum(penalty) / batch_)};
    return e;
  }

  Encoded gated() {
    find(w("b_gate"), all(1), all(0), -1);
    const Value h = places_.linear(centred_, w("W_enc"));
    const Value gate = h + places_.of(w("b_gate")),
                size = h * exp(places_.of(w("r_mag"))) + places_.of(w("b_mag"));
    const Value z = select(less(zero_, gate), relu(size), zero_);
    Encoded e = encoded(z, less(zero_, z));
    e.open = relu(gate);
    e.penalty = {"l1_loss", coefficient() * (places_.weighted_sum(e.open, norms_) / batch_)};
    return e;
  }

  // What is picked is not differentiated; the codes are, through all steps before. A feature that
  // was picked twice is one active feature.
  Encoded pursuit() {
    const PursuitConfig config{r_->residual_threshold, static_cast<std::int64_t>(r_->k),
                               r_->stop_on_duplicate_support};
    const Value rows = w("W_dec");
    index_ = matching_pursuit(detach(centred_), detach(rows), pursuit_rule(config, r_->d_in));
    places_ = Places(index_);
    const Value z = pursuit_codes(centred_, rows, index_);
    return encoded(z, logical_and(less(zero_, z), logical_not(picked_before(index_))));
  }
  // Of a table [n, m], the places whose feature is in an earlier place, too.
  Value picked_before(const Value& index) const {
    const std::int64_t n = index.dim(0), m = index.dim(1);
    const Value number = cast(index, DType::f32), at = reshape(number, {n, m, 1}),
                before = reshape(number, {n, 1, m});
    const Value same =
        cast(logical_not(logical_or(less(at, before), less(before, at))), DType::f32);
    const Value earlier =
        mask(same, Value(), {.query_axis = 1, .key_axis = 2, .offset = -1, .zero = true});
    return less(zero_, sum(earlier, {2}));
  }

  Builder* b_;
  const SaeTrainingRules* r_;
  FeatureView view_;
  double batch_;
  std::int64_t number_;
  std::map<std::string, Value, std::less<>> weights_;
  Value x_, zero_, centred_, norms_, mean_, scale_, index_;
  Places places_, dead_places_;
};

class Emission {
 public:
  Emission(Builder& b, const SaeTrainingRules& r, const FeatureView& view, std::int64_t rows,
           std::int64_t batch, const Value& given)
      : b_(b), r_(r), batch_(static_cast<double>(batch)) {
    const Value x = given.defined() ? given : b.input("x", {DType::f32, {rows, r.all_inputs()}});
    target_ = r.transcoder ? b.input("y", {DType::f32, {rows, r.all_outputs()}}) : x;
    for (std::int64_t i = 0; i < r.dictionaries(); ++i) {
      const Value read = r.layers == 0 ? x : slice(x, 1, i * r.d_in, (i + 1) * r.d_in);
      dictionaries_.emplace_back(b, r, view, batch_, i, read);
    }
  }

  SaeLoss run() {
    for (Dictionary& d : dictionaries_) {
      encoded_.push_back(d.encode());
      out_.codes.push_back(encoded_.back().codes);
    }
    out_.reconstruction = reconstruction();
    const double weight = r_.end_to_end ? r_.end_to_end->local : 1;
    if (weight > 0) {
      const Value error = squared_error(out_.reconstruction - target_);
      add("mse_loss", weight == 1 ? error : weight * error);
    }
    if (r_.kind == Kind::matryoshka) prefixes();
    if (encoded_[0].penalty.value.defined()) penalise();
    if (r_.kind == Kind::gated)
      add("auxiliary_reconstruction_loss",
          squared_error(dictionaries_[0].decoded(encoded_[0].open) - target_));
    if (has_aux(r_)) auxiliary();
    return std::move(out_);
  }

 private:
  void add(const std::string& name, const Value& loss) {
    out_.parts[name] = loss;
    out_.total = out_.total.defined() ? out_.total + loss : loss;
  }

  // What the dictionaries of a cross-layer transcoder write to all outputs, side by side: `written` of dictionary l is
  // what it writes to the outputs from l on.
  template <class F>
  Value summed(const F& written) const {
    Value all = written(std::size_t{0});
    for (std::size_t i = 1; i < dictionaries_.size(); ++i) {
      const std::int64_t before = static_cast<std::int64_t>(i) * r_.out_width();
      const Value nothing = broadcast_to(b_.scalar(0, DType::f32), {all.dim(0), before});
      all = all + concat({nothing, written(i)}, 1);
    }
    return all;
  }

  Value reconstruction() const {
    if (r_.layers == 0) return dictionaries_[0].decoded(encoded_[0].z);
    std::vector<Value> biases;
    for (const Dictionary& d : dictionaries_) biases.push_back(d.w("b_dec"));
    return summed([&](std::size_t i) { return dictionaries_[i].written(encoded_[i].z); }) +
           concat(biases, 0);
  }

  // |e|^2 summed over the outputs; for a transcoder as a share of the variance, of each layer.
  Value squared_error(const Value& e) const {
    if (!r_.transcoder) return sum(square(e)) / batch_;
    const Value weight = b_.input("y.weight", {DType::f32, {r_.dictionaries()}});
    const Value of_layers =
        sum(reshape(sum(square(e), {0}), {r_.dictionaries(), r_.out_width()}), {1});
    return sum(of_layers * weight);
  }

  void penalise() {
    Value all;
    for (const Dictionary::Encoded& e : encoded_)
      all = all.defined() ? all + e.penalty.value : e.penalty.value;
    add(encoded_[0].penalty.name, all);
  }

  // Every prefix of features must reconstruct, too.
  void prefixes() {
    for (const std::int64_t width : r_.widths) {
      if (width >= r_.d_sae) continue;
      const Dictionary& d = dictionaries_[0];
      const Value e = d.decoded(d.places().before(encoded_[0].z, width)) - target_;
      add(fmt::format("inner_mse_loss_{}", width), squared_error(e));
    }
  }

  // What the dead features would add, asked to make up for the error (Gao et al. 2024, A.2).
  void auxiliary() {
    const Value error = detach(target_ - out_.reconstruction);
    const double half = static_cast<double>(r_.d_in / 2);
    const Value one = b_.scalar(1, DType::f32);
    const auto share = [&](const Dictionary& d) {
      return minimum(sum(cast(d.dead(), DType::f32)) / half, one);
    };
    if (r_.layers == 0) {
      const Dictionary& d = dictionaries_[0];
      const Value guess = d.denormalised(d.written_by_dead(), false);
      add("auxiliary_reconstruction_loss", r_.aux * share(d) * squared_error(guess - error));
      return;
    }
    // Where a layer has no dead features it writes nothing; where none has any, there is nothing to lose.
    Value any = share(dictionaries_[0]);
    for (std::size_t i = 1; i < dictionaries_.size(); ++i)
      any = maximum(any, share(dictionaries_[i]));
    const Value guess = summed([&](std::size_t i) { return dictionaries_[i].written_by_dead(); });
    add("auxiliary_reconstruction_loss", r_.aux * any * squared_error(guess - error));
  }

  Builder& b_;
  const SaeTrainingRules& r_;
  double batch_;
  Value target_;
  std::vector<Dictionary> dictionaries_;
  std::vector<Dictionary::Encoded> encoded_;
  SaeLoss out_;
};

}  // namespace

SaeLoss emit_loss(Builder& b, const SaeTrainingRules& rules, const FeatureView& view,
                  std::int64_t rows, std::int64_t batch, const Value& x) {
  return Emission(b, rules, view, rows, batch, x).run();
}

}  // namespace vitrine::sae

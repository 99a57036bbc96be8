#include "sae/training_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/end_to_end.h"
#include "sae/folder.h"
#include "sae/training_plans.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::sae {
namespace {

std::int64_t next_power_of_two(std::int64_t n) {
  std::int64_t power = 8;
  while (power < n) power *= 2;
  return power;
}

// sum |t - mean|^2 over the rows, in f64, of each of `parts` equal parts of the columns.
std::vector<double> total_variances(const Tensor& t, std::int64_t parts) {
  const std::int64_t n = t.dim(0), d = t.dim(1);
  const float* data = t.data<float>();
  std::vector<double> mean(static_cast<std::size_t>(d), 0), squares(mean);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d; ++j) {
      const double v = data[i * d + j];
      mean[static_cast<std::size_t>(j)] += v;
      squares[static_cast<std::size_t>(j)] += v * v;
    }
  }
  std::vector<double> variances(static_cast<std::size_t>(parts), 0);
  for (std::size_t j = 0; j < mean.size(); ++j)
    variances[j * variances.size() / mean.size()] +=
        squares[j] - mean[j] * mean[j] / static_cast<double>(n);
  return variances;
}

// The weights of the squared errors of a transcoder's outputs.
Tensor output_weights(const std::vector<double>& variances) {
  Tensor weights = Tensor::empty({std::ssize(variances)}, DType::f32);
  for (std::size_t i = 0; i < variances.size(); ++i)
    weights.data<float>()[i] = static_cast<float>(1 / variances[i]);
  return weights;
}

void copy_into(const Tensor& from, const Tensor& to) {
  const Tensor flat = from.contiguous();
  std::copy_n(flat.view().data, flat.bytes(), to.view().data);
}

Tensor expect_tensor(const Parameters& tensors, const std::string& name, const Type& type,
                     const std::string& where) {
  const auto it = tensors.find(name);
  if (it != tensors.end() && it->second.shape() == type.shape && it->second.dtype() == type.dtype)
    return it->second;
  throw CheckpointError(fmt::format(
      "{}: '{}' must be {}, but {}; is the checkpoint of other settings?", where, name,
      to_string(type),
      it == tensors.end()
          ? "is not there"
          : fmt::format("is {}", to_string(Type{it->second.dtype(), it->second.shape()}))));
}

}  // namespace

SaeTrainingStep::SaeTrainingStep(const SaeTrainingRules& rules, const Parameters& weights)
    : rules_(rules),
      thresholds_(static_cast<std::size_t>(rules.dictionaries()), 0.0),
      silent_(static_cast<std::size_t>(rules.all_features()), 0),
      fired_(static_cast<std::size_t>(rules.all_features()), 0) {
  check_rules(rules);
  for (const auto& [name, shape] : trained_shapes(rules)) {
    const Tensor state = Tensor::zeros({3, numel(shape)}, DType::f32);
    copy_into(expect_tensor(weights, name, {DType::f32, shape}, "weights to begin with"), state);
    bound_[name] = weights_[name] = state.select(0, 0).reshape(shape);
    bound_[state_name(name)] = state;
  }
}

double SaeTrainingStep::sparsity_coefficient() const {
  const std::int64_t warmup = rules_.sparsity_warmup;
  if (steps_ >= warmup) return rules_.sparsity;
  return rules_.sparsity * static_cast<double>(steps_ + 1) / static_cast<double>(warmup);
}

// ---- which way ----------------------------------------------------------------------------------
FeatureView SaeTrainingStep::view_for_next() const {
  if (fixed_ >= 0) return {fixed_};
  const SaeTrainingRules& r = rules_;
  if (r.kind == Kind::topk) return {static_cast<std::int64_t>(r.k)};
  if (r.kind == Kind::matching_pursuit) return {0};  // it makes a table of its own
  const std::int64_t all = r.d_sae;
  if (r.whole_batch()) {  // some samples get more than their share
    const std::int64_t share = static_cast<std::int64_t>(std::ceil(r.k));
    const std::int64_t seen = last_most_ < 0 ? 4 * share : last_most_ + last_most_ / 2;
    return {std::min(all, next_power_of_two(std::max(2 * share, seen) + 1))};
  }
  // A table entry costs seven times what an element of dense products does (0.22 against 0.03
  // microseconds on two cores, all products together), and tables have room to spare.
  constexpr double kDense = 1.0 / 12;
  if (last_most_ < 0 || last_l0_ > kDense * static_cast<double>(all)) return {0};
  const std::int64_t room = next_power_of_two(last_most_ + last_most_ / 2 + 1);
  return {2 * room > all ? 0 : room};
}

const Plan& SaeTrainingStep::plan(const FeatureView& view, bool first) {
  const std::pair key(view, first);
  if (const auto it = plans_.find(key); it != plans_.end()) return it->second;
  // Plans keep their arenas, which are large: one way of looking at features at a time.
  std::erase_if(plans_, [&](const auto& known) { return known.first.first != view; });
  return plans_[key] =
             view.capacity == 0 ? compile_part(rules_, view, first) : compile_step(rules_, view);
}
const Plan& SaeTrainingStep::apply_plan() {
  if (!apply_) apply_ = compile_application(rules_);
  return *apply_;
}

// ---- a step -------------------------------------------------------------------------------------
Feeds SaeTrainingStep::step_feeds(double rate, const Tensor* dead) const {
  const auto t = static_cast<double>(steps_ + 1);
  Tensor flags = Tensor::zeros({rules_.all_features()}, DType::boolean);
  if (dead != nullptr) {
    flags = dead->to(DType::boolean).contiguous();
  } else {
    for (std::size_t j = 0; j < silent_.size(); ++j)
      flags.view().as<std::uint8_t>()[j] = silent_[j] >= rules_.dead_after ? 1 : 0;
  }
  return {{"adam.settings", Tensor::of<double>({3}, {rate, 1 - std::pow(rules_.beta1, t),
                                                     1 - std::pow(rules_.beta2, t)})},
          {"sparsity", Tensor::scalar<float>(static_cast<float>(sparsity_coefficient()))},
          {"dead", flags}};
}

namespace {

void add_part(StepOutcome& o, const Results& r, double batch) {
  o.loss += r.scalar("loss");
  o.l0 += r.scalar("active") / batch;
  o.most_active = std::max(o.most_active, static_cast<std::int64_t>(r.scalar("most_active")));
  for (const std::string& name : r.names()) {
    if (name.starts_with("part.")) o.parts[name.substr(5)] += r.scalar(name);
  }
}

}  // namespace

SaeTrainingStep::Ran SaeTrainingStep::run_whole(const Plan& step, const Feeds& feeds,
                                                const Parameters& parameters,
                                                const FeatureView& view, ThreadPool& pool) const {
  const Results r = step.run(step.taken(feeds), parameters, {.pool = &pool, .find_nan = false});
  Ran ran;
  ran.outcome.capacity = view.capacity;
  add_part(ran.outcome, r, static_cast<double>(rules_.batch));
  ran.outcome.grad_norm = r.scalar("grad_norm");
  ran.fires = r.raw("fires");
  ran.errors = r.raw("errors");
  ran.overflow = r.scalar("overflow");
  for (const float s : r.raw("smallest").to_vector<float>()) ran.smallest.push_back(s);
  return ran;
}

SaeTrainingStep::Ran SaeTrainingStep::run_end_to_end(const Batch& batch, ThreadPool& pool,
                                                     const FeatureView& view, Feeds feeds) {
  const ModelBatch& m = *batch.model;
  const std::string key = fmt::format("{} {} {} {} {}", batch.site, view.capacity, m.size.rows,
                                      m.size.sequences, m.size.positions);
  auto plan = end_to_end_.find(key);
  if (plan == end_to_end_.end()) {
    constexpr std::size_t kPlans = 2;  // they keep their arenas, which are large
    if (end_to_end_.size() >= kPlans) end_to_end_.clear();
    const Graph losses = losses_end_to_end(m.graph, batch.site, rules_, view);
    plan = end_to_end_.emplace(key, compile_step(rules_, losses)).first;
  }
  feeds.merge(m.feeds_of(rules_, batch.scale));
  return run_whole(plan->second, feeds, with_model(*m.model), view, pool);
}

// The model's weights beside those that are trained.
Parameters SaeTrainingStep::with_model(const nn::Model& model) const {
  Parameters all = model.parameters();
  for (const auto& [name, tensor] : bound_) all.insert_or_assign(name, tensor);
  return all;
}

SaeTrainingStep::Ran SaeTrainingStep::run(const Batch& batch, ThreadPool& pool,
                                          const FeatureView& view, Feeds feeds) {
  if (rules_.end_to_end) return run_end_to_end(batch, pool, view, std::move(feeds));
  const std::int64_t rows = rows_of(rules_, view);
  const RunOptions options{.pool = &pool, .find_nan = false};
  const auto samples = static_cast<double>(rules_.batch);
  if (view.capacity > 0) {
    apply_.reset();  // what dense steps need
    std::erase_if(bound_, [](const auto& entry) { return entry.first.starts_with("sum."); });
    feeds["x"] = batch.x;
    if (rules_.transcoder) feeds["y"] = batch.y;
    return run_whole(plan(view, true), feeds, bound_, view, pool);
  }
  Ran ran;
  StepOutcome& o = ran.outcome;
  o.capacity = view.capacity;
  for (const auto& [name, shape] : trained_shapes(rules_)) {
    if (!bound_.contains(sum_name(name))) bound_[sum_name(name)] = Tensor::zeros(shape, DType::f32);
  }
  ran.fires = Tensor::zeros({rules_.all_features()}, DType::f32);
  ran.errors = Tensor::zeros({rules_.batch, rules_.dictionaries()}, DType::f32);
  for (std::int64_t begin = 0; begin < rules_.batch; begin += rows) {
    feeds["x"] = batch.x.slice(0, begin, begin + rows);
    if (rules_.transcoder) feeds["y"] = batch.y.slice(0, begin, begin + rows);
    const Plan step = plan(view, begin == 0);
    const Results r = step.run(step.taken(feeds), bound_, options);
    add_part(o, r, samples);
    const Tensor some = r.raw("fires");
    for (std::int64_t j = 0; j < rules_.all_features(); ++j)
      ran.fires.data<float>()[j] += some.data<float>()[j];
    copy_into(r.raw("errors"), ran.errors.slice(0, begin, begin + rows));
  }
  o.grad_norm = std::numeric_limits<double>::quiet_NaN();
  if (!std::isfinite(o.loss)) return ran;
  const Plan apply = apply_plan();
  o.grad_norm = apply.run(apply.taken(feeds), bound_, options).scalar("grad_norm");
  return ran;
}

StepOutcome SaeTrainingStep::step(const Batch& batch, ThreadPool& pool) {
  return step(batch, pool, rate());
}

namespace {

// errors [batch, outputs]: |e|^2.
void explain_variance(const Tensor& errors, const std::vector<double>& variances, StepOutcome& o) {
  std::vector<double> error(variances.size(), 0);
  const float* e = errors.data<float>();
  for (std::int64_t i = 0; i < errors.numel(); ++i)
    error[static_cast<std::size_t>(i) % error.size()] += e[i];
  double of_errors = 0, of_variances = 0;
  for (std::size_t l = 0; l < error.size(); ++l) {
    o.explained_layers.push_back(variances[l] > 0 ? 1 - error[l] / variances[l] : 0);
    of_errors += error[l];
    of_variances += variances[l];
  }
  o.explained_variance = of_variances > 0 ? 1 - of_errors / of_variances : 0;
}

}  // namespace

StepOutcome SaeTrainingStep::step(const Batch& batch, ThreadPool& pool, double rate,
                                  const Tensor* dead) {
  check_batch(batch);
  const Tensor& target = rules_.transcoder ? batch.y : batch.x;
  const std::vector<double> variances = total_variances(target, rules_.dictionaries());
  Feeds feeds = step_feeds(rate, dead);
  if (rules_.transcoder) feeds["y.weight"] = output_weights(variances);
  FeatureView view = view_for_next();
  Ran ran;
  for (;;) {
    ran = run(batch, pool, view, feeds);
    if (!may_overflow(rules_, view) || ran.overflow == 0) break;
    // Nothing has moved. Twice the room, or all of it.
    view.capacity = std::min(rules_.d_sae, 2 * view.capacity);
    if (!rules_.competes() && 2 * view.capacity > rules_.d_sae) view.capacity = 0;
  }
  StepOutcome& o = ran.outcome;
  if (!std::isfinite(o.loss) || !std::isfinite(o.grad_norm)) explain_failure(batch, o);
  explain_variance(ran.errors, variances, o);
  last_l0_ = o.l0 / static_cast<double>(rules_.dictionaries());
  last_most_ = o.most_active;
  for (std::size_t i = 0; rules_.whole_batch() && i < thresholds_.size(); ++i) {
    if (std::isfinite(ran.smallest[i]))
      thresholds_[i] =
          (1 - rules_.threshold_rate) * thresholds_[i] + rules_.threshold_rate * ran.smallest[i];
  }
  count_fires(ran.fires);
  ++steps_;
  samples_ += rules_.batch;
  if (rules_.resample_every > 0 && steps_ % rules_.resample_every == 0) resample(batch, ran.errors);
  o.dead = dead_features();
  return o;
}

void SaeTrainingStep::check_batch(const Batch& batch) const {
  const auto check = [&](const Tensor& t, std::int64_t width, const char* what) {
    const Type type{DType::f32, {rules_.batch, width}};
    if (t.defined() && t.dtype() == type.dtype && t.shape() == type.shape) return;
    throw ShapeError(
        fmt::format("a batch of {} must be {}, not {}", what, to_string(type),
                    t.defined() ? to_string(Type{t.dtype(), t.shape()}) : std::string("nothing")));
  };
  check(batch.x, rules_.all_inputs(), "activations");
  if (rules_.transcoder) check(batch.y, rules_.all_outputs(), "targets");
  if (rules_.end_to_end && (batch.model == nullptr || batch.site.empty())) {
    throw Error(ErrorKind::usage,
                "end-to-end training needs the texts of a batch and the site of the SAE");
  }
}

void SaeTrainingStep::count_fires(const Tensor& fires) {
  const float* count = fires.data<float>();
  for (std::size_t j = 0; j < silent_.size(); ++j) {
    silent_[j] = count[j] > 0 ? 0 : silent_[j] + rules_.batch;
    fired_[j] += static_cast<std::int64_t>(count[j]);
  }
}

std::int64_t SaeTrainingStep::dead_features() const {
  return std::count_if(silent_.begin(), silent_.end(),
                       [&](std::int64_t n) { return n >= rules_.dead_after; });
}

Tensor SaeTrainingStep::sparsity() const {
  Tensor out = Tensor::empty({rules_.all_features()}, DType::f32);
  const double samples = static_cast<double>(std::max<std::int64_t>(1, samples_));
  for (std::size_t j = 0; j < fired_.size(); ++j)
    out.data<float>()[j] =
        static_cast<float>(std::log10(static_cast<double>(fired_[j]) / samples + 1e-10));
  return out;
}

// Dead features begin anew as inputs that are reconstructed badly, drawn in proportion to the
// square of their loss (Bricken et al. 2023, "Neuron resampling").
void SaeTrainingStep::resample(const Batch& batch, const Tensor& errors) {
  std::vector<std::size_t> dead;
  double alive_norm = 0;
  std::int64_t alive = 0;
  const std::int64_t d = rules_.d_in, out = rules_.out_width();
  const auto norm_of = [](const float* row, std::int64_t n) {
    double squares = 0;
    for (std::int64_t i = 0; i < n; ++i) squares += static_cast<double>(row[i]) * row[i];
    return std::sqrt(squares);
  };
  const auto tied = weights_.find("W_enc") == weights_.end();
  float* encoder = tied ? nullptr : weights_["W_enc"].data<float>();
  for (std::size_t j = 0; j < silent_.size(); ++j) {
    if (silent_[j] >= rules_.dead_after) {
      dead.push_back(j);
    } else {
      if (!tied) alive_norm += norm_of(encoder + static_cast<std::int64_t>(j) * d, d);
      ++alive;
    }
  }
  if (dead.empty()) return;
  alive_norm = alive > 0 ? alive_norm / static_cast<double>(alive) : 1;
  std::vector<double> upto;  // running sums of the squared losses
  for (const float e : errors.to_vector<float>())
    upto.push_back((upto.empty() ? 0 : upto.back()) + static_cast<double>(e) * e);
  if (!(upto.back() > 0)) return;
  const random::Key key =
      random::Key{rules_.seed}.fold("resample").fold(static_cast<std::uint64_t>(steps_));
  const Tensor& target = rules_.transcoder ? batch.y : batch.x;
  for (std::size_t i = 0; i < dead.size(); ++i) {
    const double at = random::uniform(key, i) * upto.back();
    const auto row = std::min<std::int64_t>(
        rules_.batch - 1, std::upper_bound(upto.begin(), upto.end(), at) - upto.begin());
    const auto feature = static_cast<std::int64_t>(dead[i]);
    const float *x = batch.x.data<float>() + row * d, *y = target.data<float>() + row * out;
    const double x_norm = norm_of(x, d), y_norm = norm_of(y, out);
    if (!(x_norm > 0 && y_norm > 0)) continue;
    float* decoder = weights_["W_dec"].data<float>();
    for (std::int64_t c = 0; c < out; ++c)
      decoder[feature * out + c] = static_cast<float>(y[c] / y_norm);
    for (std::int64_t c = 0; c < d && !tied; ++c)
      encoder[feature * d + c] = static_cast<float>(x[c] / x_norm * 0.2 * alive_norm);
    for (const auto& [name, shape] : trained_shapes(rules_)) {
      if (name == "b_dec" || name == "W_skip") continue;
      const std::int64_t width = shape.size() == 2 ? shape[1] : 1, n = numel(shape);
      float* state = bound_[state_name(name)].data<float>();
      for (int moment = 1; moment <= 2; ++moment)
        std::fill_n(state + moment * n + feature * width, width, 0.0F);
      if (shape.size() == 1)
        state[feature] = static_cast<float>(name == "threshold" ? rules_.initial_threshold : 0);
    }
    silent_[dead[i]] = 0;
  }
}

void SaeTrainingStep::explain_failure(const Batch& batch, const StepOutcome& o) const {
  const auto look = [&](const Tensor& t, const char* what) {
    const float* data = t.data<float>();
    for (std::int64_t i = 0; i < t.numel(); ++i) {
      if (std::isfinite(data[i])) continue;
      throw NumericError(
          fmt::format("step {}: row {} of the {} has {} at place {}; no weight has been changed",
                      steps_ + 1, i / t.dim(1), what, data[i], i % t.dim(1)));
    }
  };
  look(batch.x, "activations");
  if (batch.y.defined()) look(batch.y, "targets");
  throw NumericError(fmt::format(
      "step {}: the loss is {}, the norm of the gradient {}; no weight has been changed; a lower "
      "learning rate or clipping may help",
      steps_ + 1, o.loss, o.grad_norm));
}

// ---- checks -------------------------------------------------------------------------------------
SaeTrainingStep::Gradients SaeTrainingStep::gradients(const Batch& batch, ThreadPool& pool,
                                                      const Tensor* dead) const {
  check_batch(batch);
  const FeatureView view = rules_.competes() || fixed_ > 0
                               ? FeatureView{fixed_ > 0 ? fixed_ : rules_.d_sae}
                               : FeatureView{0};
  const Graph g = rules_.end_to_end
                      ? losses_end_to_end(batch.model->graph, batch.site, rules_, view)
                      : losses_with_gradients(rules_, view);
  if (!rules_.end_to_end && rows_of(rules_, view) != rules_.batch)
    throw Error(ErrorKind::usage, "gradients are for batches that fit into one part");
  Fetch f = reported(g);
  f.wants.push_back(value("reconstruction"));
  const bool by_table = view.capacity > 0 || rules_.kind == Kind::matching_pursuit;
  for (std::int64_t i = 0; i < rules_.dictionaries(); ++i) {
    f.wants.push_back(value(weight_name(rules_, i, "features")));
    if (by_table) f.wants.push_back(value(weight_name(rules_, i, "index")));
  }
  f.wants.push_back(grad(all_weights(rules_)));
  const Plan p = compile(g, f);
  Feeds feeds = step_feeds(0, dead);
  feeds["x"] = batch.x;
  if (rules_.transcoder) {
    feeds["y"] = batch.y;
    feeds["y.weight"] = output_weights(total_variances(batch.y, rules_.dictionaries()));
  }
  if (rules_.end_to_end) feeds.merge(batch.model->feeds_of(rules_, batch.scale));
  const Results r =
      p.run(p.taken(feeds), rules_.end_to_end ? with_model(*batch.model->model) : bound_,
            {.pool = &pool});
  Gradients out;
  add_part(out.outcome, r, static_cast<double>(rules_.batch));
  for (const auto& [name, shape] : trained_shapes(rules_))
    out.gradients[name] = r.grad(name).clone();
  out.reconstruction = r.raw("reconstruction").clone();
  out.features = Tensor::zeros({rules_.batch, rules_.all_features()}, DType::f32);
  for (std::int64_t d = 0; d < rules_.dictionaries(); ++d) {
    const Tensor here = out.features.slice(1, d * rules_.d_sae, (d + 1) * rules_.d_sae);
    const Tensor codes = r.raw(weight_name(rules_, d, "features")).contiguous();
    const Tensor index = by_table ? r.raw(weight_name(rules_, d, "index")).contiguous() : Tensor();
    for (std::int64_t i = 0; i < codes.numel(); ++i) {
      const std::int64_t row = i / codes.dim(1),
                         j = index.defined() ? index.data<std::int32_t>()[i] : i % codes.dim(1);
      if (j >= 0) here.data<float>()[row * rules_.all_features() + j] += codes.data<float>()[i];
    }
  }
  return out;
}

std::string SaeTrainingStep::explain() const {
  std::string text;
  for (const auto& [key, p] : plans_) {
    const FeatureView& view = key.first;
    text += view.capacity == 0 ? fmt::format("dense, {} samples at a time\n", rows_of(rules_, view))
                               : fmt::format("room for {} active features\n", view.capacity);
    text += p.explain();
  }
  if (apply_) text += "moving the weights\n" + apply_->explain();
  return text;
}

// ---- what is kept -------------------------------------------------------------------------------
Parameters SaeTrainingStep::state() const {
  Parameters state;
  for (const auto& [name, tensor] : bound_) {
    if (name.starts_with("adam.")) state[name] = tensor;
  }
  const auto n = static_cast<std::int64_t>(silent_.size());
  state["silent"] = Tensor::of<std::int64_t>({n}, silent_);
  state["fired"] = Tensor::of<std::int64_t>({n}, fired_);
  state["counts"] = Tensor::of<std::int64_t>({3}, {steps_, samples_, last_most_});
  std::vector<double> measured = thresholds_;
  measured.push_back(last_l0_);
  state["measured"] = Tensor::of<double>({std::ssize(measured)}, measured);
  return state;
}

SaeTrainingStep SaeTrainingStep::restored(const SaeTrainingRules& rules, const Parameters& state,
                                          const std::string& where) {
  Parameters weights;
  for (const auto& [name, shape] : trained_shapes(rules)) {
    const Tensor all =
        expect_tensor(state, state_name(name), {DType::f32, {3, numel(shape)}}, where);
    weights[name] = all.select(0, 0).reshape(shape);
  }
  for (const char* name : {"silent", "fired"})
    expect_tensor(state, name, {DType::i64, {rules.all_features()}}, where);
  expect_tensor(state, "counts", {DType::i64, {3}}, where);
  expect_tensor(state, "measured", {DType::f64, {rules.dictionaries() + 1}}, where);
  SaeTrainingStep step(rules, weights);
  for (const auto& [name, tensor] : step.bound_) {
    if (name.starts_with("adam.")) copy_into(state.at(name), tensor);
  }
  step.set_counts(state, where);
  return step;
}

void SaeTrainingStep::set_counts(const Parameters& state, const std::string& where) {
  const auto counts = state.at("counts").to_vector<std::int64_t>();
  const auto measured = state.at("measured").to_vector<double>();
  steps_ = counts[0];
  samples_ = counts[1];
  last_most_ = counts[2];
  thresholds_.assign(measured.begin(), measured.end() - 1);
  last_l0_ = measured.back();
  silent_ = state.at("silent").to_vector<std::int64_t>();
  fired_ = state.at("fired").to_vector<std::int64_t>();
  const auto require = [&](bool ok, const std::string& what) {
    if (ok) return;
    throw CheckpointError(fmt::format(
        "{}: {}, which cannot be; the file is damaged: take a copy of it, or begin anew", where,
        what));
  };
  constexpr std::int64_t kMost = std::int64_t{1} << 60;
  require(
      steps_ >= 0 && steps_ <= kMost / rules_.batch && samples_ == steps_ * rules_.batch,
      fmt::format("'counts' says {} samples after {} steps of {}", samples_, steps_, rules_.batch));
  require(last_most_ >= -1 && last_most_ <= rules_.d_sae,
          fmt::format("'counts' says {} features of a sample, of {}", last_most_, rules_.d_sae));
  for (const double threshold : thresholds_)
    require(threshold >= 0 && std::isfinite(threshold),
            fmt::format("'measured' has the threshold {}", threshold));
  require(last_l0_ == -1 || (last_l0_ >= 0 && last_l0_ <= static_cast<double>(rules_.d_sae)),
          fmt::format("'measured' says {} features of a sample on average, of {}", last_l0_,
                      rules_.d_sae));
  for (const auto& [name, of] : {std::pair{"silent", &silent_}, std::pair{"fired", &fired_}}) {
    for (std::size_t j = 0; j < of->size(); ++j) {
      require(
          (*of)[j] >= 0 && (*of)[j] <= samples_,
          fmt::format("'{}' says {} samples of feature {}, of {}", name, (*of)[j], j, samples_));
    }
  }
}

}  // namespace vitrine::sae

#include "sae/set_evaluation.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "nn/families/sites.h"
#include "nn/model/metrics.h"
#include "nn/model/weights.h"
#include "sae/text_batches.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

std::string leaf_of(std::size_t layer, const char* weight) {
  return fmt::format("transcoders.{}.{}", layer, weight);
}
std::string decoder_of(std::size_t from, std::size_t to) {
  return fmt::format("transcoders.{}.W_dec.{}", from, to);
}
Value leaf(Builder& b, const std::string& name, const Tensor& of) {
  return b.parameter(name, {DType::f32, of.shape()});
}

// The features of one layer, [rows, features], of what it reads.
Value emit_features(Builder& b, const TranscoderSet& set, std::size_t layer, const Value& x) {
  const TranscoderLayer& t = set.layers[layer];
  const Value h = linear(x, transpose(leaf(b, leaf_of(layer, "W_enc"), t.w_enc)),
                         leaf(b, leaf_of(layer, "b_enc"), t.b_enc));
  const Value zero = b.scalar(0, DType::f32);
  switch (set.activation) {
    case TranscoderActivation::relu:
      return relu(h);
    case TranscoderActivation::jumprelu:
      return select(less(leaf(b, leaf_of(layer, "threshold"), t.threshold), h), h, zero);
    case TranscoderActivation::topk:
      return select(top_mask(h, set.k), relu(h), zero);
  }
  throw GraphError("an unknown activation");
}

// What the set gives for a layer, of the features of all layers up to it and of what the layer reads.
Value emit_output(Builder& b, const TranscoderSet& set, std::size_t layer,
                  const std::vector<Value>& features, const Value& x) {
  const TranscoderLayer& t = set.layers[layer];
  Value y = leaf(b, leaf_of(layer, "b_dec"), t.b_dec);
  for (std::size_t from = set.cross_layer ? 0 : layer; from <= layer; ++from)
    y = y + matmul(features[from],
                   leaf(b, decoder_of(from, layer), set.layers[from].w_dec[layer - from]));
  if (t.w_skip.defined()) y = y + matmul(x, transpose(leaf(b, leaf_of(layer, "W_skip"), t.w_skip)));
  return y;
}

// The sites that a set reads and gives, and how what is read is made of the former.
class SetSites {
 public:
  SetSites(const nn::Model& model, const TranscoderSet& set) : set_(set) {
    const nn::Config& c = model.config();
    if (std::ssize(set.layers) != c.layers || set.width() != c.d_model)
      throw ShapeError(
          fmt::format("{}: transcoders of {} layers of width {}, and the model has {} of width {}",
                      set.name, set.layers.size(), set.width(), c.layers, c.d_model));
    const Parameters weights = nn::weights(model, "blocks.*.ln2.*");
    for (std::size_t l = 0; l < set.layers.size(); ++l) {
      const int layer = static_cast<int>(l);
      in.push_back(set.inputs.empty() ? site::ln2_normalized(layer).name : set.inputs[l]);
      out.push_back(set.outputs.empty() ? site::mlp_out(layer).name : set.outputs[l]);
      const std::string norm = fmt::format("blocks.{}.ln2", l);
      const auto taken = [&](const std::string& name) {
        const auto found = weights.find(name);
        return found == weights.end() ? Tensor() : found->second.to(DType::f32).contiguous();
      };
      gain_.push_back(set.inputs.empty() ? taken(norm + ".w") : Tensor());
      bias_.push_back(set.inputs.empty() ? taken(norm + ".b") : Tensor());
    }
  }

  // [rows, d] of the site's value: with the norm's gain and bias where that is what is read.
  Value read(std::size_t layer, const Value& site) const {
    Value x = rows_of(site);
    if (gain_[layer].defined()) x = x * site.builder().constant(gain_[layer]);
    if (bias_[layer].defined()) x = x + site.builder().constant(bias_[layer]);
    return x;
  }
  Value rows_of(const Value& site) const {
    return reshape(site, {numel(site.shape()) / set_.width(), set_.width()});
  }
  std::vector<std::string> all() const {
    std::vector<std::string> names = in;
    names.insert(names.end(), out.begin(), out.end());
    return names;
  }

  std::vector<std::string> in, out;

 private:
  const TranscoderSet& set_;
  std::vector<Tensor> gain_, bias_;
};

double total(const Tensor& t) {
  double sum = 0;
  for (const double v : t.to_vector<double>()) sum += v;
  return sum;
}

// ---- reconstruction -----------------------------------------------------------------------------
class SetMeter {
 public:
  SetMeter(const nn::Model& model, const TranscoderSet& set, const SetSites& places)
      : model_(model),
        set_(set),
        places_(places),
        parameters_(with_transcoders({}, set)),
        sums_(set.layers.size()) {
    for (std::size_t l = 0; l < sums_.size(); ++l) {
      sums_[l].fired.resize(static_cast<std::size_t>(set.layers[l].features()), 0);
      sums_[l].y.resize(static_cast<std::size_t>(set.width()), 0);
    }
  }

  // Columns in the order of SetSites::all.
  void add(const std::vector<Tensor>& columns) {
    const std::int64_t n = columns[0].dim(0);
    Feeds feeds;
    for (std::size_t l = 0; l < sums_.size(); ++l) feeds[input_of(l)] = columns[l];
    if (!plan_ || plan_rows_ != n) {
      plan_ = plan(n);
      plan_rows_ = n;
    }
    const Results r = plan_->run(plan_->taken(feeds), parameters_, {.pool = &model_.pool()});
    for (std::size_t l = 0; l < sums_.size(); ++l)
      sums_[l].add(columns[sums_.size() + l], r.raw(fmt::format("y.{}", l)),
                   r.raw(fmt::format("fires.{}", l)));
    rows_ += n;
  }

  std::vector<LayerReconstruction> finish() const {
    std::vector<LayerReconstruction> layers;
    for (const Sums& s : sums_) layers.push_back(s.finish(static_cast<double>(rows_)));
    return layers;
  }
  std::int64_t rows() const { return rows_; }

 private:
  struct Sums {
    double error = 0, squares = 0;
    std::vector<double> y, fired;
    void add(const Tensor& target, const Tensor& given, const Tensor& fires) {
      const float *a = target.data<float>(), *b = given.data<float>();
      for (std::int64_t i = 0; i < target.numel(); ++i) {
        const double v = a[i], off = v - b[i];
        error += off * off;
        squares += v * v;
        y[static_cast<std::size_t>(i) % y.size()] += v;
      }
      for (std::size_t j = 0; j < fired.size(); ++j) fired[j] += fires.data<float>()[j];
    }
    LayerReconstruction finish(double n) const {
      double of_mean = 0, active = 0, silent = 0;
      for (const double v : y) of_mean += v / n * (v / n);
      for (const double f : fired) {
        active += f;
        silent += f == 0 ? 1 : 0;
      }
      const double variance = squares / n - of_mean;
      const bool varies = variance > 1e-12 * squares / n;
      return {.l0 = active / n,
              .mse = error / n,
              .normalised_mse =
                  varies ? error / n / variance : std::numeric_limits<double>::quiet_NaN(),
              .dead = silent / static_cast<double>(fired.size())};
    }
  };

  static std::string input_of(std::size_t layer) { return fmt::format("x.{}", layer); }

  Plan plan(std::int64_t n) const {
    Builder b;
    std::vector<Value> features;
    Fetch wanted;
    for (std::size_t l = 0; l < sums_.size(); ++l) {
      const Value x = places_.read(l, b.input(input_of(l), {DType::f32, {n, set_.width()}}));
      features.push_back(emit_features(b, set_, l, x));
      const Value y = emit_output(b, set_, l, features, x);
      const Value on = cast(less(b.scalar(0, DType::f32), features[l]), DType::f32);
      for (const auto& [name, value_of] : {std::pair{"y", y}, {"fires", sum(on, {0})}}) {
        const std::string output = fmt::format("{}.{}", name, l);
        b.output(output, value_of);
        wanted.wants.push_back(value(output));
      }
    }
    return compile(std::move(b).finish(), wanted);
  }

  const nn::Model& model_;
  const TranscoderSet& set_;
  const SetSites& places_;
  Parameters parameters_;
  std::optional<Plan> plan_;
  std::int64_t plan_rows_ = 0, rows_ = 0;
  std::vector<Sums> sums_;
};

// ---- the replacement model ----------------------------------------------------------------------
// The graph with the values of these sites, in the rows that count, made by `f(b, layer, arriving)`.
template <class F>
Graph all_replaced(const Graph& graph, const SetSites& places, const F& f) {
  std::vector<std::string> names = places.all();
  Builder b(expand_sites(graph, names));
  for (std::size_t l = 0; l < places.out.size(); ++l) {
    const NodeId at = b.at(Site{places.out[l]}).id();
    const Value arriving = b.value(b.node(at).inputs[0]);
    Shape rows{arriving.dim(0)};
    for (int a = 1; a < arriving.rank(); ++a) rows.push_back(1);
    const Value counts = reshape(b.input("sae.rows", {DType::boolean, {arriving.dim(0), 1}}), rows);
    b.edit_site(places.out[l], select(counts, f(b, l, arriving), arriving));
  }
  return std::move(b).finish();
}

class ReplacementMeter {
 public:
  ReplacementMeter(const nn::Model& model, const TranscoderSet& set, const SetSites& places)
      : model_(model),
        set_(set),
        places_(places),
        parameters_(with_transcoders(model.parameters(), set)) {}

  void add(const TextBatch& batch) {
    const std::int64_t n = nn::next_tokens(batch.prompts);
    if (n == 0) return;
    const Graph graph = model_.build(nn::batch_size(batch.prompts));
    Feeds feeds = model_.feeds(graph, batch.prompts);
    feeds["sae.rows"] = batch.counts_as_tensor();
    const Results clean = run(with_metric(graph, nn::next_token_loss(n)), feeds,
                              fetch(value("loss_per_token"), value("logits")));
    feeds["clean"] = clean.raw("logits");
    Builder b(with_metric(replacement_model(model_, graph, set_), nn::next_token_loss(n)));
    const Value before = b.input("clean", {feeds["clean"].dtype(), feeds["clean"].shape()});
    b.output("kl",
             sum(softmax(before) * (log_softmax(before) - log_softmax(b.output("logits"))), {1}));
    const Results replaced =
        run(std::move(b).finish(), feeds, fetch(value("loss_per_token"), value("kl")));
    const Graph zeros =
        all_replaced(graph, places_, [](Builder& z, std::size_t, const Value& arriving) {
          return broadcast_to(z.scalar(0, arriving.dtype()), arriving.shape());
        });
    const Results nothing =
        run(with_metric(zeros, nn::next_token_loss(n)), feeds, fetch(value("loss_per_token")));
    sums_.ce_clean += total(clean.raw("loss_per_token"));
    sums_.ce_replaced += total(replaced.raw("loss_per_token"));
    sums_.ce_zero += total(nothing.raw("loss_per_token"));
    sums_.kl += total(replaced.raw("kl"));
    kl_rows_ += std::ssize(batch.counts);
    sums_.predictions += n;
  }

  std::optional<MlpReplacement> finish() const {
    if (sums_.predictions == 0) return std::nullopt;
    MlpReplacement r = sums_;
    for (double* ce : {&r.ce_clean, &r.ce_replaced, &r.ce_zero})
      *ce /= static_cast<double>(r.predictions);
    r.kl /= static_cast<double>(kl_rows_);
    return r;
  }

 private:
  Results run(const Graph& graph, const Feeds& feeds, const Fetch& wanted) const {
    const Plan plan = compile(graph, wanted);
    return plan.run(plan.taken(feeds), parameters_, {.pool = &model_.pool()});
  }

  const nn::Model& model_;
  const TranscoderSet& set_;
  const SetSites& places_;
  Parameters parameters_;
  MlpReplacement sums_;
  std::int64_t kl_rows_ = 0;
};

}  // namespace

double SetEvaluation::l0() const {
  double sum = 0;
  for (const LayerReconstruction& layer : layers) sum += layer.l0;
  return sum;
}

Parameters with_transcoders(Parameters parameters, const TranscoderSet& set) {
  for (std::size_t l = 0; l < set.layers.size(); ++l) {
    const TranscoderLayer& t = set.layers[l];
    parameters[leaf_of(l, "W_enc")] = t.w_enc;
    parameters[leaf_of(l, "b_enc")] = t.b_enc;
    parameters[leaf_of(l, "b_dec")] = t.b_dec;
    if (t.threshold.defined()) parameters[leaf_of(l, "threshold")] = t.threshold;
    if (t.w_skip.defined()) parameters[leaf_of(l, "W_skip")] = t.w_skip;
    for (std::size_t i = 0; i < t.w_dec.size(); ++i) parameters[decoder_of(l, l + i)] = t.w_dec[i];
  }
  return parameters;
}

Graph replacement_model(const nn::Model& model, const Graph& graph, const TranscoderSet& set) {
  const SetSites places(model, set);
  std::vector<Value> features;
  return all_replaced(graph, places, [&](Builder& b, std::size_t layer, const Value& arriving) {
    const Value x = places.read(layer, b.at(Site{places.in[layer]}));
    features.push_back(emit_features(b, set, layer, x));
    return reshape(emit_output(b, set, layer, features, x), arriving.shape());
  });
}

SetEvaluation evaluate(const nn::Model& model, const TranscoderSet& set,
                       const TextSourceSpec& given, const EvaluationSpec& spec) {
  const SetSites places(model, set);
  TextSourceSpec text = given;
  text.sites = places.all();
  const std::unique_ptr<ActivationSource> rows = text_source(model, text);
  const std::int64_t all = std::min(spec.rows, rows->rows());
  const auto progress = [&](std::int64_t half, std::int64_t done) {
    if (spec.progress) spec.progress(half * all / 2 + std::min(done, all) / 2, all);
  };
  SetEvaluation out;
  SetMeter meter(model, set, places);
  for (SourcePlace place; meter.rows() < all && place.epoch == 0;) {
    spec.stop_if_cancelled();
    meter.add(rows->read(place));
    progress(0, meter.rows());
  }
  out.rows = meter.rows();
  out.layers = meter.finish();
  TextBatches batches(model, text);
  ReplacementMeter replacement(model, set, places);
  std::int64_t done = 0;
  for (SourcePlace place; done < all && place.epoch == 0;) {
    spec.stop_if_cancelled();
    const TextBatch batch = batches.next(place);
    replacement.add(batch);
    done += batch.counted();
    progress(1, done);
  }
  out.replacement = replacement.finish();
  return out;
}

}  // namespace vitrine::sae

#include "sae/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "nn/model/metrics.h"
#include "sae/text_batches.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::sae {
namespace {

// ---- reconstruction -----------------------------------------------------------------------------
class Meter {
 public:
  explicit Meter(std::int64_t features) { r_.fired.resize(static_cast<std::size_t>(features), 0); }

  // One batch: x and its target, features and reconstruction of the same rows.
  void add(const Tensor& target, const Tensor& features, const Tensor& reconstruction) {
    const std::int64_t n = target.dim(0), d = target.dim(1), m = features.dim(1);
    if (n == 0) return;
    const float *x = target.data<float>(), *y = reconstruction.data<float>(),
                *f = features.data<float>();
    if (sum_.empty()) sum_.resize(static_cast<std::size_t>(d), 0);
    std::vector<double> mean(static_cast<std::size_t>(d), 0);
    for (std::int64_t i = 0; i < n * d; ++i) mean[static_cast<std::size_t>(i % d)] += x[i];
    for (std::size_t c = 0; c < mean.size(); ++c) {
      sum_[c] += mean[c];
      mean[c] /= static_cast<double>(n);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      double error = 0, squares = 0, other = 0, dot = 0, spread = 0;
      for (std::int64_t c = 0; c < d; ++c) {
        const double a = x[i * d + c], b = y[i * d + c],
                     off = a - mean[static_cast<std::size_t>(c)];
        error += (a - b) * (a - b);
        squares += a * a;
        other += b * b;
        dot += a * b;
        spread += off * off;
      }
      squared_error_ += error;
      squares_ += squares;
      legacy_ += spread > 0 ? 1 - error / spread : 0;
      spread_rows_ += spread > 0 ? 1 : 0;
      cosine_ += squares > 0 && other > 0 ? dot / std::sqrt(squares * other) : 0;
      ratio_ += squares > 0 ? std::sqrt(other / squares) : 0;
      for (std::int64_t j = 0; j < m; ++j) {
        const float v = f[i * m + j];
        if (!(v > 0)) continue;
        ++active_;
        l1_ += v;
        ++r_.fired[static_cast<std::size_t>(j)];
      }
    }
    r_.rows += n;
  }

  std::vector<double> mean() const {
    std::vector<double> mean = sum_;
    for (double& m : mean) m /= static_cast<double>(r_.rows);
    return mean;
  }

  Reconstruction finish() {
    const auto n = static_cast<double>(std::max<std::int64_t>(1, r_.rows));
    double of_mean = 0;
    for (const double s : sum_) of_mean += s / n * (s / n);
    r_.l0 = static_cast<double>(active_) / n;
    r_.l1 = l1_ / n;
    r_.mse = squared_error_ / n;
    // Rows that are all alike, as one is, have no variance that could be explained.
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    const double variance = squares_ / n - of_mean;
    r_.explained_variance = variance > 1e-12 * squares_ / n ? 1 - r_.mse / variance : kNone;
    r_.explained_variance_legacy = spread_rows_ > 0 ? legacy_ / n : kNone;
    r_.cosine = cosine_ / n;
    r_.norm_ratio = ratio_ / n;
    const auto silent = std::count(r_.fired.begin(), r_.fired.end(), 0);
    r_.dead = static_cast<double>(silent) / static_cast<double>(r_.fired.size());
    return r_;
  }

 private:
  Reconstruction r_;
  std::vector<double> sum_;
  double squared_error_ = 0, squares_ = 0, legacy_ = 0, cosine_ = 0, ratio_ = 0, l1_ = 0;
  std::int64_t active_ = 0, spread_rows_ = 0;
};

// Of the rows of a site, all heads side by side, the part of an SAE of one head.
Tensor own_rows(const SaeConfig& c, const Tensor& rows) {
  if (!c.head || rows.dim(1) == c.d_in) return rows;
  return rows.slice(1, *c.head * c.d_in, (*c.head + 1) * c.d_in).contiguous();
}

// Meters at least spec.rows rows, as far as there are; a transcoder's target is the second column.
// `shown` is the progress of so many rows.
template <class F>
void measure(const Sae& sae, ActivationSource& rows, ThreadPool& pool, const EvaluationSpec& spec,
             Meter& meter, const F& shown) {
  const std::int64_t total = std::min(spec.rows, rows.rows());
  const Encoder encoder(sae, &pool);
  SourcePlace place;
  for (std::int64_t done = 0; done < total && place.epoch == 0;) {
    spec.stop_if_cancelled();
    const std::vector<Tensor> read = rows.read(place);
    const Tensor x = own_rows(sae.config, read[0]);
    const auto coded = encoder.encode(x);
    meter.add(sae.config.transcoder ? read[1] : x, coded.features, coded.reconstruction);
    done += x.dim(0);
    if (spec.progress) spec.progress(shown(done), total);
  }
}

// ---- what it does to the model ------------------------------------------------------------------
struct Sites {
  std::string in, out;
};
Sites sites_of(const Sae& sae) {
  const SaeConfig& c = sae.config;
  const std::string& in = trained_site(sae);
  if (c.transcoder && c.hook_name_out.empty())
    throw ConfigError(fmt::format(
        "{}: its cfg.json does not say the site (metadata.hook_name_out) that it gives", sae.name));
  return {in, c.transcoder ? c.hook_name_out : in};
}

// The graph with the value of `site` replaced, in the rows that count, by what `f` makes of it.
Graph replaced(const Graph& graph, const std::string& site,
               const std::function<Value(Builder&, const Value& arriving)>& f) {
  Builder b(expand_sites(graph, {site}));
  const NodeId at = b.at(Site{site}).id();
  const Value x = b.value(b.node(at).inputs[0]);
  Shape rows{x.dim(0)};
  for (int a = 1; a < x.rank(); ++a) rows.push_back(1);
  const Value counts = reshape(b.input("sae.rows", {DType::boolean, {x.dim(0), 1}}), rows);
  b.edit_site(site, select(counts, f(b, x), x));
  return std::move(b).finish();
}

double sum_of(const Tensor& t) {
  double sum = 0;
  for (const double v : t.to_vector<double>()) sum += v;
  return sum;
}

class FidelityMeter {
 public:
  FidelityMeter(const nn::Model& model, const Sae& sae)
      : model_(model),
        sae_(sae),
        site_(sites_of(sae).out),
        parameters_(with_parameters(model.parameters(), sae, "sae")) {}

  void add(const TextBatch& batch, const std::vector<double>& mean) {
    const std::int64_t n = nn::next_tokens(batch.prompts);
    if (n == 0) return;
    const Graph graph = model_.build(nn::batch_size(batch.prompts));
    Feeds feeds = model_.feeds(graph, batch.prompts);
    feeds["sae.rows"] = batch.counts_as_tensor();
    const auto rows = static_cast<std::int64_t>(batch.counts.size());

    Builder plain(with_metric(graph, nn::next_token_loss(n)));
    const Results clean =
        run(std::move(plain).finish(), feeds, fetch(value("loss_per_token"), value("logits")));
    f_.ce_clean += sum_of(clean.raw("loss_per_token"));

    feeds["clean"] = clean.raw("logits");
    Builder spliced(with_metric(with_reconstruction(graph, sae_, "sae"), nn::next_token_loss(n)));
    const Value clean_logits =
        spliced.input("clean", {feeds["clean"].dtype(), feeds["clean"].shape()});
    const Value p = softmax(clean_logits);
    const Value gap = log_softmax(clean_logits) - log_softmax(spliced.output("logits"));
    spliced.output("kl", sum(p * gap, {1}));
    const Results with_sae =
        run(std::move(spliced).finish(), feeds, fetch(value("loss_per_token"), value("kl")));
    f_.ce_sae += sum_of(with_sae.raw("loss_per_token"));
    f_.kl += sum_of(with_sae.raw("kl"));
    kl_rows_ += rows;

    // Of an SAE of one head, that head is ablated.
    const bool one_head = sae_.config.head && !sae_.config.transcoder;
    const auto ablated = [&](const std::function<Value(Builder&, const Value&)>& f) {
      const auto part = [&](Builder& b, const Value& x) {
        if (!one_head) return f(b, x);
        return written_back(sae_.config, x, f(b, what_is_read(sae_.config, sae_.name, x)));
      };
      const Graph g = with_metric(replaced(graph, site_, part), nn::next_token_loss(n));
      return sum_of(run(g, feeds, fetch(value("loss_per_token"))).raw("loss_per_token"));
    };
    f_.ce_zero += ablated(
        [](Builder& b, const Value& x) { return broadcast_to(b.scalar(0, x.dtype()), x.shape()); });
    std::vector<float> as_floats(mean.begin(), mean.end());
    feeds["mean"] = Tensor::of<float>({static_cast<std::int64_t>(mean.size())}, as_floats);
    f_.ce_mean += ablated([&](Builder& b, const Value& x) {
      Shape one = x.shape();
      one[0] = 1;
      const Value m = b.input("mean", {DType::f32, {static_cast<std::int64_t>(mean.size())}});
      return broadcast_to(reshape(m, one), x.shape());
    });
    feeds["others"] = others(batch);
    f_.ce_resample += ablated([&](Builder& b, const Value& x) {
      return gather_rows(x, b.input("others", {DType::i32, {rows}}));
    });
    f_.predictions += n;
  }

  Fidelity finish() {
    const auto n = static_cast<double>(std::max<std::int64_t>(1, f_.predictions));
    for (double* ce : {&f_.ce_clean, &f_.ce_sae, &f_.ce_zero, &f_.ce_mean, &f_.ce_resample})
      *ce /= n;
    f_.kl /= static_cast<double>(std::max<std::int64_t>(1, kl_rows_));
    return f_;
  }

 private:
  Results run(const Graph& graph, const Feeds& feeds, const Fetch& wanted) const {
    const Plan plan = compile(graph, wanted);
    return plan.run(plan.taken(feeds), parameters_, {.pool = &model_.pool()});
  }

  // For each row that counts another one, in an order drawn for this batch.
  Tensor others(const TextBatch& batch) {
    std::vector<std::int32_t> counted, order;
    for (std::size_t i = 0; i < batch.counts.size(); ++i) {
      if (batch.counts[i]) counted.push_back(static_cast<std::int32_t>(i));
    }
    order = counted;
    random::shuffle(random::Key{0}.fold("resample").fold(batches_++), order);
    std::vector<std::int32_t> all(batch.counts.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i);
    for (std::size_t i = 0; i < counted.size(); ++i)
      all[static_cast<std::size_t>(counted[i])] = order[i];
    return Tensor::of<std::int32_t>({static_cast<std::int64_t>(all.size())}, all);
  }

  const nn::Model& model_;
  const Sae& sae_;
  std::string site_;
  Parameters parameters_;
  Fidelity f_;
  std::int64_t kl_rows_ = 0;
  std::uint64_t batches_ = 0;
};

}  // namespace

void EvaluationSpec::stop_if_cancelled() const {
  if (cancel != nullptr && *cancel) throw InterruptedError("interrupted");
}

std::vector<std::int64_t> Reconstruction::density_histogram() const {
  std::vector<std::int64_t> counts(10, 0);
  for (const std::int64_t n : fired) {
    if (n == 0 || rows == 0) continue;
    const double log = std::log10(static_cast<double>(n) / static_cast<double>(rows));
    const int bin = std::clamp(static_cast<int>(std::floor(log)) + 10, 0, 9);
    ++counts[static_cast<std::size_t>(bin)];
  }
  return counts;
}

Graph with_reconstruction(const Graph& graph, const Sae& sae, const std::string& name) {
  const Sites sites = sites_of(sae);
  check_site(sae, graph, sites.in);
  const Graph open = expand_sites(graph, {sites.in, sites.out});
  return replaced(open, sites.out, [&](Builder& b, const Value& arriving) {
    Nodes nodes(sae.config, name);
    const Value read = sites.in == sites.out ? arriving : b.at(Site{sites.in});
    Value y = nodes.decode(nodes.features(nodes.pre(read)));
    if (sae.config.transcoder && numel(y.shape()) == numel(arriving.shape()))
      y = reshape(y, arriving.shape());
    if (!(y.shape() == arriving.shape())) {
      throw ShapeError(fmt::format("{}: it gives {} for '{}', whose values are {}", sae.name,
                                   to_string(y.shape()), sites.out, to_string(arriving.shape())));
    }
    return y;
  });
}

Evaluation evaluate(const nn::Model& model, const Sae& sae, const TextSourceSpec& given,
                    const EvaluationSpec& spec) {
  const Sites sites = sites_of(sae);
  {  // before anything is measured
    const Graph graph = model.build(nn::Model::Uniform{1, 1});
    check_site(sae, graph, sites.in);
    (void)with_reconstruction(graph, sae, "sae");
  }
  TextSourceSpec text = given;
  text.sites = {sites.in};
  if (sites.out != sites.in) text.sites.push_back(sites.out);
  // The same rows twice: the mean is known after the first time.
  const std::unique_ptr<ActivationSource> rows = text_source(model, text);
  const std::int64_t total = std::min(spec.rows, rows->rows());
  Evaluation out;
  Meter meter(sae.config.d_sae);
  measure(sae, *rows, model.pool(), spec, meter, [&](std::int64_t done) { return done / 2; });
  const std::vector<double> mean = meter.mean();
  out.reconstruction = meter.finish();

  TextBatches batches(model, text);
  FidelityMeter fidelity(model, sae);
  SourcePlace place;
  std::int64_t done = 0;
  while (done < total && place.epoch == 0) {
    spec.stop_if_cancelled();
    const TextBatch batch = batches.next(place);
    fidelity.add(batch, mean);
    done += batch.counted();
    if (spec.progress) spec.progress(total / 2 + done / 2, total);
  }
  const Fidelity found = fidelity.finish();
  if (found.predictions > 0) out.fidelity = found;
  return out;
}

Reconstruction evaluate(const Sae& sae, ActivationSource& rows, ThreadPool& pool,
                        const EvaluationSpec& spec) {
  const SaeConfig& c = sae.config;
  const auto& columns = rows.columns();
  if (columns[0].width != c.d_in ||
      (c.transcoder && (columns.size() < 2 || columns[1].width != c.d_out))) {
    throw ShapeError(fmt::format("{}: it reads rows of width {}{}, but these are {}", sae.name,
                                 c.d_in, c.transcoder ? fmt::format(" and gives {}", c.d_out) : "",
                                 columns[0].width));
  }
  Meter meter(c.d_sae);
  measure(sae, rows, pool, spec, meter, [](std::int64_t done) { return done; });
  return meter.finish();
}

}  // namespace vitrine::sae

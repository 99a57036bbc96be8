#include "sae/features/feature_contexts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/transform/expand.h"
#include "sae/features/feature_batches.h"
#include "sae/text_batches.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::sae {
namespace {

// The features as an output of the model's graph; nothing after the site is computed.
Graph with_features(const Graph& graph, const Sae& sae) {
  const Site site{trained_site(sae)};
  check_site(sae, graph, site.name);
  Builder b(expand_sites(graph, {site.name}));
  Nodes nodes(sae.config, "sae");
  b.output("features", nodes.features(nodes.pre(b.at(site))));
  return std::move(b).finish();
}

Tensor run_features(const nn::Model& model, const Sae& sae, const Parameters& parameters,
                    const std::vector<nn::Tokens>& prompts) {
  const Graph g = with_features(model.build(nn::batch_size(prompts)), sae);
  const Plan plan = compile(g, fetch(value("features")));
  return plan.run(model.feeds(g, prompts), parameters, {.pool = &model.pool()})
      .raw("features")
      .contiguous();
}

}  // namespace

FeatureContexts::FeatureContexts(std::int64_t features, const FeatureSpec& spec)
    : peaks(features, spec.contexts),
      fired(static_cast<std::size_t>(features), 0),
      sums(static_cast<std::size_t>(features), 0),
      samples_(spec.samples),
      reservoir_(static_cast<std::size_t>(features * spec.samples)) {}

double FeatureContexts::density(std::int64_t feature) const {
  return static_cast<double>(fired[static_cast<std::size_t>(feature)]) /
         static_cast<double>(std::max<std::int64_t>(1, tokens));
}
double FeatureContexts::mean(std::int64_t feature) const {
  const auto j = static_cast<std::size_t>(feature);
  return fired[j] > 0 ? sums[j] / static_cast<double>(fired[j]) : 0;
}
std::span<const nn::Peak> FeatureContexts::samples_of(std::int64_t feature) const {
  const auto j = static_cast<std::size_t>(feature);
  const auto count = std::min<std::int64_t>(fired[j], samples_);
  return {reservoir_.data() + j * static_cast<std::size_t>(samples_),
          static_cast<std::size_t>(count)};
}

void for_each_batch(const nn::Model& model, const Sae& sae, const std::filesystem::path& file,
                    const FeatureSpec& spec,
                    const std::function<void(const FeatureBatch&)>& visit) {
  TextSourceSpec text;
  text.files = {file};
  text.bos = spec.bos;
  text.special = spec.special;
  text.tokens_together = spec.tokens_together;
  text.in_order = true;
  TextBatches batches(model, text);
  const Parameters parameters = with_parameters(model.parameters(), sae, "sae");
  std::int64_t done = 0;
  for (SourcePlace place; place.epoch == 0;) {
    if (spec.cancel != nullptr && *spec.cancel) throw InterruptedError("interrupted");
    const TextBatch batch = batches.next(place);
    FeatureBatch found{.features = run_features(model, sae, parameters, batch.prompts)};
    std::int64_t row = 0;
    for (std::size_t i = 0; i < batch.prompts.size(); ++i) {
      const TextPiece& p = batches.piece(batch.pieces[i]);
      if (p.first == 0) ++found.lines;
      auto position = static_cast<std::int32_t>(p.first - (spec.bos ? 1 : 0));
      for (std::size_t t = 0; t < batch.prompts[i].size(); ++t, ++row, ++position) {
        if (batch.counts[static_cast<std::size_t>(row)])
          found.rows.push_back({p.line, position, row});
      }
    }
    visit(found);
    done += std::ssize(found.rows);
    if (spec.progress) spec.progress(done, batches.rows());
  }
}

void for_each_active(
    const FeatureBatch& batch, ThreadPool& pool,
    const std::function<void(std::int64_t feature, const FeatureBatch::Row&, float)>& visit) {
  const std::int64_t all = batch.features.dim(1);
  const float* data = batch.features.data<float>();
  // Features are apart, so threads share nothing. A row's features lie together: each thread
  // reads its own part of every row.
  constexpr std::int64_t kTogether = 64;
  pool.parallel_for(
      (all + kTogether - 1) / kTogether, 1, [&](std::int64_t first, std::int64_t last) {
        const std::int64_t from = first * kTogether, to = std::min(all, last * kTogether);
        for (const FeatureBatch::Row& row : batch.rows) {
          const float* f = data + row.at * all;
          for (std::int64_t j = from; j < to; ++j) {
            if (f[j] > 0) visit(j, row, f[j]);
          }
        }
      });
}

class FeaturePass {
 public:
  FeaturePass(std::int64_t features, const FeatureSpec& spec) : found_(features, spec) {}

  void add(const FeatureBatch& batch, ThreadPool& pool) {
    for_each_active(batch, pool,
                    [&](std::int64_t j, const FeatureBatch::Row& row, float activation) {
                      offer(j, {activation, row.position, row.line});
                    });
    found_.tokens += std::ssize(batch.rows);
    found_.lines += batch.lines;
  }
  FeatureContexts take() { return std::move(found_); }

 private:
  void offer(std::int64_t feature, const nn::Peak& peak) {
    const auto j = static_cast<std::size_t>(feature);
    const std::int64_t n = found_.fired[j]++;
    found_.sums[j] += peak.activation;
    if (peak.activation > found_.peaks.threshold(feature)) found_.peaks.offer(feature, peak);
    if (found_.samples_ == 0) return;
    std::int64_t slot = n;
    if (n >= found_.samples_) {
      slot = random::below(random::Key{0}.fold("sample").fold(static_cast<std::uint64_t>(feature)),
                           static_cast<std::uint64_t>(n), n + 1);
      if (slot >= found_.samples_) return;
    }
    found_.reservoir_[j * static_cast<std::size_t>(found_.samples_) +
                      static_cast<std::size_t>(slot)] = peak;
  }

  FeatureContexts found_;
};

FeatureContexts collect_features(const nn::Model& model, const Sae& sae,
                                 const std::filesystem::path& file, const FeatureSpec& spec) {
  if (spec.contexts < 1 || spec.samples < 0 || spec.tokens_together < 1)
    throw Error(ErrorKind::usage,
                fmt::format("{} contexts and {} samples of each feature: choose at "
                            "least 1 and 0",
                            spec.contexts, spec.samples));
  FeaturePass pass(sae.config.d_sae, spec);
  for_each_batch(model, sae, file, spec, [&](const FeatureBatch& b) { pass.add(b, model.pool()); });
  return pass.take();
}

Tensor features_of(const nn::Model& model, const Sae& sae, const std::vector<nn::Tokens>& prompts) {
  nn::check_prompts(prompts, model.config());
  return run_features(model, sae, with_parameters(model.parameters(), sae, "sae"), prompts);
}

std::vector<Interval> intervals(const FeatureContexts& c, std::int64_t feature, int count) {
  std::vector<Interval> out;
  const auto peaks = c.peaks.of(feature);
  if (peaks.empty() || count < 1) return out;
  const double top = peaks[0].activation, width = top / count;
  const auto samples = c.samples_of(feature);
  for (int i = 0; i < count; ++i) {
    Interval in{top - width * (i + 1), top - width * i, 0, {}};
    for (const nn::Peak& p : samples) {
      const bool inside = (p.activation > in.from || (i + 1 == count && p.activation >= in.from)) &&
                          p.activation <= in.to;
      if (inside) in.examples.push_back(p);
    }
    in.share = samples.empty()
                   ? 0
                   : static_cast<double>(in.examples.size()) / static_cast<double>(samples.size());
    out.push_back(std::move(in));
  }
  return out;
}

}  // namespace vitrine::sae

#include "sae/end_to_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/rewrite.h"
#include "sae/dependence.h"
#include "sae/training_plans.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

constexpr const char* kSampleRows = "sae.rows";
constexpr const char* kSamplePlaces = "sae.places";
constexpr const char* kSampleScale = "sae.scale";
std::string clean_name(const std::string& what) { return "clean." + what; }

bool is_scaled(const SaeTrainingRules& r) {
  return r.normalise == Normalisation::expected_average_only_in;
}

Tensor index_tensor(const std::vector<std::int32_t>& index) {
  return Tensor::of<std::int32_t>({std::ssize(index)}, index);
}

// The training nodes of an SAE over a site's value [rows, ..]; returns the value with the
// reconstruction in the rows that are samples.
Value spliced_in(const Value& site, const SaeTrainingRules& r, const FeatureView& view) {
  Builder& b = site.builder();
  const std::int64_t rows = site.dim(0);
  const bool all = rows == r.batch;
  Value x = reshape(site, {rows, r.d_in});
  if (x.dtype() != DType::f32) x = cast(x, DType::f32);
  const Value scale = is_scaled(r) ? b.input(kSampleScale, {DType::f32, {}}) : Value();
  Value samples = all ? x : gather_rows(x, b.input(kSampleRows, {DType::i32, {r.batch}}));
  if (scale.defined()) samples = samples * scale;
  const SaeLoss loss = emit_loss(b, r, view, r.batch, r.batch, samples);
  emit_reports(b, r, view, loss, samples);
  if (loss.total.defined()) b.output("sae_loss", loss.total);
  Value y = loss.reconstruction;
  if (scale.defined()) y = y / scale;
  if (!all) {
    const Value place = b.input(kSamplePlaces, {DType::i32, {rows}});
    const Value none = less(cast(place, DType::f32), b.scalar(0, DType::f32));
    y = select(reshape(none, {rows, 1}), x, gather_rows(y, place));
  }
  if (y.dtype() != site.dtype()) y = cast(y, site.dtype());
  return reshape(y, site.shape());
}

// KL(clean || logits) of each row [rows], in nats. What has no probability counts for nothing.
Value divergence_of_rows(const Value& clean, const Value& logits) {
  const Value clean_log = log_softmax(clean), p = exp(clean_log);
  const Value zero = logits.builder().scalar(0, logits.dtype());
  return sum(select(less(zero, p), p * (clean_log - log_softmax(logits)), zero), {1});
}

}  // namespace

std::vector<std::string> later_streams(const nn::Model& model, const std::string& site) {
  const Graph graph = expand_sites(model.build(nn::Model::Uniform{1, 1}), {site});
  std::vector<std::string> later;
  for (const SiteEntry& stream : graph.sites()) {
    if (stream.name.ends_with(".hook_resid_post") && stream.name != site &&
        depends_on(graph, stream.node, graph.site(site).node))
      later.push_back(stream.name);
  }
  return later;
}

void check_downstream(const Graph& graph, const std::string& site, const EndToEnd& rules) {
  for (const std::string& later : rules.sites) {
    if (later != site && depends_on(graph, graph.site(later).node, graph.site(site).node)) continue;
    throw Error(ErrorKind::usage,
                fmt::format("nothing at '{}' depends on '{}', where the SAE is: a downstream site "
                            "must come after it",
                            later, site));
  }
}

Graph losses_end_to_end(const Graph& model, const std::string& site, const SaeTrainingRules& r,
                        const FeatureView& view) {
  const EndToEnd& rules = *r.end_to_end;
  const Graph spliced = expand_sites(
      rewrite(model, Site{site}, [&](const Value& x) { return spliced_in(x, r, view); }),
      rules.sites);
  Builder b(spliced);
  Value total;
  const auto add = [&](const char* name, const Value& part) {
    b.output(fmt::format("part.{}", name), part);
    total = total.defined() ? total + part : part;
  };
  const Value logits = b.output("logits");
  const auto rows = static_cast<double>(logits.dim(0));
  if (rules.kl > 0) {
    const Value clean = b.input(clean_name("logits"), logits.type());
    add("kl_loss", cast(sum(divergence_of_rows(clean, logits)), DType::f32) * (rules.kl / rows));
  }
  if (rules.downstream > 0) {
    Value squares;
    for (const std::string& name : rules.sites) {
      const Value now = b.at(Site{name});
      const Value s = cast(sum(square(now - b.input(clean_name(name), now.type()))), DType::f32);
      squares = squares.defined() ? squares + s : s;
    }
    add("downstream_mse_loss",
        squares * (rules.downstream / (rows * static_cast<double>(rules.sites.size()))));
  }
  if (spliced.outputs().contains("sae_loss")) total = total + b.output("sae_loss");
  b.output("loss", total);
  return gradient(std::move(b).finish(), "loss", all_weights(r));
}

// ---- batches ------------------------------------------------------------------------------------
Tensor ModelBatch::samples(const std::string& site, double scale) const {
  const Tensor all = sites.at(site).to(DType::f32).contiguous();
  const std::int64_t width = all.numel() / all.dim(0);
  Tensor out = Tensor::empty({std::ssize(counts), width}, DType::f32);
  float* to = out.data<float>();
  for (const std::int32_t row : counts) {
    const float* from = all.data<float>() + row * width;
    for (std::int64_t c = 0; c < width; ++c) *to++ = static_cast<float>(from[c] * scale);
  }
  return out;
}

Feeds ModelBatch::feeds_of(const SaeTrainingRules& r, double scale) const {
  Feeds all = feeds;
  all[clean_name("logits")] = logits;
  for (const std::string& name : r.end_to_end->sites) all[clean_name(name)] = sites.at(name);
  if (is_scaled(r)) all[kSampleScale] = Tensor::scalar<float>(static_cast<float>(scale));
  if (std::ssize(counts) == size.rows) return all;
  std::vector<std::int32_t> places(static_cast<std::size_t>(size.rows), -1);
  for (std::size_t i = 0; i < counts.size(); ++i)
    places[static_cast<std::size_t>(counts[i])] = static_cast<std::int32_t>(i);
  all[kSampleRows] = index_tensor(counts);
  all[kSamplePlaces] = index_tensor(places);
  return all;
}

ModelBatches::ModelBatches(const nn::Model& model, TextBatches& texts,
                           std::vector<std::string> sites)
    : model_(model), texts_(texts), sites_(std::move(sites)) {
  const Graph graph = model.build(nn::Model::Uniform{1, 1});
  for (const std::string& name : sites_) graph.site(name);  // throws with the nearest names
}

ModelBatch ModelBatches::next(SourcePlace& place, std::int64_t samples) {
  const TextBatch texts = texts_.next(place, samples);
  ModelBatch batch{.model = &model_, .size = nn::batch_size(texts.prompts)};
  batch.graph = model_.build(batch.size);
  batch.feeds = model_.feeds(batch.graph, texts.prompts);
  for (std::size_t i = 0; i < texts.counts.size(); ++i) {
    if (texts.counts[i]) batch.counts.push_back(static_cast<std::int32_t>(i));
  }
  constexpr std::size_t kPlans = 4;  // they keep their arenas
  if (plans_.size() > kPlans) plans_.clear();
  auto plan = plans_.find(batch.size);
  if (plan == plans_.end()) {
    Fetch wanted = fetch(value("logits"));
    for (const std::string& name : sites_) wanted.wants.push_back(as_want(Site{name}));
    plan = plans_.emplace(batch.size, compile(batch.graph, wanted)).first;
  }
  const Results r = plan->second.run(plan->second.taken(batch.feeds), model_.parameters(),
                                     {.pool = &model_.pool(), .find_nan = false});
  batch.logits = r.raw("logits");
  if (!all_finite(batch.logits)) {
    throw NumericError(
        fmt::format("the model's logits are not finite for the texts from {} on; its checks for NaN "
                    "(find_nan) say where that begins",
                    texts_.name_of(texts.pieces[0])));
  }
  for (const std::string& name : sites_) batch.sites[name] = r.raw(name);
  return batch;
}

}  // namespace vitrine::sae

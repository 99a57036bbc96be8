#include "sae/graphs/effects.h"

#include <map>

#include "autograd/ops/ops.h"
#include "autograd/transform/recorded.h"
#include "nn/families/sites.h"
#include "nn/model/metrics.h"

namespace vitrine::sae {

std::vector<double> total_effects(const AttributionGraph& graph, std::size_t logit) {
  std::vector<double> effect(static_cast<std::size_t>(graph.nodes()), 0.0);
  const auto add = [&](const AttributionRow& row, double times) {
    for (std::size_t i = 0; i < row.sources.size(); ++i)
      effect[static_cast<std::size_t>(row.sources[i])] += times * row.weights[i];
  };
  add(graph.rows.at(graph.features.size() + logit), 1);
  // Targets come after all of their sources, so that the effect of each is whole when its turn comes.
  for (std::size_t t = graph.features.size(); t-- > 0;) {
    if (effect[t] != 0) add(graph.rows[t], effect[t] / graph.features[t].activation);
  }
  effect.resize(graph.features.size());
  return effect;
}

namespace {

// What a group writes, taken away: one edit for each MLP and position.
Interventions without(const TranscoderSet& set, const AttributionGraph& graph,
                      const std::vector<std::size_t>& group) {
  std::map<std::pair<int, std::int64_t>, Tensor> written;  // by layer written to, position
  const std::int64_t d = set.width();
  for (const std::size_t i : group) {
    const ActiveFeature& f = graph.features.at(i);
    const auto& decoders = set.layers[static_cast<std::size_t>(f.layer)].w_dec;
    for (std::size_t j = 0; j < decoders.size(); ++j) {
      Tensor& sum = written
                        .try_emplace({f.layer + static_cast<int>(j), f.position},
                                     Tensor::zeros({d}, DType::f32))
                        .first->second;
      const float* row = decoders[j].data<float>() + f.feature * d;
      for (std::int64_t k = 0; k < d; ++k)
        sum.data<float>()[k] += static_cast<float>(f.activation) * row[k];
    }
  }
  std::vector<Edit> edits;
  edits.reserve(written.size());
  for (const auto& [where, vector] : written)
    edits.push_back(add(site::mlp_out(where.first), vector, -1, {.pos = {where.second}}));
  return Interventions(std::move(edits));
}

}  // namespace

std::vector<double> exact_effects(const nn::Model& model, const TranscoderSet& set,
                                  const AttributionGraph& graph,
                                  std::span<const std::vector<std::size_t>> groups,
                                  std::size_t logit, AttentionPatterns patterns,
                                  const std::atomic<bool>* cancel) {
  if (groups.empty()) return {};
  const int token = graph.logit_tokens.at(logit);
  const Metric centred = nn::per_prompt("centred_logit", [token](Builder& b) {
    const Value logits = nn::last_logits(b);
    return reshape(slice(logits, 1, token, token + 1), {logits.dim(0)}) - mean(logits, {1});
  });
  std::vector<Edit> held;
  if (patterns == AttentionPatterns::held) {
    const nn::Run run = model.run_batch({graph.prompt}, fetch(sites("*.attn.hook_pattern")));
    for (int l = 0; l < graph.layers; ++l) held.push_back(hold(site::pattern(l), run.results));
  }
  std::vector<Interventions> worlds;
  for (const auto& group : groups) {
    std::vector<Edit> edits = without(set, graph, group).stages().at(0);
    edits.insert(edits.end(), held.begin(), held.end());
    worlds.emplace_back(std::move(edits));
  }
  const Swept swept =
      model.sweep({graph.prompt}, worlds, centred, {centred.name}, {.cancel = cancel});
  const double before = swept.base(centred.name).item<double>();
  std::vector<double> effects;
  for (const double after : swept[centred.name].to_vector<double>())
    effects.push_back(before - after);
  return effects;
}

}  // namespace vitrine::sae

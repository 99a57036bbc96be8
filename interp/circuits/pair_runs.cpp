#include "interp/circuits/pair_runs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "interp/circuits/run_values.h"
#include "nn/families/sites.h"
#include "nn/model/batch.h"

namespace vitrine::interp {
namespace {

// The first and the second half of the rows.
PairRuns::Both halves(const Tensor& rows) {
  const std::int64_t half = rows.dim(0) / 2;
  return {rows.slice(0, 0, half).clone(), rows.slice(0, half, 2 * half).clone()};
}

}  // namespace

std::string key_of(const EdgeSet& edges) {
  return fmt::format("{}", fmt::join(edges.sender_names(), " "));
}

EdgeSet edges_of(const nn::Model& model, const std::shared_ptr<const EdgeSet>& given) {
  return given != nullptr ? *given : nn::stream_edges(model.config());
}

PairRuns pair_runs(const nn::Model& model, const Pair& pair, const EdgeSet& edges,
                   const MetricSpec& spec, Direction direction, bool written) {
  const std::vector<nn::Tokens> prompts = {base_prompt(pair, direction),
                                           other_prompt(pair, direction)};
  const std::vector<Example> examples(2, example_of(pair));
  const Metric metric = metric_of(model, examples, spec);
  const std::string each = nn::per_prompt_name(metric);
  const auto graph =
      model.derived(nn::batch_size(prompts), {"edges.senders", spec.text, key_of(edges)},
                    [&](const Graph& g) { return with_metric(with_senders(g, edges), metric); });
  std::vector<Site> sites = {site::embed()};
  for (int layer = 0; layer < model.config().layers && written; ++layer) {
    sites.push_back(site::z(layer));
    sites.push_back(site::mlp_out(layer));
  }
  Fetch wanted = fetch(value(each), value("edges.senders"));
  for (const Site& s : sites) wanted.wants.push_back(as_want(s));
  const nn::Run run = model.run_graph(*graph, prompts, wanted, metric.feeds);

  PairRuns runs;
  runs.senders = halves(run.results.raw("edges.senders"));
  runs.change = difference(runs.senders.other, runs.senders.base);
  runs.embed = halves(run.results.raw(site::embed().name));
  for (const Site& s : sites) {
    if (written) runs.written.emplace_back(s, halves(run.results.raw(s.name)));
  }
  const auto metrics = run.results.raw(each).to_vector<double>();
  runs.base_metric = metrics[0];
  runs.other_metric = metrics[1];
  return runs;
}

}  // namespace vitrine::interp

#include "apps/experiment/feature_nodes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "apps/terminal/numbers.h"
#include "nn/model/stream_edges.h"
#include "sae/features/feature_edges.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_value.h"

namespace vitrine::app {
namespace {

// "m4" of an SAE of blocks.4.hook_mlp_out.
std::string node_of(const sae::Sae& sae) {
  const std::string& site = sae::trained_site(sae);
  constexpr std::string_view kBegin = "blocks.", kEnd = ".hook_mlp_out";
  if (site.starts_with(kBegin) && site.ends_with(kEnd)) {
    const std::string layer = site.substr(kBegin.size(), site.size() - kBegin.size() - kEnd.size());
    if (number_in<int>(layer)) return "m" + layer;
  }
  throw Error(
      ErrorKind::usage,
      fmt::format("--features: the SAE {} is of '{}'; features are nodes of a circuit where "
                  "they stand for what an MLP adds: of hook_mlp_out",
                  sae.name, site));
}

// The features whose values differ most between the runs, at any token of any pair.
std::vector<std::int64_t> most_different(const nn::Model& model, const Site& acts,
                                         const std::vector<interp::Pair>& pairs,
                                         std::int64_t most) {
  std::vector<double> difference;
  for (const interp::Pair& pair : pairs) {
    const auto values =
        model.run({pair.clean, pair.corrupt}, acts).results.raw(acts.name).to_vector<double>();
    const std::size_t half = values.size() / 2, features = half / pair.clean.size();
    difference.resize(features, 0);
    for (std::size_t i = 0; i < half; ++i)
      difference[i % features] =
          std::max(difference[i % features], std::abs(values[i] - values[half + i]));
  }
  std::vector<std::int64_t> order;
  for (std::size_t j = 0; j < difference.size(); ++j) {
    if (difference[j] > 0) order.push_back(static_cast<std::int64_t>(j));
  }
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return difference[static_cast<std::size_t>(a)] > difference[static_cast<std::size_t>(b)];
  });
  if (std::ssize(order) > most) order.resize(static_cast<std::size_t>(most));
  return order;
}

// The names of senders in a file of a circuit, whichever form it has.
std::set<std::string> senders_in(const std::string& file) {
  const JsonValue json = JsonValue::parse(read_text(file), file);
  std::set<std::string> names;
  if (const JsonValue* all = json.find("senders"); all != nullptr && all->list_items() != nullptr) {
    for (const JsonValue& name : *all->list_items()) {
      if (name.text() != nullptr) names.insert(*name.text());
    }
  }
  const JsonValue* edges = json.find("edges");
  if (edges != nullptr && edges->list_items() != nullptr) {
    for (const JsonValue& edge : *edges->list_items()) {
      const JsonValue* from = edge.find("from");
      if (from != nullptr && from->text() != nullptr) names.insert(*from->text());
    }
  } else if (edges != nullptr && edges->fields() != nullptr) {
    for (const JsonField& edge : *edges->fields())
      names.insert(edge.name.substr(0, edge.name.find("->")));
  }
  return names;
}

}  // namespace

std::shared_ptr<const EdgeSet> edges_with_features(const nn::Model& model,
                                                   const std::vector<SplicedSae>& saes,
                                                   const std::vector<interp::Pair>& pairs,
                                                   std::int64_t most,
                                                   const std::vector<std::string>& files) {
  std::set<std::string> named;
  for (const std::string& file : files) named.merge(senders_in(file));
  EdgeSet edges = nn::stream_edges(model.config());
  for (const SplicedSae& s : saes) {
    const std::string node = node_of(*s.sae), prefix = node + ".f";
    std::set<std::int64_t> features;
    if (most == 0 && std::none_of(named.begin(), named.end(),
                                  [&](const std::string& n) { return n.starts_with(node + "."); }))
      continue;  // here the MLP is a node of its own
    for (const std::int64_t j : most_different(
             model, Site{sae::trained_site(*s.sae) + ".hook_sae_acts_post"}, pairs, most))
      features.insert(j);
    for (const std::string& name : named) {
      if (!name.starts_with(prefix)) continue;
      if (const auto j = number_in<std::int64_t>(std::string_view(name).substr(prefix.size())))
        features.insert(*j);
    }
    edges =
        with_parts(edges, node,
                   sae::feature_senders(*s.sae, s.name, node, {features.begin(), features.end()}));
  }
  return std::make_shared<const EdgeSet>(std::move(edges));
}

}  // namespace vitrine::app

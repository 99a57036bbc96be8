#include "sae/graphs/node_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <map>
#include <vector>

#include "tensor/error.h"

namespace vitrine::sae {
namespace {

[[noreturn]] void refuse(std::string_view name, const std::string& why) {
  throw Error(ErrorKind::usage, fmt::format("there is no node '{}': {}", name, why));
}

// Who knows no node of this name, and which features are active there?
std::string where_else(const AttributionGraph& graph, std::string_view name) {
  std::int64_t numbers[3];
  std::string_view rest = name;
  for (int i = 0; i < 3; ++i) {
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), numbers[i]);
    const bool last = i == 2, ends = end == rest.data() + rest.size();
    if (error != std::errc() || ends != last || (!last && *end != '_'))
      return "a feature is LAYER_FEATURE_POSITION, an error error_LAYER_POSITION, a token "
             "E_ID_POSITION";
    if (!last) rest.remove_prefix(static_cast<std::size_t>(end - rest.data()) + 1);
  }
  const auto [layer, feature, position] = numbers;
  if (layer < 0 || layer >= graph.layers)
    return fmt::format("there are layers 0 to {}", graph.layers - 1);
  if (position < 0 || position >= graph.positions())
    return fmt::format("there are positions 0 to {}", graph.positions() - 1);
  std::vector<std::int64_t> positions;
  for (const ActiveFeature& f : graph.features) {
    if (f.layer == layer && f.feature == feature) positions.push_back(f.position);
  }
  if (positions.empty())
    return fmt::format("feature {} of layer {} is active nowhere on this prompt", feature, layer);
  return fmt::format("feature {} of layer {} is not active at position {}, but at {}", feature,
                     layer, position, fmt::join(positions, ", "));
}

}  // namespace

std::int64_t paired(std::int64_t layer, std::int64_t feature) {
  return (layer + feature) * (layer + feature + 1) / 2 + feature;
}

std::string node_name(const AttributionGraph& graph, std::int64_t node) {
  const std::int64_t positions = graph.positions();
  if (node < graph.first_error()) {
    const ActiveFeature& f = graph.features[static_cast<std::size_t>(node)];
    return fmt::format("{}_{}_{}", f.layer, f.feature, f.position);
  }
  if (node < graph.first_token()) {
    const std::int64_t error = node - graph.first_error();
    return fmt::format("error_{}_{}", error / positions, error % positions);
  }
  if (node < graph.first_logit()) {
    const std::int64_t position = node - graph.first_token();
    return fmt::format("E_{}_{}", graph.prompt[static_cast<std::size_t>(position)], position);
  }
  return fmt::format("{}_{}_{}", graph.layers + 1,
                     graph.logit_tokens[static_cast<std::size_t>(node - graph.first_logit())],
                     positions - 1);
}

std::int64_t node_named(const AttributionGraph& graph, std::string_view name) {
  for (std::int64_t n = 0; n < graph.nodes(); ++n) {
    if (node_name(graph, n) == name) return n;
  }
  if (name.starts_with("error_") || name.starts_with("E_"))
    refuse(name, fmt::format("the graph has errors {} to {} and tokens {} to {}",
                             node_name(graph, graph.first_error()),
                             node_name(graph, graph.first_token() - 1),
                             node_name(graph, graph.first_token()),
                             node_name(graph, graph.first_logit() - 1)));
  refuse(name, where_else(graph, name));
}

}  // namespace vitrine::sae

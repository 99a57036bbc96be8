#include "autograd/transform/held.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tensor/error.h"

namespace vitrine {
namespace {

// The site that an input holds, or "".
std::string held_site(const Node& n) {
  const auto* leaf = std::get_if<LeafName>(&n.attributes);
  constexpr std::string_view kPrefix = "held(";
  if (leaf == nullptr || n.op->kind != OpKind::input || !leaf->name.starts_with(kPrefix)) return "";
  return leaf->name.substr(kPrefix.size(), leaf->name.size() - kPrefix.size() - 1);
}

}  // namespace

SiteSet held_sites(const Graph& graph) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes()) {
    if (std::string site = held_site(n); !site.empty()) names.push_back(std::move(site));
  }
  if (names.empty()) throw GraphError("this graph holds no recorded values");
  return {fmt::format("{}", fmt::join(names, ","))};
}

Feeds with_held(const Graph& graph, const Results& recorded, const Feeds& feeds) {
  Feeds out = feeds;
  for (const Node& n : graph.nodes()) {
    const std::string site = held_site(n);
    if (site.empty()) continue;
    if (!recorded.contains(site)) {
      throw GraphError(
          fmt::format("the graph holds '{}', but the recorded run did not fetch it; fetch what "
                      "held_sites(graph) "
                      "names: {}",
                      site, held_sites(graph).patterns));
    }
    const Tensor value = recorded.raw(site);
    if (!(value.shape() == n.type.shape)) {
      throw ShapeError(
          fmt::format("'{}' was recorded as {}{}, and is held as {}: record a run of a batch of "
                      "the same size",
                      site, to_string(value.shape()), graph.rows() ? " (packed rows)" : "",
                      to_string(n.type.shape)));
    }
    out[held_name(site)] = value.to(n.type.dtype).contiguous();
  }
  return out;
}

}  // namespace vitrine

#include "nn/model/stream_edges.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/ops.h"
#include "nn/families/sites.h"

namespace vitrine::nn {
namespace {

bool has_site(const Builder& b, const Site& site) {
  return std::any_of(b.sites().begin(), b.sites().end(),
                     [&](const SiteEntry& s) { return s.name == site.name; });
}

Value embedded(Builder& b) {
  const Value tokens = b.at(site::embed());
  return has_site(b, site::pos_embed()) ? tokens + b.at(site::pos_embed()) : tokens;
}

// What each head of a layer adds, [rows, heads, d].
Value of_heads(Builder& b, int layer) {
  const Value result = b.at(site::result(layer));
  const Site scale = site::ln1_post_scale(layer);
  if (!has_site(b, scale)) return result;
  const Value gain = b.weight(fmt::format("blocks.{}.ln1_post.w", layer));
  return result / reshape(b.at(scale), {result.dim(0), 1, 1}) * gain;
}

}  // namespace

EdgeSet stream_edges(const Config& c) {
  EdgeSet edges;
  edges.senders.push_back({{"input"}, embedded});
  const auto heads = static_cast<std::size_t>(c.heads),
             groups = static_cast<std::size_t>(c.key_heads());
  std::size_t written = 1;  // senders so far
  for (int layer = 0; layer < c.layers; ++layer) {
    const auto readers = [&](const char* letter, const Site& site, std::size_t count) {
      EdgeReceivers r{{}, site, written, {}};
      for (std::size_t h = 0; h < count; ++h) {
        r.names.push_back(fmt::format("a{}.h{}<{}>", layer, h, letter));
        auto& fed = r.feeds.emplace_back();
        for (std::size_t i = h * (heads / count); i < (h + 1) * (heads / count); ++i)
          fed.push_back(written + i);
      }
      edges.receivers.push_back(std::move(r));
    };
    readers("q", site::q_input(layer), heads);
    readers("k", site::k_input(layer), groups);
    readers("v", site::v_input(layer), groups);

    EdgeSenders of_layer;
    for (std::size_t h = 0; h < heads; ++h)
      of_layer.names.push_back(fmt::format("a{}.h{}", layer, h));
    of_layer.emit = [layer](Builder& b) { return of_heads(b, layer); };
    edges.senders.push_back(std::move(of_layer));

    const std::size_t before = c.parallel ? written : written + heads;
    written += heads;
    edges.receivers.push_back(
        {{fmt::format("m{}", layer)}, site::mlp_in(layer), before, {{written}}});
    edges.senders.push_back(
        {{fmt::format("m{}", layer)}, [layer](Builder& b) { return b.at(site::mlp_out(layer)); }});
    ++written;
  }
  edges.receivers.push_back({{"logits"}, site::resid_post(c.layers - 1), written, {{}}});
  return edges;
}

}  // namespace vitrine::nn

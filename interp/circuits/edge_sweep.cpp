#include "interp/circuits/edge_sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "tensor/error.h"

namespace vitrine::interp {
namespace {

// The group of each receiver, and its number in the group.
struct ReceiverPlace {
  const EdgeReceivers* group;
  std::int64_t head;  // -1: the group has one receiver
};
std::vector<ReceiverPlace> receiver_places(const EdgeSet& edges) {
  std::vector<ReceiverPlace> places;
  for (const EdgeReceivers& r : edges.receivers) {
    for (std::size_t i = 0; i < r.names.size(); ++i)
      places.push_back({&r, r.names.size() == 1 ? -1 : static_cast<std::int64_t>(i)});
  }
  return places;
}

// What each sender changed, as edits add it: [rows, d], or [rows, 1, d] at one of many heads.
class ChangeValues {
 public:
  explicit ChangeValues(const Tensor& change) : change_(change) {}
  const Tensor& of(std::size_t sender, bool heads) {
    Tensor& known = (heads ? of_heads_ : flat_)[sender];
    if (!known.defined()) {
      known = change_.select(1, static_cast<std::int64_t>(sender)).clone();
      if (heads) known = known.reshape({known.dim(0), 1, known.dim(1)});
    }
    return known;
  }

 private:
  const Tensor& change_;
  std::map<std::size_t, Tensor> flat_, of_heads_;
};

// Edges by receiver: those into one place join the stream together, so they are swept together.
std::vector<std::size_t> by_receiver(std::span<const EdgePlace> edges) {
  std::vector<std::size_t> order(edges.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return edges[a].edge.receiver < edges[b].edge.receiver;
  });
  return order;
}

void require_edge(const EdgeGrid& grid, const StreamEdge& e) {
  if (grid.valid(e.sender, e.receiver)) return;
  throw Error(ErrorKind::usage, fmt::format("{} is no edge: '{}' does not come before '{}'",
                                            grid.name(e.sender, e.receiver), grid.senders[e.sender],
                                            grid.receivers[e.receiver]));
}

}  // namespace

SweptEdges sweep_edges(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                       const EdgeSet& edges, const Tensor& change,
                       std::span<const EdgePlace> places, const std::string& output,
                       const SweepOptions& options) {
  const EdgeGrid grid = edge_grid(edges);
  const std::vector<ReceiverPlace> receivers = receiver_places(edges);
  const std::vector<std::size_t> order = by_receiver(places);
  ChangeValues values(change);
  const std::int64_t elements = numel(graph.node(graph.output(output)).type.shape);
  SweptEdges result;
  result.change = Tensor::zeros({std::ssize(places), elements}, DType::f64);

  // As many at a time as memory allows, which those before have shown.
  std::size_t together = 256;
  for (std::size_t begin = 0, end = 0; begin < order.size(); begin = end) {
    end = std::min(order.size(), begin + together);
    std::vector<Interventions> worlds;
    for (std::size_t i = begin; i < end; ++i) {
      const auto& [edge, pos] = places[order[i]];
      require_edge(grid, edge);
      const ReceiverPlace& place = receivers[edge.receiver];
      Where where;
      if (place.head >= 0) where.head = {place.head};
      if (pos >= 0) where.pos = {pos};
      const bool heads = graph.site(place.group->site.name).type.shape.size() == 3;
      worlds.push_back(
          {add(place.group->site, values.of(edge.sender, heads), 1, where, "the other run")});
    }
    SweepOptions some = options;
    if (options.progress) {
      some.progress = [&](int done, int) {
        options.progress(static_cast<int>(begin) + done, static_cast<int>(places.size()));
      };
    }
    const Swept swept = sweep(graph, feeds, parameters, worlds, {output}, some);
    const auto after = swept[output].to_vector<double>(),
               base = swept.base(output).to_vector<double>();
    for (std::size_t i = begin; i < end; ++i) {
      result.without_effect += swept.has_effect(i - begin) ? 0 : 1;
      if (!swept.has_effect(i - begin)) continue;
      double* to = result.change.data<double>() + static_cast<std::int64_t>(order[i]) * elements;
      for (std::size_t j = 0; j < base.size(); ++j)
        to[j] = after[(i - begin) * base.size() + j] - base[j];
    }
    result.passes += swept.stats().passes;
    result.explanation = swept.explain();
    if (swept.stats().passes > 1) together = std::max<std::size_t>(16, together / 2);
    else if (3 * swept.stats().largest_arena < options.memory)
      together = std::min<std::size_t>(2048, together * 2);
  }
  return result;
}

}  // namespace vitrine::interp

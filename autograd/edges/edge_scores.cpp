#include "autograd/edges/edge_scores.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// The site that names what a composite gives, unedited; "" when there is none.
std::string named_output(const Graph& graph, NodeId composite) {
  for (const SiteEntry& s : graph.sites()) {
    if (!s.interior() && s.before == composite) return s.name;
  }
  return "";
}

// Where a receiver lies inside a projection into heads, and is so far unedited, the projection.
struct Projected {
  NodeId heads_in;
  std::string output;  // the site that names what it gives
};
std::map<std::string, Projected> projections(const Graph& graph, const EdgeSet& edges) {
  std::map<std::string, Projected> found;
  for (const EdgeReceivers& r : edges.receivers) {
    const SiteEntry& site = graph.site(r.site.name);
    if (!site.interior() || graph.node(site.node).op != &kHeadsIn) continue;
    const std::string output = named_output(graph, site.node);
    if (!output.empty()) found[r.site.name] = {site.node, output};
  }
  return found;
}

// The gradient at each head's copy of the stream, [heads, rows, d], from that of what heads_in
// gives, [rows, heads, e]: back through the head's weights, then through the norm at the copy,
// which has the value of the stream.
Value at_copies(Builder& b, NodeId heads_in, const Value& gradient) {
  const Node& n = b.node(heads_in);
  const HeadsRule& rule = std::get<HeadsRule>(n.attributes);
  const HeadsInInputs at = heads_in_inputs(rule, n.inputs.size());
  const auto in = [&](int i) { return b.value(n.inputs[static_cast<std::size_t>(i)]); };
  const Value x = in(at.x), w = in(at.w), gain = in(at.gain);
  const std::int64_t heads = rule.heads, rows = x.dim(0), d = x.dim(1);
  const Value by_head = permute(reshape(w, {d, heads, w.dim(1) / heads}), {1, 2, 0});  // [h, e, d]
  const Value of_normed = matmul(permute(gradient, {1, 0, 2}), by_head);  // [h, rows, d]
  const bool rms = rule.norm == NormKind::rms_norm;
  if (at.scale < 0 && !rule.detach_scale) {
    const Value copies = broadcast_to(reshape(x, {1, rows, d}), {heads, rows, d});
    return rms ? rms_norm_grad(copies, gain, of_normed, rule.eps)
               : layer_norm_grad(copies, gain, of_normed, rule.eps);
  }
  Value scale;  // [rows, 1]: held or detached
  if (at.scale >= 0) {
    scale = in(at.scale);
  } else {
    const Value centred = rms ? x : x - mean(x, {-1}, true);
    scale = sqrt(mean(square(centred), {-1}, true) + rule.eps);
  }
  const Value scaled = of_normed * gain / scale;
  return rms ? scaled : scaled - mean(scaled, {-1}, true);
}

// The mean over the points of a path, of values with `rows` along an axis.
Value mean_over_points(const Value& x, int axis, std::int64_t points) {
  if (points == 1) return x;
  Shape shape;
  for (int a = 0; a < x.rank(); ++a) {
    if (a == axis) shape.push_back(points), shape.push_back(x.dim(a) / points);
    else shape.push_back(x.dim(a));
  }
  return mean(reshape(x, shape), {axis});
}

}  // namespace

std::string edge_score_name(const EdgeReceivers& receivers) {
  return fmt::format("edges.score({})", receivers.site.name);
}

Graph with_edge_scores(const Graph& graph, const EdgeSet& edges, std::string_view metric,
                       std::int64_t points) {
  check_edges(graph, edges);
  const std::map<std::string, Projected> projected = projections(graph, edges);
  std::vector<std::string> wanted;
  for (const EdgeReceivers& r : edges.receivers) {
    const auto p = projected.find(r.site.name);
    wanted.push_back(p == projected.end() ? r.site.name : p->second.output);
  }
  Builder b(gradient(graph, metric, sites(fmt::format("{}", fmt::join(wanted, ",")))));

  Value change;
  for (std::size_t i = 0; i < edges.receivers.size(); ++i) {
    const EdgeReceivers& r = edges.receivers[i];
    const auto p = projected.find(r.site.name);
    Value g = b.output(grad_name(wanted[i]));
    const Builder::Origin origin(b, "edges", {});
    if (p != projected.end()) {
      g = permute(mean_over_points(at_copies(b, p->second.heads_in, g), 1, points), {1, 2, 0});
    } else {
      g = mean_over_points(g, 0, points);  // [rows, d] or [rows, heads, d]
      g = g.rank() == 2 ? reshape(g, {g.dim(0), g.dim(1), 1}) : permute(g, {0, 2, 1});
    }
    if (!change.defined()) {
      change = b.input(
          "edges.change",
          {g.dtype(), {g.dim(0), static_cast<std::int64_t>(edges.sender_count()), g.dim(1)}});
    }
    const Value of_readers = slice(change, 1, 0, static_cast<std::int64_t>(r.reads));
    b.output(edge_score_name(r), matmul(of_readers, g));  // [rows, reads, names]
  }
  return std::move(b).finish();
}

Fetch edge_score_fetch(const EdgeSet& edges) {
  Fetch wanted;
  for (const EdgeReceivers& r : edges.receivers) {
    if (r.reads > 0) wanted.wants.push_back(value(edge_score_name(r)));
  }
  return wanted;
}

void each_edge_score(const EdgeSet& edges, const Results& results,
                     const std::function<void(std::size_t row, std::size_t sender,
                                              std::size_t receiver, double)>& f) {
  std::size_t first = 0;  // receiver of the group
  for (const EdgeReceivers& group : edges.receivers) {
    const std::size_t names = group.names.size();
    std::vector<double> values;
    if (group.reads > 0) values = results.raw(edge_score_name(group)).to_vector<double>();
    for (std::size_t i = 0; i < values.size(); ++i)  // [rows, reads, names]
      f(i / names / group.reads, i / names % group.reads, first + i % names, values[i]);
    first += names;
  }
}

}  // namespace vitrine

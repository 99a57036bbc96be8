// Backpropagation, written as a transformation: the chain rule from the output back to what is asked
// for. `differentiate` is the algorithm; what is above it says which nodes it must visit.
#include "autograd/transform/gradient.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// The leaves that are asked for. One that is stored is refused: a gradient flows through it, to what
// it multiplies, and never into it.
std::vector<std::string> select_leaves(const Graph& graph, const std::string& patterns) {
  std::vector<std::string> names;
  for (const Node& n : graph.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf != nullptr && is_float(n.type.dtype)) names.push_back(leaf->name);
  }
  std::vector<std::string> selected = select_sites({patterns}, names);
  for (const std::string& name : selected) {
    const DType dtype = graph.node(graph.leaf(name)).type.dtype;
    if (is_compute_float(dtype)) continue;
    throw GraphError(fmt::format(
        "there is no gradient of '{}', which is stored as {}: gradients flow through stored "
        "weights "
        "to what they multiply, never into them; make it an f32 leaf (a model: load it widened)",
        name, name_of(dtype)));
  }
  return selected;
}

struct Target {
  std::string name;
  NodeId node;
};

// Which nodes lie between a target and the output: those are the ones to differentiate.
std::vector<bool> on_the_way(const Graph& g, const std::vector<Target>& targets, NodeId output) {
  std::vector<bool> below(static_cast<std::size_t>(g.next_id()), false), above = below;
  for (const Target& t : targets) below[static_cast<std::size_t>(t.node)] = true;
  for (const Node& n : g.nodes()) {
    for (const NodeId i : n.inputs) {
      // What is not a float, such as a table of features, carries no gradient.
      if (below[static_cast<std::size_t>(i)] && !n.op->integer_only &&
          is_compute_float(n.type.dtype))
        below[static_cast<std::size_t>(n.id)] = true;
    }
  }
  above[static_cast<std::size_t>(output)] = true;
  for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
    if (!above[static_cast<std::size_t>(n->id)]) continue;
    for (const NodeId i : n->inputs) above[static_cast<std::size_t>(i)] = true;
  }
  for (std::size_t i = 0; i < below.size(); ++i) below[i] = below[i] && above[i];
  return below;
}

std::vector<Target> find_targets(const Graph& g, const std::vector<std::string>& sites,
                                 const std::vector<std::string>& leaves) {
  std::vector<Target> targets;
  for (const std::string& name : sites) targets.push_back({name, g.site(name).node});
  for (const std::string& name : leaves) targets.push_back({name, g.leaf(name)});
  return targets;
}

// Ops without a gradient of their own but with an expansion are differentiated through it.
Graph expand_for_gradient(Graph g, const std::vector<std::string>& sites,
                          const std::vector<std::string>& leaves, std::string_view output) {
  for (;;) {
    const std::vector<bool> way = on_the_way(g, find_targets(g, sites, leaves), g.output(output));
    std::vector<NodeId> expand;
    for (const Node& n : g.nodes()) {
      if (way[static_cast<std::size_t>(n.id)] && n.op->vjp == nullptr && n.op->expand != nullptr)
        expand.push_back(n.id);
    }
    if (expand.empty()) return g;
    Builder b(g);
    for (const NodeId id : expand) b.expand(id);
    g = std::move(b).finish();
  }
}

// ---- accumulation: what several readers of one value send back --------------------------------
// Parts of an axis that lie side by side become one concat; the rest is added up.
class Accumulated {
 public:
  void add(const Value& part) { parts_.push_back(part); }
  bool empty() const { return parts_.empty(); }

  Value sum(Builder& b) {
    if (parts_.size() > 1) {
      if (const Value whole = side_by_side(b); whole.defined()) return whole;
    }
    Value total = parts_[0];
    for (std::size_t i = 1; i < parts_.size(); ++i) total = total + parts_[i];
    return total;
  }

 private:
  // Unslices of one axis that tile it, in any order.
  Value side_by_side(Builder& b) const {
    std::vector<std::pair<Range, NodeId>> pieces;
    for (const Value& p : parts_) {
      const Node& n = b.node(p.id());
      const Range* r = std::get_if<Range>(&n.attributes);
      if (n.op != &kUnslice || r->step != 1) return {};
      pieces.emplace_back(*r, n.inputs[0]);
    }
    std::sort(pieces.begin(), pieces.end(),
              [](const auto& x, const auto& y) { return x.first.start < y.first.start; });
    std::int64_t at = 0;
    std::vector<Value> values;
    for (const auto& [range, id] : pieces) {
      if (range.axis != pieces[0].first.axis || range.start != at) return {};
      at = range.stop;
      values.push_back(b.value(id));
    }
    return at == pieces[0].first.size ? concat(values, pieces[0].first.axis) : Value();
  }

  std::vector<Value> parts_;
};

bool depends_on(const Builder& b, NodeId node, NodeId on) {
  std::vector<NodeId> stack = {node};
  std::set<NodeId> seen;
  while (!stack.empty()) {
    const NodeId id = stack.back();
    stack.pop_back();
    if (id == on) return true;
    if (!seen.insert(id).second) continue;
    for (const NodeId i : b.node(id).inputs) stack.push_back(i);
  }
  return false;
}

// A loss whose gradients were asked for is read from the pass that computes them, so the logits are
// made once.
void share_losses(Builder& b, const Graph& before, NodeId first_new, NodeId end) {
  for (const Node& n : before.nodes()) {
    if (n.op != &kLinearCrossEntropy) continue;
    for (NodeId id = first_new; id < end; ++id) {
      const Node& all = b.node(id);
      if (all.op != &kLinearCrossEntropyGrads ||
          !std::equal(n.inputs.begin(), n.inputs.end(), all.inputs.begin()))
        continue;
      if (depends_on(b, id, n.id)) continue;
      const Builder::Origin origin(b, n.scope, n.line);
      b.forward(n.id, slice(b.value(id), 0, 0, n.type.shape[0]));
      break;
    }
  }
}

// Goes through the nodes backwards, each after all that read it. By then parts[node] holds what
// every reader sent: d output / d reader, times how the reader depends on this node. Their sum is
// d output / d node; the op's vjp turns it into what this node sends to its own inputs. Only nodes
// between a target and the output are visited.
Graph differentiate(const Graph& graph, std::string_view output,
                    const std::vector<std::string>& sites, const std::vector<std::string>& leaves) {
  const Graph g = expand_for_gradient(expand_sites(graph, sites), sites, leaves, output);
  const NodeId root = g.output(output);
  const Node& metric = g.node(root);
  if (numel(metric.type.shape) != 1 || !is_compute_float(metric.type.dtype)) {
    throw GraphError(fmt::format(
        "gradients are taken of a scalar; '{}' is {}: take its sum or mean, or pick one entry",
        output, to_string(metric.type)));
  }
  const std::vector<Target> targets = find_targets(g, sites, leaves);
  const std::vector<bool> way = on_the_way(g, targets, root);

  Builder b(g);
  std::vector<Accumulated> parts(
      static_cast<std::size_t>(g.next_id()));  // of d output / d node, by id
  std::vector<Value> grads(
      static_cast<std::size_t>(g.next_id()));  // their sums, once all readers have sent theirs
  // d output / d output = 1: where it begins.
  parts[static_cast<std::size_t>(root)].add(
      broadcast_to(b.scalar(1, metric.type.dtype), metric.type.shape));
  for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
    const auto own = static_cast<std::size_t>(n->id);
    if (parts[own].empty() || !way[own]) continue;
    {
      const Builder::Origin origin(b, "grad(" + n->scope + ")", n->line);
      grads[own] = parts[own].sum(b);
    }
    const Value grad = grads[own];
    if (n->inputs.empty()) continue;
    const bool needed = std::any_of(n->inputs.begin(), n->inputs.end(),
                                    [&](NodeId i) { return way[static_cast<std::size_t>(i)]; });
    if (!needed) continue;
    if (n->op->vjp == nullptr) {
      throw GraphError(fmt::format("{} (%{}, in '{}') has no gradient, and '{}' depends on it",
                                   n->op->name, n->id, n->scope, output));
    }
    const Builder::Origin origin(b, "grad(" + n->scope + ")", n->line);
    std::vector<Value> in;
    for (const NodeId i : n->inputs) in.push_back(b.value(i));
    const Grads sent = n->op->vjp({b, in, b.value(n->id), grad, n->attributes});
    for (std::size_t i = 0; i < in.size(); ++i) {
      const auto at = static_cast<std::size_t>(n->inputs[i]);
      if (way[at] && i < sent.size() && sent[i].defined()) parts[at].add(sent[i]);
    }
  }
  share_losses(b, g, g.next_id(), b.next_id());
  // What the output does not depend on has gradient 0.
  for (const Target& t : targets) {
    const Value& known = grads[static_cast<std::size_t>(t.node)];
    const Type& type = g.node(t.node).type;
    b.output(grad_name(t.name), known.defined() && way[static_cast<std::size_t>(t.node)]
                                    ? known
                                    : broadcast_to(b.scalar(0, type.dtype), type.shape));
  }
  return std::move(b).finish();
}

}  // namespace

Graph gradient(const Graph& graph, std::string_view output, const SiteSet& wrt) {
  return differentiate(graph, output, select_sites(wrt, graph.site_names()), {});
}
Graph gradient(const Graph& graph, std::string_view output, const LeafSet& wrt) {
  return differentiate(graph, output, {}, select_leaves(graph, wrt.patterns));
}
Graph gradient(const Graph& graph, const Metric& metric, const SiteSet& wrt) {
  return gradient(with_metric(graph, metric), metric.name, wrt);
}
Graph gradient(const Graph& graph, const Metric& metric, const LeafSet& wrt) {
  return gradient(with_metric(graph, metric), metric.name, wrt);
}
Graph gradient(const Graph& graph, std::string_view output, const SiteSet& sites,
               const LeafSet& leaves) {
  return differentiate(graph, output, select_sites(sites, graph.site_names()),
                       select_leaves(graph, leaves.patterns));
}

}  // namespace vitrine

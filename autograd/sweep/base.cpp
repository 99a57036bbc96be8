#include "autograd/sweep/base.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "autograd/compile/optimise.h"
#include "autograd/graph/builder.h"
#include "autograd/transform/expand.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

std::string output_name(NodeId id) { return fmt::format("sweep.base.{}", id); }

}  // namespace

BaseRun::BaseRun(const Graph& graph, const std::vector<std::string>& edited_sites,
                 const Feeds& feeds, const Parameters& parameters, const SweepOptions& options)
    : graph_(graph), feeds_(feeds), parameters_(parameters), options_(options) {
  for (const std::string& name : edited_sites) {
    while (graph_.site(name).interior()) {
      const NodeId hides = graph_.site(name).node;
      Expanded e{graph_.node(hides), graph_.next_id(), 0};
      graph_ = expand_sites(graph_, {name});
      e.end = graph_.next_id();
      expanded_.push_back(std::move(e));
    }
  }
  for (const Node& n : graph_.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf == nullptr || !leaf->name.starts_with("sweep.")) continue;
    throw GraphError(fmt::format(
        "the graph has a leaf '{}': names that begin with 'sweep.' are those of the inputs that a "
        "sweep adds; give it another name",
        leaf->name));
  }
  weight_.assign(static_cast<std::size_t>(graph_.next_id()), false);
  for (const Node& n : graph_.nodes()) {
    const bool leaf = n.inputs.empty();
    weight_[static_cast<std::size_t>(n.id)] =
        leaf
            ? n.op->kind != OpKind::input
            : std::all_of(n.inputs.begin(), n.inputs.end(), [&](NodeId i) { return is_weight(i); });
  }
}

const Expanded* BaseRun::expanded_at(NodeId id) const {
  for (const Expanded& e : expanded_) {
    if (e.composite.id == id) return &e;
  }
  return nullptr;
}
const Expanded* BaseRun::expansion_of(NodeId id) const {
  for (const Expanded& e : expanded_) {
    if (id >= e.begin && id < e.end) return &e;
  }
  return nullptr;
}

NodeId BaseRun::source(NodeId id) const {
  for (;;) {
    const Node& n = graph_.node(id);
    if (!is_identity(n)) return id;
    id = n.inputs[0];
  }
}

void BaseRun::want(const std::vector<NodeId>& nodes) {
  Builder b(graph_);
  Fetch wanted;
  std::set<NodeId> missing;
  for (const NodeId node : nodes) {
    const NodeId id = source(node);
    const Node& n = graph_.node(id);
    if (values_.contains(id)) continue;
    if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) {
      const auto& from = n.op->kind == OpKind::input ? feeds_ : parameters_;
      if (const auto it = from.find(leaf->name); it != from.end()) {
        values_[id] = it->second.contiguous();
        continue;
      }
    }
    if (!missing.insert(id).second) continue;
    b.output(output_name(id), b.value(id));
    wanted.wants.push_back(vitrine::value(output_name(id)));
  }
  if (missing.empty()) return;
  const Graph g = std::move(b).finish();
  const Plan plan = options_.plans != nullptr ? options_.plans->get(g, wanted) : compile(g, wanted);
  const auto start = std::chrono::steady_clock::now();
  const Results results =
      plan.run(feeds_, parameters_, {.pool = options_.pool, .cancel = options_.cancel});
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (passes_++ == 0) stats_ = plan.stats();
  for (const NodeId id : missing) values_[id] = results.raw(output_name(id)).contiguous();
}

const Tensor& BaseRun::value(NodeId id) {
  const NodeId from = source(id);
  if (!values_.contains(from)) want({from});
  return values_.at(from);
}

const std::vector<std::int64_t>& BaseRun::integers(NodeId id) {
  const auto [it, fresh] = integers_.try_emplace(id);
  if (fresh) it->second = value(id).to_vector<std::int64_t>();
  return it->second;
}

}  // namespace vitrine

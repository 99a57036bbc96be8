#include "autograd/compile/optimise.h"

#include <unordered_map>

#include "autograd/ops/op_table.h"

namespace vitrine {

Pruned prune(const Graph& graph, std::span<const NodeId> wanted) {
  const auto n_ids = static_cast<std::size_t>(graph.next_id());
  std::vector<bool> needed(n_ids, false);
  for (const NodeId id : wanted) needed[static_cast<std::size_t>(id)] = true;
  for (auto n = graph.nodes().rbegin(); n != graph.nodes().rend(); ++n) {
    if (!needed[static_cast<std::size_t>(n->id)]) continue;
    for (const NodeId i : n->inputs) needed[static_cast<std::size_t>(i)] = true;
  }

  Pruned result;
  result.canonical.assign(n_ids, kNoNode);
  std::unordered_multimap<std::size_t, const Node*>
      known;  // by hash of op, attributes, canonical inputs
  const auto canonical = [&](NodeId id) { return result.canonical[static_cast<std::size_t>(id)]; };
  const auto same = [&](const Node& a, const Node& b) {
    if (a.op != b.op || a.inputs.size() != b.inputs.size() || !(a.type == b.type)) return false;
    for (std::size_t i = 0; i < a.inputs.size(); ++i) {
      if (canonical(a.inputs[i]) != canonical(b.inputs[i])) return false;
    }
    return a.attributes == b.attributes;
  };
  for (const Node& n : graph.nodes()) {
    if (!needed[static_cast<std::size_t>(n.id)]) {
      ++result.dead;
      continue;
    }
    NodeId& own = result.canonical[static_cast<std::size_t>(n.id)];
    if (is_identity(n)) {
      own = canonical(n.inputs[0]);
      ++result.identities;
      continue;
    }
    std::size_t h = std::hash<const void*>()(n.op) ^ hash_of(n.attributes);
    for (const NodeId i : n.inputs)
      h = (h ^ static_cast<std::size_t>(canonical(i))) * 0x100000001b3ULL;
    const auto [begin, end] = known.equal_range(h);
    const Node* twin = nullptr;
    for (auto k = begin; k != end && twin == nullptr; ++k) {
      if (same(*k->second, n)) twin = k->second;
    }
    if (twin != nullptr) {
      own = twin->id;
      ++result.duplicates;
      continue;
    }
    known.emplace(h, &n);
    own = n.id;
    result.nodes.push_back(&n);
  }
  return result;
}

std::vector<const Node*> fusions(const Graph& graph, const Pruned& pruned,
                                 std::span<const NodeId> wanted) {
  const auto canonical = [&](NodeId id) { return pruned.canonical[static_cast<std::size_t>(id)]; };
  std::vector<int> readers(static_cast<std::size_t>(graph.next_id()), 0);
  for (const Node* n : pruned.nodes) {
    for (const NodeId i : n->inputs) ++readers[static_cast<std::size_t>(canonical(i))];
  }
  for (const NodeId id : wanted) ++readers[static_cast<std::size_t>(canonical(id))];
  std::vector<const Node*> producers(static_cast<std::size_t>(graph.next_id()), nullptr);
  for (const Node* n : pruned.nodes) {
    if (n->inputs.size() != 1) continue;
    const NodeId producer = canonical(n->inputs[0]);
    const Node& p = graph.node(producer);
    if (readers[static_cast<std::size_t>(producer)] == 1 && fused(*p.op, *n->op) != nullptr)
      producers[static_cast<std::size_t>(n->id)] = &p;
  }
  return producers;
}

bool same_program(const Graph& a, const Graph& b) {
  if (a.hash() != b.hash() || a.nodes().size() != b.nodes().size() ||
      a.sites().size() != b.sites().size() || a.outputs().size() != b.outputs().size()) {
    return false;
  }
  std::vector<NodeId> twin(static_cast<std::size_t>(a.next_id()), kNoNode);  // ids of a -> ids of b
  const auto matched = [&](NodeId in_a, NodeId in_b) {
    return twin[static_cast<std::size_t>(in_a)] == in_b;
  };
  for (std::size_t i = 0; i < a.nodes().size(); ++i) {
    const Node &x = a.nodes()[i], &y = b.nodes()[i];
    if (x.op != y.op || !(x.type == y.type) || x.inputs.size() != y.inputs.size() ||
        !(x.attributes == y.attributes)) {
      return false;
    }
    for (std::size_t k = 0; k < x.inputs.size(); ++k) {
      if (!matched(x.inputs[k], y.inputs[k])) return false;
    }
    twin[static_cast<std::size_t>(x.id)] = y.id;
  }
  for (std::size_t i = 0; i < a.sites().size(); ++i) {
    const SiteEntry &x = a.sites()[i], &y = b.sites()[i];
    if (x.name != y.name || x.axes != y.axes || !matched(x.node, y.node) ||
        x.interior() != y.interior())
      return false;
    if (!x.interior() && !matched(x.before, y.before)) return false;
  }
  for (auto x = a.outputs().begin(), y = b.outputs().begin(); x != a.outputs().end(); ++x, ++y) {
    if (x->first != y->first || !matched(x->second, y->second)) return false;
  }
  // Results are unpacked by the row table, so it is part of what a plan gives.
  if (a.rows().has_value() != b.rows().has_value()) return false;
  if (a.rows()) {
    const auto same = [&](NodeId in_a, NodeId in_b) {
      return in_a == kNoNode || in_b == kNoNode ? in_a == in_b : matched(in_a, in_b);
    };
    if (!same(a.rows()->sequence, b.rows()->sequence) ||
        !same(a.rows()->position, b.rows()->position) || !same(a.rows()->keys, b.rows()->keys)) {
      return false;
    }
  }
  return true;
}

}  // namespace vitrine

// Sparsity propagation: a product with a matrix whose columns are zero but for a few reads only the
// matching rows of the other factor. The gradient of a logit difference is one, and the unembedding
// has a row for each word:
//
//   unslice(x) w        = x slice(w)
//   unpick(x, i) w      = x * gather_rows(w, i), row by row
//   (a + b) w           = a w + b w
//   scatter_add_rows(a) w = scatter_add_rows(a w)
#include <algorithm>
#include <map>

#include "autograd/compile/optimise.h"
#include "autograd/graph/builder.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"

namespace vitrine {
namespace {

class SparseProducts {
 public:
  SparseProducts(const Graph& graph, std::span<const NodeId> wanted)
      : g_(graph), pruned_(prune(graph, wanted)) {
    for (const Node* n : pruned_.nodes) {
      columns_[n->id] = columns(*n);
      if (n->op != &kMatmul || rank(n->inputs[0]) != 2 || rank(n->inputs[1]) != 2) continue;
      const std::int64_t most = g_.node(n->inputs[0]).type.shape[1] / 2;
      const auto few = columns_.at(input(*n, 0));
      if (few && *few <= most) products_.push_back(n);
    }
  }

  int count() const { return static_cast<int>(products_.size()); }

  Graph rewritten() {
    Builder b(g_);
    for (const Node* n : products_) {
      const Builder::Origin origin(b, n->scope, n->line);
      b.forward(n->id, product(b, g_.node(input(*n, 0)), b.value(input(*n, 1))));
    }
    return std::move(b).finish();
  }

 private:
  NodeId input(const Node& n, std::size_t i) const {
    return pruned_.canonical[static_cast<std::size_t>(n.inputs[i])];
  }
  int rank(NodeId id) const { return g_.node(id).type.shape.size(); }

  // How many columns of a matrix may be other than zero, in columns of a product; nothing when it
  // is not known to be few.
  std::optional<std::int64_t> columns(const Node& n) const {
    if (n.type.shape.size() != 2) return {};
    const auto of = [&](std::size_t i) -> std::optional<std::int64_t> {
      return g_.node(n.inputs[i]).type.shape.size() == 2 ? columns_.at(input(n, i)) : std::nullopt;
    };
    const OpDef* op = n.op;
    if (op == &kUnslice && std::get<Range>(n.attributes).axis == 1)
      return g_.node(n.inputs[0]).type.shape[1];
    if (op == &kUnpick) return kPickCost;
    if (op == &kNeg || (op == &kScatterAddRows && rank(n.inputs[1]) == 1)) return of(0);
    const bool same_shape = n.inputs.size() == 2 &&
                            g_.node(n.inputs[0]).type.shape == n.type.shape &&
                            g_.node(n.inputs[1]).type.shape == n.type.shape;
    if ((op != &kAdd && op != &kSub) || !same_shape) return {};
    const auto a = of(0), b = of(1);
    return a && b ? std::optional(*a + *b) : std::nullopt;
  }

  Value product(Builder& b, const Node& n, const Value& w) const {
    const OpDef* op = n.op;
    const Value first = b.value(input(n, 0));
    if (op == &kUnslice) {
      const Range& r = std::get<Range>(n.attributes);
      return matmul(first, slice(w, 0, r.start, r.stop, r.step));
    }
    if (op == &kUnpick)
      return reshape(first, {first.dim(0), 1}) * gather_rows(w, b.value(input(n, 1)));
    const Value a = product(b, g_.node(input(n, 0)), w);
    if (op == &kNeg) return neg(a);
    if (op == &kScatterAddRows)
      return scatter_add_rows(a, b.value(input(n, 1)), std::get<RowCount>(n.attributes).rows);
    const Value other = product(b, g_.node(input(n, 1)), w);
    return op == &kAdd ? a + other : a - other;
  }

  const Graph& g_;
  Pruned pruned_;
  std::map<NodeId, std::optional<std::int64_t>> columns_;
  std::vector<const Node*> products_;
};

}  // namespace

std::optional<Narrowed> narrow_sparse_products(const Graph& graph, std::span<const NodeId> wanted) {
  const auto spreads = [](const Node& n) { return n.op == &kUnslice || n.op == &kUnpick; };
  if (std::none_of(graph.nodes().begin(), graph.nodes().end(), spreads)) return {};
  SparseProducts sparse(graph, wanted);
  if (sparse.count() == 0) return {};
  return Narrowed{sparse.rewritten(), sparse.count()};
}

}  // namespace vitrine

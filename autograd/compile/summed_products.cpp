// Algebraic simplification: the sum of the rows of a product is the product of the sum of the rows,
// m times less work. The gradient of a bias that is subtracted before a linear layer is one, as
// b_dec of a sparse autoencoder:
//
//   sum_rows(a w)              = sum_rows(a) w
//   sum_rows(sparse_mix(z, w)) = (how much of each feature there is, over all rows) w
//   sum_rows(-x), sum_rows(x + y): their parts'
#include <algorithm>
#include <map>

#include "autograd/compile/optimise.h"
#include "autograd/graph/builder.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"

namespace vitrine {
namespace {

class SummedProducts {
 public:
  SummedProducts(const Graph& graph, std::span<const NodeId> wanted)
      : g_(graph), pruned_(prune(graph, wanted)) {
    for (const NodeId id : wanted) ++readers_[canonical(id)];
    for (const Node* n : pruned_.nodes) {
      for (const NodeId i : n->inputs) ++readers_[canonical(i)];
    }
    for (const Node* n : pruned_.nodes) {
      if (n->op != &kSum || !(std::get<AxisList>(n->attributes).axes == Dims{0})) continue;
      if (is_of_products(canonical(n->inputs[0]))) sums_.push_back(n);
    }
  }

  int count() const { return static_cast<int>(sums_.size()); }

  Graph rewritten() {
    Builder b(g_);
    for (const Node* n : sums_) {
      const Builder::Origin origin(b, n->scope, n->line);
      b.forward(n->id, reshape(summed(b, canonical(n->inputs[0])), n->type.shape));
    }
    return std::move(b).finish();
  }

 private:
  NodeId canonical(NodeId id) const { return pruned_.canonical[static_cast<std::size_t>(id)]; }

  // Nothing else reads it, and it is made of products alone.
  bool is_of_products(NodeId id) const {
    const Node& n = g_.node(id);
    if (n.type.shape.size() != 2 || readers_.at(id) != 1) return false;
    const OpDef* op = n.op;
    if (op == &kMatmul)
      return g_.node(n.inputs[0]).type.shape.size() == 2 &&
             g_.node(n.inputs[1]).type.shape.size() == 2;
    if (op == &kSparseMix) return true;
    if (op == &kNeg) return is_of_products(canonical(n.inputs[0]));
    if (op != &kAdd && op != &kSub) return false;
    return std::all_of(n.inputs.begin(), n.inputs.end(), [&](NodeId i) {
      return g_.node(i).type.shape == n.type.shape && is_of_products(canonical(i));
    });
  }

  Value summed(Builder& b, NodeId id) const {  // [1, columns]
    const Node& n = g_.node(id);
    const auto in = [&](std::size_t i) { return b.value(canonical(n.inputs[i])); };
    const OpDef* op = n.op;
    const auto as_row = [](const Value& x) { return reshape(x, {1, x.dim(0)}); };
    if (op == &kMatmul) return matmul(as_row(sum(in(0), {0})), in(1));
    if (op == &kSparseMix)
      return matmul(as_row(scatter_add_rows(in(0), in(2), in(1).dim(0))), in(1));
    const Value a = summed(b, canonical(n.inputs[0]));
    if (op == &kNeg) return neg(a);
    const Value other = summed(b, canonical(n.inputs[1]));
    return op == &kAdd ? a + other : a - other;
  }

  const Graph& g_;
  Pruned pruned_;
  std::map<NodeId, int> readers_;
  std::vector<const Node*> sums_;
};

}  // namespace

std::optional<Narrowed> sum_before_products(const Graph& graph, std::span<const NodeId> wanted) {
  SummedProducts products(graph, wanted);
  if (products.count() == 0) return {};
  return Narrowed{products.rewritten(), products.count()};
}

}  // namespace vitrine

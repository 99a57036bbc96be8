// Projection pushdown over columns: computes only the columns that are read. A logit difference
// reads two columns of the unembedding, not one for each word of the vocabulary:
//
//   slice(x w)   = x slice(w)
//   pick(x w, i) = sum(x * gather_rows(transpose(w), i)) over the last axis
//
// The same holds when rows of the product are selected first, gather_rows(x w, j) and slices, and
// when a function of single elements with f(0) = 0 stands between, such as the softcap of logits: f
// is computed of the columns that are read. f(0) = 0 because a selection of no row gives 0.
#include <algorithm>
#include <map>

#include "autograd/compile/optimise.h"
#include "autograd/graph/builder.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"

namespace vitrine {
namespace {

// Of what lies between a product and its reader.
enum class Between { all, selections, functions };

class ColumnNarrowing {
 public:
  ColumnNarrowing(const Graph& graph, std::span<const NodeId> wanted)
      : g_(graph),
        pruned_(prune(graph, wanted)),
        product_(static_cast<std::size_t>(graph.next_id()), kNoNode),
        through_(static_cast<std::size_t>(graph.next_id()), 0) {
    for (const Node* n : pruned_.nodes) {
      for (std::size_t i = 0; i < n->inputs.size(); ++i) read_by(*n, i);
      if (is_product(*n)) {
        product_[by_id(n->id)] = n->id;
        readers_[n->id];
      }
    }
    for (const NodeId id : wanted) needs_all(product_[by_id(canonical(id))]);
    std::erase_if(readers_, [&](const auto& product) {
      const Readers& r = product.second;
      return r.nodes.empty() || 2 * r.columns > g_.node(product.first).type.shape[1];
    });
  }

  int count() const { return static_cast<int>(readers_.size()); }

  Graph rewritten() {
    Builder b(g_);
    for (const auto& [product, readers] : readers_) {
      for (const Node* n : readers.nodes) {
        const Builder::Origin origin(b, n->scope, n->line);
        b.forward(n->id, n->op == &kPick ? picked(b, *n) : sliced(b, *n));
      }
    }
    return std::move(b).finish();
  }

 private:
  struct Readers {
    std::vector<const Node*> nodes;  // slices of columns, and picks
    std::int64_t columns = 0;        // what these cost
  };

  NodeId canonical(NodeId id) const { return pruned_.canonical[by_id(id)]; }
  NodeId input(const Node& n, std::size_t i) const { return canonical(n.inputs[i]); }
  int rank(NodeId id) const { return g_.node(id).type.shape.size(); }

  bool is_product(const Node& n) const {
    return n.op->kind == OpKind::product && rank(n.inputs[0]) == 2 && rank(n.inputs[1]) == 2;
  }

  // Whether n is f of each element of its input i, with f(0) = 0.
  bool is_function(const Node& n, std::size_t i) const {
    const auto is_scalar = [&](std::size_t other) { return rank(n.inputs[other]) == 0; };
    if (n.op == &kMul) return is_scalar(1 - i);
    if (n.op == &kDiv) return i == 0 && is_scalar(1);
    if (n.op == &kNeg || n.op == &kSoftcap) return true;
    if (n.op->kind != OpKind::activation || n.op->fact == nullptr) return false;
    const Type& type = g_.node(n.inputs[0]).type;
    const Fact zeros[] = {{.kind = Fact::Kind::zero}};
    return n.op->fact({{&type, 1}, n.type, n.attributes, zeros}).kind == Fact::Kind::zero;
  }

  void read_by(const Node& n, std::size_t i) {
    const NodeId product = product_[by_id(input(n, i))];
    if (product == kNoNode || !readers_.contains(product)) return;
    if ((i == 0 && selects_rows(g_, n)) || is_function(n, i)) {
      product_[by_id(n.id)] = product;
      through_[by_id(n.id)] = i;
    } else if (i == 0 && (n.op == &kSlice || n.op == &kPick)) {
      Readers& readers = readers_[product];
      readers.nodes.push_back(&n);
      readers.columns += n.op == &kPick ? kPickCost : n.type.shape[1];
    } else {
      needs_all(product);
    }
  }
  void needs_all(NodeId product) { readers_.erase(product); }

  // What lies between a product and its reader, selections of rows and functions of single
  // elements, with `whole` in the place of the product.
  Value made_of(Builder& b, NodeId id, const Value& whole, Between what = Between::all) const {
    const Node& n = g_.node(id);
    if (is_product(n)) return whole;
    const std::size_t through = through_[by_id(id)];
    const Value x = made_of(b, input(n, through), whole, what);
    const Between kind = selects_rows(g_, n) ? Between::selections : Between::functions;
    if (what != Between::all && what != kind) return x;
    std::vector<Value> inputs;
    for (std::size_t i = 0; i < n.inputs.size(); ++i)
      inputs.push_back(i == through ? x : b.value(input(n, i)));
    return b.emit(*n.op, inputs, n.attributes, n.line);
  }
  Value rows_of(Builder& b, NodeId id, const Value& whole) const {
    return made_of(b, id, whole, Between::selections);
  }

  Value sliced(Builder& b, const Node& n) const {
    const Range& r = std::get<Range>(n.attributes);
    const Node& product = g_.node(product_[by_id(input(n, 0))]);
    std::vector<Value> inputs{b.value(input(product, 0))};
    for (std::size_t i = 1; i < product.inputs.size(); ++i)  // w, and the bias if there is one
      inputs.push_back(slice(b.value(input(product, i)), i == 1 ? 1 : 0, r.start, r.stop, r.step));
    const Value columns = b.emit(*product.op, inputs, product.attributes, product.line);
    return made_of(b, input(n, 0), columns);
  }

  Value picked(Builder& b, const Node& n) const {
    return made_of(b, input(n, 0), picked_of_product(b, n), Between::functions);
  }
  Value picked_of_product(Builder& b, const Node& n) const {
    const Node& product = g_.node(product_[by_id(input(n, 0))]);
    const Value index = b.value(input(n, 1));  // [rows]
    const Value x = rows_of(b, input(n, 0), b.value(input(product, 0)));
    const Value each = sum(x * gather_rows(columns_as_rows(b, input(product, 1)), index), {1});
    if (product.inputs.size() == 2) return each;
    const Value bias = gather_rows(b.value(input(product, 2)), index);
    if (input(n, 0) == product.id) return each + bias;
    // A selection of no row, index -1, has zeros, and no bias either.
    const Value ones =
        broadcast_to(b.scalar(1, n.type.dtype), {g_.node(product.inputs[0]).type.shape[0]});
    return each + bias * rows_of(b, input(n, 0), ones);
  }

  // The transpose; of a transposed weight, as the unembedding is, the weight itself.
  Value columns_as_rows(Builder& b, NodeId w) const {
    const Node& n = g_.node(w);
    return n.op == &kPermute && std::get<AxisList>(n.attributes).axes == Dims{1, 0}
               ? b.value(input(n, 0))
               : transpose(b.value(w));
  }

  const Graph& g_;
  Pruned pruned_;
  std::vector<NodeId> product_;        // by id: whose value, or rows or a function of it, this is
  std::vector<std::size_t> through_;   // by id: the input that is the product, or made of it
  std::map<NodeId, Readers> readers_;  // by product; without those that something reads whole
};

}  // namespace

std::optional<Narrowed> narrow_columns(const Graph& graph, std::span<const NodeId> wanted) {
  ColumnNarrowing narrowing(graph, wanted);
  if (narrowing.count() == 0) return {};
  return Narrowed{narrowing.rewritten(), narrowing.count()};
}

}  // namespace vitrine

// Projection pushdown over rows: a selection of rows moves ahead of the ops that compute them, so
// that rows nobody reads are not computed.
//
//   gather_rows(linear(x, w, b), i)  =  linear(gather_rows(x, i), w, b)
//
// So a metric of the last position asks the last block for one row: of its queries, its MLP and the
// unembedding; only keys and values need all.
#include <algorithm>
#include <map>

#include "autograd/compile/optimise.h"
#include "autograd/graph/builder.h"
#include "autograd/graph/parts.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"

namespace vitrine {
namespace {

// Which inputs have the rows of the output as theirs, if a row of the output needs nothing else of
// them; empty: another kind of op.
std::vector<std::size_t> row_inputs(const Graph& g, const Node& n) {
  std::vector<Type> in;
  for (const NodeId i : n.inputs) in.push_back(g.node(i).type);
  const std::vector<Fact> no_facts(in.size());
  const auto parts = parts_of(*n.op, {in, n.type, n.attributes, no_facts, n.inputs}, 1);
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; parts && i < parts->size(); ++i) {
    if ((*parts)[i] == InputPart::same) rows.push_back(i);
  }
  return rows;
}

class RowNarrowing {
 public:
  RowNarrowing(const Graph& graph, std::span<const NodeId> wanted)
      : g_(graph),
        pruned_(prune(graph, wanted)),
        others_(static_cast<std::size_t>(graph.next_id()), 0),
        index_(others_.size(), kNoNode),
        narrowed_(others_.size(), false) {
    for (const NodeId id : wanted) ++others_[by_id(canonical(id))];
    for (const Node* n : pruned_.nodes) {
      for (std::size_t i = 0; i < n->inputs.size(); ++i) {
        const NodeId in = canonical(n->inputs[i]);
        if (is_gather(*n) && i == 0) gathered_by(in, canonical(n->inputs[1]));
        else ++others_[by_id(in)];
      }
    }
    for (auto n = pruned_.nodes.rbegin(); n != pruned_.nodes.rend(); ++n) decide(**n);
  }

  int count() const { return count_; }

  Graph rewritten() {
    Builder b(g_);
    for (const Node* n : pruned_.nodes) {
      if (!narrowed_[by_id(n->id)]) continue;
      const Builder::Origin origin(b, n->scope, n->line);
      const NodeId index = index_[by_id(n->id)];
      const std::vector<std::size_t> rows = row_inputs(g_, *n);
      std::vector<Value> inputs;
      for (std::size_t i = 0; i < n->inputs.size(); ++i) {
        const NodeId in = canonical(n->inputs[i]);
        const bool has_rows = std::find(rows.begin(), rows.end(), i) != rows.end();
        inputs.push_back(has_rows ? rows_of(b, in, index) : b.value(in));
      }
      const Attributes attributes =
          packed_attributes(without_sites(n->attributes), 1, g_.node(index).type.shape[0]);
      made_[{n->id, index}] = b.emit(*n->op, inputs, attributes, n->line);
    }
    // The selections that are made already.
    for (const Node& n : g_.nodes()) {
      const NodeId self = canonical(n.id);
      if (self == kNoNode || !is_gather(n)) continue;
      const auto made = made_.find({canonical(n.inputs[0]), canonical(n.inputs[1])});
      if (made == made_.end() || !narrowed_[by_id(canonical(n.inputs[0]))]) continue;
      const Builder::Origin origin(b, n.scope, n.line);
      b.forward(n.id, zero_where_unselected(b, made->second, b.value(n.inputs[1])));
    }
    return std::move(b).finish();
  }

 private:
  static bool is_gather(const Node& n) { return n.op == &kGatherRows && n.type.shape.size() >= 1; }
  NodeId canonical(NodeId id) const { return pruned_.canonical[by_id(id)]; }

  void gathered_by(NodeId id, NodeId index) {
    NodeId& known = index_[by_id(id)];
    if (known == kNoNode) known = index;
    else if (known != index) ++others_[by_id(id)];  // two selections: computed whole
  }

  void decide(const Node& n) {
    const NodeId index = index_[by_id(n.id)];
    if (others_[by_id(n.id)] > 0 || index == kNoNode) return;
    const Type& selection = g_.node(index).type;
    if (selection.shape.size() != 1 || n.type.shape.size() == 0 ||
        2 * selection.shape[0] > n.type.shape[0])  // moving rows costs something, too
      return;
    const std::vector<std::size_t> rows = row_inputs(g_, n);
    if (rows.empty()) return;
    narrowed_[by_id(n.id)] = true;
    ++count_;
    for (const std::size_t i : rows) {
      const NodeId in = canonical(n.inputs[i]);
      --others_[by_id(in)];
      gathered_by(in, index);
    }
  }

  Value rows_of(Builder& b, NodeId id, NodeId index) {
    const auto [made, fresh] = made_.try_emplace({id, index});
    if (fresh) made->second = gather_rows(b.value(id), b.value(index));
    return made->second;
  }

  // gather_rows gives zeros for index -1, whatever an op makes of a row of zeros.
  static Value zero_where_unselected(Builder& b, const Value& rows, const Value& index) {
    const Value none = less(index, b.constant(Tensor::zeros({}, index.dtype())));
    Shape mask = rows.shape();
    for (int a = 1; a < mask.size(); ++a) mask[a] = 1;
    return select(reshape(none, mask), broadcast_to(b.scalar(0, rows.dtype()), rows.shape()), rows);
  }

  const Graph& g_;
  Pruned pruned_;
  std::vector<int> others_;    // by id: readers that need all rows
  std::vector<NodeId> index_;  // by id: the selection that its other readers make
  std::vector<bool> narrowed_;
  int count_ = 0;
  std::map<std::pair<NodeId, NodeId>, Value> made_;  // by node and selection
};

}  // namespace

std::optional<Narrowed> narrow_rows(const Graph& graph, std::span<const NodeId> wanted) {
  const auto selects = [](const Node& n) { return n.op == &kGatherRows; };
  if (std::none_of(graph.nodes().begin(), graph.nodes().end(), selects)) return {};
  RowNarrowing narrowing(graph, wanted);
  if (narrowing.count() == 0) return {};
  return Narrowed{narrowing.rewritten(), narrowing.count()};
}

}  // namespace vitrine

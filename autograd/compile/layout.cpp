// Buffer assignment, the first phases of compile: decides the steps and the storage of each value.
#include <memory>
#include <utility>

#include "autograd/compile/phases.h"
#include "autograd/ops/op_table.h"
#include "tensor/blocks.h"

namespace vitrine {
namespace {

std::vector<Type> types_of_inputs(const Graph& g, const Node& n) {
  std::vector<Type> in;
  for (const NodeId i : n.inputs) in.push_back(g.node(i).type);
  return in;
}

// Lays out one node after the other; each finds its inputs laid out before it.
class LayOut {
 public:
  LayOut(const Graph& graph, const Pruned& pruned, std::span<const NodeId> wanted)
      : graph_(graph), canonical_(pruned.canonical), stored_(stored_reads(graph, pruned, wanted)) {
    draft_.values.resize(canonical_.size());
  }

  // True when every reader of n, a widened weight, reads the weight as it is stored.
  bool read_as_stored(const Node& n) const {
    return n.type.dtype == DType::f32 && stored_.views[by_id(n.id)] &&
           !stored_.in_full[by_id(n.id)];
  }

  void leaf(const Node& n, const std::string& name) {
    const bool parameter = n.op->kind == OpKind::parameter;
    auto& list = parameter ? program_.parameters : program_.feeds;
    draft_.values[by_id(n.id)] =
        new_storage(n.type, parameter ? Storage::Where::parameter : Storage::Where::feed,
                    static_cast<std::int64_t>(list.size()));
    list.push_back({name, n.type});
    if (parameter) draft_.stats.parameter_bytes += program_.storage.back().bytes;
  }

  void constant(const Node& n, const Tensor& value) {
    draft_.values[by_id(n.id)] = new_storage(n.type, Storage::Where::constant,
                                             static_cast<std::int64_t>(program_.constants.size()));
    program_.constants.push_back(value.contiguous());
  }

  // True when n is a view of its input: then it costs nothing.
  bool view(const Node& n) {
    if (n.op->view == nullptr) return false;
    const Operand& from = value_of(n.inputs[0]);
    const auto layout = n.op->view({types_of_inputs(graph_, n), n.attributes}, from.layout);
    if (!layout) return false;
    check_blocks(*layout, n.type.dtype);
    draft_.values[by_id(n.id)] = {from.storage, *layout};
    ++draft_.stats.views;
    return true;
  }

  // n must live as long as the program.
  void step(const Node& n) {
    const std::vector<Type> in = types_of_inputs(graph_, n);
    Step step{.node = &n, .in = {}, .out = new_storage(n.type, Storage::Where::arena, 0)};
    if (n.op->flops != nullptr) step.flops = n.op->flops({in, n.attributes}, n.type);
    for (std::size_t i = 0; i < n.inputs.size(); ++i) step.in.push_back(input_of(n, i));
    draft_.stats.flops += step.flops;
    draft_.stats.intermediate_bytes += program_.storage_of(step.out).bytes;
    draft_.values[by_id(n.id)] = step.out;
    if (n.op->scratch != nullptr) {
      const std::int64_t bytes = n.op->scratch({in, n.attributes});
      program_.storage.push_back({Storage::Where::arena, 0, bytes, DType::boolean});
      step.scratch = static_cast<int>(program_.storage.size()) - 1;
    }
    program_.steps.push_back(std::move(step));
  }

  // The node that stands for n and the only reader of its producer p.
  const Node& fused_with(const Node& n, const Node& p) {
    Node one = n;
    one.op = fused(*p.op, *n.op);
    one.inputs = p.inputs;
    ++draft_.stats.fused;
    return *program_.fused.emplace_back(std::make_unique<const Node>(std::move(one)));
  }

  Draft finish() && {
    for (std::size_t id = 0; id < canonical_.size(); ++id) {
      if (canonical_[id] != kNoNode) draft_.values[id] = draft_.values[by_id(canonical_[id])];
    }
    return std::move(draft_);
  }

 private:
  // The value of an input, or the stored weight that it was widened from.
  Operand input_of(const Node& n, std::size_t i) const {
    const auto& read = stored_.views[by_id(canonical_[by_id(n.inputs[i])])];
    if (read && graph_.node(n.inputs[i]).type.dtype == DType::f32 &&
        reads_as_stored(graph_, *n.op, i, *read))
      return {value_of(read->leaf).storage, read->layout};
    return value_of(n.inputs[i]);
  }
  const Operand& value_of(NodeId id) const { return draft_.values[by_id(canonical_[by_id(id)])]; }

  Operand new_storage(const Type& type, Storage::Where where, std::int64_t place) {
    program_.storage.push_back({where, place, bytes_of(type.dtype, numel(type.shape)), type.dtype});
    return {static_cast<int>(program_.storage.size()) - 1, Layout::contiguous(type.shape)};
  }

  const Graph& graph_;
  const std::vector<NodeId>& canonical_;
  const StoredReads stored_;
  Draft draft_;
  Program& program_ = draft_.program;
};

}  // namespace

Draft lay_out(const Graph& graph, const Pruned& pruned, std::span<const NodeId> wanted) {
  const std::vector<const Node*> producers = fusions(graph, pruned, wanted);
  std::vector<bool> absorbed(producers.size(), false);
  for (const Node* p : producers) {
    if (p != nullptr) absorbed[by_id(p->id)] = true;
  }
  LayOut out(graph, pruned, wanted);
  for (const Node* n : pruned.nodes) {
    if (absorbed[by_id(n->id)] || out.read_as_stored(*n)) continue;
    if (const Node* p = producers[by_id(n->id)]) n = &out.fused_with(*n, *p);
    if (const auto* leaf = std::get_if<LeafName>(&n->attributes)) {
      out.leaf(*n, leaf->name);
    } else if (const auto* constant = std::get_if<ConstantValue>(&n->attributes)) {
      out.constant(*n, constant->value);
    } else if (!out.view(*n)) {
      out.step(*n);
    }
  }
  return std::move(out).finish();
}

Draft place_results(Draft draft, std::span<const WantedNode> wanted) {
  Program& program = draft.program;
  for (const WantedNode& w : wanted) {
    const Operand& value = draft.values[by_id(w.node)];
    program.results.push_back({w.name, value, w.axes});
    Storage& s = program.storage_of(value);
    if (s.where != Storage::Where::arena) continue;
    s.where = Storage::Where::result;
    s.at = static_cast<std::int64_t>(program.result_buffers.size());
    program.result_buffers.push_back({s.dtype, {s.bytes / size_of(s.dtype)}});
    draft.stats.result_bytes += s.bytes;
  }
  return draft;
}

}  // namespace vitrine

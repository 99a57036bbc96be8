// Kernel fusion of widening: products and gathers read a stored weight (f16, bf16, quantised
// blocks) where it is, through the cast to f32 and the views between, and widen what they read.
//
//   matmul(x, transpose(cast(w)))     reads w, and no f32 copy of it is ever made
//   gather_rows(cast(w), tokens)      widens the rows of the tokens
//
// What reads a widened weight otherwise, such as an elementwise op, gets the f32 copy; then the
// cast is a step of every run.
#include "autograd/compile/optimise.h"
#include "autograd/compile/program.h"
#include "autograd/ops/op_table.h"

namespace vitrine {
namespace {

bool is_f32(const Node& n) { return n.type.dtype == DType::f32; }

// The layout of n over the leaf that its input 0 is seen through, or nothing.
std::optional<StoredRead> seen(const Graph& g, const Node& n, const std::optional<StoredRead>& in) {
  if (n.inputs.empty()) {
    if (!is_stored_float(n.type.dtype)) return {};
    return StoredRead{n.id, Layout::contiguous(n.type.shape)};
  }
  if (!in) return {};
  if (n.op == &kCast)
    return is_f32(n) && !is_f32(g.node(n.inputs[0])) ? in : std::optional<StoredRead>();
  if (n.op->view == nullptr) return {};
  const Type type = g.node(n.inputs[0]).type;
  const auto layout = n.op->view({{&type, 1}, n.attributes}, in->layout);
  const std::int64_t block = block_of(g.node(in->leaf).type.dtype).elements;
  if (!layout || layout->offset % block != 0) return {};
  return StoredRead{in->leaf, *layout};
}

}  // namespace

bool reads_as_stored(const Graph& g, const OpDef& op, std::size_t input, const StoredRead& read) {
  return op.reads_stored != nullptr &&
         op.reads_stored(input, g.node(read.leaf).type.dtype, read.layout);
}

StoredReads stored_reads(const Graph& g, const Pruned& pruned, std::span<const NodeId> wanted) {
  const auto canonical = [&](NodeId id) { return by_id(pruned.canonical[by_id(id)]); };
  StoredReads reads{std::vector<std::optional<StoredRead>>(by_id(g.next_id())),
                    std::vector<bool>(by_id(g.next_id()), false)};
  for (const Node* n : pruned.nodes) {
    reads.views[by_id(n->id)] =
        seen(g, *n, n->inputs.empty() ? std::nullopt : reads.views[canonical(n->inputs[0])]);
  }
  std::vector<bool>& in_full = reads.in_full;
  for (const NodeId id : wanted) in_full[canonical(id)] = true;
  for (auto n = pruned.nodes.rbegin(); n != pruned.nodes.rend(); ++n) {
    const bool looks = reads.views[by_id((*n)->id)].has_value();  // and is no reader of its own
    if (looks && !in_full[by_id((*n)->id)]) continue;
    for (std::size_t i = 0; i < (*n)->inputs.size(); ++i) {
      const std::size_t from = canonical((*n)->inputs[i]);
      const auto& view = reads.views[from];
      if (!view || looks || !reads_as_stored(g, *(*n)->op, i, *view)) in_full[from] = true;
    }
  }
  return reads;
}

StoredWeights stored_weights(const Program& program) {
  StoredWeights weights;
  for (const Step& step : program.steps) {
    for (const Operand& o : step.in) {
      const Storage& s = program.storage_of(o);
      if (s.where != Storage::Where::parameter || !is_stored_float(s.dtype)) continue;
      const std::string& name = program.parameters[static_cast<std::size_t>(s.at)].name;
      weights.dtypes.insert(name_of(s.dtype));
      if (step.node->op == &kCast)
        weights.in_full[name] += bytes_of(DType::f32, numel(step.out.layout.shape));
      else weights.as_stored.insert(name);
    }
  }
  return weights;
}

}  // namespace vitrine

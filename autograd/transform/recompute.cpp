#include "autograd/transform/recompute.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/graph/parts.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// A copy is a node like any other, appended to the graph. Two properties of this engine do the
// rest: nodes are sorted so that what has only later readers comes right before the first of them,
// which is when the backward pass needs it; and `again` is no identity, so that what is computed
// from it is not merged with what it is a copy of.
class Recomputing {
 public:
  Recomputing(const Graph& g, const std::vector<std::string>& kept)
      : g_(g),
        b_(g),
        value_(by_id(g.next_id()), kNoNode),
        kept_(by_id(g.next_id()), 0),
        segment_(by_id(g.next_id()), 0),
        forward_(by_id(g.next_id()), false),
        copy_(by_id(g.next_id())) {
    for (const Node& n : g.nodes())
      value_[by_id(n.id)] = is_identity(n) ? value_[by_id(n.inputs[0])] : n.id;
    for (const std::string& name : kept) kept_[by_id(value_[by_id(g.site(name).node)])] = ++last_;
    for (const Node& n : g.nodes()) {
      int& own = segment_[by_id(n.id)];
      for (const NodeId i : n.inputs) own = std::max(own, segment_[by_id(i)]);
      own = std::max(own, kept_[by_id(value_[by_id(n.id)])]);
    }
    for (const SiteEntry& s : g.sites()) forward_[by_id(s.node)] = true;
    for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
      if (!forward_[by_id(n->id)]) continue;
      for (const NodeId i : n->inputs) forward_[by_id(i)] = true;
    }
  }

  Graph run() && {
    for (const Node& n : g_.nodes()) {
      if (forward_[by_id(n.id)]) continue;
      for (std::size_t k = 0; k < n.inputs.size(); ++k) {
        const NodeId v = value_[by_id(n.inputs[k])];
        const int segment = segment_[by_id(v)];
        if (!forward_[by_id(v)] || kept_[by_id(v)] != 0 || segment == 0 || segment == last_)
          continue;
        b_.set_input(n.id, k, copy(v));
      }
    }
    return std::move(b_).finish();
  }

 private:
  // The value computed again: from kept sites, and from what is there before the first of them.
  Value copy(NodeId id) {
    const NodeId v = value_[by_id(id)];
    if (segment_[by_id(v)] == 0) return b_.value(v);
    if (copy_[by_id(v)].defined()) return copy_[by_id(v)];
    const Node& n = g_.node(v);
    const Builder::Origin origin(b_, "again(" + n.scope + ")", n.line);
    if (kept_[by_id(v)] != 0) return copy_[by_id(v)] = again(b_.value(v));
    std::vector<Value> in;
    for (const NodeId i : n.inputs) in.push_back(copy(i));
    return copy_[by_id(v)] = b_.emit(*n.op, in, without_sites(n.attributes), n.line);
  }

  const Graph& g_;
  Builder b_;
  std::vector<NodeId> value_;  // by id: through identities, the node whose value this one has
  std::vector<int> kept_;      // by id: which kept site this is the value of, from 1; 0: of none
  std::vector<int> segment_;   // by id: the last kept site that it is computed from; 0: none
  std::vector<bool> forward_;  // by id: a site is computed from it
  std::vector<Value> copy_;    // by id
  int last_ = 0;
};

}  // namespace

Graph recompute(const Graph& with_gradients, const SiteSet& kept) {
  const auto names = select_sites(kept, with_gradients.site_names());
  for (const std::string& name : names) {
    if (with_gradients.site(name).interior()) {
      throw GraphError(fmt::format(
          "'{}' lies hidden inside {} and has no value to keep: keep another site, or call "
          "expand_sites before gradient",
          name, with_gradients.node(with_gradients.site(name).node).op->name));
    }
  }
  return Recomputing(with_gradients, names).run();
}

}  // namespace vitrine

#include "autograd/transform/linearise.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

constexpr std::string_view kScale = ".hook_scale", kPattern = ".hook_pattern",
                           kNormalized = ".hook_normalized";

std::string_view word(Policy policy) {
  constexpr std::string_view kWords[] = {"recomputed", "detached", "held"};
  return kWords[static_cast<int>(policy)];
}

// "relu, gelu_tanh and tanh": the activations of the table.
std::string activations() {
  std::vector<std::string_view> names;
  for (const OpDef* op : all_ops()) {
    if (op->kind == OpKind::activation) names.push_back(op->name);
  }
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} and {}", fmt::join(names, ", "), last);
}

// By id: what a gradient can pass, from a leaf to an output or a site, under which metrics are made.
std::vector<bool> ways(const Graph& g) {
  std::vector<bool> below(static_cast<std::size_t>(g.next_id()), false), above = below;
  const auto at = [](NodeId id) { return static_cast<std::size_t>(id); };
  for (const Node& n : g.nodes()) {
    const bool leaf = n.op->kind == OpKind::input || n.op->kind == OpKind::parameter;
    below[at(n.id)] = is_compute_float(n.type.dtype) &&
                      (leaf || std::any_of(n.inputs.begin(), n.inputs.end(),
                                           [&](NodeId i) { return below[at(i)]; }));
  }
  for (const auto& [name, id] : g.outputs()) above[at(id)] = true;
  for (const SiteEntry& s : g.sites()) above[at(s.node)] = true;
  for (auto n = g.nodes().rbegin(); n != g.nodes().rend(); ++n) {
    if (!above[at(n->id)] || !below[at(n->id)]) continue;
    for (const NodeId i : n->inputs) above[at(i)] = true;
  }
  for (std::size_t i = 0; i < below.size(); ++i) below[i] = below[i] && above[i];
  return below;
}

class Linearising {
 public:
  Linearising(const Graph& graph, const Policies& policies)
      : g_(graph), policies_(policies), way_(ways(graph)), b_(graph) {}

  Graph run() && {
    for (const Node& n : g_.nodes()) {
      if (n.op == &kHeadsIn) copies(n);  // before the norm that it reads is expanded
    }
    for (const Node& n : g_.nodes()) {
      if (n.op->kind == OpKind::norm) {
        expand(n, policies_.norm, kScale);
      } else if (n.op->kind == OpKind::attention) {
        expand(n, policies_.attention, kPattern);
      } else if (n.op->kind == OpKind::activation) {
        activation(n);
      } else {
        check_known(n);
      }
    }
    const std::vector<SiteEntry> sites = b_.sites();  // a copy: inputs are added on the way
    for (const SiteEntry& s : sites) {
      if (s.interior()) continue;
      if (s.name.ends_with(kScale)) freeze(s.before, policies_.norm, s.name);
      if (s.name.ends_with(kPattern)) freeze(s.before, policies_.attention, s.name);
    }
    return std::move(b_).finish();
  }

 private:
  // Of the ops that no policy is about, those on the way have to be linear in what carries the
  // gradient, or to be left as they are by their own word: nothing is passed over.
  void check_known(const Node& n) const {
    if (!way_[static_cast<std::size_t>(n.id)] || n.op->nonlinear == Nonlinear::kept) return;
    bool linear = true;
    for (std::size_t i = 0; i < n.inputs.size(); ++i)
      linear = linear && (!way_[static_cast<std::size_t>(n.inputs[i])] || is_linear_in(*n.op, i));
    if (linear) return;
    const bool asked = policies_.norm != Policy::recompute ||
                       policies_.attention != Policy::recompute ||
                       policies_.activation != Policy::recompute;
    if (n.op->kind == OpKind::unstated && asked) {
      const std::string_view file = n.line.file;
      throw GraphError(fmt::format(
          "'{}' (%{}, in '{}', {}:{}) does not say what linearise is to do with it: norms are to "
          "be {}, attention {}, activations {}, and its OpDef (autograd/graph/op.h) states neither "
          "that it is linear in what it reads here (linear_in), nor a kind, nor that it stays as "
          "it is (Nonlinear::kept); state one of these, or leave all at recompute",
          n.op->name, n.id, n.scope, file.substr(file.find_last_of('/') + 1), n.line.line,
          word(policies_.norm), word(policies_.attention), word(policies_.activation)));
    }
    if (policies_.activation == Policy::recompute) return;
    throw GraphError(fmt::format(
        "'{}' (%{}, in '{}') is a nonlinearity that linearise does not know: activations are to be "
        "{}, and it can do that to {}; write the model with one of these, or leave activations at "
        "recompute",
        n.op->name, n.id, n.scope, word(policies_.activation), activations()));
  }

  Value held(const std::string& site, const Type& type) { return b_.input(held_name(site), type); }

  // What read the value of `node` reads f(value) from now on, under the same name if it is an
  // output.
  void after(NodeId node, const std::function<Value(const Value&)>& f) {
    const NodeId end = b_.next_id();
    Value to;
    {
      const Builder::Origin origin(b_, b_.node(node).scope, b_.node(node).line);
      to = f(b_.value(node));
    }
    for (NodeId id = 0; id < end; ++id) {
      if (id < g_.next_id() && !g_.contains(id)) continue;
      for (std::size_t i = 0; i < b_.node(id).inputs.size(); ++i) {
        if (b_.node(id).inputs[i] == node) b_.set_input(id, i, to);
      }
    }
    for (const auto& [name, id] : g_.outputs()) {
      if (id == node) b_.output(name, to);
    }
  }

  void freeze(NodeId node, Policy policy, const std::string& site) {
    if (policy == Policy::recompute) return;
    after(node, [&](const Value& v) {
      return policy == Policy::detach ? detach(v) : held(site, v.type());
    });
  }

  // What is frozen of a composite lies behind a site, whose name ends in `suffix`; without one it is
  // known by the op that computes it.
  void expand(const Node& n, Policy policy, std::string_view suffix) {
    if (policy == Policy::recompute) return;
    const std::vector<SiteEntry>& sites = b_.sites();
    const bool named = std::any_of(sites.begin(), sites.end(), [&](const SiteEntry& s) {
      return s.interior() && s.node == n.id && s.name.ends_with(suffix);
    });
    const NodeId first = b_.next_id();
    b_.expand(n.id);
    if (named) return;
    if (policy == Policy::hold) {
      throw GraphError(fmt::format(
          "the {} %{} (in '{}') cannot be held: it has no sites to record; give it a prefix, or, "
          "if it lies in an expanded heads_in, linearise before its site is edited",
          n.op->name, n.id, n.scope));
    }
    const NodeId end = b_.next_id();
    for (NodeId id = first; id < end; ++id) {
      if (b_.node(id).op == n.op->frozen) freeze(id, policy, "");
    }
  }

  // heads_in may show one copy of the stream per head; their norms follow the same policy.
  void copies(const Node& n) {
    if (policies_.norm == Policy::recompute) return;
    HeadsRule rule = std::get<HeadsRule>(n.attributes);
    std::vector<Value> inputs;
    for (const NodeId i : n.inputs) inputs.push_back(b_.value(i));
    if (policies_.norm == Policy::detach) {
      rule.detach_scale = true;
    } else if (heads_in_inputs(rule, inputs.size()).scale < 0) {
      const Type scale{n.type.dtype, {n.type.shape[0], 1}};
      inputs.push_back(held(norm_before(n) + std::string(kScale), scale));
    }
    b_.rebuild(n.id, inputs, rule);
  }

  // The prefix of the norm that heads_in reads, whole or expanded.
  std::string norm_before(const Node& heads_in) {
    for (NodeId id = heads_in.inputs[0];;) {
      const Node& n = g_.node(id);
      std::string prefix;
      if (const auto* rule = std::get_if<NormRule>(&n.attributes)) prefix = rule->prefix;
      if (const auto* site = std::get_if<SiteLabel>(&n.attributes);
          site != nullptr && site->name.ends_with(kNormalized))
        prefix = site->name.substr(0, site->name.size() - kNormalized.size());
      if (!prefix.empty()) return prefix;
      // An expanded one ends in normalized * gain (+ bias).
      if (!passes_on(n) && n.op != &kAdd && n.op != &kMul) break;
      id = n.inputs[0];
    }
    throw GraphError(
        fmt::format("the norm before the heads_in %{} (in '{}') cannot be held: it has no "
                    "sites to record; "
                    "give it a prefix",
                    heads_in.id, heads_in.scope));
  }

  void activation(const Node& n) {
    if (policies_.activation == Policy::recompute) return;
    const auto f = [&](const Value& x) { return b_.emit(*n.op, {x}, n.attributes, n.line); };
    const auto slope = [&](const Value& x, const Value& fx) {  // f'(x): its gradient of 1
      const Value ones = broadcast_to(b_.scalar(1, x.dtype()), x.shape());
      const Value in[] = {x};
      const Value known = n.op->vjp({b_, in, fx, ones, n.attributes})[0];
      return known.defined() ? known : broadcast_to(b_.scalar(0, x.dtype()), x.shape());
    };
    const Value x = b_.value(n.inputs[0]);
    after(n.id, [&](const Value& y) {
      if (policies_.activation == Policy::detach)
        return detach(y) + detach(slope(x, y)) * (x - detach(x));
      const Value at = held(site_read(n), x.type()), there = f(at);
      return there + slope(at, there) * (x - at);
    });
  }

  // The site whose value an activation reads, before or after its edits.
  std::string site_read(const Node& n) {
    const Node* from = &g_.node(n.inputs[0]);
    while (from->op == &kIdentity) from = &g_.node(from->inputs[0]);
    if (const auto* site = std::get_if<SiteLabel>(&from->attributes)) return site->name;
    for (const SiteEntry& s : g_.sites()) {
      if (s.before == from->id) return s.name;
    }
    throw GraphError(fmt::format(
        "the {} %{} (in '{}') cannot be held: it does not read a site, so that its input has no "
        "name to be recorded under; name it with Builder::site",
        n.op->name, n.id, n.scope));
  }

  const Graph& g_;
  const Policies& policies_;
  std::vector<bool> way_;  // by id
  Builder b_;
};

}  // namespace

std::string_view name_of(Policy policy) {
  constexpr std::string_view kNames[] = {"recompute", "detach", "hold"};
  return kNames[static_cast<int>(policy)];
}

Graph linearise(const Graph& graph, const Policies& policies) {
  for (const auto& [name, id] : graph.outputs()) {
    if (name.starts_with("grad("))
      throw GraphError(
          fmt::format("the graph has the output '{}': linearise comes before gradient", name));
  }
  return Linearising(graph, policies).run();
}

}  // namespace vitrine

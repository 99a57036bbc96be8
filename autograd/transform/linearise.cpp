#include "autograd/transform/linearise.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "autograd/ops/common.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

constexpr std::string_view kScale = ".hook_scale", kPattern = ".hook_pattern",
                           kNormalized = ".hook_normalized";

class Linearising {
 public:
  Linearising(const Graph& graph, const Policies& policies)
      : g_(graph), policies_(policies), b_(graph) {}

  Graph run() && {
    for (const Node& n : g_.nodes()) {
      if (n.op->name == "heads_in") copies(n);  // before the LayerNorm that it reads is expanded
    }
    for (const Node& n : g_.nodes()) {
      if (n.op->name == "layer_norm") {
        expand(n, policies_.norm, "sqrt", std::get<NormRule>(n.attributes).prefix);
      } else if (n.op->name == "attention") {
        expand(n, policies_.attention, "softmax", std::get<AttentionRule>(n.attributes).prefix);
      } else if (is_activation(n)) {
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
  static bool is_activation(const Node& n) {
    constexpr std::string_view kNames[] = {"relu", "gelu_tanh", "gelu_erf", "tanh", "sigmoid"};
    return std::find(std::begin(kNames), std::end(kNames), n.op->name) != std::end(kNames);
  }

  // Functions of single elements that are linear, make none of the gradient, or belong to a norm,
  // whose scale is frozen as a whole. Any other one is an activation that has no policy.
  void check_known(const Node& n) const {
    constexpr std::string_view kKnown[] = {"identity", "site",   "detach", "again", "neg",
                                           "cast",     "square", "sqrt",   "rsqrt", "reciprocal"};
    const bool of_elements =
        (n.op->reach == reach_elementwise && n.inputs.size() == 1 &&
         std::find(std::begin(kKnown), std::end(kKnown), n.op->name) == std::end(kKnown)) ||
        n.op->name == "maximum" || n.op->name == "minimum";
    if (policies_.activation == Policy::recompute || !of_elements ||
        !is_compute_float(n.type.dtype) || !is_compute_float(g_.node(n.inputs[0]).type.dtype))
      return;
    throw GraphError(fmt::format(
        "'{}' (%{}, in '{}') is a nonlinearity that linearise does not know: activations are to be "
        "{}, and it can do that to relu, gelu_tanh, gelu_erf, tanh and sigmoid; write the model "
        "with one of these, or leave activations at recompute",
        n.op->name, n.id, n.scope, policies_.activation == Policy::detach ? "detached" : "held"));
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

  // Composites without sites: what is to be frozen is known by the op that computes it.
  void expand(const Node& n, Policy policy, std::string_view inner, const std::string& prefix) {
    if (policy == Policy::recompute) return;
    const NodeId first = b_.next_id();
    b_.expand(n.id);
    if (!prefix.empty()) return;
    if (policy == Policy::hold) {
      throw GraphError(fmt::format(
          "the {} %{} (in '{}') cannot be held: it has no sites to record; give it a prefix, or, "
          "if it lies in an expanded heads_in, linearise before its site is edited",
          n.op->name, n.id, n.scope));
    }
    const NodeId end = b_.next_id();
    for (NodeId id = first; id < end; ++id) {
      if (b_.node(id).op->name == inner) freeze(id, policy, "");
    }
  }

  // heads_in may show one copy of the stream per head; their LayerNorms follow the same policy.
  void copies(const Node& n) {
    if (policies_.norm == Policy::recompute) return;
    HeadsRule rule = std::get<HeadsRule>(n.attributes);
    std::vector<Value> inputs;
    for (const NodeId i : n.inputs) inputs.push_back(b_.value(i));
    if (policies_.norm == Policy::detach) {
      rule.detach_scale = true;
    } else if (inputs.size() == 6) {
      const Type scale{n.type.dtype, {n.type.shape[0], 1}};
      inputs.push_back(held(norm_before(n) + std::string(kScale), scale));
    }
    b_.rebuild(n.id, inputs, rule);
  }

  // The prefix of the LayerNorm that heads_in reads, whole or expanded.
  std::string norm_before(const Node& heads_in) {
    for (NodeId id = heads_in.inputs[0];;) {
      const Node& n = g_.node(id);
      std::string prefix;
      if (const auto* rule = std::get_if<NormRule>(&n.attributes)) prefix = rule->prefix;
      if (const auto* site = std::get_if<SiteLabel>(&n.attributes);
          site != nullptr && site->name.ends_with(kNormalized))
        prefix = site->name.substr(0, site->name.size() - kNormalized.size());
      if (!prefix.empty()) return prefix;
      // An expanded one ends in normalized * gain + bias.
      if (n.op->name != "identity" && n.op->name != "add" && n.op->name != "mul") break;
      id = n.inputs[0];
    }
    throw GraphError(
        fmt::format("the LayerNorm before the heads_in %{} (in '{}') cannot be held: it has no "
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
      return n.op->vjp({b_, in, fx, ones, n.attributes})[0];
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
    while (from->op->name == "identity") from = &g_.node(from->inputs[0]);
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

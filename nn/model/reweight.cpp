#include "nn/model/reweight.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>

#include "autograd/graph/builder.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "nn/families/architecture.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kPrefix = "reweighted.";

struct Rewrite {
  std::string_view name;
  bool Gauge::*on;
};
constexpr Rewrite kRewrites[] = {{"fold_ln", &Gauge::fold_ln},
                                 {"center_writing_weights", &Gauge::center_writing_weights},
                                 {"center_unembed", &Gauge::center_unembed},
                                 {"fold_value_biases", &Gauge::fold_value_biases}};

// ---- the rewrites, on the weights alone ---------------------------------------------------------
Value as_column(const Value& x) { return reshape(x, {x.dim(0), 1}); }
Value times(const Value& row, const Value& matrix) {  // [k] x [k, n] -> [n]
  return reshape(matmul(reshape(row, {1, row.dim(0)}), matrix), {matrix.dim(1)});
}
Value centred(const Value& x, int axis) { return x - mean(x, {axis}, true); }

// Of a weight [d, n] that reads what a norm gives.
void fold_norm(const NormWeights& norm, Value& w, Value& b) {
  if (norm.centred) b = b + times(norm.bias, w);
  w = folded(norm, w);
}
NormWeights without_gain(Builder& b, const NormWeights& norm) {
  const Shape& d = norm.gain.shape();
  const DType type = norm.gain.dtype();
  NormWeights plain = norm;
  plain.gain = b.constant(Tensor::full(d, type, 1));
  if (norm.centred) plain.bias = b.constant(Tensor::full(d, type, 0));
  return plain;
}

void fold_ln(Builder& b, WeightValues& w) {
  for (LayerWeights& l : w.layers) {
    fold_norm(l.ln1, l.w_q, l.b_q);
    fold_norm(l.ln1, l.w_k, l.b_k);
    fold_norm(l.ln1, l.w_v, l.b_v);
    fold_norm(l.ln2, l.w_in, l.b_in);
    if (l.w_gate.defined()) fold_norm(l.ln2, l.w_gate, l.b_gate);
    l.ln1 = without_gain(b, l.ln1);
    l.ln2 = without_gain(b, l.ln2);
  }
  const NormWeights& last = w.ln_final;
  if (last.centred) {
    const Value from_bias = reshape(matmul(w.w_u, as_column(last.bias)), {w.w_u.dim(0)});
    w.b_u = w.b_u.defined() ? w.b_u + from_bias : from_bias;
  }
  w.w_u = w.w_u * last.gain;
  if (last.centred) w.w_u = centred(w.w_u, 1);
  w.ln_final = without_gain(b, last);
}

void center_writing_weights(WeightValues& w) {
  w.w_e = centred(w.w_e, 1);
  if (w.w_pos.defined()) w.w_pos = centred(w.w_pos, 1);
  for (LayerWeights& l : w.layers) {
    l.w_o = centred(l.w_o, 1);
    l.b_o = centred(l.b_o, 0);
    l.w_out = centred(l.w_out, 1);
    l.b_out = centred(l.b_out, 0);
  }
}

void center_unembed(WeightValues& w) {
  w.w_u = centred(w.w_u, 0);
  if (w.b_u.defined()) w.b_u = centred(w.b_u, 0);
}

void fold_value_biases(Builder& b, const Config& c, WeightValues& w) {
  for (LayerWeights& l : w.layers) {
    const Value of_each =
        for_query_heads(reshape(l.b_v, {1, l.b_v.dim(0)}), c.key_heads(), c.heads);
    l.b_o = l.b_o + times(reshape(of_each, {of_each.dim(1)}), l.w_o);
    l.b_v = broadcast_to(b.scalar(0, l.b_v.dtype()), l.b_v.shape());
  }
}

// ---- the model, with other weights --------------------------------------------------------------
class Rewiring {
 public:
  Rewiring(const Graph& graph, const Config& config, const Gauge& gauge)
      : graph_(graph), config_(config), gauge_(gauge), b_(graph) {}

  Graph run() && {
    const WeightValues old = weights_of(b_, config_);
    WeightValues w = old;
    {
      const Builder::Scope scope(b_, "reweight");
      if (gauge_.fold_ln) fold_ln(b_, w);
      if (gauge_.center_writing_weights) center_writing_weights(w);
      if (gauge_.center_unembed) center_unembed(w);
      if (gauge_.fold_value_biases) fold_value_biases(b_, config_, w);
    }
    find_readers();
    unembed(old, w);
    std::map<std::string, Value> before;
    for (const auto& [name, value] : by_name(old)) before[name] = value;
    for (const auto& [name, value] : by_name(w)) {
      if (before.contains(name) && before[name].id() == value.id()) continue;
      if (!name.starts_with("unembed.")) {
        rewire(before.at(name), value);
        b_.name_weight(name, value);
      }
      // Norms that are left without gain and bias are constants.
      if (b_.node(value.id()).op != &kConstant) b_.output(std::string(kPrefix) + name, value);
    }
    return std::move(b_).finish();
  }

 private:
  // The nodes of the model itself: those that compute a weight of it are not.
  void find_readers() {
    std::vector<bool> of_weights(by_id(graph_.next_id()), false);
    for (const auto& [name, id] : graph_.weights()) of_weights[by_id(id)] = true;
    for (auto n = graph_.nodes().rbegin(); n != graph_.nodes().rend(); ++n) {
      if (!of_weights[by_id(n->id)]) continue;
      for (const NodeId i : n->inputs) of_weights[by_id(i)] = true;
    }
    for (const Node& n : graph_.nodes()) {
      if (of_weights[by_id(n.id)]) continue;
      for (std::size_t i = 0; i < n.inputs.size(); ++i) readers_[n.inputs[i]].push_back({n.id, i});
    }
  }
  // What of the model reads `from` reads `to`.
  void rewire(const Value& from, const Value& to) {
    for (const auto& [node, place] : readers_[from.id()]) b_.set_input(node, place, to);
  }

  void unembed(const WeightValues& from, const WeightValues& to) {
    if (from.w_u.id() == to.w_u.id()) return;
    const Node& site = b_.node(b_.at(site::unembed_out()).id());
    const Node& product = b_.node(site.inputs[0]);
    const Value x = b_.value(product.inputs[0]);
    const NodeId id = product.id;
    const Builder::Origin origin(b_, product.scope, product.line);
    const Value logits = unembedded(to, x);
    b_.forward(id, logits);
    b_.name_weight("unembed.W_U", b_.value(b_.node(logits.id()).inputs[1]));
    if (to.b_u.defined()) b_.name_weight("unembed.b_U", to.b_u);
  }

  const Graph& graph_;
  const Config& config_;
  const Gauge& gauge_;
  Builder b_;
  std::map<NodeId, std::vector<std::pair<NodeId, std::size_t>>> readers_;  // and at which input
};

}  // namespace

std::string name_of(const Gauge& gauge) {
  if (gauge.is_raw()) return "raw";
  if (gauge == Gauge::processed()) return "processed";
  std::vector<std::string_view> names;
  for (const Rewrite& r : kRewrites) {
    if (gauge.*r.on) names.push_back(r.name);
  }
  return fmt::format("{}", fmt::join(names, ","));
}

Gauge parse_gauge(std::string_view text) {
  if (text == "raw") return Gauge::raw();
  if (text == "processed") return Gauge::processed();
  Gauge gauge;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    bool known = false;
    for (const Rewrite& r : kRewrites) {
      if (r.name == word) known = gauge.*r.on = true;
    }
    if (!known) {
      std::vector<std::string_view> names;
      for (const Rewrite& r : kRewrites) names.push_back(r.name);
      if (word == "raw" || word == "processed") {
        throw Error(ErrorKind::usage,
                    fmt::format("there is no gauge '{}': '{}' stands alone; a list is of {}", text,
                                word, fmt::join(names, ", ")));
      }
      throw Error(ErrorKind::usage,
                  fmt::format("there is no gauge '{}'; there are raw, processed (all of these), "
                              "or some of {}, separated by commas",
                              word, fmt::join(names, ", ")));
    }
    begin = end + 1;
  }
  return gauge;
}

Gauge gauge_of(const Config& config, const Gauge& wanted) {
  Gauge all = Gauge::processed();
  all.center_writing_weights = architecture(config).centred;
  all.center_unembed = config.logit_cap == 0;
  if (wanted == Gauge::processed()) return all;
  for (const Rewrite& r : kRewrites) {
    if (!(wanted.*r.on) || all.*r.on) continue;
    throw ConfigError(fmt::format(
        "{} would change what this model ({}) computes: {}; 'processed' makes all rewrites that "
        "leave it the same",
        r.name, config.model_type,
        r.on == &Gauge::center_unembed ? "a soft cap follows its unembedding"
                                       : "its norms do not subtract the mean"));
  }
  return wanted;
}

Graph reweight(const Graph& graph, const Config& config, const Gauge& gauge) {
  const Gauge own = gauge_of(config, gauge);
  return own.is_raw() ? graph : Rewiring(graph, config, own).run();
}

std::vector<std::string> reweighted_names(const Graph& reweighted) {
  std::vector<std::string> names;
  for (const auto& [name, id] : reweighted.outputs()) {
    if (name.starts_with(kPrefix)) names.push_back(name);
  }
  return names;
}

}  // namespace vitrine::nn

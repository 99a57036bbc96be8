#include "nn/model/reweight.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "autograd/graph/builder.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "nn/model/sites.h"
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

// Of a weight [d, n] that reads a LayerNorm's output.
void fold_norm(const Value& gain, const Value& bias, Value& w, Value& b) {
  b = b + times(bias, w);
  w = centred(w * as_column(gain), 0);
}

void fold_ln(WeightValues& w) {
  for (LayerWeights& l : w.layers) {
    fold_norm(l.ln1_gain, l.ln1_bias, l.w_q, l.b_q);
    fold_norm(l.ln1_gain, l.ln1_bias, l.w_k, l.b_k);
    fold_norm(l.ln1_gain, l.ln1_bias, l.w_v, l.b_v);
    fold_norm(l.ln2_gain, l.ln2_bias, l.w_in, l.b_in);
  }
  const Value from_bias = reshape(matmul(w.w_u, as_column(w.ln_final_bias)), {w.w_u.dim(0)});
  w.b_u = w.b_u.defined() ? w.b_u + from_bias : from_bias;
  w.w_u = centred(w.w_u * w.ln_final_gain, 1);
}

void center_writing_weights(WeightValues& w) {
  w.w_e = centred(w.w_e, 1);
  w.w_pos = centred(w.w_pos, 1);
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

void fold_value_biases(Builder& b, WeightValues& w) {
  for (LayerWeights& l : w.layers) {
    l.b_o = l.b_o + times(l.b_v, l.w_o);
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
      if (gauge_.fold_ln) fold_ln(w);
      if (gauge_.center_writing_weights) center_writing_weights(w);
      if (gauge_.center_unembed) center_unembed(w);
      if (gauge_.fold_value_biases) fold_value_biases(b_, w);
    }
    name(old, w);
    gathers(old.w_e, w.w_e);
    gathers(old.w_pos, w.w_pos);
    for (std::size_t l = 0; l < w.layers.size(); ++l) layer(old.layers[l], w.layers[l]);
    unembed(old, w);
    if (gauge_.fold_ln) norms();
    return std::move(b_).finish();
  }

 private:
  // Every node of the model that reads `from` at this place of its inputs reads `to`.
  void rewire(const OpDef& op, std::size_t place, const Value& from, const Value& to) {
    if (from.id() == to.id()) return;
    for (const Node& n : graph_.nodes()) {
      if (n.op == &op && n.inputs.size() > place && n.inputs[place] == from.id())
        b_.set_input(n.id, place, to);
    }
  }
  void gathers(const Value& from, const Value& to) { rewire(kGatherRows, 0, from, to); }

  void layer(const LayerWeights& from, const LayerWeights& to) {
    rewire(kHeadsIn, 1, from.w_q, to.w_q);
    rewire(kHeadsIn, 1, from.w_k, to.w_k);
    rewire(kHeadsIn, 1, from.w_v, to.w_v);
    rewire(kHeadsIn, 2, from.b_q, to.b_q);
    rewire(kHeadsIn, 2, from.b_k, to.b_k);
    rewire(kHeadsIn, 2, from.b_v, to.b_v);
    rewire(kHeadsOut, 1, from.w_o, to.w_o);
    rewire(kHeadsOut, 2, from.b_o, to.b_o);
    rewire(kLinear, 1, from.w_in, to.w_in);
    rewire(kLinear, 2, from.b_in, to.b_in);
    rewire(kLinear, 1, from.w_out, to.w_out);
    rewire(kLinear, 2, from.b_out, to.b_out);
  }

  void unembed(const WeightValues& from, const WeightValues& to) {
    if (from.w_u.id() == to.w_u.id()) return;
    const Node& site = b_.node(b_.at(site::unembed_out()).id());
    const Node& product = b_.node(site.inputs[0]);
    const Value x = b_.value(product.inputs[0]);
    const NodeId id = product.id;
    const Builder::Origin origin(b_, product.scope, product.line);
    b_.forward(id, unembedded(to, x));
  }

  // What is left of a LayerNorm is (x - mean) / scale.
  void norms() {
    const auto d = static_cast<std::int64_t>(config_.d_model);
    for (const Node& n : graph_.nodes()) {
      const bool copies = n.op == &kHeadsIn;
      if (n.op != &kLayerNorm && !copies) continue;
      const std::size_t gain = copies ? 4 : 1;
      const DType type = n.type.dtype;
      b_.set_input(n.id, gain, b_.constant(Tensor::full({d}, type, 1)));
      b_.set_input(n.id, gain + 1, b_.constant(Tensor::full({d}, type, 0)));
    }
  }

  void name(const WeightValues& from, const WeightValues& to) {
    const auto put = [&](const std::string& name, const Value& old, const Value& now) {
      if (now.defined() && (!old.defined() || old.id() != now.id()))
        b_.output(std::string(kPrefix) + name, now);
    };
    put("wte.weight", from.w_e, to.w_e);
    put("wpe.weight", from.w_pos, to.w_pos);
    for (std::size_t l = 0; l < to.layers.size(); ++l) {
      const LayerWeights &x = from.layers[l], &y = to.layers[l];
      const std::string h = fmt::format("h.{}.", l);
      put(h + "attn.q.weight", x.w_q, y.w_q);
      put(h + "attn.k.weight", x.w_k, y.w_k);
      put(h + "attn.v.weight", x.w_v, y.w_v);
      put(h + "attn.q.bias", x.b_q, y.b_q);
      put(h + "attn.k.bias", x.b_k, y.b_k);
      put(h + "attn.v.bias", x.b_v, y.b_v);
      put(h + "attn.c_proj.weight", x.w_o, y.w_o);
      put(h + "attn.c_proj.bias", x.b_o, y.b_o);
      put(h + "mlp.c_fc.weight", x.w_in, y.w_in);
      put(h + "mlp.c_fc.bias", x.b_in, y.b_in);
      put(h + "mlp.c_proj.weight", x.w_out, y.w_out);
      put(h + "mlp.c_proj.bias", x.b_out, y.b_out);
    }
    put("lm_head.weight", from.w_u, to.w_u);
    put("lm_head.bias", from.b_u, to.b_u);
  }

  const Graph& graph_;
  const Config& config_;
  const Gauge& gauge_;
  Builder b_;
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

Graph reweight(const Graph& graph, const Config& config, const Gauge& gauge) {
  return gauge.is_raw() ? graph : Rewiring(graph, config, gauge).run();
}

std::vector<std::string> reweighted_names(const Graph& reweighted) {
  std::vector<std::string> names;
  for (const auto& [name, id] : reweighted.outputs()) {
    if (name.starts_with(kPrefix)) names.push_back(name);
  }
  return names;
}

}  // namespace vitrine::nn

#include "nn/model/weights.h"

#include <fmt/format.h>

#include <algorithm>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "nn/families/architecture.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::nn {
namespace {

// The weights of one layer and their names in the graph: blocks.L.NAME.
struct NamedWeight {
  const char* name;
  Value LayerWeights::*value;
};
constexpr NamedWeight kOfLayer[] = {
    {"attn.W_Q", &LayerWeights::w_q},      {"attn.W_K", &LayerWeights::w_k},
    {"attn.W_V", &LayerWeights::w_v},      {"attn.b_Q", &LayerWeights::b_q},
    {"attn.b_K", &LayerWeights::b_k},      {"attn.b_V", &LayerWeights::b_v},
    {"attn.W_O", &LayerWeights::w_o},      {"attn.b_O", &LayerWeights::b_o},
    {"mlp.W_in", &LayerWeights::w_in},     {"mlp.b_in", &LayerWeights::b_in},
    {"mlp.W_gate", &LayerWeights::w_gate}, {"mlp.b_gate", &LayerWeights::b_gate},
    {"mlp.W_out", &LayerWeights::w_out},   {"mlp.b_out", &LayerWeights::b_out}};
struct NamedNorm {
  const char* name;
  NormWeights LayerWeights::*value;
};
constexpr NamedNorm kNorms[] = {{"ln1", &LayerWeights::ln1},
                                {"ln2", &LayerWeights::ln2},
                                {"ln1_post", &LayerWeights::ln1_post},
                                {"ln2_post", &LayerWeights::ln2_post}};

class WeightReading {
 public:
  WeightReading(Builder& b, const Config& config) : b_(b), config_(config) {}

  WeightValues run() {
    WeightValues w;
    w.w_e = required("embed.W_E");
    w.w_pos = b_.weight("pos_embed.W_pos");
    for (int l = 0; l < config_.layers; ++l) {
      const std::string block = fmt::format("blocks.{}.", l);
      LayerWeights layer;
      for (const NamedWeight& named : kOfLayer) layer.*named.value = b_.weight(block + named.name);
      for (const NamedNorm& named : kNorms) layer.*named.value = norm(block + named.name);
      w.layers.push_back(layer);
    }
    w.ln_final = norm("ln_final");
    w.w_u = transposed(required("unembed.W_U"));
    w.b_u = b_.weight("unembed.b_U");
    return w;
  }

 private:
  Value required(const char* name) {
    const Value w = b_.weight(name);
    if (!w.defined()) {
      throw GraphError(fmt::format(
          "there is no weight '{}' in this graph: it is not a model's, or its builder did not name "
          "them",
          name));
    }
    return w;
  }
  NormWeights norm(const std::string& name) {
    NormWeights n{b_.weight(name + ".w"), b_.weight(name + ".b"), true, config_.norm_eps};
    if (!n.gain.defined() || n.bias.defined()) return n;
    n.centred = false;
    n.bias = broadcast_to(b_.scalar(0, n.gain.dtype()), n.gain.shape());
    return n;
  }
  Value transposed(const Value& w) {  // of a transpose, what was transposed
    const Node& n = b_.node(w.id());
    return n.op == &kPermute ? b_.value(n.inputs[0]) : transpose(w);
  }

  Builder& b_;
  const Config& config_;
};

// As TransformerLens shapes a weight of this name.
Value in_their_shape(const std::string& name, const Value& w, const Config& c) {
  const auto ends = [&](const char* what) { return name.ends_with(what); };
  const bool shared = ends("W_K") || ends("W_V") || ends("b_K") || ends("b_V");
  const std::int64_t heads = shared ? c.key_heads() : c.heads, e = c.d_head();
  if (ends(".W_Q") || ends(".W_K") || ends(".W_V")) return by_head(w, heads);
  if (ends(".b_Q") || ends(".b_K") || ends(".b_V")) return reshape(w, {heads, e});
  if (ends(".W_O")) return reshape(w, {heads, e, w.dim(1)});
  return ends(".W_U") ? transpose(w) : w;
}

}  // namespace

WeightValues weights_of(Builder& b, const Config& config) { return WeightReading(b, config).run(); }

std::vector<std::pair<std::string, Value>> by_name(const WeightValues& w) {
  std::vector<std::pair<std::string, Value>> all;
  const auto put = [&](const std::string& name, const Value& v) {
    if (v.defined()) all.emplace_back(name, v);
  };
  const auto put_norm = [&](const std::string& name, const NormWeights& n) {
    put(name + ".w", n.gain);
    if (n.centred) put(name + ".b", n.bias);
  };
  put("embed.W_E", w.w_e);
  put("pos_embed.W_pos", w.w_pos);
  for (std::size_t l = 0; l < w.layers.size(); ++l) {
    const std::string block = fmt::format("blocks.{}.", l);
    for (const NamedWeight& named : kOfLayer) put(block + named.name, w.layers[l].*named.value);
    for (const NamedNorm& named : kNorms) put_norm(block + named.name, w.layers[l].*named.value);
  }
  put_norm("ln_final", w.ln_final);
  put("unembed.W_U", w.w_u);
  put("unembed.b_U", w.b_u);
  return all;
}

Value normed(const Value& x, const NormWeights& n) {
  return n.centred ? layer_norm(x, n.gain, n.bias, n.eps) : rms_norm(x, n.gain, n.eps);
}
Value normed(const Value& x, const NormWeights& n, const Value& scale) {
  return (n.centred ? x - mean(x, {x.rank() - 1}, true) : x) / scale * n.gain;
}
Value unscaled(const Value& x, const NormWeights& n) {
  return (n.centred ? x - mean(x, {x.rank() - 1}, true) : x) * n.gain;
}
Value before_norm(const Value& direction, const NormWeights& n, const Value& scale) {
  return n.defined() ? folded(n, direction) / scale : direction;
}
Value folded(const NormWeights& n, const Value& w) {
  const Value x = w * reshape(n.gain, {n.gain.dim(0), 1});
  return n.centred ? x - mean(x, {0}, true) : x;
}

Value unembedded(const WeightValues& w, const Value& x) {
  const Value w_u = transpose(w.w_u);
  return w.b_u.defined() ? linear(x, w_u, w.b_u) : matmul(x, w_u);
}

Value capped(const Value& logits, const Config& config) {
  return config.logit_cap > 0 ? softcap(logits, config.logit_cap) : logits;
}

Value by_head(const Value& w, std::int64_t heads) {
  return permute(reshape(w, {w.dim(0), heads, w.dim(1) / heads}), {1, 0, 2});
}

Value for_query_heads(const Value& w, std::int64_t groups, std::int64_t heads) {
  if (groups == heads) return w;
  const std::int64_t d = w.dim(0), e = w.dim(1) / groups, each = heads / groups;
  return reshape(broadcast_to(reshape(w, {d, groups, 1, e}), {d, groups, each, e}), {d, heads * e});
}

Parameters weights(const Model& model, std::string_view patterns) {
  const Graph graph = model.build(Model::Uniform{1, 1});
  Builder b(graph);
  const WeightValues w = weights_of(b, model.config());
  auto all = by_name(w);
  if (!w.b_u.defined())
    all.emplace_back("unembed.b_U", broadcast_to(b.scalar(0, w.w_u.dtype()), {w.w_u.dim(0)}));

  std::vector<std::string> names;
  for (const auto& [name, v] : all) names.push_back(name);
  std::vector<std::string> wanted;
  try {
    wanted = select_sites(sites(patterns), names);
  } catch (const SiteError&) {
    throw GraphError(fmt::format("there are no weights '{}'{}", patterns,
                                 did_you_mean(nearest(patterns, names))));
  }
  Fetch fetched;
  for (const auto& [name, v] : all) {
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
    b.output("weights." + name, in_their_shape(name, v, model.config()));
    fetched.wants.push_back(value("weights." + name));
  }
  const Results results =
      compile(std::move(b).finish(), fetched).run({}, model.parameters(), {.pool = &model.pool()});
  Parameters values;
  for (const std::string& name : wanted) values[name] = results.raw("weights." + name);
  return values;
}

}  // namespace vitrine::nn

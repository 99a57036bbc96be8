#include "nn/model/weights.h"

#include <fmt/format.h>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "nn/model/sites.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::nn {
namespace {

class Reading {
 public:
  Reading(Builder& b, const Config& config) : b_(b), config_(config) {
    for (NodeId id = 0; id < b.next_id(); ++id) {
      if (!b.contains(id)) continue;
      const Node& n = b.node(id);
      if (const auto* rule = std::get_if<HeadsRule>(&n.attributes)) composites_[rule->site] = id;
      if (const auto* rule = std::get_if<NormRule>(&n.attributes);
          rule != nullptr && n.op == &kLayerNorm)
        composites_[rule->prefix] = id;
    }
  }

  WeightValues run() {
    WeightValues w;
    w.w_e = input(made(site::embed(), kGatherRows), 0);
    w.w_pos = input(made(site::pos_embed(), kGatherRows), 0);
    for (int l = 0; l < config_.layers; ++l) w.layers.push_back(layer(l));
    const Node& norm = composite("ln_final");
    w.ln_final_gain = input(norm, 1);
    w.ln_final_bias = input(norm, 2);
    const Node& logits = made(site::unembed_out(), unembedding());
    w.w_u = transposed(logits.inputs[1]);
    if (logits.op == &kLinear) w.b_u = input(logits, 2);
    return w;
  }

 private:
  LayerWeights layer(int l) {
    LayerWeights w;
    const std::string block = fmt::format("blocks.{}.", l);
    const Node& ln1 = composite(block + "ln1");
    w.ln1_gain = input(ln1, 1);
    w.ln1_bias = input(ln1, 2);
    const Node& q = composite(site::q_input(l).name);
    const Node& k = composite(site::k_input(l).name);
    const Node& v = composite(site::v_input(l).name);
    w.w_q = input(q, 1), w.b_q = input(q, 2);
    w.w_k = input(k, 1), w.b_k = input(k, 2);
    w.w_v = input(v, 1), w.b_v = input(v, 2);
    const Node& o = composite(site::result(l).name);
    w.w_o = input(o, 1), w.b_o = input(o, 2);
    const Node& ln2 = composite(block + "ln2");
    w.ln2_gain = input(ln2, 1);
    w.ln2_bias = input(ln2, 2);
    const Node& in = made(site::mlp_pre(l), kLinear);
    w.w_in = input(in, 1), w.b_in = input(in, 2);
    const Node& out = made(site::mlp_out(l), kLinear);
    w.w_out = input(out, 1), w.b_out = input(out, 2);
    return w;
  }

  // The unembedding has a bias in some gauges.
  const OpDef& unembedding() {
    const NodeId id = source(b_.at(site::unembed_out()).id());
    return b_.node(id).op == &kLinear ? kLinear : kMatmul;
  }

  Value input(const Node& n, std::size_t i) { return b_.value(n.inputs[i]); }

  NodeId source(NodeId id) const {  // past identities
    for (;;) {
      const Node& n = b_.node(id);
      if (!passes_on(n)) return id;
      id = n.inputs[0];
    }
  }

  const Node& made(const Site& site, const OpDef& op) {
    const Node& n = b_.node(source(b_.at(site).id()));
    if (n.op != &op) missing(site.name, n.op->name);
    return n;
  }
  const Node& composite(const std::string& name) {
    const auto it = composites_.find(name);
    if (it == composites_.end()) missing(name, "something expanded");
    return b_.node(it->second);
  }
  [[noreturn]] static void missing(std::string_view what, std::string_view found) {
    throw GraphError(
        fmt::format("the weights at '{}' cannot be read off this graph: there is {}; read them "
                    "before the graph is edited or differentiated",
                    what, found));
  }

  Value transposed(NodeId id) {  // of a transpose, what was transposed
    const Node& n = b_.node(id);
    return n.op == &kPermute ? b_.value(n.inputs[0]) : transpose(b_.value(id));
  }

  Builder& b_;
  const Config& config_;
  std::map<std::string, NodeId> composites_;  // by the sites that they hide
};

}  // namespace

WeightValues weights_of(Builder& b, const Config& config) { return Reading(b, config).run(); }

Value unembedded(const WeightValues& w, const Value& x) {
  const Value w_u = transpose(w.w_u);
  return w.b_u.defined() ? linear(x, w_u, w.b_u) : matmul(x, w_u);
}

Value by_head(const Value& w, std::int64_t heads) {
  return permute(reshape(w, {w.dim(0), heads, w.dim(1) / heads}), {1, 0, 2});
}

Parameters weights(const Model& model, std::string_view patterns) {
  const Graph graph = model.build(Model::Uniform{1, 1});
  Builder b(graph);
  const WeightValues w = weights_of(b, model.config());
  const std::int64_t h = model.config().heads;
  std::vector<std::pair<std::string, Value>> all = {{"embed.W_E", w.w_e},
                                                    {"pos_embed.W_pos", w.w_pos}};
  for (std::size_t l = 0; l < w.layers.size(); ++l) {
    const LayerWeights& x = w.layers[l];
    const auto put = [&](const char* name, const Value& v) {
      all.emplace_back(fmt::format("blocks.{}.{}", l, name), v);
    };
    put("ln1.w", x.ln1_gain);
    put("ln1.b", x.ln1_bias);
    const std::int64_t e = x.w_q.dim(1) / h;
    put("attn.W_Q", by_head(x.w_q, h));
    put("attn.W_K", by_head(x.w_k, h));
    put("attn.W_V", by_head(x.w_v, h));
    put("attn.b_Q", reshape(x.b_q, {h, e}));
    put("attn.b_K", reshape(x.b_k, {h, e}));
    put("attn.b_V", reshape(x.b_v, {h, e}));
    put("attn.W_O", reshape(x.w_o, {h, e, x.w_o.dim(1)}));
    put("attn.b_O", x.b_o);
    put("ln2.w", x.ln2_gain);
    put("ln2.b", x.ln2_bias);
    put("mlp.W_in", x.w_in);
    put("mlp.b_in", x.b_in);
    put("mlp.W_out", x.w_out);
    put("mlp.b_out", x.b_out);
  }
  all.emplace_back("ln_final.w", w.ln_final_gain);
  all.emplace_back("ln_final.b", w.ln_final_bias);
  all.emplace_back("unembed.W_U", transpose(w.w_u));
  all.emplace_back("unembed.b_U", w.b_u.defined()
                                      ? w.b_u
                                      : broadcast_to(b.scalar(0, w.w_u.dtype()), {w.w_u.dim(0)}));

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
    b.output("weights." + name, v);
    fetched.wants.push_back(value("weights." + name));
  }
  const Results results =
      compile(std::move(b).finish(), fetched).run({}, model.parameters(), {.pool = &model.pool()});
  Parameters values;
  for (const std::string& name : wanted) values[name] = results.raw("weights." + name);
  return values;
}

}  // namespace vitrine::nn

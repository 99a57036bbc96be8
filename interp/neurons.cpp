#include "interp/neurons.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/linearise.h"
#include "nn/families/sites.h"
#include "nn/model/metrics.h"
#include "nn/model/weights.h"
#include "tensor/error.h"

namespace vitrine::interp {
namespace {

std::string post_name(int layer) { return fmt::format("neurons.{}.activation", layer); }
std::string effect_name(int layer) { return fmt::format("neurons.{}.effect", layer); }
constexpr const char* kStream = "neurons.stream";
constexpr const char* kStreamEffect = "neurons.stream.effect";

void check_layer(const nn::Model& model, int layer) {
  const int layers = model.config().layers;
  if (layer >= 0 && layer < layers) return;
  throw Error(ErrorKind::usage, fmt::format("there is no layer {}; this model has layers 0 to {}",
                                            layer, layers - 1));
}

// The prompt up to the position: what comes later cannot change what is there.
nn::Tokens up_to_position(const nn::Model& model, const nn::Tokens& prompt, int position) {
  nn::check_prompts({prompt}, model.config());
  const auto size = static_cast<int>(prompt.size());
  if (position < -1 || position >= size) {
    throw ContextError(fmt::format("there is no position {}; the prompt has {} token{}, 0 to {}",
                                   position, size, size == 1 ? "" : "s", size - 1));
  }
  return {prompt.begin(), prompt.begin() + (position < 0 ? size : position + 1)};
}

Metric metric_of(const NeuronSpec& spec) {
  return spec.wrong ? nn::logit_diff(nn::Answers(*spec.answer), nn::Answers(*spec.wrong))
                    : nn::logit(nn::Answers(*spec.answer));
}

// The run of the prompt, the shares of its neurons, and of the stream's dimensions:
//
//   d         = d metric / d resid_post[last layer], ln_final's scale held       [d_model]
//   effect    = post * (W_out d)                                                 [neurons]
//
// post, resid and d are those of the last row; the metric reads no other.
class Program {
 public:
  Program(const nn::Model& model, const nn::Tokens& prompt, const NeuronSpec& spec)
      : spec_(spec), last_(static_cast<std::int64_t>(prompt.size()) - 1) {
    Graph graph = model.build(nn::batch_size({prompt}));
    std::vector<NodeId> w_out;  // ids of nodes stay when a graph is changed
    {
      Builder b(graph);
      for (const nn::LayerWeights& w : nn::weights_of(b, model.config()).layers)
        w_out.push_back(w.w_out.id());
      graph = std::move(b).finish();
    }
    const Site final_stream = site::resid_post(model.config().layers - 1);
    if (spec.answer) {
      metric_ = metric_of(spec);
      graph =
          gradient(linearise(graph, {.norm = Policy::detach}), metric_, sites(final_stream.name));
      wanted_.wants.push_back(value(metric_));
    }
    Builder b(graph);
    Value d;
    if (spec.answer) d = last_row(b.output(grad_name(final_stream.name)));  // [1, d_model]
    for (int l = 0; l < model.config().layers; ++l) {
      if (spec.layer && l != *spec.layer) continue;
      const Value post = last_row(b.at(site::mlp_post(l)));  // [1, neurons]
      add(b, post_name(l), post);
      if (!spec.answer) continue;
      const Value toward = matmul(d, transpose(b.value(w_out[static_cast<std::size_t>(l)])));
      add(b, effect_name(l), post * toward);
    }
    const int stream = spec.layer.value_or(model.config().layers - 1);
    const Value resid = last_row(b.at(site::resid_post(stream)));  // [1, d_model]
    add(b, kStream, resid);
    if (spec.answer) add(b, kStreamEffect, resid * d);
    graph_ = std::move(b).finish();
  }

  Results run(const nn::Model& model, const nn::Tokens& prompt) const {
    return model.run_graph(graph_, {prompt}, wanted_, metric_.feeds).results;
  }
  const std::string& metric() const { return metric_.name; }

 private:
  Value last_row(const Value& x) const { return slice(x, 0, last_, last_ + 1); }
  void add(Builder& b, const std::string& name, const Value& x) {
    b.output(name, x);
    wanted_.wants.push_back(value(name));
  }

  const NeuronSpec& spec_;
  std::int64_t last_;
  Metric metric_;
  Fetch wanted_;
  Graph graph_;
};

// The `count` first by size of `key`; of equal ones those that come first.
template <class T, class Key>
void keep_strongest(std::vector<T>& all, int count, Key key) {
  std::stable_sort(all.begin(), all.end(),
                   [&](const T& a, const T& b) { return std::abs(key(a)) > std::abs(key(b)); });
  all.resize(std::min(all.size(), static_cast<std::size_t>(std::max(count, 0))));
}

}  // namespace

void check_neuron(const nn::Model& model, const NeuronId& id) {
  check_layer(model, id.layer);
  const int neurons = model.config().d_mlp;
  if (id.index >= 0 && id.index < neurons) return;
  throw Error(ErrorKind::usage,
              fmt::format("layer {} has no neuron {}; each layer of this model has neurons 0 to {}",
                          id.layer, id.index, neurons - 1));
}

Tensor output_rows(const nn::Model& model, std::span<const NeuronId> ids) {
  for (const NeuronId& id : ids) check_neuron(model, id);
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count == 0) return Tensor::zeros({0, model.config().d_model}, DType::f32);
  Builder b(model.build(nn::Model::Uniform{1, 1}));
  const nn::WeightValues w = nn::weights_of(b, model.config());
  std::vector<Value> w_out;  // one table of all layers' rows
  for (const nn::LayerWeights& layer : w.layers) w_out.push_back(layer.w_out);
  std::vector<std::int32_t> rows;
  for (const NeuronId& id : ids)
    rows.push_back(static_cast<std::int32_t>(id.layer * model.config().d_mlp + id.index));
  b.output("rows", gather_rows_from(w_out, b.input("neurons", {DType::i32, {count}})));
  const Plan plan = model.plans().get(std::move(b).finish(), fetch(value("rows")));
  const Results r = plan.run({{"neurons", Tensor::of({count}, rows)}}, model.parameters(),
                             {.pool = &model.pool()});
  return r.raw("rows").to(DType::f32);
}

std::vector<NeuronTokens> tokens_of(const nn::Model& model, std::span<const NeuronId> ids,
                                    int count) {
  if (ids.empty()) return {};
  const Tensor logits = to_logits(model, output_rows(model, ids));  // [ids, vocabulary]
  std::vector<NeuronTokens> tokens;
  for (std::int64_t i = 0; i < logits.dim(0); ++i) {
    const Tensor row = logits.select(0, i);
    tokens.push_back({highest(row, count), lowest(row, count)});
  }
  return tokens;
}

StrongNeurons strong_neurons(const nn::Model& model, const nn::Tokens& prompt,
                             const NeuronSpec& spec) {
  if (spec.layer) check_layer(model, *spec.layer);
  if (spec.wrong && !spec.answer) {
    throw Error(ErrorKind::usage,
                "there is a wrong answer without an answer: effects are on the logit of the "
                "answer, or on its difference from that of the wrong one; give the answer too");
  }
  const nn::Tokens tokens = up_to_position(model, prompt, spec.position);
  const Program program(model, tokens, spec);
  const Results r = program.run(model, tokens);

  StrongNeurons found;
  found.position = static_cast<int>(tokens.size()) - 1;
  found.stream_layer = spec.layer.value_or(model.config().layers - 1);
  if (spec.answer) found.metric = r.scalar(program.metric());
  for (int l = 0; l < model.config().layers; ++l) {
    if (spec.layer && l != *spec.layer) continue;
    const auto post = r.raw(post_name(l)).to_vector<double>();
    std::vector<double> effect;
    if (spec.answer) effect = r.raw(effect_name(l)).to_vector<double>();
    for (std::size_t i = 0; i < post.size(); ++i) {
      Neuron n{.id = {l, static_cast<int>(i)}, .activation = post[i]};
      if (spec.answer) n.effect = effect[i];
      found.neurons.push_back(std::move(n));
    }
  }
  keep_strongest(found.neurons, spec.neurons,
                 [](const Neuron& n) { return n.effect.value_or(n.activation); });

  std::vector<NeuronId> ids;
  ids.reserve(found.neurons.size());
  for (const Neuron& n : found.neurons) ids.push_back(n.id);
  std::vector<NeuronTokens> words = tokens_of(model, ids, spec.tokens);
  for (std::size_t i = 0; i < words.size(); ++i) {
    found.neurons[i].raised = std::move(words[i].raised);
    found.neurons[i].lowered = std::move(words[i].lowered);
  }

  const auto stream = r.raw(kStream).to_vector<double>();
  std::vector<double> effect;
  if (spec.answer) effect = r.raw(kStreamEffect).to_vector<double>();
  for (std::size_t i = 0; i < stream.size(); ++i) {
    Dimension d{.index = static_cast<int>(i), .value = stream[i]};
    if (spec.answer) d.effect = effect[i];
    found.dimensions.push_back(d);
  }
  keep_strongest(found.dimensions, spec.dimensions, [](const Dimension& d) { return d.value; });
  return found;
}

}  // namespace vitrine::interp

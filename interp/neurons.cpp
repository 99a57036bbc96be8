#include "interp/neurons.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
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

void check_position_of(const nn::Tokens& prompt, int position) {
  const auto size = static_cast<int>(prompt.size());
  if (position >= -1 && position < size) return;
  throw ContextError(fmt::format("there is no position {}; the prompt has {} token{}, 0 to {}",
                                 position, size, size == 1 ? "" : "s", size - 1));
}

// The run of some prompts, the shares of their neurons, and of the stream's dimensions:
//
//   d         = d metric / d resid_post[last layer], ln_final's scale held       [n, d_model]
//   effect    = post * (W_out d)                                                 [n, neurons]
//
// post, resid and d are those of each prompt's last row; the metric reads no other.
class Program {
 public:
  Program(const nn::Model& model, const std::vector<nn::Tokens>& prompts,
          std::span<const Asked> asked, const std::optional<int>& layer)
      : answers_(asked[0].answer.has_value()), n_(std::ssize(prompts)) {
    Graph graph = model.build(nn::batch_size(prompts));
    // What a direction of the stream, [n, d], reads of a layer's neurons: W_out, and the norm behind
    // it where the family has one, its scale held. Ids of nodes stay when a graph is changed.
    struct Out {
      NodeId weights;
      NodeId gain = kNoNode, scale = kNoNode;
    };
    std::vector<Out> outs;
    {
      Builder b(graph);
      const nn::WeightValues weights = nn::weights_of(b, model.config());
      for (std::size_t l = 0; l < weights.layers.size(); ++l) {
        const nn::LayerWeights& w = weights.layers[l];
        outs.push_back({w.w_out.id()});
        if (!w.ln2_post.defined()) continue;
        outs.back().gain = w.ln2_post.gain.id();
        outs.back().scale = b.at(site::ln2_post_scale(static_cast<int>(l))).id();
      }
      graph = std::move(b).finish();
    }
    const Site final_stream = site::resid_post(model.config().layers - 1);
    if (answers_) {
      metric_ = answer_logit(asked);
      graph = with_sum(with_metric(linearise(graph, {.norm = Policy::detach}), metric_), metric_);
      graph = gradient(graph, summed_name(metric_), sites(final_stream.name));
      wanted_.wants.push_back(value(nn::per_prompt_name(metric_)));
    }
    Builder b(graph);
    last_ = b.input("rows.last", {DType::i32, {n_}});
    Value d;
    if (answers_) d = gather_rows(b.output(grad_name(final_stream.name)), last_);  // [n, d_model]
    for (int l = 0; l < model.config().layers; ++l) {
      if (layer && l != *layer) continue;
      const Value post = gather_rows(b.at(site::mlp_post(l)), last_);  // [n, neurons]
      add(b, post_name(l), post);
      if (!answers_) continue;
      const Out& out = outs[static_cast<std::size_t>(l)];
      Value read = d;  // [n, d_model]
      if (out.gain != kNoNode)
        read = d * b.value(out.gain) / gather_rows(b.value(out.scale), last_);
      const Value toward = matmul(read, transpose(b.value(out.weights)));
      add(b, effect_name(l), post * toward);
    }
    const int stream = layer.value_or(model.config().layers - 1);
    const Value resid = gather_rows(b.at(site::resid_post(stream)), last_);  // [n, d_model]
    add(b, kStream, resid);
    if (answers_) add(b, kStreamEffect, resid * d);
    graph_ = std::move(b).finish();
    feeds_ = metric_.feeds;
    feeds_.merge(rows_asked(model, asked));
  }

  Results run(const nn::Model& model, const std::vector<nn::Tokens>& prompts) const {
    return model.run_graph(graph_, prompts, wanted_, feeds_).results;
  }

 private:
  void add(Builder& b, const std::string& name, const Value& x) {
    b.output(name, x);
    wanted_.wants.push_back(value(name));
  }

  bool answers_;
  std::int64_t n_;
  Value last_;
  Metric metric_;
  Feeds feeds_;
  Fetch wanted_;
  Graph graph_;
};

// What a prompt's run gave. Effects and the metric are there with an answer alone.
struct NeuronShares {
  std::vector<double> activation, effect;  // of the neurons of all layers asked for, in order
  std::vector<double> stream, stream_effect;
  double metric = 0;
};

// Calls each(i, what prompt i gave) in order.
template <class F>
void run_programs(const nn::Model& model, std::span<const Asked> asked, const NeuronSpec& spec,
                  const F& each) {
  if (spec.layer) check_layer(model, *spec.layer);
  check_asked(model, asked, false);
  const bool answers = asked[0].answer.has_value();
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (asked[i].answer.has_value() == answers) continue;
    throw Error(ErrorKind::usage,
                fmt::format("prompt {} has {} answer and prompt 0 has {}: effects are measured on "
                            "all prompts or on none; give every prompt an answer",
                            i, answers ? "no" : "an", answers ? "one" : "none"));
  }
  const std::vector<nn::Tokens> prompts = prompts_to_run(model, asked);
  for (const auto& [begin, end] : batches(prompts, limits_of_logits(model))) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    const Program program(model, some, asked.subspan(begin, end - begin), spec.layer);
    const Results r = program.run(model, some);
    const auto row = [&](const std::string& name, std::size_t i, std::vector<double>& onto) {
      const auto x = r.raw(name).select(0, static_cast<std::int64_t>(i)).to_vector<double>();
      onto.insert(onto.end(), x.begin(), x.end());
    };
    for (std::size_t i = 0; i < some.size(); ++i) {
      NeuronShares s;
      for (int l = 0; l < model.config().layers; ++l) {
        if (spec.layer && l != *spec.layer) continue;
        row(post_name(l), i, s.activation);
        if (answers) row(effect_name(l), i, s.effect);
      }
      row(kStream, i, s.stream);
      if (answers) {
        row(kStreamEffect, i, s.stream_effect);
        s.metric = r.raw("answer_logit_per_prompt")
                       .select(0, static_cast<std::int64_t>(i))
                       .to_vector<double>()[0];
      }
      each(begin + i, s);
    }
  }
}

// The neuron with this number, of those of all layers or of one.
NeuronId numbered(const nn::Model& model, const NeuronSpec& spec, std::size_t number) {
  const auto m = static_cast<std::size_t>(model.config().d_mlp);
  return {spec.layer ? *spec.layer : static_cast<int>(number / m), static_cast<int>(number % m)};
}

// Running means of many series of numbers at once (Welford 1962).
class Means {
 public:
  void add(const std::vector<double>& x) {
    mean_.resize(x.size());
    squares_.resize(x.size());
    const double share = 1.0 / static_cast<double>(++count_);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double off = x[i] - mean_[i];
      mean_[i] += off * share;
      squares_[i] += off * (x[i] - mean_[i]);
    }
  }
  std::size_t size() const { return mean_.size(); }
  double mean(std::size_t i) const { return mean_[i]; }
  Statistic at(std::size_t i) const {
    const auto n = static_cast<double>(count_);
    return {mean_[i], std::sqrt(squares_[i] / (n - 1) / n), count_};  // NaN of one: 0 / 0
  }

 private:
  std::vector<double> mean_, squares_;
  std::int64_t count_ = 0;
};

// Of n numbers key(0), ..., the places of the `count` largest by size; of equal ones those that come
// first.
template <class Key>
std::vector<std::size_t> strongest_places(std::size_t n, int count, const Key& key) {
  std::vector<std::pair<double, std::size_t>> order;
  order.reserve(n);
  for (std::size_t i = 0; i < n; ++i) order.emplace_back(-std::abs(key(i)), i);
  const auto kept = std::min(n, static_cast<std::size_t>(std::max(count, 0)));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end());
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < kept; ++i) places.push_back(order[i].second);
  return places;
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
  for (const nn::LayerWeights& layer : w.layers)
    w_out.push_back(layer.ln2_post.defined() ? nn::unscaled(layer.w_out, layer.ln2_post)
                                             : layer.w_out);
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

namespace {

// Fills in the tokens of neurons in several lists, each neuron once.
template <class T>
void name_tokens(const nn::Model& model, const std::vector<std::vector<T>*>& lists, int count) {
  if (count <= 0) return;
  std::map<std::pair<int, int>, std::size_t> places;
  std::vector<NeuronId> ids;
  for (const std::vector<T>* list : lists) {
    for (const T& n : *list) {
      if (places.emplace(std::pair(n.id.layer, n.id.index), ids.size()).second) ids.push_back(n.id);
    }
  }
  const std::vector<NeuronTokens> words = tokens_of(model, ids, count);
  for (std::vector<T>* list : lists) {
    for (T& n : *list) {
      const NeuronTokens& of = words[places.at({n.id.layer, n.id.index})];
      n.raised = of.raised;
      n.lowered = of.lowered;
    }
  }
}

StrongNeurons strongest_of(const nn::Model& model, const Asked& asked, const NeuronSpec& spec,
                           const NeuronShares& s) {
  StrongNeurons found;
  found.position = static_cast<int>(row_asked(asked));
  found.stream_layer = spec.layer.value_or(model.config().layers - 1);
  if (asked.answer) found.metric = s.metric;
  const std::vector<double>& strength = asked.answer ? s.effect : s.activation;
  for (const std::size_t i : strongest_places(strength.size(), spec.neurons,
                                              [&](std::size_t k) { return strength[k]; })) {
    Neuron n{.id = numbered(model, spec, i), .activation = s.activation[i]};
    if (asked.answer) n.effect = s.effect[i];
    found.neurons.push_back(std::move(n));
  }
  for (const std::size_t i : strongest_places(s.stream.size(), spec.dimensions,
                                              [&](std::size_t k) { return s.stream[k]; })) {
    Dimension d{.index = static_cast<int>(i), .value = s.stream[i]};
    if (asked.answer) d.effect = s.stream_effect[i];
    found.dimensions.push_back(d);
  }
  return found;
}

}  // namespace

std::vector<StrongNeurons> strong_neurons_each(const nn::Model& model, std::span<const Asked> asked,
                                               const NeuronSpec& spec) {
  std::vector<StrongNeurons> all;
  run_programs(model, asked, spec, [&](std::size_t i, const NeuronShares& s) {
    all.push_back(strongest_of(model, asked[i], spec, s));
  });
  std::vector<std::vector<Neuron>*> lists;
  lists.reserve(all.size());
  for (StrongNeurons& s : all) lists.push_back(&s.neurons);
  name_tokens(model, lists, spec.tokens);
  return all;
}

StrongNeurons strong_neurons(const nn::Model& model, const nn::Tokens& prompt,
                             const NeuronSpec& spec) {
  nn::check_prompts({prompt}, model.config());
  check_position_of(prompt, spec.position);
  const Asked one{prompt, spec.position, spec.answer, spec.wrong};
  return std::move(strong_neurons_each(model, {&one, 1}, spec)[0]);
}

namespace {

// What the prompts of a group add up to.
struct GroupShares {
  Means activation, effect, stream, stream_effect;
  std::vector<double> metric;

  void add(const NeuronShares& s, bool answer) {
    activation.add(s.activation);
    effect.add(s.effect);
    stream.add(s.stream);
    stream_effect.add(s.stream_effect);
    if (answer) metric.push_back(s.metric);
  }
  NeuronsOver over(const nn::Model& model, const NeuronSpec& spec) const {
    const bool answers = !metric.empty();
    NeuronsOver found;
    found.stream_layer = spec.layer.value_or(model.config().layers - 1);
    if (answers) found.metric = statistic(metric);
    const Means& strength = answers ? effect : activation;
    for (const std::size_t i : strongest_places(strength.size(), spec.neurons,
                                                [&](std::size_t k) { return strength.mean(k); })) {
      MeanNeuron n{.id = numbered(model, spec, i), .activation = activation.at(i)};
      if (answers) n.effect = effect.at(i);
      found.neurons.push_back(std::move(n));
    }
    for (const std::size_t i : strongest_places(stream.size(), spec.dimensions,
                                                [&](std::size_t k) { return stream.mean(k); })) {
      MeanDimension d{.index = static_cast<int>(i), .value = stream.at(i)};
      if (answers) d.effect = stream_effect.at(i);
      found.dimensions.push_back(d);
    }
    return found;
  }
};

// The groups that each prompt is in.
std::vector<std::vector<std::size_t>> groups_of_prompts(std::size_t prompts,
                                                        std::span<const PromptGroup> groups) {
  std::vector<std::vector<std::size_t>> in(prompts);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].members.empty())
      throw Error(ErrorKind::usage, fmt::format("group {} has no prompts", g));
    for (const std::size_t i : groups[g].members) {
      if (i >= prompts)
        throw Error(ErrorKind::usage,
                    fmt::format("group {} has prompt {}, but there are {} prompts", g, i, prompts));
      in[i].push_back(g);
    }
  }
  return in;
}

}  // namespace

NeuronsByGroup strong_neurons_by_group(const nn::Model& model, std::span<const Asked> asked,
                                       std::span<const PromptGroup> groups,
                                       const NeuronSpec& spec) {
  const auto in = groups_of_prompts(asked.size(), groups);
  std::vector<GroupShares> shares(groups.size());
  NeuronsByGroup found;
  run_programs(model, asked, spec, [&](std::size_t i, const NeuronShares& s) {
    for (const std::size_t g : in[i]) shares[g].add(s, asked[i].answer.has_value());
    found.each.push_back(strongest_of(model, asked[i], spec, s));
  });
  std::vector<std::vector<MeanNeuron>*> lists;
  for (const GroupShares& g : shares) found.groups.push_back(g.over(model, spec));
  for (NeuronsOver& g : found.groups) lists.push_back(&g.neurons);
  name_tokens(model, lists, spec.tokens);
  return found;
}

NeuronsOver strong_neurons_over(const nn::Model& model, std::span<const Asked> asked,
                                const NeuronSpec& spec) {
  PromptGroup all{"", std::vector<std::size_t>(asked.size())};
  std::iota(all.members.begin(), all.members.end(), std::size_t{0});
  if (asked.empty()) check_asked(model, asked, false);  // says what is wrong with that
  return std::move(strong_neurons_by_group(model, asked, {&all, 1}, spec).groups[0]);
}

}  // namespace vitrine::interp

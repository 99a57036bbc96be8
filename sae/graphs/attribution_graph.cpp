#include "sae/graphs/attribution_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "nn/families/sites.h"
#include "nn/model/sampling.h"
#include "nn/model/weights.h"
#include "sae/graphs/backward.h"
#include "sae/graphs/replacement_model.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

// ---- what is refused ----------------------------------------------------------------------------
void check(const nn::Model& model, const TranscoderSet& set) {
  const nn::Config& c = model.config();
  const Graph graph = model.build(nn::BatchSize{1, 1, 1});
  const auto refuse = [](const char* what) {
    throw ConfigError(fmt::format("attribution graphs are not made of a model with {}", what));
  };
  if (c.parallel) refuse("attention and MLP side by side");
  if (c.logit_cap != 0) refuse("a soft cap of its logits");
  if (graph.find_site(site::ln1_post_scale(0).name) != nullptr)
    refuse("norms behind attention and MLP");
  if (std::ssize(set.layers) != c.layers)
    throw ShapeError(fmt::format("{}: transcoders of {} layers, and the model has {}", set.name,
                                 set.layers.size(), c.layers));
  if (set.width() != c.d_model)
    throw ShapeError(fmt::format("{}: transcoders of width {}, and the model is {} wide", set.name,
                                 set.width(), c.d_model));
}

// ---- features and errors ------------------------------------------------------------------------
void find_features(const nn::Model& model, const TranscoderSet& set, const LinearModel& linear,
                   const Recorded& recorded, bool zero_first, AttributionGraph& graph) {
  for (int l = 0; l < graph.layers; ++l) {
    const Tensor x = normed(linear.blocks[static_cast<std::size_t>(l)].ln2,
                            recorded.at(site::ln2_normalized(l)));
    const Tensor h = pre_activations(set, static_cast<std::size_t>(l), x, model.pool()),
                 a = activations(set, static_cast<std::size_t>(l), h);
    for (std::int64_t p = zero_first ? 1 : 0; p < a.dim(0); ++p) {
      for (std::int64_t j = 0; j < a.dim(1); ++j) {
        const float act = a.data<float>()[p * a.dim(1) + j];
        if (act != 0) graph.features.push_back({l, p, j, act, h.data<float>()[p * a.dim(1) + j]});
      }
    }
  }
}

// The features that write to the MLP output of a block, by position.
using Writers = std::vector<std::vector<std::size_t>>;
Writers writers_to(const AttributionGraph& graph, const TranscoderSet& set, int block) {
  Writers writers(static_cast<std::size_t>(graph.positions()));
  for (std::size_t i = 0; i < graph.features.size(); ++i) {
    const ActiveFeature& f = graph.features[i];
    if (f.layer == block || (set.cross_layer && f.layer < block))
      writers[static_cast<std::size_t>(f.position)].push_back(i);
  }
  return writers;
}

// [T, the most of a position, d]: what each of them writes there.
Tensor written_by(const AttributionGraph& graph, const TranscoderSet& set, int block,
                  const Writers& writers) {
  std::size_t most = 1;
  for (const auto& here : writers) most = std::max(most, here.size());
  const std::int64_t d = set.width();
  const Tensor written =
      Tensor::zeros({graph.positions(), static_cast<std::int64_t>(most), d}, DType::f32);
  for (std::size_t p = 0; p < writers.size(); ++p) {
    for (std::size_t i = 0; i < writers[p].size(); ++i) {
      const ActiveFeature& f = graph.features[writers[p][i]];
      const Tensor& decoder = set.layers[static_cast<std::size_t>(f.layer)]
                                  .w_dec[static_cast<std::size_t>(block - f.layer)];
      const float* from = decoder.data<float>() + f.feature * d;
      float* to = written.data<float>() + (static_cast<std::int64_t>(p * most + i)) * d;
      for (std::int64_t k = 0; k < d; ++k) to[k] = static_cast<float>(f.activation) * from[k];
    }
  }
  return written;
}

// x W^T, [T, d].
Tensor skipped(const Tensor& x, const Tensor& w) {
  const Tensor out = Tensor::zeros({x.dim(0), w.dim(0)}, DType::f32);
  for (std::int64_t t = 0; t < x.dim(0); ++t) {
    for (std::int64_t i = 0; i < w.dim(0); ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < w.dim(1); ++j)
        sum += static_cast<double>(w.data<float>()[i * w.dim(1) + j]) *
               x.data<float>()[t * w.dim(1) + j];
      out.data<float>()[t * w.dim(0) + i] = static_cast<float>(sum);
    }
  }
  return out;
}

// Fills in what the MLPs of the replacement model give.
void replace_mlps(const TranscoderSet& set, const Recorded& recorded, bool zero_first,
                  const std::vector<Writers>& writers, AttributionGraph& graph,
                  LinearModel& linear) {
  const std::int64_t positions = graph.positions(), d = set.width();
  graph.error = Tensor::zeros({graph.layers, positions, d}, DType::f32);
  for (int l = 0; l < graph.layers; ++l) {
    const auto at = static_cast<std::size_t>(l);
    LinearBlock& block = linear.blocks[at];
    const TranscoderLayer& t = set.layers[at];
    block.sources = written_by(graph, set, l, writers[at]);
    block.w_skip = t.w_skip;
    const Tensor out = recorded.at(site::mlp_out(l));
    const Tensor skip =
        t.w_skip.defined()
            ? skipped(normed(block.ln2, recorded.at(site::ln2_normalized(l))), t.w_skip)
            : Tensor::zeros(out.shape(), DType::f32);
    block.constant = Tensor::empty({positions, d}, DType::f32);
    block.error = graph.error.select(0, l);
    for (std::int64_t p = 0; p < positions; ++p) {
      const bool constant = zero_first && p == 0;
      for (std::int64_t k = 0; k < d; ++k) {
        const std::int64_t i = p * d + k;
        const double rest = static_cast<double>(out.data<float>()[i]) - skip.data<float>()[i];
        double features = 0;
        for (std::int64_t s = 0; s < block.sources.dim(1); ++s)
          features += block.sources.data<float>()[(p * block.sources.dim(1) + s) * d + k];
        const float bias = t.b_dec.data<float>()[k];
        block.constant.data<float>()[i] = constant ? static_cast<float>(rest) : bias;
        graph.error.data<float>()[l * positions * d + i] =
            constant ? 0 : static_cast<float>(rest - features - bias);
      }
    }
    block.error = graph.error.select(0, l).contiguous();
  }
}

// ---- logits -------------------------------------------------------------------------------------
void choose_logits(const Tensor& logits, const AttributionGraphSpec& spec,
                   AttributionGraph& graph) {
  const std::vector<float> all = logits.to_vector<float>();
  double so_far = 0;
  for (const nn::Candidate& c : nn::top_tokens(all, spec.logits)) {
    graph.logit_tokens.push_back(c.id);
    graph.logit_probabilities.push_back(c.probability);
    so_far += c.probability;
    if (so_far >= spec.probability) break;
  }
}

// ---- rows ---------------------------------------------------------------------------------------
// The model up to a position: what comes later has no part in a target there.
Tensor first_rows(const Tensor& x, std::int64_t n) {
  return x.defined() ? x.slice(0, 0, n).contiguous() : x;
}
LinearModel up_to(const LinearModel& model, std::int64_t n) {
  LinearModel cut = model;
  cut.token = first_rows(model.token, n);
  cut.position = first_rows(model.position, n);
  cut.final.scale = first_rows(model.final.scale, n);
  for (LinearBlock& b : cut.blocks) {
    b.ln1.scale = first_rows(b.ln1.scale, n);
    b.ln2.scale = first_rows(b.ln2.scale, n);
    b.pattern = b.pattern.slice(1, 0, n).slice(2, 0, n).contiguous();
    b.error = first_rows(b.error, n);
    b.constant = first_rows(b.constant, n);
    b.sources = first_rows(b.sources, n);
  }
  return cut;
}

class Attributor {
 public:
  Attributor(const nn::Model& model, const LinearModel& linear, const std::vector<Writers>& writers,
             const AttributionGraphSpec& spec, AttributionGraph& graph)
      : model_(model), linear_(linear), writers_(writers), spec_(spec), graph_(graph) {
    graph_.rows.resize(graph_.features.size() + graph_.logit_tokens.size());
    graph_.constant.resize(graph_.rows.size());
    graph_.position_effect =
        Tensor::zeros({std::ssize(graph_.rows), graph_.positions()}, DType::f32);
  }

  // Targets `numbers`, whose directions are rows of a table, all read in one layer, by position in increasing order.
  void run(std::size_t layer, const std::vector<std::size_t>& numbers,
           const std::vector<std::int64_t>& positions, const Tensor& directions) {
    const std::int64_t d = directions.dim(1), all = std::ssize(numbers),
                       step = std::min(spec_.targets, all);
    for (std::int64_t first = 0; first < all; first += step) {
      const std::int64_t count = std::min(step, all - first);
      // As many as in the passes before, so that one program serves all: what is missing is nothing.
      Targets targets{.layer = layer,
                      .directions = Tensor::zeros({step, d}, DType::f32),
                      .positions = std::vector<std::int64_t>(static_cast<std::size_t>(step), 0)};
      std::copy_n(directions.data<float>() + first * d, count * d,
                  targets.directions.data<float>());
      std::copy_n(positions.begin() + first, count, targets.positions.begin());
      if (spec_.cancel != nullptr && *spec_.cancel) throw InterruptedError("interrupted");
      const std::int64_t length =
          rounded(targets.positions[static_cast<std::size_t>(count - 1)] + 1);
      const Gradients found = gradients_of(cut_to(length), targets, model_);
      for (std::int64_t i = 0; i < count; ++i)
        keep(numbers[static_cast<std::size_t>(first + i)], found, i, length);
      done_ += count;
      if (spec_.progress) spec_.progress(done_, std::ssize(graph_.rows));
    }
  }

 private:
  // Few lengths, so that there are few programs.
  std::int64_t rounded(std::int64_t length) const {
    constexpr std::int64_t kStep = 32;
    return std::min((length + kStep - 1) / kStep * kStep, graph_.positions());
  }
  const LinearModel& cut_to(std::int64_t length) {
    if (length == graph_.positions()) return linear_;
    const auto known = cuts_.find(length);
    return known != cuts_.end() ? known->second
                                : cuts_.emplace(length, up_to(linear_, length)).first->second;
  }

  void keep(std::size_t target, const Gradients& g, std::int64_t column, std::int64_t length) {
    std::vector<double> row(static_cast<std::size_t>(graph_.nodes()), 0.0);
    const std::int64_t positions = graph_.positions();
    for (std::size_t i = 0; i < g.of_sources.size(); ++i) {
      const std::size_t block = g.first_block - i;
      const Tensor& s = g.of_sources[i];  // [T, sources, targets]
      for (std::int64_t p = 0; p < length; ++p) {
        const auto& here = writers_[block][static_cast<std::size_t>(p)];
        for (std::size_t k = 0; k < here.size(); ++k)
          row[here[k]] +=
              s.data<float>()[(p * s.dim(1) + static_cast<std::int64_t>(k)) * s.dim(2) + column];
        const std::int64_t error =
            graph_.first_error() + static_cast<std::int64_t>(block) * positions + p;
        row[static_cast<std::size_t>(error)] += g.of_errors[i].data<float>()[column * length + p];
      }
    }
    for (std::int64_t p = 0; p < length; ++p) {
      row[static_cast<std::size_t>(graph_.first_token() + p)] +=
          g.of_tokens.data<float>()[column * length + p];
      if (g.of_positions.defined())
        graph_.position_effect.data<float>()[static_cast<std::int64_t>(target) * positions + p] =
            g.of_positions.data<float>()[column * length + p];
    }
    graph_.constant[target] = g.constant.data<float>()[column];
    AttributionRow& kept = graph_.rows[target];
    for (std::size_t s = 0; s < row.size(); ++s) {
      if (row[s] == 0) continue;
      kept.sources.push_back(static_cast<std::int32_t>(s));
      kept.weights.push_back(static_cast<float>(row[s]));
    }
  }

  const nn::Model& model_;
  const LinearModel& linear_;
  const std::vector<Writers>& writers_;
  const AttributionGraphSpec& spec_;
  AttributionGraph& graph_;
  std::map<std::int64_t, LinearModel> cuts_;
  std::int64_t done_ = 0;
};

// The features of a layer as targets.
void attribute_features(const TranscoderSet& set, int layer, Attributor& attributor,
                        AttributionGraph& graph) {
  std::vector<std::size_t> numbers;
  std::vector<std::int64_t> positions;
  const std::int64_t d = set.width();
  for (std::size_t i = 0; i < graph.features.size(); ++i) {
    if (graph.features[i].layer != layer) continue;
    numbers.push_back(i);
    positions.push_back(graph.features[i].position);
  }
  if (numbers.empty()) return;
  const TranscoderLayer& t = set.layers[static_cast<std::size_t>(layer)];
  const Tensor directions = Tensor::empty({std::ssize(numbers), d}, DType::f32);
  for (std::size_t k = 0; k < numbers.size(); ++k) {
    const ActiveFeature& f = graph.features[numbers[k]];
    std::copy_n(t.w_enc.data<float>() + f.feature * d, d,
                directions.data<float>() + static_cast<std::int64_t>(k) * d);
    graph.target_value.push_back(f.pre - t.b_enc.data<float>()[f.feature]);
  }
  attributor.run(static_cast<std::size_t>(layer), numbers, positions, directions);
}

void attribute_logits(const nn::Model& model, const LinearModel& linear, const Recorded& recorded,
                      Attributor& attributor, AttributionGraph& graph) {
  const Tensor directions = logit_directions(model, graph.logit_tokens);
  const Tensor final = normed(linear.final, recorded.at(site::final_normalized()));  // [T, d]
  const std::int64_t d = final.dim(1), last = graph.positions() - 1;
  std::vector<std::size_t> numbers;
  for (std::size_t i = 0; i < graph.logit_tokens.size(); ++i) {
    double value = 0;
    for (std::int64_t k = 0; k < d; ++k)
      value += static_cast<double>(directions.data<float>()[static_cast<std::int64_t>(i) * d + k]) *
               final.data<float>()[last * d + k];
    graph.target_value.push_back(value);
    numbers.push_back(graph.features.size() + i);
  }
  attributor.run(linear.blocks.size(), numbers, std::vector<std::int64_t>(numbers.size(), last),
                 directions);
}

}  // namespace

Tensor AttributionGraph::adjacency() const {
  const Tensor dense = Tensor::zeros({targets(), nodes()}, DType::f32);
  for (std::int64_t t = 0; t < targets(); ++t) {
    const AttributionRow& row = rows[static_cast<std::size_t>(t)];
    for (std::size_t i = 0; i < row.sources.size(); ++i)
      dense.data<float>()[t * nodes() + row.sources[i]] = row.weights[i];
  }
  return dense;
}

double AttributionGraph::closure() const {
  double largest = 0;
  for (std::size_t t = 0; t < rows.size(); ++t) {
    double sum = std::accumulate(rows[t].weights.begin(), rows[t].weights.end(), constant[t]);
    for (std::int64_t p = 0; p < positions(); ++p)
      sum += position_effect.data<float>()[static_cast<std::int64_t>(t) * positions() + p];
    largest = std::max(largest, std::abs(sum - target_value[t]));
  }
  return largest;
}

double AttributionGraph::largest_target() const {
  double largest = 0;
  for (const double x : target_value) largest = std::max(largest, std::abs(x));
  return largest;
}

AttributionGraph attribution_graph(const nn::Model& model, const TranscoderSet& set,
                                   const nn::Tokens& prompt, const AttributionGraphSpec& spec) {
  check(model, set);
  const Recorded recorded = record(model, prompt);
  LinearModel linear = linear_model(model, recorded);
  read_as_trained(set, linear);
  AttributionGraph graph{.prompt = prompt, .layers = model.config().layers};
  find_features(model, set, linear, recorded, spec.zero_first, graph);
  choose_logits(recorded.run.last_logits().select(0, 0), spec, graph);
  std::vector<Writers> writers;
  writers.reserve(set.layers.size());
  for (int l = 0; l < graph.layers; ++l) writers.push_back(writers_to(graph, set, l));
  replace_mlps(set, recorded, spec.zero_first, writers, graph, linear);
  Attributor attributor(model, linear, writers, spec, graph);
  for (int l = 0; l < graph.layers; ++l) attribute_features(set, l, attributor, graph);
  attribute_logits(model, linear, recorded, attributor, graph);
  return graph;
}

}  // namespace vitrine::sae

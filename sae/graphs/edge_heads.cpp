#include "sae/graphs/edge_heads.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/graphs/node_names.h"
#include "sae/graphs/replacement_model.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

// [T, d] in f64.
struct Rows {
  std::int64_t rows = 0, width = 0;
  std::vector<double> values;
  Rows(std::int64_t n, std::int64_t d)
      : rows(n), width(d), values(static_cast<std::size_t>(n * d), 0.0) {}
  double* row(std::int64_t i) { return values.data() + i * width; }
  const double* row(std::int64_t i) const { return values.data() + i * width; }
  void add(const Rows& other) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += other.values[i];
  }
};

// x W of f32 W [in, out], or x W^T of W [out, in].
Rows times(const Rows& x, const Tensor& w, bool transposed = false) {
  const std::int64_t in = transposed ? w.dim(1) : w.dim(0), out = transposed ? w.dim(0) : w.dim(1);
  Rows y(x.rows, out);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t i = 0; i < in; ++i) {
      const double xi = x.row(t)[i];
      if (xi == 0) continue;
      for (std::int64_t j = 0; j < out; ++j)
        y.row(t)[j] += xi * w.data<float>()[transposed ? j * in + i : i * out + j];
    }
  }
  return y;
}

// The replacement model as a linear map of the stream, forwards and backwards, one source and one target.
class LinearStream {
 public:
  explicit LinearStream(const LinearModel& model)
      : model_(model), t_(model.token.dim(0)), d_(model.token.dim(1)) {}

  // What the norm gives of x, without its bias.
  Rows through_norm(const LinearBlock::Norm& norm, const Rows& x) const {
    Rows y(x.rows, d_);
    for (std::int64_t t = 0; t < x.rows; ++t) {
      const double mean = norm.centred ? mean_of(x.row(t)) : 0;
      for (std::int64_t k = 0; k < d_; ++k)
        y.row(t)[k] =
            (x.row(t)[k] - mean) * norm.gain.data<float>()[k] / norm.scale.data<float>()[t];
    }
    return y;
  }
  Rows back_through_norm(const LinearBlock::Norm& norm, const Rows& g) const {
    Rows y(g.rows, d_);
    for (std::int64_t t = 0; t < g.rows; ++t) {
      for (std::int64_t k = 0; k < d_; ++k)
        y.row(t)[k] = g.row(t)[k] * norm.gain.data<float>()[k] / norm.scale.data<float>()[t];
      const double mean = norm.centred ? mean_of(y.row(t)) : 0;
      for (std::int64_t k = 0; k < d_; ++k) y.row(t)[k] -= mean;
    }
    return y;
  }

  Rows skip(std::size_t m, const Rows& x) const {
    const LinearBlock& b = model_.blocks[m];
    if (!b.w_skip.defined()) return Rows(t_, d_);
    return times(through_norm(b.ln2, x), b.w_skip, true);
  }
  Rows back_through_skip(std::size_t m, const Rows& g) const {
    const LinearBlock& b = model_.blocks[m];
    if (!b.w_skip.defined()) return Rows(t_, d_);
    return back_through_norm(b.ln2, times(g, b.w_skip));
  }

  // The values of all groups of heads: [T, groups e].
  Rows heads_values(std::size_t m, const Rows& x) const {
    return times(through_norm(model_.blocks[m].ln1, x), model_.blocks[m].w_v);
  }
  // The gradient at each head's mixed values: [T, heads e].
  Rows back_to_heads(std::size_t m, const Rows& g) const {
    return times(g, model_.blocks[m].w_o, true);
  }
  // What head h gives at `query` of `key`, seen by the gradient.
  double carried(std::size_t m, const Rows& values, const Rows& back, int h, std::int64_t query,
                 std::int64_t key) const {
    const std::int64_t e = width_of_head(m);
    const double* v = values.row(key) + h / (model_.heads / model_.groups) * e;
    const double* g = back.row(query) + h * e;
    return pattern(m, h, query, key) * std::inner_product(v, v + e, g, 0.0);
  }
  Rows attention(std::size_t m, const Rows& x) const {
    const Rows values = heads_values(m, x);
    const std::int64_t e = width_of_head(m);
    Rows z(t_, model_.heads * e);
    for (int h = 0; h < model_.heads; ++h) {
      const std::int64_t group = h / (model_.heads / model_.groups);
      for (std::int64_t q = 0; q < t_; ++q) {
        for (std::int64_t k = 0; k <= q; ++k) {
          for (std::int64_t i = 0; i < e; ++i)
            z.row(q)[h * e + i] += pattern(m, h, q, k) * values.row(k)[group * e + i];
        }
      }
    }
    return times(z, model_.blocks[m].w_o);
  }
  Rows back_through_attention(std::size_t m, const Rows& g) const {
    const Rows back = back_to_heads(m, g);
    const std::int64_t e = width_of_head(m);
    Rows v(t_, model_.groups * e);
    for (int h = 0; h < model_.heads; ++h) {
      const std::int64_t group = h / (model_.heads / model_.groups);
      for (std::int64_t q = 0; q < t_; ++q) {
        for (std::int64_t k = 0; k <= q; ++k) {
          for (std::int64_t i = 0; i < e; ++i)
            v.row(k)[group * e + i] += pattern(m, h, q, k) * back.row(q)[h * e + i];
        }
      }
    }
    return back_through_norm(model_.blocks[m].ln1, times(v, model_.blocks[m].w_v, true));
  }

  std::int64_t positions() const { return t_; }
  std::int64_t width() const { return d_; }

 private:
  double mean_of(const double* row) const {
    return std::accumulate(row, row + d_, 0.0) / static_cast<double>(d_);
  }
  std::int64_t width_of_head(std::size_t m) const {
    return model_.blocks[m].w_o.dim(0) / model_.heads;
  }
  double pattern(std::size_t m, int h, std::int64_t q, std::int64_t k) const {
    return model_.blocks[m].pattern.data<float>()[(h * t_ + q) * t_ + k];
  }

  const LinearModel& model_;
  std::int64_t t_, d_;
};

double sum_of_products(const Rows& a, const Rows& b) {
  return std::inner_product(a.values.begin(), a.values.end(), b.values.begin(), 0.0);
}

// What a source gives: to the stream before the first block, or to the output of each MLP.
struct SourceWrites {
  Rows embedded;
  std::vector<Rows> mlps;
};

SourceWrites writes_of(const TranscoderSet& set, const AttributionGraph& graph,
                       const LinearModel& model, std::int64_t source) {
  const std::int64_t t = graph.positions(), d = set.width();
  SourceWrites w{Rows(t, d), std::vector<Rows>(model.blocks.size(), Rows(t, d))};
  const auto put = [&](Rows& to, std::int64_t position, const float* vector, double times) {
    for (std::int64_t k = 0; k < d; ++k) to.row(position)[k] = times * vector[k];
  };
  if (source < graph.first_error()) {
    const ActiveFeature& f = graph.features[static_cast<std::size_t>(source)];
    const auto& decoders = set.layers[static_cast<std::size_t>(f.layer)].w_dec;
    for (std::size_t j = 0; j < decoders.size(); ++j)
      put(w.mlps[static_cast<std::size_t>(f.layer) + j], f.position,
          decoders[j].data<float>() + f.feature * d, f.activation);
  } else if (source < graph.first_token()) {
    const std::int64_t error = source - graph.first_error();
    put(w.mlps[static_cast<std::size_t>(error / t)], error % t,
        graph.error.data<float>() + error * d, 1);
  } else {
    const std::int64_t position = source - graph.first_token();
    put(w.embedded, position, model.token.data<float>() + position * d, 1);
  }
  return w;
}

// Where a target is read: behind attention of block `layer`, or behind all blocks; and the gradient there.
struct TargetRead {
  std::size_t layer = 0;
  Rows gradient;
};

TargetRead read_of(const nn::Model& model, const TranscoderSet& set, const AttributionGraph& graph,
                   const LinearModel& linear, const LinearStream& stream, std::int64_t target) {
  Rows direction(graph.positions(), set.width());
  if (target >= graph.first_logit()) {
    const Tensor w = logit_directions(
        model, {graph.logit_tokens[static_cast<std::size_t>(target - graph.first_logit())]});
    std::copy_n(w.data<float>(), set.width(), direction.row(graph.positions() - 1));
    return {linear.blocks.size(), stream.back_through_norm(linear.final, direction)};
  }
  const ActiveFeature& f = graph.features[static_cast<std::size_t>(target)];
  const auto layer = static_cast<std::size_t>(f.layer);
  std::copy_n(set.layers[layer].w_enc.data<float>() + f.feature * set.width(), set.width(),
              direction.row(f.position));
  return {layer, stream.back_through_norm(linear.blocks[layer].ln2, direction)};
}

void check_ends(const AttributionGraph& graph, std::int64_t source, std::int64_t target) {
  for (const std::int64_t n : {source, target}) {
    if (n < 0 || n >= graph.nodes())
      throw Error(ErrorKind::usage,
                  fmt::format("there is no node {}; there are 0 to {}", n, graph.nodes() - 1));
  }
  if (source >= graph.first_logit())
    throw Error(ErrorKind::usage,
                fmt::format("no edge begins at the logit {}", node_name(graph, source)));
  if (target >= graph.first_error() && target < graph.first_logit())
    throw Error(
        ErrorKind::usage,
        fmt::format("no edge ends at {}: {} are given, and made of nothing",
                    node_name(graph, target), target < graph.first_token() ? "errors" : "tokens"));
}

}  // namespace

EdgeHeads heads_on_edge(const nn::Model& model, const TranscoderSet& set,
                        const AttributionGraph& graph, std::int64_t source, std::int64_t target) {
  check_ends(graph, source, target);
  const Recorded recorded = record(model, graph.prompt);
  LinearModel linear = linear_model(model, recorded);
  read_as_trained(set, linear);
  for (std::size_t l = 0; l < linear.blocks.size(); ++l)
    linear.blocks[l].w_skip = set.layers[l].w_skip;
  const LinearStream stream(linear);
  const SourceWrites writes = writes_of(set, graph, linear, source);
  const TargetRead read = read_of(model, set, graph, linear, stream, target);

  // Backwards: the gradient behind attention of each block, down from where the target is read.
  const std::size_t last = std::min(read.layer, linear.blocks.size() - 1);
  std::vector<Rows> behind(last + 1, Rows(stream.positions(), stream.width()));
  Rows g = read.gradient;
  if (read.layer > last) g.add(stream.back_through_skip(last, g));
  for (std::size_t m = last;; --m) {
    behind[m] = g;
    g.add(stream.back_through_attention(m, g));
    if (m == 0) break;
    g.add(stream.back_through_skip(m - 1, g));
  }

  // Forwards, with attention and without.
  EdgeHeads found;
  Rows x = writes.embedded, alone = writes.embedded;
  for (std::size_t m = 0; m <= last; ++m) {
    const Rows values = stream.heads_values(m, x), back = stream.back_to_heads(m, behind[m]);
    for (int h = 0; h < linear.heads; ++h) {
      for (std::int64_t q = 0; q < stream.positions(); ++q) {
        for (std::int64_t k = 0; k <= q; ++k) {
          const double weight = stream.carried(m, values, back, h, q, k);
          if (weight != 0) found.heads.push_back({{static_cast<int>(m), h, q, k}, weight});
        }
      }
    }
    x.add(stream.attention(m, x));
    if (m == read.layer) break;  // a feature reads what is there before its own MLP gives anything
    for (Rows* one : {&x, &alone}) {
      one->add(stream.skip(m, *one));
      one->add(writes.mlps[m]);
    }
  }
  found.weight = sum_of_products(x, read.gradient);
  found.direct = sum_of_products(alone, read.gradient);
  std::stable_sort(found.heads.begin(), found.heads.end(),
                   [](const EdgeHeads::Carried& a, const EdgeHeads::Carried& b) {
                     return std::abs(a.weight) > std::abs(b.weight);
                   });
  return found;
}

}  // namespace vitrine::sae

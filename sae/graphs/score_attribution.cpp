#include "sae/graphs/score_attribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "nn/families/sites.h"
#include "nn/model/weights.h"
#include "sae/graphs/replacement_model.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

using Vector = std::vector<double>;

void check_place(const nn::Model& model, const AttributionGraph& graph, const AttentionPlace& at) {
  const nn::Config& c = model.config();
  const auto refuse = [](const std::string& what) { throw Error(ErrorKind::usage, what); };
  if (c.score_cap != 0)
    throw ConfigError("scores of attention are not taken apart in a model that caps them softly");
  if (at.layer < 0 || at.layer >= c.layers || at.head < 0 || at.head >= c.heads)
    refuse(fmt::format("there is no head {}.{}; there are layers 0 to {} with heads 0 to {}",
                       at.layer, at.head, c.layers - 1, c.heads - 1));
  for (const std::int64_t p : {at.query, at.key}) {
    if (p < 0 || p >= graph.positions())
      refuse(fmt::format("there is no position {}; there are 0 to {}", p, graph.positions() - 1));
  }
  const int window = c.window(at.layer);
  if (at.key > at.query || (window > 0 && at.query - at.key >= window))
    refuse(fmt::format("head {}.{} does not see position {} from position {}{}", at.layer, at.head,
                       at.key, at.query,
                       at.key > at.query ? ": it is a later one"
                                         : fmt::format(": its window is {} tokens", window)));
}

struct Written {
  StreamPart part;
  Vector vector;  // [d]
};

// The parts of the stream before attention of a layer, at one position. Together they are the stream.
class Stream {
 public:
  Stream(const nn::Model& model, const TranscoderSet& set, const AttributionGraph& graph,
         const nn::Run& run, const Parameters& weights)
      : model_(model), set_(set), graph_(graph), run_(run), weights_(weights), d_(set.width()) {}

  std::vector<Written> before(int layer, std::int64_t position) const {
    std::vector<Written> parts;
    const std::int64_t token = graph_.first_token() + position;
    const int id = graph_.prompt[static_cast<std::size_t>(position)];
    parts.push_back({{StreamPart::Kind::token, -1, id, token}, row(site::embed(), position)});
    if (run_.results.contains(site::pos_embed().name))
      parts.push_back({{StreamPart::Kind::position}, row(site::pos_embed(), position)});
    Vector bias(static_cast<std::size_t>(d_), 0.0);
    add_features(layer, position, parts);
    for (int l = 0; l < layer; ++l) {
      add_heads(l, position, parts, bias);
      add_mlp(l, position, parts, bias);
    }
    parts.push_back({{StreamPart::Kind::bias}, std::move(bias)});
    return parts;
  }

 private:
  Vector row(const Site& site, std::int64_t position) const {
    return run_[site].select(0, 0).select(0, position).contiguous().to_vector<double>();
  }
  static void add(Vector& to, const Vector& what, double times = 1) {
    for (std::size_t k = 0; k < to.size(); ++k) to[k] += times * what[k];
  }

  void add_features(int layer, std::int64_t position, std::vector<Written>& parts) const {
    for (std::size_t i = 0; i < graph_.features.size(); ++i) {
      const ActiveFeature& f = graph_.features[i];
      if (f.position != position || f.layer >= layer) continue;
      Vector vector(static_cast<std::size_t>(d_), 0.0);
      const auto& decoders = set_.layers[static_cast<std::size_t>(f.layer)].w_dec;
      for (std::size_t j = 0; j < decoders.size() && f.layer + static_cast<int>(j) < layer; ++j)
        add(vector, written(decoders[j], f), 1);
      parts.push_back(
          {{StreamPart::Kind::feature, f.layer, f.feature, static_cast<std::int64_t>(i)},
           std::move(vector)});
    }
  }
  Vector written(const Tensor& decoder, const ActiveFeature& f) const {
    const float* from = decoder.data<float>() + f.feature * d_;
    Vector vector(from, from + d_);
    for (double& v : vector) v *= f.activation;
    return vector;
  }

  void add_heads(int l, std::int64_t position, std::vector<Written>& parts, Vector& bias) const {
    const Tensor z = run_[site::z(l)].select(0, 0).select(0, position).to(DType::f64).contiguous(),
                 w = weights_.at(fmt::format("blocks.{}.attn.W_O", l))
                         .to(DType::f32)
                         .contiguous();  // [h, e, d]
    const std::int64_t e = w.dim(1);
    for (int h = 0; h < model_.config().heads; ++h) {
      Vector vector(static_cast<std::size_t>(d_), 0.0);
      for (std::int64_t i = 0; i < e; ++i) {
        const double zi = z.data<double>()[h * e + i];
        const float* from = w.data<float>() + (h * e + i) * d_;
        for (std::int64_t k = 0; k < d_; ++k) vector[static_cast<std::size_t>(k)] += zi * from[k];
      }
      parts.push_back({{StreamPart::Kind::head, l, h}, std::move(vector)});
    }
    if (const auto b = weights_.find(fmt::format("blocks.{}.attn.b_O", l)); b != weights_.end())
      add(bias, b->second.to_vector<double>());
  }

  // What the MLP gives is its features, the error, a skip, and the rest, which is the decoder's bias (all of it where a graph has
  // nothing at the first token).
  void add_mlp(int l, std::int64_t position, std::vector<Written>& parts, Vector& bias) const {
    Vector rest = row(site::mlp_out(l), position);
    for (const ActiveFeature& f : graph_.features) {
      if (f.position != position || f.layer > l) continue;
      const auto& decoders = set_.layers[static_cast<std::size_t>(f.layer)].w_dec;
      const auto step = static_cast<std::size_t>(l - f.layer);
      if (step < decoders.size()) add(rest, written(decoders[step], f), -1);
    }
    Vector error = graph_.error.select(0, l).select(0, position).contiguous().to_vector<double>();
    add(rest, error, -1);
    const std::int64_t node = graph_.first_error() + l * graph_.positions() + position;
    parts.push_back({{StreamPart::Kind::error, l, -1, node}, std::move(error)});
    if (set_.layers[static_cast<std::size_t>(l)].w_skip.defined()) {
      Vector skip = skipped(l, position);
      add(rest, skip, -1);
      parts.push_back({{StreamPart::Kind::skip, l}, std::move(skip)});
    }
    add(bias, rest);
  }
  Vector skipped(int l, std::int64_t position) const {
    const TranscoderLayer& t = set_.layers[static_cast<std::size_t>(l)];
    Vector x = row(site::ln2_normalized(l), position);
    if (!t.reads_normalised) {
      const std::string norm = fmt::format("blocks.{}.ln2", l);
      const Vector gain = weights_.at(norm + ".w").to_vector<double>();
      for (std::size_t k = 0; k < x.size(); ++k) x[k] *= gain[k];
      if (const auto b = weights_.find(norm + ".b"); b != weights_.end())
        add(x, b->second.to_vector<double>());
    }
    Vector out(static_cast<std::size_t>(d_), 0.0);
    for (std::int64_t i = 0; i < d_; ++i) {
      const float* w = t.w_skip.data<float>() + i * d_;
      out[static_cast<std::size_t>(i)] = std::inner_product(x.begin(), x.end(), w, 0.0);
    }
    return out;
  }

  const nn::Model& model_;
  const TranscoderSet& set_;
  const AttributionGraph& graph_;
  const nn::Run& run_;
  const Parameters& weights_;
  std::int64_t d_;
};

// One side of a head, query or key: from the stream to what is multiplied.
class Projector {
 public:
  Projector(const nn::Model& model, const nn::Run& run, const Parameters& weights, char letter,
            int layer, int head, std::int64_t position)
      : config_(model.config()), layer_(layer), position_(position) {
    const std::string block = fmt::format("blocks.{}.", layer), norm = block + "ln1",
                      side = fmt::format("{}attn.{}_norm", block, letter == 'Q' ? 'q' : 'k');
    gain_ = weights.at(norm + ".w").to_vector<double>();
    const auto bias = weights.find(norm + ".b");
    centred_ = bias != weights.end();
    bias_ = centred_ ? bias->second.to_vector<double>() : Vector(gain_.size(), 0.0);
    scale_ = run[site::ln1_scale(layer)].select(0, 0).select(0, position).to_vector<double>()[0];
    w_ = weights.at(fmt::format("{}attn.W_{}", block, letter))
             .select(0, head)
             .to(DType::f64)
             .contiguous();  // [d, e]
    const auto b = weights.find(fmt::format("{}attn.b_{}", block, letter));
    b_ = b != weights.end() ? b->second.select(0, head).contiguous().to_vector<double>()
                            : Vector(static_cast<std::size_t>(w_.dim(1)), 0.0);
    if (!config_.norm_heads) return;
    head_gain_ =
        model.parameters()
            .at(fmt::format("layers.{}.self_attn.{}_norm.weight", layer, letter == 'Q' ? 'q' : 'k'))
            .to_vector<double>();
    head_scale_ = run[side + ".hook_scale"]
                      .select(0, 0)
                      .select(0, position)
                      .select(0, head)
                      .to_vector<double>()[0];
  }

  // What a part of the stream becomes; biases are not in it.
  Vector of(const Vector& x) const {
    const double mean =
        centred_ ? std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size()) : 0;
    Vector read(x.size());
    for (std::size_t k = 0; k < x.size(); ++k) read[k] = (x[k] - mean) / scale_ * gain_[k];
    return turned(product(read));
  }
  // What the norm's bias and the projection's become.
  Vector of_biases() const {
    Vector out = product(bias_);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += b_[i];
    return turned(std::move(out));
  }

 private:
  Vector product(const Vector& read) const {
    const std::int64_t e = w_.dim(1);
    Vector out(static_cast<std::size_t>(e), 0.0);
    for (std::size_t k = 0; k < read.size(); ++k) {
      const double* row = w_.data<double>() + static_cast<std::int64_t>(k) * e;
      for (std::int64_t i = 0; i < e; ++i) out[static_cast<std::size_t>(i)] += read[k] * row[i];
    }
    return out;
  }
  Vector turned(Vector x) const {
    if (config_.norm_heads) {
      for (std::size_t i = 0; i < x.size(); ++i) x[i] *= head_gain_[i] / head_scale_;
    }
    if (!config_.rope && !config_.window_rope) return x;
    const nn::Rope& rope = config_.rope_of(layer_);
    const Vector inverse = rope.frequencies();
    for (std::size_t i = 0; i < inverse.size(); ++i) {
      const double angle = static_cast<double>(position_) * inverse[i], a = x[i],
                   b = x[inverse.size() + i];
      x[i] = rope.magnitude() * (a * std::cos(angle) - b * std::sin(angle));
      x[inverse.size() + i] = rope.magnitude() * (b * std::cos(angle) + a * std::sin(angle));
    }
    return x;
  }

  const nn::Config& config_;
  int layer_;
  std::int64_t position_;
  Vector gain_, bias_, b_, head_gain_;
  bool centred_ = true;
  double scale_ = 1, head_scale_ = 1;
  Tensor w_;
};

struct Side {
  std::vector<StreamPart> parts;
  std::vector<Vector> vectors;  // [e] each
  Vector total;
};

Side side_of(std::vector<Written> stream, const Projector& projector) {
  Side side;
  for (Written& w : stream) {
    side.vectors.push_back(projector.of(w.vector));
    if (w.part.kind == StreamPart::Kind::bias) {
      const Vector biases = projector.of_biases();
      for (std::size_t i = 0; i < biases.size(); ++i) side.vectors.back()[i] += biases[i];
    }
    side.parts.push_back(w.part);
  }
  side.total.assign(side.vectors[0].size(), 0.0);
  for (const Vector& v : side.vectors) {
    for (std::size_t i = 0; i < v.size(); ++i) side.total[i] += v[i];
  }
  return side;
}

double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Keeps the parts that can move the score most, by their length, and adds up the others.
void keep_longest(Side& side, std::int64_t most) {
  if (std::ssize(side.parts) <= most) return;
  std::vector<std::size_t> order(side.parts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Vector length;
  for (const Vector& v : side.vectors) length.push_back(dot(v, v));
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return length[a] > length[b]; });
  const auto kept = static_cast<std::size_t>(std::max<std::int64_t>(0, most - 1));
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept));
  Side short_one{.total = side.total};
  for (std::size_t i = 0; i < kept; ++i) {
    short_one.parts.push_back(side.parts[order[i]]);
    short_one.vectors.push_back(std::move(side.vectors[order[i]]));
  }
  StreamPart rest{.kind = StreamPart::Kind::rest};
  rest.together = static_cast<std::int64_t>(order.size() - kept);
  Vector sum(side.total.size(), 0.0);
  for (std::size_t i = kept; i < order.size(); ++i) {
    for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += side.vectors[order[i]][k];
  }
  short_one.parts.push_back(rest);
  short_one.vectors.push_back(std::move(sum));
  side = std::move(short_one);
}

nn::Run run_for(const nn::Model& model, const AttributionGraph& graph, int layer) {
  std::string wanted = fmt::format(
      "hook_embed,*.attn.hook_z,*.hook_mlp_out,*.ln2.hook_normalized,blocks.{0}.ln1.hook_scale,"
      "blocks.{0}.attn.hook_attn_scores,blocks.{0}.attn.hook_pattern",
      layer);
  if (model.build(nn::BatchSize{1, 1, 1}).find_site(site::pos_embed().name) != nullptr)
    wanted += ",hook_pos_embed";
  if (model.config().norm_heads)
    wanted +=
        fmt::format(",blocks.{0}.attn.q_norm.hook_scale,blocks.{0}.attn.k_norm.hook_scale", layer);
  return model.run_batch({graph.prompt}, fetch(sites(wanted)));
}

}  // namespace

std::string_view name_of(StreamPart::Kind kind) {
  switch (kind) {
    case StreamPart::Kind::feature:
      return "feature";
    case StreamPart::Kind::error:
      return "error";
    case StreamPart::Kind::token:
      return "token";
    case StreamPart::Kind::position:
      return "position";
    case StreamPart::Kind::head:
      return "head";
    case StreamPart::Kind::skip:
      return "skip";
    case StreamPart::Kind::bias:
      return "bias";
    case StreamPart::Kind::rest:
      break;
  }
  return "rest";
}

double ScoreAttribution::at(std::size_t i, std::size_t j) const {
  return pairs.data<double>()[i * key.size() + j];
}
double ScoreAttribution::of_query(std::size_t i) const {
  const double* row = pairs.data<double>() + i * key.size();
  return std::accumulate(row, row + key.size(), 0.0);
}
double ScoreAttribution::of_key(std::size_t j) const {
  double sum = 0;
  for (std::size_t i = 0; i < query.size(); ++i) sum += at(i, j);
  return sum;
}
double ScoreAttribution::magnitude() const {
  double sum = 0;
  for (std::int64_t i = 0; i < pairs.numel(); ++i) sum += std::abs(pairs.data<double>()[i]);
  return sum;
}
double ScoreAttribution::closure() const {
  const double* all = pairs.data<double>();
  return std::abs(std::accumulate(all, all + pairs.numel(), 0.0) - score);
}

ScoreAttribution attribute_score(const nn::Model& model, const TranscoderSet& set,
                                 const AttributionGraph& graph, const AttentionPlace& place,
                                 const ScoreSpec& spec) {
  check_place(model, graph, place);
  const nn::Config& c = model.config();
  const nn::Run run = run_for(model, graph, place.layer);
  const Parameters weights = nn::weights(model);
  const Stream stream(model, set, graph, run, weights);
  Side query = side_of(stream.before(place.layer, place.query),
                       Projector(model, run, weights, 'Q', place.layer, place.head, place.query)),
       key = side_of(
           stream.before(place.layer, place.key),
           Projector(model, run, weights, 'K', place.layer, c.key_head(place.head), place.key));
  keep_longest(query, spec.parts);
  keep_longest(key, spec.parts);
  const auto of_model = [&](const Site& site) {
    return run[site]
        .select(0, 0)
        .select(0, place.head)
        .to(DType::f64)
        .at<double>({place.query, place.key});
  };
  ScoreAttribution found{
      .place = place,
      .score = of_model(site::attn_scores(place.layer)),
      .pattern = of_model(site::pattern(place.layer)),
      .query = query.parts,
      .key = key.parts,
      .pairs = Tensor::zeros({std::ssize(query.parts), std::ssize(key.parts)}, DType::f64)};
  const double scale = c.attention_scale(place.layer);
  for (std::size_t i = 0; i < query.vectors.size(); ++i) {
    for (std::size_t j = 0; j < key.vectors.size(); ++j)
      found.pairs.data<double>()[i * key.vectors.size() + j] =
          scale * dot(query.vectors[i], key.vectors[j]);
  }
  return found;
}

}  // namespace vitrine::sae

#include "sae/graphs/group_effects.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/recorded.h"
#include "nn/families/sites.h"
#include "nn/model/metrics.h"
#include "nn/model/weights.h"
#include "sae/graphs/node_names.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

void check_group(const AttributionGraph& graph, const NodeGroup& group) {
  for (const std::int64_t n : group.nodes) {
    if (n < 0 || n >= graph.nodes())
      throw Error(ErrorKind::usage,
                  fmt::format("there is no node {}; there are 0 to {}", n, graph.nodes() - 1));
    if (n >= graph.first_logit())
      throw Error(ErrorKind::usage,
                  fmt::format("the node {} is a logit, which gives nothing that could be scaled",
                              node_name(graph, n)));
  }
}

// What is added at one place of the model, [entries, d], to these rows of a batch.
struct AddedRows {
  std::vector<std::int32_t> rows;
  std::vector<float> vectors;
  void add(std::int64_t row, const float* vector, std::int64_t d, double times) {
    rows.push_back(static_cast<std::int32_t>(row));
    for (std::int64_t k = 0; k < d; ++k)
      vectors.push_back(static_cast<float>(times * static_cast<double>(vector[k])));
  }
};

// The features of a layer that are set, in all copies of the prompt.
struct SetFeatures {
  std::vector<std::int32_t> rows, features;
  std::vector<float> targets;  // what their activations become
};

// The model for one copy of the prompt for each group, in which what the groups' members give is theirs times a factor.
class ScaledModel {
 public:
  ScaledModel(const nn::Model& model, const TranscoderSet& set, const AttributionGraph& graph,
              std::span<const NodeGroup> groups)
      : model_(model), set_(set), graph_(graph), weights_(nn::weights(model)) {
    for (std::size_t g = 0; g < groups.size(); ++g) collect(groups[g], g);
  }

  Graph made_of(const Graph& plain) {
    std::vector<std::string> places;
    for (const auto& [layer, members] : members_)
      places.push_back(site::ln2_normalized(layer).name);
    Builder b(expand_sites(plain, places));
    // In the order in which the model computes: a feature sees what was done before it.
    if (!tokens_.rows.empty())
      change(b, site::embed(), [&](const Value& x) { return x + added(b, "tokens", tokens_, x); });
    for (int l = 0; l < graph_.layers; ++l) {
      if (members_.contains(l)) offsets_.emplace(l, offset(b, l));
      change(b, site::mlp_out(l), [&](const Value& x) { return with_features(b, l, x); });
    }
    b.output("last_logits", nn::last_logits(b));
    return std::move(b).finish();
  }

  const Feeds& feeds() const { return feeds_; }

 private:
  void collect(const NodeGroup& group, std::size_t copy) {
    const std::int64_t positions = graph_.positions(), d = set_.width(),
                       first = static_cast<std::int64_t>(copy) * positions;
    for (const std::int64_t n : group.nodes) {
      if (n < graph_.first_error()) {
        const ActiveFeature& f = graph_.features[static_cast<std::size_t>(n)];
        SetFeatures& here = members_[f.layer];
        here.rows.push_back(static_cast<std::int32_t>(first + f.position));
        here.features.push_back(static_cast<std::int32_t>(f.feature));
        here.targets.push_back(static_cast<float>(group.factor * f.activation));
      } else if (n < graph_.first_token()) {
        const std::int64_t error = n - graph_.first_error();
        errors_[static_cast<int>(error / positions)].add(
            first + error % positions, graph_.error.data<float>() + error * d, d, group.factor - 1);
      } else {
        const std::int64_t position = n - graph_.first_token();
        const Tensor embedding = token_vector(graph_.prompt[static_cast<std::size_t>(position)]);
        tokens_.add(first + position, embedding.data<float>(), d, group.factor - 1);
      }
    }
  }

  Tensor token_vector(int id) const {
    return weights_.at("embed.W_E").select(0, id).to(DType::f32).contiguous();
  }

  Value given(Builder& b, const std::string& name, const Tensor& value, DType dtype) {
    const Tensor fed = value.to(dtype);
    feeds_.insert_or_assign("groups." + name, fed);
    return b.input("groups." + name, {fed.dtype(), fed.shape()});
  }
  Value index(Builder& b, const std::string& name, const std::vector<std::int32_t>& values) {
    const Tensor fed = Tensor::of<std::int32_t>({std::ssize(values)}, values);
    feeds_.insert_or_assign("groups." + name, fed);
    return b.input("groups." + name, {DType::i32, fed.shape()});
  }
  template <class F>
  static void change(Builder& b, const Site& site, const F& f) {
    const Value x = b.value(b.node(b.at(site).id()).inputs[0]), y = f(x);
    if (y.id() != x.id()) b.edit_site(site.name, y);
  }

  Value added(Builder& b, const std::string& name, const AddedRows& what, const Value& x) {
    const Tensor vectors = Tensor::of<float>({std::ssize(what.rows), x.dim(-1)}, what.vectors);
    return scatter_add_rows(given(b, name, vectors, x.dtype()), index(b, name + ".rows", what.rows),
                            x.dim(0));
  }

  // Rows of a weight for each member: [members, ...].
  static Tensor rows_of(const Tensor& weight, const std::vector<std::int32_t>& features) {
    const std::int64_t width = weight.numel() / weight.dim(0);
    const Tensor rows = Tensor::empty({std::ssize(features), width}, DType::f32);
    for (std::size_t i = 0; i < features.size(); ++i)
      std::copy_n(weight.data<float>() + features[i] * width, width,
                  rows.data<float>() + static_cast<std::int64_t>(i) * width);
    return rows;
  }

  // By how much the activations of this layer's members have to change in the edited run: [members, 1].
  Value offset(Builder& b, int l) {
    const SetFeatures& here = members_.at(l);
    const TranscoderLayer& t = set_.layers[static_cast<std::size_t>(l)];
    const std::string name = fmt::format("{}", l);
    const auto n = std::ssize(here.rows);
    Value x = b.at(site::ln2_normalized(l));
    const DType dtype = x.dtype();
    x = gather_rows(x, index(b, name + ".rows", here.rows));  // [members, d]
    if (!t.reads_normalised) {
      const std::string norm = fmt::format("blocks.{}.ln2", l);
      x = x * given(b, name + ".gain", weights_.at(norm + ".w"), dtype);
      if (weights_.contains(norm + ".b"))
        x = x + given(b, name + ".bias", weights_.at(norm + ".b"), dtype);
    }
    const Value a = reshape(activation(b, l, here, x), {n, 1});
    return given(b, name + ".targets", Tensor::of<float>({n, 1}, here.targets), dtype) - a;
  }

  Value activation(Builder& b, int l, const SetFeatures& here, const Value& x) {
    const TranscoderLayer& t = set_.layers[static_cast<std::size_t>(l)];
    const std::string name = fmt::format("{}", l);
    if (set_.activation == TranscoderActivation::topk) {
      // Which are the k largest depends on all of them.
      const Value h = matmul(x, transpose(given(b, name + ".w_enc", t.w_enc, x.dtype()))) +
                      given(b, name + ".b_enc", t.b_enc, x.dtype());
      const Value a = select(top_mask(h, set_.k), relu(h), b.scalar(0, x.dtype()));
      return pick(a, index(b, name + ".features", here.features));
    }
    const Value h =
        sum(x * given(b, name + ".w_enc", rows_of(t.w_enc, here.features), x.dtype()), {-1}, true) +
        given(b, name + ".b_enc", rows_of(t.b_enc, here.features), x.dtype());
    if (set_.activation == TranscoderActivation::relu) return relu(h);
    const Value threshold =
        given(b, name + ".threshold", rows_of(t.threshold, here.features), x.dtype());
    return select(less(threshold, h), h, b.scalar(0, x.dtype()));
  }

  Value with_features(Builder& b, int to, const Value& x) {
    Value y = x;
    for (const auto& [from, members] : members_) {
      const auto& decoders = set_.layers[static_cast<std::size_t>(from)].w_dec;
      const auto step = static_cast<std::size_t>(to - from);
      if (to < from || step >= decoders.size()) continue;
      const std::string name = fmt::format("{}.{}", from, to);
      const Value written =
          offsets_.at(from) *
          given(b, name + ".w_dec", rows_of(decoders[step], members.features), x.dtype());
      y = y +
          scatter_add_rows(written, index(b, fmt::format("{}.rows", from), members.rows), x.dim(0));
    }
    if (const auto e = errors_.find(to); e != errors_.end())
      y = y + added(b, fmt::format("{}.errors", to), e->second, x);
    return y;
  }

  const nn::Model& model_;
  const TranscoderSet& set_;
  const AttributionGraph& graph_;
  Parameters weights_;
  std::map<int, SetFeatures> members_;  // by layer
  std::map<int, AddedRows> errors_;
  AddedRows tokens_;
  std::map<int, Value> offsets_;
  Feeds feeds_;
};

// f32 [groups, vocabulary]: the last logits of one edited copy of the prompt for each group.
Tensor logits_of(const nn::Model& model, const TranscoderSet& set, const AttributionGraph& graph,
                 std::span<const NodeGroup> groups, AttentionPatterns patterns,
                 const std::atomic<bool>* cancel) {
  const std::vector<nn::Tokens> copies(groups.size(), graph.prompt);
  Graph plain = model.build(nn::batch_size(copies));
  Interventions held;
  if (patterns == AttentionPatterns::held) {
    const nn::Run run = model.run_batch(copies, fetch(sites("*.attn.hook_pattern")));
    std::vector<Edit> edits;
    for (int l = 0; l < graph.layers; ++l) edits.push_back(hold(site::pattern(l), run.results));
    held = Interventions(std::move(edits));
    plain = intervene(plain, held);
  }
  ScaledModel scaled(model, set, graph, groups);
  const Graph edited = scaled.made_of(plain);
  Feeds feeds = model.feeds(plain, copies);
  for (const auto& [name, value] : scaled.feeds()) feeds.insert_or_assign(name, value);
  if (patterns == AttentionPatterns::held) feeds = with_interventions(edited, held, feeds);
  const Plan plan = model.plans().get(edited, fetch(value("last_logits")));
  return plan
      .run(feeds, model.parameters(), {.pool = &model.pool(), .cancel = cancel})["last_logits"]
      .to(DType::f32)
      .contiguous();
}

double centred_logit(const float* logits, std::int64_t vocabulary, int token) {
  return logits[token] -
         std::accumulate(logits, logits + vocabulary, 0.0) / static_cast<double>(vocabulary);
}

}  // namespace

std::vector<double> effects_by_graph(const AttributionGraph& graph, const NodeGroup& group) {
  check_group(graph, group);
  // Of each node, which share of what it gives is gone. Members keep theirs, whatever comes before them.
  std::vector<double> gone(static_cast<std::size_t>(graph.nodes()), 0.0);
  std::vector<bool> member(gone.size(), false);
  for (const std::int64_t n : group.nodes) {
    gone[static_cast<std::size_t>(n)] = 1 - group.factor;
    member[static_cast<std::size_t>(n)] = true;
  }
  const auto lost = [&](std::size_t target) {
    const AttributionRow& row = graph.rows[target];
    double sum = 0;
    for (std::size_t i = 0; i < row.sources.size(); ++i)
      sum += row.weights[i] * gone[static_cast<std::size_t>(row.sources[i])];
    return sum;
  };
  // Features come by layer, so that all sources of a target are done before it.
  for (std::size_t t = 0; t < graph.features.size(); ++t) {
    if (!member[t]) gone[t] = lost(t) / graph.features[t].activation;
  }
  std::vector<double> effects;
  for (std::size_t k = 0; k < graph.logit_tokens.size(); ++k)
    effects.push_back(lost(graph.features.size() + k));
  return effects;
}

GroupEffects effects_in_model(const nn::Model& model, const TranscoderSet& set,
                              const AttributionGraph& graph, std::span<const NodeGroup> groups,
                              AttentionPatterns patterns, const std::atomic<bool>* cancel) {
  for (const NodeGroup& g : groups) check_group(graph, g);
  const Tensor before =
      model.run_batch({graph.prompt}, fetch(value("logits"))).last_logits().to(DType::f32);
  const std::int64_t vocabulary = before.dim(1), logits = std::ssize(graph.logit_tokens);
  GroupEffects found{Tensor::zeros({std::ssize(groups), logits}, DType::f64),
                     before.select(0, 0).contiguous(),
                     Tensor::zeros({std::ssize(groups), vocabulary}, DType::f32)};
  constexpr std::int64_t kRows = 2048;  // of a batch
  const auto together =
      static_cast<std::size_t>(std::max<std::int64_t>(1, kRows / graph.positions()));
  for (std::size_t first = 0; first < groups.size(); first += together) {
    const auto some = groups.subspan(first, std::min(together, groups.size() - first));
    const Tensor after = logits_of(model, set, graph, some, patterns, cancel);
    std::copy_n(after.data<float>(), after.numel(),
                found.after.data<float>() + static_cast<std::int64_t>(first) * vocabulary);
  }
  for (std::int64_t g = 0; g < std::ssize(groups); ++g) {
    for (std::int64_t k = 0; k < logits; ++k) {
      const int token = graph.logit_tokens[static_cast<std::size_t>(k)];
      found.effects.data<double>()[g * logits + k] =
          centred_logit(found.before.data<float>(), vocabulary, token) -
          centred_logit(found.after.data<float>() + g * vocabulary, vocabulary, token);
    }
  }
  return found;
}

}  // namespace vitrine::sae

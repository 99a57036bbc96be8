#include "interp/decomposition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/ops/ops.h"
#include "interp/lens.h"
#include "nn/families/sites.h"
#include "nn/model/weights.h"

namespace vitrine::interp {
namespace {

using Kind = Part::Kind;

// Sites whose edits are parts of their own, as no head or MLP wrote what they add. (The output of an
// MLP is a part together with its edits.)
constexpr Site (*kEdited[])(int layer) = {site::resid_pre, site::attn_out, site::resid_mid,
                                          site::resid_post};
struct EditPlace {
  int layer = 0, site = 0;  // site: of kEdited
};

// Emits the shares of the last row of each prompt, n of them.
class Shares {
 public:
  Shares(Builder& b, const nn::Model& model, std::span<const Asked> asked)
      : b_(b),
        config_(model.config()),
        n_(std::ssize(asked)),
        w_(nn::weights_of(b, config_)),
        feeds_(answer_feeds("decompose", asked)) {
    feeds_.merge(rows_asked(model, asked));
  }

  void emit() {
    last_ = b_.input("rows.last", {DType::i32, {n_}});
    answer_ = b_.input("decompose.answer", {DType::i32, {n_}});
    wrong_ = b_.input("decompose.wrong", {DType::i32, {n_}});
    const Value u = of_answers(w_.w_u);                // [n, d]
    const Value scale = at_rows(site::final_scale());  // [n, 1]
    direction_ = folded(u, w_.ln_final) / scale;       // [n, d]
    put("scale", scale);
    put("logit", logits_of(at_rows(site::unembed_out()), answer_, wrong_));
    put("embed", share(at_rows(site::embed()), direction_));
    if (w_.w_pos.defined()) put("pos_embed", share(at_rows(site::pos_embed()), direction_));

    std::vector<Value> heads, attn_biases, mlps, neurons, mlp_biases;
    for (int l = 0; l < config_.layers; ++l) {
      const nn::LayerWeights& w = w_.layers[static_cast<std::size_t>(l)];
      const Shape by_head{n_, config_.heads, config_.d_head()};
      // Head i wrote z[i] W_O[i]: its share is z[i] . (W_O[i] u), with no [head, d] in between.
      const Value z = reshape(at_rows(site::z(l)), by_head);
      const Value of_attn = before(w.ln1_post, site::ln1_post_scale(l)),
                  of_mlp = before(w.ln2_post, site::ln2_post_scale(l));  // [n, d]
      const Value read = reshape(matmul(of_attn, transpose(w.w_o)), by_head);
      heads.push_back(reshape(sum(z * read, {2}), {n_, 1, config_.heads}));
      attn_biases.push_back(matmul(of_attn, reshape(w.b_o, {w.b_o.dim(0), 1})));
      mlps.push_back(share(at_rows(site::mlp_out(l)), direction_));
      // Neuron i wrote post[i] W_out[i].
      const Value post = at_rows(site::mlp_post(l));  // [n, m]
      neurons.push_back(reshape(post * matmul(of_mlp, transpose(w.w_out)), {n_, 1, post.dim(1)}));
      mlp_biases.push_back(matmul(of_mlp, reshape(w.b_out, {w.b_out.dim(0), 1})));
    }
    put("heads", concat(heads, 1));              // [n, layer, head]
    put("attn_biases", concat(attn_biases, 1));  // [n, layer]
    put("mlps", concat(mlps, 1));
    put("neurons", concat(neurons, 1));  // [n, layer, m]
    put("mlp_biases", concat(mlp_biases, 1));
    if (w_.ln_final.centred)
      put("final_bias", matmul(u, reshape(w_.ln_final.bias, {w_.ln_final.bias.dim(0), 1})));
    if (w_.b_u.defined()) put("unembed_bias", of_answers(w_.b_u));
    std::vector<Value> of_edits;
    for (int l = 0; l < config_.layers; ++l) {
      for (int s = 0; s < std::ssize(kEdited); ++s) {
        const Value added = edit_share(kEdited[s](l));
        if (!added.defined()) continue;
        of_edits.push_back(added);
        edits_.push_back({l, s});
      }
    }
    if (!of_edits.empty()) put("edits", concat(of_edits, 1));  // [n, edits]
  }

  const Fetch& wanted() const { return wanted_; }
  const Feeds& feeds() const { return feeds_; }
  const std::vector<EditPlace>& edits() const { return edits_; }

 private:
  void put(const char* name, const Value& v) {
    b_.output(fmt::format("decompose.{}", name), v);
    wanted_.wants.push_back(value(fmt::format("decompose.{}", name)));
  }
  Value at_rows(const Site& s) { return gather_rows(b_.at(s), last_); }
  // Along each prompt's own direction: [n, 1].
  static Value share(const Value& x, const Value& direction) {
    return sum(x * direction, {1}, true);
  }
  // What edits at a site of the stream, or of what attention adds to it, have added: undefined where
  // there are none.
  Value edit_share(const Site& s) {
    for (const SiteEntry& entry : b_.sites()) {
      if (entry.name != s.name) continue;
      if (entry.interior() || b_.node(entry.node).inputs[0] == entry.before) return {};
      return share(at_rows(s) - gather_rows(b_.value(entry.before), last_), direction_);
    }
    return {};  // the family has no such site
  }
  // nn::folded, of directions [n, d].
  static Value folded(const Value& directions, const nn::NormWeights& norm) {
    return transpose(nn::folded(norm, transpose(directions)));
  }
  // The directions as those of what stands before a norm that writes to the stream.
  Value before(const nn::NormWeights& norm, const Site& scale) {
    return norm.defined() ? folded(direction_, norm) / at_rows(scale) : direction_;
  }
  Value of_answers(const Value& table) const {
    return gather_rows(table, answer_) - gather_rows(table, wrong_);
  }

  Builder& b_;
  const nn::Config& config_;
  std::int64_t n_;
  nn::WeightValues w_;
  Feeds feeds_;
  Value last_, answer_, wrong_, direction_;
  std::vector<EditPlace> edits_;
  Fetch wanted_;
};

// What a run of Shares gave, as one Decomposition for each prompt.
class ReadShares {
 public:
  ReadShares(const Results& results, const nn::Config& config, const std::vector<EditPlace>& edits)
      : results_(results), config_(config), edits_(edits) {
    for (const char* name : {"scale", "logit", "embed", "pos_embed", "heads", "attn_biases", "mlps",
                             "neurons", "mlp_biases", "final_bias", "unembed_bias", "edits"}) {
      const std::string output = fmt::format("decompose.{}", name);
      if (results_.contains(output))
        values_[name] = results_.raw(output).to(DType::f64).contiguous();
    }
  }
  Decomposition of(std::int64_t prompt) const {
    Decomposition d;
    d.neurons = values_.at("neurons").select(0, prompt).clone();
    d.mlp_biases = values_.at("mlp_biases").select(0, prompt).clone();
    d.logit = one("logit", prompt);
    d.scale = one("scale", prompt);
    const auto add = [&](Kind kind, const char* name) {
      if (values_.contains(name)) d.parts.push_back({kind, -1, -1, one(name, prompt)});
    };
    add(Kind::embed, "embed");
    add(Kind::pos_embed, "pos_embed");
    for (int l = 0; l < config_.layers; ++l) {
      for (int h = 0; h < config_.heads; ++h)
        d.parts.push_back({Kind::head, l, h, values_.at("heads").at<double>({prompt, l, h})});
      d.parts.push_back(
          {Kind::attn_bias, l, -1, values_.at("attn_biases").at<double>({prompt, l})});
      d.parts.push_back({Kind::mlp, l, -1, values_.at("mlps").at<double>({prompt, l})});
    }
    for (std::size_t e = 0; e < edits_.size(); ++e)
      d.parts.push_back({Kind::edit, edits_[e].layer, edits_[e].site,
                         values_.at("edits").at<double>({prompt, static_cast<std::int64_t>(e)})});
    add(Kind::final_bias, "final_bias");
    add(Kind::unembed_bias, "unembed_bias");
    return d;
  }

 private:
  double one(const char* name, std::int64_t prompt) const {
    return values_.at(name).data<double>()[prompt];
  }
  const Results& results_;
  const nn::Config& config_;
  const std::vector<EditPlace>& edits_;
  std::map<std::string, Tensor, std::less<>> values_;
};

}  // namespace

std::string Part::name() const {
  switch (kind) {
    case Kind::embed:
      return "embed";
    case Kind::pos_embed:
      return "pos_embed";
    case Kind::head:
      return fmt::format("L{}H{}", layer, index);
    case Kind::mlp:
      return fmt::format("{}_mlp_out", layer);
    case Kind::attn_bias:
      return fmt::format("{}_attn_b_O", layer);
    case Kind::final_bias:
      return "ln_final.b";
    case Kind::unembed_bias:
      return "unembed.b_U";
    case Kind::edit:
      return "edit of " + kEdited[index](layer).name;
  }
  return {};
}

double Decomposition::total() const {
  double sum = 0;
  for (const Part& p : parts) sum += p.value;
  return sum;
}
double Decomposition::magnitude() const {
  double sum = 0;
  for (const Part& p : parts) sum += std::abs(p.value);
  return sum;
}
bool Decomposition::closes() const {
  return std::abs(residual()) <= 1e-5 * std::max(1.0, magnitude());
}

std::vector<Decomposition> decompose(const nn::Model& model, std::span<const Asked> asked) {
  check_asked(model, asked, true);
  const std::vector<nn::Tokens> prompts = prompts_to_run(model, asked);
  std::vector<Decomposition> all;
  for (const auto& [begin, end] : batches(prompts, limits_of_logits(model))) {
    const std::vector<nn::Tokens> some = part_of(prompts, begin, end);
    Builder b(model.build(nn::batch_size(some)));
    Shares shares(b, model, asked.subspan(begin, end - begin));
    shares.emit();
    const nn::Run run =
        model.run_graph(std::move(b).finish(), some, shares.wanted(), shares.feeds());
    const ReadShares read(run.results, model.config(), shares.edits());
    for (std::int64_t i = 0; i < std::ssize(some); ++i) all.push_back(read.of(i));
  }
  return all;
}

Decomposition decompose(const nn::Model& model, const nn::Tokens& prompt,
                        const DecomposeSpec& spec) {
  nn::check_prompts({prompt}, model.config());
  if (spec.position) check_position(prompt, *spec.position);
  const Asked one{.prompt = prompt,
                  .position = spec.position.value_or(-1),
                  .answer = spec.answer,
                  .wrong = spec.wrong};
  return decompose(model, {&one, 1})[0];
}

// ---- views --------------------------------------------------------------------------------------
Tensor by_layer(const Decomposition& d, int layers) {
  const Tensor sums = Tensor::zeros({layers, 2}, DType::f64);
  for (const Part& p : d.parts) {
    if (p.layer < 0 || p.kind == Kind::edit) continue;
    sums.data<double>()[2 * p.layer + (p.kind == Kind::mlp ? 1 : 0)] += p.value;
  }
  return sums;
}

std::vector<NeuronShare> top_neurons(const Decomposition& d, int count, std::optional<int> layer) {
  std::vector<NeuronShare> all;
  const auto m = d.neurons.dim(1);
  const double* x = d.neurons.data<double>();
  for (std::int64_t i = 0; i < d.neurons.numel(); ++i) {
    const auto l = static_cast<int>(i / m);
    if (layer && l != *layer) continue;
    all.push_back({l, static_cast<int>(i % m), x[i]});
  }
  const auto kept = std::min(all.size(), static_cast<std::size_t>(std::max(count, 0)));
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                    [](const NeuronShare& a, const NeuronShare& b) {
                      if (std::abs(a.value) != std::abs(b.value))
                        return std::abs(a.value) > std::abs(b.value);
                      return std::pair(a.layer, a.neuron) < std::pair(b.layer, b.neuron);
                    });
  all.resize(kept);
  return all;
}

}  // namespace vitrine::interp

#include "apps/graphs/graph_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/graphs/packed_graph.h"
#include "apps/options/options.h"
#include "apps/reports/neurons_report.h"
#include "interp/readout.h"

namespace vitrine::app {
namespace {

constexpr int kWords = 4;
constexpr std::size_t kMergedShown = 20;

double influence_of(const GraphReport& r, std::size_t node) { return r.pruned.influence[node]; }

// What a feature raises through all that it writes to.
std::vector<std::vector<interp::TokenValue>> raised_by(const GraphReport& r,
                                                       const std::vector<std::size_t>& features) {
  const std::int64_t d = r.set.width();
  if (features.empty()) return {};
  const Tensor written = Tensor::zeros({std::ssize(features), d}, DType::f32);
  for (std::size_t i = 0; i < features.size(); ++i) {
    const sae::ActiveFeature& f = r.graph.features[features[i]];
    for (const Tensor& decoder : r.set.layers[static_cast<std::size_t>(f.layer)].w_dec) {
      for (std::int64_t k = 0; k < d; ++k)
        written.data<float>()[static_cast<std::int64_t>(i) * d + k] +=
            decoder.data<float>()[f.feature * d + k];
    }
  }
  const Tensor logits = interp::to_logits(r.model, written);
  std::vector<std::vector<interp::TokenValue>> raised;
  for (std::size_t i = 0; i < features.size(); ++i)
    raised.push_back(interp::highest(logits.select(0, static_cast<std::int64_t>(i)), kWords));
  return raised;
}

const VerifiedFeature* verified_in(const GraphReport& r, std::size_t feature) {
  const auto at = std::find_if(r.verified.begin(), r.verified.end(),
                               [&](const VerifiedFeature& v) { return v.number == feature; });
  return at == r.verified.end() ? nullptr : &*at;
}

// Of all influence on features, errors and tokens, the share of those.
double share_of_errors(const GraphReport& r) {
  double errors = 0, tokens = 0;
  for (std::int64_t n = r.graph.first_error(); n < r.graph.first_logit(); ++n)
    (n < r.graph.first_token() ? errors : tokens) += influence_of(r, static_cast<std::size_t>(n));
  return errors / (errors + tokens);
}

std::string random_text(const GraphReport& r) {
  if (r.random.empty()) return "";
  double mean = 0, most = 0;
  for (const VerifiedFeature& v : r.random) {
    mean += std::abs(v.exact) / static_cast<double>(r.random.size());
    most = std::max(most, std::abs(v.exact));
  }
  return fmt::format("{} random active features: |exact| is {:.3f} on average, at most {:.3f}\n",
                     r.random.size(), mean, most);
}

Json words_json(const nn::Model& model, const std::vector<interp::TokenValue>& tokens) {
  Json words = Json::list();
  for (const auto& [id, value] : tokens) {
    Json token = token_json(model, id);
    token["value"] = value;
    words.push_back(std::move(token));
  }
  return words;
}

Json feature_json(const GraphReport& r, std::size_t i,
                  const std::vector<interp::TokenValue>& raised) {
  const sae::ActiveFeature& f = r.graph.features[i];
  const VerifiedFeature* v = verified_in(r, i);
  return {{"layer", f.layer},
          {"position", f.position},
          {"feature", f.feature},
          {"activation", f.activation},
          {"influence", influence_of(r, i)},
          {"effect", r.effects[i]},
          {"exact", v == nullptr ? Json() : Json(v->exact)},
          {"raised", words_json(r.model, raised)}};
}

}  // namespace

std::string GraphReport::text(const Style& style) const {
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  std::string text = fmt::format("`{}` → ", style.bold(one_line(tokenizer, graph.prompt)));
  for (std::size_t i = 0; i < std::min<std::size_t>(3, graph.logit_tokens.size()); ++i)
    text += fmt::format("{}{} {}", i == 0 ? "" : "  ",
                        style.strong(token_label(tokenizer, graph.logit_tokens[i])),
                        percent(graph.logit_probabilities[i]));
  text += fmt::format(
      "\n{} active features, {} of {} nodes and {} edges kept; rows close to their targets within "
      "{:.1e} of {:.1f}\n",
      grouped(std::ssize(graph.features)), grouped(pruned.kept_nodes()), grouped(graph.nodes()),
      grouped(std::ssize(pruned.edges)), graph.closure(), graph.largest_target());
  text += fmt::format(
      "of what reaches the logits {} comes through errors, what the transcoders do not explain; "
      "replacement score {:.3f}, completeness {:.3f}\n\n",
      percent(share_of_errors(*this)), pruned.replacement_score, pruned.completeness_score);
  using Align = Table::Align;
  Table table({{"layer", Align::right},
               {"pos", Align::right},
               {"token", Align::left},
               {"feature", Align::right},
               {"activation", Align::right},
               {"influence", Align::right},
               {"effect", Align::right},
               {"exact", Align::right},
               {"raises", Align::left}});
  const auto raised = raised_by(*this, strongest);
  for (std::size_t k = 0; k < strongest.size(); ++k) {
    const sae::ActiveFeature& f = graph.features[strongest[k]];
    const VerifiedFeature* v = verified_in(*this, strongest[k]);
    table.row({fmt::format("{}", f.layer), fmt::format("{}", f.position),
               token_label(tokenizer, graph.prompt[static_cast<std::size_t>(f.position)]),
               fmt::format("{}", f.feature), fmt::format("{:.3f}", f.activation),
               fmt::format("{:.3f}", influence_of(*this, strongest[k])),
               fmt::format("{:+.3f}", effects[strongest[k]]),
               v == nullptr ? "" : fmt::format("{:+.3f}", v->exact), token_list(model, raised[k])});
  }
  text += table.text(style);
  text += fmt::format(
      "\neffect: how much lower the logit {} would be without the feature, by the graph; exact: in "
      "the model, in which it is taken away and all else\n"
      "computed again\n",
      token_label(tokenizer, graph.logit_tokens[0]));
  text += random_text(*this);
  return text + supernodes_text(model, graph, seen.supernodes, supernodes, style) +
         merged_text(seen, kMergedShown, style) + attention.text(style);
}

sae::ViewerGraph seen_by_viewers(const nn::Model& model, const sae::TranscoderSet& set,
                                 const sae::AttributionGraph& graph, const sae::PrunedGraph& pruned,
                                 double node_threshold, std::vector<sae::Supernode> supernodes) {
  sae::ViewerSpec spec{.slug = std::filesystem::path(set.name).filename().string(),
                       .scan = set.name,
                       .node_threshold = node_threshold,
                       .supernodes = std::move(supernodes)};
  if (const nn::Tokenizer* tokenizer = tokenizer_of(model); tokenizer != nullptr)
    spec.text = [tokenizer](int id) { return json_text(tokenizer->shown(id)); };
  return sae::viewer_graph(graph, pruned, spec);
}

Json GraphReport::json() const {
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  Json json = sae::viewer_json(seen);
  json["tokens"] = graph.prompt;
  json["str_tokens"] = tokenizer == nullptr ? Json() : Json(tokenizer->shown_tokens(graph.prompt));
  json["counts"] = {{"features", std::ssize(graph.features)},
                    {"errors", graph.first_token() - graph.first_error()},
                    {"tokens", graph.positions()},
                    {"logits", std::ssize(graph.logit_tokens)},
                    {"kept_nodes", pruned.kept_nodes()},
                    {"kept_edges", std::ssize(pruned.edges)}};
  json["scores"] = {{"replacement", pruned.replacement_score},
                    {"completeness", pruned.completeness_score},
                    {"through_errors", share_of_errors(*this)}};
  json["closure"] = {{"largest_error", graph.closure()},
                     {"largest_target", graph.largest_target()}};
  json["logits"] = Json::list();
  for (std::size_t i = 0; i < graph.logit_tokens.size(); ++i) {
    Json token = token_json(model, graph.logit_tokens[i]);
    token["prob"] = graph.logit_probabilities[i];
    json["logits"].push_back(std::move(token));
  }
  json["strongest"] = Json::list();
  const auto raised = raised_by(*this, strongest);
  for (std::size_t k = 0; k < strongest.size(); ++k)
    json["strongest"].push_back(feature_json(*this, strongest[k], raised[k]));
  json["random"] = Json::list();
  for (const VerifiedFeature& v : random) {
    const sae::ActiveFeature& f = graph.features[v.number];
    json["random"].push_back({{"layer", f.layer},
                              {"position", f.position},
                              {"feature", f.feature},
                              {"effect", effects[v.number]},
                              {"exact", v.exact}});
  }
  json["supernodes"] = supernode_effects_json(model, graph, seen.supernodes, supernodes);
  json["merged"] = merged_json(seen);
  json["attention"] = attention.attention_json();
  json["edges"] = attention.edges_json();
  return json;
}

Json GraphReport::page_data() const {
  std::vector<std::size_t> kept;
  for (std::size_t i = 0; i < graph.features.size(); ++i) {
    if (pruned.node_kept[i]) kept.push_back(i);
  }
  for (const std::size_t i : strongest) {
    if (!pruned.node_kept[i]) kept.push_back(i);
  }
  const auto raised = raised_by(*this, kept);
  Json words = Json::object(), by_node = Json::object();
  for (std::size_t k = 0; k < kept.size(); ++k) {
    const sae::ActiveFeature& f = graph.features[kept[k]];
    words[fmt::format("{}_{}", f.layer, f.feature)] = words_json(model, raised[k]);
    by_node[fmt::format("{}_{}_{}", f.layer, f.feature, f.position)] = effects[kept[k]];
  }
  Json data = packed_graph(seen);
  data.update({{"raised", words}, {"effects", by_node}});
  data["kept"] = {"tokens",  "str_tokens", "counts",    "scores",
                  "closure", "logits",     "strongest", "random"};
  return data;
}

NamedTensors GraphReport::tensors() const {
  const auto n = std::ssize(graph.features);
  const Tensor features = Tensor::empty({n, 3}, DType::i32);
  std::vector<float> activation, pre;
  for (std::int64_t i = 0; i < n; ++i) {
    const sae::ActiveFeature& f = graph.features[static_cast<std::size_t>(i)];
    std::int32_t* row = features.data<std::int32_t>() + 3 * i;
    row[0] = f.layer;
    row[1] = static_cast<std::int32_t>(f.position);
    row[2] = static_cast<std::int32_t>(f.feature);
    activation.push_back(static_cast<float>(f.activation));
    pre.push_back(static_cast<float>(f.pre));
  }
  const auto f32 = [](const std::vector<double>& v) {
    return Tensor::of<double>({std::ssize(v)}, v).to(DType::f32);
  };
  const Tensor node_mask = Tensor::zeros({graph.nodes()}, DType::boolean),
               edge_mask = Tensor::zeros({graph.targets(), graph.nodes()}, DType::boolean);
  for (std::int64_t i = 0; i < graph.nodes(); ++i)
    node_mask.data<bool>()[i] = pruned.node_kept[static_cast<std::size_t>(i)];
  for (const auto& e : pruned.edges)
    edge_mask.data<bool>()[e.target * graph.nodes() + e.source] = true;
  const std::vector<std::int32_t> tokens(graph.prompt.begin(), graph.prompt.end()),
      logits(graph.logit_tokens.begin(), graph.logit_tokens.end());
  NamedTensors tensors = {
      {"tokens", Tensor::of<std::int32_t>({graph.positions()}, tokens)},
      {"features", features},
      {"activation", Tensor::of<float>({n}, activation)},
      {"preactivation", Tensor::of<float>({n}, pre)},
      {"error", graph.error},
      {"logit_tokens", Tensor::of<std::int32_t>({std::ssize(logits)}, logits)},
      {"logit_probabilities", f32(graph.logit_probabilities)},
      {"adjacency", graph.adjacency()},
      {"position_effect", graph.position_effect},
      {"constant", f32(graph.constant)},
      {"target_value", f32(graph.target_value)},
      {"influence", f32(pruned.influence)},
      {"cumulative", f32(pruned.cumulative)},
      {"node_mask", node_mask},
      {"edge_mask", edge_mask},
      {"replacement_score", Tensor::scalar(static_cast<float>(pruned.replacement_score))},
      {"completeness_score", Tensor::scalar(static_cast<float>(pruned.completeness_score))}};
  for (auto& one : attention.tensors()) tensors.push_back(std::move(one));
  return tensors;
}

}  // namespace vitrine::app

#include "apps/reports/neurons_report.h"

#include <fmt/format.h>

#include "apps/options/options.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

std::string strength_text(const StrongNeuronsReport& r) {
  const nn::Tokenizer* tokenizer = tokenizer_of(r.model);
  std::string text = "logit " + token_label(tokenizer, *r.spec.answer);
  if (r.spec.wrong) text += " - logit " + token_label(tokenizer, *r.spec.wrong);
  return text;
}

Json optional_json(const std::optional<double>& x) { return x ? Json(*x) : Json(); }

}  // namespace

std::string token_list(const nn::Model& model, const std::vector<interp::TokenValue>& tokens) {
  std::string text;
  for (const interp::TokenValue& t : tokens)
    text += (text.empty() ? "" : " ") + token_label(tokenizer_of(model), t.id);
  return text;
}

Json token_text(const nn::Model& model, int id) {
  return model.has_tokenizer() ? Json(json_text(model.tokenizer().shown(id))) : Json();
}

Json tokens_json(const nn::Model& model, const std::vector<interp::TokenValue>& tokens) {
  Json json = Json::list();
  for (const interp::TokenValue& t : tokens)
    json.push_back({{"id", t.id}, {"token", token_text(model, t.id)}, {"value", t.value}});
  return json;
}

std::string StrongNeuronsReport::text(const Style& style) const {
  using Align = Table::Align;
  const bool effects = spec.answer.has_value();
  std::string text =
      fmt::format("neurons at position {}, {}, {}; strongest by {}\n", found.position,
                  style.bold(token_label(tokenizer_of(model),
                                         prompt[static_cast<std::size_t>(found.position)])),
                  spec.layer ? fmt::format("layer {}", *spec.layer) : std::string("all layers"),
                  effects ? "their direct effect on the metric" : "activation (mlp.hook_post)");
  if (effects)
    text +=
        fmt::format("metric: {}, here {}\n", strength_text(*this), metric_number(*found.metric));
  text += gauge_text(model, effects) + "\n";

  std::vector<Table::Column> columns = {
      {"layer", Align::right}, {"neuron", Align::right}, {"activation", Align::right}};
  if (effects) columns.push_back({"effect", Align::right});
  columns.push_back({"raises", Align::left});
  columns.push_back({"lowers", Align::left});
  Table neurons(columns);
  for (const interp::Neuron& n : found.neurons) {
    std::vector<std::string> cells = {fmt::format("{}", n.id.layer), fmt::format("{}", n.id.index),
                                      fmt::format("{:.3f}", n.activation)};
    if (effects) cells.push_back(style.strong(fmt::format("{:+.3f}", *n.effect)));
    cells.push_back(token_list(model, n.raised));
    cells.push_back(token_list(model, n.lowered));
    neurons.row(std::move(cells));
  }
  text += neurons.text(style);

  if (found.dimensions.empty()) return text;
  text += fmt::format("\ndimensions of the residual stream there, blocks.{}.hook_resid_post\n\n",
                      found.stream_layer);
  std::vector<Table::Column> stream = {{"dimension", Align::right}, {"value", Align::right}};
  if (effects) stream.push_back({"effect", Align::right});
  Table dimensions(stream);
  for (const interp::Dimension& d : found.dimensions) {
    std::vector<std::string> cells = {fmt::format("{}", d.index), fmt::format("{:.3f}", d.value)};
    if (effects) cells.push_back(fmt::format("{:+.3f}", *d.effect));
    dimensions.row(std::move(cells));
  }
  return text + dimensions.text(style);
}

Json StrongNeuronsReport::json() const {
  Json json = {{"tokens", prompt}};
  json["str_tokens"] =
      model.has_tokenizer() ? Json(model.tokenizer().shown_tokens(prompt)) : Json();
  json["pos"] = found.position;
  json["layer"] = spec.layer ? Json(*spec.layer) : Json();
  json["answer"] = spec.answer ? Json(*spec.answer) : Json();
  json["wrong"] = spec.wrong ? Json(*spec.wrong) : Json();
  json["metric"] = optional_json(found.metric);
  json["neurons"] = Json::list();
  for (const interp::Neuron& n : found.neurons) {
    json["neurons"].push_back({{"layer", n.id.layer},
                               {"neuron", n.id.index},
                               {"activation", n.activation},
                               {"effect", optional_json(n.effect)},
                               {"raised", tokens_json(model, n.raised)},
                               {"lowered", tokens_json(model, n.lowered)}});
  }
  json["stream"] = {{"layer", found.stream_layer}, {"dimensions", Json::list()}};
  for (const interp::Dimension& d : found.dimensions) {
    json["stream"]["dimensions"].push_back(
        {{"dimension", d.index}, {"value", d.value}, {"effect", optional_json(d.effect)}});
  }
  return json;
}

}  // namespace vitrine::app

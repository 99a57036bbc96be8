// The strongest neurons over many prompts.
#include <fmt/format.h>

#include "apps/options/options.h"
#include "apps/reports/data_set_report.h"
#include "apps/reports/neurons_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

Json mean_json(const std::optional<interp::Statistic>& s) {
  return s ? statistic_json(*s) : Json();
}

Json mean_neuron_json(const interp::MeanNeuron& n) {
  return {{"layer", n.id.layer},
          {"neuron", n.id.index},
          {"activation", statistic_json(n.activation)},
          {"effect", mean_json(n.effect)}};
}

Json token_or_null(const nn::Model& model, const std::optional<int>& id) {
  return id ? token_json(model, *id) : Json();
}

}  // namespace

std::string NeuronsOverReport::group_text(const interp::NeuronsOver& over,
                                          const Style& style) const {
  using Align = Table::Align;
  std::string text;
  if (over.metric) text += fmt::format("the metric: {}\n", mean_text(*over.metric));
  std::vector<Table::Column> columns = {
      {"layer", Align::right}, {"neuron", Align::right}, {"activation", Align::right}};
  if (effects()) columns.push_back({"effect", Align::right});
  columns.push_back({"raises", Align::left});
  columns.push_back({"lowers", Align::left});
  Table neurons(columns);
  for (const interp::MeanNeuron& n : over.neurons) {
    std::vector<std::string> cells = {fmt::format("{}", n.id.layer), fmt::format("{}", n.id.index),
                                      mean_text(n.activation)};
    if (effects()) cells.push_back(style.strong(mean_text(*n.effect)));
    cells.push_back(token_list(model, n.raised));
    cells.push_back(token_list(model, n.lowered));
    neurons.row(std::move(cells));
  }
  text += neurons.text(style);

  text += fmt::format("\ndimensions of the residual stream there, blocks.{}.hook_resid_post\n\n",
                      over.stream_layer);
  std::vector<Table::Column> titles = {{"dimension", Align::right}, {"value", Align::right}};
  if (effects()) titles.push_back({"effect", Align::right});
  Table dimensions(titles);
  for (const interp::MeanDimension& d : over.dimensions) {
    std::vector<std::string> cells = {fmt::format("{}", d.index), mean_text(d.value)};
    if (effects()) cells.push_back(mean_text(*d.effect));
    dimensions.row(std::move(cells));
  }
  return text + dimensions.text(style);
}

std::string NeuronsOverReport::each_text(const Style& style) const {
  using Align = Table::Align;
  constexpr std::size_t kShown = 3;
  std::vector<Table::Column> titles = {{"line", Align::right}, {"prompt", Align::left}};
  if (effects()) titles.push_back({"metric", Align::right});
  titles.push_back(
      {effects() ? "strongest neurons and their effects" : "strongest neurons", Align::left});
  Table table(titles);
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const interp::StrongNeurons& s = found.each[i];
    std::vector<std::string> cells = {fmt::format("{}", examples[i].line),
                                      one_line(tokenizer_of(model), examples[i].prompt)};
    if (effects()) cells.push_back(fmt::format("{:.3f}", *s.metric));
    std::string strongest;
    for (std::size_t n = 0; n < std::min(kShown, s.neurons.size()); ++n) {
      const interp::Neuron& neuron = s.neurons[n];
      strongest += fmt::format("{}{}.{} {:+.3f}", n == 0 ? "" : "  ", neuron.id.layer,
                               neuron.id.index, neuron.effect.value_or(neuron.activation));
    }
    cells.push_back(std::move(strongest));
    table.row(std::move(cells));
  }
  return table.text(style);
}

std::string NeuronsOverReport::text(const Style& style) const {
  std::string text =
      prompts_text(examples) + "\n" +
      fmt::format(
          "neurons at position {} of each, {}; strongest by the mean of {}\n", style.bold(position),
          spec.layer ? fmt::format("layer {}", *spec.layer) : std::string("all layers"),
          effects() ? "their direct effect on the metric" : "their activation (mlp.hook_post)");
  if (effects())
    text += "metric: the logit of each one's answer, less that of its wrong one where it has one\n";
  text += gauge_text(model, effects()) + "\n";
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const interp::PromptGroup& group = groups[g];
    const bool last = g + 1 == groups.size();
    if (last && g == 1) break;  // one group, which is all
    const std::string count =
        fmt::format(", {} prompt{}\n", group.members.size(), group.members.size() == 1 ? "" : "s");
    if (groups.size() > 1)
      text += style.bold(last ? "all" : fmt::format("{} {}", field, visible(group.name))) + count;
    text += group_text(found.groups[g], style) + (last ? "" : "\n");
  }
  return each ? text + "\n" + each_text(style) : text;
}

Json NeuronsOverReport::group_json(Json named, std::size_t group) const {
  const interp::NeuronsOver& over = found.groups[group];
  named["prompts"] = groups[group].members.size();
  named["metric"] = mean_json(over.metric);
  named["neurons"] = Json::list();
  for (const interp::MeanNeuron& n : over.neurons) {
    Json neuron = mean_neuron_json(n);
    neuron["raised"] = tokens_json(model, n.raised);
    neuron["lowered"] = tokens_json(model, n.lowered);
    named["neurons"].push_back(std::move(neuron));
  }
  named["stream"] = {{"layer", over.stream_layer}, {"dimensions", Json::list()}};
  for (const interp::MeanDimension& d : over.dimensions) {
    named["stream"]["dimensions"].push_back({{"dimension", d.index},
                                             {"value", statistic_json(d.value)},
                                             {"effect", mean_json(d.effect)}});
  }
  return named;
}

Json NeuronsOverReport::json() const {
  const std::size_t all = groups.size() - 1;
  Json json = {{"position", position},
               {"layer", spec.layer ? Json(*spec.layer) : Json()},
               {"all", group_json(Json::object(), all)},
               {"group_by", field.empty() ? Json() : Json(field)},
               {"groups", Json::list()},
               {"prompts", Json::list()}};
  for (std::size_t g = 0; g < all; ++g)
    json["groups"].push_back(group_json({{"name", groups[g].name}}, g));
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const interp::StrongNeurons& s = found.each[i];
    Json one = example_json(model, examples[i]);
    one["pos"] = s.position;
    one["answer"] = token_or_null(model, asked[i].answer);
    one["wrong"] = token_or_null(model, asked[i].wrong);
    one["metric"] = s.metric ? Json(*s.metric) : Json();
    one["neurons"] = Json::list();
    for (const interp::Neuron& n : s.neurons) {
      one["neurons"].push_back({{"layer", n.id.layer},
                                {"neuron", n.id.index},
                                {"activation", n.activation},
                                {"effect", n.effect ? Json(*n.effect) : Json()}});
    }
    json["prompts"].push_back(std::move(one));
  }
  return json;
}

Json NeuronsOverReport::table() const {
  Json rows = Json::list();
  const std::size_t all = groups.size() - 1;
  const auto add = [&](std::size_t g, const Json& name) {
    for (const interp::MeanNeuron& n : found.groups[g].neurons) {
      Json row = {{"group", name}};
      row.update(mean_neuron_json(n));
      rows.push_back(std::move(row));
    }
  };
  add(all, "all");
  for (std::size_t g = 0; g < all; ++g) add(g, groups[g].name);
  return rows;
}

}  // namespace vitrine::app

#include "apps/reports/profile_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/options/options.h"
#include "apps/reports/data_set_report.h"
#include "apps/reports/patch_report.h"

namespace vitrine::app {
namespace {

const std::string& title_of(const ProfileReport::Column& c) {
  return c.title.empty() ? c.name : c.title;
}

}  // namespace

interp::Statistics ProfileReport::statistics_of(const Column& c,
                                                const interp::PromptGroup& group) const {
  std::vector<Tensor> values;
  values.reserve(group.members.size());
  for (const std::size_t i : group.members) values.push_back(c.each[i]);
  return interp::statistics(values);
}

std::vector<double> ProfileReport::sizes(const interp::PromptGroup& group) const {
  std::vector<double> sizes(labels.size(), -1);
  for (std::size_t c = 0; c < (by_any_column ? columns.size() : 1); ++c) {
    const auto mean = statistics_of(columns[c], group).mean.to_vector<double>();
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (!std::isnan(mean[i])) sizes[i] = std::max(sizes[i], std::abs(mean[i]));
    }
  }
  return sizes;
}

std::vector<std::size_t> ProfileReport::shown(const interp::PromptGroup& group) const {
  std::vector<std::size_t> order(labels.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (top == 0) return order;
  const std::vector<double> size = sizes(group);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return size[a] > size[b]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(top)));
  return order;
}

std::string ProfileReport::table(const interp::PromptGroup& group, const Style& style) const {
  using Align = Table::Align;
  std::vector<Table::Column> titles = {{axis, Align::left}};
  std::vector<interp::Statistics> found;
  for (const Column& c : columns) {
    titles.push_back({title_of(c), Align::right});
    found.push_back(statistics_of(c, group));
  }
  Table table(titles);
  for (const std::size_t i : shown(group)) {
    std::vector<std::string> row = {labels[i]};
    for (std::size_t c = 0; c < columns.size(); ++c)
      row.push_back(mean_text(found[c].at(static_cast<std::int64_t>(i)), false, columns[c].digits));
    table.row(std::move(row));
  }
  const std::size_t rest = top > 0 && labels.size() > static_cast<std::size_t>(top)
                               ? labels.size() - static_cast<std::size_t>(top)
                               : 0;
  return table.text(style) + (rest > 0 ? style.dim(fmt::format("and {} more\n", rest)) : "");
}

std::string ProfileReport::each_text(const Column& c, const Style& style) const {
  using Align = Table::Align;
  std::vector<Table::Column> titles = {{"line", Align::right}, {"prompt", Align::left}};
  if (!questions.empty()) titles.push_back({question, Align::left});
  const auto order = shown(all());
  for (const std::size_t i : order) titles.push_back({labels[i], Align::right});
  Table table(titles);
  for (std::size_t e = 0; e < examples.size(); ++e) {
    std::vector<std::string> row = {fmt::format("{}", examples[e].line),
                                    one_line(tokenizer_of(model), examples[e].prompt)};
    if (!questions.empty()) row.push_back(questions[e]);
    for (const std::size_t i : order) {
      const double x = c.each[e].at<double>({static_cast<std::int64_t>(i)});
      row.push_back(std::isnan(x) ? "-" : fmt::format("{:.{}f}", x, c.digits));
    }
    table.row(std::move(row));
  }
  return style.dim(title_of(c)) + "\n" + table.text(style);
}

std::string ProfileReport::text(const Style& style) const {
  return prompts_text(examples) + "\n" + heading + "\n" + tables(style);
}

std::string ProfileReport::tables(const Style& style) const {
  std::string text;
  if (!field.empty()) {
    for (const interp::PromptGroup& g : groups) {
      text += style.bold(fmt::format("{} {}", field, visible(g.name))) +
              fmt::format(", {} prompt{}\n", g.members.size(), g.members.size() == 1 ? "" : "s") +
              table(g, style) + "\n";
    }
    if (groups.size() > 1) text += style.bold("all") + "\n" + table(all(), style);
  } else {
    text += table(all(), style);
  }
  for (std::size_t c = 0; each && c < (by_any_column ? columns.size() : 1); ++c)
    text += "\n" + each_text(columns[c], style);
  return text;
}

Json ProfileReport::json() const {
  const auto entry = [&](Json json, const interp::PromptGroup& group) {
    json["prompts"] = group.members.size();
    for (const Column& c : columns) json[c.name] = statistics_json(statistics_of(c, group));
    return json;
  };
  Json json = Json::object();
  json[axis + "s"] = labels;
  json["all"] = entry(Json::object(), all());
  json["group_by"] = field.empty() ? Json() : Json(field);
  json["groups"] = Json::list();
  if (!field.empty()) {
    for (const interp::PromptGroup& g : groups)
      json["groups"].push_back(entry({{"name", g.name}}, g));
  }
  json["prompts"] = Json::list();
  for (std::size_t e = 0; e < examples.size(); ++e) {
    Json one = example_json(model, examples[e]);
    for (const Column& c : columns) one[c.name] = nested(c.each[e]);
    json["prompts"].push_back(std::move(one));
  }
  return json;
}

Shape ProfileReport::tensor_shape() const {
  Shape shape;
  for (const TensorAxis& a : tensor_axes) shape.push_back(std::ssize(a.places));
  if (tensor_axes.empty()) shape.push_back(std::ssize(labels));
  return shape;
}

NamedTensors ProfileReport::tensors() const {
  NamedTensors tensors;
  const Shape shape = tensor_shape();
  const auto shaped = [&](const Tensor& t) { return t.to(DType::f32).reshape(shape); };
  const auto add = [&](const std::string& prefix, const interp::PromptGroup& group) {
    for (const Column& c : columns) {
      const interp::Statistics s = statistics_of(c, group);
      tensors.emplace_back(prefix + c.name, shaped(s.mean));
      tensors.emplace_back(prefix + c.name + "/standard_error", shaped(s.standard_error));
      tensors.emplace_back(prefix + c.name + "/count", shaped(s.count));
    }
  };
  add("", all());
  if (!field.empty()) {
    for (const interp::PromptGroup& g : groups) add("group/" + g.name + "/", g);
  }
  const auto n = std::ssize(labels), prompts = std::ssize(examples);
  Shape of_each{prompts};
  for (const std::int64_t size : shape) of_each.push_back(size);
  for (const Column& c : columns) {
    const Tensor each_prompt = Tensor::empty({prompts, n}, DType::f64);
    for (std::int64_t e = 0; e < prompts; ++e) {
      const auto x = c.each[static_cast<std::size_t>(e)].to_vector<double>();
      std::copy(x.begin(), x.end(), each_prompt.data<double>() + e * n);
    }
    tensors.emplace_back(c.name + "/each", each_prompt.to(DType::f32).reshape(of_each));
  }
  return tensors;
}

AxisNames ProfileReport::axis_names() const {
  std::vector<std::string> axes;
  AxisNames names;
  for (const TensorAxis& a : tensor_axes) {
    axes.push_back(a.name);
    names.places[a.name] = a.places;
  }
  if (axes.empty()) {
    axes.push_back(axis);
    names.labels[axis] = {"name", labels};
  }
  names.of[""] = axes;
  axes.insert(axes.begin(), "prompt");
  for (const Column& c : columns) names.of[c.name + "/each"] = axes;
  return names;
}

}  // namespace vitrine::app

#include "apps/reports/circuit_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/reports/data_set_report.h"

namespace vitrine::app {
namespace {

using CircuitAlign = Table::Align;

Tensor scalar_f32(double x) { return Tensor::full({}, DType::f32, x); }

double score_of(const interp::EdgeGrid& grid, const Tensor& scores, const interp::StreamEdge& e) {
  return scores.data<double>()[e.sender * grid.receivers.size() + e.receiver];
}

Json number_or_null(double x) { return std::isfinite(x) ? Json(x) : Json(); }

std::string signed_number(double x) {
  if (!std::isfinite(x)) return "-";
  return (x >= 0 ? "+" : "") + number_of_size(x);
}

Json metric_json(const std::string& name, const std::vector<double>& clean,
                 const std::vector<double>& corrupt) {
  const auto of = [&](const std::vector<double>& values) {
    return values.size() == 1 ? Json(values[0]) : statistic_json(interp::statistic(values));
  };
  return {{"name", name}, {"clean", of(clean)}, {"corrupt", of(corrupt)}};
}

// The circuit's edges by size of score, or in the order of the model where there are none.
std::vector<interp::StreamEdge> by_score(const interp::EdgeGrid& grid,
                                         const interp::EdgeMask& circuit, const Tensor& scores) {
  std::vector<interp::StreamEdge> edges = circuit.edges();
  const auto size = [&](const interp::StreamEdge& e) {
    const double x = std::abs(score_of(grid, scores, e));
    return std::isfinite(x) ? x : -1.0;
  };
  std::stable_sort(edges.begin(), edges.end(),
                   [&](const auto& a, const auto& b) { return size(a) > size(b); });
  return edges;
}

double mean_of_all(const std::vector<double>& x) { return interp::statistic(x).mean; }
double deviation_of(const std::vector<double>& x) {
  const interp::Statistic s = interp::statistic(x);
  return s.standard_error * std::sqrt(static_cast<double>(s.count));
}

AxisNames edge_axes(const interp::EdgeGrid& grid) {
  AxisNames names;
  names.of[""] = {"sender", "receiver"};
  names.of["edge/by_position"] = {"pos", "sender", "receiver"};
  names.of["random/faithfulness"] = {"circuit"};
  names.places["sender"] = grid.senders;
  names.places["receiver"] = grid.receivers;
  return names;
}

}  // namespace

// ---- scores ---------------------------------------------------------------------------------------
namespace {

struct ScoresOver {
  Tensor mean, standard_error;
  std::vector<double> clean, corrupt;
};
ScoresOver scores_over(const std::vector<interp::EdgeScores>& each) {
  const interp::EdgeScoreSummary s = interp::summarise(each);
  ScoresOver over{s.mean, s.standard_error, {}, {}};
  for (const interp::EdgeScores& e : each) {
    over.clean.push_back(e.clean);
    over.corrupt.push_back(e.corrupt);
  }
  return over;
}

std::string method_text(const interp::EdgeSpec& spec) {
  switch (spec.method) {
    case interp::EdgeMethod::exact:
      return "each edge patched by itself";
    case interp::EdgeMethod::eap:
      return "edge attribution patching (EAP)";
    case interp::EdgeMethod::eap_ig:
      return fmt::format("EAP-IG, {} {}", spec.steps,
                         spec.rule == interp::PathRule::midpoint
                             ? "midpoints"
                             : "steps from the other run on, as EAP-IG 2.0");
    case interp::EdgeMethod::clean_corrupted:
      return "EAP, the mean gradient of both runs";
    case interp::EdgeMethod::eap_ig_activations:
      return fmt::format("EAP-IG over activations, {} steps", spec.steps);
  }
  return "";
}

}  // namespace

std::vector<interp::EdgeScores> EdgeScoresReport::of_group(const interp::PromptGroup& group) const {
  std::vector<interp::EdgeScores> some;
  for (const std::size_t i : group.members) some.push_back(each[i]);
  return some;
}

std::string EdgeScoresReport::edges_table(const std::vector<interp::EdgeScores>& some,
                                          const Style& style) const {
  const interp::EdgeScores& first = some[0];
  const ScoresOver over = scores_over(some);
  const bool many = each.size() > 1, exact = !verified.empty();
  std::vector<Table::Column> columns = {{"from"}, {"to"}, {"score", CircuitAlign::right}};
  if (exact) columns.push_back({"exact", CircuitAlign::right});
  Table table(columns);
  const auto ranked = interp::ranked_edges(first.grid, over.mean);
  for (std::size_t i = 0; i < ranked.size() && static_cast<int>(i) < top; ++i) {
    const interp::StreamEdge& e = ranked[i];
    const double score = score_of(first.grid, over.mean, e);
    const interp::Statistic s{score, score_of(first.grid, over.standard_error, e),
                              std::ssize(some)};
    std::vector<std::string> cells = {first.grid.senders[e.sender],
                                      first.grid.receivers[e.receiver],
                                      many ? mean_text(s) : signed_number(score)};
    if (exact) {
      const auto found = std::find_if(verified.begin(), verified.end(),
                                      [&](const auto& v) { return v.edge == e; });
      cells.push_back(found == verified.end() ? "" : signed_number(found->exact));
    }
    table.row(std::move(cells));
  }
  return table.text(style);
}

std::string EdgeScoresReport::text(const Style& style, int) const {
  const interp::EdgeScores& first = each[0];
  const ScoresOver over = scores_over(each);
  std::string out = prompts_text(examples) + "\n";
  out += fmt::format("{} is {} of the clean run, {} of the corrupt one\n",
                     visible(first.spec.metric.text), mean_text(interp::statistic(over.clean)),
                     mean_text(interp::statistic(over.corrupt)));
  out += fmt::format("{} edges by {}; {}: {}\n",
                     grouped(static_cast<std::int64_t>(first.grid.count())),
                     method_text(first.spec), name_of(first.spec.direction),
                     first.spec.direction == interp::Direction::denoise
                         ? "what does each edge of the clean run restore in the corrupt one?"
                         : "what does each edge of the corrupt run break in the clean one?");
  if (first.runs > 0)
    out += fmt::format("{} edited runs by {} passes\n", grouped(first.runs), first.passes);
  out += "\n" + edges_table(each, style);
  for (const interp::PromptGroup& g : groups) {
    const auto some = of_group(g);
    const ScoresOver of = scores_over(some);
    out += fmt::format("\n{}, clean {}, corrupt {}\n", group_heading(field, g, "pair", style),
                       mean_text(interp::statistic(of.clean)),
                       mean_text(interp::statistic(of.corrupt))) +
           edges_table(some, style);
  }
  return out;
}

Json EdgeScoresReport::edges_json(const std::vector<interp::EdgeScores>& some) const {
  const interp::EdgeScores& first = some[0];
  const ScoresOver over = scores_over(some);
  Json edges = Json::list();
  const auto ranked = interp::ranked_edges(first.grid, over.mean);
  for (std::size_t i = 0; i < ranked.size() && static_cast<int>(i) < top; ++i) {
    const interp::StreamEdge& e = ranked[i];
    Json edge = {{"from", first.grid.senders[e.sender]}, {"to", first.grid.receivers[e.receiver]}};
    const double score = score_of(first.grid, over.mean, e);
    if (each.size() == 1) {
      edge["score"] = score;
    } else {
      edge["score"] =
          statistic_json({score, score_of(first.grid, over.standard_error, e), std::ssize(some)});
    }
    const auto found =
        std::find_if(verified.begin(), verified.end(), [&](const auto& v) { return v.edge == e; });
    edge["exact"] = found == verified.end() ? Json() : number_or_null(found->exact);
    edges.push_back(std::move(edge));
  }
  return edges;
}

Json EdgeScoresReport::json() const {
  const interp::EdgeScores& first = each[0];
  const ScoresOver over = scores_over(each);
  Json json = {{"method", name_of(first.spec.method)},
               {"direction", name_of(first.spec.direction)}};
  const bool path = first.spec.method == interp::EdgeMethod::eap_ig;
  json["rule"] = path ? Json(name_of(first.spec.rule)) : Json();
  json["steps"] = path || first.spec.method == interp::EdgeMethod::eap_ig_activations
                      ? Json(first.spec.steps)
                      : Json();
  json["metric"] = metric_json(first.spec.metric.text, over.clean, over.corrupt);
  json["count"] = first.grid.count();
  json["runs"] = first.runs;
  json["passes"] = first.passes;
  json["edges"] = edges_json(each);
  json["group_by"] = field.empty() ? Json() : Json(field);
  json["groups"] = Json::list();
  for (const interp::PromptGroup& g : groups) {
    const auto some = of_group(g);
    const ScoresOver of = scores_over(some);
    json["groups"].push_back({{"name", g.name},
                              {"pairs", g.members.size()},
                              {"metric",
                               {{"clean", statistic_json(interp::statistic(of.clean))},
                                {"corrupt", statistic_json(interp::statistic(of.corrupt))}}},
                              {"edges", edges_json(some)}});
  }
  Json pairs = Json::list();
  for (std::size_t p = 0; p < each.size(); ++p) {
    Json pair = example_json(model, examples[p]);
    pair["clean"] = each[p].clean;
    pair["corrupt"] = each[p].corrupt;
    pairs.push_back(std::move(pair));
  }
  json["pairs"] = std::move(pairs);
  return json;
}

NamedTensors EdgeScoresReport::tensors() const {
  const ScoresOver over = scores_over(each);
  NamedTensors tensors;
  tensors.emplace_back("edge/score", over.mean.to(DType::f32));
  tensors.emplace_back("edge/valid", each[0].grid.valid().to(DType::i32));
  if (each.size() > 1)
    tensors.emplace_back("edge/standard_error", over.standard_error.to(DType::f32));
  if (each.size() == 1 && each[0].by_position.defined())
    tensors.emplace_back("edge/by_position", each[0].by_position.to(DType::f32));
  tensors.emplace_back("metric/clean", scalar_f32(mean_of_all(over.clean)));
  tensors.emplace_back("metric/corrupt", scalar_f32(mean_of_all(over.corrupt)));
  for (const interp::PromptGroup& g : groups) {
    const ScoresOver of = scores_over(of_group(g));
    const std::string prefix = "group/" + g.name + "/";
    tensors.emplace_back(prefix + "edge/score", of.mean.to(DType::f32));
    tensors.emplace_back(prefix + "edge/standard_error", of.standard_error.to(DType::f32));
    tensors.emplace_back(prefix + "metric/clean", scalar_f32(mean_of_all(of.clean)));
    tensors.emplace_back(prefix + "metric/corrupt", scalar_f32(mean_of_all(of.corrupt)));
  }
  return tensors;
}
AxisNames EdgeScoresReport::axis_names() const { return edge_axes(each[0].grid); }

// ---- circuits -------------------------------------------------------------------------------------
namespace {

double mean_in(const std::vector<double>& values, const interp::PromptGroup& group) {
  double sum = 0;
  for (const std::size_t i : group.members) sum += values[i];
  return sum / static_cast<double>(std::max<std::size_t>(1, group.members.size()));
}

std::string file_name(const std::string& path) {
  return visible(path.substr(path.find_last_of('/') + 1));
}

std::string way_text(double x) {
  if (!std::isfinite(x)) return "-";
  return fmt::format("{:.1f}%", std::abs(x) < 5e-4 ? 0.0 : 100 * x);
}

}  // namespace

double CircuitReport::way_of(const std::vector<double>& values,
                             const interp::PromptGroup& group) const {
  const double clean = mean_in(runs.each_clean(), group),
               corrupt = mean_in(runs.each_corrupt(), group);
  if (std::abs(clean - corrupt) <= 1e-6 * std::max({1.0, std::abs(clean), std::abs(corrupt)}))
    return std::nan("");
  return (mean_in(values, group) - corrupt) / (clean - corrupt);
}

std::vector<double> CircuitReport::random_of(const interp::PromptGroup& group) const {
  std::vector<double> ways;
  for (const std::vector<double>& each : random) ways.push_back(way_of(each, group));
  return ways;
}

// Each group's pairs by themselves: does one circuit serve them all?
std::string CircuitReport::groups_text(const Style& style) const {
  std::vector<Table::Column> columns = {{field},
                                        {"pairs", CircuitAlign::right},
                                        {"clean", CircuitAlign::right},
                                        {"corrupt", CircuitAlign::right},
                                        {"faithful", CircuitAlign::right},
                                        {"without it", CircuitAlign::right}};
  if (!random.empty()) columns.push_back({"random circuits", CircuitAlign::right});
  for (const Compared& c : compared) columns.push_back({file_name(c.file), CircuitAlign::right});
  Table table(columns);
  for (const interp::PromptGroup& g : groups) {
    std::vector<std::string> cells = {visible(g.name),
                                      grouped(std::ssize(g.members)),
                                      number_of_size(mean_in(runs.each_clean(), g)),
                                      number_of_size(mean_in(runs.each_corrupt(), g)),
                                      style.bold(way_text(way_of(judged.each, g))),
                                      way_text(way_of(judged.each_complement, g))};
    if (!random.empty()) {
      const std::vector<double> ways = random_of(g);
      cells.push_back(
          fmt::format("{} ± {}", way_text(mean_of_all(ways)), way_text(deviation_of(ways))));
    }
    for (const Compared& c : compared) cells.push_back(way_text(way_of(c.judged.each, g)));
    table.row(std::move(cells));
  }
  return table.text(style);
}

Json CircuitReport::groups_json() const {
  Json list = Json::list();
  for (const interp::PromptGroup& g : groups) {
    Json json = {{"name", g.name},
                 {"pairs", g.members.size()},
                 {"clean", mean_in(runs.each_clean(), g)},
                 {"corrupt", mean_in(runs.each_corrupt(), g)}};
    json["faithfulness"] = number_or_null(way_of(judged.each, g));
    json["completeness"] = number_or_null(way_of(judged.each_complement, g));
    const std::vector<double> ways = random_of(g);
    json["random"] = random.empty() ? Json()
                                    : Json({{"mean", number_or_null(mean_of_all(ways))},
                                            {"deviation", number_or_null(deviation_of(ways))}});
    Json others = Json::list();
    for (const Compared& c : compared) {
      others.push_back({{"file", c.file},
                        {"faithfulness", number_or_null(way_of(c.judged.each, g))},
                        {"completeness", number_or_null(way_of(c.judged.each_complement, g))}});
    }
    json["compared"] = std::move(others);
    list.push_back(std::move(json));
  }
  return list;
}

std::string CircuitReport::text(const Style& style) const {
  const interp::EdgeGrid& grid = runs.grid();
  const auto edges = by_score(grid, circuit, scores);
  const auto kept = interp::kept_senders(grid, circuit);
  std::string out = prompts_text(examples) + "\n";
  out += fmt::format("{} is {} of the clean run, {} of the corrupt one\n", visible(metric),
                     mean_text(interp::statistic(runs.each_clean())),
                     mean_text(interp::statistic(runs.each_corrupt())));
  out += fmt::format("circuit by {}: {} of {} edges, {} of {} nodes", by,
                     grouped(static_cast<std::int64_t>(edges.size())),
                     grouped(static_cast<std::int64_t>(grid.count())),
                     std::count(kept.begin(), kept.end(), true), grid.senders.size());
  if (asked != edges.size())
    out += fmt::format(" ({} before those that lead nowhere or come from nowhere were pruned)",
                       grouped(static_cast<std::int64_t>(asked)));
  out += "\n\n";
  Table found(
      {{""}, {visible(metric), CircuitAlign::right}, {"of the way", CircuitAlign::right}, {""}});
  const auto way = way_text;
  const std::vector<double> by_chance = random_of(interp::all_prompts(examples.size()));
  found.row({"the circuit alone", number_of_size(judged.metric),
             style.bold(way(judged.faithfulness)),
             "faithfulness: all other edges carry the corrupt run"});
  found.row({"all but the circuit", number_of_size(judged.complement), way(judged.completeness),
             "completeness: 0% where nothing else does its work"});
  if (!random.empty()) {
    found.row({fmt::format("{} random circuits", random.size()), "",
               fmt::format("{} ± {}", way(mean_of_all(by_chance)), way(deviation_of(by_chance))),
               "of as many edges, mean and standard deviation"});
  }
  out += found.text(style);
  if (!groups.empty()) out += "\n" + groups_text(style);
  for (const Compared& c : compared) {
    out += fmt::format(
        "\n{}: {} edges, {} shared (Jaccard {:.2f}), {} of {} nodes shared; on these pairs {} "
        "faithful, {} without it\n",
        file_name(c.file), grouped(static_cast<std::int64_t>(c.overlap.second)),
        grouped(static_cast<std::int64_t>(c.overlap.both)), c.overlap.jaccard(),
        c.overlap.nodes_both, c.overlap.nodes_second, way(c.judged.faithfulness),
        way(c.judged.completeness));
  }
  for (const auto& [name, curve] : curves) {
    out += fmt::format("\nfaithfulness over sizes, edges {}: CPR {:.3f}, CMD {:.3f}\n", name,
                       curve.cpr, curve.cmd);
    Table sizes({{"share", CircuitAlign::right},
                 {"edges", CircuitAlign::right},
                 {"pruned", CircuitAlign::right},
                 {"faithfulness", CircuitAlign::right},
                 {""}});
    for (std::size_t i = 0; i < curve.fractions.size(); ++i) {
      sizes.row({fmt::format("{:.1f}%", 100 * curve.fractions[i]),
                 grouped(static_cast<std::int64_t>(curve.asked[i])),
                 grouped(static_cast<std::int64_t>(curve.edges[i])), way(curve.faithfulness[i]),
                 style.bar(bar(std::clamp(curve.faithfulness[i], 0.0, 1.0), 20))});
    }
    out += sizes.text(style);
  }
  return out + edges_text(style);
}

std::string CircuitReport::edges_text(const Style& style) const {
  const interp::EdgeGrid& grid = runs.grid();
  const auto edges = by_score(grid, circuit, scores);
  std::vector<Table::Column> columns = {{"from"}, {"to"}};
  const bool scored = !scored_by.empty();
  if (scored) columns.push_back({"score", CircuitAlign::right});
  if (!worth.empty()) columns.push_back({"worth", CircuitAlign::right});
  Table table(columns);
  const auto in_order = circuit.edges();
  for (std::size_t i = 0; i < edges.size() && static_cast<int>(i) < top; ++i) {
    std::vector<std::string> cells = {grid.senders[edges[i].sender],
                                      grid.receivers[edges[i].receiver]};
    if (scored) cells.push_back(signed_number(score_of(grid, scores, edges[i])));
    if (!worth.empty()) {
      const auto at = std::find(in_order.begin(), in_order.end(), edges[i]) - in_order.begin();
      cells.push_back(signed_number(worth[static_cast<std::size_t>(at)]));
    }
    table.row(std::move(cells));
  }
  std::string out;
  if (!edges.empty()) out += "\n" + table.text(style);
  if (std::ssize(edges) > top)
    out += fmt::format("and {} more edges\n", grouped(std::ssize(edges) - top));
  return out;
}

Json CircuitReport::json() const {
  const interp::EdgeGrid& grid = runs.grid();
  Json json = {{"by", by}, {"direction", name_of(direction)}};
  json["scored_by"] = scored_by.empty() ? Json() : Json(scored_by);
  json["metric"] = metric_json(metric, runs.each_clean(), runs.each_corrupt());
  json["of"] = grid.count();
  json["asked"] = asked;
  json["circuit"] = {{"metric", judged.metric}, {"faithfulness", judged.faithfulness}};
  json["complement"] = {{"metric", judged.complement}, {"faithfulness", judged.completeness}};
  Json edges = Json::list(), nodes = Json::list(), pairs = Json::list();
  const auto in_order = circuit.edges();
  for (const interp::StreamEdge& e : by_score(grid, circuit, scores)) {
    Json edge = {{"from", grid.senders[e.sender]}, {"to", grid.receivers[e.receiver]}};
    edge["score"] = number_or_null(score_of(grid, scores, e));
    const auto at = std::find(in_order.begin(), in_order.end(), e) - in_order.begin();
    edge["worth"] = worth.empty() ? Json() : Json(worth[static_cast<std::size_t>(at)]);
    edges.push_back(std::move(edge));
  }
  const auto kept = interp::kept_senders(grid, circuit);
  for (std::size_t u = 0; u < kept.size(); ++u) {
    if (kept[u]) nodes.push_back(grid.senders[u]);
  }
  json["nodes"] = std::move(nodes);
  json["senders"] = grid.senders;
  json["edges"] = std::move(edges);
  for (std::size_t p = 0; p < examples.size(); ++p) {
    Json pair = example_json(model, examples[p]);
    pair["clean"] = runs.each_clean()[p];
    pair["corrupt"] = runs.each_corrupt()[p];
    pair["circuit"] = judged.each[p];
    pair["complement"] = judged.each_complement[p];
    pairs.push_back(std::move(pair));
  }
  json["pairs"] = std::move(pairs);
  if (random.empty()) {
    json["random"] = Json();
  } else {
    const std::vector<double> ways = random_of(interp::all_prompts(examples.size()));
    json["random"] = {{"count", ways.size()}, {"mean", mean_of_all(ways)}};
    json["random"]["deviation"] = number_or_null(deviation_of(ways));
    json["random"]["values"] = ways;
  }
  json["curves"] = curves_json(curves);
  json["compared"] = compared_json();
  json["group_by"] = groups.empty() ? Json() : Json(field);
  json["groups"] = groups_json();
  return json;
}

Json CircuitReport::curves_json(
    const std::vector<std::pair<std::string, interp::CircuitCurve>>& curves) {
  Json curve_list = Json::list();
  for (const auto& [name, c] : curves) {
    curve_list.push_back({{"rank", name},
                          {"fractions", c.fractions},
                          {"asked", c.asked},
                          {"edges", c.edges},
                          {"faithfulness", c.faithfulness},
                          {"cpr", c.cpr},
                          {"cmd", c.cmd}});
  }
  return curve_list;
}

Json CircuitReport::compared_json() const {
  Json others = Json::list();
  for (const Compared& c : compared) {
    others.push_back({{"file", c.file},
                      {"edges", c.overlap.second},
                      {"shared", c.overlap.both},
                      {"jaccard", c.overlap.jaccard()},
                      {"nodes", c.overlap.nodes_second},
                      {"shared_nodes", c.overlap.nodes_both},
                      {"faithfulness", c.judged.faithfulness},
                      {"completeness", c.judged.completeness}});
  }
  return others;
}

NamedTensors CircuitReport::tensors() const {
  NamedTensors tensors;
  tensors.emplace_back("mask", circuit.tensor().to(DType::i32));
  tensors.emplace_back("score", scores.to(DType::f32));
  tensors.emplace_back("metric/circuit", scalar_f32(judged.metric));
  tensors.emplace_back("metric/complement", scalar_f32(judged.complement));
  tensors.emplace_back("faithfulness", scalar_f32(judged.faithfulness));
  tensors.emplace_back("complement_faithfulness", scalar_f32(judged.completeness));
  tensors.emplace_back("metric/clean", scalar_f32(runs.clean()));
  tensors.emplace_back("metric/corrupt", scalar_f32(runs.corrupt()));
  if (!random.empty()) {
    const std::vector<double> ways = random_of(interp::all_prompts(examples.size()));
    tensors.emplace_back("random/faithfulness",
                         Tensor::of({std::ssize(ways)}, ways).to(DType::f32));
  }
  for (const interp::PromptGroup& g : groups) {
    const std::string of = "group/" + g.name + "/";
    tensors.emplace_back(of + "faithfulness", scalar_f32(way_of(judged.each, g)));
    tensors.emplace_back(of + "complement_faithfulness",
                         scalar_f32(way_of(judged.each_complement, g)));
    for (const Compared& c : compared)
      tensors.emplace_back(of + "faithfulness/" + file_name(c.file),
                           scalar_f32(way_of(c.judged.each, g)));
    if (!random.empty()) {
      const std::vector<double> ways = random_of(g);
      tensors.emplace_back(of + "random/faithfulness",
                           Tensor::of({std::ssize(ways)}, ways).to(DType::f32));
    }
  }
  return tensors;
}
AxisNames CircuitReport::axis_names() const { return edge_axes(runs.grid()); }

}  // namespace vitrine::app

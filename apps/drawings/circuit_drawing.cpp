#include "apps/drawings/circuit_drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace vitrine::app {
namespace {

// As many of the strongest edges as a page can draw, and as its slider reaches.
constexpr std::size_t kMostRanked = 2000;

// Four digits, which is more than is shown.
Json score_json(double x) {
  if (!std::isfinite(x)) return {};
  const std::string text = fmt::format("{:.4g}", x);
  double value = x;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// "layer 4" of "a4.h2<q>" and "m4.f17"; "" of another name.
std::string layer_of(const std::string& name) {
  if (name.size() < 2 || (name[0] != 'a' && name[0] != 'm')) return "";
  const std::size_t end = name.find_first_not_of("0123456789", 1);
  return end == 1 ? "" : "layer " + name.substr(1, end == std::string::npos ? end : end - 1);
}

std::string row_name(const EdgeSenders& senders) {
  const std::string& first = senders.names.front();
  const std::string layer = layer_of(first);
  if (first == "input") return "embedding";
  if (layer.empty()) return first;
  return layer + (first[0] == 'a' ? ", heads" : ", MLP");
}

// A receiver whose values several senders are made of, and that is none itself: an MLP whose features are senders.
bool is_hub(const interp::EdgeGrid& grid, std::size_t v) {
  const std::string& name = grid.receivers[v];
  return grid.feeds[v].size() > 1 && name.back() != '>' &&
         std::find(grid.senders.begin(), grid.senders.end(), name) == grid.senders.end();
}

std::vector<std::string> ends_of(const interp::EdgeGrid& grid, std::size_t v) {
  if (grid.feeds[v].empty() || is_hub(grid, v)) return {grid.receivers[v]};
  std::vector<std::string> names;
  for (const std::size_t u : grid.feeds[v]) names.push_back(grid.senders[u]);
  return names;
}

// The rows of nodes, from below.
Json rows_json(const EdgeSet& edges, const interp::EdgeGrid& grid) {
  Json rows = Json::list();
  std::size_t first = 0;  // the row's first sender
  for (const EdgeSenders& senders : edges.senders) {
    for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
      if (is_hub(grid, v) && grid.feeds[v].front() == first)
        rows.push_back({{"name", layer_of(grid.receivers[v]) + ", into the MLP"},
                        {"nodes", std::vector<std::string>{grid.receivers[v]}}});
    }
    rows.push_back({{"name", row_name(senders)}, {"nodes", senders.names}});
    first += senders.names.size();
  }
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    if (grid.feeds[v].empty())
      rows.push_back(
          {{"name", grid.receivers[v]}, {"nodes", std::vector<std::string>{grid.receivers[v]}}});
  }
  return rows;
}

}  // namespace

Json circuit_drawing(const CircuitReport& report, const EdgeSet& edges) {
  const interp::EdgeGrid& grid = report.runs.grid();
  const double* score = report.scores.data<double>();
  const auto index = [&](const interp::StreamEdge& e) {
    return e.sender * grid.receivers.size() + e.receiver;
  };
  Json ends = Json::list(), inside = Json::list(), ranked = Json::list(), others = Json::list();
  for (std::size_t v = 0; v < grid.receivers.size(); ++v) {
    ends.push_back(ends_of(grid, v));
    if (!is_hub(grid, v)) continue;
    for (const std::size_t u : grid.feeds[v])
      inside.push_back(std::vector<std::string>{grid.receivers[v], grid.senders[u]});
  }
  double sum = 0;
  if (report.ranks_edges()) {
    std::vector<interp::StreamEdge> strongest = interp::ranked_edges(grid, report.scores);
    for (const interp::StreamEdge& e : strongest) sum += std::abs(score[index(e)]);
    strongest.resize(std::min(strongest.size(), kMostRanked));
    const auto from = interp::kept_from(grid, strongest);
    for (std::size_t i = 0; i < strongest.size(); ++i) {
      const interp::StreamEdge& e = strongest[i];
      ranked.push_back(Json::list({e.sender, e.receiver, score_json(score[index(e)]),
                                   from[i] == 0 ? Json() : Json(from[i])}));
    }
  }
  for (const CircuitReport::Compared& c : report.compared) {
    Json list = Json::list();
    for (const interp::StreamEdge& e : c.circuit.edges()) {
      const double own = score[index(e)];
      list.push_back(
          Json::list({e.sender, e.receiver,
                      score_json(report.ranks_edges() ? own : c.scores.data<double>()[index(e)])}));
    }
    others.push_back(std::move(list));
  }
  Json json = {{"receivers", grid.receivers}, {"rows", rows_json(edges, grid)}};
  json["ends"] = std::move(ends);
  json["inside"] = std::move(inside);
  json["ranked"] = std::move(ranked);
  json["score_sum"] = report.ranks_edges() ? Json(sum) : Json();
  json["curves"] = CircuitReport::curves_json(report.page_curves);
  json["compared_edges"] = std::move(others);
  return json;
}

}  // namespace vitrine::app

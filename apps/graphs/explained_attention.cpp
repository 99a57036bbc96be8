#include "apps/graphs/explained_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/options/options.h"
#include "apps/terminal/numbers.h"
#include "sae/graphs/node_names.h"

namespace vitrine::app {

void ExplainedAttentionOptions::add_to(CommandLine& line) {
  line.heading("Attention");
  line.option(
      "--explain-attention", places_, "L.H:QUERY:KEY",
      "why head H of layer L looks from position QUERY at KEY (may be given again): its score "
      "as a sum\n"
      "over pairs of what the query and the key read");
  line.option(
      "--explain-edge", edges_, "SOURCE,TARGET",
      "which heads carry this edge between two nodes (named as in --supernode), and why the "
      "strongest\n"
      "of them look there");
  line.number("--heads", heads_, "K", "how many of them are explained (default: 3)", 0, 1000);
  line.heading("Options");
}

std::vector<sae::AttentionPlace> ExplainedAttentionOptions::places(const CommandLine& line) const {
  std::vector<sae::AttentionPlace> places;
  for (const std::string& text : places_) {
    std::vector<std::string_view> parts;
    std::string_view rest = text;
    for (const char stop : {'.', ':', ':'}) {
      const auto at = rest.find(stop);
      if (at == std::string_view::npos) break;
      parts.push_back(rest.substr(0, at));
      rest.remove_prefix(at + 1);
    }
    parts.push_back(rest);
    const auto number = [&](std::string_view part) { return number_in<int>(part).value_or(-1); };
    const bool well = parts.size() == 4 && std::all_of(parts.begin(), parts.end(),
                                                       [&](auto p) { return number(p) >= 0; });
    if (!well)
      line.fail(
          fmt::format("--explain-attention '{}' is not LAYER.HEAD:QUERY:KEY, as in 1.2:4:3", text));
    places.push_back({number(parts[0]), number(parts[1]), number(parts[2]), number(parts[3])});
  }
  return places;
}

std::vector<std::pair<std::string, std::string>> ExplainedAttentionOptions::edges(
    const CommandLine& line) const {
  std::vector<std::pair<std::string, std::string>> edges;
  for (const std::string& text : edges_) {
    const auto comma = text.find(',');
    if (comma == std::string::npos || comma == 0 || comma + 1 == text.size())
      line.fail(fmt::format("--explain-edge '{}' is not SOURCE,TARGET, two names of nodes", text));
    edges.emplace_back(text.substr(0, comma), text.substr(comma + 1));
  }
  return edges;
}

namespace {

using sae::StreamPart;

std::string part_text(const nn::Model& model, const StreamPart& p) {
  switch (p.kind) {
    case StreamPart::Kind::feature:
      return fmt::format("feature {}.{}", p.layer, p.number);
    case StreamPart::Kind::error:
      return fmt::format("error {}", p.layer);
    case StreamPart::Kind::token:
      return "token " + token_label(tokenizer_of(model), static_cast<int>(p.number));
    case StreamPart::Kind::position:
      return "its position";
    case StreamPart::Kind::head:
      return fmt::format("head {}.{}", p.layer, p.number);
    case StreamPart::Kind::skip:
      return fmt::format("skip {}", p.layer);
    case StreamPart::Kind::bias:
      return "biases";
    case StreamPart::Kind::rest:
      break;
  }
  return fmt::format("{} others", p.together);
}

Json part_json(const sae::AttributionGraph& graph, const StreamPart& p, double total) {
  const bool numbered = p.kind == StreamPart::Kind::feature || p.kind == StreamPart::Kind::head ||
                        p.kind == StreamPart::Kind::token;
  return {{"kind", name_of(p.kind)},
          {"layer", p.layer < 0 ? Json() : Json(p.layer)},
          {"number", numbered ? Json(p.number) : Json()},
          {"node", p.node < 0 ? Json() : Json(sae::node_name(graph, p.node))},
          {"together", p.together},
          {"total", total}};
}

struct Pair {
  std::size_t query, key;
  double score;
};
std::vector<Pair> strongest_pairs(const sae::ScoreAttribution& s, std::size_t most) {
  std::vector<Pair> pairs;
  for (std::size_t i = 0; i < s.query.size(); ++i) {
    for (std::size_t j = 0; j < s.key.size(); ++j) pairs.push_back({i, j, s.at(i, j)});
  }
  const auto kept = std::min(most, pairs.size());
  std::partial_sort(pairs.begin(), pairs.begin() + static_cast<std::ptrdiff_t>(kept), pairs.end(),
                    [](const Pair& a, const Pair& b) {
                      return std::tuple(-std::abs(a.score), a.query, a.key) <
                             std::tuple(-std::abs(b.score), b.query, b.key);
                    });
  pairs.resize(kept);
  return pairs;
}

std::vector<std::size_t> strongest_first(const std::vector<double>& totals, std::size_t most) {
  std::vector<std::size_t> order(totals.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(totals[a]) > std::abs(totals[b]);
  });
  order.resize(std::min(order.size(), most));
  return order;
}

std::vector<double> totals_of(const sae::ScoreAttribution& s, bool query) {
  std::vector<double> totals;
  for (std::size_t i = 0; i < (query ? s.query : s.key).size(); ++i)
    totals.push_back(query ? s.of_query(i) : s.of_key(i));
  return totals;
}

std::string place_text(const sae::AttentionPlace& p) {
  return fmt::format("{}.{} from {} to {}", p.layer, p.head, p.query, p.key);
}

std::string score_text(const ExplainedAttention& e, const sae::ScoreAttribution& s,
                       const Style& style) {
  using Align = Table::Align;
  const nn::Tokenizer* tokenizer = tokenizer_of(e.model);
  const auto token = [&](std::int64_t p) {
    return token_label(tokenizer, e.graph.prompt[static_cast<std::size_t>(p)]);
  };
  std::string text = fmt::format(
      "\n{}, {} to {}: score {:.3f}, weight {}; {} x {} parts add up to it within {:.1e} of "
      "{:.1f}\n",
      style.bold("head " + place_text(s.place)), token(s.place.query), token(s.place.key), s.score,
      percent(s.pattern), s.query.size(), s.key.size(), s.closure(), s.magnitude());
  Table pairs({{"query has", Align::left}, {"key has", Align::left}, {"score", Align::right}});
  for (const Pair& p : strongest_pairs(s, e.top))
    pairs.row({part_text(e.model, s.query[p.query]), part_text(e.model, s.key[p.key]),
               fmt::format("{:+.3f}", p.score)});
  Table sides({{"query has", Align::left},
               {"with all keys", Align::right},
               {"key has", Align::left},
               {"with all queries", Align::right}});
  const std::vector<double> queries = totals_of(s, true), keys = totals_of(s, false);
  const auto of_query = strongest_first(queries, e.top), of_key = strongest_first(keys, e.top);
  for (std::size_t i = 0; i < std::max(of_query.size(), of_key.size()); ++i) {
    const bool q = i < of_query.size(), k = i < of_key.size();
    sides.row({q ? part_text(e.model, s.query[of_query[i]]) : "",
               q ? fmt::format("{:+.3f}", queries[of_query[i]]) : "",
               k ? part_text(e.model, s.key[of_key[i]]) : "",
               k ? fmt::format("{:+.3f}", keys[of_key[i]]) : ""});
  }
  return text + pairs.text(style) + "\n" + sides.text(style);
}

std::string edge_text(const ExplainedEdge& edge, std::size_t top, const Style& style) {
  using Align = Table::Align;
  std::string text = fmt::format(
      "\n{}: weight {:+.3f}, {:+.3f} of it through no head; through weights of heads (what goes "
      "through two counts for both):\n",
      style.bold(fmt::format("edge from {} to {}", edge.source, edge.target)), edge.carried.weight,
      edge.carried.direct);
  Table table({{"head", Align::left},
               {"query", Align::right},
               {"key", Align::right},
               {"weight", Align::right}});
  for (std::size_t i = 0; i < std::min(top, edge.carried.heads.size()); ++i) {
    const auto& [place, weight] = edge.carried.heads[i];
    table.row({fmt::format("{}.{}", place.layer, place.head), fmt::format("{}", place.query),
               fmt::format("{}", place.key), fmt::format("{:+.3f}", weight)});
  }
  return text + table.text(style);
}

Json place_json(const sae::AttentionPlace& p) {
  return {{"layer", p.layer}, {"head", p.head}, {"query", p.query}, {"key", p.key}};
}

}  // namespace

ExplainedAttention explain_attention(const nn::Model& model, const sae::TranscoderSet& set,
                                     const sae::AttributionGraph& graph, const CommandLine& line,
                                     const ExplainedAttentionOptions& options) {
  ExplainedAttention found{model, graph, {}, {}};
  std::vector<sae::AttentionPlace> places = options.places(line);
  for (const auto& [source, target] : options.edges(line)) {
    found.edges.push_back({source, target,
                           sae::heads_on_edge(model, set, graph, sae::node_named(graph, source),
                                              sae::node_named(graph, target))});
    const auto& heads = found.edges.back().carried.heads;
    for (std::size_t i = 0; i < std::min(heads.size(), static_cast<std::size_t>(options.heads()));
         ++i) {
      if (std::find(places.begin(), places.end(), heads[i].place) == places.end())
        places.push_back(heads[i].place);
    }
  }
  for (const sae::AttentionPlace& p : places)
    found.scores.push_back(sae::attribute_score(model, set, graph, p));
  return found;
}

std::string ExplainedAttention::text(const Style& style) const {
  std::string text;
  for (const ExplainedEdge& e : edges) text += edge_text(e, top, style);
  for (const sae::ScoreAttribution& s : scores) text += score_text(*this, s, style);
  if (!scores.empty())
    text +=
        "\nscores are those before the softmax; what is the same for all keys moves no attention\n";
  return text;
}

Json ExplainedAttention::attention_json() const {
  constexpr std::size_t kPairs = 200;
  Json list = Json::list();
  for (const sae::ScoreAttribution& s : scores) {
    Json one = place_json(s.place), queries = Json::list(), keys = Json::list(),
         pairs = Json::list();
    for (std::size_t i = 0; i < s.query.size(); ++i)
      queries.push_back(part_json(graph, s.query[i], s.of_query(i)));
    for (std::size_t j = 0; j < s.key.size(); ++j)
      keys.push_back(part_json(graph, s.key[j], s.of_key(j)));
    for (const Pair& p : strongest_pairs(s, kPairs))
      pairs.push_back({{"query", p.query}, {"key", p.key}, {"score", p.score}});
    one.update({{"score", s.score},
                {"pattern", s.pattern},
                {"closure", s.closure()},
                {"magnitude", s.magnitude()},
                {"query_parts", queries},
                {"key_parts", keys},
                {"pairs", pairs}});
    list.push_back(std::move(one));
  }
  return list;
}

Json ExplainedAttention::edges_json() const {
  Json list = Json::list();
  for (const ExplainedEdge& e : edges) {
    Json heads = Json::list();
    for (const auto& [place, weight] : e.carried.heads) {
      Json head = place_json(place);
      head["weight"] = weight;
      heads.push_back(std::move(head));
    }
    list.push_back({{"source", e.source},
                    {"target", e.target},
                    {"weight", e.carried.weight},
                    {"direct", e.carried.direct},
                    {"heads", heads}});
  }
  return list;
}

NamedTensors ExplainedAttention::tensors() const {
  NamedTensors tensors;
  for (const sae::ScoreAttribution& s : scores)
    tensors.emplace_back(fmt::format("attention/{}.{}.{}.{}", s.place.layer, s.place.head,
                                     s.place.query, s.place.key),
                         s.pairs);
  return tensors;
}

}  // namespace vitrine::app

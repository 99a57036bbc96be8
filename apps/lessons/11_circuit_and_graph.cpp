// Lesson 11. A circuit, and an attribution graph: which parts, and then which features, cause the answer.
#include <random>

#include "apps/lessons/11_transcoders.h"
#include "apps/lessons/lesson.h"
#include "interp/circuits/circuit_runs.h"
#include "interp/circuits/edge_attribution.h"
#include "nn/model/find_model.h"
#include "sae/graphs/effects.h"
#include "sae/graphs/pruned_graph.h"
#include "tensor/files/file.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

struct Fact {
  const char *place, *capital;
};
constexpr Fact kFacts[] = {{"Texas", " Austin"},  {"California", " Sacramento"},
                           {"France", " Paris"},  {"Japan", " Tokyo"},
                           {"Ohio", " Columbus"}, {"Italy", " Rome"},
                           {"Egypt", " Cairo"},   {"Oregon", " Salem"},
                           {"Spain", " Madrid"},  {"Greece", " Athens"}};

// Facts `first` to `last`, each against the next one of them.
std::vector<interp::Pair> pairs_of(const nn::Model& m, std::size_t first, std::size_t last) {
  std::vector<interp::Pair> pairs;
  for (std::size_t i = first; i < last; ++i) {
    const Fact &a = kFacts[i], &b = kFacts[i + 1 < last ? i + 1 : first];
    pairs.push_back(interp::prompt_pair(m, fmt::format("The capital of {} is", a.place),
                                        fmt::format("The capital of {} is", b.place), a.capital,
                                        b.capital));
  }
  return pairs;
}

void circuit(const nn::Model& m) {
  section("Every edge, cut by itself");
  // [snippet edges]
  const auto found_on = pairs_of(m, 0, 4), judged_on = pairs_of(m, 4, 10);
  const interp::EdgeSpec spec{.method = interp::EdgeMethod::exact,
                              .direction = interp::Direction::noise};
  const interp::EdgeScoreSummary edges = interp::summarise(interp::edge_scores(m, found_on, spec));
  // [/snippet edges]
  expect("edges", static_cast<double>(edges.grid.count()), near(1108, 0));

  section("The circuit: the 20 strongest, less those that lead nowhere");
  // [snippet circuit]
  const interp::EdgeMask circuit =
      interp::pruned(edges.grid, interp::strongest_edges(edges.grid, edges.mean, 20));
  const interp::Faithfulness judged = interp::CircuitRuns(m, judged_on).judge(circuit);
  // [/snippet circuit]
  std::vector<std::pair<std::string, double>> strengths;
  for (const interp::StreamEdge& e : circuit.edges())
    strengths.emplace_back(edges.grid.name(e.sender, e.receiver),
                           edges.mean.at<double>({int(e.sender), int(e.receiver)}));
  bars(strengths);
  expect("edges in the circuit", static_cast<double>(circuit.count()), near(18, 0));
  expect("faithfulness, on six other pairs", judged.faithfulness, between(0.3, 0.45));
  expect("completeness: what all other edges do without it", judged.completeness,
         between(-0.05, 0.1));

  section("More edges, and as many random ones");
  std::vector<Row> rows;
  std::vector<double> faithful;
  std::mt19937_64 random(1);
  const interp::CircuitRuns runs(m, judged_on);
  for (const std::size_t n : {20, 40, 60, 100}) {
    const auto more =
        interp::pruned(edges.grid, interp::strongest_edges(edges.grid, edges.mean, n));
    const auto chance = interp::random_edges(edges.grid, more.count(), random);
    faithful.push_back(runs.judge(more).faithfulness);
    rows.push_back({fmt::format("{}", more.count()), fmt::format("{:.0f}%", 100 * faithful.back()),
                    fmt::format("{:.0f}%", 100 * runs.judge(chance).faithfulness)});
  }
  table({"edges of 1108", "faithfulness", "random"}, rows);
  expect("the largest of them", faithful.back(), at_least(0.9));
}

// All sentences "The capital of ... is" in the texts that the default model's SAEs are measured on.
std::vector<nn::Tokens> capital_prompts(const nn::Model& m) {
  const std::string text = read_text(nn::find_model("") / "sae/sentences.txt"),
                    begin = "The capital of ";
  std::vector<nn::Tokens> prompts;
  for (std::size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at + 1)) {
    const std::size_t is = text.find(" is ", at), stop = text.find_first_of(".?!,\n", at);
    if (is < stop) prompts.push_back(m.tokens(text.substr(at, is + 3 - at)));
  }
  return prompts;
}

std::string name_of(const sae::AttributionGraph& g, std::int64_t node, const nn::Model& m) {
  const auto token = [&](std::int64_t pos) {
    return m.tokenizer().shown(g.prompt[static_cast<std::size_t>(pos)]);
  };
  if (node >= g.first_logit()) return "logit";
  if (node >= g.first_token()) return fmt::format("token \"{}\"", token(node - g.first_token()));
  if (node >= g.first_error()) {
    const std::int64_t e = node - g.first_error();
    return fmt::format("error of MLP {} at \"{}\"", e / g.positions(), token(e % g.positions()));
  }
  const sae::ActiveFeature& f = g.features[static_cast<std::size_t>(node)];
  return fmt::format("feature {}.{} at \"{}\"", f.layer, f.feature, token(f.position));
}

// What the sources of a kind add to the answer's logit.
double sum_over(const sae::AttributionRow& row, std::int64_t from, std::int64_t to) {
  double sum = 0;
  for (std::size_t i = 0; i < row.sources.size(); ++i)
    if (row.sources[i] >= from && row.sources[i] < to) sum += row.weights[i];
  return sum;
}

// At the last token of how many prompts each feature of a layer is on.
std::vector<int> counts(const nn::Model& m, const sae::TranscoderSet& set, int layer,
                        const std::vector<nn::Tokens>& prompts) {
  // [snippet active]
  const Site read = site::ln2_normalized(layer);
  const nn::Run run = m.run(prompts, read);
  std::vector<int> on(static_cast<std::size_t>(set.layers[layer].features()), 0);
  for (int i = 0; i < run.results.sequences(); ++i) {
    const Tensor x = run.results.sequence(read.name, i).select(0, 0);  // [position, d]
    const Tensor last = x.slice(0, x.dim(0) - 1, x.dim(0)).contiguous();
    const Tensor h = sae::pre_activations(set, layer, last, m.pool());
    const auto features = sae::activations(set, layer, h).to_vector<double>();
    for (std::size_t f = 0; f < features.size(); ++f) on[f] += features[f] > 0 ? 1 : 0;
  }
  // [/snippet active]
  return on;
}

void graph(const nn::Model& m) {
  section("Features: an attribution graph");
  const std::vector<nn::Tokens> prompts = capital_prompts(m);
  // [snippet graph]
  const sae::TranscoderSet set = train_transcoders(m, prompts);
  const sae::AttributionGraph g = sae::attribution_graph(
      m, set, m.tokens("The capital of Texas is"), {.logits = 2, .probability = 1});
  const sae::PrunedGraph kept = sae::prune(g);
  // [/snippet graph]
  const sae::AttributionRow& austin = g.rows[g.features.size()];  // the first logit
  bars({{"features", sum_over(austin, 0, g.first_error())},
        {"errors", sum_over(austin, g.first_error(), g.first_token())},
        {"tokens", sum_over(austin, g.first_token(), g.first_logit())}});
  expect("how far all sums are from their targets", g.closure() / g.largest_target(),
         at_most(1e-5));
  expect("active features", static_cast<double>(g.features.size()), between(200, 600));
  expect("of what reaches the logits, a share that is no error", kept.replacement_score,
         at_least(0.78));
  say("  {} of {} nodes and {} edges are left after pruning\n", kept.kept_nodes(), g.nodes(),
      kept.edges.size());

  section("Two logits: who prefers \" Austin\" to \" Texas\"? The graph, and the truth");
  // [snippet effects]
  const auto by_graph = sae::total_effects(g, 0), of_wrong = sae::total_effects(g, 1);
  std::vector<std::vector<std::size_t>> one_by_one;
  for (std::size_t f = 0; f < g.features.size(); ++f) one_by_one.push_back({f});
  const auto exact = sae::exact_effects(m, set, g, one_by_one, 0),
             exact_wrong = sae::exact_effects(m, set, g, one_by_one, 1);
  // [/snippet effects]
  const auto guess = [&](std::size_t f) { return by_graph[f] - of_wrong[f]; };
  const auto truth = [&](std::size_t f) { return exact[f] - exact_wrong[f]; };
  std::sort(one_by_one.begin(), one_by_one.end(), [&](const auto& a, const auto& b) {
    return std::abs(guess(a[0])) > std::abs(guess(b[0]));
  });
  std::vector<Row> rows;
  struct Sums {
    double both = 0, guesses = 0, truths = 0;
  } early, late;  // of products, over features of layers 0 to 3, and of layers 4 and 5
  std::vector<std::vector<int>> on;
  for (int layer = 0; layer < m.config().layers; ++layer)
    on.push_back(counts(m, set, layer, prompts));
  for (const auto& one : one_by_one) {
    const std::size_t f = one[0];
    const sae::ActiveFeature& feature = g.features[f];
    if (rows.size() < 10)
      rows.push_back({name_of(g, int(f), m), fmt::format("{:+.2f}", guess(f)),
                      fmt::format("{:+.2f}", truth(f)),
                      fmt::format("{} of {}", on[feature.layer][feature.feature], prompts.size())});
    Sums& sums = g.features[f].layer < 4 ? early : late;
    sums.both += guess(f) * truth(f), sums.guesses += guess(f) * guess(f),
        sums.truths += truth(f) * truth(f);
  }
  table({"without", "graph", "truth", "on in"}, rows);
  const auto correlation = [](const Sums& s) { return s.both / std::sqrt(s.guesses * s.truths); };
  expect("correlation, for features of layers 4 and 5", correlation(late), at_least(0.9));
  expect("for features of layers 0 to 3", correlation(early), at_most(0.85));
}

}  // namespace

int main() {
  const nn::Model model = nn::load_model();
  circuit(model);
  graph(model);
}

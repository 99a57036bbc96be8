// vitrine circuit: the edges that do a behaviour's work, found by scores or by runs, judged exactly.
#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "apps/drawings/circuit_drawing.h"
#include "apps/experiment/edit_options.h"
#include "apps/experiment/feature_nodes.h"
#include "apps/experiment/metric_options.h"
#include "apps/experiment/pair_options.h"
#include "apps/options/options.h"
#include "apps/reports/circuit_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "interp/circuits/circuit_file.h"
#include "nn/model/stream_edges.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

struct CircuitOptions {
  CommonOptions common;
  EditOptions edits;
  PairOptions prompts;
  MetricOptions metric;
  std::string by = "edges-ig", rule = "midpoint", apply, mib, dot, group_by;
  std::vector<std::string> compare;
  std::int64_t edges = 0, random = 10, features = 0;
  std::shared_ptr<const EdgeSet> edge_set;
  int steps = 5, top = 30;
  double threshold = 0;
  bool grow = false, worth = false, curve = false, norms_held = false;
  const Option *edges_given = nullptr, *threshold_given = nullptr;

  void add_to(CommandLine& line);
  void check(const CommandLine& line);
  interp::EdgeSpec scores_spec() const;
};

void CircuitOptions::add_to(CommandLine& line) {
  constexpr std::int64_t kMost = 100'000'000;
  prompts.add_to(line);
  prompts.add_file_to(line);
  line.option("--by", by, "exact|edges-ig|edges|acdc|greedy",
              "how edges are chosen: by their exact effect, each patched by itself; by EAP-IG or\n"
              "EAP, which estimate it; by ACDC, which cuts one after the other and keeps those\n"
              "that move the metric by --threshold; greedy: begins with the strongest by EAP-IG,\n"
              "ten times as many as --edges, and drops those that are worth least, measured\n"
              "again and again (default: edges-ig)")
      ->one_of({"exact", "edges-ig", "edges", "acdc", "greedy"});
  edges_given = line.number("--edges", edges, "N", "how many edges are chosen (default: 100)",
                            std::int64_t{1}, kMost);
  threshold_given = line.real("--threshold", threshold, "T",
                              "of acdc: the change of the metric from which on an edge is kept;\n"
                              "else: keeps the edges with |score| of at least T",
                              Reals{0, 1e30, true});
  line.flag("--grow", grow,
            "from the logits on, the strongest edge into what is there already; not the\n"
            "strongest wherever they are");
  line.number("--steps", steps, "N", "of edges-ig: points on the path (default: 5)", 1, 1'000'000);
  line.option("--rule", rule, "midpoint|eap-ig",
              "of edges-ig: where they lie: midpoints, or as EAP-IG 2.0 has them, the corrupt end\n"
              "included and the clean one not (default: midpoint)")
      ->one_of({"midpoint", "eap-ig"});
  line.number("--features", features, "K",
              "with --sae of an MLP's output: the K features that differ most between the runs\n"
              "are senders in its place (m4.f123), beside the rest (m4.error); those of files\n"
              "that are applied or compared are, too",
              std::int64_t{1}, kMost);
  line.option("--apply", apply, "FILE",
              "the circuit of a file, judged on these pairs: JSON that this verb or the\n"
              "Mechanistic Interpretability Benchmark wrote");
  line.option("--compare", compare, "FILE",
              "another circuit: what the two share, and whether it does this one's job (may be\n"
              "given again)");
  line.option(
      "--group-by", group_by, "FIELD",
      "with --pairs: also each group of pairs that have the same FIELD by itself: does one\n"
      "circuit serve all phrasings?");
  line.flag("--curve", curve,
            "faithfulness over sizes, with the areas CPR and CMD (--html draws it anyway)");
  line.flag("--worth", worth, "cuts each edge out of the circuit: what is it worth there?");
  line.number("--random", random, "N", "random circuits of as many edges beside it (default: 10)",
              std::int64_t{0}, kMost);
  line.flag("--hold-norms", norms_held,
            "the scales of all norms stay those of the unedited run, in scores and in cuts");
  metric.add_to(line);
  line.number("--top", top, "K", "how many edges are listed (default: 30)", 1, 1'000'000);
  line.option("--mib", mib, "FILE.json", "writes the circuit in the benchmark's format besides");
  line.option("--dot", dot, "FILE.dot", "writes it as a Graphviz drawing besides");
  edits.add_to(line, common);
  common.add_page_to(line);
  common.add_to(line,
                "FILE.safetensors, .npz or .csv: the tensors mask, score [sender, receiver],\n"
                "metric/circuit, metric/complement, faithfulness and others, besides what goes to\n"
                "stdout; FILE.json: the result, which --apply and --compare read",
                CommonOptions::Out::text_or_tensors);
}

void CircuitOptions::check(const CommandLine& line) {
  metric.require();
  if (metric.spec().reads(interp::MetricToken::Of::field)) {
    line.fail(
        "--metric: lists of a file (@FIELD) are read by 'vitrine patch', predict and evaluate; "
        "name tokens here: logit(\" Austin\")");
  }
  const bool estimates = by == "edges-ig" || by == "edges" || by == "greedy";
  if (estimates && apply.empty()) metric.spec().require_gradient();
  if (!apply.empty()) {
    for (const char* option :
         {"--by", "--edges", "--threshold", "--grow", "--steps", "--rule", "--curve"}) {
      if (line.was_given(option))
        line.fail(fmt::format("--apply judges a circuit that there is; {} finds one", option));
    }
  }
  if (by == "acdc" && threshold_given->count() == 0)
    line.fail(
        "--by acdc needs --threshold T: the change of the metric from which on an edge is kept");
  if (by == "acdc" && line.was_given("--edges"))
    line.fail("--by acdc keeps what moves the metric by --threshold; --edges goes with the others");
  if (edges_given->count() > 0 && threshold_given->count() > 0)
    line.fail("give --edges or --threshold, not both");
  if (by == "greedy" && threshold_given->count() > 0)
    line.fail("--by greedy prunes down to --edges N");
  if (by != "edges-ig" && by != "greedy") {
    for (const char* option : {"--steps", "--rule"}) {
      if (line.was_given(option))
        line.fail(fmt::format("{} is about a path; it goes with --by edges-ig", option));
    }
  }
  if (by == "acdc" && (grow || curve))
    line.fail("--grow and --curve rank edges by scores; ACDC has none");
  if (features > 0 && !line.was_given("--sae"))
    line.fail("--features makes features of a spliced SAE nodes; give --sae DIR");
  if (edges == 0) edges = 100;
  for (const std::string& file : {mib, dot}) {
    if (!file.empty()) check_folder_of(file);
  }
  if (!group_by.empty() && !prompts.from_file())
    line.fail("--group-by is about the pairs of a file; give --pairs FILE");
  prompts.require(line, false, needs_of({metric.spec()}));
}

interp::EdgeSpec CircuitOptions::scores_spec() const {
  interp::EdgeSpec spec;
  spec.method = by == "exact"   ? interp::EdgeMethod::exact
                : by == "edges" ? interp::EdgeMethod::eap
                                : interp::EdgeMethod::eap_ig;
  spec.rule = rule == "midpoint" ? interp::PathRule::midpoint : interp::PathRule::left;
  spec.steps = steps;
  spec.direction = prompts.direction();
  spec.metric = metric.spec();
  spec.norms_held = norms_held;
  spec.edges = edge_set;
  return spec;
}

// ---- what is found --------------------------------------------------------------------------------
struct FoundCircuit {
  interp::EdgeMask circuit;  // before pruning
  Tensor scores;
  std::string scored_by;
};

Tensor no_scores(const interp::EdgeGrid& grid) {
  return Tensor::full({std::ssize(grid.senders), std::ssize(grid.receivers)}, DType::f64,
                      std::nan(""));
}

interp::EdgeMask chosen(const CircuitOptions& o, const interp::EdgeGrid& grid, const Tensor& scores,
                        std::size_t n) {
  if (o.threshold_given->count() > 0) {
    interp::EdgeMask mask(grid);
    for (const interp::StreamEdge& e : interp::ranked_edges(grid, scores)) {
      if (std::abs(scores.data<double>()[e.sender * grid.receivers.size() + e.receiver]) >=
          o.threshold)
        mask.set(e);
    }
    return mask;
  }
  return o.grow ? interp::grown_edges(grid, scores, n) : interp::strongest_edges(grid, scores, n);
}

FoundCircuit find_circuit(const nn::Model& model, const std::vector<interp::Pair>& pairs,
                          const interp::CircuitRuns& runs, const CircuitOptions& o,
                          const Interruptible& interruptible) {
  const interp::EdgeGrid& grid = runs.grid();
  if (!o.apply.empty()) {
    const interp::CircuitFile file = interp::read_circuit(read_text(o.apply), o.apply, grid);
    return {file.circuit, file.scores, ""};
  }
  if (o.by == "acdc") {
    Progress progress("cutting", "edges", o.common.quiet);
    const auto found =
        interp::acdc(runs, o.threshold, [&](int done, int total) { progress.update(done, total); });
    // The score of an edge that stays is what it changed when it was cut.
    Tensor scores = no_scores(grid);
    for (const interp::EdgeDecision& d : found.decisions)
      scores.data<double>()[d.edge.sender * grid.receivers.size() + d.edge.receiver] = d.change;
    return {found.circuit, scores, "acdc"};
  }
  interp::EdgeSpec spec = o.scores_spec();
  Tensor scores;
  {
    Progress progress("scoring", spec.method == interp::EdgeMethod::exact ? "runs" : "steps",
                      o.common.quiet);
    spec.cancel = &interruptible.requested();
    spec.progress = [&](int done, int total) { progress.update(done, total); };
    scores = interp::summarise(interp::edge_scores(model, pairs, spec)).mean;
  }
  const auto n = static_cast<std::size_t>(o.edges);
  if (o.by != "greedy")
    return {chosen(o, grid, scores, n), scores, std::string(name_of(spec.method))};
  Progress progress("pruning", "edges", o.common.quiet);
  const auto found =
      interp::prune_greedily(runs, chosen(o, grid, scores, 10 * n), n, 0.1,
                             [&](int done, int total) { progress.update(done, total); });
  return {found.circuit, scores, std::string(name_of(spec.method))};
}

// The metric of random circuits, by pair.
std::vector<std::vector<double>> random_circuits(const interp::CircuitRuns& runs, std::size_t edges,
                                                 std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const interp::EdgeMask all = interp::all_edges(runs.grid());
  std::vector<interp::EdgeMask> cuts;
  for (std::int64_t i = 0; i < count; ++i)
    cuts.push_back(interp::without(all, interp::random_edges(runs.grid(), edges, random)));
  return runs.cut(cuts);
}

std::string found_by(const CircuitOptions& o) {
  if (!o.apply.empty()) return "the file " + o.apply;
  if (o.by == "acdc") return fmt::format("ACDC, threshold {}", o.threshold);
  const std::string scores = o.by == "exact" ? "exact scores"
                             : o.by == "edges"
                                 ? "EAP"
                                 : fmt::format("EAP-IG, {} {}", o.steps,
                                               o.rule == "midpoint" ? "midpoints" : "left points");
  if (o.by == "greedy") return "exact greedy pruning, begun with the strongest by " + scores;
  return o.grow ? scores + ", grown from the logits" : scores;
}

// With features as nodes, where SAEs are spliced in and it is wanted; null: the model's own edges.
std::shared_ptr<const EdgeSet> edges_for(const nn::Model& model,
                                         const std::vector<interp::Pair>& pairs,
                                         const CircuitOptions& o) {
  std::vector<std::string> files = o.compare;
  if (!o.apply.empty()) files.push_back(o.apply);
  const bool of_files = !files.empty() && !o.edits.spliced().empty();
  if (o.features == 0 && !of_files) return nullptr;
  return edges_with_features(model, o.edits.spliced(), pairs, o.features, files);
}

// What the circuit does by itself, beside random ones and those of files.
void judge(CircuitReport& report, const FoundCircuit& found, const CircuitOptions& o) {
  const interp::CircuitRuns& runs = report.runs;
  const interp::EdgeGrid& grid = runs.grid();
  report.judged = runs.judge(report.circuit);
  if (o.worth) report.worth = runs.worth(report.circuit);
  if (report.circuit.count() > 0)
    report.random = random_circuits(runs, report.circuit.count(), o.random, o.common.seed);
  if (o.curve || (!o.common.html.empty() && report.ranks_edges())) {
    const auto curve = [&](interp::EdgeRank rank) {
      return interp::circuit_curve(runs, found.scores, report.direction, rank);
    };
    report.page_curves.emplace_back("by |score|", curve(interp::EdgeRank::absolute));
    report.page_curves.emplace_back("by what raises the metric", curve(interp::EdgeRank::raising));
  }
  if (o.curve) report.curves = report.page_curves;
  for (const std::string& file : o.compare) {
    const interp::CircuitFile read = interp::read_circuit(read_text(file), file, grid);
    const interp::EdgeMask other = interp::pruned(grid, read.circuit);
    report.compared.push_back({file, interp::overlap(grid, report.circuit, other),
                               runs.judge(other), other, read.scores});
  }
}

void write_files(const CircuitReport& report, const CircuitOptions& o) {
  const interp::EdgeGrid& grid = report.runs.grid();
  if (!o.mib.empty()) {
    write_result(o.mib,
                 interp::circuit_json(report.model.config(), grid, report.circuit, report.scores));
  }
  if (!o.dot.empty()) write_result(o.dot, interp::circuit_dot(grid, report.circuit, report.scores));
}

}  // namespace

void verb_circuit(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Circuits: which edges between embedding, heads, MLPs and logits do the work? An edge is\n"
      "what one part's output adds to the input of a later one (of a head: to its query, key or\n"
      "value). The strongest are kept, and judged exactly: in the clean run all other edges\n"
      "carry the corrupt run, and everything recomputes.\n\n"
      "  faithfulness  how much of the way from corrupt to clean the circuit alone goes\n"
      "  completeness  the same of all edges but the circuit's: 0% where nothing else does its "
      "work\n\n"
      "Edges that lead nowhere or come from nowhere are pruned, which changes no number. A causal\n"
      "model can be asked what follows a prompt, not to fill a blank in its middle.\n\n"
      "json: {meta, by, direction, scored_by, metric: {name, clean, corrupt}, of, asked, circuit:\n"
      "{metric, faithfulness}, complement: {metric, faithfulness}, nodes, senders, edges: [{from, "
      "to, score,\n"
      "worth}], pairs: [{line, tokens, str_tokens, clean, corrupt, circuit, complement}], random:\n"
      "{count, mean, deviation, values}, curves: [{rank, fractions, asked, edges, faithfulness,\n"
      "cpr, cmd}], compared: [{file, edges, shared, jaccard, nodes, shared_nodes, faithfulness,\n"
      "completeness}], group_by, groups: [{name, pairs, clean, corrupt, faithfulness, "
      "completeness,\n"
      "random: {mean, deviation}, compared: [{file, faithfulness, completeness}]}], file}\n",
      "vitrine circuit --clean 'The capital of Texas is' --corrupt 'The capital of California is' "
      "--answer ' Austin' --wrong ' Sacramento' --edges 40");
  CircuitOptions options;
  options.add_to(line);
  if (!line.parse()) return;
  options.check(line);

  const Interruptible interruptible;
  const nn::Model model = options.common.load();
  const Json meta = options.common.meta(line);
  const interp::MetricSpec metric = options.metric.spec();
  std::vector<interp::Example> examples;
  if (options.prompts.from_file()) examples = options.prompts.examples(model, needs_of({metric}));
  else examples = {options.prompts.example(model)};
  options.edits.know(examples);
  std::vector<interp::Pair> pairs;
  for (const interp::Example& e : examples) pairs.push_back(pair_of(e, metric));

  options.edge_set = edges_for(model, pairs, options);
  interp::CircuitSpec spec;
  spec.metric = metric;
  spec.edges = options.edge_set;
  spec.norms_held = options.norms_held;
  spec.cancel = &interruptible.requested();
  const interp::CircuitRuns runs(model, pairs, spec);
  runs.ratio(runs.clean());  // throws where there is no way to go a part of
  const FoundCircuit found = find_circuit(model, pairs, runs, options, interruptible);
  CircuitReport report{.model = model,
                       .examples = examples,
                       .by = found_by(options),
                       .scored_by = found.scored_by,
                       .direction = options.prompts.direction(),
                       .metric = metric.text,
                       .runs = runs,
                       .circuit = interp::pruned(runs.grid(), found.circuit),
                       .scores = found.scores,
                       .asked = found.circuit.count(),
                       .judged = {},
                       .worth = {},
                       .random = {},
                       .curves = {},
                       .page_curves = {},
                       .compared = {},
                       .groups = {},
                       .field = options.group_by,
                       .top = options.top};
  judge(report, found, options);
  if (!options.group_by.empty()) report.groups = interp::grouped(examples, options.group_by);
  interruptible.check();
  write_files(report, options);
  write_presentation(options.common, meta,
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json = [&] { return report.json(); },
                      .tensors = [&] { return report.tensors(); },
                      .metadata = {{"by", report.by},
                                   {"direction", name_of(report.direction)},
                                   {"metric", report.metric}},
                      .axes = report.axis_names(),
                      .page = "circuit",
                      .page_data =
                          [&] {
                            return circuit_drawing(report, options.edge_set
                                                               ? *options.edge_set
                                                               : nn::stream_edges(model.config()));
                          }});
}

}  // namespace vitrine::app

// vitrine attribute: which activations matter, by gradients, and by exact patching of the
// strongest.
#include <fmt/format.h>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/experiment/feature_nodes.h"
#include "apps/experiment/metric_options.h"
#include "apps/experiment/pair_options.h"
#include "apps/options/options.h"
#include "apps/options/site_names.h"
#include "apps/pages/page.h"
#include "apps/reports/attribution_report.h"
#include "apps/reports/circuit_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

struct Options {
  CommonOptions common;
  EditOptions edits;
  PairOptions prompts;
  MetricOptions metric;
  interp::AttributionSpec spec;
  SiteOptions site{interp::IntegratedSpec{}.site.name};
  std::string method = "attribution-patching";
  std::string rule = "midpoint";
  std::int64_t features = 0;
  std::string pos;
  std::vector<interp::Position> positions;  // that pairs are lined up by
  int steps = 16, top = 20, verify = 10;
  bool each = false, norms_held = false;

  bool edges() const { return method.starts_with("edges"); }
};

std::vector<interp::PromptGroup> groups_of(const std::vector<interp::Example>& examples,
                                           const PairOptions& prompts) {
  return prompts.group_by().empty() ? std::vector<interp::PromptGroup>() : prompts.groups(examples);
}

// Of each site the scores, with --pairs also their standard errors, as the report's tensors have
// them; null where they are too many for a page.
Json scores_for_page(const NamedTensors& tensors, const Json& json) {
  constexpr std::int64_t kMostScores = 100'000;
  const Json* sites = json.find("sites");
  if (sites == nullptr) return Json::object();  // edges, or one site
  Json scores = Json::list(), errors = Json::list();
  bool with_errors = false;
  std::int64_t room = kMostScores;
  for (const Json& site : *sites->list_items()) {
    const std::string name = "node/" + *site.find("name")->text();
    scores.push_back(Json());
    errors.push_back(Json());
    bool fits = false;
    for (const auto& [tensor, values] : tensors) {
      if (tensor == name) {
        fits = values.numel() <= room;
        if (!fits) break;
        room -= values.numel();
        scores.back() = for_page(values, 4);
      } else if (tensor == name + "/standard_error" && fits) {
        errors.back() = for_page(values, 4);
        with_errors = true;
      }
    }
  }
  return {{"scores", scores}, {"errors", with_errors ? errors : Json()}};
}

template <class Report>
void write(const Report& report, const Options& options, const Json& meta) {
  write_presentation(
      options.common, meta,
      {.text = [&](const Style& style, int columns) { return report.text(style, columns); },
       .json = [&] { return report.json(); },
       .tensors = [&] { return report.tensors(); },
       .metadata = {{"method", options.method},
                    {"direction", name_of(options.spec.direction)},
                    {"metric", interp::metric_name(options.spec.measure, options.spec.metric)}},
       .axes = report.axis_names(),
       .page = "attribute",
       .page_data = [&] { return scores_for_page(report.tensors(), report.json()); }});
}

void attribute(const nn::Model& model, const interp::Example& example, const Options& options,
               const Json& meta) {
  const interp::Pair pair = pair_of(example, *options.spec.metric);
  const interp::Attribution a = interp::attribute(model, pair, options.spec);
  const auto verified = interp::verify_top(model, pair, a, options.verify);
  write(AttributionReport{model, example, a, verified, std::max(options.top, options.verify)},
        options, meta);
}

void attribute_pairs(const nn::Model& model, Options& options, const Json& meta) {
  const auto examples = options.prompts.examples(model, needs_of({*options.spec.metric}));
  options.edits.know(examples);
  std::vector<interp::Pair> pairs;
  for (const interp::Example& e : examples) pairs.push_back(pair_of(e, *options.spec.metric));
  auto found = interp::attribute(model, pairs, options.spec);
  if (!options.positions.empty())
    found = interp::lined_up(std::move(found), examples, options.positions);
  const auto verified = interp::verify_top(model, pairs, found, options.verify);
  write(PairsAttributionReport{model, examples, found, verified,
                               std::max(options.top, options.verify), options.each,
                               groups_of(examples, options.prompts), options.prompts.group_by(),
                               options.positions},
        options, meta);
}

void integrate(const nn::Model& model, const interp::Example& example, const Options& options,
               const Json& meta) {
  const Interruptible interruptible;
  interp::IntegratedSpec spec{.site = options.site.site(model),
                              .steps = options.steps,
                              .direction = options.spec.direction,
                              .metric = options.spec.metric,
                              .cancel = &interruptible.requested()};
  interp::Integrated ig;
  {
    Progress progress("integrating", "steps", options.common.quiet);
    spec.progress = [&](int done, int total) { progress.update(done, total); };
    ig = interp::integrated_gradients(model, pair_of(example, *options.spec.metric), spec);
  }
  interruptible.check();
  write(IntegratedReport{model, example, spec, ig}, options, meta);
}

interp::EdgeSpec edge_spec(const Options& options) {
  interp::EdgeSpec spec;
  spec.method = options.method == "edges"      ? interp::EdgeMethod::eap
                : options.method == "edges-ig" ? interp::EdgeMethod::eap_ig
                                               : interp::EdgeMethod::exact;
  spec.rule = options.rule == "midpoint" ? interp::PathRule::midpoint : interp::PathRule::left;
  spec.steps = options.steps;
  spec.by_position = options.spec.by_position;
  spec.norms_held = options.norms_held;
  spec.direction = options.spec.direction;
  spec.metric = *options.spec.metric;
  return spec;
}

void attribute_edges(const nn::Model& model, const std::vector<interp::Example>& examples,
                     const Options& options, const Json& meta) {
  const Interruptible interruptible;
  std::vector<interp::Pair> pairs;
  for (const interp::Example& e : examples) pairs.push_back(pair_of(e, *options.spec.metric));
  interp::EdgeSpec spec = edge_spec(options);
  if (options.features > 0)
    spec.edges = edges_with_features(model, options.edits.spliced(), pairs, options.features, {});
  const bool exact = spec.method == interp::EdgeMethod::exact;
  std::vector<interp::EdgeScores> scores;
  {
    Progress progress("scoring edges", exact ? "runs" : "steps", options.common.quiet);
    spec.cancel = &interruptible.requested();
    spec.progress = [&](int done, int total) { progress.update(done, total); };
    scores = interp::edge_scores(model, pairs, spec);
  }
  interruptible.check();
  std::vector<interp::VerifiedEdge> verified;
  if (!exact && pairs.size() == 1 && options.verify > 0)
    verified = interp::verify_edges(model, pairs[0], scores[0], options.verify);
  write(EdgeScoresReport{model, examples, scores, verified, std::max(options.top, options.verify),
                         groups_of(examples, options.prompts), options.prompts.group_by()},
        options, meta);
}

}  // namespace

void verb_attribute(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Gradient attribution: what would each activation do to the metric, to first order? The\n"
      "strongest are measured again by exact patching in the same direction, and both are "
      "shown.\n\n"
      "  attribution-patching  (other run - base run) . gradient at the base run: approximates\n"
      "                        'vitrine patch' at every place at once\n"
      "  grad-x-act            activation . gradient of the base run: approximates zeros; without\n"
      "                        --corrupt the base run is the clean one\n"
      "  ig                    integrated gradients at one --site, on the line from the base\n"
      "                        run's value to the other's, with --steps\n"
      "  edges, edges-ig       edge attribution patching: what each part's output does in the "
      "input\n"
      "                        of each later one (of a head: query, key, value), to first order;\n"
      "                        with gradients along the way between the runs (EAP-IG), by --rule\n"
      "  edges-exact           each of these edges patched by itself\n\n"
      "json: {meta, method, direction, metric: {name, clean, corrupt}, tokens, str_tokens,\n"
      "nodes: [{site, layer, pos, head, feature, score, exact, why_not}], sites: [{name, axes,\n"
      "layers, shape}], file}; why_not says why exact is null. ig: {..., site, steps, axes, "
      "shape,\n"
      "values, at_base, at_other, sum, completeness_error, file}. With --pairs the metric's clean "
      "and\n"
      "corrupt, and each node's score, size (of |score|) and exact are {mean, standard_error,\n"
      "count} over the pairs, and there are pos (of --pos, else null), group_by, groups: [{name,\n"
      "pairs, metric, nodes}] (each with its own strongest; exact of those that are the strongest\n"
      "of all) and pairs: [{line, tokens, str_tokens, metric}]. edges...: {method, rule, steps,\n"
      "direction, metric, count, runs, passes, edges: [{from, to, score, exact}], group_by, "
      "groups:\n"
      "[{name, pairs, metric, edges}], pairs: [{line, tokens, str_tokens, clean, corrupt}], "
      "file}\n",
      "vitrine attribute --clean 'The capital of Texas is' --corrupt 'The capital of California "
      "is' --answer ' Austin' --wrong ' Sacramento' --verify 5");
  Options options;
  CommonOptions& common = options.common;
  interp::AttributionSpec& spec = options.spec;
  constexpr int kMost = 1'000'000;
  options.prompts.add_to(line);
  options.prompts.add_file_to(line);
  line.option("--method", options.method,
              "attribution-patching|grad-x-act|ig|edges|edges-ig|edges-exact",
              "see above (default: attribution-patching)")
      ->one_of({"attribution-patching", "grad-x-act", "ig", "edges", "edges-ig", "edges-exact"});
  auto* sites =
      line.option("--sites", spec.sites.patterns, "GLOB,...",
                  "which sites are scored: z (in all layers), 2.z, blocks.2.attn.hook_z; * stands\n"
                  "for any characters ('*': all; default: the stream, what attention and MLPs\n"
                  "write, heads' z and neurons)");
  auto* by_position = line.flag("--by-pos", spec.by_position,
                                "heads and neurons at each position, not over all positions; of\n"
                                "edges: edge/by_position besides");
  line.option(
      "--pos", options.pos, "P,...|ROLE,...",
      "with --pairs: --by-pos, and only these positions, by which pairs of different lengths\n"
      "line up: roles of the file, whose tokens are summed, from the end (-1), numbers");
  options.site.add_to(line,
                      "of ig: where the line goes, in full or as 2.z, or z with --layer 2\n"
                      "(default: blocks.0.hook_resid_pre)");
  auto* steps = line.number("--steps", options.steps, "N",
                            "of ig and edges-ig: points on the way (default: 16)", 1, kMost);
  auto* rule = line.option("--rule", options.rule, "midpoint|eap-ig",
                           "of edges-ig: midpoints, or k / N of the way from the other run to the\n"
                           "base run, k = 0 ... N - 1, as EAP-IG 2.0 (default: midpoint)")
                   ->one_of({"midpoint", "eap-ig"});
  auto* features =
      line.number("--features", options.features, "K",
                  "of edges, with --sae of an MLP's output: the K features that differ\n"
                  "most between the runs are senders in its place, beside the rest",
                  std::int64_t{1}, std::int64_t{kMost});
  auto* held = line.flag("--hold-norms", options.norms_held,
                         "of edges: the scales of all norms stay those of the unedited run");
  options.metric.add_to(line);
  line.number("--top", options.top, "K", "how many of the strongest are listed (default: 20)", 1,
              kMost);
  auto* verify = line.number("--verify", options.verify, "K",
                             "how many of them are measured exactly (default: 10)", 0, kMost);
  auto* each = line.flag("--each", options.each, "with --pairs: also a line for each pair");
  options.prompts.add_groups_to(line);
  options.edits.add_to(line, common);
  common.add_page_to(line);
  common.add_to(
      line,
      "FILE.safetensors, .npz or .csv: the tensors node/SITE ([layer, pos], [layer, head] or\n"
      "[layer, neuron]), or ig/SITE [pos] and ig/target, or edge/score and edge/valid\n"
      "[sender, receiver] (and edge/by_position), with metric/clean and\n"
      "metric/corrupt, besides what goes to stdout; any other FILE: the table or JSON,\n"
      "and not to stdout",
      CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  const bool ig = options.method == "ig";
  if (ig && (sites->count() + by_position->count() + verify->count() > 0))
    line.fail("--method ig is about one --site; --sites, --by-pos and --verify go with the others");
  const bool no_path = !ig && options.method != "edges-ig";
  if ((!ig && options.site.given()) || (no_path && steps->count() > 0)) {
    line.fail(
        "--site and --steps go with --method ig (as does --layer), --steps with edges-ig too; the "
        "others take --sites");
  }
  if (options.method != "edges-ig" && rule->count() > 0)
    line.fail("--rule goes with --method edges-ig");
  if (!options.edges() && held->count() + features->count() > 0) {
    line.fail("--hold-norms and --features go with --method edges, edges-ig and edges-exact");
  }
  if (features->count() > 0 && !line.was_given("--sae"))
    line.fail("--features makes features of a spliced SAE senders; give --sae DIR");
  if (options.edges() && sites->count() > 0)
    line.fail("edges lie between heads, MLPs, embedding and logits; --sites goes with the others");
  if (options.method == "edges-exact" && verify->count() > 0)
    line.fail("--method edges-exact measures every edge already; --verify goes with the others");
  spec.method = options.method == "grad-x-act" ? interp::Method::grad_x_act
                                               : interp::Method::attribution_patching;
  options.metric.require();
  spec.metric = options.metric.spec();
  if (options.method != "edges-exact") spec.metric->require_gradient();
  if (spec.metric->reads(interp::MetricToken::Of::field)) {
    line.fail(
        "--metric: lists of a file (@FIELD) are read by 'vitrine patch', predict and evaluate; "
        "name tokens here: logit(\" Austin\")");
  }
  options.prompts.require(line, spec.method == interp::Method::grad_x_act,
                          needs_of({*spec.metric}));
  spec.direction = options.prompts.direction();

  if (each->count() > 0 && !options.prompts.from_file())
    line.fail("--each is about the pairs of a file; give --pairs FILE");
  if (ig && options.prompts.from_file())
    line.fail("--method ig is about one pair of prompts; --pairs goes with the others");
  if (!options.pos.empty()) {
    if (ig || options.edges() || !options.prompts.from_file())
      line.fail(
          "--pos lines up the positions of many pairs; it goes with --pairs FILE and --method "
          "attribution-patching or grad-x-act");
    options.positions = parse_positions(line, "--pos", options.pos);
    spec.by_position = true;
  }
  const nn::Model model = common.load();
  spec.sites.patterns =
      full_patterns(spec.sites.patterns, model.build(nn::BatchSize{1, 1, 1}).site_names());
  const Json meta = common.meta(line);
  if (options.edges()) {
    std::vector<interp::Example> examples;
    if (options.prompts.from_file())
      examples = options.prompts.examples(model, needs_of({*spec.metric}));
    else examples = {options.prompts.example(model)};
    options.edits.know(examples);
    return attribute_edges(model, examples, options, meta);
  }
  if (options.prompts.from_file()) return attribute_pairs(model, options, meta);
  const interp::Example pair = options.prompts.example(model);
  if (ig) integrate(model, pair, options, meta);
  else attribute(model, pair, options, meta);
}

}  // namespace vitrine::app

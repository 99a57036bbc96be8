// vitrine attribute: which activations matter, by gradients, and by exact patching of the
// strongest.
#include <fmt/format.h>

#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/experiment/pair_options.h"
#include "apps/options/options.h"
#include "apps/options/site_names.h"
#include "apps/reports/attribution_report.h"
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
  int steps = 16, top = 20, verify = 10;
  bool each = false;
};

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
       .axes = report.axis_names()});
}

// Of the answers that the metric reads each must be one token; those that it does not read are 0.
interp::Pair pair_of(const interp::Example& e, const interp::MetricSpec& metric) {
  const auto token = [&](const std::vector<nn::Tokens>& answers, interp::MetricToken::Of of,
                         const char* what) {
    if (!metric.reads(of)) return 0;
    if (answers.size() == 1 && answers[0].size() == 1) return answers[0][0];
    throw Error(ErrorKind::input,
                fmt::format("line {}: gradients are taken of pairs with one {} of one token",
                            e.line, what));
  };
  return {e.prompt, e.corrupt, token(e.answers, interp::MetricToken::Of::answer, "answer"),
          token(e.wrongs, interp::MetricToken::Of::wrong, "wrong answer")};
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
  const auto found = interp::attribute(model, pairs, options.spec);
  const auto verified = interp::verify_top(model, pairs, found, options.verify);
  write(PairsAttributionReport{model, examples, found, verified,
                               std::max(options.top, options.verify), options.each},
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
      "                        run's value to the other's, with --steps\n\n"
      "json: {meta, method, direction, metric: {name, clean, corrupt}, tokens, str_tokens,\n"
      "nodes: [{site, layer, pos, head, feature, score, exact, why_not}], sites: [{name, axes,\n"
      "layers, shape}], file}; why_not says why exact is null. ig: {..., site, steps, axes, "
      "shape,\n"
      "values, at_base, at_other, sum, completeness_error, file}. With --pairs the metric's clean "
      "and\n"
      "corrupt, and each node's score, size (of |score|) and exact are {mean, standard_error,\n"
      "count} over the pairs, and there are pairs: [{line, tokens, str_tokens, metric}]\n",
      "vitrine attribute --clean 'The capital of Texas is' --corrupt 'The capital of California "
      "is' --answer ' Austin' --wrong ' Sacramento' --verify 5");
  Options options;
  CommonOptions& common = options.common;
  interp::AttributionSpec& spec = options.spec;
  constexpr int kMost = 1'000'000;
  options.prompts.add_to(line);
  options.prompts.add_file_to(line);
  line.option("--method", options.method, "attribution-patching|grad-x-act|ig",
              "see above (default: attribution-patching)")
      ->one_of({"attribution-patching", "grad-x-act", "ig"});
  auto* sites =
      line.option("--sites", spec.sites.patterns, "GLOB,...",
                  "which sites are scored: z (in all layers), 2.z, blocks.2.attn.hook_z; * stands\n"
                  "for any characters ('*': all; default: the stream, what attention and MLPs\n"
                  "write, heads' z and neurons)");
  auto* by_position = line.flag("--by-pos", spec.by_position,
                                "heads and neurons at each position, not over all positions");
  options.site.add_to(line,
                      "of ig: where the line goes, in full or as 2.z, or z with --layer 2\n"
                      "(default: blocks.0.hook_resid_pre)");
  auto* steps =
      line.number("--steps", options.steps, "N", "of ig: midpoints (default: 16)", 1, kMost);
  options.metric.add_to(line);
  line.number("--top", options.top, "K", "how many of the strongest are listed (default: 20)", 1,
              kMost);
  auto* verify = line.number("--verify", options.verify, "K",
                             "how many of them are measured exactly (default: 10)", 0, kMost);
  auto* each = line.flag("--each", options.each, "with --pairs: also a line for each pair");
  options.edits.add_to(line, common);
  common.add_to(
      line,
      "FILE.safetensors, .npz or .csv: the tensors node/SITE ([layer, pos], [layer, head] or\n"
      "[layer, neuron]), or ig/SITE [pos] and ig/target, with metric/clean and\n"
      "metric/corrupt, besides what goes to stdout; any other FILE: the table or JSON,\n"
      "and not to stdout",
      CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  const bool ig = options.method == "ig";
  if (ig && (sites->count() + by_position->count() + verify->count() > 0))
    line.fail("--method ig is about one --site; --sites, --by-pos and --verify go with the others");
  if (!ig && options.site.given() + steps->count() > 0)
    line.fail("--site and --steps go with --method ig (as does --layer); the others take --sites");
  spec.method = options.method == "grad-x-act" ? interp::Method::grad_x_act
                                               : interp::Method::attribution_patching;
  options.metric.require();
  spec.metric = options.metric.spec();
  spec.metric->require_gradient();
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
  const nn::Model model = common.load();
  spec.sites.patterns =
      full_patterns(spec.sites.patterns, model.build(nn::BatchSize{1, 1, 1}).site_names());
  const Json meta = common.meta(line);
  if (options.prompts.from_file()) return attribute_pairs(model, options, meta);
  const interp::Example pair = options.prompts.example(model);
  if (ig) integrate(model, pair, options, meta);
  else attribute(model, pair, options, meta);
}

}  // namespace vitrine::app

// vitrine patch: which activations make the answer differ between two prompts?
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/experiment/pair_options.h"
#include "apps/options/options.h"
#include "apps/options/site_names.h"
#include "apps/reports/patch_report.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {
namespace {

using interp::Replacement;

// What is swept: resid_pre of "resid_pre", "hook_resid_pre" or "blocks.*.hook_resid_pre"; z of
// "attn.hook_z"; in layer 2 alone of "2.z" or "blocks.2.attn.hook_z".
void set_site(interp::SweepSpec& spec, std::string_view typed) {
  const SiteName name = site_name(typed);
  if (name.layer) spec.layers = {*name.layer};
  spec.site = short_name(name.inside);
}

struct Options {
  CommonOptions common;
  EditOptions edits;
  PairOptions prompts;
  MetricOptions metric;
  interp::SweepSpec spec;
  int top = 5;
  bool explain = false, each = false, normalise = false;
};

// ---- running ------------------------------------------------------------------------------------
std::vector<interp::PatchSweep> sweeps_of(const nn::Model& model,
                                          std::span<const interp::Example> pairs,
                                          Options& options) {
  Progress progress("patching", "runs", options.common.quiet);
  options.spec.progress = [&](int done, int total) { progress.update(done, total); };
  return interp::patch_examples(model, pairs, options.spec);
}

// The mean metric of the unedited runs.
MetricEnds ends_of(const std::vector<interp::PatchSweep>& sweeps) {
  MetricEnds ends;
  for (const interp::PatchSweep& s : sweeps) {
    ends.clean += s.clean / static_cast<double>(sweeps.size());
    ends.corrupt += s.corrupt / static_cast<double>(sweeps.size());
  }
  return ends;
}

// Throws Error (input), naming the line, for a pair that has no other of its length.
void check_resampling(const std::vector<interp::Example>& pairs) {
  std::map<std::size_t, int> count;
  for (const interp::Example& p : pairs) ++count[p.prompt.size()];
  for (const interp::Example& p : pairs) {
    const std::size_t length = p.prompt.size();
    if (count[length] > 1) continue;
    throw Error(ErrorKind::input,
                fmt::format("--action resample takes values from another pair with as many tokens, "
                            "but the one of line {} is the only one with {}; give more pairs of "
                            "that length",
                            p.line, length));
  }
}

// ---- what becomes of it -------------------------------------------------------------------------
template <class Report>
void write(const Report& report, const Options& options, const Json& meta,
           const std::vector<std::string>& axes, const Shape& shape,
           const std::string& explanation) {
  const auto text = [&](const Style& style, int columns) {
    const std::string found = report.text(options.top, style, columns);
    return options.explain ? found + "\n" + explanation : found;
  };
  const auto json = [&] {
    Json found = report.json(options.top);
    found["explanation"] = options.explain ? Json(explanation) : Json();
    return found;
  };
  write_presentation(options.common, meta,
                     {.text = text,
                      .json = json,
                      .tensors = [&] { return report.tensors(); },
                      .metadata = {{"site", options.spec.site},
                                   {"by", name_of(options.spec.by)},
                                   {"action", name_of(options.spec.replacement)},
                                   {"direction", name_of(options.spec.direction)},
                                   {"metric", metric_name(options.spec)},
                                   {"axes", fmt::format("{}", fmt::join(axes, ","))}},
                      .written = "sweep " + to_string(shape),
                      .axes = report.axis_names()});
}

}  // namespace

void verb_patch(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Activation patching: the base prompt is run once for each layer and place, with\n"
      "the other prompt's activation (or zero, a mean, another pair's) put in there. The metric\n"
      "of each such run, after the last token, says what the place carries.\n\n"
      "json: {meta, site, by, action, direction, metric: {name, clean, corrupt}, runs,\n"
      "passes, without_effect, axes, layers, shape, values, tokens, str_tokens, strongest: "
      "[{layer,\n"
      "..., metric, change, fraction}], explanation, file}; values are lists within lists, along "
      "axes.\n"
      "With --pairs, instead of values, tokens and str_tokens: mean, standard_error (null for a\n"
      "single pair), count, pairs: [{line, tokens, str_tokens, metric: {clean, corrupt}, shape,\n"
      "values}]; and strongest: [{layer, ..., metric, change, standard_error, count}]\n"
      "With --normalise metric also has normalised: {clean, corrupt}, what 1 and 0 stand for.\n",
      "vitrine patch --clean 'The capital of Texas is' --corrupt 'The capital of California is' "
      "--answer ' Austin' --wrong ' Sacramento' --site resid_pre");
  Options options;
  CommonOptions& common = options.common;
  interp::SweepSpec& spec = options.spec;
  std::string by, action = "patch";
  constexpr int kMost = 1'000'000;
  options.prompts.add_to(line);
  options.prompts.add_file_to(line);
  line.option("--site", spec.site, "S",
              "what is patched: resid_pre, resid_mid, resid_post, attn_out, mlp_out (the\n"
              "stream and what is added to it), z, q, k, v, pattern (of heads), in all layers;\n"
              "2.z or blocks.2.attn.hook_z in one")
      ->required();
  line.option("--by", by, "pos|head|head,pos|head,dest|head,dest,src",
              "what one run changes: pos, a position (the stream's sites, and all heads of\n"
              "z, q, k, v together); head; head,pos (z, q, k, v); head,dest and head,dest,src,\n"
              "a row and an entry of a pattern (default: pos for the stream, else head)");
  line.option("--action", action, "patch|zero|mean|resample",
              "what is put in: patch, the other run's values; zero; mean, the mean over all\n"
              "positions of all prompts; resample, the values of another pair's base run,\n"
              "which --seed chooses among those of the same length (default: patch)")
      ->one_of({"patch", "zero", "mean", "resample"});
  options.metric.add_to(line);
  line.flag("--normalise", options.normalise,
            "metrics as fractions of the way from the corrupt runs (0) to the clean (1)");
  line.number("--top", options.top, "K", "how many of the strongest are listed (default: 5)", 1,
              kMost);
  auto* each = line.flag("--each", options.each,
                         "with --pairs: also a line for each pair (JSON has them always)");
  line.flag("--explain", options.explain,
            "also say how the runs were made: passes, work and memory avoided");
  options.edits.add_to(line, common);
  common.add_to(line,
                "FILE.safetensors or .npz: the tensors sweep, metric/clean, metric/corrupt (f32),\n"
                "with --pairs also sweep/change, sweep/standard_error, sweep/count and\n"
                "pair/N/sweep, pair/N/clean, pair/N/corrupt, besides what goes to stdout; .csv:\n"
                "their elements, one a line; any other FILE: the table or JSON, and not to stdout",
                CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  set_site(spec, std::string(spec.site));
  const auto ways = interp::ways_to_sweep(spec.site);
  spec.by = by.empty() ? ways.front() : interp::parse_by(by);
  interp::check_sweep(spec.site, spec.by);
  spec.replacement = interp::parse_replacement(action);
  spec.direction = options.prompts.direction();
  options.metric.require();
  const interp::MetricSpec metric = options.metric.spec();
  spec.metric = metric;
  spec.seed = common.seed;
  if (spec.replacement == Replacement::resample && !options.prompts.from_file())
    line.fail("--action resample takes values from other pairs; give several with --pairs FILE");
  const PromptsNeed need = needs_of({metric});
  options.prompts.require(line, false, need);
  if (each->count() > 0 && !options.prompts.from_file())
    line.fail("--each is about the pairs of a file; give --pairs FILE");

  const nn::Model model = common.load();
  const Json meta = common.meta(line);
  const bool many = options.prompts.from_file();
  const std::vector<interp::Example> pairs =
      many ? options.prompts.examples(model, need) : std::vector{options.prompts.example(model)};
  options.edits.know(pairs);
  if (many && spec.replacement == Replacement::resample) check_resampling(pairs);
  std::vector<interp::PatchSweep> sweeps = sweeps_of(model, pairs, options);
  std::optional<MetricEnds> ends;
  if (options.normalise) {
    ends = ends_of(sweeps);
    sweeps = interp::normalised(std::move(sweeps));
  }
  if (!many) {
    return write(PatchReport{model, pairs[0], spec, sweeps[0], ends}, options, meta, sweeps[0].axes,
                 sweeps[0].values.shape(), sweeps[0].explanation);
  }
  const PairsReport report{model, pairs, spec, sweeps, options.each, ends};
  write(report, options, meta, report.summary.axes, report.summary.mean.shape(),
        report.summary.explanation);
}

}  // namespace vitrine::app

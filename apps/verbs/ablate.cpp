// vitrine ablate: which parts does an answer need, alone and together?
#include <fmt/format.h>

#include <algorithm>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/options/options.h"
#include "apps/reports/ablation_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "interp/ablation.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

struct AblateOptions {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  TokenOptions answer{"answer"}, wrong{"wrong"};
  DataSetOptions data;
  MetricOptions metric;
  std::string of = "heads", sets = "single", action = "zero", grow = "break", pos;
  std::int64_t active = 50;
  int top = 20;
  interp::GrowthSpec growth;
  interp::AblationSpec spec;

  void add_to(CommandLine& line);
  void check(const CommandLine& line);
  std::vector<interp::Example> examples(const nn::Model& model);
};

void AblateOptions::add_to(CommandLine& line) {
  constexpr std::int64_t kMost = 1'000'000;
  prompt.add_to(line);
  line.heading("Prompt");
  answer.add_to(line, "what should follow the prompt: one token, with its leading space");
  wrong.add_to(line, "what should not");
  data.add_to(line);
  line.option("--of", of, "heads|mlps|layers|features",
              "what is ablated: heads (z), MLPs (mlp_out), layers (attn_out and mlp_out\n"
              "together), or the features of a spliced --sae (default: heads)")
      ->one_of({"heads", "mlps", "layers", "features"});
  line.number("--active", active, "K",
              "with --of features: how many of each SAE's, those with the largest mean\n"
              "activation on the prompts (default: 50)",
              std::int64_t{1}, kMost);
  line.option("--sets", sets, "single|pairs|greedy",
              "each alone; all pairs, and what they do beyond what each does alone; or a set\n"
              "that grows by one at a time (default: single). With --group-by a greedy set is\n"
              "that of all prompts, and each group has what its steps do to it")
      ->one_of({"single", "pairs", "greedy"});
  line.option("--grow", grow, "break|keep",
              "of --sets greedy: ablates the one that changes the metric most, what breaks it;\n"
              "or ablates all and restores the one that takes it nearest to the clean metric,\n"
              "what is enough (default: break)")
      ->one_of({"break", "keep"});
  line.number("--steps", growth.steps, "K", "how many a greedy set takes (default: 5)",
              std::int64_t{1}, kMost);
  line.number("--random", growth.random, "N",
              "random sets of each size beside a greedy one (default: 20)", std::int64_t{0}, kMost);
  line.option("--action", action, "zero|mean|resample",
              "what is put in: zero; mean, the mean over all positions of all prompts;\n"
              "resample, the values of another prompt of as many tokens, which --seed\n"
              "chooses (default: zero)")
      ->one_of({"zero", "mean", "resample"});
  line.option("--pos", pos, "P,...|ROLE,...",
              "ablates only at these positions: numbers, from the end (-1), with --prompts also\n"
              "roles of the file, all their tokens (default: everywhere)");
  metric.add_to(line);
  line.number("--top", top, "K", "how many of the strongest are listed (default: 20)", 1,
              static_cast<int>(kMost));
  edits.add_to(line, common);
  common.add_to(line,
                "FILE.safetensors or .npz: the tensors effect, effect/standard_error, metric\n"
                "([layer, head], [layer] or [feature]) and effect/each (with [prompt] in front);\n"
                "of pairs effect, interaction [unit, unit]; of greedy sets greedy/metric,\n"
                "greedy/units [step], random/metric [step, set]; besides what goes to stdout;\n"
                ".csv: their elements, one a line; any other FILE: the table or JSON, and not\n"
                "to stdout",
                CommonOptions::Out::text_or_tensors);
}

void AblateOptions::check(const CommandLine& line) {
  metric.require();
  spec.metric = metric.spec();
  spec.action = interp::parse_replacement(action);
  spec.seed = common.seed;
  if (!pos.empty()) spec.positions = parse_positions(line, "--pos", pos);
  growth.growth = grow == "keep" ? interp::Growth::kept : interp::Growth::broken;
  for (const char* option : {"--grow", "--steps", "--random"}) {
    if (sets != "greedy" && line.was_given(option))
      line.fail(fmt::format("{} is about a set that grows; give --sets greedy", option));
  }
  if (sets == "greedy" && line.was_given("--top"))
    line.fail("--top is about what is listed; a greedy set takes --steps K");
  if (of == "features" && !line.was_given("--sae"))
    line.fail("--of features ablates those of a spliced SAE; give --sae DIR");
  if (of != "features" && line.was_given("--active"))
    line.fail("--active is about features; give --of features");
  data.require(line);
  if (sets == "pairs" && data.each())
    line.fail("--each lists prompts with --sets single or greedy, not all pairs of each");
  if (data.given()) return;
  if (spec.action == interp::Replacement::resample)
    line.fail(
        "--action resample takes values from other prompts; give several with --prompts FILE");
  const PromptsNeed need = needs_of({spec.metric});
  if (need.answer || answer.given()) answer.require(line);
  if (need.wrong || wrong.given()) wrong.require(line);
  prompt.require(line);
}

std::vector<interp::Example> AblateOptions::examples(const nn::Model& model) {
  if (data.given()) return data.examples(model, prompt, needs_of({spec.metric}));
  interp::Example e;
  e.prompt = prompt.tokens(model);
  nn::check_prompts({e.prompt}, model.config());
  if (answer.given()) e.answers = {{answer.id(model)}};
  if (wrong.given()) e.wrongs = {{wrong.id(model)}};
  if (answer.given() && wrong.given()) check_answers({{}, {}, e.answers[0][0], e.wrongs[0][0]});
  return {e};
}

// Those of every SAE that is spliced in, one after the other.
std::vector<interp::AblationUnit> features_of(const nn::Model& model,
                                              std::span<const interp::Example> examples,
                                              std::int64_t most) {
  constexpr std::string_view kActs = ".hook_sae_acts_post";
  std::vector<std::string> names;
  for (const std::string& name : model.build(nn::BatchSize{1, 1, 1}).site_names()) {
    if (name.ends_with(kActs)) names.push_back(name);
  }
  std::vector<interp::AblationUnit> units;
  for (const std::string& name : names) {
    for (interp::AblationUnit& u : interp::feature_units(model, examples, Site{name}, most)) {
      if (names.size() > 1) u.name = fmt::format("{} of {}", u.name, name);
      units.push_back(std::move(u));
    }
  }
  return units;
}

std::vector<interp::AblationUnit> units_of(const nn::Model& model,
                                           std::span<const interp::Example> examples,
                                           const AblateOptions& options) {
  if (options.of == "mlps") return interp::mlp_units(model);
  if (options.of == "layers") return interp::layer_units(model);
  if (options.of == "features") return features_of(model, examples, options.active);
  return interp::head_units(model);
}

template <class Report>
void write_ablation(const Report& report, const AblateOptions& options, const Json& meta) {
  const auto text = [&](const Style& style, int) { return report.text(style); };
  write_presentation(options.common, meta,
                     {.text = text,
                      .json = [&] { return report.json(); },
                      .tensors = [&] { return report.tensors(); },
                      .metadata = {{"of", options.of},
                                   {"sets", options.sets},
                                   {"action", options.action},
                                   {"metric", options.spec.metric.text}},
                      .axes = report.axis_names()});
}

}  // namespace

void verb_ablate(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Ablation: the prompts are run with parts of the model put out of work. How much the\n"
      "metric changes, after the last token, says what its answers need, alone and together.\n\n"
      "json: {meta, of, sets, action, metric: {name, clean: {mean, standard_error, count}},\n"
      "runs, passes, pos, ..., file}. A part is named {unit, layer, head} ({unit, layer}, {unit,\n"
      "feature, site}), what came of it {metric: {mean, standard_error, count}, change,\n"
      "fraction}: fraction is that of the clean metric. single: units: [{unit, ..., metric,\n"
      "change, fraction}], prompts: [{line, tokens, str_tokens, clean, metric: [of each unit]}].\n"
      "pairs: units, and pairs: [{units: [A, B], metric, change, fraction, interaction}]. greedy:\n"
      "grow, begin: {metric, ...} before the first step, steps: [{unit, ..., set: [UNIT], metric,\n"
      "change, fraction, random: {mean, deviation, count, values}}], prompts: [{..., clean, "
      "begin,\n"
      "metric: [of each step]}]. All have group_by and groups: [{name, prompts, clean, ...}], "
      "with\n"
      "the units, pairs, begin and steps of each\n",
      "vitrine ablate --prompt 'The capital of Texas is' --answer ' Austin' --wrong ' Sacramento'");
  AblateOptions options;
  options.add_to(line);
  if (!line.parse()) return;
  options.check(line);

  const Interruptible interruptible;
  const nn::Model model = options.common.load();
  const Json meta = options.common.meta(line);
  const auto examples = options.examples(model);
  options.edits.know(examples);
  const auto groups = options.data.groups(examples);
  const auto units = units_of(model, examples, options);
  interp::AblationSpec& spec = options.spec;
  Progress progress("ablating", "runs", options.common.quiet);
  spec.cancel = &interruptible.requested();
  spec.progress = [&](int done, int total) { progress.update(done, total); };
  const AblationSetting setting{.model = model,
                                .examples = examples,
                                .units = units,
                                .of = options.of,
                                .spec = spec,
                                .groups = groups,
                                .field = options.data.group_by(),
                                .each = options.data.each(),
                                .top = options.top};
  if (options.sets == "pairs") {
    const auto found = interp::ablate_pairs(model, examples, units, spec);
    return write_ablation(AblatedPairsReport{setting, found}, options, meta);
  }
  if (options.sets == "greedy") {
    const auto found = interp::grow_sets(model, examples, units, spec, options.growth);
    return write_ablation(GrownSetsReport{setting, found, options.growth.growth}, options, meta);
  }
  const auto found = interp::ablate_each(model, examples, units, spec);
  write_ablation(AblatedEachReport{setting, found}, options, meta);
}

}  // namespace vitrine::app

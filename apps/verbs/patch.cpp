// vitrine patch: which activations make the answer differ between two prompts?
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/experiment/pair_options.h"
#include "apps/options/options.h"
#include "apps/options/site_names.h"
#include "apps/reports/patch_report.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "autograd/graph/site.h"
#include "tensor/error.h"
#include "tensor/files/safetensors.h"

namespace vitrine::app {
namespace {

using interp::Replacement;

struct Options {
  CommonOptions common;
  EditOptions edits;
  PairOptions prompts;
  MetricOptions metric;
  interp::SweepSpec spec;
  std::string site, by;
  std::vector<std::string> positions, sources;
  int top = 5;
  bool explain = false, each = false, normalise = false;
};

// ---- what is swept ------------------------------------------------------------------------------
void add_places_to(CommandLine& line, Options& options) {
  interp::SweepSpec& spec = options.spec;
  line.option("--site", options.site, "S",
              "what is patched: resid_pre, resid_mid, resid_post, attn_out, mlp_out (the\n"
              "stream and what is added to it), z, q, k, v, pattern (of heads), post, pre (of\n"
              "neurons), with --sae sae_acts_post, sae_acts_pre (features), sae_error,\n"
              "sae_recons; in all layers that have it; 2.z or blocks.2.attn.hook_z in one,\n"
              "2.4.z head 4 there; several, S,S,..., are swept one after the other")
      ->required();
  line.option("--by", options.by, "pos|head|head,pos|head,dest|head,dest,src|feature|feature,pos",
              "what one run changes: pos, a position (the stream's sites, and all heads of\n"
              "z, q, k, v, all neurons or features, together); head; head,pos (z, q, k, v);\n"
              "head,dest and head,dest,src, a row and an entry of a pattern; feature and\n"
              "feature,pos, a neuron or feature (default: pos for the stream, else head or "
              "feature)");
  const NumberRange<int> whole{0, INT32_MAX};
  line.numbers("--layer", spec.layers, "L,...", "only these layers: 0,2 or 1-3 (default: all)", whole);
  line.numbers("--head", spec.heads, "H,...", "only these heads", whole);
  line.numbers("--feature", spec.features, "J,...", "only these neurons or features", whole);
  line.option("--pos", options.positions, "P,...|ROLE,...",
              "only these positions, of a pattern destinations: numbers, from the end (-1), with\n"
              "--pairs also roles of the file, whose tokens are patched together. Along an axis\n"
              "of --by these are its places; otherwise what is put in is put in there alone");
  line.option("--src", options.sources, "P,...|ROLE,...",
              "of a pattern: only these source positions");
}

std::vector<interp::Position> positions_in(const std::vector<std::string>& lists) {
  std::vector<interp::Position> positions;
  for (const std::string& list : lists) {
    for (const std::string& item : written_out(items_of(list)))
      positions.push_back(interp::parse_position(item));
  }
  return positions;
}

// How it is swept, once the site is known.
void settle_by(const Options& options, interp::SweepSpec& spec) {
  const auto ways = interp::ways_to_sweep(spec.site);
  spec.by = options.by.empty() ? ways.front() : interp::parse_by(options.by);
  interp::check_sweep(spec.site, spec.by);
}

// Whether only the model says which site is meant: one of several SAEs, or a glob.
bool depends_on_model(const SiteName& name) {
  return name.inside.find('*') != name.inside.npos || short_name(name.inside).starts_with("sae_");
}

// What is swept, as far as the command line says it: resid_pre of "resid_pre", "hook_resid_pre" or
// "blocks.*.hook_resid_pre"; z of "attn.hook_z"; in layer 2 alone of "2.z", head 4 there of "2.4.z".
void settle_places(const CommandLine& line, const Options& options, const std::string& site,
                   interp::SweepSpec& spec) {
  const SiteName name = site_name(site);
  for (const auto& [said, given, what] :
       {std::tuple{name.layer.has_value(), !spec.layers.empty(), "layer"},
        std::tuple{name.head.has_value(), !spec.heads.empty(), "head"}}) {
    if (said && given)
      line.fail(fmt::format("--site {} says its {} itself; leave out --{}", site, what, what));
  }
  if (name.layer) spec.layers = {*name.layer};
  if (name.head) spec.heads = {*name.head};
  spec.positions = positions_in(options.positions);
  spec.sources = positions_in(options.sources);
  for (const auto* positions : {&spec.positions, &spec.sources}) {
    for (const interp::Position& p : *positions) {
      if (p.role.empty() || options.prompts.from_file()) continue;
      line.fail(
          fmt::format("{} is a position of the prompts, such as 3 or -1, not '{}'; roles are "
                      "those of a file: --pairs FILE",
                      positions == &spec.positions ? "--pos" : "--src", p.role));
    }
  }
  spec.site = short_name(name.inside);
  if (!depends_on_model(name)) settle_by(options, spec);
}

// The rest, which the model says.
void settle_site(const nn::Model& model, const Options& options, const std::string& site,
                 interp::SweepSpec& spec) {
  const SiteName name = site_name(site);
  const std::vector<std::string> names = model.build(nn::BatchSize{1, 1, 1}).site_names();
  const bool of_sae = name.inside.find("sae_") != name.inside.npos;
  if (of_sae && std::none_of(names.begin(), names.end(),
                             [](const std::string& n) { return matches("*.hook_sae_*", n); }))
    throw Error(ErrorKind::usage,
                fmt::format("--site {} is an SAE's; give one with --sae DIR", site));
  if (!depends_on_model(name)) return;
  const bool glob = name.inside.find('*') != name.inside.npos;
  const std::string whole =
      name.layer ? fmt::format("{}{}.{}", glob ? "blocks." : "", *name.layer, name.inside) : site;
  const SiteInLayers found = site_in_layers(whole, names);
  spec.site = short_name(found.inside);
  for (const int l : spec.layers) {
    if (std::find(found.layers.begin(), found.layers.end(), l) != found.layers.end()) continue;
    throw Error(ErrorKind::usage, fmt::format("--layer {}: --site {} means layers {}", l, site,
                                              fmt::join(found.layers, ", ")));
  }
  if (spec.layers.empty()) spec.layers = found.layers;
  settle_by(options, spec);
}

// ---- running ------------------------------------------------------------------------------------
std::vector<interp::PatchSweep> sweeps_of(const nn::Model& model,
                                          std::span<const interp::Example> pairs,
                                          interp::SweepSpec spec, bool quiet) {
  Progress progress("patching", "runs", quiet);
  spec.progress = [&](int done, int total) { progress.update(done, total); };
  return interp::patch_examples(model, pairs, spec);
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

// ---- the page -----------------------------------------------------------------------------------
// Of a sweep with more cells the page has the tokens of those that change the metric most.
constexpr std::size_t kMostCells = 4000;
constexpr int kTokens = 5;

// [[id, probability]]; the texts go to `words`.
Json tokens_for_page(const nn::Model& model, const std::vector<interp::TokenValue>& tokens,
                     Json& words) {
  Json list = Json::list();
  for (const auto& [id, probability] : tokens) {
    list.push_back(Json::list({id, std::round(probability * 1e6) / 1e6}));
    const nn::Tokenizer* t = tokenizer_of(model);
    if (t != nullptr) words[fmt::format("{}", id)] = json_text(t->shown(id));
  }
  return list;
}

// {words, clean, corrupt, cells: [[index, tokens]], of}: what each run of a sweep says next. A cell
// whose edit has no effect stands without tokens.
Json predictions(const nn::Model& model, const interp::Example& pair, const interp::SweepSpec& spec,
                 const interp::PatchSweep& sweep) {
  const std::vector<double> change = changes(sweep);
  std::vector<std::size_t> places(change.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(change[a]) > std::abs(change[b]);
  });
  places.resize(std::min(places.size(), kMostCells));
  const auto said = interp::patched_tokens(model, pair, spec, kTokens, places);
  Json words = tokenizer_of(model) == nullptr ? Json() : Json::object(), cells = Json::list();
  const Json clean = tokens_for_page(model, said.clean, words),
             corrupt = tokens_for_page(model, said.corrupt, words);
  for (std::size_t i = 0; i < places.size(); ++i) {
    cells.push_back(Json::list({places[i]}));
    if (said.edited[i]) cells.back().push_back(tokens_for_page(model, *said.edited[i], words));
  }
  return {{"words", words},
          {"clean", clean},
          {"corrupt", corrupt},
          {"cells", cells},
          {"of", change.size()}};
}

// ---- what becomes of it -------------------------------------------------------------------------
// The sweeps of one site, and their report.
struct SweptSite {
  std::string name;  // as it was typed
  interp::SweepSpec spec;
  std::vector<interp::PatchSweep> sweeps;  // of each pair
  std::optional<MetricEnds> ends;
};

template <class Report>
Presentation presented(const Report& report, const Options& options, const SweptSite& swept,
                       const std::vector<std::string>& axes, const Shape& shape,
                       const std::string& explanation) {
  Json metadata = {{"site", swept.spec.site},
                   {"by", name_of(swept.spec.by)},
                   {"action", name_of(swept.spec.replacement)},
                   {"direction", name_of(swept.spec.direction)},
                   {"metric", metric_name(swept.spec)},
                   {"axes", fmt::format("{}", fmt::join(axes, ","))}};
  if (const Json labels = report.labels(); !labels.is_null()) metadata["labels"] = labels;
  Json json = report.json(options.top);
  json["explanation"] = options.explain ? Json(explanation) : Json();
  return {.text =
              [=, &options](const Style& style, int columns) {
                const std::string found = report.text(options.top, style, columns);
                return options.explain ? found + "\n" + explanation : found;
              },
          .json = [json] { return json; },
          .tensors = [report] { return report.tensors(); },
          .metadata = std::move(metadata),
          .written = "sweep " + to_string(shape),
          .axes = report.axis_names(),
          .page = "patch"};
}

Presentation presented(const nn::Model& model, const std::vector<interp::Example>& pairs,
                       const Options& options, const SweptSite& swept) {
  if (!options.prompts.from_file()) {
    const interp::PatchSweep& only = swept.sweeps[0];
    Presentation shown =
        presented(PatchReport{model, pairs[0], swept.spec, only, swept.ends}, options, swept,
                  only.axes, only.values.shape(), only.explanation);
    shown.page_data = [&] {
      return Json{{"predicted", predictions(model, pairs[0], swept.spec, only)}};
    };
    return shown;
  }
  const std::string& field = options.prompts.group_by();
  const PairsReport report{
      .model = model,
      .pairs = pairs,
      .spec = swept.spec,
      .sweeps = swept.sweeps,
      .each = options.each,
      .ends = swept.ends,
      .groups = field.empty() ? std::vector<interp::PromptGroup>() : options.prompts.groups(pairs),
      .field = field};
  return presented(report, options, swept, report.summary.axes, report.summary.mean.shape(),
                   report.summary.explanation);
}

// Those of several sites as one: a list in the JSON, tensors called SITE/NAME.
Presentation together(const std::vector<Presentation>& each, const std::vector<SweptSite>& swept) {
  Presentation all{.text =
                       [&](const Style& style, int columns) {
                         std::string text;
                         for (const Presentation& p : each)
                           text += (text.empty() ? "" : "\n") + p.text(style, columns);
                         return text;
                       },
                   .json =
                       [&] {
                         Json sites = Json::list();
                         for (const Presentation& p : each) sites.push_back(p.json());
                         return Json{{"sites", sites}};
                       },
                   .tensors =
                       [&] {
                         NamedTensors tensors;
                         for (std::size_t i = 0; i < each.size(); ++i) {
                           for (auto& [name, values] : each[i].tensors())
                             tensors.emplace_back(swept[i].name + "/" + name, values);
                         }
                         return tensors;
                       },
                   .written = fmt::format("sweeps of {} sites", each.size()),
                   .page = "patch",
                   .page_data =
                       [&] {
                         Json sites = Json::list();
                         for (const Presentation& p : each) {
                           sites.push_back(p.json());
                           if (p.page_data) sites.back().update(p.page_data());
                         }
                         return Json{{"sites", sites}};
                       }};
  for (std::size_t i = 0; i < each.size(); ++i) {
    const std::string prefix = swept[i].name + "/";
    all.metadata[swept[i].name] = each[i].metadata;
    for (const auto& [name, values] : each[i].tensors()) {
      const auto of = each[i].axes.of.find(name);
      const auto usual = each[i].axes.of.find("");
      const auto& axes = of != each[i].axes.of.end() ? of : usual;
      if (axes != each[i].axes.of.end() && static_cast<int>(axes->second.size()) == values.rank())
        all.axes.of[prefix + name] = axes->second;
      for (const auto& [axis, places] : each[i].axes.places)
        all.axes.places[prefix + name + ":" + axis] = places;
    }
  }
  return all;
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
      "A sweep that is narrowed also has narrowed: {head, feature, pos, src}, and labels: what "
      "stands\n"
      "along each axis, null for 0, 1, 2, ...\n"
      "With --pairs, instead of values, tokens and str_tokens: mean, standard_error (null for a\n"
      "single pair), count, pairs: [{line, tokens, str_tokens, metric: {clean, corrupt}, shape,\n"
      "values}]; strongest: [{layer, ..., metric, change, standard_error, count}]; and group_by,\n"
      "groups: [{name, pairs, metric: {clean, corrupt}, shape, mean, standard_error, count,\n"
      "strongest}]\n"
      "With --normalise metric also has normalised: {clean, corrupt}, what 1 and 0 stand for.\n"
      "Of several sites: {meta, sites: [the same of each], file}, and tensors are called "
      "SITE/NAME.\n",
      "vitrine patch --clean 'The capital of Texas is' --corrupt 'The capital of California is' "
      "--answer ' Austin' --wrong ' Sacramento' --site resid_pre");
  Options options;
  CommonOptions& common = options.common;
  interp::SweepSpec& spec = options.spec;
  std::string action = "patch";
  constexpr int kMost = 1'000'000;
  options.prompts.add_to(line);
  options.prompts.add_file_to(line);
  add_places_to(line, options);
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
  options.prompts.add_groups_to(line);
  line.flag("--explain", options.explain,
            "also say how the runs were made: passes, work and memory avoided");
  options.edits.add_to(line, common);
  common.add_page_to(line);
  common.add_to(
      line,
      "FILE.safetensors or .npz: the tensors sweep, metric/clean, metric/corrupt (f32),\n"
      "with --pairs also sweep/change, sweep/standard_error, sweep/count and\n"
      "pair/N/sweep, pair/N/clean, pair/N/corrupt, with --group-by group/NAME/sweep, ...,\n"
      "besides what goes to stdout; .csv:\n"
      "their elements, one a line; any other FILE: the table or JSON, and not to stdout",
      CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  spec.replacement = interp::parse_replacement(action);
  spec.direction = options.prompts.direction();
  options.metric.require();
  const interp::MetricSpec metric = options.metric.spec();
  spec.metric = metric;
  spec.seed = common.seed;
  if (spec.replacement == Replacement::resample && !options.prompts.from_file())
    line.fail("--action resample takes values from other pairs; give several with --pairs FILE");
  const std::vector<std::string> sites = items_of(options.site);
  std::vector<SweptSite> swept;
  for (const std::string& site : sites)
    settle_places(line, options, site, swept.emplace_back(SweptSite{site, spec, {}, {}}).spec);
  const PromptsNeed need = needs_of({metric});
  options.prompts.require(line, false, need);
  if (each->count() > 0 && !options.prompts.from_file())
    line.fail("--each is about the pairs of a file; give --pairs FILE");

  const nn::Model model = common.load();
  for (std::size_t i = 0; i < swept.size(); ++i)
    settle_site(model, options, sites[i], swept[i].spec);
  const bool many = options.prompts.from_file();
  const std::vector<interp::Example> pairs =
      many ? options.prompts.examples(model, need) : std::vector{options.prompts.example(model)};
  options.edits.know(pairs);
  if (many && spec.replacement == Replacement::resample) check_resampling(pairs);
  std::vector<Presentation> each_site;
  for (SweptSite& s : swept) {
    s.sweeps = sweeps_of(model, pairs, s.spec, common.quiet);
    if (options.normalise) {
      s.ends = ends_of(s.sweeps);
      s.sweeps = interp::normalised(std::move(s.sweeps));
    }
  }
  for (const SweptSite& s : swept) each_site.push_back(presented(model, pairs, options, s));
  write_presentation(common, common.meta(line),
                     each_site.size() == 1 ? each_site[0] : together(each_site, swept));
}

}  // namespace vitrine::app

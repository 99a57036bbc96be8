// vitrine influence: which features of SAEs and transcoders cause which features of later ones.
#include "sae/features/influence.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/options/sae_options.h"
#include "apps/reports/data_set_report.h"
#include "apps/verbs/verbs.h"

namespace vitrine::app {
namespace {

// The SAEs that were asked for. Of a transcoder the site of a feature is what it gives.
struct Saes {
  std::vector<sae::Sae> sources, targets;
  static const std::string& site(const sae::Sae& sae) {
    return sae.config.transcoder ? sae.config.hook_name_out : sae.config.hook_name;
  }
};

Json as_json(const sae::FeatureAt& f, const std::vector<sae::Sae>& saes) {
  return {{"position", f.position},
          {"feature", f.feature},
          {"activation", f.activation},
          {"site", Saes::site(saes[f.sae])}};
}

Json as_json(const sae::Influence& found, const Saes& saes) {
  Json targets = Json::list();
  for (const sae::Influence::Target& t : found.targets) {
    Json causes = Json::list();
    for (const sae::Cause& c : t.causes)
      causes.push_back({{"source", as_json(c.source, saes.sources)},
                        {"first_order", c.first_order},
                        {"exact", c.exact ? Json(*c.exact) : Json()}});
    Json target = as_json(t.at, saes.targets);
    target["pre"] = t.at.pre;
    targets.push_back({{"target", target},
                       {"causes", causes},
                       {"by_position", t.by_position},
                       {"of_error", t.of_error}});
  }
  return targets;
}

std::string sites_of(const std::vector<sae::Sae>& saes) {
  std::vector<std::string> sites;
  for (const sae::Sae& s : saes) sites.push_back(Saes::site(s));
  return fmt::format("{}", fmt::join(sites, ", "));
}

std::string title_text(const Saes& saes, Policy attention) {
  return fmt::format("features of {} that cause features of {}, attention {}\n",
                     sites_of(saes.sources), sites_of(saes.targets),
                     attention == Policy::recompute ? "recomputed"
                     : attention == Policy::detach  ? "detached"
                                                    : "held");
}

std::string as_text(const nn::Model& model, const nn::Tokens& prompt, const Saes& saes,
                    const sae::Influence& found, Policy attention, const Style& style) {
  using Align = Table::Align;
  const auto token = [&](std::int64_t position) {
    return token_label(tokenizer_of(model), prompt[static_cast<std::size_t>(position)]);
  };
  std::string text =
      title_text(saes, attention) +
      "first order: f dh/df; exact: what the pre-activation h loses when f is set to 0\n";
  for (const sae::Influence::Target& t : found.targets) {
    text += fmt::format("\n{}{} at {} {}: {:.3f}, pre-activation {:.3f}\n",
                        style.bold(fmt::format("feature {}", t.at.feature)),
                        saes.targets.size() > 1 ? " of " + Saes::site(saes.targets[t.at.sae]) : "",
                        t.at.position, token(t.at.position), t.at.activation, t.at.pre);
    // Without a title the column is not shown.
    const bool several = saes.sources.size() > 1;
    Table causes({{"pos", Align::right},
                  {"token", Align::left},
                  {several ? "of" : "", Align::left},
                  {"feature", Align::right},
                  {"activation", Align::right},
                  {"first order", Align::right},
                  {"exact", Align::right}});
    for (const sae::Cause& c : t.causes)
      causes.row({fmt::format("{}", c.source.position), token(c.source.position),
                  several ? Saes::site(saes.sources[c.source.sae]) : "",
                  fmt::format("{}", c.source.feature), fmt::format("{:.3f}", c.source.activation),
                  fmt::format("{:+.4f}", c.first_order),
                  c.exact ? fmt::format("{:+.4f}", *c.exact) : ""});
    text += causes.text(style);
    Table positions({{"pos", Align::right},
                     {"token", Align::left},
                     {"all features", Align::right},
                     {"error term", Align::right},
                     {"", Align::left}});
    double most = 1e-30;
    for (const double v : t.by_position) most = std::max(most, std::abs(v));
    for (std::int64_t p = 0; p < found.positions; ++p) {
      const auto i = static_cast<std::size_t>(p);
      if (p > t.at.position) break;
      positions.row({fmt::format("{}", p), token(p), fmt::format("{:+.4f}", t.by_position[i]),
                     fmt::format("{:+.4f}", t.of_error[i]),
                     style.bar(bar(std::abs(t.by_position[i]) / most, 20))});
    }
    text += "\n" + positions.text(style);
  }
  if (found.targets.empty()) text += "\nno target feature is active at these positions\n";
  return text;
}

Policy parse_policy(const CommandLine& line, const char* option, const std::string& name) {
  if (name == "recompute") return Policy::recompute;
  if (name == "detach") return Policy::detach;
  if (name == "hold") return Policy::hold;
  line.fail(fmt::format("{} is recompute, detach or hold, not '{}'", option, name));
}

struct Options {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  DataSetOptions data;
  std::vector<std::string> sources, targets;
  std::string attention = "recompute", norm = "recompute";
  std::vector<std::string> target_positions;  // each may be a list
  sae::InfluenceSpec spec;
};

// The model, and the SAEs that were asked for.
struct Loaded {
  nn::Model model;
  Saes saes;

  Json json(const Options& o) const {
    const auto list = [](const std::vector<sae::Sae>& all) {
      Json named = Json::list();
      for (const sae::Sae& s : all)
        named.push_back({{"sae", json_text(s.name)}, {"site", Saes::site(s)}});
      return named;
    };
    const auto only = [](const std::vector<sae::Sae>& all, bool site) {
      if (all.size() != 1) return Json();
      return site ? Json(Saes::site(all[0])) : Json(json_text(all[0].name));
    };
    return {{"source_sae", only(saes.sources, false)},
            {"target_sae", only(saes.targets, false)},
            {"source_site", only(saes.sources, true)},
            {"target_site", only(saes.targets, true)},
            {"sources", list(saes.sources)},
            {"target_saes", list(saes.targets)},
            {"attention", o.attention},
            {"norm", o.norm}};
  }
};

// A folder of SAEs, as a training run of several sites leaves it, stands for all of them.
std::vector<sae::Sae> load_saes(const std::vector<std::string>& names, const Options& o,
                                const nn::Model& model) {
  namespace fs = std::filesystem;
  std::vector<std::string> folders;
  for (const std::string& name : names) {
    std::vector<std::string> inside;
    if (fs::is_directory(name) && !fs::exists(fs::path(name) / "cfg.json")) {
      for (const fs::directory_entry& entry : fs::directory_iterator(name)) {
        if (fs::exists(entry.path() / "cfg.json")) inside.push_back(entry.path().string());
      }
      std::sort(inside.begin(), inside.end());
    }
    if (inside.empty()) inside.push_back(name);
    folders.insert(folders.end(), inside.begin(), inside.end());
  }
  std::vector<sae::Sae> saes;
  for (const std::string& folder : folders) {
    saes.push_back(load_sae(folder, o.common.model));
    require_fits(saes.back(), model);
    note_its_model(saes.back(), o.prompt.prepends_bos(), o.common.gauge);
  }
  return saes;
}

Loaded load(const Options& o) {
  nn::Model model = o.common.load();
  Saes saes{load_saes(o.sources, o, model), load_saes(o.targets, o, model)};
  return {std::move(model), std::move(saes)};
}

void on_prompt(const CommandLine& line, Options& o) {
  const Loaded all = load(o);
  const nn::Tokens tokens = o.prompt.tokens(all.model);
  const sae::Influence found =
      sae::influence(all.model, all.saes.sources, all.saes.targets, tokens, o.spec);
  write_presentation(o.common, o.common.meta(line),
                     {.text =
                          [&](const Style& style, int) {
                            return as_text(all.model, tokens, all.saes, found,
                                           o.spec.policies.attention, style);
                          },
                      .json =
                          [&] {
                            Json json = all.json(o);
                            json["tokens"] = tokens;
                            json["targets"] = as_json(found, all.saes);
                            return json;
                          }});
}

// ---- many prompts -------------------------------------------------------------------------------
struct OverReport {
  const Loaded& loaded;
  const Options& options;
  const std::vector<interp::Example>& examples;
  const std::vector<interp::PromptGroup>& groups;
  const std::vector<std::int64_t>& positions;  // of the targets, in each prompt
  const sae::InfluenceOver& found;
};

Json mean_causes_json(const std::vector<sae::MeanCause>& causes) {
  Json list = Json::list();
  for (const sae::MeanCause& c : causes) {
    list.push_back(
        {{"feature", c.feature},
         {"first_order", c.first_order},
         {"standard_error", std::isnan(c.standard_error) ? Json() : Json(c.standard_error)},
         {"active", c.active}});
  }
  return list;
}

Json targets_json(const std::vector<sae::InfluenceOver::Target>& targets) {
  Json list = Json::list();
  for (const sae::InfluenceOver::Target& t : targets)
    list.push_back({{"feature", t.feature},
                    {"active", t.active},
                    {"activation", t.active > 0 ? Json(t.activation) : Json()},
                    {"causes", mean_causes_json(t.causes)}});
  return list;
}

Json prompt_json(const OverReport& r, std::size_t i) {
  Json one = example_json(r.loaded.model, r.examples[i]);
  one["pos"] = r.positions[i];
  one["targets"] = Json::list();
  for (std::size_t k = 0; k < r.found.targets.size(); ++k) {
    const sae::InfluenceOver::OfPrompt& target = r.found.each[i][k];
    Json causes = Json::list();
    for (const sae::MeanCause& c : target.causes)
      causes.push_back({{"feature", c.feature}, {"first_order", c.first_order}});
    one["targets"].push_back({{"feature", r.found.targets[k].feature},
                              {"activation", target.activation},
                              {"causes", causes}});
  }
  return one;
}

Json over_json(const OverReport& r) {
  Json json = r.loaded.json(r.options);
  const bool grouped = !r.options.data.group_by().empty();
  json["all"] = {{"prompts", r.examples.size()}, {"targets", targets_json(r.found.targets)}};
  json["group_by"] = grouped ? Json(r.options.data.group_by()) : Json();
  json["groups"] = Json::list();
  for (std::size_t g = 0; grouped && g < r.groups.size(); ++g)
    json["groups"].push_back({{"name", r.groups[g].name},
                              {"prompts", r.groups[g].members.size()},
                              {"targets", targets_json(r.found.groups[g])}});
  json["prompts"] = Json::list();
  for (std::size_t i = 0; i < r.examples.size(); ++i) json["prompts"].push_back(prompt_json(r, i));
  return json;
}

// The causes of all groups, for a table: [{group, target, feature, first_order, ...}].
Json over_rows(const OverReport& r) {
  Json rows = Json::list();
  const auto add = [&](const std::string& group,
                       const std::vector<sae::InfluenceOver::Target>& targets) {
    for (const sae::InfluenceOver::Target& t : targets) {
      const Json causes = mean_causes_json(t.causes);
      for (const Json& cause : *causes.list_items()) {
        Json row = {{"group", group},
                    {"target", t.feature},
                    {"target_active", t.active},
                    {"target_activation", t.activation}};
        row.update(cause);
        rows.push_back(std::move(row));
      }
    }
  };
  add("all", r.found.targets);
  for (std::size_t g = 0; g < r.found.groups.size(); ++g) add(r.groups[g].name, r.found.groups[g]);
  return rows;
}

std::string targets_text(const std::vector<sae::InfluenceOver::Target>& targets,
                         std::size_t prompts, const Style& style) {
  using Align = Table::Align;
  std::string text;
  for (const sae::InfluenceOver::Target& t : targets) {
    text += fmt::format("\n{}: active in {} of {} prompts",
                        style.bold(fmt::format("feature {}", t.feature)), t.active, prompts);
    if (t.active == 0) {
      text += "\n";
      continue;
    }
    text += fmt::format(", {:.3f} on average there\n", t.activation);
    Table causes(
        {{"feature", Align::right}, {"first order", Align::right}, {"active in", Align::right}});
    for (const sae::MeanCause& c : t.causes) {
      causes.row({fmt::format("{}", c.feature),
                  std::isnan(c.standard_error)
                      ? fmt::format("{:+.4f}", c.first_order)
                      : fmt::format("{:+.4f} ± {:.4f}", c.first_order, c.standard_error),
                  fmt::format("{}", c.active)});
    }
    text += causes.text(style);
  }
  return text;
}

std::string each_text(const OverReport& r, const Style& style) {
  using Align = Table::Align;
  constexpr std::size_t kShown = 3;
  Table table({{"line", Align::right},
               {"prompt", Align::left},
               {"target", Align::right},
               {"activation", Align::right},
               {"strongest causes", Align::left}});
  for (std::size_t i = 0; i < r.examples.size(); ++i) {
    for (std::size_t k = 0; k < r.found.targets.size(); ++k) {
      const sae::InfluenceOver::OfPrompt& target = r.found.each[i][k];
      if (!(target.activation > 0)) continue;
      std::string causes;
      for (std::size_t c = 0; c < std::min(kShown, target.causes.size()); ++c)
        causes += fmt::format("{}{} {:+.4f}", c == 0 ? "" : "  ", target.causes[c].feature,
                              target.causes[c].first_order);
      table.row({fmt::format("{}", r.examples[i].line),
                 one_line(tokenizer_of(r.loaded.model), r.examples[i].prompt),
                 fmt::format("{}", r.found.targets[k].feature),
                 fmt::format("{:.3f}", target.activation), std::move(causes)});
    }
  }
  return table.text(style);
}

std::string over_text(const OverReport& r, const std::string& position, const Style& style) {
  std::string text = prompts_text(r.examples) + "\n" +
                     title_text(r.loaded.saes, r.options.spec.policies.attention) +
                     fmt::format(
                         "targets at position {} of each; first order: f dh/df, summed over "
                         "positions, its mean over\nthe prompts in which the target is "
                         "active\n",
                         position);
  const std::string& field = r.options.data.group_by();
  for (std::size_t g = 0; g < r.found.groups.size(); ++g) {
    const std::size_t count = r.groups[g].members.size();
    text += "\n" + style.bold(fmt::format("{} {}", field, visible(r.groups[g].name))) +
            fmt::format(", {} prompt{}\n", count, count == 1 ? "" : "s") +
            targets_text(r.found.groups[g], count, style);
  }
  if (!field.empty()) text += "\n" + style.bold("all") + "\n";
  text += targets_text(r.found.targets, r.examples.size(), style);
  if (r.found.targets.empty()) text += "\nno target feature is active at these positions\n";
  return r.options.data.each() ? text + "\n" + each_text(r, style) : text;
}

std::string joined(const std::vector<std::string>& lists) {
  return fmt::format("{}", fmt::join(lists, ","));
}

void over_prompts(const CommandLine& line, Options& o) {
  const auto at = o.target_positions.empty()
                      ? std::vector<interp::Position>(1)
                      : parse_positions(line, "--target-pos", joined(o.target_positions));
  if (at.size() > 1)
    line.fail("--target-pos is one position or role of each of many prompts, not several");
  const Loaded all = load(o);
  if (all.saes.sources.size() > 1 || all.saes.targets.size() > 1)
    line.fail("with --prompts there is one --source-sae and one --target-sae");
  const auto examples = o.data.examples(all.model, o.prompt);
  o.edits.know(examples);
  const auto groups = o.data.groups(examples);
  sae::InfluenceOverSpec spec{.target_positions = {},
                              .source_features = o.spec.source_features,
                              .target_features = o.spec.target_features,
                              .targets = o.spec.targets,
                              .causes = o.spec.causes,
                              .policies = o.spec.policies};
  std::vector<nn::Tokens> prompts;
  for (const interp::Example& e : examples) {
    prompts.push_back(e.prompt);
    spec.target_positions.push_back(e.at(at[0]));
  }
  if (!o.data.group_by().empty()) {
    for (const interp::PromptGroup& g : groups) spec.groups.push_back(g.members);
  }
  const auto found =
      sae::influence_over(all.model, all.saes.sources[0], all.saes.targets[0], prompts, spec);
  const OverReport report{all, o, examples, groups, spec.target_positions, found};
  write_presentation(
      o.common, o.common.meta(line),
      {.text = [&](const Style& style, int) { return over_text(report, at[0].text(), style); },
       .json =
           [&] {
             Json json = over_json(report);
             json["position"] = at[0].text();
             return json;
           },
       .rows = "causes",
       .table = [&] { return over_rows(report); }});
}

// The positions of targets in one prompt: numbers from 0.
std::vector<std::int64_t> positions_of_prompt(const CommandLine& line, const std::string& list) {
  std::vector<std::int64_t> positions;
  if (list.empty()) return positions;
  for (const interp::Position& p : parse_positions(line, "--target-pos", list)) {
    if (!p.role.empty() || p.index < 0) {
      line.fail(
          fmt::format("--target-pos: '{}' is not a position of the prompt, from 0; roles and "
                      "positions from the end are those of many prompts (--prompts)",
                      p.text()));
    }
    positions.push_back(p.index);
  }
  return positions;
}

}  // namespace

void verb_influence(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Which features of SAEs and transcoders cause which features of later ones on a prompt, "
      "through the model\n"
      "itself: to first order, f dh/df of the target's pre-activation h, and for the strongest "
      "the\n"
      "exact change of the same h when the feature is ablated. Both look through attention and\n"
      "LayerNorm as asked: recompute them, detach them (their values follow, gradients do not "
      "pass)\n"
      "or hold them at the unedited run's.\n\n"
      "json: {meta, source_sae, target_sae, source_site, target_site (null of several), sources: "
      "[{sae, site}],\n"
      "target_saes, attention, norm, tokens, targets: [{target: {position, feature, activation, "
      "site, pre}, causes:\n"
      "[{source: {position, feature, activation, site}, first_order, exact}], by_position, "
      "of_error}]}; by_position\n"
      "sums the first order over all features of a position, of_error is that of the errors "
      "there.\n"
      "With --prompts, means over the prompts in which a target is active at its position:\n"
      "{meta, ..., norm, all: {prompts, targets: [{feature, active, activation, causes:\n"
      "[{feature, first_order, standard_error, active}]}]}, group_by, groups: [{name, prompts,\n"
      "targets}], prompts: [{line, tokens, str_tokens, pos, targets: [{feature, activation,\n"
      "causes: [{feature, first_order}]}]}], position, file}; active counts prompts\n",
      "vitrine influence --source-sae blocks.1.hook_mlp_out --target-sae blocks.4.hook_mlp_out "
      "--prompt 'The capital of Texas is' --target-pos 4");
  Options o;
  sae::InfluenceSpec& spec = o.spec;
  constexpr int kMost = 1'000'000;
  line.option("--source-sae", o.sources, "DIR",
              "whose features cause (as --sae of 'sae eval'; a transcoder, too, or a folder of "
              "several; may be\n"
              "given again: causes in several layers at once)")
      ->required();
  line.option("--target-sae", o.targets, "DIR",
              "whose features are caused (the same; each has causes in the sources before "
              "it)")
      ->required();
  o.prompt.add_to(line);
  o.data.add_to(line);
  constexpr NumberRange<std::int64_t> kPlaces{0, INT32_MAX};
  line.numbers("--source-pos", spec.source_positions, "P,...", "positions of causes (default: all)",
               kPlaces);
  line.option("--target-pos", o.target_positions, "P,...",
              "positions of targets (default: all); of many prompts one, from the end\n"
              "(-1), or a role, too (default: -1, the last)");
  line.numbers("--source-feature", spec.source_features, "J,...", "these causes alone", kPlaces);
  line.numbers("--target-feature", spec.target_features, "J,...",
               "these targets (default: the strongest at the positions)", kPlaces);
  line.number("--targets", spec.targets, "K", "how many targets of each SAE (default: 5)", 1,
              kMost);
  line.number("--top", spec.causes, "K", "causes of each (default: 10)", 1, kMost);
  line.number("--verify", spec.verify, "K", "of these, computed exactly (default: 10)", 0, kMost);
  line.option("--attention", o.attention, "HOW", "recompute (default), detach or hold");
  line.option("--norm", o.norm, "HOW", "LayerNorm scales: recompute (default), detach or hold");
  o.edits.add_to(line, o.common);
  o.common.add_to(
      line,
      "write the result to FILE, all or nothing, and not to stdout; FILE.json is JSON;\n"
      "with --prompts FILE.csv has the causes, besides what goes to stdout",
      CommonOptions::Out::rows);
  if (!line.parse()) return;
  o.data.require(line);
  spec.policies.attention = parse_policy(line, "--attention", o.attention);
  spec.policies.norm = parse_policy(line, "--norm", o.norm);
  if (o.data.given()) {
    refuse_beside_prompts(line, {"--source-pos"},
                          "positions of causes are summed over, and prompts differ in them");
    refuse_beside_prompts(line, {"--verify"}, "exact ablations are of one prompt");
    return over_prompts(line, o);
  }
  o.prompt.require(line);
  spec.target_positions = positions_of_prompt(line, joined(o.target_positions));
  if (is_data_file(o.common.out))
    line.fail("--out FILE.csv: the causes in one prompt are no table; give a .txt or .json file");
  on_prompt(line, o);
}

}  // namespace vitrine::app

// vitrine influence: which features of one SAE cause which features of a later one.
#include "sae/influence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/options/sae_options.h"
#include "apps/verbs/verbs.h"

namespace vitrine::app {
namespace {

Json as_json(const sae::FeatureAt& f) {
  return {{"position", f.position}, {"feature", f.feature}, {"activation", f.activation}};
}

Json as_json(const sae::Influence& found) {
  Json targets = Json::list();
  for (const sae::Influence::Target& t : found.targets) {
    Json causes = Json::list();
    for (const sae::Cause& c : t.causes)
      causes.push_back({{"source", as_json(c.source)},
                        {"first_order", c.first_order},
                        {"exact", c.exact ? Json(*c.exact) : Json()}});
    Json target = as_json(t.at);
    target["pre"] = t.at.pre;
    targets.push_back({{"target", target},
                       {"causes", causes},
                       {"by_position", t.by_position},
                       {"of_error", t.of_error}});
  }
  return targets;
}

std::string as_text(const nn::Model& model, const nn::Tokens& prompt, const sae::Sae& source,
                    const sae::Sae& target, const sae::Influence& found, Policy attention,
                    const Style& style) {
  using Align = Table::Align;
  const auto token = [&](std::int64_t position) {
    return token_label(tokenizer_of(model), prompt[static_cast<std::size_t>(position)]);
  };
  std::string text = fmt::format(
      "features of {} that cause features of {}, attention {}\n"
      "first order: f dh/df; exact: what the pre-activation h loses when f is set to 0\n",
      source.config.hook_name, target.config.hook_name,
      attention == Policy::recompute ? "recomputed"
      : attention == Policy::detach  ? "detached"
                                     : "held");
  for (const sae::Influence::Target& t : found.targets) {
    text += fmt::format("\n{} at {} {}: {:.3f}, pre-activation {:.3f}\n",
                        style.bold(fmt::format("feature {}", t.at.feature)), t.at.position,
                        token(t.at.position), t.at.activation, t.at.pre);
    Table causes({{"pos", Align::right},
                  {"token", Align::left},
                  {"feature", Align::right},
                  {"activation", Align::right},
                  {"first order", Align::right},
                  {"exact", Align::right}});
    for (const sae::Cause& c : t.causes)
      causes.row({fmt::format("{}", c.source.position), token(c.source.position),
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

}  // namespace

void verb_influence(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Which features of one SAE cause which features of a later one on a prompt, through the "
      "model\n"
      "itself: to first order, f dh/df of the target's pre-activation h, and for the strongest "
      "the\n"
      "exact change of the same h when the feature is ablated. Both look through attention and\n"
      "LayerNorm as asked: recompute them, detach them (their values follow, gradients do not "
      "pass)\n"
      "or hold them at the unedited run's.\n\n"
      "json: {meta, source_sae, target_sae, source_site, target_site, attention, norm, tokens,\n"
      "targets: [{target: {position, feature, activation, pre}, causes: [{source: {position,\n"
      "feature, activation}, first_order, exact}], by_position, of_error}]}; by_position sums the\n"
      "first order over all features of a position, of_error is that of the SAE's error there\n",
      "vitrine influence --source-sae blocks.1.hook_mlp_out --target-sae blocks.4.hook_mlp_out "
      "--prompt 'The capital of Texas is' --target-pos 4");
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  std::string source_name, target_name, attention = "recompute", norm = "recompute";
  sae::InfluenceSpec spec;
  constexpr int kMost = 1'000'000;
  line.option("--source-sae", source_name, "DIR", "whose features cause (as --sae of 'sae eval')")
      ->required();
  line.option("--target-sae", target_name, "DIR", "whose features are caused")->required();
  prompt.add_to(line);
  constexpr NumberRange<std::int64_t> kPlaces{0, INT32_MAX};
  line.numbers("--source-pos", spec.source_positions, "P,...", "positions of causes (default: all)",
               kPlaces);
  line.numbers("--target-pos", spec.target_positions, "P,...",
               "positions of targets (default: all)", kPlaces);
  line.numbers("--source-feature", spec.source_features, "J,...", "these causes alone", kPlaces);
  line.numbers("--target-feature", spec.target_features, "J,...",
               "these targets (default: the strongest at the positions)", kPlaces);
  line.number("--targets", spec.targets, "K", "how many targets (default: 5)", 1, kMost);
  line.number("--top", spec.causes, "K", "causes of each (default: 10)", 1, kMost);
  line.number("--verify", spec.verify, "K", "of these, computed exactly (default: 10)", 0, kMost);
  line.option("--attention", attention, "HOW", "recompute (default), detach or hold");
  line.option("--norm", norm, "HOW", "LayerNorm scales: recompute (default), detach or hold");
  edits.add_to(line, common);
  common.add_to(line);
  if (!line.parse()) return;
  prompt.require(line);
  spec.policies.attention = parse_policy(line, "--attention", attention);
  spec.policies.norm = parse_policy(line, "--norm", norm);
  const nn::Model model = common.load();
  const sae::Sae source = load_sae(source_name, common.model),
                 target = load_sae(target_name, common.model);
  for (const sae::Sae* sae : {&source, &target}) {
    require_fits(*sae, model);
    note_its_model(*sae, prompt.prepends_bos(), common.gauge);
  }
  const nn::Tokens tokens = prompt.tokens(model);
  const sae::Influence found = sae::influence(model, source, target, tokens, spec);
  const Json targets = as_json(found);
  require_finite({{"targets", targets}});
  if (!common.json())
    return write_result(common.out,
                        common.heading() + as_text(model, tokens, source, target, found,
                                                   spec.policies.attention, common.style()));
  write_result(common.out, to_line({{"meta", common.meta(line)},
                                    {"source_sae", json_text(source.name)},
                                    {"target_sae", json_text(target.name)},
                                    {"source_site", source.config.hook_name},
                                    {"target_site", target.config.hook_name},
                                    {"attention", attention},
                                    {"norm", norm},
                                    {"tokens", tokens},
                                    {"targets", targets}}));
}

}  // namespace vitrine::app

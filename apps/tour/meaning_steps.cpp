// What single directions mean: neurons, and the features of an SAE at the same place.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "apps/terminal/text.h"
#include "apps/tour/steps.h"

namespace vitrine::app {
namespace {

constexpr std::size_t kLooked = 3;     // neurons or features
constexpr std::size_t kContexts = 10;  // of each

// The tokens at the peaks of the contexts in which one is strongest: how many different ones, and which.
struct Peaks {
  int different = 0;
  std::vector<std::string> tokens;
};
Peaks peaks_of(const JsonReader& contexts) {
  Peaks peaks;
  std::set<std::string> seen;
  for (const JsonReader& context : contexts.list()) {
    const auto texts = context.at("str_tokens").list();
    const std::string token = texts[static_cast<std::size_t>(context.at("peak").whole())].text();
    if (seen.insert(token).second) peaks.tokens.push_back(visible(token));
  }
  peaks.different = static_cast<int>(seen.size());
  return peaks;
}

std::string line_of(std::string_view name, double activation, const Peaks& peaks) {
  std::vector<std::string> shown = peaks.tokens;
  if (shown.size() > 7) shown.resize(7);
  return fmt::format("  {:<14} {:>6.2f}   {:>2} different: {}", name, activation, peaks.different,
                     fmt::join(shown, " |"));
}

JsonValue contexts_json(std::string_view name, const JsonReader& contexts) {
  JsonValue all = JsonValue::list();
  for (const JsonReader& context : contexts.list())
    all.push_back({{"str_tokens", context.at("str_tokens").value()},
                   {"peak", context.at("peak").whole()},
                   {"activation", context.at("activation").number()}});
  return {{"name", std::string(name)}, {"contexts", all}};
}

}  // namespace

TourStep neurons_mean_many_things(Guide& guide) {
  const std::string layer = std::to_string(guide.middle_layer());
  TourStep step{.heading = "Single neurons mean many things"};
  const JsonReader strongest =
      guide.ask(step, {"neurons", "--prompt", guide.fact().clean, "--layer", layer, "--top", "3"});
  const JsonReader corpus =
      guide.ask(step, {"neurons", "--corpus", guide.file("texts.txt"), "--layer", layer,
                       "--contexts", std::to_string(kContexts)});
  step.told.push_back(
      fmt::format("The neurons of layer {} that are strongest on the last token, and the tokens in "
                  "{} texts on which each is strongest ({} contexts):",
                  layer, corpus.at("lines").whole(), kContexts));
  const auto all = corpus.at("neurons").list();
  std::vector<double> different;
  JsonValue shown = JsonValue::list();
  for (const JsonReader& neuron : strongest.at("neurons").list()) {
    if (different.size() == kLooked) break;
    const auto index = static_cast<std::size_t>(neuron.at("neuron").whole());
    const JsonReader contexts = all.at(index).at("contexts");
    const Peaks peaks = peaks_of(contexts);
    const std::string name = fmt::format("neuron {}.{}", layer, index);
    step.told.push_back(line_of(name, neuron.at("activation").number(), peaks));
    shown.push_back(contexts_json(name, contexts));
    different.push_back(peaks.different);
  }
  step.picture = {{"kind", "contexts"}, {"items", shown}};
  guide.note("different", mean_of(different));
  step.claims.push_back({fmt::format("the {} contexts in which such a neuron is strongest have "
                                     "{:.1f} different tokens: it means several things",
                                     kContexts, mean_of(different)),
                         mean_of(different) >= 4});
  return step;
}

TourStep features_are_cleaner(Guide& guide) {
  TourStep step{.heading = "Features of a sparse autoencoder are cleaner"};
  if (guide.saes().empty()) {
    step.told.push_back(
        "No SAE of this model was given (--sae DIR). 'vitrine sae train' makes one.");
    return step;
  }
  const Guide::Sae& sae = guide.saes().back();
  const JsonReader prompt =
      guide.ask(step, {"sae", "features", "--sae", sae.folder, "--prompt", guide.fact().clean});
  const auto last = std::ssize(prompt.at("tokens").list()) - 1;
  std::vector<std::string> ids;
  std::vector<double> activations;
  for (const JsonReader& active : prompt.at("active").list()) {
    if (active.at("position").whole() != last || ids.size() == kLooked) continue;
    ids.push_back(std::to_string(active.at("feature").whole()));
    activations.push_back(active.at("activation").number());
  }
  if (ids.empty()) {
    step.claims.push_back({"some feature is active on the last token: none is", false});
    return step;
  }
  const JsonReader corpus =
      guide.ask(step, {"sae", "features", "--sae", sae.folder, "--corpus", guide.file("texts.txt"),
                       "--feature", fmt::format("{}", fmt::join(ids, ",")), "--contexts",
                       std::to_string(kContexts)});
  const JsonReader fit =
      guide.ask(step, {"sae", "eval", "--sae", sae.folder, "--data", guide.file("texts.txt")});
  step.told.push_back(
      fmt::format("The same for the strongest features of the SAE at {}:", sae.site));
  std::vector<double> different;
  JsonValue shown = JsonValue::list();
  for (const JsonReader& feature : corpus.at("features").list()) {
    const Peaks peaks = peaks_of(feature.at("contexts"));
    const std::string name = fmt::format("feature {}", feature.at("feature").whole());
    step.told.push_back(line_of(name, activations.at(different.size()), peaks));
    shown.push_back(contexts_json(name, feature.at("contexts")));
    different.push_back(peaks.different);
  }
  step.picture = {{"kind", "contexts"}, {"items", shown}};
  const double explained = fit.at("reconstruction").at("explained_variance").number_or(0);
  step.told.push_back(fmt::format(
      "Together the features explain {} of the variance there, {:.0f} of them at a time.",
      percent(explained), fit.at("reconstruction").at("l0").number()));
  step.claims.push_back(
      {fmt::format("the SAE explains most of what is there: {}", percent(explained)),
       explained >= 0.5});
  step.claims.push_back(
      {fmt::format("features are cleaner than neurons: {:.1f} different tokens instead of {:.1f}",
                   mean_of(different), guide.noted("different")),
       mean_of(different) <= 0.7 * guide.noted("different") && explained >= 0.5});
  return step;
}

}  // namespace vitrine::app

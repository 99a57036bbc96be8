// How the model completes the fact: the prediction, layer by layer, part by part.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/terminal/text.h"
#include "apps/tour/steps.h"

namespace vitrine::app {

TourStep completes_a_fact(Guide& guide) {
  const KnownFact& fact = guide.fact();
  TourStep step{.heading = "The model completes a fact"};
  const JsonReader found = guide.ask(step, {"predict", "--prompt", fact.clean});
  const auto top = found.at("top").list();
  const std::string said = top[0].at("token").text();
  step.told.push_back(fmt::format("After `{}` the most probable next tokens are:", fact.clean));
  JsonValue bars = JsonValue::list();
  for (std::size_t i = 0; i < std::min<std::size_t>(5, top.size()); ++i) {
    const double p = top[i].at("prob").number();
    step.told.push_back(fmt::format("  {:<16} {:>7}",
                                    quoted_token(visible(top[i].at("token").text())), percent(p)));
    bars.push_back({{"name", top[i].at("token").text()}, {"value", p}});
  }
  step.picture = {{"kind", "bars"}, {"unit", "probability"}, {"items", bars}};
  const double p = top[0].at("prob").number();
  guide.note("says the answer", said == fact.answer ? 1 : 0);
  step.claims.push_back(
      {fmt::format("it says {}: {} comes first, with {}", quoted_token(fact.answer),
                   quoted_token(visible(said)), percent(p)),
       said == fact.answer && p >= 0.5});
  return step;
}

TourStep layer_by_layer(Guide& guide) {
  const KnownFact& fact = guide.fact();
  TourStep step{.heading = "Layer by layer: the logit lens"};
  const JsonReader found =
      guide.ask(step, {"lens", "--prompt", fact.clean, "--answer", fact.answer});
  step.told.push_back(
      "If the model stopped after a layer, what would it say? The answer's logit through the final "
      "norm, its change, "
      "and the token that comes first:");
  const auto ln = numbers(found.at("ln"));
  const auto stages = found.at("stages").list(), top = found.at("top").list();
  JsonValue points = JsonValue::list();
  int first = -1;  // from there on the answer comes first
  const auto count = static_cast<int>(ln.size());
  for (int s = 0; s < count; ++s) {
    const auto i = static_cast<std::size_t>(s);
    const std::string said = top[i].list()[0].at("token").text();
    const std::string change = s == 0 ? "" : fmt::format("{:+.2f}", ln[i] - ln[i - 1]);
    step.told.push_back(fmt::format("  {:<10} {:>8.2f} {:>8}  {}", stages[i].text(), ln[i], change,
                                    quoted_token(visible(said))));
    points.push_back({{"name", stages[i].text()}, {"value", ln[i]}, {"token", said}});
    if (said != fact.answer) first = -1;
    else if (first < 0) first = s;
  }
  step.picture = {
      {"kind", "curve"}, {"unit", "logit of " + quoted_token(fact.answer)}, {"items", points}};
  step.claims.push_back(
      {first < 0
           ? fmt::format("the answer comes first from some layer on: it never does at the end")
           : fmt::format("the answer comes first from {} on",
                         stages[static_cast<std::size_t>(first)].text()),
       first >= 0});
  return step;
}

TourStep who_wrote_it(Guide& guide) {
  const KnownFact& fact = guide.fact();
  TourStep step{.heading = "Who wrote it: direct logit attribution"};
  const JsonReader found = guide.ask(
      step, {"decompose", "--prompt", fact.clean, "--answer", fact.answer, "--wrong", fact.wrong});
  const double total = found.at("logit").number();
  std::vector<double> values;
  const auto parts = found.at("components").list();
  for (const JsonReader& part : parts) values.push_back(part.at("value").number());
  step.told.push_back(
      fmt::format("The logit of {} less that of {} is {:.2f}: the sum of what {} parts wrote "
                  "(closed to {:.0e}). The most came from:",
                  quoted_token(fact.answer), quoted_token(fact.wrong), total, parts.size(),
                  std::abs(found.at("residual").number())));
  JsonValue bars = JsonValue::list();
  double written = 0;
  constexpr std::size_t kMost = 8;
  for (const std::size_t i : largest(values, kMost)) {
    step.told.push_back(fmt::format("  {:<12} {:>+7.2f}", parts[i].at("name").text(), values[i]));
    bars.push_back({{"name", parts[i].at("name").text()}, {"value", values[i]}});
    written += values[i];
  }
  bars.push_back(
      {{"name", fmt::format("the other {}", parts.size() - std::min(kMost, parts.size()))},
       {"value", total - written}});
  step.picture = {{"kind", "bars"}, {"unit", "logit difference"}, {"items", bars}};
  const std::string answer = quoted_token(fact.answer);
  const bool says = guide.noted("says the answer") > 0;
  step.claims.push_back(
      {says ? fmt::format("a few parts write it: of the {:.2f} logits by which {} leads {}, the {} "
                          "strongest of {} parts write {:.2f}",
                          total, answer, quoted_token(fact.wrong), kMost, parts.size(), written)
            : fmt::format("a few parts write it: {} is not what it says", answer),
       says && total >= 1 && written >= total / 2});
  return step;
}

}  // namespace vitrine::app

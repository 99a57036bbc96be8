// Where information moves: from the subject to the last token, from feature to feature, from head to head.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/terminal/text.h"
#include "apps/tour/steps.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

// The first position at which two prompts differ.
std::size_t subject_of(const JsonReader& patch) {
  const auto clean = patch.at("str_tokens").at("clean").list(),
             corrupt = patch.at("str_tokens").at("corrupt").list();
  std::size_t p = 0;
  while (p + 1 < clean.size() && clean[p].text() == corrupt[p].text()) ++p;
  return p;
}

}  // namespace

TourStep the_subject_moves(Guide& guide) {
  const KnownFact& fact = guide.fact();
  TourStep step{.heading = "Where the subject's information moves: activation patching"};
  const JsonReader found =
      guide.ask(step, {"patch", "--clean", fact.clean, "--corrupt", fact.corrupt, "--answer",
                       fact.answer, "--wrong", fact.wrong, "--site", "resid_pre"});
  const double clean = found.at("metric").at("clean").number(),
               corrupt = found.at("metric").at("corrupt").number();
  const auto rows = found.at("values").list();
  const auto tokens = found.at("str_tokens").at("clean").list();
  const std::size_t subject = subject_of(found), last = tokens.size() - 1;
  step.told.push_back(fmt::format(
      "The residual stream of `{}` is put into the run of `{}`, one place at a time. How much of "
      "the logit difference "
      "({:.2f} clean, {:.2f} corrupt) comes back, at the subject {} and at the last token:",
      fact.clean, fact.corrupt, clean, corrupt, quoted_token(visible(tokens[subject].text()))));
  int crossing = -1;  // the first layer before which the last token carries more than the subject
  JsonValue values = JsonValue::list();
  std::vector<double> at_subject, at_last;
  for (std::size_t l = 0; l < rows.size(); ++l) {
    JsonValue row = JsonValue::list();
    for (const double x : numbers(rows[l])) row.push_back((x - corrupt) / (clean - corrupt));
    const auto metrics = numbers(rows[l]);
    at_subject.push_back((metrics[subject] - corrupt) / (clean - corrupt));
    at_last.push_back((metrics[last] - corrupt) / (clean - corrupt));
    step.told.push_back(fmt::format("  before layer {:<3} {:>5.0f}%  {:>5.0f}%", l,
                                    100 * at_subject[l], 100 * at_last[l]));
    if (crossing < 0 && at_last[l] > at_subject[l]) crossing = static_cast<int>(l);
    values.push_back(std::move(row));
  }
  if (crossing > 0) guide.note("crossing", crossing);
  step.picture = {{"kind", "heatmap"},
                  {"values", values},
                  {"columns", found.at("str_tokens").at("clean").value()},
                  {"unit", "share that comes back"}};
  step.claims.push_back(
      {fmt::format("the two prompts decide between the answers: {:+.2f} and {:+.2f}", clean,
                   corrupt),
       clean >= 1 && corrupt <= -1});
  const bool moves =
      crossing > 0 && at_subject[0] >= 0.9 && at_last.front() <= 0.1 && at_last.back() >= 0.5;
  step.claims.push_back({crossing < 0
                             ? std::string("it moves from the subject to the last token: the last "
                                           "token never carries more of it")
                             : fmt::format("it moves from the subject to the last token, which "
                                           "carries more of it from before layer {} on",
                                           crossing),
                         moves && clean - corrupt >= 2});
  return step;
}

TourStep features_cause_features(Guide& guide) {
  TourStep step{.heading = "Features of one layer cause features of a later one"};
  if (guide.saes().size() < 2) {
    step.told.push_back("Two SAEs of this model are needed (--sae DIR, twice).");
    return step;
  }
  const auto last =
      std::ssize(guide.ask_aside({"predict", "--prompt", guide.fact().clean}).at("tokens").list()) -
      1;
  const Guide::Sae &source = guide.saes().front(), &target = guide.saes().back();
  const JsonReader found =
      guide.ask(step, {"influence", "--source-sae", source.folder, "--target-sae", target.folder,
                       "--prompt", guide.fact().clean, "--target-pos", std::to_string(last)});
  step.told.push_back(
      fmt::format("What a feature at {} is, on the last token, because of features at {}. To first "
                  "order, and exactly, when the cause is removed from the run:",
                  target.site, source.site));
  int agree = 0, looked = 0;
  std::vector<double> effects;
  JsonValue bars = JsonValue::list();
  for (const JsonReader& one : found.at("targets").list()) {
    const auto causes = one.at("causes").list();
    if (causes.empty() || looked == 3) break;
    ++looked;
    const JsonReader to = one.at("target");
    // The cause that matters most when it is removed.
    std::vector<double> sizes;
    for (const JsonReader& cause : causes)
      sizes.push_back(std::abs(cause.at("exact").number_or(0)));
    const JsonReader cause = causes[largest(sizes, 1)[0]];
    const double exact = cause.at("exact").number_or(0), first = cause.at("first_order").number();
    const std::string name =
        fmt::format("{} at token {} -> {}", cause.at("source").at("feature").whole(),
                    cause.at("source").at("position").whole(), to.at("feature").whole());
    step.told.push_back(
        fmt::format("  feature {:<28} {:>+7.2f} first order, {:>+7.2f} exactly, of {:.2f}", name,
                    first, exact, to.at("activation").number()));
    bars.push_back({{"name", name}, {"value", exact}});
    // As the gradient says, within a factor of two.
    const bool near =
        std::abs(first) <= 2 * std::abs(exact) && std::abs(exact) <= 2 * std::abs(first);
    agree += first * exact > 0 && near ? 1 : 0;
    effects.push_back(std::abs(exact));
  }
  step.picture = {{"kind", "bars"}, {"unit", "change of the later feature"}, {"items", bars}};
  if (looked == 0) {
    step.claims.push_back({"a later feature is active on the last token: none is", false});
    return step;
  }
  const double mean = mean_of(effects);
  step.claims.push_back(
      {fmt::format(
           "removing an earlier feature changes a later one, by {:.2f} on average, and {} of {} "
           "times about as the gradient says",
           mean, agree, looked),
       agree == looked && mean >= 0.05});
  return step;
}

TourStep heads_compose(Guide& guide) {
  TourStep step{.heading = "Heads compose into induction"};
  const std::string file = guide.file("cat.jsonl");
  write_text(file, "{\"prompt\": \"The cat sat on the mat. The cat\"}\n");
  const auto scores = [&](TourStep* told, const std::string& edit) {
    std::vector<std::string> words = {"heads", "--prompts", file};
    if (!edit.empty()) words.insert(words.end(), {"--edit", edit});
    return told == nullptr ? guide.ask_aside(words) : guide.ask(*told, words);
  };
  const JsonReader plain = scores(&step, "");
  const auto heads = plain.at("heads").list();
  const auto induction = numbers(plain.at("all").at("induction").at("mean")),
             previous = numbers(plain.at("all").at("previous").at("mean")),
             duplicate = numbers(plain.at("all").at("duplicate").at("mean"));
  const auto layer_of = [&](std::size_t head) { return std::stoi(heads[head].text()); };
  // The strongest induction head that has a layer below it.
  std::size_t best = 0;
  for (const std::size_t h : largest(induction, induction.size())) {
    if (layer_of(h) == 0) continue;
    best = h;
    break;
  }
  step.told.push_back(fmt::format(
      "In `The cat sat on the mat. The cat`, an induction head looks from the second ` cat` at "
      "what followed the first one. Head {} does, with {:.0f}% of its attention.",
      heads[best].text(), 100 * induction[best]));
  step.claims.push_back({fmt::format("there is an induction head: {}, {:.0f}%", heads[best].text(),
                                     100 * induction[best]),
                         induction[best] >= 0.5});

  // What feeds it: the earlier heads that look at the token before or at an equal one are cut, one at a time.
  std::vector<double> candidates(induction.size(), -1);
  for (std::size_t h = 0; h < candidates.size(); ++h)
    if (layer_of(h) < layer_of(best)) candidates[h] = std::max(previous[h], duplicate[h]);
  step.told.push_back(
      "Earlier heads are cut, one at a time, and its attention there is measured again:");
  double least = induction[best], weak = induction[best];
  std::string feeder;
  JsonValue bars = JsonValue::list();
  const auto order = largest(candidates, candidates.size());
  const auto measure = [&](std::size_t head, TourStep* told) {
    const std::string name = heads[head].text(), layer = name.substr(0, name.find('.')),
                      index = name.substr(name.find('.') + 1);
    return numbers(scores(told, fmt::format("zero blocks.{}.attn.hook_z head={}", layer, index))
                       .at("all")
                       .at("induction")
                       .at("mean"))[best];
  };
  constexpr std::size_t kCut = 4;
  for (std::size_t i = 0; i < std::min(kCut, order.size()) && candidates[order[i]] >= 0; ++i) {
    const double after = measure(order[i], nullptr);
    step.told.push_back(fmt::format(
        "  without {:<6} {:>4.0f}%   (it looks {:.0f}% at the token before, {:.0f}% at an equal "
        "one)",
        heads[order[i]].text(), 100 * after, 100 * previous[order[i]], 100 * duplicate[order[i]]));
    bars.push_back({{"name", "without " + heads[order[i]].text()}, {"value", after}});
    if (after < least) {
      least = after;
      feeder = heads[order[i]].text();
    }
  }
  // Beside them the earlier head that does neither.
  std::size_t control = best;
  for (const std::size_t h : order)
    if (candidates[h] >= 0) control = h;
  if (control != best) {
    weak = measure(control, nullptr);
    step.told.push_back(fmt::format("  without {:<6} {:>4.0f}%   (which does neither)",
                                    heads[control].text(), 100 * weak));
    bars.push_back({{"name", "without " + heads[control].text()}, {"value", weak}});
  }
  if (!feeder.empty()) {
    const auto dot = feeder.find('.');
    scores(&step, fmt::format("zero blocks.{}.attn.hook_z head={}", feeder.substr(0, dot),
                              feeder.substr(dot + 1)));
  }
  step.picture = {
      {"kind", "bars"}, {"unit", "induction score of " + heads[best].text()}, {"items", bars}};
  step.claims.push_back(
      {feeder.empty()
           ? std::string("it is composed with an earlier head: none of those that were cut matters")
           : fmt::format("it is composed with an earlier head: without {} it keeps {:.0f}%, "
                         "without {} {:.0f}%",
                         feeder, 100 * least, heads[control].text(), 100 * weak),
       !feeder.empty() && induction[best] >= 0.5 && least <= 0.6 * induction[best] &&
           weak >= 0.8 * induction[best]});
  return step;
}

}  // namespace vitrine::app

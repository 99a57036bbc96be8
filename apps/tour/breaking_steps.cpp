// Circuits, what breaks when parts are cut, what steering does, and whether the model may see what it is to predict.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/terminal/text.h"
#include "apps/tour/steps.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

constexpr const char* kCapitals =
    "place,capital\nOhio,Columbus\nTexas,Austin\nFrance,Paris\nGermany,Berlin\nItaly,Rome\nSpain,"
    "Madrid\n"
    "Russia,Moscow\nJapan,Tokyo\nEgypt,Cairo\nGreece,Athens\nCuba,Havana\nKenya,Nairobi\n";

}  // namespace

TourStep one_circuit_many_phrasings(Guide& guide) {
  TourStep step{.heading = "One circuit serves many phrasings"};
  const std::string table = guide.file("capitals.csv");
  write_text(table, kCapitals);
  const auto prompts = [&](std::vector<std::string> templates, std::string_view name) {
    std::vector<std::string> words = {"prompts", "--table", table};
    for (std::string& one : templates) words.insert(words.end(), {"--template", std::move(one)});
    words.insert(words.end(), {"--answer", " {capital}", "--wrong", " {capital:other}", "--corrupt",
                               "other=place", "--single", "answer,wrong"});
    return guide.make(step, words, name);
  };
  const std::string plain = prompts({"plain=The capital of {place} is"}, "plain.jsonl");
  const std::string others =
      prompts({"city=The capital city of {place} is", "possessive={place}'s capital is",
               "meets=The government of {place} meets in",
               "visit=When you visit the capital of {place}, you see"},
              "others.jsonl");
  const std::string edges = guide.layers() * guide.heads() > 100 ? "1000" : "60";
  const std::string circuit = guide.file("circuit.json");
  const JsonReader found =
      guide.ask(step, {"circuit", "--pairs", plain, "--edges", edges, "--random", "5"}, circuit);
  const JsonReader applied = guide.ask(step, {"circuit", "--apply", circuit, "--pairs", others,
                                              "--group-by", "template", "--random", "5"});
  const double own = found.at("circuit").at("faithfulness").number_or(0),
               chance = found.at("random").at("mean").number_or(0);
  const double whole = found.at("metric").at("clean").at("mean").number(),
               corrupt = found.at("metric").at("corrupt").at("mean").number();
  step.told.push_back(fmt::format(
      "Of all {} edges between parts, the {} that matter most for `The capital of {{place}} is` "
      "over {} pairs are kept; the others carry what a corrupt prompt gives. "
      "How much of the logit difference is left (random circuits of as many edges: {:.0f}%):",
      found.at("of").whole(), edges, found.at("pairs").list().size(), 100 * chance));
  step.told.push_back(fmt::format("  {:<12} {:>5.0f}%", "plain", 100 * own));
  JsonValue bars = JsonValue::list();
  bars.push_back({{"name", "plain"}, {"value", own}});
  step.told.push_back(fmt::format("  {:<12} {:>5.0f}%", "cut out",
                                  100 * found.at("complement").at("faithfulness").number_or(0)));
  int kept = 0, all = 0;
  for (const JsonReader& group : applied.at("groups").list()) {
    const double f = group.at("faithfulness").number_or(0);
    step.told.push_back(fmt::format("  {:<12} {:>5.0f}%", group.at("name").text(), 100 * f));
    bars.push_back({{"name", group.at("name").text()}, {"value", f}});
    kept += f >= 0.5 ? 1 : 0;
    ++all;
  }
  bars.push_back({{"name", "random circuits"}, {"value", chance}});
  step.picture = {{"kind", "bars"}, {"unit", "faithfulness"}, {"items", bars}};
  const bool decides = whole - corrupt >= 2;  // there is something to be faithful to
  step.claims.push_back(
      {fmt::format("{} of {} edges do most of the work: {:.0f}% of a difference of {:.2f} logits, "
                   "random ones {:.0f}%",
                   edges, found.at("of").whole(), 100 * own, whole - corrupt, 100 * chance),
       decides && own >= 0.5 && own <= 1.5 && chance <= 0.5 * own});
  step.claims.push_back(
      {fmt::format("they do most of it in {} of {} other phrasings, too", kept, all),
       decides && own >= 0.5 && 2 * kept > all});
  return step;
}

TourStep what_breaks(Guide& guide) {
  const KnownFact& fact = guide.fact();
  TourStep step{.heading = "What breaks when parts are cut"};
  const JsonReader found = guide.ask(
      step, {"ablate", "--prompt", fact.clean, "--answer", fact.answer, "--wrong", fact.wrong,
             "--of", "heads", "--sets", "greedy", "--steps", "3", "--random", "10"});
  const double clean = found.at("metric").at("clean").at("mean").number();
  step.told.push_back(
      fmt::format("Heads are cut together, each time the one that hurts most; beside them 10 "
                  "random sets of as many heads. The logit difference, {:.2f} in the whole model:",
                  clean));
  double cut = clean, random = clean;
  std::string set;
  JsonValue bars = JsonValue::list();
  for (const JsonReader& one : found.at("steps").list()) {
    cut = one.at("metric").at("mean").number();
    random = one.at("random").at("mean").number();
    set += (set.empty() ? "" : ", ") + one.at("unit").text();
    step.told.push_back(
        fmt::format("  without {:<18} {:>7.2f}   random: {:>6.2f}", set, cut, random));
    bars.push_back({{"name", "without " + set}, {"value", cut}});
    bars.push_back({{"name", "as many random heads"}, {"value", random}});
  }
  step.picture = {{"kind", "bars"}, {"unit", "logit difference"}, {"items", bars}};
  const bool says = guide.noted("says the answer") > 0;
  step.claims.push_back(
      {says ? fmt::format(
                  "cutting {} of {} heads breaks it ({:.2f} of {:.2f} are left), random ones do "
                  "not ({:.2f})",
                  found.at("steps").list().size(), guide.layers() * guide.heads(), cut, clean,
                  random)
            : "cutting a few heads breaks it: there is no answer to break",
       says && clean >= 1 && cut <= 0.5 * clean && random >= 0.5 * clean});
  return step;
}

TourStep steering(Guide& guide) {
  const KnownFact& fact = guide.fact();
  TourStep step{.heading = "What steering does"};
  // Where the last token holds what it has read of the subject, as patching has shown; else two thirds up.
  const auto layer =
      std::to_string(static_cast<int>(guide.noted("crossing", 2 * guide.layers() / 3)));
  const JsonReader found =
      guide.ask(step, {"steer", "--prompt", fact.clean, "--plus", fact.corrupt, "--minus",
                       fact.clean, "--layer", layer, "--scale", "0.5,1,1.5"});
  step.told.push_back(
      fmt::format("What the last token holds after layer {} of `{}`, less the same of `{}`, is "
                  "added. Then the model says:",
                  layer, fact.corrupt, fact.clean));
  const auto first = [](const JsonReader& run) { return run.at("top").list()[0]; };
  const auto line = [&](const std::string& scale, const JsonReader& run) {
    step.told.push_back(fmt::format("  {:<8} {:<14} {:>7}", scale,
                                    quoted_token(visible(first(run).at("token").text())),
                                    percent(first(run).at("prob").number())));
  };
  line("plain", found.at("plain"));
  bool turned = false;
  double least = 0;
  for (const JsonReader& run : found.at("steered").list()) {
    line(fmt::format("x {}", run.at("scale").number()), run);
    if (turned || first(run).at("token").text() != fact.wrong) continue;
    turned = true;
    least = run.at("scale").number();
  }
  step.claims.push_back(
      {turned ? fmt::format("steered, it says {} instead: from scale {} on",
                            quoted_token(fact.wrong), least)
              : fmt::format("steered, it says {} instead: it does not", quoted_token(fact.wrong)),
       turned && first(found.at("plain")).at("token").text() == fact.answer});
  return step;
}

TourStep the_mask_is_right(Guide& guide) {
  TourStep step{.heading = "How an off-by-one mask would be caught"};
  const auto causality = [&](const char* by) {
    const JsonReader found = guide.ask(step, {"doctor", "--model-alone", "--shift-masks", by});
    for (const JsonReader& check : found.at("model").at("checks").list())
      if (check.at("check").text() == "causality") return check;
    throw NumericError("the diagnosis of the model says nothing about causality");
  };
  step.told.push_back(
      "A token must not see the one that it is to predict. The graph is proved causal, and "
      "gradients confirm it; then masks are shifted by one, to see that it would be noticed:");
  const JsonReader right = causality("0"), wrong = causality("1");
  const auto told = [&](const char* what, const JsonReader& check) {
    step.told.push_back(
        fmt::format("  {:<10} {}: {}", what, check.at("status").text(), check.at("what").text()));
    if (check.has("where"))
      step.told.push_back(fmt::format("  {:<10} at {}", "", check.at("where").text()));
  };
  told("as it is", right);
  told("shifted", wrong);
  step.claims.push_back({"the model sees no later token", right.at("status").text() == "ok"});
  step.claims.push_back({"a mask that is off by one is found and named",
                         wrong.at("status").text() == "problem" && wrong.has("where")});
  return step;
}

}  // namespace vitrine::app

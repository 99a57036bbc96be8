// vitrine tour: the whole story on one model: how it completes a fact, and why that is believed.
#include <fmt/format.h>

#include <filesystem>

#include "apps/options/options.h"
#include "apps/options/sae_options.h"
#include "apps/tour/steps.h"
#include "apps/verbs/verbs.h"
#include "nn/model/find_model.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

namespace fs = std::filesystem;

constexpr TourStep (*kSteps[])(Guide&) = {completes_a_fact,
                                          layer_by_layer,
                                          who_wrote_it,
                                          neurons_mean_many_things,
                                          features_are_cleaner,
                                          the_subject_moves,
                                          features_cause_features,
                                          heads_compose,
                                          one_circuit_many_phrasings,
                                          what_breaks,
                                          steering,
                                          the_mask_is_right};

std::string text_of(const TourStep& step, std::size_t number, const Style& style) {
  std::string text = style.bold(fmt::format("{}. {}", number, step.heading)) + "\n";
  for (const std::string& line : step.told) text += "   " + line + "\n";
  for (const Claim& claim : step.claims)
    text += "   " + (claim.holds ? style.strong("✓ ") : style.failure("✗ does not hold: ")) +
            claim.text + "\n";
  for (const std::string& command : step.commands) text += style.dim("   $ " + command) + "\n";
  return text + "\n";
}

Json json_of(const TourStep& step) {
  Json claims = Json::list();
  for (const Claim& claim : step.claims)
    claims.push_back({{"claim", json_text(claim.text)}, {"holds", claim.holds}});
  Json told = Json::list();
  for (const std::string& line : step.told) told.push_back(json_text(line));
  return {{"heading", step.heading},
          {"told", told},
          {"claims", claims},
          {"commands", step.commands},
          {"picture", step.picture}};
}

// The texts in which neurons and features are looked for: some of those that the default model's SAEs were tried on.
void write_texts(const Guide& guide) {
  const std::string all = read_text(nn::find_model("") / "sae" / "sentences.txt");
  std::string some;
  std::size_t line = 0, begin = 0;
  const std::size_t every =
      guide.layers() * guide.heads() > 100 ? 8 : 2;  // a larger model takes longer
  while (begin < all.size()) {
    const std::size_t end = std::min(all.find('\n', begin), all.size() - 1) + 1;
    if (line++ % every == 0) some += all.substr(begin, end - begin);
    begin = end;
  }
  write_text(guide.file("texts.txt"), some);
}

std::string verdict(const std::vector<TourStep>& steps, const Style& style) {
  std::size_t held = 0, all = 0;
  for (const TourStep& step : steps) {
    for (const Claim& claim : step.claims) {
      held += claim.holds ? 1 : 0;
      ++all;
    }
  }
  const std::string text = fmt::format("{} of {} claims hold on this model.", held, all);
  return (held == all ? style.strong(text) : style.warning(text)) + "\n";
}

struct TourOptions {
  CommonOptions common;
  KnownFact fact{"The capital of France is", "The capital of Italy is", " Paris", " Rome"};
  std::vector<std::string> saes;
  std::string keep;
};

// A folder that is removed at the end, unless it is to be kept.
class WorkFolder {
 public:
  explicit WorkFolder(std::string keep) : path_(std::move(keep)), kept_(!path_.empty()) {
    if (kept_) {
      fs::create_directories(path_);
      return;
    }
    std::string name = (fs::temp_directory_path() / "vitrine-tour-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw SaveError("cannot make a folder like " + name);
    path_ = name;
  }
  ~WorkFolder() {
    std::error_code ignored;
    if (!kept_) fs::remove_all(path_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  bool kept_;
};

void tour(const CommandLine& line, const TourOptions& o) {
  const CommonOptions& common = o.common;
  check_folder_of(common.out);
  check_folder_of(common.html);
  const WorkFolder folder(o.keep);
  Guide guide(common.model, o.fact, folder.path(), common.threads);
  write_texts(guide);
  if (o.saes.empty() && common.model.empty()) {
    for (const std::string& name : shipped_saes(""))
      guide.add_sae((nn::find_model("") / "sae" / name).string());
  }
  for (const std::string& sae : o.saes) guide.add_sae(sae);

  const Style style = common.style();
  const bool live = !common.json() && common.out.empty();  // each step is shown when it is there
  std::string text;
  std::vector<TourStep> steps;
  const auto show = [&](const std::string& part) {
    if (live) write_stdout(part);
    else text += part;
  };
  for (const auto make : kSteps) {
    steps.push_back(make(guide));
    show(text_of(steps.back(), steps.size(), style));
  }
  show(verdict(steps, style));
  Json result = {{"meta", common.meta(line)}};
  result["steps"] = Json::list();
  for (const TourStep& step : steps) result["steps"].push_back(json_of(step));
  write_page(common, "tour", result);
  if (common.json()) write_result(common.out, to_line(result));
  else if (!live) write_result(common.out, text);
}

}  // namespace

void verb_tour(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The whole story on one model: how it completes a fact, which layers, heads and MLPs bring\n"
      "it there, what neurons and SAE features mean, where information moves, how heads compose\n"
      "into induction, one circuit for many phrasings, what breaks when it is cut, what steering\n"
      "does, and how a mask that is off by one would be caught. Each step ends with the commands\n"
      "that give its numbers. What it claims is computed: where a claim does not hold, it says "
      "so.\n\n"
      "json: {meta, steps: [{heading, told, claims: [{claim, holds}], commands, picture}]}\n",
      "vitrine tour --html tour.html");
  TourOptions o;
  line.heading("The fact");
  line.option("--clean", o.fact.clean, "TEXT", "a prompt (default: 'The capital of France is')");
  line.option("--corrupt", o.fact.corrupt, "TEXT",
              "the same of another subject (default: 'The capital of Italy is')");
  line.option("--answer", o.fact.answer, "TOKEN", "what follows the first (default: ' Paris')");
  line.option("--wrong", o.fact.wrong, "TOKEN", "what follows the other (default: ' Rome')");
  line.heading("Options");
  line.option("--sae", o.saes, "DIR",
              "an SAE of the model; two of them, of different layers, for features\nthat cause "
              "features (default: those of the model that ships)");
  line.option("--keep", o.keep, "DIR",
              "keep the files that the commands read and write there (default: they are\nremoved "
              "at the end)");
  o.common.add_page_to(line);
  o.common.add_to(line);
  if (!line.parse()) return;
  tour(line, o);
}

}  // namespace vitrine::app

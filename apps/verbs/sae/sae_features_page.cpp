// vitrine sae features --html: the page of all features.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/pages/features_page.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/numbers.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/sae/sae_features.h"
#include "nn/text/corpus_lines.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"

namespace vitrine::app {
namespace {

// Of a text all features: those that were asked for, those that fired, the others.
std::vector<std::int64_t> features_of_page(const SaeFeaturesOptions& o,
                                           const std::optional<sae::FeatureContexts>& found) {
  if (!found) return o.features;
  std::vector<std::int64_t> all;
  std::vector<bool> there(static_cast<std::size_t>(found->features()), false);
  const auto add = [&](const std::vector<std::int64_t>& some) {
    for (const std::int64_t j : some) {
      if (!there[static_cast<std::size_t>(j)]) all.push_back(j);
      there[static_cast<std::size_t>(j)] = true;
    }
  };
  std::vector<std::int64_t> rest(there.size());
  std::iota(rest.begin(), rest.end(), std::int64_t{0});
  add(o.features);
  add(fired_features(o, found));
  add(rest);
  return all;
}

// --steer TEXT, or else the beginning of the line in which the first feature is strongest.
nn::Tokens steered_prompt(const SaeFeaturesOptions& o, const nn::Model& model,
                          const std::optional<sae::FeatureContexts>& found, std::int64_t feature) {
  if (!o.steered_prompt.empty()) return o.prompt.encode(model, o.steered_prompt);
  nn::Tokens prompt;
  if (!found || found->peaks.of(feature).empty()) return prompt;
  constexpr std::ptrdiff_t kBeginning = 8;
  const std::int64_t number = found->peaks.of(feature)[0].line;
  nn::for_each_line(
      model, o.corpus, o.prompt.special(), {&number, 1}, [&](const nn::CorpusLine& line) {
        prompt.assign(line.tokens.begin(),
                      line.tokens.begin() + std::min(kBeginning, std::ssize(line.tokens)));
      });
  return prompt;
}

// {"279": "state capitals"}, checked; null without --names.
Json names_of_features(const SaeFeaturesOptions& o, const sae::Sae& sae) {
  if (o.names.empty()) return {};
  const auto json = JsonReader::object(read_text(o.names), o.names);
  for (const JsonReader& name : json.fields()) {
    const auto feature = number_in<std::int64_t>(name.name());
    if (!feature || *feature < 0 || *feature >= sae.config.d_sae)
      name.fail(
          fmt::format("there is no such feature; this SAE has 0 to {}", sae.config.d_sae - 1));
    name.text();
  }
  return json.value();
}

}  // namespace

void write_features_page(const CommandLine& line, const SaeFeaturesOptions& o,
                         const nn::Model& model, const sae::Sae& sae,
                         const std::optional<sae::FeatureContexts>& found) {
  const Interruptible interruptible;
  const Json names = names_of_features(o, sae);
  FeaturesPageSpec spec{.corpus = o.corpus,
                        .text = reading_of(o, model),
                        .features = features_of_page(o, found),
                        .window = o.window,
                        .words = o.words,
                        .writes = writes_to_stream(model, sae),
                        .in_folder = is_page_folder(o.common.html),
                        .prompt = {},
                        .steered = {},
                        .cancel = &interruptible.requested()};
  Progress progress("reading again", "tokens", o.common.quiet);
  spec.text.cancel = spec.cancel;
  spec.text.progress = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
  };
  spec.prompt = steered_prompt(o, model, found, spec.features[0]);
  const auto steered = std::max<std::ptrdiff_t>(o.steered, std::ssize(o.features));
  for (const std::int64_t j : spec.features) {
    if (std::ssize(spec.steered) < steered) spec.steered.push_back(j);
  }
  const FeaturesPage page = features_page(model, sae, found ? &*found : nullptr, spec);
  Json data = {{"meta", o.common.meta(line)},
               {"sae", json_text(sae.name)},
               {"site", sae.config.hook_name},
               {"file", o.corpus.empty() ? Json() : Json(json_text(o.corpus))},
               {"tokens", found ? Json(found->tokens) : Json()}};
  data.update(page.data);
  data["names"] = names;
  if (is_page_folder(o.common.html))
    write_page_folder(o.common.html, "features", data, page.chunks);
  else return save_page(o.common, page_html("features", data, page.chunks));
  note_page(o.common);
}

}  // namespace vitrine::app

// vitrine sae features: what an SAE's features respond to and write.
#include "apps/verbs/sae/sae_features.h"

#include <fmt/format.h>

#include "apps/options/sae_options.h"
#include "apps/pages/page.h"
#include "apps/verbs/verbs.h"

namespace vitrine::app {
namespace {

void check_page(const CommandLine& line, const SaeFeaturesOptions& o) {
  for (const char* of_page : {"--names", "--steer", "--previews"}) {
    if (line.was_given(of_page) && (o.common.html.empty() || o.prompt.given()))
      line.fail(fmt::format(
          "{} is about the page of features; give --html FILE with --corpus or --feature",
          of_page));
  }
  if (!is_page_folder(o.common.html)) return;
  if (o.prompt.given()) line.fail("the page of a prompt is one file; give --html FILE");
  require_page_folder(o.common.html);
}

sae::Sae layer_of(const CommandLine& line, const sae::TranscoderSet& set, int layer) {
  if (layer >= std::ssize(set.layers))
    line.fail(fmt::format("there is no layer {}; {} has 0 to {}", layer, set.name,
                          set.layers.size() - 1));
  return sae::layer_as_sae(set, static_cast<std::size_t>(layer));
}

}  // namespace

void verb_sae_features(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "What an SAE's features respond to and write. With a prompt, the features that are active "
      "at\n"
      "its tokens. With --corpus, the contexts in which features are strongest, one for each line "
      "of\n"
      "the text, all features in one pass. With --feature, all that is known of these.\n\n"
      "raises, lowers: the tokens whose logits the feature's decoder row raises most when the\n"
      "unembedding reads it directly.\n\n"
      "json: with a prompt {meta, sae, site, tokens, active: [{position, feature, activation,\n"
      "raised: [{id, token, value}], lowered}]}; else {meta, sae, site, file, tokens, features:\n"
      "[{feature, density, mean, raised, lowered, contexts: [{line, pos, activation, tokens,\n"
      "str_tokens, peak}], intervals: [{from, to, share}], neighbours: [{feature, cosine}]}]};\n"
      "neighbours with --feature only\n",
      "vitrine sae features --sae blocks.4.hook_mlp_out --prompt 'The capital of Texas is'");
  SaeFeaturesOptions o;
  constexpr int kMost = 1'000'000;
  line.option("--sae", o.sae, "DIR",
              "a SAELens folder, or the name of one that came with the model");
  std::string transcoders;
  int layer = 0;
  line.option("--transcoders", transcoders, "DIR",
              "instead: a transcoder for every MLP, of which --layer is looked at; a folder, or "
              "the name of\n"
              "one that came with the model");
  line.number("--layer", layer, "L", "the layer of --transcoders (default: 0)", 0, 10'000);
  o.prompt.add_to(line);
  line.number("--pos", o.position, "P", "the position, from 0 (default: all)", 0, kMost);
  line.heading("Features");
  line.numbers("--feature", o.features, "J,...", "all that is known of these",
               NumberRange<std::int64_t>{0, INT32_MAX});
  line.option("--corpus", o.corpus, "FILE", "a text, each line of which is read on its own");
  line.number("--top", o.top, "K", "how many the table lists (default: 10)", 1, kMost);
  line.number("--contexts", o.contexts, "K", "kept of each feature (default: 20)", 1, 10'000);
  line.number("--window", o.window, "N", "tokens shown on either side of the peak (default: 8)", 0,
              kMost);
  line.number("--words", o.words, "K", "tokens raised and lowered (default: 8)", 1, 1000);
  line.option("--sort", o.sort, "peak|density", "the order of the table (default: peak)")
      ->one_of({"peak", "density"});
  line.option("--names", o.names, "FILE.json",
              "of a page: names of features, {\"279\": \"state capitals\"}, to search and sort by");
  line.option(
      "--steer", o.steered_prompt, "TEXT",
      "of a page: the prompt of its steering previews (default: the beginning of a line of\n"
      "the text)");
  line.number("--previews", o.steered, "K", "of a page: how many features have one (default: 64)",
              0, 100'000);
  o.edits.add_to(line, o.common, false);
  o.common.add_page_to(
      line,
      "a page of the result, to be opened in a browser: one file, which needs nothing\n"
      "else; or, of a text, FOLDER/, with a file for every 256 features beside\n"
      "index.html, read when they are looked at: for large SAEs");
  o.common.add_to(line);
  if (!line.parse()) return;
  check_page(line, o);
  if (o.prompt.given() && !o.corpus.empty())
    line.fail("give a prompt or --corpus, not both: these are two different questions");
  if (!o.prompt.given() && o.corpus.empty() && o.features.empty())
    line.fail("say what to look at: --prompt TEXT, --corpus FILE, or --feature J");
  if (o.prompt.given()) o.prompt.require(line);
  if (o.position >= 0 && !o.prompt.given()) line.fail("--pos is about a prompt; give --prompt too");
  if (o.sae.empty() == transcoders.empty())
    line.fail("give --sae DIR or --transcoders DIR, one of the two");
  if (line.was_given("--layer") && transcoders.empty()) line.fail("--layer is of --transcoders");
  const nn::Model model = o.common.load();
  const sae::Sae sae =
      transcoders.empty() ? load_sae(o.sae, o.common.model)
                          : layer_of(line, load_transcoder_set(transcoders, o.common.model), layer);
  if (o.prompt.given() || !o.corpus.empty()) require_fits(sae, model);
  const nn::Tokenizer* tokenizer = tokenizer_of(model);
  const bool by_tokenizer =
      o.prompt.by_text() && tokenizer != nullptr && !tokenizer->first().empty();
  note_its_model(sae, o.prompt.prepends_bos() || by_tokenizer, o.common.gauge);
  for (const std::int64_t j : o.features) {
    if (j < 0 || j >= sae.config.d_sae)
      line.fail(
          fmt::format("there is no feature {}; this SAE has 0 to {}", j, sae.config.d_sae - 1));
  }
  if (o.prompt.given()) return features_on_prompt(line, o, model, sae);
  features_over_text(line, o, model, sae);
}

}  // namespace vitrine::app

// vitrine heads: what does every attention head do?
#include <fmt/format.h>

#include <algorithm>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/reports/heads_report.h"
#include "apps/reports/profile_report.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"

namespace vitrine::app {
namespace {

using interp::Head;

struct Options {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  DataSetOptions data;
  std::string explained;
  int half = 32, sequences = 8, top = 5, position = -1;
};

// ---- one head -----------------------------------------------------------------------------------
void explain(const Options& o, const CommandLine& line) {
  const nn::Model model = o.common.load();
  const Head head = interp::parse_head(o.explained, model.config());
  HeadExplanation e{model, interp::explain_weights(model, head, 3, o.top)};
  nn::Tokens prompt;
  std::optional<interp::HeadOnPrompt> on_prompt;
  if (o.prompt.given()) {
    prompt = o.prompt.tokens(model);
    on_prompt = interp::explain_on_prompt(
        model, prompt, head,
        o.position < 0 ? std::nullopt : std::optional<std::int64_t>(o.position), o.top, o.top);
    e.prompt = &prompt;
    e.on_prompt = &*on_prompt;
  }
  write_presentation(o.common, o.common.meta(line),
                     {.text = [&](const Style& style, int) { return e.text(style); },
                      .json = [&] { return e.json(); }});
}

// ---- all heads, on one's own prompts ------------------------------------------------------------
void score_on_prompts(Options& o, const CommandLine& line) {
  const nn::Model model = o.common.load();
  const auto examples = o.data.examples(model, o.prompt);
  o.edits.know(examples);
  const auto groups = o.data.groups(examples);
  const std::vector<nn::Tokens> prompts = interp::prompts_of(examples);
  const interp::HeadScoresOver scores = interp::head_scores_on(model, prompts);
  ProfileReport report{
      .model = model,
      .examples = examples,
      .groups = groups,
      .field = o.data.group_by(),
      .axis = "head",
      .columns = {{"previous", {}}, {"duplicate", {}}, {"induction", {}}},
      .top = o.top,
      .by_any_column = true,
      .each = o.data.each(),
      .heading =
          "how much heads attend to the token before (previous), to the same token\n"
          "earlier (duplicate), and to the one that came after it there (induction):\n"
          "attention alone, by the largest of the three; - where no prompt says a token\n"
          "twice\n",
      .tensor_axes = {{"layer", {}}, {"head", {}}}};
  const nn::Config& config = model.config();
  for (const Head& h : interp::all_heads(config)) report.labels.push_back(interp::to_string(h));
  for (int l = 0; l < config.layers; ++l)
    report.tensor_axes[0].places.push_back(fmt::format("{}", l));
  for (int h = 0; h < config.heads; ++h)
    report.tensor_axes[1].places.push_back(fmt::format("{}", h));
  const std::int64_t heads = std::ssize(report.labels);
  for (const interp::HeadScores& s : scores.each) {
    report.columns[0].each.push_back(s.previous.reshape({heads}));
    report.columns[1].each.push_back(s.duplicate.reshape({heads}));
    report.columns[2].each.push_back(s.induction.reshape({heads}));
  }
  write_presentation(o.common, o.common.meta(line),
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json = [&] { return report.json(); },
                      .tensors = [&] { return report.tensors(); },
                      .axes = report.axis_names()});
}

// ---- all heads ----------------------------------------------------------------------------------
// The heads that are named for looking at the token before or at the same token.
std::vector<Head> named_for_attention(const interp::InductionStudy& study) {
  std::vector<Head> found;
  for (int l = 0; l < study.scores.previous.dim(0); ++l) {
    for (int h = 0; h < study.scores.previous.dim(1); ++h) {
      const auto score = [&](const Tensor& t) { return t.at<double>({l, h}); };
      if (std::max(score(study.scores.previous), score(study.scores.duplicate)) >=
          study.criteria.attends)
        found.push_back({l, h});
    }
  }
  return found;
}

void study_all(const Options& o, const CommandLine& line) {
  const nn::Model model = o.common.load();
  const random::Key key{o.common.seed};
  const auto prompts = interp::repeated_tokens(model.config(), key, o.sequences, o.half);
  interp::InductionStudy study;
  std::vector<interp::PathEffect> paths;
  {
    Progress progress("ablating heads", "runs", o.common.quiet);
    const SweepOptions options{
        .progress = [&](int done, int total) { progress.update(done, total); }};
    study = interp::study_induction(model, prompts, key.fold("values"), {}, options);
    const auto named = named_for_attention(study);
    std::vector<std::vector<Head>> groups;
    for (const Head& h : named) groups.push_back({h});
    const auto later = study.induction_heads();
    std::vector<Head> earlier;  // than every induction head
    for (const Head& h : named) {
      if (!later.empty() && h.layer < later[0].layer) earlier.push_back(h);
    }
    if (earlier.size() > 1) groups.push_back(earlier);
    paths = interp::paths_to(model, prompts, groups, later, options);
  }

  std::vector<Head> moved_heads;
  for (int h = 0; h < model.config().heads; ++h) {
    if (study.scores.duplicate.at<double>({0, h}) >= study.criteria.attends)
      moved_heads.push_back({0, h});
  }
  std::optional<interp::MovedPositions> moved;
  if (!model.config().rope && !moved_heads.empty() && !study.induction_heads().empty())
    moved = interp::move_positions(model, prompts, moved_heads, study.induction_heads(), 1);
  const interp::CopyRanks in_context =
                              interp::copying_in_context(model, prompts, key.fold("sources")),
                          of_weights = interp::copying_of_weights(model, key.fold("tokens"));
  const interp::Composition composition = interp::composition(model);
  const interp::CompositionBaseline baseline =
      interp::composition_baseline(model, key.fold("baseline"));
  const HeadsReport report{model,    prompts, study,       in_context, of_weights, composition,
                           baseline, paths,   moved_heads, moved,      o.top};
  write_presentation(
      o.common, o.common.meta(line),
      {.text = [&](const Style& style, int) { return report.text(style); },
       .json = [&] { return report.json(); },
       .tensors = [&] { return report.tensors(); },
       .axes = {.of = {{"", {"layer", "head"}},
                       {"composition_q", {"layer", "head", "to_layer", "to_head"}},
                       {"composition_k", {"layer", "head", "to_layer", "to_head"}},
                       {"composition_v", {"layer", "head", "to_layer", "to_head"}}}}});
}

}  // namespace

void verb_heads(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "What every head does, on random tokens said twice: previous-token, duplicate-token and\n"
      "induction scores, which are about attention alone; whether it copies, and whether it is\n"
      "needed. A head is called an induction head only when it attends, copies and is needed.\n"
      "For these: what their attention depends on, by ablation, and which earlier heads they\n"
      "compose with, by the weights. With --explain L.H one head: what it attends to, looks for\n"
      "and writes, from the weights alone and, with a prompt, there. With --prompts the three\n"
      "scores of all heads on one's own prompts: means with standard errors.\n\n"
      "json: {meta, sequences, half, loss, criteria, controls, chance, heads: [{layer, head,\n"
      "previous, duplicate, induction, copies: {change, standard_error, context_top,\n"
      "context_rank, weights_top, weights_rank}, ablated: {change, standard_error}, verdict:\n"
      "{attends, copies, needed}, called}], paths: [{ablated, to, before, after, by_query,\n"
      "by_keys}], moved: {heads, unedited, moved}, composition: {baseline, with: [{to, from:\n"
      "[{layer, head, q, k, v}]}]}, file}. --explain: {meta, layer, head, prompt: {tokens,\n"
      "str_tokens, position, sources: [{pos, weight, length, raised}], length, raised, lowered,\n"
      "looks_for, avoids}, weights: {qk, ov: [{value, share, in_high, out_high, in_low,\n"
      "out_low}]}}; tokens with values are {id, token, value}. --prompts: {meta, heads:\n"
      "[\"LAYER.HEAD\"], all: {prompts, previous: {mean, standard_error, count}, duplicate,\n"
      "induction}, group_by, groups: [{name, ...}], prompts: [{line, tokens, str_tokens,\n"
      "previous, duplicate, induction}], file}: each of these numbers is a list, one for each\n"
      "head; null where a prompt says no token twice\n",
      "vitrine heads --explain 1.2 --prompt 'The capital of Texas is'\n  vitrine heads");
  Options o;
  constexpr int kMost = 1'000'000, kHeads = 10;
  line.number("--sequences", o.sequences, "N", "random sequences (default: 8)", 1, kMost);
  line.number("--half", o.half, "T",
              "tokens in each half, as far as the context goes (default: 32)", 3, kMost);
  auto* explained =
      line.option("--explain", o.explained, "L.H", "one head instead, by layer and head: 1.0");
  o.prompt.add_to(line, "With --explain",
                  "a prompt on which it is explained (- reads it from stdin)");
  line.heading("With --explain");
  auto* position = line.number("--pos", o.position, "P",
                               "at which position of it, from 0 (default: the last)", 0, kMost);
  o.data.add_to(line);
  auto* top = line.number("--top", o.top, "K",
                          "how many heads or tokens are listed (default: 5; of many prompts, the\n"
                          "strongest 10 heads)",
                          1, kMost);
  o.edits.add_to(line, o.common);
  o.common.add_to(
      line,
      "FILE.safetensors, .npz or .csv: the tensors previous, duplicate, induction [layer, head],\n"
      "composition_q, composition_k, composition_v [layer, head, layer, head], and\n"
      "copying/swap, ablation/change with their standard errors, besides what goes to\n"
      "stdout; with --prompts the first three, each with standard_error, count and each [prompt,\n"
      "layer, head]; any other FILE: the table or JSON, and not to stdout",
      CommonOptions::Out::text_or_tensors);
  if (!line.parse()) return;
  o.data.require(line);
  if (o.data.given()) {
    refuse_beside_prompts(line, {"--explain", "--pos"}, "it explains one head on one prompt");
    refuse_beside_prompts(line, {"--sequences", "--half"}, "it is about random tokens said twice");
    if (top->count() == 0) o.top = kHeads;
    return score_on_prompts(o, line);
  }
  if (explained->count() == 0) {
    if (o.prompt.given() || position->count() > 0)
      line.fail("a prompt goes with --explain L.H; without it, heads are studied on random tokens");
    return study_all(o, line);
  }
  if (is_data_file(o.common.out))
    line.fail("--explain has no tensors; give --out another name, or leave out --explain");
  if (o.prompt.given()) o.prompt.require(line);
  else if (position->count() > 0) line.fail("--pos is a position of a prompt; give --prompt too");
  explain(o, line);
}

}  // namespace vitrine::app

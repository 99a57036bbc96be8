// vitrine neurons: the strongest neurons on a prompt, and what each neuron responds to in a text.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "apps/experiment/asked_prompts.h"
#include "apps/experiment/edit_options.h"
#include "apps/options/options.h"
#include "apps/reports/neurons_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

struct Options {
  CommonOptions common;
  EditOptions edits;
  PromptOptions prompt;
  DataSetOptions data;
  TokenOptions answer{"answer"}, wrong{"wrong"};
  std::string position = "-1";
  int layer = -1, neuron = -1, top = 10;
  std::string corpus, sort = "peak", checkpoint;
  int contexts = 10, window = 8;
  double save_every = 30;
};

// The position that is meant, counted from the first token where the prompt has it.
int position_in(const CommandLine& line, const std::string& given, const nn::Tokens& prompt) {
  const interp::Position p = interp::parse_position(given);
  if (!p.role.empty()) {
    line.fail(
        fmt::format("--pos is a position of the prompt, such as 3 or -1, not '{}'; roles are those "
                    "of the prompts of a file",
                    given));
  }
  const auto size = std::ssize(prompt);
  if (p.index >= size || p.index < -size) {
    throw ContextError(fmt::format("there is no position {}; the prompt has {} token{}, 0 to {}",
                                   p.index, size, size == 1 ? "" : "s", size - 1));
  }
  return static_cast<int>(p.index < 0 ? p.index + size : p.index);
}

// ---- on a prompt --------------------------------------------------------------------------------
void on_prompt(const CommandLine& line, const Options& o) {
  const nn::Model model = o.common.load();
  const nn::Tokens prompt = o.prompt.tokens(model);
  interp::NeuronSpec spec{.position = position_in(line, o.position, prompt), .neurons = o.top};
  if (o.layer >= 0) spec.layer = o.layer;
  if (o.answer.given()) spec.answer = o.answer.id(model);
  if (o.wrong.given()) spec.wrong = o.wrong.id(model);
  const interp::StrongNeurons found = interp::strong_neurons(model, prompt, spec);
  const StrongNeuronsReport report{model, prompt, spec, found};
  write_presentation(
      o.common, o.common.meta(line),
      {.text = [&](const Style& style, int) { return report.text(style); },
       .json = [&] { return report.json(); },
       .rows = "neurons",
       .page = "neurons",
       .page_data =
           [&] {
             const auto token = [&](const std::optional<int>& id) {
               return id ? token_json(model, *id) : Json();
             };
             return Json{{"answer_token", token(spec.answer)}, {"wrong_token", token(spec.wrong)}};
           }});
}

// ---- on many prompts ----------------------------------------------------------------------------
// Effects are measured on all prompts or on none. Throws Error (input), naming the line.
void check_same_kind(const AskedPrompts& many) {
  const bool answers = many.asked[0].answer.has_value();
  for (std::size_t i = 0; i < many.asked.size(); ++i) {
    if (many.asked[i].answer.has_value() == answers) continue;
    throw Error(ErrorKind::input,
                fmt::format("line {} has {} answer and line {} has {}: neurons are ranked by their "
                            "effects on the answers where there are answers; give each prompt one, "
                            "or none of them",
                            many.examples[i].line, answers ? "no" : "an", many.examples[0].line,
                            answers ? "one" : "none"));
  }
}

void on_prompts(const CommandLine& line, Options& o) {
  const nn::Model model = o.common.load();
  const AskedPrompts many = asked_prompts(
      model, o.data, o.prompt, interp::parse_position(o.position), o.edits, NoAnswer::none);
  check_same_kind(many);
  interp::NeuronSpec spec{.neurons = o.top};
  if (o.layer >= 0) spec.layer = o.layer;
  std::vector<interp::PromptGroup> groups;
  if (!o.data.group_by().empty()) groups = many.groups;
  groups.push_back(interp::grouped(many.examples)[0]);  // all
  const auto found = interp::strong_neurons_by_group(model, many.asked, groups, spec);
  const NeuronsOverReport report{model, many.examples,     many.asked, groups,       found,
                                 spec,  o.data.group_by(), o.position, o.data.each()};
  write_presentation(o.common, o.common.meta(line),
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json = [&] { return report.json(); },
                      .rows = "neurons",
                      .table = [&] { return report.table(); }});
}

// ---- over a text --------------------------------------------------------------------------------
// Rows of the neurons of a layer, or of all, in the order of the layers.
std::vector<std::int64_t> rows_of_layer(const interp::Contexts& c, const Options& o) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(o.layer < 0 ? c.neurons() : c.per_layer));
  std::iota(rows.begin(), rows.end(), c.row({std::max(o.layer, 0), 0}));
  return rows;
}

// Of those that were asked for.
std::vector<std::int64_t> asked_for(const interp::Contexts& c, const Options& o) {
  if (o.neuron >= 0) return {c.row({o.layer, o.neuron})};
  return rows_of_layer(c, o);
}

// The windows of some neurons, one after the other.
std::vector<nn::Window> windows_of(const nn::Model& model, const interp::Contexts& c,
                                   const std::vector<std::int64_t>& rows, const Options& o,
                                   bool special, int around) {
  std::vector<nn::Peak> peaks;
  for (const std::int64_t row : rows) {
    const auto of_row = c.peaks.of(row);
    peaks.insert(peaks.end(), of_row.begin(), of_row.end());
  }
  return nn::windows_around(model, o.corpus, special, peaks, around);
}

// The first `count`, in the order of --sort.
void keep_first(const nn::Model& model, const interp::Contexts& c, std::vector<std::int64_t>& rows,
                const Options& o, bool special, int count) {
  struct Sorted {
    std::int64_t row;
    nn::Variety variety;
    float peak;
  };
  std::vector<Sorted> all;
  all.reserve(rows.size());
  for (const std::int64_t row : rows) all.push_back({row, {}, c.peaks.of(row)[0].activation});
  if (o.sort != "peak") {
    const auto windows = windows_of(model, c, rows, o, special, 0);
    std::size_t begin = 0;
    for (Sorted& s : all) {
      const auto peaks = c.peaks.of(s.row);
      s.variety = nn::variety(peaks, std::span(windows).subspan(begin, peaks.size()));
      begin += peaks.size();
    }
  }
  const int sign = o.sort == "mixed" ? -1 : 1;
  std::stable_sort(all.begin(), all.end(), [&](const Sorted& a, const Sorted& b) {
    const auto key = [&](const Sorted& s) {
      return std::tuple(sign * s.variety.tokens, sign * s.variety.predicted, -s.peak);
    };
    return key(a) < key(b);
  });
  all.resize(std::min(all.size(), static_cast<std::size_t>(count)));
  rows.clear();
  for (const Sorted& s : all) rows.push_back(s.row);
}

interp::Contexts collect(const nn::Model& model, const Options& o,
                         const interp::ContextsSpec& common) {
  const Interruptible interruptible;
  Progress progress("reading", "bytes", o.common.quiet);
  interp::ContextsSpec spec = common;
  spec.cancel = &interruptible.requested();
  spec.progress = [&](std::int64_t bytes, std::int64_t total) {
    progress.update(static_cast<double>(bytes), static_cast<double>(total));
  };
  try {
    return interp::collect_contexts(model, o.corpus, spec);
  } catch (const InterruptedError&) {
    if (o.checkpoint.empty()) throw;
    throw InterruptedError(
        fmt::format("interrupted; {} has what was found so far: the same "
                    "command goes on from there",
                    o.checkpoint));
  }
}

constexpr int kTokens = 8;  // raised and lowered

// The page of the first neurons in the order of --sort; before them --neuron.
void write_page(const CommandLine& line, const Options& o, const nn::Model& model,
                const interp::ContextsSpec& spec, const interp::Contexts& found) {
  constexpr int kOnPage = 100;
  std::vector<std::int64_t> rows = rows_of_layer(found, o);
  keep_first(model, found, rows, o, spec.special, line.was_given("--top") ? o.top : kOnPage);
  if (o.neuron >= 0) {
    const std::int64_t asked = found.row({o.layer, o.neuron});
    std::erase(rows, asked);
    rows.insert(rows.begin(), asked);
  }
  ContextsReport report{model, o.corpus, spec, found, o.layer, rows, {}, {}};
  report.windows = windows_of(model, found, rows, o, spec.special, o.window);
  std::vector<interp::NeuronId> ids;
  for (const std::int64_t row : rows) ids.push_back(found.id(row));
  report.tokens = interp::tokens_of(model, ids, kTokens);
  Json page = {{"meta", o.common.meta(line)}};
  page.update(report.json());
  write_page(o.common, "neurons_over_text", page);
}

void over_corpus(const CommandLine& line, const Options& o) {
  if (!o.checkpoint.empty()) check_folder_of(o.checkpoint);
  const nn::Model model = o.common.load();
  // Said before a long run, not after it.
  if (o.layer >= 0) interp::check_neuron(model, {o.layer, std::max(o.neuron, 0)});
  interp::ContextsSpec spec{.contexts = o.contexts,
                            .special = o.prompt.special(),
                            .checkpoint = o.checkpoint,
                            .save_every = o.save_every};
  spec.bos = bos_of_lines(model, o.prompt.prepends_bos());
  note_bare_lines(model, o.prompt.prepends_bos(), o.common.quiet);
  const interp::Contexts found = collect(model, o, spec);
  if (found.resumed > 0 && !o.common.quiet) {
    log(fmt::format("{} of {} lines had been read before: {}", grouped(found.resumed),
                    grouped(found.lines), o.checkpoint));
  }

  if (!o.common.html.empty()) write_page(line, o, model, spec, found);
  std::vector<std::int64_t> rows = asked_for(found, o);
  if (!o.common.json() && o.neuron < 0) keep_first(model, found, rows, o, spec.special, o.top);
  ContextsReport report{model, o.corpus, spec, found, o.layer, rows, {}, {}};
  report.windows = windows_of(model, found, rows, o, spec.special, o.window);
  if (o.neuron >= 0) {
    const interp::NeuronId id{o.layer, o.neuron};
    report.tokens = interp::tokens_of(model, {&id, 1}, kTokens);
  }
  const Style style = o.common.style();
  if (o.common.json()) {
    return write_result_in_pieces(
        o.common.out, [&](const auto& write) { report.write_json(o.common.meta(line), write); });
  }
  const char* order = o.sort == "peak"    ? "the strongest first"
                      : o.sort == "mixed" ? "those with the most different tokens first"
                                          : "those with the fewest different tokens first";
  write_result(o.common.out, o.common.heading() + (o.neuron >= 0 ? report.one(style)
                                                                 : report.overview(order, style)));
}

// Throws Error (usage) for options that do not go together.
void check(const CommandLine& line, Options& o) {
  const bool corpus = !o.corpus.empty();
  o.data.require(line);
  if (corpus && (o.prompt.given() || o.data.given()))
    line.fail(fmt::format("give {} or --corpus, not both: these are two different questions",
                          o.data.given() ? "--prompts" : "a prompt"));
  if (o.neuron >= 0 && !corpus) {
    line.fail("--neuron shows the contexts of one neuron in a text; give --corpus FILE too");
  }
  if (o.neuron >= 0 && o.layer < 0) line.fail("--neuron is one of a layer's; give --layer L too");
  if (!corpus) {
    if (!line.given("Corpus").empty())
      line.fail(fmt::format("{} is about a text; give --corpus FILE", line.given("Corpus")[0]));
    if (o.data.given() && !o.common.html.empty())
      line.fail("--html is about one prompt or a text; give --prompt TEXT or --corpus FILE");
    if (o.data.given()) return;
    o.prompt.require(line);
    if (o.answer.given()) o.answer.require(line);
    if (o.wrong.given()) o.wrong.require(line);
    if (o.wrong.given() && !o.answer.given())
      line.fail("--wrong without --answer: effects are on the answer's logit; give --answer too");
    return;
  }
  if (o.answer.given() || o.wrong.given() || line.was_given("--pos")) {
    line.fail(
        "--pos, --answer and --wrong are about a prompt; with --corpus they mean nothing: leave "
        "them out");
  }
  if (!o.checkpoint.empty() && !o.common.out.empty() && o.checkpoint == o.common.out)
    line.fail("--checkpoint and --out name the same file; give them two names");
}

}  // namespace

void verb_neurons(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "The strongest MLP neurons at one position of a prompt: by activation (mlp.hook_post), or,\n"
      "with --answer, by their direct effect on its logit: what the neuron writes to the stream\n"
      "along the direction that the logit reads, with the scale of the final norm held. Of many\n"
      "prompts, those with the largest means, by their effects where the prompts have answers.\n\n"
      "With --corpus, the contexts in which neurons are most active, in a text of any length: in\n"
      "each line the token where the neuron is strongest. All neurons of all layers are done in\n"
      "one pass. A line longer than the context is read in pieces. FILE is text, or JSONL with\n"
      "{\"text\": ...} or {\"tokens\": [...]} a line.\n\n"
      "json: {meta, tokens, str_tokens, pos, layer, answer, wrong, metric, neurons: [{layer,\n"
      "neuron, activation, effect, raised: [{id, token, value}], lowered}], stream: {layer,\n"
      "dimensions: [{dimension, value, effect}]}, file}; effect and metric are null without\n"
      "--answer.\n"
      "With --prompts: {meta, position, layer, all: {prompts, metric, neurons: [{layer, neuron,\n"
      "activation, effect, raised, lowered}], stream: {layer, dimensions}}, group_by, groups:\n"
      "[{name, ...}], prompts: [{line, tokens, str_tokens, pos, answer, wrong, metric, neurons:\n"
      "[{layer, neuron, activation, effect}]}], file}; means are {mean, standard_error, count},\n"
      "the neurons of each prompt are the strongest there.\n"
      "With --corpus, of all neurons or those of --layer: {meta, file, lines, tokens, long_lines,\n"
      "bos, neurons: [{layer, neuron, mean, active, distinct_tokens, distinct_predicted, raised,\n"
      "lowered, contexts: [{line, pos, activation, tokens, str_tokens, peak, predicted: {id,\n"
      "token}}]}]}; tokens[peak] is where the neuron is strongest; raised and lowered are null\n"
      "without --neuron\n",
      "vitrine neurons --prompt 'The capital of Texas is' --answer ' Austin' "
      "--wrong ' Sacramento'");
  Options o;
  constexpr int kMost = 1'000'000, kMostContexts = 10'000;
  o.prompt.add_to(line);
  line.option("--pos", o.position, "P",
              "the position, from 0; negative ones count from the end; of a file's prompts a\n"
              "role, too (default: -1, the last)");
  o.answer.add_to(line, "order neurons by their effect on this token's logit ...");
  o.wrong.add_to(line, "... less its effect on this one's");
  o.data.add_to(line);
  line.number("--layer", o.layer, "L", "neurons of this layer alone (default: all layers)", 0,
              kMost);
  line.number("--top", o.top, "K",
              "how many neurons the table lists (default: 10; a page\nof a text: 100)", 1, kMost);
  line.heading("Corpus");
  line.option("--corpus", o.corpus, "FILE", "a text, each line of which is read on its own");
  line.number("--neuron", o.neuron, "I", "all contexts of this neuron of --layer", 0, kMost);
  line.number("--contexts", o.contexts, "K", "kept of each neuron (default: 10)", 1, kMostContexts);
  line.number("--window", o.window, "N", "tokens shown on either side of the peak (default: 8)", 0,
              kMost);
  line.option("--sort", o.sort, "peak|mixed|clean",
              "which neurons the table lists: those with the strongest peaks; those whose\n"
              "contexts have the most different tokens at the peak; or the fewest\n"
              "(default: peak)")
      ->one_of({"peak", "mixed", "clean"});
  line.option("--checkpoint", o.checkpoint, "FILE",
              "what was found so far, for all neurons: if FILE is there the pass goes on from\n"
              "it, and when it was complete, other neurons are shown at once");
  line.real("--save-every", o.save_every, "SECONDS", "write it that often (default: 30)",
            {.least = 0, .most = 1e9});
  o.edits.add_to(line, o.common);
  o.common.add_page_to(line);
  o.common.add_to(
      line,
      "write the result to FILE, all or nothing, and not to stdout; FILE.json is JSON;\n"
      "FILE.csv has the neurons of a prompt, or of many, besides what goes to stdout",
      CommonOptions::Out::rows);
  if (!line.parse()) return;
  check(line, o);
  if (!o.corpus.empty() && is_data_file(o.common.out))
    line.fail("--corpus: contexts are no table for a .csv file; give a .txt or .json file");
  if (o.data.given()) return on_prompts(line, o);
  if (o.corpus.empty()) return on_prompt(line, o);
  over_corpus(line, o);
}

}  // namespace vitrine::app

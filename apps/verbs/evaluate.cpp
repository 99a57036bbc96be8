// vitrine evaluate FILE: how well a model predicts a text.
#include <fmt/format.h>

#include <cmath>

#include "apps/experiment/data_set_options.h"
#include "apps/experiment/edit_options.h"
#include "apps/experiment/metric_options.h"
#include "apps/options/data_files.h"
#include "apps/options/options.h"
#include "apps/reports/measured_report.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "nn/text/text_loss.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

// A perplexity, which may be too large for a number though the loss is not.
std::string perplexity(double x, const char* digits) {
  return std::isfinite(x) ? fmt::format(fmt::runtime(digits), x) : "more than 1e+308";
}
Json perplexity(double x) { return std::isfinite(x) ? Json(x) : Json(); }

std::string table(const nn::TextLoss& loss, const Style& style) {
  using Align = Table::Align;
  Table table({{"", Align::left}, {"", Align::right}, {"", Align::left}});
  table.row({"documents", grouped(loss.documents), ""});
  table.row({"tokens", grouped(loss.tokens), "predicted"});
  table.row({"loss", style.strong(fmt::format("{:.4f}", loss.per_token())), "nats a token"});
  table.row({"perplexity", perplexity(std::exp(loss.per_token()), "{:.3f}"), "a token"});
  if (loss.bytes > 0) {
    table.row({"", perplexity(std::exp2(loss.bits_per_byte()), "{:.4f}"), "a byte"});
    table.row({"bits", fmt::format("{:.4f}", loss.bits_per_byte()), "a byte"});
  }
  return table.text(style);
}

// A text begins with what the tokenizer puts before a prompt.
nn::Tokens tokens_of(const nn::Model& model, const nn::Document& document,
                     const std::string& file) {
  if (document.is_tokens) return {document.tokens.begin(), document.tokens.end()};
  try {
    return model.encode_prompt(document.text);
  } catch (const TokenError& error) {
    throw TokenError(fmt::format("{}, line {}: {}", file, document.line, error.what()));
  }
}

struct Options {
  CommonOptions common;
  EditOptions edits;
  std::string file;
  DataOptions data;
  DataSetOptions prompts;
  MetricOptions metrics;
  PromptOptions encoding;
  nn::WindowOptions windows;
};

// ---- a text -------------------------------------------------------------------------------------
void evaluate_text(const CommandLine& line, Options& options) {
  const CommonOptions& common = options.common;
  const std::string& file = options.file;
  nn::WindowOptions& windows = options.windows;
  const Interruptible interruptible;
  const nn::Model model = common.load();
  nn::Tokens before;
  if (options.encoding.prepends_bos())
    before = beginning_of_text(tokenizer_of(model), model.config().bos);
  if (options.encoding.prepends_bos() && before.empty())
    throw TokenError("--prepend-bos: this model names no beginning-of-text token");
  Progress progress("evaluating", "bytes", common.quiet);
  windows.progress = [&](std::int64_t) { interruptible.check(); };
  windows.cancel = &interruptible.requested();
  nn::TextLossMeter meter(model, windows);
  std::error_code unknown;  // of a pipe, say: then there is no bar
  const std::uintmax_t size = std::filesystem::file_size(file, unknown);
  const double total = unknown ? 0.0 : static_cast<double>(size);
  nn::for_each_document(file, options.data.split(), [&](const nn::Document& d) {
    nn::Tokens tokens = tokens_of(model, d, file);
    // Of a text, the tokenizer's own are there already.
    if (d.is_tokens || model.tokenizer().first().empty())
      tokens.insert(tokens.begin(), before.begin(), before.end());
    meter.add(tokens);
    interruptible.check();
    progress.update(static_cast<double>(d.end), total);
  });
  const nn::TextLoss loss = meter.finish();
  if (loss.tokens == 0) {
    throw ContextError(
        fmt::format("{}: nothing to predict: it has no document of at least two tokens", file));
  }
  const auto json = [&] {
    const double bits = loss.bits_per_byte();
    return Json{{"documents", loss.documents},
                {"tokens", loss.tokens},
                {"bytes", loss.bytes > 0 ? Json(loss.bytes) : Json()},
                {"loss", loss.per_token()},
                {"ppl_token", perplexity(std::exp(loss.per_token()))},
                {"ppl_byte", loss.bytes > 0 ? perplexity(std::exp2(bits)) : Json()},
                {"bits_per_byte", loss.bytes > 0 ? Json(bits) : Json()}};
  };
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return table(loss, style); },
                      .json = json,
                      .tensors = {},
                      .rows = "loss",
                      .table = [&] { return Json::list({json()}); }});
}

// ---- prompts ------------------------------------------------------------------------------------
void evaluate_prompts(const CommandLine& line, Options& options) {
  const CommonOptions& common = options.common;
  const Interruptible interruptible;
  const nn::Model model = common.load();
  const auto examples =
      options.prompts.examples(model, options.encoding, needs_of(options.metrics.specs()));
  options.edits.know(examples);
  const auto groups = options.prompts.groups(examples);
  std::vector<std::string> usual;
  if (!options.metrics.given())
    usual = {"logit_diff", "prob", "log_prob", "rank", "accuracy", "loss"};
  std::optional<nn::Model> plain;  // without the edits, if there are some
  if (line.was_given("--edit") || line.was_given("--edits")) plain.emplace(common.load_unedited());
  const MeasuredPrompts measured =
      measured_prompts(model, examples, usual, options.metrics.specs(), plain ? &*plain : nullptr,
                       interruptible.requested(), common.quiet);
  const MeasuredReport report{
      model, examples, groups, measured, options.prompts.group_by(), options.prompts.each()};
  write_presentation(common, common.meta(line),
                     {.text = [&](const Style& style, int) { return report.text(style); },
                      .json = [&] { return report.json(); },
                      .tensors = {},
                      .rows = "prompts"});
}

// What is about a text, and what is about prompts.
void check_options(const CommandLine& line, const Options& options) {
  if (!options.prompts.given()) {
    if (options.metrics.given())
      line.fail("--metric is about the prompts of a file; give --prompts FILE");
    if (options.file.empty())
      line.fail("give FILE, a text, or --prompts FILE, prompts with answers");
    return;
  }
  if (!options.file.empty()) line.fail("give FILE, a text, or --prompts, not both");
  for (const char* option : {"--split", "--window", "--overlap"}) {
    if (line.was_given(option))
      line.fail(fmt::format("{} is about a text, and not about the prompts of a file", option));
  }
}

}  // namespace

void verb_evaluate(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "How well a model predicts a text: loss and perplexity, per token and per byte\n"
      "(which does not depend on the tokenizer). Long documents are read in windows;\n"
      "the first token of a document follows nothing and is not counted. A tokenizer\n"
      "that puts a token before every prompt puts it before every document.\n\n"
      "FILE is text, or JSONL with {\"text\": ...} or {\"tokens\": [...]} a line.\n\n"
      "With --prompts, how well it predicts the answers of many prompts: the means of\n"
      "metrics, with standard errors over the prompts.\n\n"
      "json: {meta, documents, tokens, bytes, loss, ppl_token, ppl_byte,\n"
      "bits_per_byte}; what is per byte is null without a tokenizer, a\n"
      "perplexity where it is too large for a number. With --prompts: {meta, metrics: [NAME],\n"
      "all: {prompts, NAME: {mean, standard_error, count}, ...}, group_by, groups: [{name,\n"
      "prompts, NAME: ...}], prompts: [{line, tokens, str_tokens, answers, wrongs, top: {id,\n"
      "token, prob}, NAME: ...}], file}; with --edit also NAME_change, what the edits change,\n"
      "prompt by prompt\n",
      "vitrine evaluate /usr/share/common-licenses/GPL-3");
  Options options;
  nn::WindowOptions& windows = options.windows;
  constexpr int kMost = 1 << 30;
  line.option("file,--file", options.file, "FILE", "the text");
  options.data.add_split_to(line);
  line.number("--window", windows.window, "N", "tokens read at a time (default: the context)", 2,
              kMost);
  line.number("--overlap", windows.overlap, "N",
              "tokens that windows share (default: half a window)", 0, kMost);
  options.encoding.add_bos_to(line,
                              "put the beginning-of-text token before every document or prompt");
  options.prompts.add_to(line, true);
  options.metrics.add_to(
      line,
      "logit_diff, prob, log_prob, rank, accuracy, loss, of prompts that\nhave what they read",
      true);
  options.edits.add_to(line, options.common);
  options.common.add_to(
      line,
      "FILE.csv: the numbers, or of many prompts a line for each, besides what goes\n"
      "to stdout; any other FILE: the table or JSON, and not to stdout",
      CommonOptions::Out::rows);
  if (!line.parse()) return;
  check_options(line, options);
  options.prompts.require(line);
  options.metrics.require();
  options.metrics.refuse_kl(line.was_given("--edit") || line.was_given("--edits"));
  if (options.prompts.given()) evaluate_prompts(line, options);
  else evaluate_text(line, options);
}

}  // namespace vitrine::app

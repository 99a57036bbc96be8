// vitrine train: a GPT-2 or Llama from scratch, in a folder that can go on at any time.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "apps/options/training_options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/terminal/training_log.h"
#include "apps/verbs/verbs.h"
#include "nn/model/find_model.h"
#include "nn/training/model_diagnosis.h"
#include "tensor/error.h"
#include "tensor/files/run_folder.h"

namespace vitrine::app {
namespace {

// Texts being read: a bar, and Ctrl-C.
class Reading {
 public:
  Reading(const char* what, const TrainingOptions& options, const Interruptible& interruptible)
      : bar_(what, "bytes", options.common.quiet), interruptible_(interruptible) {}
  nn::Trainer::Progress progress() {
    return [this](std::int64_t done, std::int64_t total) {
      bar_.update(static_cast<double>(done), static_cast<double>(total));
      return !interruptible_.requested();
    };
  }

 private:
  Progress bar_;
  const Interruptible& interruptible_;
};

[[noreturn]] void reject_samples() {
  throw TokenError(
      "--sample is a text, and the model has no tokenizer to read it with; leave it out");
}

nn::Trainer begin(const CommandLine& line, const TrainingOptions& options, ThreadPool& pool,
                  const Interruptible& interruptible) {
  std::optional<nn::Model> from;
  if (!options.from.empty()) from = nn::load_gpt2(options.from, {.weights = nn::Weights::widened});
  std::optional<nn::Tokenizer> tokenizer;
  if (!from) {
    tokenizer = nn::Tokenizer::load(
        options.tokenizer.empty() ? nn::find_model("") : std::filesystem::path(options.tokenizer));
  } else if (from->has_tokenizer()) {
    tokenizer = from->tokenizer();
  }
  if (!tokenizer && from->has_tokenizer_fault() && !options.common.quiet)
    log(fmt::format("note: {}; the run is one of token ids",
                    with_option_names(from->why_no_tokenizer())));
  if (!tokenizer && !options.samples.empty()) reject_samples();
  const nn::TrainingSettings settings =
      options.settings(line, tokenizer, from ? &from->config() : nullptr);
  Reading reading("reading", options, interruptible);
  return nn::Trainer::begin(settings, tokenizer, options.common.out, pool, reading.progress(),
                            from ? &from->parameters() : nullptr);
}

// Said before training, not after the first evaluation.
void check_samples(const std::vector<std::string>& samples, const nn::Trainer& trainer) {
  if (!trainer.has_tokenizer() && !samples.empty()) reject_samples();
  for (const std::string& sample : samples) {
    try {
      nn::check_prompts({trainer.tokenizer().encode_prompt(sample)}, trainer.settings().model);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("--sample '{}': {}", sample, error.what()));
    }
  }
}

nn::Trainer resume(const TrainingOptions& options, const Interruptible& interruptible) {
  Reading reading("checking the texts", options, interruptible);
  nn::Trainer trainer = nn::Trainer::resume(options.common.out, reading.progress());
  if (!trainer.texts_known() && !options.common.quiet) {
    log(
        fmt::format("vitrine: {}: this run was saved by an earlier version, which did not note "
                    "what its texts and its tokenizer were: "
                    "whether they are still the same cannot be told. Its next save notes it",
                    visible(options.common.out)));
  }
  return trainer;
}

// Before the first step: a model that sees what it is to predict is not worth training.
void check_model(const nn::Trainer& trainer, const TrainingOptions& options) {
  const bool fresh = !options.resume && options.from.empty();
  const Diagnosis d = nn::diagnose_before_training(trainer.model(options.common.threads), fresh);
  nn::require_causal(d);
  if (!options.common.quiet) log("checked: " + nn::in_one_line(d));
}

// One step, timed.
nn::TrainingStep::Outcome step(nn::Trainer& trainer, ThreadPool& pool) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const nn::TrainingStep::Outcome outcome = trainer.step(pool);
  trainer.add_seconds(std::chrono::duration<double>(Clock::now() - start).count());
  return outcome;
}

// None where Ctrl-C ended it.
std::optional<TrainingEvaluation> evaluate(TrainingLog& log) {
  try {
    return log.evaluate();
  } catch (const InterruptedError&) {
    return std::nullopt;
  }
}

void print_result(const CommandLine& line, const TrainingOptions& options,
                  const nn::Trainer& trainer, const TrainingEvaluation& evaluation) {
  const auto& [loss, induction] = evaluation;
  const bool validated = loss.tokens > 0;
  const auto or_null = [&](double x) { return validated ? Json(x) : Json(); };
  if (options.common.json()) {
    Json json = {{"meta", options.common.meta(line)}};
    json["meta"]["model"] = nullptr;
    json["meta"]["seed"] = trainer.settings().seed;
    json["folder"] = json_text(options.common.out);
    json["steps"] = trainer.steps();
    json["seconds"] = trainer.seconds();
    json["loss"] = or_null(loss.per_token());
    json["ppl_token"] = or_null(std::exp(loss.per_token()));
    json["ppl_byte"] = loss.bytes > 0 ? Json(std::exp2(loss.bits_per_byte())) : Json();
    json["bits_per_byte"] = loss.bytes > 0 ? Json(loss.bits_per_byte()) : Json();
    json["induction"] = as_json(induction);
    return write_stdout(to_line(json));
  }
  const Style style = style_for(options.common.color, "");
  using Align = Table::Align;
  Table table({{"", Align::left}, {"", Align::right}, {"", Align::left}});
  table.row({"steps", grouped(trainer.steps()), ""});
  if (validated) {
    table.row(
        {"validation loss", style.strong(fmt::format("{:.4f}", loss.per_token())), "nats a token"});
    if (loss.bytes > 0) table.row({"", fmt::format("{:.4f}", loss.bits_per_byte()), "bits a byte"});
  }
  if (induction) {
    table.row({"random tokens", fmt::format("{:.2f}", induction->first), "nats a token"});
    table.row({"said again", fmt::format("{:.2f}", induction->second), "nats a token"});
  }
  write_stdout(table.text(style));
}

}  // namespace

void verb_train(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Trains a GPT-2 or a Llama from scratch. --out becomes a model that every verb can read, and "
      "holds "
      "what\n"
      "is needed to go on: the state, the texts as token ids, and log.jsonl with losses, samples\n"
      "and induction scores. Ctrl-C saves and ends with exit code 130. --resume goes on, after a\n"
      "kill too, and gives the weights that an uninterrupted run gives, bit for bit.\n\n"
      "json: {meta, folder, steps, seconds, loss, ppl_token, ppl_byte, bits_per_byte,\n"
      "induction: {first, second, score, head}}; the loss is that of the validation text, null\n"
      "when there is none, and null per byte without a tokenizer; induction is null where the\n"
      "context is less than 4 tokens.\n",
      "vitrine train --preset tiny --data /usr/share/common-licenses/GPL-3 --steps 20 --out run");
  TrainingOptions options;
  options.add_to(line);
  if (!line.parse()) return;
  options.check(line);

  const Interruptible interruptible;
  const RunFolder folder(options.common.out, kRunFiles);
  ThreadPool pool(options.common.threads);
  nn::Trainer trainer =
      options.resume ? resume(options, interruptible) : begin(line, options, pool, interruptible);
  check_samples(options.samples, trainer);
  if (!trainer.done()) check_model(trainer, options);
  TrainingLog log(trainer, options.common.out,
                  {.log_every = options.log_every,
                   .evaluate_every = options.evaluate_every,
                   .samples = options.samples,
                   .quiet = options.common.quiet,
                   .resumed = options.resume,
                   .threads = options.common.threads,
                   .cancel = &interruptible.requested()});
  log.begin(line.text());
  const auto stop = [&] { return trainer.done() || trainer.steps() >= options.stop_after; };
  std::optional<TrainingEvaluation> last;
  while (!stop()) {
    const double rate = trainer.rate();
    log.step(step(trainer, pool), rate);
    last.reset();
    if (!interruptible.requested() && (trainer.steps() % options.evaluate_every == 0 || stop()))
      last = evaluate(log);
    if (interruptible.requested()) {
      trainer.save(options.stored);
      throw InterruptedError(fmt::format(
          "interrupted; saved after step {} of {}: 'vitrine train --resume --out {}' goes on",
          trainer.steps(), trainer.settings().schedule.steps, options.common.out));
    }
    if (trainer.steps() % options.save_every == 0 && !stop()) trainer.save(options.stored);
  }
  trainer.save(options.stored);
  log.finish();
  print_result(line, options, trainer, last ? *last : log.measure());
}

}  // namespace vitrine::app

// vitrine train: a GPT-2 from scratch, in a folder that can go on at any time.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/training_log.h"
#include "apps/training_options.h"
#include "apps/verbs.h"
#include "nn/find_model.h"
#include "tensor/run_folder.h"

namespace vitrine::app {
namespace {

nn::Trainer begin(const CommandLine& line, const TrainingOptions& options, ThreadPool& pool,
                  const Interruptible& interruptible) {
  std::optional<nn::Model> from;
  if (!options.from.empty()) from = nn::load_gpt2(options.from);
  const nn::Tokenizer tokenizer =
      from ? from->tokenizer()
           : nn::Tokenizer::load(options.tokenizer.empty()
                                     ? nn::find_model("")
                                     : std::filesystem::path(options.tokenizer));
  if (!tokenizer.end_of_text()) {
    throw ConfigError(
        "the tokenizer has no <|endoftext|>, which stands between documents; 'vitrine tokenizer "
        "train' makes one that has");
  }
  const nn::TrainingSettings settings =
      options.settings(line, tokenizer, from ? &from->config() : nullptr);
  Progress progress("reading", "bytes", options.common.quiet);
  const auto advance = [&](std::int64_t done, std::int64_t total) {
    progress.update(static_cast<double>(done), static_cast<double>(total));
    return !interruptible.requested();
  };
  return nn::Trainer::begin(settings, tokenizer, options.common.out, pool, advance,
                            from ? &from->parameters() : nullptr);
}

// Said before training, not after the first evaluation.
void check_samples(const std::vector<std::string>& samples, const nn::Trainer& trainer) {
  for (const std::string& sample : samples) {
    try {
      nn::check_prompts({trainer.tokenizer().encode(sample)}, trainer.settings().model);
    } catch (const Error& error) {
      throw Error(error.kind(), fmt::format("--sample '{}': {}", sample, error.what()));
    }
  }
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
std::optional<Evaluation> evaluate(TrainingLog& log) {
  try {
    return log.evaluate();
  } catch (const InterruptedError&) {
    return std::nullopt;
  }
}

void print_result(const CommandLine& line, const TrainingOptions& options,
                  const nn::Trainer& trainer, const Evaluation& evaluation) {
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
    json["ppl_byte"] = or_null(std::exp2(loss.bits_per_byte()));
    json["bits_per_byte"] = or_null(loss.bits_per_byte());
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
    table.row({"", fmt::format("{:.4f}", loss.bits_per_byte()), "bits a byte"});
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
      "Trains a GPT-2 from scratch. --out becomes a model that every verb can read, and holds "
      "what\n"
      "is needed to go on: the state, the texts as token ids, and log.jsonl with losses, samples\n"
      "and induction scores. Ctrl-C saves and ends with exit code 130. --resume goes on, after a\n"
      "kill too, and gives the weights that an uninterrupted run gives, bit for bit.\n\n"
      "json: {meta, folder, steps, seconds, loss, ppl_token, ppl_byte, bits_per_byte,\n"
      "induction: {first, second, score, head}}; the loss is that of the validation text, null\n"
      "when there is none; induction is null where the context is less than 4 tokens.\n",
      "vitrine train --preset tiny --data /usr/share/common-licenses/GPL-3 --steps 20 --out run");
  TrainingOptions options;
  options.add_to(line);
  if (!line.parse()) return;
  options.check(line);

  const Interruptible interruptible;
  const RunFolder folder(options.common.out, {"config.json", "model.safetensors", "training.safetensors", "log.jsonl",
                                              "tokenizer.json", "vocab.json", "merges.txt"});
  ThreadPool pool(options.common.threads);
  nn::Trainer trainer = options.resume ? nn::Trainer::resume(options.common.out)
                                       : begin(line, options, pool, interruptible);
  check_samples(options.samples, trainer);
  TrainingLog log(trainer, options.common.out,
                  {.log_every = options.log_every,
                   .evaluate_every = options.evaluate_every,
                   .samples = options.samples,
                   .quiet = options.common.quiet,
                   .threads = options.common.threads,
                   .cancel = &interruptible.requested()});
  log.begin(line.text());
  const auto stop = [&] { return trainer.done() || trainer.steps() >= options.stop_after; };
  std::optional<Evaluation> last;
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

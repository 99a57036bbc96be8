// vitrine train: a GPT-2 from scratch, in a folder that can go on at any time.
#include <fmt/format.h>

#include <chrono>

#include "apps/interrupt.h"
#include "apps/progress.h"
#include "apps/training_log.h"
#include "apps/training_options.h"
#include "apps/verbs.h"

namespace vitrine::app {
namespace {

nn::Trainer begin(const CommandLine& line, const TrainingOptions& options, ThreadPool& pool,
                  const Interruptible& interruptible) {
  const nn::Tokenizer tokenizer = nn::Tokenizer::load(options.tokenizer);
  const nn::TrainingSettings settings = options.settings(line, tokenizer);
  Progress progress("reading", "bytes", options.quiet);
  return nn::Trainer::begin(
      settings, tokenizer, options.out, pool, [&](std::int64_t done, std::int64_t total) {
        progress.update(static_cast<double>(done), static_cast<double>(total));
        return !interruptible.requested();
      });
}

// One step, timed.
nn::TrainingStep::Outcome step(nn::Trainer& trainer, ThreadPool& pool) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  const nn::TrainingStep::Outcome outcome = trainer.step(pool);
  trainer.add_seconds(std::chrono::duration<double>(Clock::now() - start).count());
  return outcome;
}

}  // namespace

void verb_train(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Trains a GPT-2 from scratch. --out becomes a model that every verb can read, and holds "
      "what\n"
      "is needed to go on: the state, the texts as token ids, and log.jsonl with losses, samples\n"
      "and induction scores. Ctrl-C saves and ends with exit code 130. --resume goes on, after a\n"
      "kill too, and gives the weights that an uninterrupted run gives, bit for bit.\n",
      "vitrine tokenizer train --data README.md --vocabulary 400 --out /tmp/tokenizer &&\n"
      "  vitrine train --preset tiny --data README.md --tokenizer /tmp/tokenizer --steps 20 --out "
      "/tmp/run");
  TrainingOptions options;
  options.add_to(line);
  if (!line.parse()) return;
  options.check(line);

  const Interruptible interruptible;
  ThreadPool pool(options.threads);
  nn::Trainer trainer =
      options.resume ? nn::Trainer::resume(options.out) : begin(line, options, pool, interruptible);
  TrainingLog log(trainer, options.out,
                  {.log_every = options.log_every,
                   .evaluate_every = options.evaluate_every,
                   .samples = options.samples,
                   .quiet = options.quiet,
                   .threads = options.threads});
  log.begin(line.text());
  while (!trainer.done()) {
    const double rate = trainer.rate();
    log.step(step(trainer, pool), rate);
    if (interruptible.requested()) {
      trainer.save(options.stored);
      throw InterruptedError(fmt::format(
          "interrupted; saved after step {} of {}: 'vitrine train --resume --out {}' goes on",
          trainer.steps(), trainer.settings().schedule.steps, options.out));
    }
    if (trainer.steps() % options.evaluate_every == 0 || trainer.done()) log.evaluate();
    if (trainer.steps() % options.save_every == 0) trainer.save(options.stored);
  }
  trainer.save(options.stored);
  log.finish();
}

}  // namespace vitrine::app

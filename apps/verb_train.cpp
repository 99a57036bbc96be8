// vitrine train: a GPT-2 from scratch, in a folder that can go on at any time.
#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "apps/data_files.h"
#include "apps/interrupt.h"
#include "apps/options.h"
#include "apps/progress.h"
#include "apps/training_log.h"
#include "apps/verbs.h"
#include "nn/trainer.h"

namespace vitrine::app {
namespace {

constexpr double kLeastWeight = 0.001, kMostWeight = 1e6;

struct Options {
  std::string out, tokenizer, preset = "atlas", shape = "cosine";
  DataOptions data;
  std::vector<std::string> samples;
  int layers = 0, heads = 0, width = 0, context = 0;
  nn::TrainingSettings settings;
  std::int64_t steps = 1000, warmup = -1;
  bool resume = false, quiet = false;
  std::uint64_t seed = 0;
  int threads = 0;
  std::int64_t evaluate_every = 500, save_every = 500, log_every = 10;
  std::string color = "auto";

  void add_to(CommandLine& line);
  nn::TrainingSettings settle(const CommandLine& line, const nn::Tokenizer& tokenizer) const;
};

void Options::add_to(CommandLine& line) {
  constexpr int kMost = 1 << 30;
  line.option("--out", out, "DIR", "the folder of the run: a model, and all that is needed to go on")
      ->required();
  line.flag("--resume", resume,
            "go on from the last save in --out, with its settings and texts");
  line.heading("Text");
  data.add_to(line,
              "Lines {\"tokens\": [ids]} will do, too. Each file gives the share of the tokens\n"
              "that its WEIGHT is of all weights (default: 1)");
  line.option("--tokenizer", tokenizer, "DIR",
              "a folder with a tokenizer's files, as 'vitrine tokenizer train' writes them");
  line.option("--validation", settings.validation, "SHARE",
              "share of each text that is kept for validation (default: 0.01)")
      ->check(CLI::Range(0.0, 0.5));
  line.option("--begun", settings.begun, "SHARE",
              "share of documents that begin with <|endoftext|> (default: 0.5)")
      ->check(CLI::Range(0.0, 1.0));
  line.heading("Model");
  line.option("--preset", preset, "NAME",
              "tiny (2 layers of width 64), atlas (4 of 256; default) or gpt2-small");
  line.number("--layers", layers, "N", "instead of the preset's", 1, 1000);
  line.number("--heads", heads, "N", "instead of the preset's", 1, 1000);
  line.number("--width", width, "N", "of the residual stream, instead of the preset's", 1, 1 << 20);
  line.number("--context", context, "N", "tokens, instead of the preset's", 2, 1 << 20);
  line.heading("Training");
  line.number("--steps", steps, "N", "how many (default: 1000)", std::int64_t{1},
              std::int64_t{kMost});
  line.number("--batch-tokens", settings.rows, "N", "tokens of a batch (default: 4096)",
              std::int64_t{2}, std::int64_t{kMost});
  line.number("--accumulate", settings.rules.accumulate, "N",
              "batches whose gradients make one step (default: 1)", 1, kMost);
  line.option("--rate", settings.schedule.peak, "RATE", "peak learning rate (default: 0.001)")
      ->check(CLI::PositiveNumber);
  line.number("--warmup", warmup, "N", "steps in which the rate rises (default: a fiftieth of all)",
              std::int64_t{0}, std::int64_t{kMost});
  line.option("--schedule", shape, "SHAPE",
              "how the rate falls: cosine (default), linear or constant");
  line.option("--last-rate", settings.schedule.last, "SHARE",
              "of the peak, at the last step (default: 0.1)")
      ->check(CLI::Range(0.0, 1.0));
  line.option("--decay", settings.rules.adamw.decay, "X", "weight decay (default: 0.1)")
      ->check(CLI::NonNegativeNumber);
  line.option("--clip", settings.rules.adamw.clip, "X",
              "largest norm of the gradient (default: 1; 0: none)")
      ->check(CLI::NonNegativeNumber);
  line.option("--ema", settings.rules.ema, "X",
              "save an average of the weights with this memory, such as 0.999 (default: 0, none)")
      ->check(CLI::Range(0.0, 0.999999));
  line.heading("While it runs");
  line.number("--log-every", log_every, "N", "steps (default: 10)", std::int64_t{1},
              std::int64_t{kMost});
  line.number("--evaluate-every", evaluate_every, "N",
              "steps between validation, samples and induction score (default: 500)",
              std::int64_t{1}, std::int64_t{kMost});
  line.number("--save-every", save_every, "N", "steps (default: 500)", std::int64_t{1},
              std::int64_t{kMost});
  line.option("--sample", samples, "PROMPT",
              "continued at every evaluation; may be repeated");
  line.number("--seed", seed, "N", "decides everything that is random (default: 0)",
              std::uint64_t{0}, UINT64_MAX);
  line.number("--threads", threads, "N", "default: one per core", 0, 4096);
  line.flag("--quiet", quiet, "no progress on stderr");
}

nn::TrainingSettings Options::settle(const CommandLine& line,
                                     const nn::Tokenizer& tokenizer) const {
  nn::TrainingSettings s = settings;
  s.model = nn::preset(preset, tokenizer.vocabulary_size());
  if (layers > 0) s.model.layers = layers;
  if (heads > 0) s.model.heads = heads;
  if (context > 0) s.model.context = context;
  if (width > 0) {
    s.model.d_model = width;
    s.model.d_mlp = 4 * width;
  }
  if (s.model.d_model % s.model.heads != 0) {
    line.fail(fmt::format("the width {} must be a multiple of the {} heads", s.model.d_model,
                          s.model.heads));
  }
  s.model.bos = s.model.eos = tokenizer.end_of_text();
  s.schedule.steps = steps;
  s.schedule.warmup = warmup >= 0 ? warmup : steps / 50;
  if (s.schedule.warmup > steps) line.fail("--warmup is longer than --steps");
  if (shape == "linear") s.schedule.shape = nn::Schedule::Shape::linear;
  else if (shape == "constant") s.schedule.shape = nn::Schedule::Shape::constant;
  else if (shape != "cosine")
    line.fail(fmt::format("--schedule is cosine, linear or constant, not '{}'", shape));
  s.seed = seed;
  s.split = data.split();
  for (const DataFile& file : data.files(line, kLeastWeight, kMostWeight))
    s.sources.push_back({file.path, file.weight});
  return s;
}

nn::Trainer begin(const CommandLine& line, const Options& o, ThreadPool& pool,
                  const Interruptible& interruptible) {
  if (o.tokenizer.empty()) {
    line.fail("--tokenizer DIR is missing; 'vitrine tokenizer train --data FILE --out DIR' makes one");
  }
  if (nn::Trainer::exists(o.out)) {
    line.fail(fmt::format("{} holds a run already: add --resume to go on with it, or give another "
                          "folder",
                          o.out));
  }
  const nn::Tokenizer tokenizer = nn::Tokenizer::load(o.tokenizer);
  const nn::TrainingSettings settings = o.settle(line, tokenizer);
  Progress progress("reading", "bytes", o.quiet);
  return nn::Trainer::begin(settings, tokenizer, o.out, pool,
                            [&](std::int64_t done, std::int64_t total) {
                              progress.update(static_cast<double>(done), static_cast<double>(total));
                              return !interruptible.requested();
                            });
}

}  // namespace

void verb_train(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Trains a GPT-2 from scratch. --out is a model that every verb can read, and holds what is\n"
      "needed to go on: the state, the texts as token ids, and log.jsonl with losses, samples and\n"
      "induction scores. Ctrl-C saves and ends with exit code 130; --resume goes on, after a kill\n"
      "too, and gives the weights that an uninterrupted run gives, bit for bit.\n",
      "vitrine tokenizer train --data README.md --vocabulary 400 --out /tmp/tokenizer &&\n"
      "  vitrine train --preset tiny --data README.md --tokenizer /tmp/tokenizer --steps 20 --out "
      "/tmp/run");
  Options options;
  options.add_to(line);
  if (!line.parse()) return;

  const Interruptible interruptible;
  ThreadPool pool(options.threads);
  nn::Trainer trainer = options.resume ? nn::Trainer::resume(options.out)
                                       : begin(line, options, pool, interruptible);
  TrainingLog log(trainer, options.out,
                  {.log_every = options.log_every,
                   .evaluate_every = options.evaluate_every,
                   .samples = options.samples,
                   .quiet = options.quiet,
                   .threads = options.threads});
  log.begin(line.text());
  using Clock = std::chrono::steady_clock;
  std::int64_t saved = trainer.steps();
  const auto save = [&] {
    if (saved == trainer.steps()) return;
    trainer.save();
    saved = trainer.steps();
  };
  while (!trainer.done()) {
    const double rate = trainer.rate();
    const auto start = Clock::now();
    const auto outcome = trainer.step(pool);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    trainer.add_seconds(seconds);
    log.step(outcome, rate, seconds);
    if (interruptible.requested()) {
      save();
      throw InterruptedError(fmt::format(
          "interrupted; saved after step {} of {}: 'vitrine train --resume --out {}' goes on",
          trainer.steps(), trainer.settings().schedule.steps, options.out));
    }
    if (trainer.steps() % options.evaluate_every == 0 || trainer.done()) log.evaluate();
    if (trainer.steps() % options.save_every == 0) save();
  }
  save();
  log.finish();
}

}  // namespace vitrine::app

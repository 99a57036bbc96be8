#include "apps/options/training_options.h"

#include <fmt/format.h>

#include "tensor/files/run_folder.h"
#include "tensor/files/utf8.h"

namespace vitrine::app {
namespace {

constexpr double kLeastWeight = 0.001, kMostWeight = 1e6;
// Where the options are that decide the weights.
constexpr const char* kHeadings[] = {"Text", "Model", "Training", "Common options"};

}  // namespace

void TrainingOptions::add_to(CommandLine& line) {
  constexpr int kMost = 1 << 30;
  line.flag("--resume", resume, "go on from the last save in --out, with its settings and texts");
  line.flag(
      "--overwrite", overwrite,
      "begin in a folder that is not empty: files of the run's names are replaced, others stay");
  line.heading("Text");
  data_.add_to(
      line,
      "Lines {\"tokens\": [ids]} will do, too; a model without a tokenizer takes no others.\n"
      "Each file gives the share of the tokens that its WEIGHT is of all weights (default: 1)");
  line.option("--tokenizer", tokenizer, "DIR",
              "a folder with a tokenizer's files, as 'vitrine tokenizer train' writes them\n"
              "(default: the default model's)");
  line.real("--validation", given_.validation, "SHARE",
            "share of each text that is kept for validation (default: 0.01)",
            {.least = 0, .most = 0.5});
  begun_ = line.real("--begun", given_.begun, "SHARE",
                     "share of documents that begin with <|endoftext|> (default: 0.5; 1 for a\n"
                     "tokenizer that puts it before every prompt)",
                     {.least = 0, .most = 1});
  line.heading("Model");
  line.option(
      "--from", from, "DIR",
      "a model that learns on, with its shape and its tokenizer, if it has one, instead of\n"
      "new weights");
  line.option("--preset", preset_, "NAME",
              "a GPT-2: tiny (2 layers of width 64), atlas (4 of 256; default) or gpt2-small;\n"
              "a Llama: llama-tiny or llama-small, of the same sizes as tiny and atlas");
  line.number("--layers", layers_, "N", "instead of the preset's", 1, 1000);
  line.number("--heads", heads_, "N", "instead of the preset's", 1, 1000);
  line.number("--width", width_, "N", "of the residual stream, instead of the preset's", 1,
              1 << 20);
  line.number("--context", context_, "N", "tokens, instead of the preset's", 2, 1 << 20);
  line.option("--initializer", initializer_, "KIND",
              "new weights as GPT-2 draws them (gpt2, default), or with positions and attention\n"
              "that can look at neighbours and copy from the first step (mimetic)")
      ->one_of({"gpt2", "mimetic"});
  line.real("--initializer-range", given_.initializer_range, "X",
            "standard deviation of new weights (default: 0.02, as in GPT-2); narrow\n"
            "models can learn sooner with more",
            {.least = 1e-6, .most = 10});
  line.heading("Training");
  line.number("--steps", steps_, "N", "how many (default: 1000)", std::int64_t{1},
              std::int64_t{kMost});
  line.number("--batch-tokens", given_.rows, "N", "tokens of a batch (default: 4096)",
              std::int64_t{2}, std::int64_t{kMost});
  line.number("--accumulate", given_.rules.accumulate, "N",
              "batches whose gradients make one step (default: 1)", 1, kMost);
  line.real("--rate", given_.schedule.peak, "RATE", "peak learning rate (default: 0.001)",
            {.least = 0, .most = 1000, .above = true});
  line.number("--warmup", warmup_, "N",
              "steps in which the rate rises (default: a fiftieth of all)", std::int64_t{0},
              std::int64_t{kMost});
  line.option("--schedule", shape_, "SHAPE",
              "how the rate falls: cosine (default), linear or constant")
      ->one_of({"cosine", "linear", "constant"});
  line.real("--last-rate", given_.schedule.last, "SHARE",
            "of the peak, at the last step (default: 0.1)", {.least = 0, .most = 1});
  line.real("--beta2", given_.rules.adamw.beta2, "X",
            "AdamW's memory of squared gradients (default: 0.95); 0.99 or more for batches of\n"
            "few tokens",
            {.least = 0, .most = 0.999999});
  line.real("--decay", given_.rules.adamw.decay, "X", "weight decay (default: 0.1)",
            {.least = 0, .most = 1e9});
  line.real("--clip", given_.rules.adamw.clip, "X",
            "largest norm of the gradient (default: 1; 0: none)", {.least = 0, .most = 1e9});
  line.real("--dropout", dropout_, "X",
            "share of the numbers that are left out of the embeddings and of what attention\n"
            "and MLPs add (default: 0)",
            {.least = 0, .most = 0.95});
  line.real("--attention-dropout", given_.rules.dropout.attention, "X",
            "the same for attention patterns (default: 0)", {.least = 0, .most = 0.95});
  line.flag("--recompute", given_.rules.recompute,
            "less memory: compute each block again for its gradient; the same weights");
  line.real("--ema", given_.rules.ema, "X",
            "save an average of the weights with this memory, such as 0.999 (default: 0, none)",
            {.least = 0, .most = 0.999999});
  line.heading("While it runs");
  line.number("--stop-after", stop_after, "N",
              "save and end after this step; --resume goes on (default: the last)", std::int64_t{1},
              std::int64_t{kMost});
  line.number("--log-every", log_every, "N", "steps (default: 10)", std::int64_t{1},
              std::int64_t{kMost});
  line.number("--evaluate-every", evaluate_every, "N",
              "steps between validation, samples and induction score (default: 500)",
              std::int64_t{1}, std::int64_t{kMost});
  line.number("--save-every", save_every, "N", "steps (default: 500)", std::int64_t{1},
              std::int64_t{kMost});
  line.option("--sample", samples, "PROMPT", "continued at every evaluation; may be repeated");
  line.option("--store", stored_, "TYPE",
              "how model.safetensors holds the weights: f32 (default), f16 or bf16; the\n"
              "state to go on from is exact always")
      ->one_of({"f32", "f16", "bf16"});
  common.add_without_model_to(
      line, "the folder of the run: a model, and all that is needed to go on; here DIR");
}

void TrainingOptions::check(const CommandLine& line) {
  const std::string& out = common.out;
  if (out.empty() || out == "-") line.fail("there is no folder for the run; give --out DIR");
  if (stored_ != "f32") stored = stored_ == "f16" ? DType::f16 : DType::bf16;
  if (resume && overwrite)
    line.fail("--overwrite cannot be given with --resume, which replaces nothing");
  if (resume) {
    if (!nn::Trainer::exists(out)) {
      line.fail(fmt::format("{} holds no run to go on with; leave --resume out to begin one", out));
    }
    for (const std::string heading : kHeadings) {
      for (const std::string& name : line.given(heading)) {
        if (heading != "Common options" || name == "--seed") {
          line.fail(fmt::format(
              "{} cannot be given with --resume: a run goes on with its own settings", name));
        }
      }
    }
    return;
  }
  data_.files(line, kLeastWeight, kMostWeight);
  if (!from.empty()) {
    for (const std::string& name : line.given("Model")) {
      if (name != "--from")
        line.fail(fmt::format("{} cannot be given with --from, which has a shape", name));
    }
    if (!tokenizer.empty())
      line.fail("--tokenizer cannot be given with --from, which has a tokenizer");
  }
  if (overwrite) {
    return require_absent(out, {"generation_config.json", "adapter_config.json",
                                "tokenizer_config.json", "special_tokens_map.json"});
  }
  if (nn::Trainer::exists(out)) {
    line.fail(fmt::format(
        "{} holds a run already: add --resume to go on with it, or give another folder", out));
  }
  require_unused_folder(out, kRunFiles);
}

nn::TrainingSettings TrainingOptions::settings(const CommandLine& line,
                                               const std::optional<nn::Tokenizer>& loaded,
                                               const nn::Config* begun_with) const {
  nn::TrainingSettings s = given_;
  s.model = begun_with != nullptr ? *begun_with : nn::preset(preset_, loaded->vocabulary_size());
  if (layers_ > 0) s.model.layers = layers_;
  if (context_ > 0) s.model.context = context_;
  if (heads_ > 0 || width_ > 0)
    nn::set_width(s.model, heads_ > 0 ? heads_ : s.model.heads,
                  width_ > 0 ? width_ : s.model.d_model);
  if (s.model.d_model % s.model.heads != 0) {
    line.fail(fmt::format("the width {} must be a multiple of the {} heads", s.model.d_model,
                          s.model.heads));
  }
  s.rules.dropout.embedding = s.rules.dropout.residual = dropout_;
  s.seed = common.seed;
  if (loaded && !s.model.eos) s.model.eos = loaded->end_of_text();
  if (loaded && !s.model.bos) s.model.bos = loaded->end_of_text();
  if (loaded) {
    const bool ends_first = loaded->first() == std::vector<int>{loaded->end_of_text().value_or(-1)};
    if (ends_first && begun_->count() == 0) s.begun = 1;
    if (!ends_first && !loaded->first().empty() && !common.quiet) {
      log(
          fmt::format("note: this tokenizer puts {} before every prompt; the documents that are "
                      "trained on do not get it",
                      nn::quote(loaded->shown_text(loaded->first()))));
    }
  }
  s.schedule.steps = steps_;
  s.schedule.warmup = warmup_ < 0 ? steps_ / 50 : warmup_;
  if (s.schedule.warmup > steps_) line.fail("--warmup is longer than --steps");
  if (initializer_ == "mimetic") s.initializer = nn::Initializer::mimetic;
  if (shape_ == "linear") s.schedule.shape = nn::Schedule::Shape::linear;
  if (shape_ == "constant") s.schedule.shape = nn::Schedule::Shape::constant;
  s.split = data_.split();
  for (const DataFile& file : data_.files(line, kLeastWeight, kMostWeight))
    s.sources.push_back({file.path, file.weight});
  return s;
}

}  // namespace vitrine::app

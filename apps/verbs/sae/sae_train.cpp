// vitrine sae train: SAEs on a model's activations, in a folder that can go on at any time.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <optional>

#include "apps/options/sae_options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/log_file.h"
#include "apps/verbs/verbs.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/json_text.h"
#include "tensor/files/run_folder.h"

namespace vitrine::app {
namespace {

using Clock = std::chrono::steady_clock;

// Where the rows come from: the model, if one is needed, outlives the source.
struct Input {
  std::optional<nn::Model> model;
  std::unique_ptr<sae::ActivationSource> source;
};

Json as_json(const sae::StepOutcome& o) {
  Json losses = Json::object();
  for (const auto& [name, value] : o.parts) losses[name] = value;
  Json json = {{"loss", o.loss},
               {"losses", losses},
               {"l0", o.l0},
               {"explained_variance", o.explained_variance},
               {"dead", o.dead},
               {"grad_norm", o.grad_norm},
               {"capacity", o.capacity}};
  if (o.explained_layers.size() > 1) json["explained_variance_layers"] = o.explained_layers;
  return json;
}

sae::SaeTrainer begin(const CommandLine& line, const SaeTrainOptions& o, Input& input) {
  const bool files = o.activations.from_files();
  if (!files) input.model = o.common.load();
  const nn::Model* model = input.model ? &*input.model : nullptr;
  const std::vector<std::string> columns = o.columns(model);
  input.source = o.activations.source(model, columns, o.common.seed);
  sae::TrainSettings s = o.settings(
      line, o.inputs(model), o.targets(model),
      [&](const std::string& name) {
        for (const auto& c : input.source->columns()) {
          if (c.name == name) return c.width;
        }
        return std::int64_t{0};
      },
      model);
  if (model != nullptr) {
    note_bare_lines(*model, o.activations.prepends_bos(), o.common.quiet);
    s.model_name = o.common.model_name();
    s.prepend_bos = o.activations.prepends_bos();
    s.context_size = o.activations.context(*model);
  }
  s.notes = Json({{"activations", o.activations.json()},
                  {"columns", columns},
                  {"model", o.common.model},
                  {"gauge", o.common.gauge},
                  {"seed", o.common.seed}})
                .line();
  return sae::SaeTrainer::begin(s, *input.source, o.common.out);
}

// The model becomes that of the run, unless another name was given for it.
sae::SaeTrainer resume(SaeTrainOptions& o, Input& input) {
  const sae::TrainSettings s = sae::SaeTrainer::saved_settings(o.common.out);
  if (s.notes == "{}") {
    throw CheckpointError(
        fmt::format("{}: the run was not begun by 'vitrine sae train', so it is not known where "
                    "its activations come from; go on with it by sae::SaeTrainer::resume",
                    o.common.out));
  }
  const auto notes = JsonReader::object(s.notes, o.common.out, saved_state("the notes of the run"));
  const auto activations = ActivationOptions::from_json(notes.at("activations"));
  if (!activations.from_files()) {
    if (o.common.model.empty()) o.common.model = notes.at("model").text();
    o.common.gauge = notes.at("gauge").text();
    input.model = o.common.load();
  }
  std::vector<std::string> columns;
  for (const JsonReader& name : notes.at("columns").list()) columns.push_back(name.text());
  input.source = activations.source(input.model ? &*input.model : nullptr, columns,
                                    notes.at("seed").natural());
  return sae::SaeTrainer::resume(*input.source, o.common.out);
}

// Progress on stderr, and log.jsonl in the folder: a line for every --log-every steps.
class Log {
 public:
  Log(const sae::SaeTrainer& trainer, const SaeTrainOptions& o)
      : trainer_(trainer),
        o_(o),
        out_(std::filesystem::path(o.common.out) / "log.jsonl",
             o.resume ? std::optional(trainer.steps()) : std::nullopt),
        since_(trainer.seconds()) {}

  void begin() const {
    if (o_.common.quiet) return;
    for (std::size_t i = 0; i < trainer_.jobs().size(); ++i) {
      const sae::Job& job = trainer_.settings().jobs[i];
      log(fmt::format("{}: {} on {}, {} features for {} inputs", trainer_.folder_of(i).string(),
                      sae::name_of(job.rules.kind), fmt::join(job.inputs, ", "),
                      grouped(job.rules.all_features()), job.rules.all_inputs()));
    }
    const std::int64_t batch = trainer_.settings().jobs[0].rules.batch;
    log(fmt::format(
        "{} steps of {} vectors: {}{}", grouped(trainer_.settings().steps), grouped(batch),
        grouped(trainer_.settings().steps * batch),
        trainer_.steps() > 0 ? fmt::format("; going on after step {}", trainer_.steps()) : ""));
  }

  void step(const std::vector<sae::StepOutcome>& outcomes, double rate) {
    ++count_;
    if (trainer_.steps() % o_.log_every != 0 && !trainer_.done()) return;
    const double seconds = trainer_.seconds() - since_;
    const auto batch = static_cast<double>(trainer_.settings().jobs[0].rules.batch);
    const double speed = static_cast<double>(count_) * batch / seconds;
    const auto left = static_cast<double>(trainer_.settings().steps - trainer_.steps());
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      const sae::StepOutcome& o = outcomes[i];
      const std::string& name = trainer_.settings().jobs[i].name;
      if (!o_.common.quiet) {
        log(fmt::format(
            "{}step {:>5} of {}  loss {:.4f}  L0 {:.1f}  explained {:.2f} %  dead {}  "
            "{} vectors/s  {} left",
            name.empty() ? "" : name + "  ", trainer_.steps(), trainer_.settings().steps, o.loss,
            o.l0, 100 * o.explained_variance, o.dead, grouped(std::llround(speed)),
            duration(left * seconds / static_cast<double>(count_))));
      }
      Json json = {{"step", trainer_.steps()},
                   {"name", name},
                   {"rate", rate},
                   {"vectors_per_second", speed}};
      json.update(as_json(o));
      out_.write(to_line(json));
    }
    since_ = trainer_.seconds();
    count_ = 0;
  }

 private:
  const sae::SaeTrainer& trainer_;
  const SaeTrainOptions& o_;
  LogFile out_;
  double since_;
  std::int64_t count_ = 0;
};

void print_result(const CommandLine& line, const SaeTrainOptions& o, const sae::SaeTrainer& trainer,
                  const std::vector<sae::StepOutcome>& last) {
  Json saes = Json::list();
  std::string text;
  for (std::size_t i = 0; i < trainer.jobs().size(); ++i) {
    const std::string folder = trainer.folder_of(i).string();
    Json json = {{"folder", json_text(folder)},
                 {"input", fmt::format("{}", fmt::join(trainer.settings().jobs[i].inputs, ","))},
                 {"kind", sae::name_of(trainer.settings().jobs[i].rules.kind)}};
    if (i < last.size()) json["last"] = as_json(last[i]);
    saes.push_back(json);
    text += fmt::format(
        "{}{}\n", folder,
        i < last.size() ? fmt::format(": L0 {:.1f}, {:.2f} % of the variance explained, {} of {} "
                                      "features dead",
                                      last[i].l0, 100 * last[i].explained_variance, last[i].dead,
                                      trainer.settings().jobs[i].rules.all_features())
                        : "");
  }
  if (!trainer.done())
    text +=
        fmt::format("saved after step {} of {}: 'vitrine sae train --resume --out {}' goes on\n",
                    trainer.steps(), trainer.settings().steps, o.common.out);
  write_stdout(o.common.json() ? to_line({{"meta", o.common.meta(line)},
                                          {"steps", trainer.steps()},
                                          {"done", trainer.done()},
                                          {"seconds", trainer.seconds()},
                                          {"saes", saes}})
                               : text);
}

}  // namespace

void verb_sae_train(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "Trains sparse autoencoders, as SAELens does, on a model's activations over texts or on\n"
      "activations in files, and writes SAELens folders. Rows are mixed in a buffer. All sites of\n"
      "--site and all settings of --sweep are trained on the same rows, in one pass. The folder\n"
      "can go on at any time, even after kill -9, to the same bits.\n\n"
      "json: {meta, steps, done, seconds, saes: [{folder, input, kind, last: {loss, losses, l0,\n"
      "explained_variance, dead, grad_norm, capacity}}]}, of a cross-layer transcoder\n"
      "explained_variance_layers too; log.jsonl in the folder has the same\n"
      "for every --log-every steps\n",
      "vitrine sae train --site blocks.1.hook_mlp_out --data /usr/share/common-licenses/GPL-3 "
      "--features 512 --k 16 --vectors 20000 --batch 512 --buffer 8192 --out run");
  SaeTrainOptions o;
  o.add_to(line);
  if (!line.parse()) return;
  o.check(line);

  const Interruptible interruptible;
  const RunFolder folder(o.common.out,
                         {"cfg.json", "sae_weights.safetensors", "sparsity.safetensors",
                          "training.safetensors", "log.jsonl"});
  Input input;
  sae::SaeTrainer trainer = o.resume ? resume(o, input) : begin(line, o, input);
  std::optional<ThreadPool> own;
  if (!input.model) own.emplace(o.common.threads);
  ThreadPool& pool = own ? *own : input.model->pool();
  Log log(trainer, o);
  log.begin();
  std::vector<sae::StepOutcome> last;
  auto saved = Clock::now();
  while (!trainer.done() && trainer.steps() < o.stop_after) {
    const double rate = trainer.jobs()[0].rate();
    const auto start = Clock::now();
    last = trainer.step(pool);
    trainer.add_seconds(std::chrono::duration<double>(Clock::now() - start).count());
    log.step(last, rate);
    if (interruptible.requested()) {
      trainer.save();
      throw InterruptedError(fmt::format(
          "interrupted; saved after step {} of {}: 'vitrine sae train --resume --out {}' "
          "goes on",
          trainer.steps(), trainer.settings().steps, o.common.out));
    }
    if (std::chrono::duration<double>(Clock::now() - saved).count() >= o.save_every) {
      trainer.save();
      saved = Clock::now();
    }
  }
  trainer.save();
  print_result(line, o, trainer, last);
}

}  // namespace vitrine::app

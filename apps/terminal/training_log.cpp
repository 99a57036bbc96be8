#include "apps/terminal/training_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "apps/terminal/output.h"
#include "nn/model/sampling.h"
#include "nn/text/text_loss.h"

namespace vitrine::app {
namespace {

constexpr std::int64_t kValidationTokens = 20'000;
constexpr int kSampleTokens = 24;

}  // namespace

Json as_json(const std::optional<nn::Induction>& i) {
  if (!i) return {};
  return {{"first", i->first},
          {"second", i->second},
          {"score", i->score},
          {"head", fmt::format("{}.{}", i->layer, i->head)}};
}

TrainingLog::TrainingLog(const nn::Trainer& trainer, const std::filesystem::path& folder,
                         const TrainingLogOptions& options)
    : trainer_(trainer),
      folder_(folder.string()),
      options_(options),
      out_(folder / "log.jsonl", options.resumed ? std::optional(trainer.steps()) : std::nullopt),
      since_(trainer.seconds()) {
  order_.resize(static_cast<std::size_t>(trainer.validation().documents()));
  std::iota(order_.begin(), order_.end(), 0);
  random::shuffle(random::Key{0}.fold("validation"), order_);
}

void TrainingLog::show(const std::string& line) const {
  if (!options_.quiet) log(line);
}

void TrainingLog::begin(const std::string& command) {
  const nn::TrainingSettings& s = trainer_.settings();
  show(fmt::format(
      "{} parameters: {} layers of width {}, {} heads, {} tokens of context, {} tokens known",
      grouped(s.model.parameter_count()), s.model.layers, s.model.d_model, s.model.heads,
      s.model.context, grouped(s.model.vocabulary)));
  show(fmt::format(
      "{} tokens to train on, {} for validation; {} steps of {}: {} tokens{}",
      grouped(trainer_.training_tokens()), grouped(trainer_.validation().tokens()),
      grouped(s.schedule.steps), grouped(trainer_.tokens_of_step()),
      grouped(s.schedule.steps * trainer_.tokens_of_step()),
      trainer_.steps() > 0 ? fmt::format("; going on after step {}", trainer_.steps()) : ""));
  out_.write(to_line({{"step", trainer_.steps()},
                      {"command", json_text(command)},
                      {"version", VITRINE_VERSION},
                      {"seed", s.seed},
                      {"parameters", s.model.parameter_count()}}));
}

void TrainingLog::step(const nn::TrainingStep::Outcome& outcome, double rate) {
  loss_ += outcome.loss;
  norm_ += outcome.grad_norm;
  ++count_;
  if (trainer_.steps() % options_.log_every != 0 && !trainer_.done()) return;
  const auto n = static_cast<double>(count_);
  const double seconds = trainer_.seconds() - since_;
  const double tokens = n * static_cast<double>(trainer_.tokens_of_step()) / seconds;
  const std::int64_t all = trainer_.settings().schedule.steps;
  const double left = static_cast<double>(all - trainer_.steps()) * seconds / n;
  show(fmt::format("step {:>6} of {}  loss {:.4f}  norm {:.2f}  rate {:.2e}  {} tokens/s  {} left",
                   trainer_.steps(), all, loss_ / n, norm_ / n, rate, grouped(std::llround(tokens)),
                   duration(left)));
  out_.write(to_line({{"step", trainer_.steps()},
                      {"loss", loss_ / n},
                      {"grad_norm", norm_ / n},
                      {"rate", rate},
                      {"tokens_per_second", tokens},
                      {"seconds", trainer_.seconds()}}));
  loss_ = norm_ = 0;
  since_ = trainer_.seconds();
  count_ = 0;
}

TrainingEvaluation TrainingLog::measure() const {
  return measure(trainer_.model(options_.threads));
}

TrainingEvaluation TrainingLog::measure(const nn::Model& model) const {
  const nn::TokenizedText& text = trainer_.validation();
  nn::TextLossMeter meter(model, {.cancel = options_.cancel});
  std::int64_t tokens = 0;
  for (const std::int64_t d : order_) {
    if (tokens >= kValidationTokens) break;
    auto ids = text.document(d);
    ids = ids.first(std::min(ids.size(), static_cast<std::size_t>(kValidationTokens - tokens)));
    meter.add(ids);
    tokens += std::ssize(ids);
  }
  TrainingEvaluation evaluation{meter.finish(), {}};
  if (const int half = std::min(32, model.config().context / 2); half >= 2)
    evaluation.induction = nn::induction(model, random::Key{0}.fold("induction"), 8, half);
  return evaluation;
}

TrainingEvaluation TrainingLog::evaluate() {
  const nn::Model model = trainer_.model(options_.threads);
  const TrainingEvaluation evaluation = measure(model);
  const auto& [loss, i] = evaluation;
  Json json = {{"step", trainer_.steps()}};
  std::string line = fmt::format("step {:>6}:", trainer_.steps());
  if (loss.tokens > 0) {
    json["validation_loss"] = loss.per_token();
    line += fmt::format(" validation loss {:.4f}", loss.per_token());
    if (loss.bytes > 0) {
      json["bits_per_byte"] = loss.bits_per_byte();
      line += fmt::format(", {:.3f} bits a byte", loss.bits_per_byte());
    }
    line += ";";
  }
  json["induction"] = as_json(i);
  if (i) {
    line += fmt::format(" random tokens {:.2f}, again {:.2f} nats; induction {:.2f} (head {}.{})",
                        i->first, i->second, i->score, i->layer, i->head);
  }
  show(line);
  json["samples"] = Json::list();
  for (const std::string& prompt : options_.samples) {
    const nn::Tokens ids = model.tokens(prompt);
    const auto room = static_cast<int>(nn::most_new_tokens(model.config(), std::ssize(ids)));
    const nn::Tokens made =
        nn::generate(model, ids, std::clamp(room, 0, kSampleTokens), {}, random::Key{0},
                     [&](int) { return options_.cancel == nullptr || !*options_.cancel; });
    const std::string continuation = model.tokenizer().shown_text(made);
    json["samples"].push_back({{"prompt", json_text(prompt)}, {"text", json_text(continuation)}});
    show(fmt::format("  {} → {}", visible(prompt), visible(continuation)));
  }
  out_.write(to_line(json));
  return evaluation;
}

void TrainingLog::finish() {
  const std::int64_t all = trainer_.settings().schedule.steps;
  show(trainer_.done()
           ? fmt::format("done: {} steps in {}; the model is in {}", all,
                         duration(trainer_.seconds()), folder_)
           : fmt::format("saved after step {} of {}: 'vitrine train --resume --out {}' goes on",
                         trainer_.steps(), all, folder_));
}

}  // namespace vitrine::app

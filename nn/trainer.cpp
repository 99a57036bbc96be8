#include "nn/trainer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "nn/checkpoint.h"
#include "nn/fingerprint.h"
#include "nn/initial_weights.h"
#include "nn/save_tokenizer.h"
#include "nn/saved_json.h"
#include "nn/training_text.h"
#include "tensor/error.h"
#include "tensor/safetensors.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "training.safetensors";
// Nobody else has folders of these names: what is in the way may be replaced.
constexpr const char* kData = "vitrine-data";
constexpr const char* kNewData = "vitrine-data.new";  // until all texts are read

BatchStream stream_of(const TrainingSettings& s, const Tokenizer& tokenizer, const fs::path& data) {
  const StreamRules rules{s.rows, s.model.context, *tokenizer.end_of_text(), s.begun,
                          random::Key{s.seed}.fold("text")};
  std::vector<Source> sources;
  for (std::size_t i = 0; i < s.sources.size(); ++i)
    sources.push_back({TokenizedText::open(data, source_name(i)), s.sources[i].weight});
  return {std::move(sources), rules};
}

// Of the tokenizer and of all texts as token ids: with others, a run must not go on.
std::string fingerprint_of(const Tokenizer& tokenizer, const fs::path& data, std::size_t sources) {
  Hash hash;
  for (const auto& token : tokenizer.tokens()) hash.add(token ? *token : std::string());
  for (std::size_t i = 0; i <= sources; ++i) {
    const TokenizedText text = TokenizedText::open(data, i < sources ? source_name(i) : std::string(kValidationName));
    for (std::int64_t d = 0; d < text.documents(); ++d) {
      hash.add(static_cast<std::uint64_t>(text.document(d).size()));
      hash.add(std::as_bytes(text.document(d)));
    }
  }
  return hash.text();
}

void check_tokenizer(const Tokenizer& tokenizer, const Config& model) {
  if (tokenizer.vocabulary_size() != model.vocabulary) {
    throw ConfigError(fmt::format("the tokenizer has {} tokens, the model {}",
                                  tokenizer.vocabulary_size(), model.vocabulary));
  }
  if (!tokenizer.end_of_text()) {
    throw ConfigError(
        "the tokenizer has no <|endoftext|>, which stands between documents; use one that has "
        "(train_tokenizer makes such)");
  }
}

// The state goes first: without its texts, a run must not go on.
void replace_data(const fs::path& folder) {
  std::error_code error;
  fs::remove(folder / kState, error);
  if (!error) fs::remove_all(folder / kData, error);
  if (!error) fs::rename(folder / kNewData, folder / kData, error);
  if (error) {
    throw SaveError(
        fmt::format("{}: the run in it cannot be replaced: {}", folder.string(), error.message()));
  }
}

Json to_json(const std::vector<SourcePosition>& positions) {
  Json json = Json::array();
  for (const SourcePosition& p : positions) json.push_back({p.epoch, p.piece, p.offset, p.served});
  return json;
}

// What the file says under a key of its metadata.
std::string metadata(const SafeTensors& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end())
    throw CheckpointError(fmt::format(
        "{}: it does not say '{}'; is it the state of a training run?", file.file(), key));
  return it->second;
}

std::vector<SourcePosition> positions_of(const SavedJson& json) {
  std::vector<SourcePosition> positions;
  for (const SavedJson& source : json.list()) {
    const std::vector<SavedJson> p = source.list(4);
    positions.push_back({p[0].whole(0), p[1].whole(0), p[2].whole(0), p[3].whole(0)});
  }
  return positions;
}

}  // namespace

Trainer::Trainer(TrainingSettings settings, Tokenizer tokenizer, fs::path folder,
                 const Parameters& weights)
    : settings_(std::move(settings)),
      tokenizer_(std::move(tokenizer)),
      folder_(std::move(folder)),
      validation_(TokenizedText::open(folder_ / kData, kValidationName)),
      stream_(stream_of(settings_, tokenizer_, folder_ / kData)),
      step_(settings_.model, weights, settings_.rules),
      texts_(fingerprint_of(tokenizer_, folder_ / kData, settings_.sources.size())) {}

Trainer Trainer::begin(const TrainingSettings& settings, const Tokenizer& tokenizer,
                       const fs::path& folder, ThreadPool& pool, const Progress& progress,
                       const Parameters* from) {
  check_tokenizer(tokenizer, settings.model);
  prepare_text(settings, tokenizer, folder / kNewData, progress);
  replace_data(folder);
  const random::Key key = random::Key{settings.seed}.fold("weights");
  Trainer trainer(settings, tokenizer, folder,
                  from != nullptr
                      ? *from
                      : initial_weights(settings.model, key, pool, settings.initializer_range,
                                        settings.initializer));
  save_tokenizer(tokenizer, folder);
  trainer.save();
  return trainer;
}

bool Trainer::exists(const fs::path& folder) { return fs::exists(folder / kState); }

Trainer Trainer::resume(const fs::path& folder) {
  const SafeTensors file = SafeTensors::open(folder / kState);
  const TrainingSettings settings = parse_settings(metadata(file, "settings"), file.file());
  Tokenizer tokenizer = Tokenizer::load(folder);
  check_tokenizer(tokenizer, settings.model);
  Parameters state, weights;
  for (const std::string& name : file.names()) state[name] = file.at(name);
  for (const auto& [name, shape] : parameter_shapes(settings.model))
    weights[name] = Tensor::zeros(shape, DType::f32);
  Trainer trainer(settings, std::move(tokenizer), folder, weights);
  const SavedJson progress(parse_json(metadata(file, "progress"), file.file()), file.file(),
                           "'progress'");
  const std::int64_t step = progress.at("step").whole(0, settings.schedule.steps);
  const double seconds = progress.at("seconds").number(0);
  for (const auto& [name, tensor] : state) {
    if (!all_finite(tensor))
      throw CheckpointError(fmt::format("{}: '{}' holds NaN or an infinity", file.file(), name));
  }
  if (metadata(file, "texts") != trainer.texts_) {
    throw CheckpointError(fmt::format(
        "{}: the texts in {} or the tokenizer are not those that the run was begun with",
        file.file(), (folder / kData).string()));
  }
  trainer.step_.restore(state, step);
  trainer.seconds_ = seconds;
  trainer.stream_.seek(positions_of(progress.at("positions")));
  return trainer;
}

TrainingStep::Outcome Trainer::step(ThreadPool& pool) {
  std::vector<TrainingBatch> batches;
  for (int i = 0; i < settings_.rules.accumulate; ++i) batches.push_back(stream_.next());
  return step_.step(batches, pool, rate(), random::Key{settings_.seed}.fold("dropout").value);
}

Model Trainer::model(int threads) const {
  const Parameters& weights = settings_.rules.ema > 0 ? step_.averaged() : step_.parameters();
  Model model(settings_.model, weights, tokenizer_, {.threads = threads});
  model.set_name(folder_.string());
  return model;
}

void Trainer::save(DType stored) const {
  const Json progress = {
      {"step", steps()}, {"seconds", seconds_}, {"positions", to_json(stream_.positions())}};
  NamedTensors state;
  for (const auto& [name, tensor] : step_.state()) state.emplace_back(name, tensor);
  save_safetensors(folder_ / kState, state,
                   {{"settings", to_json(settings_)},
                    {"progress", json_line(progress)},
                    {"texts", texts_}});
  save_checkpoint(folder_, settings_.model,
                  settings_.rules.ema > 0 ? step_.averaged() : step_.parameters(), stored);
}

}  // namespace vitrine::nn

#include "nn/training/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "nn/model/checkpoint.h"
#include "nn/model/fingerprint.h"
#include "nn/tokenizer/save_tokenizer.h"
#include "nn/training/initial_weights.h"
#include "nn/training/training_text.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/run_folder.h"
#include "tensor/files/safetensors.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "training.safetensors";
// Nobody else has folders of these names: what is in the way may be replaced.
constexpr const char* kData = "vitrine-data";
constexpr const char* kNewData = "vitrine-data.new";  // until all texts are read

using MaybeTokenizer = std::optional<Tokenizer>;

// What stands between documents: the tokenizer's <|endoftext|>, or the end that the model names, or
// nothing.
std::optional<int> end_of_text(const MaybeTokenizer& tokenizer, const Config& model) {
  if (tokenizer && tokenizer->end_of_text().value_or(model.vocabulary) < model.vocabulary)
    return tokenizer->end_of_text();
  return model.eos && *model.eos < model.vocabulary ? model.eos : std::nullopt;
}

BatchStream stream_of(const TrainingSettings& s, const MaybeTokenizer& tokenizer,
                      const fs::path& data) {
  const StreamRules rules{s.rows, s.model.context, end_of_text(tokenizer, s.model), s.begun,
                          random::Key{s.seed}.fold("text")};
  std::vector<Source> sources;
  for (std::size_t i = 0; i < s.sources.size(); ++i)
    sources.push_back({TokenizedText::open(data, source_name(i)), s.sources[i].weight});
  return {std::move(sources), rules};
}

// Of the tokenizer and of all texts as token ids: with others, a run must not go on.
std::string fingerprint_of(const MaybeTokenizer& tokenizer, const fs::path& data,
                           std::size_t sources, const Trainer::Progress& progress) {
  std::vector<TokenizedText> texts;
  std::int64_t done = 0, total = 0;
  for (std::size_t i = 0; i <= sources; ++i) {
    texts.push_back(
        TokenizedText::open(data, i < sources ? source_name(i) : std::string(kValidationName)));
    total += texts.back().tokens() * static_cast<std::int64_t>(sizeof(std::int32_t));
  }
  const Hash::Tick tick = [&](std::int64_t bytes) {
    done += bytes;
    if (progress && !progress(done, total)) throw InterruptedError("interrupted");
  };
  Hash hash;
  if (tokenizer) {
    for (const auto& token : tokenizer->tokens()) hash.add(token ? *token : std::string());
  }
  for (const TokenizedText& text : texts) {
    for (std::int64_t d = 0; d < text.documents(); ++d) {
      hash.add(static_cast<std::uint64_t>(text.document(d).size()));
      hash.add(std::as_bytes(text.document(d)), tick);
    }
  }
  return hash.text();
}

// Models that people have may have more embeddings than their tokenizer has tokens, or fewer
// (`theirs`).
void check_tokenizer(const MaybeTokenizer& tokenizer, const Config& model, bool theirs) {
  if (!tokenizer) return;
  const int tokens = tokenizer->vocabulary_size();
  if (tokens != model.vocabulary && !theirs) {
    throw ConfigError(
        fmt::format("the tokenizer has {} tokens, the model {}", tokens, model.vocabulary));
  }
  if (!end_of_text(tokenizer, model)) {
    throw ConfigError(
        "the tokenizer has no <|endoftext|>, which stands between documents; use one that has "
        "(train_tokenizer makes such)");
  }
}

// The state goes first: without its texts, a run must not go on.
void replace_data(const fs::path& folder) {
  std::error_code error;
  fs::remove(folder / kState, error);
  if (!error) remove_texts(folder / kData);
  if (!error) fs::rename(folder / kNewData, folder / kData, error);
  if (error) {
    throw SaveError(
        fmt::format("{}: the run in it cannot be replaced: {}", folder.string(), error.message()));
  }
}

JsonValue to_json(const std::vector<SourcePosition>& positions) {
  JsonValue json = JsonValue::list();
  for (const SourcePosition& p : positions)
    json.push_back(JsonValue::list({p.epoch, p.piece, p.offset, p.served}));
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

// Where a run stands, as its file says.
struct Standing {
  std::int64_t step = 0;
  double seconds = 0;
  std::vector<SourcePosition> positions;
};

Standing standing_of(const SafeTensors& file, const TrainingSettings& settings) {
  const auto json =
      JsonReader::object(metadata(file, "progress"), file.file(), saved_state("'progress'"));
  Standing s;
  s.step = json.at("step").whole(0, settings.schedule.steps);
  s.seconds = json.at("seconds").number(0);
  double served = 0;
  for (const JsonReader& source : json.at("positions").list()) {
    const std::vector<JsonReader> p = source.list(4);
    s.positions.push_back({p[0].whole(0), p[1].whole(0), p[2].whole(0), p[3].whole(0)});
    served += static_cast<double>(s.positions.back().served);
  }
  const double taken =
      static_cast<double>(s.step) * settings.rules.accumulate * static_cast<double>(settings.rows);
  if (served < taken) {
    throw CheckpointError(
        fmt::format("{}: its {} steps have taken {:.0f} tokens, but its texts have served {:.0f}",
                    file.file(), s.step, taken, served));
  }
  return s;
}

// Before anything is made of the sizes that the settings claim: all of the state, and nothing else.
void check_state(const SafeTensors& file, const TrainingSettings& settings) {
  const auto reject = [&](const std::string& what) {
    throw CheckpointError(fmt::format("{}: {}", file.file(), what));
  };
  if (static_cast<std::size_t>(settings.model.layers) > file.names().size()) {
    reject(fmt::format("its settings say {} layers, but there are only {} tensors",
                       settings.model.layers, file.names().size()));
  }
  std::set<std::string> left(file.names().begin(), file.names().end());
  const auto expect = [&](const std::string& name, const Shape& shape) {
    const bool there = file.contains(name);
    const Tensor t = there ? file.at(name) : Tensor();
    if (!there || !(t.shape() == shape) || t.dtype() != DType::f32) {
      reject(fmt::format(
          "'{}' must be f32{}, but is {}; are the settings those of another model?", name,
          to_string(shape),
          there ? fmt::format("{}{}", name_of(t.dtype()), to_string(t.shape())) : "not there"));
    }
    if (!all_finite(t)) reject(fmt::format("'{}' holds NaN or an infinity", name));
    left.erase(name);
    return t;
  };
  for (const auto& [name, shape] : parameter_shapes(settings.model)) {
    const std::int64_t n = numel(shape);
    const std::vector<float> squares =
        expect("adamw." + name, {3, n}).select(0, 2).to_vector<float>();
    if (std::any_of(squares.begin(), squares.end(), [](float x) { return x < 0; }))
      reject(fmt::format("'adamw.{}' holds a mean of squares below 0", name));
    if (settings.rules.ema > 0) expect("average." + name, {1, n});
  }
  if (!left.empty()) reject(fmt::format("'{}' has no place in this run", *left.begin()));
}

void require_own_files(const fs::path& folder) {
  for (const char* name : {kState, kData, kNewData, "model.safetensors", "config.json",
                           "tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json"})
    require_no_link(folder, name);
}

// The texts of runs that were begun by earlier versions are in data/.
fs::path data_of(const fs::path& folder) {
  const fs::path old = folder / "data";
  return !fs::exists(folder / kData) &&
                 fs::exists(old / fmt::format("{}-00000.safetensors", kValidationName))
             ? old
             : folder / kData;
}

}  // namespace

Trainer::Trainer(TrainingSettings settings, MaybeTokenizer tokenizer, fs::path folder,
                 const Parameters& weights, std::string texts)
    : settings_(std::move(settings)),
      tokenizer_(std::move(tokenizer)),
      folder_(std::move(folder)),
      texts_(std::move(texts)),
      validation_(TokenizedText::open(data_of(folder_), kValidationName)),
      stream_(stream_of(settings_, tokenizer_, data_of(folder_))),
      step_(settings_.model, weights, settings_.rules) {}

Trainer Trainer::begin(const TrainingSettings& settings, const MaybeTokenizer& tokenizer,
                       const fs::path& folder, ThreadPool& pool, const Progress& progress,
                       const Parameters* from) {
  check_settings(settings);
  check_tokenizer(tokenizer, settings.model, from != nullptr);
  require_own_files(folder);
  // It would be taken for the run's.
  if (!tokenizer) require_absent(folder, {"tokenizer.json", "vocab.json", "merges.txt"});
  texts_in(folder / kData);  // before hours of reading: they will be replaced
  prepare_text(settings, tokenizer, folder / kNewData, progress);
  std::string texts =
      fingerprint_of(tokenizer, folder / kNewData, settings.sources.size(), progress);
  write_text(folder / kBeginning, "");
  replace_data(folder);
  const random::Key key = random::Key{settings.seed}.fold("weights");
  Trainer trainer(settings, tokenizer, folder,
                  from != nullptr
                      ? *from
                      : initial_weights(settings.model, key, pool, settings.initializer_range,
                                        settings.initializer),
                  std::move(texts));
  if (tokenizer) save_tokenizer(*tokenizer, folder);
  trainer.save();
  std::error_code ignored;
  fs::remove(folder / kBeginning, ignored);
  return trainer;
}

bool Trainer::exists(const fs::path& folder) { return fs::exists(folder / kState); }

Trainer Trainer::resume(const fs::path& folder, const Progress& progress) {
  require_own_files(folder);
  const SafeTensors file = SafeTensors::open(folder / kState);
  const TrainingSettings settings = parse_settings(metadata(file, "settings"), file.file());
  const Standing standing = standing_of(file, settings);
  check_state(file, settings);
  MaybeTokenizer tokenizer;
  if (Tokenizer::exists(folder)) tokenizer = Tokenizer::load(folder);
  check_tokenizer(tokenizer, settings.model, true);
  Parameters state, weights;
  for (const std::string& name : file.names()) state[name] = file.at(name);
  for (const auto& [name, shape] : parameter_shapes(settings.model))
    weights[name] = Tensor::zeros(shape, DType::f32);
  std::string texts = fingerprint_of(tokenizer, data_of(folder), settings.sources.size(), progress);
  Trainer trainer(settings, std::move(tokenizer), folder, weights, std::move(texts));
  trainer.texts_known_ = file.metadata().contains("texts");
  const bool same = trainer.texts_known_ && file.metadata().at("texts") == trainer.texts_;
  if (!same) check_tokenizer(trainer.tokenizer_, settings.model, false);
  if (!same && trainer.texts_known_) {
    throw CheckpointError(fmt::format(
        "{}: the texts in {} or the tokenizer are not those that the run was begun with",
        file.file(), data_of(folder).string()));
  }
  trainer.step_.restore(state, standing.step);
  trainer.seconds_ = standing.seconds;
  trainer.stream_.seek(standing.positions);
  try {
    remove_texts(folder / kNewData);  // of a beginning in its place that was killed
  } catch (const Error&) {            // somebody else's
  }
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
  const JsonValue progress = JsonValue::object(
      {{"step", steps()}, {"seconds", seconds_}, {"positions", to_json(stream_.positions())}});
  NamedTensors state;
  for (const auto& [name, tensor] : step_.state()) state.emplace_back(name, tensor);
  save_safetensors(folder_ / kState, state,
                   {{"settings", to_json(settings_)},
                    {"progress", progress.sorted().line()},
                    {"texts", texts_}});
  save_checkpoint(folder_, settings_.model,
                  settings_.rules.ema > 0 ? step_.averaged() : step_.parameters(), stored);
}

}  // namespace vitrine::nn

#include "sae/trainer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "autograd/transform/expand.h"
#include "sae/end_to_end.h"
#include "sae/folder.h"
#include "tensor/error.h"
#include "tensor/files/json_reader.h"
#include "tensor/files/run_folder.h"
#include "tensor/files/safetensors.h"

namespace vitrine::sae {
namespace {

namespace fs = std::filesystem;

constexpr const char* kState = "training.safetensors";
constexpr std::int64_t kSample = 16384;  // rows that scales and biases are taken from
constexpr std::string_view kBiases[] = {"zero", "mean", "geometric-median"};

std::string to_json(const TrainSettings& s) {
  JsonValue jobs = JsonValue::list();
  for (const Job& j : s.jobs) {
    jobs.push_back(JsonValue::object({{"name", j.name},
                                      {"rules", JsonValue::parse(to_json(j.rules), "the rules")},
                                      {"inputs", j.inputs},
                                      {"targets", j.targets}}));
  }
  const JsonValue buffer = JsonValue::object({{"rows", s.buffer.rows},
                                              {"dtype", name_of(s.buffer.dtype)},
                                              {"file", s.buffer.file.string()},
                                              {"seed", s.buffer.seed}});
  JsonValue json = JsonValue::object({{"jobs", jobs},
                                      {"steps", s.steps},
                                      {"buffer", buffer},
                                      {"bias", name_of(s.bias)},
                                      {"model_name", s.model_name},
                                      {"metadata", s.metadata},
                                      {"context_size", s.context_size},
                                      {"notes", s.notes}});
  if (s.prepend_bos) json["prepend_bos"] = *s.prepend_bos;
  return json.sorted().line();
}

// The rules of one of the SAEs. They could be begun with, so what contradicts itself was changed.
SaeTrainingRules rules_of(const JsonReader& job, const std::string& where) {
  const SaeTrainingRules rules = parse_rules(job.at("rules").expect_object().value().line(), where);
  try {
    check_rules(rules);
  } catch (const Error& error) {
    throw CheckpointError(fmt::format(
        "{}: the rules of the run contradict themselves: {}; the file is damaged: take a copy of "
        "it, or begin anew",
        where, error.what()));
  }
  return rules;
}

std::vector<std::string> texts(const JsonReader& list) {
  std::vector<std::string> all;
  for (const JsonReader& item : list.list()) all.push_back(item.text());
  return all;
}

TrainSettings parse_settings(std::string_view text, const std::string& where) {
  const auto json = JsonReader::object(text, where, saved_state("the settings of the run"));
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  constexpr std::string_view kTypes[] = {"f32", "f16", "bf16"};
  constexpr DType kTypesOf[] = {DType::f32, DType::f16, DType::bf16};
  TrainSettings s;
  for (const JsonReader& j : json.at("jobs").list()) {
    s.jobs.push_back({j.at("name").text(),
                      rules_of(j, fmt::format("{}: jobs[{}]", where, s.jobs.size())),
                      texts(j.at("inputs")), texts(j.at("targets"))});
  }
  s.steps = json.at("steps").whole(0, kMost);
  const JsonReader buffer = json.at("buffer");
  s.buffer.rows = buffer.at("rows").whole(1, kMost);
  s.buffer.dtype = kTypesOf[buffer.at("dtype").one_of(kTypes)];
  s.buffer.file = buffer.at("file").text();
  s.buffer.seed = buffer.at("seed").natural();
  s.bias = static_cast<InitialBias>(json.at("bias").one_of(kBiases));
  s.model_name = json.at("model_name").text();
  s.metadata = json.at("metadata").text();
  if (!JsonReader::parse(s.metadata, where + ": metadata").is_object())
    json.at("metadata").reject("the text of an object");
  s.context_size = json.at("context_size").whole(0, kMost);
  s.notes = json.at("notes").text();
  if (json.has("prepend_bos")) s.prepend_bos = json.at("prepend_bos").flag();
  return s;
}

std::string metadata(const SafeTensors& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end())
    throw CheckpointError(
        fmt::format("{}: it does not say '{}'; is it the state of a run that "
                    "trains SAEs?",
                    file.file(), key));
  return it->second;
}

Tensor mean_of(const Tensor& x) {
  const std::int64_t n = x.dim(0), d = x.dim(1);
  std::vector<double> sum(static_cast<std::size_t>(d), 0);
  for (std::int64_t i = 0; i < n * d; ++i)
    sum[static_cast<std::size_t>(i % d)] += x.data<float>()[i];
  Tensor out = Tensor::empty({d}, DType::f32);
  for (std::int64_t j = 0; j < d; ++j)
    out.data<float>()[j] =
        static_cast<float>(sum[static_cast<std::size_t>(j)] / static_cast<double>(n));
  return out;
}

void scale_by(Tensor& x, double factor) {
  if (factor == 1) return;
  float* data = x.data<float>();
  for (std::int64_t i = 0; i < x.numel(); ++i) data[i] = static_cast<float>(data[i] * factor);
}

// sqrt(d) / mean norm: then rows have norm sqrt(d) on average.
double average_scale(const Tensor& x) {
  double sum = 0;
  const std::int64_t n = x.dim(0), d = x.dim(1);
  for (std::int64_t i = 0; i < n; ++i) {
    double squares = 0;
    for (std::int64_t j = 0; j < d; ++j) {
      const double v = x.data<float>()[i * d + j];
      squares += v * v;
    }
    sum += std::sqrt(squares);
  }
  return sum > 0 ? std::sqrt(static_cast<double>(d)) * static_cast<double>(n) / sum : 1;
}

bool is_end_to_end(const TrainSettings& s) {
  return std::ranges::any_of(s.jobs,
                             [](const Job& job) { return job.rules.end_to_end.has_value(); });
}

// End to end, rows only tell what weights begin as.
BufferSpec buffer_of(const TrainSettings& s) {
  BufferSpec buffer = s.buffer;
  if (is_end_to_end(s)) buffer.rows = std::min(buffer.rows, kSample);
  return buffer;
}

}  // namespace

std::vector<std::string> files_of(const SaeTrainingRules& rules) {
  if (rules.layers > 0) return transcoder_files(true, static_cast<int>(rules.layers));
  return {"cfg.json", "sae_weights.safetensors", "sparsity.safetensors"};
}

std::string_view name_of(InitialBias bias) { return kBiases[static_cast<int>(bias)]; }

SaeTrainer::SaeTrainer(SaeTrainer&& other) noexcept = default;
SaeTrainer::~SaeTrainer() = default;

SaeTrainer::SaeTrainer(TrainSettings settings, ActivationSource& source, fs::path folder)
    : settings_(std::move(settings)),
      source_(&source),
      folder_(std::move(folder)),
      rows_(std::make_unique<ShuffledRows>(source, buffer_of(settings_))),
      scales_(source.columns().size(), 1.0) {
  if (settings_.jobs.empty()) throw Error(ErrorKind::usage, "there is no SAE to train");
  for (const Job& job : settings_.jobs) {
    const auto check = [&](const std::string& name, std::int64_t width, const char* what) {
      const ActivationSource::Column& c = source.columns()[column(name)];
      if (c.width != width) {
        throw ShapeError(fmt::format("'{}' has activations of width {}, but the SAE {} {}", name,
                                     c.width, what, width));
      }
    };
    for (const std::string& name : job.inputs) check(name, job.rules.d_in, "reads");
    for (const std::string& name : job.targets) check(name, job.rules.out_width(), "gives");
    const auto columns = static_cast<std::size_t>(job.rules.dictionaries());
    if (job.inputs.size() != columns || job.targets.size() != (job.rules.transcoder ? columns : 0))
      throw Error(ErrorKind::usage,
                  fmt::format("an SAE of {} layers that reads {} activations and gives {}", columns,
                              job.inputs.size(), job.targets.size()));
    if (job.rules.batch != settings_.jobs[0].rules.batch)
      throw Error(ErrorKind::usage, "SAEs that are trained together take batches of one size");
  }
  if (is_end_to_end(settings_)) prepare_end_to_end();
}

void SaeTrainer::prepare_end_to_end() {
  std::vector<std::string> sites;
  const auto want = [&](const std::string& name) {
    if (std::ranges::find(sites, name) == sites.end()) sites.push_back(name);
  };
  for (const Job& job : settings_.jobs) {
    if (!job.rules.end_to_end) {
      throw Error(ErrorKind::usage,
                  "SAEs that are trained together are all trained end to end, or none is");
    }
    want(job.inputs[0]);
    for (const std::string& name : job.rules.end_to_end->sites) want(name);
  }
  const auto texts = source_->texts();
  if (!texts) {
    throw Error(
        ErrorKind::usage,
        "end-to-end training runs the model itself, so it needs a model and texts; files of "
        "activations are not enough");
  }
  batches_ = std::make_unique<ModelBatches>(*texts->model, *texts->batches, sites);
  const Graph graph = expand_sites(texts->model->build(nn::Model::Uniform{1, 1}), sites);
  for (const Job& job : settings_.jobs)
    check_downstream(graph, job.inputs[0], *job.rules.end_to_end);
}

// Nothing of a run's names may lead out of its folder, and what a kill left in the folders of its
// SAEs goes.
void SaeTrainer::claim_files() const {
  require_no_link(folder_, kState);
  for (const Job& job : settings_.jobs) {
    const std::vector<std::string> files = files_of(job.rules);
    for (const std::string& file : files) require_no_link(folder_, fs::path(job.name) / file);
    for (const std::string& file : files) {
      if (!job.name.empty()) remove_left_overs(folder_ / job.name, {file});
    }
  }
}

std::size_t SaeTrainer::column(const std::string& name) const {
  std::vector<std::string> names;
  for (const ActivationSource::Column& c : source_->columns()) {
    if (c.name == name) return names.size();
    names.push_back(c.name);
  }
  throw CheckpointError(
      fmt::format("there are no activations '{}'; there are {}", name, fmt::join(names, ", ")));
}

SaeTrainer SaeTrainer::begin(const TrainSettings& settings, ActivationSource& source,
                             const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw SaveError(fmt::format("{}: it cannot be used: {}", folder.string(), error.message()));
  SaeTrainer t(settings, source, folder);
  t.claim_files();
  std::vector<Tensor> sample = t.rows_->sample(kSample);
  for (const Job& job : settings.jobs) {
    if (job.rules.normalise != Normalisation::expected_average_only_in) continue;
    for (const auto* names : {&job.inputs, &job.targets}) {
      for (const std::string& name : *names)
        t.scales_[t.column(name)] = average_scale(sample[t.column(name)]);
    }
  }
  for (std::size_t c = 0; c < sample.size(); ++c) {
    sample[c] = sample[c].clone();
    scale_by(sample[c], t.scales_[c]);
  }
  std::vector<Tensor> medians(sample.size());  // of each column once, however many SAEs begin there
  for (const Job& job : settings.jobs)
    t.jobs_.emplace_back(job.rules, t.first_weights(job, sample, medians));
  t.save();
  return t;
}

Parameters SaeTrainer::first_weights(const Job& job, const std::vector<Tensor>& sample,
                                     std::vector<Tensor>& medians) const {
  std::vector<Tensor> biases;  // of each output
  for (const std::string& name : job.rules.transcoder ? job.targets : job.inputs) {
    const std::size_t of = column(name);
    if (settings_.bias == InitialBias::mean || job.rules.transcoder) {
      biases.push_back(mean_of(sample[of]));
    } else if (settings_.bias == InitialBias::geometric_median) {
      if (!medians[of].defined()) medians[of] = geometric_median(sample[of]);
      biases.push_back(medians[of]);
    } else {
      biases.emplace_back();
    }
  }
  return initial_weights(job.rules, random::Key{job.rules.seed}.fold("weights"), biases);
}

bool SaeTrainer::exists(const fs::path& folder) { return fs::exists(folder / kState); }

TrainSettings SaeTrainer::saved_settings(const fs::path& folder) {
  const SafeTensors file = SafeTensors::open(folder / kState);
  return parse_settings(metadata(file, "settings"), file.file());
}

SaeTrainer SaeTrainer::resume(ActivationSource& source, const fs::path& folder) {
  const SafeTensors file = SafeTensors::open(folder / kState);
  TrainSettings settings = parse_settings(metadata(file, "settings"), file.file());
  if (metadata(file, "source") != source.fingerprint()) {
    throw CheckpointError(fmt::format(
        "{}: the run was trained on other activations: another model, text, context or files, or "
        "they were changed since",
        file.file()));
  }
  for (const Job& job : settings.jobs) require_inside(job.name, file.file());
  // Wherever the buffer was: a name in a file is not followed out of the folder.
  if (!settings.buffer.file.empty()) settings.buffer.file = folder / "vitrine-buffer";
  SaeTrainer t(std::move(settings), source, folder);
  t.claim_files();
  for (std::size_t i = 0; i < t.settings_.jobs.size(); ++i) {
    const SaeTrainingRules& rules = t.settings_.jobs[i].rules;
    const std::string prefix = fmt::format("{}.", i);
    Parameters state;
    for (const std::string& name : file.names()) {
      if (name.starts_with(prefix)) state[name.substr(prefix.size())] = file.at(name);
    }
    for (const auto& [name, tensor] : state) {
      if (!all_finite(tensor))
        throw CheckpointError(
            fmt::format("{}: '{}.{}' holds NaN or an infinity", file.file(), i, name));
    }
    t.jobs_.push_back(
        SaeTrainingStep::restored(rules, state, fmt::format("{}: SAE {}", file.file(), i)));
    if (t.jobs_.back().steps() != t.jobs_[0].steps() ||
        t.jobs_.back().steps() > t.settings_.steps) {
      throw CheckpointError(fmt::format(
          "{}: SAE {} stands after step {}, the first after step {}, of {} in all: that cannot be",
          file.file(), i, t.jobs_.back().steps(), t.jobs_[0].steps(), t.settings_.steps));
    }
  }
  const auto progress =
      JsonReader::object(metadata(file, "progress"), file.file(), saved_state("'progress'"));
  t.seconds_ = progress.at("seconds").number(0);
  const Tensor scales = file.at("scales");
  const auto columns = std::ssize(source.columns());
  if (!(scales.dtype() == DType::f64 && scales.shape() == Shape{columns}) ||
      !std::ranges::all_of(scales.to_vector<double>(),
                           [](double s) { return std::isfinite(s) && s > 0; })) {
    throw CheckpointError(
        fmt::format("{}: 'scales' must be {} numbers above 0, one for each of the activations",
                    file.file(), columns));
  }
  t.scales_ = scales.to_vector<double>();
  const std::vector<JsonReader> p = progress.at("place").list(5);
  if (t.batches_) {
    t.place_ = {p[0].whole(0), p[1].whole(0, source.items() - 1)};
    return t;
  }
  t.rows_->seek({{p[0].whole(0), p[1].whole(0)}, p[2].whole(0), p[3].whole(0), p[4].whole(0)});
  return t;
}

Batch SaeTrainer::batch_of(const Job& job, const std::vector<Tensor>& rows) const {
  return {columns_of(job.inputs, rows),
          job.rules.transcoder ? columns_of(job.targets, rows) : Tensor()};
}

// Side by side; one alone is a view.
Tensor SaeTrainer::columns_of(const std::vector<std::string>& names,
                              const std::vector<Tensor>& rows) const {
  if (names.size() == 1) return rows[column(names[0])];
  std::vector<Tensor> parts;
  std::int64_t width = 0;
  for (const std::string& name : names) {
    parts.push_back(rows[column(name)]);
    width += parts.back().dim(1);
  }
  const std::int64_t n = parts[0].dim(0);
  Tensor all = Tensor::empty({n, width}, DType::f32);
  float* to = all.data<float>();
  for (std::int64_t i = 0; i < n; ++i) {
    for (const Tensor& part : parts) {
      const float* from = part.data<float>() + i * part.dim(1);
      to = std::copy_n(from, part.dim(1), to);
    }
  }
  return all;
}

std::vector<double> SaeTrainer::scales_of(const std::vector<std::string>& names) const {
  std::vector<double> scales;
  for (const std::string& name : names) scales.push_back(scales_[column(name)]);
  return scales;
}

// All SAEs on the same texts, each in a run of the model of its own.
std::vector<StepOutcome> SaeTrainer::step_end_to_end(ThreadPool& pool) {
  SourcePlace next = place_;
  const ModelBatch texts = batches_->next(next, settings_.jobs[0].rules.batch);
  std::vector<StepOutcome> outcomes;
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    const std::string& site = settings_.jobs[i].inputs[0];
    const double scale = scales_[column(site)];
    outcomes.push_back(jobs_[i].step(
        {.x = texts.samples(site, scale), .model = &texts, .site = site, .scale = scale}, pool));
  }
  place_ = next;
  return outcomes;
}

std::vector<StepOutcome> SaeTrainer::step(ThreadPool& pool) {
  if (batches_) return step_end_to_end(pool);
  std::vector<Tensor> rows = rows_->next(settings_.jobs[0].rules.batch);
  for (std::size_t c = 0; c < rows.size(); ++c) scale_by(rows[c], scales_[c]);
  std::vector<StepOutcome> outcomes;
  for (std::size_t i = 0; i < jobs_.size(); ++i)
    outcomes.push_back(jobs_[i].step(batch_of(settings_.jobs[i], rows), pool));
  return outcomes;
}

JsonValue SaeTrainer::metadata_of(std::size_t i) const {
  const SaeTrainingRules& rules = settings_.jobs[i].rules;
  JsonValue more = JsonValue::parse(settings_.metadata, "metadata");
  more["training_architecture"] = name_of(rules.kind);
  more["training_steps"] = jobs_[i].steps();
  more["training_vectors"] = jobs_[i].steps() * rules.batch;
  if (rules.end_to_end) {
    const EndToEnd& e = *rules.end_to_end;
    more["training_end_to_end"] = JsonValue::object(
        {{"kl", e.kl}, {"downstream", e.downstream}, {"local", e.local}, {"sites", e.sites}});
  }
  return more.sorted();
}

Sae SaeTrainer::finished(std::size_t i) const {
  const Job& job = settings_.jobs[i];
  const double in = scales_of(job.inputs)[0];
  Sae sae = jobs_[i].finished(in, job.rules.transcoder ? scales_of(job.targets)[0] : in);
  SaeConfig& c = sae.config;
  c.model_name = settings_.model_name;
  c.hook_name = job.inputs[0];
  c.hook_name_out = job.rules.transcoder ? job.targets[0] : "";
  c.prepend_bos = settings_.prepend_bos;
  c.context_size = settings_.context_size;
  c.join_heads = job.inputs[0].ends_with("hook_z");
  c.metadata = metadata_of(i).line();
  sae.name = folder_of(i).string();
  return sae;
}

TranscoderSet SaeTrainer::finished_layers(std::size_t i) const {
  const Job& job = settings_.jobs[i];
  TranscoderSet set = jobs_[i].finished_layers(scales_of(job.inputs), scales_of(job.targets));
  set.name = folder_of(i).string();
  set.model_name = settings_.model_name;
  set.metadata = metadata_of(i).line();
  set.inputs = job.inputs;
  set.outputs = job.targets;
  for (std::size_t l = 0; l < set.layers.size(); ++l)
    set.layers[l].reads_normalised = job.inputs[l].ends_with("hook_normalized");
  return set;
}

fs::path SaeTrainer::folder_of(std::size_t i) const {
  const std::string& name = settings_.jobs[i].name;
  return name.empty() ? folder_ : folder_ / name;
}

void SaeTrainer::save() const {
  const BufferPlace p = batches_ ? BufferPlace{.source = place_} : rows_->place();
  const JsonValue place = JsonValue::list({p.source.epoch, p.source.item, p.skip, p.fill, p.row});
  const JsonValue progress = JsonValue::object({{"seconds", seconds_}, {"place", place}});
  NamedTensors tensors = {
      {"scales", Tensor::of<double>({static_cast<std::int64_t>(scales_.size())}, scales_)}};
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    for (const auto& [name, tensor] : jobs_[i].state())
      tensors.emplace_back(fmt::format("{}.{}", i, name), tensor);
  }
  save_safetensors(folder_ / kState, tensors,
                   {{"settings", to_json(settings_)},
                    {"progress", progress.sorted().line()},
                    {"source", source_->fingerprint()}});
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    if (settings_.jobs[i].rules.layers > 0) save_transcoders(finished_layers(i), folder_of(i));
    else sae::save(finished(i), folder_of(i));
  }
}

}  // namespace vitrine::sae

#include "interp/contexts_checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "nn/model/fingerprint.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"

namespace vitrine::interp {
namespace {

constexpr const char* kFormat = "vitrine neuron contexts 1";

// ---- metadata -----------------------------------------------------------------------------------
std::int64_t number(const SafeTensors& saved, const std::string& key) {
  const auto it = saved.metadata().find(key);
  std::int64_t n = 0;
  if (it == saved.metadata().end() ||
      std::from_chars(it->second.data(), it->second.data() + it->second.size(), n).ec !=
          std::errc()) {
    throw FileError(fmt::format(
        "{}: its metadata have no number '{}': the checkpoint is damaged; remove it to begin anew",
        saved.file(), key));
  }
  return n;
}

// What a difference means to people.
struct Setting {
  const char* key;
  const char* what;
};
constexpr Setting kSettings[] = {{"model", "another model, or the same in another gauge"},
                                 {"text", "another text, or the file was changed since"},
                                 {"contexts", "another number of contexts a neuron"},
                                 {"bos", "lines with another token, or none, put before them"},
                                 {"special", "another reading of special tokens' text"},
                                 {"rows", "batches of another size"}};

template <class T>
void copy_out(const SafeTensors& saved, const char* name, DType dtype, const Shape& shape,
              std::vector<T>& out) {
  const Tensor t = saved.at(name);
  if (t.dtype() != dtype || t.shape() != shape) {
    throw FileError(
        fmt::format("{}: '{}' is not {} {}: the checkpoint is damaged; remove it to "
                    "begin anew",
                    saved.file(), name, vitrine::name_of(dtype), to_string(shape)));
  }
  out = t.to_vector<T>();
}

}  // namespace

ContextsCheckpoint::ContextsCheckpoint(const nn::Model& model, const std::filesystem::path& file,
                                       const ContextsSpec& spec)
    : file_(spec.checkpoint), save_every_(spec.save_every), vocabulary_(model.config().vocabulary) {
  if (file_.empty()) return;
  nn::Hash text;
  text.add(map_file(file).bytes);
  // A .jsonl file is read in another way than the same bytes under another name.
  text.add(file.extension() == ".jsonl" ? "jsonl" : "text");
  of_ = {{"format", kFormat},
         {"model", nn::fingerprint(model)},
         {"text", text.text()},
         {"contexts", fmt::format("{}", spec.contexts)},
         {"bos", spec.bos ? fmt::format("{}", *spec.bos) : "none"},
         {"special", spec.special ? "tokens" : "text"},
         {"rows", fmt::format("{}", spec.rows)}};
}

void ContextsCheckpoint::load(Contexts& found, CorpusPlace& place) const {
  if (file_.empty() || !std::filesystem::exists(file_)) return;
  const SafeTensors saved = SafeTensors::open(file_);
  const auto& metadata = saved.metadata();
  if (const auto it = metadata.find("format"); it == metadata.end() || it->second != kFormat) {
    throw FileError(
        fmt::format("{}: this is no checkpoint of neuron contexts; it is left as it is: give the "
                    "checkpoint another name",
                    file_.string()));
  }
  for (const Setting& s : kSettings) {
    const auto it = metadata.find(s.key);
    if (it != metadata.end() && it->second == of_.at(s.key)) continue;
    const std::string values = std::string_view(s.key) == "contexts" && it != metadata.end()
                                   ? fmt::format(" ({}, not {})", it->second, of_.at(s.key))
                                   : "";
    throw FileError(
        fmt::format("{}: the checkpoint is of {}{}; repeat the command that made it, or give the "
                    "checkpoint another name",
                    file_.string(), s.what, values));
  }

  const std::int64_t neurons = found.neurons(), kept = found.peaks.kept();
  std::vector<float> activation;
  std::vector<std::int32_t> position, predicted, count;
  std::vector<std::int64_t> line;
  copy_out(saved, "activation", DType::f32, {neurons, kept}, activation);
  copy_out(saved, "position", DType::i32, {neurons, kept}, position);
  copy_out(saved, "line", DType::i64, {neurons, kept}, line);
  copy_out(saved, "predicted", DType::i32, {neurons, kept}, predicted);
  copy_out(saved, "count", DType::i32, {neurons}, count);
  copy_out(saved, "sum", DType::f64, {neurons}, found.sums);
  copy_out(saved, "positive", DType::i64, {neurons}, found.positives);
  place = {number(saved, "place.line"), number(saved, "place.position")};
  const auto damaged = [&](const std::string& what) {
    throw FileError(
        fmt::format("{}: {}; the file is damaged: remove it to begin again", file_.string(), what));
  };
  if (place.line < 0 || place.position < 0)
    damaged(fmt::format("it stands at position {} of line {}", place.position, place.line));
  for (std::int64_t n = 0; n < neurons; ++n) {
    const std::int64_t used = count[static_cast<std::size_t>(n)];
    if (used < 0 || used > kept)
      damaged(fmt::format("neuron {} has {} contexts of {}", n, used, kept));
    const double sum = found.sums[static_cast<std::size_t>(n)];
    if (!std::isfinite(sum) || found.positives[static_cast<std::size_t>(n)] < 0)
      damaged(fmt::format("neuron {} has a sum or count that cannot be", n));
    for (std::int64_t k = 0; k < used; ++k) {
      const auto i = static_cast<std::size_t>(n * kept + k);
      // What comes after the token is known for all lines that have been read to the end.
      const bool known = predicted[i] >= 0 || line[i] == place.line;
      if (!std::isfinite(activation[i]) || position[i] < 0 || line[i] < 1 || line[i] > place.line ||
          predicted[i] < -1 || predicted[i] >= vocabulary_ || !known) {
        damaged(
            fmt::format("context {} of neuron {} is at position {} of line {}, with {} predicted",
                        k, n, position[i], line[i], predicted[i]));
      }
      found.peaks.offer(n, {activation[i], position[i], line[i], predicted[i]});
    }
  }
  found.lines = number(saved, "lines");
  found.long_lines = number(saved, "long_lines");
  found.tokens = number(saved, "tokens");
}

void ContextsCheckpoint::save_if_due(const Contexts& found, const CorpusPlace& place) {
  if (std::chrono::duration<double>(Clock::now() - saved_).count() >= save_every_)
    save(found, place);
}

void ContextsCheckpoint::save(const Contexts& found, const CorpusPlace& place) {
  if (file_.empty()) return;
  const std::int64_t neurons = found.neurons(), kept = found.peaks.kept();
  const Shape all = {neurons, kept};
  const Tensor activation = Tensor::zeros(all, DType::f32),
               position = Tensor::zeros(all, DType::i32), line = Tensor::zeros(all, DType::i64),
               predicted = Tensor::zeros(all, DType::i32),
               count = Tensor::zeros({neurons}, DType::i32);
  for (std::int64_t n = 0; n < neurons; ++n) {
    const auto peaks = found.peaks.of(n);
    count.data<std::int32_t>()[n] = static_cast<std::int32_t>(peaks.size());
    for (std::size_t k = 0; k < peaks.size(); ++k) {
      const std::int64_t i = n * kept + static_cast<std::int64_t>(k);
      activation.data<float>()[i] = peaks[k].activation;
      position.data<std::int32_t>()[i] = peaks[k].position;
      line.data<std::int64_t>()[i] = peaks[k].line;
      predicted.data<std::int32_t>()[i] = peaks[k].predicted;
    }
  }
  std::map<std::string, std::string> metadata = of_;
  const auto put = [&](const char* key, std::int64_t n) { metadata[key] = fmt::format("{}", n); };
  put("lines", found.lines);
  put("long_lines", found.long_lines);
  put("tokens", found.tokens);
  put("place.line", place.line);
  put("place.position", place.position);
  save_safetensors(file_,
                   {{"activation", activation},
                    {"position", position},
                    {"line", line},
                    {"predicted", predicted},
                    {"count", count},
                    {"sum", Tensor::of({neurons}, found.sums)},
                    {"positive", Tensor::of({neurons}, found.positives)}},
                   metadata);
  saved_ = Clock::now();
}

}  // namespace vitrine::interp

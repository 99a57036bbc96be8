#include "nn/training/training_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <system_error>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/run_folder.h"
#include "tensor/random.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

// Of one document: given, or encoded.
std::vector<int> ids_of(const Document& d, const std::optional<Tokenizer>& tokenizer,
                        const Config& model, const std::string& file) {
  if (!d.is_tokens && !tokenizer) {
    throw FileError(
        fmt::format("{}, line {}: this is text, and the model has no tokenizer (tokenizer.json, or "
                    "vocab.json and merges.txt); give a "
                    ".jsonl file with token ids, one {{\"tokens\": [1, 2, 3]}} a line",
                    file, d.line));
  }
  if (!d.is_tokens) {
    std::vector<int> ids = tokenizer->encode(d.text);
    const auto beyond =
        std::find_if(ids.begin(), ids.end(), [&](int id) { return id >= model.vocabulary; });
    if (beyond == ids.end()) return ids;
    throw TokenError(
        fmt::format("{}, line {}: the text has the token {}, but the model has embeddings of the "
                    "ids 0 to {} alone",
                    file, d.line, *beyond, model.vocabulary - 1));
  }
  const int vocabulary =
      tokenizer ? std::min(tokenizer->vocabulary_size(), model.vocabulary) : model.vocabulary;
  for (const int id : d.tokens) {
    if (id >= 0 && id < vocabulary) continue;
    throw TokenError(fmt::format("{}, line {}: the {} has no token {}; its ids are 0 to {}", file,
                                 d.line, tokenizer ? "tokenizer" : "model", id, vocabulary - 1));
  }
  return {d.tokens.begin(), d.tokens.end()};
}

std::int64_t size_of_file(const std::string& file) { return std::ssize(map_file(file).bytes); }

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// "source-3-00017.safetensors", "validation-00000.safetensors", and what is left of one that was
// being written.
bool is_text(std::string_view file) {
  constexpr std::string_view kSource = "source-", kEnd = ".safetensors",
                             kValidation = kValidationName;
  const std::size_t end = file.find(kEnd);
  if (end == file.npos) return false;
  const std::string_view after = file.substr(end + kEnd.size());
  if (!after.empty() && !is_left_over(file, {file.substr(0, end + kEnd.size())})) return false;
  const std::string_view name = file.substr(0, end);
  const std::size_t dash = name.rfind('-');
  if (dash == name.npos || !all_digits(name.substr(dash + 1))) return false;
  const std::string_view text = name.substr(0, dash);
  return text == kValidation ||
         (text.starts_with(kSource) && all_digits(text.substr(kSource.size())));
}

void make_empty_folder(const fs::path& folder) {
  remove_texts(folder);
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return;
  throw SaveError(
      fmt::format("{}: the folder cannot be made: {}", folder.string(), error.message()));
}

// Gives each document of one source to training or to validation.
class Splitter {
 public:
  Splitter(double share, random::Key key, std::int64_t bytes, TokenizedWriter& train,
           TokenizedWriter& validation)
      : share_(share), key_(key), bytes_(bytes), train_(train), validation_(validation) {}

  void add(std::span<const int> ids, std::int64_t bytes) {
    constexpr std::int64_t kMany = 20;
    const double draw = random::uniform(key_, number_++);
    if (share_ > 0 && bytes * kMany > bytes_) {
      const auto kept = static_cast<std::size_t>(share_ * static_cast<double>(ids.size()));
      train_.add(ids.first(ids.size() - kept));
      validation_.add(ids.last(kept));
    } else {
      (draw < share_ ? validation_ : train_).add(ids);
    }
  }

 private:
  double share_;
  random::Key key_;
  std::int64_t bytes_;
  TokenizedWriter &train_, &validation_;
  std::uint64_t number_ = 0;
};

}  // namespace

std::vector<fs::path> texts_in(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  if (fs::is_symlink(fs::symlink_status(folder, error))) {
    throw FileError(
        fmt::format("'{}' is a symbolic link, and what it leads to is not the run's own; remove it",
                    folder.string()));
  }
  if (!fs::exists(folder, error)) return files;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    const fs::path& file = entries->path();
    if (!is_text(file.filename().string()) || fs::is_directory(entries->symlink_status())) {
      throw FileError(fmt::format(
          "the folder '{}' holds '{}', which is none of a run's texts; move it elsewhere",
          folder.string(), file.filename().string()));
    }
    files.push_back(file);
  }
  if (error)
    throw FileError(
        fmt::format("the folder '{}' cannot be read: {}", folder.string(), error.message()));
  return files;
}

void remove_texts(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  for (const fs::path& file : texts_in(folder)) {
    if (!error) fs::remove(file, error);
  }
  if (!error) fs::remove(folder, error);
  if (error)
    throw SaveError(fmt::format("{}: it cannot be removed: {}", folder.string(), error.message()));
}

std::string source_name(std::size_t i) { return fmt::format("source-{}", i); }

void prepare_text(const TrainingSettings& settings, const std::optional<Tokenizer>& tokenizer,
                  const fs::path& folder,
                  const std::function<bool(std::int64_t done, std::int64_t total)>& progress) {
  std::int64_t total = 0, before = 0;
  for (const TextSource& s : settings.sources) total += size_of_file(s.file);
  make_empty_folder(folder);
  TokenizedWriter validation(folder, kValidationName);
  for (std::size_t i = 0; i < settings.sources.size(); ++i) {
    const std::string& file = settings.sources[i].file;
    const std::int64_t bytes = size_of_file(file);
    TokenizedWriter train(folder, source_name(i));
    Splitter splitter(settings.validation, random::Key{settings.seed}.fold("validation").fold(i),
                      bytes, train, validation);
    std::int64_t read = 0;
    for_each_document(file, settings.split, [&](const Document& d) {
      splitter.add(ids_of(d, tokenizer, settings.model, file), d.end - read);
      read = d.end;
      if (progress && !progress(before + read, total)) throw InterruptedError("interrupted");
    });
    train.finish();
    if (train.tokens() == 0) {
      throw FileError(fmt::format("{}: there is no text in it to train on", file));
    }
    before += bytes;
  }
  validation.finish();
}

}  // namespace vitrine::nn

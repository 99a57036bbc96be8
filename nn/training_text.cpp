#include "nn/training_text.h"

#include <fmt/format.h>

#include <system_error>

#include "tensor/error.h"
#include "tensor/file.h"
#include "tensor/random.h"

namespace vitrine::nn {
namespace {

namespace fs = std::filesystem;

void check_ids(std::span<const int> ids, const Tokenizer& tokenizer, const std::string& file,
               std::int64_t line) {
  for (const int id : ids) {
    if (id >= 0 && id < tokenizer.vocabulary_size()) continue;
    throw TokenError(fmt::format("{}, line {}: the tokenizer has no token {}; its ids are 0 to {}",
                                 file, line, id, tokenizer.vocabulary_size() - 1));
  }
}

std::int64_t size_of_file(const std::string& file) { return std::ssize(map_file(file).bytes); }

void make_empty_folder(const fs::path& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (!error) fs::create_directories(folder, error);
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

std::string source_name(std::size_t i) { return fmt::format("source-{}", i); }

void prepare_text(const TrainingSettings& settings, const Tokenizer& tokenizer,
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
      if (d.is_tokens) {
        check_ids(d.tokens, tokenizer, file, d.line);
        splitter.add(d.tokens, d.end - read);
      } else {
        splitter.add(tokenizer.encode(d.text), d.end - read);
      }
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

// vitrine tokenizer train: a vocabulary learned from text.
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "apps/options/data_files.h"
#include "apps/options/options.h"
#include "apps/terminal/interrupt.h"
#include "apps/terminal/progress.h"
#include "apps/verbs/verbs.h"
#include "nn/text/documents.h"
#include "nn/tokenizer/save_tokenizer.h"
#include "nn/tokenizer/train_tokenizer.h"
#include "tensor/error.h"
#include "tensor/files/run_folder.h"

namespace vitrine::app {
namespace {

// What one file holds, or all of them.
struct Amounts {
  std::int64_t texts = 0, bytes = 0, tokens = 0;

  double bytes_per_token() const {
    return static_cast<double>(bytes) / static_cast<double>(tokens);
  }
  void operator+=(const Amounts& other) {
    texts += other.texts;
    bytes += other.bytes;
    tokens += other.tokens;
  }
};

struct FileRead {
  DataFile file;
  nn::WordCounts counts;     // unweighted
  Amounts amounts;           // without tokens at first
  std::int64_t skipped = 0;  // lines with tokens in place of text
};

FileRead read(const DataFile& file, nn::Split split, const Interruptible& interruptible,
              bool quiet) {
  FileRead result{file, {}, {}};
  std::error_code error;  // a pipe has no size, and shows no progress
  const auto bytes = std::filesystem::file_size(file.path, error);
  const double size = error ? 0 : static_cast<double>(bytes);
  Progress progress("reading " + visible(file.path), "bytes", quiet);
  nn::for_each_document(file.path, split, [&](const nn::Document& document) {
    interruptible.check();
    if (document.is_tokens) {
      ++result.skipped;
      return;
    }
    result.counts.add(document.text, 1, &interruptible.requested());
    ++result.amounts.texts;
    result.amounts.bytes += static_cast<std::int64_t>(document.text.size());
    progress.update(static_cast<double>(document.end), size);
  });
  const std::string skipped =
      fmt::format("{} line{} {} \"tokens\", and a tokenizer is trained on \"text\"", result.skipped,
                  result.skipped == 1 ? "" : "s", result.skipped == 1 ? "has" : "have");
  if (result.counts.empty()) {
    throw FileError(fmt::format("{}: there is no text in this file{}; leave it out of --data",
                                file.path, result.skipped == 0 ? "" : ": " + skipped));
  }
  if (result.skipped > 0 && !quiet) {
    log(fmt::format("vitrine: {}: left out: {}", visible(file.path), skipped));
  }
  return result;
}

std::int64_t tokens_of(const nn::WordCounts& counts, const nn::Tokenizer& tokenizer,
                       const Interruptible& interruptible) {
  std::int64_t tokens = 0;
  for (const auto& [word, count] : counts.in_thousandths()) {
    interruptible.check();
    tokens +=
        count / nn::WordCounts::kOne * static_cast<std::int64_t>(tokenizer.encode(word).size());
  }
  return tokens;
}

Json as_json(const Amounts& amounts) {
  return {{"texts", amounts.texts},
          {"bytes", amounts.bytes},
          {"tokens", amounts.tokens},
          {"bytes_per_token", amounts.bytes_per_token()}};
}

Json as_json(const std::vector<FileRead>& files) {
  Json list = Json::list();
  for (const FileRead& read : files) {
    Json entry = {{"file", json_text(read.file.path)}, {"weight", read.file.weight}};
    entry.update(as_json(read.amounts));
    entry["skipped"] = read.skipped;
    list.push_back(entry);
  }
  return list;
}

std::string table(const std::vector<FileRead>& files, const Amounts& total, const Style& style) {
  using Align = Table::Align;
  Table table({{"file", Align::left},
               {"weight", Align::right},
               {"texts", Align::right},
               {"bytes", Align::right},
               {"tokens", Align::right},
               {"bytes per token", Align::right}});
  const auto row = [&](const std::string& name, const std::string& weight, const Amounts& amounts) {
    table.row({name, weight, grouped(amounts.texts), grouped(amounts.bytes),
               grouped(amounts.tokens), fmt::format("{:.3f}", amounts.bytes_per_token())});
  };
  for (const FileRead& read : files) {
    row(visible(read.file.path), fmt::format("{}", read.file.weight), read.amounts);
  }
  if (files.size() > 1) row("all", "", total);
  return table.text(style);
}

void check_folder(const std::string& folder, bool overwrite) {
  std::error_code ignored;
  if (std::filesystem::exists(folder, ignored) && !std::filesystem::is_directory(folder, ignored)) {
    throw SaveError(fmt::format(
        "cannot write the tokenizer to '{}': it is a file; --out names a folder", folder));
  }
  if (overwrite)
    return require_absent(
        folder, {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"});
  require_unused_folder(folder);
}

nn::Vocabulary learn(const nn::WordCounts& counts, nn::TrainTokenizerOptions options,
                     const Interruptible& interruptible, bool quiet) {
  Progress progress("training", "tokens", quiet);
  options.cancel = &interruptible.requested();
  options.progress = [&](int done, int total) { progress.update(done, total); };
  try {
    return nn::train_tokenizer(counts, options);
  } catch (const ConfigError& too_large) {
    throw ConfigError(
        fmt::format("{} (see --data, --min-count and --vocabulary)", too_large.what()));
  }
}

}  // namespace

void verb_tokenizer(const Arguments& arguments) {
  CommandLine line(
      arguments,
      "vitrine tokenizer train: learns a byte-level BPE vocabulary, GPT-2's kind, and writes\n"
      "vocab.json, merges.txt and tokenizer.json, which HuggingFace reads too. Id 0 is\n"
      "<|endoftext|>, then come the 256 bytes, then what was learned.\n\n"
      "json: {meta, folder, vocabulary, merges, texts, bytes, tokens, bytes_per_token, seconds,\n"
      "files: [{file, weight, texts, bytes, tokens, bytes_per_token, skipped}]}; tokens are those\n"
      "of the text itself, unweighted; skipped counts lines that have tokens and no text.\n",
      "vitrine tokenizer train --data /usr/share/common-licenses/GPL-3 --vocabulary 1000 --out "
      "gpl");
  std::string what;
  DataOptions data;
  CommonOptions common;
  nn::TrainTokenizerOptions options;
  bool overwrite = false;
  line.option("train", what, " ", "the one thing this verb does");
  data.add_to(line, "A text of WEIGHT 2 or 0.5 counts twice or half (default: 1)");
  line.number("--vocabulary", options.vocabulary, "N",
              "tokens in all, the 256 bytes and <|endoftext|> among them\n(default: 5000)", 257,
              INT32_MAX);
  line.number("--min-count", options.min_count, "N",
              "pairs that occur less often make no token (default: 2)", std::int64_t{1},
              INT64_MAX / nn::WordCounts::kOne);
  line.flag(
      "--overwrite", overwrite,
      "write into a folder that is not empty: a tokenizer's files there are replaced, others stay");
  common.add_without_model_to(line,
                              "the folder for the tokenizer's files; made if it is not there");
  if (!line.parse()) return;
  if (what != "train") {
    line.fail(what.empty()
                  ? std::string("say what to do: tokenizer train --data FILE --out DIR")
                  : fmt::format("there is no 'tokenizer {}', only 'tokenizer train'", what));
  }
  if (common.out.empty() || common.out == "-") {
    line.fail("there is no folder for the tokenizer; give --out DIR");
  }
  const std::vector<DataFile> files =
      data.files(line, nn::WordCounts::kLeastWeight, nn::WordCounts::kMostWeight);
  check_folder(common.out, overwrite);

  const auto start = std::chrono::steady_clock::now();
  const Interruptible interruptible;
  std::vector<FileRead> all;
  nn::WordCounts counts;
  for (const DataFile& file : files) {
    all.push_back(read(file, data.split(), interruptible, common.quiet));
    counts.merge(all.back().counts, file.weight);
  }
  const nn::Tokenizer tokenizer(learn(counts, options, interruptible, common.quiet), common.out);
  Amounts total;
  for (FileRead& file : all) {
    file.amounts.tokens = tokens_of(file.counts, tokenizer, interruptible);
    total += file.amounts;
  }
  interruptible.check();
  nn::save_tokenizer(tokenizer, common.out);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

  if (common.json()) {
    Json json = {{"meta", common.meta(line)}};
    json["meta"]["model"] = nullptr;
    json["folder"] = json_text(common.out);
    json["vocabulary"] = tokenizer.vocabulary_size();
    json["merges"] = tokenizer.merges().size();
    json.update(as_json(total));
    json["seconds"] = seconds.count();
    json["files"] = as_json(all);
    write_stdout(to_line(json));
  } else {
    const Style style = style_for(common.color, "");
    write_stdout(table(all, total, style) +
                 fmt::format("\n{} tokens, {:.1f} s: {}\n", grouped(tokenizer.vocabulary_size()),
                             seconds.count(), style.strong(visible(common.out))));
  }
}

}  // namespace vitrine::app

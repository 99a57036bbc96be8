#include "nn/text/corpus_lines.h"

#include <fmt/format.h>

#include <system_error>

#include "nn/text/documents.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::nn {
namespace {

Tokens tokens_of(const Model& model, const Document& document, bool special) {
  if (document.is_tokens) return {document.tokens.begin(), document.tokens.end()};
  return model.tokenizer().encode(document.text, special ? Special::as_tokens : Special::as_text);
}

// A pipe is empty when it is read for the second time.
void require_rereadable(const std::filesystem::path& file) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(file, error);
  if (error || !std::filesystem::exists(status) || std::filesystem::is_regular_file(status) ||
      std::filesystem::is_directory(status))
    return;  // what is wrong with the others is said where they are read
  throw FileError(fmt::format(
      "{}: this is no ordinary file (a pipe, perhaps), and the text is read more than once; write "
      "it to a file, and give that",
      file.string()));
}

using VisitLine = std::function<void(const CorpusLine&)>;

void for_each_wanted(const Model& model, const std::filesystem::path& file, bool special,
                     const std::function<bool(std::int64_t)>& wanted, const VisitLine& visit) {
  require_rereadable(file);
  const auto total = static_cast<std::int64_t>(map_file(file).bytes.size());
  for_each_document(file, Split::line, [&](const Document& document) {
    if (!wanted(document.line)) return;
    if (!document.is_tokens && !model.has_tokenizer()) {
      throw TokenError(fmt::format(
          "{}, line {}: this is text, and {}; give a .jsonl file with {{\"tokens\": [1, 2, 3]}} a "
          "line",
          file.string(), document.line,
          model.has_tokenizer_fault()
              ? model.why_no_tokenizer()
              : "the model has no tokenizer (tokenizer.json, or vocab.json and merges.txt)"));
    }
    const Tokens tokens = tokens_of(model, document, special);
    for (const int id : tokens) {
      if (id < model.config().vocabulary) continue;  // none is negative
      if (!document.is_tokens) {
        throw TokenError(fmt::format("{}, line {}: {}", file.string(), document.line,
                                     model.why_not_embedded(id)));
      }
      throw TokenError(
          fmt::format("{}, line {}: there is no token {}; this model knows ids 0 to {}",
                      file.string(), document.line, id, model.config().vocabulary - 1));
    }
    if (!tokens.empty()) visit({document.line, tokens, document.end, total});
  });
}

}  // namespace

void for_each_line(const Model& model, const std::filesystem::path& file, bool special,
                   std::int64_t from, const VisitLine& visit) {
  for_each_wanted(
      model, file, special, [&](std::int64_t line) { return line >= from; }, visit);
}

void for_each_line(const Model& model, const std::filesystem::path& file, bool special,
                   std::span<const std::int64_t> numbers, const VisitLine& visit) {
  auto next = numbers.begin();
  const auto wanted = [&](std::int64_t line) {
    while (next != numbers.end() && *next < line) ++next;
    return next != numbers.end() && *next == line;
  };
  for_each_wanted(model, file, special, wanted, visit);
}

}  // namespace vitrine::nn

// Training text: calls a function for each document of a file.
//
//   for_each_document("books.txt", Split::blank_line, [&](const Document& document) {
//     counts.add(document.text);
//   });
//
// A file whose name ends in .jsonl has one JSON object a line, {"text": "..."} or {"tokens": [1,
// 2]}. Any other file is plain text: any bytes, UTF-8 or not, kept as they are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

namespace vitrine::nn {

// The document boundaries of plain text. JSONL has its own.
enum class Split {
  whole_file,  // nowhere: the file is one document
  blank_line,  // at lines that hold nothing but spaces and tabs; those belong to no document
  line,        // each line that is not blank is a document
};

// The views of a document are valid only during the call that gets it.
struct Document {
  std::string_view text;        // empty if is_tokens; without the end of its last line if cut
  std::span<const int> tokens;  // ids, none negative; empty unless is_tokens
  bool is_tokens;
  std::int64_t line;  // where it begins, from 1
  std::int64_t end;   // how many bytes of the file have been read with it
};

// Visits the documents in order; empty ones are skipped, and so are blank lines of JSONL. Throws
// FileError when the file cannot be read; for JSONL also, with the line, when a line is not JSON
// (which must be UTF-8, without half surrogate pairs), does not have exactly one of "text" and
// "tokens", or has one of another type. Other fields are ignored. What `visit` throws passes
// through.
void for_each_document(const std::filesystem::path& file, Split split,
                       const std::function<void(const Document&)>& visit);

}  // namespace vitrine::nn

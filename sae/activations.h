// Activation sources: a model that reads texts, or files with stored rows.
//
// A source is a sequence of rows that is the same each time. Several activations of the same tokens
// come as the columns of one source, so that SAEs of several sites are trained from one pass.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/model/model.h"

namespace vitrine::sae {

// A position in a source: how often it has been read, and how far this time, in units of its own.
struct SourcePlace {
  std::int64_t epoch = 0, item = 0;
  friend bool operator==(const SourcePlace&, const SourcePlace&) = default;
};

class TextBatches;  // text_batches.h

// Where rows of activations come from: a model that reads texts, or files.
class ActivationSource {
 public:
  virtual ~ActivationSource() = default;

  // The model and the texts that the rows come from, where they do: end-to-end training runs these
  // itself.
  struct Texts {
    const nn::Model* model;
    TextBatches* batches;
  };
  virtual std::optional<Texts> texts() { return std::nullopt; }

  struct Column {
    std::string name;  // of the site or tensor
    std::int64_t width;
  };
  virtual const std::vector<Column>& columns() const = 0;

  // Some rows from `place` on: f32 [rows, width] for each column, all with as many rows, at least
  // one. `place` moves on behind them, into the next epoch at the end. Throws NumericError for a
  // row that is not finite, saying where it is.
  virtual std::vector<Tensor> read(SourcePlace& place) = 0;
  // The number of items in an epoch: SourcePlace::item is below it.
  virtual std::int64_t items() const = 0;
  // The rows of one epoch, if known without reading it; else 0.
  virtual std::int64_t rows() const = 0;
  // Tells this source from others; changes with what it gives.
  virtual std::string fingerprint() const = 0;
};

// The texts that a model reads, and the sites whose values are the rows.
struct TextSourceSpec {
  std::vector<std::filesystem::path>
      files;                            // text, a document a line, or .jsonl (nn/text/documents.h)
  std::vector<std::string> sites;       // activations that have a row a token
  int context = 0;                      // longest piece of a document that is run; 0: the model's
  std::optional<int> bos;               // put before every piece; it has no row
  std::vector<int> excluded;            // tokens of which rows are left out
  bool special = false;                 // the text of an added token becomes its one id
  std::int64_t tokens_together = 2048;  // that are run at a time
  std::uint64_t seed = 0;               // the order of pieces is another in every epoch ...
  bool in_order = false;                // ... unless they are to come as they stand in the files
};

// A model over texts. Documents are cut into pieces of at most `context` tokens, and all pieces of
// all files are mixed for each epoch. Only what the sites need is computed. Throws FileError for a
// file that cannot be read or texts without a token, SiteError for a site that is not there or does
// not have a row a token, ContextError for a context that is not the model's.
std::unique_ptr<ActivationSource> text_source(const nn::Model& model, const TextSourceSpec& spec);

// The layout of rows in files.
struct FileLayout {
  // What rows are to have, for each tensor: the last two axes, [head, e], are joined where they are
  // that wide together. None: the last axis.
  std::vector<std::int64_t> widths = {};
  bool matrices = false;  // only [rows, width]: of more axes, it is not known which are rows
};

// Rows of a tensor [rows, width] (or [.., width], joined) in safetensors files, one after the
// other. Patterns with * in the last part stand for all files that match, in the order of their
// names; f32, f16 and bf16 are read, from mapped memory. Throws FileError when there is no such
// file or tensor, or there are no rows, and ShapeError when widths differ.
std::unique_ptr<ActivationSource> file_source(const std::vector<std::string>& patterns,
                                              const std::vector<std::string>& tensors,
                                              const FileLayout& layout = {});
std::vector<std::filesystem::path> files_of(const std::string& pattern);

}  // namespace vitrine::sae

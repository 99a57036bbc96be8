// Training batches from weighted sources, in an order that is a function of the seed.
//
// A batch has a fixed number of rows and no padding. It is packed from pieces of documents; each
// piece is a sequence of its own, so attention never crosses from one document into another, and
// positions count from the beginning of the piece. Every row predicts the token that follows it in
// its document, the last one end-of-text; without an end-of-text the last token is only predicted.
// The rest of a document that does not fit into a batch is a sequence of its own in a later one.
//
// Each source is read in epochs. For an epoch every document is cut into pieces of at most a
// context (the first at random, so that a token stands at other positions each time) and all pieces
// are shuffled. Which source gives the next piece: the one that is furthest behind its share of
// tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "nn/model/batch.h"
#include "nn/text/tokenized_text.h"
#include "tensor/random.h"

namespace vitrine::nn {

// The feeds of a training step. Every one of the `predicted` entries of next.row and next.token is
// a prediction.
struct TrainingBatch {
  BatchSize size;
  std::int64_t predicted = 0;
  Feeds feeds;
};
// Prompts whose every token but the first is predicted.
TrainingBatch training_batch(const std::vector<Tokens>& prompts);

struct Source {
  TokenizedText text;
  double weight = 1;  // of the tokens of all sources
};

struct StreamRules {
  std::int64_t rows = 2048;            // tokens of a batch
  int context = 256;                   // longest piece
  std::optional<int> end_of_text = 0;  // follows every document, where there is one
  // The share of documents that also begin with end-of-text, drawn anew for each epoch: models are
  // used both with and without it. Not used without an end-of-text.
  double begun = 0.5;
  random::Key key;
};

// The reading position of a source.
struct SourcePosition {
  std::int64_t epoch = 0;
  std::int64_t piece = 0;   // into the order of the epoch
  std::int64_t offset = 0;  // rows of that piece that have been served
  std::int64_t served = 0;  // rows in all, over all epochs
  friend bool operator==(const SourcePosition&, const SourcePosition&) = default;
};

class BatchStream {
 public:
  // Throws FileError when there is no source or one has nothing to predict, Error (usage) for a
  // weight that is not a positive number and for rules without rows or context.
  BatchStream(std::vector<Source> sources, const StreamRules& rules);

  TrainingBatch next();
  std::int64_t tokens() const;  // of all sources, once through

  // All of the state: a stream at the same positions gives the same batches.
  std::vector<SourcePosition> positions() const;
  // Throws CheckpointError when these are not positions of these sources; the stream stays where it
  // is then.
  void seek(const std::vector<SourcePosition>& positions);

 private:
  // Rows [begin, end) of a document with its end-of-text: row `end` is only predicted.
  struct Piece {
    std::int64_t document;
    std::int64_t begin, end;
    bool begun;  // the document has end-of-text in front, as row 0
  };
  struct Reader {
    Source source;
    SourcePosition at;
    std::vector<Piece> order;  // of the epoch `at` is in
  };
  std::vector<Piece> order_of(std::size_t source, std::int64_t epoch) const;
  bool served_fits(const Reader& r, const std::vector<Piece>& order, const SourcePosition& p) const;
  void start_epoch(std::size_t source, std::int64_t epoch);
  std::size_t furthest_behind() const;

  StreamRules rules_;
  std::vector<Reader> readers_;
};

}  // namespace vitrine::nn

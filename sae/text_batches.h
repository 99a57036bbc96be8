// Text batches for SAE training: cuts texts into pieces, shuffles them, and packs them into
// batches.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sae/activations.h"

namespace vitrine::sae {

struct TextBatch {
  std::vector<nn::Tokens> prompts;
  std::vector<std::size_t> pieces;  // which each of them is
  std::vector<bool> counts;         // of all rows: not the token before a piece, not excluded
  std::int64_t counted() const;
  Tensor counts_as_tensor() const;  // boolean [rows, 1]
};

// The origin of a piece.
struct TextPiece {
  std::int64_t begin = 0, end = 0;  // into the tokens of all files
  int file = 0;
  std::int64_t line = 0;   // of the file, from 1
  std::int64_t first = 0;  // the position of its first token in the line
};

class TextBatches {
 public:
  // Throws what text_source throws but for sites.
  TextBatches(const nn::Model& model, const TextSourceSpec& spec);

  // At least one row that counts. `place` moves on, into the next epoch at the end.
  TextBatch next(SourcePlace& place);
  // As many pieces as have `rows` rows that count; of the last one, the part that is needed.
  TextBatch next(SourcePlace& place, std::int64_t rows);
  std::int64_t pieces() const { return static_cast<std::int64_t>(pieces_.size()); }
  std::int64_t rows() const { return rows_; }  // that count, in an epoch
  const TextPiece& piece(std::size_t i) const { return pieces_[i]; }
  std::string name_of(std::size_t piece) const;  // "file, line 3"
  std::string fingerprint() const;

 private:
  bool is_excluded(int id) const;
  // A piece and what stands before it, and which of its rows count.
  struct Piece {
    nn::Tokens tokens;
    std::vector<bool> counts;
  };
  Piece read(std::size_t piece) const;
  const std::vector<std::size_t>& order_of(std::int64_t epoch);

  TextSourceSpec spec_;
  std::vector<int> tokens_;
  std::vector<TextPiece> pieces_;
  std::int64_t rows_ = 0, epoch_ = -1;
  std::vector<std::size_t> order_;
};

}  // namespace vitrine::sae

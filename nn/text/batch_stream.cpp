#include "nn/text/batch_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tensor/error.h"

namespace vitrine::nn {
namespace {

// A document as the model reads it: maybe end-of-text, its tokens, end-of-text.
class Rows {
 public:
  Rows(std::span<const int> tokens, bool begun, std::optional<int> end_of_text)
      : tokens_(tokens), begun_(begun ? 1 : 0), end_of_text_(end_of_text) {}
  int operator[](std::int64_t i) const {
    const std::int64_t at = i - begun_;
    return at < 0 || at >= std::ssize(tokens_) ? end_of_text_.value()
                                               : tokens_[static_cast<std::size_t>(at)];
  }

 private:
  std::span<const int> tokens_;
  std::int64_t begun_;
  std::optional<int> end_of_text_;
};

// The tables of a batch, filled row by row.
struct Tables {
  std::vector<std::int32_t> tokens, sequence, position, next_row, next_token;
  std::int64_t sequences = 0;

  std::int64_t rows() const { return std::ssize(tokens); }
  void row(int token, std::int64_t at, int next) {
    next_row.push_back(static_cast<std::int32_t>(rows()));
    next_token.push_back(next);
    tokens.push_back(token);
    sequence.push_back(static_cast<std::int32_t>(sequences));
    position.push_back(static_cast<std::int32_t>(at));
  }
};

// Plans are compiled for a number of sequences: a few numbers do, the rest of the table is empty.
std::int64_t room_for(std::int64_t sequences, std::int64_t rows) {
  for (const std::int64_t room : {rows / 32, rows / 8}) {
    if (sequences <= room) return room;
  }
  return rows;
}

TrainingBatch batch_of(const Tables& t, int context) {
  const BatchSize size{t.rows(), room_for(t.sequences, t.rows()), context};
  std::vector<std::int32_t> keys(static_cast<std::size_t>(size.sequences * context), -1);
  for (std::int64_t r = 0; r < size.rows; ++r) {
    const auto i = static_cast<std::size_t>(r);
    keys[static_cast<std::size_t>(t.sequence[i]) * static_cast<std::size_t>(context) +
         static_cast<std::size_t>(t.position[i])] = static_cast<std::int32_t>(r);
  }
  const Shape rows{size.rows};
  return {size,
          size.rows,
          {{"tokens", Tensor::of(rows, t.tokens)},
           {"rows.sequence", Tensor::of(rows, t.sequence)},
           {"rows.position", Tensor::of(rows, t.position)},
           {"rows.keys", Tensor::of({size.sequences, size.positions}, keys)},
           {"next.row", Tensor::of(rows, t.next_row)},
           {"next.token", Tensor::of(rows, t.next_token)}}};
}

}  // namespace

TrainingBatch training_batch(const std::vector<Tokens>& prompts) {
  return {batch_size(prompts), next_tokens(prompts), batch_feeds(prompts)};
}

BatchStream::BatchStream(std::vector<Source> sources, const StreamRules& rules) : rules_(rules) {
  if (sources.empty()) throw FileError("there is no text to train on; give at least one source");
  if (rules.rows < 1 || rules.context < 1) {
    throw Error(ErrorKind::usage,
                fmt::format("a batch has at least 1 row and a context of at least 1, not {} and {}",
                            rules.rows, rules.context));
  }
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].text.tokens() == 0) {
      throw FileError(fmt::format("source {} has no text to train on", i));
    }
    if (!(sources[i].weight > 0) || !std::isfinite(sources[i].weight)) {
      throw Error(ErrorKind::usage,
                  fmt::format("source {} has the weight {}; it must be a positive number", i,
                              sources[i].weight));
    }
    readers_.push_back({std::move(sources[i]), {}, {}});
  }
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    start_epoch(i, 0);
    if (readers_[i].order.empty()) {
      throw FileError(
          fmt::format("source {} has nothing to predict: each of its documents is a single token, "
                      "and no end-of-text follows",
                      i));
    }
  }
}

std::vector<BatchStream::Piece> BatchStream::order_of(std::size_t source,
                                                      std::int64_t epoch) const {
  const TokenizedText& text = readers_[source].source.text;
  std::vector<Piece> pieces;
  const random::Key key = rules_.key.fold(source).fold(static_cast<std::uint64_t>(epoch));
  const random::Key begun = key.fold("begun"), cut = key.fold("cut"), order = key.fold("order");
  for (std::int64_t d = 0; d < text.documents(); ++d) {
    const auto draw = static_cast<std::uint64_t>(d);
    const bool ended = rules_.end_of_text.has_value();
    const bool with = ended && random::uniform(begun, draw) < rules_.begun;
    const std::int64_t rows = std::ssize(text.document(d)) + (with ? 1 : 0) - (ended ? 0 : 1);
    std::int64_t begin = 0, end = rows;
    if (rows > rules_.context) end = 1 + random::below(cut, draw, rules_.context);
    while (begin < rows) {
      pieces.push_back({d, begin, end, with});
      begin = std::exchange(end, std::min<std::int64_t>(end + rules_.context, rows));
    }
  }
  random::shuffle(order, pieces);
  return pieces;
}

void BatchStream::start_epoch(std::size_t source, std::int64_t epoch) {
  Reader& r = readers_[source];
  r.order = order_of(source, epoch);
  r.at.epoch = epoch;
  r.at.piece = r.at.offset = 0;
}

std::size_t BatchStream::furthest_behind() const {
  std::size_t least = 0;
  const auto progress = [&](std::size_t i) {
    return static_cast<double>(readers_[i].at.served) / readers_[i].source.weight;
  };
  for (std::size_t i = 1; i < readers_.size(); ++i) {
    if (progress(i) < progress(least)) least = i;
  }
  return least;
}

TrainingBatch BatchStream::next() {
  Tables t;
  while (t.rows() < rules_.rows) {
    const std::size_t source = furthest_behind();
    Reader& r = readers_[source];
    const Piece& piece = r.order[static_cast<std::size_t>(r.at.piece)];
    const std::int64_t begin = piece.begin + r.at.offset;
    const std::int64_t end = std::min(piece.end, begin + rules_.rows - t.rows());
    const Rows rows(r.source.text.document(piece.document), piece.begun, rules_.end_of_text);
    for (std::int64_t i = begin; i < end; ++i) t.row(rows[i], i - begin, rows[i + 1]);
    ++t.sequences;
    r.at.served += end - begin;
    if (end < piece.end) {
      r.at.offset = end - piece.begin;  // the rest is for a later batch
    } else if (r.at.piece + 1 < std::ssize(r.order)) {
      ++r.at.piece;
      r.at.offset = 0;
    } else {
      start_epoch(source, r.at.epoch + 1);
    }
  }
  return batch_of(t, rules_.context);
}

std::int64_t BatchStream::tokens() const {
  std::int64_t tokens = 0;
  for (const Reader& r : readers_) tokens += r.source.text.tokens();
  return tokens;
}

std::vector<SourcePosition> BatchStream::positions() const {
  std::vector<SourcePosition> all;
  for (const Reader& r : readers_) all.push_back(r.at);
  return all;
}

// Rows that a source has served where it stands at `p`. Only the number of documents of earlier
// epochs that begin with end-of-text is not known here.
bool BatchStream::served_fits(const Reader& r, const std::vector<Piece>& order,
                              const SourcePosition& p) const {
  std::int64_t in_epoch = p.offset;
  for (std::int64_t i = 0; i < p.piece; ++i)
    in_epoch += order[static_cast<std::size_t>(i)].end - order[static_cast<std::size_t>(i)].begin;
  const bool ended = rules_.end_of_text.has_value();
  const auto documents = static_cast<double>(r.source.text.documents()),
             epochs = static_cast<double>(p.epoch);
  const double least = static_cast<double>(r.source.text.tokens()) - (ended ? 0 : documents);
  const auto before = static_cast<double>(p.served - in_epoch);
  return before >= epochs * least && before <= epochs * (least + (ended ? documents : 0));
}

void BatchStream::seek(const std::vector<SourcePosition>& positions) {
  if (positions.size() != readers_.size()) {
    throw CheckpointError(fmt::format("the checkpoint stands in {} sources of text, not {}",
                                      positions.size(), readers_.size()));
  }
  std::vector<std::vector<Piece>> orders;
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    const SourcePosition& p = positions[i];
    const std::vector<Piece>& order = orders.emplace_back(order_of(i, p.epoch));
    const auto rows_of = [](const Piece& piece) { return piece.end - piece.begin; };
    if (p.epoch < 0 || p.served < 0 || p.piece < 0 || p.piece >= std::ssize(order) ||
        p.offset < 0 || p.offset >= rows_of(order[static_cast<std::size_t>(p.piece)])) {
      throw CheckpointError(
          fmt::format("the checkpoint stands at row {} of piece {} of epoch {} of source {}, which "
                      "has no such place; is its text another one?",
                      p.offset, p.piece, p.epoch, i));
    }
    if (!served_fits(readers_[i], order, p)) {
      throw CheckpointError(
          fmt::format("the checkpoint says that source {} has served {} rows, which it has not at "
                      "row {} of piece {} of epoch {}",
                      i, p.served, p.offset, p.piece, p.epoch));
    }
  }
  for (std::size_t i = 0; i < readers_.size(); ++i) {
    readers_[i].order = std::move(orders[i]);
    readers_[i].at = positions[i];
  }
}

}  // namespace vitrine::nn

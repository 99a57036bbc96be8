#include "sae/text_batches.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "nn/model/fingerprint.h"
#include "nn/text/corpus_lines.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::sae {

std::int64_t TextBatch::counted() const { return std::count(counts.begin(), counts.end(), true); }

Tensor TextBatch::counts_as_tensor() const {
  Tensor t = Tensor::zeros({static_cast<std::int64_t>(counts.size()), 1}, DType::boolean);
  for (std::size_t i = 0; i < counts.size(); ++i)
    t.view().as<std::uint8_t>()[i] = counts[i] ? 1 : 0;
  return t;
}

TextBatches::TextBatches(const nn::Model& model, const TextSourceSpec& spec) : spec_(spec) {
  const int longest = model.config().context;
  if (spec_.context == 0) spec_.context = longest;
  const int least = spec_.bos ? 2 : 1;
  if (spec_.context < least || spec_.context > longest) {
    throw ContextError(fmt::format("pieces of {} tokens: choose {} to {}, this model's context",
                                   spec_.context, least, longest));
  }
  const std::int64_t room = spec_.context - (spec_.bos ? 1 : 0);
  for (std::size_t f = 0; f < spec_.files.size(); ++f) {
    nn::for_each_line(model, spec_.files[f], spec_.special, 1, [&](const nn::CorpusLine& line) {
      const auto first = static_cast<std::int64_t>(tokens_.size());
      tokens_.insert(tokens_.end(), line.tokens.begin(), line.tokens.end());
      const auto end = static_cast<std::int64_t>(tokens_.size());
      for (std::int64_t at = first; at < end; at += room)
        pieces_.push_back(
            {at, std::min(at + room, end), static_cast<int>(f), line.number, at - first});
    });
  }
  for (const int id : tokens_) rows_ += is_excluded(id) ? 0 : 1;
  if (rows_ > 0) return;
  std::vector<std::string> names;
  for (const auto& file : spec_.files) names.push_back(file.string());
  throw FileError(fmt::format("{}: there is no token {}in it to read activations of",
                              fmt::join(names, ", "), tokens_.empty() ? "" : "but excluded ones "));
}

bool TextBatches::is_excluded(int id) const {
  return std::find(spec_.excluded.begin(), spec_.excluded.end(), id) != spec_.excluded.end();
}

const std::vector<std::size_t>& TextBatches::order_of(std::int64_t epoch) {
  if (epoch == epoch_) return order_;
  order_.resize(pieces_.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  if (!spec_.in_order) {
    random::shuffle(random::Key{spec_.seed}.fold("pieces").fold(static_cast<std::uint64_t>(epoch)),
                    order_);
  }
  epoch_ = epoch;
  return order_;
}

TextBatches::Piece TextBatches::read(std::size_t piece) const {
  const TextPiece& p = pieces_[piece];
  Piece out{nn::Tokens(tokens_.begin() + p.begin, tokens_.begin() + p.end), {}};
  if (spec_.bos) out.tokens.insert(out.tokens.begin(), *spec_.bos);
  for (std::size_t t = 0; t < out.tokens.size(); ++t)
    out.counts.push_back(!(t == 0 && spec_.bos) && !is_excluded(out.tokens[t]));
  return out;
}

TextBatch TextBatches::next(SourcePlace& place, std::int64_t rows) {
  TextBatch batch;
  for (std::int64_t left = rows; left > 0;) {
    const std::vector<std::size_t>& order = order_of(place.epoch);
    const std::size_t index = order[static_cast<std::size_t>(place.item)];
    if (++place.item == static_cast<std::int64_t>(order.size())) place = {place.epoch + 1, 0};
    Piece piece = read(index);
    std::size_t kept = 0;
    for (; kept < piece.tokens.size() && left > 0; ++kept) left -= piece.counts[kept] ? 1 : 0;
    piece.tokens.resize(kept);
    batch.counts.insert(batch.counts.end(), piece.counts.begin(),
                        piece.counts.begin() + static_cast<std::ptrdiff_t>(kept));
    batch.prompts.push_back(std::move(piece.tokens));
    batch.pieces.push_back(index);
  }
  return batch;
}

TextBatch TextBatches::next(SourcePlace& place) {
  TextBatch batch;
  while (batch.counted() == 0) {
    batch = {};
    const std::vector<std::size_t>& order = order_of(place.epoch);
    const auto all = static_cast<std::int64_t>(order.size());
    std::int64_t together = 0;
    for (; place.item < all; ++place.item) {
      const std::size_t index = order[static_cast<std::size_t>(place.item)];
      Piece piece = read(index);
      const auto size = static_cast<std::int64_t>(piece.tokens.size());
      if (together > 0 && together + size > spec_.tokens_together) break;
      together += size;
      batch.counts.insert(batch.counts.end(), piece.counts.begin(), piece.counts.end());
      batch.prompts.push_back(std::move(piece.tokens));
      batch.pieces.push_back(index);
    }
    if (place.item == all) place = {place.epoch + 1, 0};
  }
  return batch;
}

std::string TextBatches::name_of(std::size_t piece) const {
  const TextPiece& p = pieces_[piece];
  return fmt::format("{}, line {}", spec_.files[static_cast<std::size_t>(p.file)].string(), p.line);
}

std::string TextBatches::fingerprint() const {
  nn::Hash hash;
  hash.add(std::as_bytes(std::span(tokens_)));
  for (const TextPiece& p : pieces_) hash.add(static_cast<std::uint64_t>(p.begin));
  hash.add(fmt::format("{} {} {} {} {} {}", spec_.context, spec_.bos.value_or(-1),
                       fmt::join(spec_.excluded, ","), spec_.tokens_together, spec_.seed,
                       spec_.in_order));
  return hash.text();
}

}  // namespace vitrine::sae

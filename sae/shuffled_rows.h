// A shuffle buffer (SAELens: mixing buffer): draws batches of rows from a source in random order.
//
// The buffer is filled with consecutive rows of the source, these are given in an order of their
// own, each once, then it is filled again. Within a buffer the order is one of all orders, equally
// probable; how well a whole source is mixed depends on the buffer's size and on the source's own
// order.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "sae/activations.h"

namespace vitrine::sae {

struct BufferSpec {
  std::int64_t rows = 1 << 17;
  DType dtype = DType::f32;    // f32, f16 or bf16: how rows are held
  std::filesystem::path file;  // "": in memory; else a mapped file, removed at the end
  std::uint64_t seed = 0;
};

// All of the state: the same source and spec at the same place give the same batches.
struct BufferPlace {
  SourcePlace source;     // the read in which the buffer's rows begin ...
  std::int64_t skip = 0;  // ... and how many of its rows belong to the fill before
  std::int64_t fill = 0;  // how often the buffer has been filled before
  std::int64_t row = 0;   // of this fill, rows that have been given
  friend bool operator==(const BufferPlace&, const BufferPlace&) = default;
};

class ShuffledRows {
 public:
  // Throws Error (usage) for a spec out of range, SaveError when the file cannot be made.
  ShuffledRows(ActivationSource& source, const BufferSpec& spec);
  ~ShuffledRows();
  ShuffledRows(const ShuffledRows&) = delete;
  ShuffledRows& operator=(const ShuffledRows&) = delete;

  // f32 [rows, width] for each column of the source. At the end of a buffer a batch goes on in the
  // next. What the source throws passes through.
  std::vector<Tensor> next(std::int64_t rows);
  // The first rows of the buffer that is being given, unshuffled: a sample to begin weights from.
  std::vector<Tensor> sample(std::int64_t rows);

  const BufferPlace& place() const { return place_; }
  // Throws CheckpointError for a place that the source or the buffer does not have.
  void seek(const BufferPlace& place);

 private:
  void fill();
  ActivationSource& source_;
  BufferSpec spec_;
  struct Memory;
  std::unique_ptr<Memory> memory_;
  std::vector<Tensor> columns_;  // [rows, width] of spec.dtype
  BufferPlace place_;
  BufferPlace next_;  // where the next fill begins
  bool filled_ = false;
  std::vector<std::int64_t> order_;
};

}  // namespace vitrine::sae

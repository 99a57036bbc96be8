// Checkpoints of collect_contexts: a pass over a long text can be stopped at any time, even by
// kill -9, and resumes where it was.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "interp/contexts.h"
#include "nn/model/model.h"

namespace vitrine::interp {

// The position in a corpus up to which it has been read: tokens before `position` of line `line`,
// and all earlier lines.
struct CorpusPlace {
  std::int64_t line = 0, position = 0;
};

// A safetensors file. [n, k] being neurons and contexts: activation f32 [n, k], position i32,
// line i64 and predicted i32 [n, k]; count i32 [n], how many of these k are in use; sum f64 [n] and
// positive i64 [n]. The metadata have the place, the counts of lines and tokens, and what it is of:
// hashes of the model (its configuration, weights, gauge and vocabulary) and of the text, and the
// settings that the outcome depends on.
class ContextsCheckpoint {
 public:
  // Without spec.checkpoint nothing is read, hashed or saved.
  ContextsCheckpoint(const nn::Model& model, const std::filesystem::path& file,
                     const ContextsSpec& spec);

  // If the file is there: fills in both. Throws FileError for a file that is none of this kind, and
  // for one of another model, text or setting, saying which.
  void load(Contexts& found, CorpusPlace& place) const;
  // All or nothing. Throws SaveError.
  void save(const Contexts& found, const CorpusPlace& place);
  void save_if_due(const Contexts& found, const CorpusPlace& place);

 private:
  using Clock = std::chrono::steady_clock;
  const std::filesystem::path file_;
  const double save_every_;
  const int vocabulary_;
  std::map<std::string, std::string> of_;  // what it is of
  Clock::time_point saved_ = Clock::now();
};

}  // namespace vitrine::interp

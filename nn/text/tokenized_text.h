// Training text as token ids: written once, then mapped from files.
//
//   TokenizedWriter out(folder, "prose");              // prose-00000.safetensors, ...
//   out.add(tokenizer.encode(text));                   // a document
//   out.finish();
//   const TokenizedText prose = TokenizedText::open(folder, "prose");
//   prose.document(0);                                 // the ids of a document, not copied
//
// A shard is a safetensors file with `tokens` i32 [n], the documents one after the other, and
// `ends` i64 [documents], where each of them ends.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace vitrine::nn {

class TokenizedWriter {
 public:
  // A shard is written whenever `shard_tokens` have come together; a document is never cut.
  TokenizedWriter(std::filesystem::path folder, std::string name,
                  std::int64_t shard_tokens = std::int64_t{1} << 24);
  // Empty documents are left out. Throws SaveError when a shard cannot be written.
  void add(std::span<const int> document);
  // Writes what is left; needed for an empty text, too. Shards that are left of an earlier text of
  // this name are removed. Throws SaveError.
  void finish();

  std::int64_t documents() const { return documents_; }
  std::int64_t tokens() const { return tokens_; }

 private:
  void write_shard();

  std::filesystem::path folder_;
  std::string name_;
  std::int64_t shard_tokens_, documents_ = 0, tokens_ = 0;
  int shards_ = 0;
  std::vector<std::int32_t> pending_;
  std::vector<std::int64_t> ends_;
};

class TokenizedText {
 public:
  // Maps all shards of `name`. Throws FileError when there is none or one is not such a file.
  static TokenizedText open(const std::filesystem::path& folder, std::string_view name);

  std::int64_t documents() const { return first_.back(); }
  std::int64_t tokens() const { return tokens_; }
  std::span<const int> document(std::int64_t i) const;  // 0 <= i < documents()

 private:
  struct Shard {
    Tensor tokens, ends;
  };
  std::vector<Shard> shards_;
  std::vector<std::int64_t> first_ = {0};  // the number of each shard's first document; and of all
  std::int64_t tokens_ = 0;
};

}  // namespace vitrine::nn

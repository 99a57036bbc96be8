#include "nn/text/tokenized_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "tensor/error.h"
#include "tensor/files/safetensors.h"

namespace vitrine::nn {
namespace {

std::filesystem::path shard_file(const std::filesystem::path& folder, std::string_view name,
                                 int i) {
  return folder / fmt::format("{}-{:05}.safetensors", name, i);
}

Tensor expect_list(const SafeTensors& file, std::string_view name, DType dtype) {
  Tensor list = file.at(name);
  if (list.rank() != 1 || list.dtype() != dtype) {
    throw FileError(fmt::format(
        "{}: '{}' must be a list of {}, not {}{}; was it written by "
        "another program?",
        file.file(), name, name_of(dtype), name_of(list.dtype()), to_string(list.shape())));
  }
  return list;
}

void check_ends(const SafeTensors& file, const Tensor& tokens, const Tensor& ends) {
  std::int64_t before = 0;
  for (std::int64_t i = 0; i < ends.numel(); ++i) {
    const std::int64_t end = ends.data<std::int64_t>()[i];
    if (end <= before || end > tokens.numel()) {
      throw FileError(
          fmt::format("{}: document {} ends at token {}, after one that ends at {} of {}",
                      file.file(), i, end, before, tokens.numel()));
    }
    before = end;
  }
  if (before != tokens.numel()) {
    throw FileError(fmt::format("{}: its documents end at token {} of {}", file.file(), before,
                                tokens.numel()));
  }
}

}  // namespace

TokenizedWriter::TokenizedWriter(std::filesystem::path folder, std::string name,
                                 std::int64_t shard_tokens)
    : folder_(std::move(folder)), name_(std::move(name)), shard_tokens_(shard_tokens) {}

void TokenizedWriter::add(std::span<const int> document) {
  if (document.empty()) return;
  pending_.insert(pending_.end(), document.begin(), document.end());
  ends_.push_back(static_cast<std::int64_t>(pending_.size()));
  ++documents_;
  tokens_ += static_cast<std::int64_t>(document.size());
  if (ends_.back() >= shard_tokens_) write_shard();
}

void TokenizedWriter::finish() {
  if (!ends_.empty() || shards_ == 0) write_shard();
  std::error_code error;
  for (int i = shards_; std::filesystem::remove(shard_file(folder_, name_, i), error); ++i) {
  }
  if (error) {
    throw SaveError(fmt::format("{}: it is of an earlier text and cannot be removed: {}",
                                shard_file(folder_, name_, shards_).string(), error.message()));
  }
}

void TokenizedWriter::write_shard() {
  const auto n = static_cast<std::int64_t>(pending_.size()),
             documents = static_cast<std::int64_t>(ends_.size());
  save_safetensors(
      shard_file(folder_, name_, shards_++),
      {{"tokens", Tensor::of({n}, pending_)}, {"ends", Tensor::of({documents}, ends_)}});
  pending_.clear();
  ends_.clear();
}

TokenizedText TokenizedText::open(const std::filesystem::path& folder, std::string_view name) {
  TokenizedText text;
  for (int i = 0; i == 0 || std::filesystem::exists(shard_file(folder, name, i)); ++i) {
    const SafeTensors file = SafeTensors::open(shard_file(folder, name, i));
    Shard shard{expect_list(file, "tokens", DType::i32), expect_list(file, "ends", DType::i64)};
    check_ends(file, shard.tokens, shard.ends);
    text.first_.push_back(text.first_.back() + shard.ends.numel());
    text.tokens_ += shard.tokens.numel();
    text.shards_.push_back(std::move(shard));
  }
  return text;
}

std::span<const int> TokenizedText::document(std::int64_t i) const {
  const auto after = std::upper_bound(first_.begin(), first_.end(), i);
  const auto s = static_cast<std::size_t>(after - first_.begin()) - 1;
  const std::int64_t at = i - first_[s];
  const std::int64_t* ends = shards_[s].ends.data<std::int64_t>();
  const std::int64_t begin = at == 0 ? 0 : ends[at - 1];
  return {shards_[s].tokens.data<std::int32_t>() + begin,
          static_cast<std::size_t>(ends[at] - begin)};
}

}  // namespace vitrine::nn

// Tests nn/text/tokenized_text.h: documents come back from files as they were, or not at all.
#include "nn/text/tokenized_text.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/nn/training/small_training.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using ::testing::UnorderedElementsAre;

std::vector<int> numbers(int length, int first) {
  std::vector<int> all(static_cast<std::size_t>(length));
  std::iota(all.begin(), all.end(), first);
  return all;
}

TEST(TokenizedText, ComesBackFromSeveralShards) {
  const test::TemporaryFolder folder;
  std::vector<std::vector<int>> documents;
  TokenizedWriter out(folder.path(), "prose", 10);
  for (const int length :
       {1, 3, 7, 25, 9, 1, 1, 2, 4}) {  // shards end after 7, 25, 1, and the last
    documents.push_back(numbers(length, 1000 * length));
    out.add(documents.back());
    out.add({});
  }
  out.finish();
  EXPECT_EQ(out.documents(), 9);
  EXPECT_EQ(out.tokens(), 53);
  EXPECT_THAT(folder.names(),
              UnorderedElementsAre("prose-00000.safetensors", "prose-00001.safetensors",
                                   "prose-00002.safetensors", "prose-00003.safetensors"));
  const TokenizedText text = TokenizedText::open(folder.path(), "prose");
  EXPECT_EQ(text.tokens(), 53);
  ASSERT_EQ(text.documents(), 9);
  for (std::int64_t i = 0; i < 9; ++i)
    EXPECT_EQ(document(text, i), documents[static_cast<std::size_t>(i)]) << i;
}

TEST(TokenizedText, MayBeEmpty) {
  const TokenizedText text = text_of({});
  EXPECT_EQ(text.documents(), 0);
  EXPECT_EQ(text.tokens(), 0);
}

TEST(TokenizedText, ReplacesALongerOne) {
  const test::TemporaryFolder folder;
  const auto write = [&](const std::string& name, int documents) {
    TokenizedWriter out(folder.path(), name, 1);
    for (int i = 0; i < documents; ++i) out.add(std::vector<int>{i});
    out.finish();
  };
  write("a", 5);
  write("ab", 5);
  write("a", 2);
  EXPECT_EQ(TokenizedText::open(folder.path(), "a").documents(), 2);
  EXPECT_EQ(TokenizedText::open(folder.path(), "ab").documents(), 5);
}

TEST(TokenizedText, CannotBeWrittenWithoutAFolder) {
  const test::TemporaryFolder folder;
  TokenizedWriter out(folder / "nowhere", "a", 2);
  out.add(std::vector<int>{1});
  EXPECT_ERROR(SaveError, "nowhere", out.add(std::vector<int>{1}));
}

TEST(TokenizedText, RefusesBrokenFiles) {
  const test::TemporaryFolder folder;
  const auto file = folder / "a-00000.safetensors";
  const auto open = [&] { return TokenizedText::open(folder.path(), "a"); };
  EXPECT_ERROR(FileError, "a-00000.safetensors", open());

  const Tensor tokens = Tensor::of<std::int32_t>({3}, {5, 6, 7});
  const auto with_ends = [&](const std::vector<std::int64_t>& ends) {
    save_safetensors(file, {{"tokens", tokens}, {"ends", Tensor::of({std::ssize(ends)}, ends)}});
  };
  with_ends({1, 3});
  EXPECT_EQ(document(open(), 1), (std::vector<int>{6, 7}));
  with_ends({2, 2, 3});
  EXPECT_ERROR(FileError, "document 1 ends at token 2, after one that ends at 2 of 3", open());
  with_ends({0, 3});
  EXPECT_ERROR(FileError, "document 0 ends at token 0", open());
  with_ends({2, 4});
  EXPECT_ERROR(FileError, "document 1 ends at token 4, after one that ends at 2 of 3", open());
  with_ends({-1, 3});
  EXPECT_ERROR(FileError, "document 0 ends at token -1", open());
  with_ends({2});
  EXPECT_ERROR(FileError, "its documents end at token 2 of 3", open());

  const Tensor ends = Tensor::of<std::int64_t>({1}, {3});
  save_safetensors(file, {{"tokens", tokens.to(DType::i64)}, {"ends", ends}});
  EXPECT_ERROR(FileError, "'tokens' must be a list of i32, not i64[3]", open());
  save_safetensors(file, {{"tokens", tokens}, {"ends", ends.to(DType::i32)}});
  EXPECT_ERROR(FileError, "'ends' must be a list of i64, not i32[1]", open());
  save_safetensors(file, {{"tokens", tokens.reshape({1, 3})}, {"ends", ends}});
  EXPECT_ERROR(FileError, "not i32[1, 3]", open());
  save_safetensors(file, {{"tokens", tokens}});
  EXPECT_ERROR(FileError, "ends", open());

  with_ends({1, 3});
  std::string bytes = read_text(file);
  bytes.pop_back();
  write_text(file, bytes);
  EXPECT_ERROR(FileError, "a-00000.safetensors", open());
}

// Only the second shard is broken.
TEST(TokenizedText, ChecksEveryShard) {
  const test::TemporaryFolder folder;
  TokenizedWriter out(folder.path(), "a", 1);
  out.add(std::vector<int>{1, 2});
  out.add(std::vector<int>{3});
  out.finish();
  write_text(folder / "a-00001.safetensors", "no");
  EXPECT_ERROR(FileError, "a-00001.safetensors", TokenizedText::open(folder.path(), "a"));
}

}  // namespace
}  // namespace vitrine::nn

// Tests nn/text/text_loss.h against loops over whole runs.
#include "nn/text/text_loss.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numbers>

#include "nn/families/sites.h"
#include "tests/nn/training/small_training.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

constexpr int kMerges = 15, kVocabulary = 257 + kMerges;

Model small_model(bool with_tokenizer = true, DType dtype = DType::f32) {
  const Config c = small_config(kVocabulary);
  std::optional<Tokenizer> tokenizer;
  if (with_tokenizer) tokenizer = small_tokenizer(kMerges);
  return Model(c, lively_weights(c, 5, dtype), std::move(tokenizer),
               {.dtype = dtype, .threads = 1});
}

std::vector<Tokens> documents() {
  std::vector<Tokens> all;
  std::uint64_t draw = 0;
  for (const int length : {0, 1, 2, 3, 15, 16, 17, 31, 50}) {
    auto& tokens = all.emplace_back();
    for (int i = 0; i < length; ++i)
      tokens.push_back(static_cast<int>(random::below(random::Key{1}, draw++, kVocabulary)));
  }
  return all;
}

// -log p(next) after the last of `tokens`, from the logits [1, position, vocabulary] of a run.
double loss_after(const std::vector<double>& logits, std::size_t position, int next) {
  const double* z = logits.data() + position * kVocabulary;
  double total = 0;
  for (int v = 0; v < kVocabulary; ++v) total += std::exp(z[v]);
  return std::log(total) - z[next];
}

// Each token by itself: it is predicted in the first window that holds it and one before it.
TextLoss naive(const Model& model, const WindowOptions& options) {
  TextLoss loss;
  const int window = options.window == 0 ? 16 : options.window;
  const int overlap = options.overlap < 0 ? window / 2 : options.overlap;
  const int stride = window - std::max(overlap, 1);
  for (const Tokens& d : documents()) {
    ++loss.documents;
    const int n = static_cast<int>(d.size());
    for (int i = 1; i < n; ++i) {
      int begin = 0;
      while (i >= begin + window) begin += stride;
      EXPECT_GE(i - begin, std::min(i, std::max(overlap, 1))) << "what it is predicted from";
      const Tokens before(d.begin() + begin, d.begin() + i);
      loss.nats += loss_after(model.run(before).logits().to_vector<double>(), before.size() - 1,
                              d[static_cast<std::size_t>(i)]);
      ++loss.tokens;
      loss.bytes +=
          std::ssize(small_tokenizer(kMerges).decode({&d[static_cast<std::size_t>(i)], 1}));
    }
  }
  return loss;
}

TextLoss measured(const Model& model, const WindowOptions& options) {
  TextLossMeter meter(model, options);
  for (const Tokens& d : documents()) meter.add(d);
  return meter.finish();
}

TEST(TextLoss, IsThatOfALoopOverTokens) {
  const Model model = small_model();
  for (const auto& [window, overlap] :
       {std::pair{0, -1}, {16, 0}, {16, 15}, {16, 5}, {7, -1}, {7, 6}, {2, 1}, {2, 0}, {3, -1}}) {
    const WindowOptions options{window, overlap};
    const TextLoss want = naive(model, options);
    EXPECT_EQ(want.tokens, 1 + 2 + 14 + 15 + 16 + 30 + 49);
    for (const std::int64_t rows : {1, 40, 2048}) {
      const TextLoss got = measured(model, {window, overlap, rows});
      EXPECT_NEAR(got.nats, want.nats, 1e-6 * want.nats) << window << " " << overlap << " " << rows;
      EXPECT_EQ(got.tokens, want.tokens);
      EXPECT_EQ(got.bytes, want.bytes);
      EXPECT_EQ(got.documents, 9);
    }
  }
}

TEST(TextLoss, GivesMeans) {
  const TextLoss loss{6 * std::numbers::ln2, 3, 12, 1};
  EXPECT_DOUBLE_EQ(loss.per_token(), 2 * std::numbers::ln2);
  EXPECT_DOUBLE_EQ(loss.bits_per_byte(), 0.5);
}

TEST(TextLoss, CountsNoBytesWithoutATokenizer) {
  const TextLoss with = measured(small_model(), {}), without = measured(small_model(false), {});
  EXPECT_EQ(without.bytes, 0);
  EXPECT_EQ(without.nats, with.nats);
}

TEST(TextLoss, OfNothing) {
  const Model model = small_model();
  TextLossMeter meter(model);
  meter.add({});
  meter.add(Tokens{3});
  const TextLoss loss = meter.finish();
  EXPECT_EQ(loss.tokens, 0);
  EXPECT_EQ(loss.documents, 2);
  EXPECT_EQ(loss.nats, 0);
}

TEST(TextLoss, RefusesWhatCannotBe) {
  const Model model = small_model();
  for (const int window : {1, 17, -1})
    EXPECT_ERROR(Error, "a window has 2 to 16 tokens", TextLossMeter(model, {window}));
  EXPECT_ERROR(Error, "windows of 5 tokens cannot share 5", TextLossMeter(model, {5, 5}));
  TextLossMeter meter(model);
  meter.add(Tokens{1, 2});
  for (const Tokens& wrong : {Tokens{1, kVocabulary, 2}, Tokens{-1}})
    EXPECT_ERROR(TokenError, "this model knows ids 0 to 271", meter.add(wrong));
  EXPECT_ERROR(TokenError, "document 1 has token id -1", meter.add(Tokens{-1}));
  const TextLoss loss = meter.finish();  // as if the wrong ones had never been there
  EXPECT_EQ(loss.tokens, 1);
  EXPECT_EQ(loss.documents, 1);
}

// ---- induction ----------------------------------------------------------------------------------
TEST(TextLoss, InductionIsThatOfSeparateRuns) {
  constexpr int kSequences = 3, kHalf = 6;
  const random::Key key{9};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Model model = small_model(true, dtype);
    double first = 0, second = 0;
    double scores[2][2] = {};
    std::uint64_t draw = 0;
    for (int s = 0; s < kSequences; ++s) {
      Tokens tokens(2 * kHalf);
      for (std::size_t i = 0; i < kHalf; ++i)
        tokens[i] = tokens[i + kHalf] = static_cast<int>(random::below(key, draw++, kVocabulary));
      const nn::Run run = model.run(tokens, value("logits"), site::pattern(0), site::pattern(1));
      const auto logits = run.logits().to_vector<double>();
      for (std::size_t i = 1; i < kHalf; ++i) {
        first += loss_after(logits, i - 1, tokens[i]) / (kSequences * (kHalf - 1));
        second += loss_after(logits, kHalf + i - 1, tokens[i]) / (kSequences * (kHalf - 1));
      }
      for (int layer = 0; layer < 2; ++layer) {
        const Tensor pattern = run[site::pattern(layer)].to(DType::f64);
        for (int head = 0; head < 2; ++head) {
          // From the second time a token is said to what followed it the first time.
          for (int i = 0; i < kHalf; ++i)
            scores[layer][head] +=
                pattern.at<double>({0, head, kHalf + i, i + 1}) / (kSequences * kHalf);
        }
      }
    }
    const Induction got = induction(model, key, kSequences, kHalf);
    EXPECT_NEAR(got.first, first, 1e-5);
    EXPECT_NEAR(got.second, second, 1e-5);
    EXPECT_NEAR(got.score, scores[got.layer][got.head], 1e-6);
    EXPECT_GT(got.score, 0);
    for (const auto& layer : scores) {
      for (const double score : layer) EXPECT_LE(score, got.score + 1e-6);
    }
  }
}

TEST(TextLoss, InductionRefusesWhatCannotBe) {
  const Model model = small_model();
  EXPECT_ERROR(ContextError, "context is 16", induction(model, {}, 2, 9));
  EXPECT_ERROR(Error, "induction needs", induction(model, {}, 0, 4));
  EXPECT_ERROR(Error, "induction needs", induction(model, {}, 2, 1));
  EXPECT_ERROR(Error, "induction needs", induction(model, {}, 2, -5));
}

}  // namespace
}  // namespace vitrine::nn

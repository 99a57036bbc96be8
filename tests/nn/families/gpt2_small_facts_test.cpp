// Published numbers about the real gpt2 (124M), for machines that have it: set VITRINE_GPT2 to its
// folder, or have it in HuggingFace's cache. Sources: TransformerLens's tests and demos.
// <|endoftext|> is prepended unless a row says otherwise.
#include <cmath>

#include "nn/model/find_model.h"
#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::nn {
namespace {

constexpr double kTolerance = 5e-3;

class Gpt2Small : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    try {
      find_model("gpt2");
    } catch (const FileError& e) {
      reason = e.what();
    }
    if (!reason.empty()) GTEST_SKIP() << reason;
    if (!model_) model_ = std::make_unique<Model>(load_gpt2("gpt2"));
  }
  static void TearDownTestSuite() { model_.reset(); }
  static const Model& model() { return *model_; }

  static Tokens tokens(const std::string& text, bool bos = true) {
    Tokens t = model().tokens(text);
    if (bos) t.insert(t.begin(), model().tokenizer().end_of_text().value());
    return t;
  }
  static std::vector<float> last_logits(const Tokens& prompt) {
    const Tensor logits = model().run(prompt).logits().select(0, 0);
    return logits.select(0, logits.dim(0) - 1).to_vector<float>();
  }
  static double difference(const std::string& text, const char* a, const char* b, bool bos = true) {
    const auto logits = last_logits(tokens(text, bos));
    return logits[static_cast<std::size_t>(model().token(a))] -
           logits[static_cast<std::size_t>(model().token(b))];
  }

 private:
  static std::unique_ptr<Model> model_;
};
std::unique_ptr<Model> Gpt2Small::model_;

TEST_F(Gpt2Small, Parameters) { EXPECT_EQ(model().config().parameter_count(), 124'439'808); }

TEST_F(Gpt2Small, TokenIds) {
  const std::pair<const char*, int> ids[] = {{" Mary", 5335},   {" John", 1757}, {" Tom", 4186},
                                             {" James", 3700},  {" Dan", 6035},  {" Sid", 15686},
                                             {" Martin", 5780}, {" Amy", 14235}};
  for (const auto& [text, id] : ids) EXPECT_EQ(model().token(text), id) << text;
}

TEST_F(Gpt2Small, LossOfHelloWorld) {
  EXPECT_NEAR(loss(model(), {tokens("Hello world!")}).mean, 5.3319, kTolerance);
}

TEST_F(Gpt2Small, TopTokensAfterTheGift) {
  const auto top = top_tokens(
      last_logits(tokens("After John and Mary went to the store, John gave a bottle of milk to")),
      5);
  const struct {
    const char* token;
    double logit, percent;
  } want[] = {{" Mary", 18.09, 70.07},
              {" the", 15.38, 4.67},
              {" John", 15.35, 4.53},
              {" them", 15.25, 4.11},
              {" his", 14.84, 2.73}};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(model().tokenizer().token_bytes(top[i].id), want[i].token);
    EXPECT_NEAR(top[i].logit, want[i].logit, kTolerance + 0.005);  // published with two digits
    EXPECT_NEAR(100 * top[i].probability, want[i].percent, 0.05);
  }
}

TEST_F(Gpt2Small, LogitDifferences) {
  EXPECT_NEAR(difference("After John and Mary went to the store, Mary gave a bottle of milk to",
                         " John", " Mary"),
              4.276, kTolerance);
  EXPECT_NEAR(difference("After John and Mary went to the store, John gave a bottle of milk to",
                         " John", " Mary"),
              -2.738, kTolerance);
  const char* claire = "Claire and Mary went to the shops, then Mary gave a bottle of milk to";
  EXPECT_NEAR(difference(claire, " Claire", " Mary"), 6.754, kTolerance);
  EXPECT_NEAR(difference(claire, " Claire", " Mary", false), 2.782, kTolerance);
}

TEST_F(Gpt2Small, TheCatSatOnTheMat) {
  const auto logits = last_logits(tokens("The cat sat on the mat."));
  double total = 0;
  for (const float x : logits) total += std::exp(static_cast<double>(x));
  EXPECT_NEAR(std::exp(logits[static_cast<std::size_t>(model().token(" The"))]) / total, 0.1198,
              5e-4);
}

// The eight prompts of TransformerLens's Exploratory Analysis demo, in its order: who did not give
// is the answer.
TEST_F(Gpt2Small, IndirectObjects) {
  const char* names[][2] = {
      {" Mary", " John"}, {" Tom", " James"}, {" Dan", " Sid"}, {" Martin", " Amy"}};
  const char* templates[] = {"When John and Mary went to the shops,{} gave the bag to",
                             "When Tom and James went to the park,{} gave the ball to",
                             "When Dan and Sid went to the shops,{} gave an apple to",
                             "After Martin and Amy went to the park,{} gave a drink to"};
  const double want[] = {3.3368, 3.2018, 2.7098, 3.7976, 1.7206, 5.2815, 2.6010, 5.7676};
  double total = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    const auto& pair = names[i / 2];
    const char *giver = pair[i % 2 == 0 ? 1 : 0], *receiver = pair[i % 2 == 0 ? 0 : 1];
    const double d =
        difference(fmt::format(fmt::runtime(templates[i / 2]), giver), receiver, giver);
    EXPECT_NEAR(d, want[i], kTolerance) << i;
    total += d / 8;
  }
  EXPECT_NEAR(total, 3.5521, kTolerance);
}

}  // namespace
}  // namespace vitrine::nn

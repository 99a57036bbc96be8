// Published numbers about the real gpt2 (124M) that interp computes, for machines that have it: set
// VITRINE_GPT2 to its folder, or have it in HuggingFace's cache.
#include <gmock/gmock.h>

#include "interp/neurons.h"
#include "nn/find_model.h"
#include "tensor/error.h"
#include "tests/support.h"

namespace vitrine::interp {
namespace {

constexpr double kTolerance = 5e-3;

// In the processed gauge, <|endoftext|> prepended: the neuron with the largest direct effect on the
// logit of each of three tokens.
TEST(Gpt2SmallNeurons, StrongestOnTheIndirectObject) {
  try {
    nn::find_model("gpt2");
  } catch (const FileError& e) {
    GTEST_SKIP() << e.what();
  }
  const nn::Model model = nn::load_gpt2("gpt2", {.gauge = nn::Gauge::processed()});
  nn::Tokens prompt = model.tokens("When John and Mary went to the shops, John gave the bag to");
  prompt.insert(prompt.begin(), model.tokenizer().end_of_text().value());
  const struct {
    const char* answer;
    NeuronId id;
    double effect;
  } want[] = {
      {" Mary", {11, 611}, 0.319}, {" John", {11, 621}, -0.436}, {" the", {10, 2214}, 0.437}};
  for (const auto& w : want) {
    SCOPED_TRACE(w.answer);
    const StrongNeurons s =
        strong_neurons(model, prompt, {.answer = model.token(w.answer), .neurons = 1});
    EXPECT_EQ(s.neurons[0].id.layer, w.id.layer);
    EXPECT_EQ(s.neurons[0].id.index, w.id.index);
    EXPECT_NEAR(s.neurons[0].effect.value(), w.effect, kTolerance);
  }
}

}  // namespace
}  // namespace vitrine::interp

// Directions against the activations they are made from, and what they do to a text.
#include "interp/steering.h"

#include <gmock/gmock.h>

#include <cmath>

#include "nn/families/sites.h"
#include "nn/model/sampling.h"
#include "tensor/files/npy.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::interp {
namespace {

using test::TemporaryFolder;

const nn::Model& tiny() {  // d 48, 4 heads, 97 ids, no tokenizer
  static const nn::Model model = nn::load_gpt2((test::data() / "tiny-gpt2").string());
  return model;
}
const nn::Model& trained() {
  static const nn::Model model = nn::load_gpt2();
  return model;
}
const nn::Tokens kPlus = {3, 14, 15, 92, 65}, kMinus = {35, 89, 79};

TEST(Direction, IsTheDifferenceOfTwoActivations) {
  const Site at = site::resid_post(1);
  const Tensor plus = tiny().run(nn::Prompt(kPlus), at)[at],
               minus = tiny().run(nn::Prompt(kMinus), at)[at];
  const Tensor last = direction(tiny(), at, kPlus, kMinus),
               mean = direction(tiny(), at, kPlus, kMinus, Positions::mean);
  EXPECT_EQ(to_string(last.shape()), "[48]");
  EXPECT_EQ(last.dtype(), DType::f32);
  for (std::int64_t i = 0; i < 48; ++i) {
    EXPECT_FLOAT_EQ(last.at<float>({i}), plus.at<float>({0, 4, i}) - minus.at<float>({0, 2, i}));
    double a = 0, b = 0;
    for (std::int64_t p = 0; p < 5; ++p) a += plus.at<float>({0, p, i}) / 5;
    for (std::int64_t p = 0; p < 3; ++p) b += minus.at<float>({0, p, i}) / 3;
    EXPECT_NEAR(mean.at<float>({i}), a - b, 1e-5);
  }
  EXPECT_EQ(to_string(direction(tiny(), site::z(2), kPlus, kMinus).shape()), "[4, 12]");
}

TEST(Direction, OfOneTokenIsItsUnembeddingVector) {
  const Tensor d = direction_toward(tiny(), site::resid_post(2), 7);
  const Tensor& w_e = tiny().parameters().at("wte.weight");  // tied
  EXPECT_EQ(max_abs_difference(d, w_e.select(0, 7)), 0);
  // It is 48 wide, as all heads together are; one number for each neuron it is not.
  EXPECT_EQ(to_string(direction_toward(tiny(), site::z(0), 7).shape()), "[4, 12]");
  EXPECT_ERROR(Error,
               "the unembedding vector of token 7 is [48], but a direction at "
               "blocks.0.mlp.hook_post has 192 numbers, [192]",
               direction_toward(tiny(), site::mlp_post(0), 7));
  EXPECT_ERROR(TokenError, "there is no token 97; this model knows ids 0 to 96",
               direction_toward(tiny(), site::resid_post(2), 97));
}

TEST(Direction, FromFiles) {
  const Site at = site::resid_pre(1);
  const TemporaryFolder folder;
  const Tensor d = direction(tiny(), at, kPlus, kMinus);
  const auto from = [&](const std::string& file, std::string_view name = "") {
    return direction_from(tiny(), at, folder / file, name);
  };
  save_npy(folder / "d.npy", d.to(DType::f64));
  EXPECT_EQ(max_abs_difference(from("d.npy"), d), 0);
  save_npy(folder / "row.npy", d.unsqueeze(0).unsqueeze(0));  // as a site of one token is saved
  EXPECT_EQ(max_abs_difference(from("row.npy"), d), 0);
  save_safetensors(folder / "one.safetensors", {{"d", d}});
  EXPECT_EQ(max_abs_difference(from("one.safetensors"), d), 0);
  save_safetensors(folder / "two.safetensors", {{"other", d.slice(0, 0, 24).clone()}, {"d", d}});
  EXPECT_EQ(max_abs_difference(from("two.safetensors", "d"), d), 0);

  EXPECT_ERROR(FileError,
               "holds 2 tensors; say which one is the direction: ", from("two.safetensors"));
  EXPECT_ERROR(FileError, "has no tensor 'e'", from("two.safetensors", "e"));
  EXPECT_ERROR(FileError, "which has no name; leave out 'd'", from("d.npy", "d"));
  EXPECT_ERROR(FileError, "read from a .safetensors or .npy file", from("d.txt"));
  EXPECT_ERROR(FileError, "none.npy", from("none.npy"));
  EXPECT_ERROR(Error,
               "two.safetensors, tensor other is [24], but a direction at blocks.1.hook_resid_pre "
               "has 48 numbers, [48]",
               from("two.safetensors", "other"));
  save_npy(folder / "square.npy", d.reshape({6, 8}));
  EXPECT_ERROR(Error, "square.npy is [6, 8]", from("square.npy"));
  Tensor broken = d.clone();
  broken.data<float>()[5] = NAN;
  save_npy(folder / "nan.npy", broken);
  EXPECT_ERROR(Error, "nan.npy: number 5 is nan", from("nan.npy"));
}

TEST(Direction, MistakesAreExplained) {
  EXPECT_ERROR(Error,
               "blocks.1.attn.hook_pattern has the axes [row, head, key]: it holds nothing for one "
               "token on its own",
               direction(tiny(), site::pattern(1), kPlus, kMinus));
  EXPECT_ERROR(SiteError, "blocks.7.hook_resid_post",
               direction(tiny(), site::resid_post(7), kPlus, kMinus));
  EXPECT_ERROR(ContextError, "the minus prompt is empty",
               direction(tiny(), site::resid_post(1), kPlus, nn::Tokens{}));
  EXPECT_ERROR(TokenError, "this model has no tokenizer",
               direction(tiny(), site::resid_post(1), "text", kMinus));
}

TEST(Norms, AreThoseOfEachToken) {
  const Site at = site::resid_post(2);
  const Tensor x = tiny().run(nn::Prompt(kPlus), at)[at].select(0, 0);  // [5, 48]
  std::vector<double> each;
  for (std::int64_t p = 0; p < 5; ++p) each.push_back(norm(x.select(0, p)));
  const Norms n = norms(tiny(), at, kPlus);
  EXPECT_NEAR(n.mean, (each[0] + each[1] + each[2] + each[3] + each[4]) / 5, 1e-6);
  EXPECT_EQ(n.least, *std::min_element(each.begin(), each.end()));
  EXPECT_EQ(n.most, *std::max_element(each.begin(), each.end()));
  EXPECT_EQ(n.last, each[4]);
  EXPECT_DOUBLE_EQ(norm(Tensor::of<float>({2, 2}, {1, 2, 4, 2})), 5);
}

// One state's name steered into another's: the answer goes along.
TEST(Steering, MovesTheAnswer) {
  const auto after = [](const Interventions& what) {
    const nn::Model& m = trained();
    const nn::Tokens t = nn::generate(m, m.tokens("The capital of Texas is"), 1, {}, {}, {}, what);
    return m.tokenizer().decode(t);
  };
  const Site at = site::resid_post(1);
  const Tensor d =
      direction(trained(), at, "The capital of California is", "The capital of Texas is");
  EXPECT_EQ(after({}), " Austin");
  EXPECT_EQ(after({add(at, d, 0)}), " Austin");
  EXPECT_EQ(after({add(at, d, 1)}), " Sacramento");
}

// Many vectors at once, each as a run of its own.
TEST(Steering, LogitsOfManyVectorsAreThoseOfEachAlone) {
  const nn::Model& m = trained();
  const nn::Tokens prompt = m.tokens("The capital of Texas is");
  const Site at = site::mlp_out(2);
  Tensor vectors = Tensor::zeros({4, m.config().d_model}, DType::f32);  // the first adds nothing
  for (std::int64_t i = 1; i < 4; ++i)
    for (std::int64_t k = 0; k < vectors.dim(1); ++k)
      vectors.data<float>()[i * vectors.dim(1) + k] = std::sin(static_cast<float>(i * (k + 1)));
  const Tensor all = steered_logits(m, prompt, at, vectors);
  ASSERT_EQ(all.shape(), (Shape{4, m.config().vocabulary}));
  for (std::int64_t i = 0; i < 4; ++i) {
    const Tensor alone = nn::next_logits(m, prompt, {add(at, vectors.select(0, i).clone())});
    EXPECT_LT(max_abs_difference(all.select(0, i), alone.reshape({alone.numel()})), 1e-4) << i;
  }
}

// In the last layer's stream a token's own vector raises its logit, and a little of it makes the
// token more probable. Much of it raises tokens with longer vectors of its kind still more.
TEST(Steering, TowardATokenRaisesIt) {
  const nn::Model& m = trained();
  const int token = m.token(" Paris");
  const Site at = site::resid_post(m.config().layers - 1);
  const Tensor d = direction_toward(m, at, token);
  const nn::Tokens prompt = m.tokens("The capital of Texas is");
  const double unit = norms(m, at, prompt).mean / norm(d);
  const auto after = [&](double strength) {
    const Tensor logits = nn::next_logits(m, prompt, {add(at, d, strength * unit)});
    const auto all = nn::top_tokens(
        {logits.data<float>(), static_cast<std::size_t>(logits.numel())}, m.config().vocabulary);
    return *std::find_if(all.begin(), all.end(),
                         [&](const nn::Candidate& c) { return c.id == token; });
  };
  for (const double strength : {-0.1, 0.0, 0.1, 0.2, 0.5})
    EXPECT_GT(after(strength + 0.1).logit, after(strength).logit) << strength;
  EXPECT_GT(after(0).probability, 10 * after(-0.1).probability);
  EXPECT_GT(after(0.1).probability, 10 * after(0).probability);
}

}  // namespace
}  // namespace vitrine::interp

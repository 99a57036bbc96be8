// Lesson 3. Attention is a search: one head, rebuilt by hand.
#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"
#include "nn/families/sites.h"
#include "nn/model/model.h"
#include "nn/model/weights.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

// [snippet soft]
// A dictionary with three entries, asked with a query that fits the second one best. `sharpness`
// multiplies the scores.
std::vector<double> soft_lookup(double sharpness) {
  const std::vector<double> fit = {0.1, 0.9, 0.3};  // how well each key fits the query
  std::vector<double> weight;
  double sum = 0;
  for (const double f : fit) sum += std::exp(sharpness * f);
  for (const double f : fit) weight.push_back(std::exp(sharpness * f) / sum);
  return weight;
}
// [/snippet soft]

constexpr int kLayer = 1, kHead = 2;
constexpr int kPositions = 5, kWidth = 256, kHeadWidth = 64;

// [snippet head]
// Head 1.2 of the default model, from the residual stream x [5, 256] to what it writes [5, 256].
Graph build_head() {
  Builder b;
  const auto weight = [&](const char* name, const Shape& shape) {
    return b.parameter(name, {DType::f32, shape});
  };
  const Value x = b.input("x", {DType::f32, {kPositions, kWidth}});
  const Value read = layer_norm(x, weight("ln1.w", {kWidth}), weight("ln1.b", {kWidth}), 1e-5);

  // Three questions to each token. What am I looking for? What do I offer? What do I hand over?
  const Value q = linear(read, weight("W_Q", {kWidth, kHeadWidth}), weight("b_Q", {kHeadWidth}));
  const Value k = linear(read, weight("W_K", {kWidth, kHeadWidth}), weight("b_K", {kHeadWidth}));
  const Value v = linear(read, weight("W_V", {kWidth, kHeadWidth}), weight("b_V", {kHeadWidth}));

  // Every query meets every key; those that come later are hidden; what is left adds up to 1.
  const Value scores = matmul(q, transpose(k)) / std::sqrt(kHeadWidth);  // [query, key]
  const Value visible = mask(scores, 0, 1);                              // -inf where key > query
  const Value pattern = softmax(visible);                                // [query, key]

  // The weighted mean of the values, and what that writes into the stream.
  const Value z = matmul(pattern, v);                                    // [5, 64]
  const Value written = matmul(z, weight("W_O", {kHeadWidth, kWidth}));  // [5, 256]
  b.output("scores", scores);
  b.output("pattern", pattern);
  b.output("z", z);
  b.output("written", written);
  return std::move(b).finish();
}
// [/snippet head]

// [snippet weights]
// The weights of that head: the library keeps those of all heads in one tensor, [head, ...].
Parameters weights_of_head(const nn::Model& m) {
  const std::string block = fmt::format("blocks.{}.", kLayer);
  const Parameters all = nn::weights(m, block + "attn.*," + block + "ln1.*");
  Parameters own;
  for (const char* name : {"W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V"})
    own[name] = all.at(block + "attn." + name).select(0, kHead).contiguous();
  own["ln1.w"] = all.at(block + "ln1.w");
  own["ln1.b"] = all.at(block + "ln1.b");
  return own;
}
// [/snippet weights]

Row quoted_tokens(const nn::Model& m, const std::string& prompt) {
  Row names;
  for (const std::string& t : m.tokenizer().str_tokens(m.tokens(prompt)))
    names.push_back(fmt::format("\"{}\"", t));
  return names;
}

}  // namespace

int main() {
  section("A search that is not sure");
  std::vector<Row> rows;
  for (const double sharpness : {0.0, 1.0, 5.0, 50.0}) {
    const std::vector<double> w = soft_lookup(sharpness);
    rows.push_back({fmt::format("{}", sharpness), fmt::format("{:.3f}", w[0]),
                    fmt::format("{:.3f}", w[1]), fmt::format("{:.3f}", w[2])});
  }
  table({"sharpness", "key fits 0.1", "key fits 0.9", "key fits 0.3"}, rows);
  expect("weight of the best key at 50", soft_lookup(50)[1], at_least(0.999));

  section("Head 1.2, by hand");
  // [snippet run]
  const nn::Model m = nn::load_gpt2();
  const std::string prompt = "The capital of Texas is";
  const nn::Run run = m.run(prompt, site::resid_pre(kLayer), site::attn_scores(kLayer),
                            site::pattern(kLayer), site::z(kLayer), site::result(kLayer));
  const Plan plan =
      compile(build_head(), fetch(value("scores"), value("pattern"), value("z"), value("written")));
  const Tensor x = run[site::resid_pre(kLayer)].select(0, 0).contiguous();  // [5, 256]
  const Results mine = plan.run({{"x", x}}, weights_of_head(m));
  // [/snippet run]
  const Row names = quoted_tokens(m, prompt);
  picture(names, names, mine["pattern"]);
  say("");
  const Tensor last = mine["pattern"].select(0, 4);
  rows.clear();
  for (int key = 0; key < kPositions; ++key)
    rows.push_back({names[static_cast<std::size_t>(key)],
                    fmt::format("{:+.2f}", mine["scores"].at<float>({4, key})),
                    fmt::format("{:.3f}", last.at<float>({key}))});
  table({"\" is\" meets", "score", "weight"}, rows);
  expect("weight of \" Texas\" for \" is\"", last.at<float>({3}), at_least(0.9998));
  expect("its score", mine["scores"].at<float>({4, 3}), near(-1.84, 0.02));
  expect("the next best score", mine["scores"].at<float>({4, 0}), near(-11.61, 0.02));

  section("The library's head says the same");
  const auto differs = [&](const char* what, const Tensor& own, const Tensor& library) {
    expect(fmt::format("{} differs by", what), max_abs_difference(own, library), at_most(1e-5));
  };
  // [snippet compare]
  differs("pattern", mine["pattern"], run[site::pattern(kLayer)].select(0, 0).select(0, kHead));
  differs("z", mine["z"], run[site::z(kLayer)].select(0, 0).select(1, kHead));
  differs("what it writes", mine["written"],
          run[site::result(kLayer)].select(0, 0).select(1, kHead));
  // [/snippet compare]

  section("Nobody looks ahead");
  // [snippet ahead]
  const nn::Run other =
      m.run("The capital of Texas was", site::result(kLayer), site::pattern(kLayer));
  const Tensor before = run[site::result(kLayer)].slice(1, 0, 4),
               after = other[site::result(kLayer)].slice(1, 0, 4);
  // [/snippet ahead]
  expect("the first four tokens' results change by", max_abs_difference(before, after), near(0, 0));

  section("The same search, elsewhere");
  const nn::Run again = m.run("The cat sat. The cat", site::pattern(kLayer));
  const Row words = quoted_tokens(m, "The cat sat. The cat");
  const Tensor looks = again[site::pattern(kLayer)].select(0, 0).select(0, kHead);  // [6, 6]
  picture(words, words, looks);
  expect("from the second \" cat\" to \" sat\"", looks.at<float>({5, 2}), at_least(0.8));
  expect("from the second \" The\" to the first \" cat\"", looks.at<float>({4, 1}), at_least(0.7));
}

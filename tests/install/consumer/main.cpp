// Uses an installed Vitrine as a stranger would: a graph of one's own with its gradient, a diagnosis
// of a model of one's own, the default model, a patching sweep, and an SAE.
#include <vitrine/vitrine.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "nn/model.h"  // the project's own

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not as expected: %s\n", what);
  std::exit(1);
}

// loss = sum(relu(x w)) for x = [[1, 2]], w = [[3, -1], [4, -1]]: relu([11, -3]) = [11, 0], so loss
// = 11 and d loss / d w = [[1, 0], [2, 0]].
void own_graph() {
  using namespace vitrine;
  Builder b;
  const Value x = b.input("x", {DType::f32, {1, 2}});
  const Value w = b.parameter("w", {DType::f32, {2, 2}});
  b.output("loss", sum(relu(matmul(x, w))));
  const Graph graph = gradient(std::move(b).finish(), "loss", leaves("w"));

  const Plan plan = compile(graph, fetch(value("loss"), grad(leaves("w"))));
  const Results r = plan.run({{"x", Tensor::of({1, 2}, {1.f, 2.f})}},
                             {{"w", Tensor::of({2, 2}, {3.f, -1.f, 4.f, -1.f})}});
  expect(r.scalar("loss") == 11, "loss == 11");
  expect(r.grad("w").to_vector<float>() == std::vector<float>{1, 0, 2, 0},
         "d loss / d w == [[1, 0], [2, 0]]");
}

// A two-layer transformer of one's own whose mask lets a query see keys up to its position + offset;
// `line` becomes the line of that mask.
vitrine::Graph two_layers(int offset, int& line) {
  using namespace vitrine;
  constexpr std::int64_t kTokens = 5, kWidth = 4, kVocabulary = 7;
  Builder b;
  const auto weight = [&](const std::string& name, const Shape& shape) {
    return b.parameter(name, {DType::f32, shape});
  };
  const Value embed = weight("embed", {kVocabulary, kWidth});
  Value x = gather_rows(embed, b.input("tokens", {DType::i32, {kTokens}}));
  for (const std::string layer : {"0", "1"}) {
    const auto part = [&](const char* name) {
      return matmul(x, weight(name + layer, {kWidth, kWidth}));
    };
    const Value scores = matmul(part("q"), transpose(part("k")));
    line = __LINE__ + 1;
    const Value seen = mask(scores, 0, 1, offset);
    x = x + matmul(softmax(seen), part("v"));
  }
  b.output("logits", matmul(x, transpose(embed)));
  return std::move(b).finish();
}

// A mask that is off by one is named at its line, by the graph alone and with gradients.
void diagnosis() {
  using namespace vitrine;
  const Feeds feeds = {{"tokens", Tensor::of<std::int32_t>({5}, {3, 1, 4, 1, 5})}};
  for (const int offset : {-1, 0, 1}) {
    int line = 0;
    const Graph graph = two_layers(offset, line);
    Parameters parameters;
    ThreadPool pool(1);
    for (const Node& n : graph.nodes()) {
      const auto* leaf = std::get_if<LeafName>(&n.attributes);
      if (leaf == nullptr || leaf->name == "tokens") continue;
      const Tensor t = Tensor::empty(n.type.shape, DType::f32);
      random::fill_normal(pool, random::Key{1}.fold(leaf->name), t);
      parameters[leaf->name] = t;
    }
    for (const Diagnosis& d : {diagnose(graph), diagnose(graph, feeds, parameters)}) {
      expect(d.ok() == (offset == 0), "a right mask is cleared, a wrong one is not");
      if (offset == 0) continue;
      const Finding f = d.problems().at(0);
      expect(f.line == line && f.file.ends_with("main.cpp"), "the mask is named at its line");
      const char* what = offset > 0 ? "sees the next token" : "excludes the token itself";
      expect(f.what.find(what) != std::string::npos, what);
    }
  }
}

void default_model() {
  using namespace vitrine;
  const nn::Model m = nn::load_gpt2(MODEL);
  const nn::Run r = m.run("The capital of Texas is");
  const Tensor logits = r.logits();  // [1, position, vocabulary]
  const auto last = logits.select(0, 0).select(0, logits.dim(1) - 1).to_vector<float>();
  const auto top = nn::top_tokens(last, 1);
  expect(m.tokenizer().token_bytes(top.at(0).id) == " Austin", "the capital of Texas is Austin");
}

void patching() {
  using namespace vitrine;
  const nn::Model m = nn::load_gpt2(MODEL);
  const interp::Pair pair = interp::prompt_pair(
      m, "The capital of Texas is", "The capital of California is", " Austin", " Sacramento");
  const interp::PatchSweep sweep = interp::patch_sweep(m, pair);  // [layer, pos]
  // The embeddings differ in the state's name alone.
  expect(std::abs(sweep.values.at<double>({0, 3}) - sweep.clean) < 1e-3, "Texas gives Austin");
}

void features() {
  using namespace vitrine;
  const nn::Model m = nn::load_gpt2(MODEL);
  const sae::Sae s = sae::load(MODEL "/sae/blocks.4.hook_mlp_out");
  const Site site{s.config.hook_name};
  const sae::Encoder::Encoded coded =
      sae::Encoder(s, &m.pool()).encode(m.run("The capital of Texas is", site)[site]);
  expect(coded.features.shape() == Shape{5, s.config.d_sae}, "a row of features for each token");
}

}  // namespace

int main() {
  expect(own::Model().layers == 3, "nn/model.h is the project's own");
  own_graph();
  diagnosis();
  default_model();
  patching();
  features();
  std::puts("a graph, its gradient, the default model, a patching sweep and an SAE work");
}

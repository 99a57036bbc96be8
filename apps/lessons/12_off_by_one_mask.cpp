// Lesson 12. The off-by-one mask: a bug that makes the loss better, and a graph that can prove it.
#include "apps/lessons/lesson.h"
#include "autograd/compile/plan.h"
#include "autograd/diagnose/planted.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "nn/model/find_model.h"
#include "nn/training/model_diagnosis.h"
#include "tensor/files/file.h"
#include "tensor/random.h"

namespace {

using namespace vitrine;
using namespace vitrine::lesson;

constexpr std::int64_t kBatch = 16, kLength = 32, kWidth = 32, kBytes = 256;

struct Weight {
  const char* name;
  Shape shape;
  double deviation;  // of its random start
};
const std::vector<Weight> kWeights = {
    {"embed", {kBytes, kWidth}, 0.3},   {"position", {kLength, kWidth}, 0.3},
    {"query", {kWidth, kWidth}, 0.2},   {"key", {kWidth, kWidth}, 0.2},
    {"value", {kWidth, kWidth}, 0.2},   {"out", {kWidth, kWidth}, 0.2},
    {"up", {kWidth, 4 * kWidth}, 0.2},  {"down", {4 * kWidth, kWidth}, 0.1},
    {"unembed", {kWidth, kBytes}, 0.05}};
constexpr const char* kAll = "embed,position,query,key,value,out,up,down,unembed";

// [snippet model]
// A language model of one layer with one head, over the bytes of a text. A query sees the keys up to its own
// position + offset: 0 is right.
Graph language_model(std::int64_t offset) {
  Builder b;
  const auto weight = [&](std::size_t i) {
    return b.parameter(kWeights[i].name, {DType::f32, kWeights[i].shape});
  };
  const Value bytes = b.input("tokens", {DType::i32, {kBatch, kLength}});
  Value x = b.site("state", gather_rows(weight(0), bytes) + weight(1),
                   {Axis::batch, Axis::pos, Axis::feature});
  const Value q = matmul(x, weight(2)), k = matmul(x, weight(3)), v = matmul(x, weight(4));
  const Value scores = matmul(q, transpose(k)) * (1 / std::sqrt(kWidth));
  const Value seen = mask(scores, 1, 2, offset);  // the axes of queries and of keys
  x = x + matmul(matmul(softmax(seen), v), weight(5));
  x = x + matmul(relu(matmul(x, weight(6))), weight(7));
  const Value logits = matmul(x, weight(8));
  b.output("logits", logits);
  const Value next = b.input("next", {DType::i32, {kBatch, kLength}});
  const Value each =
      cross_entropy(reshape(logits, {kBatch * kLength, kBytes}), reshape(next, {kBatch * kLength}));
  b.output("loss", mean(each));
  b.output("loss by position", mean(reshape(each, {kBatch, kLength}), {0}));
  return std::move(b).finish();
}
// [/snippet model]

// 16 stretches of 32 bytes, and the byte that comes after each of them.
Feeds batch(const std::string& text, random::Key key) {
  std::vector<int> tokens, next;
  for (std::uint64_t i = 0; i < kBatch; ++i) {
    const std::int64_t at = random::below(key, i, std::ssize(text) - kLength - 1);
    for (std::int64_t t = at; t < at + kLength; ++t) {
      tokens.push_back(static_cast<unsigned char>(text[static_cast<std::size_t>(t)]));
      next.push_back(static_cast<unsigned char>(text[static_cast<std::size_t>(t + 1)]));
    }
  }
  return {{"tokens", Tensor::of({kBatch, kLength}, tokens)},
          {"next", Tensor::of({kBatch, kLength}, next)}};
}

// Weights, and beside each its state [3, n] for Adam: the weight itself, of which the first is a view, and two means of
// its gradients.
Parameters first_weights(ThreadPool& pool) {
  Parameters weights;
  for (const Weight& w : kWeights) {
    const Tensor state = Tensor::zeros({3, numel(w.shape)}, DType::f32);
    random::fill_normal(pool, random::Key{1}.fold(w.name), state.select(0, 0), 0, w.deviation);
    weights[fmt::format("state of {}", w.name)] = state;
    weights[w.name] = state.select(0, 0).reshape(w.shape);
  }
  return weights;
}

// The loss, its gradient and a step of Adam as one plan, as in lesson 6.
Plan training_plan(const Graph& model) {
  Builder b(gradient(model, "loss", leaves(kAll)));
  const Value settings = b.input("settings", {DType::f64, {3}});
  Updates updates;
  for (const Weight& w : kWeights) {
    const std::string state = fmt::format("state of {}", w.name), after = "next " + state;
    const Value before = b.parameter(state, {DType::f32, {3, numel(w.shape)}});
    b.output(after, adamw(before, b.output(grad_name(w.name)), b.scalar(1, DType::f32), settings,
                          {0.9, 0.95, 1e-8, 0}));
    updates[state] = after;
  }
  return compile(std::move(b).finish(), fetch(value("loss")), updates);
}

struct Trained {
  Graph graph;
  Parameters weights;
  std::vector<double> losses;       // every 50 steps
  std::vector<double> by_position;  // on other stretches of the text
};

Trained train(std::int64_t offset, const std::string& text, ThreadPool& pool) {
  Trained t{language_model(offset), first_weights(pool), {}, std::vector<double>(kLength, 0)};
  const Plan plan = training_plan(t.graph);
  for (std::uint64_t step = 0; step <= 400; ++step) {
    Feeds feeds = batch(text, random::Key{3}.fold(step));
    const double n = static_cast<double>(step + 1);
    feeds["settings"] = Tensor::of({3}, {3e-3, 1 - std::pow(0.9, n), 1 - std::pow(0.95, n)});
    const double loss = plan.run(feeds, t.weights, {.pool = &pool}).scalar("loss");
    if (step % 50 == 0) t.losses.push_back(loss);
  }
  const Plan measure = compile(t.graph, fetch(value("loss by position")));
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Results r = measure.run(batch(text, random::Key{4}.fold(i)), t.weights, {.pool = &pool});
    const auto losses = r["loss by position"].to_vector<double>();
    for (std::size_t p = 0; p < losses.size(); ++p) t.by_position[p] += losses[p] / 20;
  }
  return t;
}

void compare_losses(const Trained& right, const Trained& wrong) {
  section("Two models, one number apart: offset 0 and offset 1");
  std::vector<std::pair<std::string, double>> curves;
  for (std::size_t i = 0; i < right.losses.size(); ++i) {
    curves.emplace_back(fmt::format("step {:>3}  right", 50 * i), right.losses[i]);
    curves.emplace_back("          wrong", wrong.losses[i]);
  }
  bars(curves);
  expect("both begin at ln 256 = 5.545; right", right.losses[0], between(5.3, 5.8));
  expect("right after 400 steps", right.losses.back(), between(1.7, 2.5));
  expect("wrong after 400 steps", wrong.losses.back(), at_most(0.3));

  section("Position by position");
  std::vector<Row> rows;
  for (const std::size_t p : {0, 1, 2, 8, 16, 29, 30, 31})
    rows.push_back({fmt::format("{}", p), fmt::format("{:.2f}", right.by_position[p]),
                    fmt::format("{:.2f}", wrong.by_position[p])});
  table({"position", "right", "wrong"}, rows);
  expect("wrong, where the next byte is in the input", wrong.by_position[30], at_most(0.1));
  expect("right, at the last position", right.by_position[31], between(1.6, 2.4));
  expect("wrong, at the last position", wrong.by_position[31], at_least(2.5));
}

// [snippet leak]
// How much the largest logit at position 3 follows the state at position 4: the byte that they are to predict.
double leak(const Trained& t, const Feeds& feeds) {
  const Metric row{"row 3", [](Builder& b) {
                     return max(slice(b.output("logits"), 1, 3, 4), {0, 1, 2});
                   }};
  const Graph graph = gradient(t.graph, row, sites("state"));
  const Results r = compile(graph, fetch(grad(sites("state")))).run(feeds, t.weights);
  return max_abs(r.grad(Site{"state"}).slice(1, 4, 5));
}
// [/snippet leak]

void ask_the_graph(const Trained& right, const Trained& wrong, const Feeds& feeds) {
  section("Ask a gradient");
  expect("right: slope of a logit at 3 in the state at 4", leak(right, feeds), near(0, 0));
  expect("wrong", leak(wrong, feeds), at_least(1));
  section("Ask the graph");
  // [snippet diagnose]
  const Diagnosis good = diagnose(right.graph), bad = diagnose(wrong.graph);
  // [/snippet diagnose]
  fmt::print("right: {}\nwrong: {}\n", to_string(good.of("causality")[0]),
             to_string(bad.of("causality")[0]));
  expect("problems of the right one", static_cast<double>(good.problems().size()), near(0, 0));
  expect("problems of the wrong one", static_cast<double>(bad.problems().size()), near(1, 0));
  expect("the line that it names, of mask(...) above", bad.problems()[0].line, near(45, 0));
}

void ask_a_real_model() {
  section("Ask a real model");
  // [snippet plant]
  nn::Model model = nn::load_model();
  const Diagnosis whole = nn::diagnose(model);
  model.transform([](const Graph& graph) { return with_masks_shifted(graph, 1); });
  const Diagnosis broken = nn::diagnose(model);
  // [/snippet plant]
  for (const Finding& f : broken.problems()) fmt::print("{}\n", to_string(f));
  expect("problems of the default model", static_cast<double>(whole.problems().size()), near(0, 0));
  expect("with its masks shifted by 1", static_cast<double>(broken.problems().size()), at_least(1));
}

}  // namespace

int main() {
  ThreadPool pool;
  const std::string text = read_text(nn::find_model("") / "sae/sentences.txt");
  const Trained right = train(0, text, pool), wrong = train(1, text, pool);
  compare_losses(right, wrong);
  ask_the_graph(right, wrong, batch(text, random::Key{5}));
  ask_a_real_model();
}

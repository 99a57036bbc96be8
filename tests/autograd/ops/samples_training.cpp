// Samples of the ops of training and generation.
#include "autograd/ops/op_table.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using In = std::vector<Value>;

Value emit(std::string_view op, const In& in, Attributes attributes = NoAttributes{}) {
  return in[0].builder().emit(*find_op(op), in, std::move(attributes), SourceLine::here());
}

void add_loss(std::vector<Sample>& out) {
  struct Size {
    std::string name;
    std::int64_t n, d, vocabulary;
    std::vector<std::int32_t> targets;
  };
  const std::vector<Size> sizes = {{"plain", 3, 4, 5, {4, 0, 0}},
                                   {"one_row", 1, 3, 4, {2}},
                                   {"one_word", 2, 3, 1, {0, 0}},
                                   {"one_feature", 2, 1, 3, {1, 2}},
                                   {"no_rows", 0, 3, 4, {}}};
  for (const Size& s : sizes) {
    const Leaf x = normal("x", {s.n, s.d}), w = normal("w", {s.vocabulary, s.d}),
               dy = normal("dy", {s.n}), target = ints("target", {s.n}, s.targets);
    out.push_back({"linear_cross_entropy", s.name, {x, w, target}, [](Builder&, const In& in) {
                     return linear_cross_entropy(in[0], in[1], in[2]);
                   }});
    out.push_back(
        {"linear_cross_entropy_grads", s.name, {x, w, target, dy}, [](Builder&, const In& in) {
           return emit("linear_cross_entropy_grads", in);
         }});
  }
  for (const Viewed& v : views()) {  // every view is [4, 3]
    const Leaf target = longs("target", {4}, {1, 3, 0, 3});
    out.push_back({"linear_cross_entropy",
                   v.name,
                   {normal("x", v.leaf), normal("w", v.leaf), target},
                   [v](Builder&, const In& in) {
                     return linear_cross_entropy(v.view(in[0]), v.view(in[1]), in[2]);
                   }});
    out.push_back({"linear_cross_entropy_grads",
                   v.name,
                   {normal("x", v.leaf), normal("w", v.leaf), target, normal("dy", {8})},
                   [v](Builder&, const In& in) {
                     return emit("linear_cross_entropy_grads",
                                 {v.view(in[0]), v.view(in[1]), in[2], slice(in[3], 0, 0, 8, 2)});
                   }});
  }
}

void add_optimiser(std::vector<Sample>& out) {
  for (const Shape& shape : {Shape{4}, Shape{}, Shape{0}, Shape{2, 3}}) {
    out.push_back({"sum_squares",
                   "of_" + std::to_string(shape.size()) + "_axes_" + std::to_string(numel(shape)),
                   {normal("x", shape)},
                   [](Builder&, const In& in) { return sum_squares(in[0]); }});
  }
  for (const Viewed& v : views()) {
    out.push_back({"sum_squares", v.name, {normal("x", v.leaf)}, [v](Builder&, const In& in) {
                     return sum_squares(v.view(in[0]));
                   }});
  }
  const AdamWRule rule{0.8, 0.9, 1e-3, 0.1};
  const Leaf settings = {"settings", Tensor::of<double>({3}, {0.1, 0.2, 0.19})};
  const auto add = [&](const std::string& name, const Shape& gradient) {
    out.push_back(
        {"adamw",
         name,
         {positive("state", {3, numel(gradient)}), normal("g", gradient), positive("clip", {})},
         [rule, settings](Builder& b, const In& in) {
           return adamw(in[0], in[1], in[2], b.constant(settings.value), rule);
         }});
  };
  add("vector", {5});
  add("matrix", {2, 3});
  add("nothing", {0});
}

void add_write_rows(std::vector<Sample>& out) {
  const auto add = [&](const std::string& name, const Shape& table, const Shape& x,
                       const std::vector<std::int32_t>& index) {
    out.push_back({"write_rows",
                   name,
                   {normal("table", table), normal("x", x), ints("index", {x[0]}, index)},
                   [](Builder&, const In& in) { return write_rows(in[0], in[1], in[2]); }});
  };
  add("some", {4, 3}, {2, 3}, {3, 0});
  add("all", {2, 2}, {2, 2}, {1, 0});
  add("none", {3, 2}, {0, 2}, {});
  add("scalars", {4}, {2}, {2, 1});
  add("heads", {3, 2, 2}, {1, 2, 2}, {1});
  add("written twice", {4, 3}, {4, 3}, {3, 0, 3, 3});
  add("scalars written twice", {4}, {3}, {2, 1, 2});
  for (const Viewed& v : views()) {
    out.push_back(
        {"write_rows",
         v.name,
         {normal("table", {5, 3}), normal("x", v.leaf), ints("index", {4}, {4, 0, 2, 1})},
         [v](Builder&, const In& in) { return write_rows(in[0], v.view(in[1]), in[2]); }});
  }
}

void add_dropout(std::vector<Sample>& out) {
  const Leaf key = longs("key", {2}, {7, 40});
  const auto add = [&](const std::string& name, const Shape& shape, double rate) {
    out.push_back({"dropout", name, {normal("x", shape), key}, [rate](Builder&, const In& in) {
                     return dropout(in[0], in[1], rate, 3);
                   }});
  };
  add("half", {5, 7}, 0.5);
  add("tenth", {3, 2, 4}, 0.1);
  add("nothing_dropped", {6}, 0);
  add("almost_everything", {9}, 0.999);
  add("scalar", {}, 0.25);
  add("no_rows", {0, 3}, 0.5);
  for (const Viewed& v : views()) {
    out.push_back({"dropout", v.name, {normal("x", v.leaf), key}, [v](Builder&, const In& in) {
                     return dropout(v.view(in[0]), in[1], 0.4, 0);
                   }});
  }
  // Exact zeros stay: what a mask says of its output survives.
  out.push_back({"dropout", "masked", {normal("x", {4, 4}), key}, [](Builder&, const In& in) {
                   return dropout(softmax(mask(in[0], 0, 1)), in[1], 0.3, 1);
                 }});
  out.push_back(
      {"dropout",
       "strided_key",
       {normal("x", {8}), longs("keys", {4}, {1, 2, 3, 4})},
       [](Builder&, const In& in) { return dropout(in[0], slice(in[1], 0, 0, 4, 2), 0.5, 0); }});
}

}  // namespace

std::vector<Sample> training_samples() {
  std::vector<Sample> samples;
  add_loss(samples);
  add_optimiser(samples);
  add_write_rows(samples);
  add_dropout(samples);
  return samples;
}

}  // namespace vitrine::test

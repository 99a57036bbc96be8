// Samples of leaves and of elementwise ops.
#include <limits>

#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using Unary = Value (*)(const Value&, SourceLine);
using Binary = Value (*)(const Value&, const Value&, SourceLine);
using Draw = Leaf (*)(const std::string&, const Shape&);

Leaf wide(const std::string& name, const Shape& shape) { return normal(name, shape, 1.5); }
Leaf any(const std::string& name, const Shape& shape) { return normal(name, shape); }
Leaf even(const std::string& name, const Shape& shape) { return spaced(name, shape); }
Leaf odd(const std::string& name, const Shape& shape) { return spaced(name, shape, 0.15); }

void add_unary(std::vector<Sample>& out, const std::string& op, Unary f, Draw draw) {
  for (const Viewed& v : views()) {
    out.push_back({op, v.name, {draw("x", v.leaf)}, [f, v](Builder&, const std::vector<Value>& in) {
                     return f(v.view(in[0]), SourceLine::here());
                   }});
  }
  const std::pair<const char*, Shape> shapes[] = {{"scalar", {}},
                                                  {"vector", {19}},
                                                  {"no_rows", {0, 3}},
                                                  {"no_columns", {2, 0}},
                                                  {"rank_5", {1, 2, 1, 3, 2}}};
  for (const auto& [name, shape] : shapes) {
    out.push_back({op, name, {draw("x", shape)}, [f](Builder&, const std::vector<Value>& in) {
                     return f(in[0], SourceLine::here());
                   }});
  }
}

void add_binary(std::vector<Sample>& out, const std::string& op, Binary f, Draw left, Draw right) {
  const auto emit = [f](Builder&, const std::vector<Value>& in) {
    return f(in[0], in[1], SourceLine::here());
  };
  const std::tuple<const char*, Shape, Shape> shapes[] = {
      {"same", {3, 5}, {3, 5}},
      {"row", {2, 3}, {3}},
      {"left_row", {3}, {2, 3}},
      {"outer", {2, 1}, {3}},
      {"scalar_right", {2, 3}, {}},
      {"scalar_left", {}, {2, 3}},
      {"scalars", {}, {}},
      {"no_rows", {0, 3}, {3}},
      {"one_against_none", {2, 1}, {2, 0}},
      {"middle", {2, 1, 3}, {4, 1}},
      {"rank_5", {1, 2, 1, 3, 1}, {2, 2, 1, 2}}};
  for (const auto& [name, a, b] : shapes)
    out.push_back({op, name, {left("a", a), right("b", b)}, emit});
  // Each layout on the left against another one on the right.
  for (std::size_t i = 0; i < views().size(); ++i) {
    const Viewed &a = views()[i], &b = views()[(i + 3) % views().size()];
    out.push_back({op,
                   a.name + "_with_" + b.name,
                   {left("a", a.leaf), right("b", b.leaf)},
                   [f, a, b](Builder&, const std::vector<Value>& in) {
                     return f(a.view(in[0]), b.view(in[1]), SourceLine::here());
                   }});
  }
}

void add_truth(std::vector<Sample>& out, const std::string& op, Binary f) {
  add_binary(out, op, f, even, odd);
  const auto emit = [f](Builder&, const std::vector<Value>& in) {
    return f(in[0], in[1], SourceLine::here());
  };
  out.push_back(
      {op,
       "ties",
       {{"a", Tensor::of<double>({3}, {1, 2, 3})}, {"b", Tensor::of<double>({3}, {1, 5, -3})}},
       emit});
  out.push_back({op, "integers", {ints("a", {2, 2}, {1, 2, 3, 4}), ints("b", {2}, {1, 4})}, emit});
  out.push_back({op, "longs", {longs("a", {3}, {1, 2, 3}), longs("b", {}, {2})}, emit});
}

void add_logic(std::vector<Sample>& out, const std::string& op, Binary f) {
  const auto emit = [f](Builder&, const std::vector<Value>& in) {
    return f(in[0], in[1], SourceLine::here());
  };
  out.push_back(
      {op, "table", {truths("a", {2, 1}, {false, true}), truths("b", {2}, {false, true})}, emit});
  out.push_back({op, "no_rows", {truths("a", {0, 2}, {}), truths("b", {2}, {false, true})}, emit});
  out.push_back({op,
                 "strided",
                 {truths("a", {3, 2}, {true, false, true, true, false, false}),
                  truths("b", {5}, {true, false, true, true, false})},
                 [f](Builder&, const std::vector<Value>& in) {
                   return f(transpose(in[0]), slice(in[1], 0, 0, 5, 2), SourceLine::here());
                 }});
  out.push_back({op,
                 "of_comparisons",
                 {even("a", {2, 3}), odd("b", {3})},
                 [f](Builder&, const std::vector<Value>& in) {
                   return f(less(in[0], in[1]), less(in[1], in[0] + 1.0), SourceLine::here());
                 }});
}

void add_select(std::vector<Sample>& out) {
  const auto emit = [](Builder&, const std::vector<Value>& in) {
    return select(in[0], in[1], in[2]);
  };
  const Leaf mask = truths("mask", {2, 3}, {true, false, true, false, false, true});
  out.push_back({"select", "same", {mask, any("a", {2, 3}), any("b", {2, 3})}, emit});
  out.push_back({"select",
                 "mask_row",
                 {truths("mask", {3}, {true, false, true}), any("a", {2, 3}), any("b", {2, 3})},
                 emit});
  out.push_back({"select", "broadcast_sides", {mask, any("a", {}), any("b", {2, 1})}, emit});
  out.push_back({"select", "mask_widest", {mask, any("a", {}), any("b", {3})}, emit});
  out.push_back(
      {"select", "scalar", {truths("mask", {}, {false}), any("a", {}), any("b", {})}, emit});
  out.push_back(
      {"select", "no_rows", {truths("mask", {0, 1}, {}), any("a", {3}), any("b", {})}, emit});
  out.push_back(
      {"select",
       "strided",
       {truths("mask", {3, 2}, {true, false, true, false, false, true}), any("a", {2, 6}),
        any("b", {1, 3})},
       [](Builder&, const std::vector<Value>& in) {
         return select(transpose(in[0]), slice(in[1], 1, 0, 6, 2), broadcast_to(in[2], {2, 3}));
       }});
  out.push_back({"select",
                 "unselected_nan",
                 {truths("mask", {2}, {true, true}), any("a", {2})},
                 [](Builder& b, const std::vector<Value>& in) {
                   return select(in[0], exp(in[1]),
                                 b.scalar(std::numeric_limits<double>::quiet_NaN(), in[1].dtype()));
                 }});
  out.push_back({"select",
                 "by_comparison",
                 {even("a", {2, 3}), odd("b", {3})},
                 [](Builder&, const std::vector<Value>& in) {
                   return select(less(in[0], in[1]), in[0], in[1]);
                 }});
}

}  // namespace

std::vector<Sample> leaf_samples() {
  const auto first = [](Builder&, const std::vector<Value>& in) { return in[0]; };
  Leaf weight = any("w", {2, 3});
  weight.parameter = true;
  return {
      {"input", "matrix", {any("x", {2, 3})}, first},
      {"input", "scalar", {any("x", {})}, first},
      {"input",
       "sliced",
       {any("x", {2, 6})},
       [](Builder&, const std::vector<Value>& in) { return slice(in[0], 1, 1, 6, 2); }},
      {"parameter", "matrix", {weight}, first},
      {"constant",
       "matrix",
       {any("x", {2, 3})},
       [](Builder& b, const std::vector<Value>& in) {
         return in[0] * b.constant(any("c", {3, 2}).value.to(in[0].dtype()).transpose(0, 1));
       }},
      {"constant",
       "scalar",
       {any("x", {2})},
       [](Builder& b, const std::vector<Value>& in) {
         return in[0] + b.scalar(2.5, in[0].dtype());
       }},
      {"identity",
       "strided",
       {any("x", {3, 2})},
       [](Builder&, const std::vector<Value>& in) { return identity(transpose(in[0])); }},
      {"identity",
       "empty",
       {any("x", {0})},
       [](Builder&, const std::vector<Value>& in) { return identity(in[0]); }},
      {"again",
       "strided",
       {any("x", {3, 2})},
       [](Builder&, const std::vector<Value>& in) { return again(transpose(in[0])); }},
      {"again",
       "beside_itself",
       {any("x", {2, 3})},
       [](Builder&, const std::vector<Value>& in) { return tanh(in[0]) * tanh(again(in[0])); }},
      {"site",
       "strided",
       {any("x", {2, 6})},
       [](Builder& b, const std::vector<Value>& in) {
         return b.site("here", slice(in[0], 1, 0, 6, 2), {Axis::row, Axis::feature});
       }},
      {"site",
       "scalar",
       {any("x", {})},
       [](Builder& b, const std::vector<Value>& in) { return b.site("here", in[0], {}); }},
      {"detach",
       "matrix",
       {any("x", {2, 3})},
       [](Builder&, const std::vector<Value>& in) { return detach(in[0]); },
       1e-5,
       true},
      {"detach",
       "one_factor",
       {any("x", {3}), any("y", {3})},
       [](Builder&, const std::vector<Value>& in) {
         return in[1] * detach(square(in[1]) * 0.0 + 2.0) + in[0];
       }},
  };
}

std::vector<Sample> elementwise_samples() {
  std::vector<Sample> out;
  add_unary(out, "neg", neg, any);
  add_unary(out, "abs", abs, off_zero);
  add_unary(out, "sign", sign, off_zero);
  add_unary(out, "square", square, any);
  add_unary(out, "sqrt", sqrt, positive);
  add_unary(out, "rsqrt", rsqrt, positive);
  add_unary(out, "reciprocal", reciprocal, off_zero);
  add_unary(out, "exp", exp, any);
  add_unary(out, "log", log, positive);
  add_unary(out, "sin", sin, wide);
  add_unary(out, "cos", cos, wide);
  add_unary(out, "tanh", tanh, wide);
  add_unary(out, "erf", erf, any);
  add_unary(out, "sigmoid", sigmoid, wide);
  add_unary(out, "relu", relu, off_zero);
  add_unary(out, "silu", silu, wide);
  add_unary(out, "gelu_tanh", gelu_tanh, wide);
  add_unary(out, "gelu_erf", gelu_erf, wide);
  add_unary(out, "gelu_tanh_slope", gelu_tanh_slope, wide);
  add_unary(out, "gelu_erf_slope", gelu_erf_slope, wide);
  add_unary(
      out, "softcap", [](const Value& x, SourceLine line) { return softcap(x, 1.2, line); }, wide);
  out.push_back(
      {"softcap", "masked", {wide("x", {3, 3})}, [](Builder&, const std::vector<Value>& in) {
         return exp(softcap(mask(in[0], 0, 1), 1.2));  // exp(-inf) = 0
       }});
  add_binary(out, "add", add, any, any);
  add_binary(out, "sub", sub, any, any);
  add_binary(out, "mul", mul, any, any);
  add_binary(out, "div", div, any, off_zero);
  add_binary(out, "maximum", maximum, even, odd);
  add_binary(out, "minimum", minimum, even, odd);
  add_truth(out, "equal", equal);
  add_truth(out, "less", less);
  add_truth(out, "less_equal", less_equal);
  out.push_back({"equal",
                 "booleans",
                 {truths("a", {2, 1}, {false, true}), truths("b", {2}, {false, true})},
                 [](Builder&, const std::vector<Value>& in) { return equal(in[0], in[1]); }});
  add_logic(out, "logical_and", logical_and);
  add_logic(out, "logical_or", logical_or);
  out.push_back(
      {"logical_not",
       "strided",
       {truths("a", {3, 2}, {true, false, true, true, false, false})},
       [](Builder&, const std::vector<Value>& in) { return logical_not(transpose(in[0])); }});
  out.push_back(
      {"logical_not", "empty", {truths("a", {0}, {})}, [](Builder&, const std::vector<Value>& in) {
         return logical_not(in[0]);
       }});
  out.push_back(
      {"logical_not",
       "of_comparison",
       {even("a", {2, 3}), odd("b", {3})},
       [](Builder&, const std::vector<Value>& in) { return logical_not(less(in[0], in[1])); }});
  add_select(out);
  return out;
}

}  // namespace vitrine::test

// Samples of ops that move elements, and of reductions.
#include "autograd/ops/op_table.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using In = std::vector<Value>;

// A leaf x of shape `leaf` under f.
Sample one(const std::string& op, const std::string& name, const Shape& leaf,
           std::function<Value(const Value&)> f) {
  return {op, name, {normal("x", leaf)}, [f](Builder&, const In& in) { return f(in[0]); }};
}
Sample one_spaced(const std::string& op, const std::string& name, const Shape& leaf,
                  std::function<Value(const Value&)> f) {
  return {op, name, {spaced("x", leaf)}, [f](Builder&, const In& in) { return f(in[0]); }};
}

void add_reshape(std::vector<Sample>& out) {
  const std::tuple<const char*, Shape, Shape> cases[] = {
      {"split", {6}, {2, 3}},
      {"merge", {2, 3}, {6}},
      {"regroup", {4, 3}, {2, 6}},
      {"split_middle", {2, 6, 2}, {2, 2, 3, 2}},
      {"split_in_three", {12, 2}, {2, 3, 2, 2}},
      {"merge_middle", {2, 2, 3, 2}, {2, 6, 2}},
      {"merge_all", {2, 2, 1, 3}, {12}},
      {"drop_ones", {2, 1, 3, 1}, {2, 3}},
      {"add_ones", {2, 3}, {1, 2, 1, 3, 1}},
      {"only_ones", {1, 1}, {1}},
      {"minus_one", {3, 4}, {2, -1}},
      {"to_scalar", {1, 1}, {}},
      {"from_scalar", {}, {1, 1}},
      {"empty", {0, 3}, {2, 0}},
      {"empty_minus_one", {3, 0}, {0, 5}},
  };
  for (const auto& [name, from, to] : cases) {
    out.push_back(one("reshape", name, from, [to = to](const Value& x) { return reshape(x, to); }));
  }
  for (const Viewed& v : views()) {
    out.push_back(one("reshape", v.name, v.leaf, [v](const Value& x) {
      return reshape(v.view(x), {2, 2, 3});
    }));
    out.push_back(one("reshape", "flat_" + v.name, v.leaf,
                      [v](const Value& x) { return reshape(v.view(x), {12}); }));
  }
}

void add_views(std::vector<Sample>& out) {
  out.push_back(one("permute", "matrix", {2, 3}, [](const Value& x) {
    return permute(x, {1, 0});
  }));
  out.push_back(
      one("permute", "transpose", {2, 2, 3}, [](const Value& x) { return transpose(x); }));
  out.push_back(one("permute", "negative", {2, 3, 4}, [](const Value& x) {
    return permute(x, {-1, 0, -2});
  }));
  out.push_back(one("permute", "rank_5", {1, 2, 3, 2, 2}, [](const Value& x) {
    return permute(x, {4, 1, 0, 3, 2});
  }));
  out.push_back(one("permute", "scalar", {}, [](const Value& x) { return permute(x, {}); }));
  out.push_back(one("permute", "empty", {2, 0, 3}, [](const Value& x) {
    return permute(x, {2, 1, 0});
  }));
  out.push_back(one("permute", "sliced", {2, 6, 2}, [](const Value& x) {
    return permute(slice(x, 1, 1, 6, 2), {2, 0, 1});
  }));

  out.push_back(one("broadcast_to", "row", {3}, [](const Value& x) {
    return broadcast_to(x, {2, 3});
  }));
  out.push_back(one("broadcast_to", "column", {2, 1}, [](const Value& x) {
    return broadcast_to(x, {3, 2, 4});
  }));
  out.push_back(one("broadcast_to", "scalar", {}, [](const Value& x) {
    return broadcast_to(x, {2, 2});
  }));
  out.push_back(one("broadcast_to", "ones", {1, 1}, [](const Value& x) {
    return broadcast_to(x, {3, 1, 2});
  }));
  out.push_back(one("broadcast_to", "to_nothing", {1, 3}, [](const Value& x) {
    return broadcast_to(x, {0, 3});
  }));
  out.push_back(one("broadcast_to", "sliced", {6, 1}, [](const Value& x) {
    return broadcast_to(slice(x, 0, 1, 6, 2), {2, 3, 4});
  }));

  out.push_back(one("slice", "middle", {5, 2}, [](const Value& x) { return slice(x, 0, 1, 4); }));
  out.push_back(one("slice", "step", {2, 7}, [](const Value& x) { return slice(x, -1, 1, 7, 3); }));
  out.push_back(one("slice", "step_short_of_the_end", {7},
                    [](const Value& x) { return slice(x, 0, 0, 5, 3); }));
  out.push_back(one("slice", "whole", {2, 3}, [](const Value& x) { return slice(x, 1, 0, 3); }));
  out.push_back(one("slice", "one", {2, 3, 2}, [](const Value& x) { return slice(x, -2, 2, 3); }));
  out.push_back(one("slice", "nothing", {4, 2}, [](const Value& x) { return slice(x, 0, 2, 2); }));
  out.push_back(
      one("slice", "nothing_at_the_end", {4}, [](const Value& x) { return slice(x, 0, 4, 4, 2); }));
  out.push_back(one("slice", "transposed", {3, 5},
                    [](const Value& x) { return slice(transpose(x), 0, 1, 5, 2); }));
  out.push_back(one("slice", "sliced", {9},
                    [](const Value& x) { return slice(slice(x, 0, 1, 9, 2), 0, 1, 4, 2); }));

  out.push_back(
      one("unslice", "step", {2, 3}, [](const Value& x) { return unslice(x, 1, 1, 2, 7); }));
  out.push_back(
      one("unslice", "rows", {3, 2}, [](const Value& x) { return unslice(x, -2, 2, 1, 5); }));
  out.push_back(
      one("unslice", "tight", {3}, [](const Value& x) { return unslice(x, 0, 0, 2, 5); }));
  out.push_back(
      one("unslice", "nothing", {2, 0}, [](const Value& x) { return unslice(x, 1, 1, 1, 3); }));
  out.push_back(
      one("unslice", "middle", {2, 1, 2}, [](const Value& x) { return unslice(x, 1, 2, 1, 3); }));
  out.push_back(one("unslice", "strided", {3, 4}, [](const Value& x) {
    return unslice(slice(transpose(x), 0, 0, 4, 2), 0, 0, 2, 4);
  }));
}

void add_concat_and_cast(std::vector<Sample>& out) {
  const auto join = [&](const std::string& name, std::vector<Leaf> leaves, int axis) {
    out.push_back({"concat", name, std::move(leaves),
                   [axis](Builder&, const In& in) { return concat(in, axis); }});
  };
  join("rows", {normal("a", {2, 3}), normal("b", {1, 3})}, 0);
  join("columns", {normal("a", {2, 1}), normal("b", {2, 3}), normal("c", {2, 2})}, -1);
  join("middle", {normal("a", {2, 1, 2}), normal("b", {2, 2, 2})}, -2);
  join("one_part", {normal("a", {2, 2})}, 0);
  join("an_empty_part", {normal("a", {2}), normal("b", {0}), normal("c", {1})}, 0);
  join("nothing", {normal("a", {0, 2}), normal("b", {0, 3})}, 1);
  out.push_back({"concat",
                 "strided",
                 {normal("a", {3, 2}), normal("b", {1, 3}), normal("c", {2, 6})},
                 [](Builder&, const In& in) {
                   return concat(
                       {transpose(in[0]), broadcast_to(in[1], {2, 3}), slice(in[2], 1, 0, 6, 2)},
                       0);
                 }});
  out.push_back({"concat", "a_part_twice", {normal("a", {2, 2})}, [](Builder&, const In& in) {
                   return concat({in[0], in[0]}, 1);
                 }});

  // Rounding to f32 makes small differences meaningless; the op is linear, so large ones are exact
  // up to that rounding.
  Sample narrow = one("cast", "to_f32", {2, 3}, [](const Value& x) { return cast(x, DType::f32); });
  narrow.step = 0.25;
  narrow.tolerance = 1e-6;
  out.push_back(narrow);
  narrow = one("cast", "to_f32_and_back", {3, 4}, [](const Value& x) {
    return 2.0 * cast(cast(transpose(x), DType::f32), DType::f64);
  });
  narrow.step = 1;
  narrow.tolerance = 1e-6;
  out.push_back(narrow);
  for (const DType type : {DType::i32, DType::i64, DType::boolean, DType::f16, DType::bf16}) {
    Sample s{"cast",
             "to_" + std::string(name_of(type)),
             {off_zero("x", {2, 3})},
             [type](Builder&, const In& in) { return cast(in[0] * 5.0, type); }};
    s.stops_gradient = true;  // storage and index types carry none
    out.push_back(s);
  }
  out.push_back(
      {"cast", "i32_to_f64", {ints("x", {2, 2}, {1, -2, 3, 4})}, [](Builder&, const In& in) {
         return cast(transpose(in[0]), DType::f64);
       }});
  out.push_back(
      {"cast", "bool_to_f32", {truths("x", {3}, {true, false, true})}, [](Builder&, const In& in) {
         return cast(in[0], DType::f32);
       }});
  out.push_back({"cast", "i64_to_i32", {longs("x", {2}, {5, -7})}, [](Builder&, const In& in) {
                   return cast(in[0], DType::i32);
                 }});
  out.push_back({"cast",
                 "f16_to_f64",
                 {{"x", normal("x", {2, 3}).value.to(DType::f16)}},
                 [](Builder&, const In& in) { return cast(in[0], DType::f64); }});
}

void add_reduction(std::vector<Sample>& out, const std::string& op,
                   Value (*f)(const Value&, const Dims&, bool, SourceLine)) {
  const std::tuple<const char*, Shape, Dims, bool> cases[] = {
      {"first", {3, 4}, {0}, false},          {"last", {3, 4}, {1}, false},
      {"negative", {3, 4}, {-1}, true},       {"middle", {2, 3, 4}, {1}, false},
      {"outer_two", {2, 3, 4}, {0, 2}, true}, {"unordered", {2, 3, 2}, {2, 0}, false},
      {"all", {3, 4}, {0, 1}, false},         {"all_kept", {3, 4}, {0, 1}, true},
      {"no_axes", {2, 3}, {}, false},         {"scalar", {}, {}, false},
      {"size_1", {3, 1}, {1}, false},         {"long_row", {60}, {0}, false},
      {"long_columns", {20, 3}, {0}, false},  {"rank_5", {2, 1, 2, 3, 2}, {1, 3}, false},
      {"no_rows", {0, 3}, {1}, false},        {"of_nothing", {1, 0}, {1}, false},
  };
  for (const auto& [name, leaf, axes, keep] : cases) {
    out.push_back(one_spaced(op, name, leaf, [f, axes = axes, keep = keep](const Value& x) {
      return f(x, axes, keep, SourceLine::here());
    }));
  }
  for (const Viewed& v : views()) {
    for (const int axis : {0, 1}) {
      // Repeats tie: their maxima would be shared, which differences cannot see.
      if (op == "max" && (v.name == "repeated_value" ||
                          v.name == (axis == 0 ? "repeated_row" : "repeated_column")))
        continue;
      out.push_back(one_spaced(op, v.name + "_over_" + std::to_string(axis), v.leaf,
                               [f, v, axis](const Value& x) {
                                 return f(v.view(x), {axis}, false, SourceLine::here());
                               }));
    }
  }
}

}  // namespace

std::vector<Sample> shape_samples() {
  std::vector<Sample> out;
  add_reshape(out);
  add_views(out);
  add_concat_and_cast(out);
  return out;
}

std::vector<Sample> reduce_samples() {
  std::vector<Sample> out;
  add_reduction(out, "sum", sum);
  add_reduction(out, "max", max);
  const auto largest = [](const Value& x) { return argmax(x); };
  out.push_back(one_spaced("argmax", "matrix", {3, 4}, largest));
  out.push_back(one_spaced("argmax", "vector", {19}, largest));
  out.push_back(one_spaced("argmax", "rank_3", {2, 2, 3}, largest));
  out.push_back(one_spaced("argmax", "size_1", {3, 1}, largest));
  out.push_back(one_spaced("argmax", "no_rows", {0, 3}, largest));
  out.push_back(one_spaced("argmax", "transposed", {3, 4},
                           [](const Value& x) { return argmax(transpose(x)); }));
  out.push_back(one_spaced("argmax", "sliced", {2, 9},
                           [](const Value& x) { return argmax(slice(x, 1, 1, 9, 3)); }));
  return out;
}

}  // namespace vitrine::test

// Wrong calls: the message names the op, the shapes, the scope and the line of the model.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "autograd/ops/op_table.h"
#include "tests/autograd/ops/samples.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

Value f64(Builder& b, const Shape& shape) {
  return b.input(fmt::format("x{}", to_string(shape)), {DType::f64, shape});
}
Value i32(Builder& b, const Shape& shape) {
  return b.input(fmt::format("i{}", to_string(shape)), {DType::i32, shape});
}
Value truth(Builder& b, const Shape& shape) {
  return b.input(fmt::format("t{}", to_string(shape)), {DType::boolean, shape});
}
// Tables of `rows` query rows and 3 key positions.
RowValues tables(Builder& b, std::int64_t rows) {
  return {b.input("sequence", {DType::i32, {rows}}), b.input("position", {DType::i32, {rows}}),
          b.input("keys", {DType::i32, {2, 3}})};
}

struct WrongCall {
  std::string op;
  std::vector<std::string> says;  // the shapes, and what is wrong
  std::function<void(Builder&)> call;
  SourceLine line;
};
WrongCall wrong(const std::string& op, const std::vector<std::string>& says,
                std::function<void(Builder&)> call, SourceLine line = SourceLine::here()) {
  return {op, says, std::move(call), line};
}

std::vector<WrongCall> wrong_calls() {
  std::vector<WrongCall> calls;
  const auto add_call = [&](WrongCall call) { calls.push_back(std::move(call)); };

  // ---- elementwise
  const std::pair<const char*, Value (*)(const Value&, SourceLine)> unary[] = {
      {"neg", neg},
      {"abs", abs},
      {"sign", sign},
      {"square", square},
      {"sqrt", sqrt},
      {"rsqrt", rsqrt},
      {"reciprocal", reciprocal},
      {"exp", exp},
      {"log", log},
      {"sin", sin},
      {"cos", cos},
      {"tanh", tanh},
      {"erf", erf},
      {"sigmoid", sigmoid},
      {"relu", relu},
      {"silu", silu},
      {"gelu_tanh", gelu_tanh},
      {"gelu_erf", gelu_erf},
      {"gelu_tanh_slope", gelu_tanh_slope},
      {"gelu_erf_slope", gelu_erf_slope}};
  for (const auto& [op, f] : unary) {
    add_call(wrong(op, {"i32[2, 3]", "must be f32 or f64 (cast it)"}, [f = f](Builder& b) {
      f(i32(b, {2, 3}), SourceLine::here());
    }));
  }
  const std::pair<const char*, Value (*)(const Value&, const Value&, SourceLine)> binary[] = {
      {"add", add},     {"sub", sub},         {"mul", mul},
      {"div", div},     {"maximum", maximum}, {"minimum", minimum},
      {"equal", equal}, {"less", less},       {"less_equal", less_equal}};
  for (const auto& [op, f] : binary) {
    add_call(wrong(op, {"f64[2, 3]", "f64[2]", "do not broadcast: aligned from the right"},
                   [f = f](Builder& b) {
                     f(f64(b, {2, 3}), f64(b, {2}), SourceLine::here());
                   }));
    add_call(wrong(op,
                   {"f64[3]", "i32[3]", "must have one dtype (cast one of them), not f64 and i32"},
                   [f = f](Builder& b) { f(f64(b, {3}), i32(b, {3}), SourceLine::here()); }));
  }
  add_call(wrong("less", {"bool[2]", "booleans have no order"},
                 [](Builder& b) { less(truth(b, {2}), truth(b, {2})); }));
  const std::pair<const char*, Value (*)(const Value&, const Value&, SourceLine)> logic[] = {
      {"logical_and", logical_and}, {"logical_or", logical_or}};
  for (const auto& [op, f] : logic) {
    add_call(wrong(op, {"bool[2]", "f64[2]", "must be boolean, not f64"},
                   [f = f](Builder& b) { f(truth(b, {2}), f64(b, {2}), SourceLine::here()); }));
    add_call(wrong(op, {"bool[2]", "bool[3]", "do not broadcast"},
                   [f = f](Builder& b) { f(truth(b, {2}), truth(b, {3}), SourceLine::here()); }));
  }
  add_call(wrong("logical_not", {"i32[2]", "must be boolean"},
                 [](Builder& b) { logical_not(i32(b, {2})); }));
  add_call(wrong("select", {"f64[2]", "the mask must be boolean"},
                 [](Builder& b) { select(f64(b, {2}), f64(b, {2}), f64(b, {2})); }));
  add_call(wrong("select", {"bool[3]", "f64[2]", "do not broadcast"},
                 [](Builder& b) { select(truth(b, {3}), f64(b, {2}), f64(b, {1})); }));

  // ---- shape
  add_call(wrong("site", {"f64[2, 3]", "'here' names 1 axes", "2 ([2, 3])"}, [](Builder& b) {
    b.site("here", f64(b, {2, 3}), {Axis::row});
  }));
  add_call(wrong("reshape", {"[2, 3]", "(6 elements)", "[4, 2]", "(8 elements)"}, [](Builder& b) {
    reshape(f64(b, {2, 3}), {4, 2});
  }));
  add_call(wrong("reshape", {"[2, 3]", "[-1, 4]", "one axis may be -1"}, [](Builder& b) {
    reshape(f64(b, {2, 3}), {-1, 4});
  }));
  add_call(wrong("permute", {"f64[2, 3]", "[0, 0]", "named exactly once"}, [](Builder& b) {
    permute(f64(b, {2, 3}), {0, 0});
  }));
  add_call(wrong("permute", {"f64[2, 3]", "[0, 5]", "named exactly once"}, [](Builder& b) {
    permute(f64(b, {2, 3}), {0, 5});
  }));
  add_call(wrong("permute", {"f64[3]", "[0, 1]", "named exactly once"},
                 [](Builder& b) { transpose(f64(b, {3})); }));
  add_call(wrong("broadcast_to", {"f64[2, 3]", "[2, 4]", "cannot broadcast"}, [](Builder& b) {
    broadcast_to(f64(b, {2, 3}), {2, 4});
  }));
  add_call(wrong("slice", {"f64[4]", "[4]", "from 2 to 7", "0 <= start <= stop <= 4"},
                 [](Builder& b) { slice(f64(b, {4}), 0, 2, 7); }));
  add_call(wrong("slice", {"f64[4]", "axis 1 is out of range"},
                 [](Builder& b) { slice(f64(b, {4}), 1, 0, 2); }));
  add_call(wrong("unslice", {"f64[3]", "3 entries from 0 by 2", "axis of 4"},
                 [](Builder& b) { unslice(f64(b, {3}), 0, 0, 2, 4); }));
  add_call(wrong("unslice", {"f64[3]", "axis 2 is out of range"},
                 [](Builder& b) { unslice(f64(b, {3}), 2, 0, 1, 4); }));
  add_call(wrong("concat", {"f64[2, 3]", "f64[2, 4]", "part 1", "beyond axis 0"}, [](Builder& b) {
    concat({f64(b, {2, 3}), f64(b, {2, 4})}, 0);
  }));
  add_call(wrong("concat", {"f64[2, 3]", "axis 2 is out of range"}, [](Builder& b) {
    concat({f64(b, {2, 3})}, 2);
  }));

  // ---- reductions and rows
  add_call(wrong("sum", {"f64[2, 3]", "axis 2 is out of range", "axes -2 to 1"}, [](Builder& b) {
    sum(f64(b, {2, 3}), {2});
  }));
  add_call(wrong("sum", {"f64[2, 3]", "axis 1 is named twice"}, [](Builder& b) {
    sum(f64(b, {2, 3}), {1, -1});
  }));
  add_call(wrong("sum", {"f64[2, 3]", "axis -3 is out of range"}, [](Builder& b) {
    mean(f64(b, {2, 3}), {-3});
  }));
  add_call(wrong("sum", {"f64[]", "a scalar, which has no axes"},
                 [](Builder& b) { mean(f64(b, {}), {0}); }));
  add_call(
      wrong("max", {"i32[2]", "must be f32 or f64"}, [](Builder& b) { max(i32(b, {2}), {0}); }));
  add_call(wrong("argmax", {"f64[2, 0]", "must have entries"}, [](Builder& b) {
    argmax(f64(b, {2, 0}));
  }));
  add_call(wrong("softmax", {"f64[]", "a scalar has no last axis"},
                 [](Builder& b) { softmax(f64(b, {})); }));
  add_call(wrong("log_softmax", {"i32[2]", "must be f32 or f64"},
                 [](Builder& b) { log_softmax(i32(b, {2})); }));
  add_call(wrong("softmax_grad", {"f64[2, 3]", "f64[3]", "must be alike"}, [](Builder& b) {
    softmax_grad(f64(b, {2, 3}), f64(b, {3}));
  }));
  add_call(
      wrong("layer_norm", {"f64[2, 3]", "f64[2]", "the gain must have shape [3]"}, [](Builder& b) {
        layer_norm(f64(b, {2, 3}), f64(b, {2}), f64(b, {3}), 1e-5);
      }));
  add_call(wrong("layer_norm", {"f64[2, 3]", "f64[1, 3]", "the bias must have shape [3]"},
                 [](Builder& b) {
                   layer_norm(f64(b, {2, 3}), f64(b, {3}), f64(b, {1, 3}), 1e-5);
                 }));
  add_call(
      wrong("rms_norm", {"f64[2, 3]", "f64[2]", "the gain must have shape [3]"}, [](Builder& b) {
        rms_norm(f64(b, {2, 3}), f64(b, {2}), 1e-5);
      }));
  add_call(wrong("rms_norm_grad", {"f64[2, 3]", "f64[4, 3]", "must be alike"}, [](Builder& b) {
    rms_norm_grad(f64(b, {2, 3}), f64(b, {3}), f64(b, {4, 3}), 1e-5);
  }));
  add_call(wrong("rms_norm_gain_grad", {"f64[2, 3]", "f64[3, 2]", "must be alike"}, [](Builder& b) {
    rms_norm_gain_grad(f64(b, {2, 3}), f64(b, {3, 2}), 1e-5);
  }));
  add_call(wrong("layer_norm_grad", {"f64[2, 3]", "f64[4, 3]", "must be alike"}, [](Builder& b) {
    layer_norm_grad(f64(b, {2, 3}), f64(b, {3}), f64(b, {4, 3}), 1e-5);
  }));
  add_call(
      wrong("layer_norm_gain_grad", {"f64[2, 3]", "f64[3, 2]", "must be alike"}, [](Builder& b) {
        layer_norm_gain_grad(f64(b, {2, 3}), f64(b, {3, 2}), 1e-5);
      }));

  // ---- products
  add_call(
      wrong("matmul", {"f64[2, 3]", "f64[4, 2]", "inner sizes 3 and 4 differ"}, [](Builder& b) {
        matmul(f64(b, {2, 3}), f64(b, {4, 2}));
      }));
  add_call(wrong("matmul", {"f64[2, 2, 3]", "f64[5, 3, 2]", "batch axes do not broadcast"},
                 [](Builder& b) {
                   matmul(f64(b, {2, 2, 3}), f64(b, {5, 3, 2}));
                 }));
  add_call(wrong("matmul", {"f64[3]", "f64[3, 2]", "at least two axes"}, [](Builder& b) {
    matmul(f64(b, {3}), f64(b, {3, 2}));
  }));
  add_call(wrong("linear",
                 {"f64[2, 3]", "f64[4, 2]", "w must be [in, out] with in = the last axis of x"},
                 [](Builder& b) {
                   linear(f64(b, {2, 3}), f64(b, {4, 2}), f64(b, {2}));
                 }));
  add_call(wrong("linear", {"f64[3, 2]", "f64[3]", "the bias must have shape [2]"}, [](Builder& b) {
    linear(f64(b, {2, 3}), f64(b, {3, 2}), f64(b, {3}));
  }));
  for (const char* op : {"linear_gelu_tanh", "linear_relu"}) {
    add_call(wrong(op, {"f64[3, 2]", "f64[3]", "the bias must have shape [2]"}, [op](Builder& b) {
      b.emit(*find_op(op), {f64(b, {2, 3}), f64(b, {3, 2}), f64(b, {3})}, NoAttributes{},
             SourceLine::here());
    }));
  }
  add_call(wrong("heads_in", {"f64[3, 4]", "f64[4, 5]", "5 columns do not divide into 2 heads"},
                 [](Builder& b) {
                   const Value x = f64(b, {3, 4}), gain = f64(b, {4});
                   heads_in({x, x, gain, gain, 1e-5}, f64(b, {4, 5}), f64(b, {5}), 2);
                 }));
  add_call(wrong("heads_out", {"f64[3, 2, 2]", "f64[5, 4]", "w must be [head * e = 4, d]"},
                 [](Builder& b) {
                   heads_out(f64(b, {3, 2, 2}), f64(b, {5, 4}), f64(b, {4}));
                 }));
  add_call(wrong("heads_out", {"f64[4]", "z must be [rows, head, e]"}, [](Builder& b) {
    heads_out(f64(b, {4}), f64(b, {4, 4}), f64(b, {4}));
  }));

  // ---- gather and scatter
  add_call(
      wrong("gather_rows", {"f64[4, 2]", "f64[3]", "the index must be i32 or i64"}, [](Builder& b) {
        gather_rows(f64(b, {4, 2}), f64(b, {3}));
      }));
  add_call(wrong("gather_rows", {"f64[]", "i32[3]", "must be [n, ...], not []"},
                 [](Builder& b) { gather_rows(f64(b, {}), i32(b, {3})); }));
  add_call(wrong("gather_rows_from", {"the tables must be alike", "f64[2] is not like f64[4, 2]"},
                 [](Builder& b) {
                   gather_rows_from({f64(b, {4, 2}), f64(b, {2})}, i32(b, {3}));
                 }));
  add_call(wrong("gather_rows_from", {"f64[3]", "the index must be i32 or i64"}, [](Builder& b) {
    gather_rows_from({f64(b, {4, 2})}, f64(b, {3}));
  }));
  add_call(wrong("scatter_add_rows",
                 {"f64[4, 2]", "i32[3]", "must begin with the axes of the index"}, [](Builder& b) {
                   scatter_add_rows(f64(b, {4, 2}), i32(b, {3}), 5);
                 }));
  add_call(wrong("pick", {"f64[4, 2]", "i32[2]", "the index must have shape [4]"}, [](Builder& b) {
    pick(f64(b, {4, 2}), i32(b, {2}));
  }));
  add_call(wrong("unpick", {"f64[4]", "i32[2]", "must have the shape of x"},
                 [](Builder& b) { unpick(f64(b, {4}), i32(b, {2}), 3); }));

  // ---- training
  const auto raw = [](Builder& b, const char* op, const std::vector<Value>& in,
                      SourceLine line = SourceLine::here()) {
    b.emit(*find_op(op), in, NoAttributes{}, line);
  };
  add_call(wrong("linear_cross_entropy", {"f64[2, 3]", "f64[4, 5]", "w [vocabulary, d]"},
                 [](Builder& b) {
                   linear_cross_entropy(f64(b, {2, 3}), f64(b, {4, 5}), i32(b, {2}));
                 }));
  add_call(wrong("linear_cross_entropy",
                 {"f64[2, 3]", "i32[3]", "one target for each of the 2 rows"}, [](Builder& b) {
                   linear_cross_entropy(f64(b, {2, 3}), f64(b, {4, 3}), i32(b, {3}));
                 }));
  add_call(wrong("linear_cross_entropy_grads", {"f64[2, 3]", "f64[5]", "dloss must be f64[2]"},
                 [raw](Builder& b) {
                   raw(b, "linear_cross_entropy_grads",
                       {f64(b, {2, 3}), f64(b, {4, 3}), i32(b, {2}), f64(b, {5})});
                 }));
  add_call(wrong("sum_squares", {"i32[2]", "must be f32 or f64"},
                 [](Builder& b) { sum_squares(i32(b, {2})); }));
  add_call(wrong("adamw", {"f64[3, 5]", "f64[4]", "the state must be [3, 4]"}, [](Builder& b) {
    adamw(f64(b, {3, 5}), f64(b, {4}), f64(b, {}), f64(b, {3}), {});
  }));
  add_call(wrong("adamw", {"f64[3, 4]", "f64[2]", "the settings must be f64[3]"}, [](Builder& b) {
    adamw(f64(b, {3, 4}), f64(b, {4}), f64(b, {}), f64(b, {2}), {});
  }));
  add_call(wrong("write_rows",
                 {"f64[4, 2]", "f64[3, 2]", "x must be [2, 2], one row for each index"},
                 [](Builder& b) {
                   write_rows(f64(b, {4, 2}), f64(b, {3, 2}), i32(b, {2}));
                 }));
  add_call(
      wrong("sparse_linear", {"f64[2, 3]", "f64[4, 5]", "x must be [samples, d]"}, [](Builder& b) {
        sparse_linear(f64(b, {2, 3}), f64(b, {4, 5}), i32(b, {2, 1}));
      }));
  add_call(wrong("sparse_mix", {"f64[2, 3]", "i32[2, 1]", "one value for each place of the index"},
                 [](Builder& b) {
                   sparse_mix(f64(b, {2, 3}), f64(b, {4, 5}), i32(b, {2, 1}));
                 }));
  add_call(wrong("sparse_outer", {"f64[2, 1]", "the index must be [3, capacity], not [2, 1]"},
                 [](Builder& b) {
                   sparse_outer(f64(b, {2, 1}), f64(b, {3, 5}), i32(b, {2, 1}), 7);
                 }));
  add_call(wrong("active_features", {"f64[2, 3]", "the scale must be f64[3], not f64[4]"},
                 [](Builder& b) {
                   const Value dead = b.input("dead", {DType::boolean, {3}});
                   active_features(f64(b, {2, 3}), {f64(b, {4}), f64(b, {3}), dead}, {});
                 }));
  add_call(
      wrong("linear_active", {"f64[2, 3]", "dead must be bool[5], not bool[4]"}, [](Builder& b) {
        const Value dead = b.input("dead", {DType::boolean, {4}});
        linear_active(f64(b, {2, 3}), f64(b, {5, 3}), f64(b, {5}), {f64(b, {5}), f64(b, {5}), dead},
                      {});
      }));
  add_call(wrong("matching_pursuit", {"f64[2, 3]", "x must be [samples, d] and w [features, d]"},
                 [](Builder& b) {
                   matching_pursuit(f64(b, {2, 3}), f64(b, {5, 4}), {.steps = 2});
                 }));
  add_call(wrong("matching_pursuit", {"f64[2, 3]", "there must be at least one step, not 0"},
                 [](Builder& b) {
                   matching_pursuit(f64(b, {2, 3}), f64(b, {5, 3}), {.steps = 0});
                 }));
  add_call(wrong("solve_unit_lower", {"l must be [n, m, m] and b [n, m], not [2, 3, 4] and [2, 3]"},
                 [](Builder& b) {
                   solve_unit_lower(f64(b, {2, 3, 4}), f64(b, {2, 3}));
                 }));
  add_call(wrong("sparse_to_dense",
                 {"f64[2, 3]", "the index must be i32[2, capacity], not i32[3, 3]"},
                 [](Builder& b) {
                   sparse_to_dense(f64(b, {2, 3}), i32(b, {3, 3}), 7);
                 }));
  add_call(wrong("sparse_to_dense",
                 {"f64[2, 3]", "there must be one value for each place of the index [2, 4]"},
                 [](Builder& b) {
                   sparse_to_dense(f64(b, {2, 3}), i32(b, {2, 4}), 7);
                 }));
  add_call(wrong("sparse_pick", {"f64[2, 3]", "the index must be i32[2, capacity], not i32[5, 2]"},
                 [](Builder& b) {
                   sparse_pick(f64(b, {2, 3}), i32(b, {5, 2}));
                 }));
  add_call(wrong("top_mask", {"i32[2]", "x must be f32 or f64"},
                 [](Builder& b) { top_mask(i32(b, {2}), 1); }));
  const auto i64_pair = [](Builder& b) { return b.input("key", {DType::i64, {2}}); };
  add_call(wrong("dropout", {"i32[3]", "x must be f32 or f64"},
                 [i64_pair](Builder& b) { dropout(i32(b, {3}), i64_pair(b), 0.5, 0); }));
  add_call(wrong("dropout", {"f64[3]", "i32[2]", "the key must be i64[2] (seed, step)"},
                 [](Builder& b) { dropout(f64(b, {3}), i32(b, {2}), 0.5, 0); }));
  for (const double rate : {1.0, -0.1, std::nan("")}) {
    add_call(wrong("dropout", {"f64[3]", "the rate must be at least 0 and less than 1, not"},
                   [i64_pair, rate](Builder& b) { dropout(f64(b, {3}), i64_pair(b), rate, 0); }));
  }

  // ---- attention
  add_call(wrong("mask", {"f64[2, 3]", "the query and key axes must differ"}, [](Builder& b) {
    mask(f64(b, {2, 3}), 1, -1);
  }));
  add_call(wrong("mask", {"f64[2, 3]", "axis 2 is out of range"}, [](Builder& b) {
    mask(f64(b, {2, 3}), 0, 2);
  }));
  add_call(
      wrong("mask", {"f64[2, 3]", "i32[3]", "one entry for each of the 2 queries"}, [](Builder& b) {
        mask(f64(b, {2, 3}), i32(b, {3}), 0, 1);
      }));
  for (const Shape& k : {Shape{5, 3, 3}, Shape{5, 4, 3}, Shape{5, 0, 3}, Shape{5, 2, 4}}) {
    add_call(wrong("attention_scores",
                   {"f64[4, 2, 3]", to_string(k), "the same heads or whole groups of q's"},
                   [k](Builder& b) {
                     attention_scores(f64(b, {4, 2, 3}), f64(b, k), tables(b, 4), 1);
                   }));
  }
  add_call(
      wrong("attention_mix", {"f64[4, 2, 3]", "f64[4, 3, 2]", "or whole groups"}, [](Builder& b) {
        attention_mix(f64(b, {4, 2, 3}), f64(b, {4, 3, 2}), tables(b, 4));
      }));
  for (const std::int64_t group : {0, 3}) {
    add_call(wrong(
        "attention_mix_transposed", {fmt::format("2 heads do not divide into groups of {}", group)},
        [group](Builder& b) {
          attention_mix_transposed(f64(b, {4, 2, 3}), f64(b, {4, 2, 2}), tables(b, 4), 4, group);
        }));
  }
  const auto attend = [](Builder& b, const AttentionOptions& options, SourceLine line) {
    const Value x = f64(b, {4, 2, 3});
    attention(x, x, x, tables(b, 4), options, "", line);
  };
  add_call(wrong("attention", {"the window must be 0 (none) or more, not -1"},
                 [=](Builder& b) { attend(b, {.window = -1}, SourceLine::here()); }));
  for (const double cap : {-1.0, std::nan(""), HUGE_VAL}) {
    add_call(wrong("attention", {"the softcap must be 0 (none) or a number above it"},
                   [=](Builder& b) { attend(b, {.softcap = cap}, SourceLine::here()); }));
  }
  for (const double cap : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    add_call(wrong("softcap", {"the cap must be a number above 0, not"},
                   [=](Builder& b) { softcap(f64(b, {3}), cap); }));
  }
  add_call(wrong("mask", {"the window must be 0 (none) or more, not -2"}, [](Builder& b) {
    mask(f64(b, {2, 3}), Value(), Visibility{0, 1, 0, false, -2});
  }));
  add_call(wrong("rotary", {"f64[2, 4]", "x must be [rows, head, e], not [2, 4]"}, [](Builder& b) {
    rotary(f64(b, {2, 4}), i32(b, {2}), {});
  }));
  add_call(wrong("rotary", {"i32[3]", "the position table must be i32[2]"}, [](Builder& b) {
    rotary(f64(b, {2, 1, 4}), i32(b, {3}), {});
  }));
  add_call(
      wrong("rotary", {"the rule turns 6 entries of each head, but a head has 4"}, [](Builder& b) {
        rotary(f64(b, {2, 1, 4}), i32(b, {2}), RotaryRule{.inverse = {1, 2, 3}});
      }));
  add_call(
      wrong("attention_scores",
            {"f64[4, 2, 3]", "i32[5]", "the sequence table must have one entry for each of the 4"},
            [](Builder& b) {
              attention_scores(f64(b, {4, 2, 3}), f64(b, {4, 2, 3}), tables(b, 5), 1);
            }));
  add_call(wrong("attention_outer", {"f64[4, 6]", "f64[4, 2, 3]", "q must be [rows, head, e]"},
                 [](Builder& b) {
                   attention_outer(f64(b, {4, 6}), f64(b, {4, 2, 3}), tables(b, 4));
                 }));
  add_call(wrong("attention_mix",
                 {"f64[4, 2, 5]", "f64[4, 2, 3]", "i32[2, 3]", "5 key positions, the keys table 3"},
                 [](Builder& b) {
                   attention_mix(f64(b, {4, 2, 5}), f64(b, {4, 2, 3}), tables(b, 4));
                 }));
  add_call(wrong("attention_mix_transposed",
                 {"f64[4, 2, 3]", "f64[5, 2, 2]", "must have the same rows"}, [](Builder& b) {
                   attention_mix_transposed(f64(b, {4, 2, 3}), f64(b, {5, 2, 2}), tables(b, 4), 4);
                 }));
  add_call(wrong(
      "attention", {"f64[4, 2, 3]", "f64[5, 2, 3]", "f64[4, 2, 2]", "k [5, 2, 3] and v [4, 2, 2]"},
      [](Builder& b) {
        attention(f64(b, {4, 2, 3}), f64(b, {5, 2, 3}), f64(b, {4, 2, 2}), tables(b, 4), 1);
      }));
  const auto attention_grad = [](Builder& b, const Shape& keys, const Shape& dz, SourceLine line) {
    const RowValues t = tables(b, 4);
    b.emit(
        *find_op("attention_grad"),
        {f64(b, {4, 2, 3}), f64(b, keys), f64(b, keys), f64(b, dz), t.sequence, t.position, t.keys},
        AttentionRule{1, 0, ""}, line);
  };
  add_call(
      wrong("attention_grad", {"f64[4, 2, 3]", "f64[5, 2, 3]", "must be alike"}, [=](Builder& b) {
        attention_grad(b, {5, 2, 3}, {4, 2, 3}, SourceLine::here());
      }));
  add_call(wrong("attention_grad", {"f64[4, 2, 3]", "dz must be f64[4, 2, 3], not f64[4, 2, 2]"},
                 [=](Builder& b) {
                   attention_grad(b, {4, 2, 3}, {4, 2, 2}, SourceLine::here());
                 }));
  return calls;
}

void check_message(const WrongCall& wrong) {
  const std::string message = message_of<ShapeError>([&] {
    Builder b;
    const auto block = b.scope("blocks.0");
    const auto attn = b.scope("attn");
    wrong.call(b);
  });
  EXPECT_EQ(message.find(wrong.op + "("), 0U) << message;
  for (const std::string& text : wrong.says) EXPECT_THAT(message, HasSubstr(text));
  EXPECT_THAT(message, HasSubstr(" in blocks.0.attn, shape_error_test.cpp:"));
  // The call stands in the lambda: at most a few lines after the entry begins.
  bool found = false;
  for (int line = wrong.line.line; line < wrong.line.line + 4; ++line) {
    found =
        found || message.find(fmt::format("shape_error_test.cpp:{}: ", line)) != std::string::npos;
  }
  EXPECT_TRUE(found) << "expected the line of the call, about " << wrong.line.line << ": "
                     << message;
}

TEST(WrongCalls, AreExplained) {
  for (const WrongCall& wrong : wrong_calls()) {
    SCOPED_TRACE(fmt::format("{}, line {}", wrong.op, wrong.line.line));
    check_message(wrong);
  }
}

TEST(WrongCalls, AreTestedForEveryOp) {
  // Leaves are given their type, and these take anything.
  std::set<std::string> tested = {"input",  "parameter", "constant", "identity",
                                  "detach", "again",     "cast"};
  for (const WrongCall& wrong : wrong_calls()) tested.insert(wrong.op);
  for (const OpDef* op : all_ops()) EXPECT_TRUE(tested.contains(std::string(op->name))) << op->name;
}

TEST(WrongCalls, NameTheExactLineOfAFunctionAndOfAnOperator) {
  Builder b;
  const Value x = f64(b, {2, 3}), y = f64(b, {4});
  const auto at = [](int line) {
    return fmt::format("f64[2, 3], f64[4]), shape_error_test.cpp:{}: ", line);
  };
  EXPECT_ERROR(ShapeError, at(__LINE__), add(x, y));
  EXPECT_ERROR(ShapeError, at(__LINE__), x + y);
  EXPECT_ERROR(ShapeError, at(__LINE__), x * y);
  const int line = __LINE__ + 1;
  EXPECT_THAT(message_of<ShapeError>([&] { b.site("s", x, {}); }),
              HasSubstr(fmt::format("_test.cpp:{}: ", line)));
  const int empty = __LINE__ + 1;
  EXPECT_THAT(
      message_of<ShapeError>([&] { concat({}, 0); }),
      HasSubstr(fmt::format("concat() at shape_error_test.cpp:{}: there is nothing", empty)));
}

}  // namespace
}  // namespace vitrine::test

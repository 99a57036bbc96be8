// The op table as a whole: every op is documented, sampled, and computes the same whatever its
// inputs' strides and however many threads there are.
#include "autograd/ops/op_table.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "tests/autograd/graph/reach_check.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using ::testing::ElementsAreArray;

class EveryOp : public ::testing::TestWithParam<std::string> {
 protected:
  const OpDef& op() const { return *find_op(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Ops, EveryOp, ::testing::ValuesIn(op_names()),
                         [](const auto& tested) { return tested.param; });

TEST_P(EveryOp, HasSamples) {
  EXPECT_FALSE(samples_of(GetParam()).empty())
      << "add samples of '" << GetParam() << "' to its family in tests/autograd/samples_*.cpp";
}

TEST_P(EveryOp, SaysWhatItIs) {
  EXPECT_FALSE(op().doc.empty());
  EXPECT_EQ(op().doc.find('\n'), std::string_view::npos) << "the doc is one line";
  EXPECT_NE(op().infer, nullptr);
  EXPECT_NE(op().reach, nullptr);
  EXPECT_EQ(find_op(GetParam()), &op());
}

TEST_P(EveryOp, RunsOrIsALeaf) {
  const bool leaf = GetParam() == "input" || GetParam() == "parameter" || GetParam() == "constant";
  EXPECT_EQ(leaf, op().eval == nullptr && op().view == nullptr);
  EXPECT_EQ(op().interior != nullptr && op().expand == nullptr, false)
      << "interior sites need an expansion";
}

// Ops that move elements, and those that only compare them with a table, count no FLOPs.
TEST(OpTable, OpsThatComputeCountTheirFlops) {
  const std::set<std::string> movers = {
      "write_rows",       "input",  "parameter", "constant", "identity",     "site",
      "detach",           "again",  "reshape",   "permute",  "broadcast_to", "slice",
      "unslice",          "concat", "cast",      "select",   "gather_rows",  "sparse_pick",
      "gather_rows_from", "pick",   "unpick",    "mask"};
  for (const OpDef* op : all_ops()) {
    EXPECT_EQ(op->flops == nullptr, movers.contains(std::string(op->name))) << op->name;
  }
}

TEST(OpTable, NamesAreUnique) {
  const std::vector<std::string> names = op_names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  EXPECT_EQ(find_op("no_such_op"), nullptr);
}

TEST(OpTable, EveryDifferentiableOpHasAGradientOrAnExpansion) {
  const std::set<std::string> leaves = {"input", "parameter", "constant"};
  for (const OpDef* op : all_ops()) {
    if (leaves.contains(std::string(op->name))) continue;
    EXPECT_EQ(op->vjp == nullptr && op->expand == nullptr, op->integer_only) << op->name;
  }
}

TEST(OpTable, SamplesAreOfOpsAndHaveNamesOfTheirOwn) {
  std::set<std::pair<std::string, std::string>> seen;
  for (const Sample& s : all_samples()) {
    EXPECT_NE(find_op(s.op), nullptr) << s.op;
    EXPECT_TRUE(seen.insert({s.op, s.name}).second) << s.op << "." << s.name << " is there twice";
  }
}

// ---- samples ------------------------------------------------------------------------------------
// Bytes and all: NaN equals itself, 0 and -0 differ.
bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.dtype() == y.dtype() && x.shape() == y.shape() &&
         (x.bytes() == 0 ||
          std::memcmp(x.view().data, y.view().data, static_cast<std::size_t>(x.bytes())) == 0);
}

TEST_P(EveryOp, IsUsedByItsSamplesInWellFormedGraphs) {
  for_each_sample(GetParam(), [](const Sample& sample) {
    for (const DType dtype : {DType::f64, DType::f32}) {
      const Case c = make_case(sample, dtype);
      verify(c.graph);
      if (sample.op != "cast" || dtype == DType::f64) {  // a cast to f32 of f32 is no op
        EXPECT_GE(count_ops(c.graph, sample.op), 1);
      }
      const Tensor y = c.run("y");
      EXPECT_EQ((Type{y.dtype(), y.shape()}), c.graph.node(c.graph.output("y")).type);
    }
  });
}

TEST_P(EveryOp, GivesTheSameBitsWithAnyNumberOfThreads) {
  ThreadPool one(1), three(3);
  for_each_sample(GetParam(), [&](const Sample& sample) {
    const Case c = make_case(sample, DType::f32);
    EXPECT_TRUE(same_bits(c.run("y", {.pool = &one}), c.run("y", {.pool = &three})));
  });
}

// Each node again by itself, on contiguous copies of its inputs: strides must not matter.
void check_strides(const Sample& sample) {
  const Case c = make_case(sample);
  if (!c.parameters.empty()) return;
  const GraphReach values(c.graph, c.feeds);
  for (const Node& n : values.graph().nodes()) {
    if (n.inputs.empty()) continue;
    const OpCall call = values.call(n);
    EXPECT_LE(max_abs_difference(values.value(n.id), call.run()),
              1e-14 * std::max(1.0, max_abs(call.run())))
        << n.op->name;
    if (n.op->view == nullptr || n.op->eval == nullptr || call.in[0].numel() == 0) continue;
    OpDef only_a_view = *n.op;  // an op that is both gives the same either way
    only_a_view.eval = nullptr;
    OpCall seen = call;
    seen.op = &only_a_view;
    EXPECT_TRUE(same_bits(seen.run(), call.run())) << n.op->name;
  }
}

TEST_P(EveryOp, DoesNotDependOnStrides) { for_each_sample(GetParam(), check_strides); }

// ---- large enough that threads share the work
// ----------------------------------------------------
struct Large {
  std::string name;
  std::vector<Leaf> leaves;
  std::function<Value(Builder&, const std::vector<Value>&)> build;
};

std::vector<Large> large_cases() {
  using In = std::vector<Value>;
  std::vector<std::int32_t> ids(700), sequence(260), position(260), keys(260);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * i % 97) - 1;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    sequence[i] = static_cast<std::int32_t>(i / 130);
    position[i] = static_cast<std::int32_t>(i % 130);
    keys[i] = static_cast<std::int32_t>(i);
  }
  const Leaf x = normal("x", {700, 301}), wide = normal("x", {700, 300});
  const std::vector<Leaf> heads = {
      normal("q", {260, 3, 16}),         normal("k", {260, 3, 16}),
      normal("v", {260, 3, 16}),         ints("sequence", {260}, sequence),
      ints("position", {260}, position), ints("keys", {2, 130}, keys)};
  return {
      {"gelu_tanh", {x}, [](Builder&, const In& in) { return gelu_tanh(in[0]); }},
      {"mul", {x, normal("y", {700, 1})}, [](Builder&, const In& in) { return in[0] * in[1]; }},
      {"permute", {x}, [](Builder&, const In& in) { return transpose(in[0]) + 1.0; }},
      {"sum", {x}, [](Builder&, const In& in) { return sum(in[0]); }},
      {"sum_rows", {x}, [](Builder&, const In& in) { return sum(in[0], {0}); }},
      {"sum_columns", {x}, [](Builder&, const In& in) { return sum(in[0], {1}); }},
      {"max", {x}, [](Builder&, const In& in) { return max(in[0], {0}); }},
      {"softmax", {x}, [](Builder&, const In& in) { return softmax(in[0]); }},
      {"log_softmax", {x}, [](Builder&, const In& in) { return log_softmax(in[0]); }},
      {"layer_norm",
       {wide, normal("gain", {300}), normal("bias", {300})},
       [](Builder&, const In& in) { return layer_norm(in[0], in[1], in[2], 1e-5); }},
      {"layer_norm_gain_grad",
       {wide},
       [](Builder&, const In& in) { return layer_norm_gain_grad(in[0], in[0], 1e-5); }},
      {"dropout",
       {x, longs("key", {2}, {1, 2})},
       [](Builder&, const In& in) { return dropout(in[0], in[1], 0.1, 0); }},
      {"matmul",
       {x, normal("w", {301, 190})},
       [](Builder&, const In& in) { return matmul(in[0], in[1]); }},
      {"matmul_one_row",
       {normal("x", {1, 700}), normal("w", {700, 900})},
       [](Builder&, const In& in) { return matmul(in[0], in[1]); }},
      {"matmul_transposed",
       {x, normal("g", {700, 90})},
       [](Builder&, const In& in) { return matmul(transpose(in[0]), in[1]); }},
      {"scatter_add_rows",
       {x, ints("i", {700}, ids)},
       [](Builder&, const In& in) { return scatter_add_rows(in[0], in[1], 96); }},
      {"gather_rows",
       {x, ints("i", {700}, ids)},
       [](Builder&, const In& in) { return gather_rows(in[0], in[1]); }},
      {"attention", heads,
       [](Builder&, const In& in) {
         return attention(in[0], in[1], in[2], {in[3], in[4], in[5]}, 0.25);
       }},
      {"attention_mix_transposed", heads,
       [](Builder&, const In& in) {
         const RowValues rows{in[3], in[4], in[5]};
         return attention_mix_transposed(attention_outer(in[0], in[1], rows), in[2], rows, 260);
       }},
  };
}

TEST(LargeInputs, GiveTheSameBitsWithAnyNumberOfThreads) {
  ThreadPool one(1), three(3);
  for (const Large& large : large_cases()) {
    const Case c = make_case({"", large.name, large.leaves, large.build}, DType::f32);
    const Tensor expected = c.run("y", {.pool = &one});
    EXPECT_GT(max_abs(expected), 0) << large.name;
    for (int round = 0; round < 3; ++round)
      EXPECT_TRUE(same_bits(expected, c.run("y", {.pool = &three}))) << large.name;
  }
}

}  // namespace
}  // namespace vitrine::test

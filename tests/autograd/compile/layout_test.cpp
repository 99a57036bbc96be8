// The phases lay_out and place_results.
#include <gtest/gtest.h>

#include <set>

#include "autograd/ops/ops.h"
#include "tests/autograd/compile/drafts.h"

namespace vitrine::test {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }
using Where = Storage::Where;

TEST(LayOut, LeavesAndConstantsLieOutsideTheArena) {
  Builder b;
  const Value x = b.input("x", f32({2, 3})), w = b.parameter("w", f32({3})),
              v = b.parameter("v", f32({2, 3}));
  b.output("x", x);
  b.output("w", w);
  b.output("v", v);
  const Value c = b.constant(Tensor::of<float>({3}, {1, 2, 3}));
  b.output("c", c);
  b.output("y", x * c + v * w);
  const Graph g = std::move(b).finish();
  const Draft d = laid_out(g, fetch(value("y"), value("c"), value("x")));
  ASSERT_EQ(d.program.feeds.size(), 1u);
  EXPECT_EQ(d.program.feeds[0].name, "x");
  ASSERT_EQ(d.program.parameters.size(), 2u);
  ASSERT_EQ(d.program.constants.size(), 1u);
  EXPECT_EQ(d.program.constants[0].to_vector<float>(), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(storage(g, d, "x").where, Where::feed);
  EXPECT_EQ(storage(g, d, "c").where, Where::constant);
  for (const char* name : {"w", "v"}) {
    const Storage& s = storage(g, d, name);
    EXPECT_EQ(s.where, Where::parameter);
    EXPECT_EQ(d.program.parameters[static_cast<std::size_t>(s.at)].name, name);
    EXPECT_FALSE(d.program.parameters[static_cast<std::size_t>(s.at)].updated);
  }
  EXPECT_EQ(d.stats.parameter_bytes, 9 * 4);
  EXPECT_EQ(d.program.steps.size(), 3u);
  EXPECT_EQ(d.stats.intermediate_bytes, 3 * 6 * 4);
}

TEST(LayOut, ViewsShareTheStorageOfTheirInput) {
  Builder b;
  const Value x = b.input("x", f32({2, 6})), e = exp(x);
  b.output("e", e);
  b.output("view", permute(slice(e, 1, 2, 6, 2), {1, 0}));
  b.output("row", broadcast_to(slice(x, 0, 1, 2), {3, 6}));
  b.output("copy", reshape(transpose(e), {12}));  // no layout over e says this
  const Graph g = std::move(b).finish();
  const Draft d = laid_out(g, fetch(value("view"), value("row"), value("copy")));
  EXPECT_EQ(d.program.steps.size(), 2u);
  EXPECT_EQ(d.stats.views, 5);
  const Operand &e_of = operand(g, d, "e"), &view = operand(g, d, "view"),
                &row = operand(g, d, "row"), &copy = operand(g, d, "copy");
  EXPECT_EQ(view.storage, e_of.storage);
  EXPECT_EQ(view.layout.shape, Shape({2, 2}));
  EXPECT_EQ(view.layout.strides, Strides({2, 6}));
  EXPECT_EQ(view.layout.offset, 2);
  EXPECT_EQ(storage(g, d, "row").where, Where::feed);
  EXPECT_EQ(row.layout.strides, Strides({0, 1}));
  EXPECT_EQ(row.layout.offset, 6);
  EXPECT_NE(copy.storage, e_of.storage);
  EXPECT_TRUE(d.program.covers_its_storage(e_of));
  EXPECT_TRUE(d.program.covers_its_storage(copy));
  EXPECT_FALSE(d.program.covers_its_storage(view));
  EXPECT_FALSE(d.program.covers_its_storage(row));
}

// Sites and what is computed twice have the operand of what they equal; what nobody wants has none.
TEST(LayOut, MergedNodesHaveOneOperand) {
  Builder b;
  const Value x = b.input("x", f32({3}));
  const Value a = b.site("s", exp(x), {Axis::feature}), twin = identity(exp(x));
  b.output("a", a);
  b.output("twin", twin);
  b.output("dead", sin(x));
  b.output("y", a + twin);
  const Graph g = std::move(b).finish();
  const Draft d = laid_out(g, fetch(value("y")));
  EXPECT_EQ(d.program.steps.size(), 2u);
  EXPECT_EQ(operand(g, d, "a").storage, operand(g, d, "twin").storage);
  const std::vector<Operand>& in = d.program.steps[1].in;
  ASSERT_EQ(in.size(), 2u);
  EXPECT_EQ(in[0].storage, operand(g, d, "a").storage);
  EXPECT_EQ(in[1].storage, operand(g, d, "a").storage);
  EXPECT_EQ(operand(g, d, "dead").storage, -1);
}

TEST(LayOut, AFusedNodeIsOneStep) {
  Builder b;
  const Value x = b.input("x", f32({2, 3})), w = b.input("w", f32({3, 4})),
              bias = b.input("bias", f32({4}));
  const Value pre = linear(x, w, bias);
  b.output("pre", pre);
  b.output("y", relu(pre));
  const Graph g = std::move(b).finish();
  const Draft one = laid_out(g, fetch(value("y")));
  ASSERT_EQ(one.program.steps.size(), 1u);
  EXPECT_EQ(one.program.fused.size(), 1u);
  EXPECT_EQ(one.stats.fused, 1);
  EXPECT_EQ(one.program.steps[0].node, one.program.fused[0].get());
  EXPECT_EQ(one.program.steps[0].in.size(), 3u);
  EXPECT_EQ(one.program.steps[0].out.storage, operand(g, one, "y").storage);
  EXPECT_EQ(operand(g, one, "pre").storage, -1);
  const Draft two = laid_out(g, fetch(value("y"), value("pre")));
  EXPECT_EQ(two.program.steps.size(), 2u);
  EXPECT_TRUE(two.program.fused.empty());
}

TEST(LayOut, StepsWorkInStorageOfTheirOwn) {
  Builder b;
  const Value x = b.input("x", f32({5, 4})), w = b.input("w", f32({7, 4}));
  b.output("y", linear_cross_entropy(x, w, b.input("targets", {DType::i32, {5}})));
  const Graph g = std::move(b).finish();
  const Draft d = laid_out(g, fetch(value("y")));
  ASSERT_EQ(d.program.steps.size(), 1u);
  const Step& step = d.program.steps[0];
  ASSERT_GE(step.scratch, 0);
  EXPECT_NE(step.scratch, step.out.storage);
  EXPECT_EQ(d.program.storage[static_cast<std::size_t>(step.scratch)].where, Where::arena);
  EXPECT_GT(d.program.storage[static_cast<std::size_t>(step.scratch)].bytes, 0);
  EXPECT_EQ(d.stats.intermediate_bytes, 5 * 4);  // scratch is none
  EXPECT_GT(step.flops, 0);
  EXPECT_EQ(d.stats.flops, step.flops);
}

// In the order of the graph, every step writes a storage that nothing wrote before, contiguous, and
// reads what is there already.
TEST(LayOut, RandomGraphsAreInOrder) {
  for (int number = 0; number < 50; ++number) {
    SCOPED_TRACE(number);
    const RandomProgram p = random_program(number);
    const Draft d = laid_out(p.graph, p.fetch(), p.updates);
    std::set<int> written;
    for (const Step& s : d.program.steps) {
      for (const Operand& o : s.in) {
        EXPECT_TRUE(d.program.storage_of(o).where != Where::arena || written.contains(o.storage));
      }
      EXPECT_TRUE(d.program.covers_its_storage(s.out));
      EXPECT_EQ(d.program.storage_of(s.out).where, Where::arena);
      EXPECT_TRUE(written.insert(s.out.storage).second);
    }
    for (const std::string& name : p.wanted_outputs)
      EXPECT_GE(operand(p.graph, d, name).storage, 0) << name;
  }
}

TEST(PlaceResults, WantedValuesLeaveTheArena) {
  Builder b;
  const Value x = b.input("x", f32({2, 3})), e = exp(x), s = sin(e);
  b.output("e", e);
  b.output("turned", transpose(e));
  b.output("y", sum(s));
  b.output("sin", s);
  const Graph g = std::move(b).finish();
  const Draft d = with_results(g, fetch(value("turned"), value("e"), value("y")));
  EXPECT_EQ(storage(g, d, "e").where, Where::result);
  EXPECT_EQ(storage(g, d, "y").where, Where::result);
  EXPECT_EQ(storage(g, d, "sin").where, Where::arena);
  // Two results that look into one storage share its buffer.
  ASSERT_EQ(d.program.result_buffers.size(), 2u);
  EXPECT_EQ(d.program.result_buffers[static_cast<std::size_t>(storage(g, d, "e").at)], f32({6}));
  EXPECT_EQ(d.program.result_buffers[static_cast<std::size_t>(storage(g, d, "y").at)], f32({1}));
  EXPECT_EQ(d.stats.result_bytes, 6 * 4 + 4);
  ASSERT_EQ(d.program.results.size(), 3u);
  EXPECT_EQ(d.program.results[0].name, "turned");
  EXPECT_EQ(d.program.results[0].operand.storage, d.program.results[1].operand.storage);
  EXPECT_EQ(d.program.results[0].operand.layout.strides, Strides({1, 3}));
}

TEST(PlaceResults, LeavesAndConstantsStayWhereTheyAre) {
  Builder b;
  b.output("w", transpose(b.parameter("w", f32({2, 2}))));
  b.output("c", b.constant(Tensor::of<float>({1}, {3})));
  const Graph g = std::move(b).finish();
  const Draft d = with_results(g, fetch(value("w"), value("c")));
  EXPECT_TRUE(d.program.result_buffers.empty());
  EXPECT_EQ(d.stats.result_bytes, 0);
  EXPECT_EQ(storage(g, d, "w").where, Where::parameter);
  EXPECT_EQ(storage(g, d, "c").where, Where::constant);
  EXPECT_TRUE(d.program.steps.empty());
}

// A site's axes go with its result, under whichever name it is wanted.
TEST(WantedNodes, KnowTheirAxes) {
  Builder b;
  const Value s = b.site("s", exp(b.input("x", f32({2, 3}))), {Axis::batch, Axis::feature});
  b.output("same", s);
  b.output("sum", sum(s));
  const Graph g = std::move(b).finish();
  const auto nodes =
      wanted_nodes(g, fetch(sites("*"), before(Site{"s"}), value("same"), value("sum")));
  ASSERT_EQ(nodes.size(), 4u);
  EXPECT_EQ(nodes[0].name, "s");
  EXPECT_EQ(nodes[1].name, "before(s)");
  EXPECT_NE(nodes[0].node, nodes[1].node);
  EXPECT_EQ(nodes[2].node, nodes[0].node);
  const Axes axes = {Axis::batch, Axis::feature};
  EXPECT_EQ(nodes[0].axes, axes);
  EXPECT_EQ(nodes[1].axes, axes);
  EXPECT_EQ(nodes[2].axes, axes);
  EXPECT_TRUE(nodes[3].axes.empty());
}

}  // namespace
}  // namespace vitrine::test

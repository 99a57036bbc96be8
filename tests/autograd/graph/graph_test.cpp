#include "autograd/graph/graph.h"

#include "autograd/compile/optimise.h"
#include "autograd/compile/plan.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }

// y = relu(x w) + 1, with a site in the middle.
Graph small_graph() {
  Builder b;
  const Value x = b.input("x", f32({4, 3}));
  const Value w = b.parameter("w", f32({3, 2}));
  const Value hidden = b.site("mine.hidden", matmul(x, w), {Axis::batch, Axis::feature});
  b.output("y", relu(hidden) + 1.0);
  return std::move(b).finish();
}

TEST(Graph, PrintsOneLineANode) {
  EXPECT_EQ(small_graph().to_text(),
            "x  : f32[4, 3] = input\n"
            "w  : f32[3, 2] = parameter\n"
            "%2 : f32[4, 2] = matmul(x, w)\n"
            "%3 : f32[4, 2] = site(%2)    # mine.hidden [batch, feature]\n"
            "%4 : f32[4, 2] = relu(%3)\n"
            "%6 : f32[4, 2] = add(%4, 1)  # -> y\n");
}

TEST(Graph, DrawsItselfForGraphviz) {
  const std::string dot = small_graph().to_dot();
  EXPECT_NE(dot.find("digraph vitrine {"), std::string::npos);
  EXPECT_NE(dot.find("n3 [label=\"mine.hidden\\nf32[4, 2]\" shape=box"), std::string::npos);
  EXPECT_NE(dot.find("n2 -> n3;"), std::string::npos);
}

TEST(Graph, ErrorsPointAtTheLineOfTheModel) {
  Builder b;
  const auto scope = b.scope("blocks.0");
  const Value a = b.input("a", f32({2, 3})), c = b.input("c", f32({4, 3}));
  const int line = __LINE__ + 1;
  EXPECT_ERROR(ShapeError,
               fmt::format("add(f32[2, 3], f32[4, 3]) in blocks.0, graph_test.cpp:{}: shapes [2, "
                           "3] and [4, 3] do not broadcast",
                           line),
               a + c);
  EXPECT_ERROR(ShapeError,
               "matmul(f32[2, 3], f32[4, 3]) in blocks.0, graph_test.cpp:", matmul(a, c));
}

TEST(Graph, NamesAreUsedOnce) {
  Builder b;
  const Value x = b.input("x", f32({2}));
  EXPECT_EQ(b.input("x", f32({2})).id(), x.id());
  EXPECT_ERROR(GraphError, "'x' is already the input f32[2]; it cannot also be the input f32[3]",
               b.input("x", f32({3})));
  EXPECT_ERROR(GraphError, "it cannot also be the parameter f32[2]", b.parameter("x", f32({2})));
  b.site("s", x, {Axis::feature});
  EXPECT_ERROR(GraphError, "site 's' is named twice", b.site("s", x, {Axis::feature}));
  EXPECT_ERROR(ShapeError, "site 't' names 2 axes, but its value has 1",
               b.site("t", x, {Axis::batch, Axis::feature}));
}

TEST(Graph, ValuesBelongToOneBuilder) {
  Builder a, b;
  const Value x = a.input("x", f32({2})), y = b.input("y", f32({2}));
  EXPECT_ERROR(GraphError, "input 1 belongs to another graph", x + y);
  EXPECT_ERROR(GraphError, "this Value is undefined", neg(Value()));
}

TEST(Graph, LooksThingsUp) {
  const Graph g = small_graph();
  EXPECT_EQ(g.site_names(), std::vector<std::string>{"mine.hidden"});
  EXPECT_EQ(g.site("mine.hidden").before, 2);
  EXPECT_ERROR(SiteError, "there is no site 'mine.hiden' (did you mean mine.hidden?)",
               g.site("mine.hiden"));
  EXPECT_ERROR(GraphError, "the graph has no output 'z'; it has: y", g.output("z"));
  EXPECT_ERROR(GraphError, "the graph has no node %99", g.node(99));
  EXPECT_EQ(g.leaf("w"), 1);
  EXPECT_EQ(g.leaf("none"), kNoNode);
}

TEST(Graph, IdsPersistAcrossTransformations) {
  const Graph g = small_graph();
  Builder b(g);
  const Value edited = b.value(g.site("mine.hidden").before) * 2.0;
  b.edit_site("mine.hidden", edited);
  const Graph h = std::move(b).finish();
  EXPECT_EQ(h.site("mine.hidden").node, g.site("mine.hidden").node);
  EXPECT_EQ(h.site("mine.hidden").before, g.site("mine.hidden").before);
  EXPECT_EQ(h.output("y"), g.output("y"));
  EXPECT_NO_THROW(verify(h));
  EXPECT_NE(h.hash(), g.hash());
}

TEST(Graph, AnEditThatClosesACycleIsRefused) {
  Builder b(small_graph());
  b.edit_site("mine.hidden", identity(b.output("y")));
  EXPECT_ERROR(GraphError, "depends on itself: an edit closed a cycle", std::move(b).finish());
}

TEST(Graph, AnEditKeepsTheType) {
  Builder b(small_graph());
  const Value wrong = b.input("wrong", f32({4, 3}));
  EXPECT_ERROR(GraphError, "it cannot be replaced by a f32[4, 3]",
               b.edit_site("mine.hidden", wrong));
}

TEST(Graph, HashesStructureNotIds) {
  EXPECT_EQ(small_graph().hash(), small_graph().hash());
  EXPECT_TRUE(same_program(small_graph(), small_graph()));
  Builder b;
  b.input("unused", f32({1}));
  const Value x = b.input("x", f32({4, 3})), w = b.parameter("w", f32({3, 2}));
  b.output("y", relu(b.site("mine.hidden", matmul(x, w), {Axis::batch, Axis::feature})) + 1.000001);
  EXPECT_FALSE(same_program(small_graph(), std::move(b).finish()));
}

TEST(Attributes, SayWhatIsNotAsUsual) {
  EXPECT_EQ(to_string(AttentionRule{0.5, 0, "attn"}), "scale=0.5");
  EXPECT_EQ(to_string(AttentionRule{0.5, 1, "", 5, 30}), "scale=0.5 offset=1 window=5 softcap=30");
  EXPECT_EQ(to_string(Visibility{0, 2, 0, true, 5}), "query=0 key=2 offset=0 window=5 fill=0");
  EXPECT_EQ(to_string(RowCount{7}), "size=7");
  EXPECT_EQ(to_string(RowCount{7, 2}), "size=7 group=2");
  EXPECT_EQ(to_string(RotaryRule{{1, 0.5}}), "dimensions=4");
  EXPECT_EQ(to_string(RotaryRule{{1}, 1.25}), "dimensions=2 scale=1.25");
  EXPECT_EQ(to_string(SoftcapRule{30}), "cap=30");
  EXPECT_EQ(to_string(HeadsRule{.heads = 4}), "heads=4");
  EXPECT_EQ(to_string(HeadsRule{.heads = 4, .norm = NormKind::rms_norm, .biased = false}),
            "heads=4 norm=rms bias=none");
}

// What printing rounds away makes another program all the same.
TEST(Attributes, DifferInWhatTheyCompute) {
  const std::pair<Attributes, Attributes> pairs[] = {
      {RotaryRule{{1, 0.5}}, RotaryRule{{1, 0.5000000001}}},
      {RotaryRule{{1}}, RotaryRule{{1}, 1.0000000001}},
      {SoftcapRule{30}, SoftcapRule{30.000000001}},
      {AttentionRule{1, 0, "", 0, 30}, AttentionRule{1, 0, "", 0, 30.000000001}},
      {AttentionRule{1, 0, "", 4}, AttentionRule{1, 0, "", 5}},
      {HeadsRule{.heads = 4}, HeadsRule{.heads = 4, .norm = NormKind::rms_norm}}};
  for (const auto& [a, b] : pairs) {
    EXPECT_FALSE(a == b) << to_string(a);
    EXPECT_NE(hash_of(a), hash_of(b)) << to_string(a);
    EXPECT_EQ(hash_of(a), hash_of(Attributes(a)));
  }
}

TEST(Graph, VerifyFindsADamagedNode) {
  Builder b;
  const Value x = b.input("x", f32({2, 3}));
  b.output("y", sum(x, {1}));
  const Graph g = std::move(b).finish();
  const_cast<Node&>(g.node(g.output("y"))).type = f32({3});
  EXPECT_ERROR(GraphError, "its type is f32[3], but the shape rule gives f32[2]", verify(g));
}

TEST(Sites, Patterns) {
  EXPECT_TRUE(matches("*", "anything"));
  EXPECT_TRUE(matches("blocks.*.hook_z", "blocks.11.hook_z"));
  EXPECT_TRUE(matches("*a*b*", "xxaxxbxx"));
  EXPECT_FALSE(matches("*a*b", "xxaxxbxx"));
  EXPECT_TRUE(matches("", ""));
  EXPECT_FALSE(matches("a", ""));
  const std::vector<std::string> names = {"a.one", "a.two", "b.one"};
  EXPECT_EQ(select_sites(sites("a.*"), names), (std::vector<std::string>{"a.one", "a.two"}));
  EXPECT_EQ(select_sites(sites(" b.one , a.one "), names),
            (std::vector<std::string>{"a.one", "b.one"}));
  EXPECT_ERROR(SiteError, "no site matches 'c.*'", select_sites(sites("a.*,c.*"), names));
  EXPECT_ERROR(SiteError, "there is no site 'a.oen' (did you mean a.one",
               select_sites(sites("a.oen"), names));
}

}  // namespace
}  // namespace vitrine

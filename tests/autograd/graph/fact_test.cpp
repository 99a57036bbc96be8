// Facts: a mask states that future keys are -inf, softmax turns that into exact zeros, the
// contraction over keys reads it. So causality can be read off a graph, and is lost exactly where
// somebody edits it away.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "autograd/ops/op_table.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"
#include "tests/autograd/graph/reach_check.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using ::testing::Contains;
using ::testing::Not;
using In = std::vector<Value>;

// ---- a fact is a claim about values: look at them
// ------------------------------------------------ The positions that the graph's masks read, if
// they read a table.
std::vector<std::int32_t> mask_table(const GraphReach& g) {
  for (const Node& n : g.graph().nodes()) {
    if (n.op->name == "mask" && n.inputs.size() > 1)
      return g.value(n.inputs[1]).to_vector<std::int32_t>();
  }
  return {};
}

// How many entries the facts of the graph speak of; fails where one of them is not what its fact
// says.
int check_facts(const GraphReach& g) {
  const std::vector<std::int32_t> positions = mask_table(g);
  int entries = 0;
  for (const Node& n : g.graph().nodes()) {
    const Fact fact = g.fact(n.id);
    if (fact.kind == Fact::Kind::none) continue;
    const double expected =
        fact.kind == Fact::Kind::zero ? 0 : -std::numeric_limits<double>::infinity();
    const std::vector<double> values = g.value(n.id).to_vector<double>();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Dims index = index_of(static_cast<std::int64_t>(i), n.type.shape);
      const std::int64_t query = index[fact.query_axis];
      const std::int64_t position =
          fact.query == Coordinate::index ? query : positions.at(static_cast<std::size_t>(query));
      const std::int64_t key = index[fact.key_axis];
      const bool in_window = fact.window == 0 || position - key < fact.window;
      if (key <= position + fact.offset && in_window) continue;
      ++entries;
      EXPECT_EQ(values[i], expected) << n.op->name << " at " << to_string(index);
    }
  }
  return entries;
}

GraphReach known(const Sample& sample) {
  const Case c = make_case(sample);
  return GraphReach(c.graph, c.feeds);
}

TEST(Facts, HoldInEverySample) {
  int entries = 0;
  for (const Sample& sample : all_samples()) {
    SCOPED_TRACE(sample.op + "." + sample.name);
    if (sample.op != "parameter") entries += check_facts(known(sample));
  }
  EXPECT_GT(entries, 300);
}

// Every op after a mask, of both kinds: what it says of its output must be so.
struct AfterMask {
  std::string name;
  Value (*f)(const Value&);
  bool keeps_masked = false,
       keeps_zero = false;  // the fact should survive: else causality would be lost needlessly
};

const std::vector<AfterMask>& after_mask() {
  static const std::vector<AfterMask> kOps = {
      {"identity", [](const Value& x) { return identity(x); }, true, true},
      {"detach", [](const Value& x) { return detach(x); }, true, true},
      {"again", [](const Value& x) { return again(x); }, true, true},
      {"site",
       [](const Value& x) {
         return x.builder().site("s", x, {Axis::head, Axis::query, Axis::key});
       },
       true, true},
      {"neg", [](const Value& x) { return -x; }, false, true},
      {"abs", [](const Value& x) { return abs(x); }, false, true},
      {"square", [](const Value& x) { return square(x); }, false, true},
      {"exp", [](const Value& x) { return exp(x); }, true, false},
      {"sign", [](const Value& x) { return sign(x); }, false, true},
      {"sqrt", [](const Value& x) { return sqrt(x); }, false, true},
      {"rsqrt", [](const Value& x) { return rsqrt(x); }},
      {"reciprocal", [](const Value& x) { return reciprocal(x); }},
      {"log", [](const Value& x) { return log(x); }},
      {"sin", [](const Value& x) { return sin(x); }, false, true},
      {"cos", [](const Value& x) { return cos(x); }},
      {"erf", [](const Value& x) { return erf(x); }, false, true},
      {"sigmoid", [](const Value& x) { return sigmoid(x); }},
      {"relu", [](const Value& x) { return relu(x); }, false, true},
      {"silu", [](const Value& x) { return silu(x); }, false, true},
      {"softcap", [](const Value& x) { return softcap(x, 1.5); }, true, true},
      {"gelu_tanh", [](const Value& x) { return gelu_tanh(x); }, false, true},
      {"gelu_erf", [](const Value& x) { return gelu_erf(x); }, false, true},
      {"gelu_tanh_slope", [](const Value& x) { return gelu_tanh_slope(x); }},
      {"gelu_erf_slope", [](const Value& x) { return gelu_erf_slope(x); }},
      {"tanh", [](const Value& x) { return tanh(x); }, false, true},
      {"add", [](const Value& x) { return x + 1.0; }},
      {"mul", [](const Value& x) { return x * 2.0; }, false, true},
      {"mul_right", [](const Value& x) { return 2.0 * x; }, false, true},
      {"div", [](const Value& x) { return x / 2.0; }},
      {"select",
       [](const Value& x) { return select(less(x, x.builder().scalar(0, x.dtype())), abs(x), x); }},
      {"permute",
       [](const Value& x) {
         return permute(x, {2, 0, 1});
       },
       true, true},
      {"transpose", [](const Value& x) { return transpose(x); }, true, true},
      {"broadcast_heads",
       [](const Value& x) {
         return broadcast_to(x, {2, 2, 4, 4});
       },
       true, true},
      {"slice_heads", [](const Value& x) { return slice(x, 0, 1, 2); }, true, true},
      {"slice_queries", [](const Value& x) { return slice(x, 1, 1, 4); }},
      {"slice_keys", [](const Value& x) { return slice(x, 2, 1, 4); }},
      {"reshape",
       [](const Value& x) {
         return reshape(x, {8, 4});
       }},
      {"concat",
       [](const Value& x) {
         return concat({x, x + 1.0}, 1);
       }},
      {"cast_f32", [](const Value& x) { return cast(x, DType::f32); }, true, true},
      {"cast_i32", [](const Value& x) { return cast(x, DType::i32); }, false, true},
      {"cast_boolean", [](const Value& x) { return cast(x, DType::boolean); }, false, true},
      {"softmax", [](const Value& x) { return softmax(x); }, true, false},
      {"softmax_over_queries", [](const Value& x) { return softmax(transpose(x)); }},
      {"softmax_grad", [](const Value& x) { return softmax_grad(softmax(x), x * 0.0 + 1.0); }},
      {"log_softmax", [](const Value& x) { return log_softmax(x); }},
      {"sum_heads", [](const Value& x) { return sum(x, {0}); }},
      {"dropout",
       [](const Value& x) {
         return dropout(x, x.builder().constant(Tensor::of<std::int64_t>({2}, {5, 6})), 0.5, 0);
       },
       false, true},
      {"mask_again", [](const Value& x) { return mask(x, 1, 2, 1); }, true, false},
  };
  return kOps;
}

TEST(Facts, HoldAfterEveryOp) {
  for (const AfterMask& op : after_mask()) {
    for (const auto& [zero, window] : {std::pair{false, 0}, {true, 0}, {false, 2}, {true, 2}}) {
      if (op.name == "softmax_grad" && !zero) continue;  // would multiply -inf by 0
      SCOPED_TRACE(fmt::format("{} of a mask with {}", op.name, zero ? "zeros" : "-inf"));
      const Sample sample{
          "mask",
          op.name,
          {normal("x", {2, 4, 4})},
          [&, zero = zero, window = window](Builder& b, const In& in) {
            Visibility rule{1, 2, 0, zero, window};
            return op.f(b.emit(*find_op("mask"), {in[0]}, rule, SourceLine::here()));
          }};
      const GraphReach g = known(sample);
      check_facts(g);
      if (zero ? op.keeps_zero : op.keeps_masked) {
        EXPECT_NE(g.fact(g.graph().output("y")).kind, Fact::Kind::none);
      }
    }
  }
}

// ---- causality in the graph
// ----------------------------------------------------------------------
struct Attended {
  Sample sample;
  std::vector<std::int32_t> sequence, position, keys;
  std::int64_t key_positions;
};

// Two prompts of different length, packed out of order; the keys of one are not in order either.
Attended ragged(std::int64_t offset = 0, std::int64_t window = 0) {
  Attended a;
  a.sequence = {1, 0, 0, 1, 0};
  a.position = {0, 2, 0, 1, 1};
  a.keys = {2, 0, 4, 3, 1, -1};
  a.key_positions = 3;
  a.sample = {"attention",
              "ragged",
              {normal("q", {5, 2, 2}), normal("k", {5, 2, 2}), normal("v", {5, 2, 2}),
               ints("sequence", {5}, a.sequence), ints("position", {5}, a.position),
               ints("keys", {2, 3}, a.keys)},
              [offset, window](Builder& b, const In& in) {
                b.rows(in[3], in[4], in[5]);
                return attention(in[0], in[1], in[2], {in[3], in[4], in[5]},
                                 {.scale = 0.7, .offset = offset, .window = window}, "attn");
              }};
  return a;
}
// Whether key row j is a key of query row r: of the same sequence, at most `offset` ahead and in the
// window.
bool visible(const Attended& a, std::int64_t r, std::int64_t j, std::int64_t offset,
             std::int64_t window = 0) {
  for (std::int64_t c = 0; c < a.key_positions; ++c) {
    if (window != 0 && a.position[static_cast<std::size_t>(r)] - c >= window) continue;
    const auto at =
        static_cast<std::size_t>(a.sequence[static_cast<std::size_t>(r)] * a.key_positions + c);
    if (a.keys[at] == j && c <= a.position[static_cast<std::size_t>(r)] + offset) return true;
  }
  return false;
}

Link position_link(Relation relation, std::int64_t offset) {
  return {.in_axis = 0,
          .in = Coordinate::position,
          .out_axis = 0,
          .out = Coordinate::position,
          .relation = relation,
          .offset = offset};
}

Graph expanded(const Graph& graph, std::string_view op = "attention") {
  Builder b(graph);
  for (const Node& n : graph.nodes()) {
    if (n.op->name == op) b.expand(n.id);
  }
  return std::move(b).finish();
}
const Node& only(const Graph& g, std::string_view op) {
  const Node* found = nullptr;
  for (const Node& n : g.nodes()) {
    if (n.op->name == op) {
      EXPECT_EQ(found, nullptr) << "more than one " << op;
      found = &n;
    }
  }
  if (found == nullptr) throw GraphError(fmt::format("no {} in the graph", op));
  return *found;
}

TEST(Causality, OfTheCompositeIsALinkOfPositions) {
  for (const std::int64_t offset : {0, -1, 2}) {
    const Case c = make_case(ragged(offset, 2).sample);
    const GraphReach g(c.graph, c.feeds);
    const Reach reach = g.call(only(g.graph(), "attention")).reach();
    for (const int key : {1, 2}) {
      EXPECT_THAT(reach[key].links, Contains(position_link(Relation::at_most, offset)));
      EXPECT_THAT(reach[key].links, Contains(position_link(Relation::at_least, -1)));
    }
  }
}

TEST(Causality, OfTheExpansionComesFromTheFact) {
  const Case c = make_case(ragged().sample);
  const GraphReach g(expanded(c.graph), c.feeds);
  const Node& mix = only(g.graph(), "attention_mix");
  EXPECT_EQ(g.fact(mix.inputs[0]),
            (Fact{Fact::Kind::zero, 0, 2, Coordinate::position, 0, mix.inputs[3]}));
  EXPECT_THAT(g.call(mix).reach()[1].links, Contains(position_link(Relation::at_most, 0)));
  EXPECT_THAT(g.call(mix).reach()[1].links, Not(Contains(position_link(Relation::at_least, -1))));
}

TEST(Causality, OfAWindowIsInTheSameFact) {
  const Case c = make_case(ragged(0, 2).sample);
  const GraphReach g(expanded(c.graph), c.feeds);
  const Node& mix = only(g.graph(), "attention_mix");
  EXPECT_EQ(g.fact(mix.inputs[0]),
            (Fact{Fact::Kind::zero, 0, 2, Coordinate::position, 0, mix.inputs[3], 2}));
  EXPECT_THAT(g.call(mix).reach()[1].links, Contains(position_link(Relation::at_most, 0)));
  EXPECT_THAT(g.call(mix).reach()[1].links, Contains(position_link(Relation::at_least, -1)));
}

// Composite and expansion let the same elements reach the same outputs: keys of the own sequence,
// not ahead, one head.
TEST(Causality, CompositeAndExpansionReachTheSame) {
  for (const auto& [offset, window] : {std::pair{0, 0}, {-1, 0}, {1, 0}, {0, 1}, {0, 2}, {1, 2}}) {
    const Attended a = ragged(offset, window);
    const Case c = make_case(a.sample);
    const GraphReach whole(c.graph, c.feeds), parts(expanded(c.graph), c.feeds);
    for (const std::string name : {"q", "k", "v"}) {
      const NodeId leaf = c.graph.leaf(name), y = c.graph.output("y");
      for (std::int64_t i = 0; i < 20; ++i) {
        const std::vector<bool> reached = whole.reached(leaf, i, y);
        // The expansion also sees that a query without keys matters to nothing.
        std::vector<bool> expected = reached;
        for (std::int64_t o = 0; name == "q" && o < 20; ++o) {
          const std::int64_t row = index_of(o, {5, 2, 2})[0];
          bool sees = false;
          for (std::int64_t j = 0; j < 5; ++j) sees = sees || visible(a, row, j, offset, window);
          if (!sees) expected[static_cast<std::size_t>(o)] = false;
        }
        EXPECT_EQ(parts.reached(leaf, i, y), expected) << name << i;
        for (std::int64_t o = 0; o < 20; ++o) {
          const Dims in = index_of(i, {5, 2, 2}), out = index_of(o, {5, 2, 2});
          const bool row =
              name == "q" ? in[0] == out[0] : visible(a, out[0], in[0], offset, window);
          EXPECT_EQ(reached[static_cast<std::size_t>(o)],
                    row && in[1] == out[1] && (name != "v" || in[2] == out[2]))
              << name << to_string(in) << " to " << to_string(out);
        }
      }
    }
  }
}

// A mask by another table than the one that places the rows proves nothing about their positions.
TEST(Causality, IsOfTheTableThatTheMaskRead) {
  Builder b;
  const auto table = [&](const char* name, const Shape& shape) {
    return b.input(name, {DType::i32, shape});
  };
  const Value p = b.input("p", {DType::f64, {2, 1, 2}}), v = b.input("v", {DType::f64, {2, 1, 3}});
  const Value position = table("position", {2}), ahead = table("ahead", {2});
  const RowValues rows{table("sequence", {2}), position, table("keys", {1, 2})};
  b.output("right", attention_mix(softmax(mask(p, position, 0, 2)), v, rows));
  b.output("wrong", attention_mix(softmax(mask(p, ahead, 0, 2)), v, rows));
  const Graph g = std::move(b).finish();
  const std::vector<Fact> known = facts(g);
  const auto reach_of = [&](const char* output) {
    const Node& n = g.node(g.output(output));
    std::vector<Type> in;
    std::vector<Fact> of_inputs;
    for (const NodeId i : n.inputs) {
      in.push_back(g.node(i).type);
      const auto at = static_cast<std::size_t>(&g.node(i) - g.nodes().data());
      of_inputs.push_back(known[at]);
    }
    return n.op->reach({in, n.type, n.attributes, of_inputs, n.inputs});
  };
  EXPECT_THAT(reach_of("right")[1].links, Contains(position_link(Relation::at_most, 0)));
  EXPECT_THAT(reach_of("wrong")[1].links, Not(Contains(position_link(Relation::at_most, 0))));
}

TEST(Causality, IsGoneAfterAnEditOfTheScoresOrThePattern) {
  for (const std::string site : {"attn.hook_attn_scores", "attn.hook_pattern"}) {
    const Case c = make_case(ragged().sample);
    Builder b(expanded(c.graph));
    const Value scores = b.value(b.node(b.at({site}).id()).inputs[0]);
    const Value other = b.input("other", scores.type()),
                where = b.input("where", {DType::boolean, {1, 2, 1}});
    b.edit_site(site, select(where, other, scores));
    const Graph edited = std::move(b).finish();
    verify(edited);
    Feeds feeds = c.feeds;
    feeds["other"] = Tensor::full({5, 2, 3}, DType::f64, 0.25);
    feeds["where"] = truths("where", {1, 2, 1}, {true, false}).value;
    const GraphReach g(edited, feeds);
    const Node& mix = only(g.graph(), "attention_mix");
    EXPECT_EQ(g.fact(mix.inputs[0]), Fact{});
    EXPECT_THAT(g.call(mix).reach()[1].links, Not(Contains(position_link(Relation::at_most, 0))));
    // Rightly so: head 0 of the first row now reads a key of its future (key row 1 is position 1 of
    // sequence 1).
    const NodeId v = edited.leaf("v"), y = edited.output("y");
    EXPECT_TRUE(g.reached(v, 1 * 4, y)[0]);
    feeds["v"] = c.feeds.at("v").clone();
    feeds["v"].data<double>()[1 * 4] += 1;
    EXPECT_NE(g.value(y).to_vector<double>()[0],
              GraphReach(edited, feeds).value(y).to_vector<double>()[0])
        << site;
  }
}

// What the transpose of attention says: only later queries send gradient to a value row.
TEST(Causality, IsTransposedInTheGradient) {
  const Attended a = ragged(0, 2);
  Case c = make_case(a.sample);
  Builder b(c.graph);
  const Value weights = b.input("weights", b.output("y").type());
  b.output("metric", sum(b.output("y") * weights));
  c.feeds["weights"] = normal("weights", {5, 2, 2}).value;
  const Graph whole = gradient(std::move(b).finish(), "metric", leaves("v,k"));
  const GraphReach g(expanded(whole, "attention_grad"), c.feeds);
  int transposed = 0;
  for (const Node& n : g.graph().nodes()) {
    if (n.op->name != "attention_mix_transposed") continue;
    ++transposed;
    EXPECT_THAT(g.call(n).reach()[1].links, Contains(position_link(Relation::at_least, 0)));
    EXPECT_THAT(g.call(n).reach()[1].links, Contains(position_link(Relation::at_most, 1)));
    EXPECT_EQ(check_reach(g.call(n)).violations, std::vector<std::string>());
  }
  EXPECT_EQ(transposed, 2);
  const NodeId from = g.graph().leaf("weights"), to = g.graph().output("grad(v)");
  for (std::int64_t r = 0; r < 5; ++r) {
    const std::vector<bool> reached = g.reached(from, r * 4, to);
    for (std::int64_t j = 0; j < 5; ++j)
      EXPECT_EQ(reached[static_cast<std::size_t>(j * 4)], visible(a, r, j, 0, 2));
  }
}

// ---- the user's own attention: four axes, no tables
// ----------------------------------------------- [batch, head, query or key, e]; `hide` masks the
// scores.
GraphReach own_attention(const std::function<Value(Builder&, const Value&)>& hide,
                         Feeds more = {}) {
  const Shape shape{2, 1, 3, 2};
  Builder b;
  const Type type{DType::f64, shape};
  const Value q = b.input("q", type), k = b.input("k", type), v = b.input("v", type);
  const Value scores = b.site("mine.scores", hide(b, matmul(q, transpose(k)) * 0.5),
                              {Axis::batch, Axis::head, Axis::query, Axis::key});
  b.output("y", matmul(softmax(scores), v));
  more["q"] = normal("q", shape).value;
  more["k"] = normal("k", shape).value;
  more["v"] = normal("v", shape).value;
  return {std::move(b).finish(), more};
}
// Whether key position j of batch 0 may reach query position i of the batch.
bool reaches(const GraphReach& g, const std::string& leaf, std::int64_t j, std::int64_t i) {
  return g.reached(g.graph().leaf(leaf), j * 2,
                   g.graph().output("y"))[static_cast<std::size_t>(i * 2)];
}

TEST(Causality, OfAUsersOwnAttentionIsVisible) {
  for (const std::int64_t offset : {0, -1, 1}) {
    const GraphReach g =
        own_attention([&](Builder&, const Value& s) { return mask(s, -2, -1, offset); });
    for (const std::string leaf : {"k", "v"}) {
      for (std::int64_t j = 0; j < 3; ++j) {
        for (std::int64_t i = 0; i < 3; ++i)
          EXPECT_EQ(reaches(g, leaf, j, i), j <= i + offset) << leaf << j << i;
        EXPECT_FALSE(reaches(g, leaf, j, 3)) << "the other batch entry";
      }
    }
  }
}

TEST(Causality, OfAUsersOwnAttentionIsGoneAfterAnEdit) {
  const GraphReach g = own_attention([](Builder& b, const Value& s) {
    const Value causal = mask(s, -2, -1);
    return select(less(causal, b.scalar(-1e3, causal.dtype())), b.scalar(-1e9, causal.dtype()),
                  causal);
  });
  EXPECT_TRUE(reaches(g, "v", 2, 0));
}

TEST(Causality, OfAMaskFedAsDataIsNotProvable) {
  Tensor fed = Tensor::zeros({3, 3}, DType::f64);
  for (const int i : {1, 2, 5}) fed.data<double>()[i] = -std::numeric_limits<double>::infinity();
  const GraphReach g = own_attention(
      [](Builder& b, const Value& s) {
        return s + b.input("mask", {DType::f64, {3, 3}});
      },
      {{"mask", fed}});
  for (const Node& n : g.graph().nodes()) EXPECT_EQ(g.fact(n.id), Fact{}) << n.op->name;
  EXPECT_TRUE(reaches(g, "v", 2, 0));
  EXPECT_TRUE(reaches(g, "k", 2, 0));
}

}  // namespace
}  // namespace vitrine::test

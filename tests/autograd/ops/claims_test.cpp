// What every row of the op table claims about its op's mathematics, checked on the op's samples.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "tensor/random.h"
#include "tests/autograd/graph/reach_check.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

class Claims : public ::testing::TestWithParam<std::string> {
 protected:
  const OpDef& op() const { return *find_op(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Ops, Claims, ::testing::ValuesIn(op_names()),
                         [](const auto& tested) { return tested.param; });

// Calls f(op) with every op of these kinds.
template <class F>
void for_each_op(std::initializer_list<OpKind> kinds, const F& f) {
  for (const OpDef* op : all_ops()) {
    if (std::find(kinds.begin(), kinds.end(), op->kind) == kinds.end()) continue;
    const ::testing::ScopedTrace trace(__FILE__, __LINE__, std::string(op->name));
    f(*op);
  }
}
// The calls that an op's samples make of it.
template <class F>
void for_each_call(const OpDef& op, const F& f) {
  for_each_sample(op.name, [&](const Sample& sample) {
    for (const OpCall& call : calls_of(sample)) f(call);
  });
}

// A call with f of input i in the place of input i.
template <class F>
Tensor with_input(const OpCall& call, std::size_t i, const F& f) {
  OpCall other = call;
  Tensor x = call.in[i].contiguous().clone();
  double* values = x.data<double>();
  for (std::int64_t e = 0; e < x.numel(); ++e)
    values[e] = f(values[e], static_cast<std::size_t>(e));
  other.in[i] = x;
  return other.run();
}
std::vector<double> numbers(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

// ---- linear_in ----------------------------------------------------------------------------------
// |y(x + d) - 2 y(x) + y(x - d)| in the worst element, over the largest |y|: 0 for an affine function.
// -inf stays -inf (masked scores); other infinities and NaN count as infinitely bent.
double bend(const OpCall& call, std::size_t i) {
  const auto moved = [&](double sign) {
    return numbers(with_input(call, i, [&](double x, std::size_t e) {
      return x + sign * random::normal(random::Key{7}, e);
    }));
  };
  const std::vector<double> y = numbers(call.run()), up = moved(1), down = moved(-1);
  double most = 0, size = 1;
  for (std::size_t e = 0; e < y.size(); ++e) {
    if (std::isinf(y[e]) && up[e] == y[e] && down[e] == y[e]) continue;
    const double b = std::abs(up[e] - 2 * y[e] + down[e]);
    most = std::max(most, std::isfinite(b) ? b : HUGE_VAL);
    if (std::isfinite(b))
      size = std::max({size, std::abs(y[e]), std::abs(up[e]), std::abs(down[e])});
  }
  return most / size;
}

// No less is claimed than what holds, either: of an input that is not claimed, a sample shows it.
TEST_P(Claims, IsLinearInJustTheInputsItNames) {
  std::map<std::size_t, double> worst;  // by input
  for_each_sample(GetParam(), [&](const Sample& sample) {
    for (const OpCall& call : calls_of(sample)) {
      if (!is_compute_float(call.out.dtype) || numel(call.out.shape) == 0) continue;
      for (std::size_t i = 0; i < call.in.size(); ++i) {
        if (call.in[i].dtype() != DType::f64 || call.in[i].numel() == 0) continue;
        const double b = bend(call, i);
        const double rounding = call.out.dtype == DType::f32 ? 1e-6 : 1e-12;
        if (is_linear_in(op(), i)) {
          EXPECT_LE(b, rounding) << "input " << i;
        }
        worst[i] = std::max(worst[i], b);
      }
    }
  });
  for (const auto& [i, b] : worst) {
    if (is_linear_in(op(), i)) continue;
    EXPECT_GT(b, 1e-3) << "input " << i << " may be claimed as linear";
  }
}

// ---- kinds --------------------------------------------------------------------------------------
TEST_P(Claims, AreStatedAndComplete) {
  EXPECT_NE(op().kind, OpKind::unstated);
  EXPECT_EQ(what_is_missing(op()), "");
}

TEST(ClaimedKinds, IdentitiesAreTheirInput) {
  for_each_op({OpKind::identity, OpKind::detach}, [](const OpDef& op) {
    for_each_call(op, [&](const OpCall& call) {
      ASSERT_EQ(call.in.size(), 1U);
      EXPECT_EQ(numbers(call.run()), numbers(call.in[0]));
      Builder b;
      const Value x = b.input("x", call.types()[0]), g = b.input("g", call.out);
      const Value in[] = {x};
      const Value dx = op.vjp({b, in, x, g, call.attributes})[0];
      ASSERT_EQ(dx.defined(), op.kind == OpKind::identity);
      if (dx.defined()) {
        EXPECT_EQ(dx.id(), g.id());
      }
    });
  });
}

// Where entries only take other places, doing f to all of them before is doing it after.
TEST(ClaimedKinds, RearrangementsAndSelectionsOnlyMoveEntries) {
  for_each_op({OpKind::rearrangement, OpKind::selection}, [](const OpDef& op) {
    const bool all = op.kind == OpKind::rearrangement;
    for_each_call(op, [&](const OpCall& call) {
      if (call.in[0].dtype() != DType::f64) return;
      const std::vector<double> y = numbers(call.run());
      const std::vector<double> z =
          numbers(with_input(call, 0, [](double x, std::size_t) { return 2 * x + 1; }));
      for (std::size_t e = 0; e < y.size(); ++e) {
        const bool unselected = !all && y[e] == 0 && z[e] == 0;  // index -1
        EXPECT_TRUE(unselected || z[e] == 2 * y[e] + 1) << "element " << e;
      }
      if (!all || y.empty()) return;
      for (const double x : numbers(call.in[0])) EXPECT_GT(std::count(y.begin(), y.end(), x), 0);
    });
  });
}

TEST(ClaimedKinds, ActivationsAreOneFunctionOfSingleElements) {
  for_each_op({OpKind::activation}, [](const OpDef& op) {
    for_each_call(op, [&](const OpCall& call) {
      ASSERT_EQ(call.in.size(), 1U);
      EXPECT_EQ(call.types()[0], call.out);
      const std::vector<double> x = numbers(call.in[0]), y = numbers(call.run());
      const std::vector<double> back =
          numbers(with_input(call, 0, [&](double, std::size_t e) { return x[x.size() - 1 - e]; }));
      for (std::size_t e = 0; e < y.size(); ++e)
        EXPECT_NEAR(back[y.size() - 1 - e], y[e], 1e-15 * std::max(1.0, std::abs(y[e])));
    });
  });
}

// y of some columns of w, and of the bias, are those columns of y.
TEST(ClaimedKinds, ColumnsOfAProductAreThoseOfItsWeight) {
  for_each_op({OpKind::product}, [](const OpDef& op) {
    for_each_call(op, [&](const OpCall& call) {
      ASSERT_TRUE(call.in.size() == 2 || call.in.size() == 3);
      const std::int64_t columns = call.out.shape.back();
      if (columns < 2 || numel(call.out.shape) == 0) return;
      OpCall part = call;
      for (std::size_t i = 1; i < call.in.size(); ++i)
        part.in[i] = call.in[i].slice(call.in[i].shape().size() - 1, 1, columns).contiguous();
      part.out.shape[part.out.shape.size() - 1] = columns - 1;
      const Tensor want = call.run().slice(part.out.shape.size() - 1, 1, columns);
      EXPECT_LE(max_abs_difference(part.run(), want.contiguous()), 1e-13);
    });
  });
}

// The sample with its norms or attention expanded, and what is frozen of them fed as it was.
Case with_frozen_values(const Case& c, const OpDef& op) {
  Builder expanded(c.graph);
  const NodeId first = expanded.next_id();
  for (const Node& n : c.graph.nodes()) {
    if (n.op == &op) expanded.expand(n.id);
  }
  std::vector<NodeId> frozen;
  const NodeId end = expanded.next_id();
  const auto name = [](NodeId id) { return fmt::format("frozen.{}", id); };
  Fetch values;
  for (NodeId id = first; id < end; ++id) {
    if (expanded.node(id).op != op.frozen) continue;
    frozen.push_back(id);
    expanded.output(name(id), expanded.value(id));
    values.wants.push_back(value(name(id)));
  }
  EXPECT_FALSE(frozen.empty());
  Case out{std::move(expanded).finish(), c.feeds, c.parameters};
  const Results recorded = compile(out.graph, values).run(c.feeds, c.parameters);
  Builder held(out.graph);
  for (const NodeId id : frozen) {
    const Tensor fixed = recorded.raw(name(id));
    held.forward(id, held.input("held." + name(id), {fixed.dtype(), fixed.shape()}));
    out.feeds["held." + name(id)] = fixed;
  }
  out.graph = std::move(held).finish();
  return out;
}

TEST(ClaimedKinds, NormsAndAttentionAreLinearOnceFrozen) {
  int checked = 0;
  const auto check = [&](const OpDef& op, const Sample& sample) {
    const Case c = with_frozen_values(make_case(sample), op);
    const Plan plan = compile(c.graph, fetch(value("y")));
    for (const Leaf& leaf : sample.leaves) {
      if (leaf.value.dtype() != DType::f64) continue;
      const auto y = [&](double sign) {
        Feeds feeds = c.feeds;
        Parameters parameters = c.parameters;
        Tensor& x = (leaf.parameter ? parameters : feeds)[leaf.name];
        x = x.clone();
        for (std::int64_t e = 0; e < x.numel(); ++e)
          x.data<double>()[e] += sign * random::normal(random::Key{8}, static_cast<std::size_t>(e));
        return numbers(plan.run(feeds, parameters).raw("y"));
      };
      const std::vector<double> at = y(0), up = y(1), down = y(-1);
      for (std::size_t e = 0; e < at.size(); ++e, ++checked) {
        const double size = std::max({1.0, std::abs(at[e]), std::abs(up[e])});
        EXPECT_LE(std::abs(up[e] - 2 * at[e] + down[e]), 1e-12 * size) << leaf.name;
      }
    }
  };
  for_each_op({OpKind::norm, OpKind::attention}, [&](const OpDef& op) {
    for_each_sample(op.name, [&](const Sample& sample) { check(op, sample); });
  });
  EXPECT_GT(checked, 0);
}

// ---- the checks themselves must fail where a claim is wrong -------------------------------------
TEST(ClaimsThemselves, AreSeenToBeWrong) {
  OpCall call{
      find_op("square"), NoAttributes{}, {normal("x", {3}).value}, {DType::f64, {3}}, {}, {}};
  EXPECT_GT(bend(call, 0), 0.1);
  call.op = find_op("neg");
  EXPECT_LE(bend(call, 0), 1e-15);
}

TEST(ClaimsThemselves, NameSetsOfInputs) {
  OpDef op = *find_op("neg");
  op.linear_in = only_inputs({0, 2});
  EXPECT_TRUE(is_linear_in(op, 0) && is_linear_in(op, 2));
  EXPECT_FALSE(is_linear_in(op, 1) || is_linear_in(op, 3) || is_linear_in(op, 40));
  op.linear_in = kEveryInput;
  EXPECT_TRUE(is_linear_in(op, 0) && is_linear_in(op, 40));  // concat has any number of parts
}

}  // namespace
}  // namespace vitrine::test

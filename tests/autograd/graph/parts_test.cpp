// Ops on some of their leading entries, and with an axis more, against the whole op.
#include "autograd/graph/parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "autograd/ops/op_table.h"
#include "autograd/sweep/cones.h"
#include "tensor/error.h"
#include "tests/autograd/graph/reach_check.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

std::vector<std::string> ops_with_inputs() {
  std::vector<std::string> names = op_names();
  std::erase_if(names, [](const std::string& n) {
    return n == "input" || n == "parameter" || n == "constant";
  });
  return names;
}

ReachCall reach_call(const OpCall& c, const std::vector<Type>& types) {
  return {types, c.out, c.attributes, c.facts, c.inputs};
}

// Entries of the first `lead` axes, in a jumbled order, one of them twice.
std::vector<std::int64_t> some_entries(std::int64_t n) {
  std::vector<std::int64_t> entries;
  for (std::int64_t i = n - 1; i >= 0; i -= 2) entries.push_back(i);
  if (n > 0) entries.push_back(n - 1);
  if (n > 2) entries.push_back(0);
  return entries;
}

// x [leading..., rest] at entries of its first `lead` axes: [entries, 1, rest].
Tensor packed(const Tensor& x, int lead, const std::vector<std::int64_t>& entries) {
  Shape flat{1}, out;
  for (int a = 0; a < x.rank(); ++a) {
    if (a < lead) flat[0] *= x.dim(a);
    else flat.push_back(x.dim(a));
  }
  const Tensor rows = x.contiguous().reshape(flat);
  Shape one = flat;
  one[0] = static_cast<std::int64_t>(entries.size());
  Tensor result = Tensor::empty(one, x.dtype());
  const std::int64_t bytes = flat[0] == 0 ? 0 : numel(flat) / flat[0] * size_of(x.dtype());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    std::memcpy(result.view().data + static_cast<std::int64_t>(i) * bytes,
                rows.view().data + entries[i] * bytes, static_cast<std::size_t>(bytes));
  }
  out.push_back(one[0]);
  for (int a = 1; a < lead; ++a) out.push_back(1);
  for (int a = 1; a < one.size(); ++a) out.push_back(one[a]);
  return result.reshape(out);
}

std::vector<double> bits(const Tensor& t) { return t.to(DType::f64).to_vector<double>(); }

class PartsOf : public ::testing::TestWithParam<std::string> {};

// What parts_of says can be done for some entries alone gives the bits of the whole op there.
TEST_P(PartsOf, SomeEntriesAreThoseOfTheWhole) {
  int done = 0;
  for_each_sample(GetParam(), [&](const Sample& sample) {
    for (const OpCall& call : calls_of(sample)) {
      const std::vector<Type> types = call.types();
      for (int lead = 1; lead <= 2; ++lead) {
        const auto parts = parts_of(*call.op, reach_call(call, types), lead);
        if (!parts) continue;
        ASSERT_EQ(parts->size(), call.in.size()) << sample.name;
        const bool keyed =
            std::find(parts->begin(), parts->end(), InputPart::keyed) != parts->end();
        if (keyed && lead == 2) continue;  // heads need key tables of their own: see the sweeps
        std::int64_t n = 1;
        for (int a = 0; a < lead; ++a) n *= call.out.shape[a];
        const std::vector<std::int64_t> entries = some_entries(n);
        OpCall some = call;
        for (std::size_t i = 0; i < call.in.size(); ++i) {
          if ((*parts)[i] != InputPart::same) continue;
          const Tensor& x = call.in[i];
          std::vector<std::int64_t> own = entries;
          const bool one_head = lead == 2 && (x.rank() < 2 || x.dim(1) != call.out.shape[1]);
          if (one_head)
            for (std::int64_t& e : own) e /= call.out.shape[1];
          some.in[i] = packed(x, one_head && x.rank() < 2 ? 1 : lead, own);
        }
        some.attributes =
            packed_attributes(call.attributes, lead, static_cast<std::int64_t>(entries.size()));
        some.out = call.op->infer({some.types(), some.attributes});
        EXPECT_EQ(bits(some.run()), bits(packed(call.run(), lead, entries)))
            << sample.name << " at lead " << lead;
        ++done;
      }
    }
  });
  // The families that a sweep must be able to pack.
  const std::set<std::string> packs = {
      "add",      "gelu_tanh", "select",    "softmax",          "layer_norm",    "linear",
      "heads_in", "heads_out", "attention", "attention_scores", "attention_mix", "mask",
      "matmul",   "pick",      "cast",      "reshape"};
  if (packs.contains(GetParam())) {
    EXPECT_GT(done, 0);
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, PartsOf, ::testing::ValuesIn(ops_with_inputs()),
                         [](const auto& tested) { return tested.param; });

class AxisInFront : public ::testing::TestWithParam<std::string> {};

// Where the shape rule takes another axis in front and the reach rule keeps its entries apart, each
// entry is the op done once.
TEST_P(AxisInFront, EachEntryIsTheOpDoneOnce) {
  for_each_sample(GetParam(), [&](const Sample& sample) {
    for (const OpCall& call : calls_of(sample)) {
      OpCall twice = call;
      for (Tensor& x : twice.in) {
        Shape shape{2};
        for (const std::int64_t d : x.shape()) shape.push_back(d);
        x = x.contiguous().broadcast_to(shape).contiguous();
        Shape first = shape;
        first[0] = 1;
        if (is_compute_float(x.dtype()) && x.numel() > 0) {  // the two entries differ
          for (std::int64_t i = 0; i < x.numel() / 2; ++i) {
            if (x.dtype() == DType::f64) x.data<double>()[i] *= 0.5;
          }
        }
      }
      twice.attributes = with_axis_in_front(*call.op, call.attributes, 2);
      twice.facts.assign(twice.facts.size(), Fact{});
      twice.inputs.clear();
      try {
        twice.out = call.op->infer({twice.types(), twice.attributes});
      } catch (const Error&) {
        continue;
      }
      Shape want{2};
      for (const std::int64_t d : call.out.shape) want.push_back(d);
      if (!(twice.out.shape == want)) continue;
      const std::vector<Type> types = twice.types();
      const auto parts = parts_of(*call.op, reach_call(twice, types), 1);
      if (!parts || *parts != InputParts(call.in.size(), InputPart::same)) continue;
      const Tensor both = twice.run();
      for (std::int64_t e = 0; e < 2; ++e) {
        OpCall once = call;
        for (std::size_t i = 0; i < once.in.size(); ++i)
          once.in[i] = twice.in[i].select(0, e).clone();
        EXPECT_EQ(bits(both.select(0, e)), bits(once.run())) << sample.name;
      }
    }
  });
}
INSTANTIATE_TEST_SUITE_P(Ops, AxisInFront, ::testing::ValuesIn(ops_with_inputs()),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace vitrine::test

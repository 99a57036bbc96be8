// The phase place_updates: new values of leaves, in place or copied.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>

#include "autograd/ops/ops.h"
#include "tensor/random.h"
#include "tests/autograd/compile/drafts.h"
#include "tests/tensor/expect_error.h"

namespace vitrine::test {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }
using Where = Storage::Where;
constexpr int kNever = std::numeric_limits<int>::max();

// A graph of "w" [2, 2], "v" [2, 2], "state" [3, 4] and "x" [2, 2], and a new value for one of them.
Graph graph_of(Value (*next)(Builder& b, const Value& w, const Value& v, const Value& x)) {
  Builder b;
  const Value w = b.parameter("w", f32({2, 2})), v = b.parameter("v", f32({2, 2})),
              x = b.input("x", f32({2, 2}));
  b.output("w", w);
  b.output("v", v);
  b.output("x", x);
  b.output("next", next(b, w, v, x));
  return std::move(b).finish();
}
const Updates kOfW = {{"w", "next"}};

struct Counts {
  int in_place, copied, kept_aside;
  friend bool operator==(const Counts&, const Counts&) = default;
  friend void PrintTo(const Counts& c, std::ostream* out) {
    *out << c.in_place << " in place, " << c.copied << " copied, " << c.kept_aside << " kept aside";
  }
};
Counts counts(const Draft& d) {
  EXPECT_EQ(static_cast<int>(d.program.copies.size()), d.stats.update_copies);
  return {d.stats.in_place, d.stats.update_copies, static_cast<int>(d.program.kept_aside.size())};
}
Counts counts_of(Value (*next)(Builder& b, const Value& w, const Value& v, const Value& x)) {
  const Graph g = graph_of(next);
  return counts(with_updates(g, fetch(), kOfW));
}

TEST(PlaceUpdates, AStepWritesIntoTheLeafThatItReads) {
  const Graph g = graph_of([](Builder&, const Value& w, const Value&, const Value& x) {
    return w * x + w;  // the product reads w first, the sum last
  });
  const Draft d = with_updates(g, fetch(), kOfW);
  EXPECT_EQ(counts(d), (Counts{1, 0, 0}));
  const int w = operand(g, d, "w").storage;
  EXPECT_EQ(d.program.steps.back().out.storage, w);
  EXPECT_NE(d.program.steps.front().out.storage, w);
  EXPECT_EQ(operand(g, d, "next").storage, w);
  ASSERT_EQ(d.program.parameters.size(), 1u);
  EXPECT_TRUE(d.program.parameters[0].updated);
  EXPECT_EQ(d.program.parameters[0].first_write, 1);
  EXPECT_EQ(d.program.parameters[0].last_read, 1);
  EXPECT_FALSE(d.program.feeds[0].updated);
  EXPECT_EQ(d.program.feeds[0].last_read, 0);
  EXPECT_EQ(d.program.feeds[0].first_write, kNever);
  EXPECT_TRUE(d.program.updates_leaves());
}

TEST(PlaceUpdates, WhatReadsTheNewValueReadsTheLeaf) {
  Builder b;
  const Value w = b.parameter("w", f32({2, 2})), next = w * 2.0;
  b.output("w.next", next);
  b.output("y", exp(transpose(next)));
  const Graph g = std::move(b).finish();
  const Draft d = with_updates(g, fetch(value("y")), {{"w", "w.next"}});
  EXPECT_EQ(counts(d), (Counts{1, 0, 0}));
  ASSERT_EQ(d.program.steps.size(), 2u);
  EXPECT_EQ(d.program.steps[1].in[0].storage, d.program.steps[0].out.storage);
  EXPECT_EQ(d.program.steps[1].in[0].layout.strides, Strides({1, 2}));
  EXPECT_EQ(d.program.storage_of(d.program.steps[1].in[0]).where, Where::parameter);
}

// Each of these would read what was overwritten already.
TEST(PlaceUpdates, AStepThatReadsTheLeafInAnotherOrderDoesNotWriteIntoIt) {
  const Counts copied = {0, 1, 0}, in_place = {1, 0, 0};
  EXPECT_EQ(counts_of([](Builder&, const Value& w, const Value&, const Value& x) {
              return slice(w, 0, 0, 1) + x;  // broadcast
            }),
            copied);
  EXPECT_EQ(counts_of([](Builder&, const Value& w, const Value&, const Value&) {
              return w + transpose(w);
            }),
            copied);
  EXPECT_EQ(counts_of([](Builder&, const Value& w, const Value&, const Value& x) {
              return matmul(w, x);  // an op that cannot work in place
            }),
            copied);
  EXPECT_EQ(counts_of([](Builder&, const Value& w, const Value&, const Value&) { return w + w; }),
            in_place);
  EXPECT_EQ(counts_of([](Builder&, const Value&, const Value& v, const Value& x) {
              return v + x;  // w is not read at all
            }),
            in_place);
}

Value turned_rows(Builder& b) { return b.constant(Tensor::of<std::int32_t>({2}, {1, 0})); }

// Ops that write over their first input alone.
TEST(PlaceUpdates, OnlyTheFirstInputWhereTheOpSaysSo) {
  EXPECT_EQ(counts_of([](Builder& b, const Value& w, const Value&, const Value& x) {
              return write_rows(w, x, turned_rows(b));
            }),
            (Counts{1, 0, 0}));
  EXPECT_EQ(counts_of([](Builder& b, const Value& w, const Value&, const Value& x) {
              return write_rows(x, w, turned_rows(b));
            }),
            (Counts{0, 1, 0}));
  EXPECT_EQ(counts_of([](Builder& b, const Value& w, const Value&, const Value&) {
              return write_rows(w, w, turned_rows(b));
            }),
            (Counts{0, 1, 0}));
  EXPECT_EQ(counts_of([](Builder& b, const Value&, const Value& v, const Value& x) {
              return write_rows(v, x, turned_rows(b));
            }),
            (Counts{0, 1, 0}));
}

TEST(PlaceUpdates, TheOldValueIsKeptWhileItIsNeeded) {
  Builder b;
  const Value w = b.parameter("w", f32({2, 2})), next = w * 2.0;
  b.output("w.next", next);
  b.output("later", exp(next) + transpose(w));
  b.output("old row", slice(w, 0, 0, 1));
  const Graph g = std::move(b).finish();
  for (const char* wanted : {"later", "old row", "w.next"}) {
    SCOPED_TRACE(wanted);
    const Draft d = with_updates(g, fetch(value(wanted)), {{"w", "w.next"}});
    EXPECT_EQ(counts(d), (Counts{0, 1, 0}));
    const auto end = static_cast<int>(d.program.steps.size());
    EXPECT_EQ(d.program.parameters[0].first_write, end + 1);
    EXPECT_EQ(d.program.parameters[0].last_read, wanted == std::string("old row") ? end
                                                 : wanted == std::string("later") ? end - 1
                                                                                  : 0);
  }
}

// A view of a new value has no step that could write it in place.
TEST(PlaceUpdates, AViewIsCopied) {
  EXPECT_EQ(counts_of([](Builder&, const Value& w, const Value&, const Value& x) {
              return transpose(w * x);
            }),
            (Counts{0, 1, 0}));
  EXPECT_EQ(counts_of([](Builder&, const Value&, const Value& v, const Value&) {
              return transpose(v);  // of a leaf that stays as it is
            }),
            (Counts{0, 1, 0}));
}

// What looks into an updated leaf is copied before the first step.
TEST(PlaceUpdates, ValuesOfUpdatedLeavesAreKeptAside) {
  const Graph own =
      graph_of([](Builder&, const Value& w, const Value&, const Value&) { return transpose(w); });
  const Draft turned = with_updates(own, fetch(), kOfW);
  EXPECT_EQ(counts(turned), (Counts{0, 1, 1}));
  const Copy aside = turned.program.kept_aside[0], copy = turned.program.copies[0];
  EXPECT_EQ(aside.from.layout.strides, Strides({1, 2}));
  EXPECT_EQ(turned.program.storage_of(aside.to).where, Where::arena);
  EXPECT_EQ(copy.from.storage, aside.to.storage);
  EXPECT_EQ(copy.to.storage, aside.from.storage);

  Builder b;
  const Value w = b.parameter("w", f32({2, 2})), v = b.parameter("v", f32({2, 2}));
  b.output("old w", identity(w));
  b.output("w.next", w + 1.0);
  b.output("v.next", v * 2.0);
  const Graph two = std::move(b).finish();
  EXPECT_EQ(counts(with_updates(two, fetch(), {{"v", "old w"}, {"w", "w.next"}})),
            (Counts{1, 1, 1}));
  EXPECT_EQ(counts(with_updates(two, fetch(), {{"v", "old w"}})), (Counts{0, 1, 0}));
  EXPECT_EQ(counts(with_updates(two, fetch(), {{"w", "old w"}})), (Counts{0, 0, 0}));
  // One step cannot write into two leaves: the second is copied from the first.
  const Draft both = with_updates(two, fetch(), {{"v", "w.next"}, {"w", "w.next"}});
  EXPECT_EQ(counts(both), (Counts{1, 1, 0}));
  EXPECT_EQ(both.program.copies[0].from.storage, both.program.steps[0].out.storage);
}

TEST(PlaceUpdates, WithoutUpdatesNothingIsWritten) {
  const Graph g =
      graph_of([](Builder&, const Value& w, const Value& v, const Value& x) { return w + v * x; });
  const Draft d = with_updates(g, fetch(value("next")), {});
  EXPECT_EQ(counts(d), (Counts{0, 0, 0}));
  EXPECT_FALSE(d.program.updates_leaves());
  for (const NamedLeaf& leaf : d.program.parameters) EXPECT_EQ(leaf.first_write, kNever);
}

// ---- random programs --------------------------------------------------------------------------
struct Outcome {
  std::vector<std::vector<double>> results;
  std::map<std::string, std::vector<double>> updated;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Tensor random_values(std::uint64_t number, const Shape& shape) {
  Tensor t = Tensor::empty(shape, DType::f64);
  ThreadPool serial(1);
  random::fill_normal(serial, random::Key{number}, t);
  return t;
}

// By a program in which every value has a place of its own: nothing is shared or overwritten.
Outcome expected(const RandomProgram& p, const Feeds& feeds, const Parameters& parameters) {
  Fetch all = p.fetch();
  for (const auto& [name, id] : p.graph.outputs()) all.wants.push_back(value(name));
  Draft d = with_results(p.graph, all);
  for (Storage& s : d.program.storage) {
    if (s.where != Where::arena) continue;
    s.at = d.program.arena_bytes;
    d.program.arena_bytes += (s.bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  Outcome out;
  const std::vector<Tensor> tensors = run(p.graph, d, feeds, parameters);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::vector<double> values = tensors[i].to_vector<double>();
    if (i < p.wanted_outputs.size()) out.results.push_back(values);
    for (const auto& [leaf, output] : p.updates)
      if (d.program.results[i].name == output) out.updated[leaf] = values;
  }
  return out;
}

Outcome actual(const RandomProgram& p, const Draft& d, const Feeds& feeds,
               const Parameters& parameters) {
  Outcome out;
  for (const Tensor& t : run(p.graph, d, feeds, parameters))
    out.results.push_back(t.to_vector<double>());
  for (const auto& [leaf, output] : p.updates)
    out.updated[leaf] = parameters.at(leaf).to_vector<double>();
  return out;
}

// The leaves that a draft reads, from parts of `memory`: w0 from element places[0] on, and so on.
Parameters parameters_at(const Draft& d, const Tensor& memory, const std::vector<int>& places) {
  Parameters some;
  for (const NamedLeaf& leaf : d.program.parameters) {
    const int at = places[static_cast<std::size_t>(leaf.name[1] - '0')];
    some[leaf.name] = memory.slice(0, at, at + 16).reshape({4, 4});
  }
  return some;
}

// Neither what is written in place nor what shares the arena changes a bit of any value.
TEST(PlaceUpdates, RandomProgramsComputeWhatTheirGraphSays) {
  int in_place = 0, copies = 0, aside = 0;
  const Feeds feeds = {{"x", random_values(1, {4, 4})}};
  for (int number = 0; number < 900; ++number) {
    SCOPED_TRACE(number);
    const RandomProgram p = random_program(number);
    const Draft d = complete(p.graph, p.fetch(), p.updates);
    const Tensor memory = random_values(2, {64});
    Parameters all;
    for (int i = 0; i < 4; ++i)
      all[fmt::format("w{}", i)] = memory.slice(0, 16 * i, 16 * i + 16).reshape({4, 4}).clone();
    const Outcome want = expected(p, feeds, all);
    EXPECT_EQ(actual(p, d, feeds, parameters_at(d, memory, {0, 16, 32, 48})), want);
    in_place += d.stats.in_place;
    copies += d.stats.update_copies;
    aside += static_cast<int>(d.program.kept_aside.size());
  }
  EXPECT_GT(in_place, 900);
  EXPECT_GT(copies, 300);
  EXPECT_GT(aside, 40);
}

// Leaves in one memory: a run is refused, or computes the same too.
TEST(PlaceUpdates, RandomProgramsOnSharedMemoryAreRefusedOrRight) {
  int refused = 0, right = 0;
  const Feeds feeds = {{"x", random_values(1, {4, 4})}};
  for (int number = 0; number < 300; ++number) {
    SCOPED_TRACE(number);
    const RandomProgram p = random_program(number);
    const Draft d = complete(p.graph, p.fetch(), p.updates);
    const std::vector<int> places = {0, 16, number % 2 == 0 ? 0 : 8, 24};
    const Tensor memory = random_values(2, {64});
    Parameters apart;
    for (int i = 0; i < 4; ++i) {
      const int at = places[static_cast<std::size_t>(i)];
      apart[fmt::format("w{}", i)] = memory.slice(0, at, at + 16).reshape({4, 4}).clone();
    }
    const Outcome want = expected(p, feeds, apart);
    try {
      EXPECT_EQ(actual(p, d, feeds, parameters_at(d, memory, places)), want);
      right += p.updates.empty() ? 0 : 1;
    } catch (const GraphError& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("share memory"));
      ++refused;
    }
  }
  EXPECT_GT(refused, 30);
  EXPECT_GT(right, 30);
}

}  // namespace
}  // namespace vitrine::test

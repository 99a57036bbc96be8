// The phases write_over_inputs and place_in_arena: who shares bytes, and when they are free again.
#include <gtest/gtest.h>

#include <algorithm>

#include "autograd/ops/ops.h"
#include "tests/autograd/compile/drafts.h"

namespace vitrine::test {
namespace {

Type f32(const Shape& shape) { return {DType::f32, shape}; }
using Where = Storage::Where;

// The number of steps that write over an input, in a graph of one input [2, 2].
int written_over(Value (*build)(const Value& x), bool wanted_too = false) {
  Builder b;
  const Value a = exp(b.input("x", f32({2, 2})));
  b.output("a", a);
  b.output("y", build(a));
  const Graph g = std::move(b).finish();
  const Fetch wanted = wanted_too ? fetch(value("y"), value("a")) : fetch(value("y"));
  return write_over_inputs(with_results(g, wanted)).stats.in_place;
}

// The last step of each writes a result, in a buffer of its own.
TEST(WriteOverInputs, WhereNothingReadsThemLater) {
  EXPECT_EQ(written_over([](const Value& a) { return sum(sin(a)); }), 1);
  EXPECT_EQ(written_over([](const Value& a) { return sum(sin(a)); }, true), 0);  // a is wanted
  EXPECT_EQ(written_over([](const Value& a) { return sum(sin(a) * a); }), 1);    // by the product
  EXPECT_EQ(written_over([](const Value& a) { return sum(a * a); }), 1);
  EXPECT_EQ(written_over([](const Value& a) { return sum(cos(sin(a)) * sin(sin(a))); }), 3);
}

TEST(WriteOverInputs, NeverWhereTheyAreReadInAnotherOrder) {
  EXPECT_EQ(written_over([](const Value& a) { return sum(sin(transpose(a))); }), 0);
  EXPECT_EQ(written_over([](const Value& a) { return sum(a + transpose(a)); }), 0);
  EXPECT_EQ(written_over([](const Value& a) { return sum(a + slice(a, 0, 0, 1)); }), 0);
  EXPECT_EQ(written_over([](const Value& a) { return sum(sin(slice(a, 0, 0, 1))); }), 0);
  EXPECT_EQ(written_over([](const Value& a) { return sum(matmul(a, a)); }), 0);  // no such op
}

TEST(WriteOverInputs, NeverLeavesOrConstants) {
  Builder b;
  const Value x = b.input("x", f32({2, 2})), c = b.constant(Tensor::zeros({2, 2}, DType::f32));
  const Value first = sin(x), second = cos(c);
  b.output("y", sum(first * second));
  const Graph g = std::move(b).finish();
  const Draft d = write_over_inputs(with_results(g, fetch(value("y"))));
  EXPECT_EQ(d.stats.in_place, 1);  // the product, over its first factor
  for (const Step& s : d.program.steps)
    EXPECT_TRUE(d.program.storage_of(s.out).where == Where::arena ||
                d.program.storage_of(s.out).where == Where::result);
  EXPECT_EQ(d.program.steps[2].out.storage, d.program.steps[0].out.storage);
}

// A value that is copied into a leaf at the end is alive until then.
TEST(WriteOverInputs, NeverWhatIsCopiedAtTheEnd) {
  Builder b;
  const Value w = b.parameter("w", f32({2, 2})), next = matmul(w, w);
  b.output("w.next", next);
  b.output("y", sum(sin(next)));
  const Graph g = std::move(b).finish();
  Draft d = with_updates(g, fetch(value("y")), {{"w", "w.next"}});
  ASSERT_EQ(d.program.copies.size(), 1u);
  d = write_over_inputs(std::move(d));
  EXPECT_EQ(d.stats.in_place, 0);
  EXPECT_EQ(d.program.copies[0].from.storage, d.program.steps[0].out.storage);
}

TEST(PlaceInArena, AChainNeedsTwoPlaces) {
  Builder b;
  Value x = b.input("x", f32({10, 10}));
  for (int i = 0; i < 20; ++i) x = matmul(x, x);
  b.output("y", sum(x));
  const Graph g = std::move(b).finish();
  const Draft d = place_in_arena(with_results(g, fetch(value("y"))));
  EXPECT_EQ(d.stats.intermediate_bytes, 20 * 400 + 4);
  EXPECT_EQ(d.program.arena_bytes, 2 * 448);  // 400, aligned
  EXPECT_EQ(d.stats.arena_bytes, d.program.arena_bytes);
}

// ---- no two that are alive overlap ------------------------------------------------------------
// What a run does at one moment: before the first step, at each step, after the last.
struct Moment {
  std::vector<int> reads, writes;
};

std::vector<Moment> moments(const Program& p) {
  std::vector<Moment> all(1);
  for (const Copy& c : p.kept_aside) all[0].writes.push_back(c.to.storage);
  for (const Step& s : p.steps) {
    Moment m;
    for (const Operand& o : s.in) m.reads.push_back(o.storage);
    m.writes.push_back(s.out.storage);
    if (s.scratch >= 0) m.writes.push_back(s.scratch);
    all.push_back(m);
  }
  Moment& end = all.emplace_back();
  for (const Copy& c : p.copies) end.reads.push_back(c.from.storage);
  return all;
}

// Plays a run with the number of a storage in each byte of it: whatever is read must still hold its
// own. What is written at one moment must not lie over what is read then, unless it is the same.
void expect_intact(const Program& p) {
  std::vector<int> owner(static_cast<std::size_t>(p.arena_bytes), -1);
  const auto bytes_of = [&](int storage) {
    const Storage& s = p.storage[static_cast<std::size_t>(storage)];
    EXPECT_GE(s.at, 0);
    EXPECT_LE(s.at + s.bytes, p.arena_bytes);
    return std::span(owner).subspan(static_cast<std::size_t>(s.at),
                                    static_cast<std::size_t>(s.bytes));
  };
  const auto in_arena = [&](int storage) {
    return p.storage[static_cast<std::size_t>(storage)].where == Where::arena;
  };
  const auto holds = [&](int storage) {
    const auto bytes = bytes_of(storage);
    return std::all_of(bytes.begin(), bytes.end(), [&](int o) { return o == storage; });
  };
  int number = 0;
  for (const Moment& m : moments(p)) {
    SCOPED_TRACE(number++);
    for (const int s : m.reads) {
      EXPECT_TRUE(!in_arena(s) || holds(s)) << "read storage " << s;
    }
    for (const int s : m.writes) {
      if (!in_arena(s)) continue;
      for (int& o : bytes_of(s)) o = s;
    }
    for (const int s : m.reads) {  // the step reads while it writes
      EXPECT_TRUE(!in_arena(s) || holds(s)) << "input " << s << " is overwritten";
    }
    for (const int s : m.writes) {
      EXPECT_TRUE(!in_arena(s) || holds(s)) << "output or scratch " << s;
    }
  }
}

TEST(PlaceInArena, NoTwoLiveStoragesOverlap) {
  std::int64_t arena = 0, intermediates = 0;
  for (int number = 0; number < 200; ++number) {
    SCOPED_TRACE(number);
    const RandomProgram p = random_program(number);
    for (const bool over : {false, true}) {
      Draft d = with_updates(p.graph, p.fetch(), p.updates);
      if (over) d = write_over_inputs(std::move(d));
      d = place_in_arena(std::move(d));
      expect_intact(d.program);
      EXPECT_EQ(d.program.arena_bytes % kAlignment, 0);
      if (over) continue;
      arena += d.program.arena_bytes;
      intermediates += d.stats.intermediate_bytes;
    }
  }
  EXPECT_LT(arena, intermediates);  // places are used again
}

TEST(PlaceInArena, ScratchLivesForOneStep) {
  Builder b;
  const Value x = b.input("x", f32({200, 4})), w = b.input("w", f32({70, 4})),
              targets = b.input("targets", {DType::i32, {200}});
  b.output("y", sum(linear_cross_entropy(x, w, targets)) +
                    sum(linear_cross_entropy(x * 2.0, w, targets)));
  const Graph g = std::move(b).finish();
  const Draft d = complete(g, fetch(value("y")));
  expect_intact(d.program);
  std::vector<const Storage*> scratch;
  for (const Step& s : d.program.steps) {
    if (s.scratch >= 0) scratch.push_back(&d.program.storage[static_cast<std::size_t>(s.scratch)]);
  }
  ASSERT_EQ(scratch.size(), 2u);
  EXPECT_LT(d.program.arena_bytes, scratch[0]->bytes + scratch[1]->bytes);
}

}  // namespace
}  // namespace vitrine::test

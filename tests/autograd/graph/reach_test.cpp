// Every reach rule is a claim about which elements matter to which. Here the claims are tried:
// every element of every input is perturbed, and whatever moves must have been allowed.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "autograd/ops/op_table.h"
#include "tests/autograd/graph/reach_check.h"
#include "tests/autograd/ops/samples.h"

namespace vitrine::test {
namespace {

using ::testing::IsEmpty;

class ReachRules : public ::testing::TestWithParam<std::string> {};

// A rule holds for every element of every sample. And it is not vacuous: what is said to reach the
// output does, somewhere.
TEST_P(ReachRules, HoldForEveryElementAndAreUsed) {
  std::vector<bool> claimed, moved;
  for_each_sample(GetParam(), [&](const Sample& sample) {
    for (const OpCall& call : calls_of(sample)) {
      const Reach reach = call.reach();
      const ReachReport report = check_reach(call);
      EXPECT_THAT(report.violations, IsEmpty());
      claimed.resize(std::max(claimed.size(), reach.size()), false);
      moved.resize(claimed.size(), false);
      for (std::size_t k = 0; k < reach.size(); ++k) {
        claimed[k] = claimed[k] || reach[k].reaches;
        moved[k] = moved[k] || report.moved[k];
      }
    }
  });
  EXPECT_EQ(claimed, moved)
      << "by input: whether the rule says that it reaches, and whether it ever did";
}

std::vector<std::string> ops_with_inputs() {
  std::vector<std::string> names = op_names();
  std::erase_if(names, [](const std::string& n) {
    return n == "input" || n == "parameter" || n == "constant";
  });
  return names;
}
INSTANTIATE_TEST_SUITE_P(Ops, ReachRules, ::testing::ValuesIn(ops_with_inputs()),
                         [](const auto& tested) { return tested.param; });

// ---- the check itself: a rule that lies is caught ----------------------------------------------
// A call of `name` in its sample, with another rule.
void expect_caught(const std::string& name, const std::string& sample_name,
                   Reach (*lie)(const ReachCall&)) {
  for (const Sample& sample : samples_of(name)) {
    if (sample.name != sample_name) continue;
    for (OpCall call : calls_of(sample)) {
      EXPECT_THAT(check_reach(call).violations, IsEmpty());
      OpDef liar = *call.op;
      liar.reach = lie;
      call.op = &liar;
      EXPECT_THAT(check_reach(call).violations, ::testing::Not(IsEmpty())) << name;
      return;
    }
  }
  ADD_FAILURE() << "no sample " << name << "." << sample_name;
}

TEST(ReachCheckItself, CatchesRulesThatLie) {
  expect_caught("softmax", "matrix", [](const ReachCall&) {
    return Reach{{.links = {same_axis(0, 0), same_axis(1, 1)}}};
  });
  expect_caught("sum", "first",
                [](const ReachCall&) { return Reach{{.links = {same_axis(0, 0)}}}; });
  expect_caught("slice", "middle", [](const ReachCall&) {
    return Reach{{.links = {same_axis(0, 0), same_axis(1, 1)}}};
  });
  expect_caught("layer_norm", "matrix", [](const ReachCall& c) {
    Reach reach(3);
    reach[1].reaches = false;
    EXPECT_EQ(c.in.size(), 3U);
    return reach;
  });
  expect_caught("matmul", "matrix", [](const ReachCall&) {
    return Reach{{.links = {same_axis(0, 0)}}, {.links = {same_axis(1, 1), same_axis(0, 0)}}};
  });
  expect_caught("reshape", "split", [](const ReachCall&) {
    return Reach{
        {.links = {{.in_axis = 0, .out_axis = 0, .relation = Relation::in_block, .step = 2}}}};
  });
  expect_caught("gather_rows", "repeats_and_none", [](const ReachCall&) {
    return Reach{{.links = {same_axis(0, 0)}}, {}};
  });
}

Link positions(Relation relation, std::int64_t offset) {
  return {.in_axis = 0,
          .in = Coordinate::position,
          .out_axis = 0,
          .out = Coordinate::position,
          .relation = relation,
          .offset = offset};
}

TEST(ReachCheckItself, CatchesAFalseClaimOfCausality) {
  // Attention that claims to look strictly before the query.
  expect_caught("attention", "ragged", [](const ReachCall&) {
    Reach reach(6);
    reach[1].links = {positions(Relation::at_most, -1)};
    return reach;
  });
  // Attention over keys that are said to be of later positions.
  expect_caught("attention", "shuffled", [](const ReachCall&) {
    Reach reach(6);
    reach[2].links = {positions(Relation::at_least, 0)};
    return reach;
  });
  // A mix of an unmasked pattern that claims a mask.
  expect_caught("attention_mix", "ragged", [](const ReachCall&) {
    Reach reach(5);
    reach[1].links = {positions(Relation::at_most, 0)};
    return reach;
  });
  // Keys of another sequence.
  expect_caught("attention_scores", "shuffled", [](const ReachCall&) {
    Reach reach(5);
    reach[1].links = {
        {.in_axis = 0, .in = Coordinate::sequence, .out_axis = 0, .out = Coordinate::position}};
    return reach;
  });
}

}  // namespace
}  // namespace vitrine::test

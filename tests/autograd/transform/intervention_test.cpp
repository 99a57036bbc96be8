// Edits of sites: what each action does, which elements it touches, and what is refused.
#include "autograd/transform/intervention.h"

#include <gmock/gmock.h>

#include <chrono>

#include "autograd/compile/plan_cache.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/selection.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

using test::message_of;
using ::testing::HasSubstr;

// Two prompts of 3 and 2 tokens as packed rows; the site "s" is x [5, head 2, feature 3], "flat"
// its sum over heads; y = flat^2.
struct Model {
  Graph graph;
  Feeds feeds;
};
Model model() {
  Builder b;
  const Type table{DType::i32, {5}};
  b.rows(b.input("sequence", table), b.input("position", table),
         b.input("keys", {DType::i32, {2, 3}}));
  const Value x = b.input("x", {DType::f64, {5, 2, 3}});
  const Value s = b.site("s", x, {Axis::row, Axis::head, Axis::feature});
  const Value flat = b.site("flat", sum(s, {1}), {Axis::row, Axis::feature});
  b.output("y", square(flat));
  b.output("total", sum(square(flat)));
  std::vector<double> numbers;
  for (int i = 0; i < 30; ++i) numbers.push_back(i + 1);
  return {std::move(b).finish(),
          {{"sequence", Tensor::of<std::int32_t>({5}, {0, 0, 0, 1, 1})},
           {"position", Tensor::of<std::int32_t>({5}, {0, 1, 2, 0, 1})},
           {"keys", Tensor::of<std::int32_t>({2, 3}, {0, 1, 2, 3, 4, -1})},
           {"x", Tensor::of<double>({5, 2, 3}, numbers)}}};
}

std::vector<double> run(const Interventions& what, std::string_view output = "s") {
  const Model m = model();
  const Graph edited = intervene(m.graph, what);
  const Fetch wanted = output == "s" ? fetch(Site{"s"}) : fetch(value(output));
  return compile(edited, wanted)
      .run(with_interventions(edited, what, m.feeds), {})
      .raw(output)
      .to_vector<double>();
}
// x with f applied to the elements [row, head, feature] that `chosen` says.
template <class C, class F>
std::vector<double> by_hand(const C& chosen, const F& f) {
  std::vector<double> x = model().feeds.at("x").to_vector<double>();
  for (int row = 0; row < 5; ++row) {
    for (int head = 0; head < 2; ++head) {
      for (int feature = 0; feature < 3; ++feature) {
        double& v = x[static_cast<std::size_t>((row * 2 + head) * 3 + feature)];
        if (chosen(row, head, feature)) v = f(v, feature);
      }
    }
  }
  return x;
}
constexpr auto kEverything = [](int, int, int) { return true; };
const Site kS{"s"};

TEST(Intervention, ActionsDoWhatTheySay) {
  const Tensor d = Tensor::of<double>({3}, {1, 2, 2});
  EXPECT_EQ(run({zero(kS)}), by_hand(kEverything, [](double, int) { return 0.0; }));
  EXPECT_EQ(run({scale(kS, -2)}), by_hand(kEverything, [](double v, int) { return -2 * v; }));
  EXPECT_EQ(run({detach(kS)}), by_hand(kEverything, [](double v, int) { return v; }));
  const double direction[] = {1, 2, 2};
  EXPECT_EQ(run({add(kS, d, 0.5)}), by_hand(kEverything, [&](double v, int feature) {
              return v + 0.5 * direction[feature];
            }));
  EXPECT_EQ(run({replace(kS, d)}),
            by_hand(kEverything, [&](double, int feature) { return direction[feature]; }));
  // One number is a direction with that number for every feature.
  EXPECT_EQ(run({project_out(kS, Tensor::of<double>({1}, {2}))}),
            run({project_out(kS, Tensor::of<double>({3}, {2, 2, 2}))}));
  const std::vector<double> orthogonal = run({project_out(kS, d)});
  for (std::size_t i = 0; i < orthogonal.size(); i += 3)
    EXPECT_NEAR(orthogonal[i] + 2 * orthogonal[i + 1] + 2 * orthogonal[i + 2], 0, 1e-12);
}

TEST(Intervention, SelectionsAreProductsAlongAxesAndUnionsOfThose) {
  const auto nothing = [](double, int) { return 0.0; };
  EXPECT_EQ(run({zero(kS, {.pos = {1}})}),
            by_hand([](int row, int, int) { return row == 1 || row == 4; }, nothing));
  EXPECT_EQ(run({zero(kS, {.prompt = {1}, .pos = {1}, .head = {0}})}),
            by_hand([](int row, int head, int) { return row == 4 && head == 0; }, nothing));
  EXPECT_EQ(run({zero(kS, {.feature = {0, 2}})}),
            by_hand([](int, int, int feature) { return feature != 1; }, nothing));
  Edit both = zero(kS, {.prompt = {0}, .pos = {2}, .head = {1}});
  both.where.push_back({.prompt = {1}, .feature = {0}});
  EXPECT_EQ(run({both}), by_hand(
                             [](int row, int head, int feature) {
                               return (row == 2 && head == 1) || (row >= 3 && feature == 0);
                             },
                             nothing));
}

TEST(Intervention, WhatFollowsReadsTheEditedValue) {
  const std::vector<double> x =
      by_hand([](int row, int head, int) { return row == 2 && head == 1; },
              [](double, int) { return 0.0; });
  std::vector<double> want;
  for (std::size_t row = 0; row < 5; ++row) {
    for (std::size_t f = 0; f < 3; ++f) {
      const double sum = x[row * 6 + f] + x[row * 6 + 3 + f];
      want.push_back(sum * sum);
    }
  }
  EXPECT_EQ(run({zero(kS, {.prompt = {0}, .pos = {2}, .head = {1}})}, "y"), want);
}

// A plan serves every position and value: only feeds differ.
TEST(Intervention, PositionsAndValuesAreFeeds) {
  const Model m = model();
  const Interventions a = {replace(kS, Tensor::full({3}, DType::f64, 1),
                                   {.pos = {0}, .head = {0}})},
                      b = {
                          replace(kS, Tensor::full({3}, DType::f64, 7), {.pos = {2}, .head = {1}})};
  EXPECT_EQ(intervene(m.graph, a).hash(), intervene(m.graph, b).hash());
  const Graph g = intervene(m.graph, a);
  const Plan plan = compile(g, fetch(kS));
  EXPECT_EQ(plan.run(with_interventions(g, b, m.feeds), {}).raw("s").to_vector<double>(),
            by_hand([](int row, int head, int) { return row == 2 && head == 1; },
                    [](double, int) { return 7.0; }));
}

TEST(Intervention, WhatLeadsToAReplacedSiteIsNotComputed) {
  const Model m = model();
  const Interventions what = {replace(Site{"flat"}, Tensor::full({5, 3}, DType::f64, 2))};
  const Graph g = intervene(m.graph, what);
  const Plan plan = compile(g, fetch(value("y")));
  EXPECT_EQ(plan.stats().steps, 1);  // the square
  EXPECT_EQ(plan.run(with_interventions(g, what, m.feeds), {}).raw("y").to_vector<double>(),
            std::vector<double>(15, 4));
}

// Through a replaced element no gradient flows; through an added or scaled one it does.
TEST(Intervention, GradientsFlowThroughWhatTheEditKeeps) {
  const Model m = model();
  const auto gradient_of = [&](const Interventions& what) {
    const Graph g = gradient(intervene(m.graph, what), "total", leaves("x"));
    return compile(g, fetch(grad(leaves("x"))))
        .run(with_interventions(g, what, m.feeds), {})
        .raw(grad_name("x"))
        .to_vector<double>();
  };
  const std::vector<double> plain = gradient_of({scale(kS, 1)});
  const std::vector<double> replaced =
      gradient_of({replace(kS, m.feeds.at("x"), {.prompt = {0}, .pos = {0}})});
  const std::vector<double> detached = gradient_of({detach(kS, {.prompt = {0}, .pos = {0}})});
  for (std::size_t i = 0; i < plain.size(); ++i) {
    EXPECT_EQ(replaced[i], i < 6 ? 0 : plain[i]);
    EXPECT_EQ(detached[i], i < 6 ? 0 : plain[i]);
    EXPECT_NE(plain[i], 0);
  }
}

TEST(Intervention, OverlapsNeedAnOrder) {
  const Edit first = scale(kS, 2, {.pos = {1}}), second = zero(kS, {.head = {0}});
  EXPECT_THAT(message_of<GraphError>([&] {
                run({first, second});
              }),
              HasSubstr("'s[pos 1] *= 2' and 's[head 0] = 0' change the same element; say which "
                        "comes first with then(), or give them other places: both change prompt "
                        "0, pos 1, head 0"));
  std::vector<double> ordered =
      by_hand([](int, int head, int) { return head == 0; }, [](double, int) { return 0.0; });
  for (const std::size_t row : {1U, 4U}) {
    for (std::size_t i = 0; i < 6; ++i) ordered[row * 6 + i] *= 2;
  }
  EXPECT_EQ(run(Interventions{second}.then({first})), ordered);
  // Adds may overlap; disjoint edits commute.
  const Tensor d = Tensor::of<double>({3}, {1, 2, 2});
  EXPECT_EQ(run({add(kS, d, 1), add(kS, d, 2)}), run({add(kS, d, 3)}));
  EXPECT_EQ(run({zero(kS, {.pos = {0}}), scale(kS, 3, {.pos = {1}})}),
            run({scale(kS, 3, {.pos = {1}}), zero(kS, {.pos = {0}})}));
}

TEST(Intervention, SelectionsAndValuesOfOneEditCanBeAskedFor) {
  const Model m = model();
  const std::vector<std::uint8_t> chosen =
      selection(m.graph, zero(kS, {.prompt = {1}, .pos = {1}, .head = {0}}), m.feeds);
  ASSERT_EQ(chosen.size(), 30U);
  for (std::size_t i = 0; i < 30; ++i) EXPECT_EQ(chosen[i], i >= 24 && i < 27 ? 1 : 0) << i;
  EXPECT_EQ(selection(m.graph, zero(kS), m.feeds), std::vector<std::uint8_t>(30, 1));
  EXPECT_THROW(selection(m.graph, zero(kS, {.head = {2}}), m.feeds), GraphError);
  EXPECT_THROW(selection(m.graph, zero(kS, {.key = {0}}), m.feeds), GraphError);

  const Tensor direction = packed_value(m.graph, add(kS, Tensor::of<float>({3}, {1, 2, 3})));
  EXPECT_EQ(direction.shape(), Shape({3}));
  EXPECT_EQ(direction.dtype(), DType::f64);
  EXPECT_THROW(packed_value(m.graph, zero(kS)), GraphError);
  EXPECT_THROW(packed_value(m.graph, replace(kS, Tensor::zeros({4}, DType::f64))), ShapeError);
}

TEST(Intervention, OneNumberMayBeAddedToEverything) {
  EXPECT_EQ(
      run({add(kS, Tensor::full({}, DType::f64, 2), 0.5, {.head = {1}})}),
      by_hand([](int, int head, int) { return head == 1; }, [](double v, int) { return v + 1; }));
  EXPECT_THAT(
      message_of<ShapeError>([] { run({project_out(kS, Tensor::full({}, DType::f64, 2))}); }),
      HasSubstr("the value must have the site's feature axis"));
}

TEST(Intervention, ADirectionWithoutLengthIsNotProjectedOut) {
  EXPECT_THAT(message_of<NumericError>(
                  [] { run({project_out(kS, Tensor::zeros({3}, DType::f64), {}, "nothing")}); }),
              HasSubstr("the direction 'nothing' has no length that can be divided by"));
  // One for each element, of which only those that are selected count.
  Tensor many = Tensor::full({5, 2, 3}, DType::f64, 1);
  for (int i = 6; i < 9; ++i) many.data<double>()[i] = 0;  // row 1, head 0: prompt 0, position 1
  EXPECT_NO_THROW(run({project_out(kS, many, {.head = {1}})}));
  EXPECT_NO_THROW(run({project_out(kS, many, {.pos = {0, 2}})}));
  EXPECT_THROW(run({project_out(kS, many, {.pos = {1}})}), NumericError);
  EXPECT_THROW(run({project_out(kS, many)}), NumericError);
}

TEST(Intervention, GraphsOfOtherFactorsAreEqual) {
  const Model m = model();
  const Tensor d = Tensor::of<double>({3}, {1, 2, 2});
  const Interventions one = {add(kS, d, 2), scale(Site{"flat"}, 3)},
                      two = {add(kS, d, 5), scale(Site{"flat"}, -1)};
  PlanCache plans;
  for (const Interventions& what : {one, two}) {
    const Graph edited = intervene(m.graph, what);
    const Results r =
        plans.get(edited, fetch(kS)).run(with_interventions(edited, what, m.feeds), {});
    EXPECT_EQ(r.raw("s").to_vector<double>(), run(what));
  }
  EXPECT_EQ(plans.size(), 1u);
}

TEST(Intervention, OverlapsNameTheFirstOfThose) {
  const Tensor d = Tensor::of<double>({3}, {1, 2, 2});
  EXPECT_THAT(message_of<GraphError>([&] {
                run({zero(kS, {.pos = {2}}), add(kS, d, 1, {.pos = {0}}), add(kS, d, 2),
                     zero(kS, {.pos = {0}})});
              }),
              HasSubstr("'s[pos 2] = 0' and 's += 2 x a direction' change the same element"));
  EXPECT_THAT(message_of<GraphError>([&] {
                run({add(kS, d, 1, {.pos = {0}}), add(kS, d, 2, {.head = {1}}),
                     zero(kS, {.feature = {0}})});
              }),
              HasSubstr("'s[pos 0] += 1 x a direction' and 's[feature 0] = 0' change the same"));
  EXPECT_NO_THROW(run({zero(kS, {.pos = {0}, .head = {0}}), zero(kS, {.pos = {0}, .head = {1}}),
                       scale(kS, 2, {.pos = {1, 2}})}));
}

// Edits of one stage are written into the graph together where they can be. One by one, in order,
// they give the same bits.
TEST(Intervention, ManyEditsOfASiteAreAsIfMadeOneByOne) {
  const Tensor one = Tensor::of<double>({}, {0.7}), row = Tensor::of<double>({3}, {1.5, -2, 0.25});
  const Tensor whole = Tensor::of<double>({5, 2, 1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  const Site flat{"flat"};
  const std::vector<std::vector<Edit>> cases = {
      {replace(kS, row, {.pos = {0}}), zero(kS, {.pos = {1}, .head = {1}}),
       replace(kS, whole, {.prompt = {0}, .pos = {2}, .feature = {0, 2}})},
      {zero(kS, {.prompt = {0}, .pos = {2}}),
       zero(kS, {.prompt = {1}, .head = {0}, .feature = {1}})},
      {add(kS, row, 0.3, {.pos = {0}}), add(kS, one, -2, {.pos = {1}, .head = {0}}),
       add(kS, whole, 1.1, {.prompt = {0}, .pos = {2}})},
      {scale(kS, 3, {.pos = {0}, .head = {1}}), scale(kS, -0.1, {.pos = {1}}),
       scale(kS, 7, {.pos = {2}, .feature = {2}})},
      {project_out(kS, row, {.pos = {0}}), project_out(kS, whole, {.pos = {1}, .head = {1}})},
      // What is projected out of one feature reads the others of its row, which must keep the
      // order.
      {zero(kS, {.pos = {0}, .feature = {0}}), project_out(kS, row, {.pos = {0}, .feature = {1}}),
       zero(kS, {.pos = {0}, .feature = {2}})},
      {detach(kS, {.pos = {0}}), detach(kS, {.pos = {1}, .head = {0}})},
      {replace(kS, row, {.pos = {0}}), add(kS, row, 2, {.pos = {1}}), scale(kS, 2, {.pos = {2}}),
       replace(flat, row, {.pos = {1}}), zero(flat, {.pos = {0}}), add(flat, row, 2, {.pos = {2}})},
  };
  const Model m = model();
  for (std::size_t c = 0; c < cases.size(); ++c) {
    const Interventions together(cases[c]);
    Interventions in_order;
    for (const Edit& e : cases[c]) in_order = in_order.then({e});
    const auto run_with_gradient = [&](const Interventions& what) {
      const Graph edited = intervene(m.graph, what);
      const Graph g = gradient(edited, "total", sites("s,flat"));
      const Results r = compile(g, fetch(kS, flat, value("y"), grad(kS), grad(flat)))
                            .run(with_interventions(edited, what, m.feeds), {});
      std::vector<std::vector<double>> all;
      for (const char* name : {"s", "flat", "y"}) all.push_back(r.raw(name).to_vector<double>());
      for (const char* name : {"s", "flat"})
        all.push_back(r.raw(grad_name(name)).to_vector<double>());
      return all;
    };
    EXPECT_EQ(run_with_gradient(together), run_with_gradient(in_order)) << "case " << c;
  }
}

TEST(Intervention, AddsThatOverlapAreSummed) {
  const Tensor d = Tensor::of<double>({3}, {1, 2, 4});
  std::vector<double> wanted = by_hand(kEverything, [](double x, int) { return x; });
  for (int i = 0; i < 30; ++i) {
    const int r = i / 6, head = i / 3 % 2;
    const double by = (r == 0 || r == 3 ? 2 : 0) - (head == 0 ? 0.5 : 0) + (r > 2 ? 0.25 : 0);
    wanted[static_cast<std::size_t>(i)] += by * (1 << i % 3);
  }
  EXPECT_EQ(run({add(kS, d, 2, {.pos = {0}}), add(kS, d, -0.5, {.head = {0}}),
                 add(kS, d, 0.25, {.prompt = {1}})}),
            wanted);
}

TEST(Intervention, MoreEditsOfASiteAreServedByTheSamePlan) {
  const Model m = model();
  PlanCache plans;
  const Tensor d = Tensor::of<double>({3}, {1, 2, 2});
  for (const std::vector<std::int64_t>& positions : {std::vector<std::int64_t>{0, 1}, {0, 1, 2}}) {
    std::vector<Edit> edits;
    for (const std::int64_t p : positions) edits.push_back(replace(kS, d, {.pos = {p}}));
    const Interventions what(edits);
    const Graph edited = intervene(m.graph, what);
    plans.get(edited, fetch(kS)).run(with_interventions(edited, what, m.feeds), {});
  }
  EXPECT_EQ(plans.size(), 1u);
}

// The structure decides the graph: what has the same may share it.
TEST(Intervention, OnlyTheStructureChangesTheGraph) {
  const Model m = model();
  const Tensor d = Tensor::of<double>({3}, {1, 2, 2}), e = Tensor::of<double>({3}, {3, 0, 4});
  const Tensor one = Tensor::of<double>({}, {1}), whole = Tensor::zeros({5, 2, 3}, DType::f64);
  const std::vector<Interventions> all = {
      {},
      {zero(kS, {.pos = {0}})},
      {zero(kS, {.pos = {1}})},
      {zero(kS, {.head = {0}})},
      {zero(kS)},
      {scale(kS, 2, {.pos = {0}})},
      {replace(kS, d, {.pos = {0}})},
      {replace(kS, e, {.pos = {1}})},
      {replace(kS, whole, {.pos = {0}})},
      {replace(kS, d)},
      {replace(kS, d, {.pos = {0}}), replace(kS, e, {.pos = {1}})},
      {replace(kS, whole, {.pos = {0}}), zero(kS, {.pos = {1}}), replace(kS, e, {.pos = {2}})},
      {zero(kS, {.pos = {0}}), zero(kS, {.pos = {1}})},
      {add(kS, d, 2, {.pos = {0}}), add(kS, d, 3, {.pos = {1}})},
      Interventions{zero(kS, {.pos = {0}})}.then({zero(kS, {.pos = {0}})}),
      {zero(Site{"flat"}, {.pos = {0}})}};
  for (const Interventions& a : all) {
    for (const Interventions& b : all) {
      if (structure_of(m.graph, a) != structure_of(m.graph, b)) continue;
      EXPECT_EQ(intervene(m.graph, a).hash(), intervene(m.graph, b).hash()) << a.to_text() << "\n"
                                                                            << b.to_text();
    }
  }
  const auto structure = [&](std::size_t i) { return structure_of(m.graph, all[i]); };
  EXPECT_EQ(structure(1), structure(2));    // another position
  EXPECT_NE(structure(1), structure(3));    // another axis
  EXPECT_EQ(structure(6), structure(7));    // another value
  EXPECT_NE(structure(6), structure(8));    // of another shape
  EXPECT_EQ(structure(10), structure(11));  // more edits of the site, by values of other shapes
  // What is refused of one is refused of another that is fed to its graph.
  const Interventions two = {project_out(kS, d, {.pos = {0}}), project_out(kS, e, {.pos = {1}})};
  const Interventions no_direction = {project_out(kS, d, {.pos = {0}}),
                                      project_out(kS, one, {.pos = {1}})};
  ASSERT_EQ(structure_of(m.graph, two), structure_of(m.graph, no_direction));
  EXPECT_THROW(with_interventions(intervene(m.graph, two), no_direction, m.feeds), ShapeError);
}

// Bookkeeping is in proportion to what is edited: four times as many edits take about four times as
// long, and a thousand of them no time that anybody notices.
TEST(Intervention, AThousandEditsTakeNoTime) {
  Builder b;
  const std::int64_t rows = 40, heads = 25, width = 64;
  const Type table{DType::i32, {rows}};
  b.rows(b.input("sequence", table), b.input("position", table),
         b.input("keys", {DType::i32, {1, rows}}));
  const Value x = b.input("x", {DType::f32, {rows, heads, width}});
  b.output("y", b.site("s", x, {Axis::row, Axis::head, Axis::feature}));
  const Graph graph = std::move(b).finish();
  std::vector<std::int32_t> places;
  for (int i = 0; i < rows; ++i) places.push_back(i);
  const Feeds feeds = {{"sequence", Tensor::zeros({rows}, DType::i32)},
                       {"position", Tensor::of<std::int32_t>({rows}, places)},
                       {"keys", Tensor::of<std::int32_t>({1, rows}, places)},
                       {"x", Tensor::zeros({rows, heads, width}, DType::f32)}};
  std::vector<Edit> edits;
  const Tensor value = Tensor::full({width}, DType::f32, 1);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t h = 0; h < heads; ++h)
      edits.push_back(replace(kS, value, {.pos = {r}, .head = {h}}));
  }
  const Interventions what(edits);
  const Graph edited = intervene(graph, what);
  const auto start = std::chrono::steady_clock::now();
  const Feeds fed = with_interventions(edited, what, feeds);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(fed.size(), feeds.size() + 2);  // one mask, one table
  EXPECT_LT(spent.count(), 0.25);
}

TEST(Intervention, MistakesAreExplained) {
  EXPECT_THAT(message_of<SiteError>([] { run({zero(Site{"t"})}); }), HasSubstr("'t'"));
  EXPECT_THAT(message_of<GraphError>([] { run({zero(kS, {.key = {0}})}); }),
              HasSubstr("s[key 0] = 0: the site has no axis for 'key'; its axes are [row, head, "
                        "feature]"));
  EXPECT_THAT(message_of<GraphError>([] { run({zero(kS, {.head = {2}})}); }),
              HasSubstr("head 2 is outside 0 to 1"));
  EXPECT_THAT(message_of<GraphError>([] { run({zero(kS, {.prompt = {1}, .pos = {2}})}); }),
              HasSubstr("the selection is empty"));
  EXPECT_THAT(
      message_of<ShapeError>([] {
        run({replace(kS, Tensor::zeros({4, 2, 3}, DType::f64))});
      }),
      HasSubstr("a value [4, 2, 3] does not fit the site, which is [5, 2, 3] (packed rows)"));
}

TEST(Intervention, Prints) {
  const Tensor d = Tensor::zeros({3}, DType::f64);
  const Interventions what =
      Interventions{replace(kS, d, {.pos = {4}}, "clean"), zero(Site{"flat"})}.then(
          {add(kS, d, 2.5, {.prompt = {0}, .head = {1}}, "the direction of joy")});
  EXPECT_EQ(what.to_text(),
            "s[pos 4] = clean\nflat = 0\nthen s[prompt 0; head 1] += 2.5 x the direction of joy\n");
}

}  // namespace
}  // namespace vitrine

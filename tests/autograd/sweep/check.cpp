#include "tests/autograd/sweep/check.h"

#include <gtest/gtest.h>

namespace vitrine::test {

Results edited(const Made& m, const Interventions& what) {
  Fetch all;
  for (const std::string& o : m.outputs) all.wants.push_back(value(o));
  const Graph g = intervene(m.graph, what);
  return compile(g, all).run(with_interventions(g, what, m.feeds), m.parameters);
}

void expect_equal_to_one_by_one(const Made& m, const std::vector<Interventions>& worlds,
                                const SweepOptions& options, double tolerance) {
  const Swept s = sweep(m.graph, m.feeds, m.parameters, worlds, m.outputs, options);
  for (std::size_t w = 0; w < worlds.size(); ++w) {
    const Results one = edited(m, worlds[w]);
    for (const std::string& o : m.outputs) {
      const Tensor got = s[o].select(0, static_cast<std::int64_t>(w)), want = one.raw(o);
      ASSERT_EQ(got.dtype(), want.dtype()) << o;
      double largest = 1;
      for (const double x : want.to(DType::f64).to_vector<double>())
        largest = std::max(largest, std::abs(x));
      EXPECT_LE(max_abs_difference(got, want), tolerance * largest)
          << o << " of world " << w << ":\n"
          << worlds[w].to_text();
      if (!s.has_effect(w)) {
        EXPECT_EQ(max_abs_difference(got, s.base(o)), 0) << o << " of world " << w;
      }
    }
  }
}

std::int64_t below(Rng& rng, std::int64_t n) {
  return std::uniform_int_distribution<std::int64_t>(0, n - 1)(rng);
}

std::vector<std::int64_t> some(Rng& rng, std::int64_t n) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < n; ++i)
    if (below(rng, n) == 0) out.push_back(i);
  return out;
}

SweepOptions options_of(int seed) {
  SweepOptions o;
  o.by_row = seed % 2 == 0 || seed % 3 == 0;
  o.by_head = seed % 5 != 1;
  o.by_difference = seed % 5 != 2;
  o.by_demand = seed % 5 != 3;
  if (seed % 5 == 4) o.memory = 2000;
  return o;
}

}  // namespace vitrine::test

// Sweeps against the naive loop: one edited run after the other.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "autograd/sweep/sweep.h"
#include "tests/autograd/small_transformer.h"

namespace vitrine::test {

// A model, what it is fed, and the outputs that are compared.
struct Made {
  Graph graph;
  Feeds feeds;
  Parameters parameters;
  std::vector<std::string> outputs;

  Made() = default;
  Made(const SmallTransformer& m, std::vector<std::string> compared)
      : graph(m.graph), feeds(m.feeds), parameters(m.parameters), outputs(std::move(compared)) {}
};

// One world of the naive loop: intervene, compile, run.
Results edited(const Made& m, const Interventions& what);

// Compares all outputs of all worlds. `tolerance` is relative to the largest value of an output,
// or to 1.
void expect_equal_to_one_by_one(const Made& m, const std::vector<Interventions>& worlds,
                                const SweepOptions& options = {}, double tolerance = 1e-11);

// ---- drawing ----------------------------------------------------------------------------------
using Rng = std::mt19937;
std::int64_t below(Rng& rng, std::int64_t n);              // in [0, n)
std::vector<std::int64_t> some(Rng& rng, std::int64_t n);  // one of [0, n) on average, perhaps none
SweepOptions options_of(int seed);                         // all ways of saving, on and off

}  // namespace vitrine::test

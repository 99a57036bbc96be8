// Patching sweeps and attribution of GPT-2 small, random weights, two prompts of 15 tokens that differ in two of
// them, the fifth and the tenth: compiled sweeps, what each idea in them is worth, and the loops
// that one would write without them.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "bench/program.h"
#include "bench/random_gpt2.h"
#include "interp/attribution.h"
#include "interp/patching.h"
#include "nn/families/sites.h"

namespace vitrine::bench {
namespace {

using interp::By;
using interp::SweepSpec;

interp::Pair pair_of_prompts(int vocabulary) {
  interp::Pair pair{{}, {}, 100, 200};
  for (std::uint64_t t = 0; t < 15; ++t)
    pair.clean.push_back(static_cast<int>(random::below(random::Key{2}, t, vocabulary)));
  pair.corrupt = pair.clean;
  pair.corrupt[4] = 123;
  pair.corrupt[9] = 456;
  return pair;
}

// The model, made when the first work needs it.
class Subject {
 public:
  explicit Subject(int threads) : threads_(threads) {}
  const nn::Model& model() {
    if (!model_) model_ = std::make_unique<nn::Model>(random_gpt2(nn::Config(), threads_));
    return *model_;
  }
  interp::Pair pair() { return pair_of_prompts(model().config().vocabulary); }

 private:
  int threads_;
  std::unique_ptr<nn::Model> model_;
};

void report(benchmark::State& state, std::int64_t runs) {
  state.counters["runs"] = static_cast<double>(runs);
  state.counters["peak_rss_bytes"] = static_cast<double>(peak_resident_bytes());
}

void add_sweep(const std::string& name, const std::shared_ptr<Subject>& subject,
               const SweepSpec& spec) {
  benchmark::RegisterBenchmark(("sweep/" + name).c_str(),
                               [=, warm = std::make_shared<bool>(false)](benchmark::State& state) {
                                 const nn::Model& model = subject->model();
                                 const interp::Pair pair = subject->pair();
                                 if (!*warm) patch_sweep(model, pair, spec);
                                 *warm = true;
                                 interp::PatchSweep s;
                                 for (auto _ : state) s = patch_sweep(model, pair, spec);
                                 report(state, s.runs);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(1);
}

// One edited run after the other: what a loop over interventions costs here. Nine places of 180
// stand for all; the time is that of the whole sweep.
void add_loop(const std::shared_ptr<Subject>& subject) {
  benchmark::RegisterBenchmark(
      "sweep/loop/resid_pre",
      [=](benchmark::State& state) {
        const nn::Model& model = subject->model();
        const interp::Pair pair = subject->pair();
        const Metric metric = nn::logit_diff(pair.answer, pair.wrong);
        const int layers = model.config().layers;
        std::vector<Edit> edits;
        for (const int layer : {0, layers / 2, layers - 1}) {
          const Site site = site::resid_pre(layer);
          const Tensor clean = model.run(pair.clean, site).results.raw(site.name);
          for (const std::int64_t pos : {0, 7, 14})
            edits.push_back(replace(site, clean, {.pos = {pos}}, "clean"));
        }
        const auto run = [&](const Edit& e) {
          benchmark::DoNotOptimize(
              model.run_edited({pair.corrupt}, {e}, fetch(value(metric)), &metric));
        };
        for (const Edit& e : edits) run(e);  // compiled and cached
        const auto runs = static_cast<std::int64_t>(layers) * std::ssize(pair.clean);
        for (auto _ : state) {
          const auto start = std::chrono::steady_clock::now();
          for (const Edit& e : edits) run(e);
          const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
          state.SetIterationTime(took.count() * static_cast<double>(runs) /
                                 static_cast<double>(edits.size()));
        }
        report(state, runs);
      })
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(1);
}

// What screens all nodes at once, and one forward pass to measure it by: the metric of one prompt,
// and the logits of every position.
void add_attribution(const std::shared_ptr<Subject>& subject) {
  const auto add = [&](const char* name, auto&& work) {
    benchmark::RegisterBenchmark(
        name,
        [=, warm = std::make_shared<bool>(false)](benchmark::State& state) {
          const nn::Model& model = subject->model();
          const interp::Pair pair = subject->pair();
          if (!*warm) work(model, pair);
          *warm = true;
          for (auto _ : state) work(model, pair);
          report(state, 1);
        })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(4);
  };
  add("attribution/forward", [](const nn::Model& model, const interp::Pair& pair) {
    benchmark::DoNotOptimize(model.run(pair.clean));
  });
  add("attribution/default_sites", [](const nn::Model& model, const interp::Pair& pair) {
    benchmark::DoNotOptimize(interp::attribute(model, pair));
  });
  add("attribution/every_site", [](const nn::Model& model, const interp::Pair& pair) {
    benchmark::DoNotOptimize(interp::attribute(model, pair, {.sites = {"*"}}));
  });
}

void add_benchmarks(const Options& options) {
  const auto subject = std::make_shared<Subject>(options.threads);
  const SweepSpec resid{.site = "resid_pre", .by = By::pos}, z{.site = "z", .by = By::head};
  add_sweep("resid_pre", subject, resid);
  add_sweep("mlp_out", subject, {.site = "mlp_out", .by = By::pos});
  add_sweep("z_head", subject, z);
  add_sweep("pattern_head", subject, {.site = "pattern", .by = By::head});
  add_sweep("q_head", subject, {.site = "q", .by = By::head});
  add_sweep("z_head_pos", subject, {.site = "z", .by = By::head_pos});

  // The same values by more work.
  const auto without = [&](const std::string& what, bool SweepSpec::*idea) {
    for (const SweepSpec& whole : {resid, z, SweepSpec{.site = "q", .by = By::head}}) {
      SweepSpec spec = whole;
      spec.*idea = false;
      add_sweep(fmt::format("without_{}/{}", what, spec.site), subject, spec);
    }
  };
  without("rows", &SweepSpec::by_row);
  without("heads", &SweepSpec::by_head);
  without("difference", &SweepSpec::by_difference);
  without("demand", &SweepSpec::by_demand);
  SweepSpec batched = resid;  // a batch of whole runs, from the edited layer on
  batched.by_row = batched.by_head = batched.by_difference = batched.by_demand = false;
  add_sweep("batched/resid_pre", subject, batched);
  add_loop(subject);
  add_attribution(subject);
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
  return vitrine::bench::run_program(argc, argv, vitrine::bench::add_benchmarks);
}

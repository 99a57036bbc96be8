// Whole models: forward passes, training steps, building plans, generating text. GPT-2 small and a
// smaller shape, with random weights; how long they take does not depend on the numbers. A work is
// warmed up once; after that each repetition times one iteration of it. VITRINE_BENCH_MODEL=FOLDER
// adds generating text with the model there.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/program.h"
#include "bench/random_gpt2.h"
#include "nn/model/sampling.h"
#include "nn/training/training_step.h"
#include "tensor/random.h"

namespace vitrine::bench {
namespace {

using nn::BatchSize;
using nn::Config;
using nn::Tokens;

// ---- what is run --------------------------------------------------------------------------------
struct Batch {
  std::int64_t prompts, tokens;  // tokens of each prompt
  std::string name() const { return fmt::format("{}x{}", prompts, tokens); }
  BatchSize size() const { return {prompts * tokens, prompts, tokens}; }
};

Config gpt2_small() { return {}; }
Config small() {
  Config c;
  c.layers = 6;
  c.heads = 8;
  c.d_model = 256;
  c.d_mlp = 1024;
  c.context = 256;
  c.vocabulary = 5000;
  return c;
}

Config default_model() {  // as apps/recipe trains it
  Config c = small();
  c.heads = 4;
  c.vocabulary = 6000;
  return c;
}

std::vector<Tokens> random_prompts(const Batch& batch, int vocabulary) {
  std::vector<Tokens> prompts(static_cast<std::size_t>(batch.prompts));
  std::uint64_t draw = 0;
  for (Tokens& prompt : prompts) {
    for (std::int64_t t = 0; t < batch.tokens; ++t) {
      prompt.push_back(static_cast<int>(random::below(random::Key{2}, draw++, vocabulary)));
    }
  }
  return prompts;
}

// Made when the first work needs it: a process that runs one work holds what that work needs.
template <class T>
class Lazy {
 public:
  template <class Make>
  T& get(const Make& make) {
    if (!made_) made_.reset(new T(make()));  // in place: T need not be movable
    return *made_;
  }

 private:
  std::unique_ptr<T> made_;
};

nn::Model random_gpt2_small(int threads) { return random_gpt2(gpt2_small(), threads); }

// ---- what is reported ---------------------------------------------------------------------------
using Rate = benchmark::Counter;
constexpr auto kPerSecond = Rate::kIsIterationInvariantRate;

void report_plan(benchmark::State& state, const Plan::Stats& stats) {
  const auto arena = static_cast<double>(stats.arena_bytes);
  const auto intermediates = static_cast<double>(stats.intermediate_bytes);
  state.counters["arena_bytes"] = arena;
  state.counters["intermediate_bytes"] = intermediates;
  state.counters["arena_share"] = arena / intermediates;
  state.counters["GFLOP/s"] = Rate(static_cast<double>(stats.flops) / 1e9, kPerSecond);
}

void report_memory(benchmark::State& state) {
  state.counters["peak_rss_bytes"] = static_cast<double>(peak_resident_bytes());
}

void report_tokens(benchmark::State& state, std::int64_t tokens) {
  state.counters["tokens/s"] = Rate(static_cast<double>(tokens), kPerSecond);
}

// ---- the works ----------------------------------------------------------------------------------
// The logits of every position.
class Forward {
 public:
  Forward(const nn::Model& model, const Batch& batch)
      : model_(model), prompts_(random_prompts(batch, model.config().vocabulary)) {
    stats_ = compile(model.build(batch.size()), fetch(value("logits"))).stats();
    run();
  }
  void run() const { benchmark::DoNotOptimize(model_.run(prompts_).logits()); }
  const Plan::Stats& stats() const { return stats_; }

 private:
  const nn::Model& model_;
  std::vector<Tokens> prompts_;
  Plan::Stats stats_;
};

// AdamW with the gradient clipped to a global norm of 1.
class Training {
 public:
  Training(const Config& config, const Batch& batch, int threads)
      : pool_(threads),
        prompts_(random_prompts(batch, config.vocabulary)),
        step_(config, random_parameters(config, pool_), {.adamw = {.rate = 1e-4}}),
        plan_(step_.plan(batch.size(), nn::next_tokens(prompts_))) {
    run();
  }
  void run() { benchmark::DoNotOptimize(step_.step(prompts_, pool_)); }
  const Plan::Stats& stats() const { return plan_.stats(); }

 private:
  ThreadPool pool_;
  std::vector<Tokens> prompts_;
  nn::TrainingStep step_;
  Plan plan_;
};

// Greedy, with keys and values cached; the plans are part of it.
std::int64_t generate(const nn::Model& model) {
  const Tokens prompt = random_prompts({1, 8}, model.config().vocabulary)[0];
  const int count = std::min(128, model.config().context - static_cast<int>(prompt.size()));
  return std::ssize(nn::generate(model, prompt, count, {}, random::Key{3}));
}

// ---- registration -------------------------------------------------------------------------------
template <class F>
benchmark::internal::Benchmark* add(const std::string& name, const F& f) {
  return benchmark::RegisterBenchmark(name.c_str(), f)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void add_forward(const Options& options, const std::shared_ptr<Lazy<nn::Model>>& model) {
  for (const Batch batch : {Batch{1, 16}, {8, 64}, {4, 256}, {1, 1024}}) {
    const auto forward = std::make_shared<Lazy<Forward>>();
    add("forward/" + batch.name(), [=](benchmark::State& state) {
      const nn::Model& m = model->get([&] { return random_gpt2_small(options.threads); });
      const Forward& f = forward->get([&] { return Forward(m, batch); });
      for (auto _ : state) f.run();
      report_plan(state, f.stats());
      report_tokens(state, batch.size().rows);
      report_memory(state);
    })->Iterations(1);
  }
}

void add_training(const Options& options, const std::string& shape, const Config& config,
                  const Batch& batch) {
  const auto training = std::make_shared<Lazy<Training>>();
  add(fmt::format("train/{}/{}", shape, batch.name()), [=](benchmark::State& state) {
    Training& t = training->get([&] { return Training(config, batch, options.threads); });
    for (auto _ : state) t.run();
    report_plan(state, t.stats());
    report_tokens(state, batch.size().rows);
    report_memory(state);
  })->Iterations(1);
}

// Nothing is cached, except in the last: the plan for a graph that was compiled before.
void add_plans() {
  const BatchSize size = Batch{4, 256}.size();
  add("plan/forward", [=](benchmark::State& state) {
    for (auto _ : state) {
      benchmark::DoNotOptimize(compile(nn::build_model(gpt2_small(), size), fetch(value("logits"))));
    }
  });
  add("plan/training", [=](benchmark::State& state) {
    for (auto _ : state) {
      benchmark::DoNotOptimize(
          nn::compile_training_step(gpt2_small(), size, size.rows - size.sequences));
    }
  });
  add("plan/lookup", [=](benchmark::State& state) {
    const Graph graph = nn::build_model(gpt2_small(), size);
    PlanCache cache;
    cache.get(graph, fetch(value("logits")));
    for (auto _ : state) benchmark::DoNotOptimize(cache.get(graph, fetch(value("logits"))));
  });
}

template <class Make>
void add_generation(const std::string& name, const std::shared_ptr<Lazy<nn::Model>>& model,
                    const Make& make) {
  const auto warm = std::make_shared<Lazy<std::int64_t>>();
  add("generate/" + name, [=](benchmark::State& state) {
    const nn::Model& m = model->get(make);
    std::int64_t tokens = warm->get([&] { return generate(m); });
    for (auto _ : state) tokens = generate(m);
    state.counters["tokens"] = static_cast<double>(tokens);
    report_tokens(state, tokens);
    report_memory(state);
  })->Iterations(1);
}

void add_benchmarks(const Options& options) {
  const auto model = std::make_shared<Lazy<nn::Model>>();
  add_forward(options, model);
  add_training(options, "gpt2-small", gpt2_small(), {4, 256});
  add_training(options, "small", small(), {16, 128});
  add_training(options, "default-model", default_model(), {8, 256});
  add_plans();
  add_generation("gpt2-small", model, [=] { return random_gpt2_small(options.threads); });
  if (const char* folder = std::getenv("VITRINE_BENCH_MODEL");
      folder != nullptr && *folder != '\0') {
    describe("model", folder);
    add_generation("model", std::make_shared<Lazy<nn::Model>>(),
                   [=] { return nn::load_gpt2(folder, {.threads = options.threads}); });
  }
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
  return vitrine::bench::run_program(argc, argv, vitrine::bench::add_benchmarks);
}

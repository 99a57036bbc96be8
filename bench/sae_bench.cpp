// Steps of SAE training: forward, loss, backward, clipping to a norm of 1, Adam. Samples are
// Gaussian.
//
//   sae/KIND/DxFxB        KIND topk or batchtopk with k = 32, standard or jumprelu, at first
//                         steps, when half of all features are active
//   sae/KIND_dead/...     a third of the features held to be dead: the auxiliary loss is at work
//   sae/KIND_file/...     samples are read from a safetensors file, mixed in a buffer of 65536 rows
//   sae/KIND_sparse/...   biases such that about 85 of a sample's features are active
//   sae/encode/...        the product x W_enc alone
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "bench/program.h"
#include "sae/shuffled_rows.h"
#include "sae/training_step.h"
#include "tensor/files/safetensors.h"
#include "tensor/gemm/gemm.h"

namespace vitrine::bench {
namespace {

struct Size {
  std::int64_t inputs, features, batch;
  std::string name() const { return fmt::format("{}x{}x{}", inputs, features, batch); }
};

Tensor gaussian(const char* name, const Shape& shape, ThreadPool& pool) {
  Tensor x = Tensor::empty(shape, DType::f32);
  random::fill_normal(pool, random::Key{1}.fold(name), x);
  return x;
}

class Step {
 public:
  Step(sae::Kind kind, const Size& size, const std::string& suffix, int threads)
      : pool_(threads), step_(make(kind, size, suffix == "_sparse")) {
    const bool dead = suffix == "_dead";
    batch_.x = gaussian("x", {size.batch, size.inputs}, pool_);
    if (suffix == "_file") {
      file_ = std::filesystem::temp_directory_path() /
              fmt::format("sae_bench_{}.safetensors", getpid());
      save_safetensors(file_, {{"x", gaussian("file", {4 * kBuffer / 2, size.inputs}, pool_)}});
      source_ = sae::file_source({file_.string()}, {"x"});
      rows_ = std::make_unique<sae::ShuffledRows>(*source_, sae::BufferSpec{.rows = kBuffer});
    }
    dead_ = Tensor::zeros({size.features}, DType::boolean);
    for (std::int64_t j = 0; dead && j < size.features; j += 3)
      dead_.view().as<std::uint8_t>()[j] = 1;
    run();
    run();  // the first step of some kinds is of another form
  }
  ~Step() {
    std::error_code ignored;
    if (!file_.empty()) std::filesystem::remove(file_, ignored);
  }
  void run() {
    if (rows_) batch_.x = rows_->next(batch_.x.dim(0))[0];
    last_ = step_.step(batch_, pool_, 3e-4, &dead_);
  }
  const sae::StepOutcome& last() const { return last_; }
  std::string explain() const { return step_.explain(); }

 private:
  static sae::SaeTrainingStep make(sae::Kind kind, const Size& size, bool sparse) {
    sae::SaeTrainingRules r;
    r.kind = kind;
    r.d_in = size.inputs;
    r.d_sae = size.features;
    r.batch = size.batch;
    r.k = 32;
    r.sparsity = kind == sae::Kind::standard ? 5 : 1;
    Parameters w = sae::initial_weights(r, random::Key{2});
    if (sparse) w["b_enc"] = Tensor::full({size.features}, DType::f32, -0.27);  // of 0.1
    return {r, w};
  }
  static constexpr std::int64_t kBuffer = 65536;
  ThreadPool pool_;
  std::filesystem::path file_;
  std::unique_ptr<sae::ActivationSource> source_;
  std::unique_ptr<sae::ShuffledRows> rows_;
  sae::SaeTrainingStep step_;
  sae::Batch batch_;
  Tensor dead_;
  sae::StepOutcome last_;
};

void add_step(const std::string& kind, const std::string& suffix, const Size& size, int threads) {
  const auto step = std::make_shared<std::unique_ptr<Step>>();
  benchmark::RegisterBenchmark(
      fmt::format("sae/{}{}/{}", kind, suffix, size.name()).c_str(),
      [=](benchmark::State& state) {
        if (!*step) *step = std::make_unique<Step>(sae::parse_kind(kind), size, suffix, threads);
        for (auto _ : state) (*step)->run();
        state.counters["vectors/s"] = benchmark::Counter(
            static_cast<double>(size.batch), benchmark::Counter::kIsIterationInvariantRate);
        state.counters["l0"] = (*step)->last().l0;
        state.counters["capacity"] = static_cast<double>((*step)->last().capacity);
        state.counters["peak_rss_bytes"] = static_cast<double>(peak_resident_bytes());
        if (std::getenv("VITRINE_BENCH_EXPLAIN") != nullptr) fmt::print("{}", (*step)->explain());
      })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(1);
}

void add_encode(const Size& size, int threads) {
  benchmark::RegisterBenchmark(
      fmt::format("sae/encode/{}", size.name()).c_str(),
      [=](benchmark::State& state) {
        ThreadPool pool(threads);
        const Tensor x = gaussian("x", {size.batch, size.inputs}, pool),
                     w = gaussian("w", {size.features, size.inputs}, pool),
                     h = Tensor::empty({size.batch, size.features}, DType::f32);
        for (auto _ : state) matmul(pool, x.view(), w.transpose(0, 1).view(), h.view());
        state.counters["GFLOP/s"] =
            benchmark::Counter(2e-9 * static_cast<double>(size.batch * size.features * size.inputs),
                               benchmark::Counter::kIsIterationInvariantRate);
      })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(3);
}

void add_works(const Options& options) {
  for (const Size& size : {Size{768, 24576, 4096}, {768, 6144, 4096}, {256, 4096, 4096}}) {
    add_encode(size, options.threads);
    for (const char* kind : {"standard", "topk", "batchtopk", "jumprelu"}) {
      const bool competes = std::string_view(kind).ends_with("topk");
      add_step(kind, "", size, options.threads);
      add_step(kind, competes ? "_dead" : "_sparse", size, options.threads);
      if (competes) add_step(kind, "_file", size, options.threads);
    }
  }
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
  return vitrine::bench::run_program(argc, argv, vitrine::bench::add_works);
}

// Matrix products in the shapes of GPT-2: gemm/vitrine/MxNxK is C [m, n] = A [m, k] B [k, n];
// gemm_bt the same with B stored [n, k]. VITRINE_PEER_OPENBLAS=FILE adds gemm/openblas/MxNxK, that
// library on the same memory. Once warm, products find in the caches what fits there.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>

#include "bench/peer_openblas.h"
#include "bench/program.h"
#include "tensor/gemm/gemm.h"
#include "tensor/random.h"

namespace vitrine::bench {
namespace {

struct Product {
  std::int64_t m, n, k;
  bool b_transposed = false;

  std::string name(const char* who) const {
    return fmt::format("{}/{}/{}x{}x{}", b_transposed ? "gemm_bt" : "gemm", who, m, n, k);
  }
};

constexpr Product kProducts[] = {
    {2048, 2048, 2048}, {512, 3072, 768},  // a feed-forward layer's two products,
    {512, 768, 3072},                      // 8 x 64 tokens
    {64, 768, 768},                        // attention's output, a short prompt
    {16, 3072, 768},                       // feed-forward, a very short one
    {1024, 50257, 768},                    // the logits of 4 x 256 tokens,
    {512, 50257, 768},                     // of 8 x 64,
    {1, 50257, 768},                       // of one
    {4096, 24576, 768},                    // a sparse autoencoder's encoder
};

// One memory for all products, so that they differ in nothing else.
struct Matrices {
  explicit Matrices(ThreadPool& pool) {
    std::int64_t a_size = 0, b_size = 0, c_size = 0;
    for (const Product& p : kProducts) {
      a_size = std::max(a_size, p.m * p.k);
      b_size = std::max(b_size, p.k * p.n);
      c_size = std::max(c_size, p.m * p.n);
    }
    a = Tensor::empty({a_size}, DType::f32);
    b = Tensor::empty({b_size}, DType::f32);
    c = Tensor::zeros({c_size}, DType::f32);
    random::fill_uniform(pool, random::Key{1}, a, -1, 1);
    random::fill_uniform(pool, random::Key{2}, b, -1, 1);
  }
  Tensor a, b, c;  // the first elements of each are used
};

Tensor first(const Tensor& x, const Shape& shape) {
  return x.slice(0, 0, numel(shape)).reshape(shape);
}

// Warm is: memory touched, threads awake, those of the other library asleep again.
template <class F>
void measure(benchmark::State& state, const Product& p, const F& multiply) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  do {
    multiply();
  } while (Clock::now() - start < std::chrono::milliseconds(50));
  for (auto _ : state) multiply();
  const auto flops = 2.0 * static_cast<double>(p.m * p.n * p.k);
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops / 1e9, benchmark::Counter::kIsIterationInvariantRate);
}

void measure_vitrine(benchmark::State& state, const Product& p, const Matrices& memory,
                     ThreadPool& pool) {
  const Tensor a = first(memory.a, {p.m, p.k}), c = first(memory.c, {p.m, p.n});
  const Tensor b =
      p.b_transposed ? first(memory.b, {p.n, p.k}).transpose(0, 1) : first(memory.b, {p.k, p.n});
  measure(state, p, [&] { matmul(pool, a.view(), b.view(), c.view()); });
}

void measure_peer(benchmark::State& state, const Product& p, const Matrices& memory,
                  const PeerOpenBlas& peer, int threads) {
  peer.set_threads(threads);
  measure(state, p, [&] {
    peer.multiply(p.b_transposed, p.m, p.n, p.k, memory.a.data<float>(), memory.b.data<float>(),
                  memory.c.data<float>());
  });
  peer.set_threads(1);
}

void add_benchmarks(const Options& options) {
  const auto pool = std::make_shared<ThreadPool>(options.threads);
  const auto memory = std::make_shared<Matrices>(*pool);
  std::shared_ptr<PeerOpenBlas> peer;
  if (const char* file = std::getenv("VITRINE_PEER_OPENBLAS"); file != nullptr && *file != '\0') {
    peer = std::make_shared<PeerOpenBlas>(file);
    describe("peer_openblas", peer->description());
  }
  const auto add = [](const std::string& name, const auto& f) {
    benchmark::RegisterBenchmark(name.c_str(), f)
        ->UseRealTime()
        ->MinTime(0.2)
        ->Unit(benchmark::kMillisecond);
  };
  for (const bool b_transposed : {false, true}) {
    for (Product p : kProducts) {
      p.b_transposed = b_transposed;
      add(p.name("vitrine"), [=](auto& state) { measure_vitrine(state, p, *memory, *pool); });
      if (!peer) continue;
      add(p.name("openblas"),
          [=](auto& state) { measure_peer(state, p, *memory, *peer, options.threads); });
    }
  }
}

}  // namespace
}  // namespace vitrine::bench

int main(int argc, char** argv) {
  return vitrine::bench::run_program(argc, argv, vitrine::bench::add_benchmarks);
}

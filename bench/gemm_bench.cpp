// Matrix products in the shapes of GPT-2: gemm/vitrine/MxNxK is C [m, n] = A [m, k] B [k, n];
// gemm_bt the same with B stored [n, k]. VITRINE_PEER_OPENBLAS=FILE adds gemm/openblas/MxNxK, that
// library on the same memory. Once warm, products find in the caches what fits there.
// gemm_stored/TYPE/MxNxK is the same with B stored [n, k] in fewer bits than f32: as many matrices,
// one after the other, as do not stay in the caches.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <vector>

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

// ---- right sides that are stored in fewer bits --------------------------------------------------
constexpr DType kStoredTypes[] = {DType::f32,  DType::f16,  DType::bf16, DType::q8_0,
                                  DType::q4_0, DType::q4_1, DType::q4_k, DType::q6_k};
constexpr std::int64_t kStoredRows = 4096, kStoredDepth = 2048, kStoredMatrices = 16;

// Bytes whose every second one is that of an ordinary f16, wherever a type has its scales.
Tensor stored_matrix(DType dtype) {
  const Tensor w = Tensor::empty({kStoredRows, kStoredDepth}, dtype);
  for (std::int64_t i = 0; i < w.bytes(); ++i)
    w.view().data[i] = static_cast<std::byte>(i % 2 == 1 ? 0x30 : i * 37);
  return w;
}

void measure_stored(benchmark::State& state, DType dtype, std::int64_t m, ThreadPool& pool) {
  std::vector<Tensor> weights;
  for (std::int64_t i = 0; i < kStoredMatrices; ++i) weights.push_back(stored_matrix(dtype));
  const Tensor a = Tensor::full({m, kStoredDepth}, DType::f32, .5),
               c = Tensor::zeros({m, kStoredRows}, DType::f32);
  const auto all = [&] {
    for (const Tensor& w : weights) matmul(pool, a.view(), w.transpose(0, 1).view(), c.view());
  };
  all();
  for (auto _ : state) all();
  const auto rate = [](double x) {
    return benchmark::Counter(x / 1e9, benchmark::Counter::kIsIterationInvariantRate);
  };
  const auto matrices = static_cast<double>(kStoredMatrices);
  state.counters["GFLOP/s"] =
      rate(2.0 * matrices * static_cast<double>(m * kStoredRows * kStoredDepth));
  state.counters["GB/s"] = rate(matrices * static_cast<double>(weights[0].bytes()));
}

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
  for (const DType dtype : kStoredTypes) {
    for (const std::int64_t m : {1, 16, 128}) {
      add(fmt::format("gemm_stored/{}/{}x{}x{}", name_of(dtype), m, kStoredRows, kStoredDepth),
          [=](auto& state) { measure_stored(state, dtype, m, *pool); });
    }
  }
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

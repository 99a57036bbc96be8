#include "tensor/machine/rates.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"
#include "tensor/random.h"
#include "tensor/simd/simd.h"

namespace vitrine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Runs f until it has taken `budget` seconds, `least_runs` times at least: the fastest one. Others may use
// the machine meanwhile, which can only make a run slower.
template <class F>
double fastest(double budget, const F& f, int least_runs = 3) {
  double best = std::numeric_limits<double>::infinity(), total = 0;
  for (int runs = 0; runs < least_runs || total < budget; ++runs) {
    const auto start = Clock::now();
    f();
    const double seconds = seconds_since(start);
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

double budget(Effort effort) { return effort == Effort::quick ? 0.02 : 0.15; }

// CPU time of all threads of this process.
double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// What runs beside this process between its construction and the question.
class OtherPrograms {
 public:
  explicit OtherPrograms(const std::vector<int>& cpus) : cpus_(cpus) {}
  // CPUs that others kept busy.
  double busy_cpus() const {
    const double all = busy_cpu_seconds(cpus_) - all_, own = cpu_seconds() - own_;
    return std::max(0.0, all - own) / seconds_since(start_);
  }

 private:
  const std::vector<int>& cpus_;
  const Clock::time_point start_ = Clock::now();
  const double all_ = busy_cpu_seconds(cpus_), own_ = cpu_seconds();
};

double measure_peak(ThreadPool& pool, Effort effort) {
  const simd::PeakLoops& peak = simd::peak();
  // In pieces that the threads share, as they share real work.
  const std::int64_t pieces = 4 * pool.threads();
  const auto all_threads = [&](std::int64_t rounds) {
    pool.parallel_for(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) peak.multiply_adds(rounds, 0.5f);
    });
  };
  // Long enough, some 2 ms, that waking the threads does not show.
  std::int64_t rounds = 500;
  for (double seconds = 0; seconds < 0.001; rounds *= 2) {
    const auto start = Clock::now();
    all_threads(rounds);
    seconds = seconds_since(start);
  }
  const double seconds = fastest(budget(effort), [&] { all_threads(rounds); });
  return static_cast<double>(peak.flops_per_round * rounds * pieces) / seconds / 1e9;
}

// Four times the last cache and 128 MB at least, but not more than an eighth of all memory.
std::int64_t bytes_to_read() {
  std::int64_t bytes = 128 << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  bytes = std::max<std::int64_t>(bytes, 4 * sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
  const std::int64_t memory =
      static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  return memory > 0 ? std::min(bytes, memory / 8) : bytes;
}

double measure_memory(ThreadPool& pool, Effort effort) {
  const Tensor buffer =
      Tensor::empty({bytes_to_read() / static_cast<std::int64_t>(sizeof(float))}, DType::f32);
  kernels::fill(pool, 1, buffer.view());  // until it is written, memory is not really there
  const float* x = buffer.data<float>();
  constexpr std::int64_t kGrain = 1 << 18;  // 1 MB
  const double seconds = fastest(budget(effort), [&] {
    pool.parallel_for(buffer.numel(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      simd::peak().read(x + begin, end - begin);
    });
  });
  return static_cast<double>(buffer.bytes()) / seconds / 1e9;
}

// Numbers in [-1, 1), the same ones again and again: drawing 40 million would take longer than what
// is measured. The period is prime, so that no two rows are alike.
Tensor numbers(const Shape& shape, std::uint64_t seed) {
  constexpr std::int64_t kPeriod = 65'521;
  ThreadPool here(1);
  const Tensor drawn = Tensor::empty({kPeriod}, DType::f32);
  random::fill_uniform(here, random::Key{seed}, drawn, -1, 1);
  const Tensor out = Tensor::empty(shape, DType::f32);
  for (std::int64_t at = 0; at < out.numel(); at += kPeriod) {
    const std::int64_t count = std::min(kPeriod, out.numel() - at);
    std::copy_n(drawn.data<float>(), count, out.data<float>() + at);
  }
  return out;
}

struct Case {
  const char* what;
  std::int64_t m, n, k;
  bool transposed;  // b is stored [n, k], as the embedding is when it unembeds
};

ProductRate measure_product(ThreadPool& pool, ThreadPool& other, const Case& c, Effort effort,
                            GemmProvider provider) {
  const Tensor a = numbers({c.m, c.k}, 1);
  const Tensor b = c.transposed ? numbers({c.n, c.k}, 2).transpose(0, 1) : numbers({c.k, c.n}, 2);
  const Tensor out = Tensor::empty({c.m, c.n}, DType::f32);
  const Tensor again = Tensor::empty({c.m, c.n}, DType::f32);
  matmul(other, a.view(), b.view(), again.view(), provider);
  matmul(pool, a.view(), b.view(), out.view(), provider);

  ProductRate rate{c.what, c.m, c.n, c.k};
  rate.error = product_error(a.view(), b.view(), out.view());
  rate.same_bits = std::memcmp(out.data<float>(), again.data<float>(),
                               static_cast<std::size_t>(out.bytes())) == 0;
  const auto multiply = [&](GemmProvider by) {
    return [&, by] { matmul(pool, a.view(), b.view(), out.view(), by); };
  };
  rate.seconds = fastest(budget(effort), multiply(provider));
  // Not much time for this one: it may be many times slower.
  const bool own = provider == GemmProvider::own;
  rate.other_seconds =
      fastest(budget(Effort::quick), multiply(own ? GemmProvider::openblas : GemmProvider::own), 2);
  return rate;
}

// At most `count` numbers from 0 to size - 1, both ends among them.
std::vector<std::int64_t> spread(std::int64_t size, std::int64_t count) {
  std::vector<std::int64_t> out;
  count = std::min(size, count);
  for (std::int64_t i = 0; i < count; ++i) {
    out.push_back(count == 1 ? 0 : i * (size - 1) / (count - 1));
  }
  return out;
}

}  // namespace

double ProductRate::gflops() const {
  return 2 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / seconds /
         1e9;
}

double ProductRate::other_gflops() const { return gflops() * seconds / other_seconds; }

double ProductRate::gigabytes_per_second() const {
  return sizeof(float) * static_cast<double>(m * k + k * n + m * n) / seconds / 1e9;
}

double MachineRates::peak_gflops() const { return std::max(first_peak_gflops, second_peak_gflops); }

double MachineRates::fraction(const ProductRate& product) const {
  return product.bound_by_memory() ? product.gigabytes_per_second() / memory_gigabytes_per_second
                                   : product.gflops() / peak_gflops();
}

MachineRates measure_machine(ThreadPool& pool, const Machine& machine, Effort effort) {
  const std::int64_t edge = effort == Effort::quick ? 1024 : 2048;
  const Case cases[] = {{"a large square", edge, edge, edge, false},
                        {"an MLP, 512 tokens", 512, 3072, 768, false},
                        {"an attention output, 64 tokens", 64, 768, 768, false},
                        {"an MLP, 16 tokens", 16, 3072, 768, false},
                        {"the logits of one token", 1, 50257, 768, true}};
  MachineRates rates;
  rates.gemm = machine.gemm;
  rates.threads = pool.threads();
  rates.other_threads = pool.threads() == 1 ? 2 : 1;
  ThreadPool other(rates.other_threads);
  const OtherPrograms others(machine.usable_cpus);
  rates.first_peak_gflops = measure_peak(pool, effort);
  rates.memory_gigabytes_per_second = measure_memory(pool, effort);
  for (const Case& c : cases)
    rates.products.push_back(measure_product(pool, other, c, effort, machine.gemm));
  rates.second_peak_gflops = measure_peak(pool, effort);
  rates.other_cpus = others.busy_cpus();
  return rates;
}

double product_error(const View& a, const View& b, const View& out) {
  const std::int64_t m = out.shape[0], n = out.shape[1], k = a.shape[1];
  const auto rows = spread(m, 64);
  const auto columns = spread(n, 4096 / std::max<std::int64_t>(1, std::ssize(rows)));
  std::vector<double> column(static_cast<std::size_t>(k));
  double worst = 0;
  for (const std::int64_t j : columns) {
    for (std::int64_t t = 0; t < k; ++t) {
      column[static_cast<std::size_t>(t)] =
          b.as<const float>()[t * b.strides[0] + j * b.strides[1]];
    }
    for (const std::int64_t i : rows) {
      const float* row = a.as<const float>() + i * a.strides[0];
      double sum = 0, size = 0;
      for (std::int64_t t = 0; t < k; ++t) {
        const double term = row[t * a.strides[1]] * column[static_cast<std::size_t>(t)];
        sum += term;
        size += std::abs(term);
      }
      const double difference =
          std::abs(out.as<const float>()[i * out.strides[0] + j * out.strides[1]] - sum);
      if (difference == 0) continue;
      const double error = difference / size;
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
      if (std::isinf(worst)) return worst;
    }
  }
  return worst;
}

double product_error_bound(std::int64_t k) {
  const double ku = static_cast<double>(k) * 0x1p-24;
  return ku / (1 - ku);
}

}  // namespace vitrine

// Machine benchmarks (roofline): measures the peak rates of compute and memory, and the rates of
// matrix products.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/machine/machine.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine {

// out [m, n] = a [m, k] b [k, n] in f32, by `matmul` and the provider in use.
struct ProductRate {
  std::string what;  // where a transformer has it
  std::int64_t m = 0, n = 0, k = 0;
  double seconds = 0;        // the fastest of several
  double error = 0;          // see product_error
  bool same_bits = false;    // as with another number of threads (MachineRates::other_threads)
  double other_seconds = 0;  // by the provider that is not in use

  double gflops() const;  // 10^9 additions and multiplications a second
  double other_gflops() const;
  // 10^9 bytes a second, if a, b and out pass through memory once.
  double gigabytes_per_second() const;
  // One row: every weight is read for a single multiply-add, so memory is what limits it.
  bool bound_by_memory() const { return m == 1; }
};

struct MachineRates {
  // f32 multiply-adds in registers, all threads of the pool, in GFLOP/s: before the products and
  // after them.
  double first_peak_gflops = 0, second_peak_gflops = 0;
  // How many of the CPUs that this process may use other programs kept busy meanwhile, on average;
  // 0 when the system does not say.
  double other_cpus = 0;
  double memory_gigabytes_per_second = 0;  // reading, all threads
  GemmProvider gemm = GemmProvider::own;   // who multiplied
  int threads = 0;                         // of the pool
  int other_threads = 0;                   // what the bits were compared with
  std::vector<ProductRate> products;

  double peak_gflops() const;
  // The part of what the machine can do at most: of its memory's rate or of its multiply-adds.
  double fraction(const ProductRate& product) const;
};

enum class Effort { quick, thorough };  // about a second, or three to five

// `machine` is what describe_machine(pool) says; machine.gemm is who multiplies.
MachineRates measure_machine(ThreadPool& pool, const Machine& machine, Effort effort);

// The largest |out - a b| / (|a| |b|) over some 4,000 elements spread over out, the first and last
// row and column among them; a b is summed in f64. All f32, any strides. NaN gives infinity.
double product_error(const View& a, const View& b, const View& out);
// What no correct product exceeds, in whatever order it adds: k u / (1 - k u) for u = 2^-24
// (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section 3.1).
double product_error_bound(std::int64_t k);

}  // namespace vitrine

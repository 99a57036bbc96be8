// Hardware information: the processor, its memory, and the vector instructions that our loops use.
// Nothing here is measured: machine/rates.h has rates, machine/checks.h judges them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/gemm/provider.h"
#include "tensor/thread_pool.h"

namespace vitrine {

// Vector instructions, from narrow to wide: each level has those below it. `other` is every
// processor that is not x86, and what is not known.
enum class Vectors { other, sse, avx, avx2_fma, avx512 };
std::string_view name_of(Vectors vectors);  // "AVX-512"

// What /proc/cpuinfo says.
struct Processor {
  std::string name;                   // "AMD EPYC"; "" when it does not say
  std::vector<std::string> features;  // "avx2", "fma", "neon", ...: what matters for speed here
  Vectors vectors = Vectors::other;
  struct Cpu {
    int number;   // as the system counts them
    int package;  // -1 when it does not say, like core
    int core;
  };
  std::vector<Cpu> cpus;
};
Processor parse_cpuinfo(std::string_view text);

struct Machine {
  Processor processor;
  std::vector<int> usable_cpus;  // those this process may use, as the system numbers them
  int logical_cores = 0;         // how many that are
  int physical_cores = 0;        // cores they belong to; 0 when unknown
  double cpu_quota = 0;  // CPUs' worth of time a container may take (cgroup v2); 0 without limit
  int threads = 0;       // of the pool
  std::int64_t memory_bytes = 0;  // 0 when unknown

  std::string simd_target;  // Highway's name of what our own loops run on: "AVX3_DL"
  Vectors simd_vectors = Vectors::other;
  GemmProvider gemm = GemmProvider::own;  // who multiplies large matrices
  std::string openblas;                   // its release, and the CPU whose kernels it uses
  bool optimised = false;                 // whether the compiler was told to optimise the library

  // The part of an f32 product that is held in vector registers while it is summed.
  struct Block {
    std::int64_t rows = 0, columns = 0;
  };
  Block product_block;
};

// Seconds that these CPUs have been busy since the system started, from the text of /proc/stat;
// time that a hypervisor gave to others counts. Without the text, what the system says now.
double busy_cpu_seconds(const std::vector<int>& cpus, std::string_view proc_stat);
double busy_cpu_seconds(const std::vector<int>& cpus);

// Reads all of it. What the system does not tell is left empty; never throws for that, but for a
// VITRINE_GEMM that is neither, as gemm_provider() does.
Machine describe_machine(const ThreadPool& pool);

}  // namespace vitrine

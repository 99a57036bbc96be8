#include "tensor/machine/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <utility>

#include "tensor/openblas.h"
#include "tensor/simd/simd.h"

namespace vitrine {
namespace {

// The kernel's name of a feature, and ours.
constexpr std::pair<std::string_view, std::string_view> kFeatures[] = {
    {"sse4_2", "sse4.2"},
    {"avx", "avx"},
    {"f16c", "f16c"},
    {"fma", "fma"},
    {"avx2", "avx2"},
    {"avx512f", "avx512f"},
    {"avx512_vnni", "avx512_vnni"},
    {"avx512_bf16", "avx512_bf16"},
    {"amx_bf16", "amx_bf16"},
    {"asimd", "neon"},
    {"sve", "sve"},
    {"sve2", "sve2"},
    {"bf16", "bf16"}};

Vectors widest(const std::set<std::string_view>& flags) {
  const auto all = [&](std::initializer_list<std::string_view> names) {
    return std::all_of(names.begin(), names.end(), [&](auto n) { return flags.contains(n); });
  };
  // Those that Highway's AVX3 needs.
  if (all({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})) return Vectors::avx512;
  if (all({"avx2", "fma"})) return Vectors::avx2_fma;
  if (all({"avx"})) return Vectors::avx;
  return all({"sse2"}) ? Vectors::sse : Vectors::other;
}

Vectors vectors_of_target(std::string_view highway_target) {
  if (highway_target.starts_with("AVX3")) return Vectors::avx512;
  if (highway_target == "AVX2") return Vectors::avx2_fma;
  if (highway_target == "SSE4" || highway_target == "SSSE3") return Vectors::sse;
  return Vectors::other;
}

int number_in(std::string_view text) {
  int number = -1;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string file_text(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<int> usable_cpus() {
  std::vector<int> usable;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return usable;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) usable.push_back(cpu);
  }
  return usable;
}

int physical_cores(const Processor& processor, const std::vector<int>& usable) {
  std::set<std::pair<int, int>> cores;
  for (const Processor::Cpu& cpu : processor.cpus) {
    if (cpu.core < 0) return 0;
    if (std::find(usable.begin(), usable.end(), cpu.number) != usable.end())
      cores.emplace(cpu.package, cpu.core);
  }
  return static_cast<int>(cores.size());
}

// "max 100000", or "150000 100000": microseconds of CPU time in every period.
double cpu_quota() {
  std::istringstream text(file_text("/sys/fs/cgroup/cpu.max"));
  double time = 0, period = 0;
  return text >> time >> period && period > 0 ? time / period : 0;
}

std::int64_t memory_bytes() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? static_cast<std::int64_t>(pages) * page : 0;
}

}  // namespace

std::string_view name_of(Vectors vectors) {
  constexpr std::string_view kNames[] = {"other", "SSE", "AVX", "AVX2 with FMA", "AVX-512"};
  return kNames[static_cast<int>(vectors)];
}

Processor parse_cpuinfo(std::string_view text) {
  Processor out;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string key = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const std::string value = line.substr(std::min(colon + 2, line.size()));
    if (key == "processor") {  // the lines that follow are about this one
      out.cpus.push_back({number_in(value), -1, -1});
    } else if (key == "model name") {
      out.name = value;
    } else if (key == "physical id" && !out.cpus.empty()) {
      out.cpus.back().package = number_in(value);
    } else if (key == "core id" && !out.cpus.empty()) {
      out.cpus.back().core = number_in(value);
    } else if ((key == "flags" || key == "Features") && out.features.empty()) {
      std::istringstream words(value);
      const std::set<std::string> flags{std::istream_iterator<std::string>(words), {}};
      for (const auto& [theirs, ours] : kFeatures) {
        if (flags.contains(std::string(theirs))) out.features.emplace_back(ours);
      }
      out.vectors = widest({flags.begin(), flags.end()});
    }
  }
  return out;
}

double busy_cpu_seconds(const std::vector<int>& cpus, std::string_view proc_stat) {
  // "cpu3 user nice system idle iowait irq softirq steal ...", in ticks. "cpu" alone sums them up.
  std::istringstream lines{std::string(proc_stat)};
  double ticks = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("cpu") || line.starts_with("cpu ")) continue;
    const int cpu = number_in(std::string_view(line).substr(3));
    if (std::find(cpus.begin(), cpus.end(), cpu) == cpus.end()) continue;
    std::istringstream words(line);
    std::string name;
    double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
    words >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq >> steal;
    ticks += user + nice + system + irq + softirq + steal;
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double busy_cpu_seconds(const std::vector<int>& cpus) {
  return busy_cpu_seconds(cpus, file_text("/proc/stat"));
}

Machine describe_machine(const ThreadPool& pool) {
  Machine out;
  out.processor = parse_cpuinfo(file_text("/proc/cpuinfo"));
  out.usable_cpus = usable_cpus();
  out.logical_cores = static_cast<int>(out.usable_cpus.size());
  out.physical_cores = physical_cores(out.processor, out.usable_cpus);
  out.cpu_quota = cpu_quota();
  out.threads = pool.threads();
  out.memory_bytes = memory_bytes();
  out.simd_target = simd::peak().target;
  out.simd_vectors = vectors_of_target(out.simd_target);
  out.gemm = gemm_provider();
  out.openblas = openblas::description();
  out.product_block = {simd::gemm<float>().rows, simd::gemm<float>().columns};
  // Without /proc/cpuinfo, what Highway found is what is known.
  if (out.processor.vectors == Vectors::other) out.processor.vectors = out.simd_vectors;
#if defined(__OPTIMIZE__)
  out.optimised = true;
#endif
  return out;
}

}  // namespace vitrine

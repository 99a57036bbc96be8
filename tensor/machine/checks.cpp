#include "tensor/machine/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace vitrine {
namespace {

using Status = Check::Status;

constexpr const char* kReport = "please report it with all findings";
constexpr const char* kOwnLoops = "unset VITRINE_GEMM: Vitrine's own loops then multiply";

Check ok(std::string name, std::string finding) {
  return {std::move(name), Status::ok, std::move(finding), ""};
}

std::string counted(int n, const char* noun) {
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

std::string shape_of(const ProductRate& p) { return fmt::format("{} x {} x {}", p.m, p.n, p.k); }

Check build(const Machine& m) {
  if (m.optimised) return ok("build", "optimised");
  return {"build", Status::warning, "built without optimisation: everything is slow",
          "build the preset release"};
}

Check threads(const Machine& m) {
  const std::string count = counted(m.threads, "thread"), cpus = counted(m.logical_cores, "CPU");
  if (m.cpu_quota > 0 && m.threads > std::ceil(m.cpu_quota)) {
    return {"threads", Status::warning,
            fmt::format("{}, but this container may only use {:.1f} CPUs", count, m.cpu_quota),
            fmt::format("use {}", counted(static_cast<int>(std::ceil(m.cpu_quota)), "thread"))};
  }
  if (m.logical_cores > 0 && m.threads > m.logical_cores) {
    return {"threads", Status::warning, fmt::format("{}, but {} to run them", count, cpus),
            fmt::format("use {}", counted(m.logical_cores, "thread"))};
  }
  if (m.logical_cores == 0) return ok("threads", count);
  return ok("threads", fmt::format("{} for {}", count, cpus));
}

Check vector_loops(const Machine& m) {
  const Vectors cpu = m.processor.vectors, used = m.simd_vectors;
  if (used >= cpu) {
    return ok("vector_loops", fmt::format("Vitrine's own loops run as {}", m.simd_target));
  }
  return {"vector_loops", Status::warning,
          fmt::format("Vitrine's own loops run as {}, but this CPU has {}", m.simd_target,
                      name_of(cpu)),
          "build with a newer compiler and Highway, without flags that disable targets"};
}

Check products(const MachineRates& rates) {
  double worst = 0;
  for (const ProductRate& p : rates.products) {
    const double part = p.error / product_error_bound(p.k);
    if (!(part <= 1)) {
      return {"products", Status::failed,
              fmt::format("{} is wrong: it differs from a plain product in f64 by {:.1e}, and "
                          "rounding explains {:.1e}",
                          shape_of(p), p.error, product_error_bound(p.k)),
              fmt::format("trust no result of this machine; {}", kReport)};
    }
    worst = std::max(worst, part);
  }
  return ok("products", fmt::format("equal to plain products in f64: the largest error is {:.2g}% "
                                    "of what rounding allows",
                                    100 * worst));
}

Check bits(const MachineRates& rates) {
  const int few = std::min(rates.threads, rates.other_threads),
            many = std::max(rates.threads, rates.other_threads);
  const bool own = rates.gemm == GemmProvider::own;
  for (const ProductRate& p : rates.products) {
    if (p.same_bits) continue;
    std::string finding =
        fmt::format("{} differs between {} and {} threads", shape_of(p), few, many);
    if (!own) {
      return {"bits", Status::warning,
              finding + ": OpenBLAS multiplies, its bits may depend on threads",
              fmt::format("for results that repeat, {}", kOwnLoops)};
    }
    return {"bits", Status::failed, std::move(finding),
            fmt::format("results are not reproducible here; {}", kReport)};
  }
  return ok("bits", fmt::format("the same with {} and {} threads{}", few, many,
                                own ? "" : "; OpenBLAS multiplies, which does not promise it"));
}

Check steady(const Machine& m, const MachineRates& rates) {
  const double drift =
      1 - std::min(rates.first_peak_gflops, rates.second_peak_gflops) / rates.peak_gflops();
  std::string finding = fmt::format("the peak was measured twice: {:.1f} and {:.1f} GFLOP/s",
                                    rates.first_peak_gflops, rates.second_peak_gflops);
  const char* remedy = "rates are lower than they could be: run again when the machine is idle";
  const double needed = std::min(m.threads, m.logical_cores);
  const double missing = needed + rates.other_cpus - m.logical_cores;
  if (missing > kUnsteady * needed) {
    finding = fmt::format("other programs kept {:.1f} of {} busy meanwhile", rates.other_cpus,
                          counted(m.logical_cores, "CPU"));
    return {"steady", Status::warning, std::move(finding), remedy};
  }
  if (drift <= kUnsteady) return ok("steady", std::move(finding));
  return {"steady", Status::warning, std::move(finding), remedy};
}

// The slowest of those that `wanted` picks, against `limit`. `earlier`: a warning among them may be
// the reason.
template <class F>
Check speed(const char* name, const MachineRates& rates, const std::vector<Check>& earlier,
            const char* limit, const char* remedy, const F& wanted) {
  const ProductRate* slowest = nullptr;
  for (const ProductRate& p : rates.products) {
    if (!wanted(p)) continue;
    if (slowest == nullptr || rates.fraction(p) < rates.fraction(*slowest)) slowest = &p;
  }
  if (slowest == nullptr) return ok(name, "not measured");
  const double fraction = rates.fraction(*slowest);
  std::string finding =
      fmt::format("{:.0f}% of {} at {}", 100 * fraction, limit, shape_of(*slowest));
  if (fraction >= kSlow) return ok(name, std::move(finding));
  for (const Check& check : earlier) {
    if (check.status == Status::ok) continue;
    std::string reason = check.name;
    std::replace(reason.begin(), reason.end(), '_', ' ');
    return {name, Status::warning, std::move(finding), fmt::format("see '{}' first", reason)};
  }
  return {name, Status::warning, std::move(finding), remedy};
}

}  // namespace

std::string_view name_of(Check::Status status) {
  constexpr std::string_view kNames[] = {"ok", "warning", "failed"};
  return kNames[static_cast<int>(status)];
}

std::vector<Check> check_machine(const Machine& machine, const MachineRates& rates) {
  std::vector<Check> checks{build(machine),  threads(machine), vector_loops(machine),
                            products(rates), bits(rates),      steady(machine, rates)};
  const std::vector<Check> earlier = checks;
  const char* remedy = rates.gemm == GemmProvider::own ? kReport : kOwnLoops;
  checks.push_back(speed("product_speed", rates, earlier, "the peak", remedy,
                         [](const ProductRate& p) { return p.m >= 256; }));
  checks.push_back(speed("memory_speed", rates, earlier, "the memory's rate", remedy,
                         [](const ProductRate& p) { return p.bound_by_memory(); }));
  return checks;
}

}  // namespace vitrine

// Self-checks: judges from facts and rates alone whether a machine computes correctly and as fast
// as it could.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tensor/machine/machine.h"
#include "tensor/machine/rates.h"

namespace vitrine {

struct Check {
  enum class Status { ok, warning, failed };
  std::string name;     // "vector_loops"
  Status status;        // failed: results are wrong or missing. warning: they are slow
  std::string finding;  // what was found, in one line
  std::string remedy;   // what to do about it, in one line; "" when ok
};
std::string_view name_of(Check::Status status);  // "ok", "warning", "failed"

// Large products below this part of the peak, and one-row products below this part of the memory's
// rate, are worth a warning.
inline constexpr double kSlow = 0.5;
// So are two measurements of the peak that differ by more than this part, and other programs that
// kept busy more than this part of the CPUs that our threads need.
inline constexpr double kUnsteady = 0.2;

// In a fixed order:
//   build          was the library optimised?
//   threads        does every thread have a core?
//   vector_loops   do our own loops use the widest vectors of this CPU?
//   products       are products right? Failed when not.
//   bits           are they the same for any number of threads? Failed when not; a warning for
//                  OpenBLAS, which does not promise it.
//   steady         can the rates be trusted?
//   product_speed  are large products near the peak?
//   memory_speed   are one-row products near the memory's rate?
std::vector<Check> check_machine(const Machine& machine, const MachineRates& rates);

}  // namespace vitrine

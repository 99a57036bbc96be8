#include <fmt/format.h>

#include "autograd/sweep/sweep.h"

namespace vitrine {
namespace {

std::string amount(double n, const char* unit) {
  const char* prefix = "";
  for (const char* p : {"k", "M", "G", "T"}) {
    if (n < 1000) break;
    n /= 1000;
    prefix = p;
  }
  return fmt::format("{:.{}f} {}{}", n, n < 10 ? 2 : n < 100 ? 1 : 0, prefix, unit);
}

double times(double naive, double done) { return done > 0 ? naive / done : 0; }

}  // namespace

std::string Swept::explain() const {
  const SweepStats& s = stats_;
  const int run = s.worlds - s.without_effect;
  std::string text = fmt::format(
      "sweep: {} edited runs by {} pass{} and {} base run{}: {} forward passes avoided\n", s.worlds,
      s.passes, s.passes == 1 ? "" : "es", s.base_passes, s.base_passes == 1 ? "" : "s",
      std::max(0, s.worlds - s.passes));
  text += fmt::format("  no effect  {} answered without running; {} packed into matrices\n",
                      s.without_effect, run);
  const auto line = [&](const char* what, double naive, double done, const char* unit) {
    text += fmt::format("  {:<10} {}, where each run alone takes {}: {:.1f} times less\n", what,
                        amount(done, unit), amount(naive, unit), times(naive, done));
  };
  if (s.passes > 0) {
    line("work", s.base_runs * static_cast<double>(s.base_flops), static_cast<double>(s.flops),
         "FLOP");
    line("weights", s.base_runs * static_cast<double>(s.parameter_bytes),
         static_cast<double>(s.weights_read), "B");
    line("values", s.base_runs * static_cast<double>(s.base_bytes), static_cast<double>(s.bytes),
         "B");
    text += fmt::format("  memory     at most {} at a time\n",
                        amount(static_cast<double>(s.largest_arena), "B"));
  }
  text += fmt::format("  time       {:.1f} ms: {:.1f} base run, {:.1f} planning\n", 1e3 * s.seconds,
                      1e3 * s.base_seconds, 1e3 * s.lift_seconds);
  return text;
}

}  // namespace vitrine

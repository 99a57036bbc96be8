// Plan::explain: optimisation statistics, and a profile of the plan's runs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/compile/program.h"

namespace vitrine {
namespace {

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}
std::string flops_text(std::int64_t flops) {
  if (flops < 10'000'000) return fmt::format("{:.3f} MFLOP", static_cast<double>(flops) / 1e6);
  return fmt::format("{:.3f} GFLOP", static_cast<double>(flops) / 1e9);
}

struct OpShare {
  int steps = 0;
  std::int64_t flops = 0, nanoseconds = 0;  // time: of all runs
};

// One line for each kind of op. `runs` is 0 before the first run: then there are no times.
std::string kinds_text(const std::map<std::string_view, OpShare>& kinds, std::int64_t runs,
                       std::int64_t nanoseconds) {
  std::vector<std::pair<std::string_view, OpShare>> sorted(kinds.begin(), kinds.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.nanoseconds, a.second.flops) >
           std::pair(b.second.nanoseconds, b.second.flops);
  });
  std::string text;
  for (const auto& [name, kind] : sorted) {
    text += fmt::format("    {:<26} {:>4} steps  {:>14}", name, kind.steps, flops_text(kind.flops));
    if (runs > 0 && nanoseconds > 0) {
      const auto time = static_cast<double>(kind.nanoseconds);
      text += fmt::format("  {:>10.3f} ms  {:>5.1f} %", time / static_cast<double>(runs) / 1e6,
                          100 * time / static_cast<double>(nanoseconds));
      if (kind.flops > 0 && kind.nanoseconds > 0) {
        text += fmt::format("  {:>6.1f} GFLOP/s", static_cast<double>(kind.flops * runs) / time);
      }
    }
    text += '\n';
  }
  return text;
}

// The weights that are stored in fewer bits than f32; empty when there are none.
std::string stored_text(const StoredWeights& weights) {
  std::string text;
  if (!weights.as_stored.empty())
    text += fmt::format("  stored     {} weights are read as they are stored ({}), no f32 copy\n",
                        weights.as_stored.size(), fmt::join(weights.dtypes, ", "));
  if (weights.in_full.empty()) return text;
  std::int64_t bytes = 0;
  std::vector<std::string_view> names;
  for (const auto& [name, size] : weights.in_full) {
    bytes += size;
    if (names.size() < 4) names.push_back(name);
  }
  return text + fmt::format(
                    "  widened    {} stored weights are widened in full in each run, {}: "
                    "{}{}\n",
                    weights.in_full.size(), bytes_text(bytes), fmt::join(names, ", "),
                    names.size() < weights.in_full.size() ? ", ..." : "");
}

}  // namespace

std::string Plan::explain() const {
  const Stats& s = stats();
  std::string text = fmt::format("plan: {} steps from {} nodes\n", s.steps, s.nodes);
  text += fmt::format(
      "  removed    {} that nothing wanted reads, {} identities (sites, detach) read through, {} "
      "computed "
      "twice\n",
      s.dead, s.identities, s.duplicates);
  text +=
      fmt::format("  views      {} nodes only look at their input: no work, no memory\n", s.views);
  if (s.narrowed > 0)
    text += fmt::format("  rows       {} nodes are computed only for the rows that are read\n",
                        s.narrowed);
  if (s.narrowed_columns > 0)
    text += fmt::format(
        "  columns    {} matrix products are computed only for the columns that are read\n",
        s.narrowed_columns);
  if (s.sparse_products > 0)
    text +=
        fmt::format("  zeros      {} matrix products leave out columns that are known to be zero\n",
                    s.sparse_products);
  if (s.summed_products > 0)
    text += fmt::format("  sums       {} matrix products are of rows that were summed before\n",
                        s.summed_products);
  text += stored_text(stored_weights(compiled_->program));
  if (s.fused > 0)
    text += fmt::format(
        "  fused      {} functions are applied by the step that makes their input\n", s.fused);
  text += fmt::format(
      "  in place   {} steps write over an input that is not needed again{}\n", s.in_place,
      s.update_copies == 0 ? "" : fmt::format("; {} updates are copied", s.update_copies));
  text +=
      fmt::format("  memory     arena {} for {} of intermediates; results {}; parameters read {}\n",
                  bytes_text(s.arena_bytes), bytes_text(s.intermediate_bytes),
                  bytes_text(s.result_bytes), bytes_text(s.parameter_bytes));
  text += fmt::format("  work       {}\n", flops_text(s.flops));
  const Timing& timing = *compiled_->timing;
  const std::int64_t runs = timing.runs, nanoseconds = timing.nanoseconds;
  std::map<std::string_view, OpShare> kinds;
  std::int64_t products = 0;
  for (std::size_t i = 0; i < compiled_->program.steps.size(); ++i) {
    const Step& step = compiled_->program.steps[i];
    OpShare& kind = kinds[step.node->op->name];
    ++kind.steps;
    kind.flops += step.flops;
    kind.nanoseconds += timing.steps[i];
    products += timing.products[i];
  }
  if (runs > 0 && nanoseconds > 0) {
    const auto time = static_cast<double>(nanoseconds);
    text += fmt::format("  time       {:.3f} ms a run, mean of {}: {:.1f} % in matrix products\n",
                        time / static_cast<double>(runs) / 1e6, runs,
                        100 * static_cast<double>(products) / time);
  }
  text += kinds_text(kinds, runs, nanoseconds);
  return text;
}

}  // namespace vitrine

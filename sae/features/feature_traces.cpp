#include "sae/features/feature_traces.h"

#include <algorithm>
#include <numeric>

#include "sae/features/feature_batches.h"

namespace vitrine::sae {
namespace {

// Rows of a batch that lie one after the other in a line.
struct Stretch {
  std::int64_t line;
  std::int32_t first, end;  // positions
  std::size_t row;          // of the first
};

std::vector<Stretch> stretches(const FeatureBatch& batch) {
  std::vector<Stretch> all;
  for (std::size_t r = 0; r < batch.rows.size(); ++r) {
    const auto& [line, position, at] = batch.rows[r];
    if (all.empty() || all.back().line != line || all.back().end != position)
      all.push_back({line, position, position, r});
    ++all.back().end;
  }
  return all;
}

}  // namespace

FeatureTraces trace_features(const nn::Model& model, const Sae& sae,
                             const std::filesystem::path& file, const FeatureContexts& found,
                             std::span<const FeaturePlace> places, const TraceSpec& spec,
                             const FeatureSpec& text) {
  FeatureTraces traces;
  traces.bins = spec.bins;
  traces.counts.resize(static_cast<std::size_t>(found.features() * spec.bins));
  traces.around.resize(places.size());
  std::vector<std::size_t> order(places.size());  // by line
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return places[a].line < places[b].line; });
  const auto count = [&](std::int64_t j, const FeatureBatch::Row&, float activation) {
    const auto peaks = found.peaks.of(j);
    if (peaks.empty()) return;
    const auto bin =
        static_cast<std::int64_t>(activation / peaks[0].activation * static_cast<float>(spec.bins));
    ++traces.counts[static_cast<std::size_t>(j * spec.bins +
                                             std::min<std::int64_t>(bin, spec.bins - 1))];
  };
  for_each_batch(model, sae, file, text, [&](const FeatureBatch& batch) {
    for_each_active(batch, model.pool(), count);
    const std::int64_t all = batch.features.dim(1);
    for (const Stretch& s : stretches(batch)) {
      auto at =
          std::lower_bound(order.begin(), order.end(), s.line,
                           [&](std::size_t i, std::int64_t line) { return places[i].line < line; });
      for (; at != order.end() && places[*at].line == s.line; ++at) {
        const FeaturePlace& place = places[*at];
        const std::int32_t from = std::max(s.first, place.position - spec.window);
        const std::int32_t to = std::min(s.end, place.position + spec.window + 1);
        for (std::int32_t p = from; p < to; ++p) {
          const std::int64_t row = batch.rows[s.row + static_cast<std::size_t>(p - s.first)].at;
          const float f = batch.features.data<float>()[row * all + place.feature];
          if (f > 0 && p != place.position) traces.around[*at].emplace_back(p - place.position, f);
        }
      }
    }
  });
  return traces;
}

}  // namespace vitrine::sae

#include "nn/text/context_windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "nn/text/corpus_lines.h"
#include "tensor/error.h"

namespace vitrine::nn {

std::vector<Window> windows_around(const Model& model, const std::filesystem::path& file,
                                   bool special, std::span<const Peak> peaks, int around) {
  std::vector<std::size_t> order(peaks.size());  // by line, as the file has them
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return peaks[a].line < peaks[b].line; });
  std::vector<std::int64_t> lines;
  lines.reserve(order.size());
  for (const std::size_t i : order) lines.push_back(peaks[i].line);
  std::vector<Window> windows(peaks.size());
  const auto changed = [&](std::int64_t line) {
    throw FileError(
        fmt::format("{}, line {}: the text is not the one in which the contexts were "
                    "found; it was changed in between",
                    file.string(), line));
  };
  std::size_t next = 0;  // of order
  for_each_line(model, file, special, lines, [&](const CorpusLine& line) {
    const auto size = static_cast<std::int64_t>(line.tokens.size());
    for (; next < order.size() && lines[next] == line.number; ++next) {
      const std::int64_t at = peaks[order[next]].position;
      if (at >= size) changed(line.number);
      const std::int64_t begin = std::max<std::int64_t>(0, at - around),
                         end = std::min(size, at + 1 + around);
      windows[order[next]] = {{line.tokens.begin() + begin, line.tokens.begin() + end},
                              static_cast<int>(at - begin),
                              begin == 0,
                              end == size};
    }
  });
  if (next < order.size()) changed(lines[next]);
  return windows;
}

Variety variety(std::span<const Peak> peaks, std::span<const Window> windows) {
  std::set<int> tokens, predicted;
  for (const Peak& p : peaks) predicted.insert(p.predicted);
  for (const Window& w : windows) tokens.insert(w.token());
  return {static_cast<int>(tokens.size()), static_cast<int>(predicted.size())};
}

}  // namespace vitrine::nn

#include "apps/reports/stream_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace vitrine::app {
namespace {

// The largest |share|s of a row or column, the largest first.
std::string largest(const std::vector<double>& shares, const std::vector<std::string>& names,
                    std::size_t most) {
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::abs(shares[a]) > std::abs(shares[b]);
  });
  std::string text;
  for (std::size_t i = 0; i < std::min(most, order.size()); ++i) {
    const double share = shares[order[i]];
    if (std::abs(share) < 0.005) break;
    text += fmt::format("{}{} {:+.0f}%", text.empty() ? "" : ", ", names[order[i]], 100 * share);
  }
  return text;
}

}  // namespace

std::string stream_text(const interp::StreamUse& use, const Style& style) {
  constexpr std::size_t kMost = 4;
  using Align = Table::Align;
  const auto share = use.share.to_vector<double>();
  const std::size_t writers = use.writers.size(), readers = use.readers.size();
  Table written({{"writer", Align::left}, {"length", Align::right}, {"read most by", Align::left}});
  for (std::size_t w = 0; w < writers; ++w) {
    const std::vector<double> row(share.begin() + static_cast<std::ptrdiff_t>(w * readers),
                                  share.begin() + static_cast<std::ptrdiff_t>((w + 1) * readers));
    written.row({use.writers[w],
                 fmt::format("{:.2f}", use.written.at<double>({static_cast<std::int64_t>(w)})),
                 largest(row, use.readers, kMost)});
  }
  Table read({{"reader", Align::left}, {"of what it reads here", Align::left}});
  for (std::size_t r = 0; r < readers; ++r) {
    std::vector<double> column;
    for (std::size_t w = 0; w < writers; ++w) column.push_back(share[w * readers + r]);
    read.row({use.readers[r], largest(column, use.writers, kMost)});
  }
  std::string lengths;
  for (const double x : use.stream.to_vector<double>())
    lengths += fmt::format("{}{:.2f}", lengths.empty() ? "" : ", ", x);
  return style.bold("the residual stream at this position") +
         fmt::format("\nits length after the embedding and each layer: {}\n", lengths) +
         "a share is the part of all that a query, key, value or MLP reads that one writer wrote;\n"
         "those of a reader add up to 100%\n\n" +
         written.text(style) + "\n" + read.text(style);
}

Json stream_json(const interp::StreamUse& use) {
  Json writers = Json::list(), share = Json::list();
  for (std::int64_t w = 0; w < std::ssize(use.writers); ++w) {
    writers.push_back({{"name", use.writers[static_cast<std::size_t>(w)]},
                       {"length", use.written.at<double>({w})}});
    Json row = Json::list();
    for (std::int64_t r = 0; r < std::ssize(use.readers); ++r)
      row.push_back(use.valid.at<bool>({w, r}) ? Json(use.share.at<double>({w, r})) : Json());
    share.push_back(std::move(row));
  }
  return {{"writers", writers},
          {"lengths", use.stream.to_vector<double>()},
          {"readers", use.readers},
          {"share", share}};
}

}  // namespace vitrine::app

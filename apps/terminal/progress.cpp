#include "apps/terminal/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "apps/terminal/host.h"
#include "apps/terminal/output.h"
#include "apps/terminal/text.h"

namespace vitrine::app {
namespace {

// What ends sooner than this needs no bar.
constexpr auto kFirst = std::chrono::milliseconds(400);
constexpr auto kEvery = std::chrono::milliseconds(100);

}  // namespace

Progress::Progress(std::string label, std::string unit, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      enabled_(host() != nullptr ? host()->progress != nullptr
                                 : !quiet && ::isatty(STDERR_FILENO) == 1),
      next_(start_ + kFirst) {}

Progress::~Progress() {
  if (!shown_) return;
  if (host() != nullptr) host()->progress(label_, unit_, total_, total_);
  else print_progress("\r\x1b[K");
}

void Progress::update(double done, double total) {
  if (!enabled_ || total <= 0) return;
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  next_ = now + kEvery;
  shown_ = true;
  total_ = total;
  if (host() != nullptr) return host()->progress(label_, unit_, done, total);
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = done / seconds;
  const std::string left =
      rate > 0 ? fmt::format("{:.0f} s left", (total - done) / rate) : std::string("...");
  constexpr int kWidth = 24;
  const std::string filled = bar(done / total, kWidth);
  print_progress(
      fmt::format("\r\x1b[K{} {}{} {:3.0f}%  {:.0f} {}/s  {}", label_, filled,
                  std::string(static_cast<std::size_t>(kWidth - display_width(filled)), ' '),
                  100 * done / total, rate, unit_, left));
}

}  // namespace vitrine::app

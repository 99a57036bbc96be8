// A progress bar with rate and time left, on a terminal only; or the host's (host.h).
#pragma once

#include <chrono>
#include <string>

namespace vitrine::app {

class Progress {
 public:
  // Shows nothing when stderr is not a terminal or `quiet`. `unit` is what is counted: "steps".
  Progress(std::string label, std::string unit, bool quiet);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(double done, double total);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_, unit_;
  bool shown_ = false;
  double total_ = 0;
  const bool enabled_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point next_;
};

}  // namespace vitrine::app

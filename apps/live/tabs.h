// The newest request of each tab: an older one that still runs, or waits, is cancelled when the tab
// has moved on.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>

namespace vitrine::app {

class Tabs {
 public:
  // A request: set when it is cancelled.
  using Cancelled = std::shared_ptr<std::atomic<bool>>;

  // A request of a tab begins; a tab counts its turns up. One with a turn below the newest of the
  // tab is cancelled already; the others of the tab are from now on. The tabs that have been quiet
  // for longest are forgotten when there are many.
  Cancelled begin(const std::string& tab, std::uint64_t turn);
  void cancel_all();
  std::size_t size() const;

 private:
  static constexpr std::size_t kMost = 512;
  struct Tab {
    std::string name;
    std::uint64_t turn;
    Cancelled newest;
  };
  mutable std::mutex mutex_;
  std::list<Tab> tabs_;  // the last to ask in front
};

}  // namespace vitrine::app

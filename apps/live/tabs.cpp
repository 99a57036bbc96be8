#include "apps/live/tabs.h"

#include <algorithm>

namespace vitrine::app {

Tabs::Cancelled Tabs::begin(const std::string& tab, std::uint64_t turn) {
  auto mine = std::make_shared<std::atomic<bool>>(false);
  const std::lock_guard lock(mutex_);
  const auto at =
      std::find_if(tabs_.begin(), tabs_.end(), [&](const Tab& t) { return t.name == tab; });
  if (at == tabs_.end()) {
    tabs_.push_front({tab, turn, mine});
    if (tabs_.size() > kMost) tabs_.pop_back();  // what it runs, it may finish
    return mine;
  }
  tabs_.splice(tabs_.begin(), tabs_, at);
  if (turn < at->turn) {
    *mine = true;
    return mine;
  }
  *at->newest = true;
  at->turn = turn;
  at->newest = mine;
  return mine;
}

void Tabs::cancel_all() {
  const std::lock_guard lock(mutex_);
  for (const Tab& tab : tabs_) *tab.newest = true;
}

std::size_t Tabs::size() const {
  const std::lock_guard lock(mutex_);
  return tabs_.size();
}

}  // namespace vitrine::app

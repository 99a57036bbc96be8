#include "apps/live/turnstile.h"

#include <chrono>

namespace vitrine::app {

Turnstile::Pass::~Pass() {
  if (outcome_ == Outcome::entered) gate_->leave();
}

Turnstile::Pass Turnstile::enter(const std::atomic<bool>& cancelled) {
  using Outcome = Pass::Outcome;
  std::unique_lock lock(mutex_);
  if (running_ == at_once_ && static_cast<int>(waiting_.size()) >= most_waiting_)
    return {this, Outcome::full};
  const auto ticket = waiting_.insert(waiting_.end(), next_ticket_++);
  const auto my_turn = [&] { return running_ < at_once_ && waiting_.front() == *ticket; };
  // Whoever cancels knows nothing of this gate, so that it is looked at now and then.
  while (!my_turn() && !cancelled) changed_.wait_for(lock, std::chrono::milliseconds(20));
  const bool entered = !cancelled;
  waiting_.erase(ticket);
  if (entered) ++running_;
  changed_.notify_all();  // another one is the first now
  return {this, entered ? Outcome::entered : Outcome::cancelled};
}

void Turnstile::leave() {
  const std::lock_guard lock(mutex_);
  --running_;
  changed_.notify_all();
}

}  // namespace vitrine::app

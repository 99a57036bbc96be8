// Who runs when: a few at once, those that wait in the order in which they came, and no more of
// them than there is room for.
//
//   Turnstile gate(2, 64);
//   const auto pass = gate.enter(cancelled);   // waits
//   if (pass) work();                          // until `pass` goes
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace vitrine::app {

class Turnstile {
 public:
  Turnstile(int at_once, int waiting) : at_once_(at_once), most_waiting_(waiting) {}

  class Pass {
   public:
    enum class Outcome { entered, full, cancelled };
    Pass(Turnstile* gate, Outcome outcome) : gate_(gate), outcome_(outcome) {}
    ~Pass();
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    Outcome outcome() const { return outcome_; }
    explicit operator bool() const { return outcome_ == Outcome::entered; }

   private:
    Turnstile* gate_;
    Outcome outcome_;
  };
  // Waits until there is room to run. Not entered when as many wait as may, or once `cancelled` is
  // set.
  Pass enter(const std::atomic<bool>& cancelled);

  int most_at_once() const { return at_once_; }

 private:
  void leave();

  const int at_once_, most_waiting_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int running_ = 0;
  std::int64_t next_ticket_ = 0;
  std::list<std::int64_t> waiting_;  // tickets, the first to come in front
};

}  // namespace vitrine::app

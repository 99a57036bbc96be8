#include "apps/python/interrupts.h"

#include <csignal>

namespace vitrine::python {
namespace {

// A signal handler is given nothing but a number, so these have to be global. Python's main thread alone uses them.
std::atomic<std::atomic<bool>*> asked = nullptr;  // the flag of the work that runs
std::atomic<bool> signalled = false;
static_assert(std::atomic<bool>::is_always_lock_free &&
              std::atomic<std::atomic<bool>*>::is_always_lock_free);
struct sigaction pythons {};

void on_interrupt(int) {
  signalled = true;
  if (std::atomic<bool>* flag = asked) *flag = true;
}

bool is_main_thread() {
  const nanobind::object threading = nanobind::module_::import_("threading");
  return threading.attr("current_thread")().is(threading.attr("main_thread")());
}

}  // namespace

Interrupts::Interrupts(std::atomic<bool>& flag) : listens_(is_main_thread()) {
  if (!listens_) return;
  outer_ = asked.exchange(&flag);
  if (outer_ != nullptr) return;
  signalled = false;
  struct sigaction ours {};
  ours.sa_handler = on_interrupt;
  ours.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &ours, &pythons);
}

Interrupts::~Interrupts() {
  if (!listens_) return;
  asked = outer_;
  if (outer_ != nullptr) return;
  ::sigaction(SIGINT, &pythons, nullptr);
  // It came after the last look: Python hears of it all the same.
  if (signalled.exchange(false)) PyErr_SetInterrupt();
}

void Interrupts::deliver() const {
  if (!listens_ || !signalled.exchange(false)) return;
  PyErr_SetInterrupt();
  if (PyErr_CheckSignals() != 0) throw nanobind::python_error();
}

}  // namespace vitrine::python

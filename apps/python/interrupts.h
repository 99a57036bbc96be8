// Long work called from Python: the GIL is released, and Ctrl-C stops it.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>

#include "tensor/error.h"

namespace vitrine::python {

// While one lives on Python's main thread, Ctrl-C sets a flag, which work looks at between its steps. On other threads,
// to which Python gives no signals either, it does nothing.
class Interrupts {
 public:
  explicit Interrupts(std::atomic<bool>& flag);  // with the GIL
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Has Python do what it does after Ctrl-C: it raises KeyboardInterrupt, or runs the user's handler. With the GIL.
  void deliver() const;

 private:
  bool listens_ = false;
  std::atomic<bool>* outer_ =
      nullptr;  // of work that this is a part of: a callback that runs a model
};

// Calls work() without the GIL; `flag` asks it to stop.
template <class Work>
auto interruptibly(std::atomic<bool>& flag, const Work& work) {
  const Interrupts interrupts(flag);
  try {
    const nanobind::gil_scoped_release released;
    return work();
  } catch (const InterruptedError&) {
    interrupts.deliver();
    throw;
  }
}

// Calls work(flag) the same way.
template <class Work>
auto interruptibly(const Work& work) {
  std::atomic<bool> flag = false;
  return interruptibly(flag, [&] { return work(&flag); });
}

}  // namespace vitrine::python

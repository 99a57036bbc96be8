// The thread pool, for data-parallel loops. Whoever runs plans owns it and passes it down; there is
// no global.
#pragma once

#include <cstdint>
#include <memory>

namespace vitrine {

// A borrowed callable, cheaper than std::function: it must outlive the call it is passed to.
class RangeFunction {
 public:
  template <class F>
  RangeFunction(const F& f)  // NOLINT(google-explicit-constructor): lambdas are passed in place
      : object_(&f), call_([](const void* o, std::int64_t b, std::int64_t e) {
          (*static_cast<const F*>(o))(b, e);
        }) {}
  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  const void* object_;
  void (*call_)(const void*, std::int64_t, std::int64_t);
};

class ThreadPool {
 public:
  // `threads` counts the caller: 1 runs everything inline, 0 means one per core this process may
  // use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Calls f(begin, end) over [0, n) cut into chunks of `grain` (the last may be shorter) and waits
  // for all of them. The cut depends on n and grain alone, never on the number of threads, so what
  // a chunk computes is deterministic. The first exception thrown by a chunk is rethrown here.
  // Calls from inside a chunk, and calls while another thread is using the pool, run inline.
  void parallel_for(std::int64_t n, std::int64_t grain, RangeFunction f);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vitrine

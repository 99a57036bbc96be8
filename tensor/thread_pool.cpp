#include "tensor/thread_pool.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <limits>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "tensor/error.h"

namespace vitrine {
namespace {

// Between two kernels of a plan lie a few microseconds; waking a sleeping thread takes tens. So
// both sides look around this many times before they sleep.
constexpr int kSpins = 2000;

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int available_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(static_cast<int>(std::thread::hardware_concurrency()),
                  1);  // more CPUs than the set can name
}

}  // namespace

// One parallel_for: chunks are claimed in order from `next`. It lives on the caller's stack.
struct SharedLoop {
  SharedLoop(std::int64_t size, std::int64_t grain_size, const RangeFunction& function)
      : n(size), grain(grain_size), chunks((size - 1) / grain_size + 1), f(function) {}

  const std::int64_t n, grain, chunks;
  const RangeFunction& f;
  std::atomic<std::int64_t> next{0};

  std::mutex failure;  // guards the two below
  std::int64_t failed_chunk = std::numeric_limits<std::int64_t>::max();
  std::exception_ptr exception;

  // Runs chunks until none is left. After a failure no new chunk starts. Chunks are claimed in
  // order, so every chunk below a failing one has been claimed by then and runs to its end: the
  // lowest failing chunk is always the same.
  void work() {
    for (;;) {
      const std::int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= chunks) return;
      const std::int64_t begin = chunk * grain;
      try {
        f(begin, begin + std::min(grain, n - begin));
      } catch (...) {
        const std::lock_guard lock(failure);
        if (chunk < failed_chunk) {
          failed_chunk = chunk;
          exception = std::current_exception();
        }
        next.store(chunks, std::memory_order_relaxed);
      }
    }
  }
};

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::atomic<bool> busy{false};         // somebody is inside parallel_for with the workers
  std::atomic<std::uint64_t> posted{0};  // counts jobs, for the spin
  std::atomic<int> active{0};  // workers inside the current job; changes under the mutex only
  std::mutex mutex;
  std::condition_variable work_posted, work_done;
  SharedLoop* job = nullptr;  // guarded by the mutex, like the next
  bool stopping = false;

  ~State() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
      posted.fetch_add(1, std::memory_order_release);
    }
    work_posted.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void worker_loop() {
    std::uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && posted.load(std::memory_order_acquire) == seen; ++i) relax();
      std::unique_lock lock(mutex);
      work_posted.wait(lock, [&] { return posted.load(std::memory_order_relaxed) != seen; });
      seen = posted.load(std::memory_order_relaxed);
      if (stopping) return;
      if (job == nullptr) continue;  // this worker woke after the others had finished the job
      SharedLoop& mine = *job;
      active.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      mine.work();
      lock.lock();
      if (active.fetch_sub(1, std::memory_order_release) == 1) work_done.notify_one();
    }
  }

  // Posts the job, helps with it and returns when the last chunk has ended.
  void run(SharedLoop& mine) {
    {
      const std::lock_guard lock(mutex);
      job = &mine;
      posted.fetch_add(1, std::memory_order_release);
    }
    work_posted.notify_all();
    mine.work();
    std::unique_lock lock(mutex);
    job = nullptr;  // from here on nobody joins
    if (active.load(std::memory_order_relaxed) == 0) return;
    lock.unlock();
    for (int i = 0; i < kSpins && active.load(std::memory_order_acquire) != 0; ++i) relax();
    lock.lock();
    work_done.wait(lock, [&] { return active.load(std::memory_order_relaxed) == 0; });
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 0) {
    throw Error(
        ErrorKind::usage,
        fmt::format("{} threads were asked for; give 1 or more, or 0 for one per available core",
                    threads));
  }
  const int count = threads == 0 ? available_cpus() : threads;
  state_->workers.reserve(static_cast<std::size_t>(count - 1));
  try {
    for (int i = 1; i < count; ++i)
      state_->workers.emplace_back([state = state_.get()] { state->worker_loop(); });
  } catch (const std::system_error& error) {
    throw Error(ErrorKind::runtime,
                fmt::format("could not start thread {} of {}: {}; ask for fewer threads",
                            state_->workers.size() + 2, count, error.what()));
  }
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void ThreadPool::parallel_for(std::int64_t n, std::int64_t grain, RangeFunction f) {
  if (n <= 0) return;
  SharedLoop job(n, std::max<std::int64_t>(grain, 1), f);
  const bool alone = state_->workers.empty() || job.chunks == 1;
  if (alone || state_->busy.exchange(true, std::memory_order_acquire)) {
    job.work();
  } else {
    state_->run(job);
    state_->busy.store(false, std::memory_order_release);
  }
  if (job.exception) std::rethrow_exception(job.exception);
}

}  // namespace vitrine

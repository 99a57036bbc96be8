#include "apps/terminal/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "apps/terminal/host.h"
#include "tensor/error.h"

namespace vitrine::app {
namespace {

// A signal handler is given nothing but a number, so these two have to be global.
std::atomic<bool> asked_to_stop = false;
std::atomic<int> orderly = 0;  // how many Interruptible parts are running
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

constexpr int kExitInterrupted = 130;

void on_interrupt(int) {
  const int saved = errno;  // of the call that was interrupted
  if (orderly > 0 && !asked_to_stop.exchange(true)) {
    constexpr char kHeard[] = "\nvitrine: stopping; the next Ctrl-C ends it at once\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kHeard, sizeof(kHeard) - 1);
    errno = saved;
    return;
  }
  constexpr char kMessage[] = "\nvitrine: interrupted\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  ::_exit(kExitInterrupted);
}

// Files are mapped: what was cut off one of them since, or cannot be read from its disk, is missed
// at any instruction.
void on_bus_error(int, siginfo_t* what, void*) {
  if (what->si_code != BUS_ADRERR && what->si_code != BUS_OBJERR) {
    ::signal(SIGBUS, SIG_DFL);  // another fault: it comes again
    return;
  }
  constexpr char kMessage[] =
      "\nvitrine: a file that was being read became shorter, or its disk failed; files must stay "
      "as they are while they are "
      "used. The last save of a run is whole\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  ::_exit(1);
}

}  // namespace

void open_standard_streams() {
  // The lowest free descriptor is the one that is missing. Writing to one that is opened for reading fails, as it should
  // for results; on stderr that is passed over.
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF) [[maybe_unused]]
      const int opened = ::open("/dev/null", O_RDONLY);
  }
}

void handle_interrupts() {
  struct sigaction action {};
  // What ends a session, a container or a job of a cluster asks as Ctrl-C does.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN &&
        signal == SIGHUP)
      continue;  // nohup: to go on is what was wanted
    action = {};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;
    ::sigaction(signal, &action, nullptr);
  }
  // Errors of the write, told where it is made: a file that may not grow, like a full disk; a
  // reader that is gone, which ends a result (ReaderGone) but not progress on stderr.
  for (const int signal : {SIGXFSZ, SIGPIPE}) ::signal(signal, SIG_IGN);
  struct sigaction bus {};
  bus.sa_sigaction = on_bus_error;
  bus.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &bus, nullptr);
}

Interruptible::Interruptible() { ++orderly; }
Interruptible::~Interruptible() { --orderly; }

const std::atomic<bool>& Interruptible::requested() const {
  return host() != nullptr ? host()->cancel : asked_to_stop;
}

void Interruptible::check() const {
  if (requested()) throw InterruptedError("interrupted");
}

}  // namespace vitrine::app

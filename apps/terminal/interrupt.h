// Ctrl-C: the program ends with exit code 130 and leaves nothing half-written.
#pragma once

#include <atomic>

namespace vitrine::app {

// Opens whatever of stdin, stdout and stderr the program was started without, so that no file that
// it opens later takes their place and gets its messages.
void open_standard_streams();

// From now on Ctrl-C (and what a closed terminal, a container or a cluster sends: SIGHUP, SIGTERM)
// ends the program at once, unless an Interruptible part is running; a file that reaches the
// largest size allowed (ulimit -f) and a reader that has gone are failed writes, not the end; and a
// mapped file that became shorter ends the program with a message.
void handle_interrupts();

// While one lives, the first Ctrl-C only asks to stop, so that the work can be ended in an orderly
// way; the second ends the program at once.
class Interruptible {
 public:
  Interruptible();
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  const std::atomic<bool>& requested() const;
  void check() const;  // throws InterruptedError when asked to stop
};

}  // namespace vitrine::app

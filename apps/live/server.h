// A page and the JSON that it asks for, over HTTP on this machine alone.
//
//   LiveServer server(page, {{"/api/run", [](const JsonReader& request, const std::atomic<bool>&) {...}}}, {});
//   fmt::print("http://127.0.0.1:{}/\n", server.listen_on(8484));
//   server.serve();                                   // until stop(), from another thread
//
// It listens on 127.0.0.1. That keeps other machines out, and not the pages of other sites in a
// browser on this one. These are refused by what a browser says of them: a Host that is not this
// server's (a name that has been made to mean 127.0.0.1), an Origin that is not its own, a POST
// that is not JSON, which a form cannot send.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tensor/files/json_reader.h"

namespace vitrine::app {

class LiveServer {
 public:
  // What a POST to a path is answered with. It may be called by several threads at once, and ends
  // with InterruptedError once the flag is set. What else it throws is told to who asked.
  using Answer =
      std::function<JsonValue(const JsonReader& request, const std::atomic<bool>& cancelled)>;
  struct Limits {
    int at_once = 2;             // answers that are worked on
    int waiting = 128;           // those that wait for that; more are told to come again
    int connections = 192;       // open at a time; more wait in the system's queue
    std::size_t body = 1 << 20;  // bytes of a request
  };
  // `page` is what GET / gives. Every request has `tab` and `turn`: see Tabs. One with `leave` ends what runs for
  // its tab, and nothing else.
  LiveServer(std::string page, std::map<std::string, Answer> answers, const Limits& limits);
  ~LiveServer();
  LiveServer(const LiveServer&) = delete;
  LiveServer& operator=(const LiveServer&) = delete;

  // Takes a port of 127.0.0.1, any free one for 0, and says which. Throws Error (runtime) for one
  // that is taken or not allowed.
  int listen_on(int port);
  void serve();                                      // until stop
  void stop();                                       // from any thread; what runs is cancelled
  std::chrono::steady_clock::duration idle() const;  // since the last request

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace vitrine::app

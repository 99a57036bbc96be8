// The program that a verb runs in, when it is not a process of its own: Python's, say. It takes what the verb found,
// and gives what a process has from its terminal.
//
//   Host host;
//   host.model = &model;                       // in the place of --model
//   const HostScope here(host);
//   find_verb("lens").run({"lens", {"--prompt", "The capital of Texas is", "--answer", " Austin"}});
//   host.answer->json;                         // what --format json writes; text and tensors are beside it
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/terminal/axis_names.h"
#include "apps/terminal/output.h"
#include "tensor/files/safetensors.h"

namespace vitrine::nn {
class Model;
}

namespace vitrine::app {

// A result in each of its forms.
struct Answer {
  Json json;             // as --format json has it
  std::string text;      // as --format table has it
  NamedTensors tensors;  // those of --out FILE.safetensors; none where the verb saves none
  AxisNames axes;        // of the tensors
};

struct Host {
  const nn::Model* model = nullptr;  // runs in the place of the one that --model names
  int columns = 100;                 // how wide tables may be
  std::atomic<bool> cancel = false;  // asks the verb to stop: InterruptedError
  // As the verb goes on: what it does, what is counted, how far it is.
  std::function<void(const std::string& label, const std::string& unit, double done, double total)>
      progress;
  std::function<void(std::string_view line)> log;  // what a process says on stderr

  // What comes of it: the result; the page, in the place of a file, where --html was given; what else went to stdout.
  std::optional<Answer> answer;
  std::string page, written;
};

// The host of the verb that runs on this thread; null in a process of its own. What asks the terminal for something
// asks it first.
Host* host();

// Says so for as long as it lives.
class HostScope {
 public:
  explicit HostScope(Host& host);
  ~HostScope();
  HostScope(const HostScope&) = delete;
  HostScope& operator=(const HostScope&) = delete;

 private:
  Host* const outer_;
};

}  // namespace vitrine::app

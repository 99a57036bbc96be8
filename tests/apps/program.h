// Runs the program and catches what it says.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vitrine::test {

struct Outcome {
  int exit = -1;  // the exit code; 1000 + N when signal N killed it
  std::string out, err;

  // stdout as one JSON value; a test failure when it is not.
  nlohmann::json json() const;
};

struct Setting {
  std::string input;                               // stdin
  std::map<std::string, std::string> environment;  // on top of the test's own
  std::filesystem::path folder;                    // working folder; "" is the test's own
};

// vitrine ARGUMENTS...
Outcome vitrine(const std::vector<std::string>& arguments, const Setting& setting = {});
// A shell command line; `vitrine` is the program under test.
Outcome shell(const std::string& command, const Setting& setting = {});

// A vitrine that is still running: its stdin and stdout are pipes.
class Running {
 public:
  explicit Running(const std::vector<std::string>& arguments);
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  void wait_for_output();       // until something has come on stdout
  std::string wait_for_line();  // a line of stdout, "" at its end
  pid_t pid() const { return pid_; }
  void wait_until_it_sleeps();  // until it waits for input
  void interrupt();             // Ctrl-C
  void send(int signal);
  void kill();       // kill -9
  Outcome finish();  // waits for its end; stderr is not caught

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1;
  std::string read_;
};

std::filesystem::path tiny_model();  // 3 layers, 97 ids, no tokenizer
std::filesystem::path default_model();

}  // namespace vitrine::test

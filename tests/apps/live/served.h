// A `vitrine serve` of a test, and what is said to it over HTTP.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/apps/program.h"

namespace vitrine::test {

struct Reply {
  int status = 0;                              // 0: none came
  std::map<std::string, std::string> headers;  // by their names in small letters
  std::string body;

  nlohmann::json json() const;  // null when it is none
};

// What is written on a connection, as it stands; the answer when the server closes it.
Reply say(int port, const std::string& request);

// A server on a free port, which ends with the test.
class Served {
 public:
  explicit Served(std::vector<std::string> options = {});

  int port() const { return port_; }
  std::string address() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }
  Running& program() { return running_; }
  double megabytes() const;  // of memory that it holds

  // POST to a path, as its page does it; `headers` in the place of the usual ones of the same names.
  Reply post(const std::string& path, const std::string& body,
             const std::map<std::string, std::string>& headers = {}) const;
  // The same with a tab of its own.
  Reply ask(const std::string& path, nlohmann::json body) const;

 private:
  Running running_;
  int port_ = 0;
};

}  // namespace vitrine::test

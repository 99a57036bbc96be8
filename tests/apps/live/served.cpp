#include "tests/apps/live/served.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>

namespace vitrine::test {
namespace {

int connected(int port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const timeval limit{60, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0) return socket;
  ::close(socket);
  return -1;
}

Reply parsed(const std::string& text) {
  Reply reply;
  const std::size_t end = text.find("\r\n\r\n");
  if (!text.starts_with("HTTP/1.1 ") || end == text.npos) return reply;
  reply.status = std::atoi(text.c_str() + 9);
  for (std::size_t begin = text.find("\r\n") + 2; begin < end + 2;) {
    const std::size_t stop = text.find("\r\n", begin), colon = text.find(": ", begin);
    std::string name = text.substr(begin, colon - begin);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    reply.headers[name] = text.substr(colon + 2, stop - colon - 2);
    begin = stop + 2;
  }
  reply.body = text.substr(end + 4);
  return reply;
}

}  // namespace

nlohmann::json Reply::json() const {
  const auto value = nlohmann::json::parse(body, nullptr, false);
  return value.is_discarded() ? nlohmann::json() : value;
}

Reply say(int port, const std::string& request) {
  const int socket = connected(port);
  if (socket < 0) return {};
  for (std::size_t done = 0; done < request.size();) {
    const ssize_t wrote =
        ::send(socket, request.data() + done, request.size() - done, MSG_NOSIGNAL);
    if (wrote <= 0) break;  // it wants no more; what it says is read
    done += static_cast<std::size_t>(wrote);
  }
  std::string text;
  char piece[65536];
  for (ssize_t got; (got = ::recv(socket, piece, sizeof(piece), 0)) > 0;)
    text.append(piece, static_cast<std::size_t>(got));
  ::close(socket);
  return parsed(text);
}

Served::Served(std::vector<std::string> options)
    : running_([&] {
        options.insert(options.begin(), {"serve", "--port", "0", "--format", "json", "--quiet"});
        return options;
      }()) {
  const auto started = nlohmann::json::parse(running_.wait_for_line(), nullptr, false);
  if (started.is_object()) port_ = started["port"].get<int>();
  EXPECT_GT(port_, 0) << "it does not listen";
}

double Served::megabytes() const {
  std::ifstream status("/proc/" + std::to_string(running_.pid()) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmRSS:")) return std::atof(line.c_str() + 6) / 1000;
  return 0;
}

Reply Served::post(const std::string& path, const std::string& body,
                   const std::map<std::string, std::string>& headers) const {
  std::map<std::string, std::string> all = {{"Host", "127.0.0.1:" + std::to_string(port_)},
                                            {"Content-Type", "application/json"},
                                            {"Content-Length", std::to_string(body.size())}};
  for (const auto& [name, value] : headers) all[name] = value;
  std::string request = "POST " + path + " HTTP/1.1\r\n";
  for (const auto& [name, value] : all)
    if (!value.empty()) request += name + ": " + value + "\r\n";
  return say(port_, request + "\r\n" + body);
}

Reply Served::ask(const std::string& path, nlohmann::json body) const {
  static std::atomic<int> tabs = 0;
  if (!body.contains("tab")) body["tab"] = "test" + std::to_string(++tabs);
  if (!body.contains("turn")) body["turn"] = 1;
  return post(path, body.dump());
}

}  // namespace vitrine::test

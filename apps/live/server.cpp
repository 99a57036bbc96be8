// The only file that includes httplib.h: it takes long to compile.
#include "apps/live/server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "apps/live/tabs.h"
#include "apps/live/turnstile.h"
#include "apps/terminal/text.h"
#include "tensor/error.h"
#include "tensor/files/file.h"

namespace vitrine::app {
namespace {

constexpr int kOk = 200, kBadRequest = 400, kForbidden = 403, kNotFound = 404, kNotAllowed = 405,
              kConflict = 409, kLengthRequired = 411, kTooLarge = 413, kWrongType = 415,
              kServerError = 500, kBusy = 503;

// ---- connections --------------------------------------------------------------------------------
// A thread for each open connection, as many as are needed: one that has said nothing yet (browsers
// open some in advance) then holds nobody up. What it asks for is worked on by few at a time
// (Turnstile). httplib's own pool has eight threads.
class Connections final : public httplib::TaskQueue {
 public:
  explicit Connections(int most) : most_(static_cast<std::size_t>(most)) {}

  void enqueue(std::function<void()> task) override {
    std::unique_lock lock(mutex_);
    // No more than fit: the others wait in the system's queue.
    changed_.wait(lock, [&] { return stopping_ || tasks_.size() < most_; });
    tasks_.push_back(std::move(task));
    if (idle_ < tasks_.size() && threads_.size() < most_) add_thread();
    changed_.notify_all();
  }

  void shutdown() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void add_thread() {
    try {
      threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {  // the system has no more: those that are there do it
      if (threads_.empty()) throw;
    }
  }
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      changed_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
      --idle_;
      if (tasks_.empty()) return;
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      changed_.notify_all();
      lock.unlock();
      try {
        task();
      } catch (const std::exception&) {  // of this connection alone
      }
      lock.lock();
    }
  }

  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  bool stopping_ = false;
};

// ---- who may ask --------------------------------------------------------------------------------
std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

bool is_json(const std::string& content_type) {
  std::string type = lower(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  return type == "application/json";
}

std::optional<std::uint64_t> length_in(const std::string& text) {
  constexpr std::size_t kMostDigits = 18;
  const bool digits =
      !text.empty() && text.size() <= kMostDigits &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::optional<std::uint64_t>(std::stoull(text)) : std::nullopt;
}

struct Refusal {
  int status;
  std::string why;
};

// Decides by the head of a request alone, before its body is read.
class Doorkeeper {
 public:
  Doorkeeper(int port, std::size_t body) : body_(body) {
    for (const char* name : {"127.0.0.1", "localhost"}) {
      hosts_.push_back(fmt::format("{}:{}", name, port));
      if (port == 80) hosts_.emplace_back(name);  // which browsers leave out
    }
  }

  std::optional<Refusal> refuses(const httplib::Request& request) const {
    if (request.get_header_value_count("Host") != 1 || !is_host(request.get_header_value("Host"))) {
      return Refusal{kForbidden,
                     fmt::format("this server answers to http://{}/ alone; it was called "
                                 "by another name",
                                 hosts_.front())};
    }
    for (std::size_t i = 0; i < request.get_header_value_count("Origin"); ++i) {
      const std::string origin = lower(request.get_header_value("Origin", i));
      if (origin.starts_with("http://") && is_host(origin.substr(std::strlen("http://")))) continue;
      return Refusal{kForbidden, "pages of other sites may ask nothing here"};
    }
    return request.method == "POST" ? refuses_post(request) : std::nullopt;
  }

 private:
  bool is_host(const std::string& host) const {
    return std::find(hosts_.begin(), hosts_.end(), lower(host)) != hosts_.end();
  }

  std::optional<Refusal> refuses_post(const httplib::Request& request) const {
    if (!is_json(request.get_header_value("Content-Type")))
      return Refusal{kWrongType, "a request is JSON: Content-Type: application/json"};
    if (request.has_header("Content-Encoding"))
      return Refusal{kWrongType, "a request is not compressed"};
    // How long it is, is said at once: httplib bounds no other body.
    const auto length = length_in(request.get_header_value("Content-Length"));
    if (request.has_header("Transfer-Encoding") || !length)
      return Refusal{kLengthRequired, "a request says how long it is: Content-Length"};
    if (*length > body_)
      return Refusal{kTooLarge, fmt::format("a request has at most {} bytes; this one has {}",
                                            body_, *length)};
    return std::nullopt;
  }

  std::vector<std::string> hosts_;
  std::size_t body_;
};

// ---- answers ------------------------------------------------------------------------------------
void answer_with(httplib::Response& response, int status, const JsonValue& json) {
  response.status = status;
  response.set_content(json.line(), "application/json");
}

void refuse(httplib::Response& response, int status, const std::string& why) {
  answer_with(response, status, {{"error", why}});
}

// No page of another site may frame this one, guess what its answers are, or keep them.
httplib::Headers safe_headers() {
  return {
      {"X-Content-Type-Options", "nosniff"},
      {"X-Frame-Options", "DENY"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cache-Control", "no-store"},
      {"Content-Security-Policy",
       "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
       "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}};
}

std::string why_not(int port, int error) {
  if (error == EADDRINUSE)
    return fmt::format(
        "port {} of 127.0.0.1 is in use by another program, perhaps by another "
        "'vitrine serve'; take another with --port N, or --port 0 for any free one",
        port);
  if (error == EACCES)
    return fmt::format("you may not listen on port {}; take one from 1024 on with --port N", port);
  return fmt::format("cannot listen on port {} of 127.0.0.1: {}", port, error_text(error));
}

}  // namespace

struct LiveServer::Parts {
  using Clock = std::chrono::steady_clock;

  Parts(std::string p, std::map<std::string, Answer> a, const Limits& l)
      : page(std::move(p)), answers(std::move(a)), limits(l), gate(l.at_once, l.waiting) {}

  void set_up();
  void answer(const Answer& how, const std::string& path, const httplib::Request& request,
              httplib::Response& response);

  const std::string page;
  const std::map<std::string, Answer> answers;
  const Limits limits;
  httplib::Server http;
  socket_t listening = INVALID_SOCKET;
  std::optional<Doorkeeper> door;
  Turnstile gate;
  Tabs tabs;
  std::atomic<bool> stopping = false;
  std::atomic<Clock::rep> last = Clock::now().time_since_epoch().count();
};

void LiveServer::Parts::answer(const Answer& how, const std::string& path,
                               const httplib::Request& request, httplib::Response& response) {
  try {
    const JsonReader json = JsonReader::object(request.body, "the request");
    const std::string& tab = json.at("tab").text();
    if (tab.empty() || tab.size() > 64) json.at("tab").reject("a name of 1 to 64 bytes");
    const Tabs::Cancelled cancelled = tabs.begin(path + " " + tab, json.at("turn").natural());
    if (json.at("leave").flag_or(false)) return answer_with(response, kOk, JsonValue::object());
    if (stopping) *cancelled = true;
    const Turnstile::Pass pass = gate.enter(*cancelled);
    if (pass.outcome() == Turnstile::Pass::Outcome::full) {
      response.set_header("Retry-After", "1");
      return refuse(response, kBusy, "too many questions at once; ask again in a second");
    }
    if (!pass) throw InterruptedError("the tab has moved on");
    answer_with(response, kOk, how(json, *cancelled));
  } catch (const InterruptedError&) {
    answer_with(response, kConflict,
                {{"error", "the tab has asked something else since"}, {"cancelled", true}});
  } catch (const Error& error) {
    refuse(response, kBadRequest, with_option_names(error.what()));
  } catch (const std::bad_alloc&) {
    refuse(response, kBadRequest, "out of memory; try a shorter prompt");
  }
}

void LiveServer::Parts::set_up() {
  http.set_default_headers(safe_headers());
  http.set_payload_max_length(limits.body);
  // One request a connection: an idle one would hold a thread.
  http.set_keep_alive_max_count(1);
  http.set_keep_alive_timeout(2);
  http.set_read_timeout(5);
  http.set_write_timeout(5);
  http.set_tcp_nodelay(true);
  // Without the SO_REUSEPORT that httplib sets, with which two servers share a port.
  http.set_socket_options([this](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    listening = socket;
  });
  http.new_task_queue = [this] { return new Connections(limits.connections); };
  http.set_pre_routing_handler(
      [this](const httplib::Request& request, httplib::Response& response) {
        last = Clock::now().time_since_epoch().count();
        const auto refusal = door->refuses(request);
        if (!refusal) return httplib::Server::HandlerResponse::Unhandled;
        refuse(response, refusal->status, refusal->why);
        return httplib::Server::HandlerResponse::Handled;
      });
  http.Get("/", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(page, "text/html; charset=utf-8");
  });
  for (const auto& [path, how] : answers) {
    http.Post(path, [this, &path = path, &how = how](const httplib::Request& request,
                                                     httplib::Response& response) {
      answer(how, path, request, response);
    });
  }
  http.set_error_handler([this](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;  // it says what is wrong
    const bool known = request.path == "/" || answers.contains(request.path);
    if (response.status == kNotFound && known)
      return refuse(response, kNotAllowed, "GET / gives the page, POST asks it something");
    refuse(response, response.status,
           response.status == kNotFound ? "there is nothing here; the page is /"
                                        : "this is not a request that is understood");
  });
  http.set_exception_handler(
      [](const httplib::Request&, httplib::Response& response, const std::exception_ptr& thrown) {
        std::string what = "something unknown";
        try {
          std::rethrow_exception(thrown);
        } catch (const std::exception& error) {
          what = error.what();
        } catch (...) {
        }
        refuse(response, kServerError, fmt::format("this is a mistake in the program ({})", what));
      });
}

LiveServer::LiveServer(std::string page, std::map<std::string, Answer> answers,
                       const Limits& limits)
    : parts_(std::make_unique<Parts>(std::move(page), std::move(answers), limits)) {
  parts_->set_up();
}
LiveServer::~LiveServer() = default;

int LiveServer::listen_on(int port) {
  errno = 0;
  const bool any = port == 0;
  const int taken = any ? parts_->http.bind_to_any_port("127.0.0.1")
                        : (parts_->http.bind_to_port("127.0.0.1", port) ? port : -1);
  if (taken <= 0) throw Error(ErrorKind::runtime, why_not(port, errno));
  // httplib lets five wait for being accepted; the sixth of a crowd would try again after a second.
  ::listen(parts_->listening, SOMAXCONN);
  parts_->door.emplace(taken, parts_->limits.body);
  return taken;
}

void LiveServer::serve() { parts_->http.listen_after_bind(); }

void LiveServer::stop() {
  parts_->stopping = true;
  parts_->tabs.cancel_all();
  parts_->http.stop();
}

std::chrono::steady_clock::duration LiveServer::idle() const {
  using Clock = Parts::Clock;
  return Clock::now() - Clock::time_point(Clock::duration(parts_->last.load()));
}

}  // namespace vitrine::app

#include "tests/apps/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

extern char** environ;

namespace vitrine::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

int exit_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw std::runtime_error("waitpid failed");
  }
  return exit_of(status);
}

// Everything of the environment that decides about colours or models is left out.
std::vector<std::string> environment_with(const std::map<std::string, std::string>& changes) {
  std::map<std::string, std::string> all;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    const std::size_t equals = entry.find('=');
    all[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
  for (const char* name : {"NO_COLOR", "VITRINE_GPT2"}) all.erase(name);
  all["PATH"] = fs::path(VITRINE_PROGRAM).parent_path().string() + ":" + all["PATH"];
  for (const auto& [name, value] : changes) all[name] = value;
  std::vector<std::string> entries;
  for (const auto& [name, value] : all) entries.push_back(name + "=" + value);
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& s : strings) list.push_back(s.data());
  list.push_back(nullptr);
  return list;
}

pid_t spawn(std::vector<std::string> command, const posix_spawn_file_actions_t& actions,
            const std::map<std::string, std::string>& changes) {
  std::vector<std::string> environment = environment_with(changes);
  // Whatever started the test may ignore Ctrl-C; the program must not inherit that.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGINT);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, command[0].c_str(), &actions, &attributes,
                                  pointers(command).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) throw std::runtime_error("cannot start " + command[0]);
  return pid;
}

Outcome run(const std::vector<std::string>& command, const Setting& setting) {
  const test::TemporaryFolder folder;
  const std::string in = folder / "in", out = folder / "out", err = folder / "err";
  write_text(in, setting.input);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, in.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT, 0600);
  ::posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT, 0600);
  if (!setting.folder.empty()) {
    ::posix_spawn_file_actions_addchdir_np(&actions, setting.folder.c_str());
  }
  const pid_t pid = spawn(command, actions, setting.environment);
  ::posix_spawn_file_actions_destroy(&actions);
  Outcome outcome;
  outcome.exit = wait_for(pid);
  outcome.out = read_text(out);
  outcome.err = read_text(err);
  return outcome;
}

}  // namespace

nlohmann::json Outcome::json() const {
  const auto value = nlohmann::json::parse(out, nullptr, false);
  EXPECT_FALSE(value.is_discarded()) << "not JSON: " << out << err;
  return value;
}

Outcome vitrine(const std::vector<std::string>& arguments, const Setting& setting) {
  std::vector<std::string> command = {VITRINE_PROGRAM};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run(command, setting);
}

Outcome shell(const std::string& command, const Setting& setting) {
  return run({"/bin/sh", "-c", command}, setting);
}

// ---- a program that is watched while it runs ----------------------------------------------------
Running::Running(const std::vector<std::string>& arguments) {
  int in[2], out[2];
  if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) {
    throw std::runtime_error("cannot make a pipe");
  }
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  ::posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  std::vector<std::string> command = {VITRINE_PROGRAM};
  command.insert(command.end(), arguments.begin(), arguments.end());
  pid_ = spawn(command, actions, {});
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(in[0]);
  ::close(out[1]);
  in_ = in[1];
  out_ = out[0];
}

Running::~Running() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    wait_for(pid_);
  }
  ::close(in_);
  ::close(out_);
}

void Running::wait_for_output() {
  char c = 0;
  if (::read(out_, &c, 1) == 1) read_ += c;
}

std::string Running::wait_for_line() {
  std::string line;
  for (char c = 0; ::read(out_, &c, 1) == 1;) {
    read_ += c;
    if (c == '\n') break;
    line += c;
  }
  return line;
}

void Running::wait_until_it_sleeps() {
  // The state is the field behind the name in parentheses (proc(5)).
  for (int i = 0; i < 1000; ++i) {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
    std::string stat;
    std::getline(file, stat);
    const std::size_t name = stat.rfind(") ");
    const bool ours = stat.find("(vitrine)") != std::string::npos;  // after exec
    if (ours && name != std::string::npos && stat[name + 2] == 'S') return;
    std::this_thread::sleep_for(5ms);
  }
  FAIL() << "it never waited for input";
}

void Running::interrupt() { send(SIGINT); }
void Running::send(int signal) { ::kill(pid_, signal); }
void Running::kill() { ::kill(pid_, SIGKILL); }

Outcome Running::finish() {
  char piece[4096];
  for (ssize_t got; (got = ::read(out_, piece, sizeof(piece))) > 0;) {
    read_.append(piece, static_cast<std::size_t>(got));
  }
  Outcome outcome;
  outcome.exit = wait_for(pid_);
  pid_ = -1;
  outcome.out = read_;
  return outcome;
}

fs::path tiny_model() { return data() / "tiny-gpt2"; }
fs::path default_model() { return VITRINE_DEFAULT_MODEL; }

}  // namespace vitrine::test

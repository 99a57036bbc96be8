#include "bench/program.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <charconv>
#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

#include "tensor/error.h"
#include "tensor/machine/machine.h"

namespace vitrine::bench {
namespace {

int parse_threads(std::string_view text) {
  int threads = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (error != std::errc() || end != text.data() + text.size() || threads < 1) {
    throw Error(ErrorKind::usage, fmt::format("--threads takes a number from 1, not '{}'", text));
  }
  return threads;
}

// Takes out what is ours; the rest is for Google Benchmark.
Options take_options(std::vector<char*>& arguments) {
  constexpr std::string_view kThreads = "--threads";
  Options options;
  std::vector<char*> rest;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == kThreads) {
      options.threads = parse_threads(i + 1 < arguments.size() ? arguments[++i] : "");
    } else if (argument.starts_with("--threads=")) {
      options.threads = parse_threads(argument.substr(kThreads.size() + 1));
    } else {
      rest.push_back(arguments[i]);
    }
  }
  arguments = rest;
  return options;
}

}  // namespace

void describe(const std::string& key, const std::string& text) {
  benchmark::AddCustomContext(key, text);
}

std::int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

int run_program(int argc, char** argv, const std::function<void(const Options&)>& add) try {
  std::vector<char*> arguments(argv, argv + argc);
  const Options options = take_options(arguments);
  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  describe("threads", fmt::format("{}", options.threads));
  describe("products", "own kernels, " + describe_machine(ThreadPool(1)).simd_target);
  add(options);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "error: {}\n", e.what());
  return 1;
}

}  // namespace vitrine::bench

// What the benchmark programs share: their command line, what they say about the machine, memory.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace vitrine::bench {

struct Options {
  int threads = 2;  // --threads N, besides everything that Google Benchmark takes
};

// The main function of a program: `add` registers the benchmarks, which then run. Errors become a
// message and exit code 1.
int run_program(int argc, char** argv, const std::function<void(const Options&)>& add);

// A line of the report's header, "context" in its JSON.
void describe(const std::string& key, const std::string& text);

// The most memory this process has had so far; it never falls, so only the first work of a process
// can be judged by it.
std::int64_t peak_resident_bytes();

}  // namespace vitrine::bench

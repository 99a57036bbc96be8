// vitrine VERB [options]: finds the verb and turns errors into messages and exit codes.
#pragma once

#include <string>
#include <vector>

namespace vitrine::app {

// Runs the program in this process; `words` are what stands behind its name. Returns the exit code.
int run_program(std::vector<std::string> words);

}  // namespace vitrine::app

// The exception for a closed pipe (EPIPE): standard output without a reader, as in `vitrine info
// --sites | head -1`.
#pragma once

#include <exception>

namespace vitrine::app {

// Thrown by write_stdout: nothing more is wanted, and nothing is wrong.
class ReaderGone : public std::exception {};

}  // namespace vitrine::app

// The exception types of the library. Library code throws; only the program prints and exits.
//
// A message says what is wrong, where (file, tensor, line of the model, prompt), what was expected
// and what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace vitrine {

// What went wrong, coarsely. The program maps it to its exit code (see apps/README.md).
enum class ErrorKind { runtime, usage, input, numeric, interrupted };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Defines NAME: an Error of kind KIND that callers can catch by type.
#define VITRINE_ERROR(NAME, KIND)                                                  \
  class NAME : public Error {                                                      \
   public:                                                                         \
    explicit NAME(const std::string& message) : Error(ErrorKind::KIND, message) {} \
  }

VITRINE_ERROR(ShapeError, runtime);  // shapes or dtypes that do not fit together
VITRINE_ERROR(GraphError,
              runtime);  // a graph that is not well formed, or a plan asked for what it cannot give
VITRINE_ERROR(FileError, input);    // a file that is missing, unreadable, truncated or malformed
VITRINE_ERROR(SaveError, runtime);  // a file that could not be written; the old one is untouched
VITRINE_ERROR(ConfigError, input);  // a model configuration that is malformed or not supported
VITRINE_ERROR(CheckpointError, input);  // a checkpoint whose tensors do not fit its configuration
VITRINE_ERROR(TokenError, input);       // text or ids that the tokenizer or the model does not know
VITRINE_ERROR(ContextError, input);     // a prompt longer than the model's context, or empty
VITRINE_ERROR(SiteError, input);        // a site that the model does not have
VITRINE_ERROR(NumericError, numeric);   // NaN where a number should be
VITRINE_ERROR(InterruptedError, interrupted);  // the user asked to stop

#undef VITRINE_ERROR

}  // namespace vitrine

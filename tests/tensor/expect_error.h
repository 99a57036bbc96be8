// Checks of error messages.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tensor/error.h"

namespace vitrine::test {

// The message of the E that f throws; a test failure (and "") when it throws nothing or something
// else.
template <class E, class F>
std::string message_of(F f) {
  try {
    f();
  } catch (const E& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception was thrown: " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace vitrine::test

// STATEMENT throws a TYPE whose message contains TEXT.
#define EXPECT_ERROR(TYPE, TEXT, STATEMENT)                                             \
  EXPECT_THAT(::vitrine::test::message_of<TYPE>([&] { static_cast<void>(STATEMENT); }), \
              ::testing::HasSubstr(TEXT))

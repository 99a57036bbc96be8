// A header with an example that does not compile, so that the test is seen to fail: see CMakeLists.txt.
//
//   logit[a] = sum over parts of part . u
//
//   int right = 1;
//   int wrong = no_such_name;
#pragma once

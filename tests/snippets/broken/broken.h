// A header whose example does not compile, so that the test is seen to fail (CMakeLists.txt).
//
//   logit[a] = sum over parts of part . u
//
//   int right = 1;
//   int wrong = no_such_name;
#pragma once

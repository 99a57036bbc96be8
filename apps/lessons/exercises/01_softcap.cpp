// Exercise 1: add an op.
//
// softcap keeps a number between -cap and cap, and bends it smoothly near the ends:
//
//   y = cap tanh(x / cap)
//
// An op is one row, an OpDef (autograd/graph/op.h says what each field is). Everything else in the library reads
// the row: builders, plans, gradients, sweeps. No other file changes. (An op of the library itself has three more
// lines and its samples for the tests: see "Adding an op" in HACKING.md.)
//
// Fill in the row, one field after the other. Run the check after each: it says what the row still lacks.
//
//   bash apps/lessons/run.sh exercise 1
//
// - kind     what y is of x: each element by itself, by one function (OpKind)
// - infer    the type of y; throws when the input is no float (require_float, autograd/ops/common.h)
// - eval     the kernel: reads c.in[0], writes c.out. Both are f64 here, and contiguous; View::as<double>()
// - vjp      given dy (c.grad), the gradient dx as nodes of the graph. Differentiate the formula first, on paper
// - reach    which elements of x an element of y depends on (the commonest rules are in autograd/ops/common.h)
//
// The cap is an attribute of the node: c.as<SoftcapRule>().cap in every one of these functions.
#include "apps/lessons/exercises/01_softcap.h"

#include <cmath>

#include "autograd/ops/common.h"

namespace vitrine::exercise {

const OpDef kMySoftcap = {
    .name = "my_softcap",  // as printed graphs and errors show it
    .doc = "y = cap tanh(x / cap)",
    // Your part begins here.
};

}  // namespace vitrine::exercise

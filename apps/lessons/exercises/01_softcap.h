// Exercise of lesson 1: an op of your own.
#pragma once

#include "autograd/graph/op.h"

namespace vitrine::exercise {

// y = cap tanh(x / cap), the cap being the SoftcapRule of the node.
extern const OpDef kMySoftcap;

}  // namespace vitrine::exercise

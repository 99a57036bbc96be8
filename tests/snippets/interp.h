// What the examples of interp/ assume.
#include "autograd/ops/ops.h"
#include "interp/data/measure.h"
#include "interp/patching.h"
#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "nn/families/sites.h"

namespace vitrine {

extern const nn::Model m, model;
extern const Tensor w_out;
extern const int austin;

namespace interp {
extern const Pair pair;
extern const std::vector<Example> data, examples;
}

}  // namespace vitrine

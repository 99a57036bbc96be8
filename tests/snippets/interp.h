// What the examples of interp/ assume.
#include "autograd/edges/split_edges.h"
#include "autograd/ops/ops.h"
#include "interp/circuits/circuit_runs.h"
#include "interp/circuits/edge_attribution.h"
#include "interp/data/measure.h"
#include "interp/patching.h"
#include "nn/model/model.h"
#include "nn/model/sampling.h"
#include "nn/model/stream_edges.h"
#include "nn/families/sites.h"

namespace vitrine {

extern const nn::Model m, model;
extern const Tensor w_out;
extern const int austin;

namespace interp {
extern const Pair pair;
extern const std::vector<Pair> pairs;
extern const std::vector<Example> data, examples;
extern const Tensor scores;
extern const EdgeMask circuit, other;
}

}  // namespace vitrine

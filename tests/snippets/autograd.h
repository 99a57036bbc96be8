// What the examples of autograd/ assume: `m` is a model, `model` and `graph` are graphs.
#include <fmt/format.h>

#include "autograd/edges/split_edges.h"
#include "autograd/ops/ops.h"
#include "nn/model/model.h"
#include "nn/families/sites.h"

namespace vitrine {

extern const nn::Model m;
extern const nn::Config config;
extern const nn::Gauge gauge;
extern const Graph model, graph;
extern const Feeds feeds;
extern Parameters parameters;
extern const Results clean, run;
extern const Metric metric;
extern const Codec codec;
extern const std::vector<nn::Tokens> prompts;
extern const Tensor tokens, data, weights, direction, x;
extern const int austin, sacramento;
extern const std::int64_t n;
extern ThreadPool pool;

}  // namespace vitrine

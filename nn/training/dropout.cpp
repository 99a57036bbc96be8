#include "nn/training/dropout.h"

#include "autograd/ops/ops.h"
#include "autograd/transform/rewrite.h"
#include "nn/families/sites.h"

namespace vitrine::nn {

Graph with_dropout(const Graph& model, const Config& config, const Dropout& rates) {
  Graph g = model;
  const auto drop = [&](const Site& site, double rate, std::int64_t stream) {
    if (rate == 0) return;
    g = rewrite(g, site, [&](const Value& x) {
      return dropout(x, x.builder().input("dropout.key", {DType::i64, {2}}), rate, stream);
    });
  };
  drop(site::resid_pre(0), rates.embedding, 0);
  for (int layer = 0; layer < config.layers; ++layer) {
    drop(site::pattern(layer), rates.attention, 3 * layer + 1);
    drop(site::attn_out(layer), rates.residual, 3 * layer + 2);
    drop(site::mlp_out(layer), rates.residual, 3 * layer + 3);
  }
  return g;
}

}  // namespace vitrine::nn

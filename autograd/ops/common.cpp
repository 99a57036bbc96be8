#include "autograd/ops/common.h"

namespace vitrine {

Reach reach_elementwise(const ReachCall& c) {
  Reach reach;
  for (const Type& in : c.in) {
    InputReach r;
    const int shift = c.out.shape.size() - in.shape.size();
    for (int a = 0; a < in.shape.size(); ++a) {
      // What has more axes than the output is no operand that is broadcast: the key of a dropout of a scalar.
      if (a + shift < 0) continue;
      if (in.shape[a] == c.out.shape[a + shift]) r.links.push_back(same_axis(a, a + shift));
    }
    reach.push_back(std::move(r));
  }
  return reach;
}

Reach reach_rows(const ReachCall& c) {
  Reach reach;
  const int rank = c.out.shape.size();
  for (const Type& in : c.in) {
    InputReach r;
    if (in.shape.size() == rank) {
      for (int a = 0; a + 1 < rank; ++a) r.links.push_back(same_axis(a, a));
    } else if (in.shape.size() == 1 && rank > 1) {  // gain or bias, one entry a feature
      r.links.push_back(same_axis(0, rank - 1));
    }
    reach.push_back(std::move(r));
  }
  return reach;
}

InputReach no_reach() { return {.reaches = false, .links = {}}; }
InputReach reach_all() { return {}; }

View broadcast_view(const View& x, const Shape& shape) {
  const Layout l = broadcast_to(Layout{x.shape, x.strides, 0}, shape);
  return {x.data, x.dtype, l.shape, l.strides};
}

Type like_first(const InferCall& c) { return c.in[0]; }

Fact keep_fact(const ReachCall& c) { return c.facts[0]; }

}  // namespace vitrine

// Leaves and identities: inputs, parameters, constants, sites, detach, again.
#include "autograd/ops/common.h"

namespace vitrine {
namespace {

// The type of a leaf is not inferred but given; Builder passes it as the only "input".
Type infer_leaf(const InferCall& c) { return c.in[0]; }
Type infer_constant(const InferCall& c) {
  const Tensor& t = c.as<ConstantValue>().value;
  return {t.dtype(), t.shape()};
}
Reach reach_leaf(const ReachCall&) { return {}; }

Type infer_site(const InferCall& c) {
  const SiteLabel& label = c.as<SiteLabel>();
  require(static_cast<int>(label.axes.size()) == c.in[0].shape.size(),
          "site '{}' names {} axes, but its value has {} ({}): give one Axis per axis", label.name,
          label.axes.size(), c.in[0].shape.size(), to_string(c.in[0].shape));
  return c.in[0];
}

std::optional<Layout> view_same(const InferCall&, const Layout& in) { return in; }
Grads vjp_identity(const VjpCall& c) { return {c.grad}; }
Grads vjp_nothing(const VjpCall&) { return {Value()}; }

}  // namespace

extern constinit const OpDef kInput = {.name = "input",
                                       .doc = "a value fed at each run",
                                       .kind = OpKind::input,
                                       .infer = infer_leaf,
                                       .reach = reach_leaf};
extern constinit const OpDef kParameter = {.name = "parameter",
                                           .doc = "a weight, by name",
                                           .kind = OpKind::parameter,
                                           .infer = infer_leaf,
                                           .reach = reach_leaf};
extern constinit const OpDef kConstant = {.name = "constant",
                                          .doc = "a tensor that belongs to the graph",
                                          .kind = OpKind::constant,
                                          .infer = infer_constant,
                                          .reach = reach_leaf};
extern constinit const OpDef kIdentity = {.name = "identity",
                                          .doc = "y = x",
                                          .kind = OpKind::identity,
                                          .linear_in = kEveryInput,
                                          .infer = like_first,
                                          .view = view_same,
                                          .vjp = vjp_identity,
                                          .reach = reach_elementwise,
                                          .fact = keep_fact};
extern constinit const OpDef kSite = {.name = "site",
                                      .doc = "y = x, under a name that can be fetched and edited",
                                      .kind = OpKind::identity,
                                      .linear_in = kEveryInput,
                                      .infer = infer_site,
                                      .view = view_same,
                                      .vjp = vjp_identity,
                                      .reach = reach_elementwise,
                                      .fact = keep_fact};
extern constinit const OpDef kDetach = {.name = "detach",
                                        .doc = "y = x; dx = 0",
                                        .kind = OpKind::detach,
                                        .linear_in = kEveryInput,
                                        .infer = like_first,
                                        .view = view_same,
                                        .vjp = vjp_nothing,
                                        .reach = reach_elementwise,
                                        .fact = keep_fact};
// Plans read through the others, and merge what is computed twice; not through this one.
extern constinit const OpDef kAgain = {.name = "again",
                                       .doc = "y = x; what is computed from y is not merged",
                                       .kind = OpKind::rearrangement,
                                       .linear_in = kEveryInput,
                                       .infer = like_first,
                                       .view = view_same,
                                       .vjp = vjp_identity,
                                       .reach = reach_elementwise,
                                       .fact = keep_fact};

Value identity(const Value& x, SourceLine line) {
  return x.builder().emit(kIdentity, {x}, NoAttributes{}, line);
}
Value detach(const Value& x, SourceLine line) {
  return x.builder().emit(kDetach, {x}, NoAttributes{}, line);
}
Value again(const Value& x, SourceLine line) {
  return x.builder().emit(kAgain, {x}, NoAttributes{}, line);
}

}  // namespace vitrine

#include "autograd/graph/op.h"

namespace vitrine {

bool is_linear_in(const OpDef& op, std::size_t input) {
  constexpr std::size_t kNumbered = 32;
  return op.linear_in == kEveryInput || (input < kNumbered && (op.linear_in >> input & 1) != 0);
}

std::string what_is_missing(const OpDef& op) {
  const auto is = [&](auto... kinds) { return ((op.kind == kinds) || ...); };
  const bool leaf = is(OpKind::input, OpKind::parameter, OpKind::constant),
             alias = is(OpKind::identity, OpKind::detach),
             frozen = is(OpKind::norm, OpKind::attention);
  if (op.name.empty()) return "it has no name";
  if (op.doc.empty()) return "it has no formula (doc)";
  if (op.infer == nullptr) return "it has no shape rule (infer)";
  if (leaf != (op.eval == nullptr && op.view == nullptr))
    return leaf ? "a leaf is given, not computed" : "it has no kernel (eval) and is no view";
  if (alias && op.view == nullptr) return "an identity must be a view of its input";
  if (op.interior != nullptr && op.expand == nullptr)
    return "it has interior sites, but no expansion that makes them (expand)";
  if (op.kind == OpKind::activation && op.vjp == nullptr)
    return "an activation must have a gradient (vjp): its slope is read off it";
  if (frozen != (op.frozen != nullptr))
    return frozen ? "linearise has to know what it freezes (frozen)"
                  : "only norms and attention freeze something";
  if (frozen && op.expand == nullptr)
    return "what linearise freezes lies in an expansion (expand), which is not there";
  return "";
}

}  // namespace vitrine

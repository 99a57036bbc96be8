#include "autograd/ops/op_table.h"

#include <array>

namespace vitrine {

namespace {
constexpr std::array kTable = {
    &kInput,
    &kParameter,
    &kConstant,
    &kIdentity,
    &kSite,
    &kDetach,
    &kAgain,
    &kNeg,
    &kAbs,
    &kSign,
    &kSquare,
    &kSqrt,
    &kRsqrt,
    &kReciprocal,
    &kExp,
    &kLog,
    &kSin,
    &kCos,
    &kRelu,
    &kSilu,
    &kSoftcap,
    &kGeluTanh,
    &kGeluErf,
    &kTanh,
    &kSigmoid,
    &kErf,
    &kGeluTanhSlope,
    &kGeluErfSlope,
    &kAdd,
    &kSub,
    &kMul,
    &kDiv,
    &kMaximum,
    &kMinimum,
    &kEqual,
    &kLess,
    &kLessEqual,
    &kLogicalAnd,
    &kLogicalOr,
    &kLogicalNot,
    &kSelect,
    &kReshape,
    &kPermute,
    &kBroadcastTo,
    &kSlice,
    &kUnslice,
    &kConcat,
    &kCast,
    &kSum,
    &kMax,
    &kArgmax,
    &kSoftmax,
    &kSoftmaxGrad,
    &kLogSoftmax,
    &kLayerNorm,
    &kLayerNormGrad,
    &kLayerNormGainGrad,
    &kRmsNorm,
    &kRmsNormGrad,
    &kRmsNormGainGrad,
    &kMatmul,
    &kLinear,
    &kLinearGeluTanh,
    &kLinearRelu,
    &kHeadsIn,
    &kHeadsOut,
    &kGatherRows,
    &kGatherRowsFrom,
    &kScatterAddRows,
    &kPick,
    &kUnpick,
    &kRotary,
    &kMask,
    &kAttentionScores,
    &kAttentionOuter,
    &kAttentionMix,
    &kAttentionMixTransposed,
    &kAttention,
    &kAttentionGrad,
    &kLinearCrossEntropy,
    &kLinearCrossEntropyGrads,
    &kSumSquares,
    &kAdamW,
    &kWriteRows,
    &kDropout,
    &kTopMask,
    &kActiveFeatures,
    &kLinearActive,
    &kSparseLinear,
    &kSparseMix,
    &kSparseOuter,
    &kMatchingPursuit,
    &kSolveUnitLower,
    &kSparseToDense,
    &kSparsePick,
};
}  // namespace

std::span<const OpDef* const> all_ops() { return kTable; }

const OpDef* find_op(std::string_view name) {
  for (const OpDef* op : kTable) {
    if (op->name == name) return op;
  }
  return nullptr;
}

const OpDef* fused(const OpDef& producer, const OpDef& function) {
  if (&producer == &kLinear && &function == &kGeluTanh) return &kLinearGeluTanh;
  if (&producer == &kLinear && &function == &kRelu) return &kLinearRelu;
  return nullptr;
}

}  // namespace vitrine

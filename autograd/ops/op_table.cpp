#include "autograd/ops/op_table.h"

#include <array>

namespace vitrine {

extern const OpDef kInput, kParameter, kConstant, kIdentity, kSite, kDetach,
    kAgain;  // ops/leaf.cpp
extern const OpDef kNeg, kAbs, kSign, kSquare, kSqrt, kRsqrt, kReciprocal, kExp, kLog, kSin, kCos,
    kTanh, kErf, kSigmoid, kRelu, kGeluTanh, kGeluErf, kGeluTanhSlope, kGeluErfSlope, kAdd, kSub,
    kMul, kDiv, kMaximum, kMinimum, kEqual, kLess, kLessEqual, kLogicalAnd, kLogicalOr, kLogicalNot,
    kSelect;  // ops/elementwise.cpp
extern const OpDef kReshape, kPermute, kBroadcastTo, kSlice, kUnslice, kConcat,
    kCast;                               // ops/shape.cpp
extern const OpDef kSum, kMax, kArgmax;  // ops/reduce.cpp
extern const OpDef kSoftmax, kSoftmaxGrad, kLogSoftmax, kLayerNorm, kLayerNormGrad,
    kLayerNormGainGrad;  // ops/rows.cpp
extern const OpDef kMatmul, kLinear, kLinearGeluTanh, kLinearRelu, kHeadsIn,
    kHeadsOut;  // ops/products.cpp
extern const OpDef kGatherRows, kGatherRowsFrom, kScatterAddRows, kPick,
    kUnpick;  // ops/gather.cpp
extern const OpDef kLinearCrossEntropy, kLinearCrossEntropyGrads, kSumSquares, kAdamW, kWriteRows,
    kDropout;  // ops/training.cpp
extern const OpDef kTopMask, kActiveFeatures, kLinearActive, kSparseLinear, kSparseMix,
    kSparseOuter;  // ops/sparse.cpp
extern const OpDef kMask, kAttentionScores, kAttentionOuter, kAttentionMix, kAttentionMixTransposed,
    kAttention, kAttentionGrad;  // ops/attention.cpp

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
    &kTanh,
    &kErf,
    &kSigmoid,
    &kRelu,
    &kGeluTanh,
    &kGeluErf,
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

// The op registry: the definitions of all ops by name, and in one explicit array.
#pragma once

#include <span>
#include <string_view>

#include "autograd/graph/op.h"

namespace vitrine {

// The rows, by file. A pass that rewrites one definite op compares addresses, `n.op == &kPick`.
// Else it asks what the row claims, `n.op->kind` and `linear_in`.
// leaf.cpp
extern const OpDef kInput, kParameter, kConstant, kIdentity, kSite, kDetach, kAgain;
// elementwise.cpp
extern const OpDef kNeg, kAbs, kSign, kSquare, kSqrt, kRsqrt, kReciprocal, kExp, kLog, kSin, kCos,
    kTanh, kErf, kSigmoid, kRelu, kSilu, kGeluTanh, kGeluErf, kGeluTanhSlope, kGeluErfSlope, kAdd,
    kSub, kMul, kDiv, kMaximum, kMinimum, kEqual, kLess, kLessEqual, kLogicalAnd, kLogicalOr,
    kLogicalNot, kSelect;
// shape.cpp, reduce.cpp
extern const OpDef kReshape, kPermute, kBroadcastTo, kSlice, kUnslice, kConcat, kCast;
extern const OpDef kSum, kMax, kArgmax;
// rows.cpp
extern const OpDef kSoftmax, kSoftmaxGrad, kLogSoftmax, kLayerNorm, kLayerNormGrad,
    kLayerNormGainGrad, kRmsNorm, kRmsNormGrad, kRmsNormGainGrad;
// products.cpp, heads.cpp, softcap.cpp, gather.cpp
extern const OpDef kMatmul, kLinear, kLinearGeluTanh, kLinearRelu, kHeadsIn, kHeadsOut, kSoftcap;
extern const OpDef kGatherRows, kGatherRowsFrom, kScatterAddRows, kPick, kUnpick;
// rotary.cpp, mask.cpp, attention_steps.cpp, attention.cpp
extern const OpDef kRotary, kMask, kAttentionScores, kAttentionOuter, kAttentionMix,
    kAttentionMixTransposed, kAttention, kAttentionGrad;
// training.cpp, sparse.cpp
extern const OpDef kLinearCrossEntropy, kLinearCrossEntropyGrads, kSumSquares, kAdamW, kWriteRows,
    kDropout;
extern const OpDef kTopMask, kActiveFeatures, kLinearActive, kSparseLinear, kSparseMix,
    kSparseOuter;
extern const OpDef kMatchingPursuit, kSolveUnitLower, kSparseToDense, kSparsePick;

// The inputs of heads_in by number; -1 for one that it does not have: of two optional biases and
// the scale.
struct HeadsInInputs {
  int normed = 0, w = 1, bias = -1, x = -1, gain = -1, norm_bias = -1, scale = -1;
};
HeadsInInputs heads_in_inputs(const HeadsRule& rule, std::size_t count);

std::span<const OpDef* const> all_ops();

// The op that computes function(producer(...)) in one pass, with the inputs of the producer; null
// when there is none.
const OpDef* fused(const OpDef& producer, const OpDef& function);

}  // namespace vitrine

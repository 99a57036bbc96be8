// The parameters of an op that are fixed when the graph is built: a closed set of small structs.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "autograd/graph/site.h"
#include "tensor/tensor.h"

namespace vitrine {

struct NoAttributes {
  friend bool operator==(const NoAttributes&, const NoAttributes&) = default;
};
struct LeafName {  // input, parameter
  std::string name;
  friend bool operator==(const LeafName&, const LeafName&) = default;
};
struct ConstantValue {  // a tensor that belongs to the graph; equal when it is the same storage
  Tensor value;
  friend bool operator==(const ConstantValue& a, const ConstantValue& b);
};
struct SiteLabel {
  std::string name;
  Axes axes;
  friend bool operator==(const SiteLabel&, const SiteLabel&) = default;
};
struct AxisList {  // permute; the axes of a reduction
  Dims axes;
  bool keepdims = false;
  friend bool operator==(const AxisList&, const AxisList&) = default;
};
struct OneAxis {  // concat
  int axis = 0;
  friend bool operator==(const OneAxis&, const OneAxis&) = default;
};
struct TargetShape {  // reshape, broadcast_to
  Shape shape;
  friend bool operator==(const TargetShape&, const TargetShape&) = default;
};
struct TargetType {  // cast
  DType dtype = DType::f32;
  friend bool operator==(const TargetType&, const TargetType&) = default;
};
struct Range {  // slice: [start, stop) by step along axis
                // unslice: puts it back into an axis of `size`
  int axis = 0;
  std::int64_t start = 0, stop = 0, step = 1, size = 0;
  friend bool operator==(const Range&, const Range&) = default;
};
struct RowCount {  // scatter_add_rows, attention_mix_transposed: rows of the result
                   // unpick: entries of its last axis
  std::int64_t rows = 0;
  std::int64_t group = 1;  // attention_mix_transposed: query heads that share a key head
  friend bool operator==(const RowCount&, const RowCount&) = default;
};
struct Visibility {  // mask: key index <= query position + offset stays, and with a window query
                     // position - key index < window; the rest becomes -inf (or 0, in gradients)
  int query_axis = 0, key_axis = 0;
  std::int64_t offset = 0;
  bool zero = false;
  std::int64_t window = 0;  // 0: none
  friend bool operator==(const Visibility&, const Visibility&) = default;
};
struct ScoreScale {
  double scale = 1;
  friend bool operator==(const ScoreScale&, const ScoreScale&) = default;
};
struct SoftcapRule {
  double cap = 1;
  friend bool operator==(const SoftcapRule&, const SoftcapRule&) = default;
};
struct AttentionRule {  // sites: prefix + ".hook_attn_scores", prefix + ".hook_pattern";
                        // no prefix, no sites
  double scale = 1;
  std::int64_t offset = 0;
  std::string prefix;
  std::int64_t window = 0;  // 0: none; else a query sees keys less than so many positions back
  double softcap = 0;       // 0: none; else scores become softcap tanh(score / softcap)
  friend bool operator==(const AttentionRule&, const AttentionRule&) = default;
};
struct NormRule {  // sites: prefix + ".hook_scale", prefix + ".hook_normalized";
                   // no prefix, no sites
  double eps = 1e-5;
  std::string prefix;
  friend bool operator==(const NormRule&, const NormRule&) = default;
};
// layer_norm: (x - mean) / sqrt(var + eps) * gain + bias; rms_norm: x / sqrt(mean x^2 + eps) * gain
enum class NormKind { layer_norm, rms_norm };
struct HeadsRule {  // heads_in, heads_out: the site of the one-per-head value inside
  int heads = 1;
  double eps = 1e-5;
  std::string site;
  bool detach_scale = false;             // heads_in: no gradient through the scale of a copy's norm
  NormKind norm = NormKind::layer_norm;  // heads_in: the norm that it follows
  bool biased = true;                    // heads_in: whether the projection has a bias
  friend bool operator==(const HeadsRule&, const HeadsRule&) = default;
};

// rotary: pairs (i, n/2 + i) of the first n = 2 * inverse.size() entries of a head, rotated by the
// angle position * inverse[i] and multiplied by scale; the other entries pass.
struct RotaryRule {
  std::vector<double> inverse;  // inverse frequencies, in radians for each position
  double scale = 1;
  friend bool operator==(const RotaryRule&, const RotaryRule&) = default;
};

struct AdamWRule {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0;
  friend bool operator==(const AdamWRule&, const AdamWRule&) = default;
};

struct DropoutRule {
  double rate = 0;          // share of the elements that become 0, in [0, 1)
  std::int64_t stream = 0;  // dropouts of one key draw from streams of their own
  friend bool operator==(const DropoutRule&, const DropoutRule&) = default;
};

struct ActiveFeatures {  // active_features, linear_active: see kernels::ActiveRule
  double most = -1;
  bool whole_batch = false;
  std::int64_t capacity = 1, dead_capacity = 0;
  friend bool operator==(const ActiveFeatures&, const ActiveFeatures&) = default;
};

struct PursuitRule {  // matching_pursuit: see kernels::PursuitLimits
  std::int64_t steps = 1;
  double threshold = 0;
  bool stop_at_repeat = false;
  friend bool operator==(const PursuitRule&, const PursuitRule&) = default;
};
struct Triangle {  // solve_unit_lower: of l, or of its transpose
  bool transposed = false;
  friend bool operator==(const Triangle&, const Triangle&) = default;
};

using Attributes = std::variant<NoAttributes, LeafName, ConstantValue, SiteLabel, AxisList, OneAxis,
                                TargetShape, TargetType, Range, RowCount, Visibility, ScoreScale,
                                AttentionRule, NormRule, HeadsRule, AdamWRule, DropoutRule,
                                ActiveFeatures, SoftcapRule, RotaryRule, PursuitRule, Triangle>;

// "axes=[1] keepdims", for printing; "" when there is nothing to say.
std::string to_string(const Attributes& attributes);
std::size_t hash_of(const Attributes& attributes);

}  // namespace vitrine

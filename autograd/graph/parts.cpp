#include "autograd/graph/parts.h"

#include <algorithm>

namespace vitrine {
namespace {

// "Same index on both sides", however the rule puts it.
bool is_plain(const Link& l) {
  return l.in == Coordinate::index && l.out == Coordinate::index && l.in_axis == l.out_axis &&
         (l.relation == Relation::same || l.relation == Relation::placed) && l.step == 1 &&
         l.offset == 0;
}

// Read off the reach rule: every link into a leading axis must be plain, and either all leading
// axes are linked or none is.
std::optional<InputPart> part_of(const InputReach& reach, const Shape& in, const Shape& out,
                                 int lead) {
  if (!reach.reaches) return std::nullopt;  // its rows may have to fit all the same: see parts
  std::vector<bool> linked(static_cast<std::size_t>(lead), false);
  bool any = false;
  for (const Link& l : reach.links) {
    if (l.out_axis >= lead) continue;
    if (!is_plain(l) || in[l.in_axis] != out[l.out_axis]) return std::nullopt;
    linked[static_cast<std::size_t>(l.out_axis)] = true;
    any = true;
  }
  if (!any) return InputPart::whole;
  if (!linked[0]) return std::nullopt;
  for (int a = 1; a < lead; ++a) {
    const bool one = a < in.size() && in[a] == 1;
    // Values of two axes have no heads: one that is linked there has its own last axis in the way.
    const bool heads = linked[static_cast<std::size_t>(a)] && in.size() > lead;
    if (!heads && !one) return std::nullopt;
  }
  return InputPart::same;
}

}  // namespace

std::optional<InputParts> parts_of(const OpDef& op, const ReachCall& call, int lead) {
  const int rank = call.out.shape.size();
  if (rank < lead || (lead == 2 && rank < 3) || call.in.empty()) return std::nullopt;
  if (op.parts != nullptr) return op.parts(call, lead);
  if (op.kind == OpKind::unstated || op.reach == nullptr) return std::nullopt;
  const auto* range = std::get_if<Range>(&call.attributes);
  if (range != nullptr && range->axis < lead) return std::nullopt;  // it counts the entries
  const Reach reach = op.reach(call);
  InputParts parts;
  for (std::size_t i = 0; i < call.in.size(); ++i) {
    const auto part = part_of(reach[i], call.in[i].shape, call.out.shape, lead);
    if (!part) return std::nullopt;
    parts.push_back(*part);
  }
  if (std::find(parts.begin(), parts.end(), InputPart::same) == parts.end()) return std::nullopt;
  return parts;
}

Attributes packed_attributes(const Attributes& attributes, int lead, std::int64_t entries) {
  const auto* target = std::get_if<TargetShape>(&attributes);
  if (target == nullptr) return attributes;
  TargetShape packed = *target;
  for (int a = 0; a < lead; ++a) packed.shape[a] = a == 0 ? entries : 1;
  return packed;
}

Attributes with_axis_in_front(const OpDef& op, const Attributes& attributes, std::int64_t size) {
  Attributes shifted = attributes;
  if (auto* list = std::get_if<AxisList>(&shifted)) {
    Dims axes;
    if (op.kind == OpKind::rearrangement) axes.push_back(0);  // the order of all axes
    for (const std::int64_t a : list->axes) axes.push_back(a + 1);
    list->axes = axes;
  } else if (auto* one = std::get_if<OneAxis>(&shifted)) {
    ++one->axis;
  } else if (auto* range = std::get_if<Range>(&shifted)) {
    ++range->axis;
  } else if (auto* seen = std::get_if<Visibility>(&shifted)) {
    ++seen->query_axis, ++seen->key_axis;
  } else if (auto* target = std::get_if<TargetShape>(&shifted)) {
    Shape shape{size};
    for (const std::int64_t d : target->shape) shape.push_back(d);
    target->shape = shape;
  }
  return shifted;
}

Attributes without_sites(Attributes attributes) {
  if (auto* rule = std::get_if<AttentionRule>(&attributes)) rule->prefix.clear();
  if (auto* rule = std::get_if<NormRule>(&attributes)) rule->prefix.clear();
  if (auto* rule = std::get_if<HeadsRule>(&attributes)) rule->site.clear();
  return attributes;
}

}  // namespace vitrine

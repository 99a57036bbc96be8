// Parts (batching rules): which rows of each input an op needs to compute some rows of its output.
//
// Most ops treat the entries of their leading axes alike and independently: row 3 of a linear is a
// function of row 3 of its input, and the same function as that of row 5. Such an op can run on any
// rows, of any runs, packed one after the other; a sweep does that. What an op needs of each input
// for one leading entry of its output follows from its reach rule, or stands in its OpDef row where
// the rule does not say enough.
#pragma once

#include <optional>
#include <vector>

#include "autograd/graph/op.h"

namespace vitrine {

enum class InputPart {
  same,   // the same leading entry; along a leading axis of size 1, the only one
  whole,  // all of it
  keyed   // the key rows of the entry's sequence; the op's last inputs are the row tables
};
// InputParts: one per input.

// The parts for an output packed along its first `lead` axes: 1, or 2 where it has three or more.
// Nothing: the op mixes leading entries or depends on where an entry stands, or its row claims
// nothing.
std::optional<InputParts> parts_of(const OpDef& op, const ReachCall& call, int lead);

// The attributes of the same op on [entries, 1 (lead - 1 times), rest of the shape].
Attributes packed_attributes(const Attributes& attributes, int lead, std::int64_t entries);

// The attributes of the op on inputs that have one more axis in front.
Attributes with_axis_in_front(const OpDef& op, const Attributes& attributes, std::int64_t size);

// The node that stands for some rows hides no sites: the original node keeps them.
Attributes without_sites(Attributes attributes);

}  // namespace vitrine

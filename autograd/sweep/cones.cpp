#include "autograd/sweep/cones.h"

#include <algorithm>
#include <utility>

namespace vitrine {

Cells cells_of(const Shape& shape) {
  return {shape.size() >= 1 ? shape[0] : 1, shape.size() >= 3 ? shape[1] : 1};
}

bool Bits::any() const {
  return std::any_of(words_.begin(), words_.end(), [](std::uint64_t w) { return w != 0; });
}
Bits& Bits::operator|=(const Bits& other) {
  for (std::size_t w = 0; w < words_.size(); ++w) words_[w] |= other.words_[w];
  return *this;
}
Bits& Bits::operator&=(const Bits& other) {
  for (std::size_t w = 0; w < words_.size(); ++w) words_[w] &= other.words_[w];
  return *this;
}

void CellReach::spread(std::int64_t row, std::int64_t head, Bits& out) const {
  if (swapped) std::swap(row, head);
  rows.for_each(row, [&](std::int64_t r) {
    heads.for_each(head, [&](std::int64_t h) { out.set(r * heads.out + h); });
  });
}
bool CellReach::reaches_any(std::int64_t row, std::int64_t head, const Bits& out) const {
  if (swapped) std::swap(row, head);
  bool any = false;
  rows.for_each(row, [&](std::int64_t r) {
    heads.for_each(head, [&](std::int64_t h) { any = any || out.test(r * heads.out + h); });
  });
  return any;
}

TableInputs table_inputs(const Node& node) {
  const auto last = node.inputs.end();
  return {*(last - 3), *(last - 2), *(last - 1)};
}

std::vector<std::int64_t> picked_rows(const Graph& graph, const Node& node,
                                      const KnownIntegers& known) {
  if (!selects_rows(graph, node)) return {};
  if (const auto* range = std::get_if<Range>(&node.attributes)) {
    std::vector<std::int64_t> rows;
    for (std::int64_t o = 0; o < node.type.shape[0]; ++o)
      rows.push_back(range->start + o * range->step);
    return rows;
  }
  const auto* index = known(node.inputs[1]);
  return index != nullptr ? *index : std::vector<std::int64_t>();
}

namespace {

using AlongAxis = CellReach::Along;

// By pairs: which outputs each input reaches.
template <class Holds>
AlongAxis listed(std::int64_t in, std::int64_t out, const Holds& holds) {
  AlongAxis along{.kind = AlongAxis::Kind::listed, .in = in, .out = out};
  bool same = in == out, all = true;
  for (std::int64_t i = 0; i < in; ++i) {
    auto& to = along.to.emplace_back();
    for (std::int64_t o = 0; o < out; ++o) {
      const bool h = holds(i, o);
      if (h) to.push_back(static_cast<std::int32_t>(o));
      same = same && h == (i == o);
      all = all && h;
    }
  }
  if (same || all) {
    along.kind = same ? AlongAxis::Kind::same : AlongAxis::Kind::all;
    along.to.clear();
  }
  return along;
}

// The links between the two sides' `axis`, when both count it as one of theirs.
std::vector<Link> links_along(const InputReach& reach, int axis) {
  std::vector<Link> links;
  for (const Link& l : reach.links) {
    if (l.in_axis == axis && l.out_axis == axis) links.push_back(l);
  }
  return links;
}

AlongAxis by_index(const std::vector<Link>& links, std::int64_t in, std::int64_t out) {
  std::vector<Link> plain;
  for (const Link& l : links) {
    if (l.in == Coordinate::index && l.out == Coordinate::index) plain.push_back(l);
  }
  if (plain.empty()) return {.kind = AlongAxis::Kind::all, .in = in, .out = out};
  if (plain.size() == 1 && plain[0] == same_axis(plain[0].in_axis, plain[0].out_axis) && in == out)
    return {.kind = AlongAxis::Kind::same, .in = in, .out = out};
  return listed(in, out, [&](std::int64_t i, std::int64_t o) {
    return std::all_of(plain.begin(), plain.end(), [&](const Link& l) { return l.holds(i, o); });
  });
}

// Key rows are found through the tables: row keys[sequence of the query, c] holds position c.
AlongAxis by_tables(const std::vector<Link>& links, std::int64_t in, std::int64_t out,
                    const std::vector<std::int64_t>& sequence,
                    const std::vector<std::int64_t>& position,
                    const std::vector<std::int64_t>& keys, std::int64_t context) {
  std::vector<std::vector<std::int32_t>> to(static_cast<std::size_t>(in));
  for (std::int64_t o = 0; o < out; ++o) {
    const std::int64_t s = sequence[static_cast<std::size_t>(o)];
    for (std::int64_t c = 0; c < context; ++c) {
      const std::int64_t row = keys[static_cast<std::size_t>(s * context + c)];
      if (row < 0) continue;
      const bool holds = std::all_of(links.begin(), links.end(), [&](const Link& l) {
        if (l.in != Coordinate::position || l.out != Coordinate::position) return true;
        return l.holds(c, position[static_cast<std::size_t>(o)]);
      });
      if (holds) to[static_cast<std::size_t>(row)].push_back(static_cast<std::int32_t>(o));
    }
  }
  return {.kind = AlongAxis::Kind::listed, .to = std::move(to), .in = in, .out = out};
}

}  // namespace

CellReach cell_reach(const Graph& graph, const Node& node, std::size_t input, const ReachCall& call,
                     const std::optional<InputParts>& parts, const KnownIntegers& known) {
  const Type& type = call.in[input];
  const Cells in = cells_of(type.shape), out = cells_of(node.type.shape);
  CellReach r{{.in = in.rows, .out = out.rows}, {.in = in.heads, .out = out.heads}};
  if (node.op->reach == nullptr) return r;
  const InputReach reach = node.op->reach(call)[input];
  if (!reach.reaches) {
    r.rows.kind = AlongAxis::Kind::none;
    return r;
  }
  const auto crosses = [&](int from, int to) {
    return std::find(reach.links.begin(), reach.links.end(), same_axis(from, to)) !=
           reach.links.end();
  };
  const bool both = type.shape.size() >= 3 && node.type.shape.size() >= 3;
  if (both && crosses(0, 1) && crosses(1, 0)) {
    r.swapped = true;
    r.rows = {.kind = AlongAxis::Kind::same, .in = in.heads, .out = out.rows};
    r.heads = {.kind = AlongAxis::Kind::same, .in = in.rows, .out = out.heads};
    return r;
  }
  if (both) r.heads = by_index(links_along(reach, 1), in.heads, out.heads);
  if (input == 0) {
    if (const auto picked = picked_rows(graph, node, known); !picked.empty()) {
      r.rows = {.kind = AlongAxis::Kind::listed, .in = in.rows, .out = out.rows};
      r.rows.to.resize(static_cast<std::size_t>(in.rows));
      for (std::size_t o = 0; o < picked.size(); ++o) {
        if (picked[o] >= 0)
          r.rows.to[static_cast<std::size_t>(picked[o])].push_back(static_cast<std::int32_t>(o));
      }
      return r;
    }
  }
  if (type.shape.size() == 0 || node.type.shape.size() == 0) return r;
  const std::vector<Link> links = links_along(reach, 0);
  if (parts && (*parts)[input] == InputPart::keyed) {
    const TableInputs t = table_inputs(node);
    const bool one_sequence = std::any_of(links.begin(), links.end(), [](const Link& l) {
      return l.in == Coordinate::sequence && l.out == Coordinate::sequence;
    });
    const auto *sequence = known(t.sequence), *position = known(t.position), *keys = known(t.keys);
    if (one_sequence && sequence != nullptr && position != nullptr && keys != nullptr) {
      r.rows = by_tables(links, in.rows, out.rows, *sequence, *position, *keys,
                         graph.node(t.keys).type.shape[1]);
    }
  } else {
    r.rows = by_index(links, in.rows, out.rows);
  }
  return r;
}

}  // namespace vitrine

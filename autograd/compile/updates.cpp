// Buffer donation: the phase of compile that decides whether a run writes the new value of a leaf
// in place or copies it.
#include <algorithm>
#include <optional>
#include <utility>

#include "autograd/compile/phases.h"

namespace vitrine {
namespace {

bool same_elements(const Operand& a, const Operand& b) {
  return a.storage == b.storage && a.layout.offset == b.layout.offset &&
         a.layout.shape == b.layout.shape && a.layout.strides == b.layout.strides;
}

const Operand& value_of(const Draft& draft, NodeId id) { return draft.values[by_id(id)]; }

NamedLeaf* leaf_of(Program& program, const Operand& o) {  // null when o lies in none
  const Storage& s = program.storage_of(o);
  const auto at = static_cast<std::size_t>(s.at);
  return s.where == Storage::Where::feed        ? &program.feeds[at]
         : s.where == Storage::Where::parameter ? &program.parameters[at]
                                                : nullptr;
}

// For each update whose value looks into an updated leaf, its own or another's, a place in the
// arena that the value is copied to before the first step. The leaf itself, as it is, needs none.
std::vector<std::optional<Operand>> keep_aside(Draft& draft, std::span<const LeafUpdate> updates) {
  Program& program = draft.program;
  std::vector<std::optional<Operand>> aside(updates.size());
  for (std::size_t i = 0; i < updates.size(); ++i) {
    const Operand& value = value_of(draft, updates[i].value);
    const NamedLeaf* leaf = leaf_of(program, value);
    if (leaf == nullptr || !leaf->updated || same_elements(value, value_of(draft, updates[i].leaf)))
      continue;
    const Shape& shape = value.layout.shape;
    const DType dtype = program.storage_of(value).dtype;
    program.storage.push_back({Storage::Where::arena, 0, bytes_of(dtype, numel(shape)), dtype});
    aside[i] = {static_cast<int>(program.storage.size()) - 1, Layout::contiguous(shape)};
    program.kept_aside.push_back({value, *aside[i]});
  }
  return aside;
}

// Whether this step may write over `leaf`, an input of it, while it reads.
bool may_write_over(const Step& step, const Operand& leaf) {
  const OpDef::InPlace rule = step.node->op->in_place;
  if (rule == OpDef::InPlace::never) return false;
  const bool first = rule == OpDef::InPlace::first_input;
  for (std::size_t k = 0; k < step.in.size(); ++k) {
    const bool reads_leaf = step.in[k].storage == leaf.storage;
    if (first && (k == 0) != reads_leaf) return false;
    // Read as it is: a slice or a broadcast of the old value would be overwritten while others
    // still need it.
    if (reads_leaf && !same_elements(step.in[k], leaf)) return false;
  }
  return true;
}

// Makes the step that produces `value` write into `leaf`, and all that looks at the value look
// there. False, with nothing changed, when the step cannot, or when the old value is wanted or read
// later.
bool donate(Draft& draft, const Operand& leaf, const Operand& value) {
  Program& program = draft.program;
  if (program.storage_of(value).where != Storage::Where::arena ||
      !program.covers_its_storage(value))
    return false;
  const auto in_leaf = [&](const Operand& o) { return o.storage == leaf.storage; };
  if (std::any_of(program.results.begin(), program.results.end(),
                  [&](const NamedResult& r) { return in_leaf(r.operand); }))
    return false;
  const auto maker = std::find_if(program.steps.begin(), program.steps.end(),
                                  [&](const Step& s) { return s.out.storage == value.storage; });
  if (maker == program.steps.end() || !may_write_over(*maker, leaf)) return false;
  for (auto later = maker + 1; later != program.steps.end(); ++later) {
    if (std::any_of(later->in.begin(), later->in.end(), in_leaf)) return false;
  }
  const int from = value.storage, to = leaf.storage;
  const auto move = [&](Operand& o) { o.storage = o.storage == from ? to : o.storage; };
  maker->out.storage = to;
  for (Step& s : program.steps) std::for_each(s.in.begin(), s.in.end(), move);
  for (Copy& c : program.copies) move(c.from);
  std::for_each(draft.values.begin(), draft.values.end(), move);
  return true;
}

// When a run reads each leaf for the last time and writes it for the first: a caller may give two
// leaves the same memory, which is right only if nothing reads it after it was written.
void note_uses_of_leaves(Program& program) {
  const auto read = [&](const Operand& o, int when) {
    if (NamedLeaf* leaf = leaf_of(program, o)) leaf->last_read = std::max(leaf->last_read, when);
  };
  const auto write = [&](const Operand& o, int when) {
    if (NamedLeaf* leaf = leaf_of(program, o))
      leaf->first_write = std::min(leaf->first_write, when);
  };
  int now = 0;
  for (const Step& step : program.steps) {
    for (const Operand& o : step.in) read(o, now);
    write(step.out, now++);
  }
  for (const NamedResult& r : program.results) read(r.operand, now);
  for (const Copy& c : program.copies) {
    read(c.from, ++now);
    write(c.to, now);
  }
}

}  // namespace

bool Program::updates_leaves() const {
  const auto updated = [](const NamedLeaf& leaf) { return leaf.updated; };
  return std::any_of(feeds.begin(), feeds.end(), updated) ||
         std::any_of(parameters.begin(), parameters.end(), updated);
}

Draft place_updates(Draft draft, std::span<const LeafUpdate> updates) {
  Program& program = draft.program;
  for (const LeafUpdate& u : updates) leaf_of(program, value_of(draft, u.leaf))->updated = true;
  const std::vector<std::optional<Operand>> aside = keep_aside(draft, updates);
  for (std::size_t i = 0; i < updates.size(); ++i) {
    const Operand leaf = value_of(draft, updates[i].leaf),
                  value = aside[i] ? *aside[i] : value_of(draft, updates[i].value);
    if (same_elements(leaf, value)) continue;  // the leaf itself
    if (donate(draft, leaf, value)) {
      ++draft.stats.in_place;
    } else {
      program.copies.push_back({value, leaf});
      ++draft.stats.update_copies;
    }
  }
  note_uses_of_leaves(program);
  return draft;
}

}  // namespace vitrine

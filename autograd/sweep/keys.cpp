// Key tables: index the keys and values that the attention of a sweep's program shares with the
// base run, like the block tables of paged attention. The worlds' key rows stand before the base
// run's.
#include <algorithm>

#include "autograd/ops/ops.h"
#include "autograd/sweep/matrix.h"

namespace vitrine {

// The key entries of the worlds in `list` that differ from the base run's, at its lead.
EntryListPtr WorldMatrix::key_entries(const Node& n, const InputParts& parts,
                                      const EntryListPtr& list) {
  std::vector<Entry> entries;
  for (std::size_t i = 0; i + 3 < n.inputs.size(); ++i) {
    if (parts[i] != InputPart::keyed) continue;
    const std::int64_t heads = cells_of(g_.node(n.inputs[i]).type.shape).heads;
    for (const Piece& p : lifted(n.inputs[i])) {
      for (const Entry& e : p.list->entries) {
        if (!list->has(e.world)) continue;
        if (p.list->lead == list->lead) {
          entries.push_back(e);
        } else if (list->lead == 1) {
          entries.push_back({e.world, static_cast<std::int32_t>(e.cell / heads)});
        } else {
          for (std::int64_t h = 0; h < heads; ++h)
            entries.push_back({e.world, static_cast<std::int32_t>(e.cell * heads + h)});
        }
      }
    }
  }
  std::sort(entries.begin(), entries.end());
  entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
  return this->list(list->lead, std::move(entries));
}

// Every world (and key head) that has key rows of its own is a sequence of its own; its positions
// that did not change are the base run's rows, which lie behind those of the worlds. Heads that share
// a key head share its sequences.
WorldMatrix::Keys WorldMatrix::keys_of(const Node& n, const InputParts& parts,
                                       const EntryListPtr& list) {
  const TableInputs t = table_inputs(n);
  const auto &sequence = base_.integers(t.sequence), &keys = base_.integers(t.keys);
  const std::int64_t context = g_.node(t.keys).type.shape[1];
  const EntryListPtr changed = key_entries(n, parts, list);
  const auto fresh = static_cast<std::int64_t>(changed->entries.size());

  Keys out;
  const std::int64_t heads = cells_of(n.type.shape).heads;
  std::int64_t key_heads = 1;
  for (std::size_t i = 0; i + 3 < n.inputs.size(); ++i) {
    if (parts[i] != InputPart::keyed) continue;
    const Shape& shape = g_.node(n.inputs[i]).type.shape;
    key_heads = shape[1];
    const std::int64_t rows = shape[0] * (list->lead == 2 ? key_heads : 1);
    const Value base = reshape(base_value(n.inputs[i]), packed_shape(shape, list->lead, rows));
    out.rows.push_back(fresh == 0 ? base : concat({rows_of(n.inputs[i], changed), base}, 0));
  }

  struct Group {
    std::int32_t world;
    std::int64_t sequence, key_head;
    auto operator<=>(const Group&) const = default;
  };
  std::map<Group, std::int32_t> groups;
  std::vector<std::int32_t> of_entry, table;
  std::vector<Entry> rows;
  for (const Entry& e : list->entries) {
    const std::int64_t row = list->lead == 2 ? e.cell / heads : e.cell,
                       head = list->lead == 2 ? e.cell % heads * key_heads / heads : 0;
    rows.push_back({e.world, static_cast<std::int32_t>(row)});
    const bool own = changed->has(e.world);
    const Group group{own ? e.world : -1, sequence[static_cast<std::size_t>(row)], head};
    const auto [it, is_new] = groups.try_emplace(group, static_cast<std::int32_t>(groups.size()));
    of_entry.push_back(it->second);
    if (!is_new) continue;
    for (std::int64_t c = 0; c < context; ++c) {
      const std::int64_t key = keys[static_cast<std::size_t>(group.sequence * context + c)];
      const std::int64_t cell = list->lead == 2 ? key * key_heads + head : key;
      std::int64_t place = key < 0 || !own ? -1 : changed->find(e.world, cell);
      if (key >= 0 && place < 0) place = fresh + cell;
      table.push_back(static_cast<std::int32_t>(place));
    }
  }
  out.sequence = integers(of_entry, {static_cast<std::int64_t>(of_entry.size())});
  out.keys = integers(table, {static_cast<std::int64_t>(groups.size()), context});
  out.position = gathered(t.position, 1, rows);
  return out;
}

}  // namespace vitrine

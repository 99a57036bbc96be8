#include "autograd/sweep/edits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// Calls f and names the world in what it throws.
template <class F>
void naming_world(int number, const F& f) {
  try {
    f();
  } catch (const GraphError& e) {
    throw GraphError(fmt::format("world {}: {}", number, e.what()));
  } catch (const ShapeError& e) {
    throw ShapeError(fmt::format("world {}: {}", number, e.what()));
  } catch (const NumericError& e) {
    throw NumericError(fmt::format("world {}: {}", number, e.what()));
  }
}

}  // namespace

SweepEdits::SweepEdits(BaseRun& base, const Feeds& feeds, std::span<const Interventions> worlds,
                       int first, const SweepOptions& options)
    : base_(base), g_(base.graph()), rows_(row_places(g_, feeds)), options_(options) {
  for (const Expanded& e : base_.expanded()) inside_[e.composite.id].assign(worlds.size(), false);
  for (std::size_t w = 0; w < worlds.size(); ++w) {
    std::map<NodeId, std::size_t> made;
    naming_world(first + static_cast<int>(w), [&] {
      check_overlaps(g_, worlds[w], rows_);
      for (const auto& stage : worlds[w].stages()) {
        for (const Edit& e : stage) {
          const SiteEntry& site = g_.site(e.site.name);
          const Selection& selection = selection_of(e, site);
          if (selection.cells.empty() && numel(site.type.shape) > 0)
            throw GraphError(fmt::format("{}: the selection is empty", e.to_text()));
          const std::int32_t value = has_value(e.action) ? value_of(e) : -1;
          Rounds& rounds = by_node_[site.node];
          const std::size_t round = made[site.node]++;
          if (rounds.size() <= round) rounds.resize(round + 1);
          rounds[round].push_back({static_cast<std::int32_t>(w), &e, &selection, value});
          for (const Expanded* x = base_.expansion_of(site.node); x != nullptr;
               x = base_.expansion_of(x->composite.id))
            inside_[x->composite.id][w] = true;
        }
      }
    });
  }
}

bool SweepEdits::keep(NodeId site, const Fact& fact) const {
  return !any_edit(site, [&](const Edit& e) {
    const bool keeps_zeros = e.action == Edit::Action::zero ||
                             (e.action == Edit::Action::scale && std::isfinite(e.factor));
    return e.action != Edit::Action::detach && !(keeps_zeros && fact.kind == Fact::Kind::zero);
  });
}

// A projection along the only axis, which is that of the cells.
bool SweepEdits::mixes_cells(NodeId site) const {
  return g_.node(site).type.shape.size() == 1 &&
         any_edit(site, [](const Edit& e) { return e.action == Edit::Action::project_out; });
}

// ---- what an edit selects ---------------------------------------------------------------------
const SweepEdits::Selection& SweepEdits::selection_of(const Edit& e, const SiteEntry& site) {
  std::string key = e.site.name;
  for (const Where& w : e.where) {
    for (const WhereList& list : kWhereLists) {
      key += '|';
      for (const std::int64_t i : w.*list.indices) key += fmt::format("{},", i);
    }
  }
  const auto [it, fresh] = selections_.try_emplace(key);
  Selection& s = it->second;
  if (!fresh) return s;
  const Cells cells = cells_of(site.type.shape);
  const std::int64_t width = cells.count() == 0 ? 0 : numel(site.type.shape) / cells.count();
  const int lead = cells.heads > 1 ? 2 : 1;
  std::map<std::int32_t, const std::vector<std::uint8_t>*> by_cell;
  for (const Selected& along : selected(site, e, rows_)) {
    const std::vector<std::uint8_t>* elements = elements_of(along, lead, site.type.shape, width);
    const auto each = [&](int axis, std::int64_t size, const auto& f) {
      if (axis >= static_cast<int>(along.size())) return f(0);
      const Along& a = along[static_cast<std::size_t>(axis)];
      for (std::int64_t i = 0; i < size && a.all; ++i) f(i);
      for (const std::int64_t i : a.indices) f(i);
    };
    each(0, cells.rows, [&](std::int64_t r) {
      each(lead == 2 ? 1 : static_cast<int>(along.size()), cells.heads, [&](std::int64_t h) {
        const auto [cell, is_new] =
            by_cell.try_emplace(static_cast<std::int32_t>(r * cells.heads + h), elements);
        if (!is_new) cell->second = either(cell->second, elements);
      });
    });
  }
  for (const auto& [cell, elements] : by_cell) {
    s.cells.push_back(cell);
    s.elements.push_back(elements);
  }
  return s;
}

// What is selected inside a cell; null for all of it.
const std::vector<std::uint8_t>* SweepEdits::elements_of(const std::vector<Along>& along, int lead,
                                                         const Shape& shape, std::int64_t width) {
  bool all = true;
  for (std::size_t a = static_cast<std::size_t>(lead); a < along.size(); ++a)
    all = all && along[a].all;
  if (all || width == 0) return nullptr;
  std::vector<std::uint8_t>& mask = masks_.emplace_back(static_cast<std::size_t>(width), 1);
  std::int64_t inner = width;
  for (int a = lead; a < shape.size(); ++a) {
    inner /= shape[a];
    const Along& on = along[static_cast<std::size_t>(a)];
    if (on.all) continue;
    for (std::int64_t i = 0; i < width; ++i) {
      if (!std::binary_search(on.indices.begin(), on.indices.end(), i / inner % shape[a]))
        mask[static_cast<std::size_t>(i)] = 0;
    }
  }
  return &mask;
}

const std::vector<std::uint8_t>* SweepEdits::either(const std::vector<std::uint8_t>* a,
                                                    const std::vector<std::uint8_t>* b) {
  if (a == nullptr || b == nullptr) return nullptr;
  std::vector<std::uint8_t>& both = masks_.emplace_back(*a);
  for (std::size_t i = 0; i < both.size(); ++i) both[i] |= (*b)[i];
  return &both;
}

std::int32_t SweepEdits::value_of(const Edit& e) {
  const Strides& strides = e.value.strides();
  const auto [it, fresh] =
      value_numbers_.try_emplace({e.site.name, e.value.view().data, to_string(e.value.shape()),
                                  std::vector<std::int64_t>(strides.begin(), strides.end())},
                                 static_cast<std::int32_t>(values_.size()));
  if (fresh) values_.push_back({packed_value(g_, e), {}});
  return it->second;
}

// Whether the edit puts anything else there than the base run has. Only asked where nothing else
// has changed the cell before.
bool SweepEdits::changes(const WorldEdit& e, const SiteEntry& site, std::int32_t cell,
                         const std::vector<std::uint8_t>* elements) {
  if (!options_.by_difference) return true;
  const Edit::Action action = e.edit->action;
  if (action == Edit::Action::add) return adds(e.value, site, cell);
  if (action != Edit::Action::replace && action != Edit::Action::zero)
    return action != Edit::Action::detach;
  const Tensor& base = base_.value(site.node);
  const std::int64_t width = base.numel() / cells_of(site.type.shape).count();
  const auto size = static_cast<std::size_t>(size_of(base.dtype()));
  const auto bytes = [&](const Tensor& t) {
    return reinterpret_cast<const char*>(t.view().data) +
           static_cast<std::size_t>(cell * width) * size;
  };
  const char* before = bytes(base);
  std::vector<char> zeros;
  const char* after = nullptr;
  if (action == Edit::Action::zero) {
    zeros.assign(static_cast<std::size_t>(width) * size, 0);
    after = zeros.data();
  } else {
    Fed& fed = values_[static_cast<std::size_t>(e.value)];
    if (!fed.spread.defined()) fed.spread = fed.value.broadcast_to(site.type.shape).contiguous();
    after = bytes(fed.spread);
  }
  if (elements == nullptr)
    return std::memcmp(before, after, static_cast<std::size_t>(width) * size) != 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(width); ++i) {
    if ((*elements)[i] != 0 && std::memcmp(before + i * size, after + i * size, size) != 0)
      return true;
  }
  return false;
}

// Whether a value that is added is anything but 0 in a cell.
bool SweepEdits::adds(std::int32_t value, const SiteEntry& site, std::int32_t cell) {
  Fed& fed = values_[static_cast<std::size_t>(value)];
  if (fed.value.numel() == 0) return false;
  const Cells cells = cells_of(site.type.shape);
  if (fed.adds.empty()) {
    const int rank = site.type.shape.size(), missing = rank - fed.value.rank();
    const auto along = [&](int axis) {
      return axis < missing || axis >= rank ? 1 : fed.value.dim(axis - missing);
    };
    fed.add_rows = along(0);
    fed.add_heads = cells.heads > 1 ? along(1) : 1;
    const std::int64_t width = fed.value.numel() / (fed.add_rows * fed.add_heads);
    const auto numbers = fed.value.to_vector<double>();
    fed.adds.assign(static_cast<std::size_t>(fed.add_rows * fed.add_heads), 0);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (numbers[i] != 0) fed.adds[i / static_cast<std::size_t>(width)] = 1;
    }
  }
  const std::int64_t row = cell / cells.heads, head = cell % cells.heads;
  return fed.adds[static_cast<std::size_t>((fed.add_rows == 1 ? 0 : row) * fed.add_heads +
                                           (fed.add_heads == 1 ? 0 : head))] != 0;
}

// ---- what is made of them ---------------------------------------------------------------------
void SweepEdits::apply(const Node& site, const Bits& read, WorldMatrix& m) {
  const SiteEntry& entry = g_.site(std::get<SiteLabel>(site.attributes).name);
  const Builder::Origin origin(m.builder(), site.scope, site.line);
  for (const std::vector<WorldEdit>& round : by_node_.at(site.id)) {
    std::vector<Job> jobs;
    for (const WorldEdit& e : round) add_parts(e, entry, read, m.lifted(site.id), jobs);
    std::vector<Piece> pieces;  // all of a round's edits see what was there before it
    for (const Job& job : jobs) pieces.push_back(made(job, site, m));
    for (Piece& p : pieces) m.add_in_front(site.id, std::move(p));
  }
}

void SweepEdits::add_parts(const WorldEdit& e, const SiteEntry& site, const Bits& read,
                           const Lifted& now, std::vector<Job>& jobs) {
  const Selection& s = *e.selection;
  const Cells cells = cells_of(site.type.shape);
  bool by_rows = !options_.by_head || cells.heads == 1;
  for (const Piece& p : now) by_rows = by_rows || (p.list->lead == 1 && p.list->has(e.world));
  const auto changed_already = [&](std::int32_t cell) {
    return std::any_of(now.begin(), now.end(), [&](const Piece& p) {
      return p.list->find(e.world, p.list->lead == 2 ? cell : cell / cells.heads) >= 0;
    });
  };
  // The cells that matter, by row.
  std::map<std::int32_t, std::vector<std::size_t>> rows;
  std::size_t count = 0;
  for (std::size_t i = 0; i < s.cells.size(); ++i) {
    const std::int32_t cell = s.cells[i];
    if (!read.empty() && !read.test(cell)) continue;
    if (!changed_already(cell) && !changes(e, site, cell, s.elements[i])) continue;
    rows[static_cast<std::int32_t>(cell / cells.heads)].push_back(i);
    ++count;
  }
  if (rows.empty()) return;
  by_rows = by_rows || 2 * static_cast<std::int64_t>(count) >
                           static_cast<std::int64_t>(rows.size()) * cells.heads;

  const auto part = [&](int lead, std::int32_t cell, std::vector<std::uint8_t> mask) {
    const bool masked = !mask.empty();
    auto job = std::find_if(jobs.begin(), jobs.end(), [&](const Job& j) {
      return j.lead == lead && j.action == e.edit->action && j.parts[0].mask.empty() != masked;
    });
    if (job == jobs.end()) job = jobs.insert(job, Job{lead, e.edit->action, {}});
    job->parts.push_back({{e.world, cell}, &e, std::move(mask)});
  };
  const std::int64_t width = numel(site.type.shape) / cells.count();  // elements of a cell
  for (const auto& [row, indices] : rows) {
    const bool all_whole = std::all_of(indices.begin(), indices.end(),
                                       [&](std::size_t i) { return s.elements[i] == nullptr; });
    if (!by_rows) {
      for (const std::size_t i : indices)
        part(2, s.cells[i],
             s.elements[i] == nullptr ? std::vector<std::uint8_t>() : *s.elements[i]);
    } else if (all_whole && static_cast<std::int64_t>(indices.size()) == cells.heads) {
      part(1, row, {});
    } else {
      std::vector<std::uint8_t> mask(static_cast<std::size_t>(cells.heads * width), 0);
      for (const std::size_t i : indices) {
        const auto to = mask.begin() + (s.cells[i] % cells.heads) * width;
        if (s.elements[i] == nullptr) std::fill_n(to, width, 1);
        else std::copy(s.elements[i]->begin(), s.elements[i]->end(), to);
      }
      part(1, row, std::move(mask));
    }
  }
}

// The values that the job's edits give, one a part: [parts, (1,) rest].
Value SweepEdits::values_at(const Job& job, const Node& site, WorldMatrix& m) {
  const Shape& shape = site.type.shape;
  const Cells cells = cells_of(shape);
  std::map<std::int32_t, std::pair<std::int64_t, bool>> tables;  // value: offset, one for all cells
  std::vector<Value> values;
  std::int64_t total = 0;
  std::vector<std::int32_t> index;
  for (const Job::Item& p : job.parts) {
    const std::int32_t number = p.edit->value;
    const auto [it, fresh] = tables.try_emplace(number);
    if (fresh) {
      const Tensor& value = values_[static_cast<std::size_t>(number)].value;
      const int shift = shape.size() - value.rank();
      bool one = true;                                       // the value is the same for every cell
      const int counted = std::min(job.lead, shape.size());  // a scalar has no axes
      for (int a = 0; a < counted; ++a) one = one && (a < shift || value.dim(a - shift) == 1);
      Shape spread = shape;
      for (int a = 0; a < counted && one; ++a) spread[a] = 1;
      const std::int64_t n = one ? 1 : job.lead == 2 ? cells.count() : cells.rows;
      Value v = m.feed(fmt::format("sweep.value.{}", number), value);
      values.push_back(reshape(broadcast_to(v, spread), packed_shape(shape, job.lead, n)));
      it->second = {total, one};
      total += n;
    }
    const auto [offset, one] = it->second;
    index.push_back(static_cast<std::int32_t>(offset + (one ? 0 : p.entry.cell)));
  }
  const auto n = static_cast<std::int64_t>(index.size());
  if (total == 1) return broadcast_to(values[0], packed_shape(shape, job.lead, n));
  const Value i = m.integers(index, {n});
  return values.size() == 1 ? gather_rows(values[0], i) : gather_rows_from(values, i);
}

// Where the last axis is the only one, all of a world's cells are projected, and those that the job
// asks for are taken.
Value SweepEdits::projected_whole(const Job& job, const Node& site, WorldMatrix& m) {
  const std::int64_t width = site.type.shape[0];
  Job whole{job.lead, job.action, {}};
  std::vector<std::int32_t> worlds, index;
  for (const Job::Item& p : job.parts) {
    if (worlds.empty() || worlds.back() != p.entry.world) {
      worlds.push_back(p.entry.world);
      for (std::int32_t c = 0; c < width; ++c)
        whole.parts.push_back({{p.entry.world, c}, p.edit, {}});
    }
    index.push_back(static_cast<std::int32_t>((std::ssize(worlds) - 1) * width + p.entry.cell));
  }
  const Shape rows = {std::ssize(worlds), width};
  const Value x = reshape(m.rows_of(site.id, m.all_rows(worlds, width)), rows);
  const Value y =
      action_on(m.builder(), job.action, x.type(), x, reshape(values_at(whole, site, m), rows), {});
  return gather_rows(reshape(y, {numel(rows)}), m.integers(index, {std::ssize(index)}));
}

// The factors of the job's edits, one a part: [parts, 1, ...], of this rank.
Value SweepEdits::factors_at(const Job& job, int rank, DType dtype, WorldMatrix& m) {
  Shape one{std::ssize(job.parts)};
  while (one.size() < rank) one.push_back(1);
  Tensor t = Tensor::empty(one, DType::f64);
  for (std::size_t i = 0; i < job.parts.size(); ++i)
    t.data<double>()[i] = job.parts[i].edit->edit->factor;
  return m.feed(fmt::format("sweep.factor.{}", fed_++), t.to(dtype));
}

Piece SweepEdits::made(const Job& job, const Node& site, WorldMatrix& m) {
  const Shape& shape = site.type.shape;
  const DType dtype = site.type.dtype;
  const auto n = static_cast<std::int64_t>(job.parts.size());
  const Shape packed = packed_shape(shape, job.lead, n);
  std::vector<Entry> entries;
  for (const Job::Item& p : job.parts) entries.push_back(p.entry);
  const EntryListPtr list = m.list(job.lead, entries);
  const bool masked = !job.parts[0].mask.empty();

  Value x, value, factor, changed;
  const bool reads_x =
      masked || (job.action != Edit::Action::replace && job.action != Edit::Action::zero);
  if (reads_x) x = m.rows_of(site.id, list);
  if (has_value(job.action)) value = values_at(job, site, m);
  if (job.action == Edit::Action::add || job.action == Edit::Action::scale)
    factor = factors_at(job, packed.size(), dtype, m);
  if (job.action == Edit::Action::project_out && shape.size() == 1)
    changed = projected_whole(job, site, m);
  else changed = action_on(m.builder(), job.action, {dtype, packed}, x, value, factor);
  if (masked) {
    Tensor mask = Tensor::empty(packed, DType::boolean);
    auto* to = reinterpret_cast<std::uint8_t*>(mask.view().data);
    for (const Job::Item& p : job.parts) to = std::copy(p.mask.begin(), p.mask.end(), to);
    changed = select(m.feed(fmt::format("sweep.mask.{}", fed_++), mask), changed, x);
  }
  return {list, changed};
}

}  // namespace vitrine

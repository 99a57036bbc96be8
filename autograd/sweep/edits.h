// The edits (activation patches, ablations) of a sweep's worlds: which cells of the base graph they
// change, and the nodes that make them.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "autograd/sweep/matrix.h"
#include "autograd/transform/selection.h"

namespace vitrine {

// A set of worlds: all of them, or those inside or outside a given set.
struct WorldFilter {
  const std::vector<bool>* set = nullptr;
  bool inside = true;
  bool has(std::int32_t world) const {
    return set == nullptr || (*set)[static_cast<std::size_t>(world)] == inside;
  }
};

class SweepEdits {
 public:
  SweepEdits(BaseRun& base, const Feeds& feeds, std::span<const Interventions> worlds, int first,
             const SweepOptions& options);

  bool edits(NodeId site) const { return by_node_.contains(site); }
  // Whether a fact about a site's value, which is one about its zeros, holds in all worlds.
  bool keep(NodeId site, const Fact& fact) const;
  // Whether an edit of one cell of a site may read the others.
  bool mixes_cells(NodeId site) const;
  // The worlds that edit a site inside a composite, and the others.
  WorldFilter inside(const Expanded& e) const { return {&inside_.at(e.composite.id), true}; }
  WorldFilter outside(const Expanded& e) const { return {&inside_.at(e.composite.id), false}; }

  // Prepends the edited rows of all worlds to a site's pieces.
  void apply(const Node& site, const Bits& read, WorldMatrix& m);

 private:
  // The selection of an edit: cells, and of each everything (null) or the elements that are not 0.
  struct Selection {
    std::vector<std::int32_t> cells;  // row * heads + head, increasing
    std::vector<const std::vector<std::uint8_t>*> elements;
  };
  struct WorldEdit {
    std::int32_t world;
    const Edit* edit;
    const Selection* selection;
    std::int32_t value;  // its number in values_; -1 without one
  };
  // The first edit that each world makes at a site, then the second, ...
  using Rounds = std::vector<std::vector<WorldEdit>>;
  template <class F>
  bool any_edit(NodeId site, const F& is) const {
    const auto at = by_node_.find(site);
    return at != by_node_.end() &&
           std::any_of(at->second.begin(), at->second.end(), [&](const auto& round) {
             return std::any_of(round.begin(), round.end(),
                                [&](const WorldEdit& e) { return is(*e.edit); });
           });
  }

  const Selection& selection_of(const Edit& e, const SiteEntry& site);
  const std::vector<std::uint8_t>* elements_of(const std::vector<Along>& along, int lead,
                                               const Shape& shape, std::int64_t width);
  const std::vector<std::uint8_t>* either(const std::vector<std::uint8_t>* a,
                                          const std::vector<std::uint8_t>* b);
  std::int32_t value_of(const Edit& e);  // its number in values_
  bool changes(const WorldEdit& e, const SiteEntry& site, std::int32_t cell,
               const std::vector<std::uint8_t>* elements);

  bool adds(std::int32_t value, const SiteEntry& site, std::int32_t cell);

  // Edits of one kind, and of one kind of entries, that are made together.
  struct Job {
    int lead = 1;
    Edit::Action action = Edit::Action::zero;
    struct Item {
      Entry entry;
      const WorldEdit* edit;
      std::vector<std::uint8_t> mask;  // of the entry's elements; empty: all
    };
    std::vector<Item> parts;
  };
  void add_parts(const WorldEdit& e, const SiteEntry& site, const Bits& read, const Lifted& now,
                 std::vector<Job>& jobs);
  Piece made(const Job& job, const Node& site, WorldMatrix& m);
  Value values_at(const Job& job, const Node& site, WorldMatrix& m);
  Value factors_at(const Job& job, int rank, DType dtype, WorldMatrix& m);
  Value projected_whole(const Job& job, const Node& site, WorldMatrix& m);

  struct Fed {
    Tensor value;   // as packed_value gives it
    Tensor spread;  // over the site's shape, contiguous; made when it is compared
    // Of a value that is added: whether it has anything but 0 for a row and head, [rows or 1, heads
    // or 1]; made when it is asked for.
    std::vector<std::uint8_t> adds;
    std::int64_t add_rows = 1, add_heads = 1;
  };
  BaseRun& base_;
  const Graph& g_;
  RowPlaces rows_;
  const SweepOptions& options_;
  std::map<NodeId, Rounds> by_node_;
  std::map<NodeId, std::vector<bool>> inside_;  // by composite
  std::deque<Fed> values_;
  // By site, and what tells one view of a tensor from another: data, shape, strides.
  std::map<std::tuple<std::string, const void*, std::string, std::vector<std::int64_t>>,
           std::int32_t>
      value_numbers_;
  std::map<std::string, Selection> selections_;  // by site and selection
  std::deque<std::vector<std::uint8_t>> masks_;
  int fed_ = 0;
};

}  // namespace vitrine

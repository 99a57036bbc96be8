// Argument binding, the first phase of a run: checks the tensors that are given for the leaves.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "autograd/compile/run.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine {
namespace {

// A feed that the graph has no input for has a wrong name. The tables of a batch are fed together,
// and each graph reads some of them.
void check_names(const Feeds& feeds, const std::vector<std::string>& inputs) {
  for (const auto& [name, tensor] : feeds) {
    const bool table = name.starts_with("rows.") || name.starts_with("next.");
    if (table || std::binary_search(inputs.begin(), inputs.end(), name)) continue;
    throw GraphError(fmt::format("the graph has no input '{}'{}; its inputs are {}", name,
                                 did_you_mean(nearest(name, inputs)), fmt::join(inputs, ", ")));
  }
}

std::vector<Tensor> tensors_of(const std::vector<NamedLeaf>& leaves,
                               const std::map<std::string, Tensor, std::less<>>& given,
                               std::string_view what) {
  std::vector<Tensor> bound;
  for (const NamedLeaf& leaf : leaves) {
    const auto it = given.find(leaf.name);
    if (it == given.end()) {
      throw GraphError(fmt::format("the plan needs the {} '{}' ({}), which was not given", what,
                                   leaf.name, to_string(leaf.type)));
    }
    const Type type{it->second.dtype(), it->second.shape()};
    if (!(type == leaf.type)) {
      throw GraphError(fmt::format("the {} '{}' must be {}, not {}", what, leaf.name,
                                   to_string(leaf.type), to_string(type)));
    }
    if (leaf.updated && !it->second.is_contiguous()) {
      throw GraphError(fmt::format("the {} '{}' is updated by this plan and must be contiguous",
                                   what, leaf.name));
    }
    if (leaf.updated && it->second.is_read_only()) {
      throw GraphError(
          fmt::format("the {} '{}' is updated by this plan, but its memory is read-only (mapped "
                      "from a file): give a clone() of it",
                      what, leaf.name));
    }
    bound.push_back(it->second.contiguous());
  }
  return bound;
}

struct BytesOfLeaf {
  const NamedLeaf* leaf;
  const std::byte *begin, *end;
};

// Those that lie somewhere, by address.
std::vector<BytesOfLeaf> bytes_of_leaves(const Program& program, const Bound& bound) {
  std::vector<BytesOfLeaf> all;
  const auto add = [&](const std::vector<NamedLeaf>& leaves, const std::vector<Tensor>& tensors) {
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      const std::byte* data = tensors[i].view().data;
      const std::int64_t bytes = tensors[i].bytes();
      if (bytes > 0) all.push_back({&leaves[i], data, data + bytes});
    }
  };
  add(program.feeds, bound.feeds);
  add(program.parameters, bound.parameters);
  std::sort(all.begin(), all.end(), [](const BytesOfLeaf& a, const BytesOfLeaf& b) {
    return std::less<>()(a.begin, b.begin);
  });
  return all;
}

}  // namespace

void require_unshared(const Program& program, const Bound& bound) {
  if (!program.updates_leaves()) return;
  // What `written` has, once it is written, `other` reads or writes too.
  const auto clash = [](const NamedLeaf& written, const NamedLeaf& other) {
    constexpr int kNever = std::numeric_limits<int>::max();
    return written.first_write != kNever &&
           (other.first_write != kNever || other.last_read >= written.first_write);
  };
  const std::vector<BytesOfLeaf> all = bytes_of_leaves(program, bound);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = i + 1; j < all.size() && all[j].begin < all[i].end; ++j) {
      const NamedLeaf &a = *all[i].leaf, &b = *all[j].leaf;
      if (!clash(a, b) && !clash(b, a)) continue;
      const bool first = clash(a, b);
      throw GraphError(fmt::format(
          "'{}' and '{}' share memory, and this plan updates '{}' before it is done with '{}': "
          "give a clone() of one of them",
          a.name, b.name, first ? a.name : b.name, first ? b.name : a.name));
    }
  }
}

Bound bind_leaves(const Program& program, const std::vector<std::string>& inputs,
                  const Feeds& feeds, const Parameters& parameters) {
  check_names(feeds, inputs);
  return {tensors_of(program.feeds, feeds, "input"),
          tensors_of(program.parameters, parameters, "parameter")};
}

void check_row_table(const Graph& g, const Feeds& feeds) {
  if (!g.rows()) return;
  const auto fed = [&](NodeId id) -> const Tensor* {
    if (id == kNoNode || !g.contains(id)) return nullptr;
    const auto* leaf = std::get_if<LeafName>(&g.node(id).attributes);
    const auto it = leaf == nullptr ? feeds.end() : feeds.find(leaf->name);
    return it == feeds.end() || !(Type{it->second.dtype(), it->second.shape()} == g.node(id).type)
               ? nullptr
               : &it->second;
  };
  const Tensor* sequence = fed(g.rows()->sequence);
  if (sequence == nullptr) return;
  const Tensor* keys = fed(g.rows()->keys);
  // No sequence is empty, so there are no more of them than rows or lines of the key table.
  const std::int64_t count = keys != nullptr ? keys->dim(0) : sequence->numel();
  const std::vector<std::int64_t> of_row = sequence->to_vector<std::int64_t>();
  for (std::size_t r = 0; r < of_row.size(); ++r) {
    if (of_row[r] >= 0 && of_row[r] < count) continue;
    throw GraphError(fmt::format(
        "the input '{}' says that row {} belongs to sequence {}; there are sequences 0 to {}",
        std::get<LeafName>(g.node(g.rows()->sequence).attributes).name, r, of_row[r], count - 1));
  }
}

std::vector<std::int64_t> sequence_lengths(const Graph& g, const Feeds& feeds) {
  std::vector<std::int64_t> lengths;
  if (!g.rows()) return lengths;
  const auto it = feeds.find(std::get<LeafName>(g.node(g.rows()->sequence).attributes).name);
  if (it == feeds.end()) return lengths;
  for (const auto s : it->second.to_vector<std::int64_t>()) {
    if (s >= static_cast<std::int64_t>(lengths.size()))
      lengths.resize(static_cast<std::size_t>(s) + 1, 0);
    ++lengths[static_cast<std::size_t>(s)];
  }
  return lengths;
}

}  // namespace vitrine

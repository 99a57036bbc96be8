// The fetched values of a run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/site.h"
#include "tensor/tensor.h"

namespace vitrine {

// Fetched values by name. Packed rows come back unpacked, in TransformerLens shapes:
// [batch, position, ...], and [batch, head, query, key] for patterns.
class Results {
 public:
  // Throws GraphError for what was not fetched, ShapeError when the prompts of the batch differ in
  // length (see sequence).
  Tensor operator[](const Site& site) const { return at(site.name); }
  Tensor operator[](std::string_view name) const { return at(name); }
  Tensor at(std::string_view name) const;
  Tensor grad(const Site& site) const { return at(grad_name(site.name)); }
  Tensor grad(std::string_view leaf) const { return at(grad_name(leaf)); }
  double scalar(std::string_view name) const { return at(name).item<double>(); }
  // The part of prompt i alone: [1, its length, ...].
  Tensor sequence(std::string_view name, int i) const;
  // The same two over the run's own memory, whatever the order of their elements there: nothing is copied.
  Tensor view(std::string_view name) const;
  Tensor view(std::string_view name, int sequence) const;
  Tensor raw(std::string_view name) const;  // as the graph has it: packed rows

  // What the axes of raw(name) mean; for what is no site, as far as that is known.
  const Axes& axes(std::string_view name) const { return entry(name).axes; }

  bool contains(std::string_view name) const { return values_.contains(name); }
  std::vector<std::string> names() const;
  int sequences() const { return static_cast<int>(lengths_.size()); }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }

 private:
  friend class Plan;
  struct Entry {
    Tensor tensor;
    Axes axes;
  };
  const Entry& entry(std::string_view name) const;
  std::map<std::string, Entry, std::less<>> values_;
  std::vector<std::int64_t>
      lengths_;  // of the batch's prompts, in packed order; empty: no row table
};

}  // namespace vitrine

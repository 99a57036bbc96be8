// Unpacks the packed rows of a ragged batch into [batch, position, ...].
#include "autograd/graph/results.h"

#include <fmt/format.h>

#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine {
namespace {

int find_axis(const Axes& axes, Axis wanted) {
  for (std::size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] == wanted) return static_cast<int>(i);
  }
  return -1;
}

// [rows, ...] of `batch` prompts of `length` rows each -> [batch, position, ...]; with a key axis
// the query position moves before it: [batch, head, query, key].
Tensor unpack(const Tensor& packed, const Axes& axes, std::int64_t batch, std::int64_t length) {
  const int row = find_axis(axes, Axis::row), key = find_axis(axes, Axis::key);
  Shape shape = packed.shape();
  shape[row] = length;
  shape.insert(row, batch);
  Tensor out = packed.reshape(shape);
  if (key >= 0) {
    Dims order;
    for (int a = 0; a < shape.size(); ++a) {
      if (a == row + 1) continue;                  // the query position ...
      if (a == key + 1) order.push_back(row + 1);  // ... goes right before the keys
      order.push_back(a);
    }
    out = out.permute(order);
  }
  return out;
}

}  // namespace

const Results::Entry& Results::entry(std::string_view name) const {
  const auto it = values_.find(name);
  if (it != values_.end()) return it->second;
  const auto known = names();
  throw GraphError(fmt::format("'{}' was not fetched{}; ask for it when compiling or running", name,
                               did_you_mean(nearest(name, known))));
}

Tensor Results::raw(std::string_view name) const { return entry(name).tensor; }

Tensor Results::at(std::string_view name) const { return view(name).contiguous(); }

Tensor Results::sequence(std::string_view name, int i) const { return view(name, i).contiguous(); }

Tensor Results::view(std::string_view name) const {
  const Entry& e = entry(name);
  if (lengths_.empty() || find_axis(e.axes, Axis::row) < 0) return e.tensor;
  for (const std::int64_t n : lengths_) {
    if (n == lengths_[0]) continue;
    throw ShapeError(fmt::format(
        "'{}' is of a batch of prompts of different lengths ({}): it has no [batch, position] "
        "shape; take one prompt at a time with sequence(name, i)",
        name, fmt::join(lengths_, ", ")));
  }
  return unpack(e.tensor, e.axes, sequences(), lengths_[0]);
}

Tensor Results::view(std::string_view name, int i) const {
  const Entry& e = entry(name);
  if (i < 0 || i >= sequences()) {
    throw ShapeError(fmt::format("there is no prompt {}: the batch has {}", i, sequences()));
  }
  const int row = find_axis(e.axes, Axis::row), key = find_axis(e.axes, Axis::key);
  if (row < 0) return e.tensor;
  std::int64_t first = 0;
  for (int k = 0; k < i; ++k) first += lengths_[static_cast<std::size_t>(k)];
  const std::int64_t length = lengths_[static_cast<std::size_t>(i)];
  Tensor part = e.tensor.slice(row, first, first + length);
  if (key >= 0) part = part.slice(key, 0, std::min(length, part.dim(key)));
  return unpack(part, e.axes, 1, length);
}

std::vector<std::string> Results::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : values_) names.push_back(name);
  return names;
}

}  // namespace vitrine

#include "interp/circuits/run_values.h"

#include <algorithm>
#include <numeric>

namespace vitrine::interp {
namespace {

template <class T>
void fill_cuts(std::span<const EdgeMask> cuts, std::size_t receivers, std::size_t senders, T* to) {
  for (std::size_t w = 0; w < cuts.size(); ++w) {
    for (const StreamEdge& e : cuts[w].edges())
      to[(w * receivers + e.receiver) * senders + e.sender] = 1;
  }
}

template <class T>
Tensor difference_of(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  Tensor d = Tensor::empty(a.shape(), a.dtype());
  for (std::int64_t i = 0; i < a.numel(); ++i)
    d.data<T>()[i] = x.data<T>()[i] - y.data<T>()[i];
  return d;
}

}  // namespace

Tensor difference(const Tensor& a, const Tensor& b) {
  return a.dtype() == DType::f64 ? difference_of<double>(a, b) : difference_of<float>(a, b);
}

Tensor on_the_way(const Tensor& a, const Tensor& b, std::span<const double> weights) {
  const auto x = a.to_vector<double>(), y = b.to_vector<double>();
  std::vector<double> values;
  values.reserve(x.size() * weights.size());
  for (const double w : weights) {
    for (std::size_t i = 0; i < x.size(); ++i) values.push_back(y[i] + w * (x[i] - y[i]));
  }
  Shape shape = a.shape();
  shape[0] *= std::ssize(weights);
  return Tensor::of(shape, values).to(a.dtype());
}

Tensor cut_feed(std::span<const EdgeMask> cuts, const EdgeGrid& grid, DType dtype) {
  const std::size_t r = grid.receivers.size(), s = grid.senders.size();
  Tensor feed = Tensor::zeros(
      {std::ssize(cuts), static_cast<std::int64_t>(r), static_cast<std::int64_t>(s)}, dtype);
  if (dtype == DType::f64) fill_cuts(cuts, r, s, feed.data<double>());
  else fill_cuts(cuts, r, s, feed.data<float>());
  return feed;
}

Tensor rows_again(std::int64_t rows, std::int64_t times) {
  Tensor t = Tensor::empty({rows * times}, DType::i32);
  for (std::int64_t i = 0; i < rows * times; ++i)
    t.data<std::int32_t>()[i] = static_cast<std::int32_t>(i % rows);
  return t;
}

double mean_of(std::span<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0) /
         static_cast<double>(std::max<std::size_t>(1, x.size()));
}

}  // namespace vitrine::interp

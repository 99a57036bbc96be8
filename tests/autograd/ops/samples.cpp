#include "tests/autograd/ops/samples.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <numeric>

#include "autograd/ops/op_table.h"
#include "tensor/random.h"

namespace vitrine::test {
namespace {

random::Key key_of(const std::string& name, const Shape& shape) {
  return random::Key{20}.fold(name).fold(to_string(shape));
}

// A leaf whose element i is f(key, i).
template <class F>
Leaf drawn(const std::string& name, const Shape& shape, const F& f) {
  const random::Key key = key_of(name, shape);
  std::vector<double> values(static_cast<std::size_t>(numel(shape)));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = f(key, i);
  return {name, Tensor::of<double>(shape, values)};
}

}  // namespace

std::vector<Sample> all_samples() {
  std::vector<Sample> all;
  for (auto* family :
       {leaf_samples, elementwise_samples, shape_samples, reduce_samples, row_samples,
        product_samples, gather_samples, attention_samples, training_samples, sparse_samples}) {
    std::vector<Sample> samples = family();
    std::move(samples.begin(), samples.end(), std::back_inserter(all));
  }
  return all;
}

std::vector<Sample> samples_of(std::string_view op) {
  std::vector<Sample> samples = all_samples();
  std::erase_if(samples, [&](const Sample& s) { return s.op != op; });
  return samples;
}

bool has_float_leaf(const Sample& sample) {
  return std::any_of(sample.leaves.begin(), sample.leaves.end(),
                     [](const Leaf& leaf) { return leaf.value.dtype() == DType::f64; });
}

void for_each_sample(std::string_view op, const std::function<void(const Sample&)>& f) {
  for (const Sample& sample : samples_of(op)) {
    SCOPED_TRACE("sample " + sample.op + "." + sample.name);
    try {
      f(sample);
    } catch (const std::exception& e) {
      ADD_FAILURE() << e.what();
    }
  }
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpDef* op : all_ops()) names.emplace_back(op->name);
  return names;
}
std::vector<std::string> composite_names() {
  std::vector<std::string> names = op_names();
  std::erase_if(names, [](const std::string& name) { return find_op(name)->expand == nullptr; });
  return names;
}

Leaf normal(const std::string& name, const Shape& shape, double scale) {
  return drawn(name, shape,
               [&](random::Key key, std::size_t i) { return scale * random::normal(key, i); });
}
Leaf positive(const std::string& name, const Shape& shape) {
  return drawn(name, shape,
               [](random::Key key, std::size_t i) { return 0.4 + 1.5 * random::uniform(key, i); });
}
Leaf off_zero(const std::string& name, const Shape& shape) {
  return drawn(name, shape, [](random::Key key, std::size_t i) {
    const double size = 0.4 + 1.5 * random::uniform(key, 2 * i);
    return random::uniform(key, 2 * i + 1) < 0.5 ? size : -size;
  });
}
Leaf spaced(const std::string& name, const Shape& shape, double shift) {
  const random::Key key = key_of(name, shape);
  std::vector<std::int64_t> order(static_cast<std::size_t>(numel(shape)));
  std::iota(order.begin(), order.end(), -static_cast<std::int64_t>(order.size()) / 2);
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1],
              order[static_cast<std::size_t>(random::below(key, i, static_cast<std::int64_t>(i)))]);
  }
  return drawn(name, shape, [&](random::Key, std::size_t i) {
    return 0.3 * static_cast<double>(order[i]) + shift;
  });
}
Leaf ints(const std::string& name, const Shape& shape, const std::vector<std::int32_t>& values) {
  return {name, Tensor::of<std::int32_t>(shape, values)};
}
Leaf longs(const std::string& name, const Shape& shape, const std::vector<std::int64_t>& values) {
  return {name, Tensor::of<std::int64_t>(shape, values)};
}
Leaf truths(const std::string& name, const Shape& shape, const std::vector<bool>& values) {
  Tensor t = Tensor::zeros(shape, DType::boolean);
  std::copy(values.begin(), values.end(), t.data<bool>());
  return {name, t};
}

const std::vector<Viewed>& views() {
  static const std::vector<Viewed> kViews = {
      {"contiguous", {4, 3}, [](const Value& x) { return x; }},
      {"columns_by_2", {4, 7}, [](const Value& x) { return slice(x, -1, 1, 7, 2); }},
      {"rows_by_2", {8, 3}, [](const Value& x) { return slice(x, 0, 1, 8, 2); }},
      {"transposed", {3, 4}, [](const Value& x) { return transpose(x); }},
      {"transposed_by_2", {3, 8}, [](const Value& x) { return slice(transpose(x), -2, 0, 8, 2); }},
      {"repeated_row",
       {1, 3},
       [](const Value& x) {
         return broadcast_to(x, {4, 3});
       }},
      {"repeated_column",
       {4, 1},
       [](const Value& x) {
         return broadcast_to(x, {4, 3});
       }},
      {"repeated_value",
       {},
       [](const Value& x) {
         return broadcast_to(x, {4, 3});
       }},
  };
  return kViews;
}

Case make_case(const Sample& sample, DType dtype) {
  Case c;
  Builder b;
  std::vector<Value> leaves;
  for (const Leaf& leaf : sample.leaves) {
    const Tensor value = leaf.value.dtype() == DType::f64 ? leaf.value.to(dtype) : leaf.value;
    const Type type{value.dtype(), value.shape()};
    leaves.push_back(leaf.parameter ? b.parameter(leaf.name, type) : b.input(leaf.name, type));
    (leaf.parameter ? c.parameters : c.feeds)[leaf.name] = value;
  }
  b.output("y", sample.build(b, leaves));
  c.graph = std::move(b).finish();
  return c;
}

Tensor Case::run(std::string_view output, const RunOptions& options) const {
  return compile(graph, fetch(value(output))).run(feeds, parameters, options).raw(output);
}

Value weighted_sum(const Value& y, DType dtype) {
  const random::Key key = random::Key{21}.fold(to_string(y.shape()));
  std::vector<double> weights(static_cast<std::size_t>(numel(y.shape())));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 2 * random::uniform(key, i) - 1;
  return sum(cast(y, dtype) *
             y.builder().constant(Tensor::of<double>(y.shape(), weights).to(dtype)));
}

Graph with_metric_of(const Graph& graph, std::string_view output, DType dtype) {
  Builder b(graph);
  b.output("metric", weighted_sum(b.output(output), dtype));
  return std::move(b).finish();
}

int count_ops(const Graph& graph, std::string_view op) {
  return static_cast<int>(std::count_if(graph.nodes().begin(), graph.nodes().end(),
                                        [&](const Node& n) { return n.op->name == op; }));
}

}  // namespace vitrine::test

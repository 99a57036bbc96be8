// Samples of every op: small graphs on fixed inputs, on which gradients, expansions, reach rules
// and threads are checked.
//
// A new op needs a list of samples here (in the samples_*.cpp of its family); ops/op_table_test.cpp
// fails without one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/compile/plan.h"
#include "autograd/ops/ops.h"

namespace vitrine::test {

// A leaf of the sample's graph and its value. Floats are f64, and differentiated; the other types
// are fixed.
struct Leaf {
  std::string name;
  Tensor value;
  bool parameter = false;
};

struct Sample {
  std::string op, name;  // "softmax", "transposed"
  std::vector<Leaf> leaves;
  // Emits the sample for the leaves in their order. Must work for f32 leaves too.
  std::function<Value(Builder&, const std::vector<Value>&)> build;
  double step = 1e-5;           // of central differences, times max(1, |x|)
  bool stops_gradient = false;  // 0 by definition, whatever the values do
  // Of gradients, times max(1, max |gradient|). Differences err by step^2 |f'''| / 6 = 2e-11 |f'''|
  // (truncation) and 2e-16 |f| / step = 2e-11 |f| (rounding); normalised rows have large third
  // derivatives.
  double tolerance = 2e-8;
};

std::vector<Sample> all_samples();
std::vector<Sample> samples_of(std::string_view op);
bool has_float_leaf(const Sample& sample);
// Calls f with every sample of an op. What fails or throws inside is reported under the sample's
// name.
void for_each_sample(std::string_view op, const std::function<void(const Sample&)>& f);

std::vector<std::string> op_names();         // of the whole table
std::vector<std::string> composite_names();  // of the ops with an expansion

// One list per family of ops, in the order of op_table.cpp.
std::vector<Sample> leaf_samples();
std::vector<Sample> elementwise_samples();
std::vector<Sample> shape_samples();
std::vector<Sample> reduce_samples();
std::vector<Sample> row_samples();
std::vector<Sample> product_samples();
std::vector<Sample> gather_samples();
std::vector<Sample> attention_samples();
std::vector<Sample> training_samples();
std::vector<Sample> sparse_samples();

// ---- inputs: a pure function of name and shape --------------------------------------------------
Leaf normal(const std::string& name, const Shape& shape, double scale = 1);
Leaf positive(const std::string& name, const Shape& shape);  // in [0.4, 1.9)
Leaf off_zero(const std::string& name, const Shape& shape);  // |x| in [0.4, 1.9), both signs
// Multiples of 0.3 plus `shift`, each once, shuffled: no two are close, so no maximum is near a
// tie.
Leaf spaced(const std::string& name, const Shape& shape, double shift = 0);
Leaf ints(const std::string& name, const Shape& shape, const std::vector<std::int32_t>& values);
Leaf longs(const std::string& name, const Shape& shape, const std::vector<std::int64_t>& values);
Leaf truths(const std::string& name, const Shape& shape, const std::vector<bool>& values);

// The layouts that a kernel can meet. Each looks at a leaf of shape `leaf` as [4, 3].
struct Viewed {
  std::string name;
  Shape leaf;
  Value (*view)(const Value& leaf);
};
const std::vector<Viewed>& views();

// ---- running a sample --------------------------------------------------------------------------
struct Case {
  Graph graph;  // output "y"
  Feeds feeds;
  Parameters parameters;
  Tensor run(std::string_view output, const RunOptions& options = {}) const;
};
Case make_case(const Sample& sample, DType dtype = DType::f64);

// sum(weights * y) as a `dtype` scalar, weights fixed and random in [-1, 1).
Value weighted_sum(const Value& y, DType dtype);
// Adds the output "metric": the weighted sum of `output`.
Graph with_metric_of(const Graph& graph, std::string_view output, DType dtype);
int count_ops(const Graph& graph, std::string_view op);

}  // namespace vitrine::test

#include "sae/training_plans.h"

#include <limits>

#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"

namespace vitrine::sae {
namespace {

std::string next_name(const std::string& leaf) { return leaf + ".next"; }

// Dense steps hold [rows, d_sae] matrices: so many rows at a time that these stay small.
std::int64_t dense_rows(const SaeTrainingRules& r) {
  constexpr std::int64_t kElements = 24 << 20;  // 96 MB of f32
  // Of a pursuit, [rows, steps, d_in].
  const std::int64_t width =
      r.kind == Kind::matching_pursuit ? static_cast<std::int64_t>(r.k) * r.d_in : r.all_features();
  std::int64_t rows = r.batch;
  while (rows % 2 == 0 && rows * width > kElements) rows /= 2;
  return rows;
}
}  // namespace

std::int64_t rows_of(const SaeTrainingRules& r, const FeatureView& view) {
  return view.capacity == 0 ? dense_rows(r) : r.batch;
}

LeafSet all_weights(const SaeTrainingRules& r) {
  std::string names;
  for (const auto& [name, shape] : trained_shapes(r)) names += (names.empty() ? "" : ",") + name;
  return leaves(names);
}

namespace {

// What a step measures of features, besides its losses.
void measure_features(Builder& b, const SaeTrainingRules& r, const FeatureView& view,
                      const SaeLoss& loss) {
  const Value zero = b.scalar(0, DType::f32),
              infinity = b.scalar(std::numeric_limits<double>::infinity(), DType::f32);
  Value active = zero, most = zero, overflow = zero;
  std::vector<Value> fires, smallest;
  for (std::size_t i = 0; i < loss.codes.size(); ++i) {
    const FeatureCodes& codes = loss.codes[i];
    const bool table = codes.index.defined();
    const Value on = cast(codes.active, DType::f32), per_sample = sum(on, {1});
    active = active + sum(per_sample);
    most = maximum(most, max(per_sample, {0}));
    fires.push_back(table ? scatter_add_rows(on, codes.index, r.d_sae) : sum(on, {0}));
    if (may_overflow(r, view)) {  // samples whose row of the table is full may have lost features
      const Value last = slice(codes.index, 1, view.capacity - 1, view.capacity);
      overflow = overflow + sum(cast(logical_not(less(cast(last, DType::f32), zero)), DType::f32));
    }
    const Value positive = less(zero, codes.features);
    smallest.push_back(
        reshape(neg(max(neg(select(positive, codes.features, infinity)), {0, 1})), {1}));
    const auto number = static_cast<std::int64_t>(i);
    b.output(weight_name(r, number, "features"), codes.features);
    if (table) b.output(weight_name(r, number, "index"), codes.index);
  }
  b.output("active", active);
  b.output("most_active", most);
  b.output("fires", fires.size() == 1 ? fires[0] : concat(fires, 0));
  b.output("overflow", overflow);
  b.output("smallest", smallest.size() == 1 ? smallest[0] : concat(smallest, 0));
}

}  // namespace

void emit_reports(Builder& b, const SaeTrainingRules& r, const FeatureView& view,
                  const SaeLoss& loss, const Value& target) {
  for (const auto& [name, part] : loss.parts) b.output("part." + name, part);
  measure_features(b, r, view, loss);
  const Value squares = square(loss.reconstruction - target);
  b.output("errors", sum(reshape(squares, {target.dim(0), r.dictionaries(), r.out_width()}), {2}));
  b.output("reconstruction", loss.reconstruction);
}

Graph losses_with_gradients(const SaeTrainingRules& r, const FeatureView& view) {
  Builder b;
  const std::int64_t rows = rows_of(r, view);
  const SaeLoss loss = emit_loss(b, r, view, rows, r.batch);
  b.output("loss", loss.total);
  emit_reports(b, r, view, loss,
               r.transcoder ? b.input("y", {DType::f32, {rows, r.all_outputs()}})
                            : b.input("x", {DType::f32, {rows, r.all_inputs()}}));
  return gradient(std::move(b).finish(), "loss", all_weights(r));
}

Fetch reported(const Graph& graph) {
  Fetch f;
  for (const char* name :
       {"loss", "active", "most_active", "fires", "errors", "overflow", "smallest"})
    f.wants.push_back(value(name));
  for (const auto& [name, node] : graph.outputs()) {
    if (name.starts_with("part.")) f.wants.push_back(value(name));
  }
  return f;
}

namespace {

bool is_weight(const std::string& name, const std::string& weight) {
  return name == weight || name.ends_with("." + weight);
}

// The part of a decoder's gradient along its rows changes nothing when rows keep norm 1.
Value for_unit_norm(const SaeTrainingRules& r, const std::string& name, const Value& g,
                    const Value& weight) {
  if (!r.unit_norm || !is_weight(name, "W_dec")) return g;
  const Value along =
      sum(g * weight, {1}, true) /
      maximum(sum(square(weight), {1}, true), weight.builder().scalar(1e-30, DType::f32));
  return g - along * weight;
}

// Moves all weights by Adam; `gradient_of(name)` is what they are moved by. Emits grad_norm.
template <class F>
Updates move_weights(Builder& b, const SaeTrainingRules& r, const Value& loss,
                     const Value& overflow, const F& gradient_of) {
  const auto number = [&](double x) { return b.scalar(x, DType::f32); };
  std::map<std::string, Value> gradients;
  Value squares;
  for (const auto& [name, shape] : trained_shapes(r)) {
    const Value weight = b.parameter(name, {DType::f32, shape});
    gradients[name] = for_unit_norm(r, name, gradient_of(name, shape), weight);
    const Value s = sum_squares(gradients[name]);
    squares = squares.defined() ? squares + s : s;
  }
  const Value norm = sqrt(squares);
  b.output("grad_norm", norm);
  const Value limit = number(std::numeric_limits<double>::infinity());
  Value fine = less(norm, limit);
  if (loss.defined()) fine = logical_and(fine, less(abs(loss), limit));
  if (overflow.defined()) fine = logical_and(fine, less(overflow, number(0.5)));
  const Value clip = r.clip > 0 ? minimum(number(1), r.clip / (norm + 1e-6)) : number(1);
  // Not a number: adamw leaves everything as it is.
  const Value factor = select(fine, clip, number(std::numeric_limits<double>::quiet_NaN()));
  const Value settings = b.input("adam.settings", {DType::f64, {3}});
  Updates updates;
  for (const auto& [name, shape] : trained_shapes(r)) {
    const std::int64_t n = numel(shape);
    const Value state = b.parameter(state_name(name), {DType::f32, {3, n}});
    Value next = adamw(state, gradients[name], factor, settings, {r.beta1, r.beta2, r.eps, 0});
    if (is_weight(name, "threshold")) {
      const Value clamped = maximum(slice(next, 0, 0, 1), number(0));
      next = concat({clamped, slice(next, 0, 1, 3)}, 0);
    }
    if (r.unit_norm && is_weight(name, "W_dec")) {
      const Value w = reshape(slice(next, 0, 0, 1), shape);
      const Value unit = w / maximum(sqrt(sum(square(w), {1}, true)), number(1e-30));
      next = select(fine, concat({reshape(unit, {1, n}), slice(next, 0, 1, 3)}, 0), next);
    }
    b.output(updates[state_name(name)] = next_name(state_name(name)), next);
  }
  return updates;
}

Plan finish(Builder& b, const std::vector<std::string>& more, const Updates& updates) {
  const Graph graph = std::move(b).finish();
  Fetch f = reported(graph);
  for (const std::string& name : more) f.wants.push_back(value(name));
  return compile(graph, f, updates);
}

}  // namespace

Plan compile_step(const SaeTrainingRules& r, const FeatureView& view) {
  return compile_step(r, losses_with_gradients(r, view));
}

Plan compile_step(const SaeTrainingRules& r, const Graph& losses) {
  Builder b(losses);
  const Updates updates = move_weights(
      b, r, b.output("loss"), b.output("overflow"),
      [&](const std::string& name, const Shape&) { return b.output(grad_name(name)); });
  return finish(b, {"grad_norm"}, updates);
}

Plan compile_part(const SaeTrainingRules& r, const FeatureView& view, bool first) {
  Builder b(losses_with_gradients(r, view));
  Updates updates;
  for (const auto& [name, shape] : trained_shapes(r)) {
    const Value sum = b.parameter(sum_name(name), {DType::f32, shape});
    const Value gradient = b.output(grad_name(name));
    b.output(updates[sum_name(name)] = next_name(sum_name(name)),
             first ? gradient : sum + gradient);
  }
  return finish(b, {}, updates);
}

Plan compile_application(const SaeTrainingRules& r) {
  Builder b;
  const Updates updates =
      move_weights(b, r, Value(), Value(), [&](const std::string& name, const Shape& shape) {
        return b.parameter(sum_name(name), {DType::f32, shape});
      });
  return compile(std::move(b).finish(), fetch(value("grad_norm")), updates);
}

}  // namespace vitrine::sae

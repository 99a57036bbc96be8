// vitrine.ops: the ops as functions of Values. What each computes is in the docstring that the op table has.
#include "autograd/ops/ops.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <variant>

#include "apps/python/arrays.h"
#include "apps/python/values.h"
#include "autograd/ops/op_table.h"
#include "tensor/error.h"

namespace vitrine::python {
namespace {

using namespace nb::literals;
using V = ValueHandle;
using Ints = std::vector<std::int64_t>;
using AxesOf = std::variant<std::int64_t, Ints>;  // one, or several

// The formula that the op's row states; the text lives as long as the program.
const char* doc_of(std::string_view name, const char* otherwise) {
  for (const OpDef* op : all_ops()) {
    if (op->name == name) return op->doc.data();
  }
  return otherwise;
}

V with(const V& x, const Value& value) { return {x.builder, value}; }

Dims dims(const AxesOf& axes) {
  if (const auto* one = std::get_if<std::int64_t>(&axes)) return {*one};
  return to_shape(std::get<Ints>(axes));
}

template <Value (*op)(const Value&, SourceLine)>
void unary(nb::module_& m, const char* name, const char* doc = "") {
  m.def(
      name, [](const V& x) { return with(x, op(x.live(), python_line())); }, "x"_a,
      doc_of(name, doc));
}

template <Value (*op)(const Value&, const Value&, SourceLine)>
void binary(nb::module_& m, const char* name, const char* first = "a", const char* second = "b") {
  m.def(
      name,
      [](nb::handle a, nb::handle b) {
        V* left = nullptr;
        V* right = nullptr;
        if (nb::try_cast(a, left) && left != nullptr)
          return with(*left, op(left->live(), operand(b, *left), python_line()));
        right = nb::cast<V*>(b);
        return with(*right, op(operand(a, *right), right->live(), python_line()));
      },
      nb::arg(first), nb::arg(second), doc_of(name, ""));
}

void add_elementwise(nb::module_& m) {
  unary<&neg>(m, "neg");
  unary<&abs>(m, "abs");
  unary<&sign>(m, "sign");
  unary<&square>(m, "square");
  unary<&sqrt>(m, "sqrt");
  unary<&rsqrt>(m, "rsqrt");
  unary<&reciprocal>(m, "reciprocal");
  unary<&exp>(m, "exp");
  unary<&log>(m, "log");
  unary<&sin>(m, "sin");
  unary<&cos>(m, "cos");
  unary<&tanh>(m, "tanh");
  unary<&erf>(m, "erf");
  unary<&sigmoid>(m, "sigmoid");
  unary<&relu>(m, "relu");
  unary<&silu>(m, "silu");
  unary<&gelu_tanh>(m, "gelu_tanh");
  unary<&gelu_erf>(m, "gelu_erf");
  unary<&logical_not>(m, "logical_not");
  unary<&detach>(m, "detach");
  unary<&identity>(m, "identity");
  unary<&widen>(m, "widen", "A stored weight (f16, bf16, blocks) as f32, exactly.");
  unary<&softmax>(m, "softmax");
  unary<&log_softmax>(m, "log_softmax");
  unary<&argmax>(m, "argmax");
  unary<&transpose>(m, "transpose", "The last two axes exchanged.");
  unary<&sum_squares>(m, "sum_squares");
  binary<&add>(m, "add");
  binary<&sub>(m, "sub");
  binary<&mul>(m, "mul");
  binary<&div>(m, "div");
  binary<&maximum>(m, "maximum");
  binary<&minimum>(m, "minimum");
  binary<&equal>(m, "equal");
  binary<&less>(m, "less");
  binary<&less_equal>(m, "less_equal");
  binary<&logical_and>(m, "logical_and");
  binary<&logical_or>(m, "logical_or");
  m.def(
      "softcap",
      [](const V& x, double cap) { return with(x, softcap(x.live(), cap, python_line())); }, "x"_a,
      "cap"_a, doc_of("softcap", ""));
  m.def(
      "select",
      [](const V& mask, nb::handle a, nb::handle b) {
        V* one = nullptr;
        if (!nb::try_cast(a, one) || one == nullptr) one = nb::cast<V*>(b);
        return with(mask, select(mask.live(), operand(a, *one), operand(b, *one), python_line()));
      },
      "mask"_a, "a"_a, "b"_a, doc_of("select", ""));
}

void add_shapes(nb::module_& m) {
  m.def(
      "reshape",
      [](const V& x, const Ints& shape) {
        return with(x, reshape(x.live(), to_shape(shape), python_line()));
      },
      "x"_a, "shape"_a, doc_of("reshape", ""));
  m.def(
      "permute",
      [](const V& x, const Ints& axes) {
        return with(x, permute(x.live(), to_shape(axes), python_line()));
      },
      "x"_a, "axes"_a, doc_of("permute", ""));
  m.def(
      "broadcast_to",
      [](const V& x, const Ints& shape) {
        return with(x, broadcast_to(x.live(), to_shape(shape), python_line()));
      },
      "x"_a, "shape"_a, doc_of("broadcast_to", ""));
  m.def(
      "slice",
      [](const V& x, int axis, std::int64_t start, std::int64_t stop, std::int64_t step) {
        return with(x, slice(x.live(), axis, start, stop, step, python_line()));
      },
      "x"_a, "axis"_a, "start"_a, "stop"_a, "step"_a = 1, doc_of("slice", ""));
  m.def(
      "unslice",
      [](const V& x, int axis, std::int64_t start, std::int64_t step, std::int64_t size) {
        return with(x, unslice(x.live(), axis, start, step, size, python_line()));
      },
      "x"_a, "axis"_a, "start"_a, "step"_a, "size"_a, doc_of("unslice", ""));
  m.def(
      "concat",
      [](const std::vector<V>& parts, int axis) {
        if (parts.empty()) throw ShapeError("concat of nothing: give at least one Value");
        std::vector<Value> values;
        for (const V& p : parts) values.push_back(p.live());
        return with(parts[0], concat(values, axis, python_line()));
      },
      "parts"_a, "axis"_a, doc_of("concat", ""));
  m.def(
      "cast",
      [](const V& x, nb::handle dtype) {
        return with(x, cast(x.live(), dtype_of(dtype), python_line()));
      },
      "x"_a, "dtype"_a, doc_of("cast", ""));
}

template <Value (*some)(const Value&, const Dims&, bool, SourceLine),
          Value (*all)(const Value&, SourceLine)>
void reduction(nb::module_& m, const char* name) {
  m.def(
      name,
      [](const V& x, const std::optional<AxesOf>& axes, bool keepdims) {
        if (axes) return with(x, some(x.live(), dims(*axes), keepdims, python_line()));
        return with(x, all(x.live(), python_line()));
      },
      "x"_a, "axes"_a = nb::none(), "keepdims"_a = false, doc_of(name, ""));
}

void add_reductions(nb::module_& m) {
  reduction<&sum, &sum>(m, "sum");
  reduction<&mean, &mean>(m, "mean");
  m.def(
      "max",
      [](const V& x, const AxesOf& axes, bool keepdims) {
        return with(x, max(x.live(), dims(axes), keepdims, python_line()));
      },
      "x"_a, "axes"_a, "keepdims"_a = false, doc_of("max", ""));
  m.def(
      "layer_norm",
      [](const V& x, const V& gain, const V& bias, double eps, const std::string& prefix) {
        return with(x, layer_norm(x.live(), gain.live(), bias.live(), eps, prefix, python_line()));
      },
      "x"_a, "gain"_a, "bias"_a, "eps"_a, "prefix"_a = "", doc_of("layer_norm", ""));
  m.def(
      "rms_norm",
      [](const V& x, const V& gain, double eps, const std::string& prefix) {
        return with(x, rms_norm(x.live(), gain.live(), eps, prefix, python_line()));
      },
      "x"_a, "gain"_a, "eps"_a, "prefix"_a = "", doc_of("rms_norm", ""));
  m.def(
      "cross_entropy",
      [](const V& logits, const V& targets) {
        return with(logits, cross_entropy(logits.live(), targets.live(), python_line()));
      },
      "logits"_a, "targets"_a,
      "-log softmax(logits)[target], in nats: logits [rows, vocabulary], targets [rows] (integers) "
      "-> [rows].");
  m.def(
      "linear_cross_entropy",
      [](const V& x, const V& w, const V& targets) {
        return with(x, linear_cross_entropy(x.live(), w.live(), targets.live(), python_line()));
      },
      "x"_a, "w"_a, "targets"_a, doc_of("linear_cross_entropy", ""));
}

void add_products(nb::module_& m) {
  binary<&matmul>(m, "matmul");
  m.def(
      "linear",
      [](const V& x, const V& w, const V& bias) {
        return with(x, linear(x.live(), w.live(), bias.live(), python_line()));
      },
      "x"_a, "w"_a, "bias"_a, doc_of("linear", ""));
  binary<&gather_rows>(m, "gather_rows", "table", "index");
  m.def(
      "scatter_add_rows",
      [](const V& x, const V& index, std::int64_t rows) {
        return with(x, scatter_add_rows(x.live(), index.live(), rows, python_line()));
      },
      "x"_a, "index"_a, "rows"_a, doc_of("scatter_add_rows", ""));
  binary<&pick>(m, "pick", "x", "index");
  m.def(
      "top_mask",
      [](const V& x, std::int64_t k) { return with(x, top_mask(x.live(), k, python_line())); },
      "x"_a, "k"_a, doc_of("top_mask", ""));
  m.def(
      "dropout",
      [](const V& x, const V& key, double rate, std::int64_t stream) {
        return with(x, dropout(x.live(), key.live(), rate, stream, python_line()));
      },
      "x"_a, "key"_a, "rate"_a, "stream"_a, doc_of("dropout", ""));
}

void add_attention(nb::module_& m) {
  m.def(
      "mask",
      [](const V& scores, int query_axis, int key_axis, std::int64_t offset) {
        return with(scores, mask(scores.live(), query_axis, key_axis, offset, python_line()));
      },
      "scores"_a, "query_axis"_a, "key_axis"_a, "offset"_a = 0, doc_of("mask", ""));
  m.def(
      "attention",
      [](const V& q, const V& k, const V& v, const V& sequence, const V& position, const V& keys,
         double scale, std::int64_t offset, std::int64_t window, double cap,
         const std::string& prefix) {
        const AttentionOptions options{
            .scale = scale, .offset = offset, .window = window, .softcap = cap};
        return with(q, attention(q.live(), k.live(), v.live(),
                                 {sequence.live(), position.live(), keys.live()}, options, prefix,
                                 python_line()));
      },
      "q"_a, "k"_a, "v"_a, "sequence"_a, "position"_a, "keys"_a, nb::kw_only(), "scale"_a,
      "offset"_a = 0, "window"_a = 0, "softcap"_a = 0.0, "prefix"_a = "", doc_of("attention", ""));
}

}  // namespace

void add_ops(nb::module_& m) {
  nb::module_ ops = m.def_submodule(
      "ops",
      "The ops: functions of Values, which emit nodes. Binary ops broadcast as NumPy's do; every "
      "one "
      "raises ShapeError when shapes do not fit, naming the op, the shapes and the caller's line.");
  add_elementwise(ops);
  add_shapes(ops);
  add_reductions(ops);
  add_products(ops);
  add_attention(ops);
}

}  // namespace vitrine::python

#include "apps/python/values.h"

#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <set>
#include <string>

#include "apps/python/arrays.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"

namespace vitrine::python {

using namespace nb::literals;

std::shared_ptr<BuilderHandle> BuilderHandle::make(const Graph* from) {
  auto handle = std::make_shared<BuilderHandle>();
  handle->own_ = from == nullptr ? std::make_unique<Builder>() : std::make_unique<Builder>(*from);
  handle->live_ = handle->own_.get();
  return handle;
}

std::shared_ptr<BuilderHandle> BuilderHandle::lend(Builder& builder) {
  auto handle = std::make_shared<BuilderHandle>();
  handle->live_ = &builder;
  return handle;
}

Builder& BuilderHandle::live() const {
  if (live_ != nullptr) return *live_;
  throw GraphError(
      "this value is of a graph that is finished: values are handles on a graph that is being "
      "built, and live until "
      "finish() is called, or until the function they were given to returns");
}

Graph BuilderHandle::finish() {
  live();
  if (own_ == nullptr)
    throw GraphError(
        "this graph is finished by the transformation that asked for values; leave out finish()");
  live_ = nullptr;
  const std::unique_ptr<Builder> done = std::move(own_);
  return std::move(*done).finish();
}

Value Lent::taken(const nb::object& given, std::string_view what) const {
  ValueHandle* value = nullptr;
  if (!nb::try_cast(given, value) || value == nullptr) {
    throw GraphError(fmt::format(
        "{} gave {}: it is to return a Value", what,
        given.is_none() ? std::string("nothing") : nb::cast<std::string>(nb::repr(given.type()))));
  }
  if (value->builder != handle)
    throw GraphError(fmt::format("{} gave a value of another graph", what));
  return value->live();
}

SourceLine python_line() {
  // Node::line points at it for as long as there are graphs; files are few.
  static std::set<std::string> files;
  SourceLine line;
  PyFrameObject* frame = PyEval_GetFrame();
  if (frame == nullptr) return SourceLine::here("Python", 0);
  const nb::object code = nb::steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(frame)));
  line.file = files.insert(nb::cast<std::string>(code.attr("co_filename"))).first->c_str();
  line.line = PyFrame_GetLineNumber(frame);
  return line;
}

Shape to_shape(const std::vector<std::int64_t>& axes) {
  return Shape{std::span<const std::int64_t>(axes)};
}

nb::tuple to_tuple(const Shape& shape) {
  nb::list axes;
  for (const std::int64_t n : shape) axes.append(n);
  return nb::tuple(axes);
}

Axes to_axes(const std::vector<std::string>& words) {
  Axes axes;
  for (const std::string& word : words) {
    bool known = false;
    for (const Axis axis : {Axis::batch, Axis::pos, Axis::row, Axis::head, Axis::query, Axis::key,
                            Axis::feature, Axis::other}) {
      if (name_of(axis) != word) continue;
      axes.push_back(axis);
      known = true;
    }
    if (!known)
      throw GraphError(fmt::format(
          "there is no axis '{}': they are batch, pos, row, head, query, key, feature and other",
          word));
  }
  return axes;
}

Value operand(const nb::handle& other, const ValueHandle& beside) {
  ValueHandle* value = nullptr;
  if (nb::try_cast(other, value) && value != nullptr) return value->live();
  double number = 0;
  if (nb::try_cast(other, number))
    return beside.builder->live().scalar(number, beside.value.dtype(), python_line());
  throw ShapeError(
      fmt::format("a Value goes with Values and numbers, not with {}: an array becomes one by "
                  "builder.constant(array)",
                  nb::cast<std::string>(nb::repr(other.type()))));
}

namespace {

using Binary = Value (*)(const Value&, const Value&, SourceLine);

template <Binary op>
void operators(nb::class_<ValueHandle>& c, const char* plain, const char* reflected) {
  c.def(plain, [](const ValueHandle& a, nb::handle b) {
    return ValueHandle{a.builder, op(a.live(), operand(b, a), python_line())};
  });
  c.def(reflected, [](const ValueHandle& a, nb::handle b) {
    return ValueHandle{a.builder, op(operand(b, a), a.live(), python_line())};
  });
}

using Handle = std::shared_ptr<BuilderHandle>;

Type type_of(const nb::handle& dtype, const std::vector<std::int64_t>& shape) {
  return {dtype_of(dtype), to_shape(shape)};
}

void add_builder(nb::module_& m) {
  nb::class_<BuilderHandle>(
      m, "Builder",
      "Emits the nodes of a graph, whose shapes are inferred as they are emitted, so that an error "
      "points at the line of Python.\n\n"
      ">>> b = vitrine.Builder()\n"
      ">>> x = b.input('x', (4, 3))\n"
      ">>> b.output('y', vitrine.ops.relu(x @ b.parameter('w', (3, 2))))\n"
      ">>> graph = b.finish()")
      .def(nb::new_([](const Graph* graph) { return BuilderHandle::make(graph); }),
           "graph"_a = nb::none(), "A new graph, or one that goes on from `graph`.")
      .def(
          "input",
          [](const Handle& b, const std::string& name, const std::vector<std::int64_t>& shape,
             nb::handle dtype) {
            return ValueHandle{b, b->live().input(name, type_of(dtype, shape), python_line())};
          },
          "name"_a, "shape"_a, "dtype"_a = "float32",
          "A leaf that every run is fed. The same name and type twice is the same leaf; raises "
          "GraphError for another type.")
      .def(
          "parameter",
          [](const Handle& b, const std::string& name, const std::vector<std::int64_t>& shape,
             nb::handle dtype) {
            return ValueHandle{b, b->live().parameter(name, type_of(dtype, shape), python_line())};
          },
          "name"_a, "shape"_a, "dtype"_a = "float32",
          "A leaf that is a weight. Raises GraphError as input does.")
      .def(
          "constant",
          [](const Handle& b, nb::handle array, nb::handle dtype) {
            const Tensor value =
                dtype.is_none() ? to_tensor(array) : to_tensor(array, dtype_of(dtype));
            return ValueHandle{b, b->live().constant(value.clone(), python_line())};
          },
          "array"_a, "dtype"_a = nb::none(),
          "A copy of the array, which becomes part of the graph.")
      .def(
          "scalar",
          [](const Handle& b, double value, nb::handle dtype) {
            return ValueHandle{b, b->live().scalar(value, dtype_of(dtype), python_line())};
          },
          "value"_a, "dtype"_a = "float32")
      .def(
          "site",
          [](const Handle& b, const std::string& name, const ValueHandle& value,
             const std::vector<std::string>& axes) {
            return ValueHandle{b, b->live().site(name, value.live(), to_axes(axes), python_line())};
          },
          "name"_a, "value"_a, "axes"_a,
          "Names a value, so that it can be fetched, edited and differentiated; gives the value "
          "that flows on. `axes` say what "
          "its axes mean: batch, pos, row, head, query, key, feature, other.")
      .def(
          "output",
          [](const Handle& b, const std::string& name, const ValueHandle& value) {
            b->live().output(name, value.live());
          },
          "name"_a, "value"_a, "Makes a value fetchable by name; replaces an output of that name.")
      .def(
          "rows",
          [](const Handle& b, const ValueHandle& sequence, const ValueHandle& position,
             const ValueHandle& keys) {
            b->live().rows(sequence.live(), position.live(), keys.live());
          },
          "sequence"_a, "position"_a, "keys"_a,
          "States the row table of a ragged batch: int32 [rows], [rows], [sequences, positions].")
      .def(
          "get_output",
          [](const Handle& b, const std::string& name) {
            return ValueHandle{b, b->live().output(name)};
          },
          "name"_a,
          "The value of an output. Raises GraphError, listing the names, when there is none.")
      .def(
          "at",
          [](const Handle& b, const std::string& site) {
            return ValueHandle{b, b->live().at(Site{site})};
          },
          "site"_a,
          "The value that flows on from a site. Raises SiteError, with the nearest names.")
      .def(
          "weight",
          [](const Handle& b, const std::string& name) -> std::optional<ValueHandle> {
            const Value w = b->live().weight(name);
            if (!w.defined()) return std::nullopt;
            return ValueHandle{b, w};
          },
          "name"_a,
          "A weight of the model by its name, such as 'blocks.0.attn.W_Q'; None where it has none.")
      .def(
          "finish", [](const Handle& b) { return b->finish(); },
          "The graph: sorted and verified. The builder and its values are dead then.");
}

}  // namespace

void add_values(nb::module_& m) {
  nb::class_<ValueHandle> value(
      m, "Value",
      "A handle on a node of a graph that is being built. + - * / @ and comparisons emit ops, and "
      "so "
      "do the functions of vitrine.ops. Raises GraphError once the graph is finished.");
  value.def_prop_ro("shape", [](const ValueHandle& v) { return to_tuple(v.live().shape()); })
      .def_prop_ro("dtype",
                   [](const ValueHandle& v) { return std::string(name_of(v.live().dtype())); })
      .def_prop_ro("ndim", [](const ValueHandle& v) { return v.live().rank(); })
      .def_prop_ro(
          "builder",
          [](const ValueHandle& v) {
            v.live();
            return v.builder;
          },
          "The builder that it is of.")
      .def_prop_ro(
          "T",
          [](const ValueHandle& v) {
            return ValueHandle{v.builder, transpose(v.live(), python_line())};
          },
          "The last two axes exchanged.")
      .def("__neg__",
           [](const ValueHandle& v) {
             return ValueHandle{v.builder, neg(v.live(), python_line())};
           })
      .def("__matmul__",
           [](const ValueHandle& a, const ValueHandle& b) {
             return ValueHandle{a.builder, matmul(a.live(), b.live(), python_line())};
           })
      .def("__bool__",
           [](const ValueHandle&) -> bool {
             throw GraphError(
                 "a Value has no truth of its own: it is a node of a graph, whose numbers are "
                 "computed when a plan runs; "
                 "use vitrine.ops.select(mask, a, b)");
           })
      .def("__getitem__",
           [](const ValueHandle& v, std::int64_t) -> ValueHandle {
             v.live();
             throw GraphError(
                 "a Value is not indexed: use vitrine.ops.slice(x, axis, start, stop) or "
                 "gather_rows(x, index)");
           })
      .def("__repr__", [](const ValueHandle& v) {
        v.live();
        return fmt::format("Value({}{})", name_of(v.value.dtype()), to_string(v.value.shape()));
      });
  operators<&add>(value, "__add__", "__radd__");
  operators<&sub>(value, "__sub__", "__rsub__");
  operators<&mul>(value, "__mul__", "__rmul__");
  operators<&div>(value, "__truediv__", "__rtruediv__");
  operators<&less>(value, "__lt__", "__gt__");
  operators<&less_equal>(value, "__le__", "__ge__");
  add_builder(m);
}

}  // namespace vitrine::python

// Builders and their values as Python sees them: a value knows whether its builder is still at work.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string_view>
#include <vector>

#include "autograd/graph/builder.h"

namespace vitrine::python {

namespace nb = nanobind;

// A builder: of Python's own, or one that a transformation lends to a function while that runs.
class BuilderHandle : public std::enable_shared_from_this<BuilderHandle> {
 public:
  static std::shared_ptr<BuilderHandle> make(const Graph* from);
  static std::shared_ptr<BuilderHandle> lend(Builder& builder);

  // Throws GraphError where the graph is finished or the function has returned.
  Builder& live() const;
  Graph finish();
  void end() { live_ = nullptr; }

 private:
  std::unique_ptr<Builder> own_;
  Builder* live_ = nullptr;
};

struct ValueHandle {
  std::shared_ptr<BuilderHandle> builder;
  Value value;
  // Throws as BuilderHandle::live.
  const Value& live() const {
    builder->live();
    return value;
  }
};

// Lends a builder for as long as it lives.
class Lent {
 public:
  explicit Lent(Builder& builder) : handle(BuilderHandle::lend(builder)) {}
  ~Lent() { handle->end(); }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  ValueHandle of(const Value& value) const { return {handle, value}; }
  // The value that a function gave back. Throws GraphError, naming the function, for anything else.
  Value taken(const nb::object& given, std::string_view what) const;

  const std::shared_ptr<BuilderHandle> handle;
};

// The line of Python that called: errors of the graph point at it.
SourceLine python_line();

Shape to_shape(const std::vector<std::int64_t>& axes);
nb::tuple to_tuple(const Shape& shape);
// "batch", "pos", "row", "head", "query", "key", "feature", "other". Throws GraphError for another word.
Axes to_axes(const std::vector<std::string>& words);

// A Value, or a number as a scalar of the other's type.
Value operand(const nb::handle& other, const ValueHandle& beside);

void add_values(nb::module_& m);  // Builder, Value
void add_ops(nb::module_& m);     // vitrine.ops

}  // namespace vitrine::python

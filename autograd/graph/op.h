// OpDef: everything the engine knows about one op, in one row.
//
// The table of all ops is ops/op_table.h. Shape tests, gradient checks, reach tests, the op
// documentation and the benchmarks iterate over it. To add an op: write its row in a file of ops/,
// its function in ops/ops.h, its line in ops/op_table.cpp, its samples in tests/autograd, and perhaps a
// kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "autograd/graph/attributes.h"
#include "autograd/graph/reach.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine {

class Builder;
class Value;
enum class Part;  // graph/parts.h
using Parts = std::vector<Part>;

// The type of a value: what is known before anything runs.
struct Type {
  DType dtype = DType::f32;
  Shape shape;
  friend bool operator==(const Type&, const Type&) = default;
};
std::string to_string(const Type& type);  // "f32[15, 256]"

// What the shape rule sees. It returns the type of the output or throws ShapeError; `infer` in
// graph/builder.cpp adds the op, the shapes, the scope and the line of the model.
struct InferCall {
  std::span<const Type> in;
  const Attributes& attributes;
  template <class A>
  const A& as() const {
    return std::get<A>(attributes);
  }
};

struct EvalCall {
  std::span<const View> in;
  const View& out;  // contiguous
  const Attributes& attributes;
  ThreadPool& pool;
  std::byte* scratch = nullptr;  // OpDef::scratch bytes; null: the kernel allocates its own
  template <class A>
  const A& as() const {
    return std::get<A>(attributes);
  }
};

// The vector-Jacobian product is written in graph ops: it returns, for each input, d metric / d
// input, given grad = d metric / d out. An undefined Value means no gradient flows there.
struct VjpCall {
  Builder& builder;
  std::span<const Value> in;
  const Value& out;
  const Value& grad;
  const Attributes& attributes;
  template <class A>
  const A& as() const {
    return std::get<A>(attributes);
  }
};
using Grads = std::vector<Value>;

// A composite op written out in simpler ops, with its interior sites. Returns the replacement of
// its output.
struct ExpandCall {
  Builder& builder;
  std::span<const Value> in;
  const Attributes& attributes;
  template <class A>
  const A& as() const {
    return std::get<A>(attributes);
  }
};

struct ReachCall {
  std::span<const Type> in;
  const Type& out;
  const Attributes& attributes;
  std::span<const Fact> facts;                // of the inputs
  std::span<const std::int32_t> inputs = {};  // their nodes, where known
  template <class A>
  const A& as() const {
    return std::get<A>(attributes);
  }
};

// A site inside a composite: it exists without costing anything until it is fetched, edited or
// differentiated.
struct InteriorSite {
  SiteLabel label;
  Type type;
};

struct OpDef {
  std::string_view name;
  std::string_view doc;  // one line: the formula, or what it does
  Type (*infer)(const InferCall&);
  void (*eval)(const EvalCall&) = nullptr;  // null: a leaf, or an op that only ever is a view
  std::optional<Layout> (*view)(const InferCall&, const Layout&) =
      nullptr;                             // output as a view of input 0, if it can be
  Grads (*vjp)(const VjpCall&) = nullptr;  // null: differentiated through `expand`, or not at all
  Reach (*reach)(const ReachCall&) = nullptr;
  // What one leading entry of the output needs of each input (graph/parts.h); null: read off `reach`.
  std::optional<Parts> (*parts)(const ReachCall&, int lead) = nullptr;
  std::int64_t (*flops)(const InferCall&,
                        const Type& out) = nullptr;  // null: moves data, computes nothing
  Value (*expand)(const ExpandCall&) = nullptr;      // null: a primitive
  std::vector<InteriorSite> (*interior)(const InferCall&, const Type& out) = nullptr;
  Fact (*fact)(const ReachCall&) =
      nullptr;  // what holds of the output, given what holds of the inputs
  // Which input's bytes the kernel may write its output over, when that input is contiguous, of the
  // output's type and read by nothing later: one of them, or any.
  enum class InPlace { never, first_input, any_input } in_place = InPlace::never;
  std::int64_t (*scratch)(const InferCall&) = nullptr;  // bytes that the kernel works in
  bool integer_only = false;  // result never carries a gradient (comparisons, argmax)
};

// The op of this name, of the table in autograd/ops/; null when there is none.
const OpDef* find_op(std::string_view name);

}  // namespace vitrine

// OpDef: the definition of one op (shape inference, kernel, vector-Jacobian product), in one row.
//
// ops/op_table.h lists all ops. Shape tests, gradient checks, reach tests, the op
// documentation and the benchmarks iterate over it. To add an op: write its row in a file of ops/,
// its function in ops/ops.h, its lines in ops/op_table.h and .cpp, its samples in tests/autograd,
// and perhaps a kernel. An op of one's own program needs only the row: any complete one can be
// emitted (`what_is_missing`). Graphs point at it, so it must outlive them: make it a constant.
//
// No pass and no transformation knows ops by their names. The row says what they have to know:
// `kind`, `linear_in`, `nonlinear` and `frozen`. They rely on what a row claims and optimise
// nothing where it claims nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/attributes.h"
#include "autograd/graph/reach.h"
#include "tensor/tensor.h"
#include "tensor/thread_pool.h"

namespace vitrine {

class Builder;
class Value;
enum class InputPart;  // graph/parts.h
using InputParts = std::vector<InputPart>;

// The type of a value: what is known before anything runs.
struct Type {
  DType dtype = DType::f32;
  Shape shape;
  friend bool operator==(const Type&, const Type&) = default;
};
std::string to_string(const Type& type);  // "f32[15, 256]"

// The arguments of a shape rule. It returns the type of the output or throws ShapeError; `infer` in
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

// The decomposition of a composite op into simpler ops, with its interior sites. Returns the
// replacement of its output.
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

// The kind of an op: a statement about its mathematics that passes rely on. x is input 0. A kind
// other than unstated also says that all leading entries (rows) that `reach` keeps apart are
// treated alike: row 3 of y is the same function of row 3 of x as row 5 of row 5. Where a row's
// number matters, as to dropout's mask, `parts` has to say so. Of a selection, s is the Range of
// the op's attributes, or input 1, an index of the first axis (y is 0 where it is -1).
enum class OpKind {
  unstated,       // nothing is claimed: computed in full, run by run; linearise refuses it
  input,          // a value that is fed at each run
  parameter,      // a weight, by name
  constant,       // a tensor that belongs to the graph
  identity,       // y = x, dx = dy: plans read x instead
  detach,         // y = x, dx = 0: plans read x instead
  rearrangement,  // y[i] = x[p(i)], each x[j] at least once; p is fixed by shapes and attributes
  selection,      // y[.., i, ..] = x[.., s(i), ..] along one axis
  product,        // y[.., i, j] = sum_k x[.., i, k] w[.., k, j] (+ bias[j]); inputs x, w(, bias)
  norm,           // y = c(x) / s * gain (+ bias) with c linear and the scale s = `frozen` of x
  attention,      // z = P v with the pattern P = `frozen` of q and k; inputs q, k, v, ...
  activation,     // y[i] = f(x[i]): one input, one f for all elements, f' by `vjp`
  other           // none of these
};

// The treatment, by linearise, of an op that no policy covers, where it is not linear in what
// carries a gradient.
enum class Nonlinear {
  refused,  // nothing: where activations are to be linear it names the op and throws
  kept      // it stays: a step of a norm or pattern that is written out, and frozen as a whole at
            // its site (square, sqrt, softmax), or a loss
};

// A set of inputs, by number.
inline constexpr std::uint32_t kEveryInput = ~std::uint32_t{0};
consteval std::uint32_t only_inputs(std::initializer_list<int> numbers) {
  std::uint32_t set = 0;
  for (const int n : numbers) set |= std::uint32_t{1} << n;
  return set;
}

struct OpDef {
  std::string_view name;
  std::string_view doc;  // one line: the formula, or what it does
  OpKind kind = OpKind::unstated;
  // The inputs i of which y is an affine function, all others held: y(x_i + d) - y(x_i) =
  // y(x_i) - y(x_i - d). A product is linear in each factor, attention in v alone. Integers and
  // booleans carry no gradient and do not count.
  std::uint32_t linear_in = 0;
  Nonlinear nonlinear = Nonlinear::refused;
  // Of a norm or attention: the op in its expansion whose value linearise freezes, s or P above.
  const OpDef* frozen = nullptr;
  Type (*infer)(const InferCall&);
  void (*eval)(const EvalCall&) = nullptr;  // null: a leaf, or an op that only ever is a view
  std::optional<Layout> (*view)(const InferCall&, const Layout&) =
      nullptr;                             // output as a view of input 0, if it can be
  Grads (*vjp)(const VjpCall&) = nullptr;  // null: differentiated through `expand`, or not at all
  Reach (*reach)(const ReachCall&) = nullptr;
  // What one leading entry of the output needs of each input (graph/parts.h); null: read off
  // `reach`.
  std::optional<InputParts> (*parts)(const ReachCall&, int lead) = nullptr;
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
  // Whether the kernel takes, in the place of an f32 input, one that is stored in this dtype and
  // layout, and widens what it reads: the weight of a product, the table of a gather. null: never.
  bool (*reads_stored)(std::size_t input, DType stored, const Layout& layout) = nullptr;
  bool integer_only = false;  // result never carries a gradient (comparisons, argmax)
};

bool is_linear_in(const OpDef& op, std::size_t input);

// Checks a row and says what it lacks, or how it contradicts itself: "it has no shape rule
// (infer)". Empty: it is complete, and graphs may have the op.
std::string what_is_missing(const OpDef& op);

// The op of this name, of the table in autograd/ops/; null when there is none.
const OpDef* find_op(std::string_view name);

}  // namespace vitrine

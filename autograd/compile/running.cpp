// Execution, the other phases of a run: runs the steps and traces a NaN to its origin.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cmath>
#include <utility>

#include "autograd/compile/run.h"
#include "tensor/error.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"

namespace vitrine {
namespace {

// A leaf through the layout of a result. The layout counts from the leaf's first element, which
// need not be the first of its storage.
Tensor copy_of(const Tensor& leaf, const Layout& layout) {
  return Tensor::wrap(nullptr, leaf.view().data, leaf.shape(), leaf.dtype())
      .with_layout(layout)
      .clone();
}

// ---- the steps --------------------------------------------------------------------------------
// One pass over a program: its memory, and what happens in it, in this order: keep_aside, steps,
// results, update.
class Execution {
 public:
  explicit Execution(const PlanRun& run)
      : run_(run),
        program_(run.program),
        arena_(run.memory.lease(run.program.arena_bytes)),
        repeatable_(!run.program.updates_leaves()) {
    for (const Type& t : program_.result_buffers) {
      const std::shared_ptr<std::byte> memory = run.memory.take(bytes_of(t.dtype, numel(t.shape)));
      owned_.push_back(Tensor::wrap(memory, memory.get(), t.shape, t.dtype));
    }
    for (const Storage& s : program_.storage)
      base_.push_back(s.where == Storage::Where::arena ? arena_.data() + s.at
                                                       : tensor_of(s).view().data);
  }

  void keep_aside() const { copy(program_.kept_aside); }

  // after(step, number, inputs, output) is called when a step is done, before its progress is told.
  template <class After>
  void steps(const After& after) const {
    std::vector<View> in;
    int done = 0;
    for (const Step& step : program_.steps) {
      // A run that updates leaves is not left half done: it is stopped before its first step or not
      // at all.
      if (repeatable_ || done == 0) stop_if_cancelled();
      in.clear();
      for (const Operand& o : step.in) in.push_back(view(o));
      const View out = view(step.out);
      std::byte* scratch =
          step.scratch < 0 ? nullptr : base_[static_cast<std::size_t>(step.scratch)];
      step.node->op->eval({in, out, step.node->attributes, run_.pool, scratch});
      after(step, static_cast<std::size_t>(done), in, out);
      ++done;
      if (run_.options.progress)
        run_.options.progress(done, static_cast<int>(program_.steps.size()));
    }
  }

  std::vector<Tensor> results() const {
    std::vector<Tensor> tensors;
    for (const NamedResult& r : program_.results) {
      const Storage& s = program_.storage_of(r.operand);
      tensors.push_back(s.where == Storage::Where::result
                            ? tensor_of(s).with_layout(r.operand.layout)
                            : copy_of(tensor_of(s), r.operand.layout));
    }
    return tensors;
  }

  void update() const { copy(program_.copies); }

 private:
  const Tensor& tensor_of(const Storage& s) const {  // of any but the arena's
    const auto at = static_cast<std::size_t>(s.at);
    return s.where == Storage::Where::result      ? owned_[at]
           : s.where == Storage::Where::feed      ? run_.bound.feeds[at]
           : s.where == Storage::Where::parameter ? run_.bound.parameters[at]
                                                  : program_.constants[at];
  }

  View view(const Operand& o) const {
    const Storage& s = program_.storage_of(o);
    return {base_[static_cast<std::size_t>(o.storage)] + bytes_of(s.dtype, o.layout.offset),
            s.dtype, o.layout.shape, o.layout.strides};
  }

  void copy(const std::vector<Copy>& copies) const {
    for (const Copy& c : copies) kernels::copy(run_.pool, view(c.from), view(c.to));
  }

  void stop_if_cancelled() const {
    const std::atomic<bool>* cancel = run_.options.cancel;
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed))
      throw InterruptedError("the run was cancelled");
  }

  const PlanRun& run_;
  const Program& program_;
  const MemoryPool::Lease arena_;
  const bool repeatable_;
  std::vector<Tensor> owned_;     // one for each of result_buffers
  std::vector<std::byte*> base_;  // by storage
};

struct Reading {  // nanoseconds
  std::int64_t clock, products;
  static Reading now() {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return {std::chrono::nanoseconds(t).count(), matmul_nanoseconds()};
  }
};

void add_times(Timing& timing, const std::vector<Reading>& spent) {
  timing.runs += 1;
  for (std::size_t i = 0; i < timing.steps.size(); ++i) {
    timing.steps[i] += spent[i].clock;
    timing.products[i] += spent[i].products;
    timing.nanoseconds += spent[i].clock;
  }
}

// ---- NaN --------------------------------------------------------------------------------------
bool view_has_nan(const View& v) {
  if (!is_compute_float(v.dtype)) return false;
  return has_nan(
      Tensor::wrap(nullptr, v.data, v.shape, v.dtype));  // outputs of steps are contiguous
}

// What people call a node: its leaf name, its site, or else the op and where it stands in the
// model.
std::string name_of_node(const Graph& g, const Node& n) {
  if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) return leaf->name;
  for (const SiteEntry& s : g.sites()) {
    if (!s.interior() && (s.before == n.id || s.node == n.id)) return s.name;
  }
  return n.scope.empty() ? std::string(n.op->name) : fmt::format("{} in {}", n.op->name, n.scope);
}

bool has_infinity(const View& v) {
  if (!is_compute_float(v.dtype)) return false;
  for (const double x : Tensor::wrap(nullptr, v.data, {v.numel()}, v.dtype).to_vector<double>()) {
    if (std::isinf(x)) return true;
  }
  return false;
}

[[noreturn]] void report_step(const Graph& g, const Step& step, const std::vector<View>& in) {
  const Node& n = *step.node;
  std::vector<std::string> inputs;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const bool infinite = in[i].is_contiguous() && has_infinity(in[i]);
    inputs.push_back(fmt::format("{} {}{}", name_of_node(g, g.node(n.inputs[i])),
                                 to_string(g.node(n.inputs[i]).type),
                                 infinite ? ", which holds infinities" : ""));
  }
  const std::string_view file = n.line.file;
  throw NumericError(fmt::format(
      "NaN first appeared in op '{}' at '{}' (built at {}:{}); no input of it holds NaN: {}",
      n.op->name, name_of_node(g, n), file.substr(file.find_last_of('/') + 1), n.line.line,
      fmt::join(inputs, "; ")));
}

void check_leaves(const std::vector<NamedLeaf>& leaves, const std::vector<Tensor>& bound,
                  std::string_view what) {
  for (std::size_t i = 0; i < bound.size(); ++i) {
    if (has_nan(bound[i]))
      throw NumericError(fmt::format("the {} '{}' holds NaN", what, leaves[i].name));
  }
}

}  // namespace

std::vector<Tensor> execute(const PlanRun& run, Timing& timing) {
  const Execution execution(run);
  execution.keep_aside();
  std::vector<Reading> spent(run.program.steps.size());
  Reading before = Reading::now();
  execution.steps([&](const Step&, std::size_t number, const std::vector<View>&, const View&) {
    const Reading after = Reading::now();
    spent[number] = {after.clock - before.clock, after.products - before.products};
    before = after;
  });
  add_times(timing, spent);
  std::vector<Tensor> results = execution.results();
  execution.update();
  return results;
}

// The largest of values, one of which is NaN, is NaN.
bool holds_nan(ThreadPool& pool, const Tensor& x) {
  if (!is_compute_float(x.dtype()) || x.numel() == 0) return false;
  const Tensor flat = x.contiguous().reshape({x.numel()}), top = Tensor::empty({1}, x.dtype());
  kernels::reduce(pool, kernels::Reduce::max, flat.view(), {0}, top.view());
  return has_nan(top);
}

void report_nan(const PlanRun& run, const std::string& name) {
  if (run.program.updates_leaves()) {
    throw NumericError(fmt::format(
        "'{}' holds NaN; this plan has updated its leaves, so it cannot be run again to find "
        "the op: check the loss with a plan without updates",
        name));
  }
  check_leaves(run.program.feeds, run.bound.feeds, "input");
  check_leaves(run.program.parameters, run.bound.parameters, "parameter");
  Execution(run).steps(
      [&](const Step& step, std::size_t, const std::vector<View>& in, const View& out) {
        if (view_has_nan(out)) report_step(run.graph, step, in);
      });
  throw NumericError(fmt::format("'{}' holds NaN, but no step of a second run produced one", name));
}

}  // namespace vitrine

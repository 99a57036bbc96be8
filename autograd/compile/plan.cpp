// Running a program.
#include "autograd/compile/plan.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>

#include "autograd/compile/program.h"
#include "tensor/error.h"
#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"
#include "tensor/nearest.h"

namespace vitrine {

// ---- run --------------------------------------------------------------------------------------
namespace {

View view_of(const Operand& o, const Storage& s, std::byte* base) {
  return {base + o.layout.offset * size_of(s.dtype), s.dtype, o.layout.shape, o.layout.strides};
}

struct Reading {  // nanoseconds
  std::int64_t clock, products;
  static Reading now() {
    const auto t = std::chrono::steady_clock::now().time_since_epoch();
    return {std::chrono::nanoseconds(t).count(), matmul_nanoseconds()};
  }
};
void add_times(Timing& timing, const std::vector<std::int64_t>& spent) {
  timing.runs += 1;
  for (std::size_t i = 0; i < timing.steps.size(); ++i) {
    timing.steps[i] += spent[2 * i];
    timing.products[i] += spent[2 * i + 1];
    timing.nanoseconds += spent[2 * i];
  }
}

// A feed that the graph has no input for has a wrong name. The tables of a batch are fed together,
// and each graph reads some of them.
void check_names(const Feeds& feeds, const std::vector<std::string>& inputs) {
  for (const auto& [name, tensor] : feeds) {
    const bool table = name.starts_with("rows.") || name.starts_with("next.");
    if (table || std::binary_search(inputs.begin(), inputs.end(), name)) continue;
    throw GraphError(fmt::format("the graph has no input '{}'{}; its inputs are {}", name,
                                 did_you_mean(nearest(name, inputs)), fmt::join(inputs, ", ")));
  }
}

std::vector<Tensor> bind_leaves(const std::vector<NamedLeaf>& leaves,
                                const std::vector<bool>& written,
                                const std::map<std::string, Tensor, std::less<>>& given,
                                std::string_view what) {
  std::vector<Tensor> bound;
  for (const NamedLeaf& leaf : leaves) {
    const auto it = given.find(leaf.name);
    if (it == given.end()) {
      throw GraphError(fmt::format("the plan needs the {} '{}' ({}), which was not given", what,
                                   leaf.name, to_string(leaf.type)));
    }
    const Type type{it->second.dtype(), it->second.shape()};
    if (!(type == leaf.type)) {
      throw GraphError(fmt::format("the {} '{}' must be {}, not {}", what, leaf.name,
                                   to_string(leaf.type), to_string(type)));
    }
    if (written[bound.size()] && !it->second.is_contiguous()) {
      throw GraphError(fmt::format("the {} '{}' is updated by this plan and must be contiguous",
                                   what, leaf.name));
    }
    if (written[bound.size()] && it->second.is_read_only()) {
      throw GraphError(
          fmt::format("the {} '{}' is updated by this plan, but its memory is read-only (mapped "
                      "from a file): give a clone() of it",
                      what, leaf.name));
    }
    bound.push_back(it->second.contiguous());
  }
  return bound;
}

// has_nan by all threads: the largest of values, one of which is NaN, is NaN.
bool holds_nan(ThreadPool& pool, const Tensor& x) {
  if (!is_compute_float(x.dtype()) || x.numel() == 0) return false;
  const Tensor flat = x.contiguous().reshape({x.numel()}), top = Tensor::empty({1}, x.dtype());
  kernels::reduce(pool, kernels::Reduce::max, flat.view(), {0}, top.view());
  return has_nan(top);
}

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

[[noreturn]] void report_nan(const Graph& g, const Step& step, const std::vector<View>& in) {
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

// A leaf through the layout of a result. The layout counts from the leaf's first element, which
// need not be the first of its storage.
Tensor copy_of(const Tensor& leaf, const Layout& layout) {
  return Tensor::wrap(nullptr, leaf.view().data, leaf.shape(), leaf.dtype())
      .with_layout(layout)
      .clone();
}

// The row table of the batch, whether or not a step reads it: results are unpacked by it.
void check_row_table(const Graph& g, const Feeds& feeds) {
  const auto fed = [&](NodeId id) -> const Tensor* {
    if (id == kNoNode || !g.contains(id)) return nullptr;
    const auto* leaf = std::get_if<LeafName>(&g.node(id).attributes);
    const auto it = leaf == nullptr ? feeds.end() : feeds.find(leaf->name);
    return it == feeds.end() || !(Type{it->second.dtype(), it->second.shape()} == g.node(id).type)
               ? nullptr
               : &it->second;
  };
  const Tensor* sequence = fed(g.rows()->sequence);
  if (sequence == nullptr) return;
  const Tensor* keys = fed(g.rows()->keys);
  // No sequence is empty, so there are no more of them than rows or lines of the key table.
  const std::int64_t count = keys != nullptr ? keys->dim(0) : sequence->numel();
  const std::vector<std::int64_t> of_row = sequence->to_vector<std::int64_t>();
  for (std::size_t r = 0; r < of_row.size(); ++r) {
    if (of_row[r] >= 0 && of_row[r] < count) continue;
    throw GraphError(fmt::format(
        "the input '{}' says that row {} belongs to sequence {}; there are sequences 0 to {}",
        std::get<LeafName>(g.node(g.rows()->sequence).attributes).name, r, of_row[r], count - 1));
  }
}

}  // namespace

// Two leaves may lie in the same memory, as a weight and its row of the optimiser's state do. That
// is refused where a run would read, or write again, what it has updated already.
void Plan::Program::check_shared_memory(const std::vector<Tensor>& fed,
                                        const std::vector<Tensor>& weights) const {
  struct Bound {
    const NamedLeaf* leaf;
    const std::byte *begin, *end;
  };
  std::vector<Bound> all;
  const auto add = [&](const std::vector<NamedLeaf>& leaves, const std::vector<Tensor>& tensors) {
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      const std::byte* data = tensors[i].view().data;
      const std::int64_t bytes = tensors[i].numel() * size_of(tensors[i].dtype());
      if (bytes > 0) all.push_back({&leaves[i], data, data + bytes});
    }
  };
  add(feeds, fed);
  add(parameters, weights);
  std::sort(all.begin(), all.end(),
            [](const Bound& a, const Bound& b) { return std::less<>()(a.begin, b.begin); });
  constexpr int kNever = std::numeric_limits<int>::max();
  const auto clash = [](const NamedLeaf& written, const NamedLeaf& other) {
    return written.first_write != kNever &&
           (other.first_write != kNever || other.last_read >= written.first_write);
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t j = i + 1; j < all.size() && all[j].begin < all[i].end; ++j) {
      const NamedLeaf &a = *all[i].leaf, &b = *all[j].leaf;
      if (!clash(a, b) && !clash(b, a)) continue;
      const bool first = clash(a, b);
      throw GraphError(fmt::format(
          "'{}' and '{}' share memory, and this plan updates '{}' before it is done with '{}': "
          "give a clone() of one of them",
          a.name, b.name, first ? a.name : b.name, first ? b.name : a.name));
    }
  }
}

Results Plan::run(const Feeds& feeds, const Parameters& parameters,
                  const RunOptions& options) const {
  if (program_ == nullptr) throw GraphError("this Plan is empty: compile a graph first");
  const Program& p = *program_;
  check_names(feeds, p.inputs);
  const std::vector<Tensor> fed = bind_leaves(p.feeds, p.feed_written, feeds, "input"),
                            weights = bind_leaves(p.parameters, p.parameter_written, parameters,
                                                  "parameter");
  if (p.graph.rows()) check_row_table(p.graph, feeds);
  ThreadPool serial(1);
  ThreadPool& pool = options.pool != nullptr ? *options.pool : serial;

  const bool repeatable =
      std::none_of(p.feed_written.begin(), p.feed_written.end(), [](bool w) { return w; }) &&
      std::none_of(p.parameter_written.begin(), p.parameter_written.end(),
                   [](bool w) { return w; });
  if (!repeatable) p.check_shared_memory(fed, weights);
  MemoryPool& memory_pool = memory_ != nullptr ? *memory_ : *p.memory;

  const auto execute = [&](bool check) {
    const MemoryPool::Lease arena = memory_pool.lease(p.stats.arena_bytes);
    std::vector<Tensor> owned;
    for (std::size_t i = 0; i < p.result_buffers.size(); ++i) {
      const Type& t = p.result_buffers[i];
      const std::shared_ptr<std::byte> memory = memory_pool.take(numel(t.shape) * size_of(t.dtype));
      owned.push_back(Tensor::wrap(memory, memory.get(), t.shape, t.dtype));
    }
    std::vector<std::byte*> base;
    for (const Storage& s : p.storage) {
      const auto at = static_cast<std::size_t>(s.at);
      const auto bytes_of = [](const Tensor& t) { return t.view().data; };
      switch (s.where) {
        case Storage::Where::arena:
          base.push_back(arena.data() + s.at);
          break;
        case Storage::Where::result:
          base.push_back(bytes_of(owned[at]));
          break;
        case Storage::Where::feed:
          base.push_back(bytes_of(fed[at]));
          break;
        case Storage::Where::parameter:
          base.push_back(bytes_of(weights[at]));
          break;
        case Storage::Where::constant:
          base.push_back(bytes_of(p.constants[at]));
          break;
      }
    }
    const auto view = [&](const Operand& o) {
      const auto s = static_cast<std::size_t>(o.storage);
      return view_of(o, p.storage[s], base[s]);
    };
    if (check) {
      for (std::size_t i = 0; i < fed.size(); ++i) {
        if (has_nan(fed[i]))
          throw NumericError(fmt::format("the input '{}' holds NaN", p.feeds[i].name));
      }
      for (std::size_t i = 0; i < weights.size(); ++i) {
        if (has_nan(weights[i]))
          throw NumericError(fmt::format("the parameter '{}' holds NaN", p.parameters[i].name));
      }
    }
    for (const Copy& c : p.kept_aside) kernels::copy(pool, view(c.from), view(c.to));
    std::vector<View> in;
    int done = 0;
    std::vector<std::int64_t> spent(2 * p.steps.size());  // nanoseconds: step, its products, ...
    Reading before = Reading::now();
    for (const Step& step : p.steps) {
      // A run that updates leaves is not left half done: it is stopped before its first step or not at all.
      if ((repeatable || done == 0) && options.cancel != nullptr &&
          options.cancel->load(std::memory_order_relaxed)) {
        throw InterruptedError("the run was cancelled");
      }
      in.clear();
      for (const Operand& o : step.in) in.push_back(view(o));
      const View out = view(step.out);
      std::byte* scratch =
          step.scratch < 0 ? nullptr : base[static_cast<std::size_t>(step.scratch)];
      step.node->op->eval({in, out, step.node->attributes, pool, scratch});
      if (check && view_has_nan(out)) report_nan(p.graph, step, in);
      const Reading after = Reading::now();
      spent[2 * static_cast<std::size_t>(done)] = after.clock - before.clock;
      spent[2 * static_cast<std::size_t>(done) + 1] = after.products - before.products;
      before = after;
      ++done;
      if (options.progress) options.progress(done, p.stats.steps);
    }
    if (!check) add_times(p.timing, spent);
    Results results;
    for (const NamedResult& r : p.results) {
      const Storage& s = p.storage[static_cast<std::size_t>(r.operand.storage)];
      const auto at = static_cast<std::size_t>(s.at);
      Tensor tensor;
      switch (s.where) {
        case Storage::Where::result:
          tensor = owned[at].with_layout(r.operand.layout);
          break;
        case Storage::Where::feed:
          tensor = copy_of(fed[at], r.operand.layout);
          break;
        case Storage::Where::parameter:
          tensor = copy_of(weights[at], r.operand.layout);
          break;
        default:
          tensor = copy_of(p.constants[at], r.operand.layout);
          break;
      }
      results.values_[r.name] = {std::move(tensor), r.axes};
    }
    for (const Copy& c : p.copies) kernels::copy(pool, view(c.from), view(c.to));
    return results;
  };

  Results results = execute(false);
  if (options.find_nan) {
    for (const auto& [name, entry] : results.values_) {
      if (holds_nan(pool, entry.tensor)) {
        if (!repeatable) {
          throw NumericError(fmt::format(
              "'{}' holds NaN; this plan has updated its leaves, so it cannot be run again to find "
              "the op: check the loss with a plan without updates",
              name));
        }
        execute(true);  // throws, naming the op
        throw NumericError(
            fmt::format("'{}' holds NaN, but no step of a second run produced one", name));
      }
    }
  }
  if (p.graph.rows()) {
    const Node& table = p.graph.node(p.graph.rows()->sequence);
    const auto it = feeds.find(std::get<LeafName>(table.attributes).name);
    if (it != feeds.end()) {
      for (const auto s : it->second.to_vector<std::int64_t>()) {
        if (s >= static_cast<std::int64_t>(results.lengths_.size()))
          results.lengths_.resize(static_cast<std::size_t>(s) + 1, 0);
        ++results.lengths_[static_cast<std::size_t>(s)];
      }
    }
  }
  return results;
}

Feeds Plan::taken(const Feeds& feeds) const {
  Feeds some;
  for (const auto& [name, tensor] : feeds) {
    if (std::binary_search(program_->inputs.begin(), program_->inputs.end(), name))
      some.emplace(name, tensor);
  }
  return some;
}

const Plan::Stats& Plan::stats() const { return program_->stats; }
const Graph& Plan::graph() const { return program_->graph; }

}  // namespace vitrine

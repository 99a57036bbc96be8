#include "autograd/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>

#include "autograd/arena.h"
#include "autograd/optimise.h"
#include "tensor/error.h"
#include "tensor/kernels.h"

namespace vitrine {

// Storage of a value: where its bytes live during a run.
struct Storage {
  enum class Where { arena, result, feed, parameter, constant } where;
  std::int64_t at = 0;  // arena: byte offset; else index into the run's tensors
  std::int64_t bytes = 0;
  DType dtype = DType::f32;
};
struct Operand {
  int storage = -1;
  Layout layout;
};
struct Step {
  const Node* node;
  std::vector<Operand> in;
  Operand out;
};
struct NamedLeaf {
  std::string name;
  Type type;
};
struct NamedResult {
  std::string name;
  Operand operand;
  Axes axes;
};

struct Plan::Program {
  Graph graph;
  std::vector<Storage> storage;
  std::vector<Step> steps;
  std::vector<NamedLeaf> feeds, parameters;
  std::vector<Tensor> constants;
  std::vector<Type> result_buffers;  // one owned tensor each, flat
  std::vector<NamedResult> results;
  Stats stats;
  std::map<std::string_view, std::pair<int, std::int64_t>> work;  // per op: steps, FLOPs
  ArenaPool arenas;
};

std::string Fetch::key() const {
  std::string key;
  for (const Want& w : wants) key += fmt::format("{}:{};", static_cast<int>(w.kind), w.pattern);
  return key;
}

namespace {

struct WantedNode {
  std::string name;
  NodeId node;
  Axes axes;
};

std::vector<std::string> wanted_sites(const Graph& g, const Fetch& wanted) {
  std::vector<std::string> names;
  for (const Want& w : wanted.wants) {
    if (w.kind != Want::Kind::site && w.kind != Want::Kind::before) continue;
    const auto found = select_sites({w.pattern}, g.site_names());
    names.insert(names.end(), found.begin(), found.end());
  }
  return names;
}

// The gradients that were asked for must have been added by gradient().
std::vector<std::string> wanted_grads(const Graph& g, const Want& w) {
  std::vector<std::string> sites, leaves;
  for (const auto& [name, id] : g.outputs()) {
    if (!name.starts_with("grad(") || !name.ends_with(")")) continue;
    const std::string of = name.substr(5, name.size() - 6);
    (g.find_site(of) != nullptr ? sites : leaves).push_back(of);
  }
  const auto& known = w.kind == Want::Kind::grad_of_site ? sites : leaves;
  if (known.empty()) {
    throw GraphError(fmt::format(
        "the graph has no gradient of '{}': add it with gradient(graph, metric, ...) first",
        w.pattern));
  }
  return select_sites({w.pattern}, known);
}

std::vector<WantedNode> resolve(const Graph& g, const Fetch& wanted) {
  std::vector<WantedNode> nodes;
  for (const Want& w : wanted.wants) {
    switch (w.kind) {
      case Want::Kind::site:
        for (const auto& name : select_sites({w.pattern}, g.site_names())) {
          nodes.push_back({name, g.site(name).node, g.site(name).axes});
        }
        break;
      case Want::Kind::before:
        for (const auto& name : select_sites({w.pattern}, g.site_names())) {
          nodes.push_back({before_name(name), g.site(name).before, g.site(name).axes});
        }
        break;
      case Want::Kind::output:
        nodes.push_back({w.pattern, g.output(w.pattern), {}});
        break;
      case Want::Kind::grad_of_site:
      case Want::Kind::grad_of_leaf:
        for (const auto& name : wanted_grads(g, w)) {
          const SiteEntry* site = g.find_site(name);
          nodes.push_back(
              {grad_name(name), g.output(grad_name(name)), site != nullptr ? site->axes : Axes{}});
        }
        break;
    }
  }
  // An output that is a site's value has that site's axes.
  for (WantedNode& n : nodes) {
    if (!n.axes.empty()) continue;
    for (const SiteEntry& s : g.sites()) {
      if (s.node == n.node) n.axes = s.axes;
    }
  }
  return nodes;
}

View view_of(const Operand& o, const Storage& s, std::byte* base) {
  return {base + o.layout.offset * size_of(s.dtype), s.dtype, o.layout.shape, o.layout.strides};
}

std::vector<Type> types_of_inputs(const Graph& g, const Node& n) {
  std::vector<Type> in;
  for (const NodeId i : n.inputs) in.push_back(g.node(i).type);
  return in;
}

std::string bytes_text(std::int64_t bytes) {
  if (bytes < 10'000) return fmt::format("{} B", bytes);
  if (bytes < 10'000'000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}
std::string flops_text(std::int64_t flops) {
  if (flops < 10'000'000) return fmt::format("{:.3f} MFLOP", static_cast<double>(flops) / 1e6);
  return fmt::format("{:.3f} GFLOP", static_cast<double>(flops) / 1e9);
}

}  // namespace

// ---- compile ----------------------------------------------------------------------------------
Plan compile(const Graph& graph, const Fetch& wanted) {
  auto program = std::make_shared<Plan::Program>();
  program->graph = expand_sites(graph, wanted_sites(graph, wanted));
  const Graph& g = program->graph;
  const std::vector<WantedNode> wanted_nodes = resolve(g, wanted);
  std::vector<NodeId> ids;
  for (const WantedNode& w : wanted_nodes) ids.push_back(w.node);
  const Pruned pruned = prune(g, ids);

  // Every remaining value becomes an operand: a layout over some storage. Views share their input's
  // storage.
  std::vector<Operand> operand(static_cast<std::size_t>(g.next_id()));
  const auto of = [&](NodeId id) -> Operand& {
    return operand[static_cast<std::size_t>(pruned.canonical[static_cast<std::size_t>(id)])];
  };
  const auto new_storage = [&](const Type& type, Storage::Where where, std::int64_t at) {
    program->storage.push_back({where, at, numel(type.shape) * size_of(type.dtype), type.dtype});
    return Operand{static_cast<int>(program->storage.size()) - 1, Layout::contiguous(type.shape)};
  };
  for (const Node* n : pruned.nodes) {
    Operand& out = operand[static_cast<std::size_t>(n->id)];
    if (const auto* leaf = std::get_if<LeafName>(&n->attributes)) {
      const bool parameter = n->op->name == "parameter";
      auto& list = parameter ? program->parameters : program->feeds;
      out = new_storage(n->type, parameter ? Storage::Where::parameter : Storage::Where::feed,
                        static_cast<std::int64_t>(list.size()));
      list.push_back({leaf->name, n->type});
      if (parameter) program->stats.parameter_bytes += program->storage.back().bytes;
      continue;
    }
    if (const auto* constant = std::get_if<ConstantValue>(&n->attributes)) {
      out = new_storage(n->type, Storage::Where::constant,
                        static_cast<std::int64_t>(program->constants.size()));
      program->constants.push_back(constant->value.contiguous());
      continue;
    }
    const std::vector<Type> in = types_of_inputs(g, *n);
    if (n->op->view != nullptr) {
      const Operand& from = of(n->inputs[0]);
      if (const auto layout = n->op->view({in, n->attributes}, from.layout)) {
        out = {from.storage, *layout};
        ++program->stats.views;
        continue;
      }
    }
    Step step{n, {}, new_storage(n->type, Storage::Where::arena, 0)};
    for (const NodeId i : n->inputs) step.in.push_back(of(i));
    out = step.out;
    const std::int64_t flops =
        n->op->flops == nullptr ? 0 : n->op->flops({in, n->attributes}, n->type);
    auto& [count, total] = program->work[n->op->name];
    ++count;
    total += flops;
    program->stats.flops += flops;
    program->stats.intermediate_bytes += program->storage.back().bytes;
    program->steps.push_back(std::move(step));
  }

  // Fetched values live outside the arena.
  for (const WantedNode& w : wanted_nodes) {
    program->results.push_back({w.name, of(w.node), w.axes});
    Storage& s = program->storage[static_cast<std::size_t>(of(w.node).storage)];
    if (s.where != Storage::Where::arena) continue;
    s.where = Storage::Where::result;
    s.at = static_cast<std::int64_t>(program->result_buffers.size());
    program->result_buffers.push_back({s.dtype, {s.bytes / size_of(s.dtype)}});
    program->stats.result_bytes += s.bytes;
  }

  // Liveness: a value's bytes are free again after the last step that reads them.
  std::vector<int> last_read(program->storage.size(), -1);
  for (std::size_t i = 0; i < program->steps.size(); ++i) {
    last_read[static_cast<std::size_t>(program->steps[i].out.storage)] = static_cast<int>(i);
    for (const Operand& o : program->steps[i].in)
      last_read[static_cast<std::size_t>(o.storage)] = static_cast<int>(i);
  }
  ArenaPlanner planner;
  std::vector<std::vector<int>> dies(program->steps.size());
  for (std::size_t s = 0; s < program->storage.size(); ++s) {
    if (program->storage[s].where == Storage::Where::arena) {
      dies[static_cast<std::size_t>(last_read[s])].push_back(static_cast<int>(s));
    }
  }
  for (std::size_t i = 0; i < program->steps.size(); ++i) {
    Storage& out = program->storage[static_cast<std::size_t>(program->steps[i].out.storage)];
    if (out.where == Storage::Where::arena) out.at = planner.take(out.bytes);
    for (const int s : dies[i]) {
      planner.give_back(program->storage[static_cast<std::size_t>(s)].at,
                        program->storage[static_cast<std::size_t>(s)].bytes);
    }
  }
  Plan::Stats& stats = program->stats;
  stats.arena_bytes = planner.peak();
  stats.nodes = static_cast<int>(g.nodes().size());
  stats.steps = static_cast<int>(program->steps.size());
  stats.dead = pruned.dead;
  stats.identities = pruned.identities;
  stats.duplicates = pruned.duplicates;
  Plan plan;
  plan.program_ = std::move(program);
  return plan;
}

// ---- run --------------------------------------------------------------------------------------
namespace {

std::vector<Tensor> bind_leaves(const std::vector<NamedLeaf>& leaves,
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
    bound.push_back(it->second.contiguous());
  }
  return bound;
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

}  // namespace

Results Plan::run(const Feeds& feeds, const Parameters& parameters,
                  const RunOptions& options) const {
  if (program_ == nullptr) throw GraphError("this Plan is empty: compile a graph first");
  const Program& p = *program_;
  const std::vector<Tensor> fed = bind_leaves(p.feeds, feeds, "input"),
                            weights = bind_leaves(p.parameters, parameters, "parameter");
  ThreadPool serial(1);
  ThreadPool& pool = options.pool != nullptr ? *options.pool : serial;

  const auto execute = [&](bool check) {
    const ArenaPool::Lease arena = p.arenas.lease(p.stats.arena_bytes);
    std::vector<Tensor> owned;
    for (const Type& t : p.result_buffers) owned.push_back(Tensor::empty(t.shape, t.dtype));
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
    std::vector<View> in;
    int done = 0;
    for (const Step& step : p.steps) {
      if (options.cancel != nullptr && options.cancel->load(std::memory_order_relaxed)) {
        throw InterruptedError("the run was cancelled");
      }
      in.clear();
      for (const Operand& o : step.in) in.push_back(view(o));
      const View out = view(step.out);
      step.node->op->eval({in, out, step.node->attributes, pool});
      if (check && view_has_nan(out)) report_nan(p.graph, step, in);
      if (options.progress) options.progress(++done, p.stats.steps);
    }
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
          tensor = fed[at].with_layout(r.operand.layout).clone();
          break;
        case Storage::Where::parameter:
          tensor = weights[at].with_layout(r.operand.layout).clone();
          break;
        default:
          tensor = p.constants[at].with_layout(r.operand.layout).clone();
          break;
      }
      results.values_[r.name] = {std::move(tensor), r.axes};
    }
    return results;
  };

  Results results = execute(false);
  if (options.find_nan) {
    for (const auto& [name, entry] : results.values_) {
      if (is_compute_float(entry.tensor.dtype()) && has_nan(entry.tensor)) {
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

const Plan::Stats& Plan::stats() const { return program_->stats; }
const Graph& Plan::graph() const { return program_->graph; }

std::string Plan::explain() const {
  const Stats& s = stats();
  std::string text = fmt::format("plan: {} steps from {} nodes\n", s.steps, s.nodes);
  text += fmt::format(
      "  removed    {} that nothing wanted reads, {} identities (sites, detach) read through, {} "
      "computed "
      "twice\n",
      s.dead, s.identities, s.duplicates);
  text +=
      fmt::format("  views      {} nodes only look at their input: no work, no memory\n", s.views);
  text +=
      fmt::format("  memory     arena {} for {} of intermediates; results {}; parameters read {}\n",
                  bytes_text(s.arena_bytes), bytes_text(s.intermediate_bytes),
                  bytes_text(s.result_bytes), bytes_text(s.parameter_bytes));
  text += fmt::format("  work       {}\n", flops_text(s.flops));
  std::vector<std::pair<std::string_view, std::pair<int, std::int64_t>>> work(
      program_->work.begin(), program_->work.end());
  std::stable_sort(work.begin(), work.end(),
                   [](const auto& a, const auto& b) { return a.second.second > b.second.second; });
  for (const auto& [name, counts] : work) {
    text += fmt::format("    {:<26} {:>4} steps  {:>14}\n", name, counts.first,
                        flops_text(counts.second));
  }
  return text;
}

}  // namespace vitrine

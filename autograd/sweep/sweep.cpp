#include "autograd/sweep/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>

#include "autograd/graph/builder.h"
#include "autograd/sweep/lift.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<std::string> edited_sites(const Graph& graph, std::span<const Interventions> worlds) {
  std::set<std::string> names;
  for (std::size_t w = 0; w < worlds.size(); ++w) {
    for (const auto& stage : worlds[w].stages()) {
      for (const Edit& e : stage) {
        if (!names.insert(e.site.name).second) continue;
        try {
          graph.site(e.site.name);  // throws for what is not there
        } catch (const SiteError& error) {
          throw SiteError(fmt::format("world {}: {}", w, error.what()));
        }
      }
    }
  }
  std::vector<std::string> in_order;
  for (const SiteEntry& s : graph.sites()) {
    if (names.contains(s.name)) in_order.push_back(s.name);
  }
  return in_order;
}

// The share of the base run's prompts that a world edits: what it would be run on alone.
double share_of_prompts(const Graph& graph, const Interventions& what) {
  if (!graph.rows() || what.stages().empty()) return 1;
  const std::int64_t prompts = graph.node(graph.rows()->keys).type.shape[0];
  std::set<std::int64_t> edited;
  for (const auto& stage : what.stages()) {
    for (const Edit& e : stage) {
      if (e.where.empty()) return 1;
      for (const Where& w : e.where) {
        if (w.prompt.empty()) return 1;
        edited.insert(w.prompt.begin(), w.prompt.end());
      }
    }
  }
  return static_cast<double>(edited.size()) / static_cast<double>(prompts);
}

// The values of the base run that a sweep is likely to read, so that it runs once: what meets an
// edited stream, and the keys and values of attention.
std::vector<NodeId> likely_reads(const BaseRun& base, const std::vector<std::string>& sites) {
  const Graph& g = base.graph();
  std::vector<bool> live(static_cast<std::size_t>(g.next_id()), false);
  const auto is_live = [&](NodeId id) { return live[static_cast<std::size_t>(id)]; };
  for (const std::string& s : sites) live[static_cast<std::size_t>(g.site(s).node)] = true;
  std::vector<NodeId> reads;
  for (const std::string& s : sites) reads.push_back(g.site(s).node);
  for (const Node& n : g.nodes()) {
    const bool any = std::any_of(n.inputs.begin(), n.inputs.end(), is_live);
    if (!any) continue;
    live[static_cast<std::size_t>(n.id)] = true;
    const bool joins = n.inputs.size() > 1 && n.op->kind != OpKind::norm &&
                       n.op->kind != OpKind::product && n.op->kind != OpKind::selection;
    if (!joins) continue;
    for (const NodeId i : n.inputs) {
      if (!base.is_weight(i) && g.node(i).type.shape.size() >= 2) reads.push_back(i);
    }
  }
  return reads;
}

// The entries of an output's pieces are written over the base run's values, which fill `values`.
void copy_rows(const LiftedOutput& out, const Results& results, const Shape& shape,
               std::int64_t first_world, Tensor& values) {
  const std::int64_t rows = cells_of(shape).rows;
  if (numel(shape) == 0) return;
  for (auto piece = out.pieces.rbegin(); piece != out.pieces.rend(); ++piece) {  // the first wins
    const Tensor packed = results.raw(piece->output).contiguous();
    const auto& entries = piece->list->entries;
    const std::int64_t units =
        piece->list->lead == 2 ? cells_of(shape).count() : rows;  // cells of a world
    const std::int64_t bytes = bytes_of(packed.dtype(), numel(shape) / units);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const std::int64_t to = (first_world + entries[i].world) * units + entries[i].cell;
      std::memcpy(values.view().data + to * bytes,
                  packed.view().data + static_cast<std::int64_t>(i) * bytes,
                  static_cast<std::size_t>(bytes));
    }
  }
}

// One pass: the program of `count` worlds from number `first` on.
Results run_pass(BaseRun& base, const LiftedProgram& program, const Plan& plan, const Feeds& feeds,
                 const Parameters& parameters, const SweepOptions& options, int first, int count,
                 int total) {
  base.want(program.base);
  Feeds all = plan.taken(feeds);
  for (const auto& [name, value] : program.feeds) all[name] = value;
  for (const NodeId id : program.base) all[base_name(id)] = base.value(id);
  RunOptions run{.pool = options.pool, .cancel = options.cancel};
  if (options.progress) {
    run.progress = [&](int step, int steps) {
      options.progress(first + count * step / std::max(1, steps), total);
    };
  }
  return plan.run(all, parameters, run);
}

void add_pass(SweepStats& stats, const Plan::Stats& pass) {
  ++stats.passes;
  stats.flops += pass.flops;
  stats.weights_read += pass.parameter_bytes;
  stats.bytes += pass.intermediate_bytes;
  stats.largest_arena = std::max(stats.largest_arena, pass.arena_bytes);
}

Tensor repeated(const Tensor& value, std::int64_t times) {
  Shape once{1}, shape{times};
  for (const std::int64_t d : value.shape()) once.push_back(d), shape.push_back(d);
  return value.contiguous().reshape(once).broadcast_to(shape).clone();
}

}  // namespace

Tensor Swept::operator[](std::string_view output) const {
  const auto it = values_.find(output);
  if (it == values_.end())
    throw GraphError(fmt::format("the sweep did not ask for the output '{}'", output));
  return it->second;
}
Tensor Swept::base(std::string_view output) const {
  const auto it = base_.find(output);
  if (it == base_.end())
    throw GraphError(fmt::format("the sweep did not ask for the output '{}'", output));
  return it->second;
}

Swept sweep(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
            std::span<const Interventions> worlds, const std::vector<std::string>& outputs,
            const SweepOptions& options) {
  const auto start = Clock::now();
  for (const std::string& name : outputs) graph.output(name);  // throws for what is not there
  const std::vector<std::string> sites = edited_sites(graph, worlds);
  BaseRun base(graph, sites, feeds, parameters, options);
  std::vector<NodeId> wanted = likely_reads(base, sites);
  for (const std::string& name : outputs) wanted.push_back(base.graph().output(name));
  base.want(wanted);

  Swept swept;
  SweepStats& stats = swept.stats_;
  stats.worlds = static_cast<int>(worlds.size());
  for (const Interventions& w : worlds) stats.base_runs += share_of_prompts(graph, w);
  stats.base_flops = base.stats().flops;
  stats.parameter_bytes = base.stats().parameter_bytes;
  stats.base_bytes = base.stats().intermediate_bytes;
  for (const std::string& name : outputs) {
    const Tensor& value = base.value(base.graph().output(name));
    swept.base_[name] = value;
    swept.values_[name] = repeated(value, stats.worlds);
  }

  swept.has_effect_.assign(worlds.size(), false);

  // Worlds in halves until they fit.
  std::vector<std::span<const Interventions>> todo;
  if (!worlds.empty()) todo.push_back(worlds);
  while (!todo.empty()) {
    const std::span<const Interventions> now = todo.back();
    todo.pop_back();
    const auto first = now.data() - worlds.data();
    const auto lifting = Clock::now();
    LiftedProgram program = lift(base, feeds, now, static_cast<int>(first), outputs, options);
    const auto silent =
        static_cast<int>(std::count(program.has_effect.begin(), program.has_effect.end(), false));
    if (silent == static_cast<int>(now.size())) {
      stats.without_effect += silent;
      stats.lift_seconds += since(lifting);
      continue;
    }
    Fetch fetch_all;
    for (const LiftedOutput& o : program.outputs) {
      for (const auto& piece : o.pieces) fetch_all.wants.push_back(value(piece.output));
    }
    // A cached plan keeps its arena for the next run. The passes of a sweep that was split would
    // together hold many times what one of them may, so they are compiled and forgotten.
    const bool kept = options.plans != nullptr && now.size() == worlds.size();
    const Plan plan =
        kept ? options.plans->get(program.graph, fetch_all) : compile(program.graph, fetch_all);
    stats.lift_seconds += since(lifting);
    if (plan.stats().arena_bytes + plan.stats().result_bytes > options.memory && now.size() > 1) {
      const std::size_t half = now.size() / 2;
      todo.push_back(now.subspan(half));
      todo.push_back(now.first(half));
      continue;
    }
    const Results results =
        run_pass(base, program, plan, feeds, parameters, options, static_cast<int>(first),
                 static_cast<int>(now.size()), stats.worlds);
    for (const LiftedOutput& o : program.outputs)
      copy_rows(o, results, base.graph().node(o.node).type.shape, first, swept.values_[o.name]);
    for (std::size_t w = 0; w < now.size(); ++w)
      swept.has_effect_[static_cast<std::size_t>(first) + w] = program.has_effect[w];
    stats.without_effect += silent;
    add_pass(stats, plan.stats());
  }
  stats.base_seconds = base.seconds();
  stats.base_passes = base.passes();
  stats.seconds = since(start);
  return swept;
}

Graph sweep_program(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                    std::span<const Interventions> worlds, const std::vector<std::string>& outputs,
                    const SweepOptions& options) {
  BaseRun base(graph, edited_sites(graph, worlds), feeds, parameters, options);
  return lift(base, feeds, worlds, 0, outputs, options).graph;
}

}  // namespace vitrine

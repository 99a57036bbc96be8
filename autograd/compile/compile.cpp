// From a graph and a list of wanted values to a program: what is computed, in which order, where
// its bytes lie.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "autograd/compile/optimise.h"
#include "autograd/compile/program.h"
#include "autograd/ops/op_table.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine {

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

// Everything that must have its whole value.
std::vector<NodeId> ids_of(const Graph& g, const Fetch& wanted, const Updates& updates) {
  std::vector<NodeId> ids;
  for (const WantedNode& w : resolve(g, wanted)) ids.push_back(w.node);
  for (const auto& [leaf, output] : updates) ids.push_back(g.output(output));
  return ids;
}

std::vector<Type> types_of_inputs(const Graph& g, const Node& n) {
  std::vector<Type> in;
  for (const NodeId i : n.inputs) in.push_back(g.node(i).type);
  return in;
}

bool same_elements(const Operand& a, const Operand& b) {
  return a.storage == b.storage && a.layout.offset == b.layout.offset &&
         a.layout.shape == b.layout.shape && a.layout.strides == b.layout.strides;
}

bool covers_its_storage(const Operand& o, const Storage& s) {
  return o.layout.offset == 0 && o.layout.is_contiguous() &&
         numel(o.layout.shape) * size_of(s.dtype) == s.bytes;
}

// Lets a step write its output over an input that dies there; and over a leaf that the output will
// replace.
class InPlace {
 public:
  InPlace(std::vector<Storage>& storage, std::vector<Step>& steps)
      : storage_(storage), steps_(steps) {
    last_read_.assign(storage.size(), -1);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (const Operand& o : steps[i].in) last_read_[index(o)] = static_cast<int>(i);
    }
  }

  // Values that outlive the steps: results, and sources of copies at the end.
  void keep(const Operand& o) { last_read_[index(o)] = static_cast<int>(steps_.size()); }

  // The storage that stands in for each.
  std::vector<int> aliases() {
    std::vector<int> alias(storage_.size());
    std::iota(alias.begin(), alias.end(), 0);
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      Step& step = steps_[i];
      const auto own = static_cast<std::size_t>(step.out.storage);
      if (storage_[own].where != Storage::Where::arena) continue;
      const OpDef::InPlace rule = step.node->op->in_place;
      const std::size_t candidates = rule == OpDef::InPlace::never         ? 0
                                     : rule == OpDef::InPlace::first_input ? 1
                                                                           : step.in.size();
      for (std::size_t k = 0; k < std::min(candidates, step.in.size()); ++k) {
        const auto from = static_cast<std::size_t>(alias[index(step.in[k])]);
        if (!may_overwrite(step, i, k, from, own, alias)) continue;
        alias[own] = static_cast<int>(from);
        last_read_[from] = std::max(last_read_[from], last_read_[own]);
        ++count_;
        break;
      }
    }
    return alias;
  }
  int count() const { return count_; }

 private:
  static std::size_t index(const Operand& o) { return static_cast<std::size_t>(o.storage); }

  bool may_overwrite(const Step& step, std::size_t i, std::size_t k, std::size_t from,
                     std::size_t own, const std::vector<int>& alias) const {
    const Storage& s = storage_[from];
    if (s.where != Storage::Where::arena || s.bytes != storage_[own].bytes ||
        s.dtype != storage_[own].dtype)
      return false;
    if (!covers_its_storage(step.in[k], s) || !(step.in[k].layout.shape == step.out.layout.shape))
      return false;
    if (last_read_[from] != static_cast<int>(i)) return false;
    for (std::size_t other = 0; other < step.in.size();
         ++other) {  // another view of the same bytes must be the same view
      if (alias[index(step.in[other])] != static_cast<int>(from)) continue;
      if (!(step.in[other].layout.strides == step.in[k].layout.strides) ||
          !covers_its_storage(step.in[other], s))
        return false;
    }
    return true;
  }

  std::vector<Storage>& storage_;
  std::vector<Step>& steps_;
  std::vector<int> last_read_;
  int count_ = 0;
};

// Makes the step that produces `value` write into `leaf`, when its op can and nothing reads the old
// value later.
bool donate(std::vector<Storage>& storage, std::vector<Step>& steps, const Operand& leaf,
            const Operand& value) {
  const auto target = static_cast<std::size_t>(value.storage);
  if (storage[target].where != Storage::Where::arena || !covers_its_storage(value, storage[target]))
    return false;
  std::size_t maker = steps.size();
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].out.storage == value.storage) maker = i;
  }
  if (maker == steps.size() || steps[maker].node->op->in_place == OpDef::InPlace::never)
    return false;
  const Step& step = steps[maker];
  const bool first = step.node->op->in_place == OpDef::InPlace::first_input;
  for (std::size_t k = 0; k < step.in.size(); ++k) {
    const bool reads_leaf = step.in[k].storage == leaf.storage;
    if (first && k > 0 && reads_leaf) return false;
    if (first && k == 0 && !reads_leaf) return false;
    // Read as it is: a slice or a broadcast of the old value would be overwritten while others still need it.
    if (reads_leaf && !same_elements(step.in[k], leaf)) return false;
  }
  for (std::size_t i = maker + 1; i < steps.size(); ++i) {
    for (const Operand& o : steps[i].in) {
      if (o.storage == leaf.storage) return false;
    }
  }
  for (Step& s : steps) {
    if (s.out.storage == value.storage) s.out.storage = leaf.storage;
  }
  return true;
}

}  // namespace

// When a run reads each leaf for the last time and writes it for the first: a caller may give two
// leaves the same memory, which is right only if nothing reads it after it was written.
void Plan::Program::note_uses_of_leaves() {
  const int end = static_cast<int>(steps.size());
  const auto leaf_of = [&](const Operand& o) -> NamedLeaf* {
    const Storage& s = storage[static_cast<std::size_t>(o.storage)];
    const auto at = static_cast<std::size_t>(s.at);
    return s.where == Storage::Where::feed        ? &feeds[at]
           : s.where == Storage::Where::parameter ? &parameters[at]
                                                  : nullptr;
  };
  const auto read = [&](const Operand& o, int when) {
    if (NamedLeaf* leaf = leaf_of(o)) leaf->last_read = std::max(leaf->last_read, when);
  };
  const auto write = [&](const Operand& o, int when) {
    if (NamedLeaf* leaf = leaf_of(o)) leaf->first_write = std::min(leaf->first_write, when);
  };
  for (int i = 0; i < end; ++i) {
    const Step& step = steps[static_cast<std::size_t>(i)];
    for (const Operand& o : step.in) read(o, i);
    write(step.out, i);
  }
  for (const NamedResult& r : results) read(r.operand, end);
  for (const Copy& c : copies) {
    read(c.from, end);
    write(c.to, end + 1);
  }
}

// ---- compile ----------------------------------------------------------------------------------
Plan compile(const Graph& graph, const Fetch& wanted, const Updates& updates) {
  auto program = std::make_shared<Plan::Program>();
  for (const Node& n : graph.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf != nullptr && n.op->kind != OpKind::parameter) program->inputs.push_back(leaf->name);
  }
  std::sort(program->inputs.begin(), program->inputs.end());
  program->graph = expand_sites(graph, wanted_sites(graph, wanted));
  if (auto narrowed = narrow_columns(program->graph, ids_of(program->graph, wanted, updates))) {
    program->graph = std::move(narrowed->graph);
    program->stats.narrowed_columns = narrowed->nodes;
  }
  if (auto narrowed =
          narrow_sparse_products(program->graph, ids_of(program->graph, wanted, updates))) {
    program->graph = std::move(narrowed->graph);
    program->stats.sparse_products = narrowed->nodes;
  }
  if (auto narrowed =
          sum_before_products(program->graph, ids_of(program->graph, wanted, updates))) {
    program->graph = std::move(narrowed->graph);
    program->stats.summed_products = narrowed->nodes;
  }
  if (auto narrowed = narrow_rows(program->graph, ids_of(program->graph, wanted, updates))) {
    program->graph = std::move(narrowed->graph);
    program->stats.narrowed = narrowed->nodes;
  }
  const Graph& g = program->graph;
  const std::vector<WantedNode> wanted_nodes = resolve(g, wanted);
  std::vector<NodeId> ids;
  for (const WantedNode& w : wanted_nodes) ids.push_back(w.node);
  struct LeafUpdate {
    NodeId leaf, value;
  };
  std::vector<LeafUpdate> leaf_updates;
  for (const auto& [leaf, output] : updates) {
    const LeafUpdate u{g.leaf(leaf), g.output(output)};
    if (u.leaf == kNoNode)
      throw GraphError(fmt::format("there is no input or parameter '{}' to update", leaf));
    if (!(g.node(u.leaf).type == g.node(u.value).type)) {
      throw GraphError(fmt::format("'{}' is {}; it cannot be updated by '{}', a {}", leaf,
                                   to_string(g.node(u.leaf).type), output,
                                   to_string(g.node(u.value).type)));
    }
    if (std::holds_alternative<LeafName>(g.node(u.value).attributes) && u.leaf != u.value) {
      throw GraphError(fmt::format("'{}' cannot be updated by another leaf, '{}'", leaf, output));
    }
    leaf_updates.push_back(u);
    ids.insert(ids.end(), {u.leaf, u.value});
  }
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
  const std::vector<const Node*> producers = fusions(g, pruned, ids);
  std::vector<bool> absorbed(static_cast<std::size_t>(g.next_id()), false);
  for (const Node* p : producers) {
    if (p != nullptr) absorbed[static_cast<std::size_t>(p->id)] = true;
  }
  for (const Node* n : pruned.nodes) {
    if (absorbed[static_cast<std::size_t>(n->id)]) continue;
    if (const Node* p = producers[static_cast<std::size_t>(n->id)]) {
      Node one = *n;
      one.op = fused(*p->op, *n->op);
      one.inputs = p->inputs;
      n = &program->fused.emplace_back(std::move(one));
      ++program->stats.fused;
    }
    Operand& out = operand[static_cast<std::size_t>(n->id)];
    if (const auto* leaf = std::get_if<LeafName>(&n->attributes)) {
      const bool parameter = n->op->kind == OpKind::parameter;
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
    const std::int64_t flops =
        n->op->flops == nullptr ? 0 : n->op->flops({in, n->attributes}, n->type);
    Step step{n, {}, new_storage(n->type, Storage::Where::arena, 0), flops};
    for (const NodeId i : n->inputs) step.in.push_back(of(i));
    out = step.out;
    if (n->op->scratch != nullptr) {
      const std::int64_t bytes = n->op->scratch({in, n->attributes});
      program->storage.push_back({Storage::Where::arena, 0, bytes, DType::boolean});
      step.scratch = static_cast<int>(program->storage.size()) - 1;
    }
    program->stats.flops += flops;
    program->stats.intermediate_bytes +=
        program->storage[static_cast<std::size_t>(step.out.storage)].bytes;
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

  // Updated leaves: written in place where that is safe, copied at the end otherwise. Every update is of the values
  // before the run, so what another update would overwrite (a leaf, or a view of one) is kept aside first.
  program->feed_written.assign(program->feeds.size(), false);
  program->parameter_written.assign(program->parameters.size(), false);
  const auto set_value = [&](int from, int to) {  // views of a donated value look into the leaf
    for (Step& s : program->steps) {
      for (Operand& o : s.in) o.storage = o.storage == from ? to : o.storage;
    }
    for (NamedResult& r : program->results)
      r.operand.storage = r.operand.storage == from ? to : r.operand.storage;
    for (Copy& c : program->copies) c.from.storage = c.from.storage == from ? to : c.from.storage;
    for (Operand& o : operand) o.storage = o.storage == from ? to : o.storage;
  };
  std::vector<std::optional<Operand>> aside(leaf_updates.size());
  for (std::size_t i = 0; i < leaf_updates.size(); ++i) {
    const Operand value = of(leaf_updates[i].value), own = of(leaf_updates[i].leaf);
    const bool of_updated_leaf =
        std::any_of(leaf_updates.begin(), leaf_updates.end(),
                    [&](const LeafUpdate& u) { return of(u.leaf).storage == value.storage; });
    if (!of_updated_leaf || same_elements(value, own)) continue;
    aside[i] = new_storage(g.node(leaf_updates[i].value).type, Storage::Where::arena, 0);
    program->kept_aside.push_back({value, *aside[i]});
  }
  for (std::size_t i = 0; i < leaf_updates.size(); ++i) {
    const LeafUpdate& u = leaf_updates[i];
    const Operand leaf = of(u.leaf), value = aside[i] ? *aside[i] : of(u.value);
    const Storage& s = program->storage[static_cast<std::size_t>(leaf.storage)];
    (s.where == Storage::Where::feed ? program->feed_written
                                     : program->parameter_written)[static_cast<std::size_t>(s.at)] =
        true;
    if (same_elements(leaf, value)) continue;  // the leaf itself
    const bool fetched =
        std::any_of(program->results.begin(), program->results.end(), [&](const NamedResult& r) {
          return r.operand.storage == leaf.storage;
        });  // its old value is wanted too
    if (!fetched && donate(program->storage, program->steps, leaf, value)) {
      set_value(value.storage, leaf.storage);
      ++program->stats.in_place;
    } else {
      program->copies.push_back({value, leaf});
      ++program->stats.update_copies;
    }
  }

  InPlace in_place(program->storage, program->steps);
  for (const NamedResult& r : program->results) in_place.keep(r.operand);
  for (const Copy& c : program->copies) in_place.keep(c.from);
  const std::vector<int> alias = in_place.aliases();
  program->stats.in_place += in_place.count();
  const auto follow = [&](Operand& o) { o.storage = alias[static_cast<std::size_t>(o.storage)]; };
  for (Step& s : program->steps) {
    std::for_each(s.in.begin(), s.in.end(), follow);
    follow(s.out);
  }
  for (Copy& c : program->copies) follow(c.from);
  program->note_uses_of_leaves();

  // Liveness: a value's bytes are taken at the step that first writes them and free again after the
  // last that reads them.
  std::vector<int> last_read(program->storage.size(), -1), first_write(program->storage.size(), -1);
  for (std::size_t i = 0; i < program->steps.size(); ++i) {
    const auto out = static_cast<std::size_t>(program->steps[i].out.storage);
    if (first_write[out] < 0) first_write[out] = static_cast<int>(i);
    last_read[out] = static_cast<int>(i);
    for (const Operand& o : program->steps[i].in)
      last_read[static_cast<std::size_t>(o.storage)] = static_cast<int>(i);
    if (const int scratch = program->steps[i].scratch; scratch >= 0)
      last_read[static_cast<std::size_t>(scratch)] = static_cast<int>(i);
  }
  for (const Copy& c : program->copies)
    last_read[static_cast<std::size_t>(c.from.storage)] = static_cast<int>(program->steps.size());
  ArenaPlanner planner;
  for (const Copy& c : program->kept_aside) {  // from before the first step to the end
    Storage& s = program->storage[static_cast<std::size_t>(c.to.storage)];
    s.at = planner.take(s.bytes);
  }
  std::vector<std::vector<int>> dies(program->steps.size());
  for (std::size_t s = 0; s < program->storage.size(); ++s) {
    const bool ends = last_read[s] >= 0 && last_read[s] < static_cast<int>(program->steps.size());
    if (program->storage[s].where == Storage::Where::arena && ends) {
      dies[static_cast<std::size_t>(last_read[s])].push_back(static_cast<int>(s));
    }
  }
  for (std::size_t i = 0; i < program->steps.size(); ++i) {
    Storage& out = program->storage[static_cast<std::size_t>(program->steps[i].out.storage)];
    const bool fresh =
        first_write[static_cast<std::size_t>(program->steps[i].out.storage)] == static_cast<int>(i);
    if (const int scratch = program->steps[i].scratch; scratch >= 0) {
      Storage& s = program->storage[static_cast<std::size_t>(scratch)];
      s.at = planner.take(s.bytes);
    }
    if (out.where == Storage::Where::arena && fresh) out.at = planner.take(out.bytes);
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
  program->timing.steps = std::vector<std::atomic<std::int64_t>>(program->steps.size());
  program->timing.products = std::vector<std::atomic<std::int64_t>>(program->steps.size());
  program->memory = std::make_shared<MemoryPool>(4 * (stats.arena_bytes + stats.result_bytes));
  Plan plan;
  plan.program_ = std::move(program);
  return plan;
}

}  // namespace vitrine

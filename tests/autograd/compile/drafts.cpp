#include "tests/autograd/compile/drafts.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "autograd/ops/ops.h"
#include "tensor/random.h"

namespace vitrine::test {

Draft laid_out(const Graph& graph, const Fetch& wanted, const Updates& updates) {
  std::vector<NodeId> ids;
  for (const WantedNode& w : wanted_nodes(graph, wanted)) ids.push_back(w.node);
  for (const LeafUpdate& u : leaf_updates(graph, updates)) ids.insert(ids.end(), {u.leaf, u.value});
  return lay_out(graph, prune(graph, ids), ids);
}

Draft with_results(const Graph& graph, const Fetch& wanted, const Updates& updates) {
  return place_results(laid_out(graph, wanted, updates), wanted_nodes(graph, wanted));
}

Draft with_updates(const Graph& graph, const Fetch& wanted, const Updates& updates) {
  return place_updates(with_results(graph, wanted, updates), leaf_updates(graph, updates));
}

Draft complete(const Graph& graph, const Fetch& wanted, const Updates& updates) {
  return place_in_arena(write_over_inputs(with_updates(graph, wanted, updates)));
}

const Operand& operand(const Graph& graph, const Draft& draft, const std::string& output) {
  return draft.values[static_cast<std::size_t>(graph.output(output))];
}

const Storage& storage(const Graph& graph, const Draft& draft, const std::string& output) {
  return draft.program.storage_of(operand(graph, draft, output));
}

std::vector<Tensor> run(const Graph& graph, const Draft& draft, const Feeds& feeds,
                        const Parameters& parameters) {
  std::vector<std::string> inputs;
  for (const auto& [name, tensor] : feeds) inputs.push_back(name);
  const Bound bound = bind_leaves(draft.program, inputs, feeds, parameters);
  require_unshared(draft.program, bound);
  const auto memory = std::make_shared<MemoryPool>(1 << 20);
  ThreadPool pool(1);
  Timing timing(draft.program.steps.size());
  return execute({draft.program, graph, bound, *memory, pool, {}}, timing);
}

Fetch RandomProgram::fetch() const {
  Fetch wanted;
  for (const std::string& name : wanted_outputs) wanted.wants.push_back(value(name));
  return wanted;
}

namespace {

class Drawing {
 public:
  explicit Drawing(int number) : key_{static_cast<std::uint64_t>(number)} {
    for (int i = 0; i < 4; ++i) values_.push_back(b_.parameter(fmt::format("w{}", i), type_));
    values_.push_back(b_.input("x", type_));
    for (int i = 0; i < 16; ++i) values_.push_back(step());
  }

  RandomProgram finish() {
    RandomProgram drawn;
    for (std::size_t i = 0; i < values_.size(); ++i) b_.output(fmt::format("y{}", i), values_[i]);
    for (int i = 0; i < 3; ++i)
      drawn.wanted_outputs.push_back(fmt::format("y{}", below(std::ssize(values_))));
    for (int i = 0; i < 4; ++i) {
      if (below(2) == 0) continue;
      const std::string name = fmt::format("w{}.next", i);
      b_.output(name, identity(any()));
      drawn.updates[fmt::format("w{}", i)] = name;
    }
    drawn.graph = std::move(b_).finish();
    return drawn;
  }

 private:
  std::int64_t below(std::int64_t n) { return random::below(key_, drawn_++, n); }
  Value any() {  // late ones more often
    const auto n = std::ssize(values_);
    return values_[static_cast<std::size_t>(std::max(below(n), below(n)))];
  }

  Value step() {
    const Value x = any();
    switch (below(9)) {
      case 0:
        return tanh(x);
      case 1:
        return x * 0.5;
      case 2:
        return x + any();
      case 3:
        return x * any();
      case 4:
        return transpose(x);
      case 5:
        return slice(x, static_cast<int>(below(2)), 1, 2) + any();  // a broadcast view
      case 6:
        return reshape(transpose(reshape(x, {2, 8})), {4, 4});
      case 7:
        return matmul(x, any()) * 0.1;
      default:
        return broadcast_to(slice(x, 0, 0, 1), {4, 4});
    }
  }

  const Type type_{DType::f64, {4, 4}};
  random::Key key_;
  std::uint64_t drawn_ = 0;
  Builder b_;
  std::vector<Value> values_;
};

}  // namespace

RandomProgram random_program(int number) { return Drawing(number).finish(); }

}  // namespace vitrine::test

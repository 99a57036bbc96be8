#include "tests/autograd/graph/reach_check.h"

#include <fmt/format.h>

#include <cstring>
#include <set>

namespace vitrine::test {
namespace {

// Two values are the same when their bits are.
template <class T>
std::vector<bool> differences(const Tensor& a, const Tensor& b) {
  std::vector<bool> result(static_cast<std::size_t>(a.numel()));
  const auto x = a.to_vector<T>(), y = b.to_vector<T>();
  for (std::size_t i = 0; i < result.size(); ++i) {
    const T p = x[i], q = y[i];
    result[i] = std::memcmp(&p, &q, sizeof(T)) != 0;
  }
  return result;
}
std::vector<bool> differences(const Tensor& a, const Tensor& b) {
  switch (a.dtype()) {
    case DType::f64:
      return differences<double>(a, b);
    case DType::i64:
      return differences<std::int64_t>(a, b);
    case DType::i32:
      return differences<std::int32_t>(a, b);
    case DType::boolean:
      return differences<bool>(a, b);
    default:
      return differences<float>(a, b);  // f32 holds every f16 and bf16
  }
}

template <class T>
Tensor with_element(const Tensor& t, std::int64_t i, T value) {
  Tensor copy = t.clone();
  copy.data<T>()[i] = value;
  return copy;
}

template <class T>
void add_other_values(const Tensor& t, std::int64_t i, std::vector<Tensor>& out) {
  const auto all = t.to_vector<T>();
  for (const T v : std::set<T>(all.begin(), all.end())) {
    if (v != all[static_cast<std::size_t>(i)]) out.push_back(with_element<T>(t, i, v));
  }
}

// The tensor with element i changed in several ways. Integers take the values of their neighbours,
// which are in range.
std::vector<Tensor> perturbed(const Tensor& t, std::int64_t i) {
  std::vector<Tensor> out;
  switch (t.dtype()) {
    case DType::f64: {
      const double x = t.data<double>()[i];
      for (const double y : {x + 1e-3, x - 1e-3, 900.0, -900.0, -x})
        out.push_back(with_element<double>(t, i, y));
      break;
    }
    case DType::f32: {
      const float x = t.data<float>()[i];
      for (const float y : {x + 1e-3f, 900.0f, -900.0f})
        out.push_back(with_element<float>(t, i, y));
      break;
    }
    case DType::i32:
      add_other_values<std::int32_t>(t, i, out);
      break;
    case DType::i64:
      add_other_values<std::int64_t>(t, i, out);
      break;
    case DType::boolean:
      out.push_back(with_element<bool>(t, i, !t.data<bool>()[i]));
      break;
    case DType::f16:
    case DType::bf16:
      out.push_back(with_element<float>(t.to(DType::f32), i, 3.0f).to(t.dtype()));
      break;
    default:
      break;  // blocks are read from files: no sample has them
  }
  return out;
}

// Which operands of the attention family are packed query rows and which key rows, and where its
// tables begin.
struct PackedOp {
  std::string_view name;
  std::vector<RowKind> in;
  RowKind out;
  std::size_t tables;  // sequence, position, keys
};
const std::vector<PackedOp>& packed_ops() {
  static const std::vector<PackedOp> kOps = {
      {"attention_scores", {RowKind::query, RowKind::key}, RowKind::query, 2},
      {"attention_outer", {RowKind::query, RowKind::key}, RowKind::query, 2},
      {"attention_mix", {RowKind::query, RowKind::key}, RowKind::query, 2},
      {"attention_mix_transposed", {RowKind::query, RowKind::query}, RowKind::key, 2},
      {"attention", {RowKind::query, RowKind::key, RowKind::key}, RowKind::query, 3},
  };
  return kOps;
}
const PackedOp* packed_op(std::string_view name) {
  for (const PackedOp& op : packed_ops()) {
    if (op.name == name) return &op;
  }
  return nullptr;
}

}  // namespace

Dims index_of(std::int64_t element, const Shape& shape) {
  Dims index = Dims::filled(shape.size(), 0);
  for (int a = shape.size() - 1; a >= 0; --a) {
    index[a] = element % shape[a];
    element /= shape[a];
  }
  return index;
}

std::vector<Type> OpCall::types() const {
  std::vector<Type> types;
  for (const Tensor& t : in) types.push_back({t.dtype(), t.shape()});
  return types;
}

Reach OpCall::reach() const { return op->reach({types(), out, attributes, facts, inputs}); }

Tensor OpCall::run() const {
  const std::vector<Type> in_types = types();
  if (op->eval == nullptr) {
    const auto layout = op->view({in_types, attributes}, Layout::contiguous(in[0].shape()));
    return in[0].contiguous().with_layout(layout.value()).clone();
  }
  Tensor result = Tensor::empty(out.shape, out.dtype);
  std::vector<View> views;
  for (const Tensor& t : in) views.push_back(t.view());
  ThreadPool pool(1);
  const View view = result.view();
  op->eval({views, view, attributes, pool});
  return result;
}

ReachRule::ReachRule(const OpCall& call)
    : reach_(call.reach()), op_(call.op->name), out_(call.out.shape) {
  for (const Tensor& t : call.in) in_.push_back(t.shape());
  if (const PackedOp* packed = packed_op(op_)) {
    sequence_ = call.in[packed->tables].to_vector<std::int32_t>();
    position_ = call.in[packed->tables + 1].to_vector<std::int32_t>();
    keys_ = call.in[packed->tables + 2].to_vector<std::int32_t>();
    context_ = call.in[packed->tables + 2].dim(1);
  } else if (op_ == "mask" &&
             call.in.size() > 1) {  // a table of positions, and no sequences to tell apart
    position_ = call.in[1].to_vector<std::int32_t>();
    sequence_.assign(position_.size(), 0);
  }
}

std::vector<ReachRule::Place> ReachRule::places(RowKind kind, std::int64_t row) const {
  if (kind == RowKind::none) return {Place{}};
  if (kind == RowKind::query) {
    return {
        {sequence_.at(static_cast<std::size_t>(row)), position_.at(static_cast<std::size_t>(row))}};
  }
  std::vector<Place> found;
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    if (keys_[i] == row)
      found.push_back(
          {static_cast<std::int64_t>(i) / context_, static_cast<std::int64_t>(i) % context_});
  }
  return found;
}

bool ReachRule::allows(std::size_t input, std::int64_t in_element, std::int64_t out_element) const {
  const InputReach& rule = reach_.at(input);
  if (!rule.reaches) return false;
  const Dims i = index_of(in_element, in_[input]), o = index_of(out_element, out_);
  // The links hold together: for one place of the input's row and one of the output's.
  const PackedOp* packed = packed_op(op_);
  RowKind in_kind = RowKind::none, out_kind = RowKind::none;
  std::int64_t in_row = 0, out_row = 0;
  for (const Link& l : rule.links) {
    if (l.in != Coordinate::index) {
      in_kind = packed != nullptr ? packed->in.at(input) : RowKind::query;
      in_row = i[l.in_axis];
    }
    if (l.out != Coordinate::index) {
      out_kind = packed != nullptr ? packed->out : RowKind::query;
      out_row = o[l.out_axis];
    }
  }
  const auto coordinate = [](Coordinate c, std::int64_t index, const Place& place) {
    return c == Coordinate::index      ? index
           : c == Coordinate::sequence ? place.sequence
                                       : place.position;
  };
  for (const Place& from : places(in_kind, in_row)) {
    for (const Place& to : places(out_kind, out_row)) {
      bool all = true;
      for (const Link& l : rule.links) {
        all = all &&
              l.holds(coordinate(l.in, i[l.in_axis], from), coordinate(l.out, o[l.out_axis], to));
      }
      if (all) return true;
    }
  }
  return false;
}

ReachReport check_reach(const OpCall& call) {
  ReachReport report;
  report.moved.assign(call.in.size(), false);
  const ReachRule rule(call);
  if (rule.reach().size() != call.in.size()) {
    report.violations.push_back(fmt::format("{} has {} inputs, its rule {}", call.op->name,
                                            call.in.size(), rule.reach().size()));
    return report;
  }
  const Tensor before = call.run();
  for (std::size_t k = 0; k < call.in.size(); ++k) {
    for (std::int64_t i = 0; i < call.in[k].numel(); ++i) {
      for (const Tensor& changed : perturbed(call.in[k], i)) {
        OpCall other = call;
        other.in[k] = changed;
        const std::vector<bool> moved = differences(before, other.run());
        for (std::size_t o = 0; o < moved.size(); ++o) {
          if (!moved[o]) continue;
          report.moved[k] = true;
          if (rule.allows(k, i, static_cast<std::int64_t>(o))) continue;
          report.violations.push_back(fmt::format(
              "{}: element {} of input {} moves element {} of the output, but the rule says \"{}\"",
              call.op->name, to_string(index_of(i, call.in[k].shape())), k,
              to_string(index_of(static_cast<std::int64_t>(o), call.out.shape)),
              to_string(rule.reach())));
        }
      }
    }
  }
  return report;
}

GraphReach::GraphReach(const Graph& graph, const Feeds& feeds) {
  Builder b(graph);
  Fetch all;
  const auto name = [](NodeId id) { return fmt::format("%{}", id); };
  for (const Node& n : graph.nodes()) {
    b.output(name(n.id), b.value(n.id));
    all.wants.push_back(vitrine::value(name(n.id)));
  }
  graph_ = std::move(b).finish();
  const Results results = compile(graph_, all).run(feeds, {}, {.find_nan = false});
  const std::vector<Fact> known = facts(graph_);
  for (std::size_t i = 0; i < known.size(); ++i) {
    const NodeId id = graph_.nodes()[i].id;
    values_[id] = results.raw(name(id));
    facts_[id] = known[i];
  }
}

OpCall GraphReach::call(const Node& node) const {
  OpCall call{node.op, node.attributes, {}, node.type, {}};
  for (const NodeId i : node.inputs) {
    call.in.push_back(value(i).contiguous());
    call.facts.push_back(fact(i));
    call.inputs.push_back(i);
  }
  return call;
}

std::vector<bool> GraphReach::reached(NodeId from, std::int64_t from_element, NodeId to) const {
  std::map<NodeId, std::vector<bool>> by_node;
  for (const Node& n : graph_.nodes()) {
    std::vector<bool>& out = by_node[n.id];
    out.assign(static_cast<std::size_t>(numel(n.type.shape)), false);
    if (n.id == from) {
      out[static_cast<std::size_t>(from_element)] = true;
    } else if (!n.inputs.empty()) {
      const ReachRule rule(call(n));
      for (std::size_t k = 0; k < n.inputs.size(); ++k) {
        const std::vector<bool>& in = by_node[n.inputs[k]];
        for (std::size_t i = 0; i < in.size(); ++i) {
          if (!in[i]) continue;
          for (std::size_t o = 0; o < out.size(); ++o) {
            out[o] = out[o] ||
                     rule.allows(k, static_cast<std::int64_t>(i), static_cast<std::int64_t>(o));
          }
        }
      }
    }
    if (n.id == to) return out;
  }
  return {};
}

std::vector<OpCall> calls_of(const Sample& sample) {
  const Case c = make_case(sample);
  Feeds leaves = c.feeds;
  Graph graph = c.graph;
  const GraphReach values =
      c.parameters.empty() ? GraphReach(graph, leaves) : GraphReach(Graph(), {});
  std::vector<OpCall> calls;
  for (const Node& n : values.graph().nodes()) {
    if (n.op->name == sample.op && !n.inputs.empty()) calls.push_back(values.call(n));
  }
  return calls;
}

}  // namespace vitrine::test

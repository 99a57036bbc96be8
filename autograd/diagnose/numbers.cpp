// What numbers of a run say: NaN and where it is from, units that are dead or explode, the loss
// beside ln(vocabulary), and tied weights.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "autograd/diagnose/checks.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine {

// ---- NaN --------------------------------------------------------------------------------------
namespace {

// The leaves that a gradient can flow into and that the output depends on.
std::vector<std::string> differentiable_leaves(const Graph& g, NodeId output) {
  const std::vector<bool> used = ancestors_of(g, output);
  std::vector<std::string> names;
  for (const Node& n : g.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf != nullptr && n.op == &kParameter && used[by_id(n.id)] &&
        is_compute_float(n.type.dtype)) {
      names.push_back(leaf->name);
    }
  }
  return names;
}

Finding bad_number(const std::string& what) {
  return {.severity = Finding::Severity::problem,
          .check = "nan",
          .what = what,
          .remedy = "look at the op that is named and at what it reads",
          .how = "run"};
}

// NaN or infinities of a forward run; "" where there are none.
std::string bad_forward(const Examined& e) {
  Fetch wanted;
  for (const std::string& name : std::set<std::string>{e.output, e.loss})
    if (!name.empty()) wanted.wants.push_back(value(name));
  const Plan plan = compile(e.graph, wanted);
  try {
    const Results r = plan.run(plan.taken(e.feeds), e.parameters, e.options());
    for (const std::string& name : r.names())
      if (!all_finite(r.raw(name))) return fmt::format("'{}' holds infinities", name);
  } catch (const NumericError& error) {
    return error.what();
  }
  return "";
}

// The norms of gradients, not the gradients themselves, are results: they take no memory.
std::string bad_gradient(const Examined& e) {
  std::string scalar;
  const Graph model = with_scalar(e, scalar);
  const std::vector<std::string> names = differentiable_leaves(model, model.output(scalar));
  for (const std::string& name : names) {
    if (!all_finite(e.parameters.at(name)))
      return fmt::format("the parameter '{}' holds infinities", name);
  }
  if (names.empty()) return "";
  const auto norm = [](const std::string& name) { return "diagnose.norm." + name; };
  try {
    const Graph g = gradient(model, scalar, leaves(fmt::format("{}", fmt::join(names, ","))));
    Builder b(g);
    Fetch wanted;
    for (const std::string& name : names) {
      b.output(norm(name), sum_squares(b.output(grad_name(name))));
      wanted.wants.push_back(value(norm(name)));
    }
    const Plan plan = compile(std::move(b).finish(), wanted);
    const Results r = plan.run(plan.taken(e.feeds), e.parameters, e.options());
    for (const std::string& name : names)
      if (!std::isfinite(r.scalar(norm(name))))
        return fmt::format("the gradient of '{}' holds infinities", name);
  } catch (const NumericError& error) {
    return fmt::format("in the gradients: {}", error.what());
  } catch (const GraphError&) {  // an op without a gradient: nothing to look at
  }
  return "";
}

}  // namespace

bool check_nan(const Examined& e, FindingList& findings) {
  std::string what = bad_forward(e);
  const bool forward = what.empty();
  if (forward) what = bad_gradient(e);
  if (what.empty()) {
    findings.push_back({.severity = Finding::Severity::ok,
                        .check = "nan",
                        .what = "all numbers of a run and of its gradients are finite",
                        .how = "run"});
  } else {
    findings.push_back(bad_number(what));
  }
  return what.empty();
}

// ---- units ------------------------------------------------------------------------------------
namespace {

constexpr double kNoSlope = 1e-3;  // below this, nothing that a unit computes can be learnt

struct ActivationNames {
  NodeId node;
  std::string slope;  // an output: the largest |slope| of each unit over the batch
};

// Activations over units: their last axis.
std::vector<ActivationNames> emit_slopes(Builder& b, const Graph& g,
                                         const std::vector<bool>& used) {
  std::vector<ActivationNames> found;
  for (const Node& n : g.nodes()) {
    const int rank = n.type.shape.size();
    if (n.op->kind != OpKind::activation || n.op->vjp == nullptr || !used[by_id(n.id)] ||
        rank < 2 || numel(n.type.shape) == 0) {
      continue;
    }
    const Value x = b.value(n.inputs[0]), y = b.value(n.id);
    const Value one = b.constant(Tensor::full(n.type.shape, n.type.dtype, 1));
    const std::vector<Value> in = {x};
    const Grads slope = n.op->vjp({b, in, y, one, n.attributes});
    if (!slope[0].defined()) continue;
    Dims rows;
    for (int a = 0; a + 1 < rank; ++a) rows.push_back(a);
    found.push_back({n.id, fmt::format("diagnose.slope.{}", n.id)});
    b.output(found.back().slope, max(abs(slope[0]), rows));
  }
  return found;
}

Finding units_finding(const Graph& g, NodeId node, const std::vector<double>& slope) {
  const auto dead =
      std::count_if(slope.begin(), slope.end(), [](double s) { return s < kNoSlope; });
  const auto units = std::ssize(slope);
  Finding f{
      .severity = dead * 10 >= units * 9 ? Finding::Severity::problem : Finding::Severity::note,
      .check = "dead_units",
      .how = "run"};
  f.what = fmt::format("{} of {} units of {} are dead on this batch: their slope is 0 in every row",
                       dead, units, g.node(node).op->name);
  f.remedy = f.severity == Finding::Severity::problem
                 ? "see what the layer reads: a bias far below 0, or weights that are too large"
                 : "units that stay so on a large batch learn no more";
  return finding_at(g, node, std::move(f));
}

// "blocks.*.hook_resid_post" of blocks.3.hook_resid_post, so that layers are compared with their
// like.
std::string without_numbers(const std::string& name) {
  std::string text;
  for (const char c : name) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit) text += c;
    else if (text.empty() || text.back() != '*') text += '*';
  }
  return text;
}

Dims all_axes(const Value& x) {
  Dims axes;
  for (int a = 0; a < x.rank(); ++a) axes.push_back(a);
  return axes;
}

struct SiteSize {
  std::string name, top, square;  // outputs: the largest |x|, and the mean of x^2
  NodeId node;
};

// [.., tokens, tokens], as scores are that are not said to be.
bool is_square(const Shape& shape, std::int64_t tokens) {
  const int rank = shape.size();
  return rank >= 2 && shape[rank - 1] == tokens && shape[rank - 2] == tokens;
}

std::vector<SiteSize> emit_sizes(Builder& b, const Examined& e, const std::vector<bool>& used) {
  const Graph& g = e.graph;
  const std::int64_t tokens = g.node(e.source).type.shape[e.axis];
  std::vector<SiteSize> found;
  const auto measure = [&](const std::string& name, NodeId id) {
    const Type& type = g.node(id).type;
    if (!used[by_id(id)] || !is_compute_float(type.dtype) || numel(type.shape) == 0) return;
    const Value x = b.value(id);
    found.push_back(
        {name, fmt::format("diagnose.top.{}", id), fmt::format("diagnose.square.{}", id), id});
    b.output(found.back().top, max(abs(x), all_axes(x)));
    b.output(found.back().square, mean(square(x)));
  };
  for (const SiteEntry& s : g.sites()) {
    // Masked scores hold -inf, or what stands for it.
    const bool scores = std::find(s.axes.begin(), s.axes.end(), Axis::key) != s.axes.end();
    if (!s.interior() && !scores && !is_square(s.type.shape, tokens)) measure(s.name, s.node);
  }
  for (const Node& n : g.nodes()) {
    if (n.op->kind != OpKind::activation) continue;
    const bool named = std::any_of(g.sites().begin(), g.sites().end(),
                                   [&](const SiteEntry& s) { return s.before == n.id; });
    if (!named) measure("", n.id);
  }
  return found;
}

void report_sizes(const Examined& e, const Results& r, const std::vector<SiteSize>& sizes,
                  FindingList& findings) {
  std::map<std::string, double> before;  // root mean square of the like site of the last layer
  for (const SiteSize& s : sizes) {
    const double top = r.scalar(s.top), rms = std::sqrt(r.scalar(s.square));
    const std::string like = without_numbers(s.name);
    const auto last = before.find(like);
    const bool grows = !s.name.empty() && last != before.end() && last->second > 0 &&
                       rms > e.spec.growth * last->second;
    if (top > e.spec.huge) {
      findings.push_back(finding_at(
          e.graph, s.node,
          {.severity = Finding::Severity::problem,
           .check = "exploding_units",
           .what = fmt::format("values up to {:.3g} in size, beyond {:.3g}", top, e.spec.huge),
           .remedy = "look at the weights before it, and at the norm in front of them",
           .how = "run"}));
    } else if (grows) {
      findings.push_back(finding_at(
          e.graph, s.node,
          {.severity = Finding::Severity::note,
           .check = "exploding_units",
           .what = fmt::format("the root mean square grows from {:.3g} to {:.3g} in one layer",
                               last->second, rms),
           .remedy = "some trained models do this at their first token; a new one should not",
           .how = "run"}));
    }
    if (!s.name.empty()) before[like] = rms;
  }
}

}  // namespace

void check_units(const Examined& e, FindingList& findings) {
  if (e.output.empty()) return;
  const std::vector<bool> used = ancestors_of(e.graph, e.graph.output(e.output));
  Builder b(e.graph);
  const std::vector<ActivationNames> slopes = emit_slopes(b, e.graph, used);
  const std::vector<SiteSize> sizes = emit_sizes(b, e, used);
  Fetch wanted;
  for (const ActivationNames& a : slopes) wanted.wants.push_back(value(a.slope));
  for (const SiteSize& s : sizes) {
    wanted.wants.push_back(value(s.top));
    wanted.wants.push_back(value(s.square));
  }
  if (wanted.wants.empty()) return;
  const Plan plan = compile(std::move(b).finish(), wanted);
  const Results r = plan.run(plan.taken(e.feeds), e.parameters, e.options());
  FindingList found;
  std::int64_t units = 0;
  for (const ActivationNames& a : slopes) {
    const std::vector<double> slope = r.raw(a.slope).to_vector<double>();
    units += std::ssize(slope);
    if (std::any_of(slope.begin(), slope.end(), [](double s) { return s < kNoSlope; }))
      found.push_back(units_finding(e.graph, a.node, slope));
  }
  if (found.empty() && !slopes.empty()) {
    found.push_back({.check = "dead_units",
                     .what = fmt::format("each of {} units is active in some row", units),
                     .how = "run"});
  }
  const std::size_t before = found.size();
  report_sizes(e, r, sizes, found);
  if (found.size() == before && !sizes.empty()) {
    double top = 0;
    for (const SiteSize& s : sizes) top = std::max(top, r.scalar(s.top));
    found.push_back({.check = "exploding_units",
                     .what = fmt::format("no value is larger than {:.3g}", top),
                     .how = "run"});
  }
  findings.insert(findings.end(), found.begin(), found.end());
}

// ---- the loss ---------------------------------------------------------------------------------
void check_loss(const Examined& e, FindingList& findings) {
  if (e.loss.empty()) return;
  std::int64_t vocabulary = e.spec.vocabulary;
  if (vocabulary == 0 && !e.output.empty()) {
    const Shape& shape = e.graph.node(e.graph.output(e.output)).type.shape;
    if (shape.size() > 1) vocabulary = shape.back();
  }
  if (vocabulary < 2) return;
  const Plan plan = compile(e.graph, fetch(value(e.loss)));
  const double loss = plan.run(plan.taken(e.feeds), e.parameters, e.options()).scalar(e.loss);
  const double even = std::log(static_cast<double>(vocabulary));
  Finding f{.check = "loss", .how = "run"};
  f.what = fmt::format("the loss is {:.3f} nats, ln({}) is {:.3f}", loss, vocabulary, even);
  const double allowed = std::max(0.5, 0.1 * even);
  if (e.spec.untrained && std::abs(loss - even) > allowed) {
    f.severity = Finding::Severity::problem;
    f.what += "; untrained weights know nothing yet, and should be near it";
    f.remedy = loss > even
                   ? "initial weights are too large: the logits of an untrained model should "
                     "be small"
                   : "see whether the targets can be seen by the rows that predict them";
  }
  findings.push_back(std::move(f));
}

// ---- tied weights -----------------------------------------------------------------------------
namespace {

// The leaf that a weight is a view of; kNoNode where it is computed.
NodeId leaf_of(const Graph& g, NodeId weight) {
  const NodeId maker = maker_of(g, weight);
  return g.node(maker).op == &kParameter ? maker : kNoNode;
}

// The embedding and unembedding: as the model's builder names them, or else the table that is
// gathered from by tokens and the parameter that the output is a product with.
std::pair<NodeId, NodeId> embeddings_of(const Examined& e) {
  const Graph& g = e.graph;
  const auto named_in = g.weights().find("embed.W_E"), named_out = g.weights().find("unembed.W_U");
  if (named_in != g.weights().end() && named_out != g.weights().end())
    return {leaf_of(g, named_in->second), leaf_of(g, named_out->second)};
  NodeId in = kNoNode, out = kNoNode;
  for (const Node& n : g.nodes()) {
    if (n.op == &kGatherRows && maker_of(g, n.inputs[1]) == e.source) in = leaf_of(g, n.inputs[0]);
  }
  if (!e.output.empty()) {
    const Node& last = g.node(maker_of(g, g.output(e.output)));
    if (last.op->kind == OpKind::product) out = leaf_of(g, last.inputs[1]);
  }
  return {in, out};
}

}  // namespace

void check_tied_weights(const Examined& e, FindingList& findings) {
  const auto [in, out] = embeddings_of(e);
  if (in == kNoNode || out == kNoNode) return;
  const auto name = [&](NodeId id) { return std::get<LeafName>(e.graph.node(id).attributes).name; };
  Finding f{.check = "tied_weights", .how = "graph"};
  if (in == out) {
    f.what = fmt::format("embedding and unembedding are one parameter, '{}'", name(in));
    if (e.spec.tied == false) {
      f.severity = Finding::Severity::problem;
      f.what += ", though they are meant to be two";
      f.remedy = "give the unembedding a parameter of its own";
    }
    findings.push_back(std::move(f));
    return;
  }
  f.what =
      fmt::format("embedding '{}' and unembedding '{}' are two parameters", name(in), name(out));
  const auto a = e.parameters.find(name(in)), b = e.parameters.find(name(out));
  const bool given = a != e.parameters.end() && b != e.parameters.end();
  const bool equal =
      given && is_compute_float(a->second.dtype()) && a->second.dtype() == b->second.dtype() &&
      a->second.shape() == b->second.shape() && max_abs_difference(a->second, b->second) == 0;
  if (e.spec.tied == true) {
    f.severity = Finding::Severity::problem;
    f.what += equal ? ", equal now, though they are meant to be one: training will part them"
                    : ", which differ, though they are meant to be one";
    f.remedy = "read both from one parameter, or say that they are not tied";
  } else if (equal) {
    f.severity = Finding::Severity::note;
    f.what += " with the same numbers: training will part them";
    f.remedy = "tie them, if they are meant to stay equal";
  }
  findings.push_back(std::move(f));
}

}  // namespace vitrine

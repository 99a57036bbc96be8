#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <deque>

#include "autograd/diagnose/checks.h"
#include "autograd/ops/op_table.h"
#include "autograd/ops/ops.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine {

std::string_view name_of(Finding::Severity severity) {
  constexpr std::string_view names[] = {"ok", "note", "problem"};
  return names[static_cast<int>(severity)];
}

bool Diagnosis::ok() const { return problems().empty(); }
std::vector<Finding> Diagnosis::of(std::string_view check) const {
  std::vector<Finding> found;
  std::copy_if(findings.begin(), findings.end(), std::back_inserter(found),
               [&](const Finding& f) { return f.check == check; });
  return found;
}
std::vector<Finding> Diagnosis::problems() const {
  std::vector<Finding> found;
  std::copy_if(findings.begin(), findings.end(), std::back_inserter(found),
               [](const Finding& f) { return f.severity == Finding::Severity::problem; });
  return found;
}

std::string to_string(const Finding& f) {
  std::string text = fmt::format("{}: {}: ", name_of(f.severity), f.check);
  if (!f.where.empty()) text += f.where + ": ";
  text += f.what;
  if (!f.how.empty()) text += fmt::format(" (by {})", f.how);
  return f.remedy.empty() ? text : fmt::format("{}; {}", text, f.remedy);
}
std::string to_string(const Diagnosis& diagnosis) {
  std::string text;
  for (const Finding& f : diagnosis.findings) text += to_string(f) + "\n";
  return text;
}

// ---- places -----------------------------------------------------------------------------------
namespace {

// The site that is nearest behind a node: its own, or that of what reads it.
std::string site_near(const Graph& g, NodeId node) {
  std::deque<std::pair<NodeId, int>> open{{node, 0}};
  for (; !open.empty(); open.pop_front()) {
    const auto [id, steps] = open.front();
    for (const SiteEntry& s : g.sites())
      if (s.node == id || s.before == id) return s.name;
    if (steps >= 6) continue;
    for (const Node& n : g.nodes()) {
      if (std::find(n.inputs.begin(), n.inputs.end(), id) != n.inputs.end())
        open.emplace_back(n.id, steps + 1);
    }
  }
  return "";
}

std::string_view file_name(std::string_view path) {
  return path.substr(path.find_last_of('/') + 1);
}

}  // namespace

std::string place_of(const Graph& graph, NodeId node) {
  const Node& n = graph.node(node);
  std::string text = fmt::format("{}:{}", file_name(n.line.file), n.line.line);
  if (!n.scope.empty()) text += " in " + n.scope;
  return text + fmt::format(", op {}", n.op->name);
}

Finding finding_at(const Graph& graph, NodeId node, Finding f) {
  const Node& n = graph.node(node);
  f.file = n.line.file;
  f.line = n.line.line;
  f.scope = n.scope;
  f.op = n.op->name;
  f.site = site_near(graph, node);
  f.where = place_of(graph, node);
  if (!f.site.empty()) f.where += ", site " + f.site;
  return f;
}

// ---- what is examined -------------------------------------------------------------------------
std::vector<bool> ancestors_of(const Graph& graph, NodeId node) {
  std::vector<bool> used(by_id(graph.next_id()), false);
  used[by_id(node)] = true;
  for (auto n = graph.nodes().rbegin(); n != graph.nodes().rend(); ++n) {
    if (!used[by_id(n->id)]) continue;
    for (const NodeId i : n->inputs) used[by_id(i)] = true;
  }
  return used;
}

std::string missing_leaf(const Graph& graph, NodeId node, const Feeds& feeds,
                         const Parameters& parameters) {
  const std::vector<bool> used = ancestors_of(graph, node);
  for (const Node& n : graph.nodes()) {
    const auto* leaf = std::get_if<LeafName>(&n.attributes);
    if (leaf == nullptr || !used[by_id(n.id)]) continue;
    if (n.op == &kInput ? !feeds.contains(leaf->name) : !parameters.contains(leaf->name))
      return leaf->name;
  }
  return "";
}

Graph with_scalar(const Examined& e, std::string& name) {
  name = e.loss;
  if (!name.empty()) return e.graph;
  name = "diagnose.total";
  Builder b(e.graph);
  const Value out = b.output(e.output);
  const Tensor weights = Tensor::empty(out.shape(), out.dtype());
  ThreadPool pool(1);
  random::fill_normal(pool, random::Key{e.spec.seed}.fold(name), weights);
  b.output(name, sum(out * b.constant(weights)));
  return std::move(b).finish();
}

namespace {

bool is_table(const Graph& g, const Node& n) {
  const auto& rows = g.rows();
  return rows && (n.id == rows->sequence || n.id == rows->position || n.id == rows->keys);
}

// The input that holds the tokens, unless it is said.
NodeId tokens_input(const Graph& g) {
  std::vector<const Node*> ints, floats;
  for (const Node& n : g.nodes()) {
    if (n.op != &kInput || is_table(g, n) || n.type.shape.size() == 0) continue;
    const std::string& name = std::get<LeafName>(n.attributes).name;
    if (name == "tokens") return n.id;
    if (name.starts_with("next.") || name.starts_with("rows.")) continue;
    if (is_float(n.type.dtype)) floats.push_back(&n);
    else if (n.type.dtype != DType::boolean) ints.push_back(&n);
  }
  if (ints.size() == 1) return ints[0]->id;
  if (ints.empty() && floats.size() == 1) return floats[0]->id;
  std::vector<std::string> names;
  for (const auto* list : {&ints, &floats})
    for (const Node* n : *list) names.push_back(std::get<LeafName>(n->attributes).name);
  throw GraphError(
      fmt::format("it is not clear which input holds the tokens: this graph has {}; name it in "
                  "DiagnoseSpec::tokens",
                  names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
}

void find_source(Examined& e) {
  const Graph& g = e.graph;
  const std::string& name = e.spec.tokens;
  Axes axes;
  if (const SiteEntry* site = name.empty() ? nullptr : g.find_site(name);
      site != nullptr && !site->interior()) {
    e.source = site->node;
    axes = site->axes;
  } else if (!name.empty()) {
    e.source = g.leaf(name);
    if (e.source == kNoNode)
      throw GraphError(
          fmt::format("there is no input or site '{}' that could hold the tokens", name));
  } else {
    e.source = tokens_input(g);
  }
  const Type& type = g.node(e.source).type;
  const int rank = type.shape.size();
  const auto labelled = std::find_if(axes.begin(), axes.end(),
                                     [](Axis a) { return a == Axis::row || a == Axis::pos; });
  if (e.spec.axis >= 0) e.axis = e.spec.axis;
  else if (labelled != axes.end()) e.axis = static_cast<int>(labelled - axes.begin());
  else e.axis = rank >= (is_float(type.dtype) ? 3 : 2) ? 1 : 0;
  if (e.axis >= rank) {
    throw GraphError(
        fmt::format("the tokens {} have no axis {}: say which one in "
                    "DiagnoseSpec::axis",
                    to_string(type), e.axis));
  }
}

// The output with a row for each token: of floats, with an axis of as many entries.
void find_outputs(Examined& e) {
  const Graph& g = e.graph;
  const std::int64_t tokens = g.node(e.source).type.shape[e.axis];
  if (!e.spec.output.empty()) {
    g.output(e.spec.output);
    e.output = e.spec.output;
  } else if (g.outputs().contains("logits")) {
    e.output = "logits";
  } else {
    for (const auto& [name, id] : g.outputs()) {
      const Type& type = g.node(id).type;
      const bool rows = std::find(type.shape.begin(), type.shape.end(), tokens) != type.shape.end();
      if (rows && is_compute_float(type.dtype) && type.shape.size() >= 2 && e.output.empty())
        e.output = name;
    }
  }
  if (!e.spec.loss.empty()) g.output(e.spec.loss);
  e.loss = !e.spec.loss.empty() ? e.spec.loss : g.outputs().contains("loss") ? "loss" : "";
}

Finding left_out(const std::string& why) {
  return {.severity = Finding::Severity::note,
          .check = "run",
          .what = "the numeric checks were left out: " + why,
          .remedy = "give feeds and parameters"};
}

// Runs one numeric check; an error of it is a finding, and does not end the diagnosis.
template <class Check>
void guarded(const char* name, FindingList& findings, const Check& check) {
  try {
    check();
  } catch (const InterruptedError&) {
    throw;
  } catch (const NumericError& error) {
    findings.push_back({.severity = Finding::Severity::problem,
                        .check = "nan",
                        .what = error.what(),
                        .remedy = "look at the op that is named and at what it reads",
                        .how = "run"});
  } catch (const Error& error) {
    findings.push_back({.severity = Finding::Severity::note,
                        .check = name,
                        .what = fmt::format("could not be checked: {}", error.what())});
  }
}

void numeric_checks(const Examined& e, FindingList& findings) {
  bool usable = true;
  guarded("nan", findings, [&] { usable = check_nan(e, findings); });
  if (!usable) return;
  guarded("dead_units", findings, [&] { check_units(e, findings); });
  guarded("loss", findings, [&] { check_loss(e, findings); });
  guarded("gradient_check", findings, [&] { check_gradients(e, findings); });
}

Examined examined(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                  const DiagnoseSpec& spec) {
  Examined e{.graph = graph, .spec = spec, .feeds = feeds, .parameters = parameters};
  find_source(e);
  find_outputs(e);
  return e;
}

Diagnosis examine(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                  const DiagnoseSpec& spec, bool numeric) {
  Examined e = examined(graph, feeds, parameters, spec);
  Diagnosis d;
  std::string missing;
  for (const std::string& name : {e.output, e.loss}) {
    if (name.empty() || !missing.empty()) continue;
    missing = missing_leaf(graph, graph.output(name), feeds, parameters);
  }
  e.runs = numeric && missing.empty() && !e.output.empty();
  check_causality(e, d.findings);
  check_tied_weights(e, d.findings);
  if (e.runs) numeric_checks(e, d.findings);
  else if (numeric)
    d.findings.push_back(left_out(missing.empty()
                                      ? "no output has a row for each token"
                                      : fmt::format("the leaf '{}' is not given", missing)));
  return d;
}

}  // namespace

Diagnosis diagnose(const Graph& graph, const DiagnoseSpec& spec) {
  return examine(graph, {}, {}, spec, false);
}
Diagnosis diagnose(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                   const DiagnoseSpec& spec) {
  return examine(graph, feeds, parameters, spec, true);
}

Finding loss_finding(const Graph& graph, const Feeds& feeds, const Parameters& parameters,
                     const DiagnoseSpec& spec) {
  FindingList findings;
  check_loss(examined(graph, feeds, parameters, spec), findings);
  if (findings.empty())
    throw GraphError(
        "there is no loss to compare with ln(vocabulary): DiagnoseSpec::loss names the output, "
        "DiagnoseSpec::vocabulary says how many tokens there are");
  return findings[0];
}

}  // namespace vitrine

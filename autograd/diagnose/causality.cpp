// Causality: which mixings of positions see later tokens, where their masks were made, and whether
// gradients say the same.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "autograd/diagnose/checks.h"
#include "autograd/ops/op_table.h"
#include "tensor/error.h"

namespace vitrine {

namespace {

using Limit = Mixing::Limit;

// ---- the values of masks ----------------------------------------------------------------------
class MaskValues {
 public:
  explicit MaskValues(const Graph& graph) : graph_(graph) {}

  // Computes those of `nodes` whose leaves are given.
  void compute(const std::vector<NodeId>& nodes, const Feeds& feeds, const Parameters& parameters,
               const RunOptions& options) {
    Builder b(graph_);
    Fetch wanted;
    std::vector<std::pair<NodeId, std::string>> names;
    for (const NodeId id : std::set<NodeId>(nodes.begin(), nodes.end())) {
      if (!missing_leaf(graph_, id, feeds, parameters).empty()) continue;
      names.emplace_back(id, fmt::format("diagnose.mask.{}", id));
      b.output(names.back().second, b.value(id));
      wanted.wants.push_back(value(names.back().second));
    }
    if (names.empty()) return;
    const Plan plan = compile(std::move(b).finish(), wanted);
    RunOptions run = options;
    run.find_nan = false;
    const Results r = plan.run(plan.taken(feeds), parameters, run);
    for (const auto& [id, name] : names) values_[id] = r.raw(name);
  }

  const Tensor* of(NodeId id) const {
    if (const auto it = values_.find(id); it != values_.end()) return &it->second;
    const NodeId maker = maker_of(graph_, id);
    const Node& n = graph_.node(maker);
    if (n.op != &kConstant) return nullptr;
    const Tensor& constant = std::get<ConstantValue>(n.attributes).value;
    return maker == id || constant.numel() == 1 ? &constant : nullptr;
  }

 private:
  const Graph& graph_;
  std::map<NodeId, Tensor> values_;
};

LookAhead look(const Examined& e) {
  MaskValues values(e.graph);
  const KnownValues known = [&](NodeId id) { return values.of(id); };
  const LookAhead first = look_ahead(e.graph, e.source, e.axis, known);
  if (first.candidates.empty()) return first;
  values.compute(first.candidates, e.feeds, e.parameters, e.options());
  return look_ahead(e.graph, e.source, e.axis, known);
}

// ---- what is wrong ----------------------------------------------------------------------------
std::string sees(std::int64_t ahead, std::int64_t tokens) {
  if (ahead >= tokens - 1 && ahead > 1) return "sees every later token";
  if (ahead == 1) return "sees the next token";
  return fmt::format("sees {} tokens ahead", ahead);
}

std::string subject(const Graph& g, const Mixing& m) {
  const Node& origin = g.node(m.origin);
  if (const auto* leaf = std::get_if<LeafName>(&origin.attributes))
    return fmt::format("the mask that is given as {} '{}'", origin.op->name, leaf->name);
  if (m.limit == Limit::unread) return fmt::format("the mask that op {} computes", origin.op->name);
  if (m.limit == Limit::read) return "the mask, read from its numbers,";
  return fmt::format("{} {}", origin.op->name == "mask" ? "the op" : "the rule of op",
                     origin.op->name);
}

std::optional<std::int64_t> offset_of(const Node& n) {
  if (const auto* rule = std::get_if<Visibility>(&n.attributes)) return rule->offset;
  if (const auto* rule = std::get_if<AttentionRule>(&n.attributes)) return rule->offset;
  return std::nullopt;
}

std::string remedy(const Graph& g, const Mixing& m) {
  if (const auto offset = offset_of(g.node(m.origin)); offset && m.limit == Limit::mask)
    return fmt::format("use offset {} in the place of {}", *offset - m.ahead, *offset);
  return "let query q see exactly the keys k <= q: -inf (or false) where k > q, and nowhere on the "
         "diagonal";
}

// What a mixing does wrong; none where nothing is.
std::optional<Finding> judge(const Examined& e, const Mixing& m) {
  const Graph& g = e.graph;
  const std::int64_t tokens = g.node(e.source).type.shape[e.axis];
  Finding f{.severity = Finding::Severity::problem, .check = "causality", .how = "reach"};
  if (m.limit == Limit::read) f.how = "values";
  switch (m.limit) {
    case Limit::mask:
    case Limit::read:
      if (m.ahead == 0) return std::nullopt;
      f.what = m.ahead > 0 ? fmt::format("{} {}: a query sees keys up to its own position + {}",
                                         subject(g, m), sees(m.ahead, tokens), m.ahead)
                           : fmt::format(
                                 "{} excludes the token itself: a query sees keys up to its own "
                                 "position - {}",
                                 subject(g, m), -m.ahead);
      f.remedy = remedy(g, m);
      break;
    case Limit::none:
      f.what = fmt::format(
          "op {} mixes all positions: no mask keeps a row from seeing every later "
          "token",
          g.node(m.origin).op->name);
      f.remedy = "mask the scores before the softmax: mask(scores, query_axis, key_axis)";
      break;
    case Limit::unread:
      f.severity = Finding::Severity::note;
      f.what = fmt::format("not provable from the graph: {} is data", subject(g, m));
      f.remedy =
          "give its tensor, and the mask is read and its gradients are looked at; or use the "
          "op mask, which states the fact";
      break;
    case Limit::lost:
    case Limit::unruled:
      f.severity = Finding::Severity::note;
      f.what = fmt::format("not provable from the graph: {} op {}",
                           m.limit == Limit::lost ? "a mask is stated, but is not kept up to"
                                                  : "nothing says which positions are read by",
                           g.node(m.node).op->name);
      f.remedy = "give feeds and parameters, so that gradients can be looked at";
      break;
  }
  return finding_at(g, m.origin, std::move(f));
}

bool unproved(const Mixing& m) {
  return m.limit == Limit::unread || m.limit == Limit::lost || m.limit == Limit::unruled;
}

// Findings of one line of the model, and the mixings that have them.
struct Suspicion {
  Finding finding;
  std::vector<Mixing> mixings;
};

std::vector<Suspicion> suspicions(const Examined& e, const std::vector<Mixing>& mixings) {
  std::vector<Suspicion> found;
  for (const Mixing& m : mixings) {
    std::optional<Finding> f = judge(e, m);
    if (!f) continue;
    const auto same = std::find_if(found.begin(), found.end(), [&](const Suspicion& s) {
      return s.finding.what == f->what && s.finding.file == f->file && s.finding.line == f->line;
    });
    if (same != found.end()) same->mixings.push_back(m);
    else found.push_back({std::move(*f), {m}});
  }
  for (Suspicion& s : found) {
    if (s.mixings.size() > 1)
      s.finding.what += fmt::format(" (in {} ops of this line)", s.mixings.size());
    const NodeId used = s.mixings.front().node;
    if (used != s.mixings.front().origin)
      s.finding.where += fmt::format(", used by {}", place_of(e.graph, used));
  }
  return found;
}

// ---- gradients --------------------------------------------------------------------------------
std::optional<RowGradients> gradients_at(const Examined& e, const LookAhead& look,
                                         const Mixing& mixing) {
  try {
    return mixing_gradients(e, look, mixing);
  } catch (const Error&) {  // an op without a gradient, say: the finding stands as it is
    return std::nullopt;
  }
}

void confirm(const Examined& e, const LookAhead& look, Suspicion& s) {
  const std::optional<RowGradients> g = gradients_at(e, look, s.mixings.front());
  if (!g) return;
  Finding& f = s.finding;
  const bool was_unproved = unproved(s.mixings.front());
  if (g->later || !g->own) {
    f.severity = Finding::Severity::problem;
    if (was_unproved || (f.how == "reach" && s.mixings.front().limit == Limit::none)) {
      f.what += g->later
                    ? fmt::format("; its gradients say that row {} sees row {}", g->row, g->read)
                    : "; its gradients say that it excludes the token itself";
    }
    f.how = was_unproved ? "gradient" : f.how + " and gradient";
    if (was_unproved) f.remedy = "let query q see exactly the keys k <= q";
  } else if (was_unproved) {
    f.severity = Finding::Severity::ok;
    f.what += fmt::format("; the gradients of {} rows see no later token", g->rows);
    f.how = "gradient";
    f.remedy.clear();
  } else {
    // A rule says "may": without a mask, something else can hide later tokens. An offset is exact.
    if (s.mixings.front().limit == Limit::none) f.severity = Finding::Severity::note;
    f.what += fmt::format("; the gradients of {} rows do not show it", g->rows);
  }
}

// ---- rows without keys, and masks with holes on the diagonal ----------------------------------
std::optional<Finding> holes(const MaskReading& m) {
  if (m.self_hidden == 0 || m.ahead < 0) return std::nullopt;
  return Finding{
      .severity = Finding::Severity::problem,
      .check = "causality",
      .what = fmt::format("the mask, read from its numbers, excludes the token itself in "
                          "{} rows, the first of them {}",
                          m.self_hidden, m.first_self_hidden),
      .remedy = "let every query see its own key",
      .how = "values"};
}

std::optional<Finding> empty_rows(const MaskReading& m) {
  if (m.empty == 0) return std::nullopt;
  const bool harmful = m.finite && m.empty_seen > 0;  // of padding nobody reads the outcome
  return Finding{.severity = harmful ? Finding::Severity::problem : Finding::Severity::note,
                 .check = "attends_to_nothing",
                 .what = fmt::format("{} rows may attend to nothing, the first of them {}: {}",
                                     m.empty, m.first_empty,
                                     m.finite ? "hidden by a finite number, all keys weigh alike, "
                                                "later ones too"
                                              : "softmax of only -inf gives zeros"),
                 .remedy = "let every query see one key at least, its own",
                 .how = "values"};
}

void report_readings(const Examined& e, const LookAhead& look, const std::vector<bool>& counts,
                     FindingList& findings) {
  std::set<std::tuple<std::string, int, std::string>> told;  // by line
  for (const ReadMask& r : look.read) {
    if (!counts[by_id(r.node)]) continue;
    for (std::optional<Finding> found : {holes(r.reading), empty_rows(r.reading)}) {
      if (!found) continue;
      Finding f = finding_at(e.graph, r.origin, std::move(*found));
      if (told.emplace(f.file, f.line, f.what).second) findings.push_back(std::move(f));
    }
  }
}

void report_empty_rows(const Examined& e, const std::vector<Mixing>& mixings,
                       FindingList& findings) {
  std::set<std::pair<std::string, int>> told;
  for (const Mixing& m : mixings) {
    if (m.limit != Limit::mask || m.ahead >= 0) continue;
    Finding f = finding_at(
        e.graph, m.origin,
        {.severity = Finding::Severity::note,
         .check = "attends_to_nothing",
         .what = fmt::format("the first {} of a prompt may attend to nothing: softmax of only -inf "
                             "gives zeros",
                             m.ahead == -1 ? "row" : fmt::format("{} rows", -m.ahead)),
         .remedy = remedy(e.graph, m),
         .how = "reach"});
    if (told.insert({f.file, f.line}).second) findings.push_back(std::move(f));
  }
}

// ---- the whole model --------------------------------------------------------------------------
constexpr std::int64_t kAnywhere = std::numeric_limits<std::int64_t>::max();

// How far ahead of its own position a value may see, at most.
std::int64_t most_ahead(const TokenPaths& paths) {
  std::int64_t most = std::numeric_limits<std::int64_t>::min();
  for (const auto& [axes, path] : paths) {
    std::int64_t least = kAnywhere;
    for (const auto& b : path) least = std::min(least, b.second);
    most = std::max(most, least);
  }
  return most;
}

// The op that first looks ahead, on the way back from the output.
NodeId culprit(const Graph& g, const LookAhead& look, NodeId node) {
  for (;;) {
    NodeId next = kNoNode;
    std::int64_t most = 0;
    for (const NodeId i : g.node(node).inputs) {
      if (look.paths[by_id(i)].empty()) continue;
      const std::int64_t ahead = most_ahead(look.paths[by_id(i)]);
      if (ahead > most) most = ahead, next = i;
    }
    if (next == kNoNode) return node;
    node = next;
  }
}

// Whether a value has an entry for each token, perhaps with a batch merged into its first axis.
bool has_rows(const Examined& e, NodeId node) {
  const std::int64_t tokens = e.graph.node(e.source).type.shape[e.axis];
  const Shape& shape = e.graph.node(node).type.shape;
  const bool merged = e.axis > 0 && tokens > 0 && shape.size() >= 2 && shape[0] % tokens == 0;
  return merged || std::find(shape.begin(), shape.end(), tokens) != shape.end();
}

// Where no mixing of positions is to blame: rows that are shifted, or summed and spread again.
std::optional<Finding> other_leak(const Examined& e, const LookAhead& look, NodeId output) {
  const TokenPaths& paths = look.paths[by_id(output)];
  if (paths.empty() || most_ahead(paths) <= 0) return std::nullopt;
  const std::int64_t ahead = most_ahead(paths);
  const Node& n = e.graph.node(culprit(e.graph, look, output));
  const bool by_data = n.op->kind == OpKind::selection && n.inputs.size() > 1;
  Finding f{.severity = Finding::Severity::problem,
            .check = "causality",
            .remedy = "let rows of the output depend on earlier rows alone",
            .how = "reach"};
  if (n.op->reach == nullptr || by_data) {
    f.severity = Finding::Severity::note;
    f.what = fmt::format(
        "not provable from the graph: nothing says which positions are read by op {}", n.op->name);
    f.remedy = "give feeds and parameters, so that gradients can be looked at";
  } else if (ahead == kAnywhere) {
    f.what =
        fmt::format("op {} reads all positions, and rows of the output depend on it", n.op->name);
  } else {
    f.what = fmt::format(
        "op {} moves tokens: a row of the output depends on tokens up to its own position + {}",
        n.op->name, ahead);
  }
  return finding_at(e.graph, n.id, std::move(f));
}

Finding whole_model(const Examined& e, const LookAhead& look, std::size_t mixings, bool proved) {
  Finding f{.severity = proved ? Finding::Severity::ok : Finding::Severity::note,
            .check = "causality",
            .how = "reach"};
  f.what = proved ? fmt::format(
                        "no row of '{}' depends on a later token: proved of {} ops that mix "
                        "positions",
                        e.output, mixings)
                  : fmt::format("'{}': not proved from the graph alone", e.output);
  if (!e.runs) return f;
  std::optional<RowGradients> g;
  try {
    g = output_gradients(e, look);
  } catch (const Error& error) {
    f.what += fmt::format("; gradients could not be looked at: {}", error.what());
    return f;
  }
  if (!g) return f;
  if (!g->any) {
    f.what +=
        "; all gradients at the embeddings are 0, as where weights begin at 0, and say nothing";
    return f;
  }
  if (g->later) {
    f.severity = Finding::Severity::problem;
    f.what = fmt::format(
        "the gradient of row {} of '{}' is not 0 at the embedding of row {}, a "
        "later token or one of another prompt",
        g->row, e.output, g->read);
    f.remedy = "see which op mixes rows";
    f.how = "gradient";
  } else if (!g->own) {
    f.severity = Finding::Severity::problem;
    f.what = fmt::format("row {} of '{}' does not depend on its own token: the gradient is 0",
                         g->row, e.output);
    f.remedy = "see whether a mask, a shift or a dead layer cuts it off";
    f.how = "gradient";
  } else {
    f.severity = Finding::Severity::ok;
    f.what += fmt::format("; the gradients of {} rows are exactly 0 at later ones", g->rows);
    f.how = proved ? "reach and gradient" : "gradient";
  }
  return f;
}

}  // namespace

void check_causality(const Examined& e, FindingList& findings) {
  if (!e.spec.causal) return;
  const LookAhead seen = look(e);
  const NodeId output = e.output.empty() ? kNoNode : e.graph.output(e.output);
  const std::vector<bool> counts = output == kNoNode ? std::vector<bool>(seen.paths.size(), true)
                                                     : ancestors_of(e.graph, output);
  std::vector<Mixing> mixings;
  for (const Mixing& m : seen.mixings)
    if (counts[by_id(m.node)]) mixings.push_back(m);
  std::vector<Suspicion> suspected = suspicions(e, mixings);
  bool proved = true, blamed = false;
  for (Suspicion& s : suspected) {
    if (e.runs) confirm(e, seen, s);
    proved = false;
    blamed = blamed || s.finding.severity == Finding::Severity::problem;
    findings.push_back(s.finding);
  }
  report_readings(e, seen, counts, findings);
  report_empty_rows(e, mixings, findings);
  blamed = blamed || std::any_of(findings.begin(), findings.end(), [](const Finding& f) {
             return f.severity == Finding::Severity::problem && f.check == "causality";
           });
  if (output == kNoNode || blamed || !has_rows(e, output)) return;
  std::optional<Finding> leak = other_leak(e, seen, output);
  Finding whole = whole_model(e, seen, mixings.size(), proved && !leak);
  if (leak && whole.how == "gradient" && whole.severity == Finding::Severity::ok) {
    leak->severity = Finding::Severity::note;
    leak->what += "; gradients do not show it";
  } else if (leak && whole.how == "gradient") {
    leak->how = "reach and gradient";
  }
  if (leak) findings.push_back(std::move(*leak));
  if (!leak || findings.back().severity != Finding::Severity::problem)
    findings.push_back(std::move(whole));
}

}  // namespace vitrine

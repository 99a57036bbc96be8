#include "autograd/diagnose/look_ahead.h"

#include <algorithm>
#include <set>
#include <utility>

#include "autograd/ops/op_table.h"

namespace vitrine {

std::optional<std::int64_t> ahead_along(const TokenPaths& paths, int axis) {
  std::optional<std::int64_t> most;
  for (const auto& [axes, path] : paths) {
    const auto at = path.find(axis);
    if (at == path.end()) return std::nullopt;
    most = std::max(most.value_or(at->second), at->second);
  }
  return most;
}

int token_axis(const TokenPaths& paths) {
  std::map<int, int> bounded;
  for (const auto& [axes, path] : paths)
    for (const auto& bound : path) ++bounded[bound.first];
  int best = -1;
  for (const auto& [axis, count] : bounded)
    if (best < 0 || count > bounded[best]) best = axis;
  return best;
}

NodeId maker_of(const Graph& graph, NodeId value) {
  for (;;) {
    const Node& n = graph.node(value);
    const bool looks = n.op->kind == OpKind::rearrangement || n.op->kind == OpKind::identity ||
                       n.op->kind == OpKind::detach || n.op == &kCast;
    if (!looks) return value;
    value = n.inputs[0];
  }
}

NodeId maker_of_mask(const Graph& graph, NodeId mask) {
  const NodeId maker = maker_of(graph, mask);
  const std::int64_t size = numel(graph.node(maker).type.shape);
  std::vector<NodeId> open{maker}, whole;  // leaves that hold a number for each of the mask's
  std::set<NodeId> seen;
  while (!open.empty()) {
    const Node& n = graph.node(open.back());
    open.pop_back();
    if (!seen.insert(n.id).second) continue;
    if (n.inputs.empty() && numel(n.type.shape) == size) whole.push_back(n.id);
    open.insert(open.end(), n.inputs.begin(), n.inputs.end());
  }
  return whole.size() == 1 ? whole.front() : maker;
}

namespace {

std::size_t at(NodeId id) { return by_id(id); }

void join(TokenPaths& paths, const AheadByAxis& path) {
  std::uint32_t axes = 0;
  for (const auto& bound : path) axes |= std::uint32_t{1} << bound.first;
  const auto [it, isnew] = paths.try_emplace(axes, path);
  if (isnew) return;
  for (auto& [axis, ahead] : it->second) ahead = std::max(ahead, path.at(axis));
}

void bound(AheadByAxis& path, int axis, std::int64_t ahead) {
  const auto [it, isnew] = path.try_emplace(axis, ahead);
  if (!isnew) it->second = std::min(it->second, ahead);
}

// The path behind one input of an op, seen from its output.
AheadByAxis through(const AheadByAxis& path, const InputReach& reach) {
  AheadByAxis out;
  for (const Link& l : reach.links) {
    if (l.in == Coordinate::sequence || l.out == Coordinate::sequence) continue;
    const auto in = path.find(l.in_axis);
    if (in == path.end()) continue;
    if (l.relation == Relation::same && l.step == 1) {
      bound(out, l.out_axis, in->second + l.offset);
    } else if (l.relation == Relation::placed && l.step == 1) {
      bound(out, l.out_axis, in->second - l.offset);
    } else if (l.relation == Relation::at_most) {
      bound(out, l.out_axis, in->second + l.offset);
    }
  }
  return out;
}

// The axes of two shapes in runs of equal products. Positions merged with batch entries before them
// count on in the merged axis; split off again they are the last of the new axes.
AheadByAxis through_reshape(const AheadByAxis& path, const Shape& a, const Shape& b) {
  AheadByAxis out;
  for (int i = 0, o = 0; i < a.size() && o < b.size() && numel(a) > 0;) {
    if (a[i] != b[o] && (a[i] == 1 || b[o] == 1)) {
      ++(a[i] == 1 ? i : o);
      continue;
    }
    int i2 = i + 1, o2 = o + 1;
    for (std::int64_t pi = a[i], po = b[o]; pi != po;) {
      if (pi < po) pi *= a[i2++];
      else po *= b[o2++];
    }
    const auto last = path.find(i2 - 1);
    if (last != path.end() && (i2 == i + 1 || o2 == o + 1)) out[o2 - 1] = last->second;
    i = i2;
    o = o2;
  }
  return out;
}

// What is known of a node while the graph is walked.
struct Known {
  StatedMask mask;
  int open = -1;                // the mixing without a limit that it came from
  NodeId maybe_mask = kNoNode;  // a mask that is data, and not given, was put on it
};

class Walk {
 public:
  Walk(const Graph& graph, NodeId source, int axis, const KnownValues& known)
      : g_(graph), source_(source), values_(known) {
    result_.paths.resize(by_id(graph.next_id()));
    known_.resize(result_.paths.size());
    result_.paths[at(source)] = {{std::uint32_t{1} << axis, AheadByAxis{{axis, 0}}}};
  }

  LookAhead run() {
    for (const Node& n : g_.nodes())
      if (n.id != source_) visit(n);
    return std::move(result_);
  }

 private:
  const TokenPaths& paths(NodeId id) const { return result_.paths[at(id)]; }
  bool has_tokens(NodeId id) const { return !paths(id).empty(); }

  ReachCall call(const Node& n) {
    types_.clear();
    facts_.clear();
    for (const NodeId i : n.inputs) {
      types_.push_back(g_.node(i).type);
      facts_.push_back(known_[at(i)].mask.fact);
    }
    return {types_, n.type, n.attributes, facts_, n.inputs};
  }

  void visit(const Node& n) {
    const ReachCall c = call(n);
    inherit(n);
    state_mask(n, c);
    read_masks(n);
    follow(n, c);
    tighten(n);
  }

  // Along a chain in which one input alone depends on tokens: softmax, dropout, casts.
  void inherit(const Node& n) {
    NodeId only = kNoNode;
    for (const NodeId i : n.inputs) {
      if (!has_tokens(i)) continue;
      if (only != kNoNode && only != i) return;
      only = i;
    }
    if (only == kNoNode) return;
    known_[at(n.id)].open = known_[at(only)].open;
    known_[at(n.id)].maybe_mask = known_[at(only)].maybe_mask;
  }

  // ---- facts --------------------------------------------------------------------------------
  void state_mask(const Node& n, const ReachCall& c) {
    Known& k = known_[at(n.id)];
    const Fact fact = n.op->fact != nullptr ? n.op->fact(c) : Fact{};
    const auto* rule = std::get_if<Visibility>(&n.attributes);
    if (rule != nullptr && fact.kind != Fact::Kind::none) {
      const auto [query, key] = places(n.inputs[0], fact.query_axis, fact.key_axis);
      k.mask = {fact, n.id, fact.offset + key - query};
      combine(k.mask, known_[at(n.inputs[0])].mask);
    } else if (fact.kind != Fact::Kind::none) {
      k.mask = with_origin(n, fact);
    } else {
      keep_by_arithmetic(n);
    }
  }

  StatedMask with_origin(const Node& n, const Fact& fact) const {
    for (const NodeId i : n.inputs) {
      if (StatedMask m = known_[at(i)].mask) {
        m.fact = fact;
        return m;
      }
    }
    return {fact, n.id, fact.offset};
  }

  // Rules that rows of ops do not state, since edits may break them: -inf + x = -inf, -inf c = -inf
  // for a constant c > 0, 0 / x = 0, and views that leave the two axes alone.
  void keep_by_arithmetic(const Node& n) {
    Known& k = known_[at(n.id)];
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      const StatedMask m = known_[at(n.inputs[i])].mask;
      if (!m) continue;
      const bool masked = m.fact.kind == Fact::Kind::masked, first = i == 0;
      const bool same_shape = g_.node(n.inputs[i]).type.shape == n.type.shape;
      const bool sum = (n.op == &kAdd || (n.op == &kSub && first)) && masked;
      const bool scaled =
          (n.op == &kMul || (n.op == &kDiv && first)) && masked && is_positive(n.inputs[1 - i]);
      const bool quotient = n.op == &kDiv && first && !masked;
      if (same_shape && (sum || scaled || quotient)) k.mask = m;
      if (n.op == &kReshape) k.mask = reshaped(m, g_.node(n.inputs[0]).type.shape, n.type.shape);
    }
  }
  bool is_positive(NodeId id) const {
    const Tensor* t = values_(id);
    return t != nullptr && t->numel() == 1 && t->item<double>() > 0;
  }
  static StatedMask reshaped(StatedMask m, const Shape& from, const Shape& to) {
    const AheadByAxis q = through_reshape({{m.fact.query_axis, 0}}, from, to),
                      k = through_reshape({{m.fact.key_axis, 0}}, from, to);
    if (q.size() != 1 || k.size() != 1) return {};
    const int query = q.begin()->first, key = k.begin()->first;
    if (to[query] != from[m.fact.query_axis] || to[key] != from[m.fact.key_axis]) return {};
    m.fact.query_axis = query;
    m.fact.key_axis = key;
    return m;
  }

  // Two masks on one value: what either hides is hidden.
  static void combine(StatedMask& mask, const StatedMask& earlier) {
    const Fact &a = mask.fact, &b = earlier.fact;
    if (b.kind != a.kind || b.query_axis != a.query_axis || b.key_axis != a.key_axis ||
        b.query != a.query || b.table != a.table) {
      return;
    }
    const std::int64_t window = a.window == 0 || b.window == 0 ? std::max(a.window, b.window)
                                                               : std::min(a.window, b.window);
    if (b.offset <= a.offset) mask = earlier;
    mask.fact.window = window;
  }

  // How far ahead of the index the newest token of a query and of a key lies.
  std::pair<std::int64_t, std::int64_t> places(NodeId scores, int query_axis, int key_axis) const {
    std::optional<std::int64_t> query, key;
    for (const auto& [axes, path] : paths(scores)) {
      const auto k = path.find(key_axis), q = path.find(query_axis);
      if (k != path.end()) key = std::max(key.value_or(k->second), k->second);
      else if (q != path.end()) query = std::max(query.value_or(q->second), q->second);
    }
    return {query.value_or(0), key.value_or(0)};
  }

  // ---- masks that are numbers ---------------------------------------------------------------
  struct OnScores {  // a mask put on scores by an elementwise op
    NodeId scores, mask;
    HidesKey rule;
    Fact::Kind kind;
    bool finite;
  };
  std::vector<OnScores> masks_at(const Node& n) const {
    std::vector<OnScores> found;
    const auto put = [&](std::size_t scores, std::size_t mask, HidesKey rule, Fact::Kind kind,
                         bool finite = false) {
      const NodeId s = n.inputs[scores], m = n.inputs[mask];
      if (has_tokens(s) && !has_tokens(m) && g_.node(m).type.shape.size() >= 2 &&
          g_.node(s).type.shape == n.type.shape) {
        found.push_back({s, m, rule, kind, finite});
      }
    };
    constexpr auto kMasked = Fact::Kind::masked, kZero = Fact::Kind::zero;
    if (n.op == &kAdd) {
      put(0, 1, HidesKey::when_low, kMasked);
      put(1, 0, HidesKey::when_low, kMasked);
    } else if (n.op == &kSub) {
      put(0, 1, HidesKey::when_high, kMasked);
    } else if (n.op == &kMul) {
      put(0, 1, HidesKey::when_zero, kZero);
      put(1, 0, HidesKey::when_zero, kZero);
    } else if (n.op == &kSelect) {
      for (const std::size_t scores : {1U, 2U}) {
        const Tensor* other = values_(n.inputs[3 - scores]);
        if (other == nullptr || other->numel() == 0) continue;
        const std::vector<double> others = other->to_vector<double>();
        const double most = *std::max_element(others.begin(), others.end());
        const HidesKey rule = scores == 1 ? HidesKey::when_false : HidesKey::when_true;
        if (most <= -5000) put(scores, 0, rule, kMasked, all_finite(*other));
        else if (max_abs(*other) == 0 && all_finite(*other)) put(scores, 0, rule, kZero);
      }
    }
    return found;
  }

  void read_masks(const Node& n) {
    for (const OnScores& m : masks_at(n)) {
      const int rank = n.type.shape.size();
      const auto [query, key] = axes_of_scores(m.scores, rank);
      const Shape& shape = g_.node(m.mask).type.shape;
      const int in_front = rank - shape.size();
      const bool keyed = std::any_of(paths(m.scores).begin(), paths(m.scores).end(),
                                     [k = key](const auto& p) { return p.second.contains(k); });
      if (!keyed || query < in_front || key < in_front || shape[query - in_front] <= 1 ||
          shape[key - in_front] <= 1) {
        continue;  // a sum of streams, say, or padding, which is the same for all queries
      }
      result_.candidates.push_back(m.mask);
      const NodeId origin = maker_of_mask(g_, m.mask);
      const Tensor* values = values_(m.mask);
      if (values == nullptr) {
        known_[at(n.id)].maybe_mask = origin;
        continue;
      }
      const auto [newest_of_query, newest_of_key] = places(m.scores, query, key);
      const std::int64_t shift = newest_of_query - newest_of_key;
      MaskReading r = read_mask(*values, rank, query, key, m.rule, shift);
      if (!r.hides_any) continue;
      r.finite = r.finite || m.finite;
      StatedMask stated{Fact{m.kind, query, key, Coordinate::index, r.ahead, -1, r.window}, origin,
                        r.ahead - shift, true};
      result_.read.push_back({n.id, origin, r});
      combine(stated, known_[at(m.scores)].mask);
      known_[at(n.id)].mask = stated;
    }
  }

  // The key axis of scores is the last one, along which softmax runs; the query axis is the other
  // one along which tokens lie, or the one before it.
  std::pair<int, int> axes_of_scores(NodeId scores, int rank) const {
    const int key = rank - 1;
    int query = rank - 2;
    for (const auto& [axes, path] : paths(scores))
      for (const auto& b : path)
        if (b.first != key) query = b.first;
    return {query, key};
  }

  // ---- paths --------------------------------------------------------------------------------
  void follow(const Node& n, const ReachCall& c) {
    TokenPaths& out = result_.paths[at(n.id)];
    const Reach reach = n.op->reach != nullptr ? n.op->reach(c) : Reach(n.inputs.size());
    std::vector<int> lost;  // inputs whose positions are summed over without a bound
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      if (!reach[i].reaches) continue;
      bool loses = false;
      for (const auto& [axes, path] : paths(n.inputs[i])) {
        const AheadByAxis to =
            n.op == &kReshape ? through_reshape(path, g_.node(n.inputs[i]).type.shape, n.type.shape)
                              : through(path, reach[i]);
        if (to.empty() && axes != 0) loses = true;
        else join(out, to);
      }
      if (loses) lost.push_back(static_cast<int>(i));
      else if (has_tokens(n.inputs[i])) limited(n, reach, i);
    }
    for (const int i : lost) unlimited(n, i, out);
  }

  // A contraction over keys that a mask bounds: an axis of the input that the output has no more
  // and that is at most one of the output's.
  void limited(const Node& n, const Reach& reach, std::size_t i) {
    for (const Link& l : reach[i].links) {
      if (l.relation != Relation::at_most) continue;
      const bool stays =
          std::any_of(reach[i].links.begin(), reach[i].links.end(), [&](const Link& other) {
            return other.in_axis == l.in_axis &&
                   (other.relation == Relation::same || other.relation == Relation::placed) &&
                   other.in != Coordinate::sequence;
          });
      const auto newest = ahead_along(paths(n.inputs[i]), l.in_axis);
      if (stays || !newest) continue;
      Mixing m{.limit = Mixing::Limit::mask,
               .node = n.id,
               .value_input = static_cast<int>(i),
               .origin = n.id,
               .ahead = l.offset + *newest};
      for (const NodeId other : n.inputs) {
        if (const StatedMask& mask = known_[at(other)].mask) {
          m.origin = mask.origin;
          m.ahead = mask.ahead;
          if (mask.read) m.limit = Mixing::Limit::read;
        }
      }
      if (m.origin == n.id) m.ahead -= own_place(n, reach, l.out_axis);
      // q and k of attention share their keys: the last one stands for them.
      auto& all = result_.mixings;
      if (!all.empty() && all.back().node == n.id) all.back() = m;
      else all.push_back(m);
    }
  }
  // How far ahead of its index the query of an op with a rule of its own lies.
  std::int64_t own_place(const Node& n, const Reach& reach, int out_axis) const {
    std::optional<std::int64_t> place;
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      for (const Link& l : reach[i].links) {
        if (l.relation != Relation::same || l.out_axis != out_axis ||
            l.in == Coordinate::sequence) {
          continue;
        }
        if (const auto a = ahead_along(paths(n.inputs[i]), l.in_axis))
          place = std::max(place.value_or(*a), *a);
      }
    }
    return place.value_or(0);
  }

  // A sum over positions that nothing bounds. Where the output has positions all the same it is
  // noted, and the walk goes on as if it were right, so that later masks are judged by themselves.
  void unlimited(const Node& n, int input, TokenPaths& out) {
    AheadByAxis repaired;
    for (const auto& [axes, path] : out) {
      if (path.size() == 1 && repaired.empty()) repaired = path;
    }
    if (repaired.empty()) {  // a loss, a mean over all rows: nothing has positions any more
      join(out, {});
      return;
    }
    join(out, repaired);
    Known& k = known_[at(n.id)];
    for (const NodeId other : n.inputs) {
      const int open = known_[at(other)].open;
      if (open < 0) continue;
      Mixing& m = result_.mixings[static_cast<std::size_t>(open)];
      if (m.value_input >= 0) continue;
      m.node = n.id;  // softmax without a mask, and now the product with the values
      m.value_input = input;
      return;
    }
    Mixing m{.limit = Mixing::Limit::none, .node = n.id, .value_input = input, .origin = n.id};
    if (n.inputs.size() == 1) m.value_input = -1;
    judge_open(n, m);
    k.open = static_cast<int>(result_.mixings.size());
    result_.mixings.push_back(m);
  }
  void judge_open(const Node& n, Mixing& m) const {
    if (n.op->reach == nullptr || (n.op->kind == OpKind::selection && n.inputs.size() > 1))
      m.limit = Mixing::Limit::unruled;
    for (const NodeId i : n.inputs) {
      if (const StatedMask& mask = known_[at(i)].mask) {
        m.limit = Mixing::Limit::lost;
        m.origin = mask.origin;
      }
      if (const NodeId data = known_[at(i)].maybe_mask; data != kNoNode) {
        m.limit = Mixing::Limit::unread;
        m.origin = data;
      }
    }
  }

  // What a mask hides is a constant: along a path through the keys, key <= query + offset.
  void tighten(const Node& n) {
    const Fact& f = known_[at(n.id)].mask.fact;
    if (f.kind == Fact::Kind::none) return;
    TokenPaths tight;
    for (auto [axes, path] : paths(n.id)) {
      if (const auto key = path.find(f.key_axis); key != path.end())
        bound(path, f.query_axis, key->second + f.offset);
      join(tight, path);
    }
    result_.paths[at(n.id)] = std::move(tight);
  }

  const Graph& g_;
  const NodeId source_;
  const KnownValues& values_;
  LookAhead result_;
  std::vector<Known> known_;
  std::vector<Type> types_;
  std::vector<Fact> facts_;
};

}  // namespace

LookAhead look_ahead(const Graph& graph, NodeId source, int axis, const KnownValues& known) {
  return Walk(graph, source, axis, known).run();
}

}  // namespace vitrine

// Gradients between rows: one row of a value is summed with drawn weights, which are a feed, and
// the sum is differentiated at the values that it is made of. Rows that it cannot see get exact zeros.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "autograd/diagnose/checks.h"
#include "autograd/ops/ops.h"
#include "autograd/transform/gradient.h"
#include "tensor/random.h"

namespace vitrine {

namespace {

constexpr const char* kRead = "diagnose.read";        // the site of the values that are read
constexpr const char* kScalar = "diagnose.scalar";    // the weighted sum
constexpr const char* kWeights = "diagnose.weights";  // its weights, a feed

// The prompt and the position of each entry of an axis.
struct Places {
  std::vector<std::int64_t> prompt, position;
  std::int64_t size() const { return std::ssize(position); }
};

Places places_along(const Examined& e, std::int64_t size, int axis) {
  Places p{std::vector<std::int64_t>(static_cast<std::size_t>(size), 0),
           std::vector<std::int64_t>(static_cast<std::size_t>(size))};
  // An axis of whole multiples has a batch merged into it.
  const std::int64_t tokens = e.graph.node(e.source).type.shape[e.axis];
  const std::int64_t period = tokens > 0 && size % tokens == 0 ? tokens : size;
  for (std::int64_t i = 0; i < size; ++i) p.position[static_cast<std::size_t>(i)] = i % period;
  if (!e.graph.rows() || axis != 0) return p;
  const auto table = [&](NodeId id) {
    const auto it = e.feeds.find(std::get<LeafName>(e.graph.node(id).attributes).name);
    return it == e.feeds.end() ? std::vector<std::int64_t>() : it->second.to_vector<std::int64_t>();
  };
  const std::vector<std::int64_t> sequence = table(e.graph.rows()->sequence),
                                  position = table(e.graph.rows()->position);
  if (std::ssize(sequence) == size && std::ssize(position) == size) p = {sequence, position};
  return p;
}

// At most `most` of 0 .. size - 1, spread evenly, the first and the last among them.
std::vector<std::int64_t> spread(std::int64_t size, std::int64_t most) {
  std::set<std::int64_t> rows;
  const std::int64_t n = std::min(size, std::max<std::int64_t>(most, 2));
  for (std::int64_t i = 0; i < n; ++i) rows.insert(n == 1 ? 0 : i * (size - 1) / (n - 1));
  return {rows.begin(), rows.end()};
}

// Drawn numbers in the rows `row` of `axis`, 0 elsewhere.
Tensor weights_of_row(const Type& type, int axis, std::int64_t row, std::uint64_t seed) {
  const Tensor all = Tensor::empty(type.shape, type.dtype);
  ThreadPool pool(1);
  random::fill_normal(pool, random::Key{seed}.fold(kWeights), all);
  const Tensor w = Tensor::zeros(type.shape, type.dtype);
  const std::vector<double> values = all.slice(axis, row, row + 1).to_vector<double>();
  std::int64_t inner = 1;  // elements behind one entry of the axis
  for (int a = axis + 1; a < type.shape.size(); ++a) inner *= type.shape[a];
  for (std::int64_t i = 0; i < std::ssize(values); ++i) {
    const std::int64_t at = (i / inner * type.shape[axis] + row) * inner + i % inner;
    const double x = values[static_cast<std::size_t>(i)];
    if (type.dtype == DType::f64) w.data<double>()[at] = x;
    else w.data<float>()[at] = static_cast<float>(x);
  }
  return w;
}

// The largest |g| in each entry of `axis`.
std::vector<double> largest_along(const Tensor& g, int axis) {
  std::vector<double> most;
  for (std::int64_t i = 0; i < g.dim(axis); ++i)
    most.push_back(max_abs(g.slice(axis, i, i + 1).contiguous()));
  return most;
}

// The graph with what is asked for.
struct Question {
  Graph graph;  // with kScalar and its gradients at `reads`
  std::vector<std::string> reads;
  Type type;  // of the value whose rows are summed
  int axis = 0, read_axis = 0;
};

RowGradients ask(const Examined& e, const Question& q, std::int64_t most) {
  Fetch wanted;
  for (const std::string& name : q.reads) wanted.wants.push_back(grad(Site{name}));
  const Plan plan = compile(q.graph, wanted);
  const Places rows = places_along(e, q.type.shape[q.axis], q.axis);
  RowGradients answer;
  for (const std::int64_t row : spread(rows.size(), most)) {
    const auto r = static_cast<std::size_t>(row);
    Feeds feeds = e.feeds;
    feeds[kWeights] = weights_of_row(q.type, q.axis, row, e.spec.seed);
    const Results results = plan.run(plan.taken(feeds), e.parameters, e.options());
    ++answer.rows;
    bool own = false;
    for (const std::string& name : q.reads) {
      const Tensor g = results.raw(grad_name(name));
      const Places reads = places_along(e, g.dim(q.read_axis), q.read_axis);
      const std::vector<double> most_of = largest_along(g, q.read_axis);
      for (std::size_t i = 0; i < most_of.size(); ++i) {
        const bool same_prompt = reads.prompt[i] == rows.prompt[r];
        answer.any = answer.any || most_of[i] != 0;
        own = own || (same_prompt && reads.position[i] == rows.position[r] && most_of[i] != 0);
        const bool may = same_prompt && reads.position[i] <= rows.position[r];
        if (may || most_of[i] == 0 || answer.later) continue;
        answer.later = true;
        answer.row = row;
        answer.read = static_cast<std::int64_t>(i);
      }
    }
    if (!own && answer.own) {
      answer.own = false;
      if (!answer.later) answer.row = row;
    }
  }
  return answer;
}

// kScalar of `value`, differentiated at the sites.
Graph weighed(Builder&& b, const Value& value, const std::vector<std::string>& reads) {
  b.output(kScalar, sum(value * b.input(kWeights, value.type())));
  std::string patterns;
  for (const std::string& name : reads) patterns += (patterns.empty() ? "" : ",") + name;
  return gradient(std::move(b).finish(), kScalar, sites(patterns));
}

// The float values that are the first to hold tokens.
std::vector<NodeId> embeddings(const Examined& e, const LookAhead& look) {
  if (is_compute_float(e.graph.node(e.source).type.dtype)) return {e.source};
  std::vector<NodeId> found;
  for (const Node& n : e.graph.nodes()) {
    if (look.paths[by_id(n.id)].empty() || !is_compute_float(n.type.dtype)) continue;
    const bool first = std::none_of(n.inputs.begin(), n.inputs.end(), [&](NodeId i) {
      return !look.paths[by_id(i)].empty() && is_float(e.graph.node(i).type.dtype);
    });
    if (first && n.id != e.source) found.push_back(n.id);
  }
  return found;
}

}  // namespace

std::optional<RowGradients> mixing_gradients(const Examined& e, const LookAhead& look,
                                             const Mixing& m) {
  if (m.value_input < 0) return std::nullopt;
  const Node& n = e.graph.node(m.node);
  const auto input = static_cast<std::size_t>(m.value_input);
  const NodeId values = n.inputs[input];
  const int axis = token_axis(look.paths[by_id(m.node)]),
            read_axis = token_axis(look.paths[by_id(values)]);
  if (axis < 0 || read_axis < 0 || !is_compute_float(n.type.dtype) ||
      !is_compute_float(e.graph.node(values).type.dtype)) {
    return std::nullopt;
  }
  Builder b(e.graph);
  const Type type = n.type;
  const Axes axes(static_cast<std::size_t>(e.graph.node(values).type.shape.size()), Axis::other);
  b.set_input(m.node, input, b.site(kRead, b.value(values), axes));
  const Value out = b.value(m.node);
  Question q{.reads = {kRead}, .type = type, .axis = axis, .read_axis = read_axis};
  q.graph = weighed(std::move(b), out, q.reads);
  return ask(e, q, 3);
}

std::optional<RowGradients> output_gradients(const Examined& e, const LookAhead& look) {
  const NodeId output = e.graph.output(e.output);
  const int axis = token_axis(look.paths[by_id(output)]);
  const Type type = e.graph.node(output).type;
  const std::vector<NodeId> read = embeddings(e, look);
  if (axis < 0 || read.empty() || !is_compute_float(type.dtype)) return std::nullopt;
  Builder b(e.graph);
  Question q{.type = type, .axis = axis};
  q.read_axis = token_axis(look.paths[by_id(read.front())]);
  if (q.read_axis < 0) return std::nullopt;
  for (const NodeId id : read) {
    q.reads.push_back(fmt::format("{}.{}", kRead, id));
    const Axes axes(static_cast<std::size_t>(e.graph.node(id).type.shape.size()), Axis::other);
    const Value site = b.site(q.reads.back(), b.value(id), axes);
    for (const Node& n : e.graph.nodes()) {
      for (std::size_t i = 0; i < n.inputs.size(); ++i)
        if (n.inputs[i] == id) b.set_input(n.id, i, site);
    }
  }
  q.graph = weighed(std::move(b), b.value(output), q.reads);
  return ask(e, q, e.spec.rows);
}

}  // namespace vitrine

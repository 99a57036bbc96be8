#include "autograd/graph/builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "tensor/error.h"

namespace vitrine {

extern const OpDef kInput, kParameter, kConstant, kSite, kIdentity, kCast, kGatherRows;

namespace {

std::string_view base_name(std::string_view path) {
  return path.substr(path.find_last_of('/') + 1);
}

std::string describe(const OpDef& op, const std::vector<Type>& in, const std::string& scope,
                     const SourceLine& line) {
  std::string types;
  for (const Type& t : in) types += (types.empty() ? "" : ", ") + to_string(t);
  return fmt::format("{}({}){}{}, {}:{}", op.name, types, scope.empty() ? "" : " in ", scope,
                     base_name(line.file), line.line);
}

// Blocks can be looked at, gathered by rows and widened. Elements of their own they do not have.
void require_elements(const OpDef& op, const std::vector<Type>& in) {
  if (op.view != nullptr || &op == &kCast || &op == &kGatherRows) return;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!is_blocked(in[i].dtype)) continue;
    throw ShapeError(
        fmt::format("input {} is stored as {}, in blocks of {} elements: widen() it (products and "
                    "gathers then read it as it is stored)",
                    i, name_of(in[i].dtype), block_of(in[i].dtype).elements));
  }
}

}  // namespace

Builder& Value::builder() const {
  if (builder_ == nullptr)
    throw GraphError("this Value is undefined: it was default-constructed and never emitted");
  return *builder_;
}
const Type& Value::type() const { return builder().node(id_).type; }
std::int64_t Value::dim(int axis) const { return shape()[normalise_axis(axis, rank())]; }

Builder::Builder(const Graph& graph)
    : nodes_(graph.nodes_.begin(), graph.nodes_.end()),
      position_(graph.position_),
      sites_(graph.sites_),
      leaves_(graph.leaves_),
      outputs_(graph.outputs_),
      weights_(graph.weights_),
      rows_(graph.rows_) {}

bool Builder::contains(NodeId id) const {
  return id >= 0 && id < next_id() && position_[static_cast<std::size_t>(id)] >= 0;
}

const Node& Builder::node(NodeId id) const {
  if (!contains(id)) {
    throw GraphError(fmt::format("there is no node %{} in this graph", id));
  }
  return nodes_[static_cast<std::size_t>(position_[static_cast<std::size_t>(id)])];
}

Value Builder::add(Node node) {
  node.id = static_cast<NodeId>(position_.size());
  position_.push_back(static_cast<std::int32_t>(nodes_.size()));
  nodes_.push_back(std::move(node));
  return {this, nodes_.back().id};
}

Value Builder::emit(const OpDef& op, std::initializer_list<Value> inputs, Attributes attributes,
                    SourceLine line) {
  return emit(op, std::vector<Value>(inputs), std::move(attributes), line);
}

Value Builder::emit(const OpDef& op, const std::vector<Value>& inputs, Attributes attributes,
                    SourceLine line) {
  if (line_.line != 0) line = line_;
  if (const std::string missing = what_is_missing(op); !missing.empty()) {
    throw GraphError(fmt::format("{} at {}:{}: the row of its op is not complete: {}", op.name,
                                 base_name(line.file), line.line, missing));
  }
  std::vector<Type> in;
  std::vector<NodeId> ids;
  for (const Value& v : inputs) {
    if (!v.defined() || &v.builder() != this) {
      throw GraphError(fmt::format(
          "{} at {}:{}: input {} {}", op.name, base_name(line.file), line.line, ids.size(),
          v.defined() ? "belongs to another graph: values cannot be mixed between builders"
                      : "is an undefined Value"));
    }
    in.push_back(v.type());
    ids.push_back(v.id());
  }
  Type type;
  try {
    require_elements(op, in);
    type = op.infer({in, attributes});
  } catch (const ShapeError& e) {
    throw ShapeError(fmt::format("{}: {}", describe(op, in, scope_, line), e.what()));
  }
  std::vector<InteriorSite> interior;
  if (op.interior != nullptr) interior = op.interior({in, attributes}, type);
  const Value value = add({.op = &op,
                           .attributes = std::move(attributes),
                           .inputs = std::move(ids),
                           .type = std::move(type),
                           .scope = scope_,
                           .line = line});
  for (InteriorSite& s : interior) {
    register_site(
        {std::move(s.label.name), std::move(s.label.axes), std::move(s.type), value.id(), kNoNode});
  }
  return value;
}

Value Builder::leaf(const OpDef& op, std::string_view name, const Type& type, SourceLine line) {
  if (const auto it = leaves_.find(name); it != leaves_.end()) {
    const Node& known = node(it->second);
    if (known.op == &op && known.type == type) return {this, it->second};
    throw GraphError(fmt::format("{}:{}: '{}' is already the {} {}; it cannot also be the {} {}",
                                 base_name(line.file), line.line, name, known.op->name,
                                 to_string(known.type), op.name, to_string(type)));
  }
  const Value value = add({.op = &op,
                           .attributes = LeafName{std::string(name)},
                           .inputs = {},
                           .type = type,
                           .scope = scope_,
                           .line = line});
  leaves_[std::string(name)] = value.id();
  return value;
}

Value Builder::replace_leaf(NodeId old, DType dtype, SourceLine line) {
  const Node n = node(old);
  const std::string name = std::get<LeafName>(n.attributes).name;
  leaves_.erase(name);
  return leaf(*n.op, name, {dtype, n.type.shape}, line);
}

Value Builder::input(std::string_view name, const Type& type, SourceLine line) {
  return leaf(kInput, name, type, line);
}
Value Builder::parameter(std::string_view name, const Type& type, SourceLine line) {
  return leaf(kParameter, name, type, line);
}
Value Builder::constant(const Tensor& value, SourceLine line) {
  return emit(kConstant, std::initializer_list<Value>{}, ConstantValue{value}, line);
}
Value Builder::scalar(double value, DType dtype, SourceLine line) {
  return constant(Tensor::full({}, dtype, value), line);
}

void Builder::register_site(SiteEntry entry) {
  const auto same = std::find_if(sites_.begin(), sites_.end(),
                                 [&](const SiteEntry& s) { return s.name == entry.name; });
  if (same != sites_.end()) {
    throw GraphError(fmt::format(
        "site '{}' is named twice in this model; every site needs a name of its own (nodes %{} "
        "and %{})",
        entry.name, same->node, entry.node));
  }
  sites_.push_back(std::move(entry));
}

Value Builder::site(std::string_view name, const Value& value, Axes axes, SourceLine line) {
  const Value out = emit(kSite, {value}, SiteLabel{std::string(name), axes}, line);
  register_site({std::string(name), std::move(axes), value.type(), out.id(), value.id()});
  return out;
}

void Builder::output(std::string_view name, const Value& value) {
  outputs_[std::string(name)] = value.id();
}

void Builder::name_weight(std::string_view name, const Value& value) {
  weights_[std::string(name)] = node(value.id()).id;
}

Value Builder::weight(std::string_view name) {
  const auto it = weights_.find(name);
  return it == weights_.end() ? Value() : Value(this, it->second);
}

void Builder::rows(const Value& sequence, const Value& position, const Value& keys) {
  rows_ = RowTable{sequence.id(), position.id(), keys.id()};
}

const RowTable& Builder::row_table() const {
  if (!rows_)
    throw GraphError("this graph has no row table: its model does not pack prompts into rows");
  return *rows_;
}

Value Builder::value(NodeId id) { return {this, node(id).id}; }

Value Builder::output(std::string_view name) {
  const auto it = outputs_.find(name);
  if (it == outputs_.end()) throw GraphError(fmt::format("the graph has no output '{}'", name));
  return {this, it->second};
}

Value Builder::at(const Site& site) {
  for (const SiteEntry& s : sites_) {
    if (s.name != site.name) continue;
    if (s.interior()) expand(s.node);
    break;
  }
  for (const SiteEntry& s : sites_) {
    if (s.name == site.name) return {this, s.node};
  }
  throw SiteError(fmt::format("there is no site '{}' in this graph", site.name));
}

Builder::Scope::Scope(Builder& builder, std::string_view name)
    : builder_(builder), length_(builder.scope_.size()) {
  if (!builder.scope_.empty()) builder.scope_ += '.';
  builder.scope_ += name;
}
Builder::Scope::~Scope() { builder_.scope_.resize(length_); }

Builder::Origin::Origin(Builder& builder, const std::string& scope, const SourceLine& line)
    : builder_(builder),
      scope_(std::exchange(builder.scope_, scope)),
      line_(std::exchange(builder.line_, line)) {}
Builder::Origin::~Origin() {
  builder_.scope_ = std::move(scope_);
  builder_.line_ = line_;
}

void Builder::set_input(NodeId id, std::size_t index, const Value& value) {
  Node& n = nodes_[static_cast<std::size_t>(position_[static_cast<std::size_t>(node(id).id)])];
  const Type& old = node(n.inputs.at(index)).type;
  if (!(old == value.type())) {
    throw GraphError(fmt::format("input {} of %{} ({}) is {}; it cannot be replaced by a {}", index,
                                 id, n.op->name, to_string(old), to_string(value.type())));
  }
  n.inputs[index] = value.id();
}

void Builder::rebuild(NodeId id, const std::vector<Value>& inputs, Attributes attributes) {
  const Node& old = node(id);
  std::vector<Type> in;
  std::vector<NodeId> ids;
  for (const Value& v : inputs) {
    in.push_back(v.type());
    ids.push_back(v.id());
  }
  if (const Type type = old.op->infer({in, attributes}); !(type == old.type)) {
    throw GraphError(fmt::format("%{} ({}) is {}; it cannot become {}", id, old.op->name,
                                 to_string(old.type), to_string(type)));
  }
  Node& slot = nodes_[static_cast<std::size_t>(position_[static_cast<std::size_t>(id)])];
  slot.inputs = std::move(ids);
  slot.attributes = std::move(attributes);
}

void Builder::expand(NodeId composite) {
  const Node n = node(composite);  // a copy: emitting moves nodes_
  if (n.op->expand == nullptr)
    throw GraphError(fmt::format("%{} ({}) is a primitive: it has no expansion", n.id, n.op->name));
  std::erase_if(sites_, [&](const SiteEntry& s) { return s.interior() && s.node == composite; });
  std::vector<Value> in;
  for (const NodeId i : n.inputs) in.push_back({this, i});
  Value out;
  {
    const Origin origin(*this, n.scope, n.line);
    out = n.op->expand({*this, in, n.attributes});
  }
  forward(composite, out);
}

void Builder::forward(NodeId id, const Value& to) {
  const Node& n = node(id);
  if (!(to.type() == n.type)) {
    throw GraphError(fmt::format("{} gives {}; it cannot be replaced by a {}", n.op->name,
                                 to_string(n.type), to_string(to.type())));
  }
  Node& slot = nodes_[static_cast<std::size_t>(position_[static_cast<std::size_t>(id)])];
  slot.op = &kIdentity;
  slot.attributes = NoAttributes{};
  slot.inputs = {to.id()};
}

void Builder::edit_site(std::string_view name, const Value& edited) {
  for (const SiteEntry& s : sites_) {
    if (s.name == name && !s.interior()) return set_input(s.node, 0, edited);
  }
  throw SiteError(fmt::format("there is no site '{}' to edit in this graph", name));
}

namespace {

// Inputs before their readers; otherwise the order of emission. Throws GraphError when the nodes
// form a cycle.
std::vector<std::size_t> topological_order(const std::deque<Node>& nodes,
                                           const std::vector<std::int32_t>& position) {
  enum : char { fresh, open, done };
  std::vector<char> state(nodes.size(), fresh);
  std::vector<std::size_t> order, stack;
  for (std::size_t root = 0; root < nodes.size(); ++root) {
    if (state[root] == fresh) stack.push_back(root);
    while (!stack.empty()) {
      const std::size_t at = stack.back();
      if (state[at] != fresh) {
        stack.pop_back();
        if (state[at] == open) {
          state[at] = done;
          order.push_back(at);
        }
        continue;
      }
      state[at] = open;
      for (auto i = nodes[at].inputs.rbegin(); i != nodes[at].inputs.rend(); ++i) {
        const auto input = static_cast<std::size_t>(position[static_cast<std::size_t>(*i)]);
        if (state[input] == open) {
          throw GraphError(fmt::format("%{} ({}) depends on itself: an edit closed a cycle",
                                       nodes[at].id, nodes[at].op->name));
        }
        if (state[input] == fresh) stack.push_back(input);
      }
    }
  }
  return order;
}

}  // namespace

Graph Builder::finish() && {
  Graph g;
  std::vector<std::int32_t> position(position_.size(), -1);
  for (const std::size_t i : topological_order(nodes_, position_)) {
    position[static_cast<std::size_t>(nodes_[i].id)] = static_cast<std::int32_t>(g.nodes_.size());
    g.nodes_.push_back(std::move(nodes_[i]));
  }
  g.position_ = std::move(position);
  const auto order = [&](NodeId id) { return g.position_[static_cast<std::size_t>(id)]; };
  std::stable_sort(sites_.begin(), sites_.end(), [&](const SiteEntry& a, const SiteEntry& b) {
    return order(a.node) < order(b.node);
  });
  g.sites_ = std::move(sites_);
  for (std::size_t i = 0; i < g.sites_.size(); ++i) g.site_index_[g.sites_[i].name] = i;
  for (const Node& n : g.nodes_) {
    if (const auto* leaf = std::get_if<LeafName>(&n.attributes)) g.leaves_[leaf->name] = n.id;
  }
  g.outputs_ = std::move(outputs_);
  g.weights_ = std::move(weights_);
  g.rows_ = rows_;

  const auto mix = [&g](std::size_t x) {
    g.hash_ = (g.hash_ ^ x) * 0x100000001b3ULL + 0x9e3779b97f4a7c15ULL;
  };
  const auto text = std::hash<std::string_view>();
  for (const Node& n : g.nodes_) {
    mix(text(n.op->name));
    mix(hash_of(n.attributes));
    mix(static_cast<std::size_t>(n.type.dtype));
    for (const std::int64_t d : n.type.shape) mix(static_cast<std::size_t>(d));
    for (const NodeId i : n.inputs) mix(static_cast<std::size_t>(order(i)));
  }
  for (const auto& [name, id] : g.outputs_) {
    mix(text(name));
    mix(static_cast<std::size_t>(order(id)));
  }
#ifndef NDEBUG
  verify(g);
#endif
  return g;
}

}  // namespace vitrine

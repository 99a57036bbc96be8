// Builder emits the nodes of a computation graph; Value is a handle on one. Shapes are inferred as
// nodes are emitted, so an error points at the line of model code.
//
//   Builder b;
//   Value x = b.input("x", {DType::f32, {4, 3}});
//   Value w = b.parameter("w", {DType::f32, {3, 2}});
//   b.output("y", relu(matmul(x, w)));
//   Graph g = std::move(b).finish();
#pragma once

#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/graph/graph.h"

namespace vitrine {

class Value {
 public:
  Value() = default;  // undefined
  Value(Builder* builder, NodeId id) : builder_(builder), id_(id) {}

  bool defined() const { return builder_ != nullptr; }
  NodeId id() const { return id_; }
  Builder& builder() const;  // throws GraphError when undefined
  const Type& type() const;
  const Shape& shape() const { return type().shape; }
  DType dtype() const { return type().dtype; }
  int rank() const { return shape().size(); }
  std::int64_t dim(int axis) const;  // negative axes count from the end

 private:
  Builder* builder_ = nullptr;
  NodeId id_ = kNoNode;
};

// A Value together with the line that passed it: how operators, which take no default arguments,
// know their caller.
struct At {
  Value value;
  SourceLine line;
  At(const Value& v, SourceLine l = SourceLine::here())
      : value(v), line(l) {}  // NOLINT(google-explicit-constructor)
};

class Builder {
 public:
  Builder() = default;
  explicit Builder(const Graph& graph);  // goes on from a graph; ids of its nodes stay
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  // Leaves. The same name and type twice is the same node; another type under a used name is a
  // GraphError.
  Value input(std::string_view name, const Type& type, SourceLine line = SourceLine::here());
  Value parameter(std::string_view name, const Type& type, SourceLine line = SourceLine::here());
  Value constant(const Tensor& value, SourceLine line = SourceLine::here());
  Value scalar(double value, DType dtype, SourceLine line = SourceLine::here());

  // Names a value. What comes back is the value that flows on: edits land between it and `value`.
  Value site(std::string_view name, const Value& value, Axes axes,
             SourceLine line = SourceLine::here());
  Value site(const Site& site, const Value& value, Axes axes,
             SourceLine line = SourceLine::here()) {
    return this->site(site.name, value, std::move(axes), line);
  }
  void output(std::string_view name,
              const Value& value);  // makes it fetchable by name; replaces an old one
  void rows(const Value& sequence, const Value& position, const Value& keys);
  // Names a weight of the model, so that explanations and transformations find it: a parameter, or
  // what is computed from parameters. A name that is used already moves to this value.
  void name_weight(std::string_view name, const Value& value);

  // The one door through which every node enters.
  Value emit(const OpDef& op, std::initializer_list<Value> inputs, Attributes attributes,
             SourceLine line);
  Value emit(const OpDef& op, const std::vector<Value>& inputs, Attributes attributes,
             SourceLine line);

  // Reading what is there.
  Value value(NodeId id);
  Value output(std::string_view name);
  Value weight(std::string_view name);  // undefined where the model has no such weight
  Value at(const Site& site);  // the value that flows on from a site; expands what hides it
  const Node& node(NodeId id) const;
  bool contains(NodeId id) const;
  NodeId next_id() const { return static_cast<NodeId>(position_.size()); }
  const std::vector<SiteEntry>& sites() const { return sites_; }
  const RowTable& row_table() const;  // throws GraphError when the model has none

  // Names the part of the model being built; shown in errors and printed graphs.
  class Scope {
   public:
    Scope(Builder& builder, std::string_view name);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Builder& builder_;
    std::size_t length_;
  };
  [[nodiscard]] Scope scope(std::string_view name) { return {*this, name}; }

  // While it lives, everything emitted carries this scope and line: what a transformation adds
  // points at the model.
  class Origin {
   public:
    Origin(Builder& builder, const std::string& scope, const SourceLine& line);
    ~Origin();
    Origin(const Origin&) = delete;
    Origin& operator=(const Origin&) = delete;

   private:
    Builder& builder_;
    std::string scope_;
    SourceLine line_;
  };

  // For transformations.
  void set_input(NodeId node, std::size_t index,
                 const Value& value);  // rewires one edge; the type must not change
  // The same op with other inputs and attributes; its type must not change.
  void rebuild(NodeId node, const std::vector<Value>& inputs, Attributes attributes);
  void forward(NodeId node,
               const Value& to);  // the node becomes an identity of `to`, of the same type
  // A leaf of the same name in another dtype; the old one, which loses its name, is to be forwarded.
  Value replace_leaf(NodeId old, DType dtype, SourceLine line = SourceLine::here());
  void expand(NodeId composite);  // replaces it by its expansion; its id lives on as an identity
  void edit_site(std::string_view name, const Value& edited);  // what flows on becomes `edited`

  Graph finish() &&;  // sorts, hashes, verifies in builds with assertions

 private:
  Value add(Node node);
  Value leaf(const OpDef& op, std::string_view name, const Type& type, SourceLine line);
  void register_site(SiteEntry entry);
  std::deque<Node> nodes_;  // by emission, ids index position_; a deque, so that references to
                            // types stay valid while nodes are added
  std::vector<std::int32_t> position_;
  std::vector<SiteEntry> sites_;
  std::map<std::string, NodeId, std::less<>> leaves_;
  std::map<std::string, NodeId, std::less<>> outputs_;
  std::map<std::string, NodeId, std::less<>> weights_;
  std::optional<RowTable> rows_;
  std::string scope_;
  SourceLine line_;  // overrides the caller's while an Origin lives
};

}  // namespace vitrine

#include "autograd/transform/rewrite.h"

#include <fmt/format.h>

#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine {

Graph rewrite(const Graph& graph, const Site& site, const std::function<Value(const Value&)>& f) {
  Builder b(expand_sites(graph, {site.name}));
  const NodeId at = b.at(site).id();
  const Value x = b.value(b.node(at).inputs[0]);
  Value y;
  {
    const Builder::Origin origin(b, b.node(at).scope,
                                 {});  // the place is the model's, lines are f's
    y = f(x);
  }
  const auto wrong = [&](std::string_view what) {
    return fmt::format("the rewrite of '{}' {}", site.name, what);
  };
  if (!y.defined()) throw GraphError(wrong("gave no value; return the value that is to flow on"));
  if (&y.builder() != &b)
    throw GraphError(wrong("gave a value of another graph; emit onto the value it is given"));
  if (!(y.type() == x.type())) {
    throw ShapeError(
        wrong(fmt::format("gave {}, but what reads the site expects {}: shape and dtype must stay",
                          to_string(y.type()), to_string(x.type()))));
  }
  b.edit_site(site.name, y);
  return std::move(b).finish();
}

}  // namespace vitrine

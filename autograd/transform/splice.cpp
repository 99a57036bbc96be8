#include "autograd/transform/splice.h"

#include <fmt/format.h>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

// Calls one function of the codec and checks that it gave a value.
Value call(const Site& site, std::string_view name, const std::function<Value(const Value&)>& f,
           const Value& in) {
  if (!f) throw GraphError(fmt::format("splicing '{}': the codec has no {}", site.name, name));
  const Value out = f(in);
  if (!out.defined() || &out.builder() != &in.builder()) {
    throw GraphError(fmt::format("splicing '{}': {} gave {}", site.name, name,
                                 out.defined() ? "a value of another graph" : "no value"));
  }
  return out;
}

// The axes of features [.., features] of a site's value: its own, or, with heads joined, its first.
Axes feature_axes(const Site& site, const Axes& axes, const Value& x, const Value& features) {
  const int rank = features.rank();
  bool fits = rank >= 1 && rank <= x.rank();
  for (int a = 0; fits && a + 1 < rank; ++a) fits = features.dim(a) == x.dim(a);
  if (!fits) {
    throw ShapeError(
        fmt::format("splicing '{}': features {} of a value {}; all axes but the last must be those "
                    "of the value",
                    site.name, to_string(features.type()), to_string(x.type())));
  }
  Axes kept(axes.begin(), axes.begin() + rank - 1);
  kept.push_back(Axis::feature);
  return kept;
}

Value decoded(const Site& site, const Codec& codec, const Value& x, const Value& features) {
  const Value out = call(site, "decode", codec.decode, features);
  if (!(out.type() == x.type())) {
    throw ShapeError(fmt::format("splicing '{}': decode gives {}, but the value is {}", site.name,
                                 to_string(out.type()), to_string(x.type())));
  }
  return out;
}

}  // namespace

std::string_view name_of(ErrorTerm error) {
  constexpr std::string_view kNames[] = {"keep", "detach", "hold", "drop"};
  return kNames[static_cast<int>(error)];
}

Spliced splice(const Graph& graph, const Site& site, const Codec& codec, ErrorTerm error) {
  const auto part = [&](std::string_view name) {
    return Site{fmt::format("{}.hook_sae_{}", site.name, name)};
  };
  Spliced out{.acts = part("acts_post"), .recons = part("recons")};
  Builder b(expand_sites(graph, {site.name}));
  const NodeId at = b.at(site).id();
  const Axes axes = std::get<SiteLabel>(b.node(at).attributes).axes;
  const Value x = b.value(b.node(at).inputs[0]);
  {
    const Builder::Origin origin(b, b.node(at).scope, {});  // the place is the model's

    // The path that edits act on.
    const Value unedited = codec.pre ? call(site, "pre", codec.pre, x) : x;
    Value features = unedited;
    if (codec.pre) {
      out.pre = part("acts_pre");
      features = b.site(*out.pre, features, feature_axes(site, axes, x, features));
    }
    features = call(site, "encode", codec.encode, features);
    features = b.site(out.acts, features, feature_axes(site, axes, x, features));
    Value flows_on = b.site(out.recons, decoded(site, codec, x, features), axes);

    // The error is of the features before any edit: the same nodes again, which `compile` merges
    // with those above as long as nothing is edited.
    if (error != ErrorTerm::drop) {
      out.error = part("error");
      Value e;
      if (error == ErrorTerm::hold) {
        e = b.input(held_name(out.error->name), x.type());
      } else {
        e = x - decoded(site, codec, x, codec.encode(unedited));
        if (error == ErrorTerm::detach) e = detach(e);
      }
      flows_on = flows_on + b.site(*out.error, e, axes);
    }
    b.edit_site(site.name, flows_on);
  }
  out.graph = std::move(b).finish();
  return out;
}

}  // namespace vitrine

// Splices a codec, such as a sparse autoencoder (SAE), into a site: the value becomes features and
// an error term, both of which can be fetched, edited and differentiated like any other site.
//
//   Spliced s = splice(model, Site{"blocks.1.hook_mlp_out"}, codec, ErrorTerm::keep);
//   Graph g = intervene(s.graph, {zero(s.acts, {.feature = {123}})});
//
//   f = encode(x),  x' = decode(edited f) + e,  e = x - decode(f)
//
// The error is the reconstruction error of x before any edit, so zeroing feature j takes away
// exactly f_j decoder_j. (Marks et al. 2024, "Sparse feature circuits", section 2.)
#pragma once

#include <functional>
#include <optional>

#include "autograd/graph/builder.h"
#include "autograd/transform/held.h"

namespace vitrine {

// Functions that emit nodes: weights are parameters, x.builder().parameter(...). With `pre`, which
// is optional, `encode` gets the pre-activations instead of x, and these are a site too.
struct Codec {
  std::function<Value(const Value&)> pre;     // x [.., d] -> pre-activations [.., features]
  std::function<Value(const Value&)> encode;  // x (or pre-activations) -> features [.., features]
  std::function<Value(const Value&)> decode;  // features -> reconstruction, of x's type
};

// The treatment of the error e.
enum class ErrorTerm {
  keep,    // e follows x, in value and gradient: unedited, nothing changes
  detach,  // the same value, without gradient: what flows back flows through the features
  hold,    // e of a recorded run of the graph spliced with `keep`, fed (transform/held.h)
  drop     // 0: the reconstruction flows on, and there is no site for the error
};
std::string_view name_of(ErrorTerm error);

// The sites, named as SAELens names them.
struct Spliced {
  Graph graph;
  std::optional<Site> pre;    // SITE.hook_sae_acts_pre, if the codec has it
  Site acts;                  // SITE.hook_sae_acts_post: the features
  Site recons;                // SITE.hook_sae_recons: decode(features), without the error
  std::optional<Site> error;  // SITE.hook_sae_error, unless dropped
};

// x is the value that arrives at the site after the edits made before; what flows on from the site
// is x'. The features have the site's axes, the last one being of features; a codec that joins the
// heads of a site gives features [row, feature]. A site inside a composite is expanded. Throws
// SiteError for a site that is not there, ShapeError for a reconstruction of another type than x or
// features that have lost the site's rows, and GraphError for a function that is missing or gives
// no value.
Spliced splice(const Graph& graph, const Site& site, const Codec& codec, ErrorTerm error);

}  // namespace vitrine

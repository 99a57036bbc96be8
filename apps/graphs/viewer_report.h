// Reports of attribution graphs that were read from a file: for people and for viewers.
#pragma once

#include <string>

#include "apps/terminal/output.h"
#include "apps/terminal/text.h"
#include "sae/graphs/viewer_graph.h"

namespace vitrine::app {

struct ViewerReport {
  sae::ViewerGraph graph;
  int top = 20;  // features that are listed

  std::string text(const Style& style) const;
  // The file's JSON, with the supernodes that were named now, and {counts, merged}.
  Json json() const;
  // What the page has besides: what packed_graph gives, {logits: [{id, token, prob}], strongest: [{layer, position, feature,
  // activation, influence, effect, exact, raised}]} where the file has none, and kept: as GraphReport's.
  Json page_data() const;
};

}  // namespace vitrine::app

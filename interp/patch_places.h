// The places of a patching sweep: at which sites, and which elements one run changes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/transform/intervention.h"
#include "interp/patching.h"

namespace vitrine::interp {

// The site that is swept, in each of the layers that are.
struct SweptSite {
  std::vector<int> layers;
  std::vector<Site> sites;               // of each layer
  std::int64_t heads = 0, features = 0;  // 0: the site has none
  SiteSet all() const;                   // the sites, for fetching
};
// Throws Error (usage) for a layer that the model or the site does not have, for heads and features
// that the site does not have, and for narrowing that does not go with the site; SiteError, with
// the nearest names, for a site that no layer has.
SweptSite swept_site(const nn::Model& model, const SweepSpec& spec);

// The places of one layer in one example's prompt, row-major along the axes after `layer`.
struct SweptPlaces {
  struct Along {
    std::string name;
    std::vector<std::int64_t> Where::*list;
    std::vector<std::vector<std::int64_t>> places;  // the indices that are changed together
  };
  std::vector<Along> axes;
  std::vector<std::vector<std::string>> labels;  // of each axis; empty: 0, 1, 2, ...
  Where within;                                  // what narrows every place

  Shape shape() const;
  Where at(std::int64_t index) const;
};
// Throws ContextError for a position that the example does not have.
SweptPlaces swept_places(const SweepSpec& spec, const SweptSite& site, const Example& example);

// Whether one run changes one feature: there are many, most of them 0.
bool goes_by_features(By by);

}  // namespace vitrine::interp

// Grids of activation patches or ablations: one world for each of some sites and each place along
// some of their axes, and the results with named axes.
//
//   Grid g = grid(graph, sites("blocks.*.hook_resid_pre"), {Axis::pos}, from(clean, "clean"));
//   Swept s = sweep(graph, feeds, parameters, g.worlds, {"logit_diff"});
//   GridValues v = label(g, s["logit_diff"]);
//   v.at({{"site", 2}, {"pos", 3}});
//   v.table();
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "autograd/sweep/sweep.h"

namespace vitrine {

// The edit of a world, given its site and place.
using MakeEdit = std::function<Edit(const Site&, const Where&)>;
MakeEdit from(const Results& run, std::string_view name = "a recorded run");  // patching
MakeEdit zeros();                                                             // zero ablation

// Enumerates the combinations of indices below `sizes` along axes of these kinds, row-major.
std::vector<Where> places(const std::vector<Axis>& by, const Shape& sizes);

struct Grid {
  std::vector<std::string> axes;   // "site", then "prompt", "pos", "head", "key" or "feature"
  std::vector<std::string> sites;  // what the first axis counts
  Shape shape;
  std::vector<Interventions> worlds;  // numel(shape), row-major
};

// Makes the worlds of a grid. `by` are kinds of axes: batch (prompts), pos, head, key, feature, in
// the order of the result's axes. A packed row axis has prompts and positions, a pattern's query is
// a position. Throws SiteError for a pattern that matches nothing, and GraphError for a site
// without one of the axes, or with another size along it than the first site has.
Grid grid(const Graph& graph, const SiteSet& sites, const std::vector<Axis>& by,
          const MakeEdit& edit);

struct GridValues {
  std::vector<std::string> axes, sites;
  Tensor values;  // f64, of the grid's shape

  // Throws GraphError for an axis that is not there or not given, and an index outside it.
  double at(const std::map<std::string, std::int64_t>& place) const;
  std::string table() const;  // a line for each site (and further leading axes)
};
// Names the axes of `values`, one number for each world.
GridValues label(const Grid& grid, const Tensor& values);

}  // namespace vitrine

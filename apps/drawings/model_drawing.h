// A model as a drawing: its sites, what each is computed from and how, block by block; and what its parts cost. All of it
// is read off the graph.
#pragma once

#include <cstdint>

#include "apps/terminal/output.h"
#include "autograd/graph/graph.h"
#include "nn/model/model.h"

namespace vitrine::app {

// A site's shape as it is fetched, from the packed [rows, ...] of the graph: [batch, position, ...], and [batch, head,
// query, key] where there are keys; and what its axes are.
Shape fetched_shape(const SiteEntry& site, std::int64_t length);
std::vector<std::string> fetched_axes(const SiteEntry& site);

// {before: [SITE], structures: [[SITE]], layers: [STRUCTURE], after: [SITE]}: the sites before the blocks, those of a
// block of each kind that there is, the kind of each layer, and the sites after. SITE is {name, axes, shape, formula, from:
// [NAME], copies: [NAME], inputs: [NAME], weights: [{name, shape}], ops: [{name, doc}]}; names of a block's sites and
// weights begin with "blocks.L.", those that it reads of the block before with "blocks.L-1.". `copies` are sites inside
// the ops of the formula that are there when they are asked for.
Json drawing_json(const Graph& graph, std::int64_t length);

// [{name, parameters, bytes, flops}], of embedding, attention, MLP, norms, unembedding and the rest: each parameter
// where it is read first, of a forward pass of this graph.
Json parts_json(const nn::Model& model, const Graph& graph);

}  // namespace vitrine::app

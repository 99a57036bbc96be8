// The edges of a model's residual stream: which parts write to it, and which read it.
//
//   EdgeSet edges = nn::stream_edges(m.config());
//   edges.sender_names();     // input, a0.h0, a0.h1, ..., m0, a1.h0, ...
//   edges.receiver_names();   // a0.h0<q>, ..., a0.h0<k>, ..., a0.h0<v>, ..., m0, ..., logits
//
// Names are those of EAP-IG and of the Mechanistic Interpretability Benchmark (MIB). Senders: the
// embedding of tokens (and of positions, where they are added), each head without the bias of the
// output projection, each MLP with its bias. Receivers: the query, key and value input of each
// head, the input of each MLP, and the end of the stream, `logits`; all before the norm that they
// read through. Where groups of query heads share a key head, a0.h1<k> is key head 1, which feeds
// all heads of its group. Where attention and MLP of a layer stand side by side, the MLP does not
// read the layer's heads. Where a norm stands between a part and the stream (Gemma), a sender's
// output is its share of what that norm gives, with the norm's scale of the same run: shares add up.
#pragma once

#include "autograd/edges/edge_set.h"
#include "nn/families/config.h"

namespace vitrine::nn {

EdgeSet stream_edges(const Config& config);

}  // namespace vitrine::nn

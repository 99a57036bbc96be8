// Head composition (Q-, K- and V-composition): how much of an earlier head's output a later head
// reads, from the weights alone ("A Mathematical Framework for Transformer Circuits", Elhage et al.
// 2021).
//
//   composition = |W_OV W|_F / (|W_OV|_F |W|_F)
//
// W_OV = W_V W_O of the earlier head; W of the later one is W_Q W_K^T (Q composition: its query
// reads the earlier head), W_K W_Q^T (K: its keys do) or W_V W_O (V: what it moves). All are
// [d, d] of rank e, for row vectors; norms come from the factors, |A M B|_F^2 = tr(A^T A M B B^T
// M^T), which are e x e, so that nothing of size d x d is ever made.
//
// The weights are those of the model's gauge. LayerNorm's gains are part of them only when they
// are folded in (Gauge::processed()).
#pragma once

#include "nn/model/model.h"
#include "tensor/random.h"

namespace vitrine::interp {

struct Composition {
  // f64 [layer, head, layer, head], the earlier head first; 0 unless the second layer is later.
  Tensor q, k, v;
};
// Computes the composition scores of all pairs of heads.
Composition composition(const nn::Model& model);

// The random baseline: the scores of random matrices with the shapes of the model's heads and
// independent normal entries. All three kinds of composition have the same baseline.
struct CompositionBaseline {
  double mean = 0, deviation = 0;  // over `pairs` pairs of an earlier and a later head
  int pairs = 0;
};
CompositionBaseline composition_baseline(const nn::Model& model, random::Key key);

}  // namespace vitrine::interp

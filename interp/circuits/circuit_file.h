// Circuits in files: as the Mechanistic Interpretability Benchmark (MIB) and EAP-IG keep them, and
// as drawings.
//
//   {"cfg": {"n_layers": 4, "n_heads": 8, "parallel_attn_mlp": false, "d_model": 64},
//    "nodes": {"input": {"in_graph": true}, "a0.h0": {"in_graph": false}, ...},
//    "edges": {"input->a0.h0<q>": {"score": 0.25, "in_graph": true}, ...}}
//
// Every edge is there, in the circuit or not. Older files say of nodes true or false alone.
#pragma once

#include <string>
#include <string_view>

#include "interp/circuits/edge_mask.h"
#include "nn/families/config.h"

namespace vitrine::interp {

// scores: f64 [senders, receivers].
std::string circuit_json(const nn::Config& config, const EdgeGrid& grid, const EdgeMask& circuit,
                         const Tensor& scores);

struct CircuitFile {
  EdgeMask circuit;
  Tensor scores;  // f64 [senders, receivers]; NaN where the file gives none
};
// Reads such a file, or one in which `edges` is a list of {"from": SENDER, "to": RECEIVER, "score":
// NUMBER}, as the program writes. Throws FileError, naming the place, for what is not one, and for an
// edge that this model does not have.
CircuitFile read_circuit(std::string_view text, const std::string& file, const EdgeGrid& grid);

// Graphviz: layers from bottom to top, edges as thick as their scores are large; red ones lower the
// metric.
std::string circuit_dot(const EdgeGrid& grid, const EdgeMask& circuit, const Tensor& scores);

}  // namespace vitrine::interp

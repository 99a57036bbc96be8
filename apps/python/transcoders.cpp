// A transcoder for every MLP, per layer or cross-layer.
#include "apps/python/transcoders.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "apps/python/arrays.h"
#include "apps/python/interrupts.h"
#include "sae/transcoder_set.h"
#include "tensor/error.h"

namespace vitrine::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

const sae::TranscoderLayer& layer_of(const sae::TranscoderSet& set, std::int64_t layer) {
  if (layer < 0 || layer >= std::ssize(set.layers))
    throw Error(ErrorKind::usage, "there is no layer " + std::to_string(layer) +
                                      "; these transcoders are of 0 to " +
                                      std::to_string(set.layers.size() - 1));
  return set.layers[static_cast<std::size_t>(layer)];
}

nb::dict weights_of(const sae::TranscoderSet& set, std::int64_t layer) {
  const sae::TranscoderLayer& t = layer_of(set, layer);
  nb::dict d;
  d["W_enc"] = to_numpy_read_only(t.w_enc);
  d["b_enc"] = to_numpy_read_only(t.b_enc);
  nb::list decoders;
  for (const Tensor& w : t.w_dec) decoders.append(to_numpy_read_only(w));
  d["W_dec"] = decoders;
  d["b_dec"] = to_numpy_read_only(t.b_dec);
  if (t.threshold.defined()) d["threshold"] = to_numpy_read_only(t.threshold);
  if (t.w_skip.defined()) d["W_skip"] = to_numpy_read_only(t.w_skip);
  return d;
}

Tensor encode(const sae::TranscoderSet& set, std::int64_t layer, nb::handle x) {
  const sae::TranscoderLayer& t = layer_of(set, layer);
  const Tensor given = to_tensor(x);
  Shape shape = given.shape();
  if (shape.size() == 0 || shape.back() != set.width())
    throw ShapeError("transcoders of width " + std::to_string(set.width()) + " read [.., " +
                     std::to_string(set.width()) + "], not " + to_string(shape));
  const Tensor rows =
      given.to(DType::f32).contiguous().reshape({given.numel() / set.width(), set.width()});
  return interruptibly([&](const std::atomic<bool>*) {
    ThreadPool pool;
    const auto at = static_cast<std::size_t>(layer);
    shape[shape.size() - 1] = t.features();
    return activations(set, at, pre_activations(set, at, rows, pool)).reshape(shape);
  });
}

}  // namespace

void add_transcoders(nb::module_& m) {
  nb::class_<sae::TranscoderSet>(m, "TranscoderSet")
      .def_static(
          "load", [](const std::string& folder) { return sae::load_transcoders(folder); },
          "folder"_a)
      .def(
          "save",
          [](const sae::TranscoderSet& s, const std::string& folder, nb::handle dtype) {
            sae::save_transcoders(s, folder, dtype_of(dtype));
          },
          "folder"_a, "dtype"_a = "float32")
      .def_prop_ro("layers", [](const sae::TranscoderSet& s) { return std::ssize(s.layers); })
      .def_prop_ro("width", &sae::TranscoderSet::width)
      .def_prop_ro("features",
                   [](const sae::TranscoderSet& s) { return s.layers.at(0).features(); })
      .def_prop_ro("cross_layer", [](const sae::TranscoderSet& s) { return s.cross_layer; })
      .def_prop_ro("activation",
                   [](const sae::TranscoderSet& s) { return std::string(name_of(s.activation)); })
      .def_prop_ro("inputs", [](const sae::TranscoderSet& s) { return s.inputs; })
      .def_prop_ro("outputs", [](const sae::TranscoderSet& s) { return s.outputs; })
      .def("weights", &weights_of, "layer"_a)
      .def(
          "encode",
          [](const sae::TranscoderSet& s, std::int64_t layer, nb::handle x) {
            return to_numpy(encode(s, layer, x));
          },
          "layer"_a, "activations"_a);
}

}  // namespace vitrine::python

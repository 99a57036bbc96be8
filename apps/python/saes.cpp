#include "apps/python/saes.h"

#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "apps/python/arrays.h"
#include "apps/python/interrupts.h"
#include "sae/folder.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"

namespace vitrine::python {

namespace nb = nanobind;
using namespace nb::literals;

namespace {

ErrorTerm error_term(const std::string& word) {
  for (const ErrorTerm e : {ErrorTerm::keep, ErrorTerm::detach, ErrorTerm::hold, ErrorTerm::drop}) {
    if (name_of(e) == word) return e;
  }
  throw Error(
      ErrorKind::usage,
      fmt::format(
          "there is no error term '{}': keep, detach, hold and drop are the ways to treat it",
          word));
}

const std::string& site_of(const sae::Sae& sae, const std::string& site) {
  return site.empty() ? sae::trained_site(sae) : site;
}

// By way of an empty folder, so that what is checked of files is checked of these, too.
sae::Sae from_weights(const std::string& folder, const std::string& cfg_json,
                      const nb::dict& weights) {
  const std::filesystem::path path = folder;
  NamedTensors tensors;
  for (const auto& [name, tensor] : to_tensors(weights)) tensors.emplace_back(name, tensor);
  write_text(path / "cfg.json", cfg_json);
  save_safetensors(path / "sae_weights.safetensors", tensors);
  sae::Sae sae = sae::load(path);
  for (auto& [name, tensor] : sae.weights) tensor = tensor.clone();  // the folder may go
  return sae;
}

nb::dict config_of(const sae::Sae& sae) {
  const sae::SaeConfig& c = sae.config;
  nb::dict d;
  d["architecture"] = std::string(sae::name_of(c.architecture));
  d["d_in"] = c.d_in;
  d["d_sae"] = c.d_sae;
  d["d_out"] = c.d_out;
  d["transcoder"] = c.transcoder;
  d["apply_b_dec_to_input"] = c.apply_b_dec_to_input;
  d["normalise"] = std::string(sae::name_of(c.normalise));
  d["k"] = c.k > 0 ? nb::cast(c.k) : nb::none();
  if (c.architecture == sae::SaeArchitecture::matching_pursuit) {
    d["residual_threshold"] = c.pursuit.residual_threshold;
    d["max_iterations"] = c.pursuit.max_iterations.value_or(c.d_in);
    d["stop_on_duplicate_support"] = c.pursuit.stop_on_duplicate_support;
  }
  d["hook_name"] = c.hook_name;
  d["hook_name_out"] = c.hook_name_out;
  d["model_name"] = c.model_name;
  d["metadata"] = nb::module_::import_("json").attr("loads")(c.metadata);
  return d;
}

Tensor encode(const sae::Sae& sae, nb::handle x, bool reconstruct) {
  const Tensor rows = to_tensor(x);
  return interruptibly([&](const std::atomic<bool>*) {
    ThreadPool pool;
    const sae::Encoder::Encoded made = sae::Encoder(sae, &pool).encode(rows);
    const Tensor& wanted = reconstruct ? made.reconstruction : made.features;
    Shape shape = rows.shape();                          // [.., d_in] -> [.., features]
    if (shape.back() != sae.config.d_in) return wanted;  // heads were joined
    shape[shape.size() - 1] = wanted.dim(1);
    return wanted.reshape(shape);
  });
}

}  // namespace

void splice_into(nn::Model& model, const sae::Sae& sae, const std::string& site,
                 const std::string& error) {
  const std::string where = site_of(sae, site);
  const ErrorTerm term = error_term(error);
  std::string prefix = "sae";
  for (int i = 0; model.parameters().contains(prefix + ".W_dec"); ++i)
    prefix = fmt::format("sae{}", i);
  const Graph graph = model.build(nn::BatchSize{1, 1, 1});
  graph.site(where);  // throws with the nearest names
  sae::check_site(sae, graph, where);
  model.transform([where, term, codec = sae::codec(sae, prefix)](
                      const Graph& g) { return splice(g, Site{where}, codec, term).graph; },
                  sae::with_parameters({}, sae, prefix));
}

void add_saes(nb::module_& m) {
  nb::class_<sae::Sae>(m, "Sae")
      .def_static(
          "load", [](const std::string& folder) { return sae::load(folder); }, "folder"_a)
      .def_static("from_weights", &from_weights, "folder"_a, "cfg_json"_a, "weights"_a)
      .def(
          "save",
          [](const sae::Sae& s, const std::string& folder, nb::handle dtype) {
            std::filesystem::create_directories(folder);
            sae::save(s, folder, dtype_of(dtype));
          },
          "folder"_a, "dtype"_a = "float32")
      .def_prop_ro("name", [](const sae::Sae& s) { return s.name; })
      .def_prop_ro("site", [](const sae::Sae& s) { return sae::trained_site(s); })
      .def_prop_ro("config", &config_of)
      .def_prop_ro("weights",
                   [](const sae::Sae& s) {
                     nb::dict all;
                     for (const auto& [name, tensor] : s.weights)
                       all[name.c_str()] = to_numpy_read_only(tensor);
                     return all;
                   })
      .def(
          "encode", [](const sae::Sae& s, nb::handle x) { return to_numpy(encode(s, x, false)); },
          "activations"_a)
      .def(
          "reconstruct",
          [](const sae::Sae& s, nb::handle x) { return to_numpy(encode(s, x, true)); },
          "activations"_a)
      .def("fold_decoder_norm", [](const sae::Sae& s) { return sae::fold_decoder_norm(s); });
  m.def(
      "splice",
      [](const Graph& graph, const sae::Sae& sae, const std::string& site, const std::string& error,
         const std::string& name) {
        return splice(graph, Site{site_of(sae, site)}, sae::codec(sae, name), error_term(error))
            .graph;
      },
      "graph"_a, "sae"_a, "site"_a = "", nb::kw_only(), "error"_a = "keep", "name"_a = "sae");
}

}  // namespace vitrine::python

// Sparse autoencoders and transcoders.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "nn/model/model.h"
#include "sae/sae.h"

namespace vitrine::python {

// Splices the SAE into every run of the model, at `site` or, where that is "", at its own.
void splice_into(nn::Model& model, const sae::Sae& sae, const std::string& site,
                 const std::string& error);

void add_saes(nanobind::module_& m);

}  // namespace vitrine::python

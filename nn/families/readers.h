// How each family's config.json is read and written, and its graph built: the functions that
// architecture.cpp puts in rows.
#pragma once

#include "nn/families/architecture.h"

namespace vitrine::nn {

Config read_gpt2(const JsonReader& config_json, std::string_view model_type);
Config read_llama(const JsonReader& config_json, std::string_view model_type);
Config read_neox(const JsonReader& config_json, std::string_view model_type);
Config read_gemma(const JsonReader& config_json, std::string_view model_type);

JsonValue write_gpt2(const Config& config);
JsonValue write_llama(const Config& config);
JsonValue write_neox(const Config& config);
JsonValue write_gemma(const Config& config);

Graph build_gpt2(const Config& config, const BatchSize& size, DType dtype);
Graph build_llama(const Config& config, const BatchSize& size, DType dtype);
Graph build_neox(const Config& config, const BatchSize& size, DType dtype);
Graph build_gemma(const Config& config, const BatchSize& size, DType dtype);

}  // namespace vitrine::nn

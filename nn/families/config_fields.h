// Fields of config.json that several families read alike.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "nn/families/config.h"
#include "tensor/files/json_reader.h"

namespace vitrine::nn {

int positive(const JsonReader& field);
// Throws ConfigError where the field is absent.
int positive(const JsonReader& json, std::string_view field);
int positive_or(const JsonReader& field, int otherwise);
// A field that transformers knows by two names (its attribute_map).
int positive_by(const JsonReader& json, std::string_view name, std::string_view other);
bool boolean(const JsonReader& field, bool otherwise);
double small_number(const JsonReader& field, double otherwise);  // above 0, at most 1: an epsilon
double positive_number(const JsonReader& field, double otherwise);  // above 0
double cap(const JsonReader& field, double otherwise);  // above 0; null is 0, which is none
Activation activation_of(const JsonReader& field, Activation otherwise);

// What no family has: refused when a file asks for it.
void must_be_off(const JsonReader& field, std::string_view why);
void must_be_empty(const JsonReader& field, std::string_view why);
void must_be(const JsonReader& field, std::string_view text, std::string_view why);
void refuse_what_no_family_has(const JsonReader& json);

// bos_token_id and eos_token_id, which may be a list.
void read_ends(const JsonReader& json, Config& c);
void set_ends(Config& c, const JsonReader& eos);
JsonValue ends_json(const Config& c);

// layers, heads, widths, vocabulary, context, eps, tied: by the names of Llama and its relatives.
Config read_dimensions(const JsonReader& json, std::string_view model_type, double eps, bool tied);
// Rotary positions as `parameters` (rope_parameters, or one layer type's of it; rope_scaling in
// published files) states them; `base` and `width` are what they do not state.
Rope read_rope(const JsonReader& parameters, double base, int width, int context);
JsonValue rope_json(const Rope& rope);  // rope_scaling; null for a plain one
// Nothing where no layer has a window.
std::vector<int> without_zeros(std::vector<int> windows);
// The windows of `layers` layers from layer_types; nothing where there is none.
std::optional<std::vector<int>> windows_of_types(const JsonReader& layer_types, int layers,
                                                 int window);
JsonValue layer_types_json(const Config& c);

// What config_json writes for all of these families.
JsonValue common_json(const Config& c, std::string_view architecture);

}  // namespace vitrine::nn

// JSON from strangers, read strictly: what is said twice or is not known is an error, not a guess.
//
// Not installed: it would force nlohmann-json on everyone who includes a header of the library.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "tensor/files/json_text.h"

namespace vitrine::nn {

using Json = nlohmann::json;

using vitrine::parse_json;

// Throws FileError unless `value` is an object. `where` names it.
void expect_object(const Json& value, const std::string& where);

// Throws ConfigError if the object has a key that is not known: it cannot be honoured then.
void expect_only(const Json& object, std::initializer_list<std::string_view> known,
                 const std::string& where);

// A member of an object, or null when it is absent.
const Json& member(const Json& object, const char* key);

// A member that is true, false or absent (or null, which is the same). Throws FileError otherwise.
bool flag(const Json& object, const char* key, bool if_absent, const std::string& where);

// The value in quotes for a message.
std::string quote_json(const Json& value);

}  // namespace vitrine::nn

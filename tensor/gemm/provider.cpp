#include "tensor/gemm/provider.h"

#include <fmt/format.h>

#include <cstdlib>

#include "tensor/error.h"

namespace vitrine {

std::string_view name_of(GemmProvider provider) {
  return provider == GemmProvider::own ? "own" : "openblas";
}

GemmProvider parse_gemm_provider(std::string_view value) {
  if (value.empty() || value == "own") return GemmProvider::own;
  if (value == "openblas") return GemmProvider::openblas;
  throw Error(ErrorKind::usage,
              fmt::format("the environment variable VITRINE_GEMM is '{}', but who multiplies "
                          "matrices is either 'own' or 'openblas'",
                          value));
}

GemmProvider gemm_provider() {
  static const GemmProvider provider = [] {
    const char* value = std::getenv("VITRINE_GEMM");
    return parse_gemm_provider(value == nullptr ? "" : value);
  }();
  return provider;
}

}  // namespace vitrine

// What the examples of tensor/ assume.
#include <filesystem>

#include "tensor/files/file.h"
#include "tensor/tensor.h"

namespace vitrine {

extern const Tensor w_v, w_o_transposed;
extern std::vector<std::string> names;
extern const std::string wanted;
extern const std::filesystem::path file;

}  // namespace vitrine

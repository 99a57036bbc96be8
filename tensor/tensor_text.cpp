// Tensors as text, for messages and for reading along in examples.
#include <fmt/format.h>

#include <iterator>

#include "tensor/convert.h"
#include "tensor/tensor.h"

namespace vitrine {
namespace {

constexpr std::int64_t kLongAxis = 8;  // longer axes show their first and last three entries
constexpr std::int64_t kShownEnds = 3;

template <class T>
void append_element(std::string& out, T x) {
  if constexpr (std::is_same_v<T, bool> || std::is_integral_v<T>) {
    fmt::format_to(std::back_inserter(out), "{}", x);
  } else {
    fmt::format_to(std::back_inserter(out), "{:.6g}", convert<double>(x));
  }
}

template <class T>
void append_axes(std::string& out, const View& view, int axis, const T* at) {
  if (axis == view.rank()) {
    append_element(out, *at);
    return;
  }
  const std::int64_t size = view.shape[axis];
  out += '[';
  for (std::int64_t i = 0; i < size; ++i) {
    if (i > 0) out += ", ";
    if (size > kLongAxis && i == kShownEnds) {
      out += "..., ";
      i = size - kShownEnds;
    }
    append_axes(out, view, axis + 1, at + i * view.strides[axis]);
  }
  out += ']';
}

}  // namespace

std::string Tensor::to_string() const {
  if (!defined()) return "undefined tensor";
  std::string out = fmt::format("{}{} ", name_of(dtype_), vitrine::to_string(layout_.shape));
  if (numel() == 0) return out + "[]";
  const Tensor plain = is_blocked(dtype_) ? to(DType::f32) : *this;
  const View seen = plain.view();
  dispatch(plain.dtype_, [&](auto type) {
    using T = typename decltype(type)::type;
    append_axes(out, seen, 0, static_cast<const T*>(seen.as<T>()));
  });
  return out;
}

}  // namespace vitrine

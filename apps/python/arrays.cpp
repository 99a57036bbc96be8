#include "apps/python/arrays.h"

#include <fmt/format.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tensor/error.h"

namespace vitrine::python {
namespace {

constexpr nb::dlpack::dtype dlpack_type(DType t) {
  using Code = nb::dlpack::dtype_code;
  const auto make = [](Code code, int bits) {
    return nb::dlpack::dtype{static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(bits), 1};
  };
  switch (t) {
    case DType::f64:
      return make(Code::Float, 64);
    case DType::f16:
      return make(Code::Float, 16);
    case DType::i32:
      return make(Code::Int, 32);
    case DType::i64:
      return make(Code::Int, 64);
    case DType::boolean:
      return make(Code::Bool, 8);
    default:
      return make(Code::Float, 32);
  }
}

DType tensor_type(nb::dlpack::dtype t) {
  for (const DType known :
       {DType::f32, DType::f64, DType::f16, DType::i32, DType::i64, DType::boolean}) {
    if (dlpack_type(known) == t) return known;
  }
  using Code = nb::dlpack::dtype_code;
  const auto code = static_cast<Code>(t.code);
  if (code == Code::Bfloat && t.bits == 16) return DType::bf16;
  const char* kind = code == Code::Int       ? "int"
                     : code == Code::UInt    ? "uint"
                     : code == Code::Float   ? "float"
                     : code == Code::Complex ? "complex"
                                             : "type ";
  throw ShapeError(
      fmt::format("an array of {}{}: give one of float32, float64, float16, bfloat16, int32, int64 "
                  "or bool",
                  kind, t.bits));
}

template <class Array>
nb::object numpy_over(const Tensor& tensor) {
  auto owner = std::make_unique<Tensor>(tensor);
  const View view = owner->view();
  std::vector<std::size_t> shape(view.shape.begin(), view.shape.end());
  std::vector<std::int64_t> strides(view.strides.begin(), view.strides.end());
  const nb::capsule keeps(owner.release(),
                          [](void* p) noexcept { delete static_cast<Tensor*>(p); });
  return nb::cast(
      Array(view.data, shape.size(), shape.data(), keeps, strides.data(), dlpack_type(view.dtype)));
}

// Types that NumPy has.
Tensor for_numpy(const Tensor& tensor) {
  const DType t = tensor.dtype();
  return t == DType::bf16 || is_blocked(t) ? tensor.to(DType::f32) : tensor;
}

// Keeps a Python object alive from C++, on any thread.
std::shared_ptr<const void> keep(nb::object object) {
  return {new nb::object(std::move(object)), [](const void* p) {
            if (!nb::is_alive()) return;  // Python has ended: there is nobody to give it back to
            const nb::gil_scoped_acquire held;
            delete static_cast<const nb::object*>(p);
          }};
}

template <class Array>
Tensor tensor_over(const Array& array, nb::object keeps, bool read_only) {
  std::vector<std::int64_t> axes;
  bool contiguous = true;
  for (std::size_t i = 0; i < array.ndim(); ++i)
    axes.push_back(static_cast<std::int64_t>(array.shape(i)));
  if (axes.size() > static_cast<std::size_t>(kMaxRank))
    throw ShapeError(
        fmt::format("an array with {} axes: tensors have at most {}", axes.size(), kMaxRank));
  const Shape shape{std::span<const std::int64_t>(axes)};
  std::int64_t expected = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] != 1 && array.stride(static_cast<std::size_t>(i)) != expected) contiguous = false;
    expected *= shape[i];
  }
  const DType dtype = tensor_type(array.dtype());
  if (numel(shape) == 0) return Tensor::empty(shape, dtype);
  const auto address = reinterpret_cast<std::uintptr_t>(array.data());
  if (!contiguous || address % static_cast<std::uintptr_t>(size_of(dtype)) != 0) {
    const nb::object copied = nb::module_::import_("numpy").attr("array")(
        keeps, nb::arg("order") = "C", nb::arg("copy") = true);
    return to_tensor(copied);
  }
  const Tensor tensor = Tensor::wrap(keep(std::move(keeps)),
                                     static_cast<const std::byte*>(array.data()), shape, dtype);
  return read_only ? tensor.as_read_only() : tensor;
}

}  // namespace

nb::object to_numpy(const Tensor& tensor) {
  const Tensor shown = for_numpy(tensor);
  return shown.is_read_only() ? to_numpy_read_only(shown)
                              : numpy_over<nb::ndarray<nb::numpy>>(shown);
}

nb::object to_numpy_read_only(const Tensor& tensor) {
  return numpy_over<nb::ndarray<nb::numpy, nb::ro>>(for_numpy(tensor));
}

Tensor to_tensor(nb::handle array) {
  nb::object object = nb::borrow(array);
  if (!nb::ndarray_check(object)) object = nb::module_::import_("numpy").attr("asarray")(object);
  nb::ndarray<> writable;
  if (nb::try_cast(object, writable) && writable.device_type() == nb::device::cpu::value)
    return tensor_over(writable, object, false);
  nb::ndarray<nb::ro> constant;
  if (!nb::try_cast(object, constant))
    throw ShapeError(
        fmt::format("{} is no array: give a NumPy array, or anything with DLPack or a buffer",
                    nb::cast<std::string>(nb::repr(object.type()))));
  if (constant.device_type() != nb::device::cpu::value)
    throw ShapeError(
        "an array that is not in the CPU's memory: copy it there first (in PyTorch: .cpu())");
  return tensor_over(constant, object, true);
}

Tensor to_tensor(nb::handle array, DType dtype) { return to_tensor(array).to(dtype); }

nb::dict to_dict(const std::map<std::string, Tensor, std::less<>>& tensors) {
  nb::dict out;
  for (const auto& [name, tensor] : tensors) out[name.c_str()] = to_numpy(tensor);
  return out;
}

std::map<std::string, Tensor, std::less<>> to_tensors(const nb::dict& arrays) {
  std::map<std::string, Tensor, std::less<>> out;
  for (const auto& [name, array] : arrays)
    out.emplace(nb::cast<std::string>(name), to_tensor(array));
  return out;
}

DType dtype_of(nb::handle type) {
  std::string word;
  if (nb::isinstance<nb::str>(type)) word = nb::cast<std::string>(type);
  else word = nb::cast<std::string>(nb::module_::import_("numpy").attr("dtype")(type).attr("name"));
  for (const auto& [name, dtype] : {std::pair{"float32", DType::f32},
                                    {"float64", DType::f64},
                                    {"float16", DType::f16},
                                    {"bfloat16", DType::bf16},
                                    {"int32", DType::i32},
                                    {"int64", DType::i64},
                                    {"bool", DType::boolean}}) {
    if (word == name || word == name_of(dtype)) return dtype;
  }
  throw ShapeError(fmt::format(
      "there is no type '{}': give float32, float64, float16, bfloat16, int32, int64 or bool",
      word));
}

}  // namespace vitrine::python

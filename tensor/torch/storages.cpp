#include "tensor/torch/storages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tensor/files/json_text.h"
#include "tensor/files/stored_tensors.h"

namespace vitrine::torch {
namespace {

using Kind = PickleValue::Kind;

constexpr ElementType kElementTypes[] = {
    {"float64", "DoubleStorage", 8, DType::f64, nullptr},
    {"float32", "FloatStorage", 4, DType::f32, nullptr},
    {"float16", "HalfStorage", 2, DType::f16, nullptr},
    {"bfloat16", "BFloat16Storage", 2, DType::bf16, nullptr},
    {"int64", "LongStorage", 8, DType::i64, nullptr},
    {"int32", "IntStorage", 4, DType::i32, nullptr},
    {"bool", "BoolStorage", 1, DType::boolean, nullptr},
    {"int16", "ShortStorage", 2, DType::i32, widen_integers<std::int16_t, std::int32_t>},
    {"int8", "CharStorage", 1, DType::i32, widen_integers<std::int8_t, std::int32_t>},
    {"uint8", "ByteStorage", 1, DType::i32, widen_integers<std::uint8_t, std::int32_t>},
    {"uint16", "", 2, DType::i32, widen_integers<std::uint16_t, std::int32_t>},
    {"uint32", "", 4, DType::i64, widen_integers<std::uint32_t, std::int64_t>},
    {"uint64", "", 8, std::nullopt, nullptr},
    {"complex64", "ComplexFloatStorage", 8, std::nullopt, nullptr},
    {"complex128", "ComplexDoubleStorage", 16, std::nullopt, nullptr},
    {"float8_e4m3fn", "", 1, std::nullopt, nullptr},
    {"float8_e5m2", "", 1, std::nullopt, nullptr},
    {"float8_e4m3fnuz", "", 1, std::nullopt, nullptr},
    {"float8_e5m2fnuz", "", 1, std::nullopt, nullptr},
};

// Beside the types: how tensors are put together, and values that stand beside them.
constexpr std::string_view kFunctions[] = {"torch._utils._rebuild_tensor",
                                           "torch._utils._rebuild_tensor_v2",
                                           "torch._utils._rebuild_tensor_v3",
                                           "torch._utils._rebuild_parameter",
                                           "torch._utils._rebuild_parameter_with_state",
                                           "torch.storage.UntypedStorage",
                                           "torch.UntypedStorage",
                                           "torch.Size",
                                           "torch.device"};

std::vector<std::string> all_known() {
  std::vector<std::string> out(std::begin(kFunctions), std::end(kFunctions));
  for (const ElementType& t : kElementTypes) {
    out.push_back("torch." + std::string(t.dtype));
    if (t.storage.empty()) continue;
    out.push_back("torch." + std::string(t.storage));
    out.push_back("torch.cuda." + std::string(t.storage));
  }
  return out;
}

// "FloatStorage" of "torch.FloatStorage" and "torch.cuda.FloatStorage".
std::string_view last_part(std::string_view global) { return global.substr(global.rfind('.') + 1); }

}  // namespace

const ElementType* type_of_storage(std::string_view global) {
  for (const ElementType& t : kElementTypes) {
    if (!t.storage.empty() && t.storage == last_part(global)) return &t;
  }
  return nullptr;
}

const ElementType* type_of_dtype(std::string_view global) {
  for (const ElementType& t : kElementTypes) {
    if (t.dtype == last_part(global)) return &t;
  }
  return nullptr;
}

std::span<const std::string_view> known_globals() {
  static const std::vector<std::string> kNames = all_known();
  static const std::vector<std::string_view> kViews(kNames.begin(), kNames.end());
  return kViews;
}

std::string readable_element_types() {
  std::string out;
  for (const ElementType& t : kElementTypes) {
    if (t.becomes) out += fmt::format("{}{}", out.empty() ? "" : ", ", t.dtype);
  }
  return out;
}

TorchStorage storage_of(const Pickle& pickle, const PickleValue& persistent, const ByteReader& in) {
  const PickleValue& said = pickle[persistent.items[0]];
  // ('storage', torch.FloatStorage, key, where it was, number of elements), and in old files what it
  // is a part of.
  const auto is = [&](std::size_t i, Kind kind) { return pickle[said.items[i]].kind == kind; };
  if (said.kind != Kind::tuple || said.items.size() < 5 || said.items.size() > 6 ||
      !is(0, Kind::text) || pickle[said.items[0]].text != "storage" || !is(1, Kind::global) ||
      !is(2, Kind::text) || !is(4, Kind::integer)) {
    in.fail("its pickle refers to something outside of it that is no storage");
  }
  if (said.items.size() == 6 && !is(5, Kind::none))
    in.fail("it has a storage that is a part of another, which is not read");
  const std::string_view name = pickle[said.items[1]].text;
  TorchStorage out{type_of_storage(name), pickle[said.items[4]].integer,
                   std::string(pickle[said.items[2]].text)};
  if (out.type == nullptr && last_part(name) != "UntypedStorage")
    in.fail(fmt::format("it has a storage of the type {}", printable(name)));
  if (out.elements < 0)
    in.fail(fmt::format("the storage {} has {} elements", printable(out.key), out.elements));
  return out;
}

StorageBytes read_legacy_storages(ByteReader& in, const Pickle& pickle) {
  std::map<std::string, std::int64_t, std::less<>> sizes;  // bytes of an element, by key
  for (const PickleValue& v : pickle.values) {
    if (v.kind != Kind::persistent) continue;
    const TorchStorage s = storage_of(pickle, v, in);
    const std::int64_t size = s.type == nullptr ? 1 : s.type->bytes;
    if (sizes.emplace(s.key, size).first->second != size)
      in.fail(fmt::format("the storage {} has two types", printable(s.key)));
  }
  const Pickle keys = read_pickle(in, {});
  const PickleValue& list = keys[keys.root];
  if (list.kind != Kind::list) in.fail("the list of its storages is no list");
  StorageBytes out;
  for (const PickleRef ref : list.items) {
    const PickleValue& key = keys[ref];
    const auto size = key.kind == Kind::text ? sizes.find(key.text) : sizes.end();
    if (size == sizes.end())
      in.fail(fmt::format("it lists a storage {} that no tensor uses", printable(key.text)));
    const auto elements = in.number<std::uint64_t>("the size of a storage");
    const auto bytes_each = static_cast<std::uint64_t>(size->second);
    if (elements > in.left() / bytes_each) {
      in.fail(fmt::format(
          "the storage {} would have {} elements of {} bytes, but only {} bytes follow; "
          "it may be truncated: fetch it again",
          printable(key.text), elements, bytes_each, in.left()));
    }
    if (!out.emplace(key.text, in.take(elements * bytes_each, "a storage")).second)
      in.fail(fmt::format("it lists the storage {} twice", printable(key.text)));
  }
  if (in.left() != 0)
    in.fail(fmt::format("it is larger than its storages: {} bytes follow them", in.left()));
  return out;
}

}  // namespace vitrine::torch

#include "tensor/torch/torch_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>

#include "tensor/error.h"
#include "tensor/files/byte_reader.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"
#include "tensor/files/stored_tensors.h"
#include "tensor/files/utf8.h"
#include "tensor/torch/pickle.h"
#include "tensor/torch/storages.h"
#include "tensor/torch/zip.h"

namespace vitrine {

struct TorchFile::Entry {
  const torch::ElementType* type;
  Layout layout;                     // in elements of the storage
  std::span<const std::byte> bytes;  // of the whole storage
};

namespace {

using torch::Pickle;
using torch::PickleRef;
using torch::PickleValue;
using Kind = PickleValue::Kind;

static_assert(std::endian::native == std::endian::little,
              "the storages are little-endian and are used in place");

constexpr std::string_view kFormat = "PyTorch checkpoint";
// 0x1950a86a20f9469cfc6c, which a file from before PyTorch 1.6 begins with, as a pickle.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                                        15);
constexpr std::int64_t kLegacyProtocol = 1001;
constexpr double kMostSharing = 64;  // a layer that is used again under as many names
// What people call the dict of the weights among other things that they save.
constexpr std::string_view kUsualNames[] = {"state_dict", "model_state_dict", "model", "module"};

bool begins_with_zip(std::span<const std::byte> bytes) {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "PK\x03\x04", 4) == 0;
}

// The pickle of a file and the bytes of the storages that it refers to.
struct Container {
  Pickle pickle;
  torch::StorageBytes storages;
};

Container read_zip_container(const ByteReader& in, std::span<const std::byte> bytes,
                             std::string_view file) {
  const torch::ZipEntries entries = torch::read_zip(bytes, file);
  std::string top;
  for (const auto& [name, content] : entries) {
    const std::size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
    if (!top.empty()) in.fail("it holds two checkpoints");
    top = name.substr(0, slash + 1);
  }
  if (top.empty())
    in.fail("it is a zip archive without a data.pkl in its one folder, as PyTorch writes them");
  if (entries.contains(top + "constants.pkl")) {
    in.fail(
        "it is a TorchScript program and no checkpoint (in Python: "
        "torch.save(torch.jit.load(file).state_dict(), another_file))");
  }
  if (const auto order = entries.find(top + "byteorder"); order != entries.end()) {
    const std::string_view text(reinterpret_cast<const char*>(order->second.data()),
                                order->second.size());
    if (text != "little")
      in.fail(fmt::format("its byteorder is {}; expected 'little'", printable(text)));
  }
  ByteReader pickle(entries.find(top + "data.pkl")->second, file, kFormat);
  Container out{torch::read_pickle(pickle, torch::known_globals()), {}};
  if (pickle.left() != 0) in.fail("its data.pkl goes on behind the end of the pickle");
  const std::string folder = top + "data/";
  for (auto e = entries.lower_bound(folder); e != entries.end() && e->first.starts_with(folder);
       ++e)
    out.storages.emplace(e->first.substr(folder.size()), e->second);
  return out;
}

// Magic number, protocol, what the system was, the object, then the storages.
Container read_legacy_container(ByteReader& in) {
  in.take(kLegacyMagic.size(), "its first word");
  const Pickle protocol = torch::read_pickle(in, {});
  const PickleValue& number = protocol[protocol.root];
  if (number.kind != Kind::integer || number.integer != kLegacyProtocol)
    in.fail(fmt::format("it is of an unknown protocol; expected {}", kLegacyProtocol));
  const Pickle system = torch::read_pickle(in, {});
  const PickleValue& facts = system[system.root];
  bool little = false;
  for (std::size_t i = 0; facts.kind == Kind::dict && i + 1 < facts.items.size(); i += 2) {
    if (system[facts.items[i]].text == "little_endian")
      little = system[facts.items[i + 1]].integer == 1;
  }
  if (!little) in.fail("it does not say that it is little-endian; others are not read");
  Container out{torch::read_pickle(in, torch::known_globals()), {}};
  out.storages = torch::read_legacy_storages(in, out.pickle);
  return out;
}

Container read_container(ByteReader& in, std::span<const std::byte> bytes, std::string_view file) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (begins_with_zip(bytes)) return read_zip_container(in, bytes, file);
  if (text.starts_with(kLegacyMagic)) return read_legacy_container(in);
  if (text.starts_with("version https://git-lfs")) {
    in.fail(
        "it is a git-lfs pointer, which stands for the file; fetch the file itself with 'git lfs "
        "pull'");
  }
  if (text.size() > 262 && text.substr(257, 5) == "ustar")
    in.fail("it is a tar archive, as PyTorch wrote before 0.2; load and save it with a newer one");
  in.fail(
      "it begins neither as a zip archive nor as PyTorch's older container; it may be truncated, "
      "or no checkpoint at all");
}

}  // namespace

// Makes the entries of a file out of its pickle.
class TorchReader {
 public:
  TorchReader(TorchFile& out, const Container& container, const ByteReader& in, std::size_t size)
      : out_(out), pickle_(container.pickle), storages_(container.storages), in_(in), size_(size) {}

  void read() {
    for (const PickleValue& v : pickle_.values) {  // those of tensors that are passed over, too
      if (v.kind == Kind::persistent) bytes_of_storage(torch::storage_of(pickle_, v, in_));
    }
    const PickleValue& dict = weights();
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      if (!is_tensor(dict.items[i + 1])) continue;
      const PickleValue& key = pickle_[dict.items[i]];
      if (key.kind != Kind::text || nn::replace_invalid_utf8(std::string(key.text)) != key.text)
        in_.fail("it has a tensor whose name is no text");
      const std::string name(key.text);
      const auto entry =
          std::make_shared<const TorchFile::Entry>(read_tensor(dict.items[i + 1], name));
      if (!out_.entries_.emplace(name, entry).second)
        in_.fail(fmt::format("tensor {} is there twice", printable(name)));
      out_.names_.push_back(name);
    }
  }

 private:
  // ---- which dict the weights are
  bool is_call(const PickleValue& v, std::string_view prefix) const {
    return v.kind == Kind::call && pickle_[v.items[0]].text.starts_with(prefix);
  }
  bool is_tensor(PickleRef ref) const { return is_call(pickle_[ref], "torch._utils._rebuild_"); }
  bool holds_tensors(const PickleValue& v) const {
    for (std::size_t i = 0; v.kind == Kind::dict && i < v.items.size(); i += 2) {
      if (is_tensor(v.items[i + 1])) return true;
    }
    return false;
  }

  const PickleValue& weights() const {
    const PickleValue& root = pickle_[pickle_.root];
    if (root.kind != Kind::dict)
      in_.fail("it holds no dict of tensors (in Python: torch.save(model.state_dict(), file))");
    const PickleValue* usual = nullptr;
    const PickleValue* nested = nullptr;
    std::vector<std::string> usual_names, names;
    for (std::size_t i = 0; i < root.items.size(); i += 2) {
      const PickleValue &key = pickle_[root.items[i]], &value = pickle_[root.items[i + 1]];
      if (key.kind != Kind::text || !holds_tensors(value)) continue;
      nested = &value;
      names.push_back(printable(key.text));
      if (std::find(std::begin(kUsualNames), std::end(kUsualNames), key.text) ==
          std::end(kUsualNames))
        continue;
      usual = &value;
      usual_names.push_back(names.back());
    }
    if (usual_names.size() == 1) return *usual;
    const bool flat = holds_tensors(root);
    if (usual_names.empty() && names.size() <= 1 && flat != (names.size() == 1))
      return flat ? root : *nested;
    if (names.empty())
      in_.fail("it holds no tensors (in Python: torch.save(model.state_dict(), file))");
    in_.fail(fmt::format(
        "it holds {}tensors in {}, and nothing says which are the weights; save them alone "
        "(in Python: torch.save(model.state_dict(), file))",
        flat ? "tensors, and more " : "", fmt::join(names, ", ")));
  }

  // ---- one tensor
  std::span<const std::byte> bytes_of_storage(const torch::TorchStorage& s) const {
    const auto found = storages_.find(s.key);
    if (found == storages_.end())
      in_.fail(fmt::format("the storage {} is missing", printable(s.key)));
    const std::int64_t each = s.type == nullptr ? 1 : s.type->bytes;
    const auto size = static_cast<std::uint64_t>(found->second.size());
    if (size % static_cast<std::uint64_t>(each) != 0 ||
        size / static_cast<std::uint64_t>(each) != static_cast<std::uint64_t>(s.elements)) {
      in_.fail(fmt::format("the storage {} has {} bytes, but should have {} elements of {}",
                           printable(s.key), size, s.elements, each));
    }
    return found->second;
  }

  TorchFile::Entry read_tensor(PickleRef ref, const std::string& name) const {
    // A parameter is a tensor in a wrapping; so is one that has attributes.
    for (int wrappings = 0;; ++wrappings) {
      const PickleValue& call = pickle_[ref];
      if (!is_tensor(ref)) break;
      const std::string_view what = pickle_[call.items[0]].text;
      const std::vector<PickleRef>& arguments = pickle_[call.items[1]].items;
      if (what.starts_with("torch._utils._rebuild_tensor")) return read_view(what, arguments, name);
      if (arguments.empty() || wrappings == 4) break;
      ref = arguments[0];
    }
    in_.fail(fmt::format("tensor {} is not put together as PyTorch does it", printable(name)));
  }

  // storage, offset, sizes, strides, and what training needs.
  TorchFile::Entry read_view(std::string_view what, const std::vector<PickleRef>& arguments,
                             const std::string& name) const {
    const bool typed = what.ends_with("_v3");
    if (arguments.size() < (typed ? 7u : 4u) || pickle_[arguments[0]].kind != Kind::persistent ||
        pickle_[arguments[1]].kind != Kind::integer) {
      in_.fail(fmt::format("tensor {} is not put together as PyTorch does it", printable(name)));
    }
    const torch::TorchStorage storage = torch::storage_of(pickle_, pickle_[arguments[0]], in_);
    TorchFile::Entry entry{storage.type, {}, bytes_of_storage(storage)};
    if (typed) {
      const PickleValue& dtype = pickle_[arguments[6]];
      entry.type = dtype.kind == Kind::global ? torch::type_of_dtype(dtype.text) : nullptr;
    }
    if (entry.type == nullptr)
      in_.fail(fmt::format("tensor {} does not say the type of its elements", printable(name)));
    entry.layout.offset = pickle_[arguments[1]].integer;
    entry.layout.shape = read_dims(arguments[2], name);
    entry.layout.strides = read_dims(arguments[3], name);
    check_reach(entry, name);
    return entry;
  }

  Dims read_dims(PickleRef ref, const std::string& name) const {
    const PickleValue* list = &pickle_[ref];
    if (is_call(*list, "torch.Size") && pickle_[list->items[1]].items.size() == 1)
      list = &pickle_[pickle_[list->items[1]].items[0]];
    if (list->kind != Kind::tuple && list->kind != Kind::list)
      in_.fail(fmt::format("tensor {} has no list of sizes or strides", printable(name)));
    if (list->items.size() > kMaxRank) {
      in_.fail(fmt::format("tensor {} has {} axes; at most {} are read", printable(name),
                           list->items.size(), kMaxRank));
    }
    Dims out;
    for (const PickleRef item : list->items) {
      if (pickle_[item].kind != Kind::integer || pickle_[item].integer < 0)
        in_.fail(fmt::format("tensor {} has a size or stride that is no number from 0 on",
                             printable(name)));
      out.push_back(pickle_[item].integer);
    }
    return out;
  }

  // No element lies outside of the storage.
  void check_reach(const TorchFile::Entry& entry, const std::string& name) const {
    const Layout& l = entry.layout;
    const auto elements = static_cast<std::int64_t>(entry.bytes.size()) / entry.type->bytes;
    bool fits = l.shape.size() == l.strides.size() && l.offset >= 0 && l.offset <= elements;
    std::int64_t last = l.offset, count = 1, extent = 1;
    const bool empty = std::find(l.shape.begin(), l.shape.end(), 0) != l.shape.end();
    for (int i = 0; fits && i < l.shape.size(); ++i) {
      std::int64_t step = 0;
      const std::int64_t size = std::max<std::int64_t>(l.shape[i], 1);
      fits = !__builtin_mul_overflow(size - 1, l.strides[i], &step) &&
             !__builtin_add_overflow(last, step, &last) &&
             !__builtin_mul_overflow(count, l.shape[i], &count) &&
             !__builtin_mul_overflow(extent, size, &extent) && extent <= (std::int64_t{1} << 58);
    }
    if (!fits || (!empty && last >= elements)) {
      in_.fail(fmt::format(
          "tensor {} of shape {} and strides {}, from element {} on, does not fit into "
          "its storage of {} elements",
          printable(name), to_string(l.shape), to_string(l.strides), l.offset, elements));
    }
    if (empty) return;
    // Names may share storages, and elements by strides of 0; who copies them all does not ask for
    // memory out of proportion.
    copied_ += static_cast<double>(count) * static_cast<double>(entry.type->bytes);
    if (copied_ > kMostSharing * static_cast<double>(size_)) {
      in_.fail(
          fmt::format("its tensors up to {} would take {:.3g} bytes, more than {} times its size",
                      printable(name), copied_, kMostSharing));
    }
  }

  TorchFile& out_;
  const Pickle& pickle_;
  const torch::StorageBytes& storages_;
  const ByteReader& in_;
  std::size_t size_;           // of the file
  mutable double copied_ = 0;  // bytes of all tensors, each on its own
};

TorchFile TorchFile::open(const std::filesystem::path& file) {
  MappedFile mapped = map_file(file);
  return parse(std::move(mapped.owner), mapped.bytes, file.string());
}

TorchFile TorchFile::parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                           std::string name) {
  TorchFile out;
  out.file_ = std::move(name);
  out.owner_ = std::move(owner);
  ByteReader in(bytes, out.file_, kFormat);
  const Container container = read_container(in, bytes, out.file_);
  TorchReader(out, container, in, bytes.size()).read();
  return out;
}

bool TorchFile::contains(std::string_view name) const {
  return entries_.find(name) != entries_.end();
}

Tensor TorchFile::at(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) no_such_tensor(file_, name, names_);
  const Entry& entry = *found->second;
  const torch::ElementType& type = *entry.type;
  if (!type.becomes) {
    throw FileError(
        fmt::format("'{}': tensor {} is of type {}, which is not read; those that are: {}", file_,
                    printable(name), type.dtype, torch::readable_element_types()));
  }
  const Layout& l = entry.layout;
  if (numel(l.shape) == 0) return Tensor::empty(l.shape, *type.becomes);
  // The part of the storage that the tensor sees.
  std::int64_t count = 1;
  for (int i = 0; i < l.shape.size(); ++i) count += (l.shape[i] - 1) * l.strides[i];
  const auto bytes = entry.bytes.subspan(static_cast<std::size_t>(l.offset * type.bytes),
                                         static_cast<std::size_t>(count * type.bytes));
  if (*type.becomes == DType::boolean &&
      std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; })) {
    throw FileError(
        fmt::format("'{}': tensor {} is of type bool, but has bytes that are neither 0 nor 1",
                    file_, printable(name)));
  }
  const Layout within{l.shape, l.strides, 0};
  const bool aligned =
      reinterpret_cast<std::uintptr_t>(bytes.data()) % static_cast<std::uintptr_t>(type.bytes) == 0;
  if (type.widen == nullptr && aligned)
    return Tensor::wrap(owner_, bytes.data(), {count}, *type.becomes)
        .as_read_only()
        .with_layout(within);
  const Tensor seen = Tensor::empty({count}, *type.becomes);
  if (type.widen != nullptr) type.widen(bytes.data(), count, seen);
  else std::memcpy(seen.view().data, bytes.data(), bytes.size());
  return seen.with_layout(within);
}

}  // namespace vitrine

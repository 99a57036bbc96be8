#include "tensor/files/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>

#include "tensor/convert.h"
#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"
#include "tensor/files/json_value.h"
#include "tensor/files/safetensors_header.h"
#include "tensor/files/safetensors_stream.h"
#include "tensor/files/stored_tensors.h"
#include "tensor/files/utf8.h"

namespace vitrine {

// An element type of the format and what it becomes in memory.
struct StoredType {
  std::string_view name;
  std::int64_t bytes;
  DType dtype;
  // For types that memory does not have: reads the elements one by one.
  void (*widen)(const std::byte* from, std::int64_t n, const Tensor& to) = nullptr;
};

namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors data is little-endian and is used in place");

constexpr std::uint64_t kLengthBytes = 8;              // the length of the header, in front of it
constexpr std::uint64_t kLongestHeader = 100'000'000;  // the limit of the reference implementation
constexpr std::size_t kDataAlignment = 64;             // where files written here begin their data

constexpr std::array<StoredType, 12> kStoredTypes{{
    {"F64", 8, DType::f64},
    {"F32", 4, DType::f32},
    {"F16", 2, DType::f16},
    {"BF16", 2, DType::bf16},
    {"I64", 8, DType::i64},
    {"I32", 4, DType::i32},
    {"BOOL", 1, DType::boolean},
    {"U32", 4, DType::i64, widen_integers<std::uint32_t, std::int64_t>},
    {"I16", 2, DType::i32, widen_integers<std::int16_t, std::int32_t>},
    {"U16", 2, DType::i32, widen_integers<std::uint16_t, std::int32_t>},
    {"I8", 1, DType::i32, widen_integers<std::int8_t, std::int32_t>},
    {"U8", 1, DType::i32, widen_integers<std::uint8_t, std::int32_t>},
}};

const StoredType* find_type(std::string_view name) {
  const auto at = std::find_if(kStoredTypes.begin(), kStoredTypes.end(),
                               [&](const StoredType& t) { return t.name == name; });
  return at == kStoredTypes.end() ? nullptr : &*at;
}

// Types of the format that no tensor of this library has: their size alone is known.
constexpr std::array<StoredType, 8> kOtherTypes{{{"U64", 8, DType::boolean},
                                                 {"C64", 8, DType::boolean},
                                                 {"F8_E4M3", 1, DType::boolean},
                                                 {"F8_E5M2", 1, DType::boolean},
                                                 {"F8_E8M0", 1, DType::boolean},
                                                 {"F8_E4M3FNUZ", 1, DType::boolean},
                                                 {"F8_E5M2FNUZ", 1, DType::boolean},
                                                 {"C128", 16, DType::boolean}}};

const StoredType* find_other_type(std::string_view name) {
  const auto at = std::find_if(kOtherTypes.begin(), kOtherTypes.end(),
                               [&](const StoredType& t) { return t.name == name; });
  return at == kOtherTypes.end() ? nullptr : &*at;
}

std::string readable_types() {
  std::vector<std::string_view> known;
  for (const StoredType& t : kStoredTypes) known.push_back(t.name);
  return fmt::format("{}", fmt::join(known, ", "));
}

std::string_view stored_name(DType dtype) {
  const auto at = std::find_if(kStoredTypes.begin(), kStoredTypes.end(), [&](const StoredType& t) {
    return t.dtype == dtype && t.widen == nullptr;
  });
  return at->name;  // every dtype is in the table
}

[[noreturn]] void fail(const std::string& file, const std::string& what) {
  throw FileError(fmt::format("'{}' is not a valid safetensors file: {}", file, what));
}

// The shape of an entry, once its size in bytes is known to be what its offsets say.
Shape checked_shape(const safetensors::HeaderEntry& entry, const StoredType& type,
                    std::uint64_t data_bytes, const std::string& file) {
  const std::string name = printable(entry.name);
  if (entry.begin > entry.end) {
    fail(file, fmt::format("tensor {} begins at byte {} of the data, after its end at {}", name,
                           entry.begin, entry.end));
  }
  if (entry.end > data_bytes) {
    fail(file, fmt::format("tensor {} ends at byte {} of the data, but the file holds only {}; it "
                           "may be truncated: "
                           "fetch it again",
                           name, entry.end, data_bytes));
  }
  Shape shape;
  // Also bounds what the strides are computed from: axes of size 0 count as 1 there.
  std::int64_t count = type.bytes, extent = type.bytes;
  bool overflow = false;
  for (const std::uint64_t size : entry.shape) {
    overflow =
        overflow || size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    const auto axis = static_cast<std::int64_t>(size);
    overflow = overflow || __builtin_mul_overflow(extent, std::max<std::int64_t>(axis, 1), &extent);
    if (overflow) {
      fail(file, fmt::format("tensor {} has a shape [{}] whose size overflows", name,
                             fmt::join(entry.shape, ", ")));
    }
    count *= axis;
    shape.push_back(axis);
  }
  if (static_cast<std::uint64_t>(count) != entry.end - entry.begin) {
    fail(file,
         fmt::format("tensor {} takes {} bytes as {}{}, but its data_offsets [{}, {}] span {}",
                     name, count, type.name, to_string(shape), entry.begin, entry.end,
                     entry.end - entry.begin));
  }
  return shape;
}

// The entries must cover the data exactly, without overlaps and holes. Sorts them by their place.
void check_coverage(std::vector<safetensors::HeaderEntry>& entries, std::uint64_t data_bytes,
                    const std::string& file) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t covered = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const safetensors::HeaderEntry& entry = entries[i];
    const std::string name = printable(entry.name);
    if (entry.begin < covered) {
      fail(file, fmt::format(
                     "tensor {} at bytes {} to {} of the data overlaps tensor {}, which ends at {}",
                     name, entry.begin, entry.end, printable(entries[i - 1].name), covered));
    }
    if (entry.begin > covered) {
      fail(file, fmt::format("no tensor covers bytes {} to {} of the data, in front of tensor {}",
                             covered, entry.begin, name));
    }
    covered = entry.end;
  }
  if (covered != data_bytes) {
    fail(file,
         fmt::format("it is larger than its tensors: they end at byte {} of the data, which has {}",
                     covered, data_bytes));
  }
}

}  // namespace

struct SafeTensors::Entry {
  const StoredType* type;
  Shape shape;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

SafeTensors SafeTensors::open(const std::filesystem::path& file) {
  MappedFile mapped = map_file(file);
  return parse(std::move(mapped.owner), mapped.bytes, file.string());
}

SafeTensors SafeTensors::parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                               std::string name) {
  SafeTensors out;
  out.file_ = std::move(name);
  const std::string& file = out.file_;
  if (bytes.size() < kLengthBytes) {
    fail(file, fmt::format("it has {} bytes, and the length of its header alone takes {}",
                           bytes.size(), kLengthBytes));
  }
  const std::string_view beginning(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (beginning.starts_with("version https://git-lfs")) {
    fail(file,
         "it is a git-lfs pointer, which stands for the file; fetch the file itself with 'git lfs "
         "pull'");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kLongestHeader) {
    fail(file, fmt::format("its header would have {} bytes, more than the {} allowed; is it really "
                           "a safetensors file?",
                           length, kLongestHeader));
  }
  if (length > bytes.size() - kLengthBytes) {
    fail(file, fmt::format("its header would have {} bytes, but only {} follow; it may be "
                           "truncated: fetch it again",
                           length, bytes.size() - kLengthBytes));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  const std::span<const std::byte> data = bytes.subspan(kLengthBytes + length);

  safetensors::Header header = safetensors::parse_header({text, length}, file);
  for (const safetensors::HeaderEntry& entry : header.entries) {
    const StoredType* type = find_type(entry.dtype);
    // A type that this library cannot hold is no fault of the file: the tensor is there, and refused when it is asked for.
    if (type == nullptr) type = find_other_type(entry.dtype);
    if (type == nullptr) {
      fail(file, fmt::format("tensor {} has the unknown dtype {}; known are {}",
                             printable(entry.name), printable(entry.dtype), readable_types()));
    }
    const Shape shape = checked_shape(entry, *type, data.size(), file);
    out.entries_.emplace(
        entry.name, std::make_shared<const Entry>(Entry{
                        type, shape, data.subspan(entry.begin, entry.end - entry.begin), owner}));
  }
  check_coverage(header.entries, data.size(), file);
  for (safetensors::HeaderEntry& entry : header.entries)
    out.names_.push_back(std::move(entry.name));
  out.metadata_ = std::move(header.metadata);
  return out;
}

bool SafeTensors::contains(std::string_view name) const {
  return entries_.find(name) != entries_.end();
}

Tensor SafeTensors::at(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) no_such_tensor(file_, name, names_);
  const Entry& entry = *found->second;
  const StoredType& type = *entry.type;
  if (find_type(type.name) == nullptr) {
    throw FileError(
        fmt::format("'{}': tensor {} is of type {}, which is not read; those that are: {}", file_,
                    printable(name), type.name, readable_types()));
  }
  const std::byte* data = entry.bytes.data();
  if (entry.bytes.empty()) return Tensor::empty(entry.shape, type.dtype);
  if (type.widen != nullptr) {
    const Tensor out = Tensor::empty(entry.shape, type.dtype);
    type.widen(data, out.numel(), out);
    return out;
  }
  if (type.dtype == DType::boolean) {  // any other byte in a C++ bool would be undefined behaviour
    const auto bad = std::find_if(entry.bytes.begin(), entry.bytes.end(),
                                  [](std::byte b) { return b > std::byte{1}; });
    if (bad != entry.bytes.end()) {
      fail(file_,
           fmt::format("tensor {} is BOOL, but its element {} is the byte {}; expected 0 or 1",
                       printable(name), bad - entry.bytes.begin(), std::to_integer<int>(*bad)));
    }
  }
  // A header of an odd length leaves the data unaligned, which the format allows.
  if (reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(type.bytes) != 0) {
    const Tensor out = Tensor::empty(entry.shape, type.dtype);
    std::memcpy(out.view().data, data, entry.bytes.size());
    return out;
  }
  return Tensor::wrap(entry.owner, data, entry.shape, type.dtype).as_read_only();
}

void save_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<StreamedTensor> streamed;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.defined()) {
      throw SaveError(fmt::format("cannot write '{}': tensor {} is undefined; no file was changed",
                                  file.string(), printable(name)));
    }
    streamed.push_back({name, tensor.dtype(), tensor.shape(), [tensor](const Sink& sink) {
                          const Tensor copy = tensor.contiguous();
                          sink({copy.view().data, static_cast<std::size_t>(copy.bytes())});
                        }});
  }
  stream_safetensors(file, streamed, metadata);
}

void stream_safetensors(const std::filesystem::path& file,
                        const std::vector<StreamedTensor>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  const auto refuse = [&](const std::string& what) {
    throw SaveError(fmt::format("cannot write '{}': {}; no file was changed", file.string(), what));
  };
  // Entries may not leave holes, so the only way to align each is to put the larger elements first.
  std::vector<const StreamedTensor*> order;
  std::set<std::string_view> names;
  for (const StreamedTensor& t : tensors) {
    if (t.name == "__metadata__")
      refuse("a tensor cannot be called '__metadata__', a word of the format");
    if (!names.insert(t.name).second)
      refuse(fmt::format("there are two tensors called {}", printable(t.name)));
    if (is_blocked(t.dtype))
      refuse(
          fmt::format("tensor {} is {}, which safetensors files do not hold; convert it with "
                      "to(f32) or to(f16) first",
                      printable(t.name), name_of(t.dtype)));
    order.push_back(&t);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return size_of(a->dtype) > size_of(b->dtype);
  });
  const auto stored_bytes = [](const StreamedTensor& t) {
    return bytes_of(t.dtype, numel(t.shape));
  };

  const auto spelled = [&](const std::string& text) {
    if (nn::replace_invalid_utf8(text) != text)
      refuse("a name or a metadata text is not valid UTF-8");
    return JsonValue(text).line();
  };
  std::string header = "{", texts;
  for (const auto& [key, text] : metadata)
    texts += fmt::format("{}{}:{}", texts.empty() ? "" : ",", spelled(key), spelled(text));
  if (!metadata.empty()) header += fmt::format("\"__metadata__\":{{{}}},", texts);
  std::int64_t offset = 0;
  for (const StreamedTensor* t : order) {
    header += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},",
                          spelled(t->name), stored_name(t->dtype),
                          fmt::join(t->shape.begin(), t->shape.end(), ","), offset,
                          offset + stored_bytes(*t));
    offset += stored_bytes(*t);
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  while ((kLengthBytes + header.size()) % kDataAlignment != 0) header += ' ';
  if (header.size() > kLongestHeader) {
    refuse(fmt::format("its header would have {} bytes, more than the {} allowed", header.size(),
                       kLongestHeader));
  }

  write_atomically(file, [&](const Sink& sink) {
    const std::uint64_t length = header.size();
    sink(std::as_bytes(std::span(&length, 1)));
    sink(std::as_bytes(std::span(header)));
    for (const StreamedTensor* t : order) {
      std::int64_t given = 0;
      t->write([&](std::span<const std::byte> bytes) {
        given += std::ssize(bytes);
        sink(bytes);
      });
      if (given != stored_bytes(*t)) {
        refuse(fmt::format("tensor {} gave {} bytes of {}", printable(t->name), given,
                           stored_bytes(*t)));
      }
    }
  });
}

}  // namespace vitrine

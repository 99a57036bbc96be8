#include "tensor/files/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "tensor/error.h"
#include "tensor/files/byte_reader.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"
#include "tensor/files/stored_tensors.h"
#include "tensor/files/utf8.h"

namespace vitrine {
namespace {

static_assert(std::endian::native == std::endian::little,
              "GGUF data is little-endian and is used in place");

constexpr std::uint64_t kLeastTensor = 8 + 1 + 4 + 4 + 8;  // length, a letter, axes, type, offset
constexpr std::uint32_t kMostAxes = 4;                     // the format's limit
constexpr std::uint64_t kLongestTensorName = 65535;
constexpr std::uint64_t kDefaultAlignment = 32, kLargestAlignment = 1 << 20;

// A type of ggml's and what it becomes in memory.
struct GgmlType {
  std::uint32_t number;
  std::string_view name;
  Block block;                 // bytes 0: not known here
  std::optional<DType> dtype;  // none: not read
};

constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", {1, 4}, DType::f32},
    {1, "F16", {1, 2}, DType::f16},
    {2, "Q4_0", block_of(DType::q4_0), DType::q4_0},
    {3, "Q4_1", block_of(DType::q4_1), DType::q4_1},
    {6, "Q5_0", block_of(DType::q5_0), DType::q5_0},
    {7, "Q5_1", block_of(DType::q5_1), DType::q5_1},
    {8, "Q8_0", block_of(DType::q8_0), DType::q8_0},
    {9, "Q8_1", {32, 0}, std::nullopt},
    {10, "Q2_K", block_of(DType::q2_k), DType::q2_k},
    {11, "Q3_K", block_of(DType::q3_k), DType::q3_k},
    {12, "Q4_K", block_of(DType::q4_k), DType::q4_k},
    {13, "Q5_K", block_of(DType::q5_k), DType::q5_k},
    {14, "Q6_K", block_of(DType::q6_k), DType::q6_k},
    {15, "Q8_K", {256, 292}, std::nullopt},
    {16, "IQ2_XXS", {256, 66}, std::nullopt},
    {17, "IQ2_XS", {256, 74}, std::nullopt},
    {18, "IQ3_XXS", {256, 98}, std::nullopt},
    {19, "IQ1_S", {256, 50}, std::nullopt},
    {20, "IQ4_NL", {32, 18}, std::nullopt},
    {21, "IQ3_S", {256, 110}, std::nullopt},
    {22, "IQ2_S", {256, 82}, std::nullopt},
    {23, "IQ4_XS", {256, 136}, std::nullopt},
    {24, "I8", {1, 1}, DType::i32},
    {25, "I16", {1, 2}, DType::i32},
    {26, "I32", {1, 4}, DType::i32},
    {27, "I64", {1, 8}, DType::i64},
    {28, "F64", {1, 8}, DType::f64},
    {29, "IQ1_M", {256, 56}, std::nullopt},
    {30, "BF16", {1, 2}, DType::bf16},
    {34, "TQ1_0", {256, 54}, std::nullopt},
    {35, "TQ2_0", {256, 66}, std::nullopt},
    {39, "MXFP4", {32, 17}, std::nullopt},
};

// Of a number that is not in the table nothing but the number is known.
GgmlType ggml_type(std::uint32_t number) {
  for (const GgmlType& t : kGgmlTypes) {
    if (t.number == number) return t;
  }
  return {number, "", {1, 0}, std::nullopt};
}
std::string name_of_ggml_type(std::uint32_t number) {
  const GgmlType type = ggml_type(number);
  return type.name.empty() ? fmt::format("number {}", number) : std::string(type.name);
}

// The shape of a tensor, rows first, once its size in bytes can be counted.
Shape read_shape(ByteReader& in, std::string_view name) {
  const auto axes = in.number<std::uint32_t>("a number of axes");
  if (axes > kMostAxes) {
    in.fail(fmt::format("tensor {} would have {} axes; the format has at most {}", printable(name),
                        axes, kMostAxes));
  }
  std::uint64_t sizes[kMostAxes];
  std::int64_t extent = 8;  // bytes of the largest element; axes of size 0 count as 1
  bool overflow = false;
  for (std::uint32_t i = 0; i < axes; ++i) {
    sizes[i] = in.number<std::uint64_t>("the size of an axis");
    overflow = overflow ||
               sizes[i] > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) ||
               __builtin_mul_overflow(
                   extent, std::max<std::int64_t>(static_cast<std::int64_t>(sizes[i]), 1), &extent);
  }
  if (overflow) in.fail(fmt::format("tensor {} has a size that overflows", printable(name)));
  Shape shape;
  for (std::uint32_t i = axes; i-- > 0;) shape.push_back(static_cast<std::int64_t>(sizes[i]));
  return shape;
}

template <class From>
Tensor as_i32(std::span<const std::byte> bytes, const Shape& shape) {
  const Tensor out = Tensor::empty(shape, DType::i32);
  widen_integers<From, std::int32_t>(bytes.data(), out.numel(), out);
  return out;
}

std::uint64_t align(std::uint64_t at, std::uint64_t alignment) {
  return (at + alignment - 1) / alignment * alignment;
}

void check_beginning(ByteReader& in) {
  const std::string_view magic = in.text(4, "its first word");
  if (magic == "vers") {
    in.fail(
        "it is a git-lfs pointer, which stands for the file; fetch the file itself with 'git lfs "
        "pull'");
  }
  if (magic != "GGUF") {
    in.fail(
        fmt::format("it begins with {}; expected 'GGUF'{}", printable(magic),
                    magic == "ggjt" || magic == "ggml" || magic == "ggmf"
                        ? " (this is its predecessor, which is not read; convert the model again)"
                        : ""));
  }
  const auto version = in.number<std::uint32_t>("its version");
  if (version == 2 || version == 3) return;
  if ((version & 0xffffu) == 0 && version != 0) {
    in.fail(
        "it is big-endian, which is not read; expected a little-endian file (convert the model "
        "again)");
  }
  in.fail(fmt::format("it is of version {}; versions 2 and 3 are read{}", version,
                      version == 1 ? " (convert the model again)" : ""));
}

}  // namespace

Gguf Gguf::open(const std::filesystem::path& file) {
  MappedFile mapped = map_file(file);
  return parse(std::move(mapped.owner), mapped.bytes, file.string());
}

Gguf Gguf::parse(std::shared_ptr<const void> owner, std::span<const std::byte> bytes,
                 std::string name) {
  Gguf out;
  out.file_ = std::move(name);
  out.owner_ = owner;
  ByteReader in(bytes, out.file_, "GGUF file");
  check_beginning(in);
  const auto tensors = in.number<std::uint64_t>("the number of its tensors");
  const auto keys = in.number<std::uint64_t>("the number of its keys");
  out.metadata_.read(in, keys, out.file_, std::move(owner));
  const std::int64_t stated =
      out.metadata_.integer("general.alignment", static_cast<std::int64_t>(kDefaultAlignment));
  const auto alignment = static_cast<std::uint64_t>(stated);
  if (stated < 1 || alignment > kLargestAlignment || !std::has_single_bit(alignment)) {
    in.fail(fmt::format("general.alignment is {}; expected a power of two up to {}", stated,
                        kLargestAlignment));
  }
  out.read_entries(in, tensors);
  if (tensors == 0) return out;  // a vocabulary alone
  in.take(align(in.at(), alignment) - in.at(), "the padding in front of the data");
  out.data_ = bytes.subspan(in.at());
  out.check_places(in, alignment);
  return out;
}

void Gguf::read_entries(ByteReader& in, std::uint64_t count) {
  if (count > in.left() / kLeastTensor) {
    in.fail(
        fmt::format("its header claims {} tensors, but only {} bytes follow; it may be "
                    "truncated: fetch it again",
                    count, in.left()));
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto length = in.number<std::uint64_t>("the length of a tensor's name");
    if (length == 0 || length > kLongestTensorName) {
      in.fail(fmt::format("the name of tensor {} would have {} bytes; expected 1 to {}", i, length,
                          kLongestTensorName));
    }
    const std::string name(in.text(length, "a tensor's name"));
    if (nn::replace_invalid_utf8(name) != name)
      in.fail(fmt::format("the name of tensor {} is not valid UTF-8", printable(name)));
    Entry entry{0, read_shape(in, name), 0, 0};
    entry.type = in.number<std::uint32_t>("a tensor's type");
    entry.offset = in.number<std::uint64_t>("a tensor's offset");
    const GgmlType type = ggml_type(entry.type);
    const std::int64_t row = entry.shape.empty() ? 1 : entry.shape.back();
    if (row % type.block.elements != 0) {
      in.fail(fmt::format(
          "tensor {} is {}{}, but {} stores blocks of {} elements and cannot end in "
          "rows of {}",
          printable(name), type.name, to_string(entry.shape), type.name, type.block.elements, row));
    }
    entry.bytes = static_cast<std::uint64_t>(numel(entry.shape) / type.block.elements) *
                  static_cast<std::uint64_t>(type.block.bytes);
    if (!entries_.emplace(name, entry).second)
      in.fail(fmt::format("tensor {} is there twice", printable(name)));
    names_.push_back(name);
  }
}

// The tensors lie one behind the other, each aligned: nothing overlaps, and nothing lies between.
void Gguf::check_places(const ByteReader& in, std::uint64_t alignment) {
  std::vector<std::pair<std::string_view, const Entry*>> order;
  for (const std::string& name : names_) order.emplace_back(name, &entries_.find(name)->second);
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->offset, a.second->bytes) <
           std::pair(b.second->offset, b.second->bytes);
  });
  std::uint64_t covered = 0;
  bool known = true;  // whether the one before is of a type whose size is known
  std::string before = "the beginning";
  for (const auto& [name, entry] : order) {
    if (entry->offset % alignment != 0) {
      in.fail(
          fmt::format("tensor {} is at byte {} of the data, which is no multiple of the alignment "
                      "{}",
                      printable(name), entry->offset, alignment));
    }
    if (entry->offset > data_.size() || entry->bytes > data_.size() - entry->offset) {
      in.fail(
          fmt::format("tensor {} takes {} bytes from byte {} of the data on, but the file holds "
                      "only {}; it may be truncated: fetch it again",
                      printable(name), entry->bytes, entry->offset, data_.size()));
    }
    if (entry->offset < covered) {
      in.fail(fmt::format("tensor {} at byte {} of the data overlaps {}, which ends at {}",
                          printable(name), entry->offset, before, covered));
    }
    if (known && entry->offset != align(covered, alignment)) {
      in.fail(fmt::format("no tensor covers bytes {} to {} of the data, between {} and tensor {}",
                          covered, entry->offset, before, printable(name)));
    }
    covered = entry->offset + entry->bytes;
    known = ggml_type(entry->type).block.bytes > 0;
    before = "tensor " + printable(name);
  }
  if (known && data_.size() > align(covered, alignment)) {
    in.fail(
        fmt::format("it is larger than its tensors: they end at byte {} of the data, which has "
                    "{}",
                    covered, data_.size()));
  }
}

bool is_gguf(const std::filesystem::path& path) {
  std::error_code ignored;
  return path.extension() == ".gguf" && !std::filesystem::is_directory(path, ignored);
}

bool Gguf::contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }

const Gguf::Entry& Gguf::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found != entries_.end()) return found->second;
  no_such_tensor(file_, name, names_);
}

std::string Gguf::type(std::string_view name) const { return name_of_ggml_type(find(name).type); }
const Shape& Gguf::shape(std::string_view name) const { return find(name).shape; }

Tensor Gguf::at(std::string_view name) const {
  const Entry& entry = find(name);
  const GgmlType type = ggml_type(entry.type);
  if (!type.dtype) {
    std::string readable;
    for (const GgmlType& t : kGgmlTypes) {
      if (t.dtype) readable += fmt::format("{}{}", readable.empty() ? "" : ", ", t.name);
    }
    throw FileError(
        fmt::format("'{}': tensor {} is of type {}, which is not read; those that are: "
                    "{}",
                    file_, printable(name), name_of_ggml_type(entry.type), readable));
  }
  const auto bytes = data_.subspan(entry.offset, entry.bytes);
  if (bytes.empty()) return Tensor::empty(entry.shape, *type.dtype);
  if (type.name == "I8") return as_i32<std::int8_t>(bytes, entry.shape);
  if (type.name == "I16") return as_i32<std::int16_t>(bytes, entry.shape);
  // An alignment of less than an element is allowed, and blocks need none.
  const bool aligned =
      is_blocked(*type.dtype) || reinterpret_cast<std::uintptr_t>(bytes.data()) %
                                         static_cast<std::uintptr_t>(size_of(*type.dtype)) ==
                                     0;
  if (!aligned) {
    const Tensor out = Tensor::empty(entry.shape, *type.dtype);
    std::memcpy(out.view().data, bytes.data(), bytes.size());
    return out;
  }
  return Tensor::wrap(owner_, bytes.data(), entry.shape, *type.dtype).as_read_only();
}

}  // namespace vitrine

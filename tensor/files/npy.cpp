#include "tensor/files/npy.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/error.h"
#include "tensor/files/file.h"
#include "tensor/files/json_text.h"

namespace vitrine {
namespace {

static_assert(std::endian::native == std::endian::little,
              "npy data is little-endian here and is used in place");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kHeaderAlignment = 64;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw FileError(fmt::format("'{}' is not an npy file that can be read: {}", file, what));
}

struct Description {
  DType dtype = DType::f32;
  bool fortran = false;
  Shape shape;
};

DType dtype_of_descr(std::string_view descr, const std::string& file) {
  if (descr == "<f4") return DType::f32;
  if (descr == "<f8") return DType::f64;
  if (descr == "<f2") return DType::f16;
  if (descr == "<i4") return DType::i32;
  if (descr == "<i8") return DType::i64;
  if (descr == "|b1") return DType::boolean;
  refuse(file, fmt::format("its elements are {}; expected one of <f4 <f8 <f2 <i4 <i8 |b1 (convert "
                           "it with astype())",
                           printable(descr)));
}

std::string_view descr_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "<f8";
    case DType::f16:
      return "<f2";
    case DType::i32:
      return "<i4";
    case DType::i64:
      return "<i8";
    case DType::boolean:
      return "|b1";
    case DType::bf16:  // widened before
    default:
      break;
  }
  return "<f4";
}

// Reads the header, a Python dict literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3,
// 4), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& file) : text_(text), file_(file) {}

  Description parse() {
    std::optional<DType> dtype;
    std::optional<bool> fortran;
    std::optional<Shape> shape;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = quoted_string();
      expect(':');
      if (key == "descr" && !dtype) {
        if (peek() == '[') refuse(file_, "its elements are records; save each field by itself");
        dtype = dtype_of_descr(quoted_string(), file_);
      } else if (key == "fortran_order" && !fortran) {
        fortran = boolean();
      } else if (key == "shape" && !shape) {
        shape = tuple();
      } else {
        refuse(file_,
               fmt::format("its header has an unexpected or repeated key {}", printable(key)));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) malformed("nothing more");
    if (!dtype || !fortran || !shape)
      refuse(file_, "its header lacks one of descr, fortran_order and shape");
    return {*dtype, *fortran, *shape};
  }

 private:
  [[noreturn]] void malformed(std::string_view expected) const {
    refuse(file_, fmt::format("its header is malformed at byte {}: expected {}", at_, expected));
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t'))
      ++at_;
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(char c) {
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) malformed(fmt::format("'{}'", c));
  }
  std::string_view quoted_string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') malformed("a quoted word");
    const std::size_t begin = ++at_;
    const std::size_t end = text_.find(quote, begin);
    if (end == std::string_view::npos) malformed("a closing quote");
    at_ = end + 1;
    return text_.substr(begin, end - begin);
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_, word.size()) == word) {
        at_ += word.size();
        return value;
      }
    }
    malformed("True or False");
  }
  Shape tuple() {
    Shape shape;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t size = 0;
      const auto [end, error] =
          std::from_chars(text_.data() + at_, text_.data() + text_.size(), size);
      if (error != std::errc{} || size < 0) malformed("a size, 0 or more");
      if (shape.size() == kMaxRank)
        refuse(file_, fmt::format("it has more than {} axes", kMaxRank));
      shape.push_back(size);
      at_ = static_cast<std::size_t>(end - text_.data());
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string_view text_;
  const std::string& file_;
  std::size_t at_ = 0;
};

Shape reversed(const Dims& dims) {
  Shape out = dims;
  for (int i = 0; i < dims.size(); ++i) out[i] = dims[dims.size() - 1 - i];
  return out;
}

}  // namespace

Tensor load_npy(const std::filesystem::path& path) {
  const MappedFile mapped = map_file(path);
  const std::string file = path.string();
  const std::string_view all(reinterpret_cast<const char*>(mapped.bytes.data()),
                             mapped.bytes.size());
  if (all.substr(0, kMagic.size()) != kMagic || all.size() < kMagic.size() + 2) {
    refuse(file, "it does not begin with \\x93NUMPY and a version");
  }
  const int major = static_cast<unsigned char>(all[kMagic.size()]);
  if (major < 1 || major > 3)
    refuse(file, fmt::format("its format version is {}; expected 1, 2 or 3", major));
  const std::size_t length_at = kMagic.size() + 2;
  const std::size_t length_bytes = major == 1 ? 2 : 4;
  if (all.size() < length_at + length_bytes) refuse(file, "it is truncated inside its header");
  std::uint32_t length = 0;
  std::memcpy(&length, all.data() + length_at, length_bytes);
  const std::size_t data_at = length_at + length_bytes + length;
  if (all.size() < data_at) refuse(file, "it is truncated inside its header");
  const Description d = HeaderParser(all.substr(length_at + length_bytes, length), file).parse();

  std::int64_t expected = size_of(d.dtype);
  for (const std::int64_t size : d.shape) {
    if (__builtin_mul_overflow(expected, std::max<std::int64_t>(size, 1), &expected)) {
      refuse(file, fmt::format("the size of its shape {} overflows", to_string(d.shape)));
    }
  }
  if (numel(d.shape) == 0) expected = 0;
  const std::span<const std::byte> data = mapped.bytes.subspan(data_at);
  if (data.size() != static_cast<std::size_t>(expected)) {
    refuse(file, fmt::format("{}{} takes {} bytes, but {} follow the header", name_of(d.dtype),
                             to_string(d.shape), expected, data.size()));
  }
  if (d.dtype == DType::boolean) {  // any other byte in a C++ bool would be undefined behaviour
    const auto bad =
        std::find_if(data.begin(), data.end(), [](std::byte b) { return b > std::byte{1}; });
    if (bad != data.end()) {
      refuse(file, fmt::format("its boolean element {} is the byte {}; expected 0 or 1",
                               bad - data.begin(), std::to_integer<int>(*bad)));
    }
  }
  // Fortran order is the row-major order of the reversed axes.
  const Shape stored = d.fortran ? reversed(d.shape) : d.shape;
  Tensor tensor;
  if (reinterpret_cast<std::uintptr_t>(data.data()) %
              static_cast<std::uintptr_t>(size_of(d.dtype)) ==
          0 &&
      !data.empty()) {
    tensor = Tensor::wrap(mapped.owner, data.data(), stored, d.dtype).as_read_only();
  } else {
    tensor = Tensor::empty(stored, d.dtype);
    if (!data.empty()) std::memcpy(tensor.view().data, data.data(), data.size());
  }
  if (!d.fortran) return tensor;
  Dims axes;
  for (int i = stored.size() - 1; i >= 0; --i) axes.push_back(i);
  return tensor.permute(axes).contiguous();
}

namespace {

// The header of a file of this tensor, whose elements follow it.
std::string npy_header(const Tensor& stored) {
  std::string shape =
      fmt::format("{}", fmt::join(stored.shape().begin(), stored.shape().end(), ", "));
  if (stored.rank() == 1) shape += ',';  // as Python writes a tuple of one
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
                                   descr_of(stored.dtype()), shape);
  const std::size_t before = kMagic.size() + 2 + 2;
  while ((before + header.size() + 1) % kHeaderAlignment != 0) header += ' ';
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());  // at most 8 axes: far below 65536
  std::string all(kMagic);
  all += std::string_view("\x01\x00", 2);
  all.append(reinterpret_cast<const char*>(&length), sizeof(length));
  return all + header;
}

// As it can be written: contiguous, of a type that NumPy has.
Tensor as_stored(const std::filesystem::path& file, const Tensor& tensor) {
  if (!tensor.defined())
    throw SaveError(fmt::format("cannot write '{}': the tensor is undefined", file.string()));
  if (is_blocked(tensor.dtype())) {
    throw SaveError(
        fmt::format("cannot write '{}': NumPy has no {}; convert the tensor with to(f32) first",
                    file.string(), name_of(tensor.dtype())));
  }
  return (tensor.dtype() == DType::bf16 ? tensor.to(DType::f32) : tensor).contiguous();
}

std::span<const std::byte> elements_of(const Tensor& stored) {
  return {stored.view().data, static_cast<std::size_t>(stored.bytes())};
}

}  // namespace

void save_npy(const std::filesystem::path& file, const Tensor& tensor) {
  const Tensor stored = as_stored(file, tensor);
  const std::string header = npy_header(stored);
  write_atomically(file, [&](const Sink& sink) {
    sink(std::as_bytes(std::span(header)));
    sink(elements_of(stored));
  });
}

// ---- archives -----------------------------------------------------------------------------------
// APPNOTE.TXT, PKWARE: an entry is a local header, its name and its bytes; at the end stands the
// central directory, which lists the entries once more.
namespace {

// CRC-32 of ISO 3309, as zip has it.
class Crc32 {
 public:
  Crc32() {
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = (c >> 1) ^ ((c & 1) != 0 ? 0xEDB88320U : 0U);
      table_[i] = c;
    }
  }
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes)
      crc_ = (crc_ >> 8) ^ table_[(crc_ ^ std::to_integer<std::uint32_t>(b)) & 0xFF];
  }
  std::uint32_t value() const { return ~crc_; }

 private:
  std::array<std::uint32_t, 256> table_{};
  std::uint32_t crc_ = ~std::uint32_t{0};
};

struct ZipEntry {
  std::string name, header;
  Tensor stored;
  std::uint32_t crc = 0;
  std::uint64_t at = 0;  // of its local header in the archive
  std::uint64_t size() const { return header.size() + static_cast<std::uint64_t>(stored.bytes()); }
};

template <class T>
void append(std::string& out, T number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof(number));
}

// What the local and the central header have in common.
std::string common_fields(const ZipEntry& e) {
  constexpr std::uint16_t kVersion = 20, kUtf8 = 1 << 11, kStored = 0, kTime = 0;
  constexpr std::uint16_t kDate = 1 << 5 | 1;  // 1980-01-01: the same tensors are the same bytes
  std::string out;
  for (const std::uint16_t field : {kVersion, kUtf8, kStored, kTime, kDate}) append(out, field);
  append(out, e.crc);
  append(out, static_cast<std::uint32_t>(e.size()));  // as it is stored, and as it was
  append(out, static_cast<std::uint32_t>(e.size()));
  append(out, static_cast<std::uint16_t>(e.name.size()));
  append(out, std::uint16_t{0});  // no extra field
  return out;
}

std::string local_header(const ZipEntry& e) { return "PK\x03\x04" + common_fields(e) + e.name; }

std::string central_directory(const std::vector<ZipEntry>& entries, std::uint64_t at) {
  std::string out;
  for (const ZipEntry& e : entries) {
    out += "PK\x01\x02";
    append(out, std::uint16_t{20});  // made by
    out += common_fields(e);
    out.append(2 + 2 + 2 + 4, '\0');  // no comment, the first disk, attributes
    append(out, static_cast<std::uint32_t>(e.at));
    out += e.name;
  }
  const auto size = static_cast<std::uint32_t>(out.size());
  out += "PK\x05\x06";
  append(out, std::uint32_t{0});  // one disk
  append(out, static_cast<std::uint16_t>(entries.size()));
  append(out, static_cast<std::uint16_t>(entries.size()));
  append(out, size);
  append(out, static_cast<std::uint32_t>(at));
  append(out, std::uint16_t{0});  // no comment
  return out;
}

}  // namespace

void save_npz(const std::filesystem::path& file, const NamedTensors& tensors) {
  constexpr std::size_t kMostEntries = UINT16_MAX - 1;
  constexpr std::uint64_t kMostBytes = UINT32_MAX;
  const auto refuse_to = [&](const std::string& why) {
    throw SaveError(fmt::format("cannot write '{}': {}", file.string(), why));
  };
  std::vector<ZipEntry> entries;
  std::set<std::string> names;
  std::uint64_t at = 0, directory = 0;
  for (const auto& [name, tensor] : tensors) {
    if (!names.insert(name).second)
      refuse_to(fmt::format("two tensors are called {}", printable(name)));
    if (name.size() > UINT16_MAX / 2) refuse_to("the name of a tensor is too long");
    ZipEntry e{.name = name + ".npy", .header = {}, .stored = as_stored(file, tensor)};
    e.header = npy_header(e.stored);
    Crc32 crc;
    crc.add(std::as_bytes(std::span(e.header)));
    crc.add(elements_of(e.stored));
    e.crc = crc.value();
    e.at = at;
    at += local_header(e).size() + e.size();
    directory += 64 + e.name.size();
    entries.push_back(std::move(e));
  }
  if (entries.size() > kMostEntries || at + directory > kMostBytes)
    refuse_to("an npz file holds 4 GB and 65534 tensors at most; write a .safetensors file");
  write_atomically(file, [&](const Sink& sink) {
    for (const ZipEntry& e : entries) {
      const std::string local = local_header(e);
      sink(std::as_bytes(std::span(local)));
      sink(std::as_bytes(std::span(e.header)));
      sink(elements_of(e.stored));
    }
    const std::string end = central_directory(entries, at);
    sink(std::as_bytes(std::span(end)));
  });
}

}  // namespace vitrine

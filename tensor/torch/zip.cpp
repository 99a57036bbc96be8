#include "tensor/torch/zip.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tensor/files/byte_reader.h"
#include "tensor/files/json_text.h"

namespace vitrine::torch {
namespace {

// PKWARE's APPNOTE.TXT, sections 4.3.7 to 4.3.16. A number that does not fit its old field is all
// ones there and stands in a zip64 record.
constexpr std::uint32_t kLocalEntry = 0x04034b50, kListedEntry = 0x02014b50, kEnd = 0x06054b50,
                        kEnd64 = 0x06064b50, kEnd64Place = 0x07064b50;
constexpr std::uint64_t kEndBytes = 22, kEnd64PlaceBytes = 20, kListedBytes = 46;
constexpr std::uint64_t kLongestComment = 0xffff;
constexpr std::uint32_t kElsewhere32 = 0xffffffff;
constexpr std::uint16_t kElsewhere16 = 0xffff;
constexpr std::uint16_t kExtra64 = 1;    // the kind of the extra field that has the 64-bit numbers
constexpr std::uint16_t kEncrypted = 1;  // a flag

struct Directory {
  std::uint64_t entries = 0, bytes = 0, offset = 0;
};

struct ListedEntry {
  std::string name;
  std::uint64_t bytes = 0, offset = 0;  // of the data; where its local header is
};

class ZipReader {
 public:
  ZipReader(std::span<const std::byte> bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  ZipEntries read() {
    const Directory directory = find_directory();
    ByteReader in = at(directory.offset, "the list of its entries");
    if (directory.entries > directory.bytes / kListedBytes || directory.bytes > in.left()) {
      in.fail(
          fmt::format("a list of {} entries in {} bytes does not fit into its {} bytes; it may be "
                      "truncated: fetch it again",
                      directory.entries, directory.bytes, bytes_.size()));
    }
    ZipEntries out;
    struct Taken {
      std::uint64_t begin, end;
      std::string_view name;
    };
    std::vector<Taken> taken;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      const ListedEntry entry = read_listed(in);
      const auto data = data_of(entry);
      const auto [where, fresh] = out.emplace(entry.name, data);
      if (!fresh) in.fail(fmt::format("the entry {} is there twice", printable(entry.name)));
      const auto end = static_cast<std::uint64_t>(data.data() - bytes_.data()) + data.size();
      taken.push_back({entry.offset, end, where->first});
    }
    std::sort(taken.begin(), taken.end(),
              [](const Taken& a, const Taken& b) { return a.begin < b.begin; });
    for (std::size_t i = 1; i < taken.size(); ++i) {
      if (taken[i].begin < taken[i - 1].end)
        in.fail(fmt::format("the entries {} and {} overlap", printable(taken[i - 1].name),
                            printable(taken[i].name)));
    }
    return out;
  }

 private:
  ByteReader at(std::uint64_t offset, std::string_view what) const {
    ByteReader in(bytes_, file_, "PyTorch checkpoint");
    if (offset > bytes_.size()) {
      in.fail(
          fmt::format("{} would begin at byte {}, but it has only {}; it may be truncated: fetch "
                      "it again",
                      what, offset, bytes_.size()));
    }
    in.take(offset, what);
    return in;
  }

  // From the record at the end of the file, which only a comment may follow.
  Directory find_directory() const {
    const std::uint64_t size = bytes_.size();
    const std::uint64_t first =
        size < kEndBytes + kLongestComment ? 0 : size - kEndBytes - kLongestComment;
    for (std::uint64_t begin = size < kEndBytes ? first : size - kEndBytes + 1; begin-- > first;) {
      std::uint32_t signature = 0;
      std::uint16_t comment = 0;
      std::memcpy(&signature, bytes_.data() + begin, sizeof signature);
      if (signature != kEnd) continue;
      std::memcpy(&comment, bytes_.data() + begin + kEndBytes - 2, sizeof comment);
      if (begin + kEndBytes + comment == size) return read_end(begin);
    }
    at(0, "").fail(
        "it begins as a zip archive, but the record at the end of one is missing; it may be "
        "truncated: fetch it again");
  }

  Directory read_end(std::uint64_t begin) const {
    ByteReader in = at(begin, "the end of the archive");
    in.take(4, "a signature");
    const auto disk = in.number<std::uint16_t>("a disk");
    const auto first_disk = in.number<std::uint16_t>("a disk");
    in.take(2, "a count");
    Directory out;
    out.entries = in.number<std::uint16_t>("a count");
    out.bytes = in.number<std::uint32_t>("a size");
    out.offset = in.number<std::uint32_t>("an offset");
    const bool wide = disk == kElsewhere16 || first_disk == kElsewhere16 ||
                      out.entries == kElsewhere16 || out.bytes == kElsewhere32 ||
                      out.offset == kElsewhere32;
    if (!wide) {
      if (disk != 0 || first_disk != 0) in.fail("it is one of several parts of a zip archive");
      return out;
    }
    if (begin < kEnd64PlaceBytes) in.fail("its zip64 record is missing");
    ByteReader place = at(begin - kEnd64PlaceBytes, "the place of its zip64 record");
    if (place.number<std::uint32_t>("a signature") != kEnd64Place)
      place.fail("its zip64 record is missing");
    place.take(4, "a disk");
    ByteReader end = at(place.number<std::uint64_t>("an offset"), "its zip64 record");
    if (end.number<std::uint32_t>("a signature") != kEnd64) end.fail("its zip64 record is missing");
    end.take(8 + 2 + 2, "sizes and versions");
    if (end.number<std::uint32_t>("a disk") != 0 || end.number<std::uint32_t>("a disk") != 0)
      end.fail("it is one of several parts of a zip archive");
    end.take(8, "a count");
    out.entries = end.number<std::uint64_t>("a count");
    out.bytes = end.number<std::uint64_t>("a size");
    out.offset = end.number<std::uint64_t>("an offset");
    return out;
  }

  static ListedEntry read_listed(ByteReader& in) {
    if (in.number<std::uint32_t>("an entry") != kListedEntry)
      in.fail(fmt::format("there is no entry at byte {} of it, where its list says there is one",
                          in.at() - 4));
    in.take(4, "versions");
    const auto flags = in.number<std::uint16_t>("flags");
    const auto method = in.number<std::uint16_t>("a method");
    in.take(4 + 4, "a time and a checksum");
    std::uint64_t packed = in.number<std::uint32_t>("a size");
    ListedEntry entry;
    entry.bytes = in.number<std::uint32_t>("a size");
    const auto name = in.number<std::uint16_t>("a length");
    const auto extra = in.number<std::uint16_t>("a length");
    const auto comment = in.number<std::uint16_t>("a length");
    in.take(2 + 2 + 4, "attributes");
    entry.offset = in.number<std::uint32_t>("an offset");
    entry.name = in.text(name, "the name of an entry");
    read_wide_numbers(in, extra, entry, packed);
    in.take(comment, "a comment");
    if ((flags & kEncrypted) != 0)
      in.fail(fmt::format("the entry {} is encrypted", printable(entry.name)));
    if (method != 0 || packed != entry.bytes) {
      in.fail(
          fmt::format("the entry {} is compressed; PyTorch stores entries as they are (save the "
                      "model once more)",
                      printable(entry.name)));
    }
    return entry;
  }

  // The extra fields of an entry: pairs of kind and length, then the content.
  static void read_wide_numbers(ByteReader& in, std::uint64_t length, ListedEntry& entry,
                                std::uint64_t& packed) {
    const std::size_t end = in.at() + length;
    in.take(0, "extra fields");
    std::span<const std::byte> wide;
    while (in.at() + 4 <= end) {
      const auto kind = in.number<std::uint16_t>("a kind");
      const auto bytes = in.number<std::uint16_t>("a length");
      if (in.at() + bytes > end)
        in.fail(fmt::format("the entry {} has an extra field that is longer than all of them",
                            printable(entry.name)));
      const auto content = in.take(bytes, "an extra field");
      if (kind == kExtra64) wide = content;
    }
    in.take(end - in.at(), "extra fields");
    for (std::uint64_t* number : {&entry.bytes, &packed, &entry.offset}) {  // in this order
      if (*number != kElsewhere32) continue;
      if (wide.size() < 8)
        in.fail(fmt::format("the entry {} has no zip64 size", printable(entry.name)));
      std::memcpy(number, wide.data(), 8);
      wide = wide.subspan(8);
    }
  }

  std::span<const std::byte> data_of(const ListedEntry& entry) const {
    ByteReader in = at(entry.offset, "an entry");
    if (in.number<std::uint32_t>("an entry") != kLocalEntry)
      in.fail(
          fmt::format("the entry {} is not where the list of entries says", printable(entry.name)));
    in.take(22, "what the list says too");
    const auto name = in.number<std::uint16_t>("a length");
    const auto extra = in.number<std::uint16_t>("a length");
    if (in.text(name, "the name of an entry") != entry.name)
      in.fail(fmt::format("the entry {} has another name where it lies", printable(entry.name)));
    in.take(extra, "extra fields");
    return in.take(entry.bytes, fmt::format("the entry {}", printable(entry.name)));
  }

  std::span<const std::byte> bytes_;
  std::string_view file_;
};

}  // namespace

ZipEntries read_zip(std::span<const std::byte> bytes, std::string_view file) {
  return ZipReader(bytes, file).read();
}

}  // namespace vitrine::torch

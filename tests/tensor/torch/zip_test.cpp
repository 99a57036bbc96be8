#include "tensor/torch/zip.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "tests/tensor/expect_error.h"
#include "tests/tensor/torch/torch_writer.h"

namespace vitrine::torch {
namespace {

using test::ZipWriter;

ZipEntries read_entries(const std::string& bytes) {
  return read_zip(std::as_bytes(std::span(bytes)), "x.bin");
}
void refuse_zip(const std::string& text, const std::string& bytes) {
  EXPECT_ERROR(FileError, text, read_entries(bytes));
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ZipWriter two_entries(bool wide = false) {
  ZipWriter zip;
  zip.wide = wide;
  zip.add("a/one", "first");
  zip.add("a/two", "");
  return zip;
}

TEST(Zip, ReadsStoredEntries) {
  for (const bool wide : {false, true}) {
    for (const char* comment : {"", "made by hand"}) {
      const std::string bytes = two_entries(wide).finish(comment);
      const ZipEntries entries = read_entries(bytes);
      ASSERT_EQ(entries.size(), 2u);
      EXPECT_EQ(text_of(entries.at("a/one")), "first");
      EXPECT_EQ(text_of(entries.at("a/two")), "");
    }
  }
}

TEST(Zip, RefusesWhatIsCutShort) {
  for (const bool wide : {false, true}) {
    const std::string bytes = two_entries(wide).finish();
    for (std::size_t cut = 0; cut < bytes.size(); ++cut)
      EXPECT_THROW(read_entries(bytes.substr(0, cut)), FileError) << cut;
  }
  refuse_zip("the record at the end", "PK\x03\x04");
}

TEST(Zip, RefusesWhatPyTorchDoesNotWrite) {
  ZipWriter zip;
  zip.method = 8;
  zip.add("a", "x");
  refuse_zip("'a' is compressed", zip.finish());
  zip = ZipWriter();
  zip.flags = 1;
  zip.add("a", "x");
  refuse_zip("'a' is encrypted", zip.finish());
  zip = ZipWriter();
  zip.add("a", "x");
  zip.add("a", "y");
  refuse_zip("'a' is there twice", zip.finish());
}

// Bytes `from` of a good archive replaced, wherever they are last.
std::string changed(std::string bytes, const std::string& from, const std::string& to) {
  const std::size_t at = bytes.rfind(from);
  EXPECT_NE(at, std::string::npos);
  return bytes.replace(at, to.size(), to);
}

TEST(Zip, RefusesListsThatDoNotFit) {
  const std::string bytes = two_entries().finish();
  const std::string end("PK\x05\x06\0\0\0\0", 8);
  refuse_zip("several parts", changed(bytes, end, std::string("PK\x05\x06\1", 5)));
  refuse_zip("a list of 65534 entries",
             changed(bytes, end, end + std::string("\xfe\xff\xfe\xff", 4)));
  refuse_zip("zip64 record is missing",
             changed(bytes, end, end + std::string("\xff\xff\xff\xff", 4)));
  refuse_zip("would begin at byte 4294967280",
             changed(bytes, end,
                     end + std::string("\2\0\2\0", 4) + std::string("\x66\0\0\0", 4) +
                         std::string("\xf0\xff\xff\xff", 4)));
  refuse_zip("has another name where it lies", changed(bytes, "a/one", "b/one"));
  refuse_zip("no entry at byte", changed(bytes, "PK\x01\x02", "PK\x09\x02"));
  // The second entry said to lie where the first does, under the name of the first.
  ZipWriter zip;
  zip.add("a", "x");
  zip.listed += std::string(zip.listed);
  ++zip.entries;
  refuse_zip("is there twice", zip.finish());
  // An entry that begins inside another.
  ZipWriter inner;
  inner.add("b", "y");
  ZipWriter outer;
  outer.add("a", inner.bytes);
  std::string listed = inner.listed;
  const auto begin = static_cast<std::uint32_t>(outer.bytes.size() - inner.bytes.size());
  std::memcpy(listed.data() + 42, &begin, 4);
  outer.listed += listed;
  ++outer.entries;
  refuse_zip("'a' and 'b' overlap", outer.finish());
}

TEST(Zip, HugeSizesCostNothing) {
  ZipWriter zip = two_entries(true);
  const std::string size = test::number<std::uint64_t>(5);
  const std::size_t at = zip.listed.find(size);
  ASSERT_NE(at, std::string::npos);
  const std::string huge = test::number<std::uint64_t>(1ULL << 60);
  zip.listed.replace(at, 8, huge).replace(at + 8, 8, huge);
  refuse_zip("would take 1152921504606846976 bytes", zip.finish());
}

}  // namespace
}  // namespace vitrine::torch

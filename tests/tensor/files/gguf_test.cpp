#include "tensor/files/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/files/gguf_writer.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine {
namespace {

using test::GgufWriter;
using test::raw;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Gguf parse_gguf(const std::string& bytes) {
  auto owner = std::make_shared<const std::string>(bytes);
  const auto span = std::as_bytes(std::span(*owner));
  return Gguf::parse(std::move(owner), span, "m.gguf");
}
void refuse_gguf(const std::string& text, const std::string& bytes) {
  EXPECT_THAT(test::message_of<FileError>([&] { parse_gguf(bytes); }),
              AllOf(HasSubstr("'m.gguf'"), HasSubstr(text)));
}

std::string floats(const std::vector<float>& values) {
  std::string out;
  for (const float v : values) out += raw(v);
  return out;
}

GgufWriter small_file() {
  GgufWriter w;
  w.text("general.architecture", "llama").integer("llama.block_count", 2).real("eps", 0.5f);
  w.texts("tokens", {"a", "", "\xff b"});
  w.tensor("one", {3, 2}, 0, floats({1, 2, 3, 4, 5, 6}));
  w.tensor("blocks", {64, 2}, 8, std::string(4 * 34, '\x01'));
  w.tensor("two", {}, 27, raw<std::int64_t>(-7));
  return w;
}

TEST(Gguf, ReadsAFileBuiltByHand) {
  for (const std::uint32_t version : {2u, 3u}) {
    GgufWriter w = small_file();
    w.version = version;
    w.tensor("bytes", {3}, 24, std::string("\x01\xff\x80", 3));
    w.tensor("empty", {0, 4}, 1, "");
    const Gguf file = parse_gguf(w.bytes());
    EXPECT_THAT(file.names(), ElementsAre("one", "blocks", "two", "bytes", "empty"));
    EXPECT_TRUE(file.contains("one") && !file.contains("three"));
    const Tensor one = file.at("one");
    EXPECT_EQ(to_string(one.shape()), "[2, 3]");
    EXPECT_EQ(one.to_vector<float>(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
    EXPECT_TRUE(one.is_read_only());
    const Tensor blocks = file.at("blocks");
    EXPECT_EQ(blocks.dtype(), DType::q8_0);
    EXPECT_EQ(to_string(blocks.shape()), "[2, 64]");
    EXPECT_EQ(file.type("blocks"), "Q8_0");
    EXPECT_EQ(blocks.to_vector<float>()[5], to_float(Half{0x0101}));
    EXPECT_EQ(file.at("two").item<std::int64_t>(), -7);
    EXPECT_EQ(file.at("bytes").to_vector<std::int32_t>(), (std::vector<std::int32_t>{1, -1, -128}));
    EXPECT_EQ(to_string(file.at("empty").shape()), "[4, 0]");
    EXPECT_ERROR(FileError, "no tensor 'ones' (did you mean 'one'?)", file.at("ones"));
  }
}

TEST(Gguf, IsMappedWithoutACopy) {
  const test::TemporaryFolder folder;
  write_text(folder / "m.gguf", small_file().bytes());
  const Gguf file = Gguf::open(folder / "m.gguf");
  EXPECT_EQ(file.file(), (folder / "m.gguf").string());
  EXPECT_EQ(file.at("one").data<float>(), file.at("one").data<float>());
  EXPECT_ERROR(FileError, "has no such file", Gguf::open(folder / "n.gguf"));
}

TEST(Gguf, MetadataIsReadByType) {
  GgufWriter w = small_file();
  w.key("wide", GgufType::uint64, raw<std::uint64_t>(1ULL << 63));
  w.key("negative", GgufType::int8, raw<std::int8_t>(-3));
  w.key("yes", GgufType::boolean, raw<std::uint8_t>(1));
  w.key("double", GgufType::float64, raw(0.25));
  w.key("nan", GgufType::float32, raw(std::numeric_limits<float>::quiet_NaN()));
  w.list("numbers", GgufType::int16, 3,
         raw<std::int16_t>(1) + raw<std::int16_t>(-2) + raw<std::int16_t>(3));
  w.list("reals", GgufType::float32, 2, raw(1.f) + raw(2.5f));
  w.list("flags", GgufType::boolean, 2, std::string("\x01\x00", 2));
  w.list("nested", GgufType::array, 1,
         raw(static_cast<std::uint32_t>(GgufType::uint8)) + raw<std::uint64_t>(2) + "ab");
  const Gguf file = parse_gguf(w.bytes());
  const GgufMetadata& m = file.metadata();
  EXPECT_EQ(m.keys()[1], "llama.block_count");
  EXPECT_EQ(m.text("general.architecture"), "llama");
  EXPECT_EQ(m.integer("llama.block_count"), 2);
  EXPECT_EQ(m.integer("negative"), -3);
  EXPECT_EQ(m.real("eps"), 0.5);
  EXPECT_EQ(m.real("double"), 0.25);
  EXPECT_EQ(m.real("llama.block_count"), 2);
  EXPECT_TRUE(m.boolean("yes"));
  EXPECT_THAT(m.texts("tokens"), ElementsAre("a", "", "\xff b"));
  EXPECT_THAT(m.integers("numbers"), ElementsAre(1, -2, 3));
  EXPECT_THAT(m.reals("reals"), ElementsAre(1, 2.5));
  EXPECT_THAT(m.reals("numbers"), ElementsAre(1, -2, 3));
  EXPECT_THAT(m.booleans("flags"), ElementsAre(true, false));
  EXPECT_TRUE(m.is_list("numbers") && !m.is_list("eps") && !m.is_list("absent"));
  EXPECT_EQ(m.integer("absent", 5), 5);
  EXPECT_EQ(m.text("absent", "x"), "x");
  EXPECT_EQ(m.real("absent", 0.5), 0.5);
  EXPECT_EQ(m.boolean("absent", true), true);
  EXPECT_EQ(m.describe("tokens"), "a list of 3 of type string");
  EXPECT_EQ(m.describe("wide"), "uint64 9223372036854775808");
  EXPECT_EQ(m.describe("negative"), "int8 -3");
  EXPECT_EQ(m.describe("yes"), "bool true");
  EXPECT_EQ(m.describe("eps"), "float32 0.5");
  EXPECT_ERROR(
      FileError,
      "'m.gguf': there is no key 'llama.block_counts' (did you mean 'llama.block_count'?); "
      "expected an integer",
      m.integer("llama.block_counts"));
  EXPECT_ERROR(FileError,
               "the key 'general.architecture' should be an integer, and is string 'llama'",
               m.integer("general.architecture"));
  EXPECT_ERROR(FileError, "should be a number, and is string", m.real("general.architecture", 1));
  EXPECT_ERROR(FileError, "should be a string, and is uint32 2", m.text("llama.block_count"));
  EXPECT_ERROR(FileError, "should be a bool, and is uint32 2", m.boolean("llama.block_count"));
  EXPECT_ERROR(FileError, "should be an integer, and is float32 0.5", m.integer("eps"));
  EXPECT_ERROR(FileError, "should be an integer below 2^63", m.integer("wide"));
  EXPECT_ERROR(FileError, "should be finite", m.real("nan"));
  EXPECT_ERROR(FileError, "should be a list of integers, and is uint32 2",
               m.integers("llama.block_count"));
  EXPECT_ERROR(FileError, "should be a list of integers, and is a list of 3 of type string",
               m.integers("tokens"));
  EXPECT_ERROR(FileError, "should be an integer, and is a list", m.integer("numbers"));
  EXPECT_ERROR(FileError, "should be a list of strings, and is a list of 1 of type list",
               m.texts("nested"));
}

TEST(Gguf, RefusesOtherFiles) {
  std::string bytes = small_file().bytes();
  refuse_gguf("its first word", "GG");
  refuse_gguf("begins with 'PK", "PK\x03\x04 and so on");
  refuse_gguf("predecessor", "ggjt" + bytes.substr(4));
  refuse_gguf("git-lfs", "version https://git-lfs.github.com/spec/v1");
  refuse_gguf("it is of version 1; versions 2 and 3 are read", "GGUF" + raw(1u) + bytes.substr(8));
  refuse_gguf("it is of version 4", "GGUF" + raw(4u) + bytes.substr(8));
  refuse_gguf("big-endian", "GGUF" + std::string("\0\0\0\3", 4) + bytes.substr(8));
  const std::size_t padding = 32 - 8;  // behind the last tensor, where nothing is lost
  for (std::size_t cut = 0; cut < bytes.size() - padding; ++cut)
    EXPECT_THROW(parse_gguf(bytes.substr(0, cut)), FileError) << cut;
  refuse_gguf("larger than its tensors", bytes + "more");
}

TEST(Gguf, RefusesCountsThatTheFileCannotHold) {
  GgufWriter w = small_file();
  w.key_count = 1ULL << 60;
  refuse_gguf("claims 1152921504606846976 keys", w.bytes());
  w = small_file();
  w.tensor_count = 1ULL << 60;
  refuse_gguf("claims 1152921504606846976 tensors", w.bytes());
  refuse_gguf("a list of 1152921504606846976 values",
              GgufWriter().list("k", GgufType::uint64, 1ULL << 60, "").bytes());
  refuse_gguf("a list of 1152921504606846976 values",
              GgufWriter().list("k", GgufType::string, 1ULL << 60, "").bytes());
  refuse_gguf("a text at byte",
              GgufWriter().key("k", GgufType::string, raw<std::uint64_t>(1ULL << 60)).bytes());
  refuse_gguf("a size that overflows",
              GgufWriter().tensor_at("x", {1ULL << 40, 1ULL << 40}, 0, 0).bytes());
  refuse_gguf("a size that overflows", GgufWriter().tensor_at("x", {~0ULL}, 0, 0).bytes());
  refuse_gguf("would have 5 axes", GgufWriter().tensor_at("x", {1, 1, 1, 1, 1}, 0, 0).bytes());
  refuse_gguf("takes 1152921504606846976 bytes",
              GgufWriter().tensor_at("x", {1ULL << 58}, 0, 0).bytes());
  std::string deep;
  for (int i = 0; i < 1000; ++i)
    deep += raw(static_cast<std::uint32_t>(GgufType::array)) + raw<std::uint64_t>(1);
  refuse_gguf("nested more than 8 deep", GgufWriter().key("k", GgufType::array, deep).bytes());
}

TEST(Gguf, RefusesBadMetadata) {
  refuse_gguf("'k' is there twice", GgufWriter().integer("k", 1).integer("k", 1).bytes());
  refuse_gguf("would have 0 bytes", GgufWriter().integer("", 1).text("x", "1").bytes());
  refuse_gguf("not valid UTF-8", GgufWriter().integer("\xff", 1).bytes());
  refuse_gguf("a value of type 13", GgufWriter().key("key", GgufType{13}, "12345678").bytes());
  refuse_gguf("the byte 2 for a bool", GgufWriter().key("key", GgufType::boolean, "\x02").bytes());
  for (const std::uint32_t bad : {0u, 24u, 1u << 31})
    refuse_gguf("general.alignment is", small_file().integer("general.alignment", bad).bytes());
  refuse_gguf("'general.alignment' should be an integer",
              small_file().text("general.alignment", "32").bytes());
}

TEST(Gguf, RefusesTensorsThatDoNotFit) {
  const std::string four = floats({1, 2, 3, 4});
  refuse_gguf("'x' is there twice",
              GgufWriter().tensor("x", {4}, 0, four).tensor("x", {4}, 0, four).bytes());
  refuse_gguf("'q' is Q4_K[2, 64], but Q4_K stores blocks of 256",
              GgufWriter().tensor("q", {64, 2}, 12, std::string(144, 0)).bytes());
  refuse_gguf("tensor 'q' takes 136 bytes from byte 0 of the data on, but the file holds only 96",
              GgufWriter().tensor("q", {64, 2}, 8, std::string(96, 0)).bytes());
  GgufWriter w = GgufWriter().tensor("x", {4}, 0, four);
  refuse_gguf("no multiple of the alignment 32", GgufWriter(w).tensor_at("y", {1}, 0, 16).bytes());
  refuse_gguf("overlaps tensor", GgufWriter(w).tensor_at("y", {2}, 0, 0).bytes());
  w.data.resize(96);
  refuse_gguf("no tensor covers bytes 16 to 64", GgufWriter(w).tensor_at("y", {8}, 0, 64).bytes());
  refuse_gguf("larger than its tensors", w.bytes());
  refuse_gguf("not valid UTF-8", GgufWriter().tensor("\xc3", {4}, 0, four).bytes());
}

TEST(Gguf, OtherAlignmentsAreHonoured) {
  GgufWriter w;
  w.alignment = 1;
  w.integer("general.alignment", 1).tensor("b", {3}, 24, "abc").tensor("x", {2}, 0, floats({1, 2}));
  EXPECT_EQ(parse_gguf(w.bytes()).at("x").to_vector<float>(), (std::vector<float>{1, 2}));
  GgufWriter wide;
  wide.alignment = 256;
  wide.integer("general.alignment", 256).tensor("x", {2}, 0, floats({1, 2}));
  wide.tensor("y", {2}, 0, floats({3, 4}));
  EXPECT_EQ(parse_gguf(wide.bytes()).at("y").to_vector<float>(), (std::vector<float>{3, 4}));
}

TEST(Gguf, TypesThatAreNotReadAreRefusedByNameWhenTheyAreAskedFor) {
  GgufWriter w;
  w.tensor("a", {4}, 0, floats({1, 2, 3, 4})).tensor("iq", {256}, 23, std::string(136, 0));
  w.tensor("new", {64}, 99, std::string(77, 0)).tensor("b", {4}, 0, floats({5, 6, 7, 8}));
  const Gguf file = parse_gguf(w.bytes());
  EXPECT_EQ(file.at("b").to_vector<float>(), (std::vector<float>{5, 6, 7, 8}));
  EXPECT_EQ(to_string(file.shape("iq")), "[256]");
  EXPECT_EQ(file.type("new"), "number 99");
  EXPECT_ERROR(FileError,
               "'m.gguf': tensor 'iq' is of type IQ4_XS, which is not read; those that are: F32",
               file.at("iq"));
  EXPECT_ERROR(FileError, "tensor 'new' is of type number 99", file.at("new"));
}

// Every tensor of the reference files, dequantised, to the bit.
TEST(Gguf, EqualsTheGoldensToTheBit) {
  VITRINE_NEEDS_SHARED("reference/gguf");
  const auto folder = test::shared() / "reference/gguf";
  int files = 0, refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename().string());
    ++files;
    const Gguf file = Gguf::open(entry.path());
    EXPECT_GT(file.metadata().integer(std::string(file.metadata().text("general.architecture")) +
                                      ".block_count"),
              0);
    auto beside = entry.path();
    const SafeTensors golden = SafeTensors::open(beside.replace_extension(".golden.safetensors"));
    for (const std::string& name : golden.names()) {
      if (!name.starts_with("tensor/")) continue;
      const std::string own = name.substr(7);
      if (file.type(own).starts_with("IQ")) {
        EXPECT_ERROR(FileError, "is of type IQ4_", file.at(own));
        ++refused;
        continue;
      }
      const Tensor found = file.at(own).to(DType::f32), expected = golden.at(name);
      ASSERT_EQ(to_string(found.shape()), to_string(expected.shape())) << own;
      const auto x = found.to_vector<float>(), y = expected.to_vector<float>();
      for (std::size_t i = 0; i < x.size(); ++i)
        ASSERT_EQ(std::bit_cast<std::uint32_t>(x[i]), std::bit_cast<std::uint32_t>(y[i])) << own;
    }
  }
  EXPECT_EQ(files, 13);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace vitrine

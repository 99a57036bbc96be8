#include "tensor/files/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "tensor/files/file.h"
#include "tensor/files/safetensors_stream.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string length_prefix(std::uint64_t length) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out;
}

std::string bytes_for(const std::string& header, const std::string& data) {
  return length_prefix(header.size()) + header + data;
}

SafeTensors parse(const std::string& bytes) {
  auto owner = std::make_shared<const std::string>(bytes);
  const auto span = std::as_bytes(std::span(*owner));
  return SafeTensors::parse(std::move(owner), span, "model.safetensors");
}

// A file of these bytes is refused with a message that names the file and says `text`.
void refuse(const std::string& text, const std::string& bytes) {
  EXPECT_THAT(
      test::message_of<FileError>([&] { parse(bytes); }),
      AllOf(HasSubstr("'model.safetensors' is not a valid safetensors file: "), HasSubstr(text)));
}
void refuse_header(const std::string& text, const std::string& header,
                   const std::string& data = "") {
  refuse(text, bytes_for(header, data));
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

const std::string kEight(8, '\0');
const std::string kSixteen(16, '\0');

TEST(SafeTensors, ReadsAFileBuiltByHand) {
  const float values[6] = {1, 2, 3, 4, 5, 6};
  const std::string data(reinterpret_cast<const char*>(values), sizeof(values));
  const SafeTensors file = parse(bytes_for(
      "{\"__metadata__\":{\"format\":\"pt\",\"\":\"empty key\"}," +
          entry("b", "F32", "[2]", "[16,24]") + "," + entry("a", "F32", "[2,2]", "[0,16]") + "}   ",
      data));
  EXPECT_THAT(file.names(), ElementsAre("a", "b")) << "in the order of the data";
  EXPECT_EQ(file.at("a").to_string(), "f32[2, 2] [[1, 2], [3, 4]]");
  EXPECT_EQ(file.at("b").to_string(), "f32[2] [5, 6]");
  EXPECT_TRUE(file.contains("a") && !file.contains("c"));
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"", "empty key"}}));
  EXPECT_EQ(file.file(), "model.safetensors");
}

TEST(SafeTensors, EveryDtypeAtEveryAlignment) {
  struct Case {
    const char* stored;
    std::string data;
    const char* expected;
  };
  const auto raw = [](auto... values) {
    std::string out;
    ((out += std::string(reinterpret_cast<const char*>(&values), sizeof(values))), ...);
    return out;
  };
  const std::vector<Case> cases{
      {"F64", raw(1.5, -2.0), "f64[2] [1.5, -2]"},
      {"F32", raw(1.5f, -2.f), "f32[2] [1.5, -2]"},
      {"F16", raw(std::uint16_t{0x3e00}, std::uint16_t{0xc000}), "f16[2] [1.5, -2]"},
      {"BF16", raw(std::uint16_t{0x3fc0}, std::uint16_t{0xc000}), "bf16[2] [1.5, -2]"},
      {"I64", raw(std::int64_t{-1}, std::int64_t{1} << 40), "i64[2] [-1, 1099511627776]"},
      {"I32", raw(std::int32_t{-1}, std::int32_t{7}), "i32[2] [-1, 7]"},
      {"BOOL", raw(true, false), "bool[2] [true, false]"},
      {"U32", raw(std::uint32_t{4294967295}, std::uint32_t{7}), "i64[2] [4294967295, 7]"},
      {"I16", raw(std::int16_t{-1}, std::int16_t{7}), "i32[2] [-1, 7]"},
      {"U16", raw(std::uint16_t{65535}, std::uint16_t{7}), "i32[2] [65535, 7]"},
      {"I8", raw(std::int8_t{-1}, std::int8_t{7}), "i32[2] [-1, 7]"},
      {"U8", raw(std::uint8_t{255}, std::uint8_t{7}), "i32[2] [255, 7]"},
  };
  for (const Case& c : cases) {
    for (std::size_t pad = 0; pad < 8; ++pad) {
      const std::string header =
          "{" + entry("x", c.stored, "[2]", "[0," + std::to_string(c.data.size()) + "]") + "}" +
          std::string(pad, ' ');
      EXPECT_EQ(parse(bytes_for(header, c.data)).at("x").to_string(), c.expected);
    }
  }
}

TEST(SafeTensors, EmptyThingsAreFine) {
  EXPECT_TRUE(parse(bytes_for("{}", "")).names().empty());
  const SafeTensors file = parse(bytes_for("{" + entry("none", "F32", "[0,3]", "[0,0]") + "," +
                                               entry("one", "F64", "[]", "[0,8]") + "," +
                                               entry("last", "I8", "[2,0]", "[8,8]") + "}",
                                           kEight));
  EXPECT_THAT(file.names(), ElementsAre("none", "one", "last"));
  EXPECT_EQ(file.at("none").shape(), (Shape{0, 3}));
  EXPECT_EQ(file.at("one").item<double>(), 0);
  EXPECT_EQ(file.at("last").dtype(), DType::i32);
}

TEST(SafeTensors, NamesMayBeAnyText) {
  const SafeTensors file =
      parse(bytes_for("{" + entry("слой \\u00e9\\n", "I8", "[1]", "[0,1]") + "}", "\5"));
  EXPECT_THAT(file.names(), ElementsAre("слой é\n"));
  EXPECT_EQ(file.at("слой é\n").item<std::int32_t>(), 5);
  EXPECT_ERROR(FileError, "(did you mean 'слой é\\x0a'?)", file.at("слой é"));
}

TEST(SafeTensors, UnknownNamesSuggestNearOnes) {
  const SafeTensors file =
      parse(bytes_for("{" + entry("h.0.attn.c_attn.weight", "I8", "[0]", "[0,0]") + "," +
                          entry("h.0.attn.c_attn.bias", "I8", "[0]", "[0,0]") + "," +
                          entry("h.1.attn.c_attn.weight", "I8", "[0]", "[0,0]") + "," +
                          entry("wte", "I8", "[0]", "[0,0]") + "}",
                      ""));
  EXPECT_EQ(
      test::message_of<FileError>([&] { static_cast<void>(file.at("h.0.attn.c_atn.weight")); }),
      "'model.safetensors' has no tensor 'h.0.attn.c_atn.weight' (did you mean "
      "'h.0.attn.c_attn.weight', "
      "'h.1.attn.c_attn.weight' or 'h.0.attn.c_attn.bias'?); it holds 4 tensors");
  EXPECT_EQ(test::message_of<FileError>([&] { static_cast<void>(file.at("optimizer")); }),
            "'model.safetensors' has no tensor 'optimizer'; it holds 4 tensors");
}

TEST(SafeTensors, TensorsOutliveTheFileObject) {
  const test::TemporaryFolder folder;
  save_safetensors(folder / "x", {{"a", Tensor::of({2}, {1.f, 2.f})}});
  Tensor a;
  {
    const SafeTensors file = SafeTensors::open(folder / "x");
    a = file.at("a");
    EXPECT_EQ(a.view().data, file.at("a").view().data) << "no copy";
  }
  EXPECT_EQ(a.to_string(), "f32[2] [1, 2]");
}

// ---- malformed files, one by one ----

TEST(SafeTensorsMalformed, LengthOfTheHeader) {
  refuse("it has 0 bytes", "");
  refuse("it has 7 bytes, and the length of its header alone takes 8", std::string(7, '\0'));
  refuse("its header must begin with '{'", length_prefix(0));
  refuse("its header would have 3 bytes, but only 2 follow; it may be truncated",
         length_prefix(3) + "{}");
  refuse("more than the 100000000 allowed", length_prefix(100'000'001) + "{}");
  refuse("more than the 100000000 allowed", length_prefix(~std::uint64_t{0}) + "{}");
  refuse("more than the 100000000 allowed", "PK\3\4a zip archive with a model in it");
}

TEST(SafeTensorsMalformed, NotAnObject) {
  refuse_header("must begin with '{'", "[]");
  refuse_header("must begin with '{'", " {}");
  refuse_header("must begin with '{'", "\xef\xbb\xbf{}");
  refuse_header("not valid JSON", "{");
  refuse_header("not valid JSON", "{}x");
  refuse_header("not valid JSON", "{} {}");
  refuse_header("not valid JSON", "{\"a\":}");
  refuse_header("not valid JSON", "{" + entry("a", "I8", "[0]", "[0,0]") + ",}");
  refuse_header("not valid JSON", "{/* a comment */}");
  refuse_header("not valid JSON", "{\"\xff\":{}}");
  refuse_header("has a zero at byte 2", std::string("{}\0", 3));
  refuse_header("has a zero at byte 2", std::string("{}\0garbage", 10));
}

TEST(SafeTensorsMalformed, MessagesAreUtf8) {
  refuse_header("last read: '11\xef\xbf\xbd'", "{" + entry("a", "I8", "[11\xdd", "[0,0]") + "}");
}

TEST(SafeTensorsMalformed, RepeatedKeys) {
  const std::string a = entry("a", "I8", "[0]", "[0,0]");
  refuse_header("the header has the key 'a' twice", "{" + a + "," + a + "}");
  refuse_header("the header has the key 'a' twice", "{" + a + ",\"\\u0061\":{}}");
  refuse_header("the header has the key '__metadata__' twice",
                "{\"__metadata__\":{},\"__metadata__\":{}}");
  refuse_header("__metadata__ has the key 'k' twice",
                "{\"__metadata__\":{\"k\":\"1\",\"k\":\"1\"}}");
  refuse_header("tensor 'a' has the key 'dtype' twice",
                "{\"a\":{\"dtype\":\"I8\",\"dtype\":\"I8\"}}");
  refuse_header("tensor 'a' has the key 'shape' twice", "{\"a\":{\"shape\":[],\"shape\":[]}}");
}

TEST(SafeTensorsMalformed, TypesOfEntries) {
  refuse_header("tensor 'a' must be an object with dtype, shape and data_offsets, not an array",
                "{\"a\":[]}");
  refuse_header("tensor 'a' must be an object with dtype, shape and data_offsets, not null",
                "{\"a\":null}");
  refuse_header("tensor 'a' must be an object with dtype, shape and data_offsets, not a number",
                "{\"a\":1}");
  refuse_header("tensor 'a' has no dtype", "{\"a\":{\"shape\":[],\"data_offsets\":[0,0]}}");
  refuse_header("tensor 'a' has no shape", "{\"a\":{\"dtype\":\"I8\",\"data_offsets\":[0,0]}}");
  refuse_header("tensor 'a' has no data_offsets", "{\"a\":{\"dtype\":\"I8\",\"shape\":[0]}}");
  refuse_header("tensor 'a' has the key 'stride'; expected dtype, shape and data_offsets",
                "{\"a\":{\"stride\":1}}");
  refuse_header("tensor 'a' needs a string for dtype, not a number", "{\"a\":{\"dtype\":5}}");
  refuse_header("tensor 'a' needs a string for dtype, not an object", "{\"a\":{\"dtype\":{}}}");
  refuse_header("tensor 'a' needs an array of whole numbers for shape, not a string",
                "{\"a\":{\"shape\":\"2\"}}");
  refuse_header("tensor 'a' needs an array of whole numbers for data_offsets, not a boolean",
                "{\"a\":{\"data_offsets\":true}}");
}

TEST(SafeTensorsMalformed, Numbers) {
  refuse_header("tensor 'a' has a negative number in its shape", "{\"a\":{\"shape\":[-1]}}");
  refuse_header("tensor 'a' has the number 1.5 in its shape; expected whole numbers",
                "{\"a\":{\"shape\":[1.5]}}");
  refuse_header("tensor 'a' has the number 1e2 in its shape", "{\"a\":{\"shape\":[1e2]}}");
  refuse_header("tensor 'a' has the number 18446744073709551616 in its shape",
                "{\"a\":{\"shape\":[18446744073709551616]}}");
  refuse_header("tensor 'a' has an array in its shape", "{\"a\":{\"shape\":[[1]]}}");
  refuse_header("tensor 'a' has a string in its shape", "{\"a\":{\"shape\":[\"1\"]}}");
  refuse_header("tensor 'a' has a negative number in its data_offsets",
                "{\"a\":{\"data_offsets\":[-8,0]}}");
  refuse_header("tensor 'a' has the number 0.0 in its data_offsets",
                "{\"a\":{\"data_offsets\":[0.0,8]}}");
  refuse_header("tensor 'a' has null in its data_offsets", "{\"a\":{\"data_offsets\":[null]}}");
  refuse_header("tensor 'a' has 1 data_offsets; expected 2", "{\"a\":{\"data_offsets\":[0]}}");
  refuse_header("tensor 'a' has 3 data_offsets; expected 2", "{\"a\":{\"data_offsets\":[0,1,2]}}");
}

TEST(SafeTensorsMalformed, SizesThatOverflow) {
  for (const char* shape : {"[4611686018427387904,4]", "[4294967296,4294967296]",
                            "[18446744073709551615]", "[0,4611686018427387904,4611686018427387904]",
                            "[4611686018427387904,4611686018427387904,0]"}) {
    refuse_header("whose size overflows", "{" + entry("a", "F32", shape, "[0,0]") + "}");
  }
  refuse_header("more than 8 axes", "{" + entry("a", "I8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") + "}",
                "x");
}

TEST(SafeTensorsMalformed, Offsets) {
  refuse_header("tensor 'a' begins at byte 8 of the data, after its end at 0",
                "{" + entry("a", "F32", "[2]", "[8,0]") + "}", kEight);
  refuse_header(
      "tensor 'a' ends at byte 16 of the data, but the file holds only 8; it may be truncated",
      "{" + entry("a", "F32", "[4]", "[0,16]") + "}", kEight);
  refuse_header("tensor 'a' ends at byte 18446744073709551615",
                "{" + entry("a", "F32", "[2]", "[18446744073709551607,18446744073709551615]") + "}",
                kEight);
  refuse_header("tensor 'a' takes 8 bytes as F32[2], but its data_offsets [0, 16] span 16",
                "{" + entry("a", "F32", "[2]", "[0,16]") + "}", kSixteen);
  refuse_header("tensor 'a' takes 0 bytes as F32[2, 0]",
                "{" + entry("a", "F32", "[2,0]", "[0,8]") + "}", kEight);
  refuse_header("tensor 'a' has the unknown dtype 'F9'; known are F64, F32",
                "{" + entry("a", "F9", "[8]", "[0,8]") + "}", kEight);
  refuse_header("tensor 'a' has the unknown dtype 'f32'",
                "{" + entry("a", "f32", "[2]", "[0,8]") + "}", kEight);
}

// Types that no tensor of ours has: what is beside them is read.
TEST(SafeTensors, OtherTypesAreRefusedWhenTheyAreAskedFor) {
  for (const auto& [type, size] : std::vector<std::pair<std::string, int>>{
           {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U64", 8}, {"C64", 8}}) {
    const std::string other = entry("q", type, "[1]", "[4," + std::to_string(4 + size) + "]");
    const SafeTensors file =
        parse(bytes_for("{" + entry("x", "F32", "[1]", "[0,4]") + "," + other + "}",
                        std::string(static_cast<std::size_t>(4 + size), '\0')));
    EXPECT_EQ(file.at("x").at<float>({0}), 0.f);
    EXPECT_ERROR(FileError, "tensor 'q' is of type " + type + ", which is not read", file.at("q"));
  }
}

TEST(SafeTensorsMalformed, OverlapsAndHoles) {
  const std::string a = entry("a", "F32", "[2]", "[0,8]");
  refuse_header("tensor 'b' at bytes 4 to 12 of the data overlaps tensor 'a', which ends at 8",
                "{" + a + "," + entry("b", "F32", "[2]", "[4,12]") + "}", kSixteen);
  refuse_header("tensor 'b' at bytes 0 to 8 of the data overlaps tensor 'a'",
                "{" + a + "," + entry("b", "F32", "[2]", "[0,8]") + "}", kEight);
  refuse_header("tensor 'b' at bytes 4 to 4 of the data overlaps tensor 'a'",
                "{" + a + "," + entry("b", "F32", "[0]", "[4,4]") + "}", kEight);
  refuse_header("no tensor covers bytes 8 to 12 of the data, in front of tensor 'b'",
                "{" + a + "," + entry("b", "F32", "[1]", "[12,16]") + "}", kSixteen);
  refuse_header("no tensor covers bytes 0 to 4 of the data, in front of tensor 'b'",
                "{" + entry("b", "F32", "[1]", "[4,8]") + "}", kEight);
  refuse_header("it is larger than its tensors: they end at byte 8 of the data, which has 16",
                "{" + a + "}", kSixteen);
  refuse_header("it is larger than its tensors: they end at byte 0 of the data, which has 8", "{}",
                kEight);
}

TEST(SafeTensorsMalformed, Metadata) {
  refuse_header("__metadata__ must be an object of strings, not null", "{\"__metadata__\":null}");
  refuse_header("__metadata__ must be an object of strings, not a string",
                "{\"__metadata__\":\"x\"}");
  refuse_header("__metadata__ must map strings to strings, but 'k' is a number",
                "{\"__metadata__\":{\"k\":1}}");
  refuse_header("__metadata__ must map strings to strings, but 'k' is an object",
                "{\"__metadata__\":{\"k\":{}}}");
  refuse_header("__metadata__ must map strings to strings, but 'k' is null",
                "{\"__metadata__\":{\"k\":null}}");
}

TEST(SafeTensorsMalformed, DeepNesting) {
  std::string deep = "{\"a\":";
  for (int i = 0; i < 1'000'000; ++i) deep += "[";
  refuse_header("must be an object", deep);
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"a\":";
  refuse_header("has the key 'a'; expected dtype", objects);
}

TEST(SafeTensorsMalformed, HugeAndWildNamesStayReadable) {
  refuse_header("tensor '" + std::string(200, 'n') + "...' has no dtype",
                "{\"" + std::string(5000, 'n') + "\":{}}");
  refuse_header("tensor '\\x1b[31m\\x07' has no dtype", "{\"\\u001b[31m\\u0007\":{}}");
}

TEST(SafeTensorsMalformed, BooleansThatAreNot) {
  const SafeTensors file =
      parse(bytes_for("{" + entry("m", "BOOL", "[3]", "[0,3]") + "}", std::string("\0\1\2", 3)));
  EXPECT_ERROR(FileError, "tensor 'm' is BOOL, but its element 2 is the byte 2; expected 0 or 1",
               file.at("m"));
}

TEST(SafeTensorsMalformed, EveryTruncationOfAGoodFile) {
  const test::TemporaryFolder folder;
  save_safetensors(folder / "x", {{"a", Tensor::zeros({2, 2}, DType::f32)},
                                  {"b", Tensor::zeros({3}, DType::i64)}});
  const std::string good = read_text(folder / "x");
  parse(good);
  for (std::size_t n = 0; n < good.size(); ++n)
    EXPECT_THROW(parse(good.substr(0, n)), FileError) << n;
  EXPECT_THROW(parse(good + "x"), FileError);
}

// ---- writing ----

TEST(SaveSafeTensors, RoundTrips) {
  const test::TemporaryFolder folder;
  NamedTensors tensors;
  for (const DType t :
       {DType::boolean, DType::f16, DType::f32, DType::i64, DType::bf16, DType::f64, DType::i32}) {
    for (const Shape& shape :
         {Shape{}, Shape{3}, Shape{2, 3}, Shape{0, 4}, Shape{1, 2, 1, 3, 1, 1, 1, 1}}) {
      std::vector<double> values(static_cast<std::size_t>(numel(shape)));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i) - 1.5;
      tensors.emplace_back(std::string(name_of(t)) + to_string(shape),
                           Tensor::of<double>(shape, values).to(t));
    }
  }
  tensors.emplace_back("transposed",
                       Tensor::of({2, 3}, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).transpose(0, 1));
  tensors.emplace_back("a \"quoted\" \\ name\n", Tensor::scalar(1.f));
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"note", "\"é\""}};
  save_safetensors(folder / "x.safetensors", tensors, metadata);

  const SafeTensors file = SafeTensors::open(folder / "x.safetensors");
  EXPECT_EQ(file.metadata(), metadata);
  EXPECT_EQ(file.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor back = file.at(name);
    EXPECT_EQ(back.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(back.shape(), tensor.shape()) << name;
    EXPECT_EQ(back.to_vector<double>(), tensor.to_vector<double>()) << name;
  }
}

TEST(SaveSafeTensors, AlignsTheDataAndKeepsTheOrderWithinASize) {
  const test::TemporaryFolder folder;
  save_safetensors(folder / "x", {{"mask", Tensor::zeros({3}, DType::boolean)},
                                  {"late", Tensor::zeros({1}, DType::f32)},
                                  {"early", Tensor::zeros({1}, DType::i32)},
                                  {"half", Tensor::zeros({5}, DType::f16)},
                                  {"wide", Tensor::zeros({1}, DType::f64)}});
  const SafeTensors file = SafeTensors::open(folder / "x");
  EXPECT_THAT(file.names(), ElementsAre("wide", "late", "early", "half", "mask"));
  const std::string bytes = read_text(folder / "x");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ((8 + length) % 64, 0u);
  EXPECT_EQ(bytes.size(), 8 + length + 8 + 4 + 4 + 10 + 3);
  // All but the empty ones lie in the mapped file itself.
  const std::byte* wide = file.at("wide").view().data;
  EXPECT_EQ(file.at("late").view().data, wide + 8);
  EXPECT_EQ(file.at("half").view().data, wide + 16);
  EXPECT_EQ(file.at("mask").view().data, wide + 26);
}

TEST(SaveSafeTensors, RefusesWhatTheFormatCannotHold) {
  const test::TemporaryFolder folder;
  const Tensor x = Tensor::scalar(1.f);
  EXPECT_ERROR(SaveError, "two tensors called 'a'",
               save_safetensors(folder / "x", {{"a", x}, {"a", x}}));
  EXPECT_ERROR(SaveError, "'__metadata__'", save_safetensors(folder / "x", {{"__metadata__", x}}));
  EXPECT_ERROR(SaveError, "tensor 'a' is undefined",
               save_safetensors(folder / "x", {{"a", Tensor()}}));
  EXPECT_ERROR(SaveError, "not valid UTF-8", save_safetensors(folder / "x", {{"\xff", x}}));
  EXPECT_ERROR(SaveError, "not valid UTF-8",
               save_safetensors(folder / "x", {{"a", x}}, {{"k", "\xff"}}));
  EXPECT_TRUE(folder.names().empty());
}

// The same bytes in pieces as at once; too many, too few, and a writer that gives up leave nothing.
TEST(SaveSafeTensors, TensorsThatAreMadeWhileTheyAreWritten) {
  const test::TemporaryFolder folder;
  const Tensor x = Tensor::of<float>({3, 2}, {1, 2, 3, 4, 5, 6}),
               n = Tensor::of<std::int64_t>({2}, {7, 8});
  save_safetensors(folder / "whole", {{"x", x}, {"n", n}}, {{"k", "v"}});
  const auto pieces = [](const Tensor& t, std::int64_t bytes) {
    return [t, bytes](const Sink& sink) {
      for (std::int64_t i = 0; i < bytes; i += 4) sink({t.view().data + i, 4});
    };
  };
  stream_safetensors(
      folder / "pieces",
      {{"x", DType::f32, {3, 2}, pieces(x, 24)}, {"n", DType::i64, {2}, pieces(n, 16)}},
      {{"k", "v"}});
  EXPECT_EQ(read_text(folder / "pieces"), read_text(folder / "whole"));
  const auto one = [&](const std::function<void(const Sink&)>& write) {
    stream_safetensors(folder / "x", {{"x", DType::f32, {3, 2}, write}});
  };
  EXPECT_ERROR(SaveError, "tensor 'x' gave 20 bytes of 24", one(pieces(x, 20)));
  EXPECT_ERROR(SaveError, "tensor 'x' gave 28 bytes of 24", one([&](const Sink& sink) {
                 pieces(x, 24)(sink);
                 pieces(x, 4)(sink);
               }));
  EXPECT_ERROR(NumericError, "a row", one([](const Sink&) { throw NumericError("a row"); }));
  EXPECT_FALSE(std::filesystem::exists(folder / "x"));
}

TEST(SaveSafeTensors, AFailureLeavesTheOldFile) {
  const test::TemporaryFolder folder;
  save_safetensors(folder / "x", {{"a", Tensor::scalar(1.f)}});
  const std::string old = read_text(folder / "x");
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto signal = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{50'000, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  const std::string message = test::message_of<SaveError>([&] {
    save_safetensors(folder / "x", {{"a", Tensor::zeros({1000, 1000}, DType::f32)}});
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, signal);
  EXPECT_THAT(message, AllOf(HasSubstr("/x': File too large"), HasSubstr("untouched")));
  EXPECT_EQ(read_text(folder / "x"), old);
  EXPECT_THAT(folder.names(), ElementsAre("x"));
}

TEST(SaveSafeTensors, MayReplaceTheFileItReadsFrom) {
  const test::TemporaryFolder folder;
  save_safetensors(folder / "x", {{"a", Tensor::of({2}, {1.f, 2.f})}});
  const SafeTensors file = SafeTensors::open(folder / "x");
  save_safetensors(folder / "x", {{"b", file.at("a").to(DType::f64)}, {"a", file.at("a")}});
  EXPECT_EQ(SafeTensors::open(folder / "x").at("b").to_string(), "f64[2] [1, 2]");
  EXPECT_EQ(file.at("a").to_string(), "f32[2] [1, 2]") << "the old mapping is still whole";
}

}  // namespace
}  // namespace vitrine

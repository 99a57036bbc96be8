#include "tensor/files/npy.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tensor/files/file.h"
#include "tensor/torch/zip.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine {
namespace {

template <class T>
std::string bytes_of(std::vector<T> values) {
  std::string out(values.size() * sizeof(T), '\0');
  if (!values.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

// The bytes of a file: magic, version, little-endian header length, header, data. No padding, so
// data may be unaligned.
std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  for (std::size_t i = 0; i < length_bytes; ++i)
    out += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return out + header + data;
}

class Npy : public ::testing::Test {
 protected:
  Tensor load(const std::string& bytes) {
    write_text(folder_ / "x.npy", bytes);
    return load_npy(folder_ / "x.npy");
  }
  test::TemporaryFolder folder_;
};

const std::vector<float> kSix{1, 2, 3, 4, 5, 6};

TEST_F(Npy, ReadsEveryVersionAndAlignment) {
  for (int version = 1; version <= 3; ++version) {
    for (int pad = 0; pad < 8; ++pad) {
      const Tensor x = load(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" +
                                    std::string(pad, ' ') + "\n",
                                bytes_of(kSix), version));
      EXPECT_EQ(x.to_string(), "f32[2, 3] [[1, 2, 3], [4, 5, 6]]");
    }
  }
}

TEST_F(Npy, ReadsEveryDtype) {
  const auto header = [](const std::string& descr) {
    return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (2,), }\n";
  };
  EXPECT_EQ(load(npy(header("<f4"), bytes_of<float>({1.5f, -2}))).to_string(), "f32[2] [1.5, -2]");
  EXPECT_EQ(load(npy(header("<f8"), bytes_of<double>({1.5, -2}))).to_string(), "f64[2] [1.5, -2]");
  EXPECT_EQ(load(npy(header("<f2"), bytes_of<std::uint16_t>({0x3e00, 0xc000}))).to_string(),
            "f16[2] [1.5, -2]");
  EXPECT_EQ(load(npy(header("<i4"), bytes_of<std::int32_t>({7, -8}))).to_string(),
            "i32[2] [7, -8]");
  EXPECT_EQ(load(npy(header("<i8"), bytes_of<std::int64_t>({7, -8}))).to_string(),
            "i64[2] [7, -8]");
  EXPECT_EQ(load(npy(header("|b1"), std::string("\1\0", 2))).to_string(), "bool[2] [true, false]");
}

TEST_F(Npy, ReadsFortranOrderScalarsAndEmpties) {
  const Tensor fortran =
      load(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", bytes_of(kSix)));
  EXPECT_EQ(fortran.to_string(), "f32[2, 3] [[1, 3, 5], [2, 4, 6]]");
  EXPECT_TRUE(fortran.is_contiguous());
  EXPECT_EQ(
      load(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", bytes_of<float>({5})))
          .to_string(),
      "f32[] 5");
  EXPECT_EQ(
      load(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0), }\n", "")).to_string(),
      "f32[2, 0] []");
  EXPECT_EQ(load(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 0), }\n", "")).shape(),
            (Shape{2, 0}));
  EXPECT_EQ(load(npy("{\"shape\":(3),\"descr\":\"<f4\",\"fortran_order\":False}",
                     bytes_of<float>({1, 2, 3})))
                .shape(),
            (Shape{3}));
}

TEST_F(Npy, RefusesWhatItCannotRead) {
  const auto refuse = [&](const std::string& text, const std::string& bytes) {
    EXPECT_ERROR(FileError, text, load(bytes));
    EXPECT_ERROR(FileError, "/x.npy' is not an npy file that can be read", load(bytes));
  };
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";
  const std::string data = bytes_of(kSix);
  refuse("does not begin with \\x93NUMPY", "");
  refuse("does not begin with \\x93NUMPY", "PK\3\4 something else");
  refuse("does not begin with \\x93NUMPY", "\x93NUMPY");
  refuse("format version is 4", npy(good, data, 4));
  refuse("format version is 0", npy(good, data, 0));
  refuse("truncated inside its header", npy(good, data).substr(0, 9));
  refuse("truncated inside its header", npy(good, data).substr(0, 40));
  refuse("takes 24 bytes, but 23 follow", npy(good, data.substr(1)));
  refuse("takes 24 bytes, but 25 follow", npy(good, data + "x"));
  const auto with = [&](const std::string& descr, const std::string& order,
                        const std::string& shape) {
    return npy("{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + "}",
               data);
  };
  refuse("its elements are '>f4'", with("'>f4'", "False", "(2, 3)"));
  refuse("its elements are '<c8'", with("'<c8'", "False", "(2, 3)"));
  refuse("its elements are '|O'", with("'|O'", "False", "(2, 3)"));
  refuse("records", with("[('a', '<f4')]", "False", "(2, 3)"));
  refuse("expected True or False", with("'<f4'", "0", "(2, 3)"));
  refuse("a size, 0 or more", with("'<f4'", "False", "(2, -3)"));
  refuse("a size, 0 or more", with("'<f4'", "False", "(2, x)"));
  refuse("a size, 0 or more", with("'<f4'", "False", "(2, 99999999999999999999)"));
  refuse("expected ')'", with("'<f4'", "False", "(2 3)"));
  refuse("expected '('", with("'<f4'", "False", "[2, 3]"));
  refuse("overflows", with("'<f4'", "False", "(4611686018427387904, 4611686018427387904, 0)"));
  refuse("more than 8 axes", with("'<f4'", "False", "(1, 1, 1, 1, 1, 1, 1, 2, 3)"));
  refuse("repeated key 'shape'", with("'<f4'", "False", "(2, 3), 'shape': (2, 3)"));
  refuse("unexpected or repeated key 'x'", with("'<f4'", "False", "(2, 3), 'x': (2, 3)"));
  refuse("lacks one of descr", npy("{'descr': '<f4', 'shape': (2, 3)}", data));
  refuse("expected '{'", npy("", data));
  refuse("expected a quoted word", npy("{", data));
  refuse("a closing quote", npy("{'descr", data));
  refuse("nothing more", npy(good + "x", data));
  refuse(
      "boolean element 3 is the byte 2",
      npy("{'descr': '|b1', 'fortran_order': False, 'shape': (4,)}", std::string("\0\1\1\2", 4)));
  EXPECT_ERROR(FileError, "has no such file", load_npy(folder_ / "y.npy"));
}

TEST_F(Npy, WritesTheBytesNumPyWrites) {
  save_npy(folder_ / "x.npy", Tensor::of({2, 3}, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f}));
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  header += std::string(128 - 10 - 1 - header.size(), ' ') + "\n";
  EXPECT_EQ(read_text(folder_ / "x.npy"), npy(header, bytes_of(kSix)));
}

TEST_F(Npy, RoundTrips) {
  for (const DType t :
       {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    for (const Shape& shape :
         {Shape{}, Shape{3}, Shape{2, 3}, Shape{0, 4}, Shape{1, 2, 1, 3, 1, 1, 1, 2}}) {
      std::vector<double> values(static_cast<std::size_t>(numel(shape)));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i) - 1.5;
      const Tensor x = Tensor::of<double>(shape, values).to(t);
      save_npy(folder_ / "x.npy", x);
      const Tensor back = load_npy(folder_ / "x.npy");
      EXPECT_EQ(back.dtype(), t == DType::bf16 ? DType::f32 : t);
      EXPECT_EQ(back.shape(), shape);
      EXPECT_EQ(back.to_vector<double>(), x.to_vector<double>());
    }
  }
  const Tensor view = Tensor::of({2, 3}, {1.f, 2.f, 3.f, 4.f, 5.f, 6.f}).transpose(0, 1);
  save_npy(folder_ / "x.npy", view);
  EXPECT_EQ(load_npy(folder_ / "x.npy").to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_ERROR(SaveError, "undefined", save_npy(folder_ / "x.npy", Tensor()));
}

// ---- archives -----------------------------------------------------------------------------------
TEST_F(Npy, ArchivesHoldEachTensorByItsName) {
  const NamedTensors tensors = {
      {"metric/clean", Tensor::full({}, DType::f32, 0.5)},
      {"x", Tensor::of({2, 3}, std::vector<double>{1, 2, 3, 4, 5, 6})},
      {"empty", Tensor::empty({0, 4}, DType::i64)},
      {"halves", Tensor::of({2}, std::vector<double>{0.5, -2}).to(DType::bf16)}};
  save_npz(folder_ / "x.npz", tensors);
  const std::string bytes = read_text(folder_ / "x.npz");
  const auto entries = torch::read_zip(std::as_bytes(std::span(bytes)), "x.npz");
  ASSERT_EQ(entries.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto entry = entries.find(name + ".npy");
    ASSERT_NE(entry, entries.end()) << name;
    const auto& data = entry->second;
    const Tensor read = load({reinterpret_cast<const char*>(data.data()), data.size()});
    EXPECT_EQ(read.shape(), tensor.shape()) << name;
    EXPECT_EQ(read.dtype(), tensor.dtype() == DType::bf16 ? DType::f32 : tensor.dtype());
    EXPECT_EQ(read.to_vector<double>(), tensor.to_vector<double>()) << name;
  }
  save_npz(folder_ / "same.npz", tensors);
  EXPECT_EQ(read_text(folder_ / "same.npz"), bytes);  // nothing of the day or the machine
}

TEST_F(Npy, ArchivesThatCannotBeWrittenAreRefused) {
  const Tensor x = Tensor::full({1}, DType::f32, 1);
  EXPECT_ERROR(SaveError, "two tensors are called 'x'",
               save_npz(folder_ / "x.npz", {{"x", x}, {"x", x}}));
  EXPECT_ERROR(SaveError, "the tensor is undefined",
               save_npz(folder_ / "x.npz", {{"x", Tensor()}}));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "x.npz"));
}

}  // namespace
}  // namespace vitrine

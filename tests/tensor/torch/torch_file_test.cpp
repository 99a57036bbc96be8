#include "tensor/torch/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <filesystem>
#include <memory>
#include <string>

#include "tensor/files/file.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/temporary_folder.h"
#include "tests/tensor/torch/torch_writer.h"

namespace vitrine {
namespace {

namespace fs = std::filesystem;
namespace py = test::py;
using test::TorchWriter;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TorchFile parse_torch(const std::string& bytes) {
  auto owner = std::make_shared<const std::string>(bytes);
  const auto span = std::as_bytes(std::span(*owner));
  return TorchFile::parse(std::move(owner), span, "m.bin");
}
void refuse_torch(const std::string& text, const std::string& bytes) {
  EXPECT_THAT(test::message_of<FileError>([&] { parse_torch(bytes); }),
              AllOf(HasSubstr("'m.bin' is not a valid PyTorch checkpoint: "), HasSubstr(text)));
}

std::string float_bytes(const std::vector<float>& values) {
  std::string out;
  for (const float v : values) out += test::number(v);
  return out;
}

// "a": a matrix, "b": its transpose with a hole, over one storage.
TorchWriter small_checkpoint() {
  const std::string storage = py::storage("FloatStorage", "0", 7);
  return {.object = py::dict({{"a", py::tensor(storage, 0, {2, 3}, {3, 1})},
                              {"b", py::tensor(storage, 1, {2, 2}, {1, 3})},
                              {"epoch", py::integer(3)}}),
          .storages = {{"0", float_bytes({1, 2, 3, 4, 5, 6, 7})}}};
}

void expect_small(const TorchFile& file) {
  EXPECT_THAT(file.names(), ElementsAre("a", "b"));
  EXPECT_TRUE(file.contains("a") && !file.contains("epoch"));
  EXPECT_EQ(to_string(file.at("a").shape()), "[2, 3]");
  EXPECT_THAT(file.at("a").to_vector<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(file.at("b").to_vector<float>(), ElementsAre(2, 5, 3, 6));
}

TEST(TorchFile, ReadsBothContainers) {
  TorchWriter w = small_checkpoint();
  expect_small(parse_torch(w.bytes()));
  expect_small(parse_torch(w.legacy_bytes()));
  w.wide = true;
  expect_small(parse_torch(w.bytes()));
  w.byteorder = "";
  expect_small(parse_torch(w.bytes()));
  w.byteorder = "big";
  refuse_torch("byteorder is 'big'", w.bytes());
  refuse_torch("little-endian", w.legacy_bytes());
}

TEST(TorchFile, IsMappedWithoutACopyWhereItIsAligned) {
  TorchWriter w = small_checkpoint();
  const test::TemporaryFolder folder;
  write_text(folder / "m.bin", w.bytes());
  const TorchFile file = TorchFile::open(folder / "m.bin");
  EXPECT_TRUE(file.at("a").is_read_only());
  EXPECT_EQ(file.at("a").data<float>() + 1, file.at("b").data<float>());
  w.alignment = 1;
  w.storages = {{"odd", "x"}, {"0", w.storages[0].second}};
  expect_small(parse_torch(w.bytes()));
  EXPECT_ERROR(FileError, "has no such file", TorchFile::open(folder / "n.bin"));
  EXPECT_ERROR(FileError, "has no tensor 'aa'", file.at("aa"));
}

TEST(TorchFile, ReadsEveryType) {
  const std::pair<const char*, std::pair<int, DType>> types[] = {
      {"DoubleStorage", {8, DType::f64}}, {"FloatStorage", {4, DType::f32}},
      {"HalfStorage", {2, DType::f16}},   {"BFloat16Storage", {2, DType::bf16}},
      {"LongStorage", {8, DType::i64}},   {"IntStorage", {4, DType::i32}},
      {"ShortStorage", {2, DType::i32}},  {"CharStorage", {1, DType::i32}},
      {"ByteStorage", {1, DType::i32}},   {"BoolStorage", {1, DType::boolean}}};
  for (const auto& [name, type] : types) {
    TorchWriter w;
    w.object = py::dict({{"x", py::tensor(py::storage(name, "0", 2), 0, {2}, {1})}});
    w.storages = {{"0", std::string(static_cast<std::size_t>(2 * type.first), '\x01')}};
    const Tensor x = parse_torch(w.bytes()).at("x");
    EXPECT_EQ(x.dtype(), type.second) << name;
    EXPECT_EQ(x.to_vector<double>().size(), 2u);
  }
  TorchWriter w;
  w.object = py::dict({{"x", py::tensor(py::storage("BoolStorage", "0", 2), 0, {2}, {1})},
                       {"y", py::tensor(py::storage("ComplexFloatStorage", "1", 1), 0, {1}, {1})}});
  w.storages = {{"0", "\x01\x02"}, {"1", std::string(8, '\0')}};
  const TorchFile file = parse_torch(w.bytes());
  EXPECT_ERROR(FileError, "tensor 'x' is of type bool", file.at("x"));
  EXPECT_ERROR(FileError, "tensor 'y' is of type complex64, which is not read", file.at("y"));
}

// What newer versions write for types that have no storage of their own, and for parameters.
TEST(TorchFile, ReadsTheOtherWaysToPutATensorTogether) {
  const std::string untyped =
      py::tuple({py::text("storage"), py::global("torch.storage", "UntypedStorage"), py::text("0"),
                 py::text("cuda:0"), py::integer(8)}) +
      "Q";
  const auto v3 = [&](const std::string& dtype) {
    return py::call(py::global("torch._utils", "_rebuild_tensor_v3"),
                    {untyped, py::integer(1), py::integers({2}), py::integers({1}), py::kFalse,
                     py::ordered_dict(), dtype});
  };
  TorchWriter w;
  w.storages = {{"0", std::string("\x01\0\x02\0\x03\0\x04\0", 8)}};
  const std::string sized =
      py::call(py::global("torch._utils", "_rebuild_tensor_v2"),
               {py::tuple({py::text("storage"), py::global("torch.cuda", "ShortStorage"),
                           py::text("0"), py::text("cuda:0"), py::integer(4)}) +
                    "Q",
                py::integer(0), py::call(py::global("torch", "Size"), {py::integers({2, 2})}),
                py::integers({2, 1}), py::kFalse, py::ordered_dict()});
  w.object = py::dict({{"x", v3(py::global("torch", "uint16"))},
                       {"p", py::call(py::global("torch._utils", "_rebuild_parameter"),
                                      {sized, py::kTrue, py::ordered_dict()})}});
  const TorchFile file = parse_torch(w.bytes());
  EXPECT_THAT(file.at("x").to_vector<int>(), ElementsAre(2, 3));
  EXPECT_THAT(file.at("p").to_vector<int>(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(to_string(file.at("p").shape()), "[2, 2]");
  w.object = py::dict({{"x", v3(py::kNone)}});
  refuse_torch("'x' does not say the type", w.bytes());
  w.object = py::dict({{"x", v3(py::global("torch", "float8_e5m2"))}});
  EXPECT_ERROR(FileError, "float8_e5m2", parse_torch(w.bytes()).at("x"));
}

TEST(TorchFile, FindsTheDictOfTheWeights) {
  const TorchWriter small = small_checkpoint();
  const auto names = [&](const std::string& object) {
    TorchWriter w = small;
    w.object = object;
    return parse_torch(w.bytes()).names();
  };
  const auto refuse = [&](const std::string& text, const std::string& object) {
    TorchWriter w = small;
    w.object = object;
    refuse_torch(text, w.bytes());
  };
  const std::string x = py::tensor(py::storage("FloatStorage", "0", 7), 0, {}, {});
  const std::string one = py::dict({{"x", x}}), other = py::dict({{"y", x}});
  EXPECT_THAT(names(py::dict({{"state_dict", one}, {"epoch", py::integer(1)}})), ElementsAre("x"));
  EXPECT_THAT(names(py::dict({{"weights", one}})), ElementsAre("x"));
  EXPECT_THAT(names(py::dict({{"optimizer", one}, {"model", other}, {"step", x}})),
              ElementsAre("y"));
  EXPECT_THAT(names(py::dict({{"x", x}, {"more", py::dict({{"a", py::kNone}})}})),
              ElementsAre("x"));
  EXPECT_THAT(names(py::ordered_dict() + "(" + py::text("x") + x + "u}" + py::text("_metadata") +
                    py::ordered_dict() + "sb"),
              ElementsAre("x"));
  refuse("tensors in 'a', 'b', and nothing says which", py::dict({{"a", one}, {"b", other}}));
  refuse("nothing says which", py::dict({{"state_dict", one}, {"model", other}}));
  refuse("nothing says which", py::dict({{"x", x}, {"a", one}}));
  refuse("holds no tensors", py::dict({{"a", py::integer(1)}}));
  refuse("holds no tensors", py::dict({}));
  refuse("holds no dict of tensors", py::list({x}));
  refuse("holds no dict of tensors", x);
  refuse("'x' is there twice", py::dict({{"x", x}, {"x", x}}));
  refuse("a tensor whose name is no text", "}" + py::integer(1) + x + "s");
  refuse("a tensor whose name is no text", py::dict({{"\xff", x}}));
}

TEST(TorchFile, RefusesTensorsThatDoNotFitTheirStorage) {
  const auto refuse = [](const std::string& text, std::int64_t offset,
                         const std::vector<std::int64_t>& sizes,
                         const std::vector<std::int64_t>& strides) {
    TorchWriter w = small_checkpoint();
    w.object =
        py::dict({{"x", py::tensor(py::storage("FloatStorage", "0", 7), offset, sizes, strides)}});
    refuse_torch(text, w.bytes());
    refuse_torch(text, w.legacy_bytes());
  };
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  refuse("does not fit into its storage of 7 elements", 0, {8}, {1});
  refuse("does not fit into its storage", 1, {7}, {1});
  refuse("does not fit into its storage", 7, {}, {});
  refuse("does not fit into its storage", -1, {1}, {1});
  refuse("does not fit into its storage", kHuge, {2}, {kHuge});
  refuse("does not fit into its storage", 0, {kHuge, kHuge}, {0, 0});
  refuse("does not fit into its storage", 0, {2, 2}, {1});
  refuse("more than the file has bytes", 0, {1 << 20, 1 << 20}, {0, 0});
  refuse("no number from 0 on", 0, {-1}, {1});
  refuse("no number from 0 on", 0, {2}, {-1});
  refuse("has 9 axes", 0, std::vector<std::int64_t>(9, 1), std::vector<std::int64_t>(9, 1));
}

TEST(TorchFile, RefusesStoragesThatAreNotThere) {
  TorchWriter w = small_checkpoint();
  w.storages[0].second.pop_back();
  refuse_torch("the storage '0' has 27 bytes, but should have 7 elements of 4", w.bytes());
  w.storages[0].first = "1";
  refuse_torch("the storage '0' is missing", w.bytes());
  refuse_torch("a storage '1' that no tensor uses", w.legacy_bytes());
  w = small_checkpoint();
  // Of a tensor that is passed over, too.
  w.object =
      py::dict({{"state_dict", w.object},
                {"optimizer",
                 py::dict({{"x", py::tensor(py::storage("FloatStorage", "9", 1), 0, {}, {})}})}});
  refuse_torch("the storage '9' is missing", w.bytes());
  w = small_checkpoint();
  w.object = py::dict({{"x", py::tensor(py::text("storage") + "Q", 0, {1}, {1})}});
  refuse_torch("no storage", w.bytes());
  w.object = py::dict({{"x", py::tensor(py::integer(1), 0, {1}, {1})}});
  refuse_torch("not put together", w.bytes());
  w.object = py::dict({{"x", py::call(py::global("torch._utils", "_rebuild_parameter"), {})}});
  refuse_torch("not put together", w.bytes());
}

TEST(TorchFile, RefusesOtherFiles) {
  refuse_torch("it begins neither as a zip archive", "");
  refuse_torch("it begins neither as a zip archive", "some text");
  refuse_torch("git-lfs", "version https://git-lfs.github.com/spec/v1");
  refuse_torch("a tar archive", std::string(257, 'x') + "ustar\0" + std::string(300, 'x'));
  test::ZipWriter zip;
  zip.add("x/y", "z");
  refuse_torch("without a data.pkl", zip.finish());
  zip.add("m/data.pkl", py::pickle(small_checkpoint().object));
  zip.add("m/constants.pkl", "");
  refuse_torch("a TorchScript program", zip.finish());
  zip.add("n/data.pkl", "");
  refuse_torch("two checkpoints", zip.finish());
  TorchWriter w = small_checkpoint();
  w.object += ".";
  refuse_torch("goes on behind the end", w.bytes());
  const std::string legacy = small_checkpoint().legacy_bytes(), whole = small_checkpoint().bytes();
  refuse_torch("larger than its storages", legacy + "x");
  for (std::size_t cut = 0; cut < legacy.size(); ++cut)
    EXPECT_THROW(parse_torch(legacy.substr(0, cut)), FileError) << cut;
  for (std::size_t cut = 0; cut < whole.size(); ++cut)
    EXPECT_THROW(parse_torch(whole.substr(0, cut)), FileError) << cut;
}

// The reference checkpoints, to the bit of their safetensors twins.
TEST(TorchFile, EqualsTheGoldensToTheBit) {
  VITRINE_NEEDS_SHARED("reference/torch-bin");
  const fs::path root = test::shared() / "reference/torch-bin";
  for (const char* folder : {"plain", "tied", "bf16", "views", "legacy", "sharded"}) {
    SCOPED_TRACE(folder);
    const SafeTensors twin = SafeTensors::open(root / folder / "model.safetensors");
    std::size_t found = 0;
    for (const auto& entry : fs::directory_iterator(root / folder)) {
      if (entry.path().extension() != ".bin") continue;
      const TorchFile file = TorchFile::open(entry.path());
      for (const std::string& name : file.names()) {
        if (!twin.contains(name)) {  // the other name of the one storage
          EXPECT_EQ(name, "lm_head.weight");
          EXPECT_EQ(file.at(name).data<float>(), file.at("transformer.wte.weight").data<float>());
          continue;
        }
        ++found;
        const Tensor x = file.at(name).contiguous(), y = twin.at(name).contiguous();
        ASSERT_EQ(x.dtype(), y.dtype()) << name;
        ASSERT_EQ(to_string(x.shape()), to_string(y.shape())) << name;
        EXPECT_EQ(std::memcmp(x.view().data, y.view().data, static_cast<std::size_t>(x.bytes())), 0)
            << name;
      }
    }
    EXPECT_EQ(found, twin.names().size());
  }
}

TEST(TorchFile, RefusesEveryMaliciousFileAndRunsNothing) {
  VITRINE_NEEDS_SHARED("reference/torch-bin");
  const std::pair<const char*, const char*> files[] = {
      {"system.bin", "the Python object 'posix.system'"},
      {"open-first.bin", "open'"},
      {"eval-deep.bin", "eval'"},
      {"system-legacy.bin", "the Python object 'posix.system'"},
      {"short-storage.bin", "bytes, but should have"},
      {"missing-storage.bin", "is missing"},
      {"cut-pickle.bin", "it may be truncated"},
      {"huge-shape.bin", "does not fit into its storage"}};
  const fs::path folder = test::shared() / "reference/torch-bin/malicious";
  for (const auto& [name, text] : files)
    EXPECT_ERROR(FileError, text, TorchFile::open(folder / name));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 8);
  EXPECT_FALSE(fs::exists("VITRINE_PICKLE_RAN"));
}

}  // namespace
}  // namespace vitrine

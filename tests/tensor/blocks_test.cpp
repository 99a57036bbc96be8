#include "tensor/blocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "tensor/files/safetensors.h"
#include "tensor/kernels/kernels.h"
#include "tests/support.h"
#include "tests/tensor/expect_error.h"

namespace vitrine {
namespace {

constexpr DType kBlocked[] = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                              DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k};

// Random bytes in which every f16 is an ordinary number, wherever the type has its scales.
Tensor random_blocks(const Shape& shape, DType dtype) {
  const Tensor out = Tensor::empty(shape, dtype);
  const Block block = block_of(dtype);
  std::uint32_t state = 12345;
  for (std::int64_t i = 0; i < out.bytes(); ++i) {
    state = state * 1664525u + 1013904223u;
    const bool may_be_exponent = (i % block.bytes) % 2 == 1;
    out.view().data[i] =
        static_cast<std::byte>(may_be_exponent ? 0x28 + (state >> 30) : state >> 24);
  }
  return out;
}

std::vector<float> widened(const Tensor& t) {
  std::vector<float> out(static_cast<std::size_t>(t.numel()));
  widen(t.dtype(), t.view().data, out.data(), t.numel());
  return out;
}

std::uint32_t bits_of_float(float x) { return std::bit_cast<std::uint32_t>(x); }

TEST(Blocks, HaveTheSizesOfTheFormat) {
  EXPECT_EQ(bytes_of(DType::q4_k, 512), 288);
  EXPECT_EQ(bytes_of(DType::q8_0, 64), 68);
  EXPECT_EQ(bytes_of(DType::f32, 3), 12);
  EXPECT_EQ(bytes_of(DType::q6_k, -256), -210);
  for (const DType t : kBlocked) {
    EXPECT_TRUE(is_blocked(t) && is_stored_float(t) && is_float(t) && !is_compute_float(t));
    EXPECT_ERROR(ShapeError, std::string(name_of(t)), size_of(t));
    const Tensor x = Tensor::zeros({2, 256}, t);
    EXPECT_EQ(x.bytes(), 2 * 256 / block_of(t).elements * block_of(t).bytes);
    EXPECT_EQ(max_abs(x), 0);
  }
  EXPECT_FALSE(is_blocked(DType::f16));
  EXPECT_TRUE(is_stored_float(DType::bf16));
  EXPECT_FALSE(is_stored_float(DType::f32));
}

// One block by hand: the smallest of all formats, and the one with a minimum.
TEST(Blocks, AreWidenedAsTheFormatSays) {
  const Tensor q4 = Tensor::zeros({32}, DType::q4_0);
  const std::uint16_t half = to_half(0.5f).bits;
  std::memcpy(q4.view().data, &half, 2);
  q4.view().data[2] = std::byte{0xf3};  // element 0: 3 - 8, element 16: 15 - 8
  const auto four = q4.to_vector<float>();
  EXPECT_EQ(four[0], -2.5f);
  EXPECT_EQ(four[16], 3.5f);
  EXPECT_EQ(four[1], -4.f);

  const Tensor q5 = Tensor::zeros({32}, DType::q5_1);
  const std::uint16_t m = to_half(-1.f).bits;
  std::memcpy(q5.view().data, &half, 2);
  std::memcpy(q5.view().data + 2, &m, 2);
  const std::uint32_t high = 1u << 0 | 1u << 31;
  std::memcpy(q5.view().data + 4, &high, 4);
  const auto five = q5.to_vector<float>();
  EXPECT_EQ(five[0], 7.f);
  EXPECT_EQ(five[31], 7.f);
  EXPECT_EQ(five[15], -1.f);
}

TEST(Blocks, EqualTheGoldensToTheBit) {
  VITRINE_NEEDS_SHARED("reference/gguf");
  const SafeTensors golden =
      SafeTensors::open(test::shared() / "reference/gguf/blocks.safetensors");
  const std::pair<const char*, DType> types[] = {
      {"F16", DType::f16},   {"BF16", DType::bf16}, {"Q8_0", DType::q8_0}, {"Q4_0", DType::q4_0},
      {"Q4_1", DType::q4_1}, {"Q5_0", DType::q5_0}, {"Q5_1", DType::q5_1}, {"Q2_K", DType::q2_k},
      {"Q3_K", DType::q3_k}, {"Q4_K", DType::q4_k}, {"Q5_K", DType::q5_k}, {"Q6_K", DType::q6_k}};
  for (const auto& [name, dtype] : types) {
    SCOPED_TRACE(name);
    const std::vector<int> wide = golden.at(std::string(name) + "/bytes").to_vector<std::int32_t>();
    std::vector<std::byte> bytes(wide.size() + 1);  // one off: no alignment is asked for
    for (std::size_t i = 0; i < wide.size(); ++i) bytes[i + 1] = static_cast<std::byte>(wide[i]);
    const std::vector<float> expected = golden.at(std::string(name) + "/values").to_vector<float>();
    std::vector<float> found(expected.size());
    widen(dtype, bytes.data() + 1, found.data(), static_cast<std::int64_t>(found.size()));
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_EQ(bits_of_float(found[i]), bits_of_float(expected[i]))
          << i << ": " << found[i] << " " << expected[i];
  }
}

TEST(Blocks, ViewsMoveWholeBlocks) {
  for (const DType t : kBlocked) {
    SCOPED_TRACE(name_of(t));
    const std::int64_t in = 2 * block_of(t).elements;
    const Tensor x = random_blocks({6, in}, t), plain = x.to(DType::f32);
    ASSERT_EQ(plain.to_vector<float>(), widened(x));
    EXPECT_TRUE(all_finite(x) && !has_nan(x));
    const auto same = [&](const Tensor& a, const Tensor& b) {
      EXPECT_EQ(a.to(DType::f32).to_vector<float>(), b.contiguous().to_vector<float>());
      EXPECT_EQ(a.to(DType::f64).to_vector<double>(), b.to(DType::f64).to_vector<double>());
    };
    same(x.slice(0, 1, 6, 2), plain.slice(0, 1, 6, 2));
    same(x.select(0, 3), plain.select(0, 3));
    same(x.slice(1, in / 2, in), plain.slice(1, in / 2, in));
    same(x.transpose(0, 1), plain.transpose(0, 1));
    same(x.reshape({3, 2, in}).transpose(0, 1), plain.reshape({3, 2, in}).transpose(0, 1));
    same(x.reshape({3, 2, in}).transpose(0, 1).reshape({6, in}),  // copies blocks
         plain.reshape({3, 2, in}).transpose(0, 1).reshape({6, in}));
    same(x.reshape({12, in / 2}), plain.reshape({12, in / 2}));
    same(x.unsqueeze(0).broadcast_to({2, 6, in}), plain.unsqueeze(0).broadcast_to({2, 6, in}));
    same(x.unsqueeze(2), plain.unsqueeze(2));
    same(x.slice(0, 2, 2), plain.slice(0, 2, 2));
    EXPECT_EQ(x.slice(0, 1, 6, 2).clone().dtype(), t);
    same(x.slice(0, 1, 6, 2).clone(), plain.slice(0, 1, 6, 2));
    EXPECT_EQ(x.to(DType::f16).to_vector<float>(), plain.to(DType::f16).to_vector<float>());
    EXPECT_EQ(max_abs_difference(x, plain), 0);
    EXPECT_EQ(x.slice(0, 0, 1).to_string().substr(0, name_of(t).size()), name_of(t));
  }
}

TEST(Blocks, AreNeverCut) {
  const Tensor x = random_blocks({4, 64}, DType::q8_0);
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", x.slice(1, 0, 16));
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", x.slice(1, 16, 48));
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", x.slice(1, 0, 64, 2));
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", x.select(1, 0));
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", x.reshape({16, 16}));
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", x.transpose(0, 1).clone());
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", Tensor::empty({64, 4}, DType::q8_0));
  EXPECT_ERROR(ShapeError, "q8_0 stores blocks of 32", Tensor::empty({}, DType::q8_0));
  EXPECT_ERROR(ShapeError, "q4_k stores blocks of 256", Tensor::zeros({2, 64}, DType::q4_k));
  EXPECT_ERROR(ShapeError, "copy of q8_0",
               random_blocks({64, 64}, DType::q8_0).transpose(0, 1).clone());
  EXPECT_ERROR(ShapeError, "f32 cannot become q8_0",
               Tensor::zeros({32}, DType::f32).to(DType::q8_0));
  EXPECT_ERROR(ShapeError, "q8_0 cannot become q4_0", x.to(DType::q4_0));
  EXPECT_ERROR(ShapeError, "holds q8_0", x.data<float>());
  EXPECT_ERROR(ShapeError, "q8_0", Tensor::full({32}, DType::q8_0, 1));
  EXPECT_ERROR(ShapeError, "i32", widen(DType::i32, nullptr, nullptr, 0));
}

TEST(Blocks, ScalesThatAreNoNumbersAreFound) {
  for (const DType t : kBlocked) {
    SCOPED_TRACE(name_of(t));
    const Tensor x = Tensor::zeros({2, 256}, t);
    EXPECT_TRUE(all_finite(x));
    for (const float bad :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      // Wherever it stands: a byte pair that is a scale changes all_finite, and has_nan with it.
      const std::uint16_t half = to_half(bad).bits;
      int found = 0;
      for (std::int64_t at = 0; at < block_of(t).bytes; at += 2) {
        const Tensor y = x.clone();
        std::memcpy(y.view().data + x.bytes() / 2 + at, &half, 2);
        const std::vector<float> values = widened(y);
        const bool finite =
            std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
        EXPECT_EQ(all_finite(y), finite) << at;
        found += finite ? 0 : 1;
      }
      EXPECT_EQ(found, t == DType::q4_1 || t == DType::q5_1 || t == DType::q2_k ||
                               t == DType::q4_k || t == DType::q5_k
                           ? 2
                           : 1);
    }
  }
}

TEST(Blocks, KernelsCopyAndGatherThem) {
  ThreadPool pool(2);
  const Tensor table = random_blocks({70, 512}, DType::q5_k), plain = table.to(DType::f32);
  const Tensor wide = Tensor::empty({70, 512}, DType::f32);
  kernels::copy(pool, table.view(), wide.view());
  EXPECT_EQ(max_abs_difference(wide, plain), 0);
  const Tensor turned = Tensor::empty({512, 70}, DType::f32);
  kernels::copy(pool, table.transpose(0, 1).view(), turned.view());
  EXPECT_EQ(max_abs_difference(turned, plain.transpose(0, 1)), 0);

  const Tensor index = Tensor::of<std::int64_t>({3}, {69, -1, 2});
  const Tensor rows = Tensor::empty({3, 512}, DType::q5_k),
               expected = Tensor::empty({3, 512}, DType::f32);
  kernels::gather_rows(pool, table.view(), index.view(), rows.view());
  kernels::gather_rows(pool, plain.view(), index.view(), expected.view());
  EXPECT_EQ(max_abs_difference(rows, expected), 0);
}

}  // namespace
}  // namespace vitrine

// Products whose right side is stored in fewer bits: the bits of widening all of it first.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "tensor/gemm/gemm.h"
#include "tensor/kernels/kernels.h"
#include "tests/tensor/kernels/kernel_check.h"
#include "tests/tensor/random_stored.h"

namespace vitrine {
namespace {

using test::kStored;
using test::random_stored;
using test::random_tensor;

std::string text_of(const Tensor& a, const Tensor& b) {
  return to_string(a.shape()) + " times " + std::string(name_of(b.dtype())) + to_string(b.shape()) +
         to_string(b.strides());
}

// `turn` gives from the stored tensor, and from the same widened, the right side [..., k, n].
template <class Turn>
void check_product(const Tensor& a, const Tensor& stored, const Turn& turn) {
  const Tensor b = turn(stored), wide = turn(stored.to(DType::f32));
  ASSERT_EQ(b.dtype(), stored.dtype());
  Shape shape = a.shape();
  shape[shape.size() - 1] = b.shape().back();
  Tensor want = Tensor::empty(shape, DType::f32);
  ThreadPool one(1);
  matmul(one, a.view(), wide.view(), want.view());
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    for (const GemmProvider provider : {GemmProvider::own, GemmProvider::openblas}) {
      Tensor got = Tensor::full(shape, DType::f32, NAN);
      matmul(pool, a.view(), b.view(), got.view(), provider);
      if (provider == GemmProvider::own) {
        EXPECT_EQ(
            std::memcmp(got.view().data, want.view().data, static_cast<std::size_t>(got.bytes())),
            0)
            << text_of(a, b) << ", " << threads << " threads, off by "
            << max_abs_difference(got, want);
      } else {
        EXPECT_LE(max_abs_difference(got, want), 1e-4 * (1 + max_abs(want))) << text_of(a, b);
      }
    }
  }
}

Tensor transposed(const Tensor& w) { return w.permute({1, 0}); }
Tensor as_it_is(const Tensor& w) { return w; }

TEST(StoredProduct, OfAWeightByRows) {  // w [n, k], as Linear of PyTorch and GGUF have it
  for (const DType dtype : kStored) {
    for (const std::int64_t m : {1, 2, 3, 4, 5, 16, 33, 96, 97, 130}) {
      for (const std::int64_t n : {1, 7, 50, 211}) {
        const std::int64_t k = n == 50 ? 768 : 256;
        check_product(random_tensor({m, k}, DType::f32, 1),
                      random_stored({n, k}, dtype, static_cast<std::uint32_t>(m + n)), transposed);
      }
    }
  }
}

TEST(StoredProduct, OfAWeightByColumns) {  // w [k, n], as Conv1D of GPT-2 has it
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const std::int64_t m : {1, 2, 3, 5, 16, 33, 97, 130}) {
      for (const std::int64_t n : {1, 7, 49, 211, 400}) {
        for (const std::int64_t k : {1, 70, 400}) {
          check_product(random_tensor({m, k}, DType::f32, 1),
                        random_stored({k, n}, dtype, static_cast<std::uint32_t>(m + n)), as_it_is);
        }
      }
    }
  }
}

TEST(StoredProduct, OfBlocksAlongTheColumns) {  // the gradient of a product with a weight by rows
  for (const DType dtype : kStored) {
    for (const std::int64_t m : {1, 5, 33, 130}) {
      for (const std::int64_t n : {256, 512}) {
        for (const std::int64_t k : {1, 50, 400})
          check_product(random_tensor({m, k}, DType::f32, 1), random_stored({k, n}, dtype, 2),
                        as_it_is);
      }
    }
  }
}

TEST(StoredProduct, OfPartsOfAWeight) {
  const Tensor a = random_tensor({9, 256}, DType::f32, 1),
               row = random_tensor({1, 256}, DType::f32, 2);
  for (const DType dtype : kStored) {
    const Tensor w = random_stored({90, 256}, dtype, 3);
    for (const Tensor& x : {a, row}) {
      // Some rows, every third row, and one.
      check_product(x, w, [](const Tensor& t) { return transposed(t.slice(0, 11, 61)); });
      check_product(x, w, [](const Tensor& t) { return transposed(t.slice(0, 2, 80, 3)); });
      check_product(x, w, [](const Tensor& t) { return transposed(t.slice(0, 5, 6)); });
    }
    if (is_blocked(dtype)) continue;
    const Tensor square = random_stored({256, 256}, dtype, 4);
    for (const Tensor& x : {a, row}) {
      check_product(x, square, [](const Tensor& t) { return t.slice(1, 3, 100); });
      // Every second column: not read as it is stored, and by another loop than its f32 twin.
      const Tensor got = Tensor::empty({x.dim(0), 128}, DType::f32), want = got.clone();
      ThreadPool pool(2);
      matmul(pool, x.view(), square.slice(1, 0, 256, 2).view(), got.view());
      matmul(pool, x.view(), square.to(DType::f32).slice(1, 0, 256, 2).view(), want.view());
      EXPECT_LE(max_abs_difference(got, want), 1e-4);
    }
  }
}

TEST(StoredProduct,
     OfAHeadsPartOfARow) {  // [head, rows, e] times [head, e, n]: e is part of a block
  const auto by_head = [](const Tensor& w) { return w.reshape({40, 8, 64}).permute({1, 2, 0}); };
  for (const DType dtype : kStored) {
    if (is_blocked(dtype) && block_of(dtype).elements > 64)
      continue;  // views of Tensors keep blocks whole
    for (const std::int64_t m : {1, 6, 120})
      check_product(random_tensor({8, m, 64}, DType::f32, 1), random_stored({40, 512}, dtype, 2),
                    by_head);
  }
  // Kernels take views that begin inside a block batch by batch.
  for (const DType dtype : {DType::q2_k, DType::q4_k, DType::q6_k}) {
    const Tensor w = random_stored({40, 512}, dtype, 2), wide = w.to(DType::f32);
    for (const std::int64_t m : {1, 6, 120}) {
      for (const std::int64_t n : {40, 1}) {
        const Tensor a = random_tensor({8, m, 64}, DType::f32, 1);
        const Shape shape{8, 64, n};
        const Strides strides{64, 1, 512};
        const Tensor got = Tensor::empty({8, m, n}, DType::f32),
                     want = Tensor::empty({8, m, n}, DType::f32);
        ThreadPool pool(2);
        matmul(pool, a.view(), View{w.view().data, dtype, shape, strides}, got.view());
        matmul(pool, a.view(), View{wide.view().data, DType::f32, shape, strides}, want.view());
        EXPECT_EQ(max_abs_difference(got, want), 0) << name_of(dtype) << " " << m << " " << n;
      }
    }
  }
}

TEST(StoredProduct, OfLongRows) {  // longer than the loops of few rows sum in one go
  for (const DType dtype : {DType::f16, DType::q4_1, DType::q6_k}) {
    for (const std::int64_t m : {1, 5}) {
      check_product(random_tensor({m, 8448}, DType::f32, 1), random_stored({30, 8448}, dtype, 2),
                    transposed);
      check_product(random_tensor({m, 8192}, DType::f32, 1), random_stored({30, 8192}, dtype, 2),
                    transposed);
    }
  }
}

TEST(StoredProduct, FinishedAndAdded) {
  ThreadPool pool(2);
  for (const DType dtype : kStored) {
    const Tensor w = random_stored({70, 256}, dtype, 3), wide = w.to(DType::f32);
    const Tensor bias = random_tensor({70}, DType::f32, 4);
    for (const std::int64_t m : {1, 6, 130}) {
      const Tensor a = random_tensor({m, 256}, DType::f32, 1);
      Tensor got = random_tensor({m, 70}, DType::f32, 5), want = got.clone();
      matmul_add(pool, a.view(), transposed(w).view(), got.view());
      matmul_add(pool, a.view(), transposed(wide).view(), want.view());
      EXPECT_EQ(max_abs_difference(got, want), 0);
      affine(pool, a.view(), transposed(w).view(), bias.view(), got.view(), kernels::Unary::relu);
      affine(pool, a.view(), transposed(wide).view(), bias.view(), want.view(),
             kernels::Unary::relu);
      EXPECT_EQ(max_abs_difference(got, want), 0);
    }
  }
}

TEST(StoredProduct, InF64IsOfTheWidenedWeight) {
  ThreadPool pool(2);
  const Tensor a = random_tensor({3, 256}, DType::f64, 1),
               w = random_stored({5, 256}, DType::q4_0, 2);
  const Tensor got = Tensor::empty({3, 5}, DType::f64), want = Tensor::empty({3, 5}, DType::f64);
  matmul(pool, a.view(), transposed(w).view(), got.view());
  matmul(pool, a.view(), transposed(w.to(DType::f64)).view(), want.view());
  EXPECT_EQ(max_abs_difference(got, want), 0);
}

TEST(StoredGather, WidensRows) {
  ThreadPool pool(2);
  const Tensor index = Tensor::of<std::int32_t>({4}, {3, -1, 0, 6});
  for (const DType dtype : kStored) {
    const Tensor table = random_stored({7, 512}, dtype, 3);
    const Tensor got = Tensor::full({4, 512}, DType::f32, NAN),
                 want = Tensor::empty({4, 512}, DType::f32);
    kernels::gather_rows(pool, table.view(), index.view(), got.view());
    kernels::gather_rows(pool, table.to(DType::f32).view(), index.view(), want.view());
    EXPECT_EQ(max_abs_difference(got, want), 0) << name_of(dtype);
  }
  EXPECT_TRUE(kernels::gathers_stored(DType::q4_k, Layout::contiguous({3, 256})));
  EXPECT_FALSE(kernels::gathers_stored(DType::q4_k, Layout{{256, 3}, {1, 256}, 0}));
  EXPECT_FALSE(kernels::gathers_stored(DType::f32, Layout::contiguous({3, 256})));
}

TEST(StoredCopy, IsBitForBitWhatBlocksSay) {  // the SIMD loops against tensor/blocks.h
  ThreadPool pool(2);
  for (const DType dtype : kStored) {
    const Tensor x = random_stored({33, 1024}, dtype, 7);
    const Tensor got = Tensor::full(x.shape(), DType::f32, NAN), want = x.to(DType::f32);
    kernels::copy(pool, x.view(), got.view());
    EXPECT_EQ(std::memcmp(got.view().data, want.view().data, static_cast<std::size_t>(got.bytes())),
              0)
        << name_of(dtype);
  }
  // Every f16, subnormals, infinities and NaN included.
  const Tensor all = Tensor::empty({65536}, DType::f16);
  for (std::uint32_t bits = 0; bits < 65536; ++bits)
    all.view().as<Half>()[bits].bits = static_cast<std::uint16_t>(bits);
  const Tensor got = Tensor::empty({65536}, DType::f32);
  kernels::copy(pool, all.view(), got.view());
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float want = to_float(all.view().as<Half>()[bits]), x = got.view().as<float>()[bits];
    EXPECT_TRUE(want == x || (want != want && x != x)) << bits;
  }
}

TEST(ReadsStored, WhatProductsReadWhereItIs) {
  EXPECT_TRUE(reads_stored(DType::f16, {70, 5}, {5, 1}));
  EXPECT_TRUE(reads_stored(DType::bf16, {70, 5}, {1, 70}));
  EXPECT_FALSE(reads_stored(DType::f16, {70, 5}, {10, 2}));
  EXPECT_FALSE(reads_stored(DType::f32, {70, 5}, {5, 1}));
  EXPECT_TRUE(reads_stored(DType::q4_0, {64, 5}, {1, 64}));
  EXPECT_TRUE(reads_stored(DType::q4_0, {5, 64}, {64, 1}));
  EXPECT_FALSE(reads_stored(DType::q4_0, {48, 5}, {1, 64}));  // half a group
  EXPECT_TRUE(reads_stored(DType::q4_k, {8, 64, 5}, {64, 1, 512}));
}

}  // namespace
}  // namespace vitrine

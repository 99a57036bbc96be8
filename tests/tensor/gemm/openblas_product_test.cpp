// OpenBLAS and Vitrine's own loops give the same products; gemm_test.cpp compares each with plain
// sums in many layouts.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cmath>
#include <optional>
#include <thread>
#include <vector>

#include "tensor/error.h"
#include "tensor/gemm/gemm.h"
#include "tensor/openblas.h"
#include "tests/tensor/expect_error.h"
#include "tests/tensor/kernels/kernel_check.h"

namespace vitrine {
namespace {

using test::random_tensor;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr DType kFloats[] = {DType::f32, DType::f64};
using Size = std::array<std::int64_t, 3>;  // m, n, k; all large enough for OpenBLAS
constexpr Size kSizes[] = {{64, 64, 64},   {256, 512, 16}, {257, 513, 17}, {700, 1300, 40},
                           {1, 1030, 700}, {1030, 2, 200}, {3, 3, 40'000}, {31, 1700, 129}};

// Sums of k products of size up to 4, in two orders: partial sums grow like the root of k, and so
// does the number of roundings that do not cancel.
double tolerance(DType dtype, std::int64_t k) {
  return (dtype == DType::f32 ? 1.2e-7 : 2.3e-16) * 4 * static_cast<double>(k + 16);
}

template <class F>
void expect_both_agree(const Shape& shape, DType dtype, std::int64_t k, const F& f) {
  ThreadPool pool(3);
  const Tensor own = Tensor::full(shape, dtype, NAN), theirs = own.clone();
  f(pool, own, GemmProvider::own);
  f(pool, theirs, GemmProvider::openblas);
  EXPECT_LE(max_abs_difference(own, theirs), tolerance(dtype, k)) << to_string(shape) << ' ' << k;
}

TEST(OpenBlasProduct, EveryShapeAndOrder) {
  for (const DType dtype : kFloats) {
    for (const auto& [m, n, k] : kSizes) {
      const Tensor as[] = {
          random_tensor({m, k}, dtype, 1), random_tensor({k, m}, dtype, 2).permute({1, 0}),
          random_tensor({m, 2 * k}, dtype, 3).slice(1, 0, 2 * k, 2),
          random_tensor({m + 3, k + 5}, dtype, 4).slice(0, 2, m + 2).slice(1, 1, k + 1),
          random_tensor({1, k}, dtype, 5).broadcast_to({m, k})};
      const Tensor bs[] = {
          random_tensor({k, n}, dtype, 6), random_tensor({n, k}, dtype, 7).permute({1, 0}),
          random_tensor({n, 3 * k}, dtype, 8).slice(1, 0, 3 * k, 3).permute({1, 0}),
          random_tensor({k, 1}, dtype, 9).broadcast_to({k, n})};
      for (const Tensor& a : as) {
        for (const Tensor& b : bs) {
          expect_both_agree({m, n}, dtype, 4 * k,
                            [&](ThreadPool& pool, const Tensor& out, auto by) {
                              matmul(pool, a.view(), b.view(), out.view(), by);
                            });
        }
      }
    }
  }
}

TEST(OpenBlasProduct, Batches) {
  for (const DType dtype : kFloats) {
    const Tensor a = random_tensor({2, 3, 70, 80}, dtype, 1);
    for (const Tensor& b : {random_tensor({2, 3, 80, 90}, dtype, 2),
                            random_tensor({80, 90}, dtype, 3).broadcast_to({2, 3, 80, 90}),
                            random_tensor({2, 3, 90, 80}, dtype, 4).permute({0, 1, 3, 2})}) {
      expect_both_agree({2, 3, 70, 90}, dtype, 80,
                        [&](ThreadPool& pool, const Tensor& out, auto by) {
                          matmul(pool, a.view(), b.view(), out.view(), by);
                        });
    }
    const Tensor large = random_tensor({2, 400, 400}, dtype, 5);  // each shared by the threads
    expect_both_agree({2, 400, 400}, dtype, 400, [&](ThreadPool& pool, const Tensor& out, auto by) {
      matmul(pool, large.view(), large.view(), out.view(), by);
    });
  }
}

TEST(OpenBlasProduct, AddsToWhatIsThere) {
  for (const DType dtype : kFloats) {
    for (const auto& [m, n, k] : kSizes) {
      const Tensor a = random_tensor({m, k}, dtype, 1), b = random_tensor({k, n}, dtype, 2),
                   start = random_tensor({m, n}, dtype, 3);
      expect_both_agree({m, n}, dtype, k, [&](ThreadPool& pool, const Tensor& out, auto by) {
        kernels::copy(pool, start.view(), out.view());
        matmul_add(pool, a.view(), b.view(), out.view(), by);
      });
    }
  }
}

TEST(OpenBlasProduct, BiasAndFunctionComeAfter) {
  for (const DType dtype : kFloats) {
    for (const auto& [m, n, k] : kSizes) {
      const Tensor x = random_tensor({m, k}, dtype, 1), w = random_tensor({k, n}, dtype, 2),
                   bias = random_tensor({2 * n}, dtype, 3).slice(0, 0, 2 * n, 2);
      for (const bool gelu : {false, true}) {
        expect_both_agree({m, n}, dtype, k, [&](ThreadPool& pool, const Tensor& out, auto by) {
          affine(pool, x.view(), w.view(), bias.view(), out.view(),
                 gelu ? std::optional(kernels::Unary::gelu_tanh) : std::nullopt, by);
        });
      }
    }
  }
}

TEST(OpenBlasProduct, NanAndInfinityReachTheirRow) {
  ThreadPool pool(2);
  for (const DType dtype : kFloats) {
    const Tensor a = random_tensor({70, 80}, dtype, 1).to(DType::f64).clone();
    a.data<double>()[5 * 80 + 3] = NAN;
    a.data<double>()[6 * 80 + 3] = INFINITY;
    const Tensor out = Tensor::empty({70, 90}, dtype);
    matmul(pool, a.to(dtype).view(), random_tensor({80, 90}, dtype, 2).view(), out.view(),
           GemmProvider::openblas);
    const std::vector<double> values = out.to_vector<double>();
    for (std::int64_t i = 0; i < 70; ++i) {
      const double x = values[static_cast<std::size_t>(i * 90 + 11)];
      EXPECT_EQ(std::isnan(x), i == 5) << i;
      EXPECT_EQ(std::isinf(x), i == 6) << i;
    }
  }
}

TEST(OpenBlasProduct, OneThreadLeavesNothingBehind) {
  const int before = openblas::threads();
  {
    const openblas::OneThread outer;
    {
      const openblas::OneThread inner;
      EXPECT_EQ(openblas::threads(), 1);
    }
    EXPECT_EQ(openblas::threads(), 1);
  }
  EXPECT_EQ(openblas::threads(), before);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const openblas::OneThread one;
        wrong += openblas::threads() != 1;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(openblas::threads(), before);
}

TEST(GemmProvider, Names) {
  EXPECT_EQ(parse_gemm_provider(""), GemmProvider::own);
  for (const GemmProvider provider : {GemmProvider::own, GemmProvider::openblas})
    EXPECT_EQ(parse_gemm_provider(name_of(provider)), provider);
  for (const char* value : {"mkl", "OWN", "own ", "openblas64"}) {
    const std::string message = test::message_of<Error>([&] { parse_gemm_provider(value); });
    EXPECT_THAT(message, AllOf(HasSubstr(value), HasSubstr("'own'"), HasSubstr("'openblas'")));
  }
  try {
    parse_gemm_provider("x");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
  }
}

}  // namespace
}  // namespace vitrine

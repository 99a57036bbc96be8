#include "tensor/machine/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <numeric>

#include "tensor/gemm/gemm.h"
#include "tensor/machine/rates.h"
#include "tensor/simd/simd.h"
#include "tests/tensor/kernels/kernel_check.h"

namespace vitrine {
namespace {

using test::random_tensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Machine, ReadsCpuinfoOfX86) {
  // Two CPUs of one core, and one of another.
  const std::string flags =
      "flags\t\t: fpu sse2 sse4_2 avx fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl "
      "avx512_bf16\n";
  const std::string name = "model name\t: Some CPU: the fast one\n";
  const Processor p = parse_cpuinfo(
      "processor\t: 0\n" + name + "physical id\t: 1\ncore id\t\t: 5\n" + flags +
      "power management:\n\nprocessor\t: 1\n" + name + "physical id\t: 1\ncore id\t\t: 5\n" +
      flags + "\nprocessor\t: 2\n" + name + "physical id\t: 1\ncore id\t\t: 6\n" + flags);
  EXPECT_EQ(p.name, "Some CPU: the fast one");
  EXPECT_THAT(p.features, ElementsAre("sse4.2", "avx", "fma", "avx2", "avx512f", "avx512_bf16"));
  EXPECT_EQ(p.vectors, Vectors::avx512);
  ASSERT_EQ(p.cpus.size(), 3u);
  EXPECT_EQ(p.cpus[2].number, 2);
  EXPECT_EQ(p.cpus[2].package, 1);
  EXPECT_EQ(p.cpus[2].core, 6);
}

TEST(Machine, VectorsAreTheWidestThatAreComplete) {
  const auto vectors = [](const std::string& flags) {
    return parse_cpuinfo("processor\t: 0\nflags\t\t: " + flags + "\n").vectors;
  };
  EXPECT_EQ(vectors("sse2 avx fma avx2 avx512f avx512cd"), Vectors::avx2_fma);  // a Xeon Phi
  EXPECT_EQ(vectors("sse2 avx avx2"), Vectors::avx);
  EXPECT_EQ(vectors("sse2 sse4_2"), Vectors::sse);
  EXPECT_EQ(vectors("sse4_2x"), Vectors::other);
}

TEST(Machine, ReadsCpuinfoOfArmAndOfNothing) {
  const Processor p = parse_cpuinfo(
      "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd sve bf16\nCPU part\t: 0xd40\n");
  EXPECT_EQ(p.name, "");
  EXPECT_THAT(p.features, ElementsAre("neon", "sve", "bf16"));
  EXPECT_EQ(p.vectors, Vectors::other);
  ASSERT_EQ(p.cpus.size(), 1u);
  EXPECT_EQ(p.cpus[0].core, -1);

  EXPECT_TRUE(parse_cpuinfo("").cpus.empty());
  const Processor odd = parse_cpuinfo(":\nprocessor\t:\ncore id:x\nno colon\n");
  ASSERT_EQ(odd.cpus.size(), 1u);
  EXPECT_EQ(odd.cpus[0].number, -1);
}

TEST(Machine, BusyTimeIsThatOfTheCpusAskedFor) {
  const std::string stat =
      "cpu  9999 9999 9999 9999 9999 9999 9999 9999 0 0\n"
      "cpu0 100 20 3 9999 9999 1 1 25 50 0\n"  // guests (50) are part of user
      "cpu1 1000 0 0 9999 0 0 0 0 0 0\n"
      "cpu10 7000 0 0 9999 0 0 0 0 0 0\n"
      "intr 5 6 7\n";
  const auto ticks = [&](const std::vector<int>& cpus) {
    return busy_cpu_seconds(cpus, stat) * static_cast<double>(sysconf(_SC_CLK_TCK));
  };
  EXPECT_DOUBLE_EQ(ticks({0}), 150);
  EXPECT_DOUBLE_EQ(ticks({0, 1}), 1150);
  EXPECT_DOUBLE_EQ(ticks({2}), 0);
  EXPECT_DOUBLE_EQ(busy_cpu_seconds({0, 1}, ""), 0);
}

TEST(Machine, DescribesThisOne) {
  ThreadPool pool(3);
  const Machine m = describe_machine(pool);
  EXPECT_EQ(m.threads, 3);
  EXPECT_GE(m.logical_cores, 1);
  EXPECT_LE(m.physical_cores, m.logical_cores);
  EXPECT_GT(m.memory_bytes, 1 << 20);
  EXPECT_NE(m.simd_target, "");
  EXPECT_GT(m.product_block.rows, 0);
  EXPECT_GT(m.product_block.columns, 0);
#if defined(__x86_64__)
  EXPECT_GE(m.processor.vectors, Vectors::sse);
  // Without any vectors when targets_test.cpp asks for that.
  if (m.simd_target != "SCALAR" && m.simd_target != "EMU128") {
    EXPECT_GE(m.simd_vectors, Vectors::sse);
  }
#endif
}

TEST(MachinePeak, MultiplyAddsAreAllDone) {
  const simd::PeakLoops& peak = simd::peak();
  const auto chains_of_all_lanes = static_cast<float>(peak.flops_per_round) / 2;
  // x -> x/2 + 1/2 has come to 1 after 100 rounds, in each of them. The sum is that of one lane of
  // each chain, over all lanes.
  EXPECT_EQ(peak.multiply_adds(100, 0.5f), chains_of_all_lanes);
  // With no round, chain c still holds c.
  EXPECT_NE(peak.multiply_adds(0, 0.5f), chains_of_all_lanes);
}

TEST(MachinePeak, ReadsEveryElementOnce) {
  for (const std::int64_t n : {0, 1, 63, 4095, 4096, 4097, 9000}) {
    std::vector<float> x(static_cast<std::size_t>(n));
    // Whole numbers, whose sum is exact in any order.
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 97);
    EXPECT_EQ(simd::peak().read(x.data(), n), std::accumulate(x.begin(), x.end(), 0.f)) << n;
  }
}

class ProductError : public ::testing::Test {
 protected:
  ThreadPool pool{2};
  Tensor a = random_tensor({90, 70}, DType::f32, 1);
  Tensor b = random_tensor({110, 70}, DType::f32, 2).transpose(0, 1);
  Tensor out = Tensor::empty({90, 110}, DType::f32);

  void SetUp() override { matmul(pool, a.view(), b.view(), out.view()); }
  double error() const { return product_error(a.view(), b.view(), out.view()); }
};

TEST_F(ProductError, OfARightProductIsRounding) {
  EXPECT_GT(error(), 0);
  EXPECT_LE(error(), product_error_bound(70));
}

TEST_F(ProductError, SeesOneTermThatIsMissing) {
  const Tensor short_a = a.slice(1, 0, 69).clone(), short_b = b.slice(0, 0, 69).clone();
  matmul(pool, short_a.view(), short_b.view(), out.view());
  EXPECT_GT(error(), product_error_bound(70));
}

TEST_F(ProductError, SeesCornersAndNan) {
  float& last = out.data<float>()[out.numel() - 1];
  const float right = last;
  last += 0.01f;
  EXPECT_GT(error(), product_error_bound(70));
  last = NAN;
  EXPECT_TRUE(std::isinf(error()));
  last = right;
  out.data<float>()[109] += 0.01f;  // the end of the first row
  EXPECT_GT(error(), product_error_bound(70));
}

TEST_F(ProductError, OfZerosIsZeroAndOfAnythingElseInfinite) {
  a = Tensor::zeros({90, 70}, DType::f32);
  out = Tensor::zeros({90, 110}, DType::f32);
  EXPECT_EQ(error(), 0);
  out.data<float>()[0] = 1e-30f;
  EXPECT_TRUE(std::isinf(error()));
}

TEST(MachineRates, OfThisMachine) {
  ThreadPool pool(2);
  const MachineRates rates = measure_machine(pool, describe_machine(pool), Effort::quick);
  EXPECT_GT(rates.first_peak_gflops, 0.1);
  EXPECT_GT(rates.second_peak_gflops, 0.1);
  EXPECT_GT(rates.memory_gigabytes_per_second, 0.1);
  EXPECT_GE(rates.other_cpus, 0);
  EXPECT_EQ(rates.threads, 2);
  EXPECT_EQ(rates.other_threads, 1);
  ASSERT_EQ(rates.products.size(), 5u);
  for (const ProductRate& p : rates.products) {
    EXPECT_LE(p.error, product_error_bound(p.k)) << p.what;
    EXPECT_TRUE(p.same_bits) << p.what;
    EXPECT_GT(rates.fraction(p), 0) << p.what;
    EXPECT_GT(p.other_gflops(), 0) << p.what;
  }
}

TEST(MachineRates, ByOpenBlas) {
  ThreadPool pool(2);
  Machine machine = describe_machine(pool);
  EXPECT_THAT(machine.openblas, ::testing::MatchesRegex("OpenBLAS .*, kernels for .+"));
  machine.gemm = GemmProvider::openblas;
  const MachineRates rates = measure_machine(pool, machine, Effort::quick);
  EXPECT_EQ(rates.gemm, GemmProvider::openblas);
  for (const ProductRate& p : rates.products) {
    EXPECT_GT(p.error, 0) << p.what;
    EXPECT_LE(p.error, product_error_bound(p.k)) << p.what;
    EXPECT_GT(p.other_seconds, 0) << p.what;
  }
}

TEST(MachineRates, UnitsAndFractions) {
  ProductRate large{.m = 100, .n = 200, .k = 50, .seconds = 1e-3};
  EXPECT_DOUBLE_EQ(large.gflops(), 2.0);  // 2 * 10^6 operations in a millisecond
  large.other_seconds = 4e-3;
  EXPECT_DOUBLE_EQ(large.other_gflops(), 0.5);
  ProductRate row{.m = 1, .n = 999, .k = 1000, .seconds = 1e-3};
  EXPECT_DOUBLE_EQ(row.gigabytes_per_second(), 4 * (1000 + 999'000 + 999) / 1e6);
  MachineRates rates;
  rates.first_peak_gflops = 4;
  rates.second_peak_gflops = 8;
  rates.memory_gigabytes_per_second = 4;
  EXPECT_DOUBLE_EQ(rates.fraction(large), 0.25);
  EXPECT_DOUBLE_EQ(rates.fraction(row), 1.000999);
}

}  // namespace
}  // namespace vitrine

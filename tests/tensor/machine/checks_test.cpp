// Judgement on machines that were made up.
#include "tensor/machine/checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace vitrine {
namespace {

using Status = Check::Status;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// An AVX-512 machine with two cores on which all is well.
struct Facts {
  Machine machine;
  MachineRates rates;

  Facts() {
    machine.processor = {"A CPU", {"avx2", "avx512f"}, Vectors::avx512, {{0, 0, 0}, {1, 0, 1}}};
    machine.logical_cores = machine.physical_cores = machine.threads = 2;
    machine.memory_bytes = std::int64_t{16} << 30;
    machine.simd_target = "AVX3";
    machine.simd_vectors = Vectors::avx512;
    machine.optimised = true;
    rates.first_peak_gflops = rates.second_peak_gflops = 200;
    rates.memory_gigabytes_per_second = 20;
    rates.threads = 2;
    rates.other_threads = 1;
    rates.products = {product(1024, 1024, 1024), product(64, 768, 768), product(1, 50257, 768)};
    take(rates.products[0], 0.8);
    take(rates.products[1], 0.2);  // small ones may be slow
    take(rates.products[2], 0.9);
  }

  static ProductRate product(std::int64_t m, std::int64_t n, std::int64_t k) {
    return {"", m, n, k, 1, 1e-7, true};
  }
  // The time that makes `p` this fraction of what is possible.
  void take(ProductRate& p, double fraction) { p.seconds *= rates.fraction(p) / fraction; }

  std::vector<Check> checks() const { return check_machine(machine, rates); }
  const Check check(const std::string& name) const {
    for (const Check& c : checks()) {
      if (c.name == name) return c;
    }
    ADD_FAILURE() << "no check " << name;
    return {};
  }
  // The names of those that are not ok.
  std::vector<std::string> found() const {
    std::vector<std::string> names;
    for (const Check& c : checks()) {
      EXPECT_EQ(c.remedy.empty(), c.status == Status::ok) << c.name;
      EXPECT_NE(c.finding, "") << c.name;
      EXPECT_THAT(c.finding + c.remedy, Not(HasSubstr("\n"))) << c.name;
      if (c.status != Status::ok) names.push_back(c.name);
    }
    return names;
  }
};

TEST(MachineChecks, AllIsWell) {
  const Facts f;
  EXPECT_THAT(f.found(), ElementsAre());
  std::vector<std::string> names;
  for (const Check& c : f.checks()) names.push_back(c.name);
  EXPECT_THAT(names, ElementsAre("build", "threads", "vector_loops", "products", "bits", "steady",
                                 "product_speed", "memory_speed"));
}

TEST(MachineChecks, AWrongProductFails) {
  for (const double error :
       {1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Facts f;
    f.rates.products[1].error = error;
    EXPECT_THAT(f.found(), ElementsAre("products"));
    EXPECT_EQ(f.check("products").status, Status::failed);
    EXPECT_THAT(f.check("products").finding, HasSubstr("64 x 768 x 768 is wrong"));
  }
  Facts f;
  f.rates.products[1].error = product_error_bound(768);
  EXPECT_THAT(f.found(), ElementsAre());
}

TEST(MachineChecks, BitsThatDependOnThreadsFail) {
  Facts f;
  f.rates.products[2].same_bits = false;
  EXPECT_THAT(f.found(), ElementsAre("bits"));
  EXPECT_EQ(f.check("bits").status, Status::failed);
  EXPECT_EQ(f.check("bits").finding, "1 x 50257 x 768 differs between 1 and 2 threads");
}

TEST(MachineChecks, OpenBlasMayGiveOtherBits) {
  Facts f;
  f.rates.gemm = GemmProvider::openblas;
  EXPECT_THAT(f.found(), ElementsAre());
  EXPECT_EQ(f.check("bits").finding,
            "the same with 1 and 2 threads; OpenBLAS multiplies, which does not promise it");
  f.rates.products[2].same_bits = false;
  EXPECT_THAT(f.found(), ElementsAre("bits"));
  EXPECT_EQ(f.check("bits").status, Status::warning);
  EXPECT_THAT(f.check("bits").finding, HasSubstr("bits may depend on threads"));
  EXPECT_THAT(f.check("bits").remedy, HasSubstr("unset VITRINE_GEMM"));
}

TEST(MachineChecks, SlowOpenBlasIsNotOurs) {
  Facts f;
  f.rates.gemm = GemmProvider::openblas;
  f.take(f.rates.products[0], 0.2);
  EXPECT_THAT(f.found(), ElementsAre("product_speed"));
  EXPECT_THAT(f.check("product_speed").remedy, HasSubstr("unset VITRINE_GEMM"));
}

TEST(MachineChecks, SlowProducts) {
  Facts f;
  f.take(f.rates.products[0], 0.49);
  EXPECT_THAT(f.found(), ElementsAre("product_speed"));
  EXPECT_EQ(f.check("product_speed").status, Status::warning);
  EXPECT_EQ(f.check("product_speed").finding, "49% of the peak at 1024 x 1024 x 1024");
  EXPECT_THAT(f.check("product_speed").remedy, HasSubstr("please report it"));
  f.take(f.rates.products[0], 0.51);
  EXPECT_THAT(f.found(), ElementsAre());

  f.take(f.rates.products[2], 0.3);
  EXPECT_THAT(f.found(), ElementsAre("memory_speed"));
  EXPECT_EQ(f.check("memory_speed").finding, "30% of the memory's rate at 1 x 50257 x 768");
}

TEST(MachineChecks, SlowForAReasonThatIsKnown) {
  Facts f;
  f.take(f.rates.products[0], 0.2);
  f.machine.simd_vectors = Vectors::sse;
  EXPECT_THAT(f.found(), ElementsAre("vector_loops", "product_speed"));
  EXPECT_EQ(f.check("product_speed").remedy, "see 'vector loops' first");
}

TEST(MachineChecks, RatesThatWander) {
  Facts f;
  f.rates.first_peak_gflops = 150;  // the faster one is the peak
  EXPECT_THAT(f.found(), ElementsAre("steady"));
  EXPECT_EQ(f.check("steady").status, Status::warning);
  f.rates.first_peak_gflops = 170;
  EXPECT_THAT(f.found(), ElementsAre());
  f.rates.other_cpus = 0.9;  // a load that never pauses shows here alone
  EXPECT_THAT(f.found(), ElementsAre("steady"));
  EXPECT_EQ(f.check("steady").finding, "other programs kept 0.9 of 2 CPUs busy meanwhile");
  f.machine.logical_cores = 4;  // there was room for both
  EXPECT_THAT(f.found(), ElementsAre());
}

TEST(MachineChecks, Threads) {
  Facts f;
  f.machine.threads = 4;
  EXPECT_THAT(f.found(), ElementsAre("threads"));
  EXPECT_EQ(f.check("threads").finding, "4 threads, but 2 CPUs to run them");
  f.machine.threads = 2;
  f.machine.cpu_quota = 1.5;  // two threads are not too many
  EXPECT_THAT(f.found(), ElementsAre());
  f.machine.cpu_quota = 1;
  EXPECT_THAT(f.found(), ElementsAre("threads"));
  EXPECT_EQ(f.check("threads").remedy, "use 1 thread");
  f.machine.threads = 1;
  f.machine.logical_cores = 0;  // unknown
  EXPECT_THAT(f.found(), ElementsAre());
}

TEST(MachineChecks, HowItWasBuilt) {
  Facts f;
  f.machine.optimised = false;
  EXPECT_THAT(f.found(), ElementsAre("build"));
  f.machine.optimised = true;
  f.machine.simd_target = "SSE4";
  f.machine.simd_vectors = Vectors::sse;
  EXPECT_THAT(f.found(), ElementsAre("vector_loops"));
  EXPECT_THAT(f.check("vector_loops").finding, HasSubstr("SSE4, but this CPU has AVX-512"));
}

}  // namespace
}  // namespace vitrine

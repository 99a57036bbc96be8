#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json check(const json& result, const std::string& name) {
  for (const json& c : result["checks"]) {
    if (c["name"] == name) return c;
  }
  ADD_FAILURE() << "no check " << name;
  return {};
}

TEST(Doctor, Json) {
  const Outcome o = vitrine({"doctor", "--quick", "--format", "json", "--threads", "2"});
  EXPECT_EQ(o.exit, 0) << o.err;
  const json j = o.json();
  EXPECT_TRUE(j["meta"]["model"].is_null());
  EXPECT_THAT(j["meta"]["command"].get<std::string>(), HasSubstr("doctor --quick"));

  // What `info` says of the machine, it says too, under the same names.
  const json info = vitrine({"info", "--format", "json", "--threads", "2"}).json();
  for (const auto& [name, value] : info["machine"].items()) {
    EXPECT_EQ(j["machine"][name], value) << name;
  }
  EXPECT_GT(j["machine"]["product_block"]["rows"], 0);
  EXPECT_GT(j["machine"]["product_block"]["columns"], 0);

  EXPECT_GT(j["rates"]["peak_gflops"].get<double>(), 0);
  EXPECT_GT(j["rates"]["memory_gigabytes_per_second"].get<double>(), 0);
  for (const json& p : j["rates"]["products"]) {
    const double work = 2.0 * p["m"].get<double>() * p["n"].get<double>() * p["k"].get<double>();
    EXPECT_NEAR(p["gflops"].get<double>() * p["seconds"].get<double>() * 1e9 / work, 1, 1e-6);
    const double limit =
        j["rates"][p["bound_by"] == "peak" ? "peak_gflops" : "memory_gigabytes_per_second"];
    const double rate = p[p["bound_by"] == "peak" ? "gflops" : "gigabytes_per_second"];
    EXPECT_NEAR(p["fraction"].get<double>(), rate / limit, 1e-6);
  }
  EXPECT_EQ(j["machine"]["gemm"], "own");
  EXPECT_THAT(j["machine"]["openblas"].get<std::string>(), HasSubstr("OpenBLAS"));
  for (const json& p : j["rates"]["products"]) {
    EXPECT_EQ(p["own_gflops"], p["gflops"]);
    EXPECT_GT(p["openblas_gflops"].get<double>(), 0);
  }
  for (const char* name : {"products", "bits"}) {
    EXPECT_EQ(check(j, name)["status"], "ok");
    EXPECT_TRUE(check(j, name)["remedy"].is_null());
  }
}

TEST(Doctor, JsonForShort) {
  const json j = vitrine({"doctor", "--quick", "--json", "--threads", "1"}).json();
  EXPECT_EQ(j["machine"]["threads"], 1);
  EXPECT_EQ(check(j, "bits")["finding"], "the same with 1 and 2 threads");
}

TEST(Doctor, Table) {
  const test::TemporaryFolder folder;
  const std::string file = folder / "doctor.txt";
  const Outcome o = vitrine({"doctor", "--quick", "--out", file});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.out, "");
  const std::string text = shell("cat " + file).out;
  EXPECT_THAT(text, ::testing::ContainsRegex(
                        "products +own kernels, [A-Z].*, blocks of [0-9]+ x [0-9]+\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("1024 x 1024 x 1024 .* GFLOP/s +[0-9]+%"));
  EXPECT_THAT(text, ::testing::ContainsRegex("1 x 50257 x 768 .* GB/s +[0-9]+%"));
  EXPECT_THAT(text, ::testing::ContainsRegex("ok +bits +the same with"));
}

TEST(Doctor, SaysWhenOpenBlasMultiplies) {
  const Setting openblas{.environment = {{"VITRINE_GEMM", "openblas"}}};
  const json j = vitrine({"doctor", "--quick", "--json", "--threads", "2"}, openblas).json();
  EXPECT_EQ(j["machine"]["gemm"], "openblas");
  for (const json& p : j["rates"]["products"]) {
    EXPECT_EQ(p["openblas_gflops"], p["gflops"]);
    EXPECT_GT(p["own_gflops"].get<double>(), 0);
  }
  EXPECT_EQ(check(j, "products")["status"], "ok");
  EXPECT_THAT(check(j, "bits")["finding"].get<std::string>(), HasSubstr("OpenBLAS multiplies"));
  const Outcome table = vitrine({"doctor", "--quick"}, openblas);
  EXPECT_EQ(table.exit, 0) << table.err;
  EXPECT_THAT(table.out,
              ::testing::ContainsRegex("products +OpenBLAS .*bits may depend on threads\n"));
}

TEST(Doctor, AnUnknownProviderIsAnErrorThatNamesBoth) {
  const Setting setting{.environment = {{"VITRINE_GEMM", "mkl"}}};
  for (const auto& arguments : std::vector<std::vector<std::string>>{
           {"doctor", "--quick"}, {"predict", "--prompt", "The capital of Texas is"}}) {
    const Outcome o = vitrine(arguments, setting);
    EXPECT_EQ(o.exit, 2) << arguments[0];
    EXPECT_EQ(o.out, "") << arguments[0];
    EXPECT_THAT(o.err, HasSubstr("VITRINE_GEMM is 'mkl'")) << arguments[0];
    EXPECT_THAT(o.err, HasSubstr("'own' or 'openblas'")) << arguments[0];
  }
}

TEST(Doctor, NoticesTooManyThreads) {
  const Outcome o = vitrine({"doctor", "--quick", "--threads", "1000"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, ::testing::ContainsRegex("warning +threads +1000 threads, but"));
  EXPECT_THAT(o.out, HasSubstr("→ "));
}

TEST(Doctor, HasNoModel) {
  const Outcome o = vitrine({"doctor", "--model", "gpt2"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("there is no option '--model'"));
}

}  // namespace
}  // namespace vitrine::test

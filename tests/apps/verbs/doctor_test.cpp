#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <limits>

#include "tensor/files/safetensors.h"
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

// ---- of a model -------------------------------------------------------------------------------
json model_check(const json& result, const std::string& name) {
  for (const json& c : result["model"]["checks"]) {
    if (c["check"] == name) return c;
  }
  ADD_FAILURE() << "no check " << name << " in " << result["model"];
  return {};
}

TEST(Doctor, ChecksAModel) {
  for (const char* name : {"tiny-gpt2", "families/llama", "families/neox", "families/gemma2"}) {
    const std::string folder = data() / name;
    const Outcome o = vitrine({"doctor", "--quick", "--json", "--model", folder});
    EXPECT_EQ(o.exit, 0) << o.err;
    const json j = o.json();
    EXPECT_EQ(j["meta"]["model"], folder);
    EXPECT_EQ(j["model"]["name"], folder);
    EXPECT_EQ(check(j, "products")["status"], "ok");  // the machine is checked all the same
    const json causality = model_check(j, "causality");
    EXPECT_EQ(causality["status"], "ok");
    EXPECT_EQ(causality["how"], "reach and gradient");
    EXPECT_TRUE(causality["where"].is_null());
    EXPECT_TRUE(causality["remedy"].is_null());
    for (const char* one : {"nan", "exploding_units", "loss", "tied_weights", "gradient_check"})
      EXPECT_EQ(model_check(j, one)["status"], "ok") << name << " " << one;
    for (const json& c : j["model"]["checks"]) EXPECT_NE(c["status"], "problem") << c;
  }
}

TEST(Doctor, TheTableOfAModel) {
  const Outcome o = vitrine(
      {"doctor", "--quick", "--model", (data() / "tiny-gpt2").string(), "--columns", "300"});
  EXPECT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, ::testing::ContainsRegex("model .*tiny-gpt2\n"));
  EXPECT_THAT(o.out, ::testing::ContainsRegex("ok +causality +no row of 'logits' depends on a"));
  EXPECT_THAT(o.out, ::testing::ContainsRegex("ok +gradient check +12 entries of 6 parameters"));
}

TEST(Doctor, WithoutAModelThereIsNone) {
  const json j = vitrine({"doctor", "--quick", "--json"}).json();
  EXPECT_TRUE(j["model"].is_null());
}

// A copy of the tiny GPT-2 whose weights are changed.
class DoctorOfABrokenModel : public ::testing::Test {
 protected:
  std::string folder_with(const std::string& tensor, float value) {
    const std::filesystem::path from = data() / "tiny-gpt2", to = folder_ / "broken";
    std::filesystem::create_directories(to);
    std::filesystem::copy_file(from / "config.json", to / "config.json");
    const SafeTensors file = SafeTensors::open(from / "model.safetensors");
    NamedTensors tensors;
    bool found = false;
    for (const std::string& name : file.names()) {
      Tensor t = file.at(name).clone();
      if (name.ends_with(tensor)) {
        found = true;
        for (std::int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = value;
      }
      tensors.emplace_back(name, t);
    }
    EXPECT_TRUE(found) << tensor;
    save_safetensors(to / "model.safetensors", tensors);
    return to;
  }
  const TemporaryFolder folder_;
};

TEST_F(DoctorOfABrokenModel, NanIsNamedAndFails) {
  const std::string model =
      folder_with("h.0.mlp.c_fc.bias", std::numeric_limits<float>::quiet_NaN());
  const Outcome o = vitrine({"doctor", "--quick", "--json", "--model", model});
  EXPECT_EQ(o.exit, 4);
  const json nan = model_check(o.json(), "nan");
  EXPECT_EQ(nan["status"], "problem");
  EXPECT_THAT(nan["what"].get<std::string>(), HasSubstr("h.0.mlp.c_fc.bias"));
  EXPECT_FALSE(nan["remedy"].is_null());
  EXPECT_THAT(o.err, HasSubstr("checks failed: nan"));
}

TEST_F(DoctorOfABrokenModel, HugeValuesFail) {
  const std::string model = folder_with("h.0.mlp.c_proj.bias", 1e9F);
  const Outcome o = vitrine({"doctor", "--quick", "--json", "--model", model});
  EXPECT_EQ(o.exit, 4);
  const json huge = model_check(o.json(), "exploding_units");
  EXPECT_EQ(huge["status"], "problem");
  EXPECT_THAT(huge["where"].get<std::string>(), HasSubstr("site blocks.0.hook_mlp_out"));
}

// A planted fault is found, and named where it is, in every layer.
TEST(Doctor, FindsMasksThatAreOffByOne) {
  const auto planted = [](const char* by) {
    return vitrine(
        {"doctor", "--model", "default", "--model-alone", "--shift-masks", by, "--json"});
  };
  const Outcome right = planted("0"), later = planted("1"), fewer = planted("-1");
  EXPECT_EQ(right.exit, 0) << right.err;
  EXPECT_TRUE(right.json()["machine"].is_null());
  EXPECT_EQ(model_check(right.json(), "causality")["status"], "ok");
  for (const Outcome* wrong : {&later, &fewer}) {
    EXPECT_EQ(wrong->exit, 4);
    const json causality = model_check(wrong->json(), "causality");
    EXPECT_EQ(causality["status"], "problem");
    EXPECT_THAT(causality["where"].get<std::string>(), HasSubstr("blocks.0"));
  }
  EXPECT_THAT(model_check(later.json(), "causality")["what"].get<std::string>(),
              HasSubstr("sees the next token"));
  EXPECT_THAT(model_check(fewer.json(), "causality")["what"].get<std::string>(),
              HasSubstr("excludes the token itself"));
}

TEST(Doctor, SaysWhatIsWrongWithTheOptionsOfAModel) {
  EXPECT_EQ(vitrine({"doctor", "--shift-masks", "1"}).exit, 2);
  EXPECT_EQ(vitrine({"doctor", "--quick", "--untrained"}).exit, 2);
  const Outcome o = vitrine({"doctor", "--quick", "--model", "/nowhere/at/all"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_EQ(o.out, "");
}

}  // namespace
}  // namespace vitrine::test

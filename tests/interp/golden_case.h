// The models with reference values: of the tiny one they are in the repository.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <ostream>
#include <string>

#include "interp/patching.h"
#include "nn/model/model.h"
#include "tests/support.h"

namespace vitrine::test {

struct GoldenCase {
  std::string name;
  std::filesystem::path model, golden;
  bool shared;  // beside the repository, not in it
};
inline std::ostream& operator<<(std::ostream& out, const GoldenCase& c) { return out << c.name; }

inline auto golden_cases() {
  const auto atlas = shared() / "reference/atlas-gpt2";
  return testing::Values(
      GoldenCase{"tiny", data() / "tiny-gpt2", data() / "tiny-gpt2/golden", false},
      GoldenCase{"atlas", atlas, atlas / "golden", true},
      GoldenCase{"atlas_gift", atlas, atlas / "golden-gift", true});
}

// Those with reference values of circuits.
inline std::vector<GoldenCase> circuit_cases() {
  const auto atlas = shared() / "reference/atlas-gpt2";
  return {{"tiny", data() / "tiny-gpt2", data() / "tiny-gpt2/golden", false},
          {"atlas", atlas, atlas / "golden", true}};
}

class GoldenTest : public testing::TestWithParam<GoldenCase> {
 protected:
  void SetUp() override {
    if (GetParam().shared) VITRINE_NEEDS_SHARED("reference/atlas-gpt2");
    const SafeTensors golden = open("patching");
    const auto tokens = [&](const char* name) {
      return golden.at(name).select(0, 0).to_vector<int>();
    };
    const auto answers = golden.at("answer").to_vector<int>();
    pair = {tokens("clean"), tokens("corrupt"), answers[0], answers[1]};
  }
  SafeTensors open(const std::string& name) const {
    return SafeTensors::open(GetParam().golden / (name + ".safetensors"));
  }
  const nn::Model& model(const nn::Gauge& gauge = {}) {
    const std::string name = nn::name_of(gauge);
    if (!models_.contains(name))
      models_.emplace(name, nn::load_gpt2(GetParam().model.string(), {.gauge = gauge}));
    return models_.at(name);
  }
  interp::Pair pair;

 private:
  std::map<std::string, nn::Model> models_;
};

}  // namespace vitrine::test

// SAELens's numbers: codes and reconstructions of its folders.
#include <gtest/gtest.h>

#include "sae/folder.h"
#include "sae/sae.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

class SaeGolden : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Architectures, SaeGolden,
                         ::testing::Values("standard", "topk", "jumprelu", "gated", "batchtopk",
                                           "matching_pursuit"),
                         [](const auto& tested) { return tested.param; });

void expect_golden(const std::filesystem::path& folder) {
  const sae::Sae s = sae::load(folder);
  const SafeTensors golden = SafeTensors::open(folder / "golden.safetensors");
  ThreadPool pool;
  const sae::Encoder::Encoded found = sae::Encoder(s, &pool).encode(golden.at("x"));
  expect_close(found.features, golden.at("feature_acts"), 1e-5, "feature_acts");
  expect_close(found.reconstruction, golden.at("reconstruction"), 1e-5, "reconstruction");
}

TEST_P(SaeGolden, EncodesAndDecodesAsSaeLens) { expect_golden(data() / "sae" / GetParam()); }

TEST(SaeGoldenShared, EncodesAndDecodesMatryoshkaAsSaeLens) {
  VITRINE_NEEDS_SHARED("reference/sae");
  expect_golden(shared() / "reference/sae/matryoshka_batchtopk");
}

}  // namespace
}  // namespace vitrine::test

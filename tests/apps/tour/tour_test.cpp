// The tour is told of a model that knows the story and of one that does not: what it claims is computed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <random>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

// Claims by their first words.
std::map<std::string, bool> claims_of(const json& tour) {
  std::map<std::string, bool> claims;
  for (const json& step : tour["steps"])
    for (const json& claim : step["claims"]) claims[claim["claim"]] = claim["holds"];
  return claims;
}

std::string listed(const std::map<std::string, bool>& claims) {
  std::string text;
  for (const auto& [claim, holds] : claims) text += (holds ? "holds: " : "denied: ") + claim + "\n";
  return text;
}

// The default model with the numbers of each of its tensors in another order.
fs::path shuffled_model(const TemporaryFolder& folder) {
  const fs::path model = folder / "shuffled";
  fs::copy(default_model(), model);
  std::string bytes = read_text(model / "model.safetensors");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  const json header = json::parse(bytes.substr(8, length));
  std::mt19937 random(7);
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    const std::size_t begin = tensor["data_offsets"][0], end = tensor["data_offsets"][1];
    const std::size_t wide = tensor["dtype"] == "F32" ? 4 : 2;
    char* data = bytes.data() + 8 + length + begin;
    std::vector<std::string> numbers;
    for (std::size_t i = 0; i < end - begin; i += wide) numbers.emplace_back(data + i, wide);
    std::shuffle(numbers.begin(), numbers.end(), random);
    for (std::size_t i = 0; i < numbers.size(); ++i)
      std::memcpy(data + i * wide, numbers[i].data(), wide);
  }
  write_text(model / "model.safetensors", bytes);
  return model;
}

TEST(Tour, HoldsOnTheDefaultModelAndItsCommandsRepeatIt) {
  const TemporaryFolder folder;
  const Outcome o = vitrine({"tour", "--format", "json", "--keep", folder / "kept"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const json tour = o.json();
  EXPECT_EQ(tour["steps"].size(), 12U);
  const auto claims = claims_of(tour);
  EXPECT_GE(claims.size(), 16U);
  for (const auto& [claim, holds] : claims) EXPECT_TRUE(holds) << claim;
  for (const json& step : tour["steps"]) {
    EXPECT_FALSE(step["commands"].empty()) << step["heading"];
    for (const json& command : step["commands"]) {
      const Outcome again = shell(command.get<std::string>() + " --quiet");
      const bool planted = command.get<std::string>().find("--shift-masks 1") != std::string::npos;
      EXPECT_EQ(again.exit, planted ? 4 : 0) << command << again.err;
    }
  }
}

TEST(Tour, DeniesTheStoryOfShuffledWeights) {
  const TemporaryFolder folder;
  const fs::path sae = default_model() / "sae";
  const Outcome o =
      vitrine({"tour", "--format", "json", "--model", shuffled_model(folder), "--sae",
               sae / "blocks.1.hook_mlp_out", "--sae", sae / "blocks.4.hook_mlp_out"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto claims = claims_of(o.json());
  // What is true of any weights: the wiring, gradients beside ablations, and that a neuron of chance means nothing in
  // particular. Everything else is about what the model has learnt.
  int held = 0;
  for (const auto& [claim, holds] : claims) {
    const bool of_any = claim.starts_with("the model sees no later token") ||
                        claim.starts_with("a mask that is off by one") ||
                        claim.starts_with("removing an earlier feature") ||
                        claim.find("it means several things") != std::string::npos;
    held += holds ? 1 : 0;
    if (!of_any) {
      EXPECT_FALSE(holds) << claim;
    }
  }
  EXPECT_LE(held, 4) << listed(claims);
  EXPECT_GE(claims.size(), 16U) << listed(claims);
}

TEST(Tour, TellsItsStoryAsText) {
  const TemporaryFolder folder;
  // Another fact, one that the model gets wrong, is told as such.
  const Outcome o =
      vitrine({"tour", "--clean", "The capital of Spain is", "--corrupt", "The capital of Japan is",
               "--answer", " Rome", "--wrong", " Tokyo", "--color", "never"});
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("1. The model completes a fact"));
  EXPECT_THAT(o.out, HasSubstr("✗ does not hold: it says \" Rome\": \" Madrid\" comes first"));
  EXPECT_THAT(o.out, HasSubstr("✓ a mask that is off by one is found and named"));
  EXPECT_THAT(o.out, HasSubstr("claims hold on this model."));
  EXPECT_EQ(vitrine({"tour", "--model", tiny_model()}).exit, 3);  // it has no tokenizer
}

}  // namespace
}  // namespace vitrine::test

// One circuit, many phrasings: what the example says of the default model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/support.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

TEST(Examples, OneCircuitCompletesEveryPhrasingAndTheReverseDirection) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "phrasings-example";
  std::filesystem::remove_all(folder);
  const auto root = data().parent_path().parent_path();
  const Outcome o = shell("VITRINE='" VITRINE_PROGRAM "' bash '" + root.string() +
                          "/apps/examples/phrasings.sh' --out '" + folder.string() + "'");
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("faithfulness: all other edges carry the corrupt run"));
  int groups = 0;
  for (const char* file : {"forward", "backward"}) {
    const auto saved = SafeTensors::open(folder / (std::string(file) + ".safetensors"));
    const auto number = [&](const std::string& name) { return saved.at(name).item<float>(); };
    for (const std::string& name : saved.names()) {
      const std::string ending = "/faithfulness";
      if (!name.starts_with("group/") || !name.ends_with(ending) || name.find("random") != name.npos)
        continue;
      SCOPED_TRACE(name);
      const std::string of = name.substr(0, name.size() - ending.size() + 1);
      EXPECT_GT(number(name), 0.65);                            // it does the work,
      EXPECT_LT(number(of + "complement_faithfulness"), 0.02);  // nothing else does,
      for (const float x : saved.at(of + "random/faithfulness").to_vector<float>())
        EXPECT_LT(x, 0.3);                                      // not just any circuit,
      EXPECT_LT(number(of + "faithfulness/gift.json"), 0.05);   // nor that of another task
      ++groups;
    }
  }
  EXPECT_EQ(groups, 10);
}

}  // namespace
}  // namespace vitrine::test

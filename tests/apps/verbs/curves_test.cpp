// vitrine curves: logs of training, read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tensor/files/file.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

class Curves : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) const {
    write_text(folder_ / name, text);
    return folder_ / name;
  }
  static json quantity(const json& run, const std::string& name) {
    for (const json& q : run["quantities"])
      if (q["name"] == name) return q;
    return nullptr;
  }
  TemporaryFolder folder_;
};

TEST_F(Curves, FirstLastAndBestOfEachQuantityOfEachRun) {
  const std::string log =
      file("saes.jsonl",
           "{\"step\": 0, \"command\": \"x\", \"seed\": 1}\n"
           "{\"step\": 1, \"name\": \"a\", \"loss\": 4, \"explained_variance\": 0.5, \"l0\": 7, "
           "\"losses\": {\"mse\": 3}}\n"
           "{\"step\": 1, \"name\": \"b\", \"loss\": 9}\n\n"
           "{\"step\": 2, \"name\": \"a\", \"loss\": 2, \"explained_variance\": 0.9, \"l0\": 8, "
           "\"losses\": {\"mse\": 1}}\n"
           "{\"step\": 3, \"name\": \"a\", \"loss\": 3, \"explained_variance\": 0.8, \"l0\": 6, "
           "\"losses\": {\"mse\": 2}}\n");
  const json runs = vitrine({"curves", log, log, "--format", "json"}).json()["runs"];
  ASSERT_EQ(runs.size(), 4U);
  EXPECT_EQ(runs[0]["name"], "saes/a (1)");
  EXPECT_EQ(runs[2]["name"], "saes/a (2)");
  const json loss = quantity(runs[0], "loss"), explained = quantity(runs[0], "explained_variance"),
             l0 = quantity(runs[0], "l0");
  EXPECT_EQ(loss["first"], 4);
  EXPECT_EQ(loss["last"], 3);
  EXPECT_EQ(loss["best"], 2);
  EXPECT_EQ(loss["best_step"], 2);
  EXPECT_EQ(loss["count"], 3);
  EXPECT_EQ(explained["best"], 0.9);
  EXPECT_TRUE(l0["best"].is_null());  // neither more nor less is better
  EXPECT_EQ(l0["least"], 6);
  EXPECT_EQ(l0["most"], 8);
  EXPECT_EQ(quantity(runs[0], "losses.mse")["best"], 1);
  EXPECT_TRUE(quantity(runs[0], "seed").is_null());
  EXPECT_EQ(quantity(runs[1], "loss")["last"], 9);
  EXPECT_THAT(vitrine({"curves", log}).out, HasSubstr("explained_variance"));
}

TEST_F(Curves, ReadsWhatTrainingWrote) {
  const Outcome trained =
      vitrine({"train", "--preset", "tiny", "--data", "/usr/share/common-licenses/GPL-3", "--steps",
               "20", "--quiet", "--out", folder_ / "run"});
  ASSERT_EQ(trained.exit, 0) << trained.err;
  const json runs = vitrine({"curves", folder_ / "run", "--format", "json"}).json()["runs"];
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0]["name"], "run");
  EXPECT_LT(quantity(runs[0], "loss")["last"], quantity(runs[0], "loss")["first"]);
}

TEST_F(Curves, ABadLineIsNamed) {
  const auto expect = [&](const std::string& text, const std::string& place,
                          const std::string& what) {
    const std::string log = file("bad.jsonl", text);
    const Outcome o = vitrine({"curves", log});
    EXPECT_EQ(o.exit, 3) << o.out;
    EXPECT_THAT(o.err, HasSubstr(log));
    EXPECT_THAT(o.err, HasSubstr(place));
    EXPECT_THAT(o.err, HasSubstr(what));
  };
  expect("{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"los\n", "2", "");
  expect("{\"step\": 1, \"loss\": 2}\n\n[1, 2]\n", "3", "an object");
  expect("{\"loss\": 2}\n", "1", "step");
  expect("{\"step\": -4, \"loss\": 2}\n", "1", "step");
  expect("\n", "", "there is no line");
  EXPECT_EQ(vitrine({"curves", folder_ / "none.jsonl"}).exit, 3);
  EXPECT_EQ(vitrine({"curves"}).exit, 2);
}

}  // namespace
}  // namespace vitrine::test

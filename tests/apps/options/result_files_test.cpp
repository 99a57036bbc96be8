// Results as .csv, .npz and .safetensors, by the ending of --out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "apps/options/csv_file.h"
#include "tensor/files/file.h"
#include "tensor/files/npy.h"
#include "tensor/files/safetensors.h"
#include "tensor/torch/zip.h"
#include "tests/apps/program.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using app::CsvTable;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

const Words kPatch = {"patch",
                      "--clean",
                      "The capital of Texas is",
                      "--corrupt",
                      "The capital of California is",
                      "--answer",
                      " Austin",
                      "--wrong",
                      " Sacramento",
                      "--site",
                      "resid_pre"};

Outcome with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  const Outcome o = vitrine(words);
  EXPECT_EQ(o.exit, 0) << o.err;
  return o;
}

TEST(ResultFiles, NpzHoldsWhatSafetensorsHold) {
  const TemporaryFolder folder;
  EXPECT_THAT(with(kPatch, {"--out", folder / "x.npz"}).out, HasSubstr("written to"));
  with(kPatch, {"--out", folder / "x.safetensors"});
  const auto reference = SafeTensors::open(folder / "x.safetensors");
  const std::string bytes = read_text(folder / "x.npz");
  const auto entries = torch::read_zip(std::as_bytes(std::span(bytes)), "x.npz");
  ASSERT_EQ(entries.size(), 3u);
  for (const auto& [name, entry] : entries) {
    ASSERT_TRUE(name.ends_with(".npy"));
    write_text(folder / "one.npy", {reinterpret_cast<const char*>(entry.data()), entry.size()});
    const Tensor tensor = load_npy(folder / "one.npy");
    const Tensor wanted = reference.at(name.substr(0, name.size() - 4));
    EXPECT_EQ(tensor.shape(), wanted.shape()) << name;
    EXPECT_EQ(tensor.to_vector<float>(), wanted.to_vector<float>()) << name;
  }
}

TEST(ResultFiles, CsvHasALineForEachElementAndNamesItsPlace) {
  const TemporaryFolder folder;
  with(kPatch, {"--out", folder / "x.csv"});
  const nlohmann::json json = with(kPatch, {"--format", "json"}).json();
  const CsvTable csv = app::read_csv(folder / "x.csv");
  EXPECT_THAT(csv.columns, ElementsAre("tensor", "layer", "pos", "pos_token", "value"));
  std::size_t at = 0;
  for (std::size_t l = 0; l < json["values"].size(); ++l) {
    for (std::size_t p = 0; p < json["values"][l].size(); ++p) {
      const auto& row = csv.rows.at(at++);
      EXPECT_EQ(row[0], "sweep");
      EXPECT_EQ(row[1], std::to_string(l));
      EXPECT_EQ(row[2], std::to_string(p));
      EXPECT_EQ(row[3], json["str_tokens"]["clean"][p]);
      EXPECT_NEAR(std::stod(row[4]), json["values"][l][p].get<double>(), 1e-5);
    }
  }
  ASSERT_EQ(csv.rows.size(), at + 2);
  EXPECT_THAT(csv.rows[at], ElementsAre("metric/clean", "", "", "", ::testing::_));
}

TEST(ResultFiles, EveryVerbWithTensorsNamesItsAxes) {
  const TemporaryFolder folder;
  const auto columns = [&](const Words& words) {
    with(words, {"--model", tiny_model(), "--out", folder / "x.csv"});
    return app::read_csv(folder / "x.csv").columns;
  };
  EXPECT_THAT(columns({"lens", "--tokens", "1,2"}), ElementsAre("tensor", "stage", "value"));
  EXPECT_THAT(columns({"lens", "--tokens", "1,2", "--pos", "all"}),
              ElementsAre("tensor", "stage", "pos", "value"));
  EXPECT_THAT(columns({"attention", "--tokens", "1,2", "--layer", "1", "--head", "1"}),
              ElementsAre("tensor", "head", "query", "key", "value"));
  EXPECT_EQ(app::read_csv(folder / "x.csv").rows[0][1], "1");  // the head, not its place
  EXPECT_THAT(columns({"heads", "--sequences", "1", "--half", "4"}),
              ElementsAre("tensor", "layer", "head", "to_layer", "to_head", "value"));
  const Words pair = {"attribute", "--clean-tokens", "1,2", "--corrupt-tokens",
                      "1,3",       "--answer-token", "4",   "--wrong-token",
                      "5"};
  EXPECT_THAT(columns(pair), ElementsAre("tensor", "layer", "pos", "head", "feature", "value"));
  Words ig = pair;
  ig.insert(ig.end(), {"--method", "ig", "--steps", "2"});
  EXPECT_THAT(columns(ig), ElementsAre("tensor", "pos", "at", "value"));
}

TEST(ResultFiles, TablesWithoutTensorsAreRows) {
  const TemporaryFolder folder;
  const Words decompose = {"decompose", "--prompt", "The capital of Texas is"};
  with(decompose, {"--out", folder / "x.csv"});
  const CsvTable csv = app::read_csv(folder / "x.csv");
  const nlohmann::json parts = with(decompose, {"--format", "json"}).json()["components"];
  EXPECT_THAT(csv.columns, ElementsAre("name", "value", "kind", "layer", "head"));
  ASSERT_EQ(csv.rows.size(), parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(csv.rows[i][0], parts[i]["name"]);
    EXPECT_EQ(std::stod(csv.rows[i][1]), parts[i]["value"].get<double>());
    EXPECT_EQ(csv.rows[i][4].empty(), parts[i]["head"].is_null());
  }
  with({"neurons", "--prompt", "The capital of Texas is", "--top", "3"},
       {"--out", folder / "n.csv"});
  EXPECT_EQ(app::read_csv(folder / "n.csv").rows.size(), 3u);
  write_text(folder / "corpus.txt", "a\n");
  const Outcome o =
      vitrine({"neurons", "--corpus", folder / "corpus.txt", "--out", folder / "x.csv"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("contexts are no table for a .csv file"));
}

TEST(ResultFiles, ActivationsAreSavedAsNpzToo) {
  const TemporaryFolder folder;
  with({"cache", "--tokens", "1,2", "--model", tiny_model(), "--sites", "z"},
       {"--out", folder / "x.npz"});
  const std::string bytes = read_text(folder / "x.npz");
  const Outcome o = vitrine({"sae", "encode", "--sae", "blocks.4.hook_mlp_out", "--activations",
                             "none", "--tensor", "none", "--out", folder / "y.npz"});
  EXPECT_EQ(o.exit, 2);
  EXPECT_THAT(o.err, HasSubstr("give --out FILE.safetensors"));
  EXPECT_TRUE(torch::read_zip(std::as_bytes(std::span(bytes)), "x.npz")
                  .contains("blocks.0.attn.hook_z.npy"));
}

TEST(ResultFiles, TablesAreAsWideAsColumnsSays) {
  const auto widest = [&](const Words& more) {
    std::istringstream lines(with(kPatch, more).out);
    std::size_t most = 0;
    for (std::string line; std::getline(lines, line);) {
      const auto width = std::count_if(line.begin(), line.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
      });
      if (line.starts_with("layer ")) most = std::max(most, static_cast<std::size_t>(width));
    }
    return most;
  };
  EXPECT_LE(widest({"--columns", "40"}), 40u);
  EXPECT_GT(widest({"--columns", "200"}), 40u);
  EXPECT_EQ(vitrine({"predict", "--tokens", "1", "--columns", "5"}).exit, 2);
}

TEST(ResultFiles, CsvOfPredictionsAndEvaluations) {
  const TemporaryFolder folder;
  const std::string prompts = folder / "p.jsonl", text = folder / "t.txt", out = folder / "x.csv";
  write_text(prompts, R"({"prompt": "The capital of Texas is", "answer": " Austin"})"
                      "\n"
                      R"({"prompt": "The capital of France is", "answer": " Paris"})"
                      "\n");
  write_text(text, "The capital of Texas is Austin.\n");
  const auto table = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--out", out});
    const Outcome o = vitrine(words);
    EXPECT_EQ(o.exit, 0) << o.err;
    EXPECT_NE(o.out, "");
    return app::read_csv(out);
  };
  const CsvTable top = table({"predict", "--prompt", "The capital of Texas is", "--top", "3"});
  EXPECT_EQ(top.columns, (std::vector<std::string>{"id", "token", "logit", "prob"}));
  ASSERT_EQ(top.rows.size(), 3u);
  EXPECT_EQ(top.rows[0][1], " Austin");
  for (const char* verb : {"predict", "evaluate"}) {
    const CsvTable each = table({verb, "--prompts", prompts});
    ASSERT_EQ(each.rows.size(), 2u) << verb;
    const auto accuracy = std::find(each.columns.begin(), each.columns.end(), "accuracy");
    ASSERT_NE(accuracy, each.columns.end()) << verb;
    EXPECT_EQ(std::stod(each.rows[1][static_cast<std::size_t>(accuracy - each.columns.begin())]),
              1);
  }
  const CsvTable loss = table({"evaluate", text});
  EXPECT_EQ(loss.rows.size(), 1u);
  EXPECT_EQ(loss.columns[0], "documents");
}

}  // namespace
}  // namespace vitrine::test

// vitrine sae and influence: what they do, what they say of bad input, and a run that is killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <thread>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/words.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using ::testing::HasSubstr;

class SaeVerbs : public ::testing::Test {
 protected:
  SaeVerbs() {
    std::ofstream out(folder_ / "text.jsonl");
    for (int i = 0; i < 60; ++i) {
      out << "{\"tokens\": [";
      for (int t = 0; t < 20; ++t)
        out << (t > 0 ? "," : "") << (i * i + 7 * t * t + 3 * t * i) % 97;
      out << "]}\n";
    }
  }
  Words train(const std::string& out, const Words& more = {}) const {
    return Words{"sae",        "train",
                 "--model",    tiny_model().string(),
                 "--site",     "blocks.1.hook_mlp_out",
                 "--data",     folder_ / "text.jsonl",
                 "--features", "64",
                 "--k",        "4",
                 "--batch",    "128",
                 "--buffer",   "500",
                 "--rate",     "0.002",
                 "--quiet",    "--out",
                 folder_ / out} +
           more;
  }
  const Outcome& run(const Words& words) {
    last_ = vitrine(words);
    EXPECT_EQ(last_.exit, 0) << last_.err;
    return last_;
  }
  void expect_same_state(const std::string& a, const std::string& b) {
    const SafeTensors x = SafeTensors::open(folder_ / a / "training.safetensors"),
                      y = SafeTensors::open(folder_ / b / "training.safetensors");
    ASSERT_EQ(x.names().size(), y.names().size());
    for (const std::string& name : x.names())
      EXPECT_EQ(max_abs_difference(x.at(name), y.at(name)), 0) << name;
  }
  TemporaryFolder folder_;
  Outcome last_;
};

TEST_F(SaeVerbs, TrainEvaluateEncodeLookConvert) {
  const auto trained = run(train("run", {"--vectors", "20000", "--format", "json"})).json();
  EXPECT_TRUE(trained["done"]);
  EXPECT_EQ(trained["steps"], 157);
  EXPECT_NEAR(trained["saes"][0]["last"]["l0"], 4, 0.2);
  EXPECT_GT(trained["saes"][0]["last"]["explained_variance"], 0.3);
  const std::string sae = folder_ / "run", text = folder_ / "text.jsonl",
                    model = tiny_model().string();

  const auto e =
      run({"sae", "eval", "--sae", sae, "--model", model, "--data", text, "--format", "json"})
          .json();
  EXPECT_EQ(e["site"], "blocks.1.hook_mlp_out");
  EXPECT_EQ(e["reconstruction"]["rows"], 1200);
  EXPECT_GT(e["reconstruction"]["explained_variance"], 0.3);
  for (const char* key :
       {"ce_clean", "ce_sae", "ce_zero", "ce_mean", "ce_resample", "ce_score_zero", "kl"})
    EXPECT_TRUE(e["model"][key].is_number()) << key;
  EXPECT_THAT(run({"sae", "eval", "--sae", sae, "--model", model, "--data", text}).out,
              ::testing::AllOf(HasSubstr("explained variance"), HasSubstr("CE with the SAE")));

  run({"cache", "--model", model, "--tokens", "1,2,3,4", "--sites", "blocks.1.hook_mlp_out",
       "--out", folder_ / "x.safetensors"});
  const auto coded =
      run({"sae", "encode", "--sae", sae, "--activations", folder_ / "x.safetensors", "--tensor",
           "blocks.1.hook_mlp_out", "--out", folder_ / "codes.safetensors", "--format", "json"})
          .json();
  EXPECT_EQ(coded["rows"], 4);
  const SafeTensors codes = SafeTensors::open(folder_ / "codes.safetensors");
  EXPECT_EQ(codes.at("feature_acts").shape(), (Shape{4, 64}));

  // The features of the same prompt are those of its activations.
  const auto active = run({"sae", "features", "--sae", sae, "--model", model, "--tokens", "1,2,3,4",
                           "--format", "json"})
                          .json();
  int counted = 0;
  for (const auto& a : active["active"]) {
    const double want =
        codes.at("feature_acts").at<float>({a["position"].get<int>(), a["feature"].get<int>()});
    EXPECT_NEAR(a["activation"], want, 1e-5);
    EXPECT_EQ(a["raised"].size(), 8U);
    ++counted;
  }
  int all = 0;
  for (const float f : codes.at("feature_acts").to_vector<float>()) all += f > 0 ? 1 : 0;
  EXPECT_EQ(counted, all);

  const auto features =
      run({"sae", "features", "--sae", sae, "--model", model, "--corpus", text, "--format", "json"})
          .json();
  EXPECT_EQ(features["tokens"], 1200);
  EXPECT_GT(features["features"].size(), 10U);
  const auto one = features["features"][0];
  EXPECT_GT(one["contexts"].size(), 1U);
  EXPECT_GE(one["contexts"][0]["activation"], one["contexts"][1]["activation"]);
  EXPECT_THAT(run({"sae", "features", "--sae", sae, "--model", model, "--corpus", text, "--feature",
                   one["feature"].dump()})
                  .out,
              ::testing::AllOf(HasSubstr("raises"), HasSubstr("nearest decoder rows"),
                               HasSubstr("active at")));

  run({"sae", "convert", "--from", sae, "--fold-decoder-norm", "--out", folder_ / "folded"});
  const auto again = run({"sae", "eval", "--sae", folder_ / "folded", "--model", model, "--data",
                          text, "--format", "json"})
                         .json();
  EXPECT_NEAR(again["reconstruction"]["explained_variance"],
              e["reconstruction"]["explained_variance"], 1e-5);
}

// It has no pre-activations: what looks at features looks at the codes.
TEST_F(SaeVerbs, MatchingPursuitIsTrainedMeasuredAndSpliced) {
  const Words kind = {"--kind", "matching_pursuit", "--residual", "0.02"};
  const auto trained =
      run(train("mp", kind + Words{"--vectors", "20000", "--format", "json"})).json();
  EXPECT_LE(trained["saes"][0]["last"]["l0"], 4);
  EXPECT_GT(trained["saes"][0]["last"]["explained_variance"], 0.3);
  const auto config = nlohmann::json::parse(read_text(folder_.path() / "mp" / "cfg.json"));
  EXPECT_EQ(config["architecture"], "matching_pursuit");
  EXPECT_EQ(config["max_iterations"], 4);
  EXPECT_EQ(config["residual_threshold"], 0.02);
  EXPECT_EQ(SafeTensors::open(folder_.path() / "mp" / "sae_weights.safetensors").names().size(),
            2U);
  const std::string sae = folder_ / "mp", text = folder_ / "text.jsonl",
                    model = tiny_model().string();
  const auto e =
      run({"sae", "eval", "--sae", sae, "--model", model, "--data", text, "--format", "json"})
          .json();
  EXPECT_LE(e["reconstruction"]["l0"], 4);
  EXPECT_LT(e["model"]["ce_sae"], e["model"]["ce_zero"]);
  const auto active = run({"sae", "features", "--sae", sae, "--model", model, "--tokens", "1,2,3,4",
                           "--format", "json"})
                          .json();
  EXPECT_GT(active["active"].size(), 3U);
  // Spliced in, a feature that is switched off takes its part with it.
  const std::string edit = "zero blocks.1.hook_mlp_out.hook_sae_acts_post feature=" +
                           active["active"][0]["feature"].dump();
  const Words predict = {"predict", "--model", model, "--tokens", "1,2,3,4", "--format", "json"};
  const auto plain = run(predict + Words{"--sae", sae}).json(),
             edited = run(predict + Words{"--sae", sae, "--edit", edit}).json();
  EXPECT_NEAR(plain["top"][0]["logit"], run(predict).json()["top"][0]["logit"], 1e-4);
  EXPECT_NE(edited["top"], plain["top"]);
  expect_failure(train("x", {"--kind", "matching_pursuit", "--sweep", "k=2.5"}), 2,
                 "matching_pursuit needs a whole number of steps k, not 2.5");
  expect_failure({"sae", "convert", "--from", sae, "--fold-decoder-norm", "--out", folder_ / "y"},
                 3, "its decoder is its encoder");
}

TEST_F(SaeVerbs, EndToEndTrainingIsForWhatTheModelSays) {
  const auto words = [&](const std::string& out, const Words& more) {
    return Words{"sae",        "train",
                 "--model",    tiny_model().string(),
                 "--site",     "blocks.0.hook_resid_post",
                 "--data",     folder_ / "text.jsonl",
                 "--features", "64",
                 "--k",        "4",
                 "--rate",     "0.003",
                 "--vectors",  "12000",
                 "--batch",    "200",
                 "--quiet",    "--out",
                 folder_ / out} +
           more;
  };
  const auto kl = [&](const std::string& out) {
    return run({"sae", "eval", "--sae", folder_ / out, "--model", tiny_model().string(), "--data",
                folder_ / "text.jsonl", "--format", "json"})
        .json()["model"]["kl"]
        .get<double>();
  };
  run(words("local", {}));
  const auto r = run(words("run", {"--end-to-end", "--aux", "0", "--format", "json"})).json();
  EXPECT_EQ(r["steps"], 60);
  EXPECT_EQ(r["saes"][0]["last"]["losses"].size(), 1U);
  EXPECT_GT(r["saes"][0]["last"]["losses"]["kl_loss"], 0);
  EXPECT_LT(kl("run"), kl("local"));  // topk: both have 4 active features
  EXPECT_THAT(read_text(folder_.path() / "run" / "cfg.json"), HasSubstr("training_end_to_end"));

  // It is stopped and goes on to the same bits.
  const Words down = {"--end-to-end", "--downstream", "0.1", "--sweep", "k=2,4"};
  run(words("whole", down));
  run(words("part", down + Words{"--stop-after", "7"}));
  run({"sae", "train", "--resume", "--quiet", "--threads", "1", "--out", folder_ / "part"});
  expect_same_state("whole", "part");

  expect_failure(words("x", {"--kl", "2"}), 2, "add --end-to-end");
  expect_failure(words("x", {"--end-to-end", "--buffer", "500"}), 2, "runs whole texts");
  expect_failure(words("x", {"--end-to-end", "--kind", "gated"}), 2,
                 "a gated SAE cannot be trained end to end");
  expect_failure(words("x", {"--end-to-end", "--downstream", "1", "--downstream-site",
                             "blocks.0.hook_mlp_out"}),
                 2, "must come after it");
  expect_failure({"sae", "train", "--activations", folder_ / "a.safetensors", "--tensor", "x",
                  "--end-to-end", "--out", folder_ / "x"},
                 2, "--end-to-end runs the model itself");
}

TEST_F(SaeVerbs, SeveralSitesAndSettingsInOnePass) {
  const auto r = run({"sae",           "train",
                      "--model",       tiny_model().string(),
                      "--site",        "blocks.0.hook_mlp_out,blocks.1.attn.hook_z",
                      "--data",        folder_ / "text.jsonl",
                      "--features",    "64",
                      "--batch",       "128",
                      "--buffer",      "500",
                      "--vectors",     "1000",
                      "--sweep",       "k=2,4",
                      "--sweep",       "rate=1e-4,3e-4",
                      "--quiet",       "--out",
                      folder_ / "run", "--format",
                      "json"})
                     .json();
  EXPECT_EQ(r["saes"].size(), 8U);
  for (const char* name :
       {"blocks.0.hook_mlp_out_k-2_rate-1e-4", "blocks.1.attn.hook_z_k-4_rate-3e-4"})
    EXPECT_TRUE(std::filesystem::exists(folder_ / "run" / name / "sae_weights.safetensors"))
        << name;
}

TEST_F(SaeVerbs, ActivationsFromFiles) {
  run({"cache", "--model", tiny_model().string(), "--tokens", "1,2,3,4,5,6,7,8", "--sites",
       "blocks.1.hook_mlp_out", "--out", folder_ / "a.safetensors"});
  const Words words = {"sae",           "train",
                       "--activations", (folder_ / "*.safetensors").string(),
                       "--tensor",      "blocks.1.hook_mlp_out",
                       "--features",    "32",
                       "--k",           "2",
                       "--batch",       "8",
                       "--vectors",     "80",
                       "--quiet",       "--out",
                       folder_ / "run"};
  run(words + Words{"--stop-after", "4"});
  run({"sae", "train", "--resume", "--quiet", "--out", folder_ / "run"});
  run({"sae", "eval", "--sae", folder_ / "run", "--activations", folder_ / "a.safetensors",
       "--tensor", "blocks.1.hook_mlp_out"});
}

// kill -9 in the middle, and on with another number of threads: the state is that of a run to which
// nothing happened.
TEST_F(SaeVerbs, AKilledRunGoesOnToTheSameBits) {
  const Words settings = {"--vectors", "60000", "--kind", "batchtopk", "--save-every", "0"};
  run(train("whole", settings));
  int killed = 0;
  for (const int wait : {150, 400, 900}) {
    const std::string name = "killed" + std::to_string(wait);
    {
      Running running(train(name, settings + Words{"--threads", "2"}));
      std::this_thread::sleep_for(std::chrono::milliseconds(wait));
      running.kill();
      if (running.finish().exit == 1000 + SIGKILL) ++killed;
    }
    if (!std::filesystem::exists(folder_ / name / "training.safetensors")) continue;  // too early
    run({"sae", "train", "--resume", "--threads", "1", "--quiet", "--out", folder_ / name});
    expect_same_state("whole", name);
    std::int64_t last = 0;  // the log has each step once
    std::ifstream log(folder_ / name / "log.jsonl");
    for (std::string line; std::getline(log, line);) {
      const std::int64_t step = nlohmann::json::parse(line)["step"];
      EXPECT_GT(step, last);
      last = step;
    }
    EXPECT_EQ(last, 469);
  }
  EXPECT_GE(killed, 1);
}

// Files that are there are nobody's buffer, and what stands in a run's files is not followed out of its folder.
TEST_F(SaeVerbs, FilesOfOthersAreLeftAlone) {
  namespace fs = std::filesystem;
  const auto text_of = [](const fs::path& file) {
    std::ifstream in(file);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  std::ofstream(folder_ / "thesis.txt") << "my thesis";
  fs::create_symlink(folder_ / "thesis.txt", folder_ / "link");
  for (const char* name : {"thesis.txt", "link"}) {
    const Outcome o = vitrine(train("x", {"--vectors", "256", "--buffer-file", folder_ / name}));
    EXPECT_EQ(o.exit, 3);
    EXPECT_NE(o.err.find(name), std::string::npos) << o.err;
    EXPECT_NE(o.err.find("there is a file of this name already"), std::string::npos) << o.err;
    EXPECT_EQ(text_of(folder_ / "thesis.txt"), "my thesis");
  }
  run(train("run", {"--vectors", "512", "--stop-after", "1", "--buffer-file", folder_ / "buffer"}));
  const fs::path state = folder_ / "run" / "training.safetensors";
  const std::string original = text_of(state);
  // Changes the header of the state, whose length is kept: what is put in is as long as what was there.
  const auto spoil = [&](const std::string& from, const std::string& to) {
    std::string bytes = original;
    const std::size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    ASSERT_EQ(from.size(), to.size());
    bytes.replace(at, from.size(), to);
    std::ofstream(state, std::ios::binary) << bytes;
  };
  const Words resume = {"sae", "train", "--resume", "--quiet", "--out", folder_ / "run"};
  // The buffer's place is not used again: the run's own folder has one.
  const std::string buffer = (folder_ / "buffer").string();
  std::string victim = buffer;
  victim.replace(victim.size() - 6, 6, "victim");
  std::ofstream(victim) << "a key";
  spoil(buffer, victim);
  EXPECT_EQ(vitrine(resume).exit, 0);
  EXPECT_EQ(text_of(victim), "a key");
}

// Nor is anything written through links in a run's folder, or in the folders of its SAEs.
TEST_F(SaeVerbs, LinksInARunAreNotFollowed) {
  namespace fs = std::filesystem;
  run(train("run", {"--vectors", "512", "--stop-after", "1", "--sweep", "k=2,4"}));
  const Words resume = {"sae", "train", "--resume", "--quiet", "--out", folder_ / "run"};
  for (const char* name : {"log.jsonl", "training.safetensors", "k-2", "k-4/cfg.json"}) {
    const fs::path file = folder_ / "run" / name, elsewhere = folder_ / "elsewhere";
    fs::rename(file, elsewhere);
    fs::create_symlink(elsewhere, file);
    const bool is_file = fs::is_regular_file(elsewhere);
    const std::string before = is_file ? read_text(elsewhere) : "";
    const Outcome o = vitrine(resume);
    EXPECT_EQ(o.exit, 3) << name;
    EXPECT_THAT(o.err, testing::AllOf(HasSubstr(name), HasSubstr("is a symbolic link")));
    EXPECT_EQ(is_file ? read_text(elsewhere) : "", before) << name;
    fs::remove(file);
    fs::rename(elsewhere, file);
  }
  write_text(folder_ / "run/k-2/cfg.json.tmp.4711-0123abcd", "left by a kill");
  write_text(folder_ / "run/vitrine-buffer", "left by a kill");
  run(resume);
  EXPECT_FALSE(fs::exists(folder_ / "run/k-2/cfg.json.tmp.4711-0123abcd"));
  EXPECT_FALSE(fs::exists(folder_ / "run/vitrine-buffer"));
}

// A damaged state is refused by what it says; it is never used.
TEST_F(SaeVerbs, ADamagedStateIsRefused) {
  run(train("run", {"--vectors", "512", "--stop-after", "1"}));
  const std::filesystem::path state = folder_ / "run" / "training.safetensors";
  std::ifstream in(state, std::ios::binary);
  const std::string original(std::istreambuf_iterator<char>(in), {});
  std::uint64_t size = 0;
  std::memcpy(&size, original.data(), sizeof size);
  const auto header = nlohmann::json::parse(original.substr(8, size));
  const auto refused = [&](const std::string& key,
                           const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json changed = header;
    nlohmann::json value = nlohmann::json::parse(changed["__metadata__"][key].get<std::string>());
    change(value);
    changed["__metadata__"][key] = value.dump();
    const std::string text = changed.dump();
    const std::uint64_t length = text.size();
    std::ofstream out(state, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << text << original.substr(8 + size);
    out.close();
    const Outcome o = vitrine({"sae", "train", "--resume", "--quiet", "--out", folder_ / "run"});
    EXPECT_EQ(o.exit, 3) << key << ": " << value.dump() << "\n" << o.err;
    EXPECT_EQ(o.err.find("json.exception"), std::string::npos) << o.err;
  };
  for (const std::int64_t row : {std::int64_t{-5}, std::int64_t{1} << 62, std::int64_t{1000000}})
    refused("progress", [&](nlohmann::json& p) { p["place"][4] = row; });
  for (const int place : {0, 1, 2, 3})
    refused("progress",
            [&](nlohmann::json& p) { p["place"][static_cast<std::size_t>(place)] = -1; });
  refused("progress", [&](nlohmann::json& p) { p["place"][1] = 1000000; });
  refused("progress", [&](nlohmann::json& p) { p["place"][2] = 1000000; });
  refused("progress", [&](nlohmann::json& p) { p["place"] = nullptr; });
  refused("progress", [&](nlohmann::json& p) { p["seconds"] = "x"; });
  refused("settings", [&](nlohmann::json& s) { s["buffer"]["rows"] = 1; });
  refused("settings", [&](nlohmann::json& s) { s["jobs"][0]["name"] = "../elsewhere"; });
  refused("settings",
          [&](nlohmann::json& s) { s["jobs"][0]["name"] = (folder_ / "elsewhere").string(); });
  for (const int n : {-1, 99})
    refused("settings", [&](nlohmann::json& s) { s["jobs"][0]["rules"]["normalise"] = n; });
  const auto notes = nlohmann::json::parse(
      nlohmann::json::parse(header["__metadata__"]["settings"].get<std::string>())["notes"]
          .get<std::string>());
  const nlohmann::json flat = notes.flatten();
  for (const auto& [path, value] : flat.items()) {
    refused("settings", [&, field = path](nlohmann::json& s) {
      nlohmann::json changed = notes;
      changed[nlohmann::json::json_pointer(field)] = nlohmann::json::object();
      s["notes"] = changed.dump();
    });
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ / "elsewhere"));
}

TEST_F(SaeVerbs, WhatIsWrongIsSaid) {
  run(train("run", {"--vectors", "256"}));
  const std::string sae = folder_ / "run", model = tiny_model().string();
  expect_failure(train("run"), 2, "holds a run already: add --resume");
  expect_failure(train("none", {"--resume"}), 2, "holds no run to go on with");
  expect_failure({"sae", "train", "--resume", "--k", "3", "--out", sae}, 2,
                 "--k cannot be given with --resume");
  expect_failure(train("x", {"--kind", "topj"}), 2, "did you mean topk?");
  expect_failure(train("x", {"--normalize", "covariance_whitening"}), 2,
                 "covariance_whitening is not supported");
  expect_failure(train("x", {"--kind", "jumprelu", "--penalty", "quadratic"}), 2,
                 "quadratic L0 loss, is not supported");
  expect_failure(train("x", {"--sweep", "kk=1"}), 2, "--sweep knows no 'kk'");
  expect_failure(train("x", {"--site", "blocks.0.attn.hook_pattern"}), 3,
                 "does not have a vector for each token");
  expect_failure({"sae", "train", "--data", folder_ / "text.jsonl", "--out", folder_ / "x"}, 2,
                 "give --site");
  std::ofstream(folder_ / "empty.jsonl") << "\n";
  expect_failure({"sae", "train", "--model", model, "--site", "blocks.0.hook_mlp_out", "--data",
                  folder_ / "empty.jsonl", "--out", folder_ / "x"},
                 3, "there is no token in it");
  expect_failure({"sae", "eval", "--sae", folder_ / "nothing", "--data", folder_ / "text.jsonl"}, 3,
                 "those that came with the model are blocks.1.hook_mlp_out, blocks.4.hook_mlp_out");
  const std::string other =
      (std::filesystem::path(VITRINE_DEFAULT_MODEL) / "sae/blocks.1.hook_mlp_out").string();
  const std::string another =
      "reads values of width 256 (it was trained at blocks.1.hook_mlp_out), not [1, 48]; is it "
      "another model's?";
  expect_failure(
      {"sae", "eval", "--sae", other, "--model", model, "--data", folder_ / "text.jsonl"}, 3,
      another);
  expect_failure({"sae", "features", "--sae", other, "--model", model, "--tokens", "1,2"}, 3,
                 another);
  expect_failure({"influence", "--source-sae", other, "--target-sae", sae, "--model", model,
                  "--tokens", "1,2"},
                 3, another);
  expect_failure({"sae", "what"}, 2, "there is no 'sae what'");
  expect_failure({"sae"}, 2, "say what to do");

  const Tensor wide = Tensor::zeros({3, 5}, DType::f32);
  save_safetensors(folder_ / "wide.safetensors", {{"x", wide}});
  expect_failure({"sae", "encode", "--sae", sae, "--activations", folder_ / "wide.safetensors",
                  "--tensor", "x", "--out", folder_ / "y.safetensors"},
                 3,
                 "reads activations of width 48 (of blocks.1.hook_mlp_out), but these are [3, 5]");
  const Tensor nan = Tensor::full({3, 48}, DType::f32, 0);
  nan.data<float>()[50] = std::nanf("");
  save_safetensors(folder_ / "nan.safetensors", {{"x", nan}});
  expect_failure({"sae", "encode", "--sae", sae, "--activations", folder_ / "nan.safetensors",
                  "--tensor", "x", "--out", folder_ / "y.safetensors"},
                 4, "row 1 of the activations has nan at place 2");
  expect_failure(
      {"sae", "eval", "--sae", sae, "--activations", folder_ / "wide.safetensors", "--tensor", "x"},
      3, "it reads rows of width 48, but these are 5");
  expect_failure({"sae", "train", "--activations", folder_ / "nan.safetensors", "--tensor", "x",
                  "--batch", "3", "--out", folder_ / "z"},
                 4, "row 1 of 'x': the activation has nan at place 2");
}

// Rows go through some at a time, densely or by what is active: the same numbers.
TEST_F(SaeVerbs, EncodeIsTheSameInPiecesAndSparsely) {
  run(train("run", {"--vectors", "256"}));
  const std::int64_t rows = 20'000;
  Tensor x = Tensor::empty({rows, 48}, DType::f32);
  for (std::int64_t i = 0; i < x.numel(); ++i)
    x.data<float>()[i] = static_cast<float>((i * 7919) % 1009) / 500.0F - 1.0F;
  save_safetensors(folder_ / "x.safetensors", {{"x", x}});
  const auto encode = [&](const std::string& out, const Words& more = {}) {
    return run(Words{"sae", "encode", "--sae", folder_ / "run", "--activations",
                     folder_ / "x.safetensors", "--tensor", "x", "--out", folder_ / out, "--format",
                     "json"} +
               more)
        .json();
  };
  const auto whole = encode("dense.safetensors"), few = encode("sparse.safetensors", {"--sparse"});
  EXPECT_EQ(whole["l0"], few["l0"]);
  EXPECT_EQ(few["rows"], rows);
  const SafeTensors dense = SafeTensors::open(folder_ / "dense.safetensors"),
                    sparse = SafeTensors::open(folder_ / "sparse.safetensors");
  EXPECT_EQ(max_abs_difference(dense.at("reconstruction"), sparse.at("reconstruction")), 0);
  const auto pointers = sparse.at("feature_acts.row_pointers").to_vector<std::int64_t>();
  const auto indices = sparse.at("feature_acts.indices").to_vector<std::int64_t>();
  const auto values = sparse.at("feature_acts.values").to_vector<float>();
  ASSERT_EQ(std::ssize(pointers), rows + 1);
  ASSERT_EQ(pointers.back(), std::ssize(values));
  const Tensor f = dense.at("feature_acts");
  std::vector<float> again(static_cast<std::size_t>(f.numel()), 0);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t p = pointers[static_cast<std::size_t>(i)];
         p < pointers[static_cast<std::size_t>(i + 1)]; ++p)
      again[static_cast<std::size_t>(i * 64 + indices[static_cast<std::size_t>(p)])] =
          values[static_cast<std::size_t>(p)];
  }
  EXPECT_EQ(again, f.to_vector<float>());
  // A row far on is named by its number, and nothing is left of the file.
  x.data<float>()[15'000 * 48 + 3] = std::nanf("");
  save_safetensors(folder_ / "x.safetensors", {{"x", x}});
  expect_failure({"sae", "encode", "--sae", folder_ / "run", "--activations",
                  folder_ / "x.safetensors", "--tensor", "x", "--out", folder_ / "bad.safetensors"},
                 4, "row 15000 of the activations has nan at place 3");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "bad.safetensors"));
  expect_failure(
      {"sae", "encode", "--sae", folder_ / "run", "--activations", folder_ / "dense.safetensors",
       "--tensor", "feature_act", "--out", folder_ / "y.safetensors"},
      3,
      "there is no tensor 'feature_act' (did you mean feature_acts?); there are "
      "feature_acts, reconstruction");
}

TEST_F(SaeVerbs, ConvertWritesOverNothing) {
  run(train("run", {"--vectors", "256"}));
  std::filesystem::create_directory(folder_ / "mine");
  std::ofstream(folder_ / "mine" / "cfg.json") << "my settings";
  const Words convert = {"sae", "convert", "--from", folder_ / "run", "--out", folder_ / "mine"};
  expect_failure(convert, 3, "is not empty (it holds 'cfg.json')");
  EXPECT_EQ(read_text(folder_ / "mine" / "cfg.json"), "my settings");
  run(convert + Words{"--overwrite"});
  EXPECT_THAT(read_text(folder_ / "mine" / "cfg.json"), HasSubstr("architecture"));
  run({"sae", "convert", "--from", folder_ / "run" / "sae_weights.safetensors", "--out",
       folder_ / "other"});
  EXPECT_EQ(read_text(folder_ / "other" / "cfg.json"), read_text(folder_ / "mine" / "cfg.json"));
}

// What the library says of it, and how it is done here.
TEST_F(SaeVerbs, FoldersOfOtherLibrariesAreToldHowToConvertThem) {
  const auto of_sparsify = folder_ / "sparsify";
  std::filesystem::create_directory(of_sparsify);
  const std::string weights = (of_sparsify / "sae.safetensors").string();
  save_safetensors(weights, {{"encoder.weight", Tensor::zeros({6, 4}, DType::f32)},
                             {"encoder.bias", Tensor::zeros({6}, DType::f32)},
                             {"W_dec", Tensor::zeros({6, 4}, DType::f32)},
                             {"b_dec", Tensor::zeros({4}, DType::f32)}});
  expect_failure({"sae", "convert", "--from", weights, "--out", folder_ / "out"}, 3,
                 "that says k; give it (--k)");
  std::ofstream(of_sparsify / "cfg.json") << R"({"num_latents": 6, "d_in": 4, "k": 2})";
  expect_failure({"sae", "convert", "--from", weights, "--k", "3", "--out", folder_ / "out"}, 3,
                 "k: expected 3, found 2; that is not --k 3");
  expect_failure({"sae", "encode", "--sae", of_sparsify, "--activations", weights, "--tensor",
                  "b_dec", "--out", folder_ / "codes.safetensors"},
                 3,
                 "this is a folder of sparsify; 'vitrine sae convert --from " +
                     of_sparsify.string() + " --out DIR' makes one of SAELens of it");
}

TEST_F(SaeVerbs, WhatIsRecordedIsTheRunsOwn) {
  run(train("run", {"--vectors", "512", "--stop-after", "1"}));
  const auto resumed =
      run({"sae", "train", "--resume", "--quiet", "--out", folder_ / "run", "--format", "json"})
          .json();
  EXPECT_EQ(resumed["meta"]["model"], tiny_model().string());
  EXPECT_THAT(resumed["meta"]["command"].get<std::string>(),
              ::testing::StartsWith("vitrine sae train --resume"));
  const Outcome one =
      run({"sae", "eval", "--sae", folder_ / "run", "--model", tiny_model().string(), "--data",
           folder_ / "text.jsonl", "--context", "1", "--format", "json"});
  EXPECT_TRUE(one.json()["model"].is_null()) << one.out;
  EXPECT_THAT(one.err, HasSubstr("no token of these texts is predicted"));
  const Outcome text =
      run({"sae", "eval", "--sae", folder_ / "run", "--model", tiny_model().string(), "--data",
           folder_ / "text.jsonl", "--context", "1"});
  EXPECT_EQ(text.out.find("nan"), std::string::npos) << text.out;
}

// What is trained at a site of heads is evaluated and looked at there.
TEST_F(SaeVerbs, SitesOfHeadsFromTrainingToFeatures) {
  const std::string model = tiny_model().string(), text = folder_ / "text.jsonl";
  for (const std::string site : {"hook_q", "hook_result"}) {
    const std::string early = "blocks.0.attn." + site, late = "blocks.1.attn." + site;
    run({"sae",     "train", "--model",     model, "--site",    early + "," + late,
         "--data",  text,    "--features",  "64",  "--k",       "4",
         "--batch", "128",   "--buffer",    "500", "--vectors", "512",
         "--quiet", "--out", folder_ / site});
    const std::string sae = folder_ / site / late;
    const auto e =
        run({"sae", "eval", "--sae", sae, "--model", model, "--data", text, "--format", "json"})
            .json();
    EXPECT_TRUE(e["model"]["ce_sae"].is_number()) << e;
    // The same rows from a file, whose heads are joined.
    run({"cache", "--model", model, "--tokens", "1,2,3", "--sites", late, "--out",
         folder_ / "heads.safetensors"});
    const auto of_file = run({"sae", "eval", "--sae", sae, "--activations",
                              folder_ / "heads.safetensors", "--tensor", late, "--format", "json"})
                             .json();
    EXPECT_EQ(of_file["reconstruction"]["rows"], 3);
    const auto f = run({"sae", "features", "--sae", sae, "--model", model, "--tokens", "1,2,3",
                        "--format", "json"})
                       .json();
    EXPECT_GT(f["active"].size(), 2U);
    EXPECT_TRUE(f["active"][0]["raised"].is_null());  // it is not written into the stream
    run({"influence", "--source-sae", folder_ / site / early, "--target-sae", sae, "--model", model,
         "--tokens", "1,2,3", "--verify", "1"});
  }
}

// Every sub-verb explains itself, and its example works.
TEST(SaeHelp, ExamplesWork) {
  for (const char* what : {"train", "eval", "features", "encode", "convert"}) {
    const Outcome help = vitrine({"sae", what, "--help"});
    EXPECT_EQ(help.exit, 0);
    const std::size_t at = help.out.rfind("\nExample:\n  ");
    ASSERT_NE(at, std::string::npos) << what;
    std::string command = help.out.substr(at + 12);
    command.pop_back();
    const TemporaryFolder folder;
    const Outcome o = shell(command, {.folder = folder.path()});
    EXPECT_EQ(o.exit, 0) << command << "\n" << o.err;
    EXPECT_NE(o.out, "") << command;
  }
}

// ---- influence ----------------------------------------------------------------------------------
TEST(InfluenceVerb, ShowsWhichPositionFeedsWhich) {
  const Words words = {"influence",
                       "--source-sae",
                       "blocks.1.hook_mlp_out",
                       "--target-sae",
                       "blocks.4.hook_mlp_out",
                       "--prompt",
                       "The capital of Texas is",
                       "--target-pos",
                       "4"};
  const Outcome o = vitrine(words + Words{"--format", "json"});
  ASSERT_EQ(o.exit, 0) << o.err;
  const auto json = o.json();
  EXPECT_EQ(json["targets"].size(), 5U);
  for (const auto& t : json["targets"]) {
    EXPECT_EQ(t["target"]["position"], 4);
    EXPECT_EQ(t["by_position"].size(), 5U);
    std::set<int> positions;
    for (const auto& c : t["causes"]) {
      positions.insert(c["source"]["position"].get<int>());
      EXPECT_TRUE(c["exact"].is_number());
    }
  }
  EXPECT_THAT(vitrine(words).out,
              ::testing::AllOf(HasSubstr("\" Texas\""), HasSubstr("first order"),
                               HasSubstr("attention recomputed")));
  expect_failure(words + Words{"--attention", "freeze"}, 2,
                 "recompute, detach or hold, not 'freeze'");
}

}  // namespace
}  // namespace vitrine::test

// vitrine patch --pairs: many pairs from a file, beside one after the other.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tensor/files/file.h"
#include "tensor/files/safetensors.h"
#include "tests/apps/program.h"
#include "tests/support.h"
#include "tests/tensor/temporary_folder.h"

namespace vitrine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Capitals {
  std::string clean, corrupt, answer, wrong;
  std::string line() const {
    return json{{"clean", clean}, {"corrupt", corrupt}, {"answer", answer}, {"wrong", wrong}}
               .dump() +
           "\n";
  }
  Words alone() const {
    return {"patch", "--clean", clean, "--corrupt", corrupt, "--answer", answer, "--wrong", wrong};
  }
};
// Of 5, 5 and 6 tokens.
const std::vector<Capitals> kCapitals = {
    {"The capital of Texas is", "The capital of California is", " Austin", " Sacramento"},
    {"The capital of Ohio is", "The capital of Texas is", " Columbus", " Austin"},
    {"The capital of New Mexico is", "The capital of New York is", " Austin", " Albany"}};

// A file of them, with a blank line before the last.
std::string capitals_file(const TemporaryFolder& folder) {
  const std::string file = folder / "capitals.jsonl";
  write_text(file, kCapitals[0].line() + kCapitals[1].line() + " \r\n" + kCapitals[2].line());
  return file;
}

double number_or_nan(const json& j) { return j.is_null() ? std::nan("") : j.get<double>(); }

// Every number of lists within lists, in row-major order.
void flatten(const json& j, std::vector<double>& numbers) {
  if (!j.is_array()) return numbers.push_back(number_or_nan(j));
  for (const json& part : j) flatten(part, numbers);
}
std::vector<double> flat(const json& j) {
  std::vector<double> numbers;
  flatten(j, numbers);
  return numbers;
}
void expect_near(const json& a, const json& b, double tolerance) {
  const auto x = flat(a), y = flat(b);
  ASSERT_EQ(x.size(), y.size());
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], tolerance) << i;
}

// ---- what comes out -----------------------------------------------------------------------------
TEST(PatchPairs, JsonHoldsEachPairAndTheirMean) {
  const TemporaryFolder folder;
  const Words sweep = {"--site", "resid_pre", "--top", "3", "--format", "json"};
  const Outcome o = vitrine(Words{"patch", "--pairs", capitals_file(folder)} + sweep);
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_EQ(o.err, "");
  const json j = o.json();
  std::set<std::string> keys;
  for (const auto& [key, value] : j.items()) keys.insert(key);
  EXPECT_EQ(keys, (std::set<std::string>{"meta",           "site",           "by",     "action",
                                         "direction",      "metric",         "runs",   "passes",
                                         "without_effect", "axes",           "layers", "shape",
                                         "mean",           "standard_error", "count",  "pairs",
                                         "strongest",      "explanation",    "file",   "group_by",
                                         "groups"}));
  EXPECT_EQ(j["shape"], json({6, 6}));
  EXPECT_EQ(j["axes"], json({"layer", "pos"}));
  EXPECT_EQ(j["passes"], 1);
  ASSERT_EQ(j["pairs"].size(), 3u);
  double clean = 0, corrupt = 0;
  int runs = 0, without_effect = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    const json one = vitrine(kCapitals[i].alone() + sweep).json(), pair = j["pairs"][i];
    EXPECT_EQ(pair["line"], (std::vector<int>{1, 2, 4}[i]));
    for (const char* same : {"tokens", "str_tokens", "shape"}) EXPECT_EQ(pair[same], one[same]);
    expect_near(pair["values"], one["values"], 1e-4);
    EXPECT_NEAR(pair["metric"]["clean"], one["metric"]["clean"], 1e-4);
    EXPECT_NEAR(pair["metric"]["corrupt"], one["metric"]["corrupt"], 1e-4);
    clean += pair["metric"]["clean"].get<double>() / 3;
    corrupt += pair["metric"]["corrupt"].get<double>() / 3;
    runs += one["runs"].get<int>();
    without_effect += one["without_effect"].get<int>();
  }
  EXPECT_EQ(j["metric"]["name"], "logit_diff");
  EXPECT_NEAR(j["metric"]["clean"], clean, 1e-9);
  EXPECT_NEAR(j["metric"]["corrupt"], corrupt, 1e-9);
  EXPECT_EQ(j["runs"], runs);
  EXPECT_EQ(j["without_effect"], without_effect);
  for (std::size_t layer = 0; layer < 6; ++layer) {
    for (std::size_t pos = 0; pos < 6; ++pos) {
      double n = 0, sum = 0, squares = 0;
      for (const json& pair : j["pairs"]) {
        if (pos >= pair["shape"][1]) continue;
        const double change =
            pair["values"][layer][pos].get<double>() - pair["metric"]["corrupt"].get<double>();
        n += 1;
        sum += change;
        squares += change * change;
      }
      EXPECT_EQ(j["count"][layer][pos].dump(), pos < 5 ? "3" : "1");
      EXPECT_NEAR(j["mean"][layer][pos], sum / n, 1e-9);
      const json& error = j["standard_error"][layer][pos];
      EXPECT_EQ(error.is_null(), pos == 5);
      if (pos == 5) continue;
      const double variance = std::max(0.0, (squares - sum * sum / n) / (n - 1));
      EXPECT_NEAR(error, std::sqrt(variance / n), 1e-6);
    }
  }
  ASSERT_EQ(j["strongest"].size(), 3u);
  const json first = j["strongest"][0];
  EXPECT_EQ(first["layer"], 0);
  EXPECT_EQ(first["pos"], 3);
  EXPECT_EQ(first["change"], j["mean"][0][3]);
  EXPECT_EQ(first["standard_error"], j["standard_error"][0][3]);
  EXPECT_EQ(first["count"], 3);
  EXPECT_NEAR(first["metric"], corrupt + first["change"].get<double>(), 1e-9);  // all have it
}

TEST(PatchPairs, TensorsOfEachAndTheMean) {
  const TemporaryFolder folder;
  const std::string all = folder / "all.safetensors", one = folder / "one.safetensors";
  const Words sweep = {"--site", "z", "--by", "head,pos", "--direction", "noise"};
  const Outcome o = vitrine(Words{"patch", "--pairs", capitals_file(folder), "--out", all} + sweep);
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("\nsweep [6, 6, 4] written to " + all));
  const auto saved = SafeTensors::open(all);
  EXPECT_EQ(saved.names().size(), 6u + 3 * 3);
  EXPECT_EQ(saved.metadata().at("axes"), "layer,pos,head");
  EXPECT_EQ(saved.metadata().at("direction"), "noise");
  for (const char* name : {"sweep", "sweep/change", "sweep/standard_error", "sweep/count"})
    EXPECT_EQ(to_string(saved.at(name).shape()), "[6, 6, 4]") << name;
  double clean = 0;
  std::vector<double> metric(6 * 6 * 4), count(6 * 6 * 4), change(6 * 6 * 4);
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_EQ(vitrine(kCapitals[i].alone() + sweep + Words{"--out", one}).exit, 0);
    const auto alone = SafeTensors::open(one);
    for (const auto& [mine, theirs] :
         {std::pair{"sweep", "sweep"}, {"clean", "metric/clean"}, {"corrupt", "metric/corrupt"}}) {
      const Tensor got = saved.at(fmt::format("pair/{}/{}", i, mine));
      EXPECT_EQ(got.dtype(), DType::f32);
      ASSERT_EQ(to_string(got.shape()), to_string(alone.at(theirs).shape()));
      EXPECT_LE(max_abs_difference(got, alone.at(theirs)), 1e-4) << mine;
    }
    const auto base = alone.at("metric/clean").item<double>();
    clean += base / 3;
    const Tensor values = alone.at("sweep");
    const auto positions = static_cast<std::size_t>(values.dim(1));
    const auto x = values.to_vector<double>();
    for (std::size_t k = 0; k < x.size(); ++k) {
      const std::size_t layer = k / (4 * positions), rest = k % (4 * positions);
      metric[layer * 24 + rest] += x[k];
      change[layer * 24 + rest] += x[k] - base;
      count[layer * 24 + rest] += 1;
    }
  }
  EXPECT_NEAR(saved.at("metric/clean").item<double>(), clean, 1e-4);
  const auto got_metric = saved.at("sweep").to_vector<double>(),
             got_change = saved.at("sweep/change").to_vector<double>(),
             got_count = saved.at("sweep/count").to_vector<double>(),
             got_error = saved.at("sweep/standard_error").to_vector<double>();
  for (std::size_t k = 0; k < count.size(); ++k) {
    EXPECT_EQ(got_count[k], count[k]);
    EXPECT_NEAR(got_metric[k], metric[k] / count[k], 1e-4);
    EXPECT_NEAR(got_change[k], change[k] / count[k], 1e-4);
    EXPECT_EQ(std::isnan(got_error[k]), count[k] < 2);
  }
}

TEST(PatchPairs, MeansByGroupOfTheSameRuns) {
  const TemporaryFolder folder;
  const std::string file = folder / "grouped.jsonl";
  std::string lines;
  for (std::size_t i = 0; i < kCapitals.size(); ++i) {
    json line = json::parse(kCapitals[i].line());
    line["size"] = i == 1 ? "one" : "two";
    lines += line.dump() + "\n";
  }
  write_text(file, lines);
  const Words patch = {"patch", "--pairs", file, "--site", "resid_pre"};
  const Words groups = {"--group-by", "size"}, as_json = {"--format", "json"};
  const json all = vitrine(patch + as_json).json(),
             j = vitrine(patch + groups + Words{"--out", folder / "g.safetensors"} + as_json)
                     .json();
  EXPECT_EQ(all["group_by"], nullptr);
  EXPECT_EQ(all["groups"], json::array());
  EXPECT_EQ(j["group_by"], "size");
  for (const char* same : {"mean", "runs", "passes", "strongest", "pairs"})
    EXPECT_EQ(j[same], all[same]);
  ASSERT_EQ(j["groups"].size(), 2u);
  const json &two = j["groups"][0], &one = j["groups"][1];
  EXPECT_EQ(two["name"], "two");
  EXPECT_EQ(two["pairs"], 2);
  EXPECT_EQ(two["shape"], json({6, 6}));
  EXPECT_EQ(one["shape"], json({6, 5}));
  EXPECT_EQ(two["count"][0][5], 1);
  const auto change = [&](int pair) {
    return j["pairs"][pair]["values"][0][3].get<double>() -
           j["pairs"][pair]["metric"]["corrupt"].get<double>();
  };
  EXPECT_NEAR(one["mean"][0][3], change(1), 1e-12);
  EXPECT_NEAR(two["mean"][0][3], (change(0) + change(2)) / 2, 1e-12);
  EXPECT_EQ(one["metric"], j["pairs"][1]["metric"]);
  EXPECT_EQ(one["strongest"][0]["count"], 1);
  EXPECT_NEAR(
      SafeTensors::open(folder / "g.safetensors").at("group/two/sweep/change").at<float>({0, 3}),
      two["mean"][0][3].get<double>(), 1e-5);
  const Outcome table = vitrine(patch + groups + Words{"--out", folder / "g.csv"});
  EXPECT_THAT(table.out, HasSubstr("size two, 2 pairs, mean clean "));
  EXPECT_THAT(table.out, HasSubstr("size one, 1 pair, mean clean "));
  EXPECT_THAT(read_text(folder / "g.csv"), HasSubstr("group/one/sweep/change,0,3,"));
  EXPECT_THAT(vitrine(patch + Words{"--group-by", "length"}).err,
              HasSubstr("there is no field \"length\" to group by"));
  EXPECT_THAT(
      vitrine(kCapitals[0].alone() + Words{"--site", "resid_pre", "--group-by", "size"}).err,
      HasSubstr("--group-by is about the pairs of a file; give --pairs FILE"));
}

TEST(PatchPairs, TheTableHasTheMeanAndEachPair) {
  const TemporaryFolder folder;
  const Words patch = {"patch", "--pairs", capitals_file(folder), "--site", "resid_pre"};
  const Outcome o = vitrine(patch);
  ASSERT_EQ(o.exit, 0) << o.err;
  EXPECT_TRUE(
      o.out.starts_with("resid_pre by pos, denoise: the base runs are corrupt; clean activations "
                        "are put in.\n"
                        "3 pairs: 2 of 5 tokens, 1 of 6\n"
                        "metric: logit of the answer - logit of the wrong one, mean clean "))
      << o.out;
  EXPECT_THAT(o.out, HasSubstr("\n96 edited runs: "));
  EXPECT_THAT(o.out, HasSubstr("\npos         0           1      2       3       4       5\n"
                               "in all  \"The\"  \" capital\"  \" of\"                   \" is\"\n"
                               "pairs       3           3      3       3       3       1\n"
                               "layer 0     ·           ·      ·  +"));
  EXPECT_THAT(o.out, HasSubstr("layer  pos  mean change  standard error  pairs\n    0    3  "));
  EXPECT_THAT(vitrine(patch + Words{"--top", "20"}).out,
              HasSubstr("               -      1\n"));  // no error of a single pair
  EXPECT_THAT(o.out, HasSubstr("\n--each lists the 3 pairs; --format json has all of each\n"));
  EXPECT_THAT(o.out, Not(HasSubstr("\nline   clean")));
  const Outcome each = vitrine(patch + Words{"--each"});
  EXPECT_THAT(each.out, HasSubstr("\nline   clean  corrupt  layer  pos  token"));
  EXPECT_THAT(each.out, HasSubstr("      0    3  \" Ohio\" / \" Texas\""));
  EXPECT_THAT(each.out, HasSubstr("\n   4  "));
  EXPECT_THAT(o.out, Not(HasSubstr("sweep:")));
  EXPECT_THAT(vitrine(patch + Words{"--explain"}).out, HasSubstr("\nsweep: 96 edited runs by "));
  EXPECT_THAT(vitrine(patch + Words{"--metric", "prob"}).out,
              HasSubstr("metric: probability of the answer, mean clean 0."));
  const Outcome heads = vitrine({"patch", "--pairs", capitals_file(folder), "--site", "z"});
  EXPECT_THAT(heads.out, HasSubstr("\nhead "));
  EXPECT_THAT(heads.out, Not(HasSubstr("in all")));
}

TEST(PatchPairs, PairsWithoutAnyEffect) {
  const std::string same =
      "{\"clean_tokens\": [1, 2], \"corrupt_tokens\": [1, 2], \"answer_token\": 3, "
      "\"wrong_token\": 4}";
  const Words patch = {"patch", "--model", tiny_model(), "--pairs",
                       "-",     "--site",  "resid_mid",  "--each"};
  const Outcome o = vitrine(patch, {.input = same});
  EXPECT_THAT(o.out, HasSubstr("1 pair of 2 tokens\n"));
  EXPECT_THAT(o.out, HasSubstr("No edit changes the mean of the metric.\n"));
  EXPECT_TRUE(o.out.ends_with("-    -  -           -\n")) << o.out;
  const json j = vitrine(patch + Words{"--format", "json"}, {.input = same}).json();
  EXPECT_EQ(j["strongest"], json::array());
  EXPECT_TRUE(j["pairs"][0]["str_tokens"].is_null());
  EXPECT_EQ(j["passes"], 0);
}

// ---- what is put in -----------------------------------------------------------------------------
TEST(PatchPairs, MeanAndResample) {
  const TemporaryFolder folder;
  const std::string file = folder / "pairs.jsonl";
  std::string lines;
  for (int i = 0; i < 4; ++i) {
    lines += fmt::format(
        "{{\"clean_tokens\": [{}, 2, 3], \"corrupt_tokens\": [{}, 2, 4], \"answer_token\": 5, "
        "\"wrong_token\": 6}}\n",
        10 + i, 20 + 3 * i);
  }
  write_text(file, lines);
  const auto sweep = [&](const Words& options) {
    const Outcome o = vitrine(
        Words{"patch", "--model", tiny_model(), "--pairs", file, "--site", "resid_pre"} + options);
    EXPECT_EQ(o.exit, 0) << o.err;
    return o;
  };
  EXPECT_THAT(sweep({"--action", "mean"}).out,
              HasSubstr("; the mean over all positions of all prompts is put in.\n"));
  EXPECT_THAT(sweep({"--action", "resample"}).out,
              HasSubstr("; another pair's corrupt activations are put in.\n"));
  EXPECT_THAT(sweep({"--action", "resample", "--direction", "noise"}).out,
              HasSubstr("; another pair's clean activations are put in.\n"));
  std::set<std::string> drawn;
  for (int seed = 0; seed < 12; ++seed) {
    const json j =
        sweep({"--action", "resample", "--seed", std::to_string(seed), "--format", "json"}).json();
    EXPECT_EQ(j["action"], "resample");
    EXPECT_EQ(j["meta"]["seed"], seed);
    // Layer 0, last position: all corrupt prompts have the same token there.
    EXPECT_EQ(j["mean"][0][2], 0);
    EXPECT_NE(j["mean"][0][0], 0);
    drawn.insert(j["pairs"].dump());
  }
  EXPECT_GT(drawn.size(), 1u);
  EXPECT_LE(drawn.size(), 6u);  // as many cycles as four pairs have
}

// ---- the file -----------------------------------------------------------------------------------
TEST(PatchPairs, TextIdsAndTheirMixture) {
  const Words patch = {"patch", "--pairs", "-", "--site", "resid_pre", "--format", "json"};
  const json text = vitrine(patch, {.input = kCapitals[0].line()}).json();
  const json tokens = text["pairs"][0]["tokens"];
  json by_ids = {{"clean_tokens", tokens["clean"]},
                 {"corrupt", kCapitals[0].corrupt},
                 {"answer", " Austin"},
                 {"wrong_token", tokens["wrong"]}};
  EXPECT_EQ(vitrine(patch, {.input = by_ids.dump()}).json()["pairs"], text["pairs"]);
  const json with_bos =
      vitrine(patch + Words{"--prepend-bos"}, {.input = by_ids.dump()}).json()["pairs"][0];
  EXPECT_EQ(with_bos["str_tokens"]["clean"][0], "<|endoftext|>");
  EXPECT_EQ(with_bos["str_tokens"]["corrupt"][0], "<|endoftext|>");
  EXPECT_EQ(with_bos["shape"], json({6, 6}));
}

TEST(PatchPairs, MistakesNameFileAndLine) {
  const TemporaryFolder folder;
  const std::string file = folder / "pairs.jsonl";
  const auto message = [&](const std::string& line, const Words& more = {}) {
    write_text(file, kCapitals[0].line() + "\n" + line + "\n");
    const Outcome o = vitrine(Words{"patch", "--pairs", file, "--site", "z"} + more);
    EXPECT_EQ(o.exit, 3) << line;
    EXPECT_EQ(o.out, "");
    EXPECT_THAT(o.err, HasSubstr(file + ":3: ")) << line;
    return o.err;
  };
  const auto changed = [](const char* key, const json& value) {
    json pair = json::parse(kCapitals[0].line());
    pair[key] = value;
    return pair.dump();
  };
  const auto without = [](const char* key) {
    json pair = json::parse(kCapitals[0].line());
    pair.erase(key);
    return pair.dump();
  };
  const std::string wanted = "; expected one {\"clean\": \"...\", \"corrupt\": \"...\", ";
  EXPECT_THAT(message("{\"clean\": \"a\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(message("{\"clean\": \"a\", \"clean\": \"b\"}"),
              HasSubstr("the key \"clean\" occurs twice in one object"));
  EXPECT_THAT(message("[1]"), HasSubstr("must be a JSON object, but this is \"[1]\"" + wanted));
  EXPECT_THAT(message(changed("answers", " Austin")),
              HasSubstr("the key \"answers\" is not known" + wanted));
  for (const char* key : {"clean", "corrupt"}) {
    const std::string ids = fmt::format("{}_tokens", key);
    EXPECT_THAT(message(without(key)),
                HasSubstr(fmt::format("there is neither \"{}\" nor \"{}\"", key, ids) + wanted));
    EXPECT_THAT(message(changed(ids.c_str(), {1, 2})),
                HasSubstr(fmt::format("there are both \"{}\" and \"{}\"", key, ids) + wanted));
  }
  EXPECT_THAT(message(without("answer")), HasSubstr("neither \"answer\" nor \"answer_token\""));
  EXPECT_THAT(message(without("wrong")), HasSubstr("neither \"wrong\" nor \"wrong_token\""));
  EXPECT_THAT(message(changed("wrong_token", 4)), HasSubstr("both \"wrong\" and \"wrong_token\""));
  EXPECT_THAT(message(changed("clean", 5)), HasSubstr("\"clean\" must be a string, but is \"5\""));
  EXPECT_THAT(message(changed("answer", {1})), HasSubstr("\"answer\" must be a string"));
  const auto by_ids = [](const json& clean, const json& answer) {
    return json{{"clean_tokens", clean},
                {"corrupt_tokens", {1, 2}},
                {"answer_token", answer},
                {"wrong_token", 4}}
        .dump();
  };
  EXPECT_THAT(message(by_ids("1,2", 3)), HasSubstr("\"clean_tokens\" must be a list of ids"));
  EXPECT_THAT(message(by_ids({1, 2.5}, 3)), HasSubstr("\"clean_tokens\": \"2.5\" is not a token"));
  EXPECT_THAT(message(by_ids({1, -2}, 3)), HasSubstr("\"-2\" is not a token id"));
  EXPECT_THAT(message(by_ids({1, 2}, "3")), HasSubstr("\"answer_token\": "));
  EXPECT_THAT(message(by_ids({1, 6000}, 3)), HasSubstr("6000"));
  EXPECT_THAT(message(by_ids({1, 2}, 6000)), HasSubstr("answer's id 6000 is outside 0 to 5999"));
  EXPECT_THAT(message(by_ids({1, 2}, 4)), HasSubstr("are the same token (id 4)"));
  EXPECT_THAT(message(changed("answer", "Austin")), HasSubstr("did you mean \" Austin\""));
  EXPECT_THAT(message(changed("clean", "The capital of New Mexico is")),
              HasSubstr("the clean prompt has 6 tokens, the corrupt one 5; patching needs prompts "
                        "that line up"));
  const std::string text = kCapitals[1].line();
  write_text(file, text);
  const Outcome o = vitrine({"patch", "--model", tiny_model(), "--pairs", file, "--site", "z"});
  EXPECT_EQ(o.exit, 3);
  EXPECT_THAT(o.err, HasSubstr(file + ":1: \"clean\" is text, but this model has no tokenizer"));
}

TEST(PatchPairs, OtherMistakes) {
  const TemporaryFolder folder;
  const std::string file = folder / "pairs.jsonl";
  const auto expect_error = [&](const Words& more, int exit, const std::string& message) {
    const Outcome o = vitrine(Words{"patch", "--site", "z", "--pairs"} + more);
    EXPECT_EQ(o.exit, exit) << message;
    EXPECT_EQ(o.out, "");
    EXPECT_THAT(o.err, HasSubstr(message));
  };
  expect_error({folder / "none.jsonl"}, 3, "none.jsonl");
  for (const char* empty : {"", "\n  \r\n"}) {
    write_text(file, empty);
    expect_error({file}, 3, file + ": there are no pairs; expected one {\"clean\": ");
  }
  expect_error({capitals_file(folder), "--action", "resample"}, 3,
               "the one of line 4 is the only one with 6; give more pairs of that length");
  for (const Words& also : {Words{"--clean", "a"}, Words{"--corrupt-tokens", "1"},
                            Words{"--answer", " a"}, Words{"--wrong-token", "1"}}) {
    expect_error(Words{file} + also, 2, "give --pairs, or one pair by --clean, --corrupt, ");
  }
}

}  // namespace
}  // namespace vitrine::test

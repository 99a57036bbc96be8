// Tests nn/training/training_settings.h.
#include "nn/training/training_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tensor/expect_error.h"

namespace vitrine::nn {
namespace {

using test::message_of;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Nothing as it is by default.
TrainingSettings settings() {
  TrainingSettings s;
  s.model = preset("tiny", 777);
  s.model.tied = false;
  s.model.activation = Activation::relu;
  s.model.norm_eps = 3e-6;
  s.model.bos = 5;
  s.initializer = Initializer::mimetic;
  s.initializer_range = 0.07;
  s.rules.adamw = {.beta1 = 0.1, .beta2 = 0.3, .eps = 1e-7, .decay = 0.7, .clip = 0.6};
  s.rules.accumulate = 3;
  s.rules.ema = 0.999;
  s.schedule = {Schedule::Shape::linear, 1.0 / 3, 17, 12345678901, 0.25};
  s.rows = 99;
  s.begun = 0.125;
  s.seed = UINT64_MAX;
  s.sources = {{"a \"quoted\" näme.txt", 0.1}, {"b.jsonl", 3}};
  s.split = Split::blank_line;
  s.validation = 0.02;
  return s;
}

TEST(TrainingSettings, ComeBackFromJson) {
  TrainingSettings s = settings();
  EXPECT_EQ(parse_settings(to_json(s), "here"), s);
  for (const auto shape :
       {Schedule::Shape::cosine, Schedule::Shape::linear, Schedule::Shape::constant}) {
    for (const Split split : {Split::whole_file, Split::blank_line, Split::line}) {
      s.schedule.shape = shape;
      s.split = split;
      EXPECT_EQ(parse_settings(to_json(s), "here"), s);
    }
  }
  EXPECT_EQ(parse_settings(to_json(TrainingSettings{}), "here"), TrainingSettings{});
}

TEST(TrainingSettings, SayWhatIsWrongWithJson) {
  const auto changed = [](const auto& change) {
    nlohmann::json json = nlohmann::json::parse(to_json(settings()));
    change(json);
    return json.dump();
  };
  const auto parse = [](const std::string& json) { return parse_settings(json, "run/state"); };
  EXPECT_ERROR(FileError, "run/state", parse("{"));
  EXPECT_ERROR(FileError, "twice", parse(R"({"rows": 1, "rows": 2})"));
  const auto expect = [&](const std::string& json, const std::string& what) {
    EXPECT_THAT(message_of<CheckpointError>([&] { (void)parse(json); }),
                AllOf(HasSubstr("run/state"), HasSubstr(what)));
  };
  expect("[]", "the settings of the run cannot be read");
  const nlohmann::json whole = nlohmann::json::parse(to_json(settings()));
  for (const auto& [name, value] : whole.items())
    expect(changed([&, key = name](auto& json) { json.erase(key); }), ": " + name + ": expected");
  expect(changed([](auto& json) { json["rows"] = "many"; }), "number");
  expect(changed([](auto& json) { json["adamw"].erase("eps"); }),
         "adamw.eps: expected a number, 0 or more, found no such field");
  expect(changed([](auto& json) { json["split"] = "page"; }),
         "split: expected none, blank-line or line, found \"page\"");
  expect(changed([](auto& json) { json["schedule"]["shape"] = "round"; }),
         "schedule.shape: expected cosine, linear or constant, found \"round\"");
  // Every field of another type, and none with the words of the JSON library. The model's are those
  // of a config.json, read elsewhere.
  int fields = 0;
  const nlohmann::json flat = whole.flatten();
  for (const auto& [path, value] : flat.items()) {
    const nlohmann::json::json_pointer at(path);
    if (path.starts_with("/model/")) continue;
    const std::string said = message_of<CheckpointError>(
        [&] { (void)parse(changed([&](auto& json) { json[at] = nlohmann::json::object(); })); });
    EXPECT_THAT(said, AllOf(HasSubstr("run/state: the settings of the run cannot be read: "),
                            HasSubstr(at.back() + ": expected"), HasSubstr("found an empty object"),
                            ::testing::Not(HasSubstr("json.exception"))))
        << path;
    ++fields;
  }
  EXPECT_GE(fields, 24);
  expect(changed([](auto& json) { json["rows"] = 0; }),
         "rows: expected a whole number, 1 or more, found 0");
  expect(changed([](auto& json) { json["rows"] = 2.5; }),
         "rows: expected a whole number, 1 or more, found 2.5");
  expect(changed([](auto& json) { json["ema"] = 1; }), "ema: expected a number below 1, found 1");
  expect(changed([](auto& json) { json["sources"][1]["weight"] = -1; }),
         "sources[1].weight: expected a number, 0 or more, found -1");
  EXPECT_ERROR(ConfigError, "run/state: model: n_layer: expected a whole number",
               parse(changed([](auto& json) { json["model"]["n_layer"] = 0; })));
}

// Every number of a run has a range, and every name is known.
TEST(TrainingSettings, AreCheckedInFull) {
  const nlohmann::json whole = nlohmann::json::parse(to_json(settings()));
  const auto expect = [&](const char* pointer, const nlohmann::json& value,
                          const std::string& field) {
    nlohmann::json json = whole;
    json[nlohmann::json::json_pointer(pointer)] = value;
    EXPECT_THAT(
        message_of<CheckpointError>([&] { (void)parse_settings(json.dump(), "run/state"); }),
        AllOf(HasSubstr("run/state: the settings of the run"), HasSubstr(field + ": ")))
        << pointer << " " << value;
  };
  const auto all = [&](const std::string& pointer, const std::vector<nlohmann::json>& values) {
    for (const nlohmann::json& value : values)
      expect(pointer.c_str(), value, pointer.substr(pointer.rfind('/') + 1));
    for (const nlohmann::json& value :
         std::vector<nlohmann::json>{"NaN", nullptr, nlohmann::json::array({1})})
      expect(pointer.c_str(), value, pointer.substr(pointer.rfind('/') + 1));
  };
  all("/initializer_range", {0, -1});
  all("/adamw/beta1", {-0.1, 1, 1.5});
  all("/adamw/beta2", {-0.1, 1});
  all("/adamw/eps", {0, -1e-8});
  all("/adamw/decay", {-1});
  all("/adamw/clip", {-1});
  all("/accumulate", {0, -1, 1.5, 1e12, UINT64_MAX});
  all("/ema", {-0.1, 1});
  for (const char* rate : {"/dropout/embedding", "/dropout/attention", "/dropout/residual"})
    all(rate, {-0.1, 1});
  all("/recompute", {1});
  all("/schedule/peak", {0, -1});
  all("/schedule/steps", {0, -1, 2.5, INT64_MAX});
  all("/schedule/warmup", {-1, 12345678902});
  all("/schedule/last", {-0.1, 1.1});
  expect("/schedule/shape", 0, "shape");
  all("/rows", {0, -1, 1e10, 0.5});
  all("/begun", {-0.1, 1.1});
  all("/seed", {-1, 0.5});
  all("/validation", {-0.1, 1});
  all("/sources/0/weight", {0, -1});
  expect("/sources/0/file", 3, "file");
  expect("/sources", "a.txt", "sources");
  for (const char* pointer :
       {"/rate", "/adamw/rate", "/dropout/mlp", "/schedule/shapes", "/sources/1/share"})
    expect(pointer, 1, std::string(pointer).substr(std::string(pointer).rfind('/') + 1));
}

TEST(TrainingSettings, Presets) {
  EXPECT_THAT(preset_names(),
              ElementsAre("tiny", "atlas", "gpt2-small", "llama-tiny", "llama-small"));
  for (const std::string& name : preset_names()) {
    const Config c = preset(name, 1234);
    EXPECT_EQ(c.vocabulary, 1234);
    EXPECT_EQ(c.d_model % c.heads, 0);
    EXPECT_GT(c.d_mlp, 2.5 * c.d_model);
    EXPECT_EQ(c.d_mlp == 4 * c.d_model, c.model_type == "gpt2");
    EXPECT_EQ(parse_config(config_json(c), "config.json"), c);
  }
  EXPECT_EQ(preset("gpt2-small", 50257), Config{});
  EXPECT_EQ(preset("atlas", 5000).layers, 4);
  EXPECT_EQ(preset("atlas", 5000).d_model, 256);
  EXPECT_EQ(preset("tiny", 5000).d_model, 64);
  EXPECT_THAT(message_of<Error>([] { (void)preset("atals", 10); }),
              AllOf(HasSubstr("there is no preset 'atals'"), HasSubstr("did you mean"),
                    HasSubstr("there are tiny, atlas, gpt2-small")));
  EXPECT_THAT(message_of<Error>([] { (void)preset("", 10); }), HasSubstr("there are tiny"));
}

}  // namespace
}  // namespace vitrine::nn

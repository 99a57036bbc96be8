#include "nn/training_settings.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "nn/strict_json.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kSplits[] = {"none", "blank-line", "line"};
constexpr std::string_view kInitializers[] = {"gpt2", "mimetic"};
constexpr std::string_view kShapes[] = {"cosine", "linear", "constant"};

template <std::size_t N>
int index_of(const std::string_view (&names)[N], const Json& json, const char* field,
             const std::string& where) {
  const std::string name = json.at(field);
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) return static_cast<int>(i);
  }
  throw CheckpointError(fmt::format("{}: the settings of the run have the {} '{}'; there are {}",
                                    where, field, name, fmt::join(names, ", ")));
}

}  // namespace

std::vector<std::string> preset_names() { return {"tiny", "atlas", "gpt2-small"}; }

Config preset(std::string_view name, int vocabulary) {
  Config c;
  c.vocabulary = vocabulary;
  const auto shape = [&](int layers, int heads, int width, int context) {
    c.layers = layers;
    c.heads = heads;
    c.d_model = width;
    c.d_mlp = 4 * width;
    c.context = context;
  };
  if (name == "tiny") {
    shape(2, 4, 64, 64);
  } else if (name == "atlas") {
    shape(4, 8, 256, 256);
  } else if (name != "gpt2-small") {
    throw Error(ErrorKind::usage,
                fmt::format("there is no preset '{}'{}; there are {}", name,
                            did_you_mean(nearest(std::string(name), preset_names(), 1)),
                            fmt::join(preset_names(), ", ")));
  }
  return c;
}

std::string to_json(const TrainingSettings& s) {
  Json sources = Json::array();
  for (const TextSource& t : s.sources) sources.push_back({{"file", t.file}, {"weight", t.weight}});
  const AdamW& a = s.rules.adamw;
  const Json json = {{"model", Json::parse(config_json(s.model))},
                     {"initializer", kInitializers[static_cast<int>(s.initializer)]},
                     {"initializer_range", s.initializer_range},
                     {"adamw",
                      {{"beta1", a.beta1},
                       {"beta2", a.beta2},
                       {"eps", a.eps},
                       {"decay", a.decay},
                       {"clip", a.clip}}},
                     {"accumulate", s.rules.accumulate},
                     {"ema", s.rules.ema},
                     {"dropout",
                      {{"embedding", s.rules.dropout.embedding},
                       {"attention", s.rules.dropout.attention},
                       {"residual", s.rules.dropout.residual}}},
                     {"recompute", s.rules.recompute},
                     {"schedule",
                      {{"shape", kShapes[static_cast<int>(s.schedule.shape)]},
                       {"peak", s.schedule.peak},
                       {"warmup", s.schedule.warmup},
                       {"steps", s.schedule.steps},
                       {"last", s.schedule.last}}},
                     {"rows", s.rows},
                     {"begun", s.begun},
                     {"seed", s.seed},
                     {"sources", sources},
                     {"split", kSplits[static_cast<int>(s.split)]},
                     {"validation", s.validation}};
  return json_line(json);
}

TrainingSettings parse_settings(std::string_view text, const std::string& where) {
  try {
    const Json json = parse_json(text, where);
    TrainingSettings s;
    s.model = parse_config(json.at("model").dump(), where);
    s.initializer = static_cast<Initializer>(index_of(kInitializers, json, "initializer", where));
    s.initializer_range = json.at("initializer_range");
    const Json& a = json.at("adamw");
    s.rules.adamw.beta1 = a.at("beta1");
    s.rules.adamw.beta2 = a.at("beta2");
    s.rules.adamw.eps = a.at("eps");
    s.rules.adamw.decay = a.at("decay");
    s.rules.adamw.clip = a.at("clip");
    s.rules.accumulate = json.at("accumulate");
    s.rules.ema = json.at("ema");
    const Json& dropout = json.at("dropout");
    s.rules.dropout = {dropout.at("embedding"), dropout.at("attention"), dropout.at("residual")};
    s.rules.recompute = json.at("recompute");
    const Json& schedule = json.at("schedule");
    s.schedule = {static_cast<Schedule::Shape>(index_of(kShapes, schedule, "shape", where)),
                  schedule.at("peak"), schedule.at("warmup"), schedule.at("steps"),
                  schedule.at("last")};
    s.rows = json.at("rows");
    s.begun = json.at("begun");
    s.seed = json.at("seed");
    for (const Json& t : json.at("sources")) s.sources.push_back({t.at("file"), t.at("weight")});
    s.split = static_cast<Split>(index_of(kSplits, json, "split", where));
    s.validation = json.at("validation");
    return s;
  } catch (const Json::exception& error) {
    throw CheckpointError(
        fmt::format("{}: the settings of the run cannot be read: {}", where, error.what()));
  }
}

}  // namespace vitrine::nn

#include "nn/training_settings.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "nn/saved_json.h"
#include "tensor/error.h"
#include "tensor/nearest.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kSplits[] = {"none", "blank-line", "line"};
constexpr std::string_view kInitializers[] = {"gpt2", "mimetic"};
constexpr std::string_view kShapes[] = {"cosine", "linear", "constant"};

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
  const SavedJson json(parse_json(text, where), where, "the settings of the run");
  constexpr int kMost = std::numeric_limits<int>::max();
  TrainingSettings s;
  s.model = parse_config(json.at("model").object(), where);
  s.initializer = static_cast<Initializer>(json.at("initializer").one_of(kInitializers));
  s.initializer_range = json.at("initializer_range").number();
  const SavedJson a = json.at("adamw");
  s.rules.adamw.beta1 = a.at("beta1").number(0, 1);
  s.rules.adamw.beta2 = a.at("beta2").number(0, 1);
  s.rules.adamw.eps = a.at("eps").number(0);
  s.rules.adamw.decay = a.at("decay").number();
  s.rules.adamw.clip = a.at("clip").number(0);
  s.rules.accumulate = static_cast<int>(json.at("accumulate").whole(1, kMost));
  s.rules.ema = json.at("ema").number(0, 1);
  if (s.rules.ema == 1) json.at("ema").reject("it must be less than 1");
  const SavedJson dropout = json.at("dropout");
  s.rules.dropout = {dropout.at("embedding").number(0, 1), dropout.at("attention").number(0, 1),
                     dropout.at("residual").number(0, 1)};
  s.rules.recompute = json.at("recompute").flag();
  const SavedJson schedule = json.at("schedule");
  s.schedule = {static_cast<Schedule::Shape>(schedule.at("shape").one_of(kShapes)),
                schedule.at("peak").number(0), schedule.at("warmup").whole(0),
                schedule.at("steps").whole(0), schedule.at("last").number(0)};
  s.rows = json.at("rows").whole(1);
  s.begun = json.at("begun").number(0, 1);
  s.seed = json.at("seed").seed();
  for (const SavedJson& t : json.at("sources").list()) {
    s.sources.push_back({t.at("file").text(), t.at("weight").number(0)});
    if (s.sources.back().weight == 0) t.at("weight").reject("it must be more than 0");
  }
  s.split = static_cast<Split>(json.at("split").one_of(kSplits));
  s.validation = json.at("validation").number(0, 1);
  return s;
}

}  // namespace vitrine::nn

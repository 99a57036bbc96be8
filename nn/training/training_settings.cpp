#include "nn/training/training_settings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>

#include "tensor/error.h"
#include "tensor/files/json_reader.h"
#include "tensor/nearest.h"

namespace vitrine::nn {
namespace {

constexpr std::string_view kSplits[] = {"none", "blank-line", "line"};
constexpr std::string_view kInitializers[] = {"gpt2", "mimetic"};
constexpr std::string_view kShapes[] = {"cosine", "linear", "constant"};

double positive(const JsonReader& field) {
  const double number = field.number(0);
  if (number == 0) field.reject("a number above 0");
  return number;
}
double less_than_one(const JsonReader& field) {
  const double number = field.number(0, 1);
  if (number == 1) field.reject("a number below 1");
  return number;
}

TrainingRules read_rules(const JsonReader& json) {
  TrainingRules rules;
  const JsonReader a = json.at("adamw");
  a.only({"beta1", "beta2", "eps", "decay", "clip"});
  rules.adamw.beta1 = less_than_one(a.at("beta1"));
  rules.adamw.beta2 = less_than_one(a.at("beta2"));
  rules.adamw.eps = positive(a.at("eps"));
  rules.adamw.decay = a.at("decay").number(0);
  rules.adamw.clip = a.at("clip").number(0);
  rules.accumulate = static_cast<int>(json.at("accumulate").whole(1, 1 << 30));
  rules.ema = less_than_one(json.at("ema"));
  const JsonReader dropout = json.at("dropout");
  dropout.only({"embedding", "attention", "residual"});
  rules.dropout = {less_than_one(dropout.at("embedding")), less_than_one(dropout.at("attention")),
                   less_than_one(dropout.at("residual"))};
  rules.recompute = json.at("recompute").flag();
  return rules;
}

Schedule read_schedule(const JsonReader& json) {
  constexpr std::int64_t kMost = 1'000'000'000'000'000;  // steps
  json.only({"shape", "peak", "warmup", "steps", "last"});
  Schedule s;
  s.shape = static_cast<Schedule::Shape>(json.at("shape").one_of(kShapes));
  s.peak = positive(json.at("peak"));
  s.steps = json.at("steps").whole(1, kMost);
  s.warmup = json.at("warmup").whole(0, s.steps);
  s.last = json.at("last").number(0, 1);
  return s;
}

TrainingSettings read_settings(const JsonReader& json) {
  json.only({"model", "initializer", "initializer_range", "adamw", "accumulate", "ema", "dropout",
             "recompute", "schedule", "rows", "begun", "seed", "sources", "split", "validation"});
  TrainingSettings s;
  s.model = parse_config(json.at("model").expect_object().value().line(), json.at("model").place());
  s.initializer = static_cast<Initializer>(json.at("initializer").one_of(kInitializers));
  s.initializer_range = positive(json.at("initializer_range"));
  s.rules = read_rules(json);
  s.schedule = read_schedule(json.at("schedule"));
  s.rows = json.at("rows").whole(1);
  if (s.rows > std::numeric_limits<std::int32_t>::max())
    json.at("rows").reject(fmt::format("at most {}", std::numeric_limits<std::int32_t>::max()),
                           "a batch of so many tokens cannot be");
  s.begun = json.at("begun").number(0, 1);
  s.seed = json.at("seed").natural();
  for (const JsonReader& t : json.at("sources").list()) {
    t.only({"file", "weight"});
    s.sources.push_back({t.at("file").text(), positive(t.at("weight"))});
  }
  s.split = static_cast<Split>(json.at("split").one_of(kSplits));
  s.validation = less_than_one(json.at("validation"));
  return s;
}

}  // namespace

std::vector<std::string> preset_names() {
  return {"tiny", "atlas", "gpt2-small", "llama-tiny", "llama-small"};
}

void set_width(Config& c, int heads, int width) {
  c.heads = heads;
  c.d_model = width;
  c.d_mlp = 4 * width;
  if (c.model_type == "gpt2") return;
  c.kv_heads = heads % 2 == 0 ? heads / 2 : heads;
  c.head_width = width / heads;
  c.d_mlp = (8 * width / 3 + 31) / 32 * 32;  // as many weights as 4 d neurons without gates
  c.rope->width = c.head_width;
}

Config preset(std::string_view name, int vocabulary) {
  Config c;
  c.vocabulary = vocabulary;
  const auto shape = [&](int layers, int heads, int width, int context) {
    c.layers = layers;
    c.context = context;
    set_width(c, heads, width);
  };
  if (name.starts_with("llama-")) {
    c.model_type = "llama";
    c.activation = Activation::silu;
    c.rope = Rope{};
  }
  if (name == "tiny" || name == "llama-tiny") {
    shape(2, 4, 64, 64);
  } else if (name == "atlas" || name == "llama-small") {
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
  JsonValue sources = JsonValue::list();
  for (const TextSource& t : s.sources)
    sources.push_back(JsonValue::object({{"file", t.file}, {"weight", t.weight}}));
  const AdamW& a = s.rules.adamw;
  const JsonValue adamw = JsonValue::object({{"beta1", a.beta1},
                                             {"beta2", a.beta2},
                                             {"eps", a.eps},
                                             {"decay", a.decay},
                                             {"clip", a.clip}});
  const JsonValue dropout = JsonValue::object({{"embedding", s.rules.dropout.embedding},
                                               {"attention", s.rules.dropout.attention},
                                               {"residual", s.rules.dropout.residual}});
  const JsonValue schedule =
      JsonValue::object({{"shape", kShapes[static_cast<int>(s.schedule.shape)]},
                         {"peak", s.schedule.peak},
                         {"warmup", s.schedule.warmup},
                         {"steps", s.schedule.steps},
                         {"last", s.schedule.last}});
  const JsonValue json =
      JsonValue::object({{"model", JsonValue::parse(config_json(s.model), "the model")},
                         {"initializer", kInitializers[static_cast<int>(s.initializer)]},
                         {"initializer_range", s.initializer_range},
                         {"adamw", adamw},
                         {"accumulate", s.rules.accumulate},
                         {"ema", s.rules.ema},
                         {"dropout", dropout},
                         {"recompute", s.rules.recompute},
                         {"schedule", schedule},
                         {"rows", s.rows},
                         {"begun", s.begun},
                         {"seed", s.seed},
                         {"sources", sources},
                         {"split", kSplits[static_cast<int>(s.split)]},
                         {"validation", s.validation}});
  return json.sorted().line();
}

void check_settings(const TrainingSettings& settings) {
  const std::string where = "the run cannot be begun";
  try {
    JsonRules rules = saved_state("its settings");
    rules.advice.clear();
    read_settings(JsonReader::object(to_json(settings), where, std::move(rules)));
  } catch (const CheckpointError& error) {
    throw Error(ErrorKind::usage, error.what());
  }
}

TrainingSettings parse_settings(std::string_view text, const std::string& where) {
  return read_settings(JsonReader::object(text, where, saved_state("the settings of the run")));
}

}  // namespace vitrine::nn

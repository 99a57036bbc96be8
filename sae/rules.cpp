#include "sae/rules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "tensor/error.h"
#include "tensor/files/json_reader.h"
#include "tensor/nearest.h"

namespace vitrine::sae {
namespace {

constexpr std::string_view kKinds[] = {
    "standard", "topk",  "batchtopk",       "matryoshka_batchtopk",
    "jumprelu", "gated", "matching_pursuit"};
constexpr std::string_view kPenalties[] = {"step", "tanh"};
constexpr std::string_view kShapes[] = {"cosine", "linear", "constant"};

}  // namespace

std::string_view name_of(Kind kind) { return kKinds[static_cast<int>(kind)]; }
std::string_view name_of(Penalty penalty) { return kPenalties[static_cast<int>(penalty)]; }
std::vector<std::string> kind_names() { return {std::begin(kKinds), std::end(kKinds)}; }

Kind parse_kind(std::string_view name) {
  if (name == "matryoshka") return Kind::matryoshka;
  for (std::size_t i = 0; i < std::size(kKinds); ++i) {
    if (kKinds[i] == name) return static_cast<Kind>(i);
  }
  throw Error(ErrorKind::usage,
              fmt::format("there is no kind of SAE '{}'{}; there are {}", name,
                          did_you_mean(nearest(std::string(name), kind_names(), 1)),
                          fmt::join(kKinds, ", ")));
}

namespace {

void require(bool ok, const std::string& what) {
  if (!ok) throw Error(ErrorKind::usage, what);
}

void check_transcoder(const SaeTrainingRules& r) {
  require(r.kind != Kind::gated && r.kind != Kind::matching_pursuit &&
              (r.kind != Kind::matryoshka || r.layers == 0),
          fmt::format("a {}transcoder is standard, topk, batchtopk{} or jumprelu, not {}",
                      r.layers > 0 ? "cross-layer " : "", r.layers > 0 ? "" : ", matryoshka",
                      name_of(r.kind)));
  require(!r.rescale_by_decoder_norm || !r.competes(),
          "a transcoder's decoder begins at 0, so features cannot be ranked by its norms");
  require(!r.unit_norm, "a transcoder's decoder begins at 0, so its rows cannot be kept at norm 1");
  require(
      r.normalise == Normalisation::none || r.normalise == Normalisation::expected_average_only_in,
      "a transcoder's input and output have different statistics: no normalisation at run time");
  if (r.layers == 0) return;
  require(
      r.out_width() == r.d_in,
      fmt::format(
          "the layers of a cross-layer transcoder give as many numbers as they read, not {} of {}",
          r.out_width(), r.d_in));
  require(!r.skip, "a cross-layer transcoder has no skip connection");
  require(r.resample_every == 0, "the dead features of a cross-layer transcoder are not resampled");
}

}  // namespace

namespace {

void check_end_to_end(const SaeTrainingRules& r) {
  const EndToEnd& e = *r.end_to_end;
  require(!r.transcoder,
          "a transcoder cannot be trained end to end: it reads one site and gives another");
  require(r.kind != Kind::matryoshka,
          "a matryoshka cannot be trained end to end: each of its prefixes would need a run of the "
          "model of its own");
  require(r.kind != Kind::gated,
          "a gated SAE cannot be trained end to end: its gate learns from a reconstruction of its "
          "own");
  for (const auto& [what, x] :
       {std::pair{"KL divergence", e.kl}, std::pair{"downstream error", e.downstream},
        std::pair{"local error", e.local}}) {
    require(x >= 0 && std::isfinite(x),
            fmt::format("a coefficient of the {} of {:g}: choose 0 or more", what, x));
  }
  require(e.kl > 0 || e.downstream > 0,
          "end-to-end training without the KL divergence and the downstream error is training on "
          "the reconstruction alone: give one of them a coefficient above 0");
  require((e.downstream > 0) == !e.sites.empty(),
          "the downstream error needs sites and a coefficient above 0, both or neither");
}

}  // namespace

void check_rules(const SaeTrainingRules& r) {
  require(r.d_in >= 1 && r.d_sae >= 1,
          fmt::format("an SAE of {} inputs and {} features cannot be", r.d_in, r.d_sae));
  if (r.competes()) {
    require(r.k > 0 && r.k <= static_cast<double>(r.d_sae),
            fmt::format("k is {:g}; choose more than 0 and at most the {} features", r.k, r.d_sae));
    require(r.kind != Kind::topk || r.k == std::floor(r.k),
            fmt::format("topk needs a whole k, not {:g}; batchtopk takes any", r.k));
  }
  if (r.kind == Kind::matching_pursuit) {
    constexpr double kMost = 1e6;
    require(r.k >= 1 && r.k <= kMost && r.k == std::floor(r.k),
            fmt::format("matching_pursuit needs a whole number of steps k, not {:g}", r.k));
    require(
        r.residual_threshold >= 0 && std::isfinite(r.residual_threshold),
        fmt::format("a residual threshold of {:g}: choose 0 (none) or more", r.residual_threshold));
  }
  if (r.kind == Kind::matryoshka) {
    require(!r.widths.empty() && r.widths.back() == r.d_sae && r.widths.front() >= 1 &&
                std::is_sorted(r.widths.begin(), r.widths.end(), std::less_equal<>()),
            fmt::format("the widths of a matryoshka must rise to the {} features, not {}", r.d_sae,
                        fmt::join(r.widths, ", ")));
  }
  require(r.batch >= 1, fmt::format("batches of {} samples: choose 1 or more", r.batch));
  require(r.sparsity >= 0 && std::isfinite(r.sparsity),
          fmt::format("a sparsity coefficient of {:g}: choose 0 or more", r.sparsity));
  require(r.bandwidth > 0, fmt::format("a bandwidth of {:g}: choose more than 0", r.bandwidth));
  require(r.clip >= 0, fmt::format("clipping at {:g}: choose 0 (off) or more", r.clip));
  require(r.beta1 >= 0 && r.beta1 < 1 && r.beta2 >= 0 && r.beta2 < 1,
          fmt::format("betas {:g} and {:g}: choose 0 to less than 1", r.beta1, r.beta2));
  if (r.end_to_end) check_end_to_end(r);
  require(!r.skip || r.transcoder, "a skip connection belongs to a transcoder");
  require(r.layers >= 0 && (r.layers == 0 || r.transcoder),
          fmt::format("{} layers, but only a transcoder can be of several", r.layers));
  if (!r.transcoder) {
    require(r.d_out == 0 || r.d_out == r.d_in,
            fmt::format("an SAE gives back its {} inputs, not {}; a transcoder may give others",
                        r.d_in, r.d_out));
    return;
  }
  check_transcoder(r);
}

std::string to_json(const SaeTrainingRules& r) {
  JsonValue json = JsonValue::object(
      {{"kind", name_of(r.kind)},
       {"d_in", r.d_in},
       {"d_sae", r.d_sae},
       {"d_out", r.d_out},
       {"transcoder", r.transcoder},
       {"skip", r.skip},
       {"layers", r.layers},
       {"apply_b_dec_to_input", r.apply_b_dec_to_input},
       {"normalise", static_cast<int>(r.normalise)},
       {"k", r.k},
       {"widths", r.widths},
       {"rescale_by_decoder_norm", r.rescale_by_decoder_norm},
       {"sparsity", r.sparsity},
       {"sparsity_warmup", r.sparsity_warmup},
       {"norm_weighted", r.norm_weighted},
       {"penalty", name_of(r.penalty)},
       {"tanh_scale", r.tanh_scale},
       {"bandwidth", r.bandwidth},
       {"initial_threshold", r.initial_threshold},
       {"aux", r.aux},
       {"threshold_rate", r.threshold_rate},
       {"beta1", r.beta1},
       {"beta2", r.beta2},
       {"eps", r.eps},
       {"clip", r.clip},
       {"unit_norm", r.unit_norm},
       {"initial_norm", r.initial_norm},
       {"schedule", JsonValue::object({{"shape", kShapes[static_cast<int>(r.schedule.shape)]},
                                       {"peak", r.schedule.peak},
                                       {"warmup", r.schedule.warmup},
                                       {"steps", r.schedule.steps},
                                       {"last", r.schedule.last}})},
       {"batch", r.batch},
       {"dead_after", r.dead_after},
       {"resample_every", r.resample_every},
       {"seed", r.seed}});
  if (r.end_to_end) {
    json["end_to_end"] = JsonValue::object({{"kl", r.end_to_end->kl},
                                            {"downstream", r.end_to_end->downstream},
                                            {"local", r.end_to_end->local},
                                            {"sites", r.end_to_end->sites}});
  }
  if (r.kind == Kind::matching_pursuit) {
    json["residual_threshold"] = r.residual_threshold;
    json["stop_on_duplicate_support"] = r.stop_on_duplicate_support;
  }
  return json.sorted().line();
}

SaeTrainingRules parse_rules(std::string_view text, const std::string& where) {
  const auto json = JsonReader::object(text, where, saved_state("the rules of the run"));
  constexpr std::int64_t kWidestInput = 1'000'000'000, kMost = std::int64_t{1} << 40;
  SaeTrainingRules r;
  r.kind = static_cast<Kind>(json.at("kind").one_of(kKinds));
  r.d_in = json.at("d_in").whole(0, kWidestInput);
  r.d_sae = json.at("d_sae").whole(0, kWidestInput);
  r.d_out = json.at("d_out").whole(0, kWidestInput);
  r.transcoder = json.at("transcoder").flag();
  r.skip = json.at("skip").flag();
  r.layers = json.at("layers").whole(0, 10'000);
  r.apply_b_dec_to_input = json.at("apply_b_dec_to_input").flag();
  r.normalise = static_cast<Normalisation>(
      json.at("normalise").whole(0, static_cast<int>(Normalisation::constant_norm_rescale)));
  r.k = json.at("k").number();
  if (r.kind == Kind::matching_pursuit) {
    r.residual_threshold = json.at("residual_threshold").number(0);
    r.stop_on_duplicate_support = json.at("stop_on_duplicate_support").flag();
  }
  for (const JsonReader& width : json.at("widths").list())
    r.widths.push_back(width.whole(1, kWidestInput));
  r.rescale_by_decoder_norm = json.at("rescale_by_decoder_norm").flag();
  r.sparsity = json.at("sparsity").number();
  r.sparsity_warmup = json.at("sparsity_warmup").whole(0, kMost);
  r.norm_weighted = json.at("norm_weighted").flag();
  r.penalty = static_cast<Penalty>(json.at("penalty").one_of(kPenalties));
  r.tanh_scale = json.at("tanh_scale").number();
  r.bandwidth = json.at("bandwidth").number();
  r.initial_threshold = json.at("initial_threshold").number();
  r.aux = json.at("aux").number();
  r.threshold_rate = json.at("threshold_rate").number(0, 1);
  r.beta1 = json.at("beta1").number();
  r.beta2 = json.at("beta2").number();
  r.eps = json.at("eps").number(0);
  r.clip = json.at("clip").number();
  r.unit_norm = json.at("unit_norm").flag();
  r.initial_norm = json.at("initial_norm").number();
  const JsonReader s = json.at("schedule");
  r.schedule = {static_cast<nn::Schedule::Shape>(s.at("shape").one_of(kShapes)),
                s.at("peak").number(0), s.at("warmup").whole(0, kMost),
                s.at("steps").whole(0, kMost), s.at("last").number(0)};
  r.batch = json.at("batch").whole(1, kMost);
  r.dead_after = json.at("dead_after").whole(0, kMost);
  r.resample_every = json.at("resample_every").whole(0, kMost);
  r.seed = json.at("seed").natural();
  if (const JsonReader e = json.at("end_to_end"); e.given()) {
    r.end_to_end = {
        e.at("kl").number(0), e.at("downstream").number(0), e.at("local").number(0), {}};
    for (const JsonReader& site : e.at("sites").list()) r.end_to_end->sites.push_back(site.text());
  }
  return r;
}

}  // namespace vitrine::sae

#include "interp/patching.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "autograd/transform/recorded.h"
#include "interp/data/asked.h"
#include "interp/data/measure.h"
#include "interp/patch_places.h"
#include "interp/readout.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::interp {

// ---- words ------------------------------------------------------------------------------------
namespace {

constexpr std::array<std::string_view, 4> kReplacements = {"patch", "zero", "mean", "resample"};

constexpr std::array<std::string_view, 4> kMeasures = {"logit_diff", "prob", "log_prob", "kl"};

// Both prompts, token by token, with a mark under the first that differs.
std::string side_by_side(const nn::Model& model, const nn::Tokens& clean,
                         const nn::Tokens& corrupt) {
  const auto shown = [&](const nn::Tokens& tokens) {
    std::vector<std::string> parts;
    for (const int t : tokens) {
      parts.push_back(model.has_tokenizer() ? nn::quote(model.tokenizer().shown(t))
                                            : fmt::format("{}", t));
    }
    return parts;
  };
  const auto a = shown(clean), b = shown(corrupt);
  std::string first = "  clean  ", second = "  corrupt";
  for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string x = i < a.size() ? a[i] : "-", y = i < b.size() ? b[i] : "-";
    const std::size_t width = std::max(x.size(), y.size());
    first += fmt::format(" {:<{}}", x, width);
    second += fmt::format(" {:<{}}", y, width);
  }
  for (std::string* line : {&first, &second}) line->erase(line->find_last_not_of(' ') + 1);
  return first + "\n" + second;
}

}  // namespace

std::string_view name_of(Replacement r) { return kReplacements[static_cast<std::size_t>(r)]; }
Replacement parse_replacement(std::string_view text) {
  for (std::size_t i = 0; i < kReplacements.size(); ++i) {
    if (kReplacements[i] == text) return static_cast<Replacement>(i);
  }
  throw Error(ErrorKind::usage,
              fmt::format("a sweep puts in {}, not '{}'", fmt::join(kReplacements, " or "), text));
}
std::string_view name_of(Direction d) { return d == Direction::denoise ? "denoise" : "noise"; }
const nn::Tokens& base_prompt(const Pair& pair, Direction d) {
  return d == Direction::denoise ? pair.corrupt : pair.clean;
}
const nn::Tokens& other_prompt(const Pair& pair, Direction d) {
  return d == Direction::denoise ? pair.clean : pair.corrupt;
}

std::string_view name_of(Measure m) { return kMeasures[static_cast<std::size_t>(m)]; }
Measure parse_measure(std::string_view text) {
  for (std::size_t i = 0; i < kMeasures.size(); ++i) {
    if (kMeasures[i] == text) return static_cast<Measure>(i);
  }
  throw Error(ErrorKind::usage, fmt::format("there is no metric '{}'; there are {}", text,
                                            fmt::join(kMeasures, ", ")));
}

Example example_of(const Pair& pair) {
  Example e;
  e.prompt = pair.clean;
  e.corrupt = pair.corrupt;
  e.answers = {{pair.answer}};
  e.wrongs = {{pair.wrong}};
  return e;
}

Pair prompt_pair(const nn::Model& model, const nn::Prompt& clean, const nn::Prompt& corrupt,
                 std::string_view answer, std::string_view wrong) {
  return {model.tokens(clean), model.tokens(corrupt), model.token(answer), model.token(wrong)};
}

namespace {

void check_both(const nn::Model& model, const nn::Tokens& clean, const nn::Tokens& corrupt) {
  nn::check_prompts({clean}, model.config());
  nn::check_prompts({corrupt}, model.config());
}

void check_lengths(const nn::Model& model, const nn::Tokens& clean, const nn::Tokens& corrupt) {
  if (clean.size() == corrupt.size()) return;
  throw Error(ErrorKind::input,
              fmt::format("the clean prompt has {} tokens, the corrupt one {}; patching needs "
                          "prompts that line up, token by token:\n{}",
                          clean.size(), corrupt.size(), side_by_side(model, clean, corrupt)));
}

}  // namespace

void check_aligned(const nn::Model& model, const nn::Tokens& clean, const nn::Tokens& corrupt) {
  check_both(model, clean, corrupt);
  check_lengths(model, clean, corrupt);
}

void check_pair(const nn::Model& model, const Pair& pair) {
  check_both(model, pair.clean, pair.corrupt);
  check_answer(model, pair.answer);
  check_answer(model, pair.wrong);
  check_lengths(model, pair.clean, pair.corrupt);
}

void check_pairs(const nn::Model& model, std::span<const Pair> pairs) {
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    try {
      check_pair(model, pairs[i]);
    } catch (const Error& error) {
      if (pairs.size() == 1) throw;
      throw Error(error.kind(), fmt::format("pair {}: {}", i, error.what()));
    }
  }
}

Metric metric_of(const nn::Model& model, std::span<const Pair> pairs, Measure measure) {
  std::vector<int> answers, wrongs;
  std::vector<nn::Tokens> clean;
  for (const Pair& p : pairs) {
    answers.push_back(p.answer);
    wrongs.push_back(p.wrong);
    clean.push_back(p.clean);
  }
  switch (measure) {
    case Measure::prob:
      return nn::probability(answers);
    case Measure::log_prob:
      return nn::log_probability(answers);
    case Measure::kl:
      return nn::kl_to(model.run(clean).last_logits());
    case Measure::logit_diff:
      break;
  }
  return nn::logit_diff(nn::Answers(answers), nn::Answers(wrongs));
}

Metric metric_of(const nn::Model& model, std::span<const Pair> pairs, Measure measure,
                 const std::optional<MetricSpec>& metric) {
  if (!metric) return metric_of(model, pairs, measure);
  std::vector<Example> examples;
  for (const Pair& p : pairs) examples.push_back(example_of(p));
  return metric_of(model, examples, *metric);
}

std::string metric_name(Measure measure, const std::optional<MetricSpec>& metric) {
  return metric ? metric->text : std::string(name_of(measure));
}

// ---- what is put in ----------------------------------------------------------------------------
namespace {

// What is measured, and the prompts of a sweep: example i's base prompt and the one whose values are
// put in, as the metric has them run.
MetricSpec metric_of_sweep(const SweepSpec& spec) {
  return spec.metric ? *spec.metric : parse_metric(name_of(spec.measure));
}
struct Sides {
  std::vector<nn::Tokens> base, other;
  const char* other_name;
};
Sides sides(std::span<const Example> examples, const SweepSpec& spec) {
  const MetricSpec metric = metric_of_sweep(spec);
  const bool denoise = spec.direction == Direction::denoise;
  return {prompts_to_run(examples, metric, denoise), prompts_to_run(examples, metric, !denoise),
          denoise ? "clean" : "corrupt"};
}

std::string lonely_pair(std::size_t pair, std::size_t length) {
  return fmt::format(
      "resampling takes values from another pair with as many tokens, but pair {} is "
      "the only one with {}; give more pairs of that length",
      pair, length);
}

// Edits that share one value for all layers' places, by layer.
std::vector<Edit> edits_by_layer(const nn::Model& model, const Sides& s, const SweepSpec& spec,
                                 const SweptSite& swept, const nn::Run* other) {
  std::vector<Edit> edits;
  std::optional<nn::Run> reference;
  if (spec.replacement == Replacement::mean || spec.replacement == Replacement::resample) {
    std::vector<nn::Tokens> prompts = s.base;
    if (spec.replacement == Replacement::mean)
      prompts.insert(prompts.end(), s.other.begin(), s.other.end());
    else
      for (std::size_t i = 0; const std::size_t from : followers(s.base, spec.seed, lonely_pair))
        prompts[i++] = s.base[from];
    reference = model.run(prompts, swept.all());
  }
  for (const Site& site : swept.sites) {
    switch (spec.replacement) {
      case Replacement::patch:
        edits.push_back(replace(site, other->results.raw(site.name), {}, s.other_name));
        break;
      case Replacement::zero:
        edits.push_back(zero(site));
        break;
      case Replacement::mean:
        edits.push_back(mean(site, reference->results, {}, "all prompts"));
        break;
      case Replacement::resample:
        edits.push_back(replace(site, reference->results.raw(site.name), {}, "another pair"));
        break;
    }
  }
  return edits;
}

// Which features an edit of a site changes, of the rows of a batch. Of an SAE's features nearly all
// are 0 in both runs: what changes none needs no run.
class Changed {
 public:
  Changed() = default;
  // `base` has the values of the base run, `edit` what is put in everywhere.
  Changed(const nn::Model& model, const nn::Run& base, const Edit& edit) {
    const Tensor before = base.results.raw(edit.site.name);
    std::vector<double> after(static_cast<std::size_t>(before.numel()), 0);
    if (has_value(edit.action)) {
      const Graph graph = model.build(nn::batch_size(base.prompts));
      after = packed_value(graph, edit).broadcast_to(before.shape()).to_vector<double>();
    }
    features_ = before.dim(before.rank() - 1);
    per_row_ = before.numel() / before.dim(0) / features_;
    const auto numbers = before.to_vector<double>();
    for (std::size_t i = 0; i < numbers.size(); ++i) changed_.push_back(numbers[i] != after[i]);
    std::int64_t row = 0;
    for (const nn::Tokens& p : base.prompts) {
      first_.push_back(row);
      row += std::ssize(p);
    }
    first_.push_back(row);
  }
  // At a place with one feature. An empty one knows of nothing that would not be changed.
  bool any(std::size_t prompt, const Where& where) const {
    if (features_ == 0) return true;
    const auto at = [&](std::int64_t row) {
      for (std::int64_t i = row * per_row_; i < (row + 1) * per_row_; ++i) {
        if (changed_[static_cast<std::size_t>(i * features_ + where.feature[0])] != 0) return true;
      }
      return false;
    };
    if (!where.pos.empty())
      return std::any_of(where.pos.begin(), where.pos.end(),
                         [&](std::int64_t p) { return at(first_[prompt] + p); });
    for (std::int64_t row = first_[prompt]; row < first_[prompt + 1]; ++row) {
      if (at(row)) return true;
    }
    return false;
  }

 private:
  std::int64_t features_ = 0, per_row_ = 1;  // per row: the heads of an SAE that keeps them apart
  std::vector<std::uint8_t> changed_;        // [row, per row, feature]
  std::vector<std::int64_t> first_;          // row of each prompt
};

// ---- the sweep ----------------------------------------------------------------------------------
// The worlds of pairs that are swept together: each changes one place of one pair.
struct Worlds {
  std::vector<Interventions> all;
  std::vector<SweptPlaces> places;                 // of each pair
  std::vector<std::vector<std::ptrdiff_t>> world;  // of each pair's places; -1: nothing changes
};
Worlds worlds_of(const nn::Model& model, std::span<const Example> pairs, const SweepSpec& spec,
                 const SweptSite& site, const Sides& prompts, const std::vector<Edit>& edits) {
  std::vector<Changed> changed(edits.size());
  if (goes_by_features(spec.by) && spec.by_difference) {
    const nn::Run base = model.run_edited(prompts.base, {}, fetch(site.all()));
    for (std::size_t l = 0; l < edits.size(); ++l) changed[l] = Changed(model, base, edits[l]);
  }
  Worlds worlds;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    const SweptPlaces& places = worlds.places.emplace_back(swept_places(spec, site, pairs[p]));
    auto& numbers = worlds.world.emplace_back();
    const std::int64_t count = numel(places.shape());
    for (std::size_t l = 0; l < edits.size(); ++l) {
      for (std::int64_t i = 0; i < count; ++i) {
        Where where = places.at(i);
        if (!changed[l].any(p, where)) {
          numbers.push_back(-1);
          continue;
        }
        if (pairs.size() > 1) where.prompt = {static_cast<std::int64_t>(p)};
        Edit e = edits[l];
        e.where = {std::move(where)};
        numbers.push_back(std::ssize(worlds.all));
        worlds.all.push_back(Interventions{std::move(e)});
      }
    }
  }
  return worlds;
}

// The sweep of one pair, without its metric.
PatchSweep empty_sweep(const SweptSite& site, const SweptPlaces& places, Direction direction) {
  PatchSweep s;
  s.axes = {"layer"};
  s.layers = site.layers;
  auto& layers = s.labels.emplace_back();
  for (const int l : site.layers) layers.push_back(fmt::format("{}", l));
  s.labels.insert(s.labels.end(), places.labels.begin(), places.labels.end());
  Shape shape{std::ssize(site.layers)};
  for (const SweptPlaces::Along& a : places.axes) {
    s.axes.push_back(a.name);
    shape.push_back(std::ssize(a.places));
  }
  s.values = Tensor::empty(shape, DType::f64);
  s.runs = static_cast<int>(s.values.numel());
  s.direction = direction;
  return s;
}

// Pairs that are swept together: one base run for all of them, and worlds that each change one.
std::vector<PatchSweep> sweep_together(const nn::Model& model, std::span<const Example> pairs,
                                       const SweepSpec& spec, const SweptSite& site) {
  const Sides prompts = sides(pairs, spec);
  const Metric metric = metric_of(model, pairs, metric_of_sweep(spec));
  const std::string each = nn::per_prompt_name(metric);

  const Fetch wanted =
      spec.replacement == Replacement::patch ? fetch(value(each), site.all()) : fetch(value(each));
  const nn::Run other = model.run_edited(prompts.other, {}, wanted, &metric);
  const std::vector<Edit> edits = edits_by_layer(model, prompts, spec, site, &other);
  const Worlds worlds = worlds_of(model, pairs, spec, site, prompts, edits);
  const Swept swept = model.sweep(prompts.base, worlds.all, metric, {each},
                                  {.memory = spec.memory,
                                   .cancel = spec.cancel,
                                   .progress = spec.progress,
                                   .by_row = spec.by_row,
                                   .by_head = spec.by_head,
                                   .by_difference = spec.by_difference,
                                   .by_demand = spec.by_demand});

  const auto values = swept[each].to_vector<double>();  // [worlds, pairs]
  const auto of_base = swept.base(each).to_vector<double>(),
             of_other = other[each].to_vector<double>();
  std::vector<PatchSweep> sweeps;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    PatchSweep& s = sweeps.emplace_back(empty_sweep(site, worlds.places[p], spec.direction));
    for (std::size_t i = 0; i < worlds.world[p].size(); ++i) {
      const std::ptrdiff_t world = worlds.world[p][i];
      const auto w = static_cast<std::size_t>(world);
      s.values.data<double>()[i] = world < 0 ? of_base[p] : values[w * pairs.size() + p];
      if (world < 0 || !swept.has_effect(w)) ++s.without_effect;
    }
    // The same prompt has one value, whatever rounding two runs of it may do.
    const double unlike = prompts.base[p] == prompts.other[p] ? of_base[p] : of_other[p];
    s.clean = spec.direction == Direction::denoise ? unlike : of_base[p];
    s.corrupt = spec.direction == Direction::denoise ? of_base[p] : unlike;
    if (p > 0) continue;
    s.passes = swept.stats().passes;
    s.explanation = swept.explain();
  }
  return sweeps;
}

// Pairs that are swept together, where each is swept alone: their number bounds the tables of a
// program.
std::size_t together(std::span<const Example> pairs, const SweepSpec& spec, const SweptSite& site) {
  constexpr std::int64_t kPairs = 16, kPlaces = std::int64_t{1} << 16;
  if (!goes_by_features(spec.by)) return kPairs;
  std::int64_t largest = 1;
  for (const Example& e : pairs)
    largest =
        std::max(largest, std::ssize(site.layers) * numel(swept_places(spec, site, e).shape()));
  return static_cast<std::size_t>(std::clamp<std::int64_t>(kPlaces / largest, 1, kPairs));
}

std::vector<PatchSweep> sweep_all(const nn::Model& model, std::span<const Example> pairs,
                                  const SweepSpec& spec) {
  const SweptSite site = swept_site(model, spec);
  for (const Example& e : pairs) swept_places(spec, site, e);  // throws before anything is run
  // Mean and resample ablation take values from all pairs, so those are swept together; otherwise
  // a few at a time.
  const bool all =
      spec.replacement == Replacement::mean || spec.replacement == Replacement::resample;
  const std::size_t step =
      all ? std::max<std::size_t>(1, pairs.size()) : together(pairs, spec, site);
  std::vector<PatchSweep> sweeps;
  for (std::size_t begin = 0; begin < pairs.size(); begin += step) {
    SweepSpec part = spec;
    const std::size_t count = std::min(step, pairs.size() - begin);
    if (spec.progress) {
      part.progress = [&](int done, int total) {
        const auto share = static_cast<double>(begin) / static_cast<double>(count);
        spec.progress(done + static_cast<int>(share * total),
                      static_cast<int>(total * static_cast<double>(pairs.size()) /
                                       static_cast<double>(count)));
      };
    }
    for (PatchSweep& s : sweep_together(model, pairs.subspan(begin, count), part, site))
      sweeps.push_back(std::move(s));
  }
  return sweeps;
}

}  // namespace

std::vector<PatchSweep> patch_sweeps(const nn::Model& model, std::span<const Pair> pairs,
                                     const SweepSpec& spec) {
  check_sweep(spec.site, spec.by);
  swept_site(model, spec);
  check_pairs(model, pairs);
  std::vector<Example> examples;
  for (const Pair& p : pairs) examples.push_back(example_of(p));
  return sweep_all(model, examples, spec);
}

std::vector<PatchSweep> patch_examples(const nn::Model& model, std::span<const Example> examples,
                                       const SweepSpec& spec) {
  check_sweep(spec.site, spec.by);
  swept_site(model, spec);
  for (const Example& e : examples) {
    try {
      check_aligned(model, e.prompt, e.corrupt);
    } catch (const Error& error) {
      if (e.line == 0) throw;
      throw Error(error.kind(), fmt::format("line {}: {}", e.line, error.what()));
    }
  }
  return sweep_all(model, examples, spec);
}

PatchSweep patch_sweep(const nn::Model& model, const Pair& pair, const SweepSpec& spec) {
  return patch_sweeps(model, {&pair, 1}, spec)[0];
}

// ---- what edited runs say -----------------------------------------------------------------------
namespace {

// The probability of every next token after each prompt, as an output.
constexpr const char* kNextTokens = "patched.next_tokens";  // [prompts, vocabulary]
Metric next_tokens() {
  return {"patched", [](Builder& b) {
            const Value each = exp(log_softmax(nn::last_logits(b)));
            b.output(kNextTokens, each);
            return mean(each);
          }};
}

}  // namespace

PatchTokens patched_tokens(const nn::Model& model, const Example& pair, const SweepSpec& spec,
                           int count, std::span<const std::size_t> places) {
  check_sweep(spec.site, spec.by);
  check_aligned(model, pair.prompt, pair.corrupt);
  const SweptSite site = swept_site(model, spec);
  const bool denoise = spec.direction == Direction::denoise;
  const Sides prompts{{denoise ? pair.corrupt : pair.prompt},
                      {denoise ? pair.prompt : pair.corrupt},
                      denoise ? "clean" : "corrupt"};
  const Metric said = next_tokens();
  const nn::Run base = model.run_edited(prompts.base, {}, fetch(value(kNextTokens)), &said),
                other = model.run_edited(prompts.other, {}, fetch(value(kNextTokens), site.all()),
                                         &said);
  const auto top = [&](const Tensor& probabilities) {
    return highest(probabilities.reshape({model.config().vocabulary}), count);
  };
  PatchTokens tokens{.clean = top((denoise ? other : base)[kNextTokens]),
                     .corrupt = top((denoise ? base : other)[kNextTokens]),
                     .edited = std::vector<std::optional<std::vector<TokenValue>>>(places.size())};

  const auto edits = edits_by_layer(model, prompts, spec, site, &other);
  Worlds worlds = worlds_of(model, {&pair, 1}, spec, site, prompts, edits);
  std::vector<Interventions> wanted;
  std::vector<std::size_t> place_of;  // of each that is wanted
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::ptrdiff_t world = worlds.world[0].at(places[i]);
    if (world < 0) continue;
    wanted.push_back(std::move(worlds.all[static_cast<std::size_t>(world)]));
    place_of.push_back(i);
  }
  // Each run has a row of the vocabulary's size: so many at a time as fit.
  const auto step = static_cast<std::size_t>(
      std::max<std::int64_t>(1, spec.memory / (16 * model.config().vocabulary)));
  for (std::size_t begin = 0; begin < wanted.size(); begin += step) {
    const auto some = std::span(wanted).subspan(begin, std::min(step, wanted.size() - begin));
    const Swept swept = model.sweep(prompts.base, some, said, {kNextTokens},
                                    {.memory = spec.memory, .cancel = spec.cancel});
    const Tensor each = swept[kNextTokens];  // [worlds, 1, vocabulary]
    for (std::size_t w = 0; w < some.size(); ++w) {
      if (swept.has_effect(w))
        tokens.edited[place_of[begin + w]] = top(each.select(0, static_cast<std::int64_t>(w)));
    }
  }
  return tokens;
}

}  // namespace vitrine::interp

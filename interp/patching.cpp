#include "interp/patching.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "autograd/transform/recorded.h"
#include "interp/measure.h"
#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tensor/files/utf8.h"

namespace vitrine::interp {

// ---- words ------------------------------------------------------------------------------------
namespace {

constexpr std::array<std::string_view, 5> kBy = {"pos", "head", "head,pos", "head,dest",
                                                 "head,dest,src"};

constexpr std::array<std::string_view, 4> kReplacements = {"patch", "zero", "mean", "resample"};

constexpr std::array<std::string_view, 4> kMeasures = {"logit_diff", "prob", "log_prob", "kl"};

// The sites of a block that can be swept, and what their axes allow.
struct Component {
  std::string_view name;
  Site (*site)(int layer);
  enum class Kind { stream, heads, pattern } kind;
};
constexpr Component kComponents[] = {{"resid_pre", site::resid_pre, Component::Kind::stream},
                                     {"resid_mid", site::resid_mid, Component::Kind::stream},
                                     {"resid_post", site::resid_post, Component::Kind::stream},
                                     {"attn_out", site::attn_out, Component::Kind::stream},
                                     {"mlp_out", site::mlp_out, Component::Kind::stream},
                                     {"z", site::z, Component::Kind::heads},
                                     {"q", site::q, Component::Kind::heads},
                                     {"k", site::k, Component::Kind::heads},
                                     {"v", site::v, Component::Kind::heads},
                                     {"pattern", site::pattern, Component::Kind::pattern}};

const Component& component_named(std::string_view site) {
  std::vector<std::string_view> names;
  for (const Component& c : kComponents) {
    if (c.name == site) return c;
    names.push_back(c.name);
  }
  throw Error(ErrorKind::usage, fmt::format("there is no sweep over '{}'; there are {}", site,
                                            fmt::join(names, ", ")));
}

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

std::string_view name_of(By by) { return kBy[static_cast<std::size_t>(by)]; }
By parse_by(std::string_view text) {
  for (std::size_t i = 0; i < kBy.size(); ++i) {
    if (kBy[i] == text) return static_cast<By>(i);
  }
  throw Error(ErrorKind::usage,
              fmt::format("a sweep goes by {}, not by '{}'", fmt::join(kBy, " or "), text));
}

std::vector<By> ways_to_sweep(std::string_view site) {
  switch (component_named(site).kind) {
    case Component::Kind::stream:
      return {By::pos};
    case Component::Kind::heads:
      return {By::head, By::pos, By::head_pos};
    case Component::Kind::pattern:
      return {By::head, By::head_dest, By::head_dest_src};
  }
  return {};
}

void check_sweep(std::string_view site, By by) {
  const std::vector<By> ways = ways_to_sweep(site);
  if (std::find(ways.begin(), ways.end(), by) != ways.end()) return;
  std::vector<std::string_view> words;
  words.reserve(ways.size());
  for (const By way : ways) words.push_back(name_of(way));
  throw Error(ErrorKind::usage, fmt::format("{} cannot be swept by {}; it can by {}", site,
                                            name_of(by), fmt::join(words, " or by ")));
}

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

void check_aligned(const nn::Model& model, const nn::Tokens& clean, const nn::Tokens& corrupt) {
  nn::check_prompts({clean}, model.config());
  nn::check_prompts({corrupt}, model.config());
  if (clean.size() == corrupt.size()) return;
  throw Error(ErrorKind::input,
              fmt::format("the clean prompt has {} tokens, the corrupt one {}; patching needs "
                          "prompts that line up, token by token:\n{}",
                          clean.size(), corrupt.size(), side_by_side(model, clean, corrupt)));
}

void check_answer(const nn::Model& model, int id) {
  if (id >= 0 && id < model.config().vocabulary) return;
  throw TokenError(
      fmt::format("the answer's id {} is outside 0 to {}", id, model.config().vocabulary - 1));
}

void check_pair(const nn::Model& model, const Pair& pair) {
  nn::check_prompts({pair.clean}, model.config());
  nn::check_prompts({pair.corrupt}, model.config());
  check_answer(model, pair.answer);
  check_answer(model, pair.wrong);
  check_aligned(model, pair.clean, pair.corrupt);
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

// ---- the sweep --------------------------------------------------------------------------------
namespace {

// The places of one layer, in the order of the result's axes after `layer`.
struct LayerPlaces {
  std::vector<std::string> axes;
  Shape shape;
  std::vector<Where> places;
};
LayerPlaces grid(By by, std::int64_t positions, std::int64_t heads) {
  LayerPlaces g;
  switch (by) {
    case By::pos:
      g.axes = {"pos"};
      break;
    case By::head:
      g.axes = {"head"};
      break;
    case By::head_pos:
      g.axes = {"pos", "head"};
      break;
    case By::head_dest:
      g.axes = {"head", "dest"};
      break;
    case By::head_dest_src:
      g.axes = {"head", "dest", "src"};
      break;
  }
  std::vector<Axis> kinds;
  for (const std::string& axis : g.axes) {
    kinds.push_back(axis == "head" ? Axis::head : axis == "src" ? Axis::key : Axis::pos);
    g.shape.push_back(axis == "head" ? heads : positions);
  }
  g.places = places(kinds, g.shape);
  return g;
}

// ---- what is put in ---------------------------------------------------------------------------
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

// For each pair another one of as many tokens, its follower in a random cycle through all of them.
std::vector<std::size_t> partners(const std::vector<nn::Tokens>& base, std::uint64_t seed) {
  std::map<std::size_t, std::vector<std::size_t>> by_length;
  for (std::size_t i = 0; i < base.size(); ++i) by_length[base[i].size()].push_back(i);
  std::vector<std::size_t> partner(base.size());
  for (auto& [length, group] : by_length) {
    if (group.size() < 2) {
      throw Error(ErrorKind::input,
                  fmt::format("resampling takes values from another pair with as many tokens, but "
                              "pair {} is the only one with {}; give more pairs of that length",
                              group[0], length));
    }
    const random::Key key = random::Key{seed}.fold(fmt::format("resample {}", length));
    for (std::size_t i = group.size() - 1; i > 0; --i)
      std::swap(group[i], group[static_cast<std::size_t>(
                              random::below(key, i, static_cast<std::uint64_t>(i + 1)))]);
    for (std::size_t i = 0; i < group.size(); ++i)
      partner[group[i]] = group[(i + 1) % group.size()];
  }
  return partner;
}

std::vector<int> layers_of(const nn::Model& model, const SweepSpec& spec) {
  const int count = model.config().layers;
  std::vector<int> layers = spec.layers;
  if (layers.empty()) {
    for (int l = 0; l < count; ++l) layers.push_back(l);
  }
  for (const int l : layers) {
    if (l >= 0 && l < count) continue;
    throw Error(ErrorKind::usage, fmt::format("there is no layer {} to sweep {} in; this model has "
                                              "layers 0 to {}",
                                              l, spec.site, count - 1));
  }
  return layers;
}

SiteSet sites_of(const Component& component, const std::vector<int>& layers) {
  std::vector<std::string> names;
  for (const int l : layers) names.push_back(component.site(l).name);
  return sites(fmt::format("{}", fmt::join(names, ",")));
}

// Edits that share one value for all layers' places, by layer.
std::vector<Edit> edits_by_layer(const nn::Model& model, const Sides& s, const SweepSpec& spec,
                                 const Component& component, const nn::Run* other) {
  const std::vector<int> layers = layers_of(model, spec);
  std::vector<Edit> edits;
  std::optional<nn::Run> reference;
  if (spec.replacement == Replacement::mean || spec.replacement == Replacement::resample) {
    std::vector<nn::Tokens> prompts = s.base;
    if (spec.replacement == Replacement::mean)
      prompts.insert(prompts.end(), s.other.begin(), s.other.end());
    else
      for (std::size_t i = 0; const std::size_t from : partners(s.base, spec.seed))
        prompts[i++] = s.base[from];
    reference = model.run(prompts, sites_of(component, layers));
  }
  for (const int l : layers) {
    const Site site = component.site(l);
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

// ---- the sweep --------------------------------------------------------------------------------
// Pairs that are swept together: one base run for all of them, and worlds that each change one.
std::vector<PatchSweep> sweep_together(const nn::Model& model, std::span<const Example> pairs,
                                       const SweepSpec& spec) {
  const Component& component = component_named(spec.site);
  const Sides prompts = sides(pairs, spec);
  const std::vector<int> layers = layers_of(model, spec);
  const Metric metric = metric_of(model, pairs, metric_of_sweep(spec));
  const std::string each = nn::per_prompt_name(metric);

  const Fetch wanted = spec.replacement == Replacement::patch
                           ? fetch(value(each), sites_of(component, layers))
                           : fetch(value(each));
  const nn::Run other = model.run_edited(prompts.other, {}, wanted, &metric);
  const std::vector<Edit> edits = edits_by_layer(model, prompts, spec, component, &other);

  // Keys and values have fewer heads where groups of query heads share them.
  const bool shared = spec.site == "k" || spec.site == "v";
  const int heads = shared ? model.config().key_heads() : model.config().heads;
  std::vector<Interventions> worlds;
  std::vector<LayerPlaces> grids;
  for (std::size_t p = 0; p < pairs.size(); ++p) {
    grids.push_back(grid(spec.by, std::ssize(pairs[p].prompt), heads));
    for (const Edit& edit : edits) {
      for (Where w : grids[p].places) {
        Edit e = edit;
        if (pairs.size() > 1) w.prompt = {static_cast<std::int64_t>(p)};
        e.where = {std::move(w)};
        worlds.push_back(Interventions{std::move(e)});
      }
    }
  }
  const Swept swept = model.sweep(prompts.base, worlds, metric, {each},
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
  for (std::size_t p = 0, world = 0; p < pairs.size(); ++p) {
    PatchSweep& s = sweeps.emplace_back();
    s.axes = {"layer"};
    s.axes.insert(s.axes.end(), grids[p].axes.begin(), grids[p].axes.end());
    s.layers = layers;
    Shape shape{std::ssize(layers)};
    for (const std::int64_t size : grids[p].shape) shape.push_back(size);
    s.values = Tensor::empty(shape, DType::f64);
    s.runs = static_cast<int>(s.values.numel());
    for (int i = 0; i < s.runs; ++i, ++world) {
      s.values.data<double>()[i] = values[world * pairs.size() + p];
      if (!swept.has_effect(world)) ++s.without_effect;
    }
    // The same prompt has one value, whatever rounding two runs of it may do.
    const double unlike = prompts.base[p] == prompts.other[p] ? of_base[p] : of_other[p];
    s.clean = spec.direction == Direction::denoise ? unlike : of_base[p];
    s.corrupt = spec.direction == Direction::denoise ? of_base[p] : unlike;
    s.direction = spec.direction;
    if (p > 0) continue;
    s.passes = swept.stats().passes;
    s.explanation = swept.explain();
  }
  return sweeps;
}

std::vector<PatchSweep> sweep_all(const nn::Model& model, std::span<const Example> pairs,
                                  const SweepSpec& spec) {
  // Mean and resample ablation take values from all pairs, so those are swept together; otherwise
  // a few at a time, which bounds the tables of a program.
  constexpr std::size_t kTogether = 16;
  const bool all =
      spec.replacement == Replacement::mean || spec.replacement == Replacement::resample;
  const std::size_t step = all ? std::max<std::size_t>(1, pairs.size()) : kTogether;
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
    for (PatchSweep& s : sweep_together(model, pairs.subspan(begin, count), part))
      sweeps.push_back(std::move(s));
  }
  return sweeps;
}

}  // namespace

std::vector<PatchSweep> patch_sweeps(const nn::Model& model, std::span<const Pair> pairs,
                                     const SweepSpec& spec) {
  check_sweep(spec.site, spec.by);
  layers_of(model, spec);
  check_pairs(model, pairs);
  std::vector<Example> examples;
  for (const Pair& p : pairs) examples.push_back(example_of(p));
  return sweep_all(model, examples, spec);
}

std::vector<PatchSweep> patch_examples(const nn::Model& model, std::span<const Example> examples,
                                       const SweepSpec& spec) {
  check_sweep(spec.site, spec.by);
  layers_of(model, spec);
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

std::vector<PatchSweep> normalised(std::vector<PatchSweep> sweeps) {
  double clean = 0, corrupt = 0;
  for (const PatchSweep& s : sweeps) {
    clean += s.clean / static_cast<double>(sweeps.size());
    corrupt += s.corrupt / static_cast<double>(sweeps.size());
  }
  if (!sweeps.empty() && clean == corrupt) {
    throw NumericError(
        fmt::format("the metric is {} of the clean runs and of the corrupt ones: "
                    "there is nothing between them to be a fraction of",
                    clean));
  }
  const auto fraction = [&](double x) { return (x - corrupt) / (clean - corrupt); };
  for (PatchSweep& s : sweeps) {
    auto values = s.values.to_vector<double>();
    std::transform(values.begin(), values.end(), values.begin(), fraction);
    s.values = Tensor::of(s.values.shape(), values);
    s.clean = fraction(s.clean);
    s.corrupt = fraction(s.corrupt);
  }
  return sweeps;
}

PatchSweep patch_sweep(const nn::Model& model, const Pair& pair, const SweepSpec& spec) {
  return patch_sweeps(model, {&pair, 1}, spec)[0];
}

}  // namespace vitrine::interp

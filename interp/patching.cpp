#include "interp/patching.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "nn/sites.h"
#include "nn/utf8.h"
#include "tensor/error.h"

namespace vitrine::interp {

// ---- words ------------------------------------------------------------------------------------
namespace {

constexpr std::array<std::string_view, 5> kBy = {"pos", "head", "head,pos", "head,dest",
                                                 "head,dest,src"};

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
std::string side_by_side(const nn::Model& model, const Pair& pair) {
  const auto shown = [&](const nn::Tokens& tokens) {
    std::vector<std::string> parts;
    for (const int t : tokens) {
      parts.push_back(model.has_tokenizer() ? nn::quote(model.tokenizer().token_bytes(t))
                                            : fmt::format("{}", t));
    }
    return parts;
  };
  const auto a = shown(pair.clean), b = shown(pair.corrupt);
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

void check_pair(const nn::Model& model, const Pair& pair) {
  nn::check_prompts({pair.clean}, model.config());
  nn::check_prompts({pair.corrupt}, model.config());
  for (const int t : {pair.answer, pair.wrong}) {
    if (t < 0 || t >= model.config().vocabulary) {
      throw TokenError(
          fmt::format("the answer's id {} is outside 0 to {}", t, model.config().vocabulary - 1));
    }
  }
  if (pair.clean.size() == pair.corrupt.size()) return;
  throw Error(ErrorKind::input,
              fmt::format("the clean prompt has {} tokens, the corrupt one {}; patching needs "
                          "prompts that line up, token by token:\n{}",
                          pair.clean.size(), pair.corrupt.size(), side_by_side(model, pair)));
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

std::string_view name_of(Direction d) { return d == Direction::denoise ? "denoise" : "noise"; }

std::string_view name_of(Measure m) { return kMeasures[static_cast<std::size_t>(m)]; }
Measure parse_measure(std::string_view text) {
  for (std::size_t i = 0; i < kMeasures.size(); ++i) {
    if (kMeasures[i] == text) return static_cast<Measure>(i);
  }
  throw Error(ErrorKind::usage, fmt::format("there is no metric '{}'; there are {}", text,
                                            fmt::join(kMeasures, ", ")));
}

Pair prompt_pair(const nn::Model& model, const nn::Prompt& clean, const nn::Prompt& corrupt,
                 std::string_view answer, std::string_view wrong) {
  return {model.tokens(clean), model.tokens(corrupt), model.token(answer), model.token(wrong)};
}

// ---- the sweep --------------------------------------------------------------------------------
namespace {

Metric metric_of(const nn::Model& model, const Pair& pair, Measure measure) {
  switch (measure) {
    case Measure::prob:
      return nn::probability(pair.answer);
    case Measure::log_prob:
      return nn::log_probability(pair.answer);
    case Measure::kl:
      return nn::kl_to(model.run(pair.clean).last_logits());
    case Measure::logit_diff:
      break;
  }
  return nn::logit_diff(nn::Answers(pair.answer), nn::Answers(pair.wrong));
}

// The places of one layer, in the order of the result's axes after `layer`.
struct Grid {
  std::vector<std::string> axes;
  Shape shape;
  std::vector<Where> places;
};
Grid grid(By by, std::int64_t positions, std::int64_t heads) {
  Grid g;
  const auto sizes = [&](std::initializer_list<std::pair<const char*, std::int64_t>> axes) {
    for (const auto& [name, size] : axes) {
      g.axes.emplace_back(name);
      g.shape.push_back(size);
    }
  };
  switch (by) {
    case By::pos:
      sizes({{"pos", positions}});
      break;
    case By::head:
      sizes({{"head", heads}});
      break;
    case By::head_pos:
      sizes({{"pos", positions}, {"head", heads}});
      break;
    case By::head_dest:
      sizes({{"head", heads}, {"dest", positions}});
      break;
    case By::head_dest_src:
      sizes({{"head", heads}, {"dest", positions}, {"src", positions}});
      break;
  }
  for (std::int64_t i = 0; i < numel(g.shape); ++i) {
    Where w;
    std::int64_t rest = i;
    for (int a = g.shape.size() - 1; a >= 0; --a) {
      const std::int64_t at = rest % g.shape[a];
      rest /= g.shape[a];
      const std::string& axis = g.axes[static_cast<std::size_t>(a)];
      if (axis == "head") w.head = {at};
      else if (axis == "src") w.key = {at};
      else w.pos = {at};
    }
    g.places.push_back(std::move(w));
  }
  return g;
}

}  // namespace

Sweep patch_sweep(const nn::Model& model, const Pair& pair, const SweepSpec& spec) {
  check_sweep(spec.site, spec.by);
  const Component& component = component_named(spec.site);
  check_pair(model, pair);
  const bool denoise = spec.direction == Direction::denoise;
  const nn::Tokens &base = denoise ? pair.corrupt : pair.clean,
                   &other = denoise ? pair.clean : pair.corrupt;
  const int layers = model.config().layers;
  const auto positions = static_cast<std::int64_t>(base.size());
  const Grid g = grid(spec.by, positions, model.config().heads);
  const Metric metric = metric_of(model, pair, spec.measure);

  // The other run's values, and one world for each layer and place.
  std::vector<std::string> names;
  for (int l = 0; l < layers; ++l) names.push_back(component.site(l).name);
  const Fetch wanted = fetch(sites(fmt::format("{}", fmt::join(names, ","))), value(metric));
  const nn::Run other_run = model.run_edited({other}, {}, wanted, &metric);
  std::vector<Interventions> worlds;
  for (int l = 0; l < layers; ++l) {
    const Site where = component.site(l);
    const Tensor values = other_run.results.raw(where.name);
    for (const Where& w : g.places) {
      worlds.push_back({spec.replacement == Replacement::zero
                            ? zero(where, w)
                            : replace(where, values, w, denoise ? "clean" : "corrupt")});
    }
  }
  SweepOptions options{.memory = spec.memory, .cancel = spec.cancel, .progress = spec.progress};
  const std::string each = nn::per_prompt_name(metric);
  const Swept swept = model.sweep({base}, worlds, metric, {each}, options);

  Sweep sweep;
  sweep.axes = {"layer"};
  sweep.axes.insert(sweep.axes.end(), g.axes.begin(), g.axes.end());
  Shape shape{layers};
  for (const std::int64_t size : g.shape) shape.push_back(size);
  sweep.values = swept[each].to(DType::f64).reshape(shape);
  // Two programs may round differently; the same prompt has the same metric all the same.
  const double of_base = swept.base(each).to_vector<double>()[0],
               of_other = base == other ? of_base : other_run.results.scalar(metric.name);
  sweep.clean = denoise ? of_other : of_base;
  sweep.corrupt = denoise ? of_base : of_other;
  sweep.runs = swept.stats().worlds;
  sweep.passes = swept.stats().passes;
  sweep.without_effect = swept.stats().without_effect;
  sweep.explanation = swept.explain();
  return sweep;
}

}  // namespace vitrine::interp

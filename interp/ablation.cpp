#include "interp/ablation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "interp/data/asked.h"
#include "interp/data/measure.h"
#include "nn/families/sites.h"
#include "tensor/error.h"
#include "tensor/random.h"

namespace vitrine::interp {

// ---- units --------------------------------------------------------------------------------------
std::vector<AblationUnit> head_units(const nn::Model& model) {
  std::vector<AblationUnit> units;
  for (int layer = 0; layer < model.config().layers; ++layer) {
    for (std::int64_t head = 0; head < model.config().heads; ++head)
      units.push_back(
          {fmt::format("{}.{}", layer, head), layer, head, {{site::z(layer), {.head = {head}}}}});
  }
  return units;
}

std::vector<AblationUnit> mlp_units(const nn::Model& model) {
  std::vector<AblationUnit> units;
  units.reserve(static_cast<std::size_t>(model.config().layers));
  for (int layer = 0; layer < model.config().layers; ++layer)
    units.push_back({fmt::format("mlp {}", layer), layer, -1, {{site::mlp_out(layer)}}});
  return units;
}

std::vector<AblationUnit> layer_units(const nn::Model& model) {
  std::vector<AblationUnit> units;
  units.reserve(static_cast<std::size_t>(model.config().layers));
  for (int layer = 0; layer < model.config().layers; ++layer)
    units.push_back({fmt::format("layer {}", layer),
                     layer,
                     -1,
                     {{site::attn_out(layer)}, {site::mlp_out(layer)}}});
  return units;
}

namespace {

// Sums over the rows of a site's values [row, ...], f64.
class RowSums {
 public:
  void add(const Tensor& rows) {
    const auto values = rows.to_vector<double>();
    const std::int64_t count = rows.dim(0);
    const std::size_t width = count == 0 ? 0 : values.size() / static_cast<std::size_t>(count);
    sums_.resize(std::max(sums_.size(), width));
    for (std::size_t i = 0; i < values.size(); ++i) sums_[i % width] += values[i];
    count_ += count;
    shape_ = rows.shape();
    dtype_ = rows.dtype();
  }
  std::vector<double> mean() const {
    std::vector<double> mean = sums_;
    for (double& x : mean) x /= static_cast<double>(count_);
    return mean;
  }
  Tensor mean_row() const {  // [1, ...], of the values' type
    Shape shape = shape_;
    shape[0] = 1;
    return Tensor::of(shape, mean()).to(dtype_);
  }

 private:
  std::vector<double> sums_;
  std::int64_t count_ = 0;
  Shape shape_;
  DType dtype_ = DType::f32;
};

// Of every one of the sites, over all rows of all prompts.
std::map<std::string, RowSums> sums_over(const nn::Model& model,
                                         const std::vector<nn::Tokens>& prompts,
                                         const std::vector<std::string>& names,
                                         std::int64_t tokens) {
  const SiteSet all = sites(fmt::format("{}", fmt::join(names, ",")));
  std::map<std::string, RowSums> sums;
  for (const auto& [begin, end] : batches(prompts, {.rows = tokens})) {
    const nn::Run run = model.run_batch(part_of(prompts, begin, end), fetch(all));
    for (const std::string& name : names) sums[name].add(run.results.raw(name));
  }
  return sums;
}

}  // namespace

std::vector<AblationUnit> feature_units(const nn::Model& model, std::span<const Example> examples,
                                        const Site& acts, std::int64_t most) {
  constexpr std::int64_t kTokens = 1024;  // a row has all features
  const auto mean = sums_over(model, prompts_of(examples), {acts.name}, kTokens)[acts.name].mean();
  std::vector<std::int64_t> order;
  for (std::size_t f = 0; f < mean.size(); ++f) {
    if (mean[f] > 0) order.push_back(static_cast<std::int64_t>(f));
  }
  if (order.empty())
    throw Error(ErrorKind::input, fmt::format("no feature of {} is active on these prompts: there "
                                              "is nothing to ablate",
                                              acts.name));
  const auto at = [&](std::int64_t f) { return mean[static_cast<std::size_t>(f)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return at(a) > at(b); });
  if (std::ssize(order) > most) order.resize(static_cast<std::size_t>(most));
  std::vector<AblationUnit> units;
  units.reserve(order.size());
  for (const std::int64_t f : order)
    units.push_back({fmt::format("feature {}", f), -1, f, {{acts, {.feature = {f}}}}});
  return units;
}

// ---- sets of units ------------------------------------------------------------------------------
namespace {

// What an edit selects that selects what any of these does. Heads and features become one list:
// a selection costs as much as there are lists.
std::vector<Where> united(const std::vector<Where>& wheres) {
  Where heads, features;
  std::vector<Where> others;
  for (const Where& w : wheres) {
    if (w == Where{}) return {};
    if (w == Where{.head = w.head})
      heads.head.insert(heads.head.end(), w.head.begin(), w.head.end());
    else if (w == Where{.feature = w.feature})
      features.feature.insert(features.feature.end(), w.feature.begin(), w.feature.end());
    else others.push_back(w);
  }
  for (const Where& w : {heads, features}) {
    if (!(w == Where{})) others.push_back(w);
  }
  return others;
}

// Runs of one data set with sets of units ablated, a batch of prompts at a time.
class Ablator {
 public:
  Ablator(const nn::Model& model, std::span<const Example> examples,
          std::span<const AblationUnit> units, const AblationSpec& spec)
      : model_(model),
        examples_(examples),
        units_(units),
        spec_(spec),
        prompts_(prompts_to_run(examples, spec.metric)) {
    if (spec.action == Replacement::patch)
      throw Error(
          ErrorKind::usage,
          "an ablation puts in zero, mean or resample; patch takes values from another run, "
          "which there is none of here");
    if (examples.empty()) throw Error(ErrorKind::input, "there are no prompts to ablate in");
    for (const AblationUnit& unit : units) {
      for (const AblationUnit::Place& p : unit.places) {
        by_feature_ = by_feature_ || !p.where.feature.empty();
        if (std::find(names_.begin(), names_.end(), p.site.name) == names_.end())
          names_.push_back(p.site.name);
      }
    }
    BatchLimits limits = limits_of_logits(model);
    limits.rows = by_feature_ ? std::min(spec.tokens, kFeatureTokens) : spec.tokens;
    batches_ = batches(prompts_, limits);
    if (spec.action == Replacement::mean && !names_.empty()) {
      for (const auto& [name, sums] : sums_over(model, prompts_, names_, spec.tokens))
        means_[name] = sums.mean_row();
    }
    if (spec.action != Replacement::resample) return;
    followers_ = followers(prompts_, spec.seed, [&](std::size_t prompt, std::size_t length) {
      const int line = examples[prompt].line;
      return fmt::format(
          "{}resampling takes values from another prompt with as many tokens, but this "
          "is the only one with {}; give more prompts of that length",
          line > 0 ? fmt::format("line {}: ", line) : "", length);
    });
  }

  // How many runs are to come, for the progress; each is one of every batch.
  void expect(std::size_t sets) { total_ += static_cast<int>(sets * batches_.size()); }

  Ablated run(std::span<const UnitSet> sets) {
    for (const UnitSet& set : sets) check(set);
    Ablated found;
    found.clean.resize(examples_.size());
    found.metric = Tensor::empty({std::ssize(sets), std::ssize(examples_)}, DType::f64);
    for (const auto& [begin, end] : batches_) run_batch(sets, begin, end, found);
    found.runs = static_cast<int>(sets.size() * batches_.size());
    return found;
  }

 private:
  // Every row of an edit of features has all of them, so that few rows and runs are made at a time.
  static constexpr std::int64_t kFeatureTokens = 512;
  static constexpr std::size_t kFeatureSets = 64;

  void check(const UnitSet& set) const {
    for (const std::size_t u : set) {
      if (u < units_.size()) continue;
      throw Error(
          ErrorKind::usage,
          fmt::format("there is no unit {} to ablate; there are {}, from 0", u, units_.size()));
    }
  }

  // What is put in at a site of a batch.
  Edit edit_at(const Site& site, const nn::Run* others) const {
    switch (spec_.action) {
      case Replacement::mean: {
        Edit e = replace(site, means_.at(site.name), {}, "the mean over all prompts");
        e.origin = Edit::Origin::mean;
        return e;
      }
      case Replacement::resample:
        return replace(site, others->results.raw(site.name), {}, "another prompt");
      default:
        return zero(site);
    }
  }

  // The prompts of a batch with a set ablated: one edit at each of its sites, so that none overlap.
  Interventions world(const UnitSet& set, const std::map<std::string, Edit>& edits,
                      std::span<const Example> batch) const {
    std::map<std::string, std::vector<Where>> wheres;
    for (const std::size_t u : set) {
      for (const AblationUnit::Place& p : units_[u].places) wheres[p.site.name].push_back(p.where);
    }
    std::vector<Edit> made;
    for (const auto& [name, of_site] : wheres) {
      made.push_back(edits.at(name));
      made.back().where = united(of_site);
      if (!spec_.positions.empty())
        made.back().where = at_positions(made.back().where, batch, spec_.positions);
    }
    return Interventions(std::move(made));
  }

  void run_batch(std::span<const UnitSet> sets, std::size_t begin, std::size_t end, Ablated& into) {
    const std::vector<nn::Tokens> prompts = part_of(prompts_, begin, end);
    const std::span<const Example> batch = examples_.subspan(begin, end - begin);
    const Metric metric = metric_of(model_, batch, spec_.metric);
    const std::string each = nn::per_prompt_name(metric);
    std::optional<nn::Run> others;
    if (spec_.action == Replacement::resample && !names_.empty()) {
      std::vector<nn::Tokens> from;
      for (std::size_t i = begin; i < end; ++i) from.push_back(prompts_[followers_[i]]);
      others = model_.run_batch(from, fetch(sites(fmt::format("{}", fmt::join(names_, ",")))));
    }
    std::map<std::string, Edit> edits;
    for (const std::string& name : names_)
      edits.emplace(name, edit_at(Site{name}, others ? &*others : nullptr));

    const std::size_t step = by_feature_ ? kFeatureSets : std::max<std::size_t>(1, sets.size());
    for (std::size_t first = 0; first == 0 || first < sets.size(); first += step) {
      const std::size_t last = std::min(sets.size(), first + step);
      std::vector<Interventions> worlds;
      for (std::size_t s = first; s < last; ++s) worlds.push_back(world(sets[s], edits, batch));
      const Swept swept = model_.sweep(
          prompts, worlds, metric, {each},
          {.memory = spec_.memory, .cancel = spec_.cancel, .progress = [&](int done, int) {
             if (spec_.progress) spec_.progress(done_ + done, std::max(total_, done_ + done));
           }});
      done_ += static_cast<int>(worlds.size());
      if (spec_.progress) spec_.progress(done_, std::max(total_, done_));
      into.passes += swept.stats().passes;
      take(swept, each, first, last, begin, into);
    }
  }

  // Puts the values of sets [first, last) and of the prompts from `begin` where they belong.
  void take(const Swept& swept, const std::string& each, std::size_t first, std::size_t last,
            std::size_t begin, Ablated& into) const {
    const auto clean = swept.base(each).to_vector<double>();
    const std::size_t count = clean.size();
    const auto check_number = [&](double x, std::size_t prompt, const std::string& without) {
      if (std::isfinite(x)) return;
      const int line = examples_[begin + prompt].line;
      throw NumericError(fmt::format("{}the metric '{}' is {}{}",
                                     line > 0 ? fmt::format("line {}: ", line) : "",
                                     spec_.metric.text, x, without));
    };
    for (std::size_t p = 0; p < count; ++p) {
      check_number(clean[p], p, "");
      into.clean[begin + p] = clean[p];
    }
    if (first == last) return;
    const auto values = swept[each].to_vector<double>();  // [set, prompt]
    double* metric = into.metric.data<double>();
    for (std::size_t s = first; s < last; ++s) {
      for (std::size_t p = 0; p < count; ++p) {
        const double x = values[(s - first) * count + p];
        check_number(x, p, fmt::format(" in the ablated run {}", s));
        metric[s * examples_.size() + begin + p] = x;
      }
    }
  }

  const nn::Model& model_;
  std::span<const Example> examples_;
  std::span<const AblationUnit> units_;
  const AblationSpec& spec_;
  std::vector<nn::Tokens> prompts_;
  std::vector<std::string> names_;  // of all sites
  bool by_feature_ = false;
  std::vector<std::pair<std::size_t, std::size_t>> batches_;  // of prompts
  std::map<std::string, Tensor> means_;
  std::vector<std::size_t> followers_;
  int done_ = 0, total_ = 0;
};

std::vector<UnitSet> single_sets(std::size_t units) {
  std::vector<UnitSet> sets;
  for (std::size_t u = 0; u < units; ++u) sets.push_back({u});
  return sets;
}

double mean_value(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::vector<double> Ablated::of(std::size_t set) const {
  const auto row = metric.select(0, static_cast<std::int64_t>(set)).contiguous();
  return row.to_vector<double>();
}

std::vector<double> Ablated::change(std::size_t set) const {
  std::vector<double> change = of(set);
  for (std::size_t p = 0; p < change.size(); ++p) change[p] -= clean[p];
  return change;
}

Ablated ablate_sets(const nn::Model& model, std::span<const Example> examples,
                    std::span<const AblationUnit> units, std::span<const UnitSet> sets,
                    const AblationSpec& spec) {
  Ablator ablator(model, examples, units, spec);
  ablator.expect(sets.size());
  return ablator.run(sets);
}

Ablated ablate_each(const nn::Model& model, std::span<const Example> examples,
                    std::span<const AblationUnit> units, const AblationSpec& spec) {
  return ablate_sets(model, examples, units, single_sets(units.size()), spec);
}

// ---- pairs --------------------------------------------------------------------------------------
AblatedPairs ablate_pairs(const nn::Model& model, std::span<const Example> examples,
                          std::span<const AblationUnit> units, const AblationSpec& spec) {
  AblatedPairs found;
  std::vector<UnitSet> sets = single_sets(units.size());
  for (std::size_t a = 0; a < units.size(); ++a) {
    for (std::size_t b = a + 1; b < units.size(); ++b) {
      found.pairs.emplace_back(a, b);
      sets.push_back({a, b});
    }
  }
  const Ablated all = ablate_sets(model, examples, units, sets, spec);
  const auto n = std::ssize(units);
  found.alone = found.together = all;
  found.alone.metric = all.metric.slice(0, 0, n).contiguous();
  found.together.metric = all.metric.slice(0, n, std::ssize(sets)).contiguous();
  return found;
}

std::vector<double> AblatedPairs::interaction(std::size_t pair) const {
  std::vector<double> both = together.change(pair);
  const auto a = alone.change(pairs[pair].first), b = alone.change(pairs[pair].second);
  for (std::size_t p = 0; p < both.size(); ++p) both[p] -= a[p] + b[p];
  return both;
}

namespace {

// [unit, unit] of a number for each pair and one for each unit.
template <class OfPair, class OfUnit>
Tensor square_of(const AblatedPairs& found, const OfPair& of_pair, const OfUnit& of_unit) {
  const std::int64_t n = found.alone.metric.dim(0);
  Tensor square = Tensor::empty({n, n}, DType::f64);
  double* to = square.data<double>();
  for (std::int64_t u = 0; u < n; ++u) to[u * n + u] = of_unit(static_cast<std::size_t>(u));
  for (std::size_t i = 0; i < found.pairs.size(); ++i) {
    const auto a = static_cast<std::int64_t>(found.pairs[i].first),
               b = static_cast<std::int64_t>(found.pairs[i].second);
    to[a * n + b] = to[b * n + a] = of_pair(i);
  }
  return square;
}

}  // namespace

Tensor AblatedPairs::effects() const {
  return square_of(
      *this, [&](std::size_t i) { return mean_value(together.change(i)); },
      [&](std::size_t u) { return mean_value(alone.change(u)); });
}

Tensor AblatedPairs::interactions() const {
  return square_of(
      *this, [&](std::size_t i) { return mean_value(interaction(i)); },
      [](std::size_t) { return std::nan(""); });
}

// ---- sets that grow -----------------------------------------------------------------------------
namespace {

// All units but these.
UnitSet complement(const UnitSet& set, std::size_t units) {
  UnitSet others;
  for (std::size_t u = 0; u < units; ++u) {
    if (std::find(set.begin(), set.end(), u) == set.end()) others.push_back(u);
  }
  return others;
}

// Set i of each size is the beginning of a random order.
std::vector<UnitSet> random_sets(std::size_t units, const GrowthSpec& growth, std::uint64_t seed) {
  std::vector<UnitSet> sets;  // [step, random]
  std::vector<UnitSet> orders;
  for (std::int64_t i = 0; i < growth.random; ++i) {
    UnitSet order(units);
    std::iota(order.begin(), order.end(), std::size_t{0});
    random::shuffle(random::Key{seed}.fold("random sets").fold(static_cast<std::uint64_t>(i)),
                    order);
    orders.push_back(std::move(order));
  }
  for (std::int64_t size = 1; size <= growth.steps; ++size) {
    for (const UnitSet& order : orders) sets.emplace_back(order.begin(), order.begin() + size);
  }
  return sets;
}

class Grower {
 public:
  Grower(const nn::Model& model, std::span<const Example> examples,
         std::span<const AblationUnit> units, const AblationSpec& spec, const GrowthSpec& growth)
      : units_(units.size()), growth_(growth), ablator_(model, examples, units, spec) {
    growth_.steps = std::min<std::int64_t>(growth.steps, std::ssize(units));
    random_ = random_sets(units_, growth_, spec.seed);
    std::size_t runs = 1 + random_.size();
    for (std::int64_t s = 0; s < growth_.steps; ++s) runs += units_ - static_cast<std::size_t>(s);
    ablator_.expect(runs);
  }

  GrownSets grow() {
    GrownSets grown;
    const Ablated begin = run({{}}, grown);
    grown.clean = begin.clean;
    grown.begin = begin.of(0);
    grown.metric = Tensor::empty({growth_.steps, std::ssize(grown.clean)}, DType::f64);
    for (std::int64_t s = 0; s < growth_.steps; ++s) {
      const auto best = step(grown);
      std::copy(best.begin(), best.end(),
                grown.metric.data<double>() + s * std::ssize(grown.clean));
    }
    const auto prompts = std::ssize(grown.clean);
    grown.random = Tensor::empty({growth_.steps, growth_.random}, DType::f64);
    grown.random_each = Tensor::empty({growth_.steps, growth_.random, prompts}, DType::f64);
    if (random_.empty()) return grown;
    const Ablated random = run(random_, grown);
    std::copy_n(random.metric.data<double>(), random.metric.numel(),
                grown.random_each.data<double>());
    for (std::size_t i = 0; i < random_.size(); ++i)
      grown.random.data<double>()[i] = mean_value(random.of(i));
    return grown;
  }

 private:
  // Takes one more unit; the metric of each prompt then.
  std::vector<double> step(GrownSets& grown) {
    const UnitSet candidates = complement(grown.units, units_);
    std::vector<UnitSet> sets;
    for (const std::size_t u : candidates) {
      sets.push_back(grown.units);
      sets.back().push_back(u);
    }
    const Ablated found = run(sets, grown);
    const double clean = mean_value(grown.clean);
    std::size_t best = 0;
    double best_distance = 0;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      const double distance = std::abs(mean_value(found.of(i)) - clean);
      const bool better =
          growth_.growth == Growth::broken ? distance > best_distance : distance < best_distance;
      if (i > 0 && !better) continue;
      best = i;
      best_distance = distance;
    }
    grown.units.push_back(candidates[best]);
    return found.of(best);
  }

  // These sets are ablated, or kept.
  Ablated run(std::vector<UnitSet> sets, GrownSets& grown) {
    if (growth_.growth == Growth::kept) {
      for (UnitSet& set : sets) set = complement(set, units_);
    }
    Ablated found = ablator_.run(sets);
    grown.runs += found.runs;
    grown.passes += found.passes;
    return found;
  }

  std::size_t units_;
  GrowthSpec growth_;
  Ablator ablator_;
  std::vector<UnitSet> random_;
};

}  // namespace

GrownSets grow_sets(const nn::Model& model, std::span<const Example> examples,
                    std::span<const AblationUnit> units, const AblationSpec& spec,
                    const GrowthSpec& growth) {
  if (units.empty()) throw Error(ErrorKind::input, "there are no units for a set to grow by");
  return Grower(model, examples, units, spec, growth).grow();
}

}  // namespace vitrine::interp

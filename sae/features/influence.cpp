#include "sae/features/influence.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/ops/ops.h"
#include "autograd/transform/expand.h"
#include "autograd/transform/gradient.h"
#include "autograd/transform/intervention.h"
#include "sae/dependence.h"
#include "tensor/error.h"

namespace vitrine::sae {
namespace {

const std::string& site_of(const Sae& sae, const char* which) {
  if (sae.config.transcoder)
    throw ConfigError(
        fmt::format("{}: influence is between SAEs, and this is a transcoder", sae.name));
  if (sae.config.hook_name.empty())
    throw ConfigError(fmt::format(
        "{}: the {} SAE's cfg.json does not say the site (metadata.hook_name) that it is of",
        sae.name, which));
  return sae.config.hook_name;
}

// The model with the source spliced in and the target's features computed, and runs of it, of some
// prompts together.
class Machine {
 public:
  Machine(const nn::Model& model, const Sae& source, const Sae& target,
          const std::vector<nn::Tokens>& prompts, const Policies& policies)
      : model_(model),
        parameters_(with_parameters(with_parameters(model.parameters(), source, "source"), target,
                                    "target")),
        rows_(nn::batch_size(prompts).rows) {
    nn::check_prompts(prompts, model.config());
    const std::string &from = site_of(source, "source"), &to = site_of(target, "target");
    const Graph plain = model.build(nn::batch_size(prompts));
    check_site(source, plain, from);
    check_site(target, plain, to);
    const Graph linear = linearise(plain, policies);
    feeds_ = model.feeds(plain, prompts);
    if (policies.norm == Policy::hold || policies.attention == Policy::hold ||
        policies.activation == Policy::hold) {
      const Plan record = compile(plain, fetch(held_sites(linear)));
      feeds_ = with_held(linear, run(record), feeds_);
    }
    const Spliced spliced = splice(linear, Site{from}, codec(source, "source"), ErrorTerm::keep);
    acts_ = spliced.acts;
    error_ = *spliced.error;
    Builder b(expand_sites(spliced.graph, {to}));
    Nodes nodes(target.config, "target");
    const Value read = nodes.pre(b.at(Site{to})), features = nodes.features(read);
    const Value pre = has_pre_activations(target.config) ? read : features;
    b.output("target.pre", pre);
    b.output("target.features", features);
    // One row of each prompt at most: -1 stands for none, and counts for 0.
    const auto n = std::ssize(prompts);
    const Value row = b.input("target.row", {DType::i32, {n}}),
                feature = b.input("target.feature", {DType::i32, {n}});
    b.output("target.one", sum(pick(gather_rows(pre, row), feature)));
    graph_ = std::move(b).finish();
    features_ = target.config.d_sae;
    source_features_ = source.config.d_sae;
    if (!depends_on(graph_, graph_.output("target.pre"), graph_.site(acts_.name).node)) {
      throw Error(ErrorKind::usage,
                  fmt::format("nothing at '{}' depends on '{}': the target SAE must come after the "
                              "source; exchange the two",
                              to, from));
    }
  }

  struct Clean {
    Tensor acts, pre, features, error;  // [positions, ...]
  };
  Clean clean() {
    const Plan p =
        compile(graph_, fetch(acts_, error_, value("target.pre"), value("target.features")));
    const Results r = run(p);
    return {r.raw(acts_.name).contiguous(), r.raw("target.pre").contiguous(),
            r.raw("target.features").contiguous(), r.raw(error_.name).contiguous()};
  }

  struct Slopes {
    Tensor acts, error;
  };
  Slopes slopes(const FeatureAt& target) {
    if (!slopes_) {
      const Graph g = gradient(graph_, "target.one", sites(acts_.name + "," + error_.name));
      slopes_ = compile(g, fetch(grad(acts_), grad(error_)));
    }
    set({static_cast<std::int32_t>(target.position)}, target.feature);
    const Results r = run(*slopes_);
    return {r.raw(grad_name(acts_.name)).contiguous(), r.raw(grad_name(error_.name)).contiguous()};
  }
  // Of one feature at a row of each prompt, or none, the slopes of the source's features alone.
  Tensor slopes(const std::vector<std::int32_t>& rows, std::int64_t feature) {
    if (!slopes_)
      slopes_ = compile(gradient(graph_, "target.one", sites(acts_.name)), fetch(grad(acts_)));
    set(rows, feature);
    return run(*slopes_).raw(grad_name(acts_.name)).contiguous();
  }

  double after(const FeatureAt& target, const std::vector<FeatureAt>& zeroed) {
    set({static_cast<std::int32_t>(target.position)}, target.feature);
    if (zeroed.empty())
      return run(compile(graph_, fetch(value("target.one")))).scalar("target.one");
    std::map<std::int64_t, std::vector<std::int64_t>> by_position;
    for (const FeatureAt& f : zeroed) by_position[f.position].push_back(f.feature);
    Edit edit = zero(acts_);
    for (const auto& [position, features] : by_position)
      edit.where.push_back({.pos = {position}, .feature = features});
    const Interventions what{edit};
    const Graph edited = intervene(graph_, what);
    const Plan p = compile(edited, fetch(value("target.one")));
    return run(p, with_interventions(edited, what, feeds_)).scalar("target.one");
  }

  std::int64_t rows() const { return rows_; }
  std::int64_t target_features() const { return features_; }
  std::int64_t source_features() const { return source_features_; }

 private:
  void set(const std::vector<std::int32_t>& rows, std::int64_t feature) {
    const auto n = std::ssize(rows);
    feeds_["target.row"] = Tensor::of({n}, rows);
    feeds_["target.feature"] = Tensor::full({n}, DType::i32, static_cast<double>(feature));
  }
  Results run(const Plan& plan) { return run(plan, feeds_); }
  Results run(const Plan& plan, const Feeds& feeds) {
    return plan.run(feeds, parameters_, {.pool = &model_.pool()});
  }

  const nn::Model& model_;
  Parameters parameters_;
  std::int64_t rows_, features_ = 0, source_features_ = 0;
  Graph graph_;
  Feeds feeds_;
  Site acts_, error_;
  std::optional<Plan> slopes_;
};

std::vector<bool> chosen(const std::vector<std::int64_t>& given, std::int64_t all,
                         const char* what) {
  std::vector<bool> yes(static_cast<std::size_t>(all), given.empty());
  for (const std::int64_t i : given) {
    if (i < 0 || i >= all)
      throw Error(ErrorKind::usage,
                  fmt::format("there is no {} {}; there are 0 to {}", what, i, all - 1));
    yes[static_cast<std::size_t>(i)] = true;
  }
  return yes;
}

double at(const Tensor& t, std::int64_t row, std::int64_t column) {
  return t.data<float>()[row * t.dim(1) + column];
}

template <class T, class Key>
void keep_strongest(std::vector<T>& all, int count, const Key& key) {
  std::stable_sort(all.begin(), all.end(), [&](const T& a, const T& b) { return key(a) > key(b); });
  if (std::ssize(all) > count) all.resize(static_cast<std::size_t>(count));
}

}  // namespace

Influence influence(const nn::Model& model, const Sae& source, const Sae& target,
                    const nn::Tokens& prompt, const InfluenceSpec& spec) {
  Machine machine(model, source, target, {prompt}, spec.policies);
  const std::int64_t n = machine.rows();
  const auto from_here = chosen(spec.source_positions, n, "position"),
             to_here = chosen(spec.target_positions, n, "position"),
             of_source = chosen(spec.source_features, machine.source_features(), "source feature"),
             of_target = chosen(spec.target_features, machine.target_features(), "target feature");
  const Machine::Clean clean = machine.clean();

  std::vector<FeatureAt> targets;
  for (std::int64_t q = 0; q < n; ++q) {
    for (std::int64_t t = 0; t < machine.target_features(); ++t) {
      const double activation = at(clean.features, q, t);
      // Features that were asked for count even when they are not active: what holds them down?
      const bool counts =
          spec.target_features.empty() ? activation > 0 : of_target[static_cast<std::size_t>(t)];
      if (counts && to_here[static_cast<std::size_t>(q)])
        targets.push_back({q, t, activation, at(clean.pre, q, t)});
    }
  }
  keep_strongest(targets, spec.targets, [](const FeatureAt& f) { return f.activation; });

  Influence out;
  out.positions = n;
  for (const FeatureAt& t : targets) {
    const Machine::Slopes slopes = machine.slopes(t);
    Influence::Target found{t,
                            {},
                            std::vector<double>(static_cast<std::size_t>(n), 0),
                            std::vector<double>(static_cast<std::size_t>(n), 0)};
    for (std::int64_t p = 0; p < n; ++p) {
      for (std::int64_t j = 0; j < machine.source_features(); ++j) {
        const double f = at(clean.acts, p, j);
        if (f == 0) continue;
        const double effect = f * at(slopes.acts, p, j);
        found.by_position[static_cast<std::size_t>(p)] += effect;
        if (from_here[static_cast<std::size_t>(p)] && of_source[static_cast<std::size_t>(j)])
          found.causes.push_back({{p, j, f, 0}, effect, {}});
      }
      const std::int64_t width = clean.error.numel() / n;
      for (std::int64_t i = 0; i < width; ++i)
        found.of_error[static_cast<std::size_t>(p)] +=
            static_cast<double>(clean.error.data<float>()[p * width + i]) *
            slopes.error.data<float>()[p * width + i];
    }
    keep_strongest(found.causes, spec.causes,
                   [](const Cause& c) { return std::abs(c.first_order); });
    for (std::size_t i = 0; i < found.causes.size() && static_cast<int>(i) < spec.verify; ++i)
      found.causes[i].exact = t.pre - machine.after(t, {found.causes[i].source});
    out.targets.push_back(std::move(found));
  }
  return out;
}

std::vector<double> ablated(const nn::Model& model, const Sae& source, const Sae& target,
                            const nn::Tokens& prompt, const std::vector<FeatureAt>& targets,
                            const std::vector<FeatureAt>& sources, const Policies& policies) {
  Machine machine(model, source, target, {prompt}, policies);
  std::vector<double> out;
  out.reserve(targets.size());
  for (const FeatureAt& t : targets) out.push_back(machine.after(t, sources));
  return out;
}

// ---- over many prompts --------------------------------------------------------------------------
namespace {

// Prompts that are run together, and the rows at which their targets are read.
struct Together {
  std::vector<nn::Tokens> prompts;
  std::vector<std::int32_t> rows;
  std::int64_t tokens = 0;
};
std::vector<Together> together(std::span<const nn::Tokens> prompts,
                               std::span<const std::int64_t> positions, std::int64_t most) {
  std::vector<Together> all;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto length = std::ssize(prompts[i]);
    const std::int64_t at = positions.empty() ? length - 1 : positions[i];
    if (at < 0 || at >= length) {
      throw Error(
          ErrorKind::usage,
          fmt::format("prompt {}: there is no position {}; there are 0 to {}", i, at, length - 1));
    }
    if (all.empty() || all.back().tokens + length > most) all.emplace_back();
    Together& t = all.back();
    t.rows.push_back(static_cast<std::int32_t>(t.tokens + at));
    t.tokens += length;
    t.prompts.push_back(prompts[i]);
  }
  return all;
}

// Effects of every source feature on one target, prompt by prompt.
class Causes {
 public:
  explicit Causes(std::int64_t features)
      : mean_(static_cast<std::size_t>(features)), squares_(mean_.size()), active_(mean_.size()) {}

  void add(const std::vector<double>& effects, const std::vector<bool>& active) {
    ++count_;
    for (std::size_t j = 0; j < mean_.size(); ++j) {
      const double off = effects[j] - mean_[j];  // Welford 1962
      mean_[j] += off / static_cast<double>(count_);
      squares_[j] += off * (effects[j] - mean_[j]);
      active_[j] += active[j] ? 1 : 0;
    }
  }
  std::vector<MeanCause> strongest(const std::vector<bool>& of_source, int count) const {
    std::vector<MeanCause> causes;
    const auto n = static_cast<double>(count_);
    for (std::size_t j = 0; j < mean_.size(); ++j) {
      if (active_[j] == 0 || !of_source[j]) continue;
      causes.push_back({static_cast<std::int64_t>(j), mean_[j],
                        std::sqrt(squares_[j] / (n - 1) / n), active_[j]});
    }
    keep_strongest(causes, count, [](const MeanCause& c) { return std::abs(c.first_order); });
    return causes;
  }

 private:
  std::vector<double> mean_, squares_;
  std::vector<std::int64_t> active_;
  std::int64_t count_ = 0;
};

// A target over some prompts: how often it is active there, and how much where it is.
InfluenceOver::Target target_over(std::int64_t feature,
                                  const std::vector<std::vector<double>>& features,
                                  std::span<const std::size_t> prompts) {
  InfluenceOver::Target target{feature, 0, 0, {}};
  double sum = 0;
  for (const std::size_t i : prompts) {
    const double activation = features[i][static_cast<std::size_t>(feature)];
    sum += activation;
    target.active += activation > 0 ? 1 : 0;
  }
  if (target.active > 0) target.activation = sum / static_cast<double>(target.active);
  return target;
}

// Which target features are looked at, with their mean activations where they are active.
std::vector<InfluenceOver::Target> targets_of(const std::vector<std::vector<double>>& features,
                                              const std::vector<bool>& asked, bool given,
                                              int count) {
  std::vector<InfluenceOver::Target> targets;
  std::vector<std::size_t> all(features.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  for (std::size_t t = 0; t < asked.size(); ++t) {
    if (!asked[t]) continue;
    auto target = target_over(static_cast<std::int64_t>(t), features, all);
    if (given || target.active > 0) targets.push_back(std::move(target));
  }
  // By the mean over all prompts: what is active in many counts for more.
  if (!given) {
    keep_strongest(targets, count, [](const InfluenceOver::Target& t) {
      return t.activation * static_cast<double>(t.active);
    });
  }
  return targets;
}

// Calls found(i, effects, active) with what the source's features do to one target, and which of
// them are active, for the prompts i of the batch where the target is active.
template <class F>
void find_effects(Machine& machine, const Together& t, const Tensor& acts, std::int64_t feature,
                  std::span<const std::vector<double>> features, const F& found) {
  std::vector<std::int32_t> rows = t.rows;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!(features[i][static_cast<std::size_t>(feature)] > 0)) rows[i] = -1;
  }
  if (std::all_of(rows.begin(), rows.end(), [](std::int32_t r) { return r < 0; })) return;
  const Tensor slopes = machine.slopes(rows, feature);
  const auto width = static_cast<std::size_t>(acts.dim(1));
  std::vector<double> effects(width);
  std::vector<bool> active(width);
  std::size_t row = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::fill(effects.begin(), effects.end(), 0);
    std::fill(active.begin(), active.end(), false);
    for (std::size_t p = 0; p < t.prompts[i].size(); ++p, ++row) {
      if (rows[i] < 0) continue;
      for (std::size_t j = 0; j < width; ++j) {
        const double f = at(acts, static_cast<std::int64_t>(row), static_cast<std::int64_t>(j));
        if (f == 0) continue;
        effects[j] += f * at(slopes, static_cast<std::int64_t>(row), static_cast<std::int64_t>(j));
        active[j] = true;
      }
    }
    if (rows[i] >= 0) found(i, effects, active);
  }
}

// What causes one target: over all prompts, over each group, and in each prompt.
class CausesOfTarget {
 public:
  CausesOfTarget(std::int64_t features, std::size_t groups)
      : all_(features), groups_(groups, Causes(features)) {}

  void add(const std::vector<std::size_t>& in, const std::vector<double>& effects,
           const std::vector<bool>& active) {
    all_.add(effects, active);
    for (const std::size_t g : in) groups_[g].add(effects, active);
  }
  const Causes& all() const { return all_; }
  const Causes& group(std::size_t g) const { return groups_[g]; }

 private:
  Causes all_;
  std::vector<Causes> groups_;
};

std::vector<MeanCause> strongest_in_prompt(const std::vector<double>& effects,
                                           const std::vector<bool>& active,
                                           const std::vector<bool>& of_source, int count) {
  std::vector<MeanCause> causes;
  for (std::size_t j = 0; j < effects.size(); ++j) {
    if (active[j] && of_source[j])
      causes.push_back({static_cast<std::int64_t>(j), effects[j], std::nan(""), 1});
  }
  keep_strongest(causes, count, [](const MeanCause& c) { return std::abs(c.first_order); });
  return causes;
}

// The groups that each prompt is in.
std::vector<std::vector<std::size_t>> groups_of_prompts(
    std::size_t prompts, const std::vector<std::vector<std::size_t>>& groups) {
  std::vector<std::vector<std::size_t>> in(prompts);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (const std::size_t i : groups[g]) {
      if (i >= prompts)
        throw Error(ErrorKind::usage,
                    fmt::format("group {} has prompt {}, but there are {} prompts", g, i, prompts));
      in[i].push_back(g);
    }
  }
  return in;
}

}  // namespace

InfluenceOver influence_over(const nn::Model& model, const Sae& source, const Sae& target,
                             std::span<const nn::Tokens> prompts, const InfluenceOverSpec& spec) {
  nn::check_prompts({prompts.begin(), prompts.end()}, model.config());
  if (!spec.target_positions.empty() && spec.target_positions.size() != prompts.size()) {
    throw Error(ErrorKind::usage,
                fmt::format("{} prompts and {} positions of targets: there must be one for each",
                            prompts.size(), spec.target_positions.size()));
  }
  const auto of_source = chosen(spec.source_features, source.config.d_sae, "source feature"),
             of_target = chosen(spec.target_features, target.config.d_sae, "target feature");
  const auto in = groups_of_prompts(prompts.size(), spec.groups);
  const std::vector<Together> batches = together(prompts, spec.target_positions, spec.rows);
  std::vector<std::vector<double>> features;  // [prompts][target features], at the positions
  std::optional<Machine> machine;
  std::optional<Machine::Clean> clean;
  const auto prepare = [&](const Together& t) {
    machine.emplace(model, source, target, t.prompts, spec.policies);
    clean = machine->clean();
  };
  for (const Together& t : batches) {
    prepare(t);
    for (const std::int32_t row : t.rows)
      features.push_back(clean->features.select(0, row).to_vector<double>());
  }

  InfluenceOver out;
  out.targets = targets_of(features, of_target, !spec.target_features.empty(), spec.targets);
  out.each.resize(prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    for (const InfluenceOver::Target& t : out.targets)
      out.each[i].push_back({features[i][static_cast<std::size_t>(t.feature)], {}});
  }
  std::vector<CausesOfTarget> causes(out.targets.size(),
                                     CausesOfTarget(source.config.d_sae, spec.groups.size()));
  std::size_t first = 0;
  for (const Together& t : batches) {
    if (batches.size() > 1) prepare(t);  // one batch is there still
    const auto of_these = std::span(features).subspan(first, t.prompts.size());
    for (std::size_t k = 0; k < causes.size(); ++k) {
      find_effects(
          *machine, t, clean->acts, out.targets[k].feature, of_these,
          [&](std::size_t i, const std::vector<double>& effects, const std::vector<bool>& active) {
            causes[k].add(in[first + i], effects, active);
            out.each[first + i][k].causes =
                strongest_in_prompt(effects, active, of_source, spec.causes);
          });
    }
    first += t.prompts.size();
  }
  out.groups.resize(spec.groups.size());
  for (std::size_t k = 0; k < causes.size(); ++k) {
    out.targets[k].causes = causes[k].all().strongest(of_source, spec.causes);
    for (std::size_t g = 0; g < spec.groups.size(); ++g) {
      auto& of_group =
          out.groups[g].emplace_back(target_over(out.targets[k].feature, features, spec.groups[g]));
      of_group.causes = causes[k].group(g).strongest(of_source, spec.causes);
    }
  }
  return out;
}

}  // namespace vitrine::sae

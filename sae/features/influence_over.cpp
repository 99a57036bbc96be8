#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sae/features/influence.h"
#include "sae/features/influence_machine.h"

namespace vitrine::sae {
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
void find_effects(InfluenceMachine& machine, const Together& t, const Tensor& acts,
                  std::int64_t feature, std::span<const std::vector<double>> features,
                  const F& found) {
  std::vector<std::int32_t> rows = t.rows;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!(features[i][static_cast<std::size_t>(feature)] > 0)) rows[i] = -1;
  }
  if (std::all_of(rows.begin(), rows.end(), [](std::int32_t r) { return r < 0; })) return;
  const Tensor slopes = machine.slopes(rows, 0, feature).acts[0];
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
  std::optional<InfluenceMachine> machine;
  std::optional<InfluenceMachine::Clean> clean;
  const auto prepare = [&](const Together& t) {
    machine.emplace(model, std::span(&source, 1), std::span(&target, 1), t.prompts, spec.policies);
    clean = machine->clean();
  };
  for (const Together& t : batches) {
    prepare(t);
    for (const std::int32_t row : t.rows)
      features.push_back(clean->features[0].select(0, row).to_vector<double>());
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
          *machine, t, clean->acts[0], out.targets[k].feature, of_these,
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

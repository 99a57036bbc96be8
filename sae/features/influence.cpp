#include "sae/features/influence.h"

#include <cmath>

#include "sae/features/influence_machine.h"

namespace vitrine::sae {

namespace {

// The targets of one SAE: those that were asked for, or the most active ones at these positions.
void find_targets(const InfluenceMachine::Clean& clean, std::size_t sae, const InfluenceSpec& spec,
                  const std::vector<bool>& to_here, std::vector<FeatureAt>& targets) {
  const Tensor &features = clean.features[sae], &pre = clean.pre[sae];
  const auto of_target = chosen(spec.target_features, features.dim(1), "target feature");
  std::vector<FeatureAt> found;
  for (std::int64_t q = 0; q < features.dim(0); ++q) {
    if (!to_here[static_cast<std::size_t>(q)]) continue;
    for (std::int64_t t = 0; t < features.dim(1); ++t) {
      const double activation = at(features, q, t);
      // Features that were asked for count even when they are not active: what holds them down?
      const bool counts =
          spec.target_features.empty() ? activation > 0 : of_target[static_cast<std::size_t>(t)];
      if (counts) found.push_back({q, t, activation, at(pre, q, t), sae});
    }
  }
  keep_strongest(found, spec.targets, [](const FeatureAt& f) { return f.activation; });
  targets.insert(targets.end(), found.begin(), found.end());
}

// What the features and the error of one source do to a target.
void find_causes(const InfluenceMachine::Clean& clean, const InfluenceMachine::Slopes& slopes,
                 std::size_t source, const InfluenceSpec& spec, const std::vector<bool>& from_here,
                 Influence::Target& found) {
  if (!slopes.acts[source].defined()) return;
  const Tensor &acts = clean.acts[source], &error = clean.error[source];
  const auto of_source = chosen(spec.source_features, acts.dim(1), "source feature");
  const std::int64_t n = acts.dim(0), width = error.numel() / n;
  for (std::int64_t p = 0; p < n; ++p) {
    const auto here = static_cast<std::size_t>(p);
    for (std::int64_t j = 0; j < acts.dim(1); ++j) {
      const double f = at(acts, p, j);
      if (f == 0) continue;
      const double effect = f * at(slopes.acts[source], p, j);
      found.by_position[here] += effect;
      if (from_here[here] && of_source[static_cast<std::size_t>(j)])
        found.causes.push_back({{p, j, f, 0, source}, effect, {}});
    }
    for (std::int64_t i = 0; i < width; ++i)
      found.of_error[here] += static_cast<double>(error.data<float>()[p * width + i]) *
                              slopes.error[source].data<float>()[p * width + i];
  }
}

}  // namespace

Influence influence(const nn::Model& model, const std::vector<Sae>& sources,
                    const std::vector<Sae>& targets, const nn::Tokens& prompt,
                    const InfluenceSpec& spec) {
  InfluenceMachine machine(model, sources, targets, {prompt}, spec.policies);
  const std::int64_t n = machine.rows();
  const auto from_here = chosen(spec.source_positions, n, "position"),
             to_here = chosen(spec.target_positions, n, "position");
  for (const Sae& s : sources) chosen(spec.source_features, s.config.d_sae, "source feature");
  const InfluenceMachine::Clean clean = machine.clean();
  std::vector<FeatureAt> of;
  for (std::size_t j = 0; j < targets.size(); ++j) find_targets(clean, j, spec, to_here, of);

  Influence out;
  out.positions = n;
  for (const FeatureAt& t : of) {
    const InfluenceMachine::Slopes slopes = machine.slopes(t);
    const std::vector<double> none(static_cast<std::size_t>(n), 0.0);
    Influence::Target found{t, {}, none, none};
    for (std::size_t i = 0; i < sources.size(); ++i)
      find_causes(clean, slopes, i, spec, from_here, found);
    keep_strongest(found.causes, spec.causes,
                   [](const Cause& c) { return std::abs(c.first_order); });
    for (std::size_t i = 0; i < found.causes.size() && static_cast<int>(i) < spec.verify; ++i)
      found.causes[i].exact = t.pre - machine.after(t, {found.causes[i].source});
    out.targets.push_back(std::move(found));
  }
  return out;
}

Influence influence(const nn::Model& model, const Sae& source, const Sae& target,
                    const nn::Tokens& prompt, const InfluenceSpec& spec) {
  return influence(model, std::vector<Sae>{source}, std::vector<Sae>{target}, prompt, spec);
}

std::vector<double> ablated(const nn::Model& model, const std::vector<Sae>& sources,
                            const std::vector<Sae>& targets, const nn::Tokens& prompt,
                            const std::vector<FeatureAt>& of, const std::vector<FeatureAt>& without,
                            const Policies& policies) {
  InfluenceMachine machine(model, sources, targets, {prompt}, policies);
  std::vector<double> out;
  out.reserve(of.size());
  for (const FeatureAt& t : of) out.push_back(machine.after(t, without));
  return out;
}

std::vector<double> ablated(const nn::Model& model, const Sae& source, const Sae& target,
                            const nn::Tokens& prompt, const std::vector<FeatureAt>& targets,
                            const std::vector<FeatureAt>& sources, const Policies& policies) {
  return ablated(model, std::vector<Sae>{source}, std::vector<Sae>{target}, prompt, targets,
                 sources, policies);
}

}  // namespace vitrine::sae
